//! SyncGroup: v0–v5. The leader brings the assignments, the others wait for them.

use super::{Api, Context, text};
use crate::sandbox::codes;
use crate::sandbox::groups::GroupState;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use std::time::{Duration, Instant};

/// How long a follower waits at most; the leader's session ends the rebalance long before.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Api for SyncGroupRequest {
    async fn serve(self, cx: &Context<'_>) -> SyncGroupResponse {
        let mut changes = cx.cluster.changes();
        if let Err(code) = bring(&self, cx) {
            return self.refuse(code, cx);
        }
        cx.cluster.touch();
        let until = Instant::now() + LONGEST_WAIT;
        loop {
            changes.mark_unchanged();
            if let Some(response) = outcome(&self, cx) {
                return response;
            }
            if tokio::time::timeout_at(until.into(), changes.changed())
                .await
                .is_err()
            {
                return self.refuse(codes::REBALANCE_IN_PROGRESS, cx);
            }
        }
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> SyncGroupResponse {
        SyncGroupResponse::default().with_error_code(code)
    }
}

fn bring(request: &SyncGroupRequest, cx: &Context<'_>) -> Result<(), i16> {
    let mut state = cx.cluster.state();
    cx.check_coordinator(&state, &request.group_id)?;
    let group = state
        .groups
        .get_mut(request.group_id.as_str())
        .ok_or(codes::UNKNOWN_MEMBER_ID)?;
    let assignments = request
        .assignments
        .iter()
        .map(|assignment| {
            (
                assignment.member_id.to_string(),
                assignment.assignment.clone(),
            )
        })
        .collect();
    group.sync(&request.member_id, request.generation_id, assignments)
}

fn outcome(request: &SyncGroupRequest, cx: &Context<'_>) -> Option<SyncGroupResponse> {
    let failed = |code| Some(SyncGroupResponse::default().with_error_code(code));
    let state = cx.cluster.state();
    let Some(group) = state.groups.get(request.group_id.as_str()) else {
        return failed(codes::UNKNOWN_MEMBER_ID);
    };
    let Some(member) = group.members.get(request.member_id.as_str()) else {
        return failed(codes::UNKNOWN_MEMBER_ID);
    };
    if group.generation != request.generation_id || group.state == GroupState::PreparingRebalance {
        return failed(codes::REBALANCE_IN_PROGRESS);
    }
    if group.state != GroupState::Stable {
        return None;
    }
    let response = SyncGroupResponse::default().with_assignment(member.assignment.clone());
    Some(if cx.version >= 5 {
        response
            .with_protocol_type(Some(text(&group.protocol_type)))
            .with_protocol_name(Some(text(&group.protocol)))
    } else {
        response
    })
}
