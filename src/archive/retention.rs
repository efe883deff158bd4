//! What was pruned from an archive, as the generation that did it carries it, and what that makes of each number.

use crate::base::{Digest, Offset, PartitionId, TimestampMs, TopicId};
use serde::{Deserialize, Serialize};

/// What a generation's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A recovery point.
    Point,
    /// A recovery point that goes once the grace time is over, counted from here.
    Marked(TimestampMs),
    /// It says what was pruned.
    Retention,
    /// No recovery point any more.
    Deleted,
}

/// The generation whose `retention` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRef {
    pub generation: u64,
    /// BLAKE3 of the whole object.
    pub digest: Digest,
}

/// What was pruned from the archive so far: all of it, so that only the newest is ever read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// What goes after the grace time, oldest first. All of it is still there.
    #[serde(default)]
    pub rounds: Vec<Round>,
    /// Generations that are recovery points no longer. Some of their manifests stay as links of the chain.
    #[serde(default)]
    pub deleted: Vec<Numbers>,
    /// Generations whose manifests are gone.
    #[serde(default)]
    pub gone: Vec<Numbers>,
    /// The hashes of the manifests next to those that are gone.
    #[serde(default)]
    pub anchors: Vec<Anchor>,
    /// Data that is gone.
    #[serde(default)]
    pub floors: Vec<Floor>,
    /// Every generation that carries a `retention`, as far as its manifest is there; the last one is this.
    #[serde(default)]
    pub commits: Vec<u64>,
    /// Runs without a generation whose objects this one deletes: they must not commit any more.
    #[serde(default)]
    pub abandoned: Vec<String>,
}

/// What one prune marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The grace time counts from here.
    pub since: TimestampMs,
    /// What was promised when it was marked, in ms. A later prune may wait longer, not shorter.
    #[serde(default)]
    pub grace_ms: i64,
    /// Ascending.
    pub generations: Vec<u64>,
    /// Data that goes with them because the policy says so.
    #[serde(default)]
    pub floors: Vec<Floor>,
}

/// `first` to `last`, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    pub first: u64,
    pub last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    pub number: u64,
    pub digest: Digest,
}

/// Where the archive of one topic begins. Segments that reach over the floor are there as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub topic: String,
    pub id: TopicId,
    pub incarnation: u32,
    pub partitions: Vec<PartitionFloor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFloor {
    pub partition: PartitionId,
    /// Offsets below it are not needed. The end of what was archived, if nothing is.
    pub before: Offset,
}

impl Retention {
    pub fn standing(&self, number: u64) -> Standing {
        if holds(&self.deleted, number) || holds(&self.gone, number) {
            return Standing::Deleted;
        }
        if self.commits.binary_search(&number).is_ok() {
            return Standing::Retention;
        }
        match self.round_of(number) {
            Some(round) => Standing::Marked(round.since),
            None => Standing::Point,
        }
    }

    /// The prune that marked the generation.
    pub(super) fn round_of(&self, number: u64) -> Option<&Round> {
        self.rounds
            .iter()
            .find(|round| round.generations.binary_search(&number).is_ok())
    }

    /// Whether the generation's manifest was pruned.
    pub fn is_gone(&self, number: u64) -> bool {
        holds(&self.gone, number)
    }

    /// The hash that a manifest next to pruned ones must have.
    pub(super) fn anchor(&self, number: u64) -> Option<Digest> {
        let anchor = self.anchors.iter().find(|anchor| anchor.number == number);
        anchor.map(|anchor| anchor.digest)
    }
}

fn holds(ranges: &[Numbers], number: u64) -> bool {
    let after = ranges.partition_point(|range| range.first <= number);
    after > 0 && ranges[after - 1].last >= number
}
