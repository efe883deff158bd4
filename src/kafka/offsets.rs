//! Questions about a partition's log, asked of its leader: offsets, epochs, producers; and DeleteRecords.

use super::client::{Client, Route};
use super::code::ErrorCode;
use super::error::{Error, Result};
use super::metadata::PartitionAnswers;
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeProducersRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset under [`Isolation::ReadCommitted`].
    Latest,
    /// The first record whose timestamp is this or later.
    AtOrAfter(TimestampMs),
}

/// Whether records of open transactions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// An answer of ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetFound {
    /// −1: no record is that young.
    pub offset: Offset,
    /// −1 unless a time was asked for.
    pub timestamp: TimestampMs,
    /// −1: not told.
    pub leader_epoch: i32,
}

/// Both ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// The log start offset.
    pub start: Offset,
    /// The offset of the next record: the high watermark, or the last stable offset.
    pub end: Offset,
}

/// Where a leader epoch ends (OffsetForLeaderEpoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch at or below the one asked for; −1: none.
    pub leader_epoch: i32,
    /// The first offset after it; −1: none.
    pub end_offset: Offset,
}

/// A producer the leader remembers (DescribeProducers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub producer_epoch: i32,
    pub last_sequence: i32,
    pub last_timestamp: TimestampMs,
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

impl Client {
    /// ListOffsets at each partition's leader. One question per partition; a result per partition.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetAt)],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, Result<OffsetFound>>> {
        const API: &str = "ListOffsets";
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        self.ask_leaders(API, wanted, |leader, questions| async move {
            let topics = by_topic(questions, |partition, at| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(at.as_kafka())
            });
            let topics = topics.into_iter().map(|(name, partitions)| {
                ListOffsetsTopic::default()
                    .with_name(name)
                    .with_partitions(partitions)
            });
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(isolation.as_kafka())
                .with_topics(topics.collect());
            let answer = self.send(Route::Broker(leader), &request, i16::MAX).await?;
            let mut answers: PartitionAnswers<OffsetFound> = Vec::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = at(&topic.name, partition.partition_index);
                    let found = OffsetFound {
                        offset: Offset(partition.offset),
                        timestamp: TimestampMs(partition.timestamp),
                        leader_epoch: partition.leader_epoch,
                    };
                    answers.push(outcome(API, at, partition.error_code, None, found));
                }
            }
            Ok(answers)
        })
        .await
    }

    /// Both ends of each partition's log; `isolation` says which is the end. A result per partition.
    pub async fn log_ends(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, Result<LogEnds>>> {
        let at = |at| move |partition| (partition, at);
        let starts: Vec<_> = partitions.into_iter().map(at(OffsetAt::Earliest)).collect();
        if starts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ends = starts.iter().map(|(partition, _)| partition.clone());
        let ends: Vec<_> = ends.map(at(OffsetAt::Latest)).collect();
        let (starts, mut ends) = futures::try_join!(
            self.list_offsets(&starts, Isolation::ReadUncommitted),
            self.list_offsets(&ends, isolation)
        )?;
        let both = starts.into_iter().map(|(partition, start)| {
            let end = ends.remove(&partition).unwrap_or_else(|| {
                let partition = partition.clone();
                Err(Error::NoLeader { partition })
            });
            let ends = start.and_then(|start| {
                Ok(LogEnds {
                    start: start.offset,
                    end: end?.offset,
                })
            });
            (partition, ends)
        });
        Ok(both.collect())
    }

    /// OffsetForLeaderEpoch: where the given epoch ends in each partition.
    pub async fn end_offset_for_epoch(
        &self,
        wanted: &[(TopicPartition, i32)],
    ) -> Result<BTreeMap<TopicPartition, Result<EpochEnd>>> {
        const API: &str = "OffsetForLeaderEpoch";
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        self.ask_leaders(API, wanted, |leader, questions| async move {
            let topics = by_topic(questions, |partition, epoch| {
                OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_current_leader_epoch(-1)
                    .with_leader_epoch(epoch)
            });
            let topics = topics.into_iter().map(|(name, partitions)| {
                OffsetForLeaderTopic::default()
                    .with_topic(name)
                    .with_partitions(partitions)
            });
            // −1: a consumer, not a replica.
            let request = OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(topics.collect());
            let answer = self.send(Route::Broker(leader), &request, i16::MAX).await?;
            let mut answers: PartitionAnswers<EpochEnd> = Vec::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = at(&topic.topic, partition.partition);
                    let found = EpochEnd {
                        leader_epoch: partition.leader_epoch,
                        end_offset: Offset(partition.end_offset),
                    };
                    answers.push(outcome(API, at, partition.error_code, None, found));
                }
            }
            Ok(answers)
        })
        .await
    }

    /// Deletes records before an offset; the result is the new log start offset.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Offset)],
    ) -> Result<BTreeMap<TopicPartition, Result<Offset>>> {
        const API: &str = "DeleteRecords";
        let wanted: BTreeMap<_, _> = before.iter().cloned().collect();
        self.ask_leaders(API, wanted, |leader, questions| async move {
            let topics = by_topic(questions, |partition, offset| {
                DeleteRecordsPartition::default()
                    .with_partition_index(partition)
                    .with_offset(offset.0)
            });
            let topics = topics.into_iter().map(|(name, partitions)| {
                DeleteRecordsTopic::default()
                    .with_name(name)
                    .with_partitions(partitions)
            });
            let request = DeleteRecordsRequest::default()
                .with_topics(topics.collect())
                .with_timeout_ms(self.broker_timeout_ms());
            let answer = self.send(Route::Broker(leader), &request, i16::MAX).await?;
            let mut answers: PartitionAnswers<Offset> = Vec::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = at(&topic.name, partition.partition_index);
                    let log_start = Offset(partition.low_watermark);
                    answers.push(outcome(API, at, partition.error_code, None, log_start));
                }
            }
            Ok(answers)
        })
        .await
    }

    /// The producers that each partition's leader remembers.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<Vec<ActiveProducer>>>> {
        const API: &str = "DescribeProducers";
        let wanted: BTreeMap<_, _> = partitions.iter().map(|at| (at.clone(), ())).collect();
        self.ask_leaders(API, wanted, |leader, questions| async move {
            let topics = by_topic(questions, |partition, ()| partition);
            let topics = topics.into_iter().map(|(name, partitions)| {
                TopicRequest::default()
                    .with_name(name)
                    .with_partition_indexes(partitions)
            });
            let request = DescribeProducersRequest::default().with_topics(topics.collect());
            let answer = self.send(Route::Broker(leader), &request, i16::MAX).await?;
            let mut answers: PartitionAnswers<Vec<ActiveProducer>> = Vec::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    let at = at(&topic.name, partition.partition_index);
                    let producers = partition.active_producers.into_iter();
                    let producers = producers.map(|producer| ActiveProducer {
                        producer_id: producer.producer_id.0,
                        producer_epoch: producer.producer_epoch,
                        last_sequence: producer.last_sequence,
                        last_timestamp: TimestampMs(producer.last_timestamp),
                        coordinator_epoch: producer.coordinator_epoch,
                        transaction_start: Some(Offset(producer.current_txn_start_offset))
                            .filter(|start| start.0 >= 0),
                    });
                    let message = partition.error_message;
                    let found = producers.collect();
                    answers.push(outcome(API, at, partition.error_code, message, found));
                }
            }
            Ok(answers)
        })
        .await
    }
}

impl OffsetAt {
    /// ListOffsets' timestamp, with its two special values.
    fn as_kafka(self) -> i64 {
        match self {
            OffsetAt::Latest => -1,
            OffsetAt::Earliest => -2,
            OffsetAt::AtOrAfter(timestamp) => timestamp.0,
        }
    }
}

impl Isolation {
    /// The number of Fetch and ListOffsets.
    pub(super) fn as_kafka(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// The questions grouped by topic, as all these requests want them.
pub(super) fn by_topic<Q, P>(
    questions: Vec<(TopicPartition, Q)>,
    partition: impl Fn(i32, Q) -> P,
) -> BTreeMap<TopicName, Vec<P>> {
    let mut topics: BTreeMap<TopicName, Vec<P>> = BTreeMap::new();
    for (at, question) in questions {
        topics
            .entry(TopicName(StrBytes::from_string(at.topic)))
            .or_default()
            .push(partition(at.partition.0, question));
    }
    topics
}

fn at(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.0.to_string(), PartitionId(partition))
}

fn outcome<A>(
    api: &'static str,
    at: TopicPartition,
    code: i16,
    message: Option<StrBytes>,
    found: A,
) -> (TopicPartition, Result<A>) {
    let code = ErrorCode(code);
    if code.is_ok() {
        return (at, Ok(found));
    }
    let message = message.map(|message| message.to_string());
    let error = Error::broker(api, at.to_string(), code, message);
    (at, Err(error))
}
