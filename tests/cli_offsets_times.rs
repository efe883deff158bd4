//! `cluster-scan` reads in `__consumer_offsets` when each commit was made, on both sides: the sandbox keeps none of its own,
//! so that these tests write what a coordinator would have written.

mod cli_scene;

use cli_scene::Scene;
use kbr::engine::offsets::{Plan, Row, Why};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::Sandbox;
use serde_json::Value;

const TEN: i64 = 1_763_805_600_000;
const PARTITIONS: i32 = 5;
const LATEST: &str = "store(\"file:archive\").latest()";
const ONTO: &str = ".onto(cluster(\"dr\")).strategy(\"cluster-scan\")";

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = vec![0, 1];
    text(&mut key, group);
    text(&mut key, topic);
    key.extend(partition.to_be_bytes());
    key
}

/// Version 3.
fn value(offset: i64, time: i64) -> Vec<u8> {
    let mut value = vec![0, 3];
    value.extend(offset.to_be_bytes());
    value.extend((-1_i32).to_be_bytes());
    text(&mut value, "");
    value.extend(time.to_be_bytes());
    value
}

/// Version 4, of a topic with this id.
fn value_of(id: [u8; 16], offset: i64, time: i64) -> Vec<u8> {
    let mut value = vec![0, 4];
    value.extend(offset.to_be_bytes());
    value.extend((-1_i32).to_be_bytes());
    value.push(1);
    value.extend(time.to_be_bytes());
    value.extend([1, 0, 16]);
    value.extend(id);
    value
}

fn record(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(TEN, Some(key), value, Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// Appends to the partition on which the group's offsets are.
fn write(cluster: &Sandbox, group: &str, at: (&str, i32), value: Option<&[u8]>) {
    if cluster.partition_count("__consumer_offsets").is_none() {
        cluster
            .create_topic("__consumer_offsets", PARTITIONS, &[])
            .unwrap();
    }
    // Java 17's `Math.abs("…".hashCode()) % 5`.
    let partition = match group {
        "checkout-api" => 1,
        "checkout-audit" => 0,
        _ => panic!("{group}"),
    };
    let batch = record(&key(group, at.0, at.1), value);
    cluster
        .append("__consumer_offsets", partition, &batch)
        .unwrap();
}

/// Committed, and written down.
fn commit(cluster: &Sandbox, group: &str, at: (&str, i32), offset: i64, time: i64) {
    cluster.set_committed(group, at.0, at.1, offset, "");
    write(cluster, group, at, Some(&value(offset, time)));
}

/// Restored to `orders` of dr without a trace of where its records came from.
async fn restored() -> Scene {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "restore.rhai",
        &format!("restore({LATEST}).topics(\"orders\").to(cluster(\"dr\"));"),
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    scene
}

/// The row of a group's partition.
#[track_caller]
fn row(scene: &Scene, source: &str, group: &str, partition: i32) -> Row {
    let code = format!("offset_plan({source}){ONTO}.groups(\"{group}\")");
    let answer = scene
        .kbr(&["eval", &code, "--output", "json"])
        .expect(0)
        .stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["value"]["rows"][0]["group"], group, "{answer}");
    let plan: Plan = serde_json::from_value(answer["value"].clone()).unwrap();
    let mut rows = plan.rows.into_iter();
    let row = rows.find(|row| row.partition.0 == partition);
    row.unwrap_or_else(|| panic!("{answer}"))
}

/// The same: where to, how that was found, how much is read again at most and whether it is known to be the place.
#[track_caller]
fn found(scene: &Scene, source: &str, group: &str, partition: i32) -> (i64, String, u64, bool) {
    let row = row(scene, source, group, partition);
    match (&row.target, row.why) {
        (
            Ok(to),
            Why::Found {
                how, again, sure, ..
            },
        ) => (to.0, how, again, sure),
        (other, _) => panic!("{other:?}"),
    }
}

/// The same: what stands in the way.
#[track_caller]
fn blocked(scene: &Scene, source: &str, group: &str, partition: i32) -> String {
    row(scene, source, group, partition)
        .target
        .unwrap_err()
        .what
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_say_when_the_commit_was_made_and_by_how_much_the_targets_is_later() {
    let scene = restored().await;
    let prod = "cluster(\"prod\")";
    let (to, why, ..) = found(&scene, prod, "checkout-api", 0);
    assert_eq!(to, 3);
    assert!(
        why.contains("when it was committed is not told: there is no __consumer_offsets to read"),
        "{why}"
    );
    // Others commit, too; the newest of the offset counts, and what comes from an archive is not there.
    let orders = ("orders", 0);
    commit(&scene.prod, "checkout-api", orders, 3, TEN - 60_000);
    write(
        &scene.prod,
        "checkout-api",
        ("orders", 1),
        Some(&value(3, TEN + 9)),
    );
    commit(&scene.prod, "checkout-api", orders, 3, TEN);
    commit(&scene.prod, "checkout-audit", orders, 0, TEN + 5);
    let (to, why, ..) = found(&scene, prod, "checkout-api", 0);
    assert_eq!(to, 3);
    assert!(
        why.contains("; committed 2025-11-22T10:00:00.000Z"),
        "{why}"
    );
    let (_, why, ..) = found(&scene, prod, "checkout-api", 1);
    assert!(
        why.contains("it is not among what is left of __consumer_offsets"),
        "{why}"
    );
    let (_, why, ..) = found(&scene, LATEST, "checkout-api", 0);
    assert!(
        why.contains("the archive does not hold __consumer_offsets"),
        "{why}"
    );
    // The target's own commit: an older one says nothing, a later one that the group has gone on there.
    commit(&scene.dr, "checkout-api", orders, 5, TEN - 1);
    let (to, why, again, _) = found(&scene, prod, "checkout-api", 0);
    assert_eq!((to, again), (3, 0));
    assert!(!why.contains("later"), "{why}");
    commit(&scene.dr, "checkout-api", orders, 5, TEN + 180_000);
    let (to, why, again, _) = found(&scene, prod, "checkout-api", 0);
    assert_eq!((to, again), (3, 2));
    assert!(why.contains("and 5 there 3 min later"), "{why}");
    // It counts as read again, where a runbook limits that.
    let code = format!("offset_plan({prod}){ONTO}.groups(\"checkout-api\").at_most_behind(1)");
    let text = scene.kbr(&["eval", &code]).expect(0).text();
    assert!(
        text.contains("checkout-api would read up to 2 records again"),
        "{text}"
    );
    // Taken back, and by a version that nobody knows yet.
    write(&scene.prod, "checkout-api", orders, None);
    let (_, why, ..) = found(&scene, prod, "checkout-api", 0);
    assert!(
        why.contains("its newest record in __consumer_offsets takes it back"),
        "{why}"
    );
    write(&scene.prod, "checkout-api", orders, Some(&[0, 9, 1]));
    let (_, why, ..) = found(&scene, prod, "checkout-api", 0);
    assert!(
        why.contains("it has version 9, which kbr does not know"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_holds_the_offsets_topic_tells_it_too() {
    let scene = Scene::new().await;
    commit(&scene.prod, "checkout-api", ("orders", 0), 3, TEN);
    scene.folder.write(
        "backup.rhai",
        r#"backup(cluster("prod")).internal(true).to(store("file:archive"));"#,
    );
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    scene.folder.write(
        "restore.rhai",
        &format!("restore({LATEST}).topics(\"orders\").to(cluster(\"dr\"));"),
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    let (to, why, ..) = found(&scene, LATEST, "checkout-api", 0);
    assert_eq!(to, 3);
    assert!(
        why.contains("; committed 2025-11-22T10:00:00.000Z"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_nobody_can_have_meant_are_told_too() {
    let scene = restored().await;
    let orders = ("orders", 0);
    commit(&scene.prod, "checkout-api", orders, 3, i64::MIN);
    commit(&scene.dr, "checkout-api", orders, 5, i64::MAX);
    let (to, why, again, sure) = found(&scene, "cluster(\"prod\")", "checkout-api", 0);
    assert_eq!((to, again, sure), (3, 2, false));
    assert!(
        why.contains("and 5 there ") && why.contains(" later"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_places_that_are_alike_only_the_one_is_taken_where_the_group_went_on() {
    let scene = restored().await;
    // Everything once more.
    for partition in 0..2 {
        let log = scene.dr.records("orders", partition).unwrap();
        for record in log {
            let mut builder = BatchBuilder::new(BuildOptions::default());
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder
                .push(record.timestamp.0, key, value, Headers::empty())
                .unwrap();
            let batch = builder.finish(ProducerStamp::NONE).unwrap();
            scene.dr.append("orders", partition, &batch).unwrap();
        }
    }
    let (orders, prod) = (("orders", 0), "cluster(\"prod\")");
    commit(&scene.prod, "checkout-api", orders, 3, TEN);
    let alike = "2 places in orders are as likely as each other";
    let why = blocked(&scene, prod, "checkout-api", 0);
    assert!(why.contains(alike), "{why}");
    // Where it is, but from before; and later, but at neither of them.
    commit(&scene.dr, "checkout-api", orders, 8, TEN - 1);
    assert!(blocked(&scene, prod, "checkout-api", 0).contains(alike));
    commit(&scene.dr, "checkout-api", orders, 7, TEN + 1);
    assert!(blocked(&scene, prod, "checkout-api", 0).contains(alike));
    commit(&scene.dr, "checkout-api", orders, 8, TEN + 60_000);
    let (to, why, _, sure) = found(&scene, prod, "checkout-api", 0);
    assert_eq!((to, sure), (8, false));
    assert!(
        why.contains("likely: of 2 places that are alike the one where it is"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_another_topic_of_that_name_is_looked_for_nowhere() {
    let scene = restored().await;
    let orders = ("orders", 0);
    write(
        &scene.prod,
        "checkout-api",
        orders,
        Some(&value_of([7; 16], 3, TEN)),
    );
    let why = blocked(&scene, "cluster(\"prod\")", "checkout-api", 0);
    assert!(
        why.contains("was committed on another topic of that name"),
        "{why}"
    );
}
