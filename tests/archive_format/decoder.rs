//! The decoders take any bytes: the right answer or an error, never a panic, never memory that the input does not
//! justify.

use super::sample::{T0, batch, first_generation, memory};
use kbr::archive::{
    BlockCodec, BlockEntry, SegmentIndex, Stream, check_block, decode_block, decode_header,
    decode_index, decode_segment, decode_trailer, parse_cluster, parse_generation, parse_groups,
    parse_head,
};
use kbr::base::{Offset, PartitionId, TimestampMs, TopicId};
use kbr::record::Codec;
use proptest::prelude::*;

async fn segment() -> Vec<u8> {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    let pack = store.get("packs/r1/1.kbs").await.unwrap();
    pack.to_vec()
}

fn decode_everything(bytes: &[u8]) {
    let _ = decode_header(bytes);
    let _ = decode_trailer(bytes, bytes.len() as u64);
    let _ = decode_index(bytes, 64);
    if let Ok((_, index, _)) = decode_segment(bytes) {
        for block in &index.blocks {
            let at = block.position as usize;
            // decode_index has checked that the blocks lie within the object.
            let stored = &bytes[at..at + block.stored_len as usize];
            let _ = check_block(block, stored);
        }
    }
    let _ = parse_head(bytes);
    let _ = parse_generation("generations/00000001.json", bytes);
    let _ = parse_groups(bytes);
    let _ = parse_cluster(bytes);
}

#[tokio::test]
async fn a_small_segment_with_any_byte_changed_never_decodes_to_other_content() {
    let whole = segment().await;
    let (archive_id, index, digest) = decode_segment(&whole).unwrap();
    assert_eq!(index.streams.len(), 2);
    for position in 0..whole.len() {
        for change in [1_u8, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[position] ^= change;
            let Ok(found) = decode_segment(&changed) else {
                continue;
            };
            // The change is in a block then: its checksum must tell.
            assert_eq!(found, (archive_id, index.clone(), digest));
            let broken = index.blocks.iter().any(|block| {
                let at = block.position as usize;
                check_block(block, &changed[at..at + block.stored_len as usize]).is_err()
            });
            assert!(broken, "byte {position}");
        }
        assert!(decode_segment(&whole[..position]).is_err());
    }
}

#[test]
fn a_count_or_length_that_the_bytes_do_not_justify_is_refused() {
    for count in [2_u32, 1_000_000, u32::MAX] {
        let streams = count.to_be_bytes();
        assert!(decode_index(&streams, 64).is_err());
        let blocks = [[0; 4], count.to_be_bytes()].concat();
        assert!(decode_index(&blocks, 64).is_err());
    }
}

#[test]
fn a_block_that_promises_more_than_it_holds_or_holds_more_than_it_says_is_refused() {
    let raw = batch(0, 50, 200, Codec::None);
    let stored = kbr::record::compress(Codec::Zstd, None, &raw).unwrap();
    let entry = BlockEntry {
        stream: 0,
        codec: BlockCodec::Zstd,
        first: Offset(0),
        last: Offset(49),
        min_timestamp: TimestampMs(T0),
        min_timestamp_exact: true,
        max_timestamp: TimestampMs(T0 + 49),
        records: 50,
        batches: 1,
        position: 64,
        stored_len: stored.len() as u32,
        raw_len: raw.len() as u32,
        crc: crc32c::crc32c(&stored),
        largest_batch: raw.len() as u32,
    };
    let mut out = Vec::new();
    decode_block(&entry, &stored, &mut out).unwrap();
    assert!(out == raw);
    assert_eq!(check_block(&entry, &stored), Ok(1));
    for raw_len in [0, 1, raw.len() as u32 - 1, raw.len() as u32 + 1, 1 << 30] {
        let wrong = BlockEntry { raw_len, ..entry };
        let mut out = Vec::new();
        assert!(
            decode_block(&wrong, &stored, &mut out).is_err(),
            "{raw_len}"
        );
        assert!(
            out.capacity() <= 4 * raw.len() + (1 << 20),
            "{}",
            out.capacity()
        );
    }
    for wrong in [
        BlockEntry {
            records: 49,
            ..entry
        },
        BlockEntry {
            batches: 2,
            ..entry
        },
        BlockEntry {
            last: Offset(48),
            ..entry
        },
        BlockEntry {
            first: Offset(1),
            ..entry
        },
        BlockEntry { crc: 0, ..entry },
    ] {
        assert!(check_block(&wrong, &stored).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        decode_everything(&bytes);
    }

    #[test]
    fn a_segment_with_any_changes_is_decoded_or_refused(
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20),
        cut in any::<u16>(),
    ) {
        thread_local! {
            static WHOLE: Vec<u8> = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(segment());
        }
        let mut bytes = WHOLE.with(Clone::clone);
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at as usize % length] = byte;
        }
        decode_everything(&bytes);
        bytes.truncate(cut as usize % bytes.len());
        decode_everything(&bytes);
    }

    #[test]
    fn an_index_comes_back_as_it_was_or_is_refused_for_a_reason(
        lengths in proptest::collection::vec((1..5000_u32, 1..50_i64), 0..20),
    ) {
        let mut index = SegmentIndex {
            streams: vec![Stream {
                topic: "t".into(),
                topic_id: TopicId::from_u128(7),
                partition: PartitionId(3),
            }],
            blocks: Vec::new(),
        };
        let (mut position, mut offset) = (64_u64, 0);
        for (length, count) in lengths {
            index.blocks.push(BlockEntry {
                stream: 0,
                codec: BlockCodec::None,
                first: Offset(offset),
                last: Offset(offset + count - 1),
                min_timestamp: TimestampMs(-1),
                min_timestamp_exact: count % 2 == 0,
                max_timestamp: TimestampMs(i64::MAX),
                records: count as u64,
                batches: 1,
                position,
                stored_len: length,
                raw_len: length,
                crc: length ^ 0x5555,
                largest_batch: length,
            });
            position += u64::from(length);
            offset += count + 1;
        }
        let bytes = kbr::archive::encode_index(&index);
        prop_assert_eq!(decode_index(&bytes, position).unwrap(), index);
        prop_assert!(decode_index(&bytes, position + 1).is_err());
    }
}

#[test]
fn a_block_with_right_checksums_and_wrong_content_is_told_by_what_is_wrong() {
    let (first, second) = (
        batch(0, 50, 20, Codec::None),
        batch(50, 50, 20, Codec::None),
    );
    let largest = first.len().max(second.len()) as u32;
    let entry_of = |raw: &[u8]| BlockEntry {
        stream: 0,
        codec: BlockCodec::None,
        first: Offset(0),
        last: Offset(99),
        min_timestamp: TimestampMs(T0),
        min_timestamp_exact: true,
        max_timestamp: TimestampMs(T0 + 1_000),
        records: 100,
        batches: 2,
        position: 64,
        stored_len: raw.len() as u32,
        raw_len: raw.len() as u32,
        crc: crc32c::crc32c(raw),
        largest_batch: largest,
    };
    let in_order = [&first[..], &second].concat();
    let entry = entry_of(&in_order);
    assert_eq!(check_block(&entry, &in_order), Ok(2));

    let exchanged = [&second[..], &first].concat();
    let error = check_block(&entry_of(&exchanged), &exchanged).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record batch at offset 0 is broken: it comes after offset 99"
    );
    for wrong in [
        BlockEntry {
            min_timestamp: TimestampMs(T0 + 1),
            ..entry
        },
        BlockEntry {
            max_timestamp: TimestampMs(T0 + 3),
            ..entry
        },
    ] {
        let error = check_block(&wrong, &in_order).unwrap_err().to_string();
        assert!(error.contains("outside of"), "{error}");
    }
}
