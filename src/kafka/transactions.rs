//! Moving many groups' committed offsets in one transaction: all of them or none.

use super::client::{Client, not_yet};
use super::commits::CommitWanted;
use super::error::Result;
use crate::base::TopicPartition;
use std::collections::BTreeMap;

impl Client {
    /// Commits all of it in one transaction. On any failure the transaction is aborted and the error
    /// ([`Error::Transaction`](super::Error::Transaction)) tells the stage, the group, the partition and
    /// whether anything has moved; [`Error::transactions_not_allowed`](super::Error::transactions_not_allowed)
    /// tells whether committing group by group is the way left.
    pub async fn commit_offsets_in_transaction(
        &self,
        transactional_id: &str,
        groups: &BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>>,
    ) -> Result<()> {
        let _ = (transactional_id, groups);
        not_yet("commit_offsets_in_transaction")
    }
}
