//! The back door: what tests and rehearsals do to a sandbox without a client. Checks and effects are the brokers' own.

use super::cluster::{Partition, State, TopicWanted, now_ms};
use super::codes::{self, Refusal};
use super::log::Marker;
use super::transactions::COORDINATOR_EPOCH;
use super::{CommittedOffset, Error, LogRecord, OpenTransaction, Result, Sandbox};
use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use crate::record::{self, Batch, BatchBuilder, BuildOptions, Limits, ProducerStamp};
use bytes::Bytes;
use std::collections::BTreeMap;

fn refused(what: impl Into<String>) -> impl FnOnce(Refusal) -> Error {
    let what = what.into();
    move |refusal| Error::Refused {
        what,
        code: refusal.code,
        message: refusal.message,
    }
}

fn damaged(what: &str) -> impl FnOnce(record::Error) -> Error {
    let what = what.to_string();
    move |error| Error::Refused {
        what,
        code: codes::CORRUPT_MESSAGE,
        message: error.to_string(),
    }
}

impl Sandbox {
    fn read<T>(
        &self,
        topic: &str,
        partition: i32,
        read: impl FnOnce(&Partition) -> T,
    ) -> Result<T> {
        let state = self.cluster.state();
        state
            .partition(topic, partition)
            .map(read)
            .map_err(|_| missing(topic, partition))
    }

    fn change<T>(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut Partition) -> Result<T, Refusal>,
    ) -> Result<T> {
        let mut state = self.cluster.state();
        let changed = state
            .partition_mut(topic, partition)
            .map_err(|_| missing(topic, partition))
            .and_then(|found| change(found).map_err(refused(format!("{topic}-{partition}"))));
        drop(state);
        self.cluster.touch();
        changed
    }

    /// Makes another broker the leader, under the next leader epoch.
    pub fn move_leader(&self, topic: &str, partition: i32, node_id: i32) -> Result<()> {
        if !self.cluster.state().alive().contains(&node_id) {
            return Err(Error::NoSuchBroker(node_id));
        }
        self.change(topic, partition, |found| {
            if !found.replicas.contains(&node_id) {
                found.replicas.push(node_id);
            }
            found.elect(Some(node_id));
            Ok(())
        })
    }

    /// Every broker forgets the producers of a topic, as it does once their last batch is dated over a day ago: from then
    /// on it takes whatever sequence comes first, and no batch is known as a duplicate.
    pub fn forget_producers(&self, topic: &str) -> Result<()> {
        let partitions = {
            let state = self.cluster.state();
            let found = state.topics.get(topic).ok_or_else(|| missing(topic, 0))?;
            found.partitions.len() as i32
        };
        for partition in 0..partitions {
            self.change(topic, partition, |found| {
                found.log.forget_producers();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The leader of a partition and its epoch.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<(Option<i32>, i32)> {
        self.read(topic, partition, |found| (found.leader, found.leader_epoch))
    }

    /// Creates a topic with one replica of each partition.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<TopicId> {
        self.create_replicated_topic(name, partitions, 1, configs)
    }

    /// Creates a topic whose partitions can move when a broker stops.
    pub fn create_replicated_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<TopicId> {
        let wanted = TopicWanted {
            name: name.to_string(),
            partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: configs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        };
        let created = self
            .cluster
            .state()
            .create_topic(&self.cluster, &wanted, false)
            .map_err(refused(format!("create topic {name:?}")));
        self.cluster.touch();
        created
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let deleted = self.cluster.state().delete_topic(name);
        self.cluster.touch();
        if deleted {
            Ok(())
        } else {
            Err(missing(name, 0))
        }
    }

    /// The names of all topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        self.cluster.state().topics.keys().cloned().collect()
    }

    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        let state = self.cluster.state();
        let topic = state.topics.get(topic)?;
        i32::try_from(topic.partitions.len()).ok()
    }

    /// The configs that differ from the broker's defaults; `None` if there is no such topic.
    pub fn topic_configs(&self, topic: &str) -> Option<BTreeMap<String, String>> {
        let state = self.cluster.state();
        state.topics.get(topic).map(|topic| topic.configs.clone())
    }

    /// Appends one batch as the leader would for a producer: same checks, offsets assigned. Returns its base offset.
    pub fn append(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<Offset> {
        let mut state = self.cluster.state();
        let base_offset = append(&mut state, topic, partition, batch);
        drop(state);
        self.cluster.touch();
        base_offset
    }

    /// Puts batches into the log as a follower does: offsets, epochs and inner gaps stay as they are. This is how
    /// the log of a compacted topic is made. Returns the log's new end.
    pub fn replicate(&self, topic: &str, partition: i32, batches: &[u8]) -> Result<Offset> {
        self.change(topic, partition, |found| {
            found.log.replicate(batches).map(Offset)
        })
    }

    /// Begins a transaction of a fresh producer with this batch and leaves it open: a hanging transaction.
    pub fn begin_transaction(
        &self,
        topic: &str,
        partition: i32,
        batch: &[u8],
    ) -> Result<OpenTransaction> {
        let what = "begin transaction";
        let mut state = self.cluster.state();
        let producer_id = state.take_producer_id();
        let stamp = ProducerStamp {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
        };
        let batch = transactional(batch, stamp).map_err(damaged(what))?;
        let first_offset = append(&mut state, topic, partition, &batch)?;
        drop(state);
        self.cluster.touch();
        Ok(OpenTransaction {
            producer_id,
            producer_epoch: 0,
            first_offset,
        })
    }

    /// Writes the marker of a transaction begun with [`Sandbox::begin_transaction`]. Returns the marker's offset.
    pub fn end_transaction(
        &self,
        topic: &str,
        partition: i32,
        transaction: OpenTransaction,
        commit: bool,
    ) -> Result<Offset> {
        let marker = Marker {
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            commit,
        };
        self.change(topic, partition, |found| {
            let epoch = found.leader_epoch;
            found
                .log
                .append_marker(&marker, epoch, now_ms())
                .map(Offset)
        })
    }

    /// Appends a batch in a transaction of its own and aborts it. Returns the batch's base offset.
    pub fn append_aborted(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<Offset> {
        let transaction = self.begin_transaction(topic, partition, batch)?;
        self.end_transaction(topic, partition, transaction, false)?;
        Ok(transaction.first_offset)
    }

    /// Appends a batch in a transaction of its own and commits it. Returns the batch's base offset.
    pub fn append_committed(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<Offset> {
        let transaction = self.begin_transaction(topic, partition, batch)?;
        self.end_transaction(topic, partition, transaction, true)?;
        Ok(transaction.first_offset)
    }

    /// Every record of a partition from its log start, control records included, decompressed.
    pub fn records(&self, topic: &str, partition: i32) -> Result<Vec<LogRecord>> {
        self.read(topic, partition, |found| {
            let start = found.log.log_start_offset();
            let mut records = Vec::new();
            for batch in found.log.batches() {
                records.extend(dump(&batch.bytes)?);
            }
            records.retain(|record| record.offset.0 >= start);
            Ok(records)
        })?
    }

    /// The log's batches as they are.
    pub fn log(&self, topic: &str, partition: i32) -> Result<Vec<u8>> {
        self.read(topic, partition, |found| found.log.bytes())
    }

    pub fn log_start_offset(&self, topic: &str, partition: i32) -> Result<Offset> {
        self.read(topic, partition, |found| {
            Offset(found.log.log_start_offset())
        })
    }

    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<Offset> {
        self.read(topic, partition, |found| Offset(found.log.end_offset()))
    }

    pub fn last_stable_offset(&self, topic: &str, partition: i32) -> Result<Offset> {
        self.read(topic, partition, |found| {
            Offset(found.log.last_stable_offset())
        })
    }

    /// Moves the log start, as DeleteRecords and retention do.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        self.change(topic, partition, |found| {
            if before < 0 || before > found.log.end_offset() {
                return Err(Refusal::new(
                    codes::OFFSET_OUT_OF_RANGE,
                    format!("offset {before}"),
                ));
            }
            found.log.delete_before(before);
            Ok(())
        })
    }

    /// Cuts the log's end at a batch boundary at or before `to` and starts a new leader epoch: what an unclean leader
    /// election does. Returns the new end.
    pub fn truncate(&self, topic: &str, partition: i32, to: i64) -> Result<Offset> {
        self.change(topic, partition, |found| {
            let end = found.log.truncate(to);
            let leader = found.leader;
            found.elect(leader);
            Ok(Offset(end))
        })
    }

    /// Removes single records as the log cleaner does: offsets of the others stay, batches without records go. The
    /// last batch stays even if it is empty, as Kafka keeps it for its producer's sequence.
    pub fn compact_away(&self, topic: &str, partition: i32, offsets: &[i64]) -> Result<()> {
        self.change(topic, partition, |found| {
            let mut index = 0;
            while let Some(stored) = found.log.batches().get(index) {
                let last = index + 1 == found.log.batches().len();
                let touched = offsets.iter().any(|offset| {
                    (stored.header.base_offset..stored.header.next_offset()).contains(offset)
                });
                if !touched || stored.header.attributes.is_control() {
                    index += 1;
                    continue;
                }
                let cleaned = without(&stored.bytes, offsets, last)
                    .map_err(|error| Refusal::new(codes::CORRUPT_MESSAGE, error.to_string()))?;
                let stays = cleaned.is_some();
                found.log.replace(index, cleaned)?;
                index += usize::from(stays);
            }
            Ok(())
        })
    }

    /// Commits an offset for a group, whatever its state.
    pub fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) {
        let committed = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: metadata.to_string(),
        };
        self.cluster
            .state()
            .groups
            .entry(group.to_string())
            .or_default()
            .commit((topic.to_string(), partition), committed);
        self.cluster.touch();
    }

    /// All committed offsets of a group by topic and partition; empty for an unknown group.
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), CommittedOffset> {
        let state = self.cluster.state();
        state
            .groups
            .get(group)
            .into_iter()
            .flat_map(|group| group.all_committed())
            .map(|(partition, offset)| (partition.clone(), offset.clone()))
            .collect()
    }

    /// The names of all groups, sorted.
    pub fn groups(&self) -> Vec<String> {
        self.cluster.state().groups.keys().cloned().collect()
    }
}

fn missing(topic: &str, partition: i32) -> Error {
    Error::NoSuchPartition {
        topic: topic.to_string(),
        partition: PartitionId(partition),
    }
}

fn append(state: &mut State, topic: &str, index: i32, batch: &[u8]) -> Result<Offset> {
    let found = state
        .topics
        .get_mut(topic)
        .ok_or_else(|| missing(topic, index))?;
    let epoch = found
        .partition(index)
        .ok_or_else(|| missing(topic, index))?
        .leader_epoch;
    let rules = found.rules(epoch);
    let partition = found
        .partition_mut(index)
        .ok_or_else(|| missing(topic, index))?;
    partition
        .log
        .append(batch, &rules)
        .map(|appended| Offset(appended.base_offset))
        .map_err(refused(format!("append to {topic}-{index}")))
}

/// The same records as part of a producer's transaction.
fn transactional(bytes: &[u8], stamp: ProducerStamp) -> record::Result<Vec<u8>> {
    let batch = Batch::parse(bytes)?;
    let mut scratch = Vec::new();
    let mut builder = BatchBuilder::new(BuildOptions {
        codec: batch.header.attributes.codec()?,
        ..BuildOptions::default()
    })
    .transactional(true);
    for record in batch.open(&Limits::default(), &mut scratch)? {
        builder.push_record(&record?)?;
    }
    builder.finish(stamp)
}

/// The batch without some of its records; `None` if no record is left and it may go.
fn without(bytes: &[u8], offsets: &[i64], keep_empty: bool) -> record::Result<Option<Bytes>> {
    let batch = Batch::parse(bytes)?;
    let header = batch.header;
    let mut scratch = Vec::new();
    let mut builder = BatchBuilder::new(BuildOptions {
        codec: header.attributes.codec()?,
        timestamp_type: header.attributes.timestamp_type(),
        ..BuildOptions::default()
    })
    .transactional(header.attributes.is_transactional())
    .base_offset(header.base_offset)
    .base_timestamp(header.base_timestamp);
    for record in batch.open(&Limits::default(), &mut scratch)? {
        let record = record?;
        if offsets.contains(&record.offset) {
            continue;
        }
        // A delta fits an i32: it came from a batch.
        let delta = (record.offset - header.base_offset) as i32;
        builder.push_at(
            delta,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
        )?;
    }
    if builder.is_empty() && !keep_empty {
        return Ok(None);
    }
    let mut cleaned = builder.finish_spanning(
        header.last_offset_delta,
        ProducerStamp {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        },
    )?;
    record::place(
        &mut cleaned,
        header.base_offset,
        header.partition_leader_epoch,
    )?;
    Ok(Some(Bytes::from(cleaned)))
}

fn dump(bytes: &[u8]) -> Result<Vec<LogRecord>> {
    let what = "read the log";
    let batch = Batch::parse(bytes).map_err(damaged(what))?;
    let header = batch.header;
    let mut scratch = Vec::new();
    let opened = batch
        .open(&Limits::default(), &mut scratch)
        .map_err(damaged(what))?;
    let mut records = Vec::new();
    for record in opened {
        let record = record.map_err(damaged(what))?;
        records.push(LogRecord {
            offset: Offset(record.offset),
            timestamp: TimestampMs(record.timestamp),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            producer_id: header.producer_id,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
        });
    }
    Ok(records)
}
