//! By the time of what has not been read yet.
//!
//! Times need not ascend. The least time of all records that a group has not read is asked for at the target: whatever of
//! them is there is that young or younger, so none lies before the first record of that time or later. What lies between
//! that record and the group's is read again: at most the records from the first one of that time on at the source.
//!
//! That holds of each partition by itself as long as it went to the partition of its number, which is looked at. Where it did
//! not, or there are more or fewer partitions, each of the target's may hold records of each of the source's, and the least
//! time of all that a group has not read anywhere counts for all of them.

mod spread;

use super::super::error::Result;
use super::super::options::Options;
use super::super::plan::{Blocked, Reason, Row, Why};
use super::log::{Log, Look, Seen};
use super::neighbours::is_same;
use super::{AT_ONCE, From, Piece, Placed, Range, Translation, World, finish, over_budget};
use crate::base::time::format_instant;
use crate::base::{Offset, TimestampMs, TopicPartition};
use crate::kafka::{Client, Isolation, OffsetAt};
use futures::stream::{self, StreamExt, TryStreamExt};
use spread::Spread;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// So many records of the target are compared to tell whether a partition is the same; and so many of the source at most.
const COMPARED: usize = 16;
const MOST_COMPARED: usize = 20_000;
/// Records of the source, evenly over what is unread, of which it is looked at whether another partition has them.
const SAMPLES: i64 = 16;

/// The least time between each commit and the next, of the commits on one partition.
pub(super) struct Least {
    /// Sorted, without duplicates, with the least time from it up to the next one.
    commits: Vec<(i64, Option<i64>)>,
}

impl Least {
    pub fn new(mut commits: Vec<i64>) -> Self {
        commits.sort_unstable();
        commits.dedup();
        Self {
            commits: commits.into_iter().map(|at| (at, None)).collect(),
        }
    }

    /// Whether all records of `[first, last]` lie on the same side of every commit.
    pub fn takes_whole(&self, first: i64, last: i64) -> bool {
        !self
            .commits
            .iter()
            .any(|(at, _)| first < *at && *at <= last)
    }

    pub fn add(&mut self, offset: i64, time: i64) {
        let behind = self.commits.partition_point(|(at, _)| *at <= offset);
        if let Some((_, least)) = behind.checked_sub(1).map(|place| &mut self.commits[place]) {
            *least = Some(least.map_or(time, |least| least.min(time)));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The least time behind any of the commits.
    pub fn oldest(&self) -> Option<i64> {
        self.commits.iter().filter_map(|(_, least)| *least).min()
    }

    /// The least time of the records at or after a commit; `None` if there is none.
    pub fn from(&self, commit: i64) -> Option<i64> {
        let own = self.commits.iter().filter(|(at, _)| *at >= commit);
        own.filter_map(|(_, least)| *least).min()
    }
}

/// The rows of all pieces.
pub(super) async fn rows(
    translation: &Translation,
    world: &World,
    pieces: &[Piece],
    target: &Client,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut by_topic: BTreeMap<(&str, &str), BTreeMap<TopicPartition, Vec<&Piece>>> =
        BTreeMap::new();
    for piece in pieces {
        let topics = (piece.offset.topic.as_str(), piece.target_topic.as_str());
        let sources = by_topic.entry(topics).or_default();
        sources.entry(piece.source()).or_default().push(piece);
    }
    let mut rows = Vec::new();
    for ((_, topic), sources) in by_topic {
        let partitions = sources.iter().map(|(source, pieces)| async move {
            of_partition(translation, world, source, pieces, target, options).await
        });
        let partitions: Vec<Option<Vec<Row>>> = stream::iter(partitions)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        // One partition that is not that of the same number is enough to doubt all of them.
        let one_to_one: Option<Vec<Vec<Row>>> = partitions.into_iter().collect();
        match one_to_one {
            Some(partitions) => rows.extend(partitions.into_iter().flatten()),
            None => {
                let spread = Spread {
                    translation,
                    world,
                    target,
                    options,
                    topic,
                };
                rows.extend(spread.rows(&sources).await?);
            }
        }
    }
    Ok(rows)
}

/// A commit, and where it was clamped to.
type Committed = std::result::Result<(Offset, Option<Offset>), Blocked>;

/// The rows of the groups on one source partition; `None` if the target's partition of that number is another one.
async fn of_partition(
    translation: &Translation,
    world: &World,
    source: &TopicPartition,
    pieces: &[&Piece],
    target: &Client,
    options: &Options,
) -> Result<Option<Vec<Row>>> {
    let mut ready: Vec<(Row, Committed)> = pieces
        .iter()
        .map(|piece| {
            let row = world.row(piece, source.partition);
            let committed = may_be_found(world, piece, &row);
            let committed = committed.and_then(|()| world.committed(piece, options));
            (row, committed)
        })
        .collect();
    let there = world.topics.get(&ready[0].0.target_topic).map(Vec::len);
    let range = world.ranges.get(source);
    if let (Some(there), Some(range)) = (there, range)
        && range.partitions != there
    {
        return Ok(None);
    }
    let commits: Vec<i64> = ready
        .iter()
        .filter_map(|(_, committed)| Some(committed.as_ref().ok()?.0.0))
        .collect();
    let Some(range) = range.filter(|_| !commits.is_empty()) else {
        let rows = ready.into_iter().map(|(mut row, committed)| {
            let blocked = committed.map(|_| not_held(source));
            finish(&mut row, blocked.and_then(Err), world);
            row
        });
        return Ok(Some(rows.collect()));
    };
    let mut least = Least::new(commits);
    let enough = read(translation, source, range, &mut least, options).await?;
    let way = Way {
        source: translation.log(source),
        target: Log::Live(target.clone(), ready[0].0.target_partition()),
        range: *range,
        world,
        options,
        alone: range.partitions == 1,
    };
    if !way.alone && enough {
        let oldest = least.oldest();
        let unread = least.commits.first().map_or(range.from.0, |(at, _)| *at);
        let from = oldest.map_or(range.from.0, |_| unread.max(range.from.0));
        if let Some(oldest) = oldest
            && !way.is_the_same_partition(oldest).await?
        {
            return Ok(None);
        }
        if way.has_strays(from).await? {
            return Ok(None);
        }
    }
    let mut found: BTreeMap<i64, std::result::Result<Found, Blocked>> = BTreeMap::new();
    for (row, committed) in &mut ready {
        let placed = match committed {
            Err(blocked) => Err(blocked.clone()),
            Ok(_) if !enough => Err(over_budget(source, options)),
            Ok((at, clamped)) => match least.from(at.0) {
                None => way.at_end().await?.map(|placed| Placed {
                    why: placed.why.clamped_to(*clamped),
                    ..placed
                }),
                Some(time) => {
                    let found = match found.entry(time) {
                        Entry::Occupied(found) => found.into_mut(),
                        Entry::Vacant(place) => place.insert(way.find(time).await?),
                    };
                    found
                        .as_ref()
                        .map_err(Blocked::clone)
                        .map(|found| found.placed(*at, *clamped))
                }
            },
        };
        finish(row, placed, world);
    }
    Ok(Some(ready.into_iter().map(|(row, _)| row).collect()))
}

/// Whether both sides have something to look at.
fn may_be_found(world: &World, piece: &Piece, row: &Row) -> std::result::Result<(), Blocked> {
    if !world.topics.contains_key(&row.target_topic) {
        world.target_log(row)?;
    }
    match world.ranges.contains_key(&piece.source()) {
        true => Ok(()),
        false => Err(not_held(&piece.source())),
    }
}

fn not_held(source: &TopicPartition) -> Blocked {
    Blocked::new(
        Reason::NotYetArchived,
        format!("{source}: the source holds nothing of this partition"),
        "try .strategy(\"header\"), which needs no records of the source",
    )
}

/// Reads what the index does not tell; false if that is more than the budget.
async fn read(
    translation: &Translation,
    at: &TopicPartition,
    range: &Range,
    least: &mut Least,
    options: &Options,
) -> Result<bool> {
    let from = least.commits[0].0.max(range.from.0);
    let mut left = options.scan_budget.0;
    let mut walks = vec![(from, range.to.0)];
    if let From::Archive(snapshot) = &translation.from {
        walks.clear();
        let blocks = snapshot
            .blocks(&at.topic, at.partition, Offset(from)..range.to)
            .await?;
        for block in blocks {
            let entry = &block.entry;
            if entry.min_timestamp_exact && least.takes_whole(entry.first.0, entry.last.0) {
                least.add(entry.first.0, entry.min_timestamp.0);
            } else {
                walks.push((entry.first.0.max(from), entry.last.0 + 1));
            }
        }
    }
    let log = translation.log(at);
    for (from, to) in walks {
        let mut reading = log.read(from, to, Look::Time)?;
        while let Some(part) = reading.next().await? {
            if left == 0 {
                return Ok(false);
            }
            left = left.saturating_sub(part.bytes);
            for seen in &part.seen {
                least.add(seen.offset, seen.timestamp);
            }
        }
    }
    Ok(true)
}

/// Both sides of one partition.
struct Way<'a> {
    source: Log,
    target: Log,
    range: Range,
    world: &'a World,
    options: &'a Options,
    /// There is one partition on both sides: only then it is known, without reading all of them, that no record of the source
    /// went to another one.
    alone: bool,
}

/// The first record of a time or later, on both sides.
struct Found {
    time: i64,
    at_source: i64,
    at_target: i64,
    /// They are the same record.
    same: bool,
    /// No other partition can hold any of the source's records.
    alone: bool,
}

impl Way<'_> {
    fn target_end(&self) -> i64 {
        let stable = self.world.stable.get(self.target.at());
        stable.map_or(0, |end| end.0)
    }

    /// Whether the target's records of that time and later are those of the source: they follow each other in the same
    /// order, with others left out at the most. Where there is none it cannot be told, and none is skipped.
    async fn is_the_same_partition(&self, time: i64) -> Result<bool> {
        let time = TimestampMs(time.max(0));
        let target = self.target.first_at_time(time, self.target_end()).await?;
        let source = self.source.first_at_time(time, self.range.to.0).await?;
        let (Some(target), Some(source)) = (target, source) else {
            return Ok(true);
        };
        let mut theirs = Vec::new();
        let mut reading = self
            .target
            .read(target.offset, self.target_end(), Look::Content)?;
        while theirs.len() < COMPARED
            && let Some(part) = reading.next().await?
        {
            theirs.extend(part.seen);
        }
        theirs.truncate(COMPARED);
        // Where the target dates records itself that is said of each row.
        if theirs.iter().any(|seen| seen.broker_time) {
            return Ok(true);
        }
        let (mut matched, mut looked_at) = (0, 0);
        let mut reading = self
            .source
            .read(source.offset, self.range.to.0, Look::Content)?;
        while looked_at < MOST_COMPARED
            && matched < theirs.len()
            && let Some(part) = reading.next().await?
        {
            looked_at += part.seen.len();
            for own in &part.seen {
                if theirs.get(matched).is_some_and(|theirs| same(own, theirs)) {
                    matched += 1;
                }
            }
        }
        Ok(matched == theirs.len())
    }

    /// Whether some of the source's records from an offset on are in another partition of the target's topic.
    async fn has_strays(&self, from: i64) -> Result<bool> {
        let (to, mut last) = (self.range.to.0, None);
        for number in 0..SAMPLES {
            let at = from + ((to - from) as i128 * i128::from(number) / i128::from(SAMPLES)) as i64;
            let Some(some) = self.source.first(at, to, Look::Time).await? else {
                break;
            };
            let time = TimestampMs(some.timestamp);
            if time.0 < 0 || last == Some(time) {
                continue;
            }
            last = Some(time);
            // The first of that time is the same one on both sides, in whatever order times are.
            let Some(own) = self.source.first_at_time(time, to).await? else {
                continue;
            };
            let end = self.target_end();
            match self.target.first_at_time(time, end).await? {
                Some(there) if there.broker_time => return Ok(false),
                Some(there) if same(&own, &there) => {}
                _ if self.is_elsewhere(&own).await? => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Whether another partition of the target's topic has a record, where its time leads to.
    async fn is_elsewhere(&self, own: &Seen) -> Result<bool> {
        let (Log::Live(client, at), time) = (&self.target, TimestampMs(own.timestamp)) else {
            return Ok(false);
        };
        let others = self.world.logs.keys();
        let others = others.filter(|other| other.topic == at.topic && *other != at);
        let wanted: Vec<_> = others
            .map(|other| (other.clone(), OffsetAt::AtOrAfter(time)))
            .collect();
        let found = client
            .list_offsets(&wanted, Isolation::ReadUncommitted)
            .await?;
        for (other, found) in found {
            let found = found?;
            let end = self.world.stable.get(&other).map_or(0, |end| end.0);
            if found.offset.0 < 0 {
                continue;
            }
            let log = Log::Live(client.clone(), other);
            let mut reading = log.read(found.offset.0, end, Look::Content)?;
            let mut looked_at = 0;
            while looked_at < COMPARED
                && let Some(part) = reading.next().await?
            {
                let few = &part.seen[..part.seen.len().min(COMPARED - looked_at)];
                if few.iter().any(|seen| is_same(own, seen)) {
                    return Ok(true);
                }
                looked_at += few.len();
            }
        }
        Ok(false)
    }

    async fn find(&self, time: i64) -> Result<std::result::Result<Found, Blocked>> {
        let at = self.target.at();
        let blocked = |what: String| {
            Ok(Err(Blocked::new(
                Reason::NotFound,
                what,
                "try .strategy(\"header\") or \"cluster-scan\"",
            )))
        };
        if time < 0 {
            return blocked(format!(
                "{at}: records that are unread at the source have no time"
            ));
        }
        let time = TimestampMs(time);
        let source = self.source.first_at_time(time, self.range.to.0).await?;
        let end = self.target_end();
        let (source, target) = (source, self.target.first_at_time(time, end).await?);
        let Some(target) = target else {
            return blocked(format!(
                "{at}: nothing is there of {} or later, the time of what is unread at the source",
                format_instant(time)
            ));
        };
        if target.broker_time {
            return blocked(format!(
                "{at}: its records have the times at which they were written there"
            ));
        }
        let Some(source) = source else {
            return blocked(format!(
                "{at}: what was unread at the source is gone by now"
            ));
        };
        Ok(Ok(Found {
            time: time.0,
            at_source: source.offset,
            at_target: target.offset,
            same: same(&source, &target),
            alone: self.alone,
        }))
    }

    /// Everything is read. The target's end is its place if that ends with the same record.
    async fn at_end(&self) -> Result<std::result::Result<Placed, Blocked>> {
        let at = self.target.at();
        let (start, end) = self.world.logs.get(at).copied().unwrap_or_default();
        let mut budget = self.options.scan_budget.0;
        let stable = self.target_end();
        let log = (start.0, stable);
        let there = self.target.last(log, 1, Look::Content, &mut budget).await?;
        let whole = (self.range.from.0, self.range.to.0);
        let last = self
            .source
            .last(whole, 1, Look::Content, &mut budget)
            .await?;
        let place = match (there.first(), last.first()) {
            (Some(there), Some(last)) if same(there, last) => Some((
                there.offset + 1,
                "after the same last record as at the source",
                self.alone,
            )),
            // Nothing can be skipped where nothing is.
            (None, None) if start == end => {
                Some((end.0, "nothing is there, and nothing was", true))
            }
            _ => None,
        };
        Ok(match place {
            Some((target, how, sure)) => Ok(Placed {
                target: Offset(target),
                why: Why::found(how, 0, sure),
            }),
            None => Err(Blocked::new(
                Reason::NotFound,
                format!(
                    "{at}: everything is read at the source, and the target does not end with the same record"
                ),
                "try .strategy(\"header\") or \"cluster-scan\", which find the last record that came from the source",
            )),
        })
    }
}

/// Whether two records, each of another log, are one.
fn same(one: &Seen, other: &Seen) -> bool {
    one.digest == other.digest && one.timestamp == other.timestamp
}

impl Found {
    fn placed(&self, committed: Offset, clamped: Option<Offset>) -> Placed {
        let again = u64::try_from(committed.0 - self.at_source).unwrap_or(0);
        let which = match self.same {
            true => "",
            false => ", which is not the source's first of that time",
        };
        Placed {
            target: Offset(self.at_target),
            why: Why::found(
                format!(
                    "the first record of {} or later{which}",
                    format_instant(TimestampMs(self.time))
                ),
                again,
                self.same && self.alone,
            )
            .clamped_to(clamped),
        }
    }
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
