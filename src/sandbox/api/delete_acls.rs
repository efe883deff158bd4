//! DeleteAcls: v1–v3. By filter; what a filter took is in the answer.

use super::{Api, Context, text};
use crate::sandbox::acls::{self, Acl, AclFilter, Acls};
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

impl Api for DeleteAclsRequest {
    async fn serve(self, cx: &Context<'_>) -> DeleteAclsResponse {
        let mut state = cx.cluster.state();
        let results = self
            .filters
            .iter()
            .map(|filter| result(delete(filter, state.acls.as_mut())))
            .collect();
        DeleteAclsResponse::default().with_filter_results(results)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DeleteAclsResponse {
        let refused = |_: &DeleteAclsFilter| result(Err(Refusal::new(code, codes::name(code))));
        let results = self.filters.iter().map(refused).collect();
        DeleteAclsResponse::default().with_filter_results(results)
    }
}

fn delete(wanted: &DeleteAclsFilter, acls: Option<&mut Acls>) -> Result<Vec<Acl>, Refusal> {
    let acls = acls.ok_or_else(acls::no_authorizer)?;
    let filter = AclFilter {
        resource_type: wanted.resource_type_filter,
        resource_name: wanted.resource_name_filter.as_ref().map(|n| n.to_string()),
        pattern_type: wanted.pattern_type_filter,
        principal: wanted
            .principal_filter
            .as_ref()
            .map(|name| name.to_string()),
        host: wanted.host_filter.as_ref().map(|host| host.to_string()),
        operation: wanted.operation,
        permission: wanted.permission_type,
    };
    filter.check()?;
    let taken: Vec<Acl> = acls
        .iter()
        .filter(|acl| filter.takes(acl))
        .cloned()
        .collect();
    acls.retain(|acl| !filter.takes(acl));
    Ok(taken)
}

fn result(deleted: Result<Vec<Acl>, Refusal>) -> DeleteAclsFilterResult {
    let deleted = match deleted {
        Ok(deleted) => deleted,
        Err(refusal) => {
            return DeleteAclsFilterResult::default()
                .with_error_code(refusal.code)
                .with_error_message(Some(text(&refusal.message)));
        }
    };
    let matching = deleted.into_iter().map(|acl| {
        DeleteAclsMatchingAcl::default()
            .with_error_message(None)
            .with_resource_type(acl.resource_type)
            .with_resource_name(text(&acl.resource_name))
            .with_pattern_type(acl.pattern_type)
            .with_principal(text(&acl.principal))
            .with_host(text(&acl.host))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission)
    });
    DeleteAclsFilterResult::default()
        .with_error_message(None)
        .with_matching_acls(matching.collect())
}
