//! Committed offsets of an archive or of another cluster onto topics that are there already, without the mapping of the
//! restore that made them.
//!
//! Every strategy finds a place and says how sure it is; what it cannot tell is a blocked row. None goes past a record that
//! the group has not read and that the target holds: where only a bound is known, it is the lower one.

mod header;
mod log;
mod neighbours;
mod preserve;
mod samples;
mod scan;
mod search;
mod sorted;
mod times;
mod timestamp;

use super::check::{committed, logs_of};
use super::chunks::PER_TRANSACTION;
use super::error::{Error, Result};
use super::expiry::SOON_MINUTES;
use super::live::leave_unplaced;
use super::options::{Options, OutOfRange, Strategy};
use super::plan::{Blocked, Plan, Reason, Row, Why};
use super::renamed::Renamed;
use super::resolve::{self, Current, LEFT_ALONE, NOT_SELECTED, Skips};
use crate::archive::{GroupEntry, GroupOffset, Snapshot};
use crate::base::size::format_bytes;
use crate::base::text::{did_you_mean, grouped};
use crate::base::{Offset, PartitionId, TopicId, TopicPartition};
use crate::engine::restore::TopicRemap;
use crate::kafka::{Client, ErrorCode, Isolation, OffsetAt, TopicsWanted};
use log::{Log, Look};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions that are read at a time: each has an answer or a block in memory.
const AT_ONCE: usize = 4;
/// A target partition of so many offsets is read as a whole: then it is known that no other place is as good.
const SMALL: i64 = 1_000_000;

/// Where groups, their offsets and the records around them are read.
#[derive(Clone)]
pub enum From {
    Archive(Snapshot),
    Cluster(Client),
}

/// What is to go onto another cluster, and under which names.
#[derive(Clone)]
pub struct Translation {
    pub from: From,
    /// Topics.
    pub remap: Option<Arc<dyn TopicRemap>>,
    pub rename_groups: Option<Arc<dyn TopicRemap>>,
}

/// A committed offset that is to get a place at the target.
#[derive(Clone, Debug)]
struct Piece {
    /// As it is called at the target.
    group: String,
    /// As it is called at the source.
    source_group: String,
    offset: GroupOffset,
    target_topic: String,
}

/// What the source has of a partition: `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    topic_id: TopicId,
    from: Offset,
    to: Offset,
    /// How many the topic has.
    partitions: usize,
}

/// What was read of both sides before any record was.
struct World {
    /// What the groups have committed at the target.
    current: Current,
    /// Partitions of the target's topics that are there.
    topics: BTreeMap<String, Vec<PartitionId>>,
    /// Log start and high watermark at the target.
    logs: BTreeMap<TopicPartition, (Offset, Offset)>,
    /// Where what is committed at the target ends: what an open transaction has written is no record yet.
    stable: BTreeMap<TopicPartition, Offset>,
    ranges: BTreeMap<TopicPartition, Range>,
    archived: bool,
}

/// A place at the target.
struct Placed {
    target: Offset,
    why: Why,
}

/// Plans every committed offset of the selected groups onto the target.
pub async fn plan_onto(
    translation: &Translation,
    target: &Client,
    options: &Options,
) -> Result<Plan> {
    use Strategy::{ClusterScan, Exact, Header, Preserve, Skip, Timestamp};
    if !matches!(
        options.strategy,
        Exact | Skip | Preserve | Header | Timestamp | ClusterScan
    ) {
        return Err(Error::NotOnto {
            name: options.strategy.name(),
        });
    }
    let groups = translation.groups(options).await?;
    let chosen: Vec<&GroupEntry> = groups
        .iter()
        .filter(|group| options.groups.takes(&group.group))
        .collect();
    let names = || chosen.iter().map(|group| group.group.as_str());
    let renamed = match &translation.rename_groups {
        Some(rule) => Renamed::by(&**rule, names())?,
        None => Renamed::default(),
    };
    let mut skips = Skips::default();
    let pieces = translation.pieces(&chosen, &renamed, options, &mut skips)?;
    let world = translation.world(&pieces, target).await?;
    let rows = match options.strategy {
        Preserve => preserve::rows(translation, &world, &pieces, target, options).await?,
        Header => header::rows(translation, &world, &pieces, target, options).await?,
        Timestamp => timestamp::rows(translation, &world, &pieces, target, options).await?,
        ClusterScan => scan::rows(translation, &world, &pieces, target, options).await?,
        _ => each(&world, &pieces, |piece, _| Err(no_mapping(piece))),
    };
    let mut plan = Plan {
        target_cluster_id: target.cluster_id().to_string(),
        strategy: options.strategy.clone(),
        out_of_range: options.out_of_range,
        rows,
        skipped: skips.finish(),
        blocked: Vec::new(),
        active: Vec::new(),
        share: Default::default(),
        forced: options.force,
        expiring: None,
        per_transaction: options.per_transaction.unwrap_or(PER_TRANSACTION),
    };
    plan.rows
        .sort_by(|a, b| resolve::place(a).cmp(&resolve::place(b)));
    block_same_targets(&mut plan);
    plan.blocked = nothing_selected(&groups, options, &plan);
    plan.blocked.extend(renamed.collisions(names()));
    super::behind::limit(&mut plan, target, options).await?;
    if options.leave_unplaced {
        leave_unplaced(&mut plan);
    }
    resolve::block_what_is_active(&mut plan, target).await?;
    let known = target.list_groups().await?.into_iter();
    let known = known.map(|group| group.group).collect();
    // Its consumers start right behind it: only what is shorter than usual is worth a word.
    super::expiry::note(&mut plan, &known, SOON_MINUTES - 1, target).await?;
    Ok(plan)
}

impl Translation {
    async fn groups(&self, options: &Options) -> Result<Vec<GroupEntry>> {
        let client = match &self.from {
            From::Archive(snapshot) => return Ok(snapshot.groups().await?.groups),
            From::Cluster(client) => client,
        };
        // Which there are must be known for a name that none has.
        let listed = client.list_groups().await?;
        let names: Vec<String> = listed
            .iter()
            .map(|group| group.group.clone())
            .filter(|name| !options.groups.include.is_empty() && options.groups.takes(name))
            .collect();
        let mut offsets = match names.is_empty() {
            true => Current::new(),
            false => committed(client, &names).await?,
        };
        let entries = listed.into_iter().map(|listing| GroupEntry {
            offsets: offsets
                .remove(&listing.group)
                .unwrap_or_default()
                .into_iter()
                .map(|(at, committed)| GroupOffset {
                    topic: at.topic,
                    topic_id: None,
                    partition: at.partition,
                    offset: committed.offset,
                    leader_epoch: None,
                    metadata: committed.metadata,
                })
                .collect(),
            group: listing.group,
            state: listing.state,
            protocol_type: listing.protocol_type,
            kind: listing.kind,
        });
        Ok(entries.collect())
    }

    fn pieces(
        &self,
        chosen: &[&GroupEntry],
        renamed: &Renamed,
        options: &Options,
        skips: &mut Skips,
    ) -> Result<Vec<Piece>> {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut pieces = Vec::new();
        for group in chosen {
            let source_group = &group.group;
            let group = renamed.at_target(group);
            for offset in &group.offsets {
                // The coordinator takes −1 for "nothing committed".
                if offset.offset.0 < 0 {
                    continue;
                }
                let at = TopicPartition::new(offset.topic.clone(), offset.partition);
                if !options.topics.takes(&at.topic)
                    || !options.takes_partition(&at.topic, at.partition)
                {
                    skips.add(&group, offset, NOT_SELECTED);
                    continue;
                }
                if options.strategy == Strategy::Skip {
                    skips.add(&group, offset, LEFT_ALONE);
                    continue;
                }
                if !names.contains_key(&at.topic) {
                    let name = match &self.remap {
                        Some(rule) => rule.target(&at.topic).map_err(|source| Error::Rename {
                            name: at.topic.clone(),
                            source,
                        })?,
                        None => at.topic.clone(),
                    };
                    names.insert(at.topic.clone(), name);
                }
                pieces.push(Piece {
                    group: group.group.clone(),
                    source_group: source_group.clone(),
                    target_topic: names[&at.topic].clone(),
                    offset: offset.clone(),
                });
            }
        }
        Ok(pieces)
    }

    async fn world(&self, pieces: &[Piece], target: &Client) -> Result<World> {
        let groups: BTreeSet<String> = pieces.iter().map(|piece| piece.group.clone()).collect();
        let wanted: BTreeSet<&str> = pieces
            .iter()
            .map(|piece| piece.target_topic.as_str())
            .collect();
        let mut world = World {
            current: Current::new(),
            topics: BTreeMap::new(),
            logs: BTreeMap::new(),
            stable: BTreeMap::new(),
            ranges: self.ranges(pieces).await?,
            archived: matches!(self.from, From::Archive(_)),
        };
        if !groups.is_empty() {
            let groups: Vec<String> = groups.into_iter().collect();
            world.current = committed(target, &groups).await?;
        }
        for topic in target.topics(TopicsWanted::All).await? {
            if topic.error == ErrorCode::NONE && wanted.contains(topic.name.as_str()) {
                let partitions = topic.partitions.iter().map(|one| one.id).collect();
                world.topics.insert(topic.name, partitions);
            }
        }
        let all: Vec<TopicPartition> = world
            .topics
            .iter()
            .flat_map(|(topic, ids)| ids.iter().map(|id| TopicPartition::new(topic.clone(), *id)))
            .collect();
        world.logs = logs_of(&all, target).await?;
        world.stable = stable_ends(&all, target).await?;
        Ok(world)
    }

    /// What the source has of each partition of the topics that were committed on.
    async fn ranges(&self, pieces: &[Piece]) -> Result<BTreeMap<TopicPartition, Range>> {
        let wanted: BTreeSet<&str> = pieces.iter().map(|one| one.offset.topic.as_str()).collect();
        let mut ranges = BTreeMap::new();
        match &self.from {
            From::Archive(snapshot) => {
                let topics = wanted.into_iter().filter_map(|name| snapshot.topic(name));
                for topic in topics {
                    for partition in &topic.partitions {
                        let at = TopicPartition::new(topic.name.clone(), partition.partition);
                        let range = Range {
                            topic_id: topic.id,
                            from: partition.from,
                            to: partition.to,
                            partitions: usize::try_from(topic.partition_count).unwrap_or(0),
                        };
                        ranges.insert(at, range);
                    }
                }
            }
            From::Cluster(client) => {
                let mut there: BTreeMap<TopicPartition, (TopicId, usize)> = BTreeMap::new();
                for topic in client.topics(TopicsWanted::All).await? {
                    if topic.error == ErrorCode::NONE && wanted.contains(topic.name.as_str()) {
                        for partition in &topic.partitions {
                            let at = TopicPartition::new(topic.name.clone(), partition.id);
                            there.insert(at, (topic.id, topic.partitions.len()));
                        }
                    }
                }
                let all: Vec<TopicPartition> = there.keys().cloned().collect();
                let mut stable = stable_ends(&all, client).await?;
                for (at, (from, to)) in logs_of(&all, client).await? {
                    let to = stable.remove(&at).unwrap_or(to);
                    let (topic_id, partitions) = there.get(&at).copied().unwrap_or_default();
                    let range = Range {
                        topic_id,
                        from,
                        to,
                        partitions,
                    };
                    ranges.insert(at, range);
                }
            }
        }
        Ok(ranges)
    }

    /// The source's records of a partition.
    fn log(&self, at: &TopicPartition) -> Log {
        match &self.from {
            From::Archive(snapshot) => Log::Archive(snapshot.clone(), at.clone()),
            From::Cluster(client) => Log::Live(client.clone(), at.clone()),
        }
    }

    /// The source's id, if it is known.
    fn cluster_id(&self) -> &str {
        match &self.from {
            From::Archive(snapshot) => snapshot.source_cluster_id(),
            From::Cluster(client) => client.cluster_id(),
        }
    }
}

/// Last stable offsets.
async fn stable_ends(
    partitions: &[TopicPartition],
    client: &Client,
) -> Result<BTreeMap<TopicPartition, Offset>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<_> = partitions
        .iter()
        .map(|at| (at.clone(), OffsetAt::Latest))
        .collect();
    let found = client
        .list_offsets(&wanted, Isolation::ReadCommitted)
        .await?;
    let mut ends = BTreeMap::new();
    for (at, found) in found {
        ends.insert(at, found?.offset);
    }
    Ok(ends)
}

impl Piece {
    fn source(&self) -> TopicPartition {
        TopicPartition::new(self.offset.topic.clone(), self.offset.partition)
    }

    /// `orders p3`
    fn place(&self) -> String {
        format!("{} p{}", self.offset.topic, self.offset.partition)
    }
}

impl World {
    /// The row of a piece on a partition of its target topic, without a target yet.
    fn row(&self, piece: &Piece, partition: PartitionId) -> Row {
        let at = TopicPartition::new(piece.target_topic.clone(), partition);
        let of_group = self.current.get(&piece.group);
        let now = of_group.and_then(|offsets| offsets.get(&at));
        let from = now.map(|committed| committed.offset);
        Row {
            group: piece.group.clone(),
            topic: piece.offset.topic.clone(),
            partition: piece.offset.partition,
            target_topic: piece.target_topic.clone(),
            target_partition: partition,
            committed: Some(piece.offset.offset),
            from,
            target: Ok(Offset(0)),
            why: Why::Blocked,
            lag_before: self
                .logs
                .get(&at)
                .map(|(start, end)| lag(*end, from.unwrap_or(*start))),
            lag_after: None,
            metadata: piece.offset.metadata.clone(),
            from_metadata: now.map(|committed| committed.metadata.clone()),
        }
    }

    /// Where the log of a row's partition at the target begins and ends; blocked if it is not there.
    fn target_log(&self, row: &Row) -> Result<(Offset, Offset), Blocked> {
        let at = row.target_partition();
        self.logs.get(&at).copied().ok_or_else(|| {
            Blocked::new(
                Reason::NoSuchPartition,
                match self.topics.contains_key(&at.topic) {
                    true => format!("{at}: the target's topic has no such partition"),
                    false => format!("{at}: the target has no such topic"),
                },
                "restore the topic first, say what it is called there with .remap(…), or leave such offsets with \
                 .unplaced(\"leave\")",
            )
        })
    }

    /// Whether a commit can be carried over, and the offset that it stands for: itself, or the end of the source's range
    /// if it lies outside of it and that is allowed.
    fn committed(
        &self,
        piece: &Piece,
        options: &Options,
    ) -> Result<(Offset, Option<Offset>), Blocked> {
        let (place, at) = (piece.place(), piece.offset.offset);
        let range = self.ranges.get(&piece.source());
        let id = range.map_or(TopicId::nil(), |range| range.topic_id);
        resolve::fit(&piece.offset, id, &place)?;
        let Some(range) = range else {
            return Ok((at, None));
        };
        let to = match self.archived {
            true => resolve::clamped(at, (range.from, range.to), &place, options.out_of_range)?,
            false => clamped_live(at, range, &place, options.out_of_range)?,
        };
        Ok((to.unwrap_or(at), to))
    }
}

/// The same for what a live source holds.
fn clamped_live(
    at: Offset,
    range: &Range,
    place: &str,
    out_of_range: OutOfRange,
) -> Result<Option<Offset>, Blocked> {
    let (to, reason, side) = if at > range.to {
        (range.to, Reason::BeyondLog, "beyond the source's end")
    } else if at < range.from {
        (
            range.from,
            Reason::BeforeLog,
            "before the source's log start",
        )
    } else {
        return Ok(None);
    };
    match out_of_range {
        OutOfRange::Clamp => Ok(Some(to)),
        OutOfRange::Block => Err(Blocked::new(
            reason,
            format!(
                "{place}: committed {} lies {side} {}",
                grouped(at.0),
                grouped(to.0)
            ),
            "say .out_of_range(\"clamp\") to take the nearest end of what the source has",
        )),
    }
}

fn lag(end: Offset, at: Offset) -> u64 {
    u64::try_from(end.0.saturating_sub(at.0)).unwrap_or(0)
}

/// Gives a row its place; one outside of the target's log is none.
fn finish(row: &mut Row, placed: Result<Placed, Blocked>, world: &World) {
    let placed = placed.and_then(|placed| {
        let (start, end) = world.target_log(row)?;
        if (start..=end).contains(&placed.target) {
            return Ok((placed, end));
        }
        let (reason, side, limit) = match placed.target < start {
            true => (Reason::BeforeLog, "before the target's log start", start),
            false => (Reason::BeyondLog, "beyond the target's end", end),
        };
        Err(Blocked::new(
            reason,
            format!(
                "{}: {} lies {side} {}",
                row.target_partition(),
                grouped(placed.target.0),
                grouped(limit.0)
            ),
            "the target does not hold the same offsets: try .strategy(\"header\"), \"timestamp\" or \"cluster-scan\"",
        ))
    });
    match placed {
        Ok((placed, end)) => {
            row.lag_after = Some(lag(end, placed.target));
            row.target = Ok(placed.target);
            row.why = placed.why;
        }
        Err(blocked) => row.block(blocked),
    }
}

/// One row for each piece, on the partition of the same number.
fn each(
    world: &World,
    pieces: &[Piece],
    place: impl Fn(&Piece, &Row) -> Result<Placed, Blocked>,
) -> Vec<Row> {
    let rows = pieces.iter().map(|piece| {
        let mut row = world.row(piece, piece.offset.partition);
        let placed = place(piece, &row);
        finish(&mut row, placed, world);
        row
    });
    rows.collect()
}

/// The same for some pieces whatever they are.
fn each_of(
    world: &World,
    pieces: &[&Piece],
    place: impl Fn(&Piece) -> Result<Placed, Blocked>,
) -> Vec<Row> {
    let pieces: Vec<Piece> = pieces.iter().map(|piece| (*piece).clone()).collect();
    each(world, &pieces, |piece, _| place(piece))
}

/// A partition that is larger than what may be read of it.
fn over_budget(at: &TopicPartition, options: &Options) -> Blocked {
    Blocked::new(
        Reason::OverBudget,
        format!(
            "{at}: the place is not within the first {}",
            format_bytes(options.scan_budget.0)
        ),
        "raise .scan_budget(\"64 GiB\")",
    )
}

/// Milliseconds between a record and the one so many offsets behind it, at most; `None` if one of them is not there.
pub(super) async fn time_between(
    client: &Client,
    at: &TopicPartition,
    from: Offset,
    records: u64,
) -> Result<Option<i64>> {
    let log = Log::Live(client.clone(), at.clone());
    let behind = from
        .0
        .saturating_add(i64::try_from(records).unwrap_or(i64::MAX));
    let stable = stable_ends(std::slice::from_ref(at), client).await?;
    let end = stable.get(at).map_or(0, |end| end.0);
    let first = log.first(from.0, end, Look::Time).await?;
    // At the end of the log the last record counts.
    let last = log.first(behind.min(end - 1), end, Look::Time).await?;
    Ok(first
        .zip(last)
        .map(|(first, last)| last.timestamp.saturating_sub(first.timestamp)))
}

fn no_mapping(piece: &Piece) -> Blocked {
    Blocked::new(
        Reason::NoMapping,
        format!("{}: no restore tells where its records went", piece.place()),
        "plan from the restore: offset_plan(restored); or find the places without it: .strategy(\"header\"), \
         \"timestamp\" or \"cluster-scan\", or \"preserve\" where offsets are the same",
    )
}

/// A group has one offset per partition: two of them would be a guess.
fn block_same_targets(plan: &mut Plan) {
    let mut seen: BTreeMap<(String, TopicPartition), Vec<usize>> = BTreeMap::new();
    for (index, row) in plan.rows.iter().enumerate() {
        seen.entry((row.group.clone(), row.target_partition()))
            .or_default()
            .push(index);
    }
    for ((group, at), indexes) in seen.into_iter().filter(|(_, all)| all.len() > 1) {
        for index in indexes {
            plan.rows[index].block(Blocked::new(
                Reason::SameTarget,
                format!("several committed offsets of {group} would go to {at}"),
                "plan from the restore, which knows the order: offset_plan(restored); or move one of them with .topics(…)",
            ));
        }
    }
}

/// A selection that takes nothing must not pass for a reset that succeeded.
fn nothing_selected(groups: &[GroupEntry], options: &Options, plan: &Plan) -> Vec<Blocked> {
    let names: Vec<&str> = groups.iter().map(|group| group.group.as_str()).collect();
    let mut blocked = Vec::new();
    for pattern in options.groups.unmatched(&names) {
        let text = pattern.text();
        let what = match did_you_mean(text, names.iter().copied()) {
            Some(near) => format!("no group of the source is called {text}; did you mean {near}?"),
            None => format!("no group of the source matches {text}"),
        };
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            what,
            "snap.groups() lists those of an archive, cluster(\"NAME\").groups() those of a cluster",
        ));
    }
    let skips = options.strategy == Strategy::Skip && !plan.skipped.is_empty();
    if plan.rows.is_empty() && blocked.is_empty() && !skips {
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            "no selected group has a committed offset on a selected topic".to_string(),
            "check .groups(…) and .topics(…) of the offset plan",
        ));
    }
    blocked
}
