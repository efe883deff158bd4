//! Moving live groups without a restore: what an operator says of a cluster's own groups (`earliest`, `shift-by`, …).
//!
//! The strategies and their meaning are those of Kafka's `ConsumerGroupCommand --reset-offsets`, with one difference:
//! where that tool silently takes the nearest end of the log, a row is blocked unless clamping was asked for.

use super::chunks::PER_TRANSACTION;
use super::error::{Error, Result};
use super::expiry::SOON_MINUTES;
use super::options::{Options, OutOfRange, Strategy};
use super::plan::{Blocked, Plan, Reason, Row, Skipped, Why};
use super::resolve::{At, Current};
use crate::base::text::{did_you_mean, grouped};
use crate::base::{Offset, PartitionId, Pattern, TimestampMs, TopicPartition};
use crate::kafka::{Client, ErrorCode, GroupListing, Isolation, OffsetAt, Topic, TopicsWanted};
use std::collections::{BTreeMap, BTreeSet};

const SHARE: &str = "share";

/// What was read of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    /// Every group of the cluster.
    pub groups: Vec<GroupListing>,
    /// Committed offsets of the chosen groups, and of the one that is copied.
    pub committed: Current,
    /// Whether share groups can be asked and told where they start.
    pub share_offsets: bool,
    /// Every topic of the cluster, with its partitions.
    pub topics: BTreeMap<String, Vec<PartitionId>>,
    /// Log start and high watermark of the partitions that rows are about.
    pub logs: BTreeMap<TopicPartition, (Offset, Offset)>,
    /// The first record at or after the time of the strategy; `None`: there is none.
    pub at_time: BTreeMap<TopicPartition, Option<Offset>>,
}

/// Reads the cluster and plans the selected groups. `now`: the clock of the run.
pub async fn plan_live(target: &Client, options: &Options, now: TimestampMs) -> Result<Plan> {
    let (groups, topics) =
        futures::try_join!(target.list_groups(), target.topics(TopicsWanted::All))?;
    let mut world = World {
        groups,
        ..World::default()
    };
    for topic in topics {
        if topic.error == ErrorCode::NONE {
            world.topics.insert(topic.name.clone(), partitions(&topic));
        }
    }
    let mut names: BTreeSet<String> = chosen(&world, options).into_iter().collect();
    if let Strategy::ToGroup(other) = &options.strategy {
        names.insert(other.clone());
    }
    let names: Vec<String> = names.into_iter().collect();
    if !names.is_empty() {
        world.committed = super::check::committed(target, &names).await?;
    }
    let share = world.groups.iter();
    let share = share.filter(|group| group.kind.eq_ignore_ascii_case(SHARE));
    let share: Vec<String> = share
        .map(|group| group.group.clone())
        .filter(|name| names.contains(name))
        .collect();
    if !share.is_empty() {
        match target.share_offsets(&share).await {
            Ok(found) => {
                world.share_offsets = true;
                for (group, offsets) in found {
                    match offsets {
                        Ok(offsets) => drop(world.committed.insert(group, offsets)),
                        Err(crate::kafka::Error::Unsupported { .. }) => world.share_offsets = false,
                        Err(error) => return Err(Error::Kafka(error)),
                    }
                }
            }
            Err(error) => return Err(Error::Kafka(error)),
        }
    }
    let places = places(&world, options);
    let of_log = places.iter().filter(|place| is_there(&world, place));
    let of_log: Vec<TopicPartition> = of_log.cloned().collect();
    world.logs = super::check::logs_of(&of_log, target).await?;
    if let Some(at) = options.strategy.time(now) {
        let wanted: Vec<_> = of_log
            .iter()
            .map(|place| (place.clone(), OffsetAt::AtOrAfter(at)))
            .collect();
        let found = target
            .list_offsets(&wanted, Isolation::ReadUncommitted)
            .await?;
        for (place, found) in found {
            let offset = found.map_err(Error::Kafka)?.offset;
            world
                .at_time
                .insert(place, (offset.0 >= 0).then_some(offset));
        }
    }
    let mut plan = resolve_live(&world, options, now);
    plan.target_cluster_id = target.cluster_id().to_string();
    super::behind::limit(&mut plan, target, options).await?;
    super::resolve::block_what_is_active(&mut plan, target).await?;
    let known = world
        .groups
        .iter()
        .map(|group| group.group.clone())
        .collect();
    super::expiry::note(&mut plan, &known, SOON_MINUTES, target).await?;
    Ok(plan)
}

fn partitions(topic: &Topic) -> Vec<PartitionId> {
    topic.partitions.iter().map(|one| one.id).collect()
}

fn is_there(world: &World, place: &TopicPartition) -> bool {
    let partitions = world.topics.get(&place.topic);
    partitions.is_some_and(|all| all.contains(&place.partition))
}

/// The groups that the plan is about, sorted: those of the cluster that are selected, and those named that it does not
/// have, if they are to be made.
fn chosen(world: &World, options: &Options) -> Vec<String> {
    if options.groups.include.is_empty() {
        return Vec::new();
    }
    let known = world.groups.iter().map(|group| group.group.clone());
    let mut names: BTreeSet<String> = known.filter(|name| options.groups.takes(name)).collect();
    if options.new_groups {
        for pattern in &options.groups.include {
            if let Pattern::Name(name) = pattern
                && options.groups.takes(name)
            {
                names.insert(name.clone());
            }
        }
    }
    names.into_iter().collect()
}

/// Topics that were asked for by name: every partition of them is moved, also those without a commit.
fn named_topics<'a>(world: &'a World, options: &'a Options) -> Vec<&'a str> {
    let named = options
        .topics
        .include
        .iter()
        .filter_map(|pattern| match pattern {
            Pattern::Name(name) if options.topics.takes(name) => Some(name.as_str()),
            _ => None,
        });
    named
        .filter(|name| world.topics.contains_key(*name))
        .collect()
}

/// Where a group may move, sorted: its commits on selected topics, and all partitions of topics that were named.
fn places_of<'a>(
    world: &'a World,
    options: &'a Options,
    group: &str,
) -> BTreeSet<(&'a str, PartitionId)> {
    let mut places = match &options.strategy {
        Strategy::Manual(wanted) => taken(wanted.places(group), options),
        Strategy::ToGroup(other) => taken(committed_places(world, other), options),
        _ => {
            let mut places = taken(committed_places(world, group), options);
            for topic in named_topics(world, options) {
                let partitions = world.topics[topic].iter();
                places.extend(partitions.map(|partition| (topic, *partition)));
            }
            places
        }
    };
    if !options.partitions.is_empty() {
        places.retain(|(topic, partition)| options.takes_partition(topic, *partition));
    }
    places
}

fn committed_places<'a>(
    world: &'a World,
    group: &str,
) -> impl Iterator<Item = (&'a str, PartitionId)> {
    let committed = world.committed.get(group).into_iter().flatten();
    committed.map(|(place, _)| (place.topic.as_str(), place.partition))
}

/// Those on topics that are selected; each topic is looked at once.
fn taken<'a>(
    places: impl Iterator<Item = (&'a str, PartitionId)>,
    options: &Options,
) -> BTreeSet<(&'a str, PartitionId)> {
    let mut topic = None;
    let taken = places.filter(|(name, _)| match topic {
        Some((of, taken)) if of == *name => taken,
        _ => {
            let taken = options.topics.takes(name);
            topic = Some((*name, taken));
            taken
        }
    });
    taken.collect()
}

fn places(world: &World, options: &Options) -> BTreeSet<TopicPartition> {
    let mut places = BTreeSet::new();
    for group in chosen(world, options) {
        places.extend(places_of(world, options, &group));
    }
    places
        .into_iter()
        .map(|(topic, partition)| TopicPartition::new(topic, partition))
        .collect()
}

/// The plan without a look at who is active.
pub(super) fn resolve_live(world: &World, options: &Options, now: TimestampMs) -> Plan {
    let mut rows = Vec::new();
    for group in chosen(world, options) {
        let committed = world.committed.get(&group);
        for (topic, partition) in places_of(world, options, &group) {
            let place = TopicPartition::new(topic, partition);
            rows.push(row(world, options, now, &group, &place, committed));
        }
    }
    let mut plan = Plan {
        target_cluster_id: String::new(),
        strategy: options.strategy.clone(),
        out_of_range: options.out_of_range,
        rows,
        skipped: Vec::new(),
        blocked: Vec::new(),
        active: Vec::new(),
        forced: options.force,
        expiring: None,
        share: Default::default(),
        per_transaction: options.per_transaction.unwrap_or(PER_TRANSACTION),
    };
    plan.blocked = nothing_selected(world, options, &plan);
    note_share_groups(world, &mut plan);
    if options.leave_unplaced {
        leave_unplaced(&mut plan);
    }
    plan
}

/// Rows without a target are left alone instead of blocking the others.
pub(super) fn leave_unplaced(plan: &mut Plan) {
    let (placed, left): (Vec<Row>, Vec<Row>) = std::mem::take(&mut plan.rows)
        .into_iter()
        .partition(|row| row.target.is_ok());
    plan.rows = placed;
    for row in left {
        let why = match row.target {
            Err(blocked) => blocked.what,
            Ok(_) => continue,
        };
        plan.skipped.push(Skipped {
            group: row.group,
            topic: row.target_topic,
            partitions: vec![row.target_partition],
            why,
        });
    }
}

fn row(
    world: &World,
    options: &Options,
    now: TimestampMs,
    group: &str,
    place: &TopicPartition,
    committed: At<'_>,
) -> Row {
    let current = committed.and_then(|offsets| offsets.get(place));
    let from = current.map(|committed| committed.offset);
    let mut metadata = current.map(|committed| committed.metadata.clone());
    if let Strategy::ToGroup(other) = &options.strategy {
        let other = world
            .committed
            .get(other)
            .and_then(|offsets| offsets.get(place));
        metadata = other.map(|committed| committed.metadata.clone());
    }
    let mut row = Row {
        group: group.to_string(),
        topic: place.topic.clone(),
        partition: place.partition,
        target_topic: place.topic.clone(),
        target_partition: place.partition,
        committed: from,
        from,
        target: Ok(Offset(0)),
        why: Why::Blocked,
        lag_before: None,
        lag_after: None,
        metadata: metadata.unwrap_or_default(),
        from_metadata: current.map(|committed| committed.metadata.clone()),
    };
    let Some(&(start, end)) = world.logs.get(place) else {
        row.block(Blocked::new(
            Reason::NoSuchPartition,
            format!(
                "{place}: the cluster has no such partition{}",
                from.map_or(String::new(), |at| format!(
                    "; {group} has committed {} there",
                    grouped(at.0)
                ))
            ),
            "say which topics: .topics(\"…\"); or .unplaced(\"leave\") leaves such offsets alone",
        ));
        return row;
    };
    let lag = |at: Offset| u64::try_from(end.0.saturating_sub(at.0)).unwrap_or(0);
    row.lag_before = Some(lag(from.unwrap_or(start)));
    match goal(world, options, now, group, place, from, (start, end)) {
        Ok((target, what)) => {
            row.lag_after = Some(lag(target));
            row.target = Ok(target);
            row.why = Why::Asked {
                what,
                moved: from.map(|from| target.0 - from.0),
            };
        }
        Err(blocked) => row.block(blocked),
    }
    row
}

/// Where the strategy sends a row, and in which words.
fn goal(
    world: &World,
    options: &Options,
    now: TimestampMs,
    group: &str,
    place: &TopicPartition,
    from: Option<Offset>,
    (start, end): (Offset, Offset),
) -> std::result::Result<(Offset, String), Blocked> {
    let nothing = || {
        Blocked::new(
            Reason::NoCommit,
            format!("{place}: {group} has committed nothing there"),
            "another strategy, or .unplaced(\"leave\") leaves such partitions alone",
        )
    };
    let (target, what) = match &options.strategy {
        Strategy::Earliest => return Ok((start, "the oldest record".into())),
        Strategy::Latest => return Ok((end, "the end of the log".into())),
        Strategy::ToCurrent => match from {
            Some(at) => (at, "where it is".to_string()),
            None => return Ok((end, "the end of the log: it has committed nothing".into())),
        },
        Strategy::ToOffset(at) => (*at, "as asked".to_string()),
        Strategy::ShiftBy(by) => {
            let at = from.ok_or_else(nothing)?;
            (
                Offset(at.0.saturating_add(*by)),
                format!("{by:+} from {}", grouped(at.0)),
            )
        }
        Strategy::ToDatetime(_) | Strategy::ByDuration(_) => {
            let at = options.strategy.time(now).unwrap_or(now);
            let at = crate::base::time::format_instant(at);
            return Ok(match world.at_time.get(place).copied().flatten() {
                Some(found) => (found, format!("the first record at or after {at}")),
                None => (
                    end,
                    format!("the end of the log: no record is at or after {at}"),
                ),
            });
        }
        Strategy::ToGroup(other) => {
            let of_other = world
                .committed
                .get(other)
                .and_then(|offsets| offsets.get(place));
            let at = of_other.ok_or_else(nothing)?.offset;
            (at, format!("where {other} is"))
        }
        Strategy::Manual(wanted) => match wanted.of(group, place) {
            Some(at) => (at, format!("as {} says", wanted.origin())),
            None => return Err(nothing()),
        },
        Strategy::Skip => {
            let at = from.ok_or_else(nothing)?;
            return Ok((at, "left where it is".into()));
        }
        Strategy::Exact
        | Strategy::Preserve
        | Strategy::Header
        | Strategy::Timestamp
        | Strategy::ClusterScan
        | Strategy::Back(_) => {
            return Err(Blocked::new(
                Reason::NoMapping,
                format!("{place}: no restore tells where its records went"),
                "plan from the restore: offset_plan(restored); or from another cluster or a snapshot onto this one with \
                 .onto(…); or choose another strategy",
            ));
        }
    };
    if (start..=end).contains(&target) {
        return Ok((target, what));
    }
    let (side, nearest, reason) = match target < start {
        true => ("before the log's start", start, Reason::BeforeLog),
        false => ("beyond the log's end", end, Reason::BeyondLog),
    };
    match options.out_of_range {
        OutOfRange::Clamp => Ok((
            nearest,
            format!("{what}, clamped: {} lies {side}", grouped(target.0)),
        )),
        OutOfRange::Block => Err(Blocked::new(
            reason,
            format!(
                "{place}: {} lies {side} {}",
                grouped(target.0),
                grouped(nearest.0)
            ),
            "choose an offset within the log, or say .out_of_range(\"clamp\") to take its nearest end",
        )),
    }
}

/// A selection that takes nothing must not pass for a reset that succeeded.
fn nothing_selected(world: &World, options: &Options, plan: &Plan) -> Vec<Blocked> {
    let known: Vec<&str> = world
        .groups
        .iter()
        .map(|group| group.group.as_str())
        .collect();
    if options.groups.include.is_empty() {
        return vec![Blocked::new(
            Reason::NothingSelected,
            "no group is chosen: a reset of live groups names them".to_string(),
            "say which: .groups(\"checkout-*\")",
        )];
    }
    let mut blocked = Vec::new();
    for pattern in options.groups.unmatched(&known) {
        let text = pattern.text();
        if options.new_groups && matches!(pattern, Pattern::Name(_)) {
            continue;
        }
        let meant = did_you_mean(text, known.iter().copied());
        let what = match meant {
            Some(near) => format!("no group is called {text}; did you mean {near}?"),
            None => format!("no group matches {text}"),
        };
        let hint = "kbr groups NAME lists them; .new_groups(true) makes one that is not there";
        blocked.push(Blocked::new(Reason::NothingSelected, what, hint));
    }
    let names: Vec<&str> = world.topics.keys().map(String::as_str).collect();
    for pattern in &options.topics.include {
        if let Pattern::Name(name) = pattern
            && !names.contains(&name.as_str())
        {
            let meant = did_you_mean(name, names.iter().copied());
            blocked.push(Blocked::new(
                Reason::NothingSelected,
                match meant {
                    Some(near) => format!("there is no topic {name}; did you mean {near}?"),
                    None => format!("there is no topic {name}"),
                },
                "check the topics of the offset plan",
            ));
        }
    }
    if let Strategy::ToGroup(other) = &options.strategy
        && !known.contains(&other.as_str())
    {
        let meant = did_you_mean(other, known.iter().copied());
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            match meant {
                Some(near) => format!("there is no group {other} to go by; did you mean {near}?"),
                None => format!("there is no group {other} to go by"),
            },
            None,
        ));
    }
    if plan.rows.is_empty() && blocked.is_empty() {
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            "no selected group has a committed offset on a selected topic".to_string(),
            "name the topics: then all of their partitions are moved",
        ));
    }
    blocked
}

/// The share groups that rows are about; on brokers that cannot be told where they start they are in the way.
fn note_share_groups(world: &World, plan: &mut Plan) {
    let chosen: BTreeSet<&str> = plan.rows.iter().map(|row| row.group.as_str()).collect();
    let share = world.groups.iter().filter(|group| {
        group.kind.eq_ignore_ascii_case(SHARE) && chosen.contains(group.group.as_str())
    });
    for group in share {
        plan.share.insert(group.group.clone());
        if !world.share_offsets {
            plan.blocked.push(Blocked::new(
                Reason::ShareGroup,
                format!(
                    "{} is a share group, which this cluster moves for nobody (Kafka 4.2 does)",
                    group.group
                ),
                "leave it out with .exclude(…)",
            ));
        }
    }
}

impl Options {
    pub(in crate::engine) fn takes_partition(&self, topic: &str, partition: PartitionId) -> bool {
        self.partitions
            .iter()
            .all(|(topics, partitions)| !topics.matches(topic) || partitions.contains(partition))
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
