use super::*;
use crate::record::{BatchBuilder, BuildOptions, Headers};

const IDENTITY: ProducerIdentity = ProducerIdentity {
    producer_id: 7,
    producer_epoch: 0,
};
/// Two leaders.
const ONE: i32 = 1;
const OTHER: i32 = 2;

fn batch(base: i64, records: i32) -> Batch {
    batch_dated(now().0, base, records)
}

fn batch_dated(date: i64, base: i64, records: i32) -> Batch {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for _ in 0..records {
        builder
            .push(date, None, Some(b"value"), Headers::empty())
            .unwrap();
    }
    let content = builder
        .finish_split(stamp(IDENTITY, Offset(100), base))
        .unwrap();
    Batch {
        content,
        base,
        share: 0,
        memory: None,
    }
}

/// A lane whose plan begins at 100, with batches of ten records in line.
fn lane(batches: i64) -> Lane {
    let mut lane = Lane::new(TopicPartition::new("orders", 3), Offset(100), 100, IDENTITY);
    for index in 0..batches {
        lane.push(batch(100 + 10 * index, 10)).unwrap();
    }
    lane
}

fn send_all(lane: &mut Lane, leader: i32) -> Vec<i64> {
    std::iter::from_fn(|| lane.send(leader).map(|(_, base)| base)).collect()
}

fn bases(batches: Vec<Batch>) -> Vec<i64> {
    batches.iter().map(|batch| batch.base).collect()
}

fn lost() -> kafka::Error {
    kafka::Error::Disconnected {
        api: "Produce",
        broker: "1".into(),
        why: "cut".into(),
        in_doubt: true,
    }
}

fn refused(code: ErrorCode) -> kafka::Error {
    kafka::Error::broker("Produce", "orders-3", code, None)
}

fn ours(bases: &[i64]) -> Vec<(i64, ProducerStamp)> {
    bases
        .iter()
        .map(|base| (*base, stamp(IDENTITY, Offset(100), *base)))
        .collect()
}

fn settled(end: i64, tail: Vec<(i64, ProducerStamp)>) -> Settled {
    Settled {
        end,
        tail,
        identity: None,
    }
}

/// Everything that was sent is lost; the log may be looked at.
fn lose_all(lane: &mut Lane, unanswered: usize) {
    for _ in 0..unanswered {
        lane.failed(lost(), Instant::now()).unwrap();
    }
    assert!(lane.wants_look().is_some());
    lane.look();
}

#[test]
fn sequences_follow_the_offsets_and_wrap_to_zero() {
    assert_eq!(stamp(IDENTITY, Offset(100), 100).base_sequence, 0);
    assert_eq!(stamp(IDENTITY, Offset(100), 130).base_sequence, 30);
    let far = 100 + i64::from(i32::MAX);
    assert_eq!(stamp(IDENTITY, Offset(100), far).base_sequence, i32::MAX);
    assert_eq!(stamp(IDENTITY, Offset(100), far + 1).base_sequence, 0);
}

#[test]
fn one_batch_goes_first_and_five_once_it_has_landed() {
    let mut lane = lane(8);
    assert_eq!(send_all(&mut lane, ONE), [100]);
    assert_eq!(bases(lane.landed(100, 100).unwrap()), [100]);
    assert_eq!(send_all(&mut lane, ONE), [110, 120, 130, 140, 150]);
    assert_eq!(bases(lane.landed(110, 110).unwrap()), [110]);
    assert_eq!(send_all(&mut lane, ONE), [160]);
}

#[test]
fn answers_that_are_seen_in_another_order_count_all_the_same() {
    let mut lane = lane(5);
    lane.send(ONE);
    lane.landed(100, 100).unwrap();
    assert_eq!(send_all(&mut lane, ONE), [110, 120, 130, 140]);
    assert_eq!(bases(lane.landed(130, 130).unwrap()), [0i64; 0]);
    assert_eq!(bases(lane.landed(110, 110).unwrap()), [110]);
    assert_eq!(bases(lane.landed(120, 120).unwrap()), [120, 130]);
    assert!(!lane.is_idle());
    assert_eq!(bases(lane.landed(140, 140).unwrap()), [140]);
    assert!(lane.is_idle());
}

#[test]
fn what_is_dated_long_ago_goes_one_by_one() {
    let mut lane = Lane::new(TopicPartition::new("orders", 3), Offset(100), 100, IDENTITY);
    let old = now().0 - 2 * REMEMBERED.as_millis() as i64;
    for (index, date) in [old, now().0, now().0, now().0, old, now().0, now().0]
        .into_iter()
        .enumerate()
    {
        let base = 100 + 10 * index as i64;
        lane.push(batch_dated(date, base, 10)).unwrap();
    }
    assert_eq!(send_all(&mut lane, ONE), [100]);
    lane.landed(100, 100).unwrap();
    // The one behind an old one: its producer may be forgotten, and it could be refused.
    assert_eq!(send_all(&mut lane, ONE), [110]);
    lane.landed(110, 110).unwrap();
    // Up to the next old one: a third behind that would be taken in its place.
    assert_eq!(send_all(&mut lane, ONE), [120, 130, 140]);
    for base in [120, 130, 140] {
        lane.landed(base, base).unwrap();
    }
    assert_eq!(send_all(&mut lane, ONE), [150]);
    lane.landed(150, 150).unwrap();
    assert_eq!(send_all(&mut lane, ONE), [160]);
}

#[test]
fn a_batch_that_landed_elsewhere_is_named() {
    let mut lane = lane(2);
    lane.send(ONE);
    match lane.landed(100, 104) {
        Err(Error::ForeignWriter {
            expected, found, ..
        }) => {
            assert_eq!((expected.0, found.0), (100, 104));
        }
        other => panic!("{other:?}"),
    }
    match lane.landed(100, 90) {
        Err(Error::Duplicate {
            expected, found, ..
        }) => {
            assert_eq!((expected.0, found.0), (100, 90));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_loss_nothing_is_sent_until_the_log_was_looked_at() {
    let mut lane = lane(6);
    lane.send(ONE);
    lane.landed(100, 100).unwrap();
    send_all(&mut lane, ONE);
    lane.failed(lost(), Instant::now()).unwrap();
    assert_eq!(send_all(&mut lane, ONE), [0i64; 0]);
    assert!(lane.wants_look().is_none(), "four answers are due");
    for _ in 0..4 {
        lane.failed(lost(), Instant::now()).unwrap();
    }
    assert!(lane.wants_look().is_some());
}

#[test]
fn what_the_log_holds_is_taken_for_written_and_the_rest_sent_again_as_it_was() {
    let mut lane = lane(6);
    lane.send(ONE);
    lane.landed(100, 100).unwrap();
    let first: Vec<(SplitBatch, i64)> = std::iter::from_fn(|| lane.send(ONE)).collect();
    lose_all(&mut lane, 5);
    let landed = lane
        .settle(settled(130, ours(&[110, 120])), Instant::now())
        .unwrap();
    assert_eq!(bases(landed), [110, 120]);
    // One tries the log, the others follow.
    let (bytes, base) = lane.send(ONE).unwrap();
    assert_eq!((&bytes, base), (&first[2].0, 130));
    assert!(lane.send(ONE).is_none());
    assert_eq!(bases(lane.landed(130, 130).unwrap()), [130]);
    assert_eq!(send_all(&mut lane, ONE), [140, 150]);
}

#[test]
fn a_log_that_ends_within_a_batch_is_somebody_elses_doing() {
    let mut lane = lane(2);
    lane.send(ONE);
    lose_all(&mut lane, 1);
    match lane.settle(settled(104, Vec::new()), Instant::now()) {
        Err(Error::ForeignWriter {
            expected, found, ..
        }) => {
            assert_eq!((expected.0, found.0), (100, 104));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tail_of_the_right_length_by_another_producer_is_not_ours() {
    let mut lane = lane(2);
    lane.send(ONE);
    lose_all(&mut lane, 1);
    let other = ProducerIdentity {
        producer_id: 8,
        ..IDENTITY
    };
    let tail = vec![(100, stamp(other, Offset(100), 100))];
    assert!(matches!(
        lane.settle(settled(110, tail), Instant::now()),
        Err(Error::ForeignWriter { .. })
    ));
}

#[test]
fn a_log_shorter_than_what_was_acknowledged_is_an_error() {
    let mut lane = lane(2);
    lane.send(ONE);
    lane.landed(100, 100).unwrap();
    lane.send(ONE);
    lose_all(&mut lane, 1);
    assert!(matches!(
        lane.settle(settled(100, Vec::new()), Instant::now()),
        Err(Error::Mismatch(_))
    ));
}

#[test]
fn a_sequence_refused_by_a_settled_log_twice_asks_for_another_identity() {
    let mut lane = lane(3);
    let refusal = || refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    for wanted in [false, false, true] {
        lane.send(ONE).unwrap();
        lane.failed(refusal(), Instant::now()).unwrap();
        assert_eq!(lane.look().another_identity, wanted);
        let identity = wanted.then_some(ProducerIdentity {
            producer_id: 9,
            producer_epoch: 0,
        });
        let answer = Settled {
            identity,
            ..settled(100, Vec::new())
        };
        lane.settle(answer, Instant::now()).unwrap();
    }
    let (batch_again, base) = lane.send(ONE).unwrap();
    let bytes = batch_again.to_bytes();
    let header = batch_again.header();
    assert_eq!(
        (header.producer_id, header.base_sequence, base),
        (9, 0, 100)
    );
    crate::record::Batch::parse(&bytes)
        .unwrap()
        .verify_crc()
        .unwrap();
    // What is delivered later was stamped with the old one.
    lane.push(batch(130, 10)).unwrap();
    lane.landed(100, 100).unwrap();
    let last = std::iter::from_fn(|| lane.send(ONE)).last().unwrap();
    assert_eq!(last.0.header().producer_id, 9);
}

#[test]
fn a_refusal_that_no_look_can_mend_ends_it() {
    let mut lane = lane(1);
    lane.send(ONE);
    let error = lane.failed(refused(ErrorCode::MESSAGE_TOO_LARGE), Instant::now());
    assert!(matches!(error, Err(Error::Kafka(_))));
}

#[test]
fn another_leader_gets_nothing_before_the_first_one_has_answered() {
    let mut lane = lane(5);
    lane.send(ONE);
    lane.landed(100, 100).unwrap();
    lane.send(ONE);
    assert!(lane.send(OTHER).is_none());
    lane.landed(110, 110).unwrap();
    assert_eq!(send_all(&mut lane, OTHER), [120]);
    lane.landed(120, 120).unwrap();
    assert_eq!(send_all(&mut lane, OTHER), [130, 140]);
}

#[test]
fn a_log_that_cannot_be_seen_for_too_long_is_given_up_by_name() {
    let mut lane = lane(1);
    let begun = Instant::now();
    lane.send(ONE);
    lane.failed(lost(), begun).unwrap();
    lane.look();
    lane.unsettled("no leader".into(), begun).unwrap();
    lane.look();
    match lane.unsettled("no leader".into(), begun + STALL + STALL) {
        Err(Error::Stalled { at, last, .. }) => {
            assert_eq!((at.0, last.as_str()), (100, "no leader"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_out_of_its_place_is_never_put_in_line() {
    let mut lane = lane(1);
    assert!(matches!(lane.push(batch(120, 10)), Err(Error::Internal(_))));
}
