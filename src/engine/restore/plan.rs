//! The restore plan: what would be created, written and set, with every number that execution must reproduce.

use super::options::{OnError, RecordFilter, TopicRemap};
use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use crate::engine::mapping::Mapping;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything a restore would do, in order: creates, writes, finishes; verification reads the writes again.
#[derive(Clone, Serialize)]
pub struct Plan {
    pub source_cluster_id: String,
    pub target_cluster_id: String,
    pub archive_id: String,
    pub generation: u64,
    pub creates: Vec<CreateTopic>,
    pub writes: Vec<WriteTopic>,
    pub finishes: Vec<FinishTopic>,
    /// What stands in the way and belongs to no topic of the plan: a name that matches nothing.
    pub blocked: Vec<Blocked>,
    /// What the operator should know: factors lowered, configs dropped.
    pub notes: Vec<String>,
}

/// Something that stands in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    pub what: String,
    pub hint: Option<String>,
}

/// A topic to create, under the settings it has while records are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreateTopic {
    pub source_topic: String,
    pub topic: String,
    pub partitions: i32,
    pub replication_factor: i16,
    /// The source's overrides as the target will have them in the end.
    pub configs: BTreeMap<String, String>,
    /// What it is created with.
    pub restore_configs: BTreeMap<String, String>,
    pub notes: Vec<String>,
}

/// Putting a created topic's real configs in force once its records are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FinishTopic {
    pub topic: String,
    pub set: BTreeMap<String, String>,
    pub delete: Vec<String>,
    /// What the real retention would remove soon after: then this is a decision of its own.
    pub would_delete: Option<String>,
}

/// What the target topic is like at plan time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum TargetState {
    /// A step before this one creates it.
    Absent,
    Empty {
        id: TopicId,
    },
    HasRecords {
        id: TopicId,
        records: u64,
    },
}

/// A number that planning could tell exactly, or that only execution can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicted {
    Exactly(u64),
    /// The archive holds more than planning may read; at most this many.
    AtMost(u64),
}

/// One source topic's records into one target topic.
#[derive(Clone, Serialize)]
pub struct WriteTopic {
    pub source_topic: String,
    pub source_topic_id: TopicId,
    pub topic: String,
    pub target: TargetState,
    pub partitions: Vec<WritePartition>,
    pub since: Option<TimestampMs>,
    pub before: Option<TimestampMs>,
    /// What the filter does, as text.
    pub filter_fingerprint: Option<String>,
    /// What becomes of a record on which the filter fails.
    pub filter_on_error: OnError,
    pub remap_fingerprint: Option<String>,
    #[serde(skip)]
    pub filter: Option<Arc<dyn RecordFilter>>,
    #[serde(skip)]
    pub remap: Option<Arc<dyn TopicRemap>>,
    /// The largest batch the target takes, in bytes.
    pub max_message_bytes: usize,
    /// What the retention of an existing topic would remove soon after: then writing is a decision of its own.
    pub expires: Option<String>,
    pub blocked: Vec<Blocked>,
    pub notes: Vec<String>,
}

/// One source partition's records into one target partition.
#[derive(Clone, Debug, Serialize)]
pub struct WritePartition {
    pub source: PartitionId,
    pub target: PartitionId,
    /// The source range that is gone through: `from` to `to` (exclusive).
    pub from: Offset,
    pub to: Offset,
    /// Where the first record must land: the target partition's end.
    pub base: Offset,
    pub records: Predicted,
    /// Bytes of the archived batches that are read for it.
    pub bytes: u64,
    /// The part of them that the restored records take, estimated from their number where something is cut.
    pub kept_bytes: u64,
    pub dropped_by_filter: u64,
    pub dropped_by_time: u64,
    /// Records on which the filter failed, kept or dropped as was asked.
    pub filter_failed: u64,
    /// The earliest and latest timestamp among the restored records, as far as planning looked.
    pub first_timestamp: Option<TimestampMs>,
    pub last_timestamp: Option<TimestampMs>,
    /// Where each record goes; `None` if only execution can tell.
    pub mapping: Option<Mapping>,
}

/// What writing one partition came to.
#[derive(Clone, Debug, Serialize)]
pub struct WrittenPartition {
    pub source: PartitionId,
    pub target: PartitionId,
    pub records: u64,
    /// Records on which the filter failed, kept or dropped as was asked.
    pub filter_failed: u64,
    pub bytes: u64,
    pub first: Offset,
    /// The offset after the last record written.
    pub end: Offset,
    pub mapping: Mapping,
}

/// What writing one topic came to.
#[derive(Clone, Debug, Serialize)]
pub struct TopicReport {
    pub topic: String,
    pub partitions: Vec<WrittenPartition>,
}

impl WriteTopic {
    /// Records over all partitions.
    pub fn records(&self) -> Predicted {
        self.partitions
            .iter()
            .fold(Predicted::Exactly(0), |sum, partition| {
                sum.plus(partition.records)
            })
    }

    /// The earliest timestamp among the restored records, as far as planning looked.
    pub fn oldest(&self) -> Option<TimestampMs> {
        let partitions = self.partitions.iter();
        partitions.filter_map(|at| at.first_timestamp).min()
    }

    /// Archived bytes of the largest partition.
    pub fn largest(&self) -> u64 {
        let partitions = self.partitions.iter();
        partitions.map(|at| at.bytes).max().unwrap_or(0)
    }

    /// About how many bytes are written, over all partitions.
    pub fn kept_bytes(&self) -> u64 {
        self.partitions
            .iter()
            .map(|partition| partition.kept_bytes)
            .sum()
    }

    /// Archived bytes over all partitions.
    pub fn bytes(&self) -> u64 {
        self.partitions
            .iter()
            .map(|partition| partition.bytes)
            .sum()
    }
}

impl Predicted {
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Exactly(a), Self::Exactly(b)) => Self::Exactly(a + b),
            (a, b) => Self::AtMost(a.bound() + b.bound()),
        }
    }

    /// The number, or the most it can be.
    pub fn bound(self) -> u64 {
        match self {
            Self::Exactly(count) | Self::AtMost(count) => count,
        }
    }

    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exactly(count) => Some(count),
            Self::AtMost(_) => None,
        }
    }
}
