//! Going through a topic of the target for the records around places of the source.
//!
//! Each partition is read once as far as the budget goes. It is searched for the places of the source's partition of the same
//! number, and what else it holds is noted: neighbours of other places, and records that were taken from each of the
//! source's partitions as samples. These tell whether one partition went to one partition.

use super::super::error::Result;
use super::super::options::Options;
use super::log::{Log, Look, Seen};
use super::neighbours::{Around, Hit, Matched, Verdict, is_same, is_whole, judge};
use super::{AT_ONCE, SMALL, World};
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use crate::kafka::{Client, Isolation, OffsetAt};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How far around the place that times lead to a large partition is read first, and then.
const WIDTHS: [i64; 2] = [2_000, 100_000];
/// So many records of the target that are among a place's neighbours; with more it is nothing that tells a place.
const MOST_HITS: usize = 4096;

/// A place that is looked for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub source: TopicPartition,
    /// The next record to read there.
    pub at: i64,
    pub around: Around,
    /// When groups committed it.
    pub committed_at: Vec<i64>,
    /// Where those groups are at the target.
    pub there: BTreeSet<(PartitionId, i64)>,
}

/// What one target partition has.
pub(super) struct Searched {
    pub partition: PartitionId,
    /// Of the places that were looked for in it.
    pub verdicts: BTreeMap<usize, Verdict>,
    /// Which neighbours of every place it has, anywhere; those of which it has none are left out.
    pub present: BTreeMap<usize, Matched>,
    /// The samples that it has: the first and the last place of each.
    pub samples: BTreeMap<usize, (i64, i64)>,
    /// All of it was read.
    pub whole: bool,
}

pub(super) struct Search<'a> {
    pub world: &'a World,
    pub target: &'a Client,
    pub options: &'a Options,
    pub topic: &'a str,
    pub places: &'a [Place],
    pub samples: &'a [Seen],
    by_digest: HashMap<[u8; 16], Vec<Who>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Place(usize),
    Sample(usize),
}

/// The hits of some places, and what else was seen.
struct Noted<'p> {
    which: &'p BTreeSet<usize>,
    hits: BTreeMap<usize, Vec<Hit>>,
    present: BTreeMap<usize, Matched>,
    samples: BTreeMap<usize, (i64, i64)>,
}

impl<'p> Noted<'p> {
    fn of(which: &'p BTreeSet<usize>) -> Self {
        Self {
            which,
            hits: BTreeMap::new(),
            present: BTreeMap::new(),
            samples: BTreeMap::new(),
        }
    }

    fn verdict(&self, place: usize) -> Verdict {
        let hits = self.hits.get(&place).map_or(&[][..], Vec::as_slice);
        match hits.len() > MOST_HITS {
            true => Verdict::Several {
                places: hits.len(),
                targets: Vec::new(),
                matched: self.present.get(&place).copied().unwrap_or_default(),
            },
            false => judge(hits),
        }
    }
}

/// What reading some ranges took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    bytes: u64,
    offsets: i64,
    over_budget: bool,
}

impl<'a> Search<'a> {
    pub fn new(
        (world, target, options): (&'a World, &'a Client, &'a Options),
        topic: &'a str,
        places: &'a [Place],
        samples: &'a [Seen],
    ) -> Self {
        let mut by_digest: HashMap<[u8; 16], Vec<Who>> = HashMap::new();
        for (number, place) in places.iter().enumerate() {
            for seen in place.around.before.iter().chain(&place.around.after) {
                let own = by_digest.entry(seen.digest).or_default();
                if own.last() != Some(&Who::Place(number)) {
                    own.push(Who::Place(number));
                }
            }
        }
        for (number, sample) in samples.iter().enumerate() {
            let own = by_digest.entry(sample.digest).or_default();
            own.push(Who::Sample(number));
        }
        Self {
            world,
            target,
            options,
            topic,
            places,
            samples,
            by_digest,
        }
    }

    /// Every partition of the topic, for the places of the same number; then others for those that were not found whole.
    pub async fn all(&self) -> Result<Vec<Searched>> {
        let partitions = self.world.topics.get(self.topic);
        let partitions = partitions.cloned().unwrap_or_default().into_iter();
        let searches = partitions.map(|partition| async move {
            let own = (0..self.places.len())
                .filter(|place| self.places[*place].source.partition == partition)
                .filter(|place| self.places[*place].around.wanted() > 0);
            self.partition(partition, own.collect(), true).await
        });
        let mut searched: Vec<Searched> = stream::iter(searches)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        searched.sort_by_key(|one| one.partition);
        self.elsewhere(&mut searched).await?;
        Ok(searched)
    }

    /// Places of which their own partition does not have every neighbour are looked for where there are some.
    async fn elsewhere(&self, searched: &mut [Searched]) -> Result<()> {
        let mut left: BTreeSet<usize> = (0..self.places.len())
            .filter(|place| self.places[*place].around.wanted() > 0)
            .collect();
        for one in searched.iter() {
            left.retain(|place| !is_whole(&self.places[*place].around, one.verdicts.get(place)));
        }
        let searches = searched.iter().map(|one| {
            let which: BTreeSet<usize> = left
                .iter()
                .filter(|place| !one.verdicts.contains_key(place))
                .filter(|place| !one.whole || one.present.contains_key(place))
                .copied()
                .collect();
            async move {
                match which.is_empty() {
                    true => Ok(None),
                    false => self
                        .partition(one.partition, which, one.whole)
                        .await
                        .map(Some),
                }
            }
        });
        let more: Vec<Option<Searched>> = stream::iter(searches)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (one, more) in searched.iter_mut().zip(more) {
            one.verdicts
                .extend(more.into_iter().flat_map(|more| more.verdicts));
        }
        Ok(())
    }

    /// Looks for some places in one partition: around where times lead to first, and then in `all` of it.
    async fn partition(
        &self,
        partition: PartitionId,
        which: BTreeSet<usize>,
        all: bool,
    ) -> Result<Searched> {
        let at = TopicPartition::new(self.topic, partition);
        let (start, end) = self.world.logs.get(&at).copied().unwrap_or_default();
        let end = self.world.stable.get(&at).copied().unwrap_or(end);
        let log = Log::Live(self.target.clone(), at.clone());
        let mut searched = Searched {
            partition,
            verdicts: BTreeMap::new(),
            present: BTreeMap::new(),
            samples: BTreeMap::new(),
            whole: false,
        };
        let mut took = Took::default();
        let mut left = which.clone();
        if end.0 - start.0 > SMALL {
            for width in WIDTHS {
                if left.is_empty() || took.over_budget {
                    break;
                }
                let around = self.leads(&at, &left, end).await?;
                let mut noted = Noted::of(&left);
                for range in windows(&around, width, (start.0, end.0)) {
                    self.read(&log, range, &mut noted, &mut took).await?;
                }
                if took.over_budget {
                    break;
                }
                for place in &left {
                    searched.verdicts.insert(*place, noted.verdict(*place));
                }
                left.retain(|place| {
                    !is_whole(&self.places[*place].around, searched.verdicts.get(place))
                });
            }
        }
        // Whether a place that was found whole is there once more only all of it tells; if that is not to be had, not so much
        // of it is read in vain.
        let in_vain =
            left.is_empty() && !which.is_empty() && self.is_too_much(took, end.0 - start.0);
        if !all || took.over_budget || in_vain {
            return Ok(searched);
        }
        let mut noted = Noted::of(&which);
        let mut took = Took::default();
        self.read(&log, (start.0, end.0), &mut noted, &mut took)
            .await?;
        searched.whole = !took.over_budget;
        if searched.whole {
            for place in &which {
                searched.verdicts.insert(*place, noted.verdict(*place));
            }
        }
        searched.present = noted.present;
        searched.samples = noted.samples;
        Ok(searched)
    }

    /// By what was read so far: whether all of it is more than may be read.
    fn is_too_much(&self, took: Took, offsets: i64) -> bool {
        let all = i128::from(took.bytes) * i128::from(offsets);
        all > i128::from(self.options.scan_budget.0) * i128::from(took.offsets.max(1))
    }

    async fn read(
        &self,
        log: &Log,
        (from, to): (i64, i64),
        noted: &mut Noted<'_>,
        took: &mut Took,
    ) -> Result<()> {
        let mut reading = log.read(from, to, Look::Content)?;
        while let Some(part) = reading.next().await? {
            if took.bytes >= self.options.scan_budget.0 {
                took.over_budget = true;
                return Ok(());
            }
            took.bytes = took.bytes.saturating_add(part.bytes);
            for seen in &part.seen {
                self.see(seen, noted);
            }
        }
        took.offsets = took.offsets.saturating_add(to - from);
        Ok(())
    }

    fn see(&self, seen: &Seen, noted: &mut Noted<'_>) {
        for who in self.by_digest.get(&seen.digest).into_iter().flatten() {
            let place = match *who {
                Who::Sample(sample) => {
                    if is_same(&self.samples[sample], seen) {
                        let own = noted.samples.entry(sample);
                        own.or_insert((seen.offset, seen.offset)).1 = seen.offset;
                    }
                    continue;
                }
                Who::Place(place) => place,
            };
            let matched = self.places[place].around.is(seen);
            if matched.is_none() {
                continue;
            }
            let present = noted.present.entry(place).or_default();
            *present = present.with(matched);
            if noted.which.contains(&place) {
                let own = noted.hits.entry(place).or_default();
                if own.len() <= MOST_HITS {
                    own.push(Hit {
                        offset: seen.offset,
                        before: matched.before,
                        after: matched.after,
                    });
                }
            }
        }
    }

    /// Where each place may be: by the times of its neighbours, by when it was committed, and where its groups are already.
    async fn leads(
        &self,
        at: &TopicPartition,
        which: &BTreeSet<usize>,
        end: Offset,
    ) -> Result<Vec<(i64, i64)>> {
        let mut windows = Vec::new();
        for place in which.iter().map(|place| &self.places[*place]) {
            let Some((first, last)) = place.around.times() else {
                continue;
            };
            let from = self.at_time(at, first, end).await?;
            windows.push((from, self.at_time(at, last.saturating_add(1), end).await?));
            for time in &place.committed_at {
                let lead = self.at_time(at, *time, end).await?;
                windows.push((lead, lead));
            }
            let there = place.there.iter();
            let there = there.filter(|(partition, _)| *partition == at.partition);
            windows.extend(there.map(|(_, offset)| (*offset, *offset)));
        }
        Ok(windows)
    }

    /// The first record of that time or later; the end if there is none.
    async fn at_time(&self, at: &TopicPartition, time: i64, end: Offset) -> Result<i64> {
        let wanted = [(at.clone(), OffsetAt::AtOrAfter(TimestampMs(time.max(0))))];
        let found = self
            .target
            .list_offsets(&wanted, Isolation::ReadUncommitted);
        let found = found.await?.remove(at).transpose()?;
        Ok(match found {
            Some(found) if found.offset.0 >= 0 => found.offset.0,
            _ => end.0,
        })
    }
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
        .filter(|(from, to)| from < to)
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
mod tests {
    use super::*;

    #[test]
    fn windows_are_joined_and_stay_within_the_log() {
        assert_eq!(
            windows(&[(10, 20), (100, 110), (108, 119)], 5, (8, 122)),
            [(8, 20), (95, 118)]
        );
        assert_eq!(windows(&[], 5, (0, 10)), []);
        // Where a group is said to be need not be within the log.
        assert_eq!(windows(&[(500, 500)], 5, (0, 10)), []);
    }
}
