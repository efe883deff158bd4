//! What must not make a healthy archive look lost: a check finds nothing in one that is pruned as it grows.
//! And what is damaged is not used again.

mod engine_backup_support;

use bytes::Bytes;
use engine_backup_support::{World, archived, batch, quick};
use kbr::archive::{
    Archive, Depth, NewGeneration, Numbers, Policy, Progressed, PrunePlan, Retention, RunOptions,
    TopicEntry, VerifyReport,
};
use kbr::base::{CancellationToken, NoProgress, TimestampMs, TopicId, time};
use kbr::engine::backup;
use kbr::record::Codec;
use kbr::store::{Faults, Store};
use std::time::Duration;

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
    prune_by(store, &policy, now).await;
}

async fn prune_by(store: &Store, policy: &Policy, now: TimestampMs) {
    let archive = open(store).await;
    let plan = PrunePlan::make(&archive, policy, now, &NoProgress).await;
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

/// From which generation to which all can be restored.
fn whole(report: &VerifyReport) -> Vec<(u64, u64)> {
    let spans = report.restorable.whole.iter();
    spans.map(|span| (span.from, span.to)).collect()
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
    assert_eq!(whole(&report), [(2, 2)]);
}

#[tokio::test]
async fn a_damaged_end_of_a_pruned_chain_is_the_damage_and_not_what_was_pruned() {
    let world = world_of(34).await;
    let store = &world.store;
    let later = TimestampMs(time::now().0 + DAY / 2);
    prune(store, later).await;
    world
        .sandbox
        .set_committed("billing", "orders", 0, 9, "last");
    world.backup().await;
    prune(store, TimestampMs(later.0 + DAY / 2)).await;
    let listed = store.list("generations").await.unwrap();
    assert!(listed.len() < 10, "{listed:?}");
    let tip = listed.last().unwrap().0.clone();
    assert_eq!(tip, "generations/00000037.json");
    flip(store, &tip).await;

    let error = open(store).await.latest().await.unwrap_err();
    let damage = error.damage().unwrap();
    assert_eq!(damage.object, tip);
    assert_eq!(damage.restorable, "generation 36 and what it holds");
    let listing = open(store).await.listing(None).await.unwrap();
    let named: Vec<&str> = listing.damages.iter().map(|d| d.object.as_str()).collect();
    assert_eq!(named, [tip.as_str()]);
    assert_eq!(listing.generations[0].number, 36);

    let report = verify(store).await;
    let manifests = report
        .damages
        .iter()
        .filter(|d| d.object.starts_with("generations/"));
    let manifests: Vec<String> = manifests.map(ToString::to_string).collect();
    assert_eq!(manifests.len(), 2, "{manifests:?}");
    assert!(
        manifests[0].contains("00000001.json to 00000032.json")
            && manifests[0].contains("pruned or lost"),
        "{manifests:?}"
    );
    assert!(manifests[1].starts_with(&tip), "{manifests:?}");
    let newest = report.restorable.whole.last().unwrap();
    assert_eq!(newest.to, 36);
}

#[tokio::test]
async fn a_stray_name_with_a_huge_number_ends_nothing() {
    for number in [99_999_999_999_999, u64::MAX] {
        a_stray_name_ends_nothing(&format!("generations/{number}.json")).await;
    }
    // Numbers begin at 1.
    let world = world_of(2).await;
    let zero = "generations/00000000.json";
    world.store.create(zero, Bytes::new()).await.unwrap();
    assert_eq!(world.latest().await.number(), 2);
    assert_eq!(verify(&world.store).await.damages, []);
    assert_eq!(verify(&world.store).await.unreferenced, [zero]);
}

async fn a_stray_name_ends_nothing(stray: &str) {
    let world = world_of(2).await;
    world.store.create(stray, Bytes::new()).await.unwrap();
    let archive = open(&world.store).await;
    let error = archive.latest().await.unwrap_err();
    assert_eq!(error.damage().unwrap().object, stray);
    let listing = archive.listing(Some(20)).await.unwrap();
    assert_eq!(listing.damages.len(), 1, "{:?}", listing.damages);
    assert_eq!(listing.generations[0].number, 2);
    let report = verify(&world.store).await;
    assert_eq!(whole(&report), [(1, 2)]);
    assert!(report.damages.iter().any(|damage| damage.object == stray));
}

#[tokio::test]
async fn what_a_damaged_end_may_have_pruned_is_not_said_to_be_lost() {
    let world = world_of(2).await;
    let later = TimestampMs(time::now().0 + DAY / 2);
    prune(&world.store, later).await;
    world
        .sandbox
        .set_committed("billing", "orders", 0, 9, "last");
    world.backup().await;
    prune(&world.store, TimestampMs(later.0 + DAY / 2)).await;
    let tip = world.store.list("generations").await.unwrap();
    let tip = tip.last().unwrap().0.clone();
    assert_eq!(tip, "generations/00000005.json");
    assert_eq!(verify(&world.store).await.damages, []);
    flip(&world.store, &tip).await;
    let report = verify(&world.store).await;
    let said: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
    // The groups of the first generation went with it, its manifest stays as a link.
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with(&tip), "{said:?}");
    assert!(said[1].starts_with("groups/00000001-"), "{said:?}");
    assert!(said[1].contains("pruned or lost"), "{said:?}");
    assert_eq!(report.restorable.newest, Some(4));
    assert_eq!(report.restorable.whole.last().unwrap().to, 4);
}

#[tokio::test]
async fn a_damaged_prune_below_a_newer_generation_is_named_with_what_is_restorable() {
    let world = world_of(34).await;
    let later = TimestampMs(time::now().0 + DAY / 2);
    prune(&world.store, later).await;
    prune(&world.store, TimestampMs(later.0 + DAY / 2)).await;
    world
        .sandbox
        .set_committed("billing", "orders", 0, 9, "last");
    world.backup().await;
    let prune = "generations/00000036.json";
    flip(&world.store, prune).await;
    let error = open(&world.store).await.latest().await.unwrap_err();
    let damage = error.damage().unwrap();
    assert_eq!(damage.object, prune);
    assert_eq!(damage.restorable, "generation 34 and what it holds");
    let report = verify(&world.store).await;
    let said: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
    let lost = said.iter().filter(|one| !one.contains("pruned or lost"));
    let lost: Vec<&String> = lost.collect();
    assert_eq!(lost.len(), 1, "{said:?}");
    assert!(lost[0].starts_with(prune), "{said:?}");
}

#[tokio::test]
async fn a_retention_that_takes_a_huge_range_costs_nothing() {
    let world = world_of(1).await;
    let archive = open(&world.store).await;
    let (mut generation, _) = archive.read_generation(1).await.unwrap();
    // A checkpoint like the first, after as many that were pruned.
    let number = 99_999_999_999;
    let gone = Numbers {
        first: 2,
        last: number - 1,
    };
    generation.number = number;
    generation.parent = Some(world.latest().await.digest());
    generation.retention = Some(Retention {
        gone: vec![gone],
        commits: vec![number],
        ..Retention::default()
    });
    let body = serde_json::to_string(&generation).unwrap();
    let hash = kbr::base::Digest::of(body.as_bytes()).hex();
    let sealed = format!("{{\"blake3\":\"{hash}\",\"body\":{body}}}\n");
    let path = format!("generations/{number}.json");
    let sealed = Bytes::from(sealed);
    world.store.create(&path, sealed).await.unwrap();
    assert_eq!(world.latest().await.number(), 1);
    assert_eq!(archive.listing(None).await.unwrap().count, 1);
    assert_eq!(verify(&world.store).await.damages, []);
    prune(&world.store, time::now()).await;
}

#[tokio::test]
async fn a_grace_time_begins_no_earlier_than_the_newest_object_by_the_stores_clock() {
    let world = world_of(2).await;
    let ahead = Duration::from_secs(3 * 86_400);
    let store = world.store.with_faults(Faults::clock_ahead(ahead));
    let before = time::now().0 + 3 * DAY;
    prune(&store, time::now()).await;
    let catalogue = open(&store).await.catalogue().await.unwrap();
    let since = catalogue.retention().rounds[0].since.0;
    assert!(
        (before - 60_000..before + 60_000).contains(&since),
        "{since}"
    );
}

#[tokio::test]
async fn nothing_is_deleted_while_the_stores_clock_is_another() {
    let world = world_of(2).await;
    let store = &world.store;
    prune(store, time::now()).await;
    let policy = Policy {
        keep_last: 1,
        grace_ms: 0,
        ..Policy::default()
    };
    let skewed = store.with_faults(Faults::clock_ahead(Duration::from_secs(601)));
    let archive = open(&skewed).await;
    let plan = PrunePlan::make(&archive, &policy, time::now(), &NoProgress).await;
    let plan = plan.unwrap();
    assert_eq!(plan.deletes(), [1]);
    let before = store.list("").await.unwrap();
    let cancel = CancellationToken::new();
    let how = Progressed {
        run: "skewed",
        progress: &NoProgress,
        cancel: &cancel,
    };
    let refused = plan.apply(&archive, how).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("nothing is deleted while they are more than 10 minutes apart"),
        "{refused}"
    );
    assert_eq!(store.list("").await.unwrap(), before);
    prune(store, time::now()).await;
    assert_eq!(store.list("groups").await.unwrap().len(), 1);
}

/// Commits a generation whose run has not seen the topic.
async fn without(store: &Store, name: &str, id: TopicId) {
    let archive = open(store).await;
    let run = archive
        .begin_run("blind", RunOptions::default())
        .await
        .unwrap();
    let removed = TopicEntry {
        name: name.into(),
        id,
        removed: true,
        ..TopicEntry::default()
    };
    let new = NewGeneration {
        topics: vec![removed],
        ..NewGeneration::default()
    };
    run.commit(new).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_one_run_did_not_see_goes_on_where_it_was() {
    let world = world_of(1).await;
    world.sandbox.create_topic("other", 1, &[]).unwrap();
    let id = world.latest().await.topic("orders").unwrap().id;
    without(&world.store, "orders", id).await;
    assert!(world.latest().await.topic("orders").is_none());

    let records = batch(Codec::None, 11, 5);
    world.sandbox.append("orders", 0, &records).unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    let orders = plan.topics.iter().find(|topic| topic.name == "orders");
    assert_eq!(orders.unwrap().state, backup::TopicState::Continued);
    world.backup().await;
    let latest = world.latest().await;
    let topic = latest.topic("orders").unwrap();
    assert_eq!((topic.incarnation, topic.records()), (1, 15));
    assert_eq!(
        archived(&latest, "orders", 0).await,
        world.source("orders", 0, &[])
    );
    assert!(latest.topic("other").is_some());
    // And the run after that one as ever.
    world.backup().await;
    assert!(verify(&world.store).await.is_whole());
}

#[tokio::test]
async fn a_topic_without_an_id_that_comes_back_is_another_one() {
    let world = world_of(1).await;
    let store = &world.store;
    let nil = TopicId::nil();
    let commit = async |run: &str, removed: bool| {
        let run = open(store)
            .await
            .begin_run(run, RunOptions::default())
            .await
            .unwrap();
        let topic = TopicEntry {
            name: "old".into(),
            id: nil,
            removed,
            ..TopicEntry::default()
        };
        let new = NewGeneration {
            topics: vec![topic],
            ..NewGeneration::default()
        };
        run.commit(new).await.unwrap();
        let latest = open(store).await.latest().await.unwrap();
        let topics = latest
            .all_topics()
            .iter()
            .filter(|topic| topic.name == "old");
        let topics = topics.map(|topic| (topic.incarnation, topic.current));
        topics.collect::<Vec<_>>()
    };
    assert_eq!(commit("a", false).await, [(1, true)]);
    assert_eq!(commit("b", false).await, [(1, true)]);
    assert_eq!(commit("c", true).await, [(1, false)]);
    assert_eq!(commit("d", false).await, [(1, false), (2, true)]);
    assert_eq!(commit("e", true).await, [(1, false), (2, false)]);
}

/// `orders` is archived, and the last run did not see it; a policy that deletes at once what is removed.
async fn with_orders_overlooked() -> (World, Policy) {
    let world = world_of(1).await;
    world.sandbox.create_topic("other", 1, &[]).unwrap();
    let id = world.latest().await.topic("orders").unwrap().id;
    without(&world.store, "orders", id).await;
    let policy = Policy {
        keep_last: 1,
        grace_ms: 0,
        drop_removed: true,
        ..Policy::default()
    };
    (world, policy)
}

#[tokio::test]
async fn a_topic_that_comes_back_within_the_grace_time_of_its_removal_keeps_its_records() {
    let (world, policy) = with_orders_overlooked().await;
    // Marks what only the removed topic had …
    prune_by(&world.store, &policy, time::now()).await;
    let records = batch(Codec::None, 11, 5);
    world.sandbox.append("orders", 0, &records).unwrap();
    world.backup().await;
    // … and this one would delete it.
    prune_by(&world.store, &policy, time::now()).await;
    let latest = world.latest().await;
    assert_eq!(
        archived(&latest, "orders", 0).await,
        world.source("orders", 0, &[])
    );
    assert!(verify(&world.store).await.is_whole());
}

#[tokio::test]
async fn a_topic_of_which_a_prune_left_nothing_begins_anew_when_it_is_back() {
    let (world, policy) = with_orders_overlooked().await;
    prune_by(&world.store, &policy, time::now()).await;
    prune_by(&world.store, &policy, time::now()).await;
    assert_eq!(world.store.list("topics").await.unwrap(), []);
    for _ in 0..2 {
        world.backup().await;
        let latest = world.latest().await;
        let topic = latest.topic("orders").unwrap();
        assert_eq!((topic.incarnation, topic.records()), (2, 10));
        // What the floor of the first incarnation says is not said of the second.
        prune_by(&world.store, &policy, time::now()).await;
        assert_eq!(archived(&world.latest().await, "orders", 0).await.len(), 10);
        assert!(verify(&world.store).await.is_whole());
    }
}

#[tokio::test]
async fn a_partition_that_does_not_follow_what_is_archived_fails_by_name_and_the_others_are_kept() {
    let world = world_of(1).await;
    world.sandbox.create_topic("other", 1, &[]).unwrap();
    for topic in ["orders", "other"] {
        let records = batch(Codec::None, 11, 5);
        world.sandbox.append(topic, 0, &records).unwrap();
    }
    let mut plan = world.plan(&quick()).await.unwrap();
    // As if the archive's end had been overlooked.
    plan.topics[0].partitions[0].continued = false;
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    let failed: Vec<_> = report
        .failures
        .iter()
        .map(|failure| (failure.partition.to_string(), failure.why.as_str()))
        .collect();
    assert_eq!(
        failed,
        [(
            "orders-0".to_string(),
            "what was read of it does not follow what is archived: it begins at 0 but the generation before ended at 10"
        )]
    );
    let latest = world.latest().await;
    assert_eq!(archived(&latest, "other", 0).await.len(), 5);
    assert_eq!(archived(&latest, "orders", 0).await.len(), 10);
    assert!(!world.backup().await.partial);
    assert_eq!(archived(&world.latest().await, "orders", 0).await.len(), 15);
    assert!(verify(&world.store).await.is_whole());
}
