//! When commits were made, on real Kafka: what `cluster-scan` tells is what Kafka's own formatter of `__consumer_offsets`
//! prints, also for commits in transactions; and a cluster that does not let it be read only costs the time.

mod backup_kafka_support;
mod support;

use backup_kafka_support::Java;
use kbr::engine::offsets::{Plan, Why};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Folder, RealKafka, unique};

#[test]
fn commits_were_made_when_kafkas_own_formatter_says_on_kafka_4_3_0() {
    commits_were_made_when_kafkas_own_formatter_says("4.3.0");
}

#[test]
fn commits_were_made_when_kafkas_own_formatter_says_on_kafka_3_9_2() {
    commits_were_made_when_kafkas_own_formatter_says("3.9.2");
}

fn commits_were_made_when_kafkas_own_formatter_says(version: &'static str) {
    let kafka = RealKafka::start(version, 1);
    let java = Java::of(&kafka);
    let topic = unique("timed");
    twice(&java, &topic);
    let commit = |group: &str, offset: i64, id: Option<&str>| {
        let mut command = json!({
            "do": "offsets", "group": group, "offsets": { format!("{topic}:0"): offset },
        });
        if let Some(id) = id {
            java.ask(json!({ "do": "begin", "id": id }));
            command["id"] = json!(id);
        }
        java.ask(command);
    };
    let wanted = BTreeMap::from([
        ("once", 10),
        ("twice", 20),
        ("moved-on", 31),
        ("by-transaction", 40),
        ("aborted", 50),
        ("größe", 60),
    ]);
    commit("once", 10, None);
    commit("twice", 20, None);
    commit("moved-on", 30, None);
    commit("aborted", 50, None);
    let id = unique("writer");
    commit("by-transaction", 40, Some(&id));
    java.ask(json!({ "do": "commit", "id": id }));
    // The same offset once more, and nothing comes of it.
    commit("aborted", 50, Some(&id));
    java.ask(json!({ "do": "abort", "id": id }));
    commit("twice", 20, None);
    commit("moved-on", 31, None);
    commit("größe", 60, None);
    let folder = Folder::new();
    folder.clusters(&[("prod", &kafka.bootstrap)]);

    let theirs = formatted(&kafka, &topic);
    let ours = planned(&folder, &topic);
    for (group, offset) in wanted {
        let (to, how) = &ours[group];
        assert_eq!(*to, offset, "{how}");
        let time = theirs
            .iter()
            .rev()
            .find(|(name, at, _)| name == group && *at == offset);
        let (_, _, time) = time.unwrap_or_else(|| panic!("{group}: {theirs:?}"));
        let time = kbr::base::time::format_instant(kbr::base::TimestampMs(*time));
        let expected = format!("exact: 16 of 16 neighbours match; committed {time}");
        assert_eq!(*how, expected, "{group}: {theirs:?}");
    }

    // Nobody may read it any more.
    let words = ["--add", "--deny-principal", "User:ANONYMOUS"];
    let on = [
        "--operation",
        "Read",
        "--topic",
        "__consumer_offsets",
        "--force",
    ];
    if version == "4.3.0" {
        let closed = RealKafka::start_with(version, 1, &AUTHORIZED);
        let java = Java::of(&closed);
        twice(&java, &topic);
        java.ask(
            json!({ "do": "offsets", "group": "once", "offsets": { format!("{topic}:0"): 10 } }),
        );
        closed.tool(
            "org.apache.kafka.tools.AclCommand",
            &[&words[..], &on].concat(),
        );
        folder.clusters(&[("prod", &closed.bootstrap)]);
        let (to, how) = &planned(&folder, &topic)["once"];
        assert_eq!(*to, 10, "{how}");
        assert!(
            how.ends_with(
                "when it was committed is not told: no right to read __consumer_offsets (TOPIC_AUTHORIZATION_FAILED)"
            ),
            "{how}"
        );
    }
}

const AUTHORIZED: [&str; 2] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
];

/// The same records in a topic and beside it.
fn twice(java: &Java, topic: &str) {
    for name in [topic, &format!("{topic}_dr")] {
        java.create(name, 1, json!({ "retention.ms": "-1" }));
        java.ask(json!({
            "do": "write", "topic": name, "partitions": 1, "count": 100, "time": 1_748_736_000_000_i64, "step": 1000,
        }));
    }
}

/// Where each group goes by a plan onto what is beside it, and how that was found.
fn planned(folder: &Folder, topic: &str) -> BTreeMap<String, (i64, String)> {
    let code = format!(
        "offset_plan(cluster(\"prod\")).groups(\"*\").topics(\"{topic}\").onto(cluster(\"prod\")).strategy(\"cluster-scan\")\
         .remap(#{{ \"{topic}\": \"{topic}_dr\" }})"
    );
    let answer = folder.kbr(&["eval", &code, "--output", "json"]).expect(0);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let plan: Plan = serde_json::from_value(answer["value"].clone()).unwrap();
    let rows = plan.rows.into_iter();
    rows.map(|row| match (row.target, row.why) {
        (Ok(to), Why::Found { how, .. }) => (row.group, (to.0, how)),
        (other, _) => panic!("{other:?}"),
    })
    .collect()
}

/// Group, offset and time of every committed offset on a topic, in the order in which Kafka's formatter prints them.
fn formatted(kafka: &RealKafka, topic: &str) -> Vec<(String, i64, i64)> {
    let words = [
        "--topic",
        "__consumer_offsets",
        "--from-beginning",
        "--isolation-level",
        "read_committed",
        "--timeout-ms",
        "8000",
        "--formatter",
        "org.apache.kafka.tools.consumer.OffsetsMessageFormatter",
    ];
    let text = kafka.tool("kafka-console-consumer", &words);
    // It prints one object right behind the other.
    let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let rows = records.map_while(Result::ok).filter_map(|record| {
        let (key, value) = (&record["key"]["data"], &record["value"]["data"]);
        (key["topic"] == topic).then(|| {
            let group = key["group"].as_str().unwrap().to_string();
            let number = |name: &str| value[name].as_i64().unwrap();
            (group, number("offset"), number("commitTimestamp"))
        })
    });
    rows.collect()
}
