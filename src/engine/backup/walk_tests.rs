use super::*;
use crate::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp, control_batch};

fn data(base: i64, count: i64, producer: Option<i64>) -> Vec<u8> {
    let deltas: Vec<i32> = (0..count as i32).collect();
    holed(base, &deltas, count as i32 - 1, producer)
}

/// A batch with records at the given deltas only.
fn holed(base: i64, deltas: &[i32], last: i32, producer: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default())
        .base_offset(base)
        .transactional(producer.is_some());
    for delta in deltas {
        builder
            .push_at(*delta, 1000, None, Some(b"value"), Headers::empty())
            .unwrap();
    }
    let stamp = match producer {
        Some(producer_id) => ProducerStamp {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
        },
        None => ProducerStamp::NONE,
    };
    builder.finish_spanning(last, stamp).unwrap()
}

fn marker(base: i64, producer: i64, control: ControlType) -> Vec<u8> {
    control_batch(control, base, 1000, producer, 0, 0).unwrap()
}

fn aborted(producer_id: i64, first: i64) -> Aborted {
    Aborted {
        producer_id,
        first_offset: Offset(first),
    }
}

fn gaps(walk: Walk) -> Vec<(i64, i64, GapKind, u64)> {
    let list = walk.gaps.into_list();
    list.iter()
        .map(|gap| (gap.from.0, gap.to.0, gap.kind, gap.offsets))
        .collect()
}

#[test]
fn the_aborted_list_comes_in_marker_order_and_is_applied_in_offset_order() {
    // Producer 7 begins first and ends last; the broker lists it last.
    let log = [
        data(0, 2, Some(7)),
        data(2, 2, Some(8)),
        marker(4, 8, ControlType::Abort),
        data(5, 2, Some(8)),
        marker(7, 8, ControlType::Commit),
        marker(8, 7, ControlType::Abort),
        data(9, 1, None),
    ]
    .concat();
    let mut walk = Walk::new(Offset(0), Offset(10));
    let walked = walk.response(&log, &[aborted(8, 2), aborted(7, 0)]);
    assert!(walked.broken.is_none());
    assert_eq!(walked.records, 3);
    assert_eq!(walk.position(), Offset(10));
    assert_eq!(
        gaps(walk),
        [
            (4, 5, GapKind::Marker, 1),
            (7, 9, GapKind::Marker, 2),
            (0, 4, GapKind::Aborted, 4),
        ]
    );
}

#[test]
fn a_transaction_begun_in_an_earlier_response_is_in_the_next_ones_list_too() {
    let mut walk = Walk::new(Offset(0), Offset(5));
    let first = walk.response(&data(0, 2, Some(7)), &[aborted(7, 0)]);
    let rest = [data(2, 2, Some(7)), marker(4, 7, ControlType::Abort)].concat();
    let second = walk.response(&rest, &[aborted(7, 0)]);
    assert_eq!((first.records, second.records), (0, 0));
    assert_eq!(
        gaps(walk),
        [(4, 5, GapKind::Marker, 1), (0, 4, GapKind::Aborted, 4)]
    );
}

#[test]
fn a_batch_cut_by_both_ends_counts_only_what_lies_between() {
    let log = holed(0, &[0, 3, 4, 8, 9], 9, None);
    let mut walk = Walk::new(Offset(3), Offset(9));
    let walked = walk.response(&log, &[]);
    assert_eq!(
        walked.pieces,
        [Piece::Cut {
            bytes: 0..log.len(),
            within: Offset(3)..Offset(9),
            records: 3
        }]
    );
    assert_eq!(walk.position(), Offset(9));
    assert_eq!(gaps(walk), [(3, 9, GapKind::Compacted, 3)]);
}

#[test]
fn neighbouring_whole_batches_are_one_piece_and_an_emptied_one_is_a_gap() {
    let log = [
        data(0, 2, None),
        data(2, 2, None),
        holed(4, &[], 3, None),
        data(10, 1, None),
    ]
    .concat();
    let ends = data(0, 2, None).len() + data(2, 2, None).len();
    let mut walk = Walk::new(Offset(0), Offset(11));
    let walked = walk.response(&log, &[]);
    let last = log.len() - data(10, 1, None).len();
    assert_eq!(
        walked.pieces,
        [Piece::Whole(0..ends), Piece::Whole(last..log.len())]
    );
    assert_eq!(gaps(walk), [(4, 10, GapKind::Compacted, 6)]);
}

#[test]
fn a_broken_batch_is_named_and_what_came_before_it_counts() {
    let mut log = [data(0, 2, None), data(2, 2, None)].concat();
    // The magic byte of the second one: nothing about where it ends can be known.
    let second = data(0, 2, None).len();
    log[second + 16] = 77;
    let mut walk = Walk::new(Offset(0), Offset(4));
    let walked = walk.response(&log, &[]);
    assert_eq!(walked.records, 2);
    assert_eq!(walk.position(), Offset(2));
    assert!(matches!(
        walked.broken,
        Some((Offset(2), record::Error::UnsupportedMagic { magic: 77, .. }))
    ));
}

#[test]
fn nothing_at_or_after_the_end_is_taken() {
    let log = [data(0, 2, None), data(6, 2, None)].concat();
    let mut walk = Walk::new(Offset(0), Offset(5));
    let walked = walk.response(&log, &[]);
    assert_eq!(walked.records, 2);
    assert_eq!(walk.position(), Offset(5));
    assert_eq!(gaps(walk), [(2, 5, GapKind::Compacted, 3)]);
    assert_eq!(reach(&log, Offset(0), Offset(5)).offset, Offset(5));
}

#[test]
fn a_cut_batch_at_the_end_of_a_response_is_left_for_the_next() {
    let log = [data(0, 2, None), data(2, 2, None)].concat();
    let cut = &log[..log.len() - 3];
    assert_eq!(reach(cut, Offset(0), Offset(4)).offset, Offset(2));
    let mut walk = Walk::new(Offset(0), Offset(4));
    assert_eq!(walk.response(cut, &[]).records, 2);
    assert_eq!(walk.position(), Offset(2));
}

#[test]
fn offsets_that_retention_took_are_gaps_of_their_own() {
    let mut walk = Walk::new(Offset(3), Offset(10));
    walk.lost_to_retention(Offset(6));
    walk.lost_to_retention(Offset(5));
    let walked = walk.response(&data(4, 6, None), &[]);
    assert_eq!(walked.records, 4);
    assert_eq!(gaps(walk), [(3, 6, GapKind::Retention, 3)]);
}

/// The batch with a flipped byte in its last record.
fn flipped(mut batch: Vec<u8>) -> Vec<u8> {
    let last = batch.len() - 3;
    batch[last] ^= 0x40;
    batch
}

#[test]
fn a_batch_that_fails_its_checksum_is_a_gap_and_reading_goes_on_behind_it() {
    let log = [
        data(0, 2, None),
        flipped(data(2, 3, None)),
        data(5, 1, None),
    ]
    .concat();
    let mut walk = Walk::new(Offset(0), Offset(6));
    let walked = walk.response(&log, &[]);
    assert_eq!(walked.broken, None);
    assert_eq!(walked.records, 3);
    let corrupt: Vec<_> = walked.corrupt.iter().map(|c| (c.from.0, c.to.0)).collect();
    assert_eq!(corrupt, [(2, 5)]);
    assert_eq!(walk.position(), Offset(6));
    assert_eq!(gaps(walk), [(2, 5, GapKind::Corrupt, 3)]);
}

#[test]
fn where_a_corrupt_batch_ends_is_what_the_next_one_says() {
    let mut lying = data(2, 3, None);
    // Its last offset delta, which the checksum covers.
    lying[23..27].copy_from_slice(&1_000_000_i32.to_be_bytes());
    let log = [data(0, 2, None), lying.clone(), data(5, 1, None)].concat();
    assert_eq!(reach(&log, Offset(0), Offset(100)).offset, Offset(6));
    let mut walk = Walk::new(Offset(0), Offset(100));
    let walked = walk.response(&log, &[]);
    assert_eq!((walked.broken, walked.records), (None, 3));
    assert_eq!(gaps(walk), [(2, 5, GapKind::Corrupt, 3)]);

    // Nothing follows: its own word leads past the end of what is to be read, and is not believed.
    let mut walk = Walk::new(Offset(0), Offset(100));
    let walked = walk.response(&[data(0, 2, None), lying].concat(), &[]);
    assert_eq!(walked.broken.map(|(at, _)| at), Some(Offset(2)));
    assert_eq!(walk.position(), Offset(2));

    // Nor if it leads over good batches of the next answer, which its count of records contradicts.
    let mut lying = data(2, 3, None);
    lying[23..27].copy_from_slice(&50_i32.to_be_bytes());
    let mut walk = Walk::new(Offset(0), Offset(100));
    let walked = walk.response(&[data(0, 2, None), lying].concat(), &[]);
    assert_eq!(walked.broken.map(|(at, _)| at), Some(Offset(2)));
    assert_eq!(gaps(walk), []);
}

#[test]
fn a_corrupt_batch_that_may_end_an_aborted_transaction_is_not_passed() {
    let log = [
        data(0, 2, Some(7)),
        flipped(marker(2, 7, ControlType::Abort)),
        data(3, 2, Some(7)),
    ]
    .concat();
    let mut walk = Walk::new(Offset(0), Offset(5));
    let walked = walk.response(&log, &[aborted(7, 0)]);
    assert_eq!(walked.broken.map(|(at, _)| at), Some(Offset(2)));
    assert_eq!(walk.position(), Offset(2));
}

#[test]
fn a_corrupt_batch_that_may_begin_an_aborted_transaction_is_not_passed() {
    let log = [
        flipped(data(0, 2, Some(7))),
        flipped(marker(2, 7, ControlType::Abort)),
        data(3, 2, Some(7)),
    ]
    .concat();
    let mut walk = Walk::new(Offset(0), Offset(5));
    let walked = walk.response(&log, &[aborted(7, 0)]);
    assert_eq!(walked.broken.map(|(at, _)| at), Some(Offset(0)));
    assert_eq!(walk.position(), Offset(0));
}

#[test]
fn a_corrupt_length_does_not_turn_the_rest_of_the_log_into_a_gap() {
    let mut short = data(2, 3, None);
    // Its length, which leads into the middle of it: what follows there is no batch.
    let length = i32::from_be_bytes(short[8..12].try_into().unwrap());
    short[8..12].copy_from_slice(&(length - 7).to_be_bytes());
    let log = [data(0, 2, None), short, data(5, 1, None)].concat();
    let mut walk = Walk::new(Offset(0), Offset(100));
    let walked = walk.response(&log, &[]);
    assert!(walked.broken.is_some());
    assert_eq!(walk.position(), Offset(2));
    assert_eq!(gaps(walk), []);
}

#[test]
fn a_base_offset_that_breaks_the_order_of_the_log_is_not_taken() {
    // The checksum does not cover it.
    for base in [0_i64, 5000] {
        let mut moved = data(2, 2, None);
        moved[..8].copy_from_slice(&base.to_be_bytes());
        let log = [data(0, 2, None), moved, data(4, 2, None)].concat();
        let mut walk = Walk::new(Offset(0), Offset(6));
        let walked = walk.response(&log, &[]);
        assert!(walked.broken.is_some(), "{base}");
        assert!(walk.position() <= Offset(2), "{base}");
        assert_eq!(gaps(walk), [], "{base}");
    }
}
