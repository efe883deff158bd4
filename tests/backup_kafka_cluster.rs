//! Backup of a cluster of three that loses brokers while it is read: the backup ends whole, nothing is lost and nothing
//! is there twice. And of one that loses data: an unclean election, which leaves a log that the archive does not continue.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, assert_same, books};
use kbr::archive::GapKind;
use serde_json::json;
use std::time::Duration;
use support::{RealKafka, wait_until};

#[test]
fn brokers_that_die_and_come_back_and_an_unclean_election_of_kafka_4_3_0() {
    every_scenario("4.3.0");
}

#[test]
fn brokers_that_die_and_come_back_and_an_unclean_election_of_kafka_3_9_2() {
    every_scenario("3.9.2");
}

/// One cluster at a time: three brokers take more than a gigabyte.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn every_scenario(version: &'static str) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let kafka = RealKafka::start_with(
        version,
        3,
        &[
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=500",
        ],
    );
    let java = Java::of(&kafka);
    leaders_come_and_go_while_a_run_reads(&kafka, &java);
    a_log_that_was_cut_is_not_continued(&kafka, &java);
}

fn leaders_come_and_go_while_a_run_reads(kafka: &RealKafka, java: &Java) {
    let topic = "replicated";
    java.ask(json!({
        "do": "create", "topic": topic, "configs": { "retention.ms": "-1", "min.insync.replicas": "2" },
        "assignment": [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2], [2, 1, 3], [3, 2, 1]],
    }));
    java.ask(json!({
        "do": "write", "topic": topic, "partitions": 6, "count": 3000, "size": 1500, "headers": true,
    }));
    // Somebody goes on writing all the time, over every election.
    java.ask(
        json!({ "do": "write_on", "topic": topic, "partitions": 6, "from": 100_000, "size": 300 }),
    );
    // Slow enough that it is still reading when its brokers go.
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": 250_000 }));
    let backups = Backups::of(kafka, &[topic]);
    let mut run = backups.start();
    run.await_reading(&["replicated-1", "replicated-4"]);
    kafka.stop_node(2, true);
    wait_until("others lead what it led", Duration::from_secs(60), || {
        let all = java.ask(json!({ "do": "describe", "topic": topic }));
        let leaders = all["partitions"].as_array().unwrap().iter();
        leaders
            .map(|one| one["leader"].as_i64().unwrap())
            .all(|leader| leader == 1 || leader == 3)
    });
    assert!(run.is_running(), "it was to be slower");
    kafka.start_node(2);
    wait_until("it is in sync again", Duration::from_secs(60), || {
        let all = java.ask(json!({ "do": "describe", "topic": topic }));
        let mut partitions = all["partitions"].as_array().unwrap().iter();
        partitions.all(|one| one["isr"].as_array().unwrap().len() == 3)
    });
    let unmoved = java.ask(json!({ "do": "elect", "topic": topic, "type": "preferred" }));
    assert!(run.is_running(), "it was to be slower");
    for leader in [3, 1] {
        java.ask(json!({ "do": "lead", "topic": topic, "partition": 0, "leader": leader }));
    }
    java.ask(json!({ "do": "quota", "client": "kbr", "rate": null }));
    let report = run.end(0);
    assert_eq!(report.step()["partial"], false, "{unmoved}");
    java.ask(json!({ "do": "write_off", "topic": topic }));

    // What was written meanwhile comes with the next run; together they are what the consumer sees, no more, no less.
    backups.run(0);
    let expected = java.dump(&[topic]);
    assert!(expected.count() > 18_000, "{}", expected.count());
    assert_same(&backups.archived(), &expected);
    for partition in 0..6 {
        let entry = books(&backups.archive(), topic, partition);
        assert_eq!((entry.from, entry.gaps.len()), (0, 0), "{entry:?}");
    }
}

/// Two replicas; the follower misses the last records, the leader dies, the follower leads alone: the same topic by
/// name and id, but its log is another one from some offset on.
fn a_log_that_was_cut_is_not_continued(kafka: &RealKafka, java: &Java) {
    let topic = "cut";
    java.ask(json!({
        "do": "create", "topic": topic, "assignment": [[2, 3], [3, 2]],
        "configs": { "retention.ms": "-1", "min.insync.replicas": "1", "unclean.leader.election.enable": "false" },
    }));
    java.ask(json!({ "do": "write", "topic": topic, "partitions": 2, "count": 40, "flush": 10 }));
    let backups = Backups::of(kafka, &[topic]);
    backups.run(0);
    kafka.stop_node(3, true);
    wait_until("2 leads both alone", Duration::from_secs(60), || {
        let all = java.ask(json!({ "do": "describe", "topic": topic }));
        let mut partitions = all["partitions"].as_array().unwrap().iter();
        partitions.all(|one| one["isr"] == json!([2]))
    });
    java.ask(json!({ "do": "write", "topic": topic, "count": 30, "from": 40, "flush": 10 }));
    backups.run(0);
    let lost = java.dump(&[topic]);
    assert_eq!(lost.count(), 110);
    kafka.stop_node(2, true);
    kafka.start_node(3);
    java.ask(json!({ "do": "configure", "topic": topic, "configs": { "unclean.leader.election.enable": "true" } }));
    wait_until("3 leads what it has", Duration::from_secs(60), || {
        java.try_ask(json!({ "do": "elect", "topic": topic, "type": "unclean" }));
        let all = java.ask(json!({ "do": "describe", "topic": topic }));
        let mut partitions = all["partitions"].as_array().unwrap().iter();
        partitions.all(|one| one["leader"] == 3)
    });

    // Shorter than what is archived: that alone would tell.
    let short = backups.run(6);
    let said = short.incomplete().join("\n");
    assert!(
        said.contains(&format!(
            "{topic}-0 was truncated at its source: 70 offsets are archived"
        )),
        "{said}"
    );
    assert_same(&backups.archived(), &lost);

    // Longer again, with other records: only the leader epochs tell.
    java.ask(json!({ "do": "write", "topic": topic, "partitions": 2, "count": 60, "from": 900, "text": "another history" }));
    assert_eq!(java.ends(topic, 0), (0, 100, 100));
    let long = backups.run(6);
    let said = long.incomplete().join("\n");
    assert!(
        said.contains(&format!(
            "{topic}-0 was truncated at its source: 70 offsets are archived"
        )),
        "{said}"
    );
    assert!(said.contains("now ends that history at 40"), "{said}");
    // The other partition lost nothing and goes on.
    let now = java.dump(&[topic]);
    assert_eq!(books(&backups.archive(), topic, 1).to, 100);
    let mut expected = lost;
    expected
        .0
        .insert((topic.to_string(), 1), now.of(topic, 1).to_vec());
    assert_same(&backups.archived(), &expected);
    let books = books(&backups.archive(), topic, 0);
    assert_eq!((books.to, books.missing(GapKind::Retention)), (70, 0));
    kafka.start_node(2);
}
