//! What a restore is asked to do, and the two closures it may be given.

use crate::base::{PartitionId, PartitionSet, Pattern, Selection, SomePartitions, TimestampMs};
use crate::record::Record;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which records go where. The default restores everything under its own name.
#[derive(Clone, Default)]
pub struct Options {
    pub topics: Selection,
    /// Of some topics only these partitions; of the others every one.
    pub partitions: Vec<SomePartitions>,
    /// Of some partitions only these offsets. Of several that fit a partition the last one counts.
    pub offsets: Vec<SomeOffsets>,
    /// Records with this timestamp or a later one.
    pub since: Option<TimestampMs>,
    /// Records with an earlier timestamp than this.
    pub before: Option<TimestampMs>,
    pub filter: Option<Arc<dyn RecordFilter>>,
    pub remap: Option<Arc<dyn TopicRemap>>,
    /// At most so many bytes per second into the target, over all partitions; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Where each partition goes; `None`: to the one of its own number.
    pub partition_remap: Option<Arc<dyn PartitionRemap>>,
    /// Every record to the partition that its key's hash says, of so many.
    pub repartition: Option<i32>,
    /// Whether several source topics may go into one target topic, one behind the other.
    pub merge: bool,
    pub headers: HeaderOptions,
    /// How many archived bytes planning may read to predict what a filter or a time bound cuts.
    pub scan_budget: ScanBudget,
}

/// Of the partitions that match, only the offsets from `from` (inclusive) to `to` (exclusive).
#[derive(Clone, Debug)]
pub struct SomeOffsets {
    pub topics: Pattern,
    pub partitions: PartitionSet,
    pub from: Option<i64>,
    pub to: Option<i64>,
}

/// What happens to the headers of every record. As it is, none is touched.
#[derive(Clone, Debug, Default)]
pub struct HeaderOptions {
    /// Names and patterns.
    pub drop: Vec<Pattern>,
    pub set: Vec<(String, String)>,
    /// Adds the headers that say where a record came from.
    pub origin: bool,
}

/// Bytes that planning may read. Beyond it the number of records is known after execution only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanBudget(pub u64);

impl Default for ScanBudget {
    fn default() -> Self {
        Self(8 << 30)
    }
}

/// A predicate over records. One session per worker, so that an interpreter need not be shared.
pub trait RecordFilter: Send + Sync {
    /// What it does, as text: equal fingerprints decide equally. Goes into the plan's digest.
    fn fingerprint(&self) -> String;
    fn session(&self) -> Box<dyn FilterSession>;
    /// What becomes of a record on which it fails. Its sessions do so by themselves.
    fn on_error(&self) -> OnError {
        OnError::Stop
    }
    /// What the layer that made it needs to make it again in another process; null: it cannot.
    fn saved(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// What becomes of a record on which the filter fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The restore ends there, with the record's coordinates.
    #[default]
    Stop,
    Keep,
    Drop,
}

/// One worker's use of a filter.
pub trait FilterSession: Send {
    /// Whether the record is restored. An error ends the restore.
    fn keep(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError>;
    /// On how many records it failed so far that were kept or dropped nevertheless, as was asked.
    fn failed(&self) -> u64 {
        0
    }
}

/// A record and where it comes from.
#[derive(Clone, Copy)]
pub struct FilterRecord<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record<'a>,
}

/// A filter or a remap that failed: its own words, with the place in the runbook if it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    pub message: String,
    /// Line and column in the runbook, from 1.
    pub place: Option<(usize, usize)>,
}

/// A rule that names the target topic of each source topic.
pub trait TopicRemap: Send + Sync {
    fn fingerprint(&self) -> String;
    /// The target's name; the source's own if the rule does not speak of it.
    fn target(&self, source: &str) -> Result<String, FilterError>;
}

/// A rule that names the target partition of each source partition.
pub trait PartitionRemap: Send + Sync {
    fn fingerprint(&self) -> String;
    fn target(&self, topic: &str, source: PartitionId) -> Result<PartitionId, FilterError>;
}
