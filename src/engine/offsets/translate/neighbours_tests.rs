//! Boundaries among records that are written down here; and against what a restore in order leads to.

use super::*;
use proptest::prelude::*;

/// A record that says `what`.
fn record(offset: i64, what: u8) -> Seen {
    Seen {
        offset,
        timestamp: i64::from(what),
        broker_time: false,
        digest: [what; 16],
        origin: None,
        commit: None,
    }
}

/// The neighbours of a place in a source of these records.
fn around(source: &[u8], place: usize) -> Around {
    let seen = |what: &u8| record(0, *what);
    Around {
        before: source[..place]
            .iter()
            .rev()
            .take(NEIGHBOURS)
            .map(seen)
            .collect(),
        after: source[place..].iter().take(NEIGHBOURS).map(seen).collect(),
    }
}

/// The place, and how many neighbours are there; `None` if there is none, or several.
fn here(around: &Around, target: &[u8]) -> Option<(i64, usize)> {
    match verdict(around, target) {
        Verdict::Here { target, matched } => Some((target, matched.count())),
        _ => None,
    }
}

fn verdict(around: &Around, target: &[u8]) -> Verdict {
    let hits = (0..).zip(target).map(|(offset, what)| {
        let matched = around.is(&record(offset, *what));
        Hit {
            offset,
            before: matched.before,
            after: matched.after,
        }
    });
    let hits: Vec<Hit> = hits.filter(|hit| (hit.before | hit.after) != 0).collect();
    judge(&hits)
}

#[test]
fn the_boundary_has_what_was_read_on_one_side_and_what_was_not_on_the_other() {
    let source: Vec<u8> = (0..20).collect();
    for (place, matched) in [(0, 8), (3, 11), (10, 16), (19, 9), (20, 8)] {
        assert_eq!(
            here(&around(&source, place), &source),
            Some((place as i64, matched))
        );
    }
}

#[test]
fn what_was_not_restored_is_missing_and_no_more() {
    let source: Vec<u8> = (0..20).collect();
    let even: Vec<u8> = (0..20).filter(|what| what % 2 == 0).collect();
    assert_eq!(here(&around(&source, 9), &even), Some((5, 8)));
    // What others wrote in between has not been read.
    let mixed = [4, 5, 6, 7, 100, 101, 8, 9, 102, 10];
    assert_eq!(here(&around(&source, 8), &mixed), Some((4, 7)));
    assert_eq!(verdict(&around(&source, 8), &[100, 101]), Verdict::None);
}

#[test]
fn equal_records_do_not_fool_and_where_all_are_equal_nothing_is_told() {
    // Three of a kind around the place.
    let source = [1, 2, 3, 7, 7, 7, 4, 5];
    for place in 3..=6 {
        assert_eq!(
            here(&around(&source, place), &source),
            Some((place as i64, 8))
        );
    }
    let same = [7; 40];
    assert!(matches!(
        verdict(&around(&same, 20), &same),
        Verdict::Several { .. }
    ));
    // Restored twice.
    let source: Vec<u8> = (0..20).collect();
    let twice = [source.clone(), source.clone()].concat();
    assert!(matches!(
        verdict(&around(&source, 10), &twice),
        Verdict::Several { places: 2, .. }
    ));
}

#[test]
fn times_count_unless_they_are_the_targets_own() {
    let neighbours = [record(0, 1), record(1, 2)];
    let mut other = record(5, 2);
    other.timestamp = 99;
    assert_eq!(bits(&neighbours, &record(5, 2)), 0b10);
    assert_eq!(bits(&neighbours, &other), 0);
    other.broker_time = true;
    assert_eq!(bits(&neighbours, &other), 0b10);
}

proptest! {
    #[test]
    fn what_is_sure_is_the_place_that_the_restore_knows_and_nothing_unread_lies_before_any(
        // Few different records, so that many are equal.
        source in prop::collection::vec(0..6u8, 1..40),
        kept in prop::collection::vec(prop::bool::weighted(0.9), 40),
        place in 0..41usize,
    ) {
        let place = place.min(source.len());
        let restored: Vec<(usize, u8)> = source
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, _)| kept[*at])
            .collect();
        let target: Vec<u8> = restored.iter().map(|(_, what)| *what).collect();
        let around = around(&source, place);
        let right = restored.iter().filter(|(at, _)| *at < place).count() as i64;
        if let Some((target, matched)) = here(&around, &target)
            && matched == around.wanted()
            && kept[..source.len()].iter().all(|kept| *kept)
        {
            prop_assert_eq!(target, right);
        }
    }
}
