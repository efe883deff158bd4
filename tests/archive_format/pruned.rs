//! `tests/fixtures/archive-v1-pruned` has what version 1 learnt after its first fixture was written: blocks of several
//! zstd frames, batches kept out for their checksum, what was not seen to its end, a cluster's ACLs, checkpoints, and two
//! prunes. Written once, it must stay readable for ever.
//!
//! `KBR_WRITE_FIXTURE=FOLDER` writes such an archive of today to FOLDER-pruned.

use super::fixture::{fixtures, read_with_python};
use super::sample::{
    ORDERS, PAYMENTS, T0, batch, begin, builder, dump, first_generation, gap, groups,
    new_generation, partition, second_generation, topic,
};
use bytes::Bytes;
use kbr::archive::{
    Archive, Behind, BlockCodec, BlockCompression, Depth, Error, GapKind, Policy, Progressed,
    PrunePlan, Result, TopicEntry,
};
use kbr::base::{CancellationToken, NoProgress, Offset, PartitionId, TimestampMs, time};
use kbr::record::{Codec, Headers, ProducerStamp};
use kbr::store::{Store, StoreUrl};
use std::path::PathBuf;

const P0: PartitionId = PartitionId(0);
const DAY: i64 = 86_400_000;
/// The last one; 36 and 37 are the prunes.
const NEWEST: u64 = 38;

/// Three records of more than a megabyte each: one block of more than one frame.
fn long_batches(base: i64) -> Bytes {
    let mut bytes = Vec::new();
    for n in 0..3 {
        let line = format!("record {} ", base + n);
        let value = line.repeat(1_300_000 / line.len());
        let mut one = builder(Codec::None).base_offset(base + n);
        one.push(
            T0 + base + n,
            None,
            Some(value.as_bytes()),
            Headers::empty(),
        )
        .unwrap();
        bytes.extend(one.finish(ProducerStamp::NONE).unwrap());
    }
    Bytes::from(bytes)
}

async fn run(store: &Store, number: u64) -> Result<()> {
    let run = begin(store, &format!("run{number}"), BlockCompression::Auto).await?;
    // The runs after the fourth take one offset each; two generations before the last are prunes.
    let nth = number.min(36) as i64;
    let (from, records, to) = match number {
        3 => (60, 3, 63),
        4 => (63, 1, 67),
        _ => (62 + nth, 1, 63 + nth),
    };
    let mut segment = run.segment_writer("orders", ORDERS, P0).await?;
    match records {
        3 => segment.append(long_batches(from)).await?,
        _ => segment.append(batch(from, 1, 30, Codec::None)).await?,
    }
    let segment = segment.finish().await?.into_iter().collect();
    let gaps = match number {
        4 => vec![gap(64, 67, GapKind::Corrupt)],
        _ => vec![],
    };
    let mut orders = topic(
        "orders",
        ORDERS,
        vec![partition(0, from, to, segment, gaps)],
    );
    orders.partition_count = 2;
    orders.caught_up = Some(TimestampMs(T0 + number as i64));
    if number >= 30 {
        orders.behind = vec![Behind {
            partitions: [PartitionId(1)].into_iter().collect(),
            caught_up: Some(TimestampMs(T0)),
        }];
    }
    let mut topics = vec![orders];
    if number == 20 {
        topics.push(TopicEntry {
            removed: true,
            ..topic("payments", PAYMENTS, vec![])
        });
    }
    run.commit(new_generation(topics, groups(to))).await?;
    Ok(())
}

async fn prune(store: &Store, run: &str, now: TimestampMs) {
    let archive = Archive::open(store.clone()).await.unwrap();
    let policy = Policy {
        keep_last: 2,
        ..Policy::default()
    };
    let plan = PrunePlan::make(&archive, &policy, now, &NoProgress);
    let how = Progressed {
        run,
        progress: &NoProgress,
        cancel: &CancellationToken::new(),
    };
    plan.await.unwrap().apply(&archive, how).await.unwrap();
}

async fn write(place: PathBuf) -> Store {
    let store = Store::open(&StoreUrl::File(place)).await.unwrap();
    first_generation(&store, "run1").await.unwrap();
    second_generation(&store, "run2").await.unwrap();
    for number in 3..=35 {
        run(&store, number).await.unwrap();
    }
    prune(&store, "prune1", time::now()).await;
    prune(&store, "prune2", TimestampMs(time::now().0 + 8 * DAY)).await;
    run(&store, NEWEST).await.unwrap();
    store
}

/// What every such archive holds, whenever it was written.
async fn check(store: Store, place: &std::path::Path) {
    let archive = Archive::open(store).await.unwrap();
    let latest = archive.latest().await.unwrap();
    assert_eq!(latest.number(), NEWEST);
    let names: Vec<&str> = latest.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["orders"]);
    let orders = latest.topic("orders").unwrap();
    assert_eq!(orders.caught_up, Some(TimestampMs(T0 + NEWEST as i64)));
    assert_eq!(orders.caught_up_at(PartitionId(1)), Some(TimestampMs(T0)));
    let gaps = &orders.partition(P0).unwrap().gaps;
    assert!(gaps.contains(&gap(64, 67, GapKind::Corrupt)), "{gaps:?}");
    assert_eq!(latest.groups().await.unwrap(), groups(99));
    let cluster = latest.cluster().await.unwrap().unwrap();
    assert_eq!(cluster.acls.unwrap()[0].principal, "User:alice");
    let blocks = latest.blocks("orders", P0, Offset(60)..Offset(63)).await;
    let block = &blocks.unwrap()[0];
    let entry = &block.entry;
    assert_eq!((entry.codec, entry.records), (BlockCodec::Zstd, 3));
    let segment = std::fs::read(place.join(&block.segment.path)).unwrap();
    let frame = [0x28, 0xb5, 0x2f, 0xfd];
    assert_eq!(segment.windows(4).filter(|at| *at == frame).count(), 4);

    // 36 and 37 say what is kept; the points before 34 are gone.
    let catalogue = archive.catalogue().await.unwrap();
    assert_eq!(catalogue.points().collect::<Vec<u64>>(), [34, 35, NEWEST]);
    assert!(matches!(
        archive.generation(20).await,
        Err(Error::Pruned { .. })
    ));
    assert!(matches!(
        archive.generation(36).await,
        Err(Error::NoRecoveryPoint { number: 36 })
    ));
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    assert_eq!(report.damages, []);

    let text = dump(&latest).await.unwrap();
    assert_eq!(text.lines().count(), 38 + 36);
    let python = read_with_python(place, &[]);
    assert!(
        !python.lines().any(|line| line.starts_with('?')),
        "no zstd for Python: scripts/test installs it"
    );
    assert!(python == text, "the other reader finds something else");
    let digest = blake3::hash(text.as_bytes());
    assert_eq!(digest.to_hex()[..16], *RECORDS);
}

/// The first of the hash of all records as lines; what it was when the fixture was written.
const RECORDS: &str = "e0951b962aee2a86";

#[tokio::test]
async fn the_pruned_archive_of_version_1_is_still_read_whole() {
    let place = fixtures().join("archive-v1-pruned");
    let store = Store::open(&StoreUrl::File(place.clone())).await.unwrap();
    check(store, &place).await;
}

#[tokio::test]
async fn such_an_archive_written_now_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let place = match std::env::var("KBR_WRITE_FIXTURE") {
        Ok(place) => PathBuf::from(format!("{place}-pruned")),
        Err(_) => folder.path().join("archive"),
    };
    check(write(place.clone()).await, &place).await;
}
