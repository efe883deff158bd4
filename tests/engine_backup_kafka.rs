//! Backup of real Kafka, record by record: what the archive holds against what Kafka's own Java consumer reads with
//! read_committed, every field, for the data that backup tools get wrong. On both versions kbr is tested with, with kbr
//! as a person runs it, and read by two readers of archives that share no code.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, Records, assert_same};
use serde_json::json;
use support::{RealKafka, unique};

#[test]
fn the_hard_data_set_of_kafka_4_3_0_is_archived_as_its_consumer_reads_it() {
    the_hard_data_set_is_archived(&RealKafka::source());
}

#[test]
fn the_hard_data_set_of_kafka_3_9_2_is_archived_as_its_consumer_reads_it() {
    the_hard_data_set_is_archived(&RealKafka::old());
}

fn the_hard_data_set_is_archived(kafka: &RealKafka) {
    let prefix = format!("{}.", unique("archived"));
    kafka.helper("dataset", &["--prefix", &prefix]);
    let java = Java::of(kafka);
    // All in one: every codec with tombstones, duplicate headers and times out of order inside each batch.
    let mut topics: Vec<String> = [
        "headers",
        "keys",
        "codec-none",
        "codec-gzip",
        "codec-snappy",
        "codec-lz4",
        "codec-zstd",
        "transactions",
        "append-time",
        "out-of-order",
        "trimmed",
        "compacted",
    ]
    .map(|name| format!("{prefix}{name}"))
    .to_vec();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("{prefix}all-{codec}");
        java.create(&topic, 2, json!({ "retention.ms": "-1" }));
        java.ask(json!({
            "do": "write", "topic": topic, "partitions": 2, "count": 120, "flush": 30, "headers": true,
            "tombstones": 7, "shuffle": true, "producer": { "compression.type": codec },
        }));
        topics.push(topic);
    }
    let backups = Backups::of(kafka, &[&format!("{prefix}*")]);
    // Twice: the second run must find nothing new and continue what is there.
    for number in 1..=2 {
        let report = backups.run(0);
        assert_eq!(report.step()["generation"], number);
        assert_eq!(report.records() > 0, number == 1);
        assert!(report.step()["groups"].as_u64() >= Some(3));
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let expected = java.dump(&names);
    assert!(expected.count() > 4000, "{}", expected.count());
    let kinds = |name: &str| expected.of(&format!("{prefix}{name}"), 0)[0].kind.clone();
    assert_eq!(kinds("append-time"), "LogAppendTime");
    assert_eq!(kinds("headers"), "CreateTime");
    assert_same(&backups.archived(), &expected);
    let (by_python, unread) = Records::of_archive_by_python(&backups.archive());
    assert_eq!(unread, 0, "zstd is missing");
    assert_same(&by_python, &expected);
}
