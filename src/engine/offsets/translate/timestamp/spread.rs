//! By time, where each partition of the target may hold records of each of the source's.
//!
//! The least time of all that a group has not read in any partition is asked for in every partition of the target: none of
//! its unread records lies before that anywhere. A partition that has nothing as young has nothing unread.

use super::super::super::error::Result;
use super::super::super::options::Options;
use super::super::super::plan::{Blocked, Reason, Row, Why};
use super::super::log::{Log, Look};
use super::super::{Piece, Placed, Translation, World, finish, over_budget};
use super::{Least, not_held, read};
use crate::base::text::grouped;
use crate::base::time::format_instant;
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use crate::kafka::Client;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A topic whose partitions did not stay what they were.
pub(super) struct Spread<'a> {
    pub translation: &'a Translation,
    pub world: &'a World,
    pub target: &'a Client,
    pub options: &'a Options,
    /// At the target.
    pub topic: &'a str,
}

/// A group's commits on the source's partitions.
type OfGroup<'a> = BTreeMap<PartitionId, (&'a Piece, Offset, Option<Offset>)>;

/// The first record of a time or later in one target partition.
#[derive(Clone)]
enum There {
    At(i64),
    /// All of it is older.
    End(i64),
    Blocked(Blocked),
}

impl Spread<'_> {
    pub async fn rows(&self, sources: &BTreeMap<TopicPartition, Vec<&Piece>>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut groups: BTreeMap<&str, Vec<&Piece>> = BTreeMap::new();
        for piece in sources.values().flatten() {
            groups.entry(&piece.group).or_default().push(piece);
        }
        // What each group has read, unless one of its commits cannot be carried over.
        let mut ready: Vec<(Vec<&Piece>, std::result::Result<OfGroup<'_>, Blocked>)> = Vec::new();
        for pieces in groups.into_values() {
            let commits = pieces.iter().map(|piece| {
                let (at, clamped) = self.world.committed(piece, self.options)?;
                let held = self.world.ranges.contains_key(&piece.source());
                let held = held.then_some((piece.offset.partition, (*piece, at, clamped)));
                held.ok_or_else(|| not_held(&piece.source()))
            });
            let commits = commits.collect::<std::result::Result<OfGroup<'_>, Blocked>>();
            let commits = commits.and_then(|commits| self.all_committed(&pieces, commits));
            ready.push((pieces, commits));
        }
        let mut least: BTreeMap<TopicPartition, Option<Least>> = BTreeMap::new();
        for source in sources.keys() {
            let Some(range) = self.world.ranges.get(source) else {
                continue;
            };
            let of = ready
                .iter()
                .filter_map(|(_, commits)| commits.as_ref().ok());
            let of = of.filter_map(|commits| Some(commits.get(&source.partition)?.1.0));
            let mut of_source = Least::new(of.collect());
            let enough = of_source.is_empty()
                || read(
                    self.translation,
                    source,
                    range,
                    &mut of_source,
                    self.options,
                )
                .await?;
            least.insert(source.clone(), enough.then_some(of_source));
        }
        let mut there = BTreeMap::new();
        let mut at_source = BTreeMap::new();
        for (pieces, commits) in ready {
            let placed =
                match commits.and_then(|commits| Ok((self.oldest(&commits, &least)?, commits))) {
                    Ok((Some((time, piece)), commits)) => {
                        let again = self.again(time, &commits, &mut at_source).await?;
                        let mut clamped = commits.values();
                        let clamped = clamped.find_map(|(_, _, clamped)| *clamped);
                        self.of_group((time, clamped), piece, again, &mut there)
                            .await?
                    }
                    Ok((None, _)) => self.all_read(&pieces),
                    Err(blocked) => pieces
                        .iter()
                        .map(|piece| {
                            (
                                self.world.row(piece, piece.offset.partition),
                                Err(blocked.clone()),
                            )
                        })
                        .collect(),
                };
            for (mut row, placed) in placed {
                finish(&mut row, placed, self.world);
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// A group that has committed nothing on a partition may have read nothing of it, wherever its records are.
    fn all_committed<'p>(
        &self,
        pieces: &[&Piece],
        commits: OfGroup<'p>,
    ) -> std::result::Result<OfGroup<'p>, Blocked> {
        let topic = pieces
            .first()
            .map_or("", |piece| piece.offset.topic.as_str());
        let with_records = self.world.ranges.iter();
        let mut with_records =
            with_records.filter(|(at, range)| at.topic == topic && range.from < range.to);
        match with_records.find(|(at, _)| !commits.contains_key(&at.partition)) {
            Some((at, _)) => Err(Blocked::new(
                Reason::NoCommit,
                format!(
                    "{} may hold records of {at}, where {} committed nothing",
                    self.topic, pieces[0].group
                ),
                "move the group by hand once it is known what it has read; or try .strategy(\"header\")",
            )),
            None => Ok(commits),
        }
    }

    /// The least time of all that a group has not read, and on which commit; `None` if it has read everything.
    fn oldest<'p>(
        &self,
        commits: &OfGroup<'p>,
        least: &BTreeMap<TopicPartition, Option<Least>>,
    ) -> std::result::Result<Option<(i64, &'p Piece)>, Blocked> {
        let mut oldest: Option<(i64, &Piece)> = None;
        for (piece, at, _) in commits.values() {
            let source = piece.source();
            let Some(Some(least)) = least.get(&source) else {
                return Err(over_budget(&source, self.options));
            };
            if let Some(time) = least.from(at.0)
                && oldest.is_none_or(|(other, _)| time < other)
            {
                oldest = Some((time, piece));
            }
        }
        match oldest {
            Some((time, piece)) if time < 0 => Err(Blocked::new(
                Reason::NotFound,
                format!(
                    "{}: records that are unread at the source have no time",
                    piece.place()
                ),
                "try .strategy(\"header\")",
            )),
            oldest => Ok(oldest),
        }
    }

    /// How many records of that time or later lie before its commits, in all of the source's partitions.
    async fn again(
        &self,
        time: i64,
        commits: &OfGroup<'_>,
        known: &mut BTreeMap<(TopicPartition, i64), Option<i64>>,
    ) -> Result<u64> {
        let mut again = 0;
        for (piece, at, _) in commits.values() {
            let source = piece.source();
            let first = match known.entry((source.clone(), time)) {
                Entry::Occupied(first) => *first.get(),
                Entry::Vacant(place) => {
                    let end = self.world.ranges.get(&source).map_or(0, |range| range.to.0);
                    let log = self.translation.log(&source);
                    let first = log.first_at_time(TimestampMs(time), end).await?;
                    *place.insert(first.map(|seen| seen.offset))
                }
            };
            let first = first.unwrap_or(at.0);
            again += u64::try_from(at.0 - first).unwrap_or(0);
        }
        Ok(again)
    }

    async fn of_group(
        &self,
        (time, clamped): (i64, Option<Offset>),
        piece: &Piece,
        again: u64,
        known: &mut BTreeMap<(PartitionId, i64), There>,
    ) -> Result<Vec<(Row, std::result::Result<Placed, Blocked>)>> {
        let partitions = self
            .world
            .topics
            .get(self.topic)
            .cloned()
            .unwrap_or_default();
        let mut rows = Vec::new();
        for partition in partitions {
            let there = match known.entry((partition, time)) {
                Entry::Occupied(there) => there.get().clone(),
                Entry::Vacant(place) => place.insert(self.there(partition, time).await?).clone(),
            };
            let at = TopicPartition::new(self.topic, partition);
            let end = self.world.stable.get(&at).map_or(0, |end| end.0);
            let when = format_instant(TimestampMs(time));
            let placed = match there {
                There::Blocked(blocked) => Err(blocked),
                There::End(end) => Ok((end, format!("all of it is older than {when}"), 0)),
                There::At(target) => {
                    let again = again.min(u64::try_from(end - target).unwrap_or(0));
                    Ok((
                        target,
                        format!("the first record of {when} or later"),
                        again,
                    ))
                }
            };
            let placed = placed.map(|(target, how, again)| Placed {
                target: Offset(target),
                why: Why::found(
                    format!("{how}, the oldest that is unread in any partition"),
                    again,
                    false,
                )
                .clamped_to(clamped),
            });
            rows.push((self.world.row(piece, partition), placed));
        }
        Ok(rows)
    }

    async fn there(&self, partition: PartitionId, time: i64) -> Result<There> {
        let at = TopicPartition::new(self.topic, partition);
        let (start, _) = self.world.logs.get(&at).copied().unwrap_or_default();
        let end = self.world.stable.get(&at).map_or(start.0, |end| end.0);
        let log = Log::Live(self.target.clone(), at.clone());
        let time = TimestampMs(time);
        let found = match log.first_at_time(time, end).await? {
            Some(found) => Some(found),
            None => {
                let mut budget = self.options.scan_budget.0;
                let last = log.last((start.0, end), 1, Look::Time, &mut budget).await?;
                match last.into_iter().next() {
                    Some(last) if last.broker_time => Some(last),
                    _ => None,
                }
            }
        };
        Ok(match found {
            Some(found) if found.broker_time => There::Blocked(Blocked::new(
                Reason::NotFound,
                format!("{at}: its records have the times at which they were written there"),
                "try .strategy(\"header\")",
            )),
            Some(found) => There::At(found.offset),
            None => There::End(end),
        })
    }

    /// Where nothing is unread no time leads to a place; only an empty partition needs none.
    fn all_read(&self, pieces: &[&Piece]) -> Vec<(Row, std::result::Result<Placed, Blocked>)> {
        let rows = pieces.iter().map(|piece| {
            let row = self.world.row(piece, piece.offset.partition);
            let at = piece.offset.offset.0;
            let blocked = Blocked::new(
                Reason::NotFound,
                format!(
                    "{}: everything is read at the source (committed {}), and times do not tell where its records end in \
                     the partitions of {}",
                    piece.source(),
                    grouped(at),
                    self.topic
                ),
                "try .strategy(\"header\"), which finds the last record that came from the source",
            );
            (row, Err(blocked))
        });
        rows.collect()
    }
}
