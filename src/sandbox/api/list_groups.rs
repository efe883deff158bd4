//! ListGroups: v0–v5, with filters by state (v4) and type (v5). Each broker lists the groups it coordinates.

use super::{Api, Context, text};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

impl Api for ListGroupsRequest {
    async fn serve(self, cx: &Context<'_>) -> ListGroupsResponse {
        let state = cx.cluster.state();
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|part| part.eq_ignore_ascii_case(value))
        };
        let groups = state
            .groups
            .iter()
            .filter(|(id, _)| cx.check_coordinator(&state, id).is_ok())
            .filter(|(_, group)| wanted(&self.states_filter, group.state.name()))
            .filter(|_| wanted(&self.types_filter, "classic"))
            .map(|(id, group)| {
                let listed = ListedGroup::default()
                    .with_group_id(GroupId(text(id)))
                    .with_protocol_type(text(&group.protocol_type));
                let listed = if cx.version >= 4 {
                    listed.with_group_state(text(group.state.name()))
                } else {
                    listed
                };
                if cx.version >= 5 {
                    listed.with_group_type(text("classic"))
                } else {
                    listed
                }
            })
            .collect();
        ListGroupsResponse::default().with_groups(groups)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> ListGroupsResponse {
        ListGroupsResponse::default().with_error_code(code)
    }
}
