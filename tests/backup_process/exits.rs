//! What a person and a script hear of it: exit statuses and words of the real binary.

use crate::engine_backup_support::{archived, batch, large_batch};
use crate::scene::Scene;
use kbr::archive::Archive;
use kbr::record::Codec;
use kbr::sandbox::Action;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FETCH: i16 = 1;

/// Refuses every fetch that asks about the topic, as a broker whose disk failed does.
async fn refuse(scene: &Scene, topic: &str) {
    let topics = scene.world.client.topics(kbr::kafka::TopicsWanted::All);
    let topics = topics.await.unwrap();
    let id = topics.iter().find(|known| known.name == topic).unwrap().id;
    scene.world.sandbox.intercept(move |request| {
        let mut windows = request.frame.windows(16);
        match request.api_key == FETCH && windows.any(|bytes| bytes == id.as_bytes()) {
            true => Action::Error(56),
            false => Action::Pass,
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_progress_is_named_and_the_rest_is_kept_with_exit_6() {
    let mut scene = Scene::new().await;
    scene.topic("silent", 1);
    scene.append("silent", 0, &batch(Codec::None, 1, 10));
    refuse(&scene, "silent").await;
    let text = scene.kbr("archive", 6);
    assert!(
        text.contains("silent-0: no progress for 4 s at offset 0"),
        "{text}"
    );
    assert!(text.contains("KAFKA_STORAGE_ERROR (56)"), "{text}");
    assert_eq!(scene.generations("archive").await, 1);
    scene.world.sandbox.clear_interceptors();
    scene.kbr("archive", 0);
    scene.assert_whole("archive", "once it answers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_partition_fails_there_is_no_generation_and_the_exit_status_is_1() {
    let scene = Scene::new().await;
    refuse(&scene, "orders").await;
    let text = scene.kbr("archive", 1);
    assert!(
        text.contains("E0425") && text.contains("orders-0: no progress for 4 s"),
        "{text}"
    );
    assert!(text.contains("orders-1: no progress for 4 s"), "{text}");
    assert_eq!(scene.generations("archive").await, 0);
    scene.world.sandbox.clear_interceptors();
    scene.kbr("archive", 0);
    scene.assert_whole("archive", "once it answers").await;
}

/// Two partitions that are read at once and one of many answers.
async fn long() -> Scene {
    let mut scene = Scene::empty(1).await;
    scene.topic("orders", 3);
    scene.append("orders", 0, &batch(Codec::None, 1, 10));
    scene.append("orders", 1, &batch(Codec::Zstd, 2, 10));
    for seed in 1..=12 {
        scene.append("orders", 2, &large_batch(seed, 600, 1000));
    }
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_never_comes_back_leaves_what_was_read_of_it_as_a_partial_generation() {
    let scene = Arc::new(long().await);
    let fetches = AtomicU64::new(0);
    let (dying, mut dies) = tokio::sync::mpsc::channel(1);
    scene.world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && fetches.fetch_add(1, Ordering::Relaxed) == 4 {
            let _ = dying.try_send(());
            return Action::Drop;
        }
        Action::Pass
    });
    let sandbox = scene.world.sandbox.clone();
    let stopped = tokio::spawn(async move {
        dies.recv().await.unwrap();
        sandbox.stop_broker(1).await.unwrap();
    });
    let running = scene.clone();
    let text = tokio::spawn(async move { running.kbr("archive", 6) });
    let text = text.await.unwrap();
    stopped.await.unwrap();
    assert!(text.contains("orders-2: no progress for 4 s"), "{text}");
    assert_eq!(scene.generations("archive").await, 1);
    scene.assert_sound("archive", "after its broker died").await;
    scene.world.sandbox.clear_interceptors();
    scene.world.sandbox.start_broker(1).await.unwrap();
    scene.kbr("archive", 0);
    scene
        .assert_whole("archive", "once the broker is back")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_and_comes_back_costs_nothing() {
    let scene = Arc::new(long().await);
    let fetches = AtomicU64::new(0);
    let (dying, mut dies) = tokio::sync::mpsc::channel(4);
    scene.world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && [2, 4].contains(&fetches.fetch_add(1, Ordering::Relaxed)) {
            let _ = dying.try_send(());
            return Action::Drop;
        }
        Action::Pass
    });
    let sandbox = scene.world.sandbox.clone();
    let restarts = tokio::spawn(async move {
        let mut restarts = 0;
        while dies.recv().await.is_some() {
            sandbox.stop_broker(1).await.unwrap();
            // Long enough that it is missed: connections are refused meanwhile.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            sandbox.start_broker(1).await.unwrap();
            restarts += 1;
        }
        restarts
    });
    let running = scene.clone();
    tokio::spawn(async move { running.kbr("archive", 0) })
        .await
        .unwrap();
    scene.world.sandbox.clear_interceptors();
    assert_eq!(restarts.await.unwrap(), 2);
    scene.assert_whole("archive", "after two restarts").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_retention_took_between_two_runs_give_exit_6_and_are_counted() {
    let mut scene = Scene::new().await;
    scene.kbr("archive", 0);
    scene.append("orders", 0, &large_batch(2, 100, 100));
    let sandbox = &scene.world.sandbox;
    sandbox.delete_records("orders", 0, 340).unwrap();
    let text = scene.kbr("archive", 6);
    assert!(
        text.contains(
            "orders-0: 40 offsets were deleted at the source before this run could read them"
        ),
        "{text}"
    );
    scene.kbr("archive", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_broken_at_the_source_is_named_and_kept_out_with_exit_5() {
    let scene = Scene::new().await;
    scene.topic("damaged", 1);
    let mut log = Vec::new();
    for seed in 0..3 {
        let mut bytes = batch(Codec::None, seed, 10);
        kbr::record::place(&mut bytes, seed * 10, 0).unwrap();
        if seed == 1 {
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
        }
        log.extend(bytes);
    }
    let sandbox = &scene.world.sandbox;
    sandbox.replicate("damaged", 0, &log).unwrap();
    let text = scene.kbr("archive", 5);
    assert!(
        text.contains("damaged-0: the batch at offset 10 is broken at the source"),
        "{text}"
    );
    assert!(text.contains("offsets 10 to 20 were kept out"), "{text}");
    scene.assert_whole("archive", "beside the damage").await;
    // It is said once: the next run has nothing to do with it.
    scene.kbr("archive", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_back_up_into_one_archive_tell_one_story() {
    let mut scene = Scene::new().await;
    let (mut both, mut gave_way) = (0, 0);
    for round in 0..8 {
        scene.append("orders", 0, &large_batch(round + 10, 300, 1000));
        scene.append("orders", 1, &batch(Codec::Gzip, round as i64 + 2, 10));
        let before = scene.generations("archive").await;
        // In half of the rounds on two machines: with journals of their own.
        let elsewhere = scene.folder.file("elsewhere").display().to_string();
        let second: &[(&str, &str)] = match round % 2 {
            0 => &[],
            _ => &[("KBR_STATE_DIR", &elsewhere)],
        };
        let runs = [scene.start("archive", &[]), scene.start("archive", second)];
        let codes = runs.each_ref().map(|run| run.end().code().unwrap());
        let texts = runs.map(|run| run.text()).join("\n");
        let when = format!("round {round}, exit statuses {codes:?}\n{texts}");
        let won = codes.iter().filter(|code| **code == 0).count() as u64;
        assert!(won > 0, "{when}");
        // Drift, or the generation was taken.
        assert!(codes.iter().all(|code| [0, 1, 4].contains(code)), "{when}");
        assert_eq!(scene.generations("archive").await, before + won, "{when}");
        both += u64::from(won == 2);
        gave_way += u64::from(won == 1);
        scene.assert_whole("archive", &when).await;
    }
    assert_eq!(both + gave_way, 8);
    scene.kbr("archive", 0);
    scene.assert_whole("archive", "after all rounds").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runbook_with_a_regex_and_an_exclude_takes_exactly_those_topics() {
    let scene = Scene::empty(1).await;
    let all = ["orders-eu", "orders-us", "orders-tmp", "audit.7", "audit.x"];
    for (seed, topic) in (1..).zip(all) {
        scene.topic(topic, 1);
        let records = batch(Codec::Lz4, seed, 5);
        scene.world.sandbox.append(topic, 0, &records).unwrap();
    }
    scene.folder.write(
        "chosen.rhai",
        r#"backup(cluster("prod"))
            .topics("/^orders-/", "/^audit\\.[0-9]+$/").exclude("*-tmp")
            .to(store("file:chosen"));"#,
    );
    scene.kbr("chosen", 0);
    let store = scene.store("chosen").await;
    let latest = Archive::open(store).await.unwrap().latest().await.unwrap();
    let taken: Vec<&str> = latest.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(taken, ["audit.7", "orders-eu", "orders-us"]);
    for topic in taken {
        let records = scene.world.source(topic, 0, &[]);
        assert_eq!(records.len(), 5);
        assert_eq!(archived(&latest, topic, 0).await, records);
    }
}
