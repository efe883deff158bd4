//! Places in a large partition whose records came from one source partition, in their order: by bisection.
//!
//! Whether they are in order is looked at in many places, at every step, and record by record around what was found. Only
//! reading all of it would prove it, so that a place found like this is never called exact. Whoever finds a single record
//! out of its order reads it all.

use super::super::error::Result;
use crate::base::PartitionId;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Looked at before anything else, evenly over the partition; and as many again, wherever chance has it.
const PROBES: i64 = 64;
/// So many offsets on each side of a place are read record by record.
const AROUND: i64 = 500;

/// A record that says that it came from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub target: i64,
    pub partition: PartitionId,
    pub original: i64,
}

/// What is first in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Own(Own),
    /// None that came from the source.
    Nothing,
    /// Too many of others to tell.
    Unknown,
}

/// What a partition in order has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sorted {
    pub partition: PartitionId,
    /// For each commit the first record at or after it.
    pub first: BTreeMap<i64, Option<Own>>,
    /// The place behind the last record that came from the source.
    pub end: i64,
    /// So many of its records were looked at.
    pub looked_at: usize,
}

/// Finds the place of every commit on the partition that `range` is of; `None` if its records are not in order. `probe` tells
/// what is first in a range, `walk` all of it, as far as that goes.
pub(super) async fn sorted(
    range: std::ops::Range<i64>,
    commits: impl Fn(PartitionId) -> Vec<i64>,
    probe: impl AsyncFn(i64, i64) -> Result<Probe>,
    walk: impl AsyncFn(i64, i64) -> Result<Vec<Own>>,
) -> Result<Option<Sorted>> {
    let looked_at: Mutex<BTreeMap<i64, Own>> = Mutex::default();
    let look = |own: &Own| {
        let mut looked_at = looked_at.lock().unwrap_or_else(|lock| lock.into_inner());
        looked_at.insert(own.target, *own);
    };
    let probe = async |from: i64, to: i64| {
        let found = probe(from, to).await?;
        if let Probe::Own(own) = &found {
            look(own);
        }
        Ok(found)
    };
    let Some(mut sorted) = bisected(range.clone(), commits, &probe).await? else {
        return Ok(None);
    };
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..PROBES {
        // Knuth's MMIX: it need not surprise anybody, only not be even.
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let offsets = u64::try_from(range.end - range.start).unwrap_or(0).max(1);
        let from = range.start + i64::try_from((chance >> 1) % offsets).unwrap_or(0);
        if probe(from, range.end).await? == Probe::Unknown {
            return Ok(None);
        }
    }
    let mut places: Vec<i64> = sorted
        .first
        .values()
        .flatten()
        .map(|own| own.target)
        .collect();
    places.push(sorted.end);
    places.sort_unstable();
    let mut read = range.start;
    for place in places {
        let from = place.saturating_sub(AROUND).max(read);
        read = place.saturating_add(AROUND).min(range.end);
        if from < read {
            walk(from, read).await?.iter().for_each(look);
        }
    }
    let looked_at = looked_at
        .into_inner()
        .unwrap_or_else(|lock| lock.into_inner());
    let looked_at: Vec<Own> = looked_at.into_values().collect();
    sorted.looked_at = looked_at.len();
    let in_order = looked_at.windows(2).all(|two| follows(&two[0], &two[1]));
    Ok((in_order && looked_at.iter().all(|own| sorted.agrees(own))).then_some(sorted))
}

impl Sorted {
    /// Whether a record is on the side of every place on which it has to be.
    fn agrees(&self, own: &Own) -> bool {
        own.target < self.end
            && self.first.iter().all(|(commit, first)| {
                let behind = first.is_some_and(|first| own.target >= first.target);
                behind == (own.original >= *commit)
            })
    }
}

async fn bisected(
    range: std::ops::Range<i64>,
    commits: impl Fn(PartitionId) -> Vec<i64>,
    probe: &impl AsyncFn(i64, i64) -> Result<Probe>,
) -> Result<Option<Sorted>> {
    let mut seen: Vec<Own> = Vec::new();
    for number in 0..PROBES {
        let from = range.start + (range.end - range.start) / PROBES * number;
        match probe(from, range.end).await? {
            Probe::Unknown => return Ok(None),
            // Nothing from here on.
            Probe::Nothing => break,
            Probe::Own(own) => match seen.last() {
                Some(last) if last.target == own.target => {}
                Some(last) if !follows(last, &own) => return Ok(None),
                _ => seen.push(own),
            },
        }
    }
    let Some(first) = seen.first().copied() else {
        return Ok(None);
    };
    let Some(end) = last(&seen, range.end, probe).await? else {
        return Ok(None);
    };
    let mut sorted = Sorted {
        partition: first.partition,
        first: BTreeMap::new(),
        end,
        looked_at: 0,
    };
    for commit in commits(first.partition) {
        let behind = seen.partition_point(|own| own.original < commit);
        let below = behind.checked_sub(1).map(|place| seen[place]);
        let above = seen.get(behind).copied();
        let bounds = (below, above, range.start..end);
        match place(commit, bounds, probe).await? {
            Some(found) => sorted.first.insert(commit, found),
            None => return Ok(None),
        };
    }
    Ok(Some(sorted))
}

fn follows(one: &Own, next: &Own) -> bool {
    one.partition == next.partition && one.original < next.original
}

/// The place behind the last record that came from the source; `None` if they are not in order.
async fn last(
    seen: &[Own],
    end: i64,
    probe: &impl AsyncFn(i64, i64) -> Result<Probe>,
) -> Result<Option<i64>> {
    let Some(mut newest) = seen.last().copied() else {
        return Ok(None);
    };
    let mut above = end;
    while newest.target + 1 < above {
        let middle = newest.target + 1 + (above - newest.target - 1) / 2;
        match probe(middle, above).await? {
            Probe::Unknown => return Ok(None),
            Probe::Nothing => above = middle,
            Probe::Own(own) if follows(&newest, &own) => newest = own,
            Probe::Own(_) => return Ok(None),
        }
    }
    Ok(Some(newest.target + 1))
}

type Bounds = (Option<Own>, Option<Own>, std::ops::Range<i64>);

/// The first record at or after a commit, between one that is before it and one that is not; the outer `None`: not in
/// order.
async fn place(
    commit: i64,
    (mut below, mut found, range): Bounds,
    probe: &impl AsyncFn(i64, i64) -> Result<Probe>,
) -> Result<Option<Option<Own>>> {
    let mut low = below.map_or(range.start, |own| own.target + 1);
    let mut high = found.map_or(range.end, |own| own.target);
    while low < high {
        let middle = low + (high - low) / 2;
        match probe(middle, high).await? {
            Probe::Unknown => return Ok(None),
            Probe::Nothing => high = middle,
            Probe::Own(own) => {
                let in_order = below.is_none_or(|below| follows(&below, &own))
                    && found.is_none_or(|found| follows(&own, &found));
                if !in_order {
                    return Ok(None);
                }
                if own.original < commit {
                    low = own.target + 1;
                    below = Some(own);
                } else {
                    high = middle;
                    found = Some(own);
                }
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use proptest::prelude::*;

    fn own(target: i64, partition: i32, original: i64) -> Own {
        Own {
            target,
            partition: PartitionId(partition),
            original,
        }
    }

    fn found(records: &[Own], end: i64, commits: &[i64]) -> Option<Sorted> {
        let probe = async |from: i64, to: i64| {
            let first = records.iter().find(|own| (from..to).contains(&own.target));
            Ok(first.map_or(Probe::Nothing, |own| Probe::Own(*own)))
        };
        let walk = async |from: i64, to: i64| {
            let within = records
                .iter()
                .filter(|own| (from..to).contains(&own.target));
            Ok(within.copied().collect())
        };
        block_on(sorted(0..end, |_| commits.to_vec(), probe, walk)).unwrap()
    }

    #[test]
    fn places_are_found_between_records_of_others() {
        let records = [own(3, 1, 10), own(5, 1, 11), own(9, 1, 15), own(10, 1, 16)];
        let sorted = found(&records, 40, &[0, 11, 12, 16, 17]).unwrap();
        let targets: Vec<Option<i64>> = sorted
            .first
            .values()
            .map(|own| own.map(|own| own.target))
            .collect();
        assert_eq!(targets, [Some(3), Some(5), Some(9), Some(10), None]);
        assert_eq!((sorted.partition, sorted.end), (PartitionId(1), 11));
    }

    #[test]
    fn what_is_not_in_order_is_read_as_a_whole() {
        let once: Vec<Own> = (0..500).map(|at| own(at, 0, at)).collect();
        let twice: Vec<Own> = (0..1000).map(|at| own(at, 0, at % 500)).collect();
        let two: Vec<Own> = (0..1000).map(|at| own(at, (at % 2) as i32, at)).collect();
        assert!(found(&once, 500, &[7]).is_some());
        assert_eq!(found(&twice, 1000, &[7]), None);
        assert_eq!(found(&two, 1000, &[7]), None);
        assert_eq!(found(&[], 1000, &[7]), None);
    }

    #[test]
    fn a_few_records_out_of_their_order_around_a_place_are_found() {
        // A million in order, and three in the middle that a resumed writer has written again.
        let mut records: Vec<Own> = (0..1_000).map(|at| own(at * 1_000, 0, at)).collect();
        assert!(found(&records, 1_000_000, &[500]).is_some());
        for step in 1..4 {
            let again = own(499_900 + step, 0, 600 + step);
            records.push(again);
        }
        records.sort_by_key(|own| own.target);
        assert_eq!(found(&records, 1_000_000, &[500]), None);
    }

    proptest! {
        #[test]
        fn every_place_in_order_is_the_naive_one(
            steps in prop::collection::vec((1..9i64, 1..9i64), 1..400),
            behind in 0..200i64,
            commits in prop::collection::btree_set(0..2000i64, 1..20),
        ) {
            let (mut target, mut original) = (0, 0);
            let records: Vec<Own> = steps
                .iter()
                .map(|(one, other)| {
                    target += one;
                    original += other;
                    own(target, 0, original)
                })
                .collect();
            let commits: Vec<i64> = commits.into_iter().collect();
            let sorted = found(&records, target + 1 + behind, &commits).unwrap();
            prop_assert_eq!(sorted.end, target + 1);
            for commit in commits {
                let naive = records.iter().find(|own| own.original >= commit).copied();
                prop_assert_eq!(sorted.first[&commit], naive);
            }
        }
    }
}
