//! DescribeProducers: v0. The producers a partition remembers, and where their open transactions began.

use super::{Api, Context};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

impl Api for DescribeProducersRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeProducersResponse {
        let state = cx.cluster.state();
        answer(&self.topics, |topic, index| {
            describe(topic, index, &state, cx)
        })
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeProducersResponse {
        answer(&self.topics, |_, _| Err(code))
    }
}

fn describe(
    topic: &str,
    index: i32,
    state: &State,
    cx: &Context<'_>,
) -> Result<Vec<ProducerState>, i16> {
    let partition = state.partition(topic, index)?;
    partition.check_leader(cx.broker, -1)?;
    Ok(partition
        .log
        .producers()
        .iter()
        .map(|(id, producer)| {
            ProducerState::default()
                .with_producer_id(ProducerId(*id))
                .with_producer_epoch(i32::from(producer.producer_epoch))
                .with_last_sequence(producer.last_sequence())
                .with_last_timestamp(producer.last_timestamp)
                .with_coordinator_epoch(producer.coordinator_epoch)
                .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
        })
        .collect())
}

fn answer(
    topics: &[TopicRequest],
    describe: impl Fn(&str, i32) -> Result<Vec<ProducerState>, i16>,
) -> DescribeProducersResponse {
    let topics = topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partition_indexes
                .iter()
                .map(|index| {
                    let partition = PartitionResponse::default().with_partition_index(*index);
                    match describe(&topic.name, *index) {
                        Ok(producers) => partition
                            .with_error_code(codes::NONE)
                            .with_active_producers(producers),
                        Err(code) => partition.with_error_code(code),
                    }
                })
                .collect();
            TopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    DescribeProducersResponse::default().with_topics(topics)
}
