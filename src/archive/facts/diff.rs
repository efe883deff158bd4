//! What lies between two generations: topics, records, configs, committed offsets.

use crate::archive::{Groups, Result, Snapshot, SnapshotPartition, SnapshotTopic};
use crate::base::time::serialize_instant;
use crate::base::{Offset, PartitionId, TimestampMs};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What became of something between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Removed,
    /// Deleted and created again: another topic of the same name.
    Recreated,
    Changed,
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Recreated => "recreated",
            Change::Changed => "changed",
        }
    }
}

/// From an older to a newer generation. What did not change is not listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub archive: String,
    pub from: u64,
    #[serde(serialize_with = "serialize_instant")]
    pub from_at: TimestampMs,
    pub to: u64,
    #[serde(serialize_with = "serialize_instant")]
    pub to_at: TimestampMs,
    pub records: u64,
    pub bytes: u64,
    pub topics: Vec<TopicDifference>,
    pub groups: Vec<GroupDifference>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicDifference {
    pub topic: String,
    pub change: Change,
    /// Added; what a removed topic held stays in the archive.
    pub records: u64,
    pub bytes: u64,
    /// At the source, before and after; `None` if it did not change.
    pub partition_count: Option<(i32, i32)>,
    pub configs: Vec<ConfigDifference>,
    pub partitions: Vec<PartitionDifference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigDifference {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionDifference {
    pub partition: PartitionId,
    /// Where the archive of it ended, and where it ends; the same if only what is between changed.
    pub from: Offset,
    pub to: Offset,
    pub records: u64,
    pub bytes: u64,
    /// It was read anew from its start (a rescan): the records are all of it.
    pub replaced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupDifference {
    pub group: String,
    pub change: Change,
    pub offsets: Vec<OffsetDifference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OffsetDifference {
    pub topic: String,
    pub partition: PartitionId,
    pub before: Option<Offset>,
    pub after: Option<Offset>,
}

impl Snapshot {
    /// What lies between this and another generation of the same archive, from the older to the newer.
    pub async fn difference(&self, other: &Snapshot) -> Result<Difference> {
        let (older, newer) = match self.number() <= other.number() {
            true => (self, other),
            false => (other, self),
        };
        let (before, after) = (older.groups().await?, newer.groups().await?);
        let topics = topics(older, newer);
        Ok(Difference {
            archive: newer.url(),
            from: older.number(),
            from_at: older.consistency_point(),
            to: newer.number(),
            to_at: newer.consistency_point(),
            records: topics.iter().map(|topic| topic.records).sum(),
            bytes: topics.iter().map(|topic| topic.bytes).sum(),
            topics,
            groups: groups(&before, &after),
        })
    }
}

fn topics(older: &Snapshot, newer: &Snapshot) -> Vec<TopicDifference> {
    let names: BTreeSet<&str> = older
        .topics()
        .chain(newer.topics())
        .map(|topic| topic.name.as_str())
        .collect();
    let differences = names.into_iter().filter_map(|name| {
        let (before, after) = (older.topic(name), newer.topic(name));
        match (before, after) {
            (None, None) => None,
            (Some(before), None) => Some(TopicDifference {
                topic: name.to_string(),
                change: Change::Removed,
                records: 0,
                bytes: 0,
                partition_count: Some((before.partition_count, 0)),
                configs: Vec::new(),
                partitions: Vec::new(),
            }),
            (None, Some(after)) => Some(whole(after, Change::Added)),
            (Some(before), Some(after)) if before.id != after.id => {
                Some(whole(after, Change::Recreated))
            }
            (Some(before), Some(after)) => changed(before, after),
        }
    });
    differences.collect()
}

fn whole(topic: &SnapshotTopic, change: Change) -> TopicDifference {
    TopicDifference {
        topic: topic.name.clone(),
        change,
        records: topic.records(),
        bytes: topic.bytes(),
        partition_count: Some((0, topic.partition_count)),
        configs: configs(&BTreeMap::new(), &topic.configs),
        partitions: topic
            .partitions
            .iter()
            .map(|after| PartitionDifference {
                partition: after.partition,
                from: after.from,
                to: after.to,
                records: after.records,
                bytes: after.bytes,
                replaced: false,
            })
            .collect(),
    }
}

fn changed(before: &SnapshotTopic, after: &SnapshotTopic) -> Option<TopicDifference> {
    let partitions: Vec<PartitionDifference> = after
        .partitions
        .iter()
        .filter_map(|new| partition(before.partition(new.partition), new))
        .collect();
    let counts = (before.partition_count, after.partition_count);
    let difference = TopicDifference {
        topic: after.name.clone(),
        change: Change::Changed,
        records: partitions.iter().map(|partition| partition.records).sum(),
        bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        partition_count: (counts.0 != counts.1).then_some(counts),
        configs: configs(&before.configs, &after.configs),
        partitions,
    };
    let anything = !difference.partitions.is_empty()
        || !difference.configs.is_empty()
        || difference.partition_count.is_some();
    anything.then_some(difference)
}

fn partition(
    before: Option<&SnapshotPartition>,
    after: &SnapshotPartition,
) -> Option<PartitionDifference> {
    let Some(before) = before else {
        return Some(PartitionDifference {
            partition: after.partition,
            from: after.from,
            to: after.to,
            records: after.records,
            bytes: after.bytes,
            replaced: false,
        });
    };
    // A continued partition keeps every segment that it had.
    let continued = after.from == before.from && after.segments.starts_with(&before.segments);
    if continued && after.to == before.to {
        return None;
    }
    let (records, bytes) = match continued {
        true => (
            after.records.saturating_sub(before.records),
            after.bytes.saturating_sub(before.bytes),
        ),
        false => (after.records, after.bytes),
    };
    Some(PartitionDifference {
        partition: after.partition,
        from: before.to,
        to: after.to,
        records,
        bytes,
        replaced: !continued,
    })
}

fn configs(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<ConfigDifference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| ConfigDifference {
            name: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

/// A group's committed offsets, by topic and partition.
type Committed<'a> = BTreeMap<(&'a str, PartitionId), Offset>;

fn groups(before: &Groups, after: &Groups) -> Vec<GroupDifference> {
    let (before, after) = (by_group(before), by_group(after));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let none = Committed::new();
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (before.get(name), after.get(name));
            let change = match (old, new) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                _ => Change::Changed,
            };
            let offsets = offsets(old.unwrap_or(&none), new.unwrap_or(&none));
            (change != Change::Changed || !offsets.is_empty()).then(|| GroupDifference {
                group: name.to_string(),
                change,
                offsets,
            })
        })
        .collect()
}

fn by_group(groups: &Groups) -> BTreeMap<&str, Committed<'_>> {
    let groups = groups.groups.iter().map(|group| {
        let offsets = group.offsets.iter();
        let offsets = offsets.map(|at| ((at.topic.as_str(), at.partition), at.offset));
        (group.group.as_str(), offsets.collect())
    });
    groups.collect()
}

fn offsets(before: &Committed<'_>, after: &Committed<'_>) -> Vec<OffsetDifference> {
    let places: BTreeSet<(&str, PartitionId)> =
        before.keys().chain(after.keys()).copied().collect();
    places
        .into_iter()
        .filter(|place| before.get(place) != after.get(place))
        .map(|place| OffsetDifference {
            topic: place.0.to_string(),
            partition: place.1,
            before: before.get(&place).copied(),
            after: after.get(&place).copied(),
        })
        .collect()
}
