//! What needs a broker of its own, with settings that would disturb other tests: retention that runs all the time, a
//! quota on kbr's reading, log segments of message formats that brokers no longer write.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Books, Java, Records, Row, assert_same, books, incarnations};
use kbr::archive::GapKind;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{RealKafka, wait_until};

/// Deletes as soon as it may. Segments take at least 1 MiB on new versions, so that is their size here.
const SETTINGS: [&str; 3] = [
    "log.retention.check.interval.ms=200",
    "log.segment.delete.delay.ms=100",
    // What one scenario has read at full speed does not count against the next one's quota for long.
    "quota.window.num=3",
];
const SEGMENT: i64 = 1 << 20;

#[test]
fn retention_quotas_and_old_formats_of_kafka_4_3_0() {
    every_scenario("4.3.0");
}

#[test]
fn retention_quotas_and_old_formats_of_kafka_3_9_2() {
    every_scenario("3.9.2");
}

/// One broker for all of them, one after the other: each starts with its own topics.
fn every_scenario(version: &'static str) {
    let kafka = RealKafka::start_with(version, 1, &SETTINGS);
    let java = Java::of(&kafka);
    // Those with a quota first: what was read at full speed just before would count against it.
    a_throttled_run_is_slow_and_complete(&kafka, &java);
    what_happens_while_a_run_reads_is_said(&kafka, &java);
    retention_between_runs_is_a_gap(&kafka, &java);
    what_the_cleaner_rewrites_under_a_run_is_whole(&kafka, &java);
    old_message_formats_are_upgraded(&kafka, java);
}

fn configs() -> serde_json::Value {
    json!({ "segment.bytes": SEGMENT.to_string(), "retention.ms": "-1", "retention.bytes": "-1" })
}

/// `count` batches of 50 records of 2 KB that do not compress.
fn write(java: &Java, topic: &str, partitions: i32, from: i64, count: i64) {
    java.ask(json!({
        "do": "write", "topic": topic, "partitions": partitions, "count": count * 50, "from": from * 50,
        "size": 2000, "flush": 50, "producer": { "batch.size": "200000" },
    }));
}

fn retention_between_runs_is_a_gap(kafka: &RealKafka, java: &Java) {
    let topic = "aged";
    java.create(topic, 1, configs());
    let backups = Backups::of(kafka, &[topic]);
    write(java, topic, 1, 0, 10);
    backups.run(0);
    write(java, topic, 1, 10, 40);
    let whole = java.dump(&[topic]);
    let oldest = retain(java, topic, 2 * SEGMENT);
    assert!(oldest > 500, "{oldest}");

    let report = backups.run(6);
    assert_eq!(
        report.incomplete(),
        [format!(
            "{topic}-0: {} offsets were deleted at the source before this run could read them (offsets 500 to {oldest})",
            grouped(oldest - 500)
        )]
    );
    let kept = without(&whole, topic, 500, oldest);
    assert_same(&backups.archived(), &kept);
    assert_eq!(
        books(&backups.archive(), topic, 0),
        Books {
            from: 0,
            to: 2500,
            records: 2500 - (oldest - 500) as u64,
            gaps: vec![(GapKind::Retention, 500, oldest, (oldest - 500) as u64)],
            incarnation: 1,
        }
    );
    // The hole is said once; the next run continues and is whole.
    backups.run(0);
}

fn what_happens_while_a_run_reads_is_said(kafka: &RealKafka, java: &Java) {
    let (by_size, by_request, replaced) = ("shrinking", "trimmed", "replaced");
    let topics = [by_size, by_request, replaced];
    let backups = Backups::of(kafka, &topics);
    for topic in topics {
        java.create(topic, 1, configs());
        write(java, topic, 1, 0, 10);
    }
    backups.run(0);
    for topic in topics {
        write(java, topic, 1, 10, 40);
    }
    let whole = java.dump(&topics);
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": 150_000 }));
    let mut run = backups.start();
    run.await_reading(&["shrinking-0", "trimmed-0"]);
    // Inside a batch: it begins at 2,000, and its first 25 records are deleted now.
    java.ask(json!({ "do": "trim", "topic": by_request, "before": 2025 }));
    java.ask(json!({ "do": "delete", "topic": replaced }));
    java.create(replaced, 1, configs());
    // More of it than there was: by offsets alone it would go on.
    write(java, replaced, 1, 100, 60);
    let oldest = retain(java, by_size, SEGMENT);
    assert!(run.is_running(), "it was to be slower");
    // What is deleted needs no reading any more.
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": null }));
    let report = run.end(6);
    let said = report.incomplete().join("\n");
    for (topic, start) in [(by_size, oldest), (by_request, 2025)] {
        let entry = books(&backups.archive(), topic, 0);
        let [(GapKind::Retention, from, to, missing)] = entry.gaps[..] else {
            panic!("{topic}: {entry:?}");
        };
        assert!((501..start).contains(&from), "{topic}: {entry:?}");
        assert_eq!((to, missing), (start, (start - from) as u64));
        assert_eq!(entry.to, 2500);
        assert!(
            said.contains(&format!("{topic}-0: {} offsets", grouped(start - from))),
            "{said}"
        );
        assert!(
            said.contains(&format!("(offsets {from} to {to})")),
            "{said}"
        );
        assert_same(
            &backups.archived().only(&[topic]),
            &without(&whole, topic, from, to),
        );
    }
    assert!(
        said.contains(&format!("{replaced}-0: ")) && said.contains("deleted and created again"),
        "{said}"
    );
    assert_eq!(report.incomplete().len(), 3, "{said}");

    let report = backups.run(0);
    assert_eq!(report.state(replaced), "recreated");
    // Whatever was read of the first life, nothing of it is in the second.
    assert_same(
        &backups.archived().only(&[replaced]),
        &java.dump(&[replaced]),
    );
    assert_eq!(incarnations(&backups.archive(), replaced).len(), 2);
}

/// The segments that the run stands in are replaced by cleaned ones while it reads.
fn what_the_cleaner_rewrites_under_a_run_is_whole(kafka: &RealKafka, java: &Java) {
    let topic = "cleaned";
    java.create(topic, 1, configs());
    java.ask(json!({
        "do": "write", "topic": topic, "count": 2500, "size": 2000, "keys": 400, "flush": 50,
        "producer": { "batch.size": "200000" },
    }));
    let written = java.dump(&[topic]);
    assert_eq!(written.count(), 2500);
    let backups = Backups::of(kafka, &[topic]);
    // What the scenario before has read leaves the quota's windows; else this run would have to wait for it.
    std::thread::sleep(Duration::from_secs(5));
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": 150_000 }));
    let mut run = backups.start();
    run.await_reading(&["cleaned-0"]);
    java.ask(json!({ "do": "configure", "topic": topic, "configs": {
        "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01",
    } }));
    wait_until(
        "the cleaner has made holes",
        Duration::from_secs(60),
        || java.dump(&[topic]).count() < 1500,
    );
    assert!(run.is_running(), "it was to be slower");
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": null }));
    run.end(0);

    let archived = backups.archived();
    let entry = books(&backups.archive(), topic, 0);
    assert_eq!((entry.from, entry.to), (0, 2500));
    let holes = entry.missing(GapKind::Compacted);
    assert_eq!(archived.count() as u64 + holes, 2500, "{entry:?}");
    // It has read on both sides of what the cleaner did.
    assert!(holes > 500, "{entry:?}");
    assert!(archived.offsets(topic, 0).starts_with(&[0, 1, 2, 3]));
    // Each one as it was written, and none is missing that is still there.
    let originals = written.of(topic, 0);
    for row in archived.of(topic, 0) {
        assert_eq!(*row, originals[row.offset as usize]);
    }
    let kept = archived.offsets(topic, 0);
    for offset in java.dump(&[topic]).offsets(topic, 0) {
        assert!(
            kept.binary_search(&offset).is_ok(),
            "{offset} is not archived"
        );
    }
}

fn a_throttled_run_is_slow_and_complete(kafka: &RealKafka, java: &Java) {
    let topic = "throttled";
    java.create(topic, 3, configs());
    write(java, topic, 3, 0, 8);
    let backups = Backups::of(kafka, &[topic]);
    // What a partition may wait is less than the time for which brokers go deaf: they say so, and it is not a stall.
    backups.deadline("seconds(3)");
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": 180_000 }));
    let begun = Instant::now();
    let log = backups.run(0).log;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2), "was it throttled at all?");
    assert!(took < Duration::from_secs(60), "{took:?}\n{log}");
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": null }));
    assert_same(&backups.archived(), &java.dump(&[topic]));
}

/// Formats 0 and 1, as segments from before Kafka 0.11 have them on any broker that was upgraded since. The broker
/// serves them as they are; what is archived are v2 batches with the same records.
fn old_message_formats_are_upgraded(kafka: &RealKafka, java: Java) {
    let topic = "ancient";
    java.create(
        topic,
        1,
        json!({ "retention.ms": "-1", "retention.bytes": "-1" }),
    );
    let segment = tempfile::NamedTempFile::new().unwrap();
    let next = java.ask(json!({ "do": "legacy", "file": segment.path(), "sets": [
        { "magic": 0, "count": 7 }, { "magic": 0, "count": 20, "gzip": true },
        { "magic": 1, "count": 5 }, { "magic": 1, "count": 25, "gzip": true },
        { "magic": 1, "count": 4, "append_time": true }, { "magic": 1, "count": 9, "gzip": true, "append_time": true },
    ] }));
    assert_eq!(next["next"], 70);
    drop(java);
    kafka.stop_node(1, false);
    let data = kafka.node_data(1);
    replace_log(&data, topic, segment.path());
    kafka.start_node(1);

    let java = Java::of(kafka);
    assert_eq!(java.ends(topic, 0), (0, 70, 70));
    java.ask(json!({ "do": "write", "topic": topic, "count": 10, "text": "of today" }));
    let backups = Backups::of(kafka, &[topic]);
    backups.run(0);
    let mut expected = java.dump(&[topic]);
    assert_eq!(expected.count(), 80);
    for row in expected.0.values_mut().flatten() {
        if row.kind == "NoTimestampType" {
            // Format 0 has no times; format 2 has no other word for that than −1.
            assert_eq!(row.timestamp, -1);
            row.kind = "CreateTime".to_string();
        }
    }
    assert_same(&backups.archived(), &expected);
    backups.run(0);
}

/// Puts another file in the place of a partition's first segment and lets the broker find out what is in it.
fn replace_log(data: &Path, topic: &str, segment: &Path) {
    let folder = data.join(format!("{topic}-0"));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("index" | "timeindex" | "snapshot" | "log")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::copy(segment, folder.join("00000000000000000000.log")).unwrap();
    for name in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    // The broker that leads a log of its own alone takes its high watermark from the end again.
    let _ = std::fs::remove_file(data.join("replication-offset-checkpoint"));
}

/// Limits the topic to `bytes` and returns where its log starts once nothing more is deleted.
fn retain(java: &Java, topic: &str, bytes: i64) -> i64 {
    java.ask(json!({ "do": "configure", "topic": topic, "configs": { "retention.bytes": bytes.to_string() } }));
    let mut start = 0;
    wait_until("old segments are deleted", Duration::from_secs(30), || {
        let before = start;
        start = java.ends(topic, 0).0;
        std::thread::sleep(Duration::from_millis(300));
        start > 0 && start == before
    });
    start
}

/// The records of partition 0 but those in `[from, to)`.
fn without(whole: &Records, topic: &str, from: i64, to: i64) -> Records {
    let mut kept = whole.clone().only(&[topic]);
    for rows in kept.0.values_mut() {
        rows.retain(|row: &Row| row.offset < from || row.offset >= to);
    }
    kept
}

fn grouped(number: i64) -> String {
    kbr::base::text::grouped(i128::from(number))
}
