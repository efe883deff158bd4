//! The restore plan: what would be created, written and set, with every number that execution must reproduce.

use super::headers::HeaderChanges;
use super::options::{OnError, RecordFilter, TopicRemap};
use super::routing::Routing;
use crate::base::{
    Digest, Offset, PartitionId, PartitionSet, TimestampMs, TopicId, TopicPartition,
};
use crate::engine::mapping::Mapping;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything a restore would do, in order: creates, prepares, writes, finishes; verification reads the writes again.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    pub source_cluster_id: String,
    pub target_cluster_id: String,
    pub archive_id: String,
    pub generation: u64,
    /// At most so many bytes per second into the target.
    #[serde(default)]
    pub rate: Option<u64>,
    pub creates: Vec<CreateTopic>,
    pub prepares: Vec<PrepareTopic>,
    pub writes: Vec<WriteTopic>,
    pub finishes: Vec<FinishTopic>,
    /// What stands in the way and belongs to no topic of the plan: a name that matches nothing.
    pub blocked: Vec<Blocked>,
    /// What the operator should know: factors lowered, configs dropped.
    pub notes: Vec<String>,
}

/// Something that stands in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub what: String,
    pub hint: Option<String>,
}

/// A topic to create, under the settings it has while records are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Setting aside what an existing topic's configs would do to records while they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareTopic {
    pub topic: String,
    pub id: TopicId,
    pub set: BTreeMap<String, String>,
    /// The values in force now.
    pub now: BTreeMap<String, String>,
    /// The topic's own values for them, to be put back; `None`: it had none of its own.
    pub old: BTreeMap<String, Option<String>>,
    /// Records that are in the topic: then it is a decision of its own.
    pub holds: u64,
}

/// Putting a topic's real configs in force once its records are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishTopic {
    pub topic: String,
    /// `None` if a step before it creates the topic.
    pub id: Option<TopicId>,
    pub set: BTreeMap<String, String>,
    pub delete: Vec<String>,
    /// What the real retention would remove soon after: then this is a decision of its own.
    pub would_delete: Option<String>,
}

/// What the target topic is like at plan time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Predicted {
    Exactly(u64),
    /// The archive holds more than planning may read; at most this many.
    AtMost(u64),
}

/// A prediction in a document: a plain number where it is exact, since a plan has one for each partition.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Exactly(u64),
    AtMost { at_most: u64 },
}

impl From<Predicted> for Written {
    fn from(predicted: Predicted) -> Self {
        match predicted {
            Predicted::Exactly(count) => Self::Exactly(count),
            Predicted::AtMost(at_most) => Self::AtMost { at_most },
        }
    }
}

impl From<Written> for Predicted {
    fn from(written: Written) -> Self {
        match written {
            Written::Exactly(count) => Self::Exactly(count),
            Written::AtMost { at_most } => Self::AtMost(at_most),
        }
    }
}

/// One source topic's records into one target topic.
#[derive(Clone, Serialize, Deserialize)]
pub struct WriteTopic {
    pub source_topic: String,
    pub source_topic_id: TopicId,
    pub topic: String,
    pub target: TargetState,
    /// Whether another source topic is written behind this one, into the same target.
    pub followed: bool,
    /// How many partitions the source has, restored or not.
    pub source_partitions: i32,
    /// Archived partitions that are not to be restored.
    pub left_out: PartitionSet,
    /// How a record finds its route.
    pub routing: Routing,
    pub headers: HeaderChanges,
    /// The routes: each a source partition and a target partition with records of it. Sorted by source, then target.
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
    pub blocked: Vec<Blocked>,
    pub notes: Vec<String>,
}

/// A route: what of one source partition goes into one target partition.
///
/// Records go 1:1 (one route per source), N:1 (several sources' routes lead to one target), or by key (a source has a
/// route to every target that gets records of it). What is known of a source as a whole (`dropped_by_…`) stands with
/// its first route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WritePartition {
    pub source: PartitionId,
    pub target: PartitionId,
    /// The source range that is gone through: `from` to `to` (exclusive). The same in all routes of a source.
    pub from: Offset,
    pub to: Offset,
    /// What the archive holds of the source partition, restored or not.
    pub archived_from: Offset,
    pub archived_to: Offset,
    /// The target partition's end before the step; the same in all routes into it.
    pub base: Offset,
    pub records: Predicted,
    /// Bytes of the archived batches that are read for it; with several routes of a source, this one's share.
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
    /// The digest of where each record goes; `None` if only execution can tell. A saved plan has no more than this.
    pub mapping_digest: Option<Digest>,
    /// The target offset after the last record of this route, if known.
    pub end: Option<Offset>,
    /// Where each record goes. Not in a saved plan: the same scan makes it again, and its digest must match.
    #[serde(skip)]
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

impl WritePartition {
    /// Says where each record goes.
    pub fn set_mapping(&mut self, mapping: Mapping) {
        self.mapping_digest = Some(mapping.digest());
        self.end = Some(mapping.target_end());
        self.mapping = Some(mapping);
    }
}

impl WriteTopic {
    /// The target partitions that it writes to.
    pub fn targets(&self) -> Vec<TopicPartition> {
        let targets: BTreeSet<PartitionId> =
            self.partitions.iter().map(|route| route.target).collect();
        let targets = targets.into_iter();
        targets
            .map(|target| TopicPartition::new(self.topic.clone(), target))
            .collect()
    }

    /// The planned end of each target partition; `None` if a route into it is not exactly known.
    pub fn planned_ends(&self) -> BTreeMap<PartitionId, Option<Offset>> {
        let mut ends: BTreeMap<PartitionId, Option<Offset>> = BTreeMap::new();
        for route in &self.partitions {
            ends.entry(route.target)
                .and_modify(|end| *end = (*end).zip(route.end).map(|(a, b)| a.max(b)))
                .or_insert(route.end);
        }
        ends
    }

    /// Records over all partitions.
    pub fn records(&self) -> Predicted {
        let mut sources: BTreeMap<PartitionId, Predicted> = BTreeMap::new();
        for route in &self.partitions {
            let own = sources.entry(route.source).or_insert(Predicted::Exactly(0));
            *own = match (*own, route.records) {
                // Each of a source's routes by key may get all of them, but not all may.
                (Predicted::AtMost(one), Predicted::AtMost(other)) => {
                    Predicted::AtMost(one.max(other))
                }
                (one, other) => one.plus(other),
            };
        }
        sources
            .into_values()
            .fold(Predicted::Exactly(0), Predicted::plus)
    }

    /// The latest timestamp among the restored records, as far as planning looked.
    pub fn newest(&self) -> Option<TimestampMs> {
        let partitions = self.partitions.iter();
        partitions.filter_map(|at| at.last_timestamp).max()
    }

    /// The earliest timestamp among the restored records, as far as planning looked.
    pub fn oldest(&self) -> Option<TimestampMs> {
        let partitions = self.partitions.iter();
        partitions.filter_map(|at| at.first_timestamp).min()
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
