//! Values as people and machines see them: one line, a table, JSON.
//!
//! A value of kbr's own shows its properties in the order of the table; those marked as columns make the columns.

use super::kind::Kind;
use super::table::{self, Entry, Form};
use super::values;
use crate::base::text::grouped;
use rhai::{Array, Dynamic, Map};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// The text of a value: a table for lists of kbr's own values, one line for the rest.
pub fn text(value: &Dynamic) -> String {
    let kind = Kind::of(value);
    if kind == Kind::List
        && let Some(list) = value.read_lock::<Array>()
    {
        return list_text(&list);
    }
    if kind == Kind::OffsetPlan
        && let Some(plan) = value.read_lock::<values::OffsetPlan>()
    {
        return plan.table_text();
    }
    cell(value)
}

fn list_text(list: &Array) -> String {
    let Some(first) = list.first() else {
        return "(none)".to_string();
    };
    let kind = Kind::of(first);
    let columns: Vec<&Entry> = columns(kind).collect();
    if columns.len() < 2 || list.iter().any(|member| Kind::of(member) != kind) {
        if list.iter().all(|member| Kind::of(member) == Kind::Text) {
            return list.iter().map(cell).collect::<Vec<_>>().join("\n");
        }
        let members: Vec<String> = list.iter().map(quoted).collect();
        return format!("[{}]", members.join(", "));
    }
    let header: Vec<String> = columns.iter().map(|entry| entry.name.to_string()).collect();
    let rows: Vec<Vec<Dynamic>> = list
        .iter()
        .map(|member| {
            columns
                .iter()
                .map(|entry| property(entry, member))
                .collect()
        })
        .collect();
    let numeric: Vec<bool> = (0..columns.len())
        .map(|column| {
            rows.iter()
                .all(|row| matches!(Kind::of(&row[column]), Kind::Number | Kind::Nothing))
        })
        .collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(cell).collect())
        .collect();
    table_text(&header, &rows, &numeric)
}

/// Columns aligned with two spaces between; numbers to the right.
pub fn table_text(header: &[String], rows: &[Vec<String>], numeric: &[bool]) -> String {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            rows.iter()
                .map(|row| row[column].width())
                .chain([title.width()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let padding = " ".repeat(widths[column].saturating_sub(cell.width()));
            if column > 0 {
                text.push_str("  ");
            }
            if numeric[column] {
                text.push_str(&padding);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&padding);
            }
        }
        text.trim_end().to_string()
    };
    let mut lines = vec![line(header)];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}

/// The columns of a kind's tables.
fn columns(kind: Kind) -> impl Iterator<Item = &'static Entry> {
    table::members(kind).filter(|entry| entry.form == Form::Property { column: true })
}

/// A property that needs no evaluation around it; `()` if it does.
fn property(entry: &'static Entry, of: &Dynamic) -> Dynamic {
    match super::engine::read_property(entry, of) {
        Ok(value) => value,
        Err(failure) if failure.stops => Dynamic::from("known after execution"),
        Err(_) => Dynamic::UNIT,
    }
}

fn quoted(value: &Dynamic) -> String {
    if Kind::of(value) == Kind::Text {
        format!("{:?}", cell(value))
    } else {
        cell(value)
    }
}

/// One value on one line.
pub fn cell(value: &Dynamic) -> String {
    match Kind::of(value) {
        Kind::Nothing => "()".to_string(),
        Kind::Flag => value
            .as_bool()
            .map_or_else(|_| String::new(), |flag| flag.to_string()),
        Kind::Number => value.as_int().map_or_else(|_| String::new(), grouped),
        Kind::Text => value.clone().into_string().unwrap_or_default(),
        Kind::Bytes => {
            let length = value.as_blob_ref().map_or(0, |bytes| bytes.len());
            format!("<{}>", crate::base::text::counted(length as i64, "byte"))
        }
        Kind::List => value.read_lock::<Array>().map_or_else(String::new, |list| {
            let members: Vec<String> = list.iter().map(quoted).collect();
            format!("[{}]", members.join(", "))
        }),
        Kind::Map => value.read_lock::<Map>().map_or_else(String::new, |map| {
            let members: Vec<String> = map
                .iter()
                .map(|(name, member)| format!("{name}: {}", quoted(member)))
                .collect();
            format!("#{{{}}}", members.join(", "))
        }),
        Kind::Closure => "a closure".to_string(),
        Kind::Duration => shown::<values::Duration>(value),
        Kind::Instant => shown::<values::Instant>(value),
        Kind::Size => shown::<values::Size>(value),
        Kind::Secret => shown::<values::SecretValue>(value),
        Kind::Arguments => "args".to_string(),
        Kind::Failure => value
            .read_lock::<super::failure::Failure>()
            .map_or_else(String::new, |failure| failure.message.clone()),
        Kind::Decimal | Kind::Character | Kind::Range | Kind::Any => value.to_string(),
        own => {
            let members: Vec<String> = columns(own)
                .map(|entry| format!("{}: {}", entry.name, quoted(&property(entry, value))))
                .collect();
            if members.is_empty() {
                own.phrase().to_string()
            } else {
                format!("{} {{ {} }}", own.word(), members.join(", "))
            }
        }
    }
}

fn shown<T: std::fmt::Display + Clone + Send + Sync + 'static>(value: &Dynamic) -> String {
    value
        .read_lock::<T>()
        .map_or_else(String::new, |value| value.to_string())
}

/// For `--output json`: numbers stay numbers, offsets keep every digit, secrets are their names.
pub fn json(value: &Dynamic) -> Value {
    match Kind::of(value) {
        Kind::Nothing => Value::Null,
        Kind::Flag => value.as_bool().map_or(Value::Null, Value::Bool),
        Kind::Number => value.as_int().map_or(Value::Null, Value::from),
        Kind::Decimal => value.as_float().map_or(Value::Null, Value::from),
        Kind::Bytes => value.as_blob_ref().map_or(Value::Null, |bytes| {
            use base64::Engine as _;
            Value::from(base64::engine::general_purpose::STANDARD.encode(bytes.as_slice()))
        }),
        Kind::List => value.read_lock::<Array>().map_or(Value::Null, |list| {
            Value::Array(list.iter().map(json).collect())
        }),
        Kind::Map => value.read_lock::<Map>().map_or(Value::Null, |map| {
            Value::Object(
                map.iter()
                    .map(|(name, member)| (name.to_string(), json(member)))
                    .collect(),
            )
        }),
        Kind::Duration => value
            .read_lock::<values::Duration>()
            .map_or(Value::Null, |duration| Value::from(duration.0)),
        Kind::Size => value
            .read_lock::<values::Size>()
            .map_or(Value::Null, |size| Value::from(size.0)),
        Kind::OffsetPlan => value
            .read_lock::<values::OffsetPlan>()
            .map_or(Value::Null, |plan| plan.json()),
        own if columns(own).next().is_some() => Value::Object(
            table::members(own)
                .filter(|entry| entry.is_property())
                .map(|entry| (entry.name.to_string(), json(&property(entry, value))))
                .collect(),
        ),
        _ => Value::from(cell(value)),
    }
}
