//! CreateAcls: v1–v3. Each with its own code; one that is there already is no error.

use super::{Api, Context, text};
use crate::sandbox::acls::{self, Acl, Acls};
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

impl Api for CreateAclsRequest {
    async fn serve(self, cx: &Context<'_>) -> CreateAclsResponse {
        let mut state = cx.cluster.state();
        let results = self
            .creations
            .iter()
            .map(|creation| result(create(creation, state.acls.as_mut())))
            .collect();
        CreateAclsResponse::default().with_results(results)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> CreateAclsResponse {
        let refused = |_: &AclCreation| result(Err(Refusal::new(code, codes::name(code))));
        CreateAclsResponse::default().with_results(self.creations.iter().map(refused).collect())
    }
}

fn create(creation: &AclCreation, acls: Option<&mut Acls>) -> Result<(), Refusal> {
    let acls = acls.ok_or_else(acls::no_authorizer)?;
    let acl = Acl {
        resource_type: creation.resource_type,
        resource_name: creation.resource_name.to_string(),
        pattern_type: creation.resource_pattern_type,
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation: creation.operation,
        permission: creation.permission_type,
    };
    acl.check()?;
    acls.insert(acl);
    Ok(())
}

fn result(created: Result<(), Refusal>) -> AclCreationResult {
    match created {
        Ok(()) => AclCreationResult::default().with_error_message(None),
        Err(refusal) => AclCreationResult::default()
            .with_error_code(refusal.code)
            .with_error_message(Some(text(&refusal.message))),
    }
}
