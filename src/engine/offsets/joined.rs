//! Offsets where one target partition has records of several source partitions, or one source's went to several.
//!
//! A group has one offset per target partition, and must not miss a record: it is that of the first record, over all
//! sources, that the group has not read yet. What lies behind it and was read already is read again, and counted.

use super::options::OutOfRange;
use super::plan::{Blocked, Reason, Row, Why};
use super::resolve::{At, SourcePartition, SourceTopic, exact};
use crate::archive::{GroupEntry, GroupOffset};
use crate::base::text::counted;
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::engine::mapping::Mapping;
use std::collections::{BTreeMap, BTreeSet};

/// Records of one source partition in a target partition.
#[derive(Clone, Copy)]
pub(super) struct Contribution<'a> {
    pub topic: &'a SourceTopic,
    pub route: &'a SourcePartition,
}

/// Target partitions that are not one source's alone.
pub(super) struct Joined<'a> {
    pub targets: BTreeMap<TopicPartition, Vec<Contribution<'a>>>,
    sources: BTreeSet<(&'a str, PartitionId)>,
}

impl<'a> Joined<'a> {
    pub fn of(topics: &'a [SourceTopic]) -> Self {
        let mut into: BTreeMap<TopicPartition, Vec<Contribution<'a>>> = BTreeMap::new();
        let mut from: BTreeMap<(&str, &str, PartitionId), usize> = BTreeMap::new();
        for topic in topics {
            for route in &topic.partitions {
                let target =
                    TopicPartition::new(topic.target_topic.clone(), route.target_partition);
                into.entry(target)
                    .or_default()
                    .push(Contribution { topic, route });
                *from
                    .entry((&topic.topic, &topic.target_topic, route.partition))
                    .or_default() += 1;
            }
        }
        let spread = |at: &Contribution<'_>| {
            let key = (
                at.topic.topic.as_str(),
                at.topic.target_topic.as_str(),
                at.route.partition,
            );
            from.get(&key) > Some(&1)
        };
        // What shares a partition with others, and what is spread by key.
        let targets: BTreeMap<_, _> = into
            .into_iter()
            .filter(|(_, routes)| {
                routes.len() > 1 || routes.iter().any(|at| spread(at) || at.topic.by_key)
            })
            .collect();
        let sources = targets
            .values()
            .flatten()
            .map(|at| (at.topic.topic.as_str(), at.route.partition))
            .collect();
        Self { targets, sources }
    }

    /// Whether a source partition's offsets are planned here.
    pub fn holds(&self, topic: &'a str, partition: PartitionId) -> bool {
        self.sources.contains(&(topic, partition))
    }
}

/// The row of one group on one such target partition; `None` if it has committed nothing on any of its sources.
pub(super) fn row(
    group: &GroupEntry,
    target: &TopicPartition,
    contributions: &[Contribution<'_>],
    at_target: At<'_>,
    out_of_range: OutOfRange,
) -> Option<Row> {
    let commit = |at: &Contribution<'_>| {
        group.offsets.iter().find(|offset| {
            offset.topic == at.topic.topic
                && offset.partition == at.route.partition
                && offset.offset.0 >= 0
        })
    };
    // A source without a record here neither needs a commit nor has anything to say. Where only execution can tell,
    // it may have one.
    let (with_records, others): (Vec<&Contribution<'_>>, Vec<&Contribution<'_>>) =
        contributions.iter().partition(|at| {
            at.route
                .mapping
                .as_ref()
                .is_none_or(|mapping| mapping.records() > 0)
        });
    let committed: Vec<(&Contribution<'_>, &GroupOffset)> = with_records
        .iter()
        .chain(&others)
        .filter_map(|at| Some((*at, commit(at)?)))
        .collect();
    let (first, commit_of_first) = *committed.first()?;
    let now = at_target.and_then(|offsets| offsets.get(target));
    let mut row = Row {
        group: group.group.clone(),
        topic: first.topic.topic.clone(),
        partition: first.route.partition,
        target_topic: target.topic.clone(),
        target_partition: target.partition,
        committed: Some(commit_of_first.offset),
        from: now.map(|committed| committed.offset),
        target: Ok(Offset(0)),
        why: Why::Blocked,
        lag_before: None,
        lag_after: None,
        metadata: commit_of_first.metadata.clone(),
        from_metadata: now.map(|committed| committed.metadata.clone()),
    };
    let missing: Vec<String> = with_records
        .iter()
        .filter(|at| commit(at).is_none())
        .map(|at| format!("{} p{}", at.topic.topic, at.route.partition))
        .collect();
    if !missing.is_empty() {
        row.block(Blocked::new(
            Reason::NoCommit,
            format!(
                "{target} has records of {}, where {} committed nothing",
                missing.join(", "),
                group.group
            ),
            "move the group by hand once it is known what it has read, or restore the partitions one to one",
        ));
        return Some(row);
    }
    let mut here: Vec<(&Mapping, Offset, Why, &Contribution<'_>, &GroupOffset)> = Vec::new();
    for (at, offset) in &committed {
        match exact(offset, at.topic, at.route, out_of_range) {
            Ok((mapping, target, why)) => here.push((mapping, target, why, at, offset)),
            Err(blocked) => {
                row.block(blocked);
                return Some(row);
            }
        }
    }
    let unread = here
        .iter()
        .filter(|(mapping, target, ..)| *target < mapping.target_end())
        .min_by_key(|(_, target, ..)| *target);
    let (offset, why) = match unread {
        Some((_, target, why, at, commit)) => {
            row.topic.clone_from(&at.topic.topic);
            row.partition = at.route.partition;
            row.committed = Some(commit.offset);
            row.metadata.clone_from(&commit.metadata);
            (*target, why.clone())
        }
        None => {
            let ends = here.iter().map(|(mapping, ..)| mapping.target_end());
            (ends.max().unwrap_or(Offset(0)), Why::AfterLast)
        }
    };
    let lag = |from: Offset| {
        here.iter()
            .map(|(mapping, ..)| mapping.lag_from(from))
            .sum()
    };
    let own: u64 = here
        .iter()
        .map(|(mapping, target, ..)| mapping.lag_from(*target))
        .sum();
    let after: u64 = lag(offset);
    let base = here
        .iter()
        .map(|(mapping, ..)| mapping.target_base())
        .min()
        .unwrap_or(offset);
    row.lag_before = Some(lag(row.from.unwrap_or(base)));
    row.lag_after = Some(after);
    row.target = Ok(offset);
    row.why = match after.saturating_sub(own) {
        0 => why,
        records => Why::ReReads { records },
    };
    Some(row)
}

/// `re-reads 17 records`.
pub(super) fn re_reads(records: u64) -> String {
    format!("re-reads {}", counted(i128::from(records), "record"))
}
