//! Fetch: record batches as they lie in the log, as slices of the answer's frame.

use super::brokers::Purpose;
use super::client::{BrokerInfo, Client, Route, exchange};
use super::code::ErrorCode;
use super::error::{Error, Result};
use super::metadata::LeaderHint;
use super::offsets::Isolation;
use crate::base::{Offset, PartitionId, TopicId, TopicPartition};
use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, TopicName, fetch_request};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// One partition to fetch from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub topic: String,
    /// Nil: not known; then the topic is asked for by name (Fetch v12).
    pub topic_id: TopicId,
    pub partition: PartitionId,
    pub offset: Offset,
    /// The leader epoch the caller believes in; −1: not checked.
    pub leader_epoch: i32,
    /// Under which leader epoch the batch before `offset` was written; −1: not known. The leader then says whether its
    /// log still continues that one, with every answer (KIP-595, Fetch v12).
    pub last_fetched_epoch: i32,
    pub max_bytes: i32,
}

/// One fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchWanted {
    pub partitions: Vec<FetchPartition>,
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Over all partitions. The first batch comes whole even if it is larger.
    pub max_bytes: i32,
    pub isolation: Isolation,
}

/// An aborted transaction within what was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: Offset,
}

/// One partition's part of the answer. An error here is that partition's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    pub topic: String,
    /// The broker was asked by topic id: this cannot be another topic of the same name.
    pub by_id: bool,
    pub partition: PartitionId,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    /// −1: not told.
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// In the order of the markers, as the broker sends them. Empty under read_uncommitted.
    pub aborted: Vec<Aborted>,
    /// Batches; the last may be cut. A slice of the frame: holding it holds the frame.
    pub records: Bytes,
    /// The broker that leads it now, where the one asked no longer does and has named it (KIP-951): the metadata knows
    /// it already.
    pub moved_to: Option<i32>,
    /// The log no longer continues what was fetched before: where the last epoch that both have in common ends. Then
    /// there are no records.
    pub diverging: Option<Diverging>,
}

/// Where a log parts from the one that was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverging {
    pub leader_epoch: i32,
    pub end_offset: Offset,
}

impl Client {
    /// Until when the broker reads no more fetches from this client, whose quota is used up (KIP-219). `None`: it has
    /// not said so.
    pub fn fetch_throttled_until(&self, leader: i32) -> Option<Instant> {
        self.usable(leader, Purpose::Fetch)?.throttled_until()
    }

    /// One Fetch to broker `leader`, without a fetch session.
    pub async fn fetch(&self, leader: i32, request: FetchWanted) -> Result<Vec<FetchedPartition>> {
        const API: &str = "Fetch";
        let mut topics: BTreeMap<(String, TopicId), Vec<fetch_request::FetchPartition>> =
            BTreeMap::new();
        let mut names: HashMap<TopicId, String> = HashMap::new();
        let mut all_have_ids = true;
        for wanted in request.partitions {
            all_have_ids &= !wanted.topic_id.is_nil();
            names.insert(wanted.topic_id, wanted.topic.clone());
            let partition = fetch_request::FetchPartition::default()
                .with_partition(wanted.partition.0)
                .with_current_leader_epoch(wanted.leader_epoch)
                .with_fetch_offset(wanted.offset.0)
                .with_last_fetched_epoch(wanted.last_fetched_epoch)
                .with_partition_max_bytes(wanted.max_bytes);
            topics
                .entry((wanted.topic, wanted.topic_id))
                .or_default()
                .push(partition);
        }
        let topics = topics.into_iter().map(|((name, id), partitions)| {
            fetch_request::FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_string(name)))
                .with_topic_id(id)
                .with_partitions(partitions)
        });
        let mut message = FetchRequest::default()
            .with_max_wait_ms(i32::try_from(request.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(request.min_bytes)
            .with_max_bytes(request.max_bytes)
            .with_isolation_level(request.isolation.as_kafka())
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics.collect());
        let cap = if all_have_ids { i16::MAX } else { LAST_BY_NAME };
        let connection = self
            .connection(Route::Broker(leader), Purpose::Fetch)
            .await?;
        if connection.choose::<FetchRequest>(cap)? < FIRST_WITH_EPOCHS {
            let topics = message.topics.iter_mut();
            for partition in topics.flat_map(|topic| &mut topic.partitions) {
                partition.last_fetched_epoch = -1;
            }
        }
        let allowed = self.options().request_timeout + request.max_wait;
        let answer = exchange(&connection, &message, cap, allowed).await?;
        connection.throttle(answer.throttle_time_ms);
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            return Err(Error::broker(API, connection.broker(), code, None));
        }
        let brokers = answer.node_endpoints.into_iter().map(|node| BrokerInfo {
            id: node.node_id.0,
            host: node.host.to_string(),
            port: node.port,
            rack: node.rack.map(|rack| rack.to_string()),
        });
        let brokers = brokers.collect();
        let mut hints = Vec::new();
        let mut fetched = Vec::new();
        for topic in answer.responses {
            let by_id = !topic.topic_id.is_nil();
            let name = if !by_id {
                topic.topic.0.to_string()
            } else {
                names.get(&topic.topic_id).cloned().ok_or(Error::Protocol {
                    api: API,
                    broker: connection.broker().to_string(),
                    why: format!("topic id {} was not asked for", topic.topic_id),
                })?
            };
            for partition in topic.partitions {
                let current = &partition.current_leader;
                if current.leader_id.0 >= 0 {
                    hints.push(LeaderHint {
                        partition: TopicPartition::new(
                            name.clone(),
                            PartitionId(partition.partition_index),
                        ),
                        leader: current.leader_id.0,
                        leader_epoch: current.leader_epoch,
                    });
                }
                fetched.push(fetched_partition(&name, by_id, partition));
            }
        }
        if !hints.is_empty() {
            let mut moved = self.follow_leaders(leader, &hints, brokers);
            for part in &mut fetched {
                let at = TopicPartition::new(part.topic.clone(), part.partition);
                part.moved_to = moved.remove(&at);
            }
        }
        Ok(fetched)
    }
}

/// From version 13 on topics are named by id only.
const LAST_BY_NAME: i16 = 12;
/// The first version that knows the last fetched epoch.
const FIRST_WITH_EPOCHS: i16 = 12;

fn fetched_partition(topic: &str, by_id: bool, partition: PartitionData) -> FetchedPartition {
    let aborted = partition.aborted_transactions.unwrap_or_default();
    FetchedPartition {
        topic: topic.to_string(),
        by_id,
        partition: PartitionId(partition.partition_index),
        error: ErrorCode(partition.error_code),
        high_watermark: Offset(partition.high_watermark),
        last_stable_offset: Offset(partition.last_stable_offset),
        log_start_offset: Offset(partition.log_start_offset),
        aborted: aborted
            .into_iter()
            .map(|transaction| Aborted {
                producer_id: transaction.producer_id.0,
                first_offset: Offset(transaction.first_offset),
            })
            .collect(),
        records: partition.records.unwrap_or_default(),
        moved_to: None,
        diverging: (partition.diverging_epoch.end_offset >= 0).then_some(Diverging {
            leader_epoch: partition.diverging_epoch.epoch,
            end_offset: Offset(partition.diverging_epoch.end_offset),
        }),
    }
}
