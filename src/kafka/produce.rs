//! Produce with acks=all: many partitions per request, several requests in flight per connection.

use super::brokers::Purpose;
use super::client::{Client, Route};
use super::code::ErrorCode;
use super::connection::{Connection, Pending};
use super::error::{Error, Result};
use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// One batch for one partition. Brokers take one batch per partition per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub topic: String,
    pub partition: PartitionId,
    pub batch: Bytes,
}

/// What became of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    pub topic: String,
    pub partition: PartitionId,
    pub error: ErrorCode,
    /// Where the batch begins in the log; −1 with an error.
    pub base_offset: Offset,
    /// −1 unless the topic uses LogAppendTime.
    pub log_append_time: TimestampMs,
    pub log_start_offset: Offset,
    pub message: Option<String>,
}

/// A produce request that is on its way.
#[derive(Debug)]
pub struct ProducePending {
    pending: Pending,
    version: i16,
    /// The topics of the request by id, for the versions that name them by id only.
    names: HashMap<TopicId, String>,
}

/// The connection that a request went over. Two connections to a broker keep no order between them.
#[derive(Clone, Debug)]
pub struct ProduceLine(Arc<Connection>);

impl ProducePending {
    /// To send what must come after this request and not before it.
    pub fn line(&self) -> ProduceLine {
        ProduceLine(self.pending.connection().clone())
    }

    /// Waits for the answer. Dropping this instead leaves the request to its fate.
    pub async fn answer(self) -> Result<Vec<Produced>> {
        let connection = self.pending.connection().clone();
        let answer = self.pending.answer::<ProduceRequest>(self.version).await?;
        connection.throttle(answer.throttle_time_ms);
        let mut produced = Vec::new();
        for topic in answer.responses {
            let name = if topic.topic_id.is_nil() {
                topic.name.0.to_string()
            } else {
                let name = self.names.get(&topic.topic_id).cloned();
                name.ok_or_else(|| Error::Protocol {
                    api: "Produce",
                    broker: connection.broker().to_string(),
                    why: format!("topic id {} was not written to", topic.topic_id),
                })?
            };
            for partition in topic.partition_responses {
                // The first record's own complaint tells more than the batch's.
                let of_record = partition
                    .record_errors
                    .into_iter()
                    .find_map(|record| record.batch_index_error_message);
                let message = of_record.or(partition.error_message);
                produced.push(Produced {
                    topic: name.clone(),
                    partition: PartitionId(partition.index),
                    error: ErrorCode(partition.error_code),
                    base_offset: Offset(partition.base_offset),
                    log_append_time: TimestampMs(partition.log_append_time_ms),
                    log_start_offset: Offset(partition.log_start_offset),
                    message: message.map(|message| message.to_string()),
                });
            }
        }
        Ok(produced)
    }
}

impl Client {
    /// Sends batches to broker `leader` and waits for the answer.
    pub async fn produce(
        &self,
        leader: i32,
        parts: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Result<Vec<Produced>> {
        self.produce_start(leader, parts, timeout, None)
            .await?
            .answer()
            .await
    }

    /// Hands the request to the connection and returns: requests over one connection reach the broker in the
    /// order in which these calls return, so that a caller can pipeline and still keep the order of its
    /// batches. With `over` it is that connection or none, whether or not it has ended meanwhile.
    pub async fn produce_start(
        &self,
        leader: i32,
        parts: Vec<ProducePartition>,
        timeout: Duration,
        over: Option<ProduceLine>,
    ) -> Result<ProducePending> {
        let metadata = self.metadata();
        let mut topics: BTreeMap<String, Vec<PartitionProduceData>> = BTreeMap::new();
        for part in parts {
            let partition = PartitionProduceData::default()
                .with_index(part.partition.0)
                .with_records(Some(part.batch));
            topics.entry(part.topic).or_default().push(partition);
        }
        let ids: Option<HashMap<TopicId, String>> = topics
            .keys()
            .map(|name| Some((metadata.topic_id(name)?, name.clone())))
            .collect();
        let cap = if ids.is_some() {
            i16::MAX
        } else {
            LAST_BY_NAME
        };
        let topics = topics.into_iter().map(|(name, partitions)| {
            TopicProduceData::default()
                .with_topic_id(metadata.topic_id(&name).unwrap_or_default())
                .with_name(TopicName(StrBytes::from_string(name)))
                .with_partition_data(partitions)
        });
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(topics.collect());
        let connection = match over {
            Some(line) => line.0,
            None => {
                let route = Route::Broker(leader);
                self.connection(route, Purpose::Produce).await?
            }
        };
        let version = connection.choose::<ProduceRequest>(cap)?;
        // The broker may use all of `timeout` to replicate; the rest is for the way there and back.
        let allowed = self.options().request_timeout + timeout;
        Ok(ProducePending {
            pending: connection.send(&request, version, allowed).await?,
            version,
            names: ids.unwrap_or_default(),
        })
    }
}

/// From version 13 on topics are named by id only.
const LAST_BY_NAME: i16 = 12;
