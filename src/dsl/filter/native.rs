//! A filter closure as a small tree of its own, evaluated without the interpreter.
//!
//! It never decides what the interpreter would not: wherever a value is of an unexpected kind, missing, or the
//! interpreter would fail, it gives up on the record ([`GaveUp`]), and the interpreter decides or words the error.
//! So the two can differ only where this file answers, and there a test compares them.

use super::json::{self, Found, Step};
use crate::dsl::operators;
use crate::record::Record;
use regex::Regex;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::HashSet;

/// The interpreter must look at this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp;

/// A value while a record is looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Val<'a> {
    Nothing,
    Flag(bool),
    Number(i64),
    Decimal(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    /// Milliseconds since the epoch.
    Instant(i64),
    /// Milliseconds.
    Duration(i64),
    /// A list or a map of JSON: only whether it is there can be asked.
    Many,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// What a text answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextProperty {
    IsEmpty,
    /// In characters.
    Length,
    Bytes,
    ParseInt,
    ToLower,
    ToUpper,
}

#[derive(Clone, Debug)]
pub enum Node {
    Constant(Val<'static>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    /// The last one under the name.
    Header(String),
    /// What a `let` before it has.
    Slot(usize),
    Let(Box<Node>, Box<Node>),
    /// `.ms` of an instant or a duration.
    Milliseconds(Box<Node>),
    Json {
        text: Box<Node>,
        path: Vec<Step>,
        /// For a member that is not there; without it the interpreter words the error.
        absent: Option<Box<Node>>,
    },
    HasJson(Vec<Step>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Against one text, which is what filters do most.
    TextIs(Box<Node>, Box<str>, bool),
    Among(Box<Node>, Vec<Val<'static>>),
    AmongTexts(Box<Node>, HashSet<Box<str>>),
    AmongNumbers(Box<Node>, HashSet<i64>),
    /// From, to (exclusive).
    Within(Box<Node>, i64, i64),
    /// From, to (inclusive).
    WithinInclusive(Box<Node>, i64, i64),
    Test(TextTest, Box<Node>, Box<Node>),
    Property(TextProperty, Box<Node>),
    Matches(Box<Node>, Regex),
    Compute(Arithmetic, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Coalesce(Vec<Node>),
    If(Box<(Node, Node, Node)>),
}

/// A record, and what has been found out about it.
pub struct Row<'a> {
    topic: &'a str,
    partition: i32,
    record: &'a Record<'a>,
    /// Checked for UTF-8 once, however often it is looked at.
    value: Cell<Option<Option<&'a str>>>,
    slots: RefCell<Vec<Val<'a>>>,
}

impl<'a> Row<'a> {
    pub fn new(topic: &'a str, partition: i32, record: &'a Record<'a>) -> Self {
        Self {
            topic,
            partition,
            record,
            value: Cell::new(None),
            slots: RefCell::new(Vec::new()),
        }
    }

    fn value(&self) -> Val<'a> {
        let Some(bytes) = self.record.value else {
            return Val::Nothing;
        };
        let text = match self.value.get() {
            Some(text) => text,
            None => {
                let text = std::str::from_utf8(bytes).ok();
                self.value.set(Some(text));
                text
            }
        };
        text.map_or(Val::Bytes(bytes), |text| Val::Text(Cow::Borrowed(text)))
    }
}

fn of_bytes(bytes: Option<&[u8]>) -> Val<'_> {
    match bytes {
        None => Val::Nothing,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Val::Text(Cow::Borrowed(text)),
            Err(_) => Val::Bytes(bytes),
        },
    }
}

impl Node {
    /// What the filter answers, if it can be told here.
    pub fn keep<'a>(&'a self, row: &Row<'a>) -> Result<bool, GaveUp> {
        self.flag(row)
    }

    fn flag<'a>(&'a self, row: &Row<'a>) -> Result<bool, GaveUp> {
        match self.value(row)? {
            Val::Flag(flag) => Ok(flag),
            _ => Err(GaveUp),
        }
    }

    fn text<'a>(&'a self, row: &Row<'a>) -> Result<Cow<'a, str>, GaveUp> {
        match self.value(row)? {
            Val::Text(text) => Ok(text),
            _ => Err(GaveUp),
        }
    }

    fn value<'a>(&'a self, row: &Row<'a>) -> Result<Val<'a>, GaveUp> {
        Ok(match self {
            Node::Constant(value) => borrowed(value),
            Node::Topic => Val::Text(Cow::Borrowed(row.topic)),
            Node::Partition => Val::Number(i64::from(row.partition)),
            Node::Offset => Val::Number(row.record.offset),
            Node::Timestamp => Val::Instant(row.record.timestamp),
            Node::Key => of_bytes(row.record.key),
            Node::Value => row.value(),
            Node::Header(name) => {
                let named = row.record.headers.iter();
                let named = named.filter(|header| named_as(header.key, name));
                named.last().map_or(Val::Nothing, |it| of_bytes(it.value))
            }
            Node::Slot(slot) => row.slots.borrow().get(*slot).cloned().ok_or(GaveUp)?,
            Node::Let(value, then) => {
                let value = value.value(row)?;
                row.slots.borrow_mut().push(value);
                let answer = then.value(row);
                row.slots.borrow_mut().pop();
                answer?
            }
            Node::Milliseconds(of) => match of.value(row)? {
                Val::Instant(ms) | Val::Duration(ms) => Val::Number(ms),
                _ => return Err(GaveUp),
            },
            Node::Json { text, path, absent } => match (member(text, path, row)?, absent) {
                (Some(value), _) => value,
                (None, Some(otherwise)) => otherwise.value(row)?,
                (None, None) => return Err(GaveUp),
            },
            Node::HasJson(path) => match row.record.value {
                None => Val::Flag(false),
                Some(_) => Val::Flag(member(&Node::Value, path, row)?.is_some()),
            },
            Node::Compare(comparison, left, right) => {
                Val::Flag(compare(*comparison, &left.value(row)?, &right.value(row)?)?)
            }
            Node::TextIs(left, text, wanted) => match left.value(row)? {
                Val::Text(left) => Val::Flag((left.as_ref() == text.as_ref()) == *wanted),
                Val::Nothing => Val::Flag(!*wanted),
                _ => return Err(GaveUp),
            },
            Node::Among(value, list) => {
                let value = value.value(row)?;
                for member in list {
                    if compare(Comparison::Equal, member, &value)? {
                        return Ok(Val::Flag(true));
                    }
                }
                Val::Flag(false)
            }
            Node::AmongTexts(value, texts) => match value.value(row)? {
                Val::Text(text) => Val::Flag(texts.contains(text.as_ref())),
                Val::Nothing => Val::Flag(false),
                _ => return Err(GaveUp),
            },
            Node::AmongNumbers(value, numbers) => match value.value(row)? {
                Val::Number(number) => Val::Flag(numbers.contains(&number)),
                Val::Nothing => Val::Flag(false),
                _ => return Err(GaveUp),
            },
            Node::Within(value, from, to) => match value.value(row)? {
                Val::Number(number) => Val::Flag((*from..*to).contains(&number)),
                _ => return Err(GaveUp),
            },
            Node::WithinInclusive(value, from, to) => match value.value(row)? {
                Val::Number(number) => Val::Flag((*from..=*to).contains(&number)),
                _ => return Err(GaveUp),
            },
            Node::Test(test, of, what) => {
                let (of, what) = (of.text(row)?, what.text(row)?);
                Val::Flag(match test {
                    TextTest::Contains => of.contains(what.as_ref()),
                    TextTest::StartsWith => of.starts_with(what.as_ref()),
                    TextTest::EndsWith => of.ends_with(what.as_ref()),
                })
            }
            Node::Property(property, of) => property.of(of.text(row)?)?,
            Node::Matches(of, regex) => Val::Flag(regex.is_match(&of.text(row)?)),
            Node::Compute(how, left, right) => {
                compute(*how, &left.value(row)?, &right.value(row)?)?
            }
            Node::Negate(of) => match of.value(row)? {
                Val::Number(number) => Val::Number(number.checked_neg().ok_or(GaveUp)?),
                Val::Decimal(number) => Val::Decimal(-number),
                _ => return Err(GaveUp),
            },
            Node::Not(of) => Val::Flag(!of.flag(row)?),
            Node::And(parts) => {
                for part in parts {
                    if !part.flag(row)? {
                        return Ok(Val::Flag(false));
                    }
                }
                Val::Flag(true)
            }
            Node::Or(parts) => {
                for part in parts {
                    if part.flag(row)? {
                        return Ok(Val::Flag(true));
                    }
                }
                Val::Flag(false)
            }
            Node::Coalesce(parts) => {
                for part in parts {
                    match part.value(row)? {
                        Val::Nothing => {}
                        value => return Ok(value),
                    }
                }
                Val::Nothing
            }
            Node::If(parts) => {
                let (condition, then, otherwise) = &**parts;
                if condition.flag(row)? {
                    then.value(row)?
                } else {
                    otherwise.value(row)?
                }
            }
        })
    }
}

/// A header's name as scripts see it: bytes that are no UTF-8 are replaced, and such a name is left to the interpreter
/// only if it could be the one looked for, which plain text is not.
fn named_as(key: &[u8], name: &str) -> bool {
    key == name.as_bytes() || (name.contains('\u{fffd}') && String::from_utf8_lossy(key) == name)
}

fn borrowed<'a>(value: &'a Val<'static>) -> Val<'a> {
    match value {
        Val::Text(text) => Val::Text(Cow::Borrowed(text)),
        other => other.clone(),
    }
}

/// The member of a JSON text; `None` if it is not there.
fn member<'a>(text: &'a Node, path: &[Step], row: &Row<'a>) -> Result<Option<Val<'a>>, GaveUp> {
    let found = match text.text(row)? {
        Cow::Borrowed(text) => json::find(text, path).map_err(|_| GaveUp)?,
        // JSON within a text of JSON: its escapes were undone into a text that does not outlive this.
        Cow::Owned(_) => return Err(GaveUp),
    };
    Ok(Some(match found {
        Found::Absent => return Ok(None),
        Found::Null => Val::Nothing,
        Found::Flag(flag) => Val::Flag(flag),
        Found::Number(number) => Val::Number(number),
        Found::Decimal(number) => Val::Decimal(number),
        Found::Text(text) => Val::Text(text),
        Found::Many => Val::Many,
    }))
}

impl TextProperty {
    fn of(self, text: Cow<'_, str>) -> Result<Val<'_>, GaveUp> {
        let count = |count: usize| i64::try_from(count).map_err(|_| GaveUp);
        Ok(match self {
            Self::IsEmpty => Val::Flag(text.is_empty()),
            Self::Length => Val::Number(count(match text.is_ascii() {
                true => text.len(),
                false => text.chars().count(),
            })?),
            Self::Bytes => Val::Number(count(text.len())?),
            Self::ParseInt => Val::Number(text.trim().parse().map_err(|_| GaveUp)?),
            Self::ToLower => Val::Text(text.to_lowercase().into()),
            Self::ToUpper => Val::Text(text.to_uppercase().into()),
        })
    }
}

/// As `operators` compares; gives up where that refuses.
fn compare(how: Comparison, left: &Val<'_>, right: &Val<'_>) -> Result<bool, GaveUp> {
    let equality = matches!(how, Comparison::Equal | Comparison::Unequal);
    if matches!(left, Val::Nothing) || matches!(right, Val::Nothing) {
        if !equality {
            return Err(GaveUp);
        }
        let same = matches!((left, right), (Val::Nothing, Val::Nothing));
        return Ok(same == (how == Comparison::Equal));
    }
    let order = match (left, right) {
        (Val::Number(a), Val::Number(b)) => a.cmp(b),
        (Val::Text(a), Val::Text(b)) => a.as_ref().cmp(b.as_ref()),
        (Val::Decimal(a), Val::Decimal(b)) => a.partial_cmp(b).ok_or(GaveUp)?,
        (Val::Number(a), Val::Decimal(b)) => operators::whole_to_decimal(*a, *b).ok_or(GaveUp)?,
        (Val::Decimal(a), Val::Number(b)) => {
            operators::whole_to_decimal(*b, *a).ok_or(GaveUp)?.reverse()
        }
        (Val::Instant(a), Val::Instant(b)) | (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
        (Val::Flag(a), Val::Flag(b)) if equality => a.cmp(b),
        (Val::Bytes(a), Val::Bytes(b)) if equality => a.cmp(b),
        _ => return Err(GaveUp),
    };
    Ok(match how {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::Unequal => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

fn compute<'a>(how: Arithmetic, left: &Val<'_>, right: &Val<'_>) -> Result<Val<'a>, GaveUp> {
    let decimals = match (left, right) {
        (Val::Number(a), Val::Number(b)) => {
            let result = match how {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
                Arithmetic::Divide => a.checked_div(*b),
                Arithmetic::Remainder => a.checked_rem(*b),
            };
            return result.map(Val::Number).ok_or(GaveUp);
        }
        (Val::Instant(a), Val::Instant(b)) if how == Arithmetic::Subtract => {
            return a.checked_sub(*b).map(Val::Duration).ok_or(GaveUp);
        }
        (Val::Instant(a), Val::Duration(b)) => {
            let moved = match how {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                _ => None,
            };
            return moved.map(Val::Instant).ok_or(GaveUp);
        }
        (Val::Decimal(a), Val::Decimal(b)) => (*a, *b),
        (Val::Number(a), Val::Decimal(b)) => (*a as f64, *b),
        (Val::Decimal(a), Val::Number(b)) => (*a, *b as f64),
        _ => return Err(GaveUp),
    };
    let (a, b) = decimals;
    let result = match how {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide if b != 0.0 => a / b,
        Arithmetic::Remainder if b != 0.0 => a % b,
        _ => return Err(GaveUp),
    };
    // What overflows is the interpreter's to answer or to refuse.
    match result.is_finite() {
        true => Ok(Val::Decimal(result)),
        false => Err(GaveUp),
    }
}
