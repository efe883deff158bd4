//! Metadata: v0–v13. Topics by name or (v10+) by id; null asks for all; missing ones are created only if the
//! sandbox was started so and the client allows it.

use super::{Api, Context, text};
use crate::sandbox::cluster::{State, Topic, TopicWanted};
use crate::sandbox::codes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

impl Api for MetadataRequest {
    async fn serve(self, cx: &Context<'_>) -> MetadataResponse {
        let mut state = cx.cluster.state();
        // Version 0 has no null: there an empty list asks for all.
        let all = match &self.topics {
            None => true,
            Some(topics) => cx.version == 0 && topics.is_empty(),
        };
        let topics = if all {
            state
                .topics
                .iter()
                .map(|(name, topic)| describe(name, topic, &state))
                .collect()
        } else {
            let create = cx.cluster.options.auto_create_topics && self.allow_auto_topic_creation;
            self.topics
                .unwrap_or_default()
                .iter()
                .map(|wanted| one(wanted, &mut state, cx, create))
                .collect()
        };
        envelope(&state, cx).with_topics(topics)
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> MetadataResponse {
        let state = cx.cluster.state();
        let topics = self
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(|wanted| {
                MetadataResponseTopic::default()
                    .with_error_code(code)
                    .with_topic_id(wanted.topic_id)
                    .with_name(Some(wanted.name.unwrap_or_default()))
            })
            .collect();
        envelope(&state, cx).with_topics(topics)
    }
}

fn envelope(state: &State, cx: &Context<'_>) -> MetadataResponse {
    let brokers = state
        .brokers
        .iter()
        .filter(|(_, broker)| broker.alive)
        .map(|(id, broker)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(text("127.0.0.1"))
                .with_port(i32::from(broker.port))
        })
        .collect();
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_cluster_id(Some(text(&cx.cluster.cluster_id)))
        .with_controller_id(BrokerId(state.controller()))
}

fn one(
    wanted: &MetadataRequestTopic,
    state: &mut State,
    cx: &Context<'_>,
    create: bool,
) -> MetadataResponseTopic {
    let name = match &wanted.name {
        Some(name) => name.to_string(),
        None => match state.topic_name(wanted.topic_id) {
            Some(name) => name.to_string(),
            None => {
                return MetadataResponseTopic::default()
                    .with_error_code(codes::UNKNOWN_TOPIC_ID)
                    .with_topic_id(wanted.topic_id)
                    .with_name(None);
            }
        },
    };
    if create && !state.topics.contains_key(&name) {
        let topic = TopicWanted {
            name: name.clone(),
            partitions: -1,
            replication_factor: -1,
            ..TopicWanted::default()
        };
        match state.create_topic(cx.cluster, &topic, false) {
            Ok(_) => cx.cluster.touch(),
            Err(refusal) => return failed(&name, refusal.code),
        }
    }
    match state.topics.get(&name) {
        Some(topic) => describe(&name, topic, state),
        None => failed(&name, codes::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn failed(name: &str, code: i16) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code)
        .with_name(Some(TopicName(text(name))))
}

fn describe(name: &str, topic: &Topic, state: &State) -> MetadataResponseTopic {
    let alive = state.alive();
    let ids = |replicas: &[i32]| replicas.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(index, partition)| {
            let (live, offline): (Vec<i32>, Vec<i32>) =
                partition.replicas.iter().partition(|id| alive.contains(id));
            let code = match partition.leader {
                Some(_) => codes::NONE,
                None => codes::LEADER_NOT_AVAILABLE,
            };
            MetadataResponsePartition::default()
                .with_error_code(code)
                .with_partition_index(index)
                .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(ids(&partition.replicas))
                .with_isr_nodes(ids(&live))
                .with_offline_replicas(ids(&offline))
        })
        .collect();
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_topic_id(topic.id)
        .with_is_internal(name == "__consumer_offsets" || name == "__transaction_state")
        .with_partitions(partitions)
}
