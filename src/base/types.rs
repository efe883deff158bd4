//! Small types that carry the rules: an offset is not a timestamp, a secret is never printed.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufWriter, Write};
use std::ops::{Add, Sub};

/// A topic's 128-bit id (KIP-516); nil when a broker does not tell one.
pub type TopicId = uuid::Uuid;

/// A position in a partition's log: the offset of a record, or of the next one to come.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// A partition's number within its topic, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionId(pub i32);

/// Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts time; −1 is "no timestamp".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TimestampMs(pub i64);

macro_rules! number {
    ($name:ident, $int:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
        impl From<$name> for $int {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}
number!(Offset, i64);
number!(PartitionId, i32);
number!(TimestampMs, i64);

impl Add<i64> for Offset {
    type Output = Offset;
    fn add(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, other: Offset) -> i64 {
        self.0 - other.0
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: PartitionId,
}

impl TopicPartition {
    pub fn new(topic: impl Into<String>, partition: impl Into<PartitionId>) -> Self {
        Self {
            topic: topic.into(),
            partition: partition.into(),
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A BLAKE3 hash: of a plan's canonical bytes, a generation's object, a mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// How many hexadecimal characters of a digest kbr prints and, at least, asks for.
pub const DIGEST_SHORT: usize = 12;

impl Digest {
    /// The BLAKE3 hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The BLAKE3 hash of a value's JSON, without having it in memory.
    pub fn of_json(value: &impl Serialize) -> Self {
        let mut hasher = blake3::Hasher::new();
        // A hash takes every byte, and what is hashed here has no key that is not a string.
        let mut out = BufWriter::with_capacity(1 << 16, &mut hasher);
        let _ = serde_json::to_writer(&mut out, value);
        let _ = out.flush();
        drop(out);
        Self(*hasher.finalize().as_bytes())
    }

    /// All 64 hexadecimal characters.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The first [`DIGEST_SHORT`] characters, for people.
    pub fn short(&self) -> String {
        self.hex()[..DIGEST_SHORT].to_string()
    }

    /// Parses 64 hexadecimal characters; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }

    /// Whether `given` is this digest or at least [`DIGEST_SHORT`] leading characters of it.
    pub fn matches_prefix(&self, given: &str) -> bool {
        given.len() >= DIGEST_SHORT && self.hex().starts_with(&given.to_ascii_lowercase())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::from_hex(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("not 64 hexadecimal characters: {text:?}"))
        })
    }
}

/// A value that no plan, journal, log, error or print shows. Only its name is ever written.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    value: String,
}

impl Secret {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// What it is called: the name of the environment variable or file it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value itself. Every call is a place to review: never into text that a person or a file sees.
    pub fn reveal(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<secret {}>", self.name)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<secret {}>", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_its_value() {
        let secret = Secret::new("KAFKA_PASSWORD", "hunter2");
        assert_eq!(
            format!("{secret} {secret:?}"),
            "<secret KAFKA_PASSWORD> <secret KAFKA_PASSWORD>"
        );
    }

    #[test]
    fn a_digest_matches_only_a_long_enough_prefix_of_itself() {
        let digest = Digest::of(b"plan");
        assert!(digest.matches_prefix(&digest.short()));
        assert!(digest.matches_prefix(&digest.hex()));
        assert!(!digest.matches_prefix(&digest.hex()[..11]));
        assert!(!digest.matches_prefix("000000000000"));
    }
}
