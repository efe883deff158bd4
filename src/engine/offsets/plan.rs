//! The offset plan as a value: one row per group and partition, with where to, why, and what stands in the way.

use super::check::ActiveGroup;
use super::expiry::Expiring;
use super::options::{OutOfRange, Strategy};
use crate::base::text::grouped;
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::kafka::CommitWanted;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything a reset would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub target_cluster_id: String,
    pub strategy: Strategy,
    pub out_of_range: OutOfRange,
    /// Sorted by group, topic, partition.
    pub rows: Vec<Row>,
    /// Committed offsets that are left alone, by group, topic and reason.
    pub skipped: Vec<Skipped>,
    /// What stands in the way and belongs to no row: a name that matches no group.
    pub blocked: Vec<Blocked>,
    /// Groups that read a target topic right now; their rows are blocked.
    pub active: Vec<ActiveGroup>,
    /// Those groups are moved all the same: their rows are committed whatever stands there, and nothing tells whether a
    /// member overwrites them a moment later.
    #[serde(default)]
    pub forced: bool,
    /// Groups that brokers will drop soon unless somebody joins them.
    #[serde(default)]
    pub expiring: Option<Expiring>,
    /// Groups of the plan that are share groups: they are told where to start, without a transaction.
    #[serde(default)]
    pub share: BTreeSet<String>,
    /// So many offsets are committed in one transaction; what is more comes in the next one.
    #[serde(default = "per_transaction")]
    pub per_transaction: usize,
}

fn per_transaction() -> usize {
    super::chunks::PER_TRANSACTION
}

/// One group's way on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub group: String,
    /// The source's topic and partition.
    pub topic: String,
    pub partition: PartitionId,
    pub target_topic: String,
    pub target_partition: PartitionId,
    /// The next record the group would have read at the source; `None` if it has committed nothing there.
    pub committed: Option<Offset>,
    /// What the group has committed at the target now, if anything.
    pub from: Option<Offset>,
    /// Where it goes.
    #[serde(serialize_with = "outcome", deserialize_with = "from_outcome")]
    pub target: Result<Offset, Blocked>,
    pub why: Why,
    /// Restored records it has not read: as it stands now, and once it is moved.
    pub lag_before: Option<u64>,
    pub lag_after: Option<u64>,
    /// Committed along with the offset at the source, and again at the target.
    pub metadata: String,
    /// What the group has at the target now, to be put back by an undo.
    pub from_metadata: Option<String>,
}

/// Rows to be saved: each as a list of its fields in their order, since of a hundred thousand rows the names would be the
/// most of a plan. A row is read from either form.
pub struct SavedRows<'a>(pub &'a [Row]);

impl Serialize for SavedRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SavedRow))
    }
}

struct SavedRow<'a>(&'a Row);

impl Serialize for SavedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut fields = serializer.serialize_tuple(13)?;
        fields.serialize_element(&row.group)?;
        fields.serialize_element(&row.topic)?;
        fields.serialize_element(&row.partition)?;
        fields.serialize_element(&row.target_topic)?;
        fields.serialize_element(&row.target_partition)?;
        fields.serialize_element(&row.committed)?;
        fields.serialize_element(&row.from)?;
        match &row.target {
            Ok(offset) => fields.serialize_element(offset)?,
            Err(blocked) => fields.serialize_element(blocked)?,
        }
        fields.serialize_element(&row.why)?;
        fields.serialize_element(&row.lag_before)?;
        fields.serialize_element(&row.lag_after)?;
        fields.serialize_element(&row.metadata)?;
        fields.serialize_element(&row.from_metadata)?;
        fields.end()
    }
}

fn outcome<S: Serializer>(
    target: &Result<Offset, Blocked>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match target {
        Ok(offset) => offset.serialize(serializer),
        Err(blocked) => blocked.serialize(serializer),
    }
}

fn from_outcome<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Result<Offset, Blocked>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Outcome {
        Offset(Offset),
        Blocked(Blocked),
    }
    Ok(match Outcome::deserialize(deserializer)? {
        Outcome::Offset(offset) => Ok(offset),
        Outcome::Blocked(blocked) => Err(blocked),
    })
}

/// How the target offset was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Why {
    /// At the very record it would have read next.
    SameRecord,
    /// That record was not restored; at the next one that was.
    NextRestored { source: Offset },
    /// It had read everything that was restored.
    AfterLast,
    /// Several sources' records stand in this partition, and so many that it has read come after one it has not.
    ReReads { records: u64 },
    /// Out of the archived range and moved to its nearest end.
    Clamped { to: Offset },
    /// Where the operator wants it, by so many offsets from where the group is now.
    Asked { what: String, moved: Option<i64> },
    /// Found without a restore's mapping: in which words, how many records may be read again at most, whether it is
    /// known that none is skipped and this is the place, and where the commit was moved to before it was looked for.
    Found {
        how: String,
        again: u64,
        sure: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clamped: Option<Offset>,
    },
    /// There is no target.
    Blocked,
}

impl Why {
    /// Found by a commit that lies within what the source has.
    pub(super) fn found(how: impl Into<String>, again: u64, sure: bool) -> Self {
        Self::Found {
            how: how.into(),
            again,
            sure,
            clamped: None,
        }
    }

    /// What was found is where the nearest end of what the source has leads to.
    pub(super) fn clamped_to(mut self, to: Option<Offset>) -> Self {
        if let Self::Found { clamped, .. } = &mut self {
            *clamped = to;
        }
        self
    }

    pub fn is_clamped(&self) -> bool {
        matches!(
            self,
            Self::Clamped { .. }
                | Self::Found {
                    clamped: Some(_),
                    ..
                }
        )
    }

    /// Records that the group will read a second time, and those that it will never see.
    pub fn again_and_skipped(&self) -> (u64, u64) {
        match self {
            Why::ReReads { records } => (*records, 0),
            Why::Found { again, .. } => (*again, 0),
            Why::Asked {
                moved: Some(by), ..
            } if *by < 0 => (by.unsigned_abs(), 0),
            Why::Asked {
                moved: Some(by), ..
            } => (0, by.unsigned_abs()),
            _ => (0, 0),
        }
    }

    /// One word for a table.
    pub fn exactness(&self) -> &'static str {
        match self {
            Why::SameRecord | Why::NextRestored { .. } | Why::AfterLast => "exact",
            Why::ReReads { .. } => "re-reads",
            Why::Clamped { .. }
            | Why::Found {
                clamped: Some(_), ..
            } => "clamped",
            // However few it may read again: whether it skips any is not known.
            Why::Found { sure: false, .. } => "unknown",
            Why::Found { again: 0, .. } => "exact",
            Why::Found { .. } => "re-reads",
            Why::Asked { moved, .. } => match moved {
                Some(by) if *by < 0 => "re-reads",
                Some(by) if *by > 0 => "skips",
                Some(_) => "stays",
                None => "starts",
            },
            Why::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::SameRecord => f.write_str("same record"),
            Why::NextRestored { source } => write!(
                f,
                "its record was not restored; next is {}",
                grouped(source.0)
            ),
            Why::AfterLast => f.write_str("after the last restored record"),
            Why::ReReads { records } => f.write_str(&super::joined::re_reads(*records)),
            Why::Found {
                how,
                again,
                clamped,
                ..
            } => {
                if let Some(to) = clamped {
                    write!(f, "clamped to {}; ", grouped(to.0))?;
                }
                f.write_str(how)?;
                match again {
                    0 => Ok(()),
                    again => write!(f, "; re-reads at most {}", grouped(*again)),
                }
            }
            Why::Clamped { to } => write!(f, "clamped to {}", grouped(to.0)),
            Why::Asked { what, moved } => match moved {
                Some(by) if *by < 0 => write!(f, "{what}; re-reads {}", grouped(by.unsigned_abs())),
                Some(by) if *by > 0 => write!(f, "{what}; skips {}", grouped(*by)),
                _ => f.write_str(what),
            },
            Why::Blocked => f.write_str("blocked"),
        }
    }
}

/// Why a row cannot be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    NotYetArchived,
    BeforeArchive,
    KnownAfterExecution,
    OtherIncarnation,
    GroupActive,
    /// Records of several sources share a partition, and the group has no offset for one of them.
    NoCommit,
    SameTarget,
    MetadataTooLong,
    NothingSelected,
    /// The cluster has no such topic or partition.
    NoSuchPartition,
    BeforeLog,
    BeyondLog,
    /// No restore tells where records went.
    NoMapping,
    ShareGroup,
    /// Somebody has committed since the run that is undone.
    MovedSince,
    /// No record of the target says where it came from, or too few do.
    NoHeaders,
    /// The place cannot be told, or there are several.
    NotFound,
    /// More would have to be read than planning may.
    OverBudget,
    /// It would read more again than it may.
    TooFarBehind,
}

/// Something that stands in the way, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub reason: Reason,
    /// The one group that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub what: String,
    pub hint: Option<String>,
}

impl Blocked {
    pub(in crate::engine) fn new(
        reason: Reason,
        what: String,
        hint: impl Into<Option<&'static str>>,
    ) -> Self {
        Self {
            reason,
            group: None,
            what,
            hint: hint.into().map(str::to_string),
        }
    }

    pub(in crate::engine) fn of_group(self, group: &str) -> Self {
        Self {
            group: Some(group.to_string()),
            ..self
        }
    }
}

/// Committed offsets that a plan leaves alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub group: String,
    pub topic: String,
    pub partitions: Vec<PartitionId>,
    pub why: String,
}

/// One group on one target topic, in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub group: String,
    pub target_topic: String,
    pub partitions: usize,
    /// Partitions whose offset really changes.
    pub changes: usize,
    pub clamped: usize,
    pub blocked: usize,
    pub lag_before: u64,
    pub lag_after: u64,
}

impl Row {
    /// The partition at the target.
    pub fn target_partition(&self) -> TopicPartition {
        TopicPartition::new(self.target_topic.clone(), self.target_partition)
    }

    /// Whether the group is somewhere else now.
    pub fn is_change(&self) -> bool {
        matches!(&self.target, Ok(target) if Some(*target) != self.from)
    }

    pub(super) fn block(&mut self, blocked: Blocked) {
        self.why = Why::Blocked;
        self.lag_after = None;
        self.target = Err(blocked);
    }
}

impl Plan {
    /// Everything but the rows.
    pub fn without_rows(&self) -> Plan {
        Plan {
            target_cluster_id: self.target_cluster_id.clone(),
            strategy: self.strategy.clone(),
            out_of_range: self.out_of_range,
            rows: Vec::new(),
            skipped: self.skipped.clone(),
            blocked: self.blocked.clone(),
            active: self.active.clone(),
            forced: self.forced,
            expiring: self.expiring.clone(),
            share: self.share.clone(),
            per_transaction: self.per_transaction,
        }
    }

    /// The groups that have rows, sorted.
    pub fn group_names(&self) -> Vec<String> {
        let groups = self.rows.chunk_by(|a, b| a.group == b.group);
        let first = groups.filter_map(|rows| rows.first());
        first.map(|row| row.group.clone()).collect()
    }

    /// Everything that stands in the way: of the plan as a whole, then row by row.
    pub fn blocks(&self) -> Vec<&Blocked> {
        let rows = self.rows.iter().filter_map(|row| row.target.as_ref().err());
        self.blocked.iter().chain(rows).collect()
    }

    pub fn is_blocked(&self) -> bool {
        !self.blocked.is_empty() || self.rows.iter().any(|row| row.target.is_err())
    }

    /// Whether all that it moves are share groups.
    pub fn is_of_share_groups(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| self.share.contains(&row.group))
    }

    /// Whether members of its group read what it moves, and it is moved all the same.
    pub fn is_forced(&self, row: &Row) -> bool {
        self.forced
            && self
                .active
                .iter()
                .any(|active| active.group == row.group && active.reads.contains(&row.target_topic))
    }

    /// The groups that are moved under their members.
    pub fn forced_groups(&self) -> &[ActiveGroup] {
        match self.forced {
            true => &self.active,
            false => &[],
        }
    }

    /// Whether it is committed: what is elsewhere, and what members may have moved meanwhile.
    pub fn is_committed(&self, row: &Row) -> bool {
        row.target.is_ok() && (row.is_change() || self.is_forced(row))
    }

    /// Rows whose offset really changes.
    pub fn changes(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| self.is_committed(row))
            .count()
    }

    /// Rows that stand beside each other with the same group and target topic. A topic may come again where several
    /// are restored into it.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str, &[Row])> {
        self.rows
            .chunk_by(|a, b| a.group == b.group && a.target_topic == b.target_topic)
            .filter_map(|rows| {
                let first = rows.first()?;
                Some((first.group.as_str(), first.target_topic.as_str(), rows))
            })
    }

    /// The plan in one line per group and target topic, sorted.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut lines: BTreeMap<(&str, &str), Summary> = BTreeMap::new();
        for (group, target_topic, rows) in self.lines() {
            let line = lines
                .entry((group, target_topic))
                .or_insert_with(|| Summary {
                    group: group.to_string(),
                    target_topic: target_topic.to_string(),
                    ..Summary::default()
                });
            for row in rows {
                line.partitions += 1;
                line.changes += usize::from(row.is_change());
                line.clamped += usize::from(row.why.is_clamped());
                line.blocked += usize::from(row.target.is_err());
                line.lag_before += row.lag_before.unwrap_or(0);
                line.lag_after += row.lag_after.unwrap_or(0);
            }
        }
        lines.into_values().collect()
    }

    /// The plan for some of its groups only, for a step of its own.
    pub fn only(&self, takes: impl Fn(&str) -> bool) -> Plan {
        Plan {
            rows: self
                .rows
                .iter()
                .filter(|row| takes(&row.group))
                .cloned()
                .collect(),
            skipped: self
                .skipped
                .iter()
                .filter(|skipped| takes(&skipped.group))
                .cloned()
                .collect(),
            active: self
                .active
                .iter()
                .filter(|active| takes(&active.group))
                .cloned()
                .collect(),
            ..self.without_rows()
        }
    }

    /// What to commit: rows that change, by group.
    pub fn commits(&self) -> BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> {
        let mut groups: BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> = BTreeMap::new();
        for (group, _, rows) in self.lines() {
            let rows = rows.iter().filter(|row| self.is_committed(row));
            let commits = rows.filter_map(|row| {
                let wanted = CommitWanted {
                    offset: *row.target.as_ref().ok()?,
                    metadata: row.metadata.clone(),
                };
                Some((row.target_partition(), wanted))
            });
            let mut commits = commits.peekable();
            if commits.peek().is_some() {
                groups.entry(group.to_string()).or_default().extend(commits);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_clamped_or_is_not_known_is_never_called_exact() {
        let sure = Why::found("by its header", 0, true);
        let clamped = sure.clone().clamped_to(Some(Offset(1_000)));
        let cases = [
            (sure, "exact", "by its header"),
            (clamped, "clamped", "clamped to 1,000; by its header"),
            (Why::found("by time", 0, false), "unknown", "by time"),
            (
                Why::found("by time", 7, false),
                "unknown",
                "by time; re-reads at most 7",
            ),
            (
                Why::found("by time", 7, true),
                "re-reads",
                "by time; re-reads at most 7",
            ),
        ];
        for (why, word, text) in cases {
            assert_eq!((why.exactness(), why.to_string().as_str()), (word, text));
            assert_eq!(why.is_clamped(), word == "clamped");
            let saved = serde_json::to_string(&why).unwrap();
            assert_eq!(serde_json::from_str::<Why>(&saved).unwrap(), why);
        }
        // As it was saved before commits were clamped in it.
        let saved = r#"{ "why": "found", "how": "by time", "again": 0, "sure": true }"#;
        let why: Why = serde_json::from_str(saved).unwrap();
        assert_eq!(why, Why::found("by time", 0, true));
    }
}
