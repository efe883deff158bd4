//! Filters and renames written as closures: what the engine layer calls for each record or topic.
//!
//! A filter that is made of common parts is lowered to a tree of its own when the verb takes it; the interpreter runs
//! what cannot be lowered, and every record on which the tree gives up, so that both answer and fail alike.

pub mod json;
mod lower;
mod native;

use super::closure::{Closure, Session};
use super::failure::Failure;
use super::kind::Kind;
use super::source::Source;
use super::values::Instant;
use crate::base::TimestampMs;
use crate::engine::restore::{
    FilterError, FilterRecord, FilterSession, OnError, RecordFilter, TopicRemap,
};
use native::{Node, Row};
use rhai::{Array, Dynamic, ImmutableString, Map};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};

/// A record in a filter closure. Text where the bytes are UTF-8, bytes where not, `()` for null.
#[derive(Clone, Debug)]
pub struct RecordValue(pub Arc<RecordFields>);

#[derive(Clone, Debug)]
pub struct RecordFields {
    pub topic: ImmutableString,
    pub partition: i64,
    pub offset: i64,
    pub timestamp: Instant,
    pub key: Dynamic,
    pub value: Dynamic,
    /// In the record's order, duplicates kept.
    pub headers: Vec<(ImmutableString, Dynamic)>,
}

impl RecordValue {
    /// The last value under a header's name, as Kafka's `lastHeader`; `()` if there is none.
    pub fn header(&self, name: &str) -> Dynamic {
        self.0
            .headers
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map_or(Dynamic::UNIT, |(_, value)| value.clone())
    }

    /// The value's member at a path; `None` if it is not there.
    pub fn json(&self, path: &str) -> Result<Option<Dynamic>, Failure> {
        let steps = json::parse_path(path).map_err(|error| Failure::script("E0214", error))?;
        let value = &self.0.value;
        if value.is_unit() {
            return Err(Failure::script(
                "E0214",
                format!("the value is null, a tombstone: it has no {path}"),
            )
            .help("ask before: r.value != ()"));
        }
        let Ok(text) = value.as_immutable_string_ref() else {
            return Err(Failure::script(
                "E0214",
                "the value is bytes that are no text, and so no JSON",
            ));
        };
        json::value(&text, &steps).map_err(|error| {
            Failure::script("E0214", format!("the value is {}", json::not_json(&error)))
        })
    }

    /// Every header: maps of `key` and `value`.
    pub fn headers(&self) -> Array {
        self.0
            .headers
            .iter()
            .map(|(key, value)| {
                let mut map = Map::new();
                map.insert("key".into(), key.clone().into());
                map.insert("value".into(), value.clone());
                map.into()
            })
            .collect()
    }
}

/// Bytes as a script sees them.
pub fn bytes_value(bytes: Option<&[u8]>) -> Dynamic {
    match bytes {
        None => Dynamic::UNIT,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Dynamic::from(ImmutableString::from(text)),
            Err(_) => Dynamic::from_blob(bytes.to_vec()),
        },
    }
}

/// `.filter(|r| …)`: which properties of a record the closure may look at, so that others are not made.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub key: bool,
    pub value: bool,
    pub headers: bool,
}

/// A predicate over records.
#[derive(Clone)]
pub struct RecordPredicate {
    closure: Closure,
    needs: Needs,
    on_error: OnError,
    /// `None`: the interpreter looks at every record.
    lowered: Option<Arc<Node>>,
    /// Interpreters that no worker uses just now: making one takes longer than a small partition.
    idle: Arc<Mutex<Vec<PredicateSession>>>,
}

/// Made once per worker.
pub struct PredicateSession {
    session: Session,
    needs: Needs,
    /// The last topic's name, since records of a topic come together.
    topic: ImmutableString,
}

impl RecordPredicate {
    pub fn new(closure: Closure, on_error: OnError) -> Self {
        let needs = Needs {
            key: closure.mentions("key"),
            value: closure.mentions("value") || closure.mentions("json") || closure.mentions("has"),
            headers: closure.mentions("header"),
        };
        Self {
            lowered: lower::lower(&closure).map(Arc::new),
            closure,
            needs,
            on_error,
            idle: Arc::default(),
        }
    }

    /// Made again from what `RecordFilter::saved` kept.
    pub fn load(source: &Source, saved: &serde_json::Value) -> Result<Self, Failure> {
        let on_error = OnError::deserialize(&saved["on_error"])
            .map_err(|error| Failure::script("E0440", error.to_string()))?;
        Ok(Self::new(
            Closure::load(source, &saved["closure"])?,
            on_error,
        ))
    }

    pub fn open(&self) -> Result<PredicateSession, Failure> {
        Ok(PredicateSession {
            session: self.closure.session_over_records()?,
            needs: self.needs,
            topic: ImmutableString::new(),
        })
    }
}

/// A record as the engine layer hands it over.
pub struct Fields<'a, H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: H,
}

impl PredicateSession {
    pub fn keep<'a, H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>(
        &mut self,
        record: Fields<'a, H>,
    ) -> Result<bool, Failure> {
        if self.topic != record.topic {
            self.topic = record.topic.into();
        }
        let made = |wanted: bool, bytes: Option<&[u8]>| {
            if wanted {
                bytes_value(bytes)
            } else {
                Dynamic::UNIT
            }
        };
        let headers = if self.needs.headers {
            record
                .headers
                .map(|(key, value)| {
                    (
                        String::from_utf8_lossy(key).as_ref().into(),
                        bytes_value(value),
                    )
                })
                .collect()
        } else {
            Vec::new()
        };
        let value = RecordValue(Arc::new(RecordFields {
            topic: self.topic.clone(),
            partition: i64::from(record.partition),
            offset: record.offset,
            timestamp: Instant(TimestampMs(record.timestamp)),
            key: made(self.needs.key, record.key),
            value: made(self.needs.value, record.value),
            headers,
        }));
        let answer = self.session.call(Dynamic::from(value))?;
        answer.as_bool().map_err(|_| Failure {
            span: self.session.span(),
            ..Failure::script(
                "E0217",
                format!(
                    "the filter answers true or false, not {}",
                    Kind::of(&answer).phrase()
                ),
            )
        })
    }
}

/// `.remap(…)`: a map of names, or a closure.
#[derive(Clone, Debug)]
pub enum Renames {
    Map(std::collections::BTreeMap<String, String>),
    Closure(Closure),
}

impl Renames {
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Map(map) => {
                let text = serde_json::json!(map).to_string();
                crate::base::Digest::of(text.as_bytes()).hex()
            }
            Self::Closure(closure) => closure.fingerprint(),
        }
    }

    /// The target's name for a source topic.
    pub fn target(&self, source: &str) -> Result<String, Failure> {
        match self {
            Self::Map(map) => Ok(map.get(source).map_or(source, String::as_str).to_string()),
            Self::Closure(closure) => {
                let answer = closure.session()?.call(Dynamic::from(source.to_string()))?;
                if answer.is_unit() {
                    return Ok(source.to_string());
                }
                let kind = Kind::of(&answer);
                answer.into_string().map_err(|_| {
                    Failure::script(
                        "E0217",
                        format!(
                            "the rename of {source} answers with a name, not {}",
                            kind.phrase()
                        ),
                    )
                })
            }
        }
    }
}

/// Where a closure failed, for the engine layer to add the record's place.
pub fn filter_error(failure: Failure) -> FilterError {
    let place = failure.span.map(|span| (span.line, span.column));
    let message = match &failure.help {
        Some(help) => format!("{} ({help})", failure.message),
        None => failure.message,
    };
    FilterError { message, place }
}

impl RecordFilter for RecordPredicate {
    /// Decides equally if the closure does, and what it does with records on which the closure fails.
    fn fingerprint(&self) -> String {
        match self.on_error {
            OnError::Stop => self.closure.fingerprint(),
            OnError::Keep => format!("{} keep", self.closure.fingerprint()),
            OnError::Drop => format!("{} drop", self.closure.fingerprint()),
        }
    }

    fn session(&self) -> Box<dyn FilterSession> {
        Box::new(WorkerSession {
            predicate: self.clone(),
            session: None,
            failed: 0,
            seen: 0,
            gave_up: 0,
        })
    }

    fn on_error(&self) -> OnError {
        self.on_error
    }

    fn saved(&self) -> serde_json::Value {
        serde_json::json!({ "closure": self.closure.saved(), "on_error": self.on_error })
    }
}

/// One worker's filter. An interpreter that could not be made answers each record with why.
struct WorkerSession {
    predicate: RecordPredicate,
    /// Made when the first record needs it.
    session: Option<Result<PredicateSession, Failure>>,
    failed: u64,
    /// Records that the lowered filter looked at, and on how many it gave up.
    seen: u64,
    gave_up: u64,
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        if let Some(Ok(session)) = self.session.take() {
            let idle = self.predicate.idle.lock();
            idle.unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

impl FilterSession for WorkerSession {
    fn keep(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError> {
        match (self.decide(record), self.predicate.on_error) {
            (Err(error), OnError::Stop) => Err(error),
            (Err(_), on_error) => {
                self.failed += 1;
                Ok(on_error == OnError::Keep)
            }
            (answer, _) => answer,
        }
    }

    fn failed(&self) -> u64 {
        self.failed
    }
}

impl WorkerSession {
    fn decide(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError> {
        // Records that are not what the filter is made for are not looked at twice for ever.
        let worth = self.gave_up < 1_000 || self.gave_up < self.seen / 2;
        if let Some(node) = self.predicate.lowered.as_deref().filter(|_| worth) {
            self.seen += 1;
            let row = Row::new(record.topic, record.partition, record.record);
            match node.keep(&row) {
                Ok(keep) => return Ok(keep),
                Err(native::GaveUp) => self.gave_up += 1,
            }
        }
        let predicate = &self.predicate;
        let session = self
            .session
            .get_or_insert_with(|| {
                let idle = predicate.idle.lock();
                let waiting = idle.unwrap_or_else(PoisonError::into_inner).pop();
                waiting.map_or_else(|| predicate.open(), Ok)
            })
            .as_mut()
            .map_err(|failure| filter_error(failure.clone()))?;
        session
            .keep(Fields {
                topic: record.topic,
                partition: record.partition,
                offset: record.record.offset,
                timestamp: record.record.timestamp,
                key: record.record.key,
                value: record.record.value,
                headers: record
                    .record
                    .headers
                    .iter()
                    .map(|header| (header.key, header.value)),
            })
            .map_err(filter_error)
    }
}

impl TopicRemap for Renames {
    fn fingerprint(&self) -> String {
        Renames::fingerprint(self)
    }

    fn target(&self, source: &str) -> Result<String, FilterError> {
        Renames::target(self, source).map_err(filter_error)
    }
}

#[cfg(test)]
#[path = "filter/tests.rs"]
mod tests;
