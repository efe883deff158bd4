//! Moving many groups' committed offsets in one transaction: all of them or none.
//!
//! InitProducerId → AddOffsetsToTxn per partition of the offsets topic → TxnOffsetCommit (generation −1, empty member) → EndTxn.
//! Versions are pinned: EndTxn 5 bumps the producer's epoch (KIP-890) and Kafka 3.9 drops the connection
//! over it; TxnOffsetCommit 4 and 5 and AddOffsetsToTxn 4 belong to that newer protocol. A coordinator
//! writes a TxnOffsetCommit as one batch and refuses one over its limit of about 1 MB, so calls stay
//! below 512 KB and a transaction has many. Every call may be sent again after a lost answer: EndTxn with
//! the same verdict, too, answers 0 again.

use super::brokers::Purpose;
use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::commits::CommitWanted;
use super::coordinator::CoordinatorKind;
use super::error::{Error, Result, TransactionOutcome, TransactionStage};
use super::offset_records::{OFFSETS_TOPIC, offsets_partition};
use super::producer_id::ProducerIdentity;
use super::retry::Backoff;
use super::topics::TopicsWanted;
use crate::base::TopicPartition;
use futures::StreamExt;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, EndTxnRequest, GroupId, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ADD_OFFSETS_MAX_VERSION: i16 = 3;
const TXN_OFFSET_COMMIT_MAX_VERSION: i16 = 3;
const END_TXN_MAX_VERSION: i16 = 4;

/// How long the transaction may stay open before its coordinator aborts it by itself.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// What one TxnOffsetCommit may weigh.
const BYTES_PER_COMMIT: usize = 400 << 10;
/// How many calls of one kind are under way at once, on each connection.
const IN_FLIGHT: usize = 8;
/// Connections over which many groups are committed. A coordinator writes what comes on several of them together, and what
/// comes on one of them one after the other.
const LANES: usize = 8;
/// From so many calls on that is worth opening them.
const WORTH_LANES: usize = 32;

/// An open transaction.
struct Transaction<'a> {
    client: &'a Client,
    id: &'a str,
    producer: ProducerIdentity,
}

/// What failed where; the transaction's outcome is decided afterwards.
struct Failure {
    stage: TransactionStage,
    group: Option<String>,
    partition: Option<TopicPartition>,
    source: Error,
}

type Part<'a> = Vec<(&'a TopicPartition, &'a CommitWanted)>;

impl Client {
    /// Commits all of it in one transaction. On any failure the transaction is aborted and the error
    /// ([`Error::Transaction`]) tells the stage, the group, the partition and whether anything has moved;
    /// [`Error::transactions_not_allowed`] tells whether committing group by group is the way left.
    pub async fn commit_offsets_in_transaction(
        &self,
        transactional_id: &str,
        groups: &BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>>,
    ) -> Result<()> {
        if groups.values().all(BTreeMap::is_empty) {
            return Ok(());
        }
        let error = |failure: Failure, outcome| Error::Transaction {
            transactional_id: transactional_id.to_string(),
            stage: failure.stage,
            group: failure.group,
            partition: failure.partition.map(Box::new),
            outcome,
            source: Box::new(failure.source),
        };
        let producer = self
            .init_producer_id(Some(transactional_id), TRANSACTION_TIMEOUT)
            .await
            .map_err(|source| {
                let failure = Failure::new(TransactionStage::Begin, source);
                error(failure, TransactionOutcome::NotBegun)
            })?;
        let transaction = Transaction {
            client: self,
            id: transactional_id,
            producer,
        };
        if let Err(failure) = transaction.write(groups).await {
            // Whatever becomes of the abort: nobody will commit this any more, and a coordinator that
            // did not hear it aborts when the time is up.
            let aborted = transaction.end(false).await;
            if let Err(unheard) = aborted {
                tracing::warn!(error = %unheard.source, "the abort of {transactional_id} failed");
            }
            return Err(error(failure, TransactionOutcome::Aborted));
        }
        match transaction.end(true).await {
            Ok(()) => {
                transaction.settle(groups).await;
                Ok(())
            }
            Err(unended) => {
                let outcome = match unended.in_doubt {
                    true => TransactionOutcome::Unknown,
                    false => {
                        // Refused for certain, or never sent: then it is ours to abort.
                        let _ = transaction.end(false).await;
                        TransactionOutcome::Aborted
                    }
                };
                let failure = Failure::new(TransactionStage::End, unended.source);
                Err(error(failure, outcome))
            }
        }
    }
}

impl Failure {
    fn new(stage: TransactionStage, source: Error) -> Self {
        Self {
            stage,
            group: None,
            partition: None,
            source,
        }
    }
}

/// EndTxn did not succeed.
struct Unended {
    source: Error,
    /// One of the attempts may have been carried out.
    in_doubt: bool,
}

impl Transaction<'_> {
    async fn write(
        &self,
        groups: &BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>>,
    ) -> Result<(), Failure> {
        let names: Vec<String> = groups
            .iter()
            .filter(|(_, offsets)| !offsets.is_empty())
            .map(|(group, _)| group.clone())
            .collect();
        // They wait for each other at the coordinator, since a broker takes a connection's requests one
        // at a time; having several on the way saves the time between them.
        // Futures are made before the stream: a closure that borrows inside it keeps the whole from moving
        // between threads.
        let add: Vec<_> = self
            .one_of_each_partition(&names)
            .await
            .into_iter()
            .map(|group| async move {
                self.add_group(group).await.map_err(|source| Failure {
                    group: Some(group.clone()),
                    ..Failure::new(TransactionStage::AddGroup, source)
                })
            })
            .collect();
        let mut added = futures::stream::iter(add).buffered(IN_FLIGHT);
        while let Some(added) = added.next().await {
            added?;
        }
        // All coordinators in few requests; one that is not found now is looked for with its group.
        let _ = self
            .client
            .find_coordinators(CoordinatorKind::Group, &names)
            .await;
        let parts: Vec<(&String, Part<'_>)> = groups
            .iter()
            .flat_map(|(group, offsets)| in_parts(offsets).into_iter().map(move |p| (group, p)))
            .collect();
        let failed = AtomicBool::new(false);
        let lanes = match parts.len() < WORTH_LANES {
            true => 1,
            false => LANES,
        };
        let commits = parts.into_iter().enumerate().map(|(index, (group, part))| {
            let on = match lanes {
                1 => Purpose::Control,
                lanes => Purpose::Lane((index % lanes) as u8),
            };
            let failed = &failed;
            async move {
                match failed.load(Ordering::Relaxed) {
                    true => Ok(()),
                    false => self.commit(group, part, on).await,
                }
            }
        });
        let commits: Vec<_> = commits.collect();
        let mut commits = futures::stream::iter(commits).buffer_unordered(IN_FLIGHT * lanes);
        let mut first = None;
        while let Some(committed) = commits.next().await {
            if let Err(failure) = committed {
                // Those on the way come to rest before the abort: on another connection it could overtake them.
                failed.store(true, Ordering::Relaxed);
                first = first.or(Some(failure));
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// One group for each partition of the topic that holds their offsets: a transaction is about such partitions, so with
    /// it all groups are added that have theirs there. All of them where the number of partitions cannot be told.
    async fn one_of_each_partition<'n>(&self, names: &'n [String]) -> Vec<&'n String> {
        let wanted = [OFFSETS_TOPIC.to_string()];
        let partitions = match names {
            [] | [_] => 0,
            _ => match self.client.topics(TopicsWanted::Named(&wanted)).await {
                Ok(topics) => topics
                    .iter()
                    .find(|topic| topic.error.is_ok())
                    .map_or(0, |topic| topic.partitions.len()),
                Err(_) => 0,
            },
        };
        if partitions == 0 {
            return names.iter().collect();
        }
        let by_partition: BTreeMap<usize, &String> = names
            .iter()
            .map(|group| (offsets_partition(group, partitions), group))
            .collect();
        by_partition.into_values().collect()
    }

    async fn add_group(&self, group: &str) -> Result<()> {
        const API: &str = "AddOffsetsToTxn";
        let request = &AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(self.id))
            .with_producer_id(ProducerId(self.producer.producer_id))
            .with_producer_epoch(self.producer.producer_epoch)
            .with_group_id(group_id(group));
        let (kind, wanted) = (CoordinatorKind::Transaction, one(self.id));
        let added = self
            .client
            .ask_coordinators(API, kind, wanted, 1, |broker, keys| async move {
                let answer = self
                    .client
                    .send(Route::Broker(broker), request, ADD_OFFSETS_MAX_VERSION)
                    .await?;
                let code = ErrorCode(answer.error_code);
                let outcome = match code.is_ok() {
                    true => Ok(()),
                    false => Err(Error::broker(API, group, code, None)),
                };
                let keys = keys.into_iter();
                Ok(keys.map(|(key, ())| (key, outcome.clone())).collect())
            })
            .await;
        only(added)
    }

    async fn commit(&self, group: &str, part: Part<'_>, on: Purpose) -> Result<(), Failure> {
        const API: &str = "TxnOffsetCommit";
        let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for (at, wanted) in &part {
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(at.partition.0)
                .with_committed_offset(wanted.offset.0)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::from_string(wanted.metadata.clone())));
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            TxnOffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions(partitions)
        });
        let request = &TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(self.id))
            .with_group_id(group_id(group))
            .with_producer_id(ProducerId(self.producer.producer_id))
            .with_producer_epoch(self.producer.producer_epoch)
            .with_generation_id(-1)
            .with_member_id(StrBytes::from_static_str(""))
            .with_topics(topics.collect());
        // The answer: nothing, or the first partition that was refused for good.
        let (kind, wanted) = (CoordinatorKind::Group, one(group));
        let committed = self
            .client
            .ask_coordinators(API, kind, wanted, 1, |broker, keys| async move {
                let to = Route::Broker(broker);
                let cap = TXN_OFFSET_COMMIT_MAX_VERSION;
                let answer = self.client.send_on(on, to, request, cap).await?;
                let mut refused: Option<(TopicPartition, ErrorCode)> = None;
                for topic in answer.topics {
                    for at in topic.partitions {
                        let code = ErrorCode(at.error_code);
                        // Of several, one that will not change tells most.
                        let worse = refused
                            .as_ref()
                            .is_none_or(|(_, before)| !is_final(*before) && is_final(code));
                        if !code.is_ok() && worse {
                            let name = topic.name.0.to_string();
                            let at = TopicPartition::new(name, at.partition_index);
                            refused = Some((at, code));
                        }
                    }
                }
                let outcome: Result<Option<(TopicPartition, ErrorCode)>> = match refused {
                    Some((at, code)) if !is_final(code) => {
                        Err(Error::broker(API, format!("{group} {at}"), code, None))
                    }
                    refused => Ok(refused),
                };
                let keys = keys.into_iter();
                Ok(keys.map(|(key, ())| (key, outcome.clone())).collect())
            })
            .await;
        let failure = |source| Failure {
            group: Some(group.to_string()),
            ..Failure::new(TransactionStage::Commit, source)
        };
        match only(committed) {
            Ok(None) => Ok(()),
            Ok(Some((at, code))) => Err(Failure {
                partition: Some(at.clone()),
                ..failure(Error::broker(API, format!("{group} {at}"), code, None))
            }),
            Err(source) => Err(failure(source)),
        }
    }

    /// EndTxn, again after a lost answer.
    async fn end(&self, commit: bool) -> Result<(), Unended> {
        const API: &str = "EndTxn";
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(self.id))
            .with_producer_id(ProducerId(self.producer.producer_id))
            .with_producer_epoch(self.producer.producer_epoch)
            .with_committed(commit);
        let options = self.client.options();
        // One answer may be waited for in vain, and there must be time to ask again.
        let mut backoff = Backoff::within(options.retry_deadline + options.request_timeout);
        let mut in_doubt = false;
        loop {
            let error = match self.end_once(API, &request).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            in_doubt |= error.in_doubt();
            let again = match &error {
                // The connection is gone with what was on it; the next one may answer.
                Error::Protocol { .. } => true,
                error => error.class() != Class::Fatal,
            };
            if !again || !backoff.wait().await {
                return Err(Unended {
                    source: error,
                    in_doubt,
                });
            }
        }
    }

    /// Waits until the commit shows. EndTxn answers once the verdict is written; each group's offsets
    /// follow with the marker on its coordinator's partition, and until then a group that had none before
    /// reads as one without any. One partition per group tells, since a group's offsets appear together.
    /// What fails here changes nothing: the transaction is committed.
    async fn settle(&self, groups: &BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>>) {
        let probe = groups.iter().filter_map(|(group, offsets)| {
            let (first, _) = offsets.first_key_value()?;
            Some((group.clone(), vec![first.clone()]))
        });
        let probe: BTreeMap<String, Vec<TopicPartition>> = probe.collect();
        match self.client.committed_offsets_at(&probe).await {
            Ok(read) => {
                for (group, error) in read
                    .iter()
                    .filter_map(|(at, read)| Some((at, read.as_ref().err()?)))
                {
                    tracing::warn!(%error, "group {group}: the committed transaction does not show yet");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the committed transaction could not be read back")
            }
        }
    }

    async fn end_once(&self, api: &'static str, request: &EndTxnRequest) -> Result<()> {
        let coordinator = self
            .client
            .find_coordinator(CoordinatorKind::Transaction, self.id)
            .await?;
        let to = Route::Broker(coordinator);
        let answer = self.client.send(to, request, END_TXN_MAX_VERSION).await?;
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => Ok(()),
            code => Err(Error::broker(api, self.id, code, None)),
        }
    }
}

/// Whether asking again gives the same answer. An unknown topic is refused at once: kbr commits only for
/// topics it has seen, so it was deleted since.
fn is_final(code: ErrorCode) -> bool {
    matches!(code.class(), Class::Fatal | Class::RefreshMetadata)
}

/// The offsets in parts that stay below the limit of one call.
fn in_parts(offsets: &BTreeMap<TopicPartition, CommitWanted>) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut weight = usize::MAX;
    for (at, wanted) in offsets {
        // On the wire 20 bytes and the metadata; in the coordinator's log the topic's name once more.
        let more = at.topic.len() + wanted.metadata.len() + 64;
        weight = weight.saturating_add(more);
        if weight > BYTES_PER_COMMIT {
            parts.push(Vec::new());
            weight = more;
        }
        if let Some(part) = parts.last_mut() {
            part.push((at, wanted));
        }
    }
    parts
}

fn one(key: &str) -> BTreeMap<String, ()> {
    BTreeMap::from([(key.to_string(), ())])
}

fn only<A>(answers: BTreeMap<String, Result<A>>) -> Result<A> {
    answers.into_values().next().unwrap_or_else(|| {
        Err(Error::BadRequest(
            "a coordinator was asked about nothing".to_string(),
        ))
    })
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_string()))
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Offset;

    #[test]
    fn a_large_group_is_committed_in_parts_below_the_limit_and_nothing_is_lost() {
        let offsets: BTreeMap<TopicPartition, CommitWanted> = (0..10_000)
            .map(|partition| {
                let wanted = CommitWanted {
                    offset: Offset(1),
                    metadata: "m".repeat(200),
                };
                (TopicPartition::new("orders", partition), wanted)
            })
            .collect();
        let parts = in_parts(&offsets);
        assert_eq!(parts.len(), 7);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 10_000);
        assert!(in_parts(&BTreeMap::new()).is_empty());
    }
}
