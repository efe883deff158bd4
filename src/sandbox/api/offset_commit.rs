//! OffsetCommit: v2–v9. Generation −1 is taken while the group has no members, 25 otherwise. Offsets are not
//! compared with the log: a coordinator takes any.

use super::{Api, Context};
use crate::base::Offset;
use crate::sandbox::CommittedOffset;
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

/// `offset.metadata.max.bytes`.
const LARGEST_METADATA: usize = 4096;

impl Api for OffsetCommitRequest {
    async fn serve(self, cx: &Context<'_>) -> OffsetCommitResponse {
        let mut state = cx.cluster.state();
        if let Err(code) = check(&self, &mut state, cx) {
            return self.refuse(code, cx);
        }
        let group_id = self.group_id.to_string();
        let response = answer(&self, |topic, wanted| {
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            let checked = check_partition(&state, topic, wanted.partition_index, metadata);
            if let Err(code) = checked {
                return code;
            }
            state.groups.entry(group_id.clone()).or_default().commit(
                (topic.to_string(), wanted.partition_index),
                CommittedOffset {
                    offset: Offset(wanted.committed_offset),
                    leader_epoch: wanted.committed_leader_epoch,
                    metadata: metadata.to_string(),
                },
            );
            codes::NONE
        });
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> OffsetCommitResponse {
        answer(&self, |_, _| code)
    }
}

fn check(request: &OffsetCommitRequest, state: &mut State, cx: &Context<'_>) -> Result<(), i16> {
    let group_id = request.group_id.as_str();
    cx.check_coordinator(state, group_id)?;
    let generation = request.generation_id_or_member_epoch;
    match state.groups.get_mut(group_id) {
        Some(group) => group.check_commit(&request.member_id, generation, false),
        None if generation >= 0 => Err(codes::ILLEGAL_GENERATION),
        None => Ok(()),
    }
}

/// What a coordinator checks of each partition: that it exists, and the length of the metadata.
pub(super) fn check_partition(
    state: &State,
    topic: &str,
    partition: i32,
    metadata: &str,
) -> Result<(), i16> {
    state.partition(topic, partition)?;
    if metadata.len() > LARGEST_METADATA {
        return Err(codes::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(())
}

fn answer(
    request: &OffsetCommitRequest,
    mut commit: impl FnMut(&str, &OffsetCommitRequestPartition) -> i16,
) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(wanted.partition_index)
                        .with_error_code(commit(&topic.name, wanted))
                })
                .collect();
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    OffsetCommitResponse::default().with_topics(topics)
}
