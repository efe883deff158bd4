//! JoinGroup: v0–v9. From v4 on a member without an id is told one and comes again (79). The answer waits until all
//! members are back or the rebalance timeout is over. Static members are told apart by id only.

use super::{Api, Context, text};
use crate::sandbox::codes;
use crate::sandbox::groups::{GroupState, Joining};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use std::time::{Duration, Instant};

impl Api for JoinGroupRequest {
    async fn serve(self, cx: &Context<'_>) -> JoinGroupResponse {
        let group_id = self.group_id.to_string();
        let mut changes = cx.cluster.changes();
        let member_id = match enter(&self, &group_id, cx) {
            Ok(member_id) => member_id,
            Err((code, member_id)) => return failed(code, &member_id, cx),
        };
        cx.cluster.touch();
        loop {
            changes.mark_unchanged();
            let until = match outcome(&group_id, &member_id, cx) {
                Ok(response) => return response,
                Err(until) => until,
            };
            // A change, or the end of the rebalance, which the next look brings about.
            let _ = tokio::time::timeout_at(until.into(), changes.changed()).await;
        }
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> JoinGroupResponse {
        failed(code, &self.member_id, cx)
    }
}

fn failed(code: i16, member_id: &str, cx: &Context<'_>) -> JoinGroupResponse {
    // Nullable from version 7 on only.
    let protocol_name = if cx.version >= 7 {
        None
    } else {
        Some(text(""))
    };
    JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_name(protocol_name)
        .with_member_id(text(member_id))
}

/// Takes the member in. The error carries the member id to answer.
fn enter(
    request: &JoinGroupRequest,
    group_id: &str,
    cx: &Context<'_>,
) -> Result<String, (i16, String)> {
    let given = request.member_id.to_string();
    let refused = |code| (code, given.clone());
    let mut state = cx.cluster.state();
    cx.check_coordinator(&state, group_id).map_err(refused)?;
    if group_id.is_empty() {
        return Err(refused(codes::INVALID_GROUP_ID));
    }
    if request.session_timeout_ms <= 0 || request.session_timeout_ms > 1_800_000 {
        return Err(refused(codes::INVALID_SESSION_TIMEOUT));
    }
    let number = state.take_member_number();
    let group = state.groups.entry(group_id.to_string()).or_default();
    let member_id = if given.is_empty() {
        let new = format!("{}-{number:08}", cx.client_id);
        if cx.version >= 4 && request.group_instance_id.is_none() {
            group.promised.insert(new.clone());
            return Err((codes::MEMBER_ID_REQUIRED, new));
        }
        new
    } else if group.members.contains_key(&given) || group.promised.contains(&given) {
        given.clone()
    } else {
        return Err(refused(codes::UNKNOWN_MEMBER_ID));
    };
    let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session_timeout = millis(request.session_timeout_ms);
    let joining = Joining {
        member_id: member_id.clone(),
        instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
        client_id: cx.client_id.to_string(),
        host: cx.host.to_string(),
        session_timeout,
        rebalance_timeout: if cx.version >= 1 {
            millis(request.rebalance_timeout_ms)
        } else {
            session_timeout
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.to_string(), protocol.metadata.clone()))
            .collect(),
    };
    if !group.agrees(&joining) {
        return Err(refused(codes::INCONSISTENT_GROUP_PROTOCOL));
    }
    group.join(joining);
    Ok(member_id)
}

/// The answer, or until when to wait for it.
fn outcome(
    group_id: &str,
    member_id: &str,
    cx: &Context<'_>,
) -> Result<JoinGroupResponse, Instant> {
    let state = cx.cluster.state();
    let Some(group) = state.groups.get(group_id) else {
        return Ok(failed(codes::UNKNOWN_MEMBER_ID, member_id, cx));
    };
    let Some(member) = group.members.get(member_id) else {
        return Ok(failed(codes::UNKNOWN_MEMBER_ID, member_id, cx));
    };
    if member.joining && group.state == GroupState::PreparingRebalance {
        return Err(group.rebalance_ends().unwrap_or_else(Instant::now));
    }
    let members = if group.leader == member_id {
        group
            .members
            .iter()
            .map(|(id, member)| {
                let described = JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_metadata(group.metadata(member));
                if cx.version >= 5 {
                    described.with_group_instance_id(member.instance_id.as_deref().map(text))
                } else {
                    described
                }
            })
            .collect()
    } else {
        Vec::new()
    };
    let response = JoinGroupResponse::default()
        .with_generation_id(group.generation)
        .with_protocol_name(Some(text(&group.protocol)))
        .with_leader(text(&group.leader))
        .with_member_id(text(member_id))
        .with_members(members);
    Ok(if cx.version >= 7 {
        response.with_protocol_type(Some(text(&group.protocol_type)))
    } else {
        response
    })
}
