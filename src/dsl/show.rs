//! Values as people and machines see them: one line, a table, JSON.
//!
//! A value of kbr's own shows its properties in the order of the table; those marked as columns make the columns.

use super::kind::Kind;
use super::table::{self as registry, Entry, Form};
use super::values;
use crate::base::text::grouped;
use rhai::{Array, Dynamic, Map};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
    if list.is_empty() {
        return "(none)".to_string();
    }
    if let Some(table) = table_of(list) {
        return table_text(&table.header, &table.rows, &table.numeric);
    }
    if list.iter().all(|member| Kind::of(member) == Kind::Text) {
        return list.iter().map(cell).collect::<Vec<_>>().join("\n");
    }
    let members: Vec<String> = list.iter().map(quoted).collect();
    format!("[{}]", members.join(", "))
}

/// A list of kbr's own values as rows.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    numeric: Vec<bool>,
    /// What records hold, which has no end: these columns may be cut. Names never are.
    cuttable: Vec<bool>,
}

/// The table of a value that is shown as one.
pub fn table(value: &Dynamic) -> Option<Table> {
    table_of(&*value.read_lock::<Array>()?)
}

fn table_of(list: &Array) -> Option<Table> {
    let kind = Kind::of(list.first()?);
    let columns: Vec<&Entry> = columns(kind).collect();
    if columns.len() < 2 || list.iter().any(|member| Kind::of(member) != kind) {
        return None;
    }
    let rows: Vec<Vec<Dynamic>> = list
        .iter()
        .map(|member| {
            let cells = columns.iter();
            cells.map(|entry| property(entry, member)).collect()
        })
        .collect();
    let is_numeric = |column: usize| {
        let mut kinds = rows.iter().map(|row| Kind::of(&row[column]));
        let is_number = |kind| matches!(kind, Kind::Number | Kind::Nothing);
        // A column of nothing but dashes is what it would be with something in it.
        kinds.clone().all(is_number)
            && (columns[column].returns == Kind::Number || kinds.any(|kind| kind == Kind::Number))
    };
    Some(Table {
        header: columns.iter().map(|entry| entry.name.to_string()).collect(),
        numeric: (0..columns.len()).map(is_numeric).collect(),
        cuttable: columns
            .iter()
            .map(|entry| entry.returns == Kind::Any)
            .collect(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(table_cell).collect())
            .collect(),
    })
}

/// In a table a row is one line, and nothing is a dash.
fn table_cell(value: &Dynamic) -> String {
    match Kind::of(value) {
        Kind::Nothing => "-".to_string(),
        _ => cell(value)
            .replace('\n', "\\n")
            .replace('\r', "\\r")
            .replace('\t', "\\t"),
    }
}

impl Table {
    /// No column is cut to less.
    const NARROWEST: usize = 12;

    /// The text with long cells cut, so that lines are at most so wide where that is possible; `None` if nothing needs
    /// to be cut.
    pub fn within(&self, columns: usize) -> Option<String> {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].width());
            cells.max().unwrap_or(0).max(self.header[column].width())
        };
        let natural: Vec<usize> = (0..self.header.len()).map(natural).collect();
        let between = 2 * natural.len().saturating_sub(1);
        if natural.iter().sum::<usize>() + between <= columns {
            return None;
        }
        let fixed = natural.iter().zip(&self.cuttable);
        let fixed: usize = fixed
            .filter(|(_, cut)| !**cut)
            .map(|(width, _)| width)
            .sum();
        let mut room = columns.saturating_sub(fixed + between);
        // The narrow ones first: what they leave is for the others.
        let mut open: Vec<usize> = (0..natural.len()).filter(|c| self.cuttable[*c]).collect();
        open.sort_by_key(|column| natural[*column]);
        let mut widths = natural.clone();
        for (index, column) in open.iter().enumerate() {
            let share = (room / (open.len() - index)).max(Self::NARROWEST);
            widths[*column] = natural[*column].min(share);
            room = room.saturating_sub(widths[*column]);
        }
        if widths == natural {
            return None;
        }
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                let cells = row.iter().zip(&widths);
                cells.map(|(cell, width)| cut(cell, *width)).collect()
            })
            .collect();
        Some(table_text(&self.header, &rows, &self.numeric))
    }
}

/// At most so many columns, the last of them `…` where something is left out.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_string();
    }
    let mut out = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
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
    registry::members(kind).filter(|entry| entry.form == Form::Property { column: true })
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
            registry::members(own)
                .filter(|entry| entry.is_property())
                .map(|entry| (entry.name.to_string(), json(&property(entry, value))))
                .collect(),
        ),
        _ => Value::from(cell(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(key: &str, value: &str) -> Table {
        Table {
            header: ["offset", "key", "value"].map(str::to_string).to_vec(),
            rows: vec![vec!["7".into(), key.into(), value.into()]],
            numeric: vec![true, false, false],
            cuttable: vec![false, true, true],
        }
    }

    #[test]
    fn what_a_record_holds_is_cut_to_the_width_and_names_are_not() {
        let long = "x".repeat(200);
        let drawn = records("k1", &long).within(60).unwrap();
        let row = drawn.lines().nth(1).unwrap();
        assert_eq!(row.width(), 60);
        assert!(
            row.starts_with("     7  k1   xxx") && row.ends_with("xx…"),
            "{row}"
        );
        // Both are long: they share.
        let row = records(&long, &long).within(60).unwrap();
        assert_eq!(row.matches('…').count(), 2);
        assert_eq!(records("k1", "v1").within(60), None);
        let names = Table {
            cuttable: vec![false; 3],
            ..records("k1", &long)
        };
        assert_eq!(names.within(60), None);
    }

    #[test]
    fn wide_characters_are_cut_by_the_columns_they_take() {
        assert_eq!(cut("受注受注", 6), "受注…");
        assert_eq!(cut("受注", 4), "受注");
    }
}
