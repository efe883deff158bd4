//! TxnOffsetCommit: v0–v5. Offsets wait with the group until the transaction ends. Generation −1 with an empty
//! member is taken for any group, active ones included. v5 adds the group to the transaction itself (KIP-890).

use super::offset_commit::check_partition;
use super::{Api, Context};
use crate::base::Offset;
use crate::sandbox::CommittedOffset;
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

impl Api for TxnOffsetCommitRequest {
    async fn serve(self, cx: &Context<'_>) -> TxnOffsetCommitResponse {
        let mut state = cx.cluster.state();
        if let Err(code) = check(&self, &mut state, cx) {
            return self.refuse(code, cx);
        }
        let producer_id = self.producer_id.0;
        let group_id = self.group_id.to_string();
        let response = answer(&self, |topic, wanted| {
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            let checked = check_partition(&state, topic, wanted.partition_index, metadata);
            if let Err(code) = checked {
                return code;
            }
            state
                .groups
                .entry(group_id.clone())
                .or_default()
                .commit_pending(
                    producer_id,
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

    fn refuse(self, code: i16, _cx: &Context<'_>) -> TxnOffsetCommitResponse {
        answer(&self, |_, _| code)
    }
}

fn check(request: &TxnOffsetCommitRequest, state: &mut State, cx: &Context<'_>) -> Result<(), i16> {
    let group_id = request.group_id.as_str();
    cx.check_coordinator(state, group_id)?;
    if group_id.is_empty() {
        return Err(codes::INVALID_GROUP_ID);
    }
    let identity = Identity {
        producer_id: request.producer_id.0,
        producer_epoch: request.producer_epoch,
    };
    let fencing = Fencing {
        stale_epoch: codes::INVALID_PRODUCER_EPOCH,
    };
    let id = request.transactional_id.as_str();
    if cx.version >= 5 {
        state.add_group(id, identity, group_id, fencing)?;
    } else if !state
        .owned_transaction(id, identity, fencing)?
        .has_group(group_id)
    {
        return Err(codes::INVALID_TXN_STATE);
    }
    match state.groups.get_mut(group_id) {
        Some(group) => group.check_commit(&request.member_id, request.generation_id, true),
        None if request.generation_id >= 0 => Err(codes::ILLEGAL_GENERATION),
        None => Ok(()),
    }
}

fn answer(
    request: &TxnOffsetCommitRequest,
    mut commit: impl FnMut(&str, &TxnOffsetCommitRequestPartition) -> i16,
) -> TxnOffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    TxnOffsetCommitResponsePartition::default()
                        .with_partition_index(wanted.partition_index)
                        .with_error_code(commit(&topic.name, wanted))
                })
                .collect();
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    TxnOffsetCommitResponse::default().with_topics(topics)
}
