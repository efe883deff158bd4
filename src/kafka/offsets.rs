//! Questions about a partition's log, asked of its leader: offsets, epochs, producers; and DeleteRecords.

use super::client::{Client, not_yet};
use super::error::Result;
use crate::base::{Offset, TimestampMs, TopicPartition};
use std::collections::BTreeMap;

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset under [`Isolation::ReadCommitted`].
    Latest,
    /// The first record whose timestamp is this or later.
    AtOrAfter(TimestampMs),
}

/// Whether records of open transactions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// An answer of ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// −1: no record is that young.
    pub offset: Offset,
    /// −1 unless a time was asked for.
    pub timestamp: TimestampMs,
    /// −1: not told.
    pub leader_epoch: i32,
}

/// Where a leader epoch ends (OffsetForLeaderEpoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch at or below the one asked for; −1: none.
    pub leader_epoch: i32,
    /// The first offset after it; −1: none.
    pub end_offset: Offset,
}

/// A producer the leader remembers (DescribeProducers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub producer_epoch: i32,
    pub last_sequence: i32,
    pub last_timestamp: TimestampMs,
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

impl Client {
    /// ListOffsets at each partition's leader. One question per partition; a result per partition.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetAt)],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetFound>>> {
        let _ = (wanted, isolation);
        not_yet("list_offsets")
    }

    /// OffsetForLeaderEpoch: where the given epoch ends in each partition.
    pub async fn end_offset_for_epoch(
        &self,
        wanted: &[(TopicPartition, i32)],
    ) -> Result<BTreeMap<TopicPartition, Result<EpochEnd>>> {
        let _ = wanted;
        not_yet("end_offset_for_epoch")
    }

    /// Deletes records before an offset; the result is the new log start offset.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Offset)],
    ) -> Result<BTreeMap<TopicPartition, Result<Offset>>> {
        let _ = before;
        not_yet("delete_records")
    }

    /// The producers that each partition's leader remembers.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<Vec<ActiveProducer>>>> {
        let _ = partitions;
        not_yet("describe_producers")
    }
}
