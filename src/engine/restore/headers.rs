//! Headers that a restore takes off records, sets, or adds to say where a record came from.
//!
//! Only then every batch is opened: a plain restore never looks at a record.

use super::options::HeaderOptions;
use crate::base::{Pattern, TopicPartition};
use crate::record::{Headers, OwnedHeaders, Record};
use serde::{Deserialize, Serialize};

/// The headers that say where a record came from: its values are text.
pub const ORIGINAL_OFFSET: &str = "x-original-offset";
pub const ORIGINAL_PARTITION: &str = "x-original-partition";
/// Milliseconds since 1970, as text.
pub const ORIGINAL_TIMESTAMP: &str = "x-original-timestamp";
/// The source cluster's id.
pub const SOURCE_CLUSTER: &str = "x-source-cluster";

/// Whether a header is one of these four.
pub fn is_of_origin(name: &[u8]) -> bool {
    [
        ORIGINAL_OFFSET,
        ORIGINAL_PARTITION,
        ORIGINAL_TIMESTAMP,
        SOURCE_CLUSTER,
    ]
    .iter()
    .any(|own| own.as_bytes() == name)
}

/// What happens to a record's headers, in this order: some are dropped, some are set, those of the origin are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChanges {
    /// Names and patterns of headers to drop.
    pub drop: Vec<String>,
    /// Each replaces every header of its name, and stands behind those that stay.
    pub set: Vec<(String, String)>,
    /// The source cluster's id, if the four headers of the origin are added.
    pub origin: Option<String>,
}

impl HeaderChanges {
    /// What was asked for, with the source cluster's id where it is needed.
    pub fn of(options: &HeaderOptions, source_cluster_id: &str) -> Self {
        Self {
            drop: options
                .drop
                .iter()
                .map(|pattern| pattern.text().to_string())
                .collect(),
            set: options.set.clone(),
            origin: options.origin.then(|| source_cluster_id.to_string()),
        }
    }

    /// By how many bytes a record may grow at most.
    pub fn most_bytes(&self) -> usize {
        // Each length takes up to five bytes, a number up to twenty.
        let set: usize = self
            .set
            .iter()
            .map(|(name, value)| name.len() + value.len() + 10)
            .sum();
        let origin = self.origin.as_ref().map_or(0, |cluster| {
            let names = [
                ORIGINAL_OFFSET,
                ORIGINAL_PARTITION,
                ORIGINAL_TIMESTAMP,
                SOURCE_CLUSTER,
            ];
            names.iter().map(|name| name.len() + 30).sum::<usize>() + cluster.len()
        });
        set + origin
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Made once per worker. Patterns are checked before they come here; one that is not fits nothing.
    pub fn rule(&self) -> Option<HeaderRule> {
        if self.is_none() {
            return None;
        }
        let drop = self
            .drop
            .iter()
            .filter_map(|text| Pattern::parse(text).ok());
        Some(HeaderRule {
            drop: drop.collect(),
            changes: self.clone(),
        })
    }
}

/// [`HeaderChanges`] made ready.
#[derive(Clone, Debug)]
pub struct HeaderRule {
    drop: Vec<Pattern>,
    changes: HeaderChanges,
}

impl HeaderRule {
    /// The record's headers as they are restored. Headers that stay keep their order and their duplicates.
    pub fn apply(&self, at: &TopicPartition, record: &Record<'_>) -> OwnedHeaders {
        let mut headers = self.staying(record.headers);
        for (name, value) in &self.changes.set {
            headers.push(name.as_bytes(), Some(value.as_bytes()));
        }
        if let Some(cluster) = &self.changes.origin {
            let numbers = [
                (ORIGINAL_OFFSET, record.offset),
                (ORIGINAL_PARTITION, i64::from(at.partition.0)),
                (ORIGINAL_TIMESTAMP, record.timestamp),
            ];
            for (name, number) in numbers {
                headers.push(name.as_bytes(), Some(number.to_string().as_bytes()));
            }
            headers.push(SOURCE_CLUSTER.as_bytes(), Some(cluster.as_bytes()));
        }
        headers
    }

    fn staying(&self, headers: Headers<'_>) -> OwnedHeaders {
        let replaced = |name: &[u8]| {
            self.changes
                .set
                .iter()
                .any(|(own, _)| own.as_bytes() == name)
                || self.changes.origin.is_some() && is_of_origin(name)
        };
        headers
            .iter()
            .filter(|header| !replaced(header.key))
            .filter(|header| {
                // A name that is not UTF-8 fits no pattern.
                let name = std::str::from_utf8(header.key);
                !name.is_ok_and(|name| self.drop.iter().any(|pattern| pattern.matches(name)))
            })
            .map(|header| (header.key, header.value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &OwnedHeaders) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = headers.as_headers();
        headers
            .iter()
            .map(|header| (text(header.key), header.value.map(text)))
            .collect()
    }

    #[test]
    fn headers_are_dropped_set_and_added_in_that_order() {
        let mut own = OwnedHeaders::new();
        own.push(b"trace", Some(b"1"))
            .push(b"x-kept", None)
            .push(b"trace", Some(b"2"))
            .push(b"env", Some(b"prod"))
            .push(b"x-original-offset", Some(b"an older restore's"))
            .push(b"\xff", Some(b"not text"));
        let record = Record {
            offset: 42,
            timestamp: 1_700_000_000_123,
            key: None,
            value: None,
            headers: own.as_headers(),
        };
        let rule = HeaderChanges {
            drop: vec!["trac?".into()],
            set: vec![("env".into(), "dr".into())],
            origin: Some("source-id".into()),
        };
        let changed = rule
            .rule()
            .unwrap()
            .apply(&TopicPartition::new("orders", 3), &record);
        let some = |text: &str| Some(text.to_string());
        assert_eq!(
            names(&changed),
            [
                ("x-kept".to_string(), None),
                ("\u{fffd}".to_string(), some("not text")),
                ("env".to_string(), some("dr")),
                ("x-original-offset".to_string(), some("42")),
                ("x-original-partition".to_string(), some("3")),
                ("x-original-timestamp".to_string(), some("1700000000123")),
                ("x-source-cluster".to_string(), some("source-id")),
            ]
        );
    }

    #[test]
    fn nothing_asked_is_no_rule() {
        assert!(HeaderChanges::default().rule().is_none());
    }
}
