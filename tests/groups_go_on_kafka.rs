//! Groups go on after a reset: a commit that carries a leader epoch of the source, which the target's partitions never had,
//! keeps no Java consumer waiting; metadata arrives; and consumers of the Java client, of both protocols, and of librdkafka get
//! exactly the record that comes next.

mod backup_kafka_support;
mod support;

use backup_kafka_support::Java;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Folder, RealKafka, unique};

#[test]
fn groups_go_on_at_exactly_the_next_record_on_kafka_4_3_0() {
    groups_go_on_at_exactly_the_next_record("4.3.0", &["classic", "consumer"]);
}

#[test]
fn groups_go_on_at_exactly_the_next_record_on_kafka_3_9_2() {
    groups_go_on_at_exactly_the_next_record("3.9.2", &["classic"]);
}

/// By partition, at the source.
const COMMITTED: [i64; 2] = [37, 81];
/// Of every ten records one is left out of the restore.
const RESTORED: [i64; 2] = [33, 73];

fn groups_go_on_at_exactly_the_next_record(version: &'static str, protocols: &[&str]) {
    let kafka = RealKafka::running(version);
    let java = Java::of(&kafka);
    let topic = unique("continued");
    java.create(&topic, 2, json!({ "retention.ms": "-1" }));
    java.ask(json!({ "do": "write", "topic": topic, "partitions": 2, "count": 100, "step": 1000 }));
    let group = unique("readers");
    let offsets = |p0: i64, p1: i64| json!({ format!("{topic}:0"): p0, format!("{topic}:1"): p1 });
    // An epoch that no leader of the target has had.
    java.ask(json!({
        "do": "offsets", "group": group, "offsets": offsets(COMMITTED[0], COMMITTED[1]), "epoch": 7,
        "metadata": "checkpoint=37",
    }));
    let folder = Folder::new();
    folder.clusters(&[("prod", &kafka.bootstrap)]);
    let done = |script: &str| {
        folder.write("script.rhai", script);
        let digest = folder.kbr(&["run", "script.rhai"]).expect(0).digest();
        let words = ["run", "script.rhai", "--execute", "--confirm", &digest];
        folder.kbr(&words).expect(0);
    };
    done(&format!(
        "backup(cluster(\"prod\")).topics(\"{topic}\").groups(\"{group}\").to(store(\"file:archive\"));"
    ));
    // By the restore's own mapping, and by the headers that it leaves.
    done(&format!(
        "let data = restore(store(\"file:archive\").latest()).suffix(\"_dr\").origin_headers(true)\n\
         .filter(|r| r.offset % 10 != 6).to(cluster(\"prod\"));\n\
         offset_plan(data).groups(\"{group}\").rename_groups(|group| group + \"-exact\").reset();"
    ));
    done(&format!(
        "offset_plan(store(\"file:archive\").latest()).onto(cluster(\"prod\")).groups(\"{group}\")\n\
         .remap(#{{ \"{topic}\": \"{topic}_dr\" }}).strategy(\"header\")\n\
         .rename_groups(|group| group + \"-header\").reset();"
    ));
    let restored = format!("{topic}_dr");
    let expected = json!({ "0": RESTORED[0], "1": RESTORED[1] });
    for how in ["exact", "header"] {
        let group = format!("{group}-{how}");
        let rows = rows(&kafka, &group);
        for partition in 0..2 {
            let row = &rows[&(partition as i64)];
            assert_eq!(row["committed"], RESTORED[partition], "{how}: {row}");
            assert_eq!(row["metadata"], "checkpoint=37", "{how}: {row}");
            assert_eq!(row["leader_epoch"], -1, "{how}: {row}");
        }
        for protocol in protocols {
            let answer = java.ask(json!({
                "do": "goes_on", "group": group, "topic": restored, "partitions": 2, "protocol": protocol,
            }));
            assert_eq!(answer["first"], expected, "{how} {protocol}");
        }
        assert_eq!(by_kcat(&kafka, &group, &restored), RESTORED, "{how}");
    }
    // What an operator asks for goes on there, too.
    for (strategy, places) in [
        ("\"earliest\"", [0, 0]),
        ("\"to-offset\", 55", [55, 55]),
        ("\"shift-by\", -5", [50, 50]),
    ] {
        let group = format!("{group}-exact");
        done(&format!(
            "offset_plan(cluster(\"prod\")).groups(\"{group}\").strategy({strategy}).reset();"
        ));
        let answer = java.ask(json!({
            "do": "goes_on", "group": group, "topic": restored, "partitions": 2,
        }));
        let expected = json!({ "0": places[0], "1": places[1] });
        assert_eq!(answer["first"], expected, "{strategy}");
        // It commits where it ends; the next one is to begin here.
        if !strategy.contains("to-offset") {
            let first = by_kcat(&kafka, &group, &restored);
            assert_eq!(first, places, "{strategy}");
        }
    }
}

/// As the Java client tells what is committed, by partition.
fn rows(kafka: &RealKafka, group: &str) -> BTreeMap<i64, Value> {
    let lines = kafka.helper("next", &["--group", group]);
    lines
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            (row["partition"].as_i64().unwrap(), row)
        })
        .collect()
}

/// The first record of both partitions that a member by librdkafka gets; it reads on to their ends.
fn by_kcat(kafka: &RealKafka, group: &str, topic: &str) -> [i64; 2] {
    let text = kafka.kcat(
        &[
            "-G",
            group,
            "-X",
            "enable.auto.commit=false",
            "-X",
            "auto.offset.reset=error",
            "-e",
            "-q",
            "-f",
            "%p %o\n",
            topic,
        ],
        "",
    );
    let mut first = BTreeMap::new();
    for line in text.lines() {
        let (partition, offset) = line.split_once(' ').unwrap();
        first
            .entry(partition.parse::<usize>().unwrap())
            .or_insert(offset.parse::<i64>().unwrap());
    }
    [first[&0], first[&1]]
}
