//! What is kept of the cluster besides topics and groups: ACLs, client quotas, names of SCRAM users.
//!
//! Many a backup's principal may not see them. That is said, and does not stand in the way of the records.

use super::options::Keep;
use super::plan::PlanCluster;
use crate::archive::{AclEntry, ClusterState, QuotaEntry};
use crate::base::text::counted;
use crate::kafka::{self, AclBinding, Acls, Client, ClientQuota, ErrorCode};

/// What was read, and what is to be said about the rest.
#[derive(Debug, Default)]
pub(super) struct ClusterRead {
    /// `None`: nothing of it was asked for.
    pub state: Option<ClusterState>,
    pub notes: Vec<String>,
    /// The run must not end as success.
    pub incomplete: Vec<String>,
}

pub(super) async fn read(client: &Client, wanted: &PlanCluster) -> ClusterRead {
    let mut read = ClusterRead::default();
    if wanted.acls == Keep::None && wanted.quotas == Keep::None {
        return read;
    }
    let mut state = ClusterState::default();
    match wanted.acls {
        Keep::None => read.not_asked(&mut state, "acls"),
        keep => {
            match client.acls().await {
                Ok(Acls::Bindings(acls)) => {
                    state.authorizer = Some(true);
                    state.acls = Some(acls.iter().map(acl_entry).collect());
                }
                Ok(Acls::NoAuthorizer) => {
                    state.authorizer = Some(false);
                    state.acls = Some(Vec::new());
                    if keep == Keep::Required {
                        let note = "no ACLs: the cluster has no authorizer";
                        read.notes.push(note.to_string());
                    }
                }
                Err(error) => read.lacks(&mut state, "acls", "the cluster's ACLs", keep, &error),
            }
            read.scram_users(client, &mut state).await;
        }
    }
    match wanted.quotas {
        Keep::None => read.not_asked(&mut state, "quotas"),
        keep => match client.client_quotas().await {
            Ok(quotas) => read.quotas(&mut state, quotas),
            Err(error) => read.lacks(&mut state, "quotas", "client quotas", keep, &error),
        },
    }
    read.state = Some(state);
    read
}

impl ClusterRead {
    fn not_asked(&mut self, state: &mut ClusterState, field: &str) {
        let why = "the backup was told to leave them out".to_string();
        state.missing.insert(field.to_string(), why);
    }

    fn lacks(
        &mut self,
        state: &mut ClusterState,
        field: &str,
        what: &str,
        keep: Keep,
        error: &kafka::Error,
    ) {
        state.missing.insert(field.to_string(), error.to_string());
        let sentence = format!("{what} are not kept: {error}");
        // A right that is missing, or a broker too old: the default takes that. Anything else is a failure.
        let expected = error.code() == Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
            || matches!(error, kafka::Error::Unsupported { .. });
        match expected && keep != Keep::Required {
            true => self.notes.push(sentence),
            false => self.incomplete.push(sentence),
        }
    }

    /// Names only, for whoever sets up the cluster anew: never a reason for a run to be incomplete.
    async fn scram_users(&mut self, client: &Client, state: &mut ClusterState) {
        match client.scram_users().await {
            Ok(users) => {
                if !users.is_empty() {
                    self.notes.push(format!(
                        "{} with SCRAM credentials: their names are kept, no broker tells their secrets",
                        counted(users.len() as i128, "user")
                    ));
                }
                state.scram_users = Some(users);
            }
            Err(error) => {
                state
                    .missing
                    .insert("scram_users".to_string(), error.to_string());
            }
        }
    }

    fn quotas(&mut self, state: &mut ClusterState, quotas: Vec<ClientQuota>) {
        let mut kept = Vec::with_capacity(quotas.len());
        for quota in quotas {
            let mut entry = QuotaEntry {
                entity: quota.entity.0.clone(),
                values: quota.values,
            };
            // JSON has no word for an infinite number.
            entry.values.retain(|name, value| {
                if !value.is_finite() {
                    self.incomplete.push(format!(
                        "the quota {name} of {} is {value} and cannot be kept",
                        quota.entity
                    ));
                }
                value.is_finite()
            });
            kept.push(entry);
        }
        state.quotas = Some(kept);
    }
}

/// An ACL as the archive keeps it.
pub fn acl_entry(acl: &AclBinding) -> AclEntry {
    AclEntry {
        resource_type: acl.resource_type.to_string(),
        resource_name: acl.resource_name.clone(),
        pattern_type: acl.pattern_type.to_string(),
        principal: acl.principal.clone(),
        host: acl.host.clone(),
        operation: acl.operation.to_string(),
        permission: acl.permission.to_string(),
    }
}
