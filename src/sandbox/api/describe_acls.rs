//! DescribeAcls: v1–v3. Code 54 where there is no authorizer.

use super::{Api, Context, text};
use crate::sandbox::acls::{self, Acl, AclFilter};
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use std::collections::BTreeMap;

impl Api for DescribeAclsRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeAclsResponse {
        let filter = AclFilter {
            resource_type: self.resource_type_filter,
            resource_name: self.resource_name_filter.map(|name| name.to_string()),
            pattern_type: self.pattern_type_filter,
            principal: self.principal_filter.map(|name| name.to_string()),
            host: self.host_filter.map(|host| host.to_string()),
            operation: self.operation,
            permission: self.permission_type,
        };
        let state = cx.cluster.state();
        let found = match &state.acls {
            None => Err(acls::no_authorizer()),
            Some(all) => filter
                .check()
                .map(|()| all.iter().filter(|acl| filter.takes(acl)).collect()),
        };
        answer(found)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeAclsResponse {
        answer(Err(Refusal::new(code, codes::name(code))))
    }
}

fn answer(found: Result<Vec<&Acl>, Refusal>) -> DescribeAclsResponse {
    let found = match found {
        Ok(found) => found,
        Err(refusal) => {
            return DescribeAclsResponse::default()
                .with_error_code(refusal.code)
                .with_error_message(Some(text(&refusal.message)));
        }
    };
    let mut resources: BTreeMap<(i8, &str, i8), Vec<AclDescription>> = BTreeMap::new();
    for acl in found {
        let resource = (
            acl.resource_type,
            acl.resource_name.as_str(),
            acl.pattern_type,
        );
        let described = AclDescription::default()
            .with_principal(text(&acl.principal))
            .with_host(text(&acl.host))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission);
        resources.entry(resource).or_default().push(described);
    }
    let resources = resources.into_iter().map(|((kind, name, pattern), acls)| {
        DescribeAclsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_pattern_type(pattern)
            .with_acls(acls)
    });
    DescribeAclsResponse::default()
        .with_error_message(None)
        .with_resources(resources.collect())
}
