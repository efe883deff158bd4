//! Rows of groups and topics in a plan and in the journal: a hundred thousand committed offsets are one step, and as
//! objects with names they would take gigabytes.
//!
//! `{ "columns": ["partition", …], "groups": { "GROUP": { "TOPIC": [[0, …], …] } } }`

use serde_json::{Map, Value, json};

/// Puts rows together by group and topic; each row has its cells in the order of `columns`.
pub fn grouped_rows<'a>(
    columns: &[&str],
    rows: impl Iterator<Item = (&'a str, &'a str, Vec<Value>)>,
) -> Value {
    let mut groups = Map::new();
    let mut place = ("", "");
    let mut together = Vec::new();
    // Rows come sorted: most belong to where the row before does.
    for (group, topic, cells) in rows {
        if (group, topic) != place {
            put(&mut groups, place, std::mem::take(&mut together));
            place = (group, topic);
        }
        together.push(Value::Array(cells));
    }
    put(&mut groups, place, together);
    let mut grouped = json!({ "columns": columns });
    grouped["groups"] = Value::Object(groups);
    grouped
}

fn put(groups: &mut Map<String, Value>, (group, topic): (&str, &str), more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    let topics = groups.entry(group).or_insert_with(|| json!({}));
    if let Value::Object(topics) = topics
        && let Value::Array(rows) = topics.entry(topic).or_insert_with(|| json!([]))
    {
        rows.extend(more);
    }
}

/// The rows again: group, topic, and the cells of the columns that are asked for, null where there is no such column.
pub fn rows_of<'a, const N: usize>(
    grouped: &'a Value,
    columns: [&str; N],
) -> impl Iterator<Item = (&'a str, &'a str, [&'a Value; N])> {
    let names = grouped["columns"].as_array();
    let places = columns.map(|column| {
        let position = names.map(|names| names.iter().position(|name| name == column));
        position.flatten().unwrap_or(usize::MAX)
    });
    let groups = grouped["groups"].as_object().into_iter().flatten();
    groups.flat_map(move |(group, topics)| {
        let topics = topics.as_object().into_iter().flatten();
        topics.flat_map(move |(topic, rows)| {
            let rows = rows.as_array().into_iter().flatten();
            rows.map(move |row| {
                let cells = places.map(|place| row.get(place).unwrap_or(&Value::Null));
                (group.as_str(), topic.as_str(), cells)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        let rows = [
            ("a", "t", 0, 5),
            ("a", "t", 1, 6),
            ("a", "u", 0, 7),
            ("b", "t", 0, 8),
        ];
        let cells = rows.map(|(group, topic, at, to)| (group, topic, vec![json!(at), json!(to)]));
        let grouped = grouped_rows(&["partition", "to"], cells.into_iter());
        assert_eq!(grouped["groups"]["a"]["t"], json!([[0, 5], [1, 6]]));
        let found: Vec<_> = rows_of(&grouped, ["to", "partition", "gone"])
            .map(|(group, topic, [to, at, gone])| {
                assert!(gone.is_null());
                (group, topic, at.as_i64().unwrap(), to.as_i64().unwrap())
            })
            .collect();
        assert_eq!(found, rows);
        assert_eq!(rows_of(&Value::Null, ["to"]).count(), 0);
    }
}
