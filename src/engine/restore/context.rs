//! What a write gets besides its plan, and what can be found of one that was interrupted.

use crate::base::{CancellationToken, NoProgress, PartitionId, Pause, ProgressHandle};
use crate::engine::error::{Error, Result};
use crate::kafka::ProducerIdentity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Told a producer identity before the first batch goes out under it, so that it can be found again after a crash.
/// Nothing is sent unless it answers `Ok`; the text says why not.
pub type IdentityKnown =
    Arc<dyn Fn(ProducerIdentity) -> std::result::Result<(), String> + Send + Sync>;

/// How a write is carried out: nothing here changes what is written where.
#[derive(Clone)]
pub struct WriteContext {
    pub progress: ProgressHandle,
    pub cancel: CancellationToken,
    /// `Some`: an earlier run began this write under it; whatever stands in the target already is looked at and left
    /// out. `None`: the target must end where the plan begins.
    pub identity: Option<ProducerIdentity>,
    /// Called once for a fresh write, and again should the brokers make another identity necessary.
    pub identity_known: IdentityKnown,
    /// Bytes per second over all partitions; `None`: as fast as it goes.
    pub limit: Option<u64>,
    pub pause: Pause,
}

impl WriteContext {
    /// Nobody looks, nobody keeps anything: a write that could not be resumed.
    pub fn unrecorded() -> Self {
        Self {
            progress: NoProgress::handle(),
            cancel: CancellationToken::new(),
            identity: None,
            identity_known: Arc::new(|_| Ok(())),
            limit: None,
            pause: Pause::default(),
        }
    }

    /// Makes an identity known, away from the reactor: it is written to a disk.
    pub(super) async fn make_known(&self, identity: ProducerIdentity) -> Result<()> {
        let known = self.identity_known.clone();
        super::scan::off_reactor(move || known(identity).map_err(Error::NotRecorded)).await
    }
}

/// How far a write came before it was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteProgress {
    /// Every target partition ends where the write would begin.
    NotBegun,
    /// Some of its batches are there, whole and in their places. Records by target partition.
    Partial {
        records: BTreeMap<PartitionId, u64>,
    },
    Complete,
    /// Something stands in a target that this write did not put there: what, and where.
    Foreign(String),
}
