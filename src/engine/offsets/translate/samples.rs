//! Where records of the source are at the target, beside those around a place: whether each of its partitions went to one, which
//! of them share one, and whether what is unread lies behind a place and what is read before it.
//!
//! Of sources that are not large every record is looked for: then all of that is known. Of others it is some, evenly over each
//! partition, and a place is never called exact.

use super::super::error::Result;
use super::log::{Log, Look, Seen};
use super::search::Searched;
use super::{AT_ONCE, Range, Translation, World};
use crate::base::{PartitionId, TopicPartition};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Records of each source partition that tell where it went, evenly over it.
const SOME: i64 = 16;
/// All of the topics together if they are so many offsets at the most.
const ALL: i128 = 200_000;

/// Records of each partition of some topics.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// By partition, in order.
    pub all: Vec<Seen>,
    /// Those of each partition that has any.
    pub of: BTreeMap<TopicPartition, std::ops::Range<usize>>,
    /// They are all that the source has.
    pub complete: bool,
}

impl Samples {
    /// Of those without a commit, too.
    pub async fn read(
        translation: &Translation,
        world: &World,
        topics: &BTreeSet<&str>,
        budget: u64,
    ) -> Result<Self> {
        let partitions = world.ranges.iter();
        let partitions: Vec<(&TopicPartition, &Range)> = partitions
            .filter(|(at, _)| topics.contains(at.topic.as_str()))
            .collect();
        let offsets: i128 = partitions
            .iter()
            .map(|(_, range)| i128::from(range.to.0) - i128::from(range.from.0))
            .sum();
        let reads = partitions.into_iter().map(|(source, range)| async move {
            let log = translation.log(source);
            let all = match offsets <= ALL {
                true => all(&log, range, budget).await?,
                false => None,
            };
            let complete = all.is_some();
            let seen = match all {
                Some(all) => all,
                None => some(&log, range).await?,
            };
            Ok::<_, super::Error>((source, seen, complete))
        });
        let read: Vec<(&TopicPartition, Vec<Seen>, bool)> =
            stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let mut samples = Self {
            complete: true,
            ..Self::default()
        };
        for (source, seen, complete) in read {
            let first = samples.all.len();
            samples.complete &= complete;
            samples.all.extend(seen);
            if samples.all.len() > first {
                samples.of.insert(source.clone(), first..samples.all.len());
            }
        }
        Ok(samples)
    }

    /// On which sides of a place the records of its source are in a target partition.
    pub fn sides(
        &self,
        source: &TopicPartition,
        commit: i64,
        one: &Searched,
        target: i64,
    ) -> Sides {
        let numbers = self.of.get(source).cloned().unwrap_or_default();
        let there = one.samples.range(numbers);
        let there = there.map(|(number, (first, last))| There {
            own: &self.all[*number],
            first: *first,
            last: *last,
        });
        sides(there, commit, target)
    }
}

/// Every record of a partition; `None` if that is more than the budget.
async fn all(log: &Log, range: &Range, budget: u64) -> Result<Option<Vec<Seen>>> {
    let mut reading = log.read(range.from.0, range.to.0, Look::Content)?;
    let (mut all, mut bytes) = (Vec::new(), 0u64);
    while let Some(part) = reading.next().await? {
        bytes = bytes.saturating_add(part.bytes);
        if bytes > budget {
            return Ok(None);
        }
        all.extend(part.seen);
    }
    Ok(Some(all))
}

async fn some(log: &Log, range: &Range) -> Result<Vec<Seen>> {
    let (from, to) = (range.from.0, range.to.0);
    let mut some: Vec<Seen> = Vec::new();
    for number in 0..SOME {
        let at = from + ((to - from) as i128 * i128::from(number) / i128::from(SOME)) as i64;
        if some.last().is_some_and(|last| last.offset >= at) {
            continue;
        }
        let Some(seen) = log.first(at, to, Look::Content).await? else {
            break;
        };
        some.push(seen);
    }
    Ok(some)
}

/// A record of the source, and the first and the last place at which a target partition has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct There<'s> {
    pub own: &'s Seen,
    pub first: i64,
    pub last: i64,
}

/// On which sides of a place records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// All that was read lies before it, and all that was not behind it.
    Right,
    /// Some are on the other side; or on both, or others that are the same.
    Mixed,
    /// This record has not been read and lies before it only.
    Skips(i64),
}

pub(super) fn sides<'s>(
    there: impl Iterator<Item = There<'s>> + Clone,
    commit: i64,
    target: i64,
) -> Sides {
    let mut sides = Sides::Right;
    for record in there.clone() {
        let unread = record.own.offset >= commit;
        let wrong = match unread {
            true => record.first < target,
            false => record.last >= target,
        };
        if !wrong {
            continue;
        }
        sides = Sides::Mixed;
        if unread && record.last < target {
            // What lies there may be another one, which says the same and has been read.
            let mut read = there.clone().filter(|other| other.own.offset < commit);
            if !read.any(|other| other.own.digest == record.own.digest) {
                return Sides::Skips(record.own.offset);
            }
        }
    }
    sides
}

/// Where each source partition went, by its samples.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// The target partition that has the most of it.
    pub home: BTreeMap<TopicPartition, PartitionId>,
    /// Source partitions of which several target partitions have records.
    pub over: BTreeMap<TopicPartition, BTreeSet<PartitionId>>,
}

impl Spread {
    pub fn of(samples: &Samples, searched: &[Searched]) -> Self {
        let mut spread = Self::default();
        for (source, numbers) in &samples.of {
            let count = |one: &Searched| one.samples.range(numbers.clone()).count();
            // Among equals the one of the same number.
            let home = searched
                .iter()
                .map(|one| (count(one), one))
                .max_by_key(|(count, one)| (*count, one.partition == source.partition));
            let Some((most, home)) = home else {
                continue;
            };
            if most > 0 {
                spread.home.insert(source.clone(), home.partition);
            }
            if !home.whole {
                continue;
            }
            let strays = searched.iter().filter(|one| {
                let mut theirs = one.samples.range(numbers.clone());
                theirs.any(|(number, _)| !home.samples.contains_key(number))
            });
            let strays: BTreeSet<PartitionId> = strays.map(|one| one.partition).collect();
            if !strays.is_empty() {
                let all = strays.into_iter().chain([home.partition]).collect();
                spread.over.insert(source.clone(), all);
            }
        }
        spread
    }
}
