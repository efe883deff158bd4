//! A row is `exact` only where nothing can be skipped and the place is known: targets that are mixed, out of order or written
//! to by others, and commits outside of what the source has.

mod cli_scene;

use cli_scene::Scene;
use kbr::record::{BatchBuilder, BuildOptions, Headers, OwnedHeaders, ProducerStamp};
use kbr::sandbox::Sandbox;
use serde_json::Value;
use std::ops::Range;

const PROD: &str = "cluster(\"prod\")";

/// Both clusters with `events` of so many partitions, without a record.
async fn empty(partitions: i32) -> Scene {
    let scene = Scene::new().await;
    for cluster in [&scene.prod, &scene.dr] {
        let forever = [("retention.ms", "-1")];
        cluster
            .create_topic("events", partitions, &forever)
            .unwrap();
    }
    scene
}

/// Ten hours ago.
fn begin() -> i64 {
    kbr::base::time::now().0 - 10 * 3_600_000
}

/// Records of the source's partition `of`, one a second, without keys: in one batch.
fn records(begin: i64, of: i32, numbers: Range<i64>, origin: Option<&str>) -> BatchBuilder {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for number in numbers {
        let value = format!("{of}-{number}");
        let mut headers = OwnedHeaders::new();
        if let Some(cluster) = origin {
            headers.push(b"x-original-offset", Some(number.to_string().as_bytes()));
            headers.push(b"x-original-partition", Some(of.to_string().as_bytes()));
            headers.push(b"x-source-cluster", Some(cluster.as_bytes()));
        }
        let headers = match origin {
            Some(_) => headers.as_headers(),
            None => Headers::empty(),
        };
        let time = begin + number * 1000;
        builder
            .push(time, None, Some(value.as_bytes()), headers)
            .unwrap();
    }
    builder
}

fn append(cluster: &Sandbox, to: i32, begin: i64, of: i32, numbers: Range<i64>) {
    let mut batch = records(begin, of, numbers, None);
    let batch = batch.finish(ProducerStamp::NONE).unwrap();
    cluster.append("events", to, &batch).unwrap();
}

/// One record at an offset.
fn put(cluster: &Sandbox, begin: i64, number: i64, offset: i64) {
    let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(offset);
    let value = format!("0-{number}");
    builder
        .push(
            begin + number * 1000,
            None,
            Some(value.as_bytes()),
            Headers::empty(),
        )
        .unwrap();
    let batch = builder.finish(ProducerStamp::NONE).unwrap();
    cluster.replicate("events", 0, &batch).unwrap();
}

fn code(group: &str, options: &str) -> String {
    format!("offset_plan({PROD}).onto(cluster(\"dr\")).groups(\"{group}\"){options}")
}

/// What the plan says of the group.
#[track_caller]
fn line(scene: &Scene, group: &str, options: &str) -> String {
    let code = code(group, options);
    let runbook = format!("let moved = {code};\nprint(moved);\nmoved.reset();\n");
    scene.folder.write("move.rhai", &runbook);
    let text = scene.kbr(&["run", "move.rhai"]).expect(0).text();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where each partition goes, and the row's words.
#[track_caller]
fn rows(scene: &Scene, group: &str, options: &str) -> Vec<(Value, String)> {
    let words = ["eval", &code(group, options), "--output", "json"];
    let answer: Value = serde_json::from_str(&scene.kbr(&words).expect(0).stdout).unwrap();
    let rows = answer["value"]["rows"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("{answer}"));
    rows.iter()
        .map(|row| (row["target"].clone(), row.to_string()))
        .collect()
}

#[track_caller]
fn assert_blocked(scene: &Scene, group: &str, options: &str, expected: &str) {
    let rows = rows(scene, group, options);
    assert!(
        rows.iter().any(|(to, _)| to["what"]
            .as_str()
            .is_some_and(|what| what.contains(expected))),
        "{expected:?} in {rows:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_as_many_partitions_whose_records_are_mixed_is_no_mirror() {
    let scene = empty(2).await;
    let begin = begin();
    for partition in 0..2 {
        append(&scene.prod, partition, begin, partition, 0..4000);
        for quarter in 0..4 {
            let of = (partition + quarter) % 2;
            let numbers = i64::from(quarter) * 1000..i64::from(quarter + 1) * 1000;
            append(&scene.dr, partition, begin, of, numbers);
        }
    }
    scene.prod.set_committed("g", "events", 0, 2500, "");
    scene.prod.set_committed("g", "events", 1, 500, "");
    // Around each commit its own records are there, in order: those of partition 1 from 1,000 on are not.
    let timestamp = ".strategy(\"timestamp\")";
    for (to, why) in rows(&scene, "g", timestamp) {
        assert_eq!(to, 500, "{why}");
        assert!(
            why.contains("the oldest that is unread in any partition"),
            "{why}"
        );
    }
    assert!(line(&scene, "g", timestamp).contains("2 unknown"));
    assert_blocked(
        &scene,
        "g",
        ".strategy(\"preserve\")",
        "another record than at the source is at 1,000",
    );
    // A group that has read all of partition 0 and nothing of partition 1.
    scene.prod.set_committed("end", "events", 0, 4000, "");
    scene.prod.set_committed("end", "events", 1, 0, "");
    for (to, why) in rows(&scene, "end", timestamp) {
        assert_eq!(to, 0, "{why}");
    }
    scene.prod.set_committed("one", "events", 0, 4000, "");
    assert_blocked(
        &scene,
        "one",
        timestamp,
        "may hold records of events-1, where one committed nothing",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_partitions_times_do_not_prove_that_none_went_to_another() {
    let scene = empty(2).await;
    let begin = begin();
    for cluster in [&scene.prod, &scene.dr] {
        append(cluster, 0, begin, 0, 0..100);
        append(cluster, 1, begin, 1, 0..100);
    }
    scene.prod.set_committed("g", "events", 0, 40, "");
    scene.prod.set_committed("g", "events", 1, 100, "");
    let timestamp = ".strategy(\"timestamp\")";
    let places: Vec<Value> = rows(&scene, "g", timestamp)
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(places, [40, 100]);
    assert!(line(&scene, "g", timestamp).contains("2 unknown"));
    // All of both sides is compared, and is the same.
    let preserve = ".strategy(\"preserve\")";
    let line = line(&scene, "g", preserve);
    assert!(
        line.contains("at the same records") && !line.contains("unknown"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_restored_in_another_order_is_no_place_where_something_unread_lies_before_it() {
    let scene = empty(1).await;
    let begin = begin();
    append(&scene.prod, 0, begin, 0, 0..100);
    append(&scene.dr, 0, begin, 0, 50..100);
    append(&scene.dr, 0, begin, 0, 0..50);
    for (group, offset) in [("early", 30), ("late", 70)] {
        scene.prod.set_committed(group, "events", 0, offset, "");
    }
    let scan = ".strategy(\"cluster-scan\")";
    assert_blocked(
        &scene,
        "early",
        scan,
        "events-0 is there out of its order; 50 is unread and lies before the place 80, where 30 goes on",
    );
    // Nothing is skipped here; what it has read comes behind.
    let line = line(&scene, "late", scan);
    assert!(
        line.contains("likely: 16 of 16 neighbours match, and some are on both sides of it"),
        "{line}"
    );
    assert!(
        line.contains("1 unknown") && !line.contains("exact"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_source_some_records_are_looked_for_and_no_place_is_exact() {
    let scene = empty(1).await;
    let begin = begin();
    for number in 0..100 {
        put(&scene.prod, begin, number, number * 5_000);
    }
    append(&scene.dr, 0, begin, 0, 0..100);
    scene.prod.set_committed("g", "events", 0, 40 * 5_000, "");
    let scan = ".strategy(\"cluster-scan\")";
    let text = line(&scene, "g", scan);
    let expected = "likely: 16 of 16 neighbours match, and not all of the source was looked for";
    assert!(
        text.contains(expected) && text.contains("1 unknown"),
        "{text}"
    );
    // The same numbers, of more than are compared one by one.
    for number in 0..2 {
        put(&scene.dr, begin, number, 1_000_000 + number * 400_000);
        put(&scene.prod, begin, number, 1_000_000 + number * 400_000);
    }
    scene.prod.delete_records("events", 0, 1_000_000).unwrap();
    scene.prod.set_committed("g", "events", 0, 1_400_000, "");
    let text = line(&scene, "g", ".strategy(\"preserve\")");
    assert!(
        text.contains("at the same records where it was looked"),
        "{text}"
    );
    assert!(text.contains("1 unknown"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_at_the_target_where_the_source_has_a_gap_is_not_the_same() {
    let scene = empty(1).await;
    let begin = begin();
    append(&scene.prod, 0, begin, 0, 0..100);
    let mut aborted = records(begin, 0, 100..104, None);
    let aborted = aborted.finish(ProducerStamp::NONE).unwrap();
    scene.prod.append_aborted("events", 0, &aborted).unwrap();
    let end = scene.prod.end_offset("events", 0).unwrap().0;
    assert_eq!(end, 105);
    scene.prod.set_committed("g", "events", 0, end, "");
    append(&scene.dr, 0, begin, 0, 0..100);
    append(&scene.dr, 0, begin, 9, 100..111);
    assert_blocked(
        &scene,
        "g",
        ".strategy(\"preserve\")",
        "another record than at the source is at 100",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clamped_commit_is_called_that_and_headers_know_what_is_gone_at_the_source() {
    let scene = empty(1).await;
    let begin = begin();
    append(&scene.prod, 0, begin, 0, 0..100);
    let cluster = scene.prod.cluster_id().to_string();
    let mut batch = records(begin, 0, 0..100, Some(&cluster));
    let batch = batch.finish(ProducerStamp::NONE).unwrap();
    scene.dr.append("events", 0, &batch).unwrap();
    scene.prod.delete_records("events", 0, 50).unwrap();
    scene.prod.set_committed("gone", "events", 0, 30, "");
    scene.prod.set_committed("beyond", "events", 0, 200, "");
    for strategy in ["header", "timestamp", "cluster-scan"] {
        let options = format!(".strategy(\"{strategy}\")");
        assert_blocked(
            &scene,
            "gone",
            &options,
            "30 lies before the source's log start 50",
        );
        let options = format!("{options}.out_of_range(\"clamp\")");
        let (place, text) = (
            &rows(&scene, "gone", &options)[0].0,
            line(&scene, "gone", &options),
        );
        if strategy == "header" {
            assert_eq!(*place, 30);
            assert!(text.contains("same record, by its header"), "{text}");
            assert!(!text.contains("clamped"), "{text}");
        } else {
            assert_eq!(*place, 50);
            assert!(
                text.contains("clamped to 50; ") && text.contains("1 clamped"),
                "{text}"
            );
        }
        let text = line(&scene, "beyond", &options);
        assert_eq!(rows(&scene, "beyond", &options)[0].0, 100);
        assert!(
            text.contains("clamped to 100; ") && text.contains("1 clamped"),
            "{text}"
        );
    }
}
