//! By the headers in which a restore wrote where each record came from.
//!
//! A target partition may hold records of several source partitions, and others in between. The group's place is the
//! first record that it has not read; what is read again behind it is counted. Without one it is the place behind the last
//! record that came from the source, since what others have written there is unread too.

use super::super::error::Result;
use super::super::options::Options;
use super::super::plan::{Blocked, Reason, Row, Why};
use super::log::{Log, Look, Seen};
use super::sorted::{Own, Probe, Sorted, sorted};
use super::{AT_ONCE, Piece, Placed, SMALL, Translation, World, finish};
use crate::base::text::{counted, grouped};
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::kafka::Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// So much of others' records may lie before one that came from the source, where not everything is read.
const PROBE_BYTES: u64 = 16 << 20;

/// What each group has read of each source partition.
type Commits = Vec<BTreeMap<PartitionId, i64>>;

/// Finds the places of all groups in one target partition, record by record.
pub(super) struct Search {
    /// Where records are from that do not say which partition they are of.
    own: PartitionId,
    sources: BTreeMap<PartitionId, Pending>,
    pub found: Vec<Option<First>>,
    /// Records that come behind the group's place and that it has read.
    pub again: Vec<u64>,
    pub tally: Tally,
}

/// The first record that a group has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub target: i64,
    pub partition: PartitionId,
    pub original: i64,
}

/// What a partition's records say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub from_source: u64,
    pub from_elsewhere: u64,
    pub without: u64,
    /// The place behind the last record that came from the source.
    pub end: Option<i64>,
    pub partitions: BTreeSet<PartitionId>,
}

/// The groups that have committed on one source partition.
#[derive(Default)]
struct Pending {
    /// Sorted: what they have committed, and which they are.
    commits: Vec<(i64, usize)>,
    /// So many of them have had a record of this partition that they have not read.
    passed: usize,
    /// Those not among them that have their place already, by a record of another partition.
    placed: Vec<(i64, usize)>,
}

impl Search {
    pub fn new(own: PartitionId, groups: &Commits) -> Self {
        let mut sources: BTreeMap<PartitionId, Pending> = BTreeMap::new();
        for (index, commits) in groups.iter().enumerate() {
            for (partition, committed) in commits {
                let pending = sources.entry(*partition).or_default();
                pending.commits.push((*committed, index));
            }
        }
        for pending in sources.values_mut() {
            pending.commits.sort_unstable();
        }
        Self {
            own,
            sources,
            found: vec![None; groups.len()],
            again: vec![0; groups.len()],
            tally: Tally::default(),
        }
    }

    pub fn see(&mut self, seen: &Seen, groups: &Commits) {
        let origin = match seen.origin {
            None => {
                self.tally.without += 1;
                return;
            }
            Some(origin) if origin.elsewhere => {
                self.tally.from_elsewhere += 1;
                return;
            }
            Some(origin) => origin,
        };
        let partition = origin.partition.unwrap_or(self.own);
        self.tally.from_source += 1;
        self.tally.end = Some(seen.offset + 1);
        self.tally.partitions.insert(partition);
        let Some(pending) = self.sources.get_mut(&partition) else {
            return;
        };
        let mut placed = Vec::new();
        while let Some((committed, group)) = pending.commits.get(pending.passed)
            && *committed <= origin.offset
        {
            pending.passed += 1;
            if self.found[*group].is_none() {
                self.found[*group] = Some(First {
                    target: seen.offset,
                    partition,
                    original: origin.offset,
                });
                placed.push(*group);
            }
        }
        // Records out of their order: groups that are past this one, and had read it.
        for (committed, group) in pending.commits[..pending.passed].iter().rev() {
            if *committed <= origin.offset {
                break;
            }
            self.again[*group] += 1;
        }
        pending.placed.retain(|(committed, group)| {
            let read = *committed > origin.offset;
            self.again[*group] += u64::from(read);
            read
        });
        for group in placed {
            for (other, committed) in &groups[group] {
                if *other != partition
                    && let Some(pending) = self.sources.get_mut(other)
                    && !pending.has_passed(*committed, group)
                {
                    pending.placed.push((*committed, group));
                }
            }
        }
    }
}

impl Search {
    /// What was found without looking at every record.
    fn take(&mut self, sorted: Sorted, groups: &Commits) {
        self.tally.end = Some(sorted.end);
        self.tally.partitions.insert(sorted.partition);
        for (found, commits) in self.found.iter_mut().zip(groups) {
            let commit = commits.get(&sorted.partition);
            let first = commit.and_then(|commit| sorted.first.get(commit).copied().flatten());
            *found = first.map(|own| First {
                target: own.target,
                partition: own.partition,
                original: own.original,
            });
        }
    }
}

impl Pending {
    fn has_passed(&self, committed: i64, group: usize) -> bool {
        let place = self.commits.binary_search(&(committed, group));
        place.is_ok_and(|place| place < self.passed)
    }
}

/// One target partition, searched.
struct Searched {
    partition: PartitionId,
    search: Search,
    /// Why the rest of it was not looked at.
    gave_up: Option<Blocked>,
    /// Only so many of its records were looked at.
    bisected: Option<usize>,
}

/// The rows of all pieces.
pub(super) async fn rows(
    translation: &Translation,
    world: &World,
    pieces: &[Piece],
    target: &Client,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut by_topic: BTreeMap<&str, Vec<&Piece>> = BTreeMap::new();
    for piece in pieces {
        by_topic.entry(&piece.target_topic).or_default().push(piece);
    }
    let mut rows = Vec::new();
    for (topic, pieces) in by_topic {
        let sources: BTreeSet<&str> = pieces.iter().map(|p| p.offset.topic.as_str()).collect();
        if sources.len() > 1 {
            let names: Vec<&str> = sources.into_iter().collect();
            let blocked = Blocked::new(
                Reason::SameTarget,
                format!(
                    "records of {} are in {topic}, and headers do not say of which topic each is",
                    names.join(" and ")
                ),
                "plan from the restore, which knows: offset_plan(restored)",
            );
            rows.extend(super::each_of(world, &pieces, |_| Err(blocked.clone())));
            continue;
        }
        rows.extend(of_topic(translation, world, topic, &pieces, target, options).await?);
    }
    Ok(rows)
}

/// A group's commits on one source topic.
struct OfGroup<'a> {
    pieces: BTreeMap<PartitionId, &'a Piece>,
    /// What is wrong with some of them.
    blocked: BTreeMap<PartitionId, Blocked>,
    clamped: BTreeMap<PartitionId, Offset>,
}

async fn of_topic(
    translation: &Translation,
    world: &World,
    topic: &str,
    pieces: &[&Piece],
    target: &Client,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut groups: BTreeMap<&str, OfGroup<'_>> = BTreeMap::new();
    let mut commits: BTreeMap<&str, BTreeMap<PartitionId, i64>> = BTreeMap::new();
    for piece in pieces {
        let group = groups.entry(&piece.group).or_insert_with(|| OfGroup {
            pieces: BTreeMap::new(),
            blocked: BTreeMap::new(),
            clamped: BTreeMap::new(),
        });
        let partition = piece.offset.partition;
        group.pieces.insert(partition, *piece);
        let own = commits.entry(&piece.group).or_default();
        match world.committed(piece, options) {
            Ok((at, clamped)) => {
                // The target may hold what is gone at the source by now: headers tell.
                own.insert(partition, at.0.min(piece.offset.offset.0));
                group.clamped.extend(clamped.map(|to| (partition, to)));
            }
            Err(blocked) => {
                own.insert(partition, piece.offset.offset.0);
                group.blocked.insert(partition, blocked);
            }
        }
    }
    let commits: Commits = commits.into_values().collect();
    let partitions = world.topics.get(topic).cloned().unwrap_or_default();
    let cluster = translation.cluster_id();
    let searches = partitions.into_iter().map(|partition| {
        let at = TopicPartition::new(topic, partition);
        let commits = &commits;
        async move { search(world, target, at, commits, cluster, options).await }
    });
    let mut searched: Vec<Searched> = stream::iter(searches)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    searched.sort_by_key(|one| one.partition);
    let mut rows = Vec::new();
    for (index, group) in groups.into_values().enumerate() {
        let mut with_records = BTreeSet::new();
        for one in &searched {
            let of_group: Vec<PartitionId> = one
                .search
                .tally
                .partitions
                .iter()
                .filter(|partition| group.pieces.contains_key(partition))
                .copied()
                .collect();
            with_records.extend(of_group.iter().copied());
            if let Some(first) = of_group.first() {
                rows.push(row(world, &group, index, *first, one));
            }
        }
        for (partition, piece) in &group.pieces {
            if !with_records.contains(partition) {
                let one = searched.iter().find(|one| one.partition == *partition);
                let mut row = world.row(piece, *partition);
                let placed = match group.blocked.get(partition) {
                    Some(blocked) => Err(blocked.clone()),
                    None => {
                        let clamped = group.clamped.get(partition).copied();
                        nowhere(translation, world, &row, piece, clamped, one).await?
                    }
                };
                finish(&mut row, placed, world);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// Goes through one target partition.
async fn search(
    world: &World,
    target: &Client,
    at: TopicPartition,
    commits: &Commits,
    cluster: &str,
    options: &Options,
) -> Result<Searched> {
    let (start, end) = world.logs.get(&at).copied().unwrap_or_default();
    let end = world.stable.get(&at).copied().unwrap_or(end);
    let log = Log::Live(target.clone(), at.clone());
    let look = Look::Origin {
        cluster: cluster.to_string(),
    };
    let mut searched = Searched {
        partition: at.partition,
        search: Search::new(at.partition, commits),
        gave_up: None,
        bisected: None,
    };
    if end.0 - start.0 > SMALL
        && let Some(sorted) = bisect(&log, start.0..end.0, &look, commits).await?
    {
        searched.bisected = Some(sorted.looked_at);
        searched.search.take(sorted, commits);
        return Ok(searched);
    }
    let mut reading = log.read(start.0, end.0, look)?;
    let mut left = options.scan_budget.0;
    while let Some(part) = reading.next().await? {
        for seen in &part.seen {
            searched.search.see(seen, commits);
        }
        left = left.saturating_sub(part.bytes);
        let last = part.seen.last().map_or(start.0, |seen| seen.offset);
        if left == 0 && last + 1 < end.0 {
            searched.gave_up = Some(super::over_budget(&at, options));
            break;
        }
    }
    Ok(searched)
}

/// The places in a large partition, if its records are in order.
async fn bisect(
    log: &Log,
    range: std::ops::Range<i64>,
    look: &Look,
    groups: &Commits,
) -> Result<Option<Sorted>> {
    let own = log.at().partition;
    let commits = |partition| {
        let all = groups.iter().filter_map(|of| of.get(&partition).copied());
        all.collect::<BTreeSet<i64>>().into_iter().collect()
    };
    let own_of = |seen: &Seen| {
        let origin = seen.origin.filter(|origin| !origin.elsewhere)?;
        Some(Own {
            target: seen.offset,
            partition: origin.partition.unwrap_or(own),
            original: origin.offset,
        })
    };
    let probe = async |from: i64, to: i64| -> Result<Probe> {
        // The first answers are small: mostly the first record is one.
        if let Some(first) = log.first(from, to, look.clone()).await?
            && let Some(found) = own_of(&first)
        {
            return Ok(Probe::Own(found));
        }
        let mut reading = log.read(from, to, look.clone())?;
        let mut left = PROBE_BYTES;
        while let Some(part) = reading.next().await? {
            if let Some(found) = part.seen.iter().find_map(own_of) {
                return Ok(Probe::Own(found));
            }
            left = left.saturating_sub(part.bytes);
            if left == 0 {
                return Ok(Probe::Unknown);
            }
        }
        Ok(Probe::Nothing)
    };
    let walk = async |from: i64, to: i64| -> Result<Vec<Own>> {
        let mut reading = log.read(from, to, look.clone())?;
        let (mut found, mut left) = (Vec::new(), PROBE_BYTES);
        while left > 0
            && let Some(part) = reading.next().await?
        {
            found.extend(part.seen.iter().filter_map(own_of));
            left = left.saturating_sub(part.bytes);
        }
        Ok(found)
    };
    sorted(range, commits, probe, walk).await
}

/// The row of a group in a target partition that holds records of partitions on which it has committed.
fn row(
    world: &World,
    group: &OfGroup<'_>,
    index: usize,
    first_source: PartitionId,
    one: &Searched,
) -> Row {
    let search = &one.search;
    let found = search.found[index];
    let source = found.map_or(first_source, |first| first.partition);
    let piece = group.pieces[&source];
    let mut row = world.row(piece, one.partition);
    let placed = place(&row, group, index, source, one);
    finish(&mut row, placed, world);
    row
}

fn place(
    row: &Row,
    group: &OfGroup<'_>,
    index: usize,
    source: PartitionId,
    one: &Searched,
) -> Result<Placed, Blocked> {
    let tally = &one.search.tally;
    if let Some(blocked) = &one.gave_up {
        return Err(blocked.clone());
    }
    if let Some(blocked) = tally.partitions.iter().find_map(|p| group.blocked.get(p)) {
        return Err(blocked.clone());
    }
    let missing: Vec<String> = tally
        .partitions
        .iter()
        .filter(|partition| !group.pieces.contains_key(partition))
        .map(|partition| format!("{} p{partition}", row.topic))
        .collect();
    if !missing.is_empty() {
        return Err(Blocked::new(
            Reason::NoCommit,
            format!(
                "{} has records of {}, where {} committed nothing",
                row.target_partition(),
                missing.join(", "),
                row.group
            ),
            "move the group by hand once it is known what it has read",
        ));
    }
    let others = match (tally.without, tally.from_elsewhere) {
        (0, 0) => match one.bisected {
            Some(looked_at) => format!(
                "; by bisection, {} looked at and all in order",
                counted(looked_at as i64, "record")
            ),
            None => String::new(),
        },
        (without, 0) => format!("; {} without the header", counted(without, "record")),
        (0, elsewhere) => format!("; {} of other clusters", counted(elsewhere, "record")),
        (without, elsewhere) => format!(
            "; {} without the header, {} of other clusters",
            counted(without, "record"),
            grouped(elsewhere)
        ),
    };
    let found = one.search.found[index];
    let (target, how) = match found {
        Some(first) => {
            let committed = row.committed.unwrap_or_default();
            let committed = match group.clamped.get(&source) {
                Some(to) => committed.min(*to),
                None => committed,
            };
            let how = match first.original == committed.0 {
                true => "same record, by its header".to_string(),
                false => format!(
                    "its record is not there; next is {}, by its header",
                    grouped(first.original)
                ),
            };
            (first.target, how)
        }
        None => (
            tally.end.unwrap_or_default(),
            "after the last record that came from the source".to_string(),
        ),
    };
    Ok(Placed {
        target: Offset(target),
        why: Why::found(
            format!("{how}{others}"),
            one.search.again[index],
            // What was not looked at may be out of its order.
            one.bisected.is_none(),
        )
        .clamped_to(clamped(group, tally, found)),
    })
}

/// Where one of the commits that count here was moved to; unless the target holds a record of before that.
fn clamped(group: &OfGroup<'_>, tally: &Tally, found: Option<First>) -> Option<Offset> {
    let known = |partition: &PartitionId, to: &Offset| {
        found.is_some_and(|first| first.partition == *partition && first.original < to.0)
    };
    let mut clamped = group.clamped.iter();
    clamped
        .find(|(partition, to)| tally.partitions.contains(partition) && !known(partition, to))
        .map(|(_, to)| *to)
}

/// A commit on a source partition of which no record is at the target.
async fn nowhere(
    translation: &Translation,
    world: &World,
    row: &Row,
    piece: &Piece,
    clamped: Option<Offset>,
    one: Option<&Searched>,
) -> Result<std::result::Result<Placed, Blocked>> {
    let at = row.target_partition();
    let (start, end) = match world.target_log(row) {
        Ok(log) => log,
        Err(blocked) => return Ok(Err(blocked)),
    };
    if let Some(blocked) = one.and_then(|one| one.gave_up.clone()) {
        return Ok(Err(blocked));
    }
    if start == end {
        let unread = match world.ranges.get(&piece.source()) {
            Some(range) => {
                let log = translation.log(&piece.source());
                let from = piece.offset.offset.0.max(range.from.0);
                log.first(from, range.to.0, Look::Time).await?.is_some()
            }
            None => true,
        };
        if !unread {
            return Ok(Ok(Placed {
                target: end,
                why: Why::found("nothing is there, and it has read everything", 0, true)
                    .clamped_to(clamped),
            }));
        }
    }
    let what = match one.map(|one| &one.search.tally) {
        Some(tally) if tally.from_source > 0 => format!(
            "{at}: its records came from other partitions, none from {}",
            piece.place()
        ),
        Some(tally) if tally.from_elsewhere > 0 => format!(
            "{at}: {} say that they came from another cluster, none from {}",
            counted(tally.from_elsewhere, "record"),
            translation.cluster_id()
        ),
        Some(tally) if tally.without > 0 => format!(
            "{at}: none of its {} has an x-original-offset header",
            counted(tally.without, "record")
        ),
        _ => format!(
            "{at}: it is empty, and {} has unread records",
            piece.place()
        ),
    };
    Ok(Err(Blocked::new(
        Reason::NoHeaders,
        what,
        "restore with .origin_headers(true), or try .strategy(\"timestamp\") or \"cluster-scan\"",
    )))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
