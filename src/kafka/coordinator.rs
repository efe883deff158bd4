//! Which broker coordinates a group or a transactional id.

use super::client::{Client, not_yet};
use super::error::Result;

/// What the coordinator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CoordinatorKind {
    Group,
    Transaction,
}

impl Client {
    /// The coordinator's broker id, asked of the cluster each time and kept for later calls.
    pub async fn find_coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<i32> {
        let _ = (kind, key);
        not_yet("find_coordinator")
    }
}
