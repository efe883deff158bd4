//! Committed offsets, read and written outside of transactions.

use super::client::{Client, not_yet};
use super::code::ErrorCode;
use super::error::Result;
use crate::base::{Offset, TopicPartition};
use std::collections::BTreeMap;

/// A committed offset: the next record its group reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: Offset,
    /// −1: none was committed with it.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// An offset to commit. Always with leader epoch −1: a foreign epoch hangs Java consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitWanted {
    pub offset: Offset,
    pub metadata: String,
}

impl Client {
    /// All committed offsets of the groups. `require_stable` waits for transactions that are committing.
    /// A group that does not exist has none. A result per group.
    pub async fn committed_offsets(
        &self,
        groups: &[String],
        require_stable: bool,
    ) -> Result<BTreeMap<String, Result<BTreeMap<TopicPartition, Committed>>>> {
        let _ = (groups, require_stable);
        not_yet("committed_offsets")
    }

    /// OffsetCommit with generation −1: only a group without members takes it. A code per partition.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommitWanted>,
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        let _ = (group, offsets);
        not_yet("commit_offsets")
    }
}
