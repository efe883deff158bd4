//! Groups onto topics that were restored by another runbook, on real Kafka: with transactions, aborted ones too, compressed
//! batches and times that do not ascend, every strategy leads where the Java client goes on with the right record.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Java, Records};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Folder, RealKafka, unique};

#[test]
fn consumers_go_on_at_the_right_record_on_kafka_4_3_0() {
    consumers_go_on_at_the_right_record("4.3.0");
}

#[test]
fn consumers_go_on_at_the_right_record_on_kafka_3_9_2() {
    consumers_go_on_at_the_right_record("3.9.2");
}

const HOUR_MS: i64 = 3_600_000;
/// Of two partitions; the second number counts from the partition's end if it is negative.
const COMMITS: [(&str, i64, i64); 6] = [
    ("first", 0, 0),
    ("middle", 123, 77),
    // A record that is not restored, and one of the aborted transaction.
    ("left-out", 43, 225),
    ("compressed", 401, 455),
    ("late", -3, -1),
    ("done", 0, 0),
];

struct Scene {
    kafka: RealKafka,
    folder: Folder,
    topic: String,
    restored: String,
    groups: BTreeMap<String, [i64; 2]>,
    before: Records,
    after: Records,
}

fn consumers_go_on_at_the_right_record(version: &'static str) {
    let scene = Scene::new(version);
    for strategy in ["header", "cluster-scan", "timestamp"] {
        scene.moved("store(\"file:archive\").latest()", strategy);
        for group in scene.groups.keys() {
            scene.check(group, strategy);
        }
        scene.is_there("cluster(\"prod\")", strategy);
    }
}

impl Scene {
    fn new(version: &'static str) -> Self {
        let kafka = RealKafka::running(version);
        let java = Java::of(&kafka);
        let topic = unique("events");
        java.create(&topic, 2, json!({ "retention.ms": "-1" }));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let begin = now.as_millis() as i64 - 10 * HOUR_MS;
        let write = |more: Value| {
            let mut command = json!({
                "do": "write", "topic": topic, "partitions": 2, "time": begin, "step": 1000, "headers": true,
            });
            let more = more.as_object().unwrap().clone();
            command.as_object_mut().unwrap().extend(more);
            java.ask(command);
        };
        write(json!({ "count": 200, "flush": 20 }));
        let id = unique("writer");
        java.ask(json!({ "do": "begin", "id": id }));
        write(json!({ "count": 50, "from": 200, "id": id, "text": "aborted" }));
        java.ask(json!({ "do": "abort", "id": id }));
        java.ask(json!({ "do": "begin", "id": id }));
        write(json!({ "count": 50, "from": 250, "id": id }));
        java.ask(json!({ "do": "commit", "id": id }));
        // Times go up and down, and compressed batches do not tell their least.
        write(json!({
            "count": 300, "from": 300, "shuffle": true, "flush": 30,
            "producer": { "compression.type": "zstd" },
        }));
        let mut groups = BTreeMap::new();
        let ends = [java.ends(&topic, 0).1, java.ends(&topic, 1).1];
        for (name, first, second) in COMMITS {
            let mut at = [first, second];
            for (offset, end) in at.iter_mut().zip(ends) {
                if *offset < 0 || name == "done" {
                    *offset += end;
                }
            }
            let group = unique(name);
            let offsets = json!({ format!("{topic}:0"): at[0], format!("{topic}:1"): at[1] });
            java.ask(json!({ "do": "offsets", "group": group, "offsets": offsets }));
            groups.insert(group, at);
        }
        let folder = Folder::new();
        let restored = format!("{topic}_dr");
        folder.clusters(&[("prod", &kafka.bootstrap)]);
        folder.write(
            "backup.rhai",
            &format!("backup(cluster(\"prod\")).topics(\"{topic}\").to(store(\"file:archive\"));"),
        );
        folder.write(
            "restore.rhai",
            &format!(
                "restore(store(\"file:archive\").latest()).topics(\"{topic}\").suffix(\"_dr\").origin_headers(true)\n\
                 .filter(|r| r.offset % 10 != 3).to(cluster(\"prod\"));"
            ),
        );
        folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
        folder.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
        let before = java.dump(&[&topic]);
        let after = java.dump(&[&restored]);
        assert!(after.count() > 900, "{}", after.count());
        Self {
            kafka,
            folder,
            topic,
            restored,
            groups,
            before,
            after,
        }
    }

    /// Each group under a name that says how.
    fn runbook(&self, source: &str, strategy: &str) {
        let groups: Vec<String> = self.groups.keys().map(|name| format!("{name:?}")).collect();
        let script = format!(
            "let moved = offset_plan({source}).onto(cluster(\"prod\")).groups({}).topics(\"{topic}\")\n\
             .remap(#{{ \"{topic}\": \"{topic}_dr\" }}).strategy(\"{strategy}\")\n\
             .rename_groups(|group| group + \"-{strategy}\");\nprint(moved);\nmoved.reset();\n",
            groups.join(", "),
            topic = self.topic
        );
        self.folder.write("move.rhai", &script);
    }

    #[track_caller]
    fn moved(&self, source: &str, strategy: &str) {
        self.runbook(source, strategy);
        let plan = self.folder.kbr(&["run", "move.rhai"]).expect(0);
        if strategy == "header" {
            assert!(plan.text().contains("same record, by its header"));
        }
        let digest = plan.digest();
        let words = ["run", "move.rhai", "--execute", "--confirm", &digest];
        self.folder.kbr(&words).expect(0);
    }

    /// The same places are found from another source.
    #[track_caller]
    fn is_there(&self, source: &str, strategy: &str) {
        self.runbook(source, strategy);
        let words = ["run", "move.rhai", "--output", "json"];
        let answer: Value =
            serde_json::from_str(&self.folder.kbr(&words).expect(0).stdout).unwrap();
        let plan = answer.get("plan").unwrap_or(&answer);
        let rows = &plan["items"][0]["pinned"]["rows"];
        assert_eq!(
            rows["columns"],
            json!(["partition", "from", "to", "metadata"])
        );
        let groups = rows["groups"].as_object().unwrap();
        assert_eq!(groups.len(), self.groups.len());
        for (group, topics) in groups {
            let topics = topics.as_object().unwrap().values();
            let rows: Vec<_> = topics.flat_map(|rows| rows.as_array().unwrap()).collect();
            assert_eq!(rows.len(), 2, "{group}");
            for row in rows {
                assert_eq!(row[1], row[2], "{strategy}: {group} {row}");
            }
        }
    }

    /// The first record at the target that the group has not read: by the values, of which none is there twice.
    fn expected(&self, partition: i32, committed: i64) -> Option<i64> {
        let unread = self.before.of(&self.topic, partition).iter();
        let unread: Vec<_> = unread
            .filter(|row| row.offset >= committed)
            .map(|row| &row.value)
            .collect();
        let there = self.after.of(&self.restored, partition).iter();
        let mut there = there.filter(|row| unread.contains(&&row.value));
        there.next().map(|row| row.offset)
    }

    #[track_caller]
    fn check(&self, group: &str, strategy: &str) {
        let lines = self
            .kafka
            .helper("next", &["--group", &format!("{group}-{strategy}")]);
        let mut partitions = 0;
        for line in lines.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let partition = row["partition"].as_i64().unwrap() as i32;
            let committed = self.groups[group][partition as usize];
            let place = row["committed"].as_i64().unwrap();
            let end = self
                .after
                .of(&self.restored, partition)
                .last()
                .unwrap()
                .offset
                + 1;
            let expected = self.expected(partition, committed);
            let what = format!("{group} {strategy} p{partition}: {row}");
            match strategy {
                "timestamp" => assert!(place <= expected.unwrap_or(end), "{what}"),
                _ => {
                    assert_eq!(place, expected.unwrap_or(end), "{what}");
                    assert_eq!(row["next"]["offset"].as_i64(), expected, "{what}");
                }
            }
            partitions += 1;
        }
        assert_eq!(partitions, 2, "{group} {strategy}: {lines}");
    }
}
