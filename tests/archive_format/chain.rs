//! Commit rules: the chain, checkpoints, the books, incarnations, two runs at once.

use super::sample::{
    ORDERS, batch, begin, dump, first_generation, gap, groups, memory, new_generation, partition,
    second_generation, topic,
};
use kbr::archive::{
    Archive, BlockCompression, CHECKPOINT_EVERY, Depth, Error, GapKind, PartitionEntry, RunWriter,
    SegmentRef,
};
use kbr::base::{NoProgress, Offset, PartitionId, TopicId};
use kbr::record::Codec;
use kbr::store::{Faults, Store};

const P0: PartitionId = PartitionId(0);

async fn segment(run: &RunWriter, id: TopicId, base: i64, count: i32) -> SegmentRef {
    let mut segment = run.segment_writer("orders", id, P0).await.unwrap();
    segment
        .append(batch(base, count, 10, Codec::None))
        .await
        .unwrap();
    segment.finish().await.unwrap().unwrap()
}

async fn add(store: &Store, number: i64) -> Result<u64, Error> {
    let run = begin(store, &format!("r{number}"), BlockCompression::None).await?;
    let one = segment(&run, ORDERS, number * 10, 10).await;
    let entry = partition(0, number * 10, number * 10 + 10, vec![one], vec![]);
    let new = new_generation(vec![topic("orders", ORDERS, vec![entry])], groups(number));
    Ok(run.commit(new).await?.number)
}

#[tokio::test]
async fn every_so_many_generations_one_lists_everything_and_opening_reads_no_further_back() {
    let store = memory().await;
    let count = CHECKPOINT_EVERY as i64 + 3;
    for number in 0..count {
        assert_eq!(add(&store, number).await.unwrap(), number as u64 + 1);
    }
    let archive = Archive::open(store.clone()).await.unwrap();
    let checkpoint = CHECKPOINT_EVERY + 1;
    let (generation, _) = archive.read_generation(checkpoint).await.unwrap();
    assert!(generation.checkpoint);
    assert_eq!(
        generation.topics[0].partitions[0].segments.len(),
        checkpoint as usize
    );
    let (generation, _) = archive.read_generation(checkpoint + 1).await.unwrap();
    assert!(!generation.checkpoint);
    assert_eq!(generation.topics[0].partitions[0].segments.len(), 1);

    let faults = Faults::none();
    let counted = Archive::open(store.with_faults(faults.clone()))
        .await
        .unwrap();
    let before = faults.operations();
    let latest = counted.latest().await.unwrap();
    // One list and three generations: the checkpoint and the two after it.
    assert_eq!(faults.operations() - before, 1 + 3);
    assert_eq!(latest.topic("orders").unwrap().records(), count as u64 * 10);
    assert_eq!(
        dump(&latest).await.unwrap().lines().count(),
        count as usize * 10
    );
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    assert_eq!(report.damages, []);
    assert_eq!(report.generations, count as u64);
}

#[tokio::test]
async fn books_that_do_not_balance_are_refused_and_nothing_is_committed() {
    let store = memory().await;
    let wrong = async |change: fn(&mut PartitionEntry)| -> String {
        let run = format!("r{}", uuid::Uuid::new_v4());
        let run = begin(&store, &run, BlockCompression::None).await.unwrap();
        let one = segment(&run, ORDERS, 0, 10).await;
        let mut entry = partition(0, 0, 12, vec![one], vec![gap(10, 12, GapKind::Marker)]);
        change(&mut entry);
        let new = new_generation(vec![topic("orders", ORDERS, vec![entry])], groups(0));
        let error = run.commit(new).await.unwrap_err();
        assert!(matches!(error, Error::Accounting { .. }), "{error}");
        error.to_string()
    };
    for (message, expected) in [
        (
            wrong(|entry| entry.gaps.clear()).await,
            "orders-0: 10 records and 0 offsets in gaps do not add up to the 12 offsets from 0 to 12; the generation is not committed",
        ),
        (
            wrong(|entry| entry.records = 9).await,
            "orders-0: its segments hold 10 records, but it counts 9; the generation is not committed",
        ),
        (
            wrong(|entry| entry.to = Offset(9)).await,
            "which do not fit in order into 0 to 9; the generation is not committed",
        ),
        (
            wrong(|entry| entry.gaps[0].to = Offset(13)).await,
            "orders-0: its marker gap of 2 offsets from 10 to 13 does not fit into 0 to 12; the generation is not committed",
        ),
        (
            wrong(|entry| entry.high_watermark = Offset(11)).await,
            "orders-0: it ends at 12, past the high watermark 11; the generation is not committed",
        ),
        (
            wrong(|entry| entry.segments.push(entry.segments[0].clone())).await,
            "which do not fit in order into 0 to 12; the generation is not committed",
        ),
    ] {
        assert!(message.ends_with(expected), "{message}");
    }
    let archive = Archive::open(store).await.unwrap();
    assert!(matches!(archive.latest().await, Err(Error::Empty { .. })));
}

#[tokio::test]
async fn a_run_must_begin_where_the_one_before_ended() {
    let store = memory().await;
    add(&store, 0).await.unwrap();
    let error = add(&store, 2).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "orders-0: it begins at 20 but the generation before ended at 10; the generation is not committed"
    );
    assert_eq!(add(&store, 1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_full_rescan_replaces_what_was_archived_of_a_partition() {
    let store = memory().await;
    add(&store, 0).await.unwrap();
    let run = begin(&store, "rescan", BlockCompression::None)
        .await
        .unwrap();
    let one = segment(&run, ORDERS, 2, 18).await;
    let mut entry = partition(0, 2, 20, vec![one], vec![]);
    entry.replaces = true;
    let new = new_generation(vec![topic("orders", ORDERS, vec![entry])], groups(0));
    run.commit(new).await.unwrap();
    let archive = Archive::open(store).await.unwrap();
    let latest = archive.latest().await.unwrap();
    let orders = latest.topic("orders").unwrap().partition(P0).unwrap();
    assert_eq!(
        (orders.from, orders.to, orders.records),
        (Offset(2), Offset(20), 18)
    );
    assert!(
        archive
            .verify(Depth::Deep, &NoProgress)
            .await
            .unwrap()
            .is_whole()
    );
}

#[tokio::test]
async fn a_topic_created_again_is_a_new_incarnation_and_never_appended_to_the_old() {
    let store = memory().await;
    add(&store, 0).await.unwrap();
    let again = TopicId::from_u128(2);
    let run = begin(&store, "again", BlockCompression::None)
        .await
        .unwrap();
    let one = segment(&run, again, 0, 5).await;
    let new = new_generation(
        vec![topic(
            "orders",
            again,
            vec![partition(0, 0, 5, vec![one], vec![])],
        )],
        groups(0),
    );
    run.commit(new).await.unwrap();
    let latest = Archive::open(store).await.unwrap().latest().await.unwrap();
    assert_eq!(latest.topics().count(), 1);
    let orders = latest.topic("orders").unwrap();
    assert_eq!(
        (orders.id, orders.incarnation, orders.records()),
        (again, 2, 5)
    );
    let all: Vec<_> = latest
        .all_topics()
        .iter()
        .map(|t| (t.incarnation, t.current, t.records()))
        .collect();
    assert_eq!(all, [(1, false, 10), (2, true, 5)]);
    assert_eq!(dump(&latest).await.unwrap().lines().count(), 5);
}

#[tokio::test]
async fn a_topic_removed_at_the_source_leaves_the_recovery_point_but_not_the_archive() {
    let store = memory().await;
    add(&store, 0).await.unwrap();
    let run = begin(&store, "gone", BlockCompression::None).await.unwrap();
    let mut entry = topic("orders", ORDERS, vec![]);
    entry.removed = true;
    run.commit(new_generation(vec![entry], groups(0)))
        .await
        .unwrap();
    let archive = Archive::open(store).await.unwrap();
    let latest = archive.latest().await.unwrap();
    assert!(latest.topic("orders").is_none());
    assert_eq!(latest.all_topics().len(), 1);
    let older = archive.generation(1).await.unwrap();
    assert_eq!(older.topic("orders").unwrap().records(), 10);
}

#[tokio::test]
async fn of_two_runs_at_once_one_commits_and_the_other_is_told() {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    let slow = begin(&store, "slow", BlockCompression::None).await.unwrap();
    second_generation(&store, "r2").await.unwrap();
    let error = slow
        .commit(new_generation(vec![], groups(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::GenerationTaken { number: 2 }));
    let latest = Archive::open(store).await.unwrap().latest().await.unwrap();
    assert_eq!(latest.manifest().run, "r2");
    assert_eq!(latest.groups().await.unwrap(), groups(55));
}

#[tokio::test]
async fn a_generation_that_is_not_there_is_named_with_the_newest() {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    let archive = Archive::open(store).await.unwrap();
    for number in [0, 2, u64::MAX] {
        let error = archive.generation(number).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("there is no generation {number}; the newest is 1")
        );
    }
    let latest = archive.latest().await.unwrap();
    let error = latest
        .blocks("orders", PartitionId(9), Offset(0)..Offset(1))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "generation 1 holds no orders-9");
}
