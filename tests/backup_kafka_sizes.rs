//! Records and batches larger than anything a fetch asks for, many partitions beside them, and runs that are stopped:
//! on real Kafka, with kbr as a process.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, assert_same, books};
use serde_json::json;
use support::{RealKafka, unique};

#[test]
fn records_larger_than_any_fetch_of_kafka_4_3_0_are_archived_and_starve_nobody() {
    large_records(&RealKafka::source());
}

#[test]
fn records_larger_than_any_fetch_of_kafka_3_9_2_are_archived_and_starve_nobody() {
    large_records(&RealKafka::old());
}

/// kbr asks for 256 KiB of a partition it knows nothing of, 1 MiB of a large one, and answers of 4 MiB.
fn large_records(kafka: &RealKafka) {
    let java = Java::of(kafka);
    let (large, batches, small) = (unique("large"), unique("batches"), unique("small"));
    let topics = [large.as_str(), batches.as_str(), small.as_str()];
    let configs = json!({ "retention.ms": "-1", "max.message.bytes": "20000000" });
    java.create(&large, 2, configs.clone());
    java.create(&batches, 1, configs);
    java.create(&small, 40, json!({ "retention.ms": "-1" }));
    // One record per batch of 11 MB, between records of a few bytes.
    for round in 0..2 {
        java.ask(json!({ "do": "write", "topic": large, "partitions": 2, "count": 3, "from": round * 10 }));
        java.ask(json!({
            "do": "write", "topic": large, "count": 1, "from": round * 10 + 5, "size": 11_000_000,
        }));
    }
    // Batches of 3 MB, each larger than the part that is asked for.
    java.ask(json!({
        "do": "write", "topic": batches, "count": 600, "size": 15_000, "flush": 200,
        "producer": { "batch.size": "5000000" },
    }));
    java.ask(
        json!({ "do": "write", "topic": small, "partitions": 40, "count": 5, "headers": true }),
    );
    let backups = Backups::of(kafka, &topics);
    let report = backups.run(0);
    assert_eq!(report.records(), 2 * 6 + 2 + 600 + 40 * 5);
    assert_same(&backups.archived(), &java.dump(&topics));
}

#[test]
fn a_run_that_is_told_to_stop_keeps_what_it_has_and_the_next_one_goes_on() {
    let kafka = RealKafka::source();
    let java = Java::of(&kafka);
    let topic = unique("stopped");
    java.create(&topic, 4, json!({ "retention.ms": "-1" }));
    java.ask(json!({
        "do": "write", "topic": topic, "partitions": 4, "count": 3000, "size": 2000,
    }));
    let backups = Backups::of(&kafka, &[&topic]);
    let mut run = backups.start();
    run.await_reading(&[&format!("{topic}-0")]);
    run.signal("TERM");
    let report = run.end(130);
    assert_eq!(report.step()["partial"], true);
    assert!(
        report.incomplete()[0].contains("cancelled"),
        "{:?}",
        report.incomplete()
    );
    let part: Vec<i64> = (0..4)
        .map(|at| books(&backups.archive(), &topic, at).to)
        .collect();
    assert!(part.iter().sum::<i64>() < 12_000, "{part:?}");
    backups.archived();

    // Killed without a word, it leaves the last generation as it was.
    let mut run = backups.start();
    run.await_reading(&[&format!("{topic}-3")]);
    run.signal("KILL");
    drop(run);
    assert_eq!(
        part,
        (0..4)
            .map(|at| books(&backups.archive(), &topic, at).to)
            .collect::<Vec<_>>()
    );

    let rest = backups.run(0);
    assert_eq!(rest.records() as i64, 12_000 - part.iter().sum::<i64>());
    assert_same(&backups.archived(), &java.dump(&[&topic]));
}
