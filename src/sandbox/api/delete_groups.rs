//! DeleteGroups: v0–v2. Only groups without members.

use super::{Api, Context, code_of};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

impl Api for DeleteGroupsRequest {
    async fn serve(self, cx: &Context<'_>) -> DeleteGroupsResponse {
        let mut state = cx.cluster.state();
        let results = self
            .groups_names
            .iter()
            .map(|id| {
                DeletableGroupResult::default()
                    .with_group_id(id.clone())
                    .with_error_code(code_of(delete(id, &mut state, cx)))
            })
            .collect();
        DeleteGroupsResponse::default().with_results(results)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DeleteGroupsResponse {
        let results = self
            .groups_names
            .into_iter()
            .map(|id| {
                DeletableGroupResult::default()
                    .with_group_id(id)
                    .with_error_code(code)
            })
            .collect();
        DeleteGroupsResponse::default().with_results(results)
    }
}

fn delete(id: &str, state: &mut State, cx: &Context<'_>) -> Result<(), i16> {
    cx.check_coordinator(state, id)?;
    let group = state.groups.get(id).ok_or(codes::GROUP_ID_NOT_FOUND)?;
    if group.is_active() {
        return Err(codes::NON_EMPTY_GROUP);
    }
    state.groups.remove(id);
    Ok(())
}
