//! Pruning an archive: what is marked, what is deleted, what stays and is read as before; every crash on the way.

mod engine_backup_support;

use engine_backup_support::{Plain, World, archived, batch, quick};
use kbr::archive::{
    Archive, Depth, Error, Fate, ObjectKind, Policy, Progressed, PrunePlan, Pruned, Snapshot,
    Standing, UndeletePlan, Why,
};
use kbr::base::{CancellationToken, NoProgress, TimestampMs, time};
use kbr::engine::backup;
use kbr::record::{BatchBuilder, BuildOptions, Codec, Headers, ProducerStamp};
use kbr::store::{Fault, Faults, Store};
use std::collections::BTreeMap;

const DAY: i64 = 86_400_000;

/// Records by topic and partition.
type Picture = BTreeMap<(String, i32), Vec<Plain>>;

async fn picture(snapshot: &Snapshot) -> Picture {
    let mut picture = Picture::new();
    let topics: Vec<(String, Vec<i32>)> = snapshot
        .topics()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|p| p.partition.0).collect();
            (topic.name.clone(), partitions)
        })
        .collect();
    for (topic, partitions) in topics {
        for partition in partitions {
            let records = archived(snapshot, &topic, partition).await;
            picture.insert((topic.clone(), partition), records);
        }
    }
    picture
}

/// What the source itself still had: nothing below the log start.
fn at_source(snapshot: &Snapshot, picture: &Picture) -> Picture {
    let mut kept = picture.clone();
    for ((topic, partition), records) in &mut kept {
        let topic = snapshot.topic(topic).unwrap();
        let partition = topic.partition(kbr::base::PartitionId(*partition)).unwrap();
        records.retain(|record| record.offset >= partition.log_start.0);
    }
    kept
}

async fn open(store: &Store) -> Archive {
    Archive::open(store.clone()).await.unwrap()
}

fn keep_last(count: u32) -> Policy {
    Policy {
        keep_last: count,
        ..Policy::default()
    }
}

fn dropping(count: u32) -> Policy {
    Policy {
        drop_expired: true,
        drop_removed: true,
        ..keep_last(count)
    }
}

fn in_days(days: i64) -> TimestampMs {
    TimestampMs(time::now().0 + days * DAY)
}

async fn plan(store: &Store, policy: &Policy, now: TimestampMs) -> PrunePlan {
    PrunePlan::make(&open(store).await, policy, now, &NoProgress)
        .await
        .unwrap()
}

async fn apply(store: &Store, plan: &PrunePlan) -> Result<Pruned, Error> {
    let how = Progressed {
        run: "prune",
        progress: &NoProgress,
        cancel: &CancellationToken::new(),
    };
    plan.apply(&open(store).await, how).await
}

async fn prune(store: &Store, policy: &Policy, now: TimestampMs) -> (PrunePlan, Pruned) {
    let plan = plan(store, policy, now).await;
    let done = apply(store, &plan).await.unwrap();
    (plan, done)
}

async fn assert_whole(store: &Store, when: &str) {
    for depth in [Depth::Quick, Depth::Deep] {
        let report = open(store).await.verify(depth, &NoProgress).await.unwrap();
        assert_eq!(report.damages, [], "{when}");
    }
}

/// A history of eight generations: records that expire, a topic that goes, one that is created again, one that is
/// read anew, and a small one that shares packs with others. What each generation showed when it was made.
async fn history() -> (World, Vec<Picture>) {
    let world = World::new(1).await;
    let sandbox = &world.sandbox;
    for topic in ["orders", "gone", "again", "quiet"] {
        sandbox.create_topic(topic, 2, &[]).unwrap();
    }
    let mut pictures = Vec::new();
    for round in 0..8_i64 {
        for partition in 0..2 {
            let codec = Codec::ALL[round as usize % 5];
            sandbox
                .append("orders", partition, &batch(codec, round + 1, 20))
                .unwrap();
        }
        match round {
            0 => {
                for topic in ["gone", "again", "quiet"] {
                    let records = batch(Codec::None, 3, 10);
                    sandbox.append(topic, 0, &records).unwrap();
                }
            }
            2 => sandbox.delete_topic("gone").unwrap(),
            3 => {
                sandbox.delete_topic("again").unwrap();
                sandbox.create_topic("again", 1, &[]).unwrap();
                let records = batch(Codec::Lz4, 9, 5);
                sandbox.append("again", 0, &records).unwrap();
            }
            4 => sandbox.delete_records("orders", 0, 60).unwrap(),
            6 => {
                sandbox.delete_records("orders", 0, 95).unwrap();
                sandbox.delete_records("orders", 1, 40).unwrap();
            }
            _ => {}
        }
        world.backup().await;
        pictures.push(picture(&world.latest().await).await);
    }
    (world, pictures)
}

/// Every recovery point that is there shows what it showed when it was made, from its own log start on at least.
async fn assert_pictures(store: &Store, pictures: &[Picture], exactly: bool) {
    let archive = open(store).await;
    let catalogue = archive.catalogue().await.unwrap();
    for number in catalogue.points().chain(catalogue.marked()) {
        let Some(then) = pictures.get(number as usize - 1) else {
            continue;
        };
        let snapshot = archive.generation(number).await.unwrap();
        let now = picture(&snapshot).await;
        if exactly {
            assert!(now == *then, "generation {number}");
            continue;
        }
        assert!(
            at_source(&snapshot, &now) == at_source(&snapshot, then),
            "generation {number} lost records that the source had"
        );
        for (place, records) in &now {
            assert!(
                then[place].ends_with(records),
                "generation {number} {place:?}"
            );
        }
    }
}

#[tokio::test]
async fn marked_generations_are_hidden_whole_and_come_back() {
    let (world, pictures) = history().await;
    let store = &world.store;
    let before = store.list("").await.unwrap();
    let (planned, done) = prune(store, &keep_last(3), in_days(0)).await;
    assert_eq!(planned.marks(), [1, 2, 3, 4, 5]);
    assert_eq!((done.marked.len(), done.objects), (5, 0));
    assert_eq!(done.commit.unwrap().number, 9);
    let archive = open(store).await;
    assert_eq!(archive.generations().await.unwrap(), [6, 7, 8]);
    let catalogue = archive.catalogue().await.unwrap();
    assert_eq!(catalogue.marked().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(catalogue.standing(9), Standing::Retention);
    assert_eq!(archive.latest().await.unwrap().number(), 8);
    assert!(matches!(
        archive.generation(9).await,
        Err(Error::NoRecoveryPoint { number: 9 })
    ));
    assert_whole(store, "marked").await;
    assert_pictures(store, &pictures, true).await;

    // Nothing left its place, and nothing goes before the grace time is over.
    let after = store.list("").await.unwrap();
    assert!(before.iter().all(|object| after.contains(object)));
    let again = plan(store, &keep_last(3), in_days(6)).await;
    assert!(again.is_empty(), "{:?}", again.retention);

    let undelete = UndeletePlan::make(&archive, &[2, 4]).await.unwrap();
    undelete.apply(&archive, "back").await.unwrap().unwrap();
    assert_eq!(archive.generations().await.unwrap(), [2, 4, 6, 7, 8]);
    let undelete = UndeletePlan::make(&archive, &[]).await.unwrap();
    undelete.apply(&archive, "back-2").await.unwrap().unwrap();
    assert_eq!(
        archive.generations().await.unwrap(),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    let nothing = UndeletePlan::make(&archive, &[]).await.unwrap();
    assert!(nothing.retention.is_none());
    assert_whole(store, "undeleted").await;
    assert_pictures(store, &pictures, true).await;
}

#[tokio::test]
async fn without_drop_no_record_of_a_kept_generation_goes() {
    let (world, pictures) = history().await;
    let store = &world.store;
    prune(store, &keep_last(2), in_days(0)).await;
    let (planned, _) = prune(store, &keep_last(2), in_days(8)).await;
    assert_eq!(planned.deletes(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(planned.data, []);
    let kinds: Vec<ObjectKind> = planned.objects.iter().map(|object| object.kind).collect();
    assert!(!kinds.contains(&ObjectKind::Segment), "{kinds:?}");
    assert_whole(store, "deleted").await;
    assert_pictures(store, &pictures, true).await;
    assert!(matches!(
        open(store).await.generation(3).await,
        Err(Error::Pruned {
            number: 3,
            oldest: Some(7)
        })
    ));
}

#[tokio::test]
async fn dropped_data_is_what_no_kept_generation_had_at_its_source() {
    let (world, pictures) = history().await;
    let store = &world.store;
    let bytes = |objects: &[(String, u64)]| objects.iter().map(|o| o.1).sum::<u64>();
    let before = store.list("").await.unwrap();
    let (marked, _) = prune(store, &dropping(2), in_days(0)).await;
    assert!(
        marked.data.iter().all(|data| !data.now),
        "{:?}",
        marked.data
    );
    assert_pictures(store, &pictures, true).await;
    let (planned, done) = prune(store, &dropping(2), in_days(8)).await;
    assert!(
        planned.data.iter().all(|data| data.now),
        "{:?}",
        planned.data
    );
    let went: Vec<(&str, u32, i32, i64, i64, u64, Why)> = planned
        .data
        .iter()
        .map(|d| {
            let (first, last) = (d.first.0, d.last.0);
            let partition = d.partition.0;
            (
                d.topic.as_str(),
                d.incarnation,
                partition,
                first,
                last,
                d.records,
                d.why,
            )
        })
        .collect();
    // Partition 0 of orders began at 95 in generations 7 and 8; the segment 80 … 99 reaches over that.
    assert_eq!(
        went,
        [
            ("again", 1, 0, 0, 9, 10, Why::Removed),
            ("gone", 1, 0, 0, 9, 10, Why::Removed),
            ("orders", 1, 0, 0, 79, 80, Why::Expired),
            ("orders", 1, 1, 0, 39, 40, Why::Expired),
        ]
    );
    assert!(done.objects > 0);
    let after = store.list("").await.unwrap();
    let commits: u64 = [9, 10]
        .iter()
        .map(|n| {
            let path = format!("generations/{n:08}.json");
            after.iter().find(|o| o.0 == path).unwrap().1
        })
        .sum();
    assert_eq!(bytes(&after), bytes(&before) - done.bytes + commits);
    assert_whole(store, "deleted").await;
    assert_pictures(store, &pictures, false).await;

    // The next run goes on, and the archive then holds it all from where it begins.
    world
        .sandbox
        .append("orders", 0, &batch(Codec::Zstd, 77, 15))
        .unwrap();
    let report = world.backup().await;
    assert_eq!(report.generation, 11);
    assert_eq!(world.archived("orders", 0).await.len(), 80 + 15);
    assert_eq!(
        world.archived("orders", 0).await[15..],
        world.source("orders", 0, &[])[..]
    );
    assert_whole(store, "gone on").await;
    assert_python_agrees(store).await;
    let left = plan(store, &dropping(3), in_days(9)).await;
    assert!(left.is_empty(), "{:?} {:?}", left.retention, left.objects);
}

/// The independent reader finds the records of the newest recovery point: topic, partition and offset of each.
async fn assert_python_agrees(store: &Store) {
    let folder = tempfile::tempdir().unwrap();
    for (path, _) in store.list("").await.unwrap() {
        let file = folder.path().join(&path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, store.get(&path).await.unwrap()).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_archive.py");
    let output = std::process::Command::new("python3")
        .args([script, folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: BTreeMap<(String, i32), Vec<i64>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (unread, words) = match words[0] {
            "?" => (true, &words[1..]),
            _ => (false, &words[..]),
        };
        let place = (words[0].to_string(), words[1].parse().unwrap());
        let first: i64 = words[2].parse().unwrap();
        // A zstd block that the script cannot open is told by its first and last offset; these are dense.
        let last = if unread {
            words[3].parse().unwrap()
        } else {
            first
        };
        found.entry(place).or_default().extend(first..=last);
    }
    let snapshot = open(store).await.latest().await.unwrap();
    let mut wanted = BTreeMap::new();
    for (place, records) in picture(&snapshot).await {
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        if !offsets.is_empty() {
            wanted.insert(place, offsets);
        }
    }
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_quiet_topic_that_expires_at_the_source_can_be_dropped_too() {
    let world = World::new(1).await;
    for topic in ["busy", "quiet"] {
        world.sandbox.create_topic(topic, 1, &[]).unwrap();
        for seed in 1..4 {
            let records = batch(Codec::None, seed, 10);
            world.sandbox.append(topic, 0, &records).unwrap();
            world.backup().await;
        }
    }
    world.sandbox.delete_records("quiet", 0, 30).unwrap();
    world.backup().await;
    let quiet = world.latest().await.topic("quiet").unwrap().partitions[0].clone();
    assert_eq!((quiet.log_start.0, quiet.to.0, quiet.records), (30, 30, 30));
    let store = &world.store;
    prune(store, &dropping(1), in_days(0)).await;
    let (planned, _) = prune(store, &dropping(1), in_days(8)).await;
    let went: Vec<(&str, u64)> = planned
        .data
        .iter()
        .map(|data| (data.topic.as_str(), data.records))
        .collect();
    assert_eq!(went, [("quiet", 30)]);
    assert_whole(store, "dropped").await;
    // An empty partition goes on where it ended.
    world
        .sandbox
        .append("quiet", 0, &batch(Codec::Gzip, 9, 4))
        .unwrap();
    world.backup().await;
    assert_eq!(
        world.archived("quiet", 0).await,
        world.source("quiet", 0, &[])
    );
    assert_whole(store, "gone on").await;
}

#[tokio::test]
async fn only_the_manifests_of_kept_chains_stay_and_holes_are_said_not_damage() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let mut pictures = Vec::new();
    for round in 0..70 {
        let records = batch(Codec::None, round, 2);
        world.sandbox.append("orders", 0, &records).unwrap();
        world.backup().await;
        pictures.push(picture(&world.latest().await).await);
    }
    let store = &world.store;
    prune(store, &keep_last(2), in_days(0)).await;
    prune(store, &keep_last(2), in_days(8)).await;
    let archive = open(store).await;
    let catalogue = archive.catalogue().await.unwrap();
    // The chain of generations 69 and 70 begins at the checkpoint 65; 71 marked, 72 deleted.
    assert_eq!(catalogue.manifests(), (65..=72).collect::<Vec<u64>>());
    assert_eq!(archive.generations().await.unwrap(), [69, 70]);
    assert_whole(store, "pruned").await;
    assert_pictures(store, &pictures, true).await;
    for number in [1, 64, 66] {
        let error = archive.generation(number).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("generation {number} was pruned; the oldest recovery point is generation 69")
        );
    }
    // The first manifest that is left has no child that was deleted to vouch for it: its hash is in the commit.
    let path = "generations/00000065.json";
    let bytes = store.get(path).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (_, body) = text.split_once(",\"body\":").unwrap();
    let body = body.trim_end().strip_suffix('}').unwrap();
    let changed = body.replace("\"partial\":false", "\"partial\":true");
    assert_ne!(changed, body);
    let seal = kbr::base::Digest::of(changed.as_bytes()).hex();
    store.delete(path).await.unwrap();
    let forged = format!("{{\"blake3\":\"{seal}\",\"body\":{changed}}}\n");
    store.create(path, forged.into()).await.unwrap();
    let report = archive.verify(Depth::Quick, &NoProgress).await.unwrap();
    assert!(report.damages.iter().any(|damage| damage.object == path));
}

#[tokio::test]
async fn a_crash_at_any_operation_leaves_an_archive_that_is_whole_and_pruned_by_the_next() {
    let (world, pictures) = history().await;
    prune(&world.store, &dropping(2), in_days(0)).await;
    let mut objects = Vec::new();
    for (path, _) in world.store.list("").await.unwrap() {
        let bytes = world.store.get(&path).await.unwrap();
        objects.push((path, bytes));
    }
    let mut wanted = None;
    for nth in 1.. {
        let mut injected = false;
        for fault in [
            Fault::Crash(nth),
            Fault::CrashAfter(nth),
            Fault::Fail(nth),
            Fault::DoneWithoutAnswer(nth),
        ] {
            let store = world.with_archive(&objects).await;
            let faults = Faults::new(fault);
            let faulty = store.with_faults(faults.clone());
            let made = match Archive::open(faulty.clone()).await {
                Ok(archive) => {
                    PrunePlan::make(&archive, &dropping(2), in_days(8), &NoProgress).await
                }
                Err(error) => Err(error),
            };
            if let Ok(planned) = made {
                let how = Progressed {
                    run: "prune",
                    progress: &NoProgress,
                    cancel: &CancellationToken::new(),
                };
                if let Ok(archive) = Archive::open(faulty).await {
                    let _ = planned.apply(&archive, how).await;
                }
            }
            injected |= faults.operations() >= nth;
            let when = format!("{fault:?}");
            assert_whole(&store, &when).await;
            assert_pictures(&store, &pictures, false).await;
            // A backup goes on from it, and the next prune ends what was begun.
            let (_, _) = prune(&store, &dropping(2), in_days(8)).await;
            assert_whole(&store, &when).await;
            assert_pictures(&store, &pictures, false).await;
            let mut left: Vec<String> = store
                .list("")
                .await
                .unwrap()
                .into_iter()
                .map(|o| o.0)
                .collect();
            left.retain(|path| !path.starts_with("generations/"));
            assert_eq!(wanted.get_or_insert_with(|| left.clone()), &left, "{when}");
        }
        if !injected {
            assert!(nth > 20, "only {nth} operations");
            break;
        }
    }
}

#[tokio::test]
async fn a_prune_and_a_backup_at_once_come_one_after_the_other() {
    let (world, pictures) = history().await;
    let store = &world.store;
    // The prune commits between the run's beginning and its end.
    let late = plan(store, &keep_last(3), in_days(0)).await;
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 50, 5))
        .unwrap();
    let archive = open(store).await;
    let run = archive
        .begin_run("slow", kbr::archive::RunOptions::default())
        .await
        .unwrap();
    apply(store, &late).await.unwrap();
    let committed = run
        .commit(kbr::archive::NewGeneration {
            started: in_days(0),
            consistency_point: in_days(0),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(committed.number, 10);
    assert_eq!(committed.generation.retention_at.unwrap().generation, 9);
    assert_eq!(archive.generations().await.unwrap(), [6, 7, 8, 10]);
    assert_whole(store, "a run after the prune").await;

    // The other way round: the prune is told, and changes nothing.
    let late = plan(store, &keep_last(1), in_days(0)).await;
    world.backup().await;
    let error = apply(store, &late).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Changed {
                planned: 10,
                found: 11
            }
        ),
        "{error}"
    );
    // Two prunes of one plan: the second is told as well.
    let twice = plan(store, &keep_last(1), in_days(0)).await;
    apply(store, &twice).await.unwrap();
    assert!(matches!(
        apply(store, &twice).await,
        Err(Error::Changed { .. })
    ));
    assert_pictures(store, &pictures, true).await;
}

#[tokio::test]
async fn what_dead_runs_left_goes_after_a_day_and_a_run_that_still_writes_keeps_all_of_it() {
    let (world, _) = history().await;
    let store = &world.store;
    let archive = open(store).await;
    // A run that dies before its commit, one that is slow, and things that are none of an archive's.
    let leave = async |name: &str| {
        let run = archive
            .begin_run(name, kbr::archive::RunOptions::default())
            .await
            .unwrap();
        let id = kbr::base::TopicId::from_u128(7);
        let partition = kbr::base::PartitionId(0);
        let mut segment = run.segment_writer("orders", id, partition).await.unwrap();
        segment
            .append(batch(Codec::None, 5, 5).into())
            .await
            .unwrap();
        segment.finish().await.unwrap().unwrap();
        run
    };
    drop(leave("dead").await);
    let slow = leave("slow").await;
    store.create("staging/5f1c", "x".into()).await.unwrap();
    // A file that a killed process had not finished.
    store
        .create("generations/00000099.json#1", "x".into())
        .await
        .unwrap();
    store.create("notes.txt", "mine".into()).await.unwrap();
    let soon = plan(store, &Policy::default(), in_days(0)).await;
    assert!(soon.is_empty());
    assert_eq!(
        (soon.young.len(), soon.foreign),
        (4, vec!["notes.txt".to_string()])
    );

    // Grace of nothing: a day is waited all the same.
    let hasty = Policy {
        grace_ms: 0,
        ..Policy::default()
    };
    assert!(
        plan(store, &hasty, TimestampMs(in_days(1).0 - 60_000))
            .await
            .is_empty()
    );
    let (planned, done) = prune(store, &hasty, in_days(2)).await;
    assert_eq!(
        (done.objects, done.marked.len(), done.deleted.len()),
        (4, 0, 0)
    );
    assert!(
        planned
            .objects
            .iter()
            .all(|object| object.kind == ObjectKind::Unreferenced)
    );
    assert!(store.exists("notes.txt").await.unwrap());
    let error = slow
        .commit(kbr::archive::NewGeneration::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Abandoned { run, number: 9 } if run == "slow"),
        "{error}"
    );
    assert_whole(store, "swept").await;
}

#[tokio::test]
async fn an_archive_that_lost_a_segment_is_not_pruned() {
    let (world, _) = history().await;
    let store = &world.store;
    let snapshot = world.latest().await;
    let lost = snapshot.topic("orders").unwrap().partitions[0].segments[3]
        .path
        .clone();
    store.delete(&lost).await.unwrap();
    let error = PrunePlan::make(&open(store).await, &keep_last(1), in_days(0), &NoProgress)
        .await
        .unwrap_err();
    assert_eq!(error.damage().unwrap().object, lost);
}

fn keyed(round: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for index in 0..count {
        let (key, value) = (format!("key-{index}"), format!("value {round}"));
        let (key, value) = (key.as_bytes(), value.as_bytes());
        builder
            .push(1_795_255_200_000, Some(key), Some(value), Headers::empty())
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

#[tokio::test]
async fn what_a_rescan_replaced_goes_with_the_last_generation_that_shows_it() {
    let world = World::new(1).await;
    let compacted = [("cleanup.policy", "compact"), ("delete.retention.ms", "0")];
    world.sandbox.create_topic("state", 1, &compacted).unwrap();
    let mut pictures = Vec::new();
    for round in 0..3 {
        let records = keyed(round, 10);
        world.sandbox.append("state", 0, &records).unwrap();
        let started = time::now();
        while time::now() <= started {
            tokio::task::yield_now().await;
        }
        let plan = world.plan(&quick()).await.unwrap();
        assert_eq!(
            plan.topics[0].state == backup::TopicState::Rescanned,
            round > 0
        );
        world.apply(&plan).await.unwrap();
        pictures.push(picture(&world.latest().await).await);
    }
    let store = &world.store;
    prune(store, &keep_last(1), in_days(0)).await;
    assert_pictures(store, &pictures, true).await;
    let (planned, _) = prune(store, &keep_last(1), in_days(8)).await;
    let went: Vec<(i64, i64, u64, Why)> = planned
        .data
        .iter()
        .map(|d| (d.first.0, d.last.0, d.records, d.why))
        .collect();
    // The ranges of generations 1 and 2, laid together: 10 records and 20.
    assert_eq!(went, [(0, 19, 30, Why::Superseded)]);
    assert_whole(store, "superseded").await;
    assert_pictures(store, &pictures, true).await;
    assert!(matches!(planned.points[0].fate, Fate::Deletes { .. }));
}
