//! The record layer against bytes that another program wrote: a small Python model of Kafka's format, and the gzip,
//! zstd and lz4 command-line tools. Nothing here is computed by the code under test.

use kbr::record::{
    BatchBuilder, BuildOptions, Codec, ContentDigest, ControlType, Error, Limits, OwnedHeaders,
    ProducerStamp, Record, TimestampType, batches, compress, control_batch, decompress, place,
    restamp, set_log_append_time, upgrade_legacy,
};

/// Offsets 1000–1002, transactional, with a delete horizon: duplicate, null and empty headers; null; empty.
const V2: &str = "00000000000003e8000000570000000702939b222d0050000000020000018bcfe568000000018bcfe5692c0000000000000fa0000300000011000000032c000000026b0276080268023102680232026e010265000c0009020101000e00d80404000000";
/// The same records for a broker to append: offset 0, producer 9, epoch 1, sequence 5, no bits, no leader epoch.
const V2_RESTAMPED: &str = "000000000000000000000057ffffffff020fbf92a30000000000020000018bcfe568000000018bcfe5692c0000000000000009000100000005000000032c000000026b0276080268023102680232026e010265000c0009020101000e00d80404000000";
/// The same with LogAppendTime 1700000009999.
const V2_LOG_APPEND_TIME: &str = "00000000000003e800000057000000070235e22ecc0008000000020000018bcfe568000000018bcfe58f0fffffffffffffffffffffffffffff000000032c000000026b0276080268023102680232026e010265000c0009020101000e00d80404000000";
/// Producer 4000's transaction aborted at offset 5.
const ABORT: &str = "00000000000000050000004200000000021d3714280030000000000000018bcfe568000000018bcfe568000000000000000fa00003ffffffff000000012000000008000000000c00000000000500";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A record that owns its parts, to be written down.
#[derive(Debug, PartialEq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn owned(record: &Record<'_>) -> Owned {
    Owned {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(text),
        value: record.value.map(text),
        headers: record
            .headers
            .iter()
            .map(|header| (text(header.key), header.value.map(text)))
            .collect(),
    }
}

fn all(bytes: &[u8]) -> Vec<Owned> {
    let mut records = Vec::new();
    let mut scratch = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
            records.push(owned(&record.unwrap()));
        }
    }
    records
}

fn plain(offset: i64, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Owned {
    Owned {
        offset,
        timestamp,
        key: key.map(str::to_string),
        value: value.map(str::to_string),
        headers: vec![],
    }
}

fn the_three(first: i64, timestamps: [i64; 3]) -> Vec<Owned> {
    let some = |text: &str| Some(text.to_string());
    vec![
        Owned {
            offset: first,
            timestamp: timestamps[0],
            key: some("k"),
            value: some("v"),
            headers: vec![
                ("h".into(), some("1")),
                ("h".into(), some("2")),
                ("n".into(), None),
                ("e".into(), some("")),
            ],
        },
        plain(first + 1, timestamps[1], None, None),
        plain(first + 2, timestamps[2], Some(""), Some("")),
    ]
}

const TIMES: [i64; 3] = [1700000000000, 1699999999995, 1700000000300];

#[test]
fn a_batch_is_read_as_written() {
    let bytes = hex(V2);
    let batch = batches(&bytes).next().unwrap().unwrap();
    let header = batch.header;
    assert_eq!(
        (
            header.base_offset,
            header.last_offset(),
            header.next_offset()
        ),
        (1000, 1002, 1003)
    );
    assert_eq!(header.partition_leader_epoch, 7);
    assert_eq!(
        (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence
        ),
        (4000, 3, 17)
    );
    assert_eq!(header.max_timestamp, 1700000000300);
    assert!(header.attributes.is_transactional());
    assert!(header.attributes.has_delete_horizon());
    assert!(!header.attributes.is_control());
    assert!(header.is_dense());
    assert_eq!(header.to_bytes(), bytes[..61]);
    assert_eq!(all(&bytes), the_three(1000, TIMES));
}

#[test]
fn the_builder_writes_the_same_bytes() {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    let headers = OwnedHeaders::from_iter([
        (&b"h"[..], Some(&b"1"[..])),
        (b"h", Some(b"2")),
        (b"n", None),
        (b"e", Some(b"")),
    ]);
    let none = OwnedHeaders::new();
    builder
        .push(TIMES[0], Some(b"k"), Some(b"v"), headers.as_headers())
        .unwrap();
    builder
        .push(TIMES[1], None, None, none.as_headers())
        .unwrap();
    builder
        .push(TIMES[2], Some(b""), Some(b""), none.as_headers())
        .unwrap();
    assert_eq!(builder.record_count(), 3);
    assert_eq!(builder.len_estimate(), hex(V2_RESTAMPED).len());
    let stamp = ProducerStamp {
        producer_id: 9,
        producer_epoch: 1,
        base_sequence: 5,
    };
    assert_eq!(builder.finish(stamp).unwrap(), hex(V2_RESTAMPED));
    assert!(builder.is_empty());
    assert_eq!(builder.finish(stamp), Err(Error::EmptyBatch));
}

#[test]
fn restamping_clears_the_transactional_bit_and_the_delete_horizon_and_keeps_the_times() {
    let mut bytes = hex(V2);
    let stamp = ProducerStamp {
        producer_id: 9,
        producer_epoch: 1,
        base_sequence: 5,
    };
    restamp(&mut bytes, 0, stamp).unwrap();
    assert_eq!(bytes, hex(V2_RESTAMPED));
    assert_eq!(all(&bytes), the_three(0, TIMES));
}

#[test]
fn a_control_batch_says_what_it_ends_and_is_never_restamped_as_data() {
    let mut bytes = hex(ABORT);
    let batch = batches(&bytes).next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(batch.control_type(), Ok(Some(ControlType::Abort)));
    assert_eq!(
        control_batch(ControlType::Abort, 5, 1700000000000, 4000, 3, 5).map(|mut built| {
            place(&mut built, 5, 0).unwrap();
            built
        }),
        Ok(bytes.clone())
    );
    assert_eq!(
        restamp(&mut bytes, 0, ProducerStamp::NONE),
        Err(Error::ControlBatch { base_offset: 5 })
    );
    let data = hex(V2);
    let data = batches(&data).next().unwrap().unwrap();
    assert_eq!(data.control_type(), Ok(None));
}

#[test]
fn with_log_append_time_every_record_has_the_brokers_time() {
    let bytes = hex(V2_LOG_APPEND_TIME);
    assert_eq!(all(&bytes), the_three(1000, [1700000009999; 3]));
    let mut made = hex(V2_RESTAMPED);
    restamp(&mut made, 0, ProducerStamp::NONE).unwrap();
    set_log_append_time(&mut made, 1700000009999).unwrap();
    place(&mut made, 1000, 7).unwrap();
    assert_eq!(made, bytes);
}

#[test]
fn a_cut_batch_ends_the_walk_quietly_at_any_byte() {
    let first = hex(V2);
    let mut bytes = first.clone();
    bytes.extend(hex(ABORT));
    for length in 0..bytes.len() {
        let mut walk = batches(&bytes[..length]);
        let whole = usize::from(length >= first.len());
        assert_eq!(walk.by_ref().filter(|batch| batch.is_ok()).count(), whole);
        assert_eq!(walk.remainder().len(), length - whole * first.len());
    }
}

#[test]
fn any_flipped_bit_behind_the_checksum_is_noticed() {
    let bytes = hex(V2);
    for at in 17..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let noticed = match batches(&damaged).next().unwrap() {
                Ok(batch) => batch.verify_crc().is_err(),
                Err(_) => true,
            };
            assert!(noticed, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn payloads_of_the_command_line_tools_are_read() {
    let cases = [
        (
            Codec::Gzip,
            "1f8b0800000000000003f348cdc9c957f0402701 52cf26e617000000",
            "Hello Hello Hello Hello",
        ),
        (
            Codec::Zstd,
            "28b52ffd04586500003048656c6c6f2001 00994b11560c2fc1",
            "Hello Hello Hello Hello",
        ),
        (
            Codec::Lz4,
            "04224d186440a70f0000006848656c6c6f20060050 48656c6c6f000000005be3a206",
            "Hello Hello Hello Hello",
        ),
        // Raw, from the snappy format description, and the framing of Java's SnappyOutputStream in two blocks.
        (
            Codec::Snappy,
            "2414524550454154 760600",
            "REPEATREPEATREPEATREPEATREPEATREPEAT",
        ),
        (
            Codec::Snappy,
            "82534e4150505900 00000001 00000001 00000007 051048656c6c6f 00000008 061420576f726c64",
            "Hello World",
        ),
        // LZ4 with the header checksum right, and as Kafka before 0.10 computed it.
        (
            Codec::Lz4,
            "04224d186040820500008048656c6c6f00000000",
            "Hello",
        ),
        (
            Codec::Lz4,
            "04224d1860401a0500008048656c6c6f00000000",
            "Hello",
        ),
    ];
    for (codec, bytes, expected) in cases {
        let mut out = b"left from before".to_vec();
        let bytes = hex(&bytes.replace(' ', ""));
        decompress(codec, &bytes, &Limits::default(), &mut out).unwrap();
        assert_eq!(text(&out), expected, "{codec}");
    }
    let wrong = hex("04224d186040830500008048656c6c6f00000000");
    assert!(matches!(
        decompress(Codec::Lz4, &wrong, &Limits::default(), &mut Vec::new()),
        Err(Error::Codec { .. })
    ));
}

#[test]
fn a_limit_is_kept_to_the_byte_by_every_codec() {
    let data = b"0123456789".repeat(10_000);
    for codec in Codec::ALL {
        let compressed = compress(codec, None, &data).unwrap();
        let mut out = Vec::new();
        let exact = Limits {
            max_decompressed: data.len(),
        };
        decompress(codec, &compressed, &exact, &mut out).unwrap();
        assert_eq!(out, data, "{codec}");
        assert!(out.capacity() <= data.len(), "{codec}: {}", out.capacity());
        let tight = Limits {
            max_decompressed: data.len() - 1,
        };
        let mut out = Vec::new();
        let refused = decompress(codec, &compressed, &tight, &mut out);
        assert!(
            matches!(refused, Err(Error::TooLarge { limit, .. }) if limit == data.len() - 1),
            "{codec}: {refused:?}"
        );
        assert!(out.capacity() < data.len(), "{codec}: {}", out.capacity());
    }
}

#[test]
fn a_declared_size_alone_reserves_nothing() {
    // Snappy: 4 GiB − 1 declared by five bytes. Zstandard: a content size of 2⁶² in a single segment, and a window of
    // 2⁴¹ bytes. LZ4: a content size of 2⁶².
    let cases = [
        (Codec::Snappy, "ffffffff0f00"),
        (Codec::Zstd, "28b52ffde0000000000000004001 0000"),
        (Codec::Zstd, "28b52ffd00f8010000"),
        (Codec::Lz4, "04224d1868400000000000000040aa00000000"),
    ];
    for (codec, bytes) in cases {
        let mut out = Vec::new();
        let bytes = hex(&bytes.replace(' ', ""));
        let refused = decompress(codec, &bytes, &Limits::default(), &mut out);
        assert!(refused.is_err(), "{codec}");
        assert!(out.capacity() <= 4096, "{codec}: {}", out.capacity());
    }
}

#[test]
fn plain_messages_of_formats_0_and_1_become_batches() {
    let v0 = hex(
        "00000000000000050000000f51df3a320000ffffffff000000016100000000000000070000000f908204f60000000000016bffffffff",
    );
    let upgraded = upgrade_legacy(&v0, &Limits::default()).unwrap();
    assert_eq!(
        all(&upgraded),
        [plain(5, -1, None, Some("a")), plain(7, -1, Some("k"), None)]
    );
    let v1 = hex(
        "000000000000000500000018e4e321bc010000000000000003e8000000016b000000017600000000000000060000001698826c72010800000000000007d00000000000000000",
    );
    let upgraded = upgrade_legacy(&v1, &Limits::default()).unwrap();
    assert_eq!(
        all(&upgraded),
        [
            plain(5, 1000, Some("k"), Some("v")),
            plain(6, 2000, Some(""), Some(""))
        ]
    );
    let types: Vec<_> = batches(&upgraded)
        .map(|batch| batch.unwrap().header.attributes.timestamp_type())
        .collect();
    assert_eq!(
        types,
        [TimestampType::CreateTime, TimestampType::LogAppendTime]
    );
}

#[test]
fn compressed_wrappers_of_formats_0_and_1_become_batches() {
    // Format 1 counts inside from 0 (0, 1, 3) and the wrapper has the last offset, 103.
    let v1 = hex(
        "000000000000006700000062c5bc34a8010100000000000003e9ffffffff0000004c1f8b080000000000020363608003a9846bd74318a11ce617408229db0044961940054192122a19919be0aa9eff0702b01a439810484dcfa1c73270352fc126198354020036c65e9e6e000000",
    );
    let upgraded = upgrade_legacy(&v1, &Limits::default()).unwrap();
    let expected = |times: [i64; 3]| {
        [
            plain(100, times[0], Some("k0"), Some("v0")),
            plain(101, times[1], None, Some("v1")),
            plain(103, times[2], Some("k3"), None),
        ]
    };
    assert_eq!(all(&upgraded), expected([1000, 999, 1001]));
    let header = batches(&upgraded).next().unwrap().unwrap().header;
    assert_eq!(header.attributes.codec(), Ok(Codec::Gzip));
    assert_eq!((header.last_offset(), header.is_dense()), (103, false));

    // The same, with the broker's time 5555 on the wrapper.
    let log_append_time = hex(
        "000000000000006700000062acfefd68010900000000000015b3ffffffff0000004c1f8b080000000000020363608003a9846bd74318a11ce617408229db0044961940054192122a19919be0aa9eff0702b01a439810484dcfa1c73270352fc126198354020036c65e9e6e000000",
    );
    let upgraded = upgrade_legacy(&log_append_time, &Limits::default()).unwrap();
    assert_eq!(all(&upgraded), expected([5555; 3]));

    // Format 0 has absolute offsets inside; gzip, and lz4 with the old header checksum.
    for v0 in [
        "000000000000000c000000479a9f2ec90001ffffffff000000391f8b0800000000000203636000032e20166a9b5ee403e631651b80c832038824030f100bf8cc8f3ec4c0f01f08c07286004560d6483a000000",
        "000000000000000c00000057ea82d7310003ffffffff0000004904224d1860401a3a000080000000000000000a000000128697724c0000000000026b30000000027630000000000000000c000000104c9f5bc20000ffffffff00000002763100000000",
    ] {
        let upgraded = upgrade_legacy(&hex(v0), &Limits::default()).unwrap();
        assert_eq!(
            all(&upgraded),
            [
                plain(10, -1, Some("k0"), Some("v0")),
                plain(12, -1, None, Some("v1"))
            ]
        );
    }
}

#[test]
fn a_new_batch_among_old_messages_passes_through_and_old_ones_are_refused_elsewhere() {
    let v0 = hex("00000000000000050000000f51df3a320000ffffffff0000000161");
    let mut mixed = v0.clone();
    mixed.extend(hex(V2));
    let upgraded = upgrade_legacy(&mixed, &Limits::default()).unwrap();
    assert!(upgraded.ends_with(&hex(V2)));
    assert_eq!(all(&upgraded).len(), 4);
    assert_eq!(
        batches(&v0).next().unwrap().unwrap_err(),
        Error::UnsupportedMagic { magic: 0, at: 16 }
    );
    let mut damaged = v0;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        upgrade_legacy(&damaged, &Limits::default()),
        Err(Error::CrcMismatch { base_offset: 5, .. })
    ));
}

#[test]
fn the_content_digest_sees_every_difference_but_offsets_codec_and_batches() {
    let digest = |bytes: &[u8]| {
        let mut digest = ContentDigest::new();
        let mut scratch = Vec::new();
        for batch in batches(bytes) {
            for record in batch
                .unwrap()
                .open(&Limits::default(), &mut scratch)
                .unwrap()
            {
                digest.update(&record.unwrap());
            }
        }
        digest.finish()
    };
    let one = |key: Option<&[u8]>, value: Option<&[u8]>, headers: &OwnedHeaders, codec| {
        let mut builder = BatchBuilder::new(BuildOptions {
            codec,
            ..Default::default()
        });
        builder.push(7, key, value, headers.as_headers()).unwrap();
        digest(&builder.finish(ProducerStamp::NONE).unwrap())
    };
    assert_eq!(digest(&hex(V2)), digest(&hex(V2_RESTAMPED)));
    assert_ne!(digest(&hex(V2)), digest(&hex(V2_LOG_APPEND_TIME)));
    let none = OwnedHeaders::new();
    let mut null = OwnedHeaders::new();
    null.push(b"a", None);
    let mut empty = OwnedHeaders::new();
    empty.push(b"a", Some(b""));
    let digests = [
        one(None, None, &none, Codec::None),
        one(Some(b""), None, &none, Codec::None),
        one(None, Some(b""), &none, Codec::None),
        one(Some(b"ab"), Some(b"c"), &none, Codec::None),
        one(Some(b"a"), Some(b"bc"), &none, Codec::None),
        one(None, None, &null, Codec::None),
        one(None, None, &empty, Codec::None),
    ];
    for (at, digest) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(digest), "case {at}");
    }
    assert_eq!(digests[5], one(None, None, &null, Codec::Zstd));
}
