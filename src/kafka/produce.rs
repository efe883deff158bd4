//! Produce with acks=all: many partitions per request, several requests in flight per connection.

use super::client::{Client, not_yet};
use super::code::ErrorCode;
use super::error::Result;
use crate::base::{Offset, PartitionId, TimestampMs};
use bytes::Bytes;
use std::time::Duration;

/// One batch for one partition. Brokers take one batch per partition per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub topic: String,
    pub partition: PartitionId,
    pub batch: Bytes,
}

/// What became of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    pub topic: String,
    pub partition: PartitionId,
    pub error: ErrorCode,
    /// Where the batch begins in the log; −1 with an error.
    pub base_offset: Offset,
    /// −1 unless the topic uses LogAppendTime.
    pub log_append_time: TimestampMs,
    pub log_start_offset: Offset,
    pub message: Option<String>,
}

/// A produce request that is on its way.
#[derive(Debug)]
pub struct ProducePending {}

impl ProducePending {
    /// Waits for the answer.
    pub async fn answer(self) -> Result<Vec<Produced>> {
        not_yet("produce")
    }
}

impl Client {
    /// Sends batches to broker `leader` and waits for the answer.
    pub async fn produce(
        &self,
        leader: i32,
        parts: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Result<Vec<Produced>> {
        self.produce_start(leader, parts, timeout)
            .await?
            .answer()
            .await
    }

    /// Hands the request to the connection and returns: requests reach the broker in the order in which
    /// these calls return, so that a caller can pipeline and still keep the order of its batches.
    pub async fn produce_start(
        &self,
        leader: i32,
        parts: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Result<ProducePending> {
        let _ = (leader, parts, timeout);
        not_yet("produce")
    }
}
