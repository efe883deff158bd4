//! By the records around a committed offset, found again among those that the target holds.
//!
//! For each place the records next before and behind it are read at the source; what they say, and when, is looked for at
//! the target. The place is the boundary with the most of them in order on its sides. If several boundaries are as good as
//! each other it is nobody's to choose. It is exact if all of them are there and all of both topics was read: then there is no
//! second place, no partition of the source went to several, and nothing unread lies before it.
//!
//! When each commit was made, on both sides, leads to where to look first and tells whether the group has gone on at the
//! target since.

use super::super::error::Result;
use super::super::options::Options;
use super::super::plan::{Blocked, Reason, Row, Why};
use super::log::Look;
use super::neighbours::{Around, NEIGHBOURS, Verdict};
use super::samples::{Samples, Sides, Spread};
use super::search::{Place, Search, Searched};
use super::times::{Times, Wanted};
use super::{AT_ONCE, From, Piece, Placed, Translation, World, finish, over_budget};
use crate::base::text::{counted, grouped};
use crate::base::time::{format_duration_ms, format_instant};
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::kafka::{Client, OffsetRecordKey, OffsetRecordValue};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Fewer records in order than this, unless they are half of the neighbours, tell nothing.
const FEWEST: usize = 3;

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
    let (at_source, at_target) = wanted(world, pieces);
    let clusters = From::Cluster(target.clone());
    let (at_source, at_target) = futures::join!(
        Times::read(&translation.from, at_source, options),
        Times::read(&clusters, at_target, options)
    );
    let mut rows = Vec::new();
    for (topic, pieces) in by_topic {
        let scan = Scan {
            translation,
            world,
            topic,
            target,
            options,
            at_source: &at_source,
            at_target: &at_target,
        };
        rows.extend(scan.rows(&pieces).await?);
    }
    Ok(rows)
}

/// The commits on both sides of which it is worth to know when they were made.
fn wanted(world: &World, pieces: &[Piece]) -> (Wanted, Wanted) {
    let (mut at_source, mut at_target) = (Wanted::new(), Wanted::new());
    for piece in pieces {
        let key = OffsetRecordKey {
            group: piece.source_group.clone(),
            at: piece.source(),
        };
        at_source.insert(key, piece.offset.offset);
        for (at, committed) in world.current.get(&piece.group).into_iter().flatten() {
            if at.topic == piece.target_topic {
                let key = OffsetRecordKey {
                    group: piece.group.clone(),
                    at: at.clone(),
                };
                at_target.insert(key, committed.offset);
            }
        }
    }
    (at_source, at_target)
}

/// The groups that go onto one topic.
struct Scan<'a> {
    translation: &'a Translation,
    world: &'a World,
    topic: &'a str,
    target: &'a Client,
    options: &'a Options,
    at_source: &'a Times,
    at_target: &'a Times,
}

/// When the groups of a place committed it, and where they are at the target.
type Leads = (Vec<i64>, BTreeSet<(PartitionId, i64)>);

/// Which place a commit stands for, and where it was clamped to.
type Committed = std::result::Result<(usize, Option<Offset>), Blocked>;

impl Scan<'_> {
    async fn rows(&self, pieces: &[&Piece]) -> Result<Vec<Row>> {
        // Groups at the same offset have the same place.
        let mut numbers: BTreeMap<(TopicPartition, i64), usize> = BTreeMap::new();
        let mut leads: Vec<Leads> = Vec::new();
        let mut ready: Vec<(&Piece, Committed)> = Vec::new();
        for piece in pieces {
            let committed = self.committed(piece).map(|(at, clamped)| {
                let next = numbers.len();
                let number = *numbers.entry((piece.source(), at.0)).or_insert(next);
                if number == leads.len() {
                    leads.push(Default::default());
                }
                let (times, there) = &mut leads[number];
                times.extend(self.source_time(piece).map(|value| value.committed_at.0));
                there.extend(self.there(piece));
                (number, clamped)
            });
            ready.push((*piece, committed));
        }
        let places = numbers.into_iter().map(|((source, at), number)| {
            let (committed_at, there) = leads[number].clone();
            async move {
                let around = self.around(&source, at).await?;
                let place = Place {
                    source,
                    at,
                    around,
                    committed_at,
                    there,
                };
                Ok::<_, super::Error>((number, place))
            }
        });
        let places: BTreeMap<usize, Place> = stream::iter(places)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let places: Vec<Place> = places.into_values().collect();
        let topics = places.iter().map(|place| place.source.topic.as_str());
        let samples = Samples::read(
            self.translation,
            self.world,
            &topics.collect(),
            self.options.scan_budget.0,
        )
        .await?;
        let mut carried: BTreeMap<&str, BTreeMap<TopicPartition, bool>> = BTreeMap::new();
        for (piece, committed) in &ready {
            let own = carried.entry(&piece.group).or_default();
            own.insert(piece.source(), committed.is_ok());
        }
        let world = (self.world, self.target, self.options);
        let search = Search::new(world, self.topic, &places, &samples.all);
        let searched = match places.is_empty() {
            true => Vec::new(),
            false => search.all().await?,
        };
        let spread = Spread::of(&samples, &searched);
        let found = Found {
            scan: self,
            searched: &searched,
            spread: &spread,
            samples: &samples,
            carried: &carried,
        };
        let rows = ready.into_iter().map(|(piece, committed)| {
            let placed = committed.and_then(|(number, clamped)| {
                let (partition, mut placed) = found.place(number, &places[number], piece)?;
                placed.why = placed.why.clamped_to(clamped);
                Ok((partition, placed))
            });
            let (partition, placed) = match placed {
                Ok((partition, placed)) => (partition, Ok(placed)),
                Err(blocked) => (piece.offset.partition, Err(blocked)),
            };
            let mut row = self.world.row(piece, partition);
            let placed = placed.map(|placed| self.dated(placed, piece, &row));
            finish(&mut row, placed, self.world);
            row
        });
        Ok(rows.collect())
    }

    /// Whether a commit can be looked for, and the offset that it stands for.
    fn committed(&self, piece: &Piece) -> std::result::Result<(Offset, Option<Offset>), Blocked> {
        let source = piece.source();
        let not_held = || {
            Blocked::new(
                Reason::NotYetArchived,
                format!("{source}: the source holds nothing of this partition"),
                "try .strategy(\"header\"), which needs no records of the source",
            )
        };
        if !self.world.topics.contains_key(self.topic) {
            let row = self.world.row(piece, source.partition);
            return self.world.target_log(&row).and_then(|_| Err(not_held()));
        }
        let committed = self.world.committed(piece, self.options)?;
        let Some(range) = self.world.ranges.get(&source) else {
            return Err(not_held());
        };
        // Which topic of that name it was committed on is told by nothing else.
        if let Some(id) = self.source_time(piece).and_then(|value| value.topic_id)
            && !range.topic_id.is_nil()
            && id != range.topic_id
        {
            return Err(Blocked::new(
                Reason::OtherIncarnation,
                format!(
                    "{}: {} was committed on another topic of that name (id {id}), before this one was made",
                    piece.place(),
                    grouped(piece.offset.offset.0)
                ),
                "nothing of that topic is left to look for; move the group with \"manual\", or leave it with .unplaced(\"leave\")",
            ));
        }
        Ok(committed)
    }

    fn source_time(&self, piece: &Piece) -> Option<&OffsetRecordValue> {
        let told = self.at_source.of(&piece.source_group, &piece.source());
        told.and_then(|told| told.as_ref().ok())
    }

    /// Where the group is on the topic now.
    fn there(&self, piece: &Piece) -> impl Iterator<Item = (PartitionId, i64)> {
        let current = self.world.current.get(&piece.group).into_iter().flatten();
        current
            .filter(|(at, _)| at.topic == self.topic)
            .map(|(at, committed)| (at.partition, committed.offset.0))
    }

    /// The records around an offset of the source.
    async fn around(&self, source: &TopicPartition, at: i64) -> Result<Around> {
        let Some(range) = self.world.ranges.get(source) else {
            return Ok(Around::default());
        };
        let log = self.translation.log(source);
        let mut budget = self.options.scan_budget.0;
        let before = (range.from.0, at);
        let mut before = log
            .last(before, NEIGHBOURS, Look::Content, &mut budget)
            .await?;
        before.reverse();
        let mut after = Vec::new();
        let mut reading = log.read(at, range.to.0, Look::Content)?;
        while after.len() < NEIGHBOURS
            && let Some(part) = reading.next().await?
        {
            after.extend(part.seen.into_iter().take(NEIGHBOURS - after.len()));
        }
        Ok(Around { before, after })
    }

    /// Says when the commit was made, and what that of the target is worth beside it.
    fn dated(&self, mut placed: Placed, piece: &Piece, row: &Row) -> Placed {
        let Why::Found { how, again, .. } = &mut placed.why else {
            return placed;
        };
        let source = self.at_source.of(&piece.source_group, &piece.source());
        let source = match source {
            Some(Ok(value)) => {
                how.push_str(&format!(
                    "; committed {}",
                    format_instant(value.committed_at)
                ));
                value.committed_at
            }
            Some(Err(why)) => {
                how.push_str(&format!("; when it was committed is not told: {why}"));
                return placed;
            }
            None => return placed,
        };
        let there = self.at_target.of(&piece.group, &row.target_partition());
        if let (Some(Ok(there)), Some(from)) = (there, row.from)
            && there.committed_at > source
            && from != placed.target
        {
            let later = format_duration_ms(there.committed_at.0.saturating_sub(source.0));
            how.push_str(&format!(", and {} there {later} later", grouped(from.0)));
            // It has read on at the target, and is to be put back.
            *again =
                (*again).max(u64::try_from(from.0.saturating_sub(placed.target.0)).unwrap_or(0));
        }
        placed
    }
}

/// What was found of one topic.
struct Found<'a> {
    scan: &'a Scan<'a>,
    searched: &'a [Searched],
    spread: &'a Spread,
    samples: &'a Samples,
    /// The partitions on which each group has committed, and whether that can be carried over.
    carried: &'a BTreeMap<&'a str, BTreeMap<TopicPartition, bool>>,
}

impl Found<'_> {
    fn place(
        &self,
        number: usize,
        place: &Place,
        piece: &Piece,
    ) -> std::result::Result<(PartitionId, Placed), Blocked> {
        let Scan { world, topic, .. } = self.scan;
        let (source, around) = (&place.source, &place.around);
        let own = source.partition;
        let at = TopicPartition::new(*topic, own);
        let wanted = around.wanted();
        if wanted == 0 {
            let (start, end) = world.logs.get(&at).copied().unwrap_or_default();
            return match world.logs.contains_key(&at) && start == end {
                true => Ok((
                    own,
                    placed(end.0, "nothing is there, and nothing was".into(), true),
                )),
                false => Err(blocked(format!(
                    "{source}: no record is left around it at the source"
                ))),
            };
        }
        if let Some(over) = self.spread.over.get(source) {
            return Err(self.spread_over(format!("the records of {source}"), over));
        }
        let mut found: Vec<(&Searched, &Verdict)> = self
            .searched
            .iter()
            .filter_map(|one| Some((one, one.verdicts.get(&number)?)))
            .filter(|(_, verdict)| **verdict != Verdict::None)
            .collect();
        found.sort_by_key(|(one, verdict)| {
            let count = verdict.matched().count();
            (std::cmp::Reverse(count), one.partition != own)
        });
        let in_part = self.searched.iter().find(|one| !one.whole);
        let Some((best, verdict)) = found.first().copied() else {
            return Err(match in_part {
                Some(one) => self.over_budget(one),
                None => blocked(format!(
                    "{source}: none of the {} around it is in {topic}",
                    counted(wanted as i64, "record"),
                )),
            });
        };
        let matched = verdict.matched();
        // Unless it is there with all of its neighbours, it may be in what was not read.
        if let Some(one) = in_part
            && matched.count() < wanted
        {
            return Err(self.over_budget(one));
        }
        let there = world.topics.get(*topic).map_or(0, Vec::len);
        let at_source = world
            .ranges
            .get(source)
            .map_or(there, |range| range.partitions);
        if in_part.is_some() && there != at_source {
            return Err(blocked(format!(
                "{source}: {there} partitions there and {at_source} at the source, and not all of {topic} was read, so that \
                 nothing tells which records are where"
            )));
        }
        // Where another partition has records that this one lacks, they went to both. Where both have the same, records
        // are alike, and the number tells them apart.
        let present = |one: &Searched| one.present.get(&number).copied().unwrap_or_default();
        let all = matched.with(present(best));
        let others = || {
            let others = self.searched.iter();
            let others = others.filter(|one| one.partition != best.partition);
            others.map(|one| {
                let verdict = one.verdicts.get(&number).map(Verdict::matched);
                (
                    one.partition,
                    present(one).with(verdict.unwrap_or_default()),
                )
            })
        };
        let alike = others().find(|(_, other)| other.count() >= matched.count());
        let rival = others().find(|(_, other)| all.with(*other) != all);
        let rival = rival.or(alike.filter(|_| best.partition != own));
        if let Some((other, _)) = rival {
            let over = BTreeSet::from([best.partition, other]);
            return Err(self.spread_over(format!("{source}: the records around it"), &over));
        }
        let mixed = self.spread.over.iter();
        let mut mixed = mixed.filter(|(_, over)| over.contains(&best.partition));
        if let Some((other, over)) = mixed.next() {
            return Err(self.spread_over(format!("the records of {other}"), over));
        }
        let apart = self.others_are_apart(piece, source, best)?;
        let how = format!("{} of {wanted} neighbours match", matched.count());
        let (partition, mut placed) = match verdict {
            Verdict::Several {
                places, targets, ..
            } => self.one_of(place, piece, (best.partition, *places, targets))?,
            Verdict::Here { target, .. } if matched.count() == wanted => {
                let (how, sure) = match (in_part, alike) {
                    (None, None) if !self.samples.complete => (
                        format!("likely: {how}, and not all of the source was looked for"),
                        false,
                    ),
                    (None, None) if !apart => (
                        format!("likely: {how}, and some of another partition are there, too"),
                        false,
                    ),
                    (None, None) => (format!("exact: {how}"), true),
                    (Some(one), _) => (
                        format!(
                            "likely: {how}, and not all of {topic}-{} was read",
                            one.partition
                        ),
                        false,
                    ),
                    (None, Some((other, _))) => {
                        (format!("likely: {how}, in partition {other} too"), false)
                    }
                };
                (best.partition, placed(*target, how, sure))
            }
            Verdict::Here { target, .. }
                if matched.count() >= FEWEST || matched.count() * 2 >= wanted =>
            {
                (
                    best.partition,
                    placed(*target, format!("likely: {how}"), false),
                )
            }
            Verdict::Here { .. } => {
                return Err(blocked(format!(
                    "{source}: only {} of the {} around it is in {topic}",
                    matched.count(),
                    counted(wanted as i64, "record"),
                )));
            }
            Verdict::None => return Err(blocked(format!("{source}: not found"))),
        };
        let target = placed.target.0;
        match self.samples.sides(source, place.at, best, target) {
            Sides::Right => {}
            Sides::Skips(unread) => {
                return Err(Blocked::new(
                    Reason::NotFound,
                    format!(
                        "{topic}-{partition}: {source} is there out of its order; {} is unread and lies before the place {}, \
                         where {} goes on",
                        grouped(unread),
                        grouped(target),
                        grouped(place.at)
                    ),
                    "use .strategy(\"header\") or \"timestamp\", which go back to the first unread record",
                ));
            }
            Sides::Mixed => {
                if let Why::Found { how, sure, .. } = &mut placed.why {
                    let rest = how.strip_prefix("exact: ").unwrap_or(how);
                    let rest = rest.strip_prefix("likely: ").unwrap_or(rest);
                    *how = format!("likely: {rest}, and some are on both sides of it");
                    *sure = false;
                }
            }
        }
        Ok((partition, placed))
    }

    /// Whether the target partition has nothing of source partitions on which the group has not committed; blocked if such a
    /// partition went there.
    fn others_are_apart(
        &self,
        piece: &Piece,
        source: &TopicPartition,
        best: &Searched,
    ) -> std::result::Result<bool, Blocked> {
        let carried = self.carried.get(piece.group.as_str());
        let mut apart = true;
        for (other, numbers) in &self.samples.of {
            let commit = carried.and_then(|carried| carried.get(other)).copied();
            if other == source
                || commit == Some(true)
                || best.samples.range(numbers.clone()).next().is_none()
            {
                continue;
            }
            if self.spread.home.get(other) != Some(&best.partition) {
                // Elsewhere there are as many of them: records are alike, or they were written twice.
                apart = false;
                continue;
            }
            let nothing = match commit {
                None => "committed nothing",
                Some(_) => "has no commit that can be carried over",
            };
            return Err(Blocked::new(
                Reason::NoCommit,
                format!(
                    "{}-{} has records of {other}, where {} {nothing}",
                    self.scan.topic, best.partition, piece.group
                ),
                "move the group by hand once it is known what it has read",
            ));
        }
        Ok(apart)
    }

    /// Among places that are as likely as each other only that one is taken where the group is already, and it has committed
    /// there after its last commit at the source: then nothing moves.
    fn one_of(
        &self,
        place: &Place,
        piece: &Piece,
        (partition, places, targets): (PartitionId, usize, &[i64]),
    ) -> std::result::Result<(PartitionId, Placed), Blocked> {
        let scan = self.scan;
        let at = TopicPartition::new(scan.topic, partition);
        let counted = counted(places as i64, "place");
        let there = scan.at_target.of(&piece.group, &at);
        if let (Some(Ok(there)), Some(source)) = (there, scan.source_time(piece))
            && there.committed_at > source.committed_at
            && targets.contains(&there.offset.0)
        {
            let since = format_instant(there.committed_at);
            let how = format!(
                "likely: of {counted} that are alike the one where it is, committed there {since}"
            );
            return Ok((partition, placed(there.offset.0, how, false)));
        }
        Err(Blocked::new(
            Reason::NotFound,
            format!(
                "{}: {counted} in {} are as likely as each other",
                place.source, scan.topic
            ),
            "its records, or those around it, are there more than once; try .strategy(\"header\"), or move it with \
             \"manual\" once it is known where",
        ))
    }

    fn over_budget(&self, one: &Searched) -> Blocked {
        let at = TopicPartition::new(self.scan.topic, one.partition);
        over_budget(&at, self.scan.options)
    }

    fn spread_over(&self, what: String, over: &BTreeSet<PartitionId>) -> Blocked {
        let over: Vec<String> = over.iter().map(PartitionId::to_string).collect();
        Blocked::new(
            Reason::NotFound,
            format!(
                "{what} are in several partitions of {}: {}",
                self.scan.topic,
                over.join(" and ")
            ),
            "use .strategy(\"header\"), which looks at every record, or \"timestamp\", which reads some again",
        )
    }
}

fn placed(target: i64, how: String, sure: bool) -> Placed {
    Placed {
        target: Offset(target),
        why: Why::found(how, 0, sure),
    }
}

fn blocked(what: String) -> Blocked {
    Blocked::new(
        Reason::NotFound,
        what,
        "it was not restored, or under another name (.remap(…)); or try .strategy(\"header\") or \"timestamp\"",
    )
}
