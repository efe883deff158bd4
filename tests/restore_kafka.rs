//! Restores into real Kafka, chosen and routed in every way, compared record by record with what Kafka's own consumer
//! reads of the source, and with where Kafka's own producer puts the same keys.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, Records, Row};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{RealKafka, unique, wait_until};

#[test]
fn what_is_chosen_and_routed_on_kafka_4_3_0_is_what_a_consumer_reads_of_the_source() {
    every_scenario("4.3.0");
}

#[test]
fn what_is_chosen_and_routed_on_kafka_3_9_2_is_what_a_consumer_reads_of_the_source() {
    every_scenario("3.9.2");
}

fn every_scenario(version: &'static str) {
    let kafka = RealKafka::running(version);
    let java = Java::of(&kafka);
    keys_go_where_kafkas_own_producer_sends_them(&kafka, &java);
    partitions_are_joined_and_say_where_records_came_from(&kafka, &java);
    bounds_and_filters_hold_for_every_record(&kafka, &java);
    two_topics_become_one(&kafka, &java);
    a_second_restore_stands_behind_the_first(&kafka, &java);
    another_writer_is_found_at_its_first_record(&kafka, &java);
}

/// Backs `topics` up and restores them as `options` say: the words between `restore(…)` and `.to(…)`.
struct Scene {
    backups: Backups,
}

impl Scene {
    fn of(kafka: &RealKafka, topics: &[&str]) -> Self {
        let backups = Backups::of(kafka, topics);
        backups.run(0);
        Self { backups }
    }

    fn runbook(&self, options: &str) {
        let script =
            format!("restore(store(\"file:archive\").latest()){options}.to(cluster(\"prod\"));\n");
        self.backups.folder.write("restore.rhai", &script);
    }

    #[track_caller]
    fn restore(&self, options: &str) -> String {
        self.runbook(options);
        let words = ["run", "restore.rhai", "--execute"];
        self.backups.folder.kbr(&words).expect(0).text()
    }
}

fn key(row: &Row) -> Vec<u8> {
    row.key.clone().unwrap()
}

/// A record without the offset it stands at.
fn content(row: &Row) -> Row {
    Row {
        offset: 0,
        ..row.clone()
    }
}

fn contents(rows: &[Row]) -> Vec<Row> {
    rows.iter().map(content).collect()
}

#[track_caller]
fn assert_dense(records: &Records) {
    for (at, rows) in &records.0 {
        let offsets = rows.iter().map(|row| row.offset);
        assert!(offsets.eq(0..rows.len() as i64), "{at:?} has holes");
    }
}

fn keys_go_where_kafkas_own_producer_sends_them(kafka: &RealKafka, java: &Java) {
    let (source, wider) = (unique("keyed"), unique("wider"));
    for (topic, partitions) in [(&source, 3), (&wider, 7)] {
        java.create(topic, partitions, json!({ "retention.ms": "-1" }));
        java.ask(json!({
            "do": "write", "topic": topic, "count": 3000, "keys": 211, "by_key": true, "flush": 100,
        }));
    }
    let scene = Scene::of(kafka, &[&source]);
    let target = format!("r.{source}");
    scene.restore(".prefix(\"r.\").repartition(7)");
    let (found, expected) = (java.dump(&[&target]), java.dump(&[&wider]));
    assert_eq!((found.count(), expected.count()), (3000, 3000));
    assert_dense(&found);
    for partition in 0..7 {
        let by_key = |rows: &[Row]| {
            let mut keys: BTreeMap<Vec<u8>, Vec<Row>> = BTreeMap::new();
            for row in rows {
                keys.entry(key(row)).or_default().push(content(row));
            }
            keys
        };
        // The same keys in the same partition, and each key's records in their order.
        let (found, expected) = (found.of(&target, partition), expected.of(&wider, partition));
        assert!(!expected.is_empty());
        assert_eq!(by_key(found), by_key(expected), "partition {partition}");
    }
}

fn partitions_are_joined_and_say_where_records_came_from(kafka: &RealKafka, java: &Java) {
    let source = unique("joined");
    java.create(&source, 3, json!({ "retention.ms": "-1" }));
    java.ask(json!({
        "do": "write", "topic": source, "partitions": 3, "count": 700, "keys": 9, "headers": true,
    }));
    let scene = Scene::of(kafka, &[&source]);
    let target = format!("r.{source}");
    scene.restore(
        ".prefix(\"r.\").remap_partitions(#{ \"0\": 1, \"2\": 1, \"1\": 0 }).drop_headers(\"empty\").origin_headers(true)",
    );
    let (found, before) = (java.dump(&[&target]), java.dump(&[&source]));
    assert_dense(&found);
    assert_eq!(found.of(&target, 0).len(), 700);
    assert_eq!(found.of(&target, 1).len(), 1400);
    let cluster = kafka.kcat(&["-L", "-J"], "");
    let cluster: serde_json::Value = serde_json::from_str(&cluster).unwrap();
    let mut came: BTreeMap<i32, Vec<Row>> = BTreeMap::new();
    for (partition, row) in
        (0..2).flat_map(|to| found.of(&target, to).iter().map(move |row| (to, row)))
    {
        let header = |name: &str| {
            let found = row.headers.iter().filter(|(key, _)| key == name.as_bytes());
            let values: Vec<String> = found
                .map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
                .collect();
            assert_eq!(values.len(), 1, "{name} of {row:?}");
            values[0].clone()
        };
        let from: i32 = header("x-original-partition").parse().unwrap();
        assert_eq!(partition, [1, 0, 1][from as usize]);
        assert_eq!(header("x-original-timestamp"), row.timestamp.to_string());
        assert!(!header("x-source-cluster").is_empty(), "{cluster}");
        let original = Row {
            offset: header("x-original-offset").parse().unwrap(),
            headers: row
                .headers
                .iter()
                .filter(|(name, _)| !name.starts_with(b"x-"))
                .cloned()
                .collect(),
            ..row.clone()
        };
        came.entry(from).or_default().push(original);
    }
    for partition in 0..3 {
        let mut expected = before.of(&source, partition).to_vec();
        for row in &mut expected {
            row.headers.retain(|(name, _)| name != b"empty");
        }
        // With the offsets that the headers tell: each source partition whole and in its order.
        assert_eq!(came[&partition], expected, "partition {partition}");
    }
}

fn bounds_and_filters_hold_for_every_record(kafka: &RealKafka, java: &Java) {
    let (created, appended) = (unique("created"), unique("appended"));
    for (topic, kind) in [(&created, "CreateTime"), (&appended, "LogAppendTime")] {
        let configs = json!({ "retention.ms": "-1", "message.timestamp.type": kind });
        java.create(topic, 2, configs);
        java.ask(json!({
            "do": "write", "topic": topic, "partitions": 2, "count": 900, "keys": 50, "shuffle": true,
            "step": 1000, "flush": 40, "producer": { "compression.type": "lz4" },
        }));
    }
    let before = java.dump(&[&created, &appended]);
    let scene = Scene::of(kafka, &[&created, &appended]);
    // The times of the one lie in every order; those that the broker gave the other are what it is cut by.
    let times = |topic: &str| {
        let mut times: Vec<i64> = (0..2)
            .flat_map(|partition| before.of(topic, partition))
            .map(|row| row.timestamp)
            .collect();
        times.sort_unstable();
        (times[times.len() / 4], times[times.len() * 3 / 4])
    };
    for (topic, name) in [(&created, "a."), (&appended, "b.")] {
        let (since, until) = times(topic);
        let target = format!("{name}{topic}");
        scene.restore(&format!(
            ".topics(\"{topic}\").prefix(\"{name}\").since({since}).before({until}).offsets(\"{topic}\", 1, 100..600)\
             .filter(|r| r.key != \"key-3\" && r.offset % 2 == 0)"
        ));
        let found = java.dump(&[&target]);
        assert_dense(&found);
        let mut kept = 0;
        for partition in 0..2 {
            let expected: Vec<Row> = before
                .of(topic, partition)
                .iter()
                .filter(|row| (since..until).contains(&row.timestamp))
                .filter(|row| partition == 0 || (100..600).contains(&row.offset))
                .filter(|row| key(row) != b"key-3" && row.offset % 2 == 0)
                .map(|row| Row {
                    // The topic has its own kind of time back, its records have kept theirs.
                    kind: "CreateTime".into(),
                    ..content(row)
                })
                .collect();
            kept += expected.len();
            assert_eq!(
                contents(found.of(&target, partition)),
                expected,
                "{target}-{partition}"
            );
        }
        assert!(kept > 100, "{target}: {kept}");
        let configs =
            |topic: &str| java.ask(json!({ "do": "configs", "topic": topic }))["configs"].clone();
        assert_eq!(configs(&target), configs(topic));
    }
}

fn two_topics_become_one(kafka: &RealKafka, java: &Java) {
    let prefix = unique("many");
    let names = [format!("{prefix}.a"), format!("{prefix}.b")];
    for (at, name) in names.iter().enumerate() {
        java.create(name, 2, json!({ "retention.ms": "-1" }));
        java.ask(json!({
            "do": "write", "topic": name, "partitions": 2, "count": 300 + at * 50, "text": name,
        }));
    }
    let scene = Scene::of(kafka, &[&names[0], &names[1]]);
    let target = format!("{prefix}.all");
    scene.restore(&format!(".remap(|name| \"{target}\").merge(true)"));
    let (found, before) = (java.dump(&[&target]), java.dump(&[&names[0], &names[1]]));
    assert_dense(&found);
    for partition in 0..2 {
        let mut expected = contents(before.of(&names[0], partition));
        expected.extend(contents(before.of(&names[1], partition)));
        assert_eq!(contents(found.of(&target, partition)), expected);
    }
}

fn a_second_restore_stands_behind_the_first(kafka: &RealKafka, java: &Java) {
    let source = unique("twice");
    java.create(&source, 1, json!({ "retention.ms": "-1" }));
    java.ask(json!({ "do": "write", "topic": source, "count": 250 }));
    let scene = Scene::of(kafka, &[&source]);
    let target = format!("r.{source}");
    scene.restore(".prefix(\"r.\")");
    let folder = &scene.backups.folder;
    let plan = folder.kbr(&["run", "restore.rhai"]).expect(0);
    assert!(plan.text().contains("250"), "{}", plan.text());
    // Records in the target are a gate: nothing happens without its word.
    folder.kbr(&["run", "restore.rhai", "--execute"]).expect(3);
    assert_eq!(java.dump(&[&target]).count(), 250);
    let digest = plan.digest();
    let words = ["run", "restore.rhai", "--execute", "--confirm", &digest];
    folder.kbr(&words).expect(0);
    let (found, before) = (java.dump(&[&target]), java.dump(&[&source]));
    assert_dense(&found);
    let before = contents(before.of(&source, 0));
    let twice = [before.clone(), before].concat();
    assert_eq!(contents(found.of(&target, 0)), twice);
}

fn another_writer_is_found_at_its_first_record(kafka: &RealKafka, java: &Java) {
    let source = unique("shared");
    java.create(&source, 1, json!({ "retention.ms": "-1" }));
    java.ask(
        json!({ "do": "write", "topic": source, "count": 2000, "size": 2000, "flush": 50,
        "producer": { "batch.size": "200000" } }),
    );
    let scene = Scene::of(kafka, &[&source]);
    let target = format!("r.{source}");
    // Slow enough that somebody can write in between.
    scene.runbook(".prefix(\"r.\").limit(\"500 KB/s\")");
    let words = ["run", "restore.rhai", "--execute"];
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| scene.backups.folder.kbr(&words));
        wait_until("records arrive", Duration::from_secs(60), || {
            let ends = java.try_ask(json!({ "do": "ends", "topic": target }));
            ends["partitions"][0]["end"]
                .as_i64()
                .is_some_and(|end| end > 0)
        });
        let answer =
            java.ask(json!({ "do": "write", "topic": target, "count": 1, "text": "foreign" }));
        let at = answer["last"].as_i64().unwrap();
        let ended = restore.join().unwrap();
        assert_ne!(ended.code, 0, "{}", ended.text());
        let text = ended.text();
        assert!(text.contains(&format!("{target}-0")), "{text}");
        assert!(
            text.contains("another") || text.contains("somebody"),
            "{text}"
        );
        // It has written at most what was on its way.
        let end = java.ends(&target, 0).2;
        assert!(end - at < 1000, "{end} after {at}\n{text}");
        assert!(at < 1999, "it was there too late to matter");
    });
}
