//! How long work tells how far it is, without knowing who looks.

use std::sync::Arc;

/// Told by the engine while a step runs. Calls are cheap and may come from any thread.
pub trait Progress: Send + Sync {
    /// The work's full size, once known: records and bytes.
    fn total(&self, records: u64, bytes: u64);
    /// More work done since the last call.
    fn advance(&self, records: u64, bytes: u64);
    /// What is being done now, in a few words ("reading back orders_dr").
    fn doing(&self, what: &str);
    /// A topic's part of the total, added to what was told of it before.
    fn topic_total(&self, _topic: &str, _records: u64, _bytes: u64) {}
    /// More of a topic done; [`Progress::advance`] is told the same, once for all topics.
    fn topic_advance(&self, _topic: &str, _records: u64, _bytes: u64) {}
}

/// Shared between the tasks of a step.
pub type ProgressHandle = Arc<dyn Progress>;

/// For tests and for callers who do not look.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn total(&self, _records: u64, _bytes: u64) {}
    fn advance(&self, _records: u64, _bytes: u64) {}
    fn doing(&self, _what: &str) {}
}

impl NoProgress {
    pub fn handle() -> ProgressHandle {
        Arc::new(NoProgress)
    }
}
