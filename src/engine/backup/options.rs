//! What a backup is asked to take, and how hard it may try.

use crate::archive::BlockCompression;
use crate::base::Selection;
use std::time::Duration;

/// What to back up. The default takes every topic that is not internal, and every group.
#[derive(Clone, Debug)]
pub struct Options {
    pub topics: Selection,
    pub groups: Selection,
    /// How blocks are compressed when that pays.
    pub block: BlockCompression,
    /// Also topics that the cluster keeps for itself (`__consumer_offsets`, …).
    pub include_internal: bool,
    /// At most so many bytes per second from the source, over all partitions; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// How long a partition may go without a single new offset before it fails by name.
    pub stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            topics: Selection::default(),
            groups: Selection::default(),
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
