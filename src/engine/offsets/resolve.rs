//! Making the offset plan: the archive's committed offsets through the restore's mapping.

use super::check::{ActiveGroup, active_groups};
use super::chunks::PER_TRANSACTION;
use super::error::{Error, Result};
use super::expiry::SOON_MINUTES;
use super::joined::{self, Joined};
use super::options::{Options, OutOfRange, Strategy};
use super::plan::{Blocked, Plan, Reason, Row, Skipped, Why};
use super::renamed::Renamed;
use crate::archive::{GroupEntry, GroupOffset};
use crate::base::text::grouped;
use crate::base::{Offset, PartitionId, PartitionSet, TopicId, TopicPartition};
use crate::engine::mapping::{How, Mapping};
use crate::engine::restore::{Routing, WriteTopic};
use crate::kafka::{Client, Committed};
use std::collections::{BTreeMap, BTreeSet};

/// What coordinators take unless told otherwise (`offset.metadata.max.bytes`).
const LONGEST_METADATA: usize = 4096;

const NOT_RESTORED: &str = "not part of this restore";
pub(super) const LEFT_ALONE: &str = "left where it is, as asked";
pub(super) const NOT_SELECTED: &str = "topic not selected";

/// What the offsets are planned from: a snapshot's groups and a restore's topics.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub groups: Vec<GroupEntry>,
    pub topics: Vec<SourceTopic>,
    /// Names of groups at the target, where they are others.
    pub renamed: Renamed,
}

/// One restored topic.
#[derive(Clone, Debug)]
pub struct SourceTopic {
    pub topic: String,
    /// Nil if not known.
    pub topic_id: TopicId,
    pub target_topic: String,
    /// Whether each record went where its key says.
    pub by_key: bool,
    /// What of each source partition went into which target partition.
    pub partitions: Vec<SourcePartition>,
    /// Partitions that the archive holds and that were not to be restored.
    pub left_out: PartitionSet,
}

/// One way of a restore.
#[derive(Clone, Debug)]
pub struct SourcePartition {
    pub partition: PartitionId,
    pub target_partition: PartitionId,
    /// Where the archive begins; records before it were gone at the source before they could be read.
    pub log_start: Offset,
    /// The end of what the archive holds (exclusive).
    pub to: Offset,
    /// `None`: only execution can tell where each record goes.
    pub mapping: Option<Mapping>,
}

impl From<&WriteTopic> for SourceTopic {
    /// As planned: the mapping is the predicted one, which execution must reproduce.
    fn from(write: &WriteTopic) -> Self {
        Self {
            topic: write.source_topic.clone(),
            topic_id: write.source_topic_id,
            target_topic: write.topic.clone(),
            by_key: matches!(write.routing, Routing::Key { .. }),
            left_out: write.left_out.clone(),
            partitions: write
                .partitions
                .iter()
                .map(|partition| SourcePartition {
                    partition: partition.source,
                    target_partition: partition.target,
                    log_start: partition.archived_from,
                    to: partition.archived_to,
                    mapping: partition.mapping.clone(),
                })
                .collect(),
        }
    }
}

/// Committed offsets of the target's groups.
pub(super) type Current = BTreeMap<String, BTreeMap<TopicPartition, Committed>>;

/// Those of one group, if it has any.
pub(super) type At<'a> = Option<&'a BTreeMap<TopicPartition, Committed>>;

/// Reads the target's groups and plans every committed offset of the selected groups.
pub async fn plan(source: &Source, target: &Client, options: &Options) -> Result<Plan> {
    if !matches!(options.strategy, Strategy::Exact | Strategy::Skip) {
        return Err(Error::ForLiveGroups {
            name: options.strategy.name(),
        });
    }
    let names: Vec<String> = source
        .groups
        .iter()
        .filter(|group| options.groups.takes(&group.group))
        .map(|group| source.renamed.of(&group.group).to_string())
        .collect();
    let mut current = Current::new();
    let mut described = Vec::new();
    if !names.is_empty() {
        for (group, committed) in target.committed_offsets(&names, true).await? {
            current.insert(group, committed?);
        }
        for (_, description) in target.describe_groups(&names).await? {
            described.push(description?);
        }
    }
    let mut plan = resolve(source, &current, options);
    plan.target_cluster_id = target.cluster_id().to_string();
    super::behind::limit(&mut plan, target, options).await?;
    let active = active_groups(&described, &topics_by_group(&plan));
    block_active(&mut plan, active);
    let known = target.list_groups().await?.into_iter();
    let known = known.map(|group| group.group).collect();
    // A failover's consumers start right behind it: only what is shorter than usual is worth a word.
    super::expiry::note(&mut plan, &known, SOON_MINUTES - 1, target).await?;
    Ok(plan)
}

/// Blocks the rows of groups whose members read what they would be moved on.
pub(super) async fn block_what_is_active(plan: &mut Plan, target: &Client) -> Result<()> {
    let names = plan.group_names();
    if names.is_empty() {
        return Ok(());
    }
    let mut described = Vec::new();
    for (_, description) in target.describe_groups(&names).await? {
        described.push(description?);
    }
    let active = active_groups(&described, &topics_by_group(plan));
    block_active(plan, active);
    Ok(())
}

/// The target topics that each group of the plan would be moved on.
pub(super) fn topics_by_group(plan: &Plan) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut topics: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (group, topic, _) in plan.lines() {
        topics.entry(group).or_default().insert(topic);
    }
    topics
}

fn block_active(plan: &mut Plan, active: Vec<ActiveGroup>) {
    // No broker moves a share group that somebody is in.
    let share = plan.share.clone();
    let refused = |group: &&ActiveGroup| !plan.forced || share.contains(&group.group);
    for group in active.iter().filter(refused).cloned().collect::<Vec<_>>() {
        for row in &mut plan.rows {
            if row.group == group.group && group.reads.contains(&row.target_topic) {
                row.block(Blocked::new(
                    Reason::GroupActive,
                    format!("group {} is active: {}", group.group, group.members_text()),
                    "its next commit would overwrite the reset unseen: stop the consumers and run the same \
                     command again; or reset only topics they do not read",
                ));
            }
        }
    }
    plan.active = active;
}

/// The plan without a look at who is active. `current`: what the groups have committed at the target.
pub(super) fn resolve(source: &Source, current: &Current, options: &Options) -> Plan {
    let topics: BTreeMap<&str, Vec<&SourceTopic>> =
        source.topics.iter().fold(BTreeMap::new(), |mut by, topic| {
            by.entry(topic.topic.as_str()).or_default().push(topic);
            by
        });
    let joined = Joined::of(&source.topics);
    let mut rows = Vec::new();
    let mut skipped = Skips::default();
    for group in &source.groups {
        if !options.groups.takes(&group.group) {
            continue;
        }
        let group = &source.renamed.at_target(group);
        let at_target = current.get(&group.group);
        for offset in &group.offsets {
            // The coordinator takes −1 for "nothing committed".
            if offset.offset.0 < 0 {
                continue;
            }
            if !options.topics.takes(&offset.topic) {
                skipped.add(group, offset, NOT_SELECTED);
                continue;
            }
            if options.strategy == Strategy::Skip {
                skipped.add(group, offset, LEFT_ALONE);
                continue;
            }
            let mut found = false;
            for topic in topics.get(offset.topic.as_str()).into_iter().flatten() {
                let partition = topic
                    .partitions
                    .iter()
                    .find(|partition| partition.partition == offset.partition);
                found = true;
                if partition.is_none() && topic.left_out.contains(offset.partition) {
                    skipped.add(group, offset, NOT_RESTORED);
                    continue;
                }
                if joined.holds(&topic.topic, offset.partition) {
                    continue;
                }
                rows.push(match partition {
                    Some(partition) => row(group, offset, topic, partition, at_target, options),
                    None => not_archived(group, offset, topic, at_target),
                });
            }
            if !found {
                skipped.add(group, offset, NOT_RESTORED);
            }
        }
        if options.strategy == Strategy::Skip {
            continue;
        }
        for (target, contributions) in &joined.targets {
            let wanted = |at: &&joined::Contribution<'_>| options.topics.takes(&at.topic.topic);
            let chosen: Vec<_> = contributions.iter().filter(wanted).copied().collect();
            rows.extend(joined::row(
                group,
                target,
                &chosen,
                at_target,
                options.out_of_range,
            ));
        }
    }
    rows.sort_by(|a, b| place(a).cmp(&place(b)));
    let mut plan = Plan {
        target_cluster_id: String::new(),
        strategy: options.strategy.clone(),
        out_of_range: options.out_of_range,
        rows,
        skipped: skipped.finish(),
        blocked: Vec::new(),
        active: Vec::new(),
        forced: options.force,
        expiring: None,
        share: Default::default(),
        per_transaction: options.per_transaction.unwrap_or(PER_TRANSACTION),
    };
    plan.blocked = nothing_selected(source, options, &plan);
    let chosen = source.groups.iter().map(|group| group.group.as_str());
    let chosen = chosen.filter(|name| options.groups.takes(name));
    plan.blocked.extend(source.renamed.collisions(chosen));
    if options.leave_unplaced {
        super::live::leave_unplaced(&mut plan);
    }
    plan
}

/// What rows are sorted by.
pub(super) fn place(row: &Row) -> (&str, &str, PartitionId, &str, PartitionId) {
    (
        &row.group,
        &row.topic,
        row.partition,
        &row.target_topic,
        row.target_partition,
    )
}

/// A selection that takes nothing must not pass for a reset that succeeded.
fn nothing_selected(source: &Source, options: &Options, plan: &Plan) -> Vec<Blocked> {
    let names: Vec<&str> = source.groups.iter().map(|g| g.group.as_str()).collect();
    let mut blocked: Vec<Blocked> = options
        .groups
        .unmatched(&names)
        .into_iter()
        .map(|pattern| {
            Blocked::new(
                Reason::NothingSelected,
                format!("no group in the archive matches {}", pattern.text()),
                "archive.latest().groups() lists them",
            )
        })
        .collect();
    let skips = options.strategy == Strategy::Skip && !plan.skipped.is_empty();
    if plan.rows.is_empty() && blocked.is_empty() && !skips {
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            "no selected group has a committed offset on a restored topic".to_string(),
            "check the topics of the restore and the groups of the offset plan",
        ));
    }
    blocked
}

fn row(
    group: &GroupEntry,
    offset: &GroupOffset,
    topic: &SourceTopic,
    partition: &SourcePartition,
    at_target: At<'_>,
    options: &Options,
) -> Row {
    let target = TopicPartition::new(topic.target_topic.clone(), partition.target_partition);
    let now = at_target.and_then(|offsets| offsets.get(&target));
    let mut row = Row {
        group: group.group.clone(),
        topic: topic.topic.clone(),
        partition: partition.partition,
        target_topic: target.topic,
        target_partition: target.partition,
        committed: Some(offset.offset),
        from: now.map(|committed| committed.offset),
        target: Ok(Offset(0)),
        why: Why::Blocked,
        lag_before: None,
        lag_after: None,
        metadata: offset.metadata.clone(),
        from_metadata: now.map(|committed| committed.metadata.clone()),
    };
    if let Some(mapping) = &partition.mapping {
        // Without a commit it would read everything, or nothing: the former is what there is to lose.
        row.lag_before = Some(mapping.lag_from(row.from.unwrap_or(mapping.target_base())));
    }
    match exact(offset, topic, partition, options.out_of_range) {
        Ok((mapping, target, why)) => {
            row.lag_after = Some(mapping.lag_from(target));
            row.target = Ok(target);
            row.why = why;
        }
        Err(blocked) => row.block(blocked),
    }
    row
}

/// The topic is restored, but the archive has nothing of this partition: a run could not read it, or it is newer.
fn not_archived(
    group: &GroupEntry,
    offset: &GroupOffset,
    topic: &SourceTopic,
    at_target: At<'_>,
) -> Row {
    let target = TopicPartition::new(topic.target_topic.clone(), offset.partition);
    let now = at_target.and_then(|offsets| offsets.get(&target));
    Row {
        group: group.group.clone(),
        topic: topic.topic.clone(),
        partition: offset.partition,
        target_topic: target.topic,
        target_partition: target.partition,
        committed: Some(offset.offset),
        from: now.map(|committed| committed.offset),
        target: Err(Blocked::new(
            Reason::NotYetArchived,
            format!(
                "{} p{}: committed {}, but the archive holds nothing of this partition",
                topic.topic,
                offset.partition,
                grouped(offset.offset.0)
            ),
            "take a backup now (kbr run backup.rhai --execute)",
        )),
        why: Why::Blocked,
        lag_before: None,
        lag_after: None,
        metadata: offset.metadata.clone(),
        from_metadata: now.map(|committed| committed.metadata.clone()),
    }
}

/// Whether a commit can be carried over at all: it belongs to this very topic, and brokers take its metadata.
pub(super) fn fit(offset: &GroupOffset, topic_id: TopicId, place: &str) -> Result<(), Blocked> {
    let committed = offset.offset;
    if let Some(id) = offset.topic_id
        && !id.is_nil()
        && !topic_id.is_nil()
        && id != topic_id
    {
        return Err(Blocked::new(
            Reason::OtherIncarnation,
            format!(
                "{place}: committed {} belongs to another topic of that name (id {id})",
                grouped(committed.0)
            ),
            "take a backup now (kbr run backup.rhai --execute)",
        ));
    }
    if offset.metadata.len() > LONGEST_METADATA {
        return Err(Blocked::new(
            Reason::MetadataTooLong,
            format!(
                "{place}: its commit carries {} bytes of metadata, more than brokers take ({LONGEST_METADATA})",
                grouped(offset.metadata.len() as i64)
            ),
            None,
        ));
    }
    Ok(())
}

/// The end of the archived range to which a commit outside of it is moved, if that is allowed; `None` if it lies within.
pub(super) fn clamped(
    committed: Offset,
    (start, end): (Offset, Offset),
    place: &str,
    out_of_range: OutOfRange,
) -> Result<Option<Offset>, Blocked> {
    let (to, reason, what, hint) = if committed > end {
        (
            end,
            Reason::NotYetArchived,
            format!(
                "{place}: committed {} is not in the archive yet (ends at {})",
                grouped(committed.0),
                grouped(end.0)
            ),
            "take a backup now (kbr run backup.rhai --execute), or say .out_of_range(\"clamp\")",
        )
    } else if committed < start {
        (
            start,
            Reason::BeforeArchive,
            format!(
                "{place}: committed {} lies before the source's log start {}",
                grouped(committed.0),
                grouped(start.0)
            ),
            "retention had removed what it would have read next; \
             say .out_of_range(\"clamp\") to go on with the oldest record there is",
        )
    } else {
        return Ok(None);
    };
    match out_of_range {
        OutOfRange::Block => Err(Blocked::new(reason, what, hint)),
        OutOfRange::Clamp => Ok(Some(to)),
    }
}

pub(super) fn exact<'m>(
    offset: &GroupOffset,
    topic: &SourceTopic,
    partition: &'m SourcePartition,
    out_of_range: OutOfRange,
) -> Result<(&'m Mapping, Offset, Why), Blocked> {
    let committed = offset.offset;
    let place = format!("{} p{}", topic.topic, partition.partition);
    fit(offset, topic.topic_id, &place)?;
    let Some(mapping) = &partition.mapping else {
        return Err(Blocked::new(
            Reason::KnownAfterExecution,
            format!("{place}: where its records go is known only after execution"),
            "raise the restore's scan budget, so that the plan reads what the filter or time bound cuts",
        ));
    };
    let archived = (partition.log_start, partition.to);
    if let Some(to) = clamped(committed, archived, &place, out_of_range)? {
        let target = match to == partition.to {
            true => mapping.target_end(),
            false => mapping.translate(to).offset,
        };
        return Ok((mapping, target, Why::Clamped { to }));
    }
    let translated = mapping.translate(committed);
    let why = match translated.how {
        How::SameRecord => Why::SameRecord,
        How::NextRestored { source } => Why::NextRestored { source },
        How::AfterLast => Why::AfterLast,
    };
    Ok((mapping, translated.offset, why))
}

#[derive(Default)]
pub(super) struct Skips(BTreeMap<(String, String, &'static str), Vec<PartitionId>>);

impl Skips {
    pub(super) fn add(&mut self, group: &GroupEntry, offset: &GroupOffset, why: &'static str) {
        self.0
            .entry((group.group.clone(), offset.topic.clone(), why))
            .or_default()
            .push(offset.partition);
    }

    pub(super) fn finish(self) -> Vec<Skipped> {
        self.0
            .into_iter()
            .map(|((group, topic, why), mut partitions)| {
                partitions.sort();
                Skipped {
                    group,
                    topic,
                    partitions,
                    why: why.to_string(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
