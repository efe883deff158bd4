//! Fetch: v4–v18, topics by name up to v12, by id from v13. No fetch sessions: every request is a full one.
//!
//! Waits until `min_bytes` are there or `max_wait_ms` is over; an error on any partition answers at once. Whole
//! batches from the one that holds the offset; the last may be cut by a limit, the first of a response never is.

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use std::time::Duration;
use tokio::time::Instant;

/// What one look at the logs found.
struct Found {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
}

impl Api for FetchRequest {
    async fn serve(self, cx: &Context<'_>) -> FetchResponse {
        if self.session_epoch > 0 {
            return self.refuse(codes::FETCH_SESSION_ID_NOT_FOUND, cx);
        }
        let wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let until = Instant::now() + wait;
        let wanted = usize::try_from(self.min_bytes).unwrap_or(0);
        let mut changes = cx.cluster.changes();
        loop {
            changes.mark_unchanged();
            let found = look(&self, cx);
            if found.failed || found.bytes >= wanted || Instant::now() >= until {
                return found.response;
            }
            // Either way the logs are looked at again: after a change, or a last time when the wait is over.
            let _ = tokio::time::timeout_at(until, changes.changed()).await;
        }
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> FetchResponse {
        if cx.version >= 7 {
            return FetchResponse::default().with_error_code(code);
        }
        let responses = self
            .topics
            .into_iter()
            .map(|topic| {
                let partitions = topic
                    .partitions
                    .iter()
                    .map(|wanted| failed(wanted.partition, code))
                    .collect();
                FetchableTopicResponse::default()
                    .with_topic(topic.topic)
                    .with_partitions(partitions)
            })
            .collect();
        FetchResponse::default().with_responses(responses)
    }
}

fn failed(index: i32, code: i16) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(code)
        .with_high_watermark(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

fn look(request: &FetchRequest, cx: &Context<'_>) -> Found {
    let state = cx.cluster.state();
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut bytes = 0;
    let mut any_failed = false;
    let mut endpoints = false;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let name = if cx.version >= 13 {
            state
                .topic_name(topic.topic_id)
                .ok_or(codes::UNKNOWN_TOPIC_ID)
        } else {
            Ok(topic.topic.as_str())
        };
        let partitions = topic
            .partitions
            .iter()
            .map(|wanted| {
                let read = name.and_then(|name| {
                    read(
                        name,
                        wanted,
                        &state,
                        cx,
                        request.isolation_level,
                        left,
                        bytes == 0,
                    )
                });
                match read {
                    Ok(data) => {
                        let length = data.records.as_ref().map_or(0, Bytes::len);
                        bytes += length;
                        left = left.saturating_sub(length);
                        data
                    }
                    Err(code) => {
                        any_failed = true;
                        let moved = code == codes::NOT_LEADER_OR_FOLLOWER
                            || code == codes::FENCED_LEADER_EPOCH;
                        let partition = name
                            .ok()
                            .filter(|_| moved && cx.version >= 12)
                            .and_then(|name| state.partition(name, wanted.partition).ok());
                        let answer = failed(wanted.partition, code);
                        match partition {
                            None => answer,
                            Some(partition) => {
                                endpoints = true;
                                answer.with_current_leader(
                                    LeaderIdAndEpoch::default()
                                        .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                                        .with_leader_epoch(partition.leader_epoch),
                                )
                            }
                        }
                    }
                }
            })
            .collect();
        responses.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    let mut response = FetchResponse::default().with_responses(responses);
    if endpoints && cx.version >= 16 {
        response = response.with_node_endpoints(node_endpoints(&state));
    }
    Found {
        response,
        bytes,
        failed: any_failed,
    }
}

fn read(
    name: &str,
    wanted: &FetchPartition,
    state: &State,
    cx: &Context<'_>,
    isolation_level: i8,
    left: usize,
    first: bool,
) -> Result<PartitionData, i16> {
    let partition = state.partition(name, wanted.partition)?;
    partition.check_leader(cx.broker, wanted.current_leader_epoch)?;
    let log = &partition.log;
    let end = log.end_offset();
    let known = log.end_of_epoch(wanted.last_fetched_epoch);
    let tells_epoch = cx.version >= 12 && wanted.last_fetched_epoch >= 0;
    if wanted.fetch_offset < log.log_start_offset() || tells_epoch && known.1 < 0 {
        return Err(codes::OFFSET_OUT_OF_RANGE);
    }
    if tells_epoch && (known.0 < wanted.last_fetched_epoch || known.1 < wanted.fetch_offset) {
        return Ok(PartitionData::default()
            .with_partition_index(wanted.partition)
            .with_high_watermark(end)
            .with_last_stable_offset(log.last_stable_offset())
            .with_log_start_offset(log.log_start_offset())
            .with_aborted_transactions(None)
            .with_diverging_epoch(
                EpochEndOffset::default()
                    .with_epoch(known.0)
                    .with_end_offset(known.1),
            )
            .with_records(Some(Bytes::new())));
    }
    if wanted.fetch_offset > end {
        return Err(codes::OFFSET_OUT_OF_RANGE);
    }
    let committed_only = isolation_level == 1;
    let stable = log.last_stable_offset();
    let bound = if committed_only { stable } else { end };
    let limit = usize::try_from(wanted.partition_max_bytes)
        .unwrap_or(0)
        .min(left);
    let slice = log.read(wanted.fetch_offset, bound, limit, first);
    let aborted = committed_only.then(|| {
        slice
            .aborted
            .iter()
            .map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer_id))
                    .with_first_offset(aborted.first_offset)
            })
            .collect()
    });
    let mut records = BytesMut::with_capacity(slice.len);
    for batch in &slice.records {
        records.extend_from_slice(batch);
    }
    Ok(PartitionData::default()
        .with_partition_index(wanted.partition)
        .with_high_watermark(end)
        .with_last_stable_offset(stable)
        .with_log_start_offset(log.log_start_offset())
        .with_aborted_transactions(aborted)
        .with_records(Some(records.freeze())))
}

fn node_endpoints(state: &State) -> Vec<NodeEndpoint> {
    state
        .brokers
        .iter()
        .filter(|(_, broker)| broker.alive)
        .map(|(id, broker)| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(*id))
                .with_host(text("127.0.0.1"))
                .with_port(i32::from(broker.port))
        })
        .collect()
}
