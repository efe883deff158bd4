//! Whatever bytes come, every decoder answers with records or a typed error: no panic, no endless loop, no allocation
//! beyond the limit. `tests/fuzz` runs the same entry points under a fuzzer.

use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Limits, OwnedHeaders, ProducerStamp, TimestampType, batches,
    compress, decompress, place, restamp, set_log_append_time, upgrade_legacy,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_decompressed: 1 << 20,
};

/// Goes through everything that reads bytes.
fn exercise(bytes: &[u8]) {
    let mut scratch = Vec::new();
    let mut walk = batches(bytes);
    for batch in walk.by_ref().flatten() {
        let _ = batch.verify_crc();
        let _ = batch.control_type();
        if let Ok(records) = batch.open(&LIMITS, &mut scratch) {
            let header = batch.header;
            let mut seen = 0;
            for record in records.flatten() {
                assert!((header.base_offset..=header.last_offset()).contains(&record.offset));
                assert_eq!(record.headers.iter().count(), record.headers.len());
                seen += 1;
            }
            assert!(seen <= header.record_count);
        }
        let mut copy = batch.bytes().to_vec();
        let _ = place(&mut copy, 5, 1);
        let _ = set_log_append_time(&mut copy, 5);
        let _ = restamp(&mut copy, 0, ProducerStamp::NONE);
        // Of a whole codec's output nothing beyond the limit may be held.
        assert!(scratch.capacity() <= LIMITS.max_decompressed.max(4096));
    }
    assert!(walk.remainder().len() <= bytes.len());
    if let Ok(upgraded) = upgrade_legacy(bytes, &LIMITS) {
        for batch in batches(&upgraded) {
            batch.unwrap().verify_crc().unwrap();
        }
    }
    for codec in Codec::ALL {
        let mut out = Vec::new();
        let _ = decompress(codec, bytes, &LIMITS, &mut out);
        assert!(out.len() <= LIMITS.max_decompressed);
    }
}

/// What a producer may write.
#[derive(Clone, Debug)]
struct Wanted {
    gap: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0usize..300).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (
        0..3i32,
        prop_oneof![-1..2_000_000_000_000i64, Just(-1)],
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4),
    )
        .prop_map(|(gap, timestamp, key, value, headers)| Wanted {
            gap,
            timestamp,
            key,
            value,
            headers,
        })
}

fn build(records: &[Wanted], codec: Codec, timestamp_type: TimestampType) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions {
        codec,
        level: None,
        timestamp_type,
    })
    .base_offset(50);
    let mut delta = -1;
    for record in records {
        delta += 1 + record.gap;
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers.push(key, value.as_deref());
        }
        builder
            .push_at(
                delta,
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                headers.as_headers(),
            )
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_true_looking_header_are_records_or_an_error(
        attributes in 0..64i16,
        delta in -1..40i32,
        count in -1..40i32,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut batch = vec![0; 61];
        batch[8..12].copy_from_slice(&(49 + payload.len() as i32).to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch.extend_from_slice(&payload);
        exercise(&batch);
    }

    #[test]
    fn arbitrary_old_messages_with_a_true_checksum_are_batches_or_an_error(
        magic in 0..2u8,
        attributes in 0..16u8,
        offset in prop_oneof![0..100i64, Just(i64::MAX), Just(-1)],
        fields in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|value| {
                let mut fields = (-1i32).to_be_bytes().to_vec();
                fields.extend((value.len() as i32).to_be_bytes());
                fields.extend(value);
                fields
            }),
        ],
        repeat in 1..3usize,
    ) {
        let mut body = vec![magic, attributes];
        if magic == 1 {
            body.extend(1_000i64.to_be_bytes());
        }
        body.extend(fields);
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        let mut message = offset.to_be_bytes().to_vec();
        message.extend((body.len() as i32 + 4).to_be_bytes());
        message.extend(crc.sum().to_be_bytes());
        message.extend(body);
        exercise(&message.repeat(repeat));
    }

    #[test]
    fn a_mutated_or_cut_batch_is_records_or_an_error(
        records in prop::collection::vec(wanted(), 1..8),
        codec in codec(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut batch = build(&records, codec, TimestampType::CreateTime);
        for (at, byte) in flips {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        exercise(&batch);
        exercise(&batch[..cut.index(batch.len())]);
    }

    #[test]
    fn what_is_built_is_read_back(
        records in prop::collection::vec(wanted(), 1..20),
        codec in codec(),
        log_append_time in any::<bool>(),
    ) {
        let timestamp_type = if log_append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let bytes = build(&records, codec, timestamp_type);
        let mut walk = batches(&bytes);
        let batch = walk.next().unwrap().unwrap();
        batch.verify_crc().unwrap();
        prop_assert!(walk.next().is_none());
        prop_assert!(walk.remainder().is_empty());
        let latest = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(batch.header.max_timestamp, latest);
        let mut scratch = Vec::new();
        let mut read = batch.open(&Limits::default(), &mut scratch).unwrap();
        let mut offset = 49;
        for wanted in &records {
            offset += 1 + i64::from(wanted.gap);
            let record = read.next().unwrap().unwrap();
            prop_assert_eq!(record.offset, offset);
            prop_assert_eq!(record.timestamp, if log_append_time { latest } else { wanted.timestamp });
            prop_assert_eq!(record.key, wanted.key.as_deref());
            prop_assert_eq!(record.value, wanted.value.as_deref());
            let headers: Vec<_> = record.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&headers, &wanted.headers);
        }
        prop_assert!(read.next().is_none());
    }

    #[test]
    fn a_damaged_payload_is_bytes_or_an_error(
        data in prop::collection::vec(0..4u8, 0..2000),
        codec in codec(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut compressed = compress(codec, None, &data).unwrap();
        let mut out = Vec::new();
        decompress(codec, &compressed, &LIMITS, &mut out).unwrap();
        prop_assert_eq!(&out, &data);
        if !compressed.is_empty() {
            let at = at.index(compressed.len());
            compressed[at] = byte;
            exercise(&compressed);
            exercise(&compressed[..at]);
        }
    }
}

#[test]
fn a_batch_cut_at_any_byte_inside_its_payload_is_an_error_with_every_codec() {
    let records: Vec<Wanted> = (0..20)
        .map(|n| Wanted {
            gap: 0,
            timestamp: n,
            key: Some(vec![n as u8; 5]),
            value: Some(vec![7; 50]),
            headers: vec![],
        })
        .collect();
    for codec in Codec::ALL {
        let whole = build(&records, codec, TimestampType::CreateTime);
        for length in 61..whole.len() {
            // As if the broker had stored the batch so: the length agrees with the cut.
            let mut cut = whole[..length].to_vec();
            cut[8..12].copy_from_slice(&(length as i32 - 12).to_be_bytes());
            let batch = batches(&cut).next().unwrap().unwrap();
            assert!(batch.verify_crc().is_err());
            let mut scratch = Vec::new();
            let read = match batch.open(&LIMITS, &mut scratch) {
                Ok(records) => records.collect::<Result<Vec<_>, _>>().map(|all| all.len()),
                Err(error) => Err(error),
            };
            // Behind the last record gzip and lz4 have only trailers; nothing may be missing without a word.
            assert!(
                read.is_err() || read == Ok(20),
                "{codec} cut at {length}: {read:?}"
            );
        }
    }
}
