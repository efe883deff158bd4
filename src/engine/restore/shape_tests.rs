//! The shaper against a plain model: a list of records, filtered one by one.

use super::*;
use crate::base::TopicPartition;
use crate::engine::restore::select::Cut;
use crate::engine::restore::{FilterError, FilterRecord, FilterSession};
use crate::record::{Headers, OwnedHeaders};
use proptest::prelude::*;

/// What a record says, apart from where it stands.
type Content = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

#[derive(Clone, Debug)]
struct Source {
    codec: Codec,
    timestamp_type: TimestampType,
    /// Offset steps (1 is dense) and contents.
    records: Vec<(i32, Content)>,
    /// Offsets at the end of the batch that compaction emptied.
    hollow_end: i32,
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
    (
        0i64..1_000,
        bytes(),
        bytes(),
        proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..4), bytes()),
            0..3,
        ),
    )
}

fn source() -> impl Strategy<Value = Source> {
    (
        0usize..5,
        any::<bool>(),
        proptest::collection::vec(
            (prop_oneof![4 => Just(1i32), 1 => 1..4i32], content()),
            1..12,
        ),
        prop_oneof![3 => Just(0i32), 1 => 1..3i32],
    )
        .prop_map(|(codec, append_time, records, hollow_end)| Source {
            codec: Codec::ALL[codec],
            timestamp_type: match append_time {
                false => TimestampType::CreateTime,
                true => TimestampType::LogAppendTime,
            },
            records,
            hollow_end,
        })
}

/// The batches' bytes from offset 100 on, and every record as a consumer would see it.
fn build(sources: &[Source]) -> (Bytes, Vec<(i64, Content)>, i64) {
    let mut bytes = Vec::new();
    let mut seen = Vec::new();
    let mut next = 100i64;
    for source in sources {
        let mut builder = BatchBuilder::new(BuildOptions {
            codec: source.codec,
            timestamp_type: source.timestamp_type,
            ..BuildOptions::default()
        })
        .base_offset(next);
        let mut delta = -1;
        let latest = source
            .records
            .iter()
            .map(|(_, content)| content.0)
            .max()
            .unwrap();
        for (step, content) in &source.records {
            delta += step;
            let (timestamp, key, value, headers) = content;
            let owned: OwnedHeaders = headers
                .iter()
                .map(|(key, value)| (key.as_slice(), value.as_deref()))
                .collect();
            builder
                .push_at(
                    delta,
                    *timestamp,
                    key.as_deref(),
                    value.as_deref(),
                    owned.as_headers(),
                )
                .unwrap();
            let mut content = content.clone();
            if source.timestamp_type == TimestampType::LogAppendTime {
                content.0 = latest;
            }
            seen.push((next + i64::from(delta), content));
        }
        let last = delta + source.hollow_end;
        bytes.extend(builder.finish_spanning(last, ProducerStamp::NONE).unwrap());
        next += i64::from(last) + 1;
    }
    (bytes.into(), seen, next)
}

fn owned(record: &Record<'_>) -> Content {
    (
        record.timestamp,
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
        record
            .headers
            .iter()
            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    )
}

/// Keeps records whose timestamp is not a multiple of three.
struct NotThirds;

impl FilterSession for NotThirds {
    fn keep(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError> {
        Ok(record.record.timestamp % 3 != 0)
    }
}

fn selector(cut: Cut, filtered: bool) -> Selector {
    Selector {
        partition: TopicPartition::new("orders", 0),
        cut,
        filter: filtered.then(|| Box::new(NotThirds) as Box<dyn FilterSession>),
    }
}

/// One source partition into one target partition that ends at `base`.
fn shape(cut: Cut, filtered: bool, base: i64) -> Shape {
    Shape {
        topic: "orders".into(),
        routing: Routing::Partition,
        headers: HeaderChanges::default(),
        sources: vec![ShapeSource {
            selector: selector(cut, filtered),
            routes: vec![(PartitionId(3), Offset(base))],
        }],
    }
}

/// What is left of the only route, and what was kept and dropped.
fn finish(shaper: Shaper) -> (Vec<Shaped>, Mapping, Tally) {
    let mut finished = shaper.finish().unwrap();
    let routed = finished.routes.pop().unwrap();
    assert!(finished.routes.is_empty());
    (
        finished.batches,
        routed.mapping,
        finished.sources[&PartitionId(0)],
    )
}

/// Every record of the shaped batches in order, after checking that a broker would take each batch.
fn written(shaped: &[Shaped], limit: usize) -> Vec<Content> {
    let mut all = Vec::new();
    for shaped in shaped {
        let bytes = shaped.batch.to_bytes();
        let batch = Batch::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        assert!(batch.header.is_dense());
        assert_eq!(batch.header.record_count, shaped.records());
        assert_eq!(
            batch.header.attributes.timestamp_type(),
            TimestampType::CreateTime
        );
        assert!(shaped.batch.len() <= limit);
        let mut scratch = Vec::new();
        for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
            all.push(owned(&record.unwrap()));
        }
    }
    all
}

proptest! {
    #[test]
    fn exactly_the_selected_records_are_written_and_the_prediction_agrees(
        sources in proptest::collection::vec(source(), 1..12),
        bounds in (0i64..40, 0i64..60, proptest::option::of(0i64..1_000), proptest::option::of(0i64..1_000)),
        filtered in any::<bool>(),
    ) {
        let (bytes, seen, end) = build(&sources);
        let cut = Cut {
            from: 100 + bounds.0,
            to: (end - bounds.1).max(100 + bounds.0),
            since: bounds.2,
            before: bounds.3,
        };
        let wanted: Vec<&(i64, Content)> = seen
            .iter()
            .filter(|(offset, content)| {
                *offset >= cut.from
                    && *offset < cut.to
                    && cut.since.is_none_or(|since| content.0 >= since)
                    && cut.before.is_none_or(|before| content.0 < before)
                    && !(filtered && content.0 % 3 == 0)
            })
            .collect();

        let mut shaper = Shaper::writing(shape(cut, filtered, 7), 1 << 20);
        shaper.block(&bytes, 100..end).unwrap();
        let mut shaped = shaper.take();
        let (rest, mapping, tally) = finish(shaper);
        shaped.extend(rest);

        let expected: Vec<Content> = wanted.iter().map(|(_, content)| content.clone()).collect();
        prop_assert_eq!(written(&shaped, 1 << 20), expected);
        prop_assert_eq!(tally.records, wanted.len() as u64);
        prop_assert_eq!(mapping.records(), wanted.len() as u64);
        for (position, (offset, _)) in wanted.iter().enumerate() {
            prop_assert_eq!(mapping.translate(Offset(*offset)).offset, Offset(7 + position as i64));
        }

        let mut predicting = Shaper::predicting(shape(cut, filtered, 7));
        predicting.block(&bytes, 100..end).unwrap();
        let (nothing, predicted, predicted_tally) = finish(predicting);
        prop_assert!(nothing.is_empty());
        prop_assert_eq!(predicted.digest(), mapping.digest());
        prop_assert_eq!(predicted_tally.records, tally.records);
        prop_assert_eq!(predicted_tally.dropped_by_filter, tally.dropped_by_filter);
        prop_assert_eq!(predicted_tally.dropped_by_time, tally.dropped_by_time);
    }

    #[test]
    fn hostile_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let cut = Cut { from: 0, to: i64::MAX, since: Some(1), before: None };
        let mut shaper = Shaper::writing(shape(cut, true, 0), 1 << 20);
        let _ = shaper.block(&bytes.into(), 0..i64::MAX);
    }
}

fn batch_of(records: usize, size: usize, base: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(base);
    for _ in 0..records {
        builder
            .push(5, None, Some(&vec![0; size]), Headers::empty())
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

const ALL: Cut = Cut {
    from: 0,
    to: 10_000,
    since: None,
    before: None,
};

#[test]
fn a_large_batch_passes_in_its_own_bytes() {
    let bytes = Bytes::from(batch_of(100, 1_000, 0));
    let mut shaper = Shaper::writing(shape(ALL, false, 0), 1 << 20);
    shaper.block(&bytes, 0..100).unwrap();
    let shaped = shaper.take();
    assert_eq!(shaped.len(), 1);
    assert_eq!(shaped[0].batch.to_bytes(), bytes);
}

#[test]
fn tiny_batches_are_merged_into_few() {
    let bytes: Bytes = (0..10_000)
        .flat_map(|base| batch_of(1, 100, base))
        .collect();
    let mut shaper = Shaper::writing(shape(ALL, false, 0), 1 << 20);
    shaper.block(&bytes, 0..10_000).unwrap();
    let mut shaped = shaper.take();
    shaped.extend(finish(shaper).0);
    assert!(shaped.len() <= 3, "{} batches", shaped.len());
    assert_eq!(shaped.iter().map(Shaped::records).sum::<i32>(), 10_000);
}

#[test]
fn a_lone_small_batch_keeps_its_own_bytes() {
    let bytes = Bytes::from(batch_of(2, 10, 0));
    let mut shaper = Shaper::writing(shape(ALL, false, 0), 1 << 20);
    shaper.block(&bytes, 0..2).unwrap();
    let (shaped, ..) = finish(shaper);
    assert_eq!(shaped[0].batch.to_bytes(), bytes);
}

#[test]
fn records_of_a_batch_that_are_not_the_blocks_own_are_left_out() {
    let bytes = Bytes::from(batch_of(10, 10, 0));
    let mut shaper = Shaper::writing(shape(ALL, false, 0), 1 << 20);
    shaper.block(&bytes, 4..8).unwrap();
    let (shaped, mapping, tally) = finish(shaper);
    assert_eq!(tally.records, 4);
    assert_eq!(shaped[0].records(), 4);
    assert_eq!(mapping.translate(Offset(4)).offset, Offset(0));
}

#[test]
fn no_batch_spans_the_end_of_a_unit() {
    let mut shaper = Shaper::writing(shape(ALL, false, 0), 1 << 20);
    for unit in 0..3 {
        let from = unit * 20;
        let bytes: Bytes = (from..from + 20)
            .flat_map(|base| batch_of(1, 100, base))
            .collect();
        shaper.unit_begin(PartitionId(0)).unwrap();
        shaper.block(&bytes, from..from + 20).unwrap();
        shaper.unit_end().unwrap();
        let counts: Vec<i32> = shaper.take().iter().map(|batch| batch.records()).collect();
        assert_eq!(counts, [20]);
    }
}
