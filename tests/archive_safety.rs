//! What must not make a healthy archive look lost: a check finds nothing in one that is pruned as it grows.
//! And what is damaged is not used again.

mod engine_backup_support;

use bytes::Bytes;
use engine_backup_support::{World, batch};
use kbr::archive::{Archive, Depth, Policy, Progressed, PrunePlan, VerifyReport};
use kbr::base::{CancellationToken, NoProgress, TimestampMs, time};
use kbr::record::Codec;
use kbr::store::Store;

const DAY: i64 = 86_400_000;

async fn open(store: &Store) -> Archive {
    Archive::open(store.clone()).await.unwrap()
}

async fn verify(store: &Store) -> VerifyReport {
    let archive = open(store).await;
    archive.verify(Depth::Deep, &NoProgress).await.unwrap()
}

/// Keeps the newest; what is marked goes with the next one.
async fn prune(store: &Store, now: TimestampMs) {
    let policy = Policy {
        keep_last: 1,
        grace_ms: 0,
        ..Policy::default()
    };
    let archive = open(store).await;
    let plan = PrunePlan::make(&archive, &policy, now, &NoProgress).await;
    let how = Progressed {
        run: "prune",
        progress: &NoProgress,
        cancel: &CancellationToken::new(),
    };
    plan.unwrap().apply(&archive, how).await.unwrap();
}

/// Changes one bit in the middle of an object.
async fn flip(store: &Store, path: &str) {
    let mut bytes = store.get(path).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(path).await.unwrap();
    store.create(path, Bytes::from(bytes)).await.unwrap();
}

/// One topic with ten records, and as many generations; a group commits between them.
async fn world_of(generations: i64) -> World {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let records = batch(Codec::None, 1, 10);
    world.sandbox.append("orders", 0, &records).unwrap();
    for number in 0..generations {
        let sandbox = &world.sandbox;
        sandbox.set_committed("billing", "orders", 0, number % 10, "");
        world.backup().await;
    }
    world
}

#[tokio::test]
async fn a_check_after_backup_and_prune_in_turn_finds_nothing() {
    let world = world_of(2).await;
    let later = TimestampMs(time::now().0 + DAY / 2);
    for offset in [5, 6, 7, 8] {
        prune(&world.store, later).await;
        world
            .sandbox
            .set_committed("billing", "orders", 0, offset, "");
        world.backup().await;
        assert_eq!(verify(&world.store).await.damages, [], "{offset}");
    }
    // The objects of those that are deleted are gone, and no generation is said to miss them.
    let groups = world.store.list("groups").await.unwrap();
    assert!(groups.len() < 6, "{groups:?}");
    assert!(verify(&world.store).await.unreferenced.is_empty());
}

#[tokio::test]
async fn groups_that_were_damaged_since_are_written_anew_by_the_next_run() {
    let world = world_of(1).await;
    let path = world.store.list("groups").await.unwrap()[0].0.clone();
    flip(&world.store, &path).await;
    // Nothing has changed at the source.
    world.backup().await;
    let groups = world.latest().await.groups().await.unwrap();
    assert_eq!(groups.groups[0].group, "billing");
    let report = verify(&world.store).await;
    let whole: Vec<_> = report
        .restorable
        .whole
        .iter()
        .map(|s| (s.from, s.to))
        .collect();
    assert_eq!(whole, [(2, 2)]);
}
