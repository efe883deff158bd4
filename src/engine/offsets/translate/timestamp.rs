//! By the time of what has not been read yet.
//!
//! Times need not ascend. The least time of all records that a group has not read is asked for at the target: whatever of
//! them is there is that young or younger, so none lies before the first record of that time or later. What lies between
//! that record and the group's is read again: at most the records from the first one of that time on at the source.

use super::super::error::Result;
use super::super::options::Options;
use super::super::plan::{Blocked, Reason, Row, Why};
use super::log::{Log, Look, Seen};
use super::{AT_ONCE, From, Piece, Placed, Range, Translation, World, finish, over_budget};
use crate::base::text::grouped;
use crate::base::time::format_instant;
use crate::base::{Offset, TimestampMs, TopicPartition};
use crate::kafka::Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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
    let mut by_way: BTreeMap<(TopicPartition, &str), Vec<&Piece>> = BTreeMap::new();
    for piece in pieces {
        let way = (piece.source(), piece.target_topic.as_str());
        by_way.entry(way).or_default().push(piece);
    }
    let ways = by_way.into_iter().map(|((source, _), pieces)| async move {
        of_partition(translation, world, &source, &pieces, target, options).await
    });
    let rows: Vec<Vec<Row>> = stream::iter(ways)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(rows.into_iter().flatten().collect())
}

/// A commit, and where it was clamped to.
type Committed = std::result::Result<(Offset, Option<Offset>), Blocked>;

/// The rows of the groups on one source partition.
async fn of_partition(
    translation: &Translation,
    world: &World,
    source: &TopicPartition,
    pieces: &[&Piece],
    target: &Client,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut ready: Vec<(Row, Committed)> = pieces
        .iter()
        .map(|piece| {
            let row = world.row(piece, source.partition);
            let committed =
                may_be_found(world, piece, &row).and_then(|()| world.committed(piece, options));
            (row, committed)
        })
        .collect();
    let commits: Vec<i64> = ready
        .iter()
        .filter_map(|(_, committed)| Some(committed.as_ref().ok()?.0.0))
        .collect();
    let Some(range) = world.ranges.get(source).filter(|_| !commits.is_empty()) else {
        return Ok(ready
            .into_iter()
            .map(|(mut row, committed)| {
                let blocked = committed.map(|_| not_held(source));
                finish(&mut row, blocked.and_then(Err), world);
                row
            })
            .collect());
    };
    let mut least = Least::new(commits);
    let enough = read(translation, source, range, &mut least, options).await?;
    let way = Way {
        source: translation.log(source),
        target: Log::Live(target.clone(), ready[0].0.target_partition()),
        range: *range,
        world,
        options,
    };
    let mut found: BTreeMap<i64, std::result::Result<Found, Blocked>> = BTreeMap::new();
    for (row, committed) in &mut ready {
        let placed = match committed {
            Err(blocked) => Err(blocked.clone()),
            Ok(_) if !enough => Err(over_budget(source, options)),
            Ok((at, clamped)) => match least.from(at.0) {
                None => way.at_end().await?,
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
    Ok(ready.into_iter().map(|(row, _)| row).collect())
}

/// Whether the partition of the same number is that of the same records.
fn may_be_found(world: &World, piece: &Piece, row: &Row) -> std::result::Result<(), Blocked> {
    world.target_log(row)?;
    let there = world.topics.get(&row.target_topic).map_or(0, Vec::len);
    match world.ranges.get(&piece.source()) {
        Some(range) if range.partitions != there => Err(Blocked::new(
            Reason::NotFound,
            format!(
                "{}: {there} partitions there and {} at the source, so that nothing tells which records are where",
                row.target_partition(),
                range.partitions
            ),
            "try .strategy(\"header\") or \"cluster-scan\"",
        )),
        Some(_) => Ok(()),
        None => Err(not_held(&piece.source())),
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
}

/// The first record of a time or later, on both sides.
struct Found {
    time: i64,
    at_source: i64,
    at_target: i64,
    /// They are the same record.
    same: bool,
}

impl Way<'_> {
    fn target_end(&self) -> i64 {
        let stable = self.world.stable.get(self.target.at());
        stable.map_or(0, |end| end.0)
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
            )),
            (None, None) if start == end => Some((end.0, "nothing is there, and nothing was")),
            _ => None,
        };
        Ok(match place {
            Some((target, how)) => Ok(Placed {
                target: Offset(target),
                why: Why::Found {
                    how: how.to_string(),
                    again: 0,
                    sure: true,
                },
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
pub(super) fn same(one: &Seen, other: &Seen) -> bool {
    one.digest == other.digest && one.timestamp == other.timestamp
}

impl Found {
    fn placed(&self, committed: Offset, clamped: Option<Offset>) -> Placed {
        let again = u64::try_from(committed.0 - self.at_source).unwrap_or(0);
        let clamped = clamped.map_or(String::new(), |to| {
            format!("clamped to {}; ", grouped(to.0))
        });
        let which = match self.same {
            true => "",
            false => ", which is not the source's first of that time",
        };
        Placed {
            target: Offset(self.at_target),
            why: Why::Found {
                how: format!(
                    "{clamped}the first record of {} or later{which}",
                    format_instant(TimestampMs(self.time))
                ),
                again,
                sure: self.same,
            },
        }
    }
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
