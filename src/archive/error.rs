//! What can be wrong with an archive. Damage always names the object, the offsets it held, and what is left.

use crate::base::time::format_instant;
use crate::base::{Offset, PartitionId, TimestampMs};
use crate::store;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing there, or something that is no archive.
    #[error("{url} is not an archive: {why}")]
    NotAnArchive { url: String, why: String },

    /// An archive without a generation: no backup run has finished.
    #[error("{url} holds no generation yet: no backup into it has finished")]
    Empty { url: String },

    #[error("{0}")]
    Damaged(Box<Damage>),

    #[error("{object} has format version {found}; this kbr reads up to {supported}")]
    NewerFormat {
        object: String,
        found: u32,
        supported: u32,
    },

    #[error("{object} is encrypted (scheme {scheme}), which this kbr does not read")]
    Encrypted { object: String, scheme: u16 },

    #[error("there is no generation {number}; the newest is {newest}")]
    NoSuchGeneration { number: u64, newest: u64 },

    /// Every recovery point is of a later time.
    #[error(
        "no recovery point is as old as {}; the oldest is of {}",
        crate::base::time::format_instant(*at),
        crate::base::time::format_instant(*oldest)
    )]
    NoneAsOld {
        at: crate::base::TimestampMs,
        oldest: crate::base::TimestampMs,
    },

    /// A prune has deleted it.
    #[error(
        "generation {number} was pruned{}",
        oldest.map(|oldest| format!("; the oldest recovery point is generation {oldest}")).unwrap_or_default()
    )]
    Pruned { number: u64, oldest: Option<u64> },

    /// A generation that a prune wrote.
    #[error("generation {number} is no recovery point: it says what was pruned")]
    NoRecoveryPoint { number: u64 },

    /// A prune found objects of a run that had not committed for longer than the grace time, and deleted them.
    #[error("generation {number} gave up run {run} and its objects; nothing of this run counts")]
    Abandoned { run: String, number: u64 },

    /// A prune was planned on an end of the chain that is not the end any more.
    #[error(
        "the archive ended with generation {planned} when this was planned, and ends with {found} now; nothing was changed"
    )]
    Changed { planned: u64, found: u64 },

    /// A prune that deletes goes by both clocks.
    #[error(
        "this machine's clock says {} and the store's {}: nothing is deleted while they are more than 10 minutes apart",
        format_instant(*here),
        format_instant(*store)
    )]
    Clocks {
        here: TimestampMs,
        store: TimestampMs,
    },

    /// Another run committed in between.
    #[error(
        "generation {number} was committed by another run meanwhile; nothing of this run counts"
    )]
    GenerationTaken { number: u64 },

    #[error("the archive {url} belongs to cluster {archive}, not to {given}")]
    OtherCluster {
        url: String,
        archive: String,
        given: String,
    },

    #[error("generation {generation} holds no {topic}-{partition}")]
    NotInSnapshot {
        topic: String,
        partition: PartitionId,
        generation: u64,
    },

    /// The books of a run do not balance; it is refused.
    #[error("{topic}-{partition}: {why}; the generation is not committed")]
    Accounting {
        topic: String,
        partition: PartitionId,
        why: String,
    },

    #[error("cannot write this to an archive: {why}")]
    BadInput { why: String },

    #[error("{op} failed: {why}")]
    Task { op: &'static str, why: String },

    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// The damage, if that is what it is.
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Error::Damaged(damage) => Some(damage),
            _ => None,
        }
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Error::Damaged(Box::new(damage))
    }
}

/// One damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The object's path below the archive.
    pub object: String,
    pub kind: DamageKind,
    /// The offsets that the damaged part held, per partition; empty for a manifest.
    pub held: Vec<Held>,
    /// What can still be restored, in words.
    pub restorable: String,
}

impl Damage {
    pub fn new(object: impl Into<String>, kind: DamageKind) -> Self {
        Self {
            object: object.into(),
            kind,
            held: Vec::new(),
            restorable: String::new(),
        }
    }

    pub fn holding(mut self, held: Held) -> Self {
        self.restorable = format!(
            "all other offsets of {}-{} and all other partitions",
            held.topic, held.partition
        );
        self.held.push(held);
        self
    }
}

/// For machines: what is wrong is a sentence, as for people.
impl Serialize for Damage {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut damage = serializer.serialize_struct("Damage", 4)?;
        damage.serialize_field("object", &self.object)?;
        damage.serialize_field("what", &self.kind.to_string())?;
        damage.serialize_field("held", &self.held)?;
        damage.serialize_field("restorable", &self.restorable)?;
        damage.end()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged: {}", self.object, self.kind)?;
        if !self.held.is_empty() {
            f.write_str("; it held ")?;
            for (position, held) in self.held.iter().enumerate() {
                if position > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{held}")?;
            }
        }
        if !self.restorable.is_empty() {
            write!(f, "; still restorable: {}", self.restorable)?;
        }
        Ok(())
    }
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    #[error("it is missing")]
    Missing,
    #[error("all {count} of them are missing")]
    AllMissing { count: u64 },
    #[error("it is not there, pruned or lost: the generation that would tell cannot be read")]
    PrunedOrLost,
    #[error("{count} are not there, pruned or lost: the generation that would tell cannot be read")]
    SomePrunedOrLost { count: u64 },
    #[error("it is {found} bytes, not {expected}")]
    Size { expected: u64, found: u64 },
    #[error("its BLAKE3 hash is {found}, not {expected}")]
    Hash { expected: String, found: String },
    #[error("the block at byte {position} fails its CRC32C")]
    BlockChecksum { position: u64 },
    #[error("{0}")]
    Format(String),
    #[error("it is another object's content: {0}")]
    Swapped(String),
    #[error("it does not follow from its parent: {0}")]
    Chain(String),
    #[error("it does not agree with the generation that lists it: {0}")]
    Disagrees(String),
    #[error("it is gone: it was seen before, and the newest there now is generation {newest}")]
    Gone { newest: u64 },
    #[error("it is not the one that was seen before: its BLAKE3 hash is {found}, not {expected}")]
    NotAsSeen { expected: String, found: String },
    #[error("the record batch at offset {offset} is broken: {why}")]
    Batch { offset: i64, why: String },
}

/// Offsets that a damaged object held, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    pub topic: String,
    pub partition: PartitionId,
    pub first: Offset,
    pub last: Offset,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{} offsets {} to {}",
            self.topic, self.partition, self.first, self.last
        )
    }
}

impl DamageKind {
    /// What of it can be said if nobody can tell what was pruned.
    pub(super) fn in_doubt(self) -> Self {
        match self {
            Self::Missing => Self::PrunedOrLost,
            Self::AllMissing { count } => Self::SomePrunedOrLost { count },
            other => other,
        }
    }
}
