//! ConsumerGroupDescribe: v0–v1. The consumer protocol of KIP-848 is not served, so every group answers 69, as
//! Kafka does for a classic or a missing one.

use super::{Api, Context, text};
use crate::sandbox::codes;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

impl Api for ConsumerGroupDescribeRequest {
    async fn serve(self, cx: &Context<'_>) -> ConsumerGroupDescribeResponse {
        let state = cx.cluster.state();
        let groups = self
            .group_ids
            .iter()
            .map(|id| {
                let (code, message) = match cx.check_coordinator(&state, id) {
                    Err(code) => (code, codes::name(code).to_string()),
                    Ok(()) if state.groups.contains_key(id.as_str()) => (
                        codes::GROUP_ID_NOT_FOUND,
                        format!("Group {} is not a consumer group.", id.as_str()),
                    ),
                    Ok(()) => (
                        codes::GROUP_ID_NOT_FOUND,
                        format!("Group {} not found.", id.as_str()),
                    ),
                };
                DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_error_code(code)
                    .with_error_message(Some(text(&message)))
            })
            .collect();
        ConsumerGroupDescribeResponse::default().with_groups(groups)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> ConsumerGroupDescribeResponse {
        let groups = self
            .group_ids
            .into_iter()
            .map(|id| {
                DescribedGroup::default()
                    .with_group_id(id)
                    .with_error_code(code)
            })
            .collect();
        ConsumerGroupDescribeResponse::default().with_groups(groups)
    }
}
