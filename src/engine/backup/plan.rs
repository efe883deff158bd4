//! The backup plan: what would be read, from where to where, and what is already lost.
//!
//! Ends move while a plan is looked at, so `to` is a lower bound for what execution archives; `from`, the topics with
//! their ids and the generation that is continued are exact.

use super::options::Keep;
use crate::archive::{Behind, BlockCompression};
use crate::base::{
    Digest, Offset, PartitionId, Pattern, PatternError, Selection, TimestampMs, TopicId,
    TopicPartition,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything a backup run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub source_cluster_id: String,
    pub archive_url: String,
    /// `None`: the archive does not exist yet and would be made.
    pub archive_id: Option<uuid::Uuid>,
    /// The generation that is continued.
    pub parent: Option<Parent>,
    /// The number of the generation that would be added.
    pub generation: u64,
    pub block: BlockCompression,
    /// At most so many bytes per second from the source.
    pub rate: Option<u64>,
    pub stall: Duration,
    pub topics: Vec<PlanTopic>,
    /// What the topics were chosen by.
    pub asked: PlanAsked,
    /// Topics that the archive has and the source no longer.
    pub removed: Vec<RemovedTopic>,
    pub groups: PlanGroups,
    pub cluster: PlanCluster,
    /// What stands in the way: a name that matches nothing.
    pub blocked: Vec<Blocked>,
    /// Topics and configs that cannot be read already now: the run will be incomplete.
    pub incomplete: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// The generation before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub number: u64,
    pub digest: Digest,
    pub consistency_point: TimestampMs,
}

/// The selection that a plan was made by: topics that are there later show against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanAsked {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub internal: bool,
    /// Chosen topics that could not be planned; why is said elsewhere.
    pub unread: Vec<String>,
}

/// Something that stands in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub what: String,
    pub hint: Option<String>,
}

/// A topic that is no longer at the source. Its archived data stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedTopic {
    pub name: String,
    pub id: TopicId,
}

/// What a topic is to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum TopicState {
    New,
    Continued,
    /// Deleted and created again since: its records are a new incarnation, nothing is appended to the old one.
    Recreated {
        was: TopicId,
    },
    /// Compacted, and last read to its ends longer ago than tombstones live: read again from its log start, since
    /// deletions may have vanished unread.
    Rescanned,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTopic {
    pub name: String,
    pub id: TopicId,
    pub internal: bool,
    pub replication_factor: i16,
    /// As the source's metadata has it.
    pub partition_count: i32,
    /// The topic's own configs (overrides).
    pub configs: BTreeMap<String, String>,
    /// How many milliseconds tombstones outlive a cleaning; `None`: it is not compacted.
    #[serde(default)]
    pub tombstones_live: Option<i64>,
    /// Archived partitions that are not selected.
    #[serde(default)]
    pub behind: Vec<Behind>,
    #[serde(flatten)]
    pub state: TopicState,
    /// Sorted.
    pub partitions: Vec<PlanPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPartition {
    pub partition: PartitionId,
    /// Whether it continues what is archived of it; otherwise reading begins wherever the log starts then.
    pub continued: bool,
    /// What is archived of it is replaced by what is read from its log start: see [`TopicState::Rescanned`].
    #[serde(default)]
    pub rescanned: bool,
    /// When what is archived of it was last known to hold every deletion.
    #[serde(default)]
    pub caught_up: Option<TimestampMs>,
    /// Where reading begins: the archived end, or the log start.
    pub from: Offset,
    pub log_start: Offset,
    /// The last stable offset at plan time.
    pub to: Offset,
    pub high_watermark: Offset,
    /// Under which leader epoch the archived end was written; −1: nothing archived, or not known.
    pub leader_epoch: i32,
    /// Why it cannot be read: no leader, or its log no longer continues the archive. It fails by name, the others go
    /// on.
    pub problem: Option<String>,
}

/// The groups whose committed offsets would be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGroups {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// How many there are now, and with how many committed offsets.
    pub groups: u64,
    pub offsets: u64,
}

/// What would be kept of the cluster itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCluster {
    pub acls: Keep,
    pub quotas: Keep,
    /// How many there are now, where they can be seen.
    pub acls_found: Option<u64>,
    pub quotas_found: Option<u64>,
}

impl PlanPartition {
    /// Offsets up to the planned end: at most so many records.
    pub fn records_bound(&self) -> u64 {
        u64::try_from(self.to - self.from.max(self.log_start)).unwrap_or(0)
    }

    /// Offsets that retention has removed before this run could read them.
    pub fn lost_to_retention(&self) -> Option<(Offset, Offset)> {
        (self.continued && self.log_start > self.from).then_some((self.from, self.log_start))
    }

    /// Offsets of transactions that are still open.
    pub fn pending(&self) -> Option<(Offset, Offset)> {
        (self.high_watermark > self.to).then_some((self.to, self.high_watermark))
    }
}

impl PlanTopic {
    pub fn records_bound(&self) -> u64 {
        self.partitions
            .iter()
            .map(PlanPartition::records_bound)
            .sum()
    }

    /// Whether every partition of it is taken.
    pub fn is_whole(&self) -> bool {
        i32::try_from(self.partitions.len()) == Ok(self.partition_count)
    }

    /// What happened to it since the last run, if that is worth a sentence.
    pub fn change(&self) -> Option<String> {
        match self.state {
            TopicState::Recreated { .. } => Some(format!(
                "{} was deleted and created again: a new incarnation, nothing is appended to the old one",
                self.name
            )),
            TopicState::Rescanned => Some(format!(
                "{} is compacted and was last read longer ago than tombstones live: read again from its log start",
                self.name
            )),
            TopicState::New | TopicState::Continued => None,
        }
    }

    pub(super) fn at(&self, partition: &PlanPartition) -> TopicPartition {
        TopicPartition::new(self.name.clone(), partition.partition)
    }
}

impl Plan {
    /// At most so many records, if nothing is written meanwhile.
    pub fn records_bound(&self) -> u64 {
        self.topics.iter().map(PlanTopic::records_bound).sum()
    }

    pub fn partitions(&self) -> impl Iterator<Item = (&PlanTopic, &PlanPartition)> {
        self.topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |entry| (topic, entry)))
    }
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    let patterns = patterns.iter();
    patterns.map(|pattern| pattern.text().to_string()).collect()
}

fn parsed(texts: &[String]) -> Result<Vec<Pattern>, PatternError> {
    texts.iter().map(|text| Pattern::parse(text)).collect()
}

impl PlanAsked {
    pub(super) fn of(selection: &Selection, internal: bool) -> Self {
        Self {
            include: texts(&selection.include),
            exclude: texts(&selection.exclude),
            internal,
            unread: Vec::new(),
        }
    }

    pub(super) fn selection(&self) -> Result<Selection, PatternError> {
        Ok(Selection {
            include: parsed(&self.include)?,
            exclude: parsed(&self.exclude)?,
        })
    }
}

impl PlanGroups {
    pub(super) fn asked(selection: &Selection) -> Self {
        Self {
            include: texts(&selection.include),
            exclude: texts(&selection.exclude),
            groups: 0,
            offsets: 0,
        }
    }

    pub(super) fn selection(&self) -> Result<Selection, PatternError> {
        Ok(Selection {
            include: parsed(&self.include)?,
            exclude: parsed(&self.exclude)?,
        })
    }
}
