//! The least time of what is unread, and that nothing unread lies before the place it leads to.

use super::*;
use proptest::prelude::*;

/// The least times from each commit on.
fn least(records: &[(i64, i64)], commits: &[i64]) -> Vec<Option<i64>> {
    let mut least = Least::new(commits.to_vec());
    for (offset, time) in records {
        least.add(*offset, *time);
    }
    commits.iter().map(|at| least.from(*at)).collect()
}

#[test]
fn the_least_time_is_that_of_everything_behind_a_commit() {
    let records = [(10, 500), (11, 700), (13, 600), (14, 900), (15, 800)];
    assert_eq!(
        least(&records, &[0, 10, 11, 12, 14, 15, 16]),
        [
            Some(500),
            Some(500),
            Some(600),
            Some(600),
            Some(800),
            Some(800),
            None
        ]
    );
}

#[test]
fn a_block_is_taken_whole_where_no_commit_lies_inside_of_it() {
    let least = Least::new(vec![10, 20]);
    for (first, last, whole) in [
        (0, 9, true),
        (10, 19, true),
        (0, 10, false),
        (20, 99, true),
        (19, 20, false),
    ] {
        assert_eq!(least.takes_whole(first, last), whole, "{first}..={last}");
    }
}

/// What ListOffsets answers with.
fn list_offsets(records: &[(i64, i64)], time: i64) -> Option<i64> {
    let found = records.iter().find(|(_, at)| *at >= time);
    found.map(|(offset, _)| *offset)
}

proptest! {
    #[test]
    fn nothing_unread_lies_before_the_place_and_no_more_is_read_again_than_was_said(
        source in prop::collection::vec((0..4i64, 0..30i64, any::<bool>()), 1..40),
        commits in prop::collection::vec(0..100i64, 1..6),
    ) {
        // Offsets with gaps, times in any order and often equal; some records are not restored.
        let mut at = 0;
        let mut records = Vec::new();
        let mut restored = Vec::new();
        for (step, time, kept) in source {
            at += 1 + step;
            records.push((at, time));
            if kept {
                restored.push((at, time));
            }
        }
        // Target offset and time, and where it was.
        let target: Vec<(i64, i64)> = (0..).zip(restored.iter().map(|(_, time)| *time)).collect();
        for (commit, time) in commits.iter().zip(least(&records, &commits)) {
            let naive = records.iter().filter(|(at, _)| at >= commit).map(|(_, time)| *time).min();
            prop_assert_eq!(time, naive);
            let (Some(time), Some(place)) = (time, time.and_then(|time| list_offsets(&target, time))) else {
                continue;
            };
            let at_source = list_offsets(&records, time).unwrap();
            let found = Found { time, at_source, at_target: place, same: true, alone: true };
            let placed = found.placed(Offset(*commit), None);
            let unread = restored.iter().position(|(at, _)| at >= commit).map(|at| at as i64);
            if let Some(unread) = unread {
                prop_assert!(placed.target.0 <= unread);
                let again = placed.why.again_and_skipped().0;
                prop_assert!((unread - placed.target.0) as u64 <= again);
            }
        }
    }
}
