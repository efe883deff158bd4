//! What a backup run came to: the generation it committed, and everything that keeps it from being complete.

use crate::base::{Digest, Offset, PartitionId, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub archive_url: String,
    pub archive_id: uuid::Uuid,
    /// The number of the generation that was committed.
    pub generation: u64,
    /// The hash of the generation object: a witness that it was there.
    pub digest: Digest,
    pub consistency_point: TimestampMs,
    /// Not all that was planned is in the generation.
    pub partial: bool,
    pub cancelled: bool,
    pub topics: u64,
    pub partitions: Vec<BackedUp>,
    pub records: u64,
    /// Bytes of record batches, before any compression around them.
    pub bytes: u64,
    /// Bytes of the objects that hold them.
    pub stored_bytes: u64,
    pub groups: u64,
    /// Partitions that could not be read to their end. What was read before counts.
    pub failures: Vec<Failure>,
    /// Sentences for the operator; any of them makes the run end with status 6.
    pub incomplete: Vec<String>,
    /// Batches that failed their checksum at the source and were kept out, in sentences; any of them makes the run end
    /// with status 5.
    #[serde(default)]
    pub damaged: Vec<String>,
    /// What is worth knowing and no reason for alarm: transactions that are open, which the next run takes.
    pub notes: Vec<String>,
}

impl Report {
    /// Offsets without a record, all partitions together, by the name of the reason.
    pub fn gaps(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for (kind, offsets) in self.partitions.iter().flat_map(|at| &at.gaps) {
            *all.entry(kind.as_str()).or_default() += offsets;
        }
        all
    }
}

/// What the run added of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    pub topic: String,
    pub partition: PartitionId,
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
    pub high_watermark: Offset,
    pub records: u64,
    pub bytes: u64,
    /// Offsets without a record, by the name of the reason.
    pub gaps: BTreeMap<String, u64>,
}

/// A partition that failed, by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub partition: TopicPartition,
    /// How far it was read; `None` if it was not begun.
    pub at: Option<Offset>,
    pub why: String,
}
