//! LeaveGroup: v0–v5. One member up to v2, several from v3.

use super::{Api, Context, code_of};
use crate::sandbox::codes;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

impl Api for LeaveGroupRequest {
    async fn serve(self, cx: &Context<'_>) -> LeaveGroupResponse {
        let mut state = cx.cluster.state();
        if let Err(code) = cx.check_coordinator(&state, &self.group_id) {
            return self.refuse(code, cx);
        }
        let Some(group) = state.groups.get_mut(self.group_id.as_str()) else {
            return self.refuse(codes::UNKNOWN_MEMBER_ID, cx);
        };
        let response = if cx.version >= 3 {
            let members = self
                .members
                .iter()
                .map(|member| {
                    MemberResponse::default()
                        .with_member_id(member.member_id.clone())
                        .with_group_instance_id(member.group_instance_id.clone())
                        .with_error_code(code_of(group.leave(&member.member_id)))
                })
                .collect();
            LeaveGroupResponse::default().with_members(members)
        } else {
            LeaveGroupResponse::default().with_error_code(code_of(group.leave(&self.member_id)))
        };
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> LeaveGroupResponse {
        LeaveGroupResponse::default().with_error_code(code)
    }
}
