//! The main job on two real Kafka clusters: back up one, fail over to the other, and let clients of other
//! people's making (kcat, Kafka's own tools, its Java client) say whether everything arrived.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::{Folder, RealKafka, unique};

/// Every topic of the data set, and whether a restore of it can keep the record's timestamp type.
const TOPICS: [&str; 13] = [
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
    "empty",
    "compacted",
];
const GROUPS: [&str; 3] = ["checkout", "audit", "late"];

#[test]
fn the_hard_data_set_survives_a_failover_record_by_record() {
    the_hard_data_set_survives(&RealKafka::source(), &RealKafka::target());
}

#[test]
fn the_hard_data_set_survives_a_failover_to_an_older_kafka() {
    the_hard_data_set_survives(&RealKafka::source(), &RealKafka::old());
}

#[test]
fn the_hard_data_set_survives_a_failover_to_a_newer_kafka() {
    the_hard_data_set_survives(&RealKafka::old(), &RealKafka::target());
}

fn the_hard_data_set_survives(source: &RealKafka, target: &RealKafka) {
    let prefix = format!("{}.", unique("hard"));
    source.helper("dataset", &["--prefix", &prefix]);
    let folder = Folder::new();
    folder.clusters(&[("prod", &source.bootstrap), ("dr", &target.bootstrap)]);
    folder.write(
        "backup.rhai",
        &format!("backup(cluster(\"prod\")).topics(\"{prefix}*\").groups(\"{prefix}*\").to(store(\"file:archive\"));\n"),
    );
    folder.write(
        "failover.rhai",
        &format!(
            r#"
            let dr = cluster("dr");
            let snap = store("file:archive").latest();
            let data = restore(snap)
                .topics("{prefix}*")
                .remap(#{{ "{prefix}keys": "{prefix}keys_dr" }})
                .to(dr);
            let moved = offset_plan(data).groups("{prefix}*").strategy("exact");
            print(moved);
            confirm(`Move ${{moved.group_names.len()}} groups on ${{dr.name}}?`);
            moved.reset();
            "#
        ),
    );

    folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);

    // A dry run: a plan with a digest, and a target that is as it was.
    let dry = folder.kbr(&["run", "failover.rhai"]).expect(0);
    let digest = dry.digest();
    assert_eq!(topics_of(target, &prefix), Vec::<String>::new());
    let again = folder.kbr(&["run", "failover.rhai"]).expect(0);
    assert_eq!(again.digest(), digest, "the same plan has the same digest");

    // Nobody to ask, then somebody who approved another plan: no effect at all.
    folder.kbr(&["run", "failover.rhai", "--execute"]).expect(3);
    let other = "0123456789ab";
    folder
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", other])
        .expect(4);
    assert_eq!(topics_of(target, &prefix), Vec::<String>::new());
    assert_eq!(groups_of(target, &prefix), Vec::<String>::new());

    folder
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(0);

    let names = TOPICS.map(|topic| format!("{prefix}{topic}"));
    let new_names = names.clone().map(|name| renamed(&name));
    let (before, after) = (Dump::of(source, &names), Dump::of(target, &new_names));
    let (configs_before, configs_after) = (overrides(source), overrides(target));
    for (from, to) in names.iter().zip(&new_names) {
        assert_eq!(
            before.topic(from).is_empty(),
            from.ends_with("empty"),
            "{from}"
        );
        compare_records(before.topic(from), after.topic(to), to);
        compare_by_kcat(source, from, target, to);
        // The topic's own settings are those of the source again once everything is written.
        assert_eq!(
            configs_before.get(from),
            configs_after.get(to),
            "configs of {to}"
        );
    }
    for group in GROUPS {
        let group = format!("{prefix}{group}");
        compare_next_records(source, target, &group);
        compare_with_kafka_consumer_groups(source, target, &group, &after);
    }

    // The same plan a second time: the world is no longer the one it was made for.
    let second = folder.kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest]);
    assert_ne!(second.code, 0, "{}", second.text());
}

#[test]
fn the_shipped_examples_back_up_and_fail_over_a_shop() {
    let source = RealKafka::start("4.3.0", 1);
    let target = RealKafka::start("4.3.0", 1);
    source.helper(
        "seed",
        &[concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seed.json")],
    );
    let folder = Folder::new();
    for name in ["backup.rhai", "dr-failover.rhai", "kbr.toml", "seed.json"] {
        let text =
            std::fs::read_to_string(format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR")));
        folder.write(name, &text.unwrap());
    }
    folder.set("PROD_BOOTSTRAP", &source.bootstrap);
    folder.set("DR_BOOTSTRAP", &target.bootstrap);

    folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let digest = folder.kbr(&["run", "dr-failover.rhai"]).expect(0).digest();
    folder
        .kbr(&[
            "run",
            "dr-failover.rhai",
            "--execute",
            "--confirm",
            &digest[..12],
        ])
        .expect(0);

    // The filter left out the one poisoned record, everything else is there under the new name.
    let before = Dump::of(&source, &["orders", "payments-eu"]);
    let after = Dump::of(&target, &["orders_dr", "payments-eu"]);
    let orders = before.topic("orders");
    let poison = Value::from("cG9pc29u");
    let kept: Vec<Value> = orders
        .iter()
        .filter(|record| record["key"] != poison)
        .cloned()
        .collect();
    assert_eq!(orders.len(), kept.len() + 1);
    compare_records(&kept, after.topic("orders_dr"), "orders_dr");
    compare_records(
        before.topic("payments-eu"),
        after.topic("payments-eu"),
        "payments-eu",
    );
    for group in ["checkout-api", "checkout-audit"] {
        compare_next_records(&source, &target, group);
    }
    assert_eq!(groups_of(&target, ""), ["checkout-api", "checkout-audit"]);
}

#[test]
fn on_a_terminal_the_word_that_the_gate_names_approves_and_another_does_not() {
    let (source, target) = (RealKafka::source(), RealKafka::target());
    let topic = unique("terminal");
    let group = format!("{topic}-group");
    source.tool(
        "kafka-topics",
        &["--create", "--topic", &topic, "--partitions", "1"],
    );
    source.kcat(&["-P", "-t", &topic, "-p", "0"], "one\ntwo\nthree\n");
    source.helper("commit", &["--group", &group, &format!("{topic}:0:2:note")]);
    let folder = Folder::new();
    folder.clusters(&[("prod", &source.bootstrap), ("dr", &target.bootstrap)]);
    folder.write(
        "backup.rhai",
        &format!("backup(cluster(\"prod\")).topics(\"{topic}\").groups(\"{group}\").to(store(\"file:archive\"));\n"),
    );
    folder.write(
        "failover.rhai",
        &format!(
            r#"
            let dr = cluster("dr");
            let data = restore(store("file:archive").latest()).topics("{topic}").to(dr);
            let moved = offset_plan(data).groups("{group}");
            confirm(`Move ${{moved.group_names.len()}} group on ${{dr.name}}?`);
            moved.reset();
            "#
        ),
    );
    folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);

    let refused = folder.kbr_on_terminal(&["run", "failover.rhai", "--execute"], &["no"]);
    assert_eq!(refused.code, 3, "{}", refused.stdout);
    assert_eq!(
        groups_of(&target, &group),
        Vec::<String>::new(),
        "{}",
        refused.stdout
    );
    assert_eq!(
        Dump::of(&target, &[&topic]).topic(&topic).len(),
        3,
        "the steps before the gate ran"
    );

    target.tool("kafka-topics", &["--delete", "--topic", &topic]);
    let approved =
        folder.kbr_on_terminal(&["run", "failover.rhai", "--execute"], &["nonsense", "dr"]);
    assert_eq!(approved.code, 0, "{}", approved.stdout);
    assert!(
        approved.stdout.contains("Type the cluster's name (dr)"),
        "{}",
        approved.stdout
    );
    compare_next_records(&source, &target, &group);
}

// ------------------------------------------------------------------------------------------ comparisons

fn renamed(topic: &str) -> String {
    match topic.ends_with("keys") {
        true => format!("{topic}_dr"),
        false => topic.to_string(),
    }
}

fn topics_of(cluster: &RealKafka, prefix: &str) -> Vec<String> {
    let listed = cluster.tool("kafka-topics", &["--list"]);
    lines_with(&listed, prefix)
}

fn groups_of(cluster: &RealKafka, prefix: &str) -> Vec<String> {
    let listed = cluster.tool("kafka-consumer-groups", &["--list"]);
    lines_with(&listed, prefix)
}

fn lines_with(text: &str, prefix: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && line.starts_with(prefix))
        .map(str::to_string)
        .collect();
    found.sort();
    found
}

/// Every record of some topics as a read_committed Java consumer sees it.
struct Dump(BTreeMap<String, Vec<Value>>);

impl Dump {
    fn of(cluster: &RealKafka, topics: &[impl AsRef<str>]) -> Self {
        let names: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let lines = cluster.helper("dump", &["--topic", &names.join(",")]);
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in lines.lines() {
            let mut record: Value = serde_json::from_str(line).unwrap();
            let Some(Value::String(topic)) = record.as_object_mut().unwrap().remove("topic") else {
                panic!("no topic in {line}");
            };
            found.entry(topic).or_default().push(record);
        }
        Self(found)
    }

    fn topic(&self, name: &str) -> &[Value] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Offsets differ wherever the source had gaps; the timestamp's type becomes CreateTime, its value stays.
fn without_offsets(records: &[Value]) -> Vec<Value> {
    let mut records = records.to_vec();
    for record in &mut records {
        let fields = record.as_object_mut().unwrap();
        fields.remove("offset");
        fields.remove("type");
    }
    records
}

fn compare_records(expected: &[Value], found: &[Value], topic: &str) {
    assert_eq!(expected.len(), found.len(), "{topic}: number of records");
    for (expected, found) in without_offsets(expected).iter().zip(without_offsets(found)) {
        assert_eq!(*expected, found, "{topic}");
    }
    // Dense from the first: nothing lies between the records of a restored partition.
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    for record in found {
        let place = next
            .entry(record["partition"].as_i64().unwrap())
            .or_default();
        assert_eq!(record["offset"].as_i64().unwrap(), *place, "{topic}");
        *place += 1;
    }
}

/// The same through librdkafka: partition by partition in order, with times, lengths, keys, values, headers.
fn compare_by_kcat(source: &RealKafka, from: &str, target: &RealKafka, to: &str) {
    let partitions = source.kcat(&["-L", "-t", from], "");
    let count = partitions
        .lines()
        .filter(|line| line.trim_start().starts_with("partition "))
        .count();
    assert!(count > 0, "{partitions}");
    for partition in 0..count {
        let read = |cluster: &RealKafka, topic: &str| {
            // %K and %S are the lengths of key and value, -1 for null: null and empty differ.
            let arguments = format!(
                "-C -t {topic} -p {partition} -o beginning -e -q \
                 -X isolation.level=read_committed -X fetch.wait.max.ms=10"
            );
            let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
            arguments.extend(["-f", "%p %T %K %S [%k] [%s] [%h]\\n"]);
            cluster.kcat(&arguments, "")
        };
        assert_eq!(
            read(source, from),
            read(target, to),
            "{to} partition {partition}"
        );
    }
}

/// What is set for each topic itself, as Kafka's own tool tells it.
fn overrides(cluster: &RealKafka) -> BTreeMap<String, Vec<String>> {
    let text = cluster.tool("kafka-configs", &["--entity-type", "topics", "--describe"]);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut topic = String::new();
    for line in text.lines() {
        match line.strip_prefix("Dynamic configs for topic ") {
            Some(rest) => topic = rest.split_whitespace().next().unwrap().to_string(),
            None => {
                let setting = line.trim().split(" sensitive=").next().unwrap();
                found
                    .entry(topic.clone())
                    .or_default()
                    .push(setting.to_string());
            }
        }
    }
    found.values_mut().for_each(|settings| settings.sort());
    found
}

/// The record that each partition of a group reads next is the one it would have read at the source.
fn compare_next_records(source: &RealKafka, target: &RealKafka, group: &str) {
    let next = |cluster: &RealKafka| -> BTreeMap<(String, i64), (Value, Value)> {
        let text = cluster.helper("next", &["--group", group]);
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let topic = line["topic"].as_str().unwrap();
            let topic = topic.strip_suffix("_dr").unwrap_or(topic).to_string();
            let record = match &line["next"] {
                Value::Null => Value::Null,
                record => without_offsets(std::slice::from_ref(record)).remove(0),
            };
            found.insert(
                (topic, line["partition"].as_i64().unwrap()),
                (record, line["metadata"].clone()),
            );
        }
        found
    };
    let expected = next(source);
    assert!(
        !expected.is_empty(),
        "{group} has committed nothing at the source"
    );
    assert_eq!(expected, next(target), "what {group} reads next");
}

/// Kafka's own tool sees the group at the target with the same lag, since everything behind it was restored.
fn compare_with_kafka_consumer_groups(
    source: &RealKafka,
    target: &RealKafka,
    group: &str,
    after: &Dump,
) {
    let rows = |cluster: &RealKafka| -> BTreeMap<(String, String), (i64, i64)> {
        let text = cluster.tool(
            "kafka-consumer-groups",
            &["--describe", "--group", group, "--offsets"],
        );
        let mut found = BTreeMap::new();
        for line in text.lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns.len() > 5 && columns[0] == group {
                let topic = columns[1].strip_suffix("_dr").unwrap_or(columns[1]);
                let numbers = (columns[3].parse().unwrap(), columns[4].parse().unwrap());
                found.insert((topic.to_string(), columns[2].to_string()), numbers);
            }
        }
        found
    };
    let (expected, found) = (rows(source), rows(target));
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>(),
        "{group}"
    );
    for ((topic, partition), (committed, end)) in found {
        let partition: i64 = partition.parse().unwrap();
        let remaining = after
            .topic(&renamed(&topic))
            .iter()
            .filter(|record| record["partition"] == partition)
            .filter(|record| record["offset"].as_i64().unwrap() >= committed)
            .count();
        assert_eq!(
            end - committed,
            remaining as i64,
            "{group} on {topic}: the lag is made of records only"
        );
    }
}
