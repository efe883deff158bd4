//! The transaction coordinator: one state per transactional id, markers into logs, offsets into groups.
//!
//! Kafka writes the markers after it has answered EndTxn; here both happen at once, so CONCURRENT_TRANSACTIONS shows
//! only where a new producer instance finds a transaction of the old one still open.

use super::cluster::{State, now_ms};
use super::codes;
use super::groups::Partition;
use super::log::Marker;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// `transaction.max.timeout.ms`, 15 minutes.
const LONGEST_TIMEOUT_MS: i32 = 900_000;
/// An epoch beyond this is not handed out: the producer gets a new id instead.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// There is one coordinator and it never moves, so its epoch never grows.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Empty,
    Ongoing,
    CompleteCommit,
    CompleteAbort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub identity: Identity,
    /// The identity before EndTxn v5 raised the epoch, so that a repeated EndTxn is known.
    previous: Option<Identity>,
    pub status: Status,
    timeout: Duration,
    partitions: BTreeSet<Partition>,
    groups: BTreeSet<String>,
    began: Option<Instant>,
}

impl Transaction {
    fn begin(&mut self) {
        if self.status != Status::Ongoing {
            self.status = Status::Ongoing;
            self.began = Some(Instant::now());
        }
    }

    pub(super) fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.status == Status::Ongoing && self.partitions.contains(&(topic.to_string(), partition))
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        self.status == Status::Ongoing && self.groups.contains(group)
    }
}

/// The codes a check of id and epoch answers, which differ by API and version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fencing {
    pub stale_epoch: i16,
}

impl Fencing {
    /// PRODUCER_FENCED from the version on that knows it, INVALID_PRODUCER_EPOCH before.
    pub(super) fn since(version: i16, first_with_fenced: i16) -> Self {
        let stale_epoch = if version >= first_with_fenced {
            codes::PRODUCER_FENCED
        } else {
            codes::INVALID_PRODUCER_EPOCH
        };
        Self { stale_epoch }
    }
}

impl State {
    /// A producer's id and epoch: a fresh one, or the next epoch of a transactional id.
    pub(super) fn init_producer_id(
        &mut self,
        transactional_id: Option<&str>,
        timeout_ms: i32,
        given: Option<Identity>,
        fencing: Fencing,
    ) -> Result<Identity, i16> {
        let Some(transactional_id) = transactional_id else {
            return Ok(Identity {
                producer_id: self.take_producer_id(),
                producer_epoch: 0,
            });
        };
        if transactional_id.is_empty() {
            return Err(codes::INVALID_REQUEST);
        }
        if timeout_ms <= 0 || timeout_ms > LONGEST_TIMEOUT_MS {
            return Err(codes::INVALID_TRANSACTION_TIMEOUT);
        }
        let timeout = Duration::from_millis(timeout_ms.unsigned_abs().into());
        let Some(known) = self.transactions.get(transactional_id) else {
            let identity = Identity {
                producer_id: self.take_producer_id(),
                producer_epoch: 0,
            };
            self.transactions.insert(
                transactional_id.to_string(),
                Transaction {
                    identity,
                    previous: None,
                    status: Status::Empty,
                    timeout,
                    partitions: BTreeSet::new(),
                    groups: BTreeSet::new(),
                    began: None,
                },
            );
            return Ok(identity);
        };
        let present = known.identity;
        if let Some(given) = given
            && given != present
        {
            return Err(fencing.stale_epoch);
        }
        if known.status == Status::Ongoing {
            // The old instance is fenced and its transaction aborted; the new one has to ask again.
            self.fence_and_abort(transactional_id);
            return Err(codes::CONCURRENT_TRANSACTIONS);
        }
        let next = self.next_identity(present);
        if let Some(transaction) = self.transactions.get_mut(transactional_id) {
            transaction.identity = next;
            transaction.previous = None;
            transaction.status = Status::Empty;
            transaction.timeout = timeout;
        }
        Ok(next)
    }

    fn next_identity(&mut self, present: Identity) -> Identity {
        if present.producer_epoch < LAST_EPOCH {
            return Identity {
                producer_epoch: present.producer_epoch + 1,
                ..present
            };
        }
        Identity {
            producer_id: self.take_producer_id(),
            producer_epoch: 0,
        }
    }

    /// The transaction of a transactional id, if this producer is its present owner.
    pub(super) fn owned_transaction(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        fencing: Fencing,
    ) -> Result<&mut Transaction, i16> {
        let transaction = self
            .transactions
            .get_mut(transactional_id)
            .ok_or(codes::INVALID_PRODUCER_ID_MAPPING)?;
        if transaction.identity.producer_id != identity.producer_id {
            return Err(codes::INVALID_PRODUCER_ID_MAPPING);
        }
        if transaction.identity.producer_epoch != identity.producer_epoch {
            return Err(fencing.stale_epoch);
        }
        Ok(transaction)
    }

    pub(super) fn add_partitions(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        partitions: impl IntoIterator<Item = Partition>,
        fencing: Fencing,
    ) -> Result<(), i16> {
        let transaction = self.owned_transaction(transactional_id, identity, fencing)?;
        transaction.begin();
        transaction.partitions.extend(partitions);
        Ok(())
    }

    pub(super) fn add_group(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        group: &str,
        fencing: Fencing,
    ) -> Result<(), i16> {
        let transaction = self.owned_transaction(transactional_id, identity, fencing)?;
        transaction.begin();
        transaction.groups.insert(group.to_string());
        Ok(())
    }

    /// Ends a transaction; the same end again is fine. With `bump`, as from EndTxn v5 on, the producer goes on
    /// under the next epoch.
    pub(super) fn end_transaction(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        commit: bool,
        bump: bool,
        fencing: Fencing,
    ) -> Result<Identity, i16> {
        let done = if commit {
            Status::CompleteCommit
        } else {
            Status::CompleteAbort
        };
        if let Some(known) = self.transactions.get(transactional_id)
            && bump
            && known.previous == Some(identity)
            && known.status == done
        {
            return Ok(known.identity);
        }
        let transaction = self.owned_transaction(transactional_id, identity, fencing)?;
        match transaction.status {
            Status::Ongoing => {}
            status if status == done && !bump => return Ok(identity),
            // Under the newer protocol an abort without a transaction only raises the epoch.
            _ if bump && !commit => {}
            _ => return Err(codes::INVALID_TXN_STATE),
        }
        if !bump {
            self.finish(transactional_id, identity, commit);
            return Ok(identity);
        }
        // KIP-890: the marker itself already carries the next epoch.
        let next = self.next_identity(identity);
        let marker = Identity {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch + 1,
        };
        self.finish(transactional_id, marker, commit);
        if let Some(transaction) = self.transactions.get_mut(transactional_id) {
            transaction.previous = Some(identity);
            transaction.identity = next;
        }
        Ok(next)
    }

    fn fence_and_abort(&mut self, transactional_id: &str) {
        let Some(transaction) = self.transactions.get_mut(transactional_id) else {
            return;
        };
        transaction.identity.producer_epoch += 1;
        let identity = transaction.identity;
        self.finish(transactional_id, identity, false);
    }

    /// Markers into every partition of the transaction, offsets into its groups.
    fn finish(&mut self, transactional_id: &str, identity: Identity, commit: bool) {
        let Some(transaction) = self.transactions.get_mut(transactional_id) else {
            return;
        };
        let partitions = std::mem::take(&mut transaction.partitions);
        let groups = std::mem::take(&mut transaction.groups);
        transaction.began = None;
        transaction.status = if commit {
            Status::CompleteCommit
        } else {
            Status::CompleteAbort
        };
        let marker = Marker {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            commit,
        };
        for (topic, index) in partitions {
            // A topic deleted in between takes its part of the transaction with it.
            if let Ok(partition) = self.partition_mut(&topic, index) {
                let epoch = partition.leader_epoch;
                let written = partition.log.append_marker(&marker, epoch, now_ms());
                if let Err(refusal) = written {
                    tracing::warn!(topic, index, ?refusal, "marker refused");
                }
            }
        }
        for group in groups {
            if let Some(group) = self.groups.get_mut(&group) {
                group.end_transaction(identity.producer_id, commit);
            }
        }
    }

    /// Aborts transactions that are open for longer than their timeout. True if there were any.
    pub(super) fn expire_transactions(&mut self) -> bool {
        let now = Instant::now();
        let over: Vec<String> = self
            .transactions
            .iter()
            .filter(|(_, transaction)| {
                transaction
                    .began
                    .is_some_and(|began| now.duration_since(began) > transaction.timeout)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &over {
            self.fence_and_abort(id);
        }
        !over.is_empty()
    }
}
