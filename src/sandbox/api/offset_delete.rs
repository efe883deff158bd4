//! OffsetDelete: v0. Topics that a member subscribes to are refused one by one; the others are deleted.

use super::{Api, Context};
use crate::kafka::subscribed_topics;
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use std::collections::BTreeSet;

impl Api for OffsetDeleteRequest {
    async fn serve(self, cx: &Context<'_>) -> OffsetDeleteResponse {
        let mut state = cx.cluster.state();
        let subscribed = match subscribed(&self.group_id, &state, cx) {
            Ok(topics) => topics,
            Err(code) => return self.refuse(code, cx),
        };
        let response = answer(&self, |name, index| {
            if let Err(code) = state.partition(name, index).map(drop) {
                return code;
            }
            if subscribed.contains(name) {
                return codes::GROUP_SUBSCRIBED_TO_TOPIC;
            }
            if let Some(group) = state.groups.get_mut(self.group_id.as_str()) {
                group.forget(&(name.to_string(), index));
            }
            codes::NONE
        });
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> OffsetDeleteResponse {
        OffsetDeleteResponse::default().with_error_code(code)
    }
}

/// The topics that members of the group read.
fn subscribed(id: &str, state: &State, cx: &Context<'_>) -> Result<BTreeSet<String>, i16> {
    cx.check_coordinator(state, id)?;
    let group = state.groups.get(id).ok_or(codes::GROUP_ID_NOT_FOUND)?;
    if group.is_active() && group.protocol_type != "consumer" {
        return Err(codes::NON_EMPTY_GROUP);
    }
    let members = group.members.values();
    Ok(members
        .flat_map(|member| subscribed_topics(&group.metadata(member)))
        .collect())
}

fn answer(
    request: &OffsetDeleteRequest,
    mut delete: impl FnMut(&str, i32) -> i16,
) -> OffsetDeleteResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let index = wanted.partition_index;
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(delete(&topic.name, index))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
