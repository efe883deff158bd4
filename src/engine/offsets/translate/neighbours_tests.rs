//! Boundaries among records that are written down here; and against what a restore in order leads to.

use super::super::samples::{Sides, There, sides};
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

/// A target that holds two sources: of each record what it says, and which one of the first source's it is.
type Target = Vec<(u8, Option<usize>)>;

/// One behind the other as `picks` has it; turned, if what was restored first is not what was written first.
fn mixed(
    own: &[u8],
    kept: &[bool],
    others: &[u8],
    picks: &[bool],
    turned: Option<usize>,
) -> Target {
    let mut own = own
        .iter()
        .enumerate()
        .filter(|(at, _)| kept[*at])
        .map(|(at, what)| (*what, Some(at)));
    let mut others = others.iter().map(|what| (*what, None));
    let mut target = Target::new();
    for pick in picks {
        target.extend(if *pick { own.next() } else { others.next() });
    }
    target.extend(own.chain(others));
    if let Some(turned) = turned {
        let turned = turned % target.len().max(1);
        target.rotate_left(turned);
    }
    target
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn before_what_is_sure_lies_nothing_unread_and_behind_it_nothing_read_and_where_something_does_it_blocks(
        // Few different records, so that many are equal; or none is equal to any.
        distinct in any::<bool>(),
        source in prop::collection::vec(0..6u8, 1..40),
        others in prop::collection::vec(3..9u8, 0..20),
        kept in prop::collection::vec(prop::bool::weighted(0.95), 40),
        picks in prop::collection::vec(any::<bool>(), 0..60),
        turned in prop::option::of(0..60usize),
        place in 0..41usize,
    ) {
        let source: Vec<u8> = match distinct {
            true => (100..).take(source.len()).collect(),
            false => source,
        };
        let place = place.min(source.len());
        let target = mixed(&source, &kept, &others, &picks, turned);
        let around = around(&source, place);
        let says: Vec<u8> = target.iter().map(|(what, _)| *what).collect();
        let records: Vec<Seen> = (0..).zip(&source).map(|(at, what)| record(at, *what)).collect();
        let there: Vec<There<'_>> = records
            .iter()
            .filter_map(|own| {
                let what = own.digest[0];
                let first = says.iter().position(|other| *other == what)? as i64;
                let last = says.iter().rposition(|other| *other == what)? as i64;
                Some(There { own, first, last })
            })
            .collect();
        let in_order = turned.is_none_or(|turned| turned % target.len().max(1) == 0);
        let all_kept = kept[..source.len()].iter().all(|kept| *kept);
        let Verdict::Here { target: at, matched } = verdict(&around, &says) else {
            // Nothing is equal: it is there, and once.
            prop_assert!(!(distinct && in_order && all_kept));
            return Ok(());
        };
        let sides = sides(there.iter().copied(), place as i64, at);
        let sure = matched.count() == around.wanted() && sides == Sides::Right;
        let (before, behind) = target.split_at(at as usize);
        let skipped = before.iter().any(|(_, own)| own.is_some_and(|own| own >= place));
        let again = behind.iter().any(|(_, own)| own.is_some_and(|own| own < place));
        if sure {
            prop_assert!(!skipped && !again, "{at} in {target:?}");
        }
        if let Sides::Skips(unread) = sides {
            let what = source[unread as usize];
            prop_assert!(unread >= place as i64);
            prop_assert!(behind.iter().all(|(other, _)| *other != what));
        }
        if distinct {
            // It blocks if, and only if, something is skipped.
            prop_assert_eq!(matches!(sides, Sides::Skips(_)), skipped, "{} in {:?}", at, target);
            prop_assert!(!in_order || sides == Sides::Right);
            prop_assert!(!(in_order && all_kept) || sure);
        }
    }
}
