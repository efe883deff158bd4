//! Records of a snapshot: by offset, by time, by ranges of both, as a stream or one at a time.
//!
//! What a block's bytes hold beyond the block's own offsets is no part of the archive and never comes out here.
//! Timestamps are each record's own, so a search by time is exact also where they do not ascend. Memory is bounded
//! by a few blocks and one opened batch, however large the partition is.

use super::manifest::SegmentRef;
use super::snapshot::{BlockRef, Snapshot};
use super::{DamageKind, Error, Result};
use crate::base::{Offset, PartitionId, TimestampMs};
use crate::record::{Batch, Codec, Limits, Record, TimestampType};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::sync::Arc;

/// Indexes and blocks read ahead of who takes the records.
const READ_AHEAD: usize = 2;
/// Batches larger than this are opened away from the reactor.
const LARGE_BATCH: usize = 64 << 10;

/// Which records of a partition: all, where nothing is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Within {
    pub from: Option<Offset>,
    /// Exclusive.
    pub to: Option<Offset>,
    pub since: Option<TimestampMs>,
    /// Exclusive.
    pub before: Option<TimestampMs>,
}

impl Within {
    pub fn offsets(from: Offset, to: Offset) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            ..Self::default()
        }
    }

    fn may_hold_offsets(&self, first: Offset, last: Offset) -> bool {
        self.from.is_none_or(|from| last >= from) && self.to.is_none_or(|to| first < to)
    }

    fn takes(&self, record: &Record<'_>) -> bool {
        let (offset, timestamp) = (Offset(record.offset), TimestampMs(record.timestamp));
        self.may_hold_offsets(offset, offset)
            && self.since.is_none_or(|since| timestamp >= since)
            && self.before.is_none_or(|before| timestamp < before)
    }
}

/// One record as it was at the source. Its bytes are shared with its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRecord {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub timestamp_type: TimestampType,
    /// `None` is null, which is not the same as empty.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In order, with duplicates.
    pub headers: Vec<ArchivedHeader>,
}

impl ArchivedRecord {
    /// A copy of a record.
    pub fn of(record: &Record<'_>, timestamp_type: TimestampType) -> Self {
        archived(record, timestamp_type, &Bytes::copy_from_slice)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The records of one partition, in offset order. See [`Snapshot::read`].
pub struct PartitionReader {
    within: Within,
    blocks: BoxStream<'static, Result<(BlockRef, Bytes)>>,
    open: Option<OpenBlock>,
}

struct OpenBlock {
    block: BlockRef,
    bytes: Bytes,
    at: usize,
    /// The offset after the batch before.
    next: i64,
}

impl Snapshot {
    /// Starts to read a partition of a current topic. [`Error::NotInSnapshot`] if there is none of that name.
    pub fn read(
        &self,
        topic: &str,
        partition: PartitionId,
        within: Within,
    ) -> Result<PartitionReader> {
        self.reader(topic, partition, within, READ_AHEAD)
    }

    /// As [`Self::read`], for whoever takes few records: what has not been asked for is not read.
    pub fn read_few(
        &self,
        topic: &str,
        partition: PartitionId,
        within: Within,
    ) -> Result<PartitionReader> {
        self.reader(topic, partition, within, 1)
    }

    /// The first record at or after `offset`; `None` past the last. Costs the segment's index, if it is not known yet,
    /// and one block.
    pub async fn record_at_offset(
        &self,
        topic: &str,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<ArchivedRecord>> {
        let within = Within {
            from: Some(offset),
            ..Within::default()
        };
        self.first_record(topic, partition, within).await
    }

    /// The record with the lowest offset among those at or after `timestamp`, as Kafka's ListOffsets defines it;
    /// `None` if all are older. Costs as much as by offset, and another block for each one whose highest timestamp is
    /// of a record that compaction removed.
    pub async fn record_at_time(
        &self,
        topic: &str,
        partition: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<ArchivedRecord>> {
        let within = Within {
            since: Some(timestamp),
            ..Within::default()
        };
        self.first_record(topic, partition, within).await
    }

    async fn first_record(
        &self,
        topic: &str,
        partition: PartitionId,
        within: Within,
    ) -> Result<Option<ArchivedRecord>> {
        let mut reader = self.read_few(topic, partition, within)?;
        let batch = reader.next_batch().await?;
        Ok(batch.and_then(|records| records.into_iter().next()))
    }

    fn reader(
        &self,
        topic: &str,
        partition: PartitionId,
        within: Within,
        ahead: usize,
    ) -> Result<PartitionReader> {
        let (stream, entry) = self.stream(topic, partition)?;
        let segments: Vec<Arc<SegmentRef>> = entry
            .segments
            .iter()
            .filter(|segment| {
                within.may_hold_offsets(segment.first, segment.last)
                    && within
                        .since
                        .is_none_or(|since| segment.max_timestamp >= since)
            })
            .cloned()
            .collect();
        let snapshot = self.clone();
        let indexes = stream::iter(segments)
            .map(move |segment| {
                let (snapshot, stream) = (snapshot.clone(), stream.clone());
                async move { snapshot.blocks_of(&segment, &stream).await }
            })
            .buffered(ahead);
        let wanted = indexes
            .map_ok(|blocks| stream::iter(blocks.into_iter().map(Ok::<BlockRef, Error>)))
            .try_flatten()
            .try_filter(move |block: &BlockRef| {
                let wanted = within.may_hold_offsets(block.first(), block.last())
                    && block.entry.may_hold(within.since, within.before);
                std::future::ready(wanted)
            });
        let snapshot = self.clone();
        let blocks = wanted
            .map(move |block| {
                let snapshot = snapshot.clone();
                async move {
                    let block: BlockRef = block?;
                    let bytes = snapshot.read_block(&block).await?;
                    Ok((block, bytes))
                }
            })
            .buffered(ahead)
            .boxed();
        Ok(PartitionReader {
            within,
            blocks,
            open: None,
        })
    }
}

impl PartitionReader {
    /// The wanted records of the next batch that has any; `None` at the end. After an error the partition must be
    /// read anew, from behind the damage if that is wanted.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<ArchivedRecord>>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some((block, bytes)) = self.blocks.try_next().await? else {
                    return Ok(None);
                };
                self.open = Some(OpenBlock {
                    block,
                    bytes,
                    at: 0,
                    next: i64::MIN,
                });
                continue;
            };
            let Some(batch) = open.next(&self.within)? else {
                self.open = None;
                continue;
            };
            let records = open.records(batch, self.within).await?;
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }
}

impl OpenBlock {
    /// The bytes of the next batch that may hold wanted records.
    fn next(&mut self, within: &Within) -> Result<Option<Bytes>> {
        while self.at < self.bytes.len() {
            let rest = self.bytes.slice(self.at..);
            let batch = Batch::parse(&rest).map_err(|error| self.broken(error.to_string()))?;
            let header = batch.header;
            if header.base_offset < self.next {
                let why = format!(
                    "a batch at {} comes after offset {}",
                    header.base_offset,
                    self.next - 1
                );
                return Err(self.broken(why));
            }
            self.next = header.next_offset();
            self.at += header.total_len();
            let last = Offset(header.last_offset());
            let wanted = within.may_hold_offsets(Offset(header.base_offset), last)
                && within
                    .since
                    .is_none_or(|since| header.max_timestamp >= since.0);
            if wanted {
                return Ok(Some(rest.slice(..header.total_len())));
            }
        }
        Ok(None)
    }

    async fn records(&self, batch: Bytes, within: Within) -> Result<Vec<ArchivedRecord>> {
        let own = (self.block.first(), self.block.last());
        if batch.len() <= LARGE_BATCH {
            return open_batch(&batch, own, &within).map_err(|why| self.broken(why));
        }
        tokio::task::spawn_blocking(move || open_batch(&batch, own, &within))
            .await
            .map_err(|error| Error::Task {
                op: "opening a batch",
                why: error.to_string(),
            })?
            .map_err(|why| self.broken(why))
    }

    fn broken(&self, why: String) -> Error {
        let offset = self.next.max(self.block.first().0);
        self.block.damage(DamageKind::Batch { offset, why }).into()
    }
}

/// The wanted records of one batch; on an error, what is wrong with it.
fn open_batch(
    bytes: &Bytes,
    (first, last): (Offset, Offset),
    within: &Within,
) -> Result<Vec<ArchivedRecord>, String> {
    let text = |error: crate::record::Error| error.to_string();
    let batch = Batch::parse(bytes).map_err(text)?;
    batch.verify_crc().map_err(text)?;
    let timestamp_type = batch.header.attributes.timestamp_type();
    let mut scratch = Vec::new();
    // What a record borrows lies in one of the two: the batch itself, or what came out of its compression.
    let compressed = batch.header.attributes.codec().map_err(text)? != Codec::None;
    let mut places = Vec::new();
    for record in batch.open(&Limits::default(), &mut scratch).map_err(text)? {
        let record = record.map_err(text)?;
        let own = record.offset >= first.0 && record.offset <= last.0;
        if own && within.takes(&record) {
            places.push(record);
        }
    }
    let taken = match compressed {
        false => places
            .iter()
            .map(|record| archived(record, timestamp_type, &|part| bytes.slice_ref(part)))
            .collect(),
        true => places
            .iter()
            .map(|record| archived(record, timestamp_type, &Bytes::copy_from_slice))
            .collect(),
    };
    Ok(taken)
}

fn archived(
    record: &Record<'_>,
    timestamp_type: TimestampType,
    own: &dyn Fn(&[u8]) -> Bytes,
) -> ArchivedRecord {
    ArchivedRecord {
        offset: Offset(record.offset),
        timestamp: TimestampMs(record.timestamp),
        timestamp_type,
        key: record.key.map(own),
        value: record.value.map(own),
        headers: record
            .headers
            .iter()
            .map(|header| ArchivedHeader {
                key: own(header.key),
                value: header.value.map(own),
            })
            .collect(),
    }
}
