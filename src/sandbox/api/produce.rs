//! Produce: v3–v13. One batch per partition; sequences of idempotent producers are checked, transactional batches
//! need their partition in the transaction (v12+ adds it, KIP-890). `acks=0` gets no answer.

use super::{Api, Context, text};
use crate::record::BatchHeader;
use crate::sandbox::cluster::State;
use crate::sandbox::codes::{self, Refusal};
use crate::sandbox::log::Appended;
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};

impl Api for ProduceRequest {
    async fn serve(self, cx: &Context<'_>) -> ProduceResponse {
        if !matches!(self.acks, -1..=1) {
            return self.refuse(codes::INVALID_REQUIRED_ACKS, cx);
        }
        let mut state = cx.cluster.state();
        let transactional_id = self.transactional_id.as_ref().map(|id| id.to_string());
        let mut endpoints = false;
        let mut responses = Vec::with_capacity(self.topic_data.len());
        for topic in &self.topic_data {
            let name = topic_name(topic, &state, cx.version);
            let partitions = topic
                .partition_data
                .iter()
                .map(|data| {
                    let appended = match &name {
                        Err(code) => Err(Refusal::new(*code, codes::name(*code))),
                        Ok(name) => append(data, name, transactional_id.as_deref(), &mut state, cx),
                    };
                    let answer = describe(data, appended, cx);
                    let leader = name.as_ref().ok().filter(|_| {
                        cx.version >= 10 && answer.error_code == codes::NOT_LEADER_OR_FOLLOWER
                    });
                    match leader.and_then(|name| state.partition(name, data.index).ok()) {
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
                })
                .collect();
            responses.push(
                TopicProduceResponse::default()
                    .with_name(topic.name.clone())
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(partitions),
            );
        }
        let response = ProduceResponse::default().with_responses(responses);
        let response = if endpoints {
            response.with_node_endpoints(node_endpoints(&state))
        } else {
            response
        };
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> ProduceResponse {
        let responses = self
            .topic_data
            .into_iter()
            .map(|topic| {
                let partitions = topic
                    .partition_data
                    .iter()
                    .map(|data| {
                        PartitionProduceResponse::default()
                            .with_index(data.index)
                            .with_error_code(code)
                            .with_base_offset(-1)
                            .with_log_append_time_ms(-1)
                            .with_log_start_offset(-1)
                    })
                    .collect();
                TopicProduceResponse::default()
                    .with_name(topic.name)
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(partitions)
            })
            .collect();
        ProduceResponse::default().with_responses(responses)
    }

    fn is_silent(&self) -> bool {
        self.acks == 0
    }
}

fn topic_name(topic: &TopicProduceData, state: &State, version: i16) -> Result<String, i16> {
    if version < 13 {
        return Ok(topic.name.to_string());
    }
    state
        .topic_name(topic.topic_id)
        .map(str::to_string)
        .ok_or(codes::UNKNOWN_TOPIC_ID)
}

/// The offsets of an appended batch and the partition's log start.
fn append(
    data: &PartitionProduceData,
    name: &str,
    transactional_id: Option<&str>,
    state: &mut State,
    cx: &Context<'_>,
) -> Result<(Appended, i64), Refusal> {
    let plain = |code| Refusal::new(code, codes::name(code));
    let leader_epoch = {
        let partition = state.partition(name, data.index).map_err(plain)?;
        partition.check_leader(cx.broker, -1).map_err(plain)?;
        partition.leader_epoch
    };
    let records = data.records.as_deref().unwrap_or_default();
    if let Ok(header) = BatchHeader::parse(records)
        && header.attributes.is_transactional()
    {
        check_transaction(&header, transactional_id, state, name, data.index, cx)?;
    }
    let Some(topic) = state.topics.get_mut(name) else {
        return Err(plain(codes::UNKNOWN_TOPIC_OR_PARTITION));
    };
    let rules = topic.rules(leader_epoch);
    let Some(partition) = topic.partition_mut(data.index) else {
        return Err(plain(codes::UNKNOWN_TOPIC_OR_PARTITION));
    };
    let appended = partition.log.append(records, &rules)?;
    Ok((appended, partition.log.log_start_offset()))
}

/// A transactional batch belongs to a transaction that its partition is part of (KIP-890).
fn check_transaction(
    header: &BatchHeader,
    transactional_id: Option<&str>,
    state: &mut State,
    name: &str,
    index: i32,
    cx: &Context<'_>,
) -> Result<(), Refusal> {
    let refuse = |code| Refusal::new(code, codes::name(code));
    // Without a transactional id there is none that the client could be authorized for.
    let Some(id) = transactional_id else {
        return Err(refuse(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    };
    let identity = Identity {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
    };
    let fencing = Fencing {
        stale_epoch: codes::INVALID_PRODUCER_EPOCH,
    };
    if cx.version >= 12 {
        return state
            .add_partitions(id, identity, [(name.to_string(), index)], fencing)
            .map_err(refuse);
    }
    let transaction = state
        .owned_transaction(id, identity, fencing)
        .map_err(refuse)?;
    if transaction.has_partition(name, index) {
        Ok(())
    } else if cx.version >= 11 {
        Err(refuse(codes::TRANSACTION_ABORTABLE))
    } else {
        Err(refuse(codes::INVALID_TXN_STATE))
    }
}

fn describe(
    data: &PartitionProduceData,
    appended: Result<(Appended, i64), Refusal>,
    cx: &Context<'_>,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(data.index);
    match appended {
        Ok((appended, log_start_offset)) => answer
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time)
            .with_log_start_offset(log_start_offset),
        Err(refusal) => answer
            .with_error_code(refusal.code)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message((cx.version >= 8).then(|| text(&refusal.message))),
    }
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
