//! Which recovery points are kept, and by which rule. Values only.

use crate::base::TimestampMs;
use crate::base::time::calendar;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A day in milliseconds.
pub(super) const DAY: i64 = 86_400_000;

/// What to keep. A recovery point stays if any rule wants it; without a rule all of them stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The newest so many.
    pub keep_last: u32,
    /// Those at most so much older than the newest.
    pub keep_within_ms: Option<i64>,
    /// The newest of each of the last so many days (UTC) that have one.
    pub keep_daily: u32,
    pub keep_weekly: u32,
    pub keep_monthly: u32,
    /// Never fewer than so many.
    pub redundancy: u32,
    /// How long what is marked stays.
    pub grace_ms: i64,
    /// Also records that the source no longer had at any recovery point that is kept.
    pub drop_expired: bool,
    /// Also topics that no recovery point that is kept has: deleted at the source, or deleted and created again.
    pub drop_removed: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_last: 0,
            keep_within_ms: None,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            redundancy: 1,
            grace_ms: 7 * DAY,
            drop_expired: false,
            drop_removed: false,
        }
    }
}

impl Policy {
    /// Whether any rule says what is kept.
    pub fn has_rule(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
        ];
        counts.iter().any(|count| *count > 0) || self.keep_within_ms.is_some()
    }

    /// How old an object that nothing names must be: a run that is still writing may take long.
    pub(super) fn unreferenced_ms(&self) -> i64 {
        self.grace_ms.max(DAY)
    }
}

/// A recovery point as the rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub number: u64,
    pub consistency_point: TimestampMs,
    pub partial: bool,
}

/// The recovery points that stay, with the rules that want them. `points` ascend by number.
///
/// Partial ones are kept by `keep_within` only, or as long as no whole one is newer: what a run did not finish is no
/// substitute for a whole recovery point.
pub(super) fn choose(
    policy: &Policy,
    points: &[Candidate],
    now: TimestampMs,
) -> BTreeMap<u64, Vec<String>> {
    let mut kept: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut keep = |number: u64, why: String| kept.entry(number).or_default().push(why);
    let Some(newest) = points.last() else {
        return kept;
    };
    if !policy.has_rule() {
        for point in points {
            keep(point.number, "no rule is given".to_string());
        }
        return kept;
    }
    let whole: Vec<Candidate> = points.iter().filter(|p| !p.partial).copied().collect();
    for point in whole.iter().rev().take(policy.keep_last as usize) {
        keep(point.number, format!("last {}", policy.keep_last));
    }
    if let Some(within) = policy.keep_within_ms {
        // One that a host with a fast clock made must not make all others old.
        let newest = newest.consistency_point.min(now);
        for point in points {
            if newest.0.saturating_sub(point.consistency_point.0) <= within {
                keep(point.number, "within".to_string());
            }
        }
    }
    let calendars = [
        ("day", policy.keep_daily),
        ("week", policy.keep_weekly),
        ("month", policy.keep_monthly),
    ];
    for (index, (name, count)) in calendars.into_iter().enumerate() {
        let mut seen = BTreeSet::new();
        for point in whole.iter().rev() {
            let period = &calendar(point.consistency_point)[index];
            if seen.len() < count as usize && seen.insert(period.clone()) {
                keep(point.number, format!("{name} {period}"));
            }
        }
    }
    match whole.last() {
        Some(last) => {
            keep(last.number, "newest".to_string());
            for point in points.iter().filter(|point| point.number > last.number) {
                keep(point.number, "no whole one is newer".to_string());
            }
        }
        None => {
            for point in points {
                keep(point.number, "none is whole".to_string());
            }
        }
    }
    let count = |kept: &BTreeMap<u64, Vec<String>>| {
        let kept = whole.iter().filter(|p| kept.contains_key(&p.number));
        kept.count()
    };
    for point in whole.iter().rev() {
        if count(&kept) >= policy.redundancy as usize {
            break;
        }
        let why = || vec![format!("at least {}", policy.redundancy)];
        kept.entry(point.number).or_insert_with(why);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::parse_instant;

    fn at(number: u64, time: &str) -> Candidate {
        Candidate {
            number,
            consistency_point: parse_instant(time, TimestampMs(0)).unwrap(),
            partial: false,
        }
    }

    fn partial(number: u64, time: &str) -> Candidate {
        Candidate {
            partial: true,
            ..at(number, time)
        }
    }

    fn kept(policy: &Policy, points: &[Candidate]) -> Vec<(u64, String)> {
        let now = parse_instant("2026-11-21", TimestampMs(0)).unwrap();
        let kept = choose(policy, points, now).into_iter();
        kept.map(|(number, why)| (number, why.join(", "))).collect()
    }

    fn owned(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
        let rows = rows.iter();
        rows.map(|(number, why)| (*number, (*why).to_string()))
            .collect()
    }

    #[test]
    fn rules_add_up_and_each_says_what_it_keeps() {
        let points = [
            at(1, "2026-09-30T23:00:00Z"),
            at(2, "2026-11-18T10:00:00Z"),
            at(3, "2026-11-19T10:00:00Z"),
            at(4, "2026-11-19T22:00:00Z"),
            at(5, "2026-11-20T10:00:00Z"),
            at(6, "2026-11-20T22:00:00Z"),
        ];
        let policy = Policy {
            keep_last: 1,
            keep_daily: 2,
            keep_weekly: 2,
            keep_monthly: 9,
            ..Policy::default()
        };
        assert_eq!(
            kept(&policy, &points),
            owned(&[
                (1, "week 2026-W40, month 2026-09"),
                (4, "day 2026-11-19"),
                (
                    6,
                    "last 1, day 2026-11-20, week 2026-W47, month 2026-11, newest"
                ),
            ])
        );
    }

    #[test]
    fn a_duration_counts_from_the_newest_so_that_silence_drops_nothing() {
        let points = [
            at(1, "2026-11-18T10:00:00Z"),
            at(2, "2026-11-19T10:00:00Z"),
            at(3, "2026-11-20T10:00:00Z"),
        ];
        let policy = Policy {
            keep_within_ms: Some(DAY),
            ..Policy::default()
        };
        assert_eq!(
            kept(&policy, &points),
            owned(&[(2, "within"), (3, "within, newest")])
        );
    }

    #[test]
    fn a_point_from_a_clock_that_is_ahead_makes_no_other_old() {
        let points = [
            at(1, "2026-10-18T10:00:00Z"),
            at(2, "2026-11-19T10:00:00Z"),
            at(3, "2026-11-20T10:00:00Z"),
            at(4, "2027-11-20T10:00:00Z"),
        ];
        let policy = Policy {
            keep_within_ms: Some(7 * DAY),
            ..Policy::default()
        };
        assert_eq!(
            kept(&policy, &points),
            owned(&[(2, "within"), (3, "within"), (4, "within, newest")])
        );
    }

    #[test]
    fn partial_generations_are_no_redundancy() {
        let points = [
            at(1, "2026-11-18T10:00:00Z"),
            at(2, "2026-11-19T10:00:00Z"),
            partial(3, "2026-11-20T10:00:00Z"),
            partial(4, "2026-11-20T11:00:00Z"),
        ];
        let policy = Policy {
            keep_last: 1,
            ..Policy::default()
        };
        assert_eq!(
            kept(&policy, &points),
            owned(&[
                (2, "last 1, newest"),
                (3, "no whole one is newer"),
                (4, "no whole one is newer")
            ])
        );
        let more = Policy {
            redundancy: 2,
            ..policy
        };
        assert_eq!(kept(&more, &points)[0], (1, "at least 2".to_string()));
        let none_whole = [partial(1, "2026-11-18"), partial(2, "2026-11-19")];
        assert_eq!(kept(&more, &none_whole).len(), 2);
    }

    #[test]
    fn a_partial_generation_between_whole_ones_goes_unless_it_is_within_the_duration() {
        let points = [
            at(1, "2026-11-18"),
            partial(2, "2026-11-19"),
            at(3, "2026-11-20"),
        ];
        let mut policy = Policy {
            keep_last: 5,
            ..Policy::default()
        };
        assert_eq!(
            kept(&policy, &points),
            owned(&[(1, "last 5"), (3, "last 5, newest")])
        );
        policy.keep_within_ms = Some(DAY);
        assert_eq!(kept(&policy, &points)[1], (2, "within".to_string()));
    }

    #[test]
    fn without_a_rule_everything_stays() {
        let points = [at(1, "2026-11-18"), at(2, "2026-11-19")];
        assert_eq!(kept(&Policy::default(), &points).len(), 2);
    }
}
