//! Fetch: record batches as they lie in the log, as slices of the answer's frame.

use super::client::{Client, not_yet};
use super::code::ErrorCode;
use super::error::Result;
use super::offsets::Isolation;
use crate::base::{Offset, PartitionId, TopicId};
use bytes::Bytes;
use std::time::Duration;

/// One partition to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub topic: String,
    /// Nil: not known; then the topic is asked for by name (Fetch v12).
    pub topic_id: TopicId,
    pub partition: PartitionId,
    pub offset: Offset,
    /// The leader epoch the caller believes in; −1: not checked.
    pub leader_epoch: i32,
    pub max_bytes: i32,
}

/// One fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchWanted {
    pub partitions: Vec<FetchPartition>,
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Over all partitions. The first batch comes whole even if it is larger.
    pub max_bytes: i32,
    pub isolation: Isolation,
}

/// An aborted transaction within what was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: Offset,
}

/// The leader that a broker which no longer leads points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLeader {
    pub leader: i32,
    pub leader_epoch: i32,
}

/// One partition's part of the answer. An error here is that partition's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    pub topic: String,
    pub partition: PartitionId,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    /// −1: not told.
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// In the order of the markers, as the broker sends them. Empty under read_uncommitted.
    pub aborted: Vec<Aborted>,
    /// Batches; the last may be cut. A slice of the frame: holding it holds the frame.
    pub records: Bytes,
    pub new_leader: Option<NewLeader>,
}

impl Client {
    /// One Fetch to broker `leader`, without a fetch session.
    pub async fn fetch(&self, leader: i32, request: FetchWanted) -> Result<Vec<FetchedPartition>> {
        let _ = (leader, request);
        not_yet("fetch")
    }
}
