//! What kbr tells of groups, logs and records of real Kafka is what Kafka's own tools and the Java consumer tell.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{RealKafka, unique};

/// 2025-06-01T00:00:00Z, a record each second from there.
const BEGINNING: i64 = 1_748_736_000_000;

#[test]
fn groups_and_logs_are_as_kafkas_own_tools_tell_them_on_4_3_0() {
    groups_and_logs("4.3.0", &["classic", "consumer"]);
}

#[test]
fn groups_and_logs_are_as_kafkas_own_tools_tell_them_on_3_9_2() {
    groups_and_logs("3.9.2", &["classic"]);
}

fn groups_and_logs(version: &'static str, protocols: &[&str]) {
    let kafka = RealKafka::running(version);
    let java = Java::of(&kafka);
    let topic = unique("consumers");
    java.create(&topic, 2, json!({}));
    let write = |count: i64, from: i64, id: Option<&str>| {
        let mut command = json!({
            "do": "write", "topic": topic, "partitions": 2, "count": count, "from": from, "step": 1000, "flush": 3,
        });
        if let Some(id) = id {
            command["id"] = json!(id);
        }
        java.ask(command);
    };
    write(10, 0, None);
    // What is aborted takes offsets and is seen by nobody.
    java.ask(json!({ "do": "begin", "id": topic }));
    write(5, 10, Some(&topic));
    java.ask(json!({ "do": "abort", "id": topic }));
    write(10, 15, None);

    let backups = Backups::of(&kafka, &[&topic]);
    let folder = &backups.folder;
    folder.clusters(&[("prod", &kafka.bootstrap)]);
    let eval = |code: &str| -> Value {
        let ran = folder.kbr(&["eval", code, "--output", "json"]).expect(0);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["value"].clone()
    };

    // Samples: what the Java client sees around an offset, in either place.
    let seen = java.dump(&[&topic]);
    let offsets: Vec<i64> = seen.of(&topic, 0).iter().map(|row| row.offset).collect();
    assert_eq!(offsets.len(), 20);
    let sampled = |from: &str| -> Vec<i64> {
        let rows = eval(&format!("{from}.sample(\"{topic}\", 0, 12, 10)"));
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["offset"].as_i64().unwrap()).collect()
    };
    let around: Vec<i64> = offsets
        .iter()
        .copied()
        .filter(|at| *at >= 7)
        .take(10)
        .collect();
    assert_eq!(sampled("cluster(\"prod\")"), around);
    backups.run(0);
    let snap = "store(\"file:archive\").latest()";
    assert_eq!(sampled(snap), around);

    // Logs: their ends, and where a time is.
    // Before the marker, whose time is the broker's clock and counts for brokers, too.
    let wanted = BEGINNING + 3_500;
    let rows = eval(&format!("cluster(\"prod\").logs(\"{topic}\", {wanted})"));
    for partition in 0..2 {
        let (start, stable, end) = java.ends(&topic, partition);
        let row = &rows[partition];
        let told = ["start", "stable", "end"].map(|name| row[name].as_i64().unwrap());
        assert_eq!(told, [start, stable, end], "{row}");
        let found = seen.of(&topic, partition as i32).iter();
        let first = found.clone().find(|row| row.timestamp >= wanted).unwrap();
        assert_eq!(row["offset"], json!(first.offset), "{row}");
    }

    for protocol in protocols {
        let group = unique("readers");
        java.ask(json!({
            "do": "offsets", "group": group, "offsets": { format!("{topic}:0"): 4, format!("{topic}:1"): offsets[19] + 1 },
        }));
        let words = ["--group", &group, "--topic", &topic, "--protocol", protocol];
        let member = kafka.helper_until_dropped("joined", "join", &words);
        let told = folder
            .kbr(&["group", "prod", &group, "--output", "json"])
            .expect(0);
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let described = kafka.tool("kafka-consumer-groups", &["--describe", "--group", &group]);
        let mut theirs = BTreeMap::new();
        for line in described.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.len() > 7 && words[1] == topic {
                let numbers = [2, 3, 4, 5].map(|column| words[column].parse::<i64>().unwrap());
                theirs.insert(numbers[0], (numbers, words[7].to_string()));
            }
        }
        assert_eq!(theirs.len(), 2, "{described}");
        let rows = told["value"].as_array().unwrap();
        assert_eq!(rows.len(), 2, "{told}");
        for row in rows {
            let number = |name: &str| row[name].as_i64().unwrap();
            let (theirs, host) = &theirs[&number("partition")];
            let ours = ["partition", "committed", "end", "lag"].map(number);
            assert_eq!(ours, *theirs, "{protocol}: {row}\n{described}");
            let owner = row["owner"].as_str().unwrap();
            // Their tool writes an address as Java does, after a slash.
            let host = host.strip_prefix('/').unwrap();
            assert!(
                owner.ends_with(&format!(" {host}")),
                "{protocol}: {row}\n{described}"
            );
        }
        // The next record of partition 0 is the fifth; the newest is the twenty-fifth that was written.
        assert_eq!(rows[0]["behind"], json!(20_000), "{told}");
        assert_eq!(rows[1]["behind"], json!(0), "{told}");
        let printed = told["printed"][0].as_str().unwrap();
        assert!(
            printed.contains(&format!("Stable, {protocol}, members: 1")),
            "{printed}"
        );
        drop(member);
        let lags = eval(&format!(
            "cluster(\"prod\").lags(#{{ names: \"{group}\" }})"
        ));
        assert_eq!(lags[0]["lag"], json!(rows[0]["lag"].as_i64().unwrap()));
    }
}
