//! What is written comes back: batches to the byte, lookups by offset and time, topics, groups.

use super::sample::{
    CLUSTER, ORDERS, T0, batch, batch_at, begin, builder, dump, first_generation, gap, groups,
    memory, new_generation, partition, second_generation, topic,
};
use bytes::Bytes;
use kbr::archive::{
    Archive, BLOCK_TARGET, BlockCodec, BlockCompression, Depth, Error, GapKind, RunOptions,
};
use kbr::base::{NoProgress, Offset, PartitionId, TimestampMs};
use kbr::record::{Codec, Headers, ProducerStamp};

const P0: PartitionId = PartitionId(0);

#[tokio::test]
async fn batches_come_back_to_the_byte_whatever_the_block_compression() {
    for compression in [
        BlockCompression::None,
        BlockCompression::Auto,
        BlockCompression::ZSTD,
        BlockCompression::Lz4,
    ] {
        let store = memory().await;
        let run = begin(&store, "r1", compression).await.unwrap();
        let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
        let mut expected = Vec::new();
        for n in 0..40 {
            let codec = [Codec::None, Codec::Zstd][n % 2];
            let one = batch(n as i64 * 100, 100, 4000, codec);
            expected.extend_from_slice(&one);
            segment.append(one).await.unwrap();
        }
        let segment = segment.finish().await.unwrap().unwrap();
        assert!(segment.blocks > 1);
        assert_eq!(segment.records, 4000);
        assert_eq!(segment.raw_bytes, expected.len() as u64);
        run.commit(new_generation(
            vec![topic(
                "orders",
                ORDERS,
                vec![partition(0, 0, 4000, vec![segment], vec![])],
            )],
            groups(0),
        ))
        .await
        .unwrap();

        let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
        let mut found = Vec::new();
        for block in snapshot
            .blocks("orders", P0, Offset(0)..Offset(4000))
            .await
            .unwrap()
        {
            found.extend_from_slice(&snapshot.read_block(&block).await.unwrap());
        }
        assert!(found == expected, "{compression:?}");
    }
}

#[tokio::test]
async fn a_run_of_many_batches_in_one_slice_is_cut_into_blocks_at_batch_ends() {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::None).await.unwrap();
    let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    let mut all = Vec::new();
    for n in 0..1200 {
        all.extend_from_slice(&batch(n, 1, 10_000, Codec::None));
    }
    segment.append(Bytes::from(all.clone())).await.unwrap();
    let segment = segment.finish().await.unwrap().unwrap();
    assert_eq!(segment.blocks as usize, all.len().div_ceil(BLOCK_TARGET));
    assert_eq!(
        (segment.first, segment.last, segment.records),
        (Offset(0), Offset(1199), 1200)
    );
}

#[tokio::test]
async fn compressed_batches_are_stored_as_they_are_and_blocks_that_do_not_shrink_too() {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::ZSTD).await.unwrap();
    let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    segment
        .append(batch(0, 100, 1000, Codec::Gzip))
        .await
        .unwrap();
    let compressed = segment.finish().await.unwrap().unwrap();
    let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    segment
        .append(batch(100, 100, 1000, Codec::None))
        .await
        .unwrap();
    let plain = segment.finish().await.unwrap().unwrap();
    run.commit(new_generation(
        vec![topic(
            "orders",
            ORDERS,
            vec![partition(0, 0, 200, vec![plain, compressed], vec![])],
        )],
        groups(0),
    ))
    .await
    .unwrap();
    let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
    let blocks = snapshot
        .blocks("orders", P0, Offset(0)..Offset(200))
        .await
        .unwrap();
    let codecs: Vec<BlockCodec> = blocks.iter().map(|block| block.entry.codec).collect();
    assert_eq!(codecs, [BlockCodec::None, BlockCodec::Zstd]);
}

#[tokio::test]
async fn a_block_behind_one_that_shrank_is_compressed_and_one_behind_one_that_did_not_is_tried_first()
 {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::Auto).await.unwrap();
    let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    // Each a block of its own.
    let kinds = [true, false, false, true, true];
    let mut written = Vec::new();
    for (n, shrinks) in kinds.into_iter().enumerate() {
        let value = match shrinks {
            true => vec![b'x'; BLOCK_TARGET],
            false => noise(BLOCK_TARGET),
        };
        let mut one = builder(Codec::None).base_offset(n as i64);
        one.push(T0, None, Some(&value), Headers::empty()).unwrap();
        let one = Bytes::from(one.finish(ProducerStamp::NONE).unwrap());
        written.push(one.clone());
        segment.append(one).await.unwrap();
    }
    let segment = segment.finish().await.unwrap().unwrap();
    let entry = partition(0, 0, kinds.len() as i64, vec![segment], vec![]);
    run.commit(new_generation(
        vec![topic("orders", ORDERS, vec![entry])],
        groups(0),
    ))
    .await
    .unwrap();
    let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
    let blocks = snapshot
        .blocks("orders", P0, Offset(0)..Offset(9))
        .await
        .unwrap();
    let codecs: Vec<BlockCodec> = blocks.iter().map(|block| block.entry.codec).collect();
    // The second is taken for one like the first, which costs time and hardly a byte.
    let (plain, zstd) = (BlockCodec::None, BlockCodec::Zstd);
    assert_eq!(codecs, [zstd, zstd, plain, zstd, zstd]);
    assert!(blocks[1].entry.stored_len < blocks[1].entry.raw_len + 1024);
    for (block, written) in blocks.iter().zip(written) {
        assert!(snapshot.read_block(block).await.unwrap() == written);
    }
}

/// Bytes that no encoder shrinks (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[tokio::test]
async fn two_generations_read_as_one_and_each_stays_readable() {
    let store = memory().await;
    let first = first_generation(&store, "r1").await.unwrap();
    let second = second_generation(&store, "r2").await.unwrap();
    let archive = Archive::open(store).await.unwrap();
    assert_eq!(archive.generations().await.unwrap(), [1, 2]);

    let latest = archive.latest().await.unwrap();
    assert_eq!((latest.number(), latest.digest()), (2, second.digest));
    let orders = latest.topic("orders").unwrap().partition(P0).unwrap();
    assert_eq!(
        (orders.from, orders.to, orders.records),
        (Offset(4), Offset(60), 35)
    );
    assert_eq!(orders.last_leader_epoch, 3);
    let kinds: Vec<GapKind> = orders.gaps.iter().map(|gap| gap.kind).collect();
    assert_eq!(
        kinds,
        [
            GapKind::Marker,
            GapKind::Compacted,
            GapKind::Aborted,
            GapKind::Retention
        ]
    );
    // Not seen by the second run, and still there.
    assert_eq!(latest.topic("payments").unwrap().seen, 1);
    assert_eq!(latest.topic("payments").unwrap().records(), 4);
    assert_eq!(latest.groups().await.unwrap(), groups(55));
    assert_eq!(latest.source_cluster_id(), CLUSTER);

    let older = archive.generation(1).await.unwrap();
    assert_eq!(older.digest(), first.digest);
    let orders = older.topic("orders").unwrap().partition(P0).unwrap();
    assert_eq!((orders.to, orders.records), (Offset(40), 25));
    assert_eq!(older.groups().await.unwrap(), groups(20));
    let lines = dump(&older).await.unwrap();
    assert_eq!(lines.lines().count(), 25 + 3 + 4);
    assert!(lines.starts_with("orders 0 4 1760000000004 "));
}

#[tokio::test]
async fn a_record_is_found_by_offset_and_by_time() {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::None).await.unwrap();
    let mut segments = Vec::new();
    for start in [0, 20] {
        let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
        segment
            .append(batch(start, 10, BLOCK_TARGET / 10, Codec::None))
            .await
            .unwrap();
        segment
            .append(batch(start + 10, 10, 10, Codec::None))
            .await
            .unwrap();
        segments.push(segment.finish().await.unwrap().unwrap());
    }
    run.commit(new_generation(
        vec![topic(
            "orders",
            ORDERS,
            vec![partition(
                0,
                0,
                45,
                segments,
                vec![gap(40, 45, GapKind::Compacted)],
            )],
        )],
        groups(0),
    ))
    .await
    .unwrap();
    let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
    for (offset, found) in [(0, Some(0)), (9, Some(9)), (39, Some(39)), (40, None)] {
        let record = snapshot
            .record_at_offset("orders", P0, Offset(offset))
            .await
            .unwrap();
        assert_eq!(
            record.map(|record| record.offset.0),
            found,
            "offset {offset}"
        );
    }
    for (time, found) in [
        (T0 - 5, Some(0)),
        (T0 + 10, Some(10)),
        (T0 + 25, Some(25)),
        (T0 + 40, None),
    ] {
        let record = snapshot
            .record_at_time("orders", P0, TimestampMs(time))
            .await
            .unwrap();
        assert_eq!(record.map(|record| record.offset.0), found, "time {time}");
    }
    let some = snapshot
        .blocks("orders", P0, Offset(15)..Offset(21))
        .await
        .unwrap();
    assert_eq!(
        some.iter().map(|b| b.first().0).collect::<Vec<_>>(),
        [10, 20]
    );
}

#[tokio::test]
async fn a_block_says_exactly_what_times_it_may_hold() {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::None).await.unwrap();
    let mut segments = Vec::new();
    // Newest record first: the header's first timestamp is the highest, not the lowest.
    for (offsets, codec) in [([0, 5, 9], Codec::None), ([10, 15, 19], Codec::Gzip)] {
        let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
        segment.append(batch_at(&offsets, codec)).await.unwrap();
        segments.push(segment.finish().await.unwrap().unwrap());
    }
    run.commit(new_generation(
        vec![topic(
            "orders",
            ORDERS,
            vec![partition(
                0,
                0,
                20,
                segments,
                vec![kbr::archive::Gap::scattered(
                    Offset(0),
                    Offset(20),
                    GapKind::Compacted,
                    14,
                )],
            )],
        )],
        groups(0),
    ))
    .await
    .unwrap();
    let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
    let blocks = snapshot
        .blocks("orders", P0, Offset(0)..Offset(20))
        .await
        .unwrap();
    let plain = &blocks[0].entry;
    assert_eq!((plain.min_timestamp.0, plain.max_timestamp.0), (T0 - 9, T0));
    assert!(plain.min_timestamp_exact);
    assert!(!plain.may_hold(None, Some(TimestampMs(T0 - 9))));
    assert!(plain.may_hold(None, Some(TimestampMs(T0 - 8))));
    assert!(!plain.may_hold(Some(TimestampMs(T0 + 1)), None));
    // Compressed: records before the first timestamp of the batch cannot be ruled out.
    let compressed = &blocks[1].entry;
    assert!(!compressed.min_timestamp_exact);
    assert!(compressed.may_hold(None, Some(TimestampMs(T0 - 15))));
    assert!(!compressed.may_hold(Some(TimestampMs(T0 - 9)), None));
}

#[tokio::test]
async fn a_check_of_a_whole_archive_counts_everything_and_finds_nothing() {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    second_generation(&store, "r2").await.unwrap();
    let archive = Archive::open(store.clone()).await.unwrap();
    for depth in [Depth::Quick, Depth::Deep] {
        let report = archive.verify(depth, &NoProgress).await.unwrap();
        assert_eq!(report.damages, []);
        assert_eq!(
            (report.generations, report.segments, report.records),
            (2, 4, 25 + 3 + 4 + 10)
        );
        assert_eq!(report.unreferenced, Vec::<String>::new());
        let whole: Vec<_> = report
            .restorable
            .whole
            .iter()
            .map(|s| (s.from, s.to))
            .collect();
        assert_eq!(whole, [(1, 2)]);
        assert_eq!(report.batches, if depth == Depth::Deep { 9 } else { 0 });
    }
    store
        .create("staging/left-behind", Bytes::from_static(b"x"))
        .await
        .unwrap();
    let report = archive.verify(Depth::Quick, &NoProgress).await.unwrap();
    assert!(report.is_whole());
    assert_eq!(report.unreferenced, ["staging/left-behind"]);
    assert_eq!(report.unreferenced_bytes, 1);
}

#[tokio::test]
async fn what_is_no_archive_or_an_empty_one_is_said_so() {
    let store = memory().await;
    let error = Archive::open(store.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotAnArchive { .. }));
    assert!(
        error
            .to_string()
            .ends_with("is not an archive: there is nothing at this place")
    );

    let archive = Archive::create_or_open(store.clone(), CLUSTER)
        .await
        .unwrap();
    assert!(matches!(archive.latest().await, Err(Error::Empty { .. })));
    assert!(archive.latest_if_any().await.unwrap().is_none());
    assert!(matches!(
        Archive::create_or_open(store.clone(), "another-cluster").await,
        Err(Error::OtherCluster { .. })
    ));

    let other = memory().await;
    other
        .create("holiday.jpg", Bytes::from_static(b"x"))
        .await
        .unwrap();
    let error = Archive::open(other).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it holds other things and no archive.json")
    );
}

#[tokio::test]
async fn what_does_not_belong_into_a_segment_is_refused() {
    let store = memory().await;
    let run = begin(&store, "r1", BlockCompression::None).await.unwrap();
    let mut segment = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    segment.append(batch(10, 5, 10, Codec::None)).await.unwrap();
    let again = segment
        .append(batch(14, 5, 10, Codec::None))
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        "cannot write this to an archive: offset 14 comes again, after 15"
    );
    let cut = batch(20, 5, 10, Codec::None).slice(..70);
    assert!(matches!(
        segment.append(cut).await,
        Err(Error::BadInput { .. })
    ));
    let elsewhere = segment
        .append_within(batch(20, 5, 10, Codec::None), Offset(30)..Offset(40), 1)
        .await;
    assert!(matches!(elsewhere, Err(Error::BadInput { .. })));
    segment.abort().await.unwrap();
    let empty = run.segment_writer("orders", ORDERS, P0).await.unwrap();
    assert_eq!(empty.finish().await.unwrap(), None);
    for name in ["", "a/b", "..", "run 1"] {
        let archive = Archive::open(store.clone()).await.unwrap();
        let begun = archive.begin_run(name, RunOptions::default()).await;
        assert!(matches!(begun, Err(Error::BadInput { .. })), "{name:?}");
    }
    assert_eq!(store.list("").await.unwrap().len(), 1, "only archive.json");
}
