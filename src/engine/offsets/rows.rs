//! Rows of a plan in a file: what a person or another tool wrote to be applied, and what goes out for those who have no
//! kbr at hand.
//!
//! The CSV is that of Kafka's `kafka-consumer-groups --export` and `--from-file`: `group,topic,partition,offset`, or
//! without the group where there is only one; no header (one is skipped). The JSON is a list of objects with the same
//! four names.

use super::error::{Error, Result};
use super::plan::Plan;
use crate::base::{Offset, PartitionId, TopicPartition};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where groups are to go, as a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The file, for people.
    origin: String,
    /// By group (`None`: whichever group is chosen) and partition. A plan that was made of them has them in its rows.
    #[serde(skip)]
    rows: Arc<BTreeMap<Option<String>, BTreeMap<TopicPartition, Offset>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    group: Option<String>,
    topic: String,
    partition: i32,
    offset: i64,
}

impl Wanted {
    /// Reads a file's text: JSON if it begins with a bracket, else CSV. `origin` names it in errors.
    pub fn parse(origin: &str, text: &str) -> Result<Self> {
        let wrong = |what: String| Error::Rows {
            origin: origin.to_string(),
            what,
        };
        let rows = match text.trim_start().starts_with('[') {
            true => of_json(text),
            false => of_csv(text),
        }
        .map_err(wrong)?;
        let mut all: BTreeMap<Option<String>, BTreeMap<_, _>> = BTreeMap::new();
        for (line, group, at, offset) in rows {
            if at.partition.0 < 0 || offset < 0 {
                return Err(wrong(format!(
                    "{line}: {at} to {offset}: a number below zero"
                )));
            }
            let of_group = all.entry(group).or_default();
            if of_group.insert(at.clone(), Offset(offset)).is_some() {
                return Err(wrong(format!("{line}: {at} is there twice")));
            }
        }
        if all.is_empty() {
            return Err(wrong("there are no rows in it".to_string()));
        }
        Ok(Self {
            origin: origin.to_string(),
            rows: Arc::new(all),
        })
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The groups that it names.
    pub fn groups(&self) -> Vec<&str> {
        self.rows.keys().flatten().map(String::as_str).collect()
    }

    /// Where a group is to go, and where every group is.
    fn of_group(&self, group: &str) -> impl Iterator<Item = &BTreeMap<TopicPartition, Offset>> {
        let own = self.rows.get(&Some(group.to_string()));
        own.into_iter().chain(self.rows.get(&None))
    }

    pub(super) fn places(&self, group: &str) -> impl Iterator<Item = (&str, PartitionId)> {
        let places = self.of_group(group).flat_map(BTreeMap::keys);
        places.map(|at| (at.topic.as_str(), at.partition))
    }

    pub(super) fn of(&self, group: &str, at: &TopicPartition) -> Option<Offset> {
        self.of_group(group).find_map(|rows| rows.get(at)).copied()
    }
}

type Rows = Vec<(String, Option<String>, TopicPartition, i64)>;

fn of_json(text: &str) -> Result<Rows, String> {
    let rows: Vec<JsonRow> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(at, row)| {
            let place = TopicPartition::new(row.topic, row.partition);
            (format!("row {}", at + 1), row.group, place, row.offset)
        })
        .collect())
}

fn of_csv(text: &str) -> Result<Rows, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut rows = Rows::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, |position| position.line());
        let fields: Vec<&str> = record.iter().collect();
        let (group, topic, partition, offset) = match fields[..] {
            [group, topic, partition, offset] => {
                (Some(group.to_string()), topic, partition, offset)
            }
            [topic, partition, offset] => (None, topic, partition, offset),
            _ => {
                return Err(format!(
                    "line {line} has {} fields; wanted are group,topic,partition,offset, or topic,partition,offset",
                    fields.len()
                ));
            }
        };
        if rows.is_empty() && partition == "partition" && offset == "offset" {
            continue;
        }
        let number = |name: &str, text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("line {line}: {name} is not a number: {text:?}"))
        };
        let partition = number("the partition", partition)?;
        let partition = i32::try_from(partition)
            .map_err(|_| format!("line {line}: there is no partition {partition}"))?;
        let offset = number("the offset", offset)?;
        let place = TopicPartition::new(topic, partition);
        rows.push((format!("line {line}"), group, place, offset));
    }
    Ok(rows)
}

/// Rows that have a target: group, partition, offset.
fn placed(plan: &Plan) -> impl Iterator<Item = (&str, TopicPartition, Offset)> {
    plan.rows.iter().filter_map(|row| {
        let offset = *row.target.as_ref().ok()?;
        Some((row.group.as_str(), row.target_partition(), offset))
    })
}

/// The plan's targets as `group,topic,partition,offset`, which `kafka-consumer-groups --from-file` reads.
pub fn csv(plan: &Plan) -> String {
    lines(placed(plan).map(|(group, at, offset)| {
        vec![
            group.to_string(),
            at.topic,
            at.partition.to_string(),
            offset.to_string(),
        ]
    }))
}

fn lines(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    for row in rows {
        // Into memory nothing fails.
        let _ = writer.write_record(&row);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The plan's targets as a JSON list.
pub fn json(plan: &Plan) -> String {
    let rows: Vec<serde_json::Value> = placed(plan)
        .map(|(group, at, offset)| {
            json!({ "group": group, "topic": at.topic, "partition": at.partition, "offset": offset })
        })
        .collect();
    let mut text = serde_json::Value::from(rows).to_string();
    text.push('\n');
    text
}

/// A shell script for people without kbr: Kafka's own tool, once per group. It is not atomic over groups.
pub fn shell(plan: &Plan) -> String {
    let mut groups: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for (group, at, offset) in placed(plan) {
        groups.entry(group).or_default().push(vec![
            at.topic,
            at.partition.to_string(),
            offset.to_string(),
        ]);
    }
    let mut text = String::from(
        "#!/bin/sh\n\
         # Moves committed offsets with Kafka's own tool: sh THIS_FILE BOOTSTRAP [--execute]\n\
         # Without --execute that tool only shows what it would do.\n\
         # One group after the other, each of them on its own; a group with members is refused by the broker.\n\
         set -eu\n\
         bootstrap=${1:?usage: $0 BOOTSTRAP [--execute]}\n\
         how=${2:---dry-run}\n\
         rows=$(mktemp)\n\
         trap 'rm -f \"$rows\"' EXIT\n",
    );
    for (group, rows) in groups {
        text.push_str(&format!(
            "\ncat > \"$rows\" <<'END_OF_ROWS'\n{}END_OF_ROWS\n\
             kafka-consumer-groups.sh --bootstrap-server \"$bootstrap\" --group {} --reset-offsets --from-file \"$rows\" \"$how\"\n",
            lines(rows.into_iter()),
            quoted(group)
        ));
    }
    text
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Wanted, String> {
        Wanted::parse("rows", text).map_err(|error| error.to_string())
    }

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    #[test]
    fn the_forms_of_kafkas_own_tool_are_read() {
        let with_groups =
            "group,topic,partition,offset\n\"a,b\",orders,0,17\n# later\nc, orders ,1,0\n";
        let wanted = read(with_groups).unwrap();
        assert_eq!(wanted.groups(), ["a,b", "c"]);
        assert_eq!(wanted.of("a,b", &at("orders", 0)), Some(Offset(17)));
        assert_eq!(wanted.of("c", &at("orders", 0)), None);
        let without = read("orders,0,17\norders,1,18").unwrap();
        assert_eq!(without.of("whoever", &at("orders", 1)), Some(Offset(18)));
        assert_eq!(without.places("whoever").count(), 2);
        let json = r#" [{"group":"c","topic":"orders","partition":1,"offset":5}]"#;
        assert_eq!(
            read(json).unwrap().of("c", &at("orders", 1)),
            Some(Offset(5))
        );
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_line() {
        let cases = [
            ("orders,0", "line 1 has 2 fields"),
            (
                "orders,0,1\norders,x,1",
                "line 2: the partition is not a number",
            ),
            ("orders,0,1\norders,0,2", "line 2: orders-0 is there twice"),
            ("orders,0,-1", "below zero"),
            ("orders,99999999999,1", "there is no partition"),
            ("topic,partition,offset\n", "no rows"),
            ("", "no rows"),
            (
                r#"[{"topic":"orders","partition":0}]"#,
                "missing field `offset`",
            ),
            (
                r#"[{"topic":"orders","partition":0,"offset":1,"lag":2}]"#,
                "unknown field",
            ),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_survive_the_shell() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
