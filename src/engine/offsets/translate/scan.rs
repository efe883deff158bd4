//! By the records around a committed offset, found again among those that the target holds.
//!
//! For each place the records next before and behind it are read at the source; what they say, and when, is looked for at
//! the target. The place is the boundary with the most of them in order on its sides. If several boundaries are as good as
//! each other it is nobody's to choose. The target is read where its times say that they should be; then further and
//! further around, in the end as a whole.

use super::super::error::Result;
use super::super::options::Options;
use super::super::plan::{Blocked, Reason, Row, Why};
use super::log::{Log, Look, Seen};
use super::{AT_ONCE, Piece, Placed, SMALL, Translation, World, finish, over_budget};
use crate::base::text::{counted, grouped};
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use crate::kafka::{Client, Isolation, OffsetAt};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};

/// Records on each side of a place.
const NEIGHBOURS: usize = 8;
/// How far around the place that times lead to the target is read: first, second, and then all of it.
const WIDTHS: [i64; 3] = [2_000, 100_000, i64::MAX];
/// So many records of the target that are among a place's neighbours; with more it is nothing that tells a place.
const MOST_HITS: usize = 4096;
/// Fewer records in order than this, unless they are half of the neighbours, tell nothing.
const FEWEST: usize = 3;

/// What is around a place at the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Nearest first.
    pub before: Vec<Seen>,
    /// Nearest first; the first one is the next to read.
    pub after: Vec<Seen>,
}

/// A record of the target that is a neighbour: a bit for each that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub offset: i64,
    pub before: u8,
    pub after: u8,
}

/// Where a place is in one target partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These neighbours are in order around it.
    Here { target: i64, matched: Matched },
    /// So many places are as good as each other; each has some of these.
    Several { places: usize, matched: Matched },
    /// No neighbour is there.
    None,
}

/// Neighbours, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    pub before: u8,
    pub after: u8,
}

impl Matched {
    pub fn count(self) -> usize {
        (self.before.count_ones() + self.after.count_ones()) as usize
    }

    fn with(self, other: Self) -> Self {
        Self {
            before: self.before | other.before,
            after: self.after | other.after,
        }
    }
}

impl Verdict {
    fn matched(&self) -> Matched {
        match self {
            Self::Here { matched, .. } | Self::Several { matched, .. } => *matched,
            Self::None => Matched::default(),
        }
    }
}

impl Around {
    fn wanted(&self) -> usize {
        self.before.len() + self.after.len()
    }

    fn times(&self) -> Option<(i64, i64)> {
        let times = || {
            self.before
                .iter()
                .chain(&self.after)
                .map(|seen| seen.timestamp)
        };
        times().min().zip(times().max())
    }
}

/// The bits of the neighbours that a record is. Where the target dates records itself, times tell nothing.
pub(super) fn bits(neighbours: &[Seen], seen: &Seen) -> u8 {
    let same = neighbours.iter().enumerate().filter(|(_, own)| {
        own.digest == seen.digest && (seen.broker_time || own.timestamp == seen.timestamp)
    });
    same.fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Which of `hits`, from the boundary outward, are neighbours in their order; one that is not ends it.
fn in_order(hits: impl Iterator<Item = u8>) -> u8 {
    let mut matched = 0u8;
    for bits in hits {
        // Those further out than the last one.
        let beyond = match matched {
            0 => bits,
            _ => bits & !(u8::MAX >> matched.leading_zeros()),
        };
        if beyond == 0 {
            break;
        }
        matched |= 1 << beyond.trailing_zeros();
    }
    matched
}

/// The best boundary between what was read and what was not.
pub(super) fn judge(hits: &[Hit]) -> Verdict {
    let mut best: Vec<(Matched, i64)> = Vec::new();
    for boundary in 0..=hits.len() {
        let matched = Matched {
            before: in_order(hits[..boundary].iter().rev().map(|hit| hit.before)),
            after: in_order(hits[boundary..].iter().map(|hit| hit.after)),
        };
        let last = boundary.checked_sub(1).map(|last| hits[last]);
        let target = match (last, hits.get(boundary)) {
            // What others have written in between is unread.
            (Some(last), _) if matched.before != 0 => last.offset + 1,
            (_, Some(next)) if matched.after != 0 => next.offset,
            _ => continue,
        };
        let most = best.first().map_or(0, |(most, _)| most.count());
        if matched.count() > most {
            best.clear();
        }
        if matched.count() >= most {
            best.push((matched, target));
        }
    }
    match best[..] {
        [] => Verdict::None,
        [(matched, target)] => Verdict::Here { target, matched },
        _ => Verdict::Several {
            places: best.len(),
            matched: best
                .iter()
                .fold(Matched::default(), |all, (one, _)| all.with(*one)),
        },
    }
}

/// Everything that is sought among the records of a topic: neighbours by what they say.
struct Sought<'a> {
    places: &'a [Around],
    by_digest: HashMap<[u8; 16], Vec<usize>>,
}

impl<'a> Sought<'a> {
    fn new(places: &'a [Around], which: &[usize]) -> Self {
        let mut by_digest: HashMap<[u8; 16], Vec<usize>> = HashMap::new();
        for place in which {
            for seen in places[*place].before.iter().chain(&places[*place].after) {
                let own = by_digest.entry(seen.digest).or_default();
                if own.last() != Some(place) {
                    own.push(*place);
                }
            }
        }
        Self { places, by_digest }
    }

    fn see(&self, seen: &Seen, hits: &mut BTreeMap<usize, Vec<Hit>>) {
        for place in self.by_digest.get(&seen.digest).into_iter().flatten() {
            let around = &self.places[*place];
            let hit = Hit {
                offset: seen.offset,
                before: bits(&around.before, seen),
                after: bits(&around.after, seen),
            };
            let own = hits.entry(*place).or_default();
            if (hit.before | hit.after) != 0 && own.len() <= MOST_HITS {
                own.push(hit);
            }
        }
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
    let ways = by_way.into_iter().map(|((source, topic), pieces)| {
        let way = Way {
            translation,
            world,
            source,
            topic,
            target,
            options,
        };
        async move { way.rows(&pieces).await }
    });
    let rows: Vec<Vec<Row>> = stream::iter(ways)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(rows.into_iter().flatten().collect())
}

/// One source partition and the topic in which it is looked for.
struct Way<'a> {
    translation: &'a Translation,
    world: &'a World,
    source: TopicPartition,
    topic: &'a str,
    target: &'a Client,
    options: &'a Options,
}

/// What one target partition has of the places.
struct Searched {
    partition: PartitionId,
    verdicts: BTreeMap<usize, Verdict>,
    over_budget: bool,
}

impl Way<'_> {
    async fn rows(&self, pieces: &[&Piece]) -> Result<Vec<Row>> {
        // Groups at the same offset have the same place.
        let mut offsets: BTreeMap<i64, usize> = BTreeMap::new();
        let mut ready = Vec::new();
        for piece in pieces {
            let row = self.world.row(piece, self.source.partition);
            let committed = match self.world.topics.contains_key(self.topic) {
                true => self.world.committed(piece, self.options),
                false => self
                    .world
                    .target_log(&row)
                    .and_then(|_| Err(self.not_held())),
            };
            let committed = committed.and_then(|committed| {
                let held = self.world.ranges.contains_key(&self.source);
                held.then_some(committed).ok_or_else(|| self.not_held())
            });
            if let Ok((at, _)) = committed {
                let next = offsets.len();
                offsets.entry(at.0).or_insert(next);
            }
            ready.push((*piece, committed));
        }
        let mut places = vec![Around::default(); offsets.len()];
        for (at, place) in &offsets {
            places[*place] = self.around(*at).await?;
        }
        let searched = self.search(&places).await?;
        let mut rows = Vec::new();
        for (piece, committed) in ready {
            let found = committed.and_then(|(at, clamped)| {
                let place = offsets[&at.0];
                let (partition, placed) = self.decide(place, &places[place], &searched)?;
                Ok((partition, placed, clamped))
            });
            let (partition, placed) = match found {
                Ok((partition, mut placed, clamped)) => {
                    if let (Some(to), Why::Found { how, .. }) = (clamped, &mut placed.why) {
                        *how = format!("clamped to {}; {how}", grouped(to.0));
                    }
                    (partition, Ok(placed))
                }
                Err(blocked) => (self.source.partition, Err(blocked)),
            };
            let mut row = self.world.row(piece, partition);
            finish(&mut row, placed, self.world);
            rows.push(row);
        }
        Ok(rows)
    }

    fn not_held(&self) -> Blocked {
        Blocked::new(
            Reason::NotYetArchived,
            format!(
                "{}: the source holds nothing of this partition",
                self.source
            ),
            "try .strategy(\"header\"), which needs no records of the source",
        )
    }

    /// The records around an offset of the source.
    async fn around(&self, at: i64) -> Result<Around> {
        let Some(range) = self.world.ranges.get(&self.source) else {
            return Ok(Around::default());
        };
        let log = self.translation.log(&self.source);
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

    /// The partition of the same number; then the others, for places of which it does not have every neighbour.
    async fn search(&self, places: &[Around]) -> Result<Vec<Searched>> {
        let all: Vec<usize> = (0..places.len())
            .filter(|place| places[*place].wanted() > 0)
            .collect();
        let partitions = self
            .world
            .topics
            .get(self.topic)
            .cloned()
            .unwrap_or_default();
        let (own, others): (Vec<PartitionId>, Vec<PartitionId>) = partitions
            .into_iter()
            .partition(|partition| *partition == self.source.partition);
        let mut searched = Vec::new();
        let mut left = all;
        for partition in own.into_iter().chain(others) {
            if left.is_empty() {
                break;
            }
            let one = self.search_partition(partition, places, &left).await?;
            left.retain(|place| !is_whole(&places[*place], one.verdicts.get(place)));
            searched.push(one);
        }
        Ok(searched)
    }

    async fn search_partition(
        &self,
        partition: PartitionId,
        places: &[Around],
        which: &[usize],
    ) -> Result<Searched> {
        let at = TopicPartition::new(self.topic, partition);
        let (start, end) = self.world.logs.get(&at).copied().unwrap_or_default();
        let end = self.world.stable.get(&at).copied().unwrap_or(end);
        let log = Log::Live(self.target.clone(), at.clone());
        let mut searched = Searched {
            partition,
            verdicts: BTreeMap::new(),
            over_budget: false,
        };
        let mut budget = self.options.scan_budget.0;
        let mut left: Vec<usize> = which.to_vec();
        let small = end.0 - start.0 <= SMALL;
        for width in WIDTHS {
            if left.is_empty() || (small && width != i64::MAX) {
                continue;
            }
            let ranges = match width {
                i64::MAX => vec![(start.0, end.0)],
                _ => {
                    let around = self.by_time(&at, places, &left, end).await?;
                    windows(&around, width, (start.0, end.0))
                }
            };
            let sought = Sought::new(places, &left);
            let mut hits: BTreeMap<usize, Vec<Hit>> = BTreeMap::new();
            for (from, to) in ranges {
                let mut reading = log.read(from, to, Look::Content)?;
                while let Some(part) = reading.next().await? {
                    if budget == 0 {
                        searched.over_budget = true;
                        break;
                    }
                    budget = budget.saturating_sub(part.bytes);
                    for seen in &part.seen {
                        sought.see(seen, &mut hits);
                    }
                }
            }
            if searched.over_budget {
                break;
            }
            for place in &left {
                let hits = hits.get(place).map_or(&[][..], Vec::as_slice);
                let verdict = match hits.len() > MOST_HITS {
                    true => Verdict::Several {
                        places: hits.len(),
                        matched: hits.iter().fold(Matched::default(), |all, hit| {
                            all.with(Matched {
                                before: hit.before,
                                after: hit.after,
                            })
                        }),
                    },
                    false => judge(hits),
                };
                searched.verdicts.insert(*place, verdict);
            }
            left.retain(|place| !is_whole(&places[*place], searched.verdicts.get(place)));
        }
        Ok(searched)
    }

    /// Where times lead to, for each place.
    async fn by_time(
        &self,
        at: &TopicPartition,
        places: &[Around],
        which: &[usize],
        end: Offset,
    ) -> Result<Vec<(i64, i64)>> {
        let mut windows = Vec::new();
        for place in which {
            let Some((first, last)) = places[*place].times() else {
                continue;
            };
            let mut bounds = [end.0; 2];
            for (bound, time) in bounds.iter_mut().zip([first, last.saturating_add(1)]) {
                let wanted = [(at.clone(), OffsetAt::AtOrAfter(TimestampMs(time.max(0))))];
                let mut found = self
                    .target
                    .list_offsets(&wanted, Isolation::ReadUncommitted)
                    .await?;
                if let Some(found) = found.remove(at).transpose()?
                    && found.offset.0 >= 0
                {
                    *bound = found.offset.0;
                }
            }
            windows.push((bounds[0], bounds[1]));
        }
        Ok(windows)
    }

    fn decide(
        &self,
        place: usize,
        around: &Around,
        searched: &[Searched],
    ) -> std::result::Result<(PartitionId, Placed), Blocked> {
        let own = self.source.partition;
        let at = TopicPartition::new(self.topic, own);
        let wanted = around.wanted();
        if wanted == 0 {
            let (start, end) = self.world.logs.get(&at).copied().unwrap_or_default();
            return match self.world.logs.contains_key(&at) && start == end {
                true => Ok((
                    own,
                    placed(end.0, "nothing is there, and nothing was".into(), true),
                )),
                false => Err(blocked(format!(
                    "{}: no record is left around it at the source",
                    self.source
                ))),
            };
        }
        if let Some(one) = searched.iter().find(|one| one.over_budget) {
            let at = TopicPartition::new(self.topic, one.partition);
            return Err(over_budget(&at, self.options));
        }
        let mut found: Vec<(PartitionId, Verdict)> = searched
            .iter()
            .filter_map(|one| Some((one.partition, *one.verdicts.get(&place)?)))
            .filter(|(_, verdict)| *verdict != Verdict::None)
            .collect();
        // A stable order: among equals the partition of the same number comes first.
        found.sort_by_key(|(_, verdict)| std::cmp::Reverse(verdict.matched().count()));
        let Some(best) = found.first().copied() else {
            return Err(blocked(format!(
                "{}: none of the {} around it is in {}",
                self.source,
                counted(wanted as i64, "record"),
                self.topic
            )));
        };
        // Where another partition has records that this one lacks, they went to both. Where both have the same, records
        // are alike, and the number tells them apart.
        let matched = best.1.matched();
        let rival = found.iter().skip(1).find(|(_, verdict)| {
            let other = verdict.matched();
            let alike = other.count() == matched.count() && best.0 != own;
            alike || matched.with(other) != matched
        });
        if let Some((other, _)) = rival {
            return Err(blocked(format!(
                "{}: the records around it are in several partitions of {}: {} and {other}",
                self.source, self.topic, best.0
            )));
        }
        match best {
            (_, Verdict::Several { places, .. }) => Err(Blocked::new(
                Reason::NotFound,
                format!(
                    "{}: {} in {} are as likely as each other",
                    self.source,
                    counted(places as i64, "place"),
                    self.topic
                ),
                "its records, or those around it, are there more than once; try .strategy(\"header\"), or move it with \
                 \"manual\" once it is known where",
            )),
            (partition, Verdict::Here { target, matched }) if matched.count() == wanted => {
                let how = format!("exact: {wanted} of {wanted} neighbours match");
                Ok((partition, placed(target, how, true)))
            }
            (partition, Verdict::Here { target, matched })
                if matched.count() >= FEWEST || matched.count() * 2 >= wanted =>
            {
                let how = format!("likely: {} of {wanted} neighbours match", matched.count());
                Ok((partition, placed(target, how, false)))
            }
            (_, Verdict::Here { matched, .. }) => Err(blocked(format!(
                "{}: only {} of the {} around it is in {}",
                self.source,
                matched.count(),
                counted(wanted as i64, "record"),
                self.topic
            ))),
            (_, Verdict::None) => Err(blocked(format!("{}: not found", self.source))),
        }
    }
}

fn placed(target: i64, how: String, sure: bool) -> Placed {
    Placed {
        target: Offset(target),
        why: Why::Found {
            how,
            again: 0,
            sure,
        },
    }
}

fn blocked(what: String) -> Blocked {
    Blocked::new(
        Reason::NotFound,
        what,
        "it was not restored, or under another name (.remap(…)); or try .strategy(\"header\") or \"timestamp\"",
    )
}

fn is_whole(around: &Around, verdict: Option<&Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Here { matched, .. }) if matched.count() == around.wanted())
}

/// So much around each range, joined where they overlap, within the log.
fn windows(around: &[(i64, i64)], width: i64, (start, end): (i64, i64)) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = around
        .iter()
        .map(|(from, to)| {
            // Records of one time may be many; further out is the next width's.
            let to = (*to).min(from.saturating_add(width)).max(*from);
            (
                from.saturating_sub(width).max(start),
                to.saturating_add(width).min(end),
            )
        })
        .collect();
    all.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in all {
        match joined.last_mut() {
            Some((_, last)) if from <= *last => *last = (*last).max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
