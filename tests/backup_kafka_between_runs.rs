//! What happens to a topic between two runs, and while one is going, on real Kafka: transactions that stay open,
//! topics deleted and created again, compaction. Each gives what the design says, and says so.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, Records, assert_same, books, incarnations};
use kbr::archive::GapKind;
use serde_json::json;
use std::time::Duration;
use support::{RealKafka, unique, wait_until};

#[test]
fn transactions_across_runs_appear_whole_or_not_at_all_on_kafka_4_3_0() {
    transactions_across_runs(&RealKafka::source());
}

#[test]
fn transactions_across_runs_appear_whole_or_not_at_all_on_kafka_3_9_2() {
    transactions_across_runs(&RealKafka::old());
}

fn transactions_across_runs(kafka: &RealKafka) {
    let java = Java::of(kafka);
    let prefix = unique("across");
    let (kept, dropped) = (format!("{prefix}-kept"), format!("{prefix}-dropped"));
    let topics = [kept.as_str(), dropped.as_str()];
    let backups = Backups::of(kafka, &topics);
    for topic in topics {
        java.create(topic, 1, json!({ "retention.ms": "-1" }));
        java.ask(json!({ "do": "write", "topic": topic, "count": 10 }));
        let id = format!("tx-{topic}");
        java.ask(json!({ "do": "begin", "id": id }));
        java.ask(json!({ "do": "write", "topic": topic, "count": 5, "id": id, "text": "early" }));
        // Others go on writing meanwhile, whole transactions too.
        java.ask(json!({ "do": "write", "topic": topic, "count": 3, "from": 10 }));
    }
    let first = backups.run(0);
    assert_eq!(first.records(), 20);
    for topic in topics {
        let books = books(&backups.archive(), topic, 0);
        assert_eq!((books.from, books.to), (0, 10));
        assert_eq!(books.gaps, [(GapKind::Pending, 10, 18, 8)]);
        // Nothing is lost by it, but it is not silence: who holds it open, and since where.
        let said = first.lines();
        assert!(
            said.contains(&format!("{topic}-0: offsets 10 to 18")),
            "{said}"
        );
        assert!(said.contains("since offset 10"), "{said}");
    }
    assert_same(&backups.archived(), &java.dump(&topics));

    // Still open: another run finds nothing new and says the same.
    let again = backups.run(0);
    assert_eq!(again.records(), 0);
    assert!(
        again
            .lines()
            .contains(&format!("{kept}-0: offsets 10 to 18")),
        "{}",
        again.lines()
    );

    for topic in topics {
        let id = format!("tx-{topic}");
        java.ask(json!({ "do": "write", "topic": topic, "count": 5, "id": id, "text": "late" }));
        java.ask(json!({ "do": "write", "topic": topic, "count": 2, "from": 13 }));
    }
    java.ask(json!({ "do": "commit", "id": format!("tx-{kept}") }));
    java.ask(json!({ "do": "abort", "id": format!("tx-{dropped}") }));
    for topic in topics {
        java.ask(json!({ "do": "write", "topic": topic, "count": 2, "from": 15 }));
    }
    let last = backups.run(0);
    assert_eq!(last.records(), (10 + 3 + 2 + 2) + (3 + 2 + 2));
    let expected = java.dump(&topics);
    assert_same(&backups.archived(), &expected);
    let (committed, aborted) = (
        books(&backups.archive(), &kept, 0),
        books(&backups.archive(), &dropped, 0),
    );
    assert_eq!((committed.to, committed.missing(GapKind::Marker)), (28, 1));
    assert_eq!(committed.missing(GapKind::Aborted), 0);
    assert_eq!((aborted.to, aborted.missing(GapKind::Marker)), (28, 1));
    assert_eq!(aborted.missing(GapKind::Aborted), 10);
    assert_eq!(aborted.missing(GapKind::Pending), 0);
}

#[test]
fn a_hanging_transaction_is_named_and_only_a_group_beyond_it_makes_the_run_incomplete() {
    for kafka in [RealKafka::source(), RealKafka::old()] {
        a_hanging_transaction_is_named(&kafka);
    }
}

fn a_hanging_transaction_is_named(kafka: &RealKafka) {
    let java = Java::of(kafka);
    let topic = unique("hanging");
    let group = format!("{topic}-group");
    java.create(&topic, 1, json!({ "retention.ms": "-1" }));
    java.ask(json!({ "do": "write", "topic": topic, "count": 7 }));
    java.ask(json!({ "do": "begin", "id": topic, "timeout": 900_000 }));
    java.ask(json!({ "do": "write", "topic": topic, "count": 4, "id": topic }));
    java.ask(json!({ "do": "abandon", "id": topic }));
    java.ask(json!({ "do": "write", "topic": topic, "count": 4, "from": 7 }));
    assert_eq!(java.ends(&topic, 0), (0, 7, 15));
    let backups = Backups::of(kafka, &[&topic]);

    // A group at the end of what is stable reads nothing that is missing.
    java.ask(json!({ "do": "offsets", "group": group, "offsets": { format!("{topic}:0"): 7 } }));
    let harmless = backups.run(0);
    let said = harmless.lines();
    assert!(
        said.contains(&format!(
            "{topic}-0: offsets 7 to 15 belong to open transactions"
        )),
        "{said}"
    );
    let producer = regex::Regex::new(r"\(producer \d+ since offset 7\)").unwrap();
    assert!(producer.is_match(&said), "{said}");

    // A read_uncommitted consumer has gone further: its place is not in the archive.
    java.ask(json!({ "do": "offsets", "group": group, "offsets": { format!("{topic}:0"): 12 } }));
    let beyond = backups.run(6);
    let said = beyond.incomplete().join("\n");
    assert!(
        said.contains(&format!("group {group} committed beyond")),
        "{said}"
    );
    assert!(producer.is_match(&said), "{said}");
    assert_same(&backups.archived(), &java.dump(&[&topic]));
}

#[test]
fn a_topic_created_again_between_runs_is_a_new_incarnation() {
    for kafka in [RealKafka::source(), RealKafka::old()] {
        let java = Java::of(&kafka);
        let topic = unique("again");
        let backups = Backups::of(&kafka, &[&topic]);
        java.create(&topic, 1, json!({ "retention.ms": "-1" }));
        java.ask(json!({ "do": "write", "topic": topic, "count": 20, "text": "first life" }));
        backups.run(0);
        java.ask(json!({ "do": "delete", "topic": topic }));
        java.create(&topic, 1, json!({ "retention.ms": "-1" }));
        // More than before: by offsets alone it would look like a continuation.
        java.ask(json!({ "do": "write", "topic": topic, "count": 30, "text": "second life" }));
        let report = backups.run(0);
        assert_eq!(report.state(&topic), "recreated");
        assert_eq!(report.records(), 30);
        assert_same(&backups.archived(), &java.dump(&[&topic]));
        assert_eq!(incarnations(&backups.archive(), &topic), [(1, 20), (2, 30)]);
        assert_eq!(books(&backups.archive(), &topic, 0).from, 0);
    }
}

#[test]
fn compaction_between_runs_leaves_gaps_that_are_counted_and_tombstones_that_are_kept() {
    for kafka in [RealKafka::source(), RealKafka::old()] {
        let java = Java::of(&kafka);
        let topic = unique("compacting");
        java.create(&topic, 1, json!({
            "cleanup.policy": "compact", "segment.ms": "60000", "min.cleanable.dirty.ratio": "0.01",
            "delete.retention.ms": "86400000",
        }));
        let backups = Backups::of(&kafka, &[&topic]);
        // Times an hour apart roll a segment per batch; the active one is never cleaned.
        let write = |round: i64| {
            java.ask(json!({
                "do": "write", "topic": topic, "count": 30, "from": round * 30, "keys": 9, "tombstones": 10,
                "headers": true, "time": 1_748_736_000_000_i64 + round * 3_600_000, "step": 1,
            }));
        };
        // While rounds are written and cleaned a run may see either state of a segment, never half of one.
        let mut runs = Vec::new();
        for round in 0..6 {
            write(round);
            runs.push(backups.run(0));
        }
        assert!(
            runs.iter()
                .skip(1)
                .all(|run| run.state(&topic) == "continued")
        );
        wait_until(
            "the cleaner has made holes",
            Duration::from_secs(60),
            || java.dump(&[&topic]).count() < 100,
        );
        write(6);
        let report = backups.run(0);
        assert_eq!(report.records(), 30);
        // What was archived before its segment was cleaned is still there: by offset, each as the consumer sees it.
        let (archived, now) = (backups.archived(), java.dump(&[&topic]));
        let books_now = books(&backups.archive(), &topic, 0);
        assert_eq!(books_now.to, 210);
        assert_eq!(
            archived.count() as u64 + books_now.missing(GapKind::Compacted),
            210
        );
        assert_superset(&archived, &now, &topic);
        // A new archive of the cleaned topic is exactly what the consumer sees, holes and all.
        wait_until("the cleaner rests", Duration::from_secs(60), || {
            let once = java.dump(&[&topic]);
            std::thread::sleep(Duration::from_millis(700));
            once == java.dump(&[&topic])
        });
        let fresh = Backups::of(&kafka, &[&topic]);
        fresh.run(0);
        let expected = java.dump(&[&topic]);
        assert!(
            expected.of(&topic, 0).iter().any(|row| row.value.is_none()),
            "a tombstone"
        );
        assert_same(&fresh.archived(), &expected);
        assert_eq!(
            books(&fresh.archive(), &topic, 0).missing(GapKind::Compacted),
            210 - expected.count() as u64
        );
    }
}

/// Every record that is still at the source is in the archive, as it is.
#[track_caller]
fn assert_superset(archived: &Records, source: &Records, topic: &str) {
    let archived = archived.of(topic, 0);
    for row in source.of(topic, 0) {
        let found = archived.iter().find(|other| other.offset == row.offset);
        assert_eq!(found, Some(row));
    }
}

/// Tombstones live for 6 s after their first cleaning, and vanish with the second.
#[test]
fn deletions_that_vanished_between_runs_bring_a_new_base() {
    for kafka in [RealKafka::source(), RealKafka::old()] {
        let java = Java::of(&kafka);
        let topic = unique("vanishing");
        let other = unique("other");
        java.create(&other, 1, json!({}));
        java.create(&topic, 1, json!({
            "cleanup.policy": "compact", "segment.ms": "60000", "min.cleanable.dirty.ratio": "0.01",
            "delete.retention.ms": "6000",
        }));
        let round = |number: i64, key: &str, tombstone: i64| {
            java.ask(json!({
                "do": "write", "topic": topic, "count": 1, "key": key, "tombstones": tombstone, "from": number,
                "headers": true, "time": 1_748_736_000_000_i64 + number * 3_600_000, "step": 0,
            }));
        };
        round(0, "goes", 0);
        round(1, "stays", 0);
        let backups = Backups::of(&kafka, &[&topic]);
        backups.run(0);
        round(2, "goes", 1);
        let mut number = 3;
        // Each further round makes the segments before it cleanable.
        wait_until(
            "the tombstone has vanished",
            Duration::from_secs(90),
            || {
                round(number, "rolls", 0);
                number += 1;
                std::thread::sleep(Duration::from_millis(500));
                !java
                    .dump(&[&topic])
                    .of(&topic, 0)
                    .iter()
                    .any(|row| row.key.as_deref() == Some(b"goes"))
            },
        );

        // A run that leaves the topic out has not read its deletions: the next one must still know.
        backups.select(&[&other]);
        backups.run(0);
        backups.select(&[&topic]);
        let report = backups.run(0);
        assert_eq!(report.state(&topic), "rescanned");
        let (archived, now) = (backups.archived(), java.dump(&[&topic]));
        let keys = |records: &Records| {
            let rows = records.of(&topic, 0).iter();
            rows.map(|row| row.key.clone().unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(keys(&archived), keys(&now));
        assert!(
            !keys(&archived).contains(b"goes".as_slice()),
            "it was deleted"
        );
        assert_superset(&archived, &now, &topic);

        // Where no run can be quick enough, none passes for complete.
        java.ask(
            json!({ "do": "configure", "topic": topic, "configs": { "delete.retention.ms": "1" } }),
        );
        let late = backups.run(6);
        let said = late.incomplete().join("\n");
        assert!(
            said.contains(&format!(
                "{topic}: compacted, and not read to its end within"
            )),
            "{said}"
        );
    }
}
