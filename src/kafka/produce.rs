//! Produce with acks=all: many partitions per request, several requests in flight per connection.
//!
//! The request is written here and not by the message crate, which would copy every batch into it.

use super::brokers::Purpose;
use super::client::{Client, Route};
use super::code::ErrorCode;
use super::connection::{Connection, Pending, unwritable};
use super::error::{Error, Result};
use super::frame::{Frame, FrameBuilder};
use super::versions;
use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use crate::record::SplitBatch;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// One batch for one partition. Brokers take one batch per partition per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub topic: String,
    pub partition: PartitionId,
    pub batch: SplitBatch,
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
        let mut topics: BTreeMap<String, Vec<(PartitionId, SplitBatch)>> = BTreeMap::new();
        for part in parts {
            let partitions = topics.entry(part.topic).or_default();
            partitions.push((part.partition, part.batch));
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
        let connection = match over {
            Some(line) => line.0,
            None => {
                let route = Route::Broker(leader);
                self.connection(route, Purpose::Produce).await?
            }
        };
        let version = connection.choose::<ProduceRequest>(cap)?;
        let request = Request {
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topics: &topics,
            ids: ids.as_ref(),
        };
        let frame = request
            .frame(version, connection.client_id())
            .map_err(|why| unwritable(API, &why))?;
        // The broker may use all of `timeout` to replicate; the rest is for the way there and back.
        let allowed = self.options().request_timeout + timeout;
        Ok(ProducePending {
            pending: connection.send_frame(API, frame, allowed).await?,
            version,
            names: ids.unwrap_or_default(),
        })
    }
}

const API: &str = "Produce";
/// From version 13 on topics are named by id only.
const LAST_BY_NAME: i16 = 12;
/// From here on lengths are varints, and structs end with tagged fields.
const FIRST_FLEXIBLE: i16 = 9;

/// A request of versions 3 to 13.
struct Request<'a> {
    timeout_ms: i32,
    topics: &'a BTreeMap<String, Vec<(PartitionId, SplitBatch)>>,
    /// `None`: not every topic's id is known.
    ids: Option<&'a HashMap<TopicId, String>>,
}

impl Request<'_> {
    fn frame(&self, version: i16, client_id: &str) -> Result<Frame, String> {
        let flexible = version >= FIRST_FLEXIBLE;
        let by_name: HashMap<&str, TopicId> = self
            .ids
            .into_iter()
            .flatten()
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        let mut frame = FrameBuilder::new(versions::head::<ProduceRequest>(version, client_id)?);
        let out = frame.out();
        // No transaction; all replicas acknowledge.
        match flexible {
            true => out.put_u8(0),
            false => out.put_i16(-1),
        }
        out.put_i16(-1);
        out.put_i32(self.timeout_ms);
        put_count(out, self.topics.len(), flexible)?;
        for (name, partitions) in self.topics {
            let out = frame.out();
            if version > LAST_BY_NAME {
                let id = by_name.get(name.as_str()).copied().unwrap_or_default();
                out.put_slice(id.as_bytes());
            } else {
                match flexible {
                    true => put_count(out, name.len(), flexible)?,
                    false => out.put_i16(i16::try_from(name.len()).map_err(too_long)?),
                }
                out.put_slice(name.as_bytes());
            }
            put_count(out, partitions.len(), flexible)?;
            for (partition, batch) in partitions {
                let out = frame.out();
                out.put_i32(partition.0);
                put_count(out, batch.len(), flexible)?;
                out.put_slice(&batch.header_bytes());
                frame.piece(batch.records());
                put_tags(frame.out(), flexible);
            }
            put_tags(frame.out(), flexible);
        }
        put_tags(frame.out(), flexible);
        frame.finish()
    }
}

/// The number of elements or bytes that follow.
fn put_count(out: &mut BytesMut, count: usize, flexible: bool) -> Result<(), String> {
    let count = i32::try_from(count).map_err(too_long)?;
    if !flexible {
        out.put_i32(count);
        return Ok(());
    }
    // Compact: one more than there are, since 0 is null.
    let mut left = count.unsigned_abs() + 1;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
    Ok(())
}

/// There are none.
fn put_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}

fn too_long(_: std::num::TryFromIntError) -> String {
    "it holds more than its form can tell".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::StrBytes;

    fn batch(value: usize) -> SplitBatch {
        let mut builder = BatchBuilder::new(BuildOptions::default());
        builder
            .push(1, None, Some(&vec![7; value]), Headers::empty())
            .unwrap();
        builder.finish_split(ProducerStamp::NONE).unwrap()
    }

    #[test]
    fn every_version_is_written_as_the_message_crate_writes_it() {
        // Lengths of one, two and three bytes as varints, copied and not.
        let topics = BTreeMap::from([
            (
                "orders".to_string(),
                vec![(PartitionId(0), batch(10)), (PartitionId(300), batch(500))],
            ),
            ("x".repeat(200), vec![(PartitionId(7), batch(40_000))]),
        ]);
        let names = topics.keys().cloned();
        let ids: HashMap<TopicId, String> = (1..).map(uuid::Uuid::from_u128).zip(names).collect();
        for version in 3..=13 {
            let request = Request {
                timeout_ms: 30_000,
                topics: &topics,
                ids: Some(&ids),
            };
            let mut pieces = request.frame(version, "kbr").unwrap().pieces();
            let written = pieces.copy_to_bytes(pieces.remaining());
            let data = topics.iter().map(|(name, partitions)| {
                let id = ids.iter().find(|(_, of)| *of == name).unwrap().0;
                let partitions = partitions.iter().map(|(partition, batch)| {
                    PartitionProduceData::default()
                        .with_index(partition.0)
                        .with_records(Some(batch.to_bytes()))
                });
                TopicProduceData::default()
                    .with_topic_id(*id)
                    .with_name(TopicName(StrBytes::from_string(name.clone())))
                    .with_partition_data(partitions.collect())
            });
            let whole = ProduceRequest::default()
                .with_transactional_id(None)
                .with_acks(-1)
                .with_timeout_ms(30_000)
                .with_topic_data(data.collect());
            let expected: Bytes = versions::frame(&whole, version, "kbr").unwrap().freeze();
            assert_eq!(written, expected, "version {version}");
        }
    }
}
