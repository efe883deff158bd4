//! What a backup is asked to take, and how hard it may try.

use crate::archive::BlockCompression;
use crate::base::{Selection, SomePartitions};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What to back up. The default takes every topic that is not internal, every group, and the cluster's ACLs and
/// quotas where it may see them.
#[derive(Clone, Debug)]
pub struct Options {
    pub topics: Selection,
    /// Of some topics only these partitions; of the others every one.
    pub partitions: Vec<SomePartitions>,
    pub groups: Selection,
    pub acls: Keep,
    /// Client quotas.
    pub quotas: Keep,
    /// How blocks are compressed when that pays.
    pub block: BlockCompression,
    /// Also topics that the cluster keeps for itself (`__consumer_offsets`, …).
    pub include_internal: bool,
    /// At most so many bytes per second from the source, over all partitions; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// How long a partition may go without a single new offset before it fails by name.
    pub stall: Duration,
}

/// Whether something of the cluster is kept that not everybody may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    None,
    /// Where kbr may not see it, a note says so.
    #[default]
    IfAllowed,
    /// Where kbr may not see it, the backup is incomplete.
    Required,
}

impl Keep {
    pub const NAMES: [&'static str; 3] = ["if allowed", "required", "none"];

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "if allowed" => Some(Keep::IfAllowed),
            "required" => Some(Keep::Required),
            "none" => Some(Keep::None),
            _ => None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            topics: Selection::default(),
            partitions: Vec::new(),
            groups: Selection::default(),
            acls: Keep::default(),
            quotas: Keep::default(),
            block: BlockCompression::default(),
            include_internal: false,
            rate: None,
            stall: Duration::from_secs(60),
        }
    }
}

/// How an approved plan is carried out: nothing here changes what is backed up.
#[derive(Clone)]
pub struct Run {
    /// Names the run's objects in the archive: letters, digits, `-` and `_`, never used before.
    pub name: String,
    pub progress: crate::base::ProgressHandle,
    /// Ends the run early: what is complete becomes a generation that says it is partial.
    pub cancel: crate::base::CancellationToken,
}
