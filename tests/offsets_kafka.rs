//! Moving groups of a live cluster on real Kafka: every strategy leads where Kafka's own `kafka-consumer-groups
//! --reset-offsets` does with the same words, and its Java client goes on at exactly that record.

mod backup_kafka_support;
mod support;

use backup_kafka_support::Java;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Folder, RealKafka, unique};

#[test]
fn strategies_lead_where_kafkas_own_tool_does_on_kafka_4_3_0() {
    strategies_lead_where_kafkas_own_tool_does("4.3.0");
}

#[test]
fn strategies_lead_where_kafkas_own_tool_does_on_kafka_3_9_2() {
    strategies_lead_where_kafkas_own_tool_does("3.9.2");
}

const HOUR_MS: i64 = 3_600_000;

/// By partition.
type Offsets = BTreeMap<i64, i64>;

struct Scene {
    kafka: RealKafka,
    folder: Folder,
    topic: String,
    group: String,
    other: String,
}

fn strategies_lead_where_kafkas_own_tool_does(version: &'static str) {
    let kafka = RealKafka::running(version);
    let java = Java::of(&kafka);
    let topic = unique("moved");
    java.create(&topic, 3, json!({ "retention.ms": "-1" }));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let begin = now.as_millis() as i64 - 10 * HOUR_MS;
    // Ten hours of records, a minute apart; the third partition is empty.
    java.ask(json!({
        "do": "write", "topic": topic, "partitions": 2, "count": 600, "time": begin, "step": 60_000,
    }));
    java.ask(json!({ "do": "trim", "topic": topic, "partition": 0, "before": 40 }));
    let (group, other) = (unique("group"), unique("other"));
    let offsets = |p0: i64, p1: i64| json!({ format!("{topic}:0"): p0, format!("{topic}:1"): p1 });
    java.ask(json!({ "do": "offsets", "group": group, "offsets": offsets(300, 500) }));
    java.ask(json!({ "do": "offsets", "group": other, "offsets": offsets(77, 88) }));
    let folder = Folder::new();
    folder.clusters(&[("prod", &kafka.bootstrap)]);
    let scene = Scene {
        kafka,
        folder,
        topic,
        group,
        other,
    };

    let at = kbr::base::time::format_instant(kbr::base::TimestampMs(begin + 5 * HOUR_MS + 1));
    let for_tool = at.trim_end_matches('Z').to_string();
    let cases: [(&str, Vec<&str>); 8] = [
        ("\"earliest\"", vec!["--to-earliest"]),
        ("\"latest\"", vec!["--to-latest"]),
        ("\"to-current\"", vec!["--to-current"]),
        (
            &format!("\"to-datetime\", \"{at}\""),
            vec!["--to-datetime", &for_tool],
        ),
        // In the middle of a minute, so that both find the same record whenever they ask.
        (
            "\"by-duration\", \"2h30s\"",
            vec!["--by-duration", "PT2H30S"],
        ),
        ("\"to-offset\", 123", vec!["--to-offset", "123"]),
        ("\"to-offset\", 5", vec!["--to-offset", "5"]),
        ("\"shift-by\", -17", vec!["--shift-by", "-17"]),
    ];
    for (strategy, words) in &cases {
        let mut options = format!(".topics(\"{}\").strategy({strategy})", scene.topic);
        // That tool takes the nearest end of the log without a word; kbr has to be told.
        options.push_str(".out_of_range(\"clamp\")");
        let mut topic = scene.topic.clone();
        if strategy.contains("shift-by") {
            // Where nothing was committed neither of the two has anything to shift.
            options.push_str(".partitions(\"*\", \"0-1\")");
            topic.push_str(":0,1");
        }
        let expected = scene.by_tool(&topic, words);
        assert_eq!(scene.planned(&options), expected, "{strategy}");
    }
    scene.what_lies_outside_of_the_log_is_not_clamped_in_silence();
    scene.a_group_goes_on_at_exactly_the_next_record(&java);
    scene.an_exported_plan_is_what_the_tool_reads(&java);
}

impl Scene {
    /// What `kafka-consumer-groups --reset-offsets` would do.
    fn by_tool(&self, topic: &str, words: &[&str]) -> Offsets {
        let mut all = vec!["--group", &self.group, "--topic", topic];
        all.extend(["--reset-offsets", "--dry-run"]);
        all.extend(words);
        let text = self.kafka.tool("kafka-consumer-groups", &all);
        let mut found = Offsets::new();
        // One version ends its rows with a line break, another with blanks.
        let fields: Vec<&str> = text.split_whitespace().collect();
        for row in fields.windows(4) {
            if let [group, topic, partition, offset] = row[..]
                && group == self.group
                && topic == self.topic
            {
                found.insert(partition.parse().unwrap(), offset.parse().unwrap());
            }
        }
        assert!(!found.is_empty(), "{text}");
        found
    }

    fn runbook(&self, group: &str, options: &str) {
        let script =
            format!("offset_plan(cluster(\"prod\")).groups(\"{group}\"){options}.reset();\n");
        self.folder.write("move.rhai", &script);
    }

    #[track_caller]
    fn planned(&self, options: &str) -> Offsets {
        self.runbook(&self.group, options);
        let words = ["run", "move.rhai", "--output", "json"];
        let answer: Value =
            serde_json::from_str(&self.folder.kbr(&words).expect(0).stdout).unwrap();
        let plan = answer.get("plan").unwrap_or(&answer);
        let rows = &plan["items"][0]["pinned"]["rows"];
        assert_eq!(
            rows["columns"],
            serde_json::json!(["partition", "from", "to", "metadata"])
        );
        let topics = rows["groups"][&self.group].as_object();
        let topics = topics.unwrap_or_else(|| panic!("{answer}"));
        let rows = topics.values().flat_map(|rows| rows.as_array().unwrap());
        rows.map(|row| (row[0].as_i64().unwrap(), row[2].as_i64().unwrap()))
            .collect()
    }

    #[track_caller]
    fn moved(&self, group: &str, options: &str) {
        self.runbook(group, options);
        let digest = self.folder.kbr(&["run", "move.rhai"]).expect(0).digest();
        let words = ["run", "move.rhai", "--execute", "--confirm", &digest];
        self.folder.kbr(&words).expect(0);
    }

    fn committed(&self, group: &str) -> BTreeMap<i64, Value> {
        let lines = self.kafka.helper("next", &["--group", group]);
        lines
            .lines()
            .map(|line| {
                let row: Value = serde_json::from_str(line).unwrap();
                (row["partition"].as_i64().unwrap(), row)
            })
            .collect()
    }

    fn what_lies_outside_of_the_log_is_not_clamped_in_silence(&self) {
        let options = format!(".topics(\"{}\").strategy(\"to-offset\", 5)", self.topic);
        self.runbook(&self.group, &options);
        let plan = self.folder.kbr(&["run", "move.rhai"]);
        let text = plan.text();
        assert!(text.contains("5 lies before the log's start 40"), "{text}");
        assert!(text.contains("clamp"), "{text}");
        let before = self.committed(&self.group);
        let refused = self.folder.kbr(&["run", "move.rhai", "--execute"]);
        assert_ne!(refused.code, 0);
        assert_eq!(self.committed(&self.group), before);
    }

    fn a_group_goes_on_at_exactly_the_next_record(&self, java: &Java) {
        let wide = format!(".topics(\"{}\").partitions(\"*\", \"0-1\")", self.topic);
        self.moved(&self.group, &format!("{wide}.strategy(\"shift-by\", -17)"));
        let next = self.committed(&self.group);
        let dump = java.dump(&[&self.topic]);
        for (partition, offset) in [(0, 283), (1, 483)] {
            let row = &next[&partition];
            assert_eq!(row["committed"], offset);
            assert_eq!(row["next"]["offset"], offset);
            let rows = dump.of(&self.topic, partition as i32);
            let record = rows.iter().find(|row| row.offset == offset).unwrap();
            assert_eq!(row["next"]["timestamp"], record.timestamp);
        }
        // Another group's places, under a name that is new.
        let copy = format!("{}-copy", self.group);
        let strategy = format!(".strategy(\"to-group\", \"{}\")", self.other);
        self.runbook(&copy, &strategy);
        let text = self.folder.kbr(&["run", "move.rhai"]).text();
        assert!(text.contains("no group"), "{text}");
        self.moved(&copy, &format!("{strategy}.new_groups(true)"));
        let offsets: Vec<Value> = self
            .committed(&copy)
            .into_values()
            .map(|row| row["committed"].clone())
            .collect();
        assert_eq!(offsets, [77, 88]);
    }

    /// What a plan exports as CSV is taken by Kafka's tool, and what the tool exports by kbr.
    fn an_exported_plan_is_what_the_tool_reads(&self, java: &Java) {
        let options = format!(
            ".topics(\"{}\").partitions(\"*\", \"0-1\").strategy(\"to-offset\", 222)",
            self.topic
        );
        let script = format!(
            "print(offset_plan(cluster(\"prod\")).groups(\"{}\"){options}.exported(\"csv\"))",
            self.group
        );
        let csv = self.folder.kbr(&["eval", &script]).expect(0).stdout;
        self.folder.write("rows.csv", &csv);
        let file = self.folder.file("rows.csv");
        let file = file.to_str().unwrap();
        let words = [
            "--group",
            &self.group,
            "--reset-offsets",
            "--execute",
            "--from-file",
            file,
        ];
        self.kafka.tool("kafka-consumer-groups", &words);
        let at = |group: &str| -> Vec<Value> {
            let rows = self.committed(group).into_values();
            rows.map(|row| row["committed"].clone()).collect()
        };
        assert_eq!(at(&self.group), [222, 222]);

        let words = [
            "--group",
            &self.other,
            "--reset-offsets",
            "--to-current",
            "--export",
        ];
        let words = [&words[..], &["--topic", &self.topic, "--dry-run"]].concat();
        let exported = self.kafka.tool("kafka-consumer-groups", &words);
        let rows: Vec<&str> = exported
            .lines()
            .filter(|line| line.contains(&self.topic))
            .collect();
        // Its third partition has no commit, and the tool means the end of the log there.
        assert_eq!(rows.len(), 3, "{exported}");
        self.folder
            .write("exported.csv", &format!("{}\n", rows.join("\n")));
        self.moved(&self.group, ".strategy(\"manual\", \"exported.csv\")");
        assert_eq!(at(&self.group), [77, 88, 0]);
        let ends = java.ends(&self.topic, 2);
        assert_eq!(ends.2, 0);
    }
}
