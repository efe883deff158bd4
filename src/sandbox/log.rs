//! One partition's log in memory: raw v2 batches, and the state a broker derives from them
//! (producers, open transactions, aborted index, leader epochs).

use super::batch::{self, AppendRules};
use super::codes::{self, Refusal};
use super::producers::ProducerState;
use crate::record::BatchHeader;
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct StoredBatch {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

/// An entry of the transaction index. Entries are in the order of their markers, as on a broker's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    pub marker_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub base_offset: i64,
    /// −1 unless the topic uses LogAppendTime.
    pub log_append_time: i64,
}

/// Bytes of a fetch and where they end.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub records: Vec<Bytes>,
    pub len: usize,
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    batches: Vec<StoredBatch>,
    log_start_offset: i64,
    end_offset: i64,
    producers: BTreeMap<i64, ProducerState>,
    aborted: Vec<AbortedTransaction>,
    /// Leader epoch and the first offset written under it, ascending.
    epochs: Vec<(i32, i64)>,
}

impl Log {
    pub(super) fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The log's end; with one copy of the log, the high watermark too.
    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub(super) fn last_stable_offset(&self) -> i64 {
        self.producers
            .values()
            .filter_map(|producer| producer.open_since)
            .min()
            .unwrap_or(self.end_offset)
    }

    pub(super) fn batches(&self) -> &[StoredBatch] {
        &self.batches
    }

    pub(super) fn producers(&self) -> &BTreeMap<i64, ProducerState> {
        &self.producers
    }

    /// Notes that from here on batches carry this leader epoch.
    pub(super) fn begin_epoch(&mut self, leader_epoch: i32) {
        let end = self.end_offset;
        self.epochs.retain(|(_, start)| *start < end);
        self.epochs.push((leader_epoch, end));
    }

    /// The end of a leader epoch, as the epoch cache of a leader answers it; (−1, −1) when it cannot tell.
    pub(super) fn end_of_epoch(&self, wanted: i32) -> (i32, i64) {
        if wanted < 0 {
            return (-1, -1);
        }
        if self
            .epochs
            .last()
            .is_some_and(|(latest, _)| *latest == wanted)
        {
            return (wanted, self.end_offset);
        }
        let Some((_, next_start)) = self.epochs.iter().find(|(epoch, _)| *epoch > wanted) else {
            return (-1, -1);
        };
        let floor = self.epochs.iter().rev().find(|(epoch, _)| *epoch <= wanted);
        (floor.map_or(wanted, |(epoch, _)| *epoch), *next_start)
    }

    /// The leader epoch an offset was written under; −1 when unknown.
    pub(super) fn epoch_at(&self, offset: i64) -> i32 {
        self.epochs
            .iter()
            .rev()
            .find(|(_, start)| *start <= offset)
            .map_or(-1, |(epoch, _)| *epoch)
    }

    /// Appends a producer's batch: checks it, assigns its offsets, remembers its sequences.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        rules: &AppendRules,
    ) -> Result<Appended, Refusal> {
        let (header, bytes) = batch::accept(bytes, rules, self.end_offset)?;
        if header.producer_id >= 0 {
            if let Some(known) = self.producers.get(&header.producer_id) {
                if let Some(duplicate) = known.duplicate_of(&header) {
                    return Ok(Appended {
                        base_offset: duplicate.base_offset,
                        log_append_time: if rules.log_append_time {
                            duplicate.timestamp
                        } else {
                            -1
                        },
                    });
                }
                known.check(&header)?;
            }
            self.producers
                .entry(header.producer_id)
                .or_insert_with(|| ProducerState::new(header.producer_epoch))
                .appended(&header);
        }
        self.push(header, bytes);
        Ok(Appended {
            base_offset: header.base_offset,
            log_append_time: if rules.log_append_time { rules.now } else { -1 },
        })
    }

    /// Takes batches as a follower does: offsets, epochs and inner gaps stay. They must lie past the log's end.
    pub(super) fn replicate(&mut self, bytes: &[u8]) -> Result<i64, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let header = batch::header(rest)?;
            let length = header.total_len();
            if length > rest.len() {
                return Err(Refusal::new(codes::CORRUPT_MESSAGE, "a batch is cut"));
            }
            if header.base_offset < self.end_offset {
                return Err(Refusal::new(
                    codes::INVALID_REQUEST,
                    format!(
                        "base offset {} lies before the log's end {}",
                        header.base_offset, self.end_offset
                    ),
                ));
            }
            if self
                .epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch < header.partition_leader_epoch)
            {
                self.epochs
                    .push((header.partition_leader_epoch, header.base_offset));
            }
            if header.producer_id >= 0 && !header.attributes.is_control() {
                self.producers
                    .entry(header.producer_id)
                    .or_insert_with(|| ProducerState::new(header.producer_epoch))
                    .appended(&header);
            }
            let stored = Bytes::copy_from_slice(&rest[..length]);
            self.push(header, stored);
            if header.attributes.is_control() {
                let commit = batch::is_commit(&rest[..length]);
                self.close_transaction(&header, header.base_offset, commit, -1);
            }
            rest = &rest[length..];
        }
        Ok(self.end_offset)
    }

    /// Writes a transaction marker, ending the producer's open transaction here if it has one.
    pub(super) fn append_marker(
        &mut self,
        marker: &Marker,
        leader_epoch: i32,
        now: i64,
    ) -> Result<i64, Refusal> {
        if let Some(known) = self.producers.get(&marker.producer_id) {
            if marker.producer_epoch < known.producer_epoch {
                return Err(Refusal::new(
                    codes::INVALID_PRODUCER_EPOCH,
                    format!("producer epoch {} is stale", marker.producer_epoch),
                ));
            }
            if marker.coordinator_epoch < known.coordinator_epoch {
                return Err(Refusal::new(
                    codes::TRANSACTION_COORDINATOR_FENCED,
                    format!("coordinator epoch {} is stale", marker.coordinator_epoch),
                ));
            }
        }
        let offset = self.end_offset;
        let bytes = batch::marker(marker, offset, leader_epoch, now)?;
        let header = batch::header(&bytes)?;
        self.push(header, Bytes::from(bytes));
        self.close_transaction(&header, offset, marker.commit, marker.coordinator_epoch);
        Ok(offset)
    }

    fn close_transaction(
        &mut self,
        header: &BatchHeader,
        marker_offset: i64,
        commit: bool,
        coordinator_epoch: i32,
    ) {
        let state = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| ProducerState::new(header.producer_epoch));
        if header.producer_epoch != state.producer_epoch {
            state.producer_epoch = header.producer_epoch;
            state.batches.clear();
        }
        state.coordinator_epoch = coordinator_epoch;
        state.last_timestamp = header.max_timestamp;
        if let Some(first_offset) = state.open_since.take()
            && !commit
        {
            self.aborted.push(AbortedTransaction {
                producer_id: header.producer_id,
                first_offset,
                marker_offset,
            });
        }
    }

    fn push(&mut self, header: BatchHeader, bytes: Bytes) {
        self.end_offset = header.next_offset();
        self.batches.push(StoredBatch { header, bytes });
    }

    /// Whole batches from the one that holds `offset`, before `bound`, about `max_bytes` of them. Like a broker,
    /// it cuts the last batch where the limit falls, but never the first if `whole_first`.
    pub(super) fn read(
        &self,
        offset: i64,
        bound: i64,
        max_bytes: usize,
        whole_first: bool,
    ) -> Slice {
        let first = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < offset);
        let mut slice = Slice {
            records: Vec::new(),
            len: 0,
            aborted: Vec::new(),
        };
        let mut upper = bound;
        for batch in &self.batches[first..] {
            if batch.header.base_offset >= bound {
                break;
            }
            let room = max_bytes.saturating_sub(slice.len);
            let whole = batch.bytes.len() <= room || (slice.records.is_empty() && whole_first);
            if whole {
                slice.len += batch.bytes.len();
                slice.records.push(batch.bytes.clone());
            } else {
                // A first batch that may not be sent whole is not sent at all.
                if !slice.records.is_empty() && room > 0 {
                    slice.len += room;
                    slice.records.push(batch.bytes.slice(..room));
                    upper = upper.min(batch.header.next_offset());
                } else {
                    upper = upper.min(batch.header.base_offset);
                }
                break;
            }
        }
        slice.aborted = self
            .aborted
            .iter()
            .filter(|aborted| aborted.marker_offset >= offset && aborted.first_offset < upper)
            .copied()
            .collect();
        slice
    }

    /// The first record at or after a time: (timestamp, offset). Markers count, as on a broker.
    pub(super) fn offset_for_time(&self, time: i64) -> Result<Option<(i64, i64)>, Refusal> {
        for batch in &self.batches {
            if batch.header.max_timestamp < time {
                continue;
            }
            let found = batch::record_times(&batch.bytes)?
                .into_iter()
                .find(|(offset, at)| *at >= time && *offset >= self.log_start_offset);
            if let Some((offset, at)) = found {
                return Ok(Some((at, offset)));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp: (timestamp, offset).
    pub(super) fn offset_of_max_timestamp(&self) -> Result<Option<(i64, i64)>, Refusal> {
        let mut found: Option<(i64, i64)> = None;
        for batch in &self.batches {
            if found.is_some_and(|(at, _)| at >= batch.header.max_timestamp) {
                continue;
            }
            for (offset, at) in batch::record_times(&batch.bytes)? {
                if found.is_none_or(|(best, _)| at > best) {
                    found = Some((at, offset));
                }
            }
        }
        Ok(found)
    }

    /// Moves the log start. The batch that straddles it stays whole; producers that were known only from
    /// deleted batches are still remembered, as on a broker until they expire.
    pub(super) fn delete_before(&mut self, offset: i64) {
        if offset <= self.log_start_offset {
            return;
        }
        self.log_start_offset = offset;
        self.batches
            .retain(|batch| batch.header.last_offset() >= offset);
        self.aborted.retain(|entry| entry.marker_offset >= offset);
        let floor = self.epochs.iter().rposition(|(_, start)| *start <= offset);
        if let Some(floor) = floor {
            self.epochs.drain(..floor);
            self.epochs[0].1 = offset;
        }
    }

    /// Cuts the log's end at a batch boundary: batches that reach past `to` go. Returns the new end.
    pub(super) fn truncate(&mut self, to: i64) -> i64 {
        self.batches
            .retain(|batch| batch.header.next_offset() <= to);
        self.end_offset = self
            .batches
            .last()
            .map_or(self.log_start_offset, |batch| batch.header.next_offset());
        let end = self.end_offset;
        self.aborted.retain(|entry| entry.marker_offset < end);
        self.epochs.retain(|(_, start)| *start < end);
        self.rebuild_producers();
        end
    }

    /// What a broker does with producers whose last batch is dated over a day ago. One whose transaction is open stays.
    pub(super) fn forget_producers(&mut self) {
        self.producers.retain(|_, known| known.open_since.is_some());
    }

    fn rebuild_producers(&mut self) {
        self.producers.clear();
        let aborted = std::mem::take(&mut self.aborted);
        let batches = std::mem::take(&mut self.batches);
        for batch in &batches {
            let header = batch.header;
            if header.producer_id < 0 {
                continue;
            }
            if header.attributes.is_control() {
                self.close_transaction(&header, header.base_offset, true, -1);
            } else {
                self.producers
                    .entry(header.producer_id)
                    .or_insert_with(|| ProducerState::new(header.producer_epoch))
                    .appended(&header);
            }
        }
        self.batches = batches;
        self.aborted = aborted;
    }

    /// Replaces one batch by what the cleaner left of it; `None` removes it. The log's end stays.
    pub(super) fn replace(&mut self, index: usize, with: Option<Bytes>) -> Result<(), Refusal> {
        match with {
            Some(bytes) => {
                let header = batch::header(&bytes)?;
                self.batches[index] = StoredBatch { header, bytes };
            }
            None => {
                self.batches.remove(index);
            }
        }
        Ok(())
    }

    /// All bytes of the log.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.batches
            .iter()
            .flat_map(|batch| batch.bytes.iter().copied())
            .collect()
    }
}

/// A transaction marker to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub commit: bool,
}
