//! Heartbeat: v0–v4. 27 tells a member to join again.

use super::{Api, Context, code_of};
use crate::sandbox::codes;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

impl Api for HeartbeatRequest {
    async fn serve(self, cx: &Context<'_>) -> HeartbeatResponse {
        let mut state = cx.cluster.state();
        let beaten = cx.check_coordinator(&state, &self.group_id).and_then(|()| {
            state
                .groups
                .get_mut(self.group_id.as_str())
                .ok_or(codes::UNKNOWN_MEMBER_ID)?
                .heartbeat(&self.member_id, self.generation_id)
        });
        HeartbeatResponse::default().with_error_code(code_of(beaten))
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> HeartbeatResponse {
        HeartbeatResponse::default().with_error_code(code)
    }
}
