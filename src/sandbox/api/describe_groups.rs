//! DescribeGroups: v0–v6. A group nobody knows is `Dead`; from v6 on it also answers 69 (KIP-1043).

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::groups::{Group, GroupState, Member};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

impl Api for DescribeGroupsRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeGroupsResponse {
        let state = cx.cluster.state();
        let groups = self
            .groups
            .iter()
            .map(|id| describe(id, &state, cx).with_group_id(id.clone()))
            .collect();
        DescribeGroupsResponse::default().with_groups(groups)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeGroupsResponse {
        let groups = self
            .groups
            .iter()
            .map(|id| {
                DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_error_code(code)
            })
            .collect();
        DescribeGroupsResponse::default().with_groups(groups)
    }
}

fn describe(id: &GroupId, state: &State, cx: &Context<'_>) -> DescribedGroup {
    if let Err(code) = cx.check_coordinator(state, id) {
        return DescribedGroup::default().with_error_code(code);
    }
    let Some(group) = state.groups.get(id.as_str()) else {
        let dead = DescribedGroup::default().with_group_state(text("Dead"));
        if cx.version < 6 {
            return dead;
        }
        return dead
            .with_error_code(codes::GROUP_ID_NOT_FOUND)
            .with_error_message(Some(text(&format!("Group {} not found.", id.as_str()))));
    };
    let settled = group.state == GroupState::Stable;
    let members = group
        .members
        .iter()
        .map(|(member_id, member)| describe_member(member_id, member, group, settled, cx))
        .collect();
    let protocol = if settled { group.protocol.as_str() } else { "" };
    DescribedGroup::default()
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(protocol))
        .with_members(members)
}

fn describe_member(
    member_id: &str,
    member: &Member,
    group: &Group,
    settled: bool,
    cx: &Context<'_>,
) -> DescribedGroupMember {
    let described = DescribedGroupMember::default()
        .with_member_id(text(member_id))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.host));
    let described = if cx.version >= 4 {
        described.with_group_instance_id(member.instance_id.as_deref().map(text))
    } else {
        described
    };
    if !settled {
        return described;
    }
    described
        .with_member_metadata(group.metadata(member))
        .with_member_assignment(member.assignment.clone())
}
