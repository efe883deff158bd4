//! OffsetForLeaderEpoch: v2–v4. Where the log of a leader epoch ends, which shows whether a log was truncated.

use super::{Api, Context};
use crate::sandbox::codes;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

impl Api for OffsetForLeaderEpochRequest {
    async fn serve(self, cx: &Context<'_>) -> OffsetForLeaderEpochResponse {
        let state = cx.cluster.state();
        answer(self, |topic, wanted| {
            let partition = state.partition(topic, wanted.partition)?;
            partition.check_leader(cx.broker, wanted.current_leader_epoch)?;
            Ok(partition.log.end_of_epoch(wanted.leader_epoch))
        })
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> OffsetForLeaderEpochResponse {
        answer(self, |_, _| Err(code))
    }
}

fn answer(
    request: OffsetForLeaderEpochRequest,
    find: impl Fn(&str, &OffsetForLeaderPartition) -> Result<(i32, i64), i16>,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    let found = find(&topic.topic, wanted);
                    let (leader_epoch, end_offset) = found.unwrap_or((-1, -1));
                    EpochEndOffset::default()
                        .with_error_code(found.err().unwrap_or(codes::NONE))
                        .with_partition(wanted.partition)
                        .with_leader_epoch(leader_epoch)
                        .with_end_offset(end_offset)
                })
                .collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(partitions)
        })
        .collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}
