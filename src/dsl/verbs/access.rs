//! ACLs and client quotas: of a cluster as it is, and of a snapshot as it was. To look at; nothing restores them.

use super::archives::SnapshotValue;
use super::clusters::Cluster;
use crate::archive::{AclEntry, ClusterState};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::Entry;
use crate::engine::backup;
use crate::kafka::{Acls, QuotaEntity};
use rhai::{Array, Dynamic};
use std::collections::BTreeMap;

/// One ACL.
#[derive(Clone)]
pub struct AclValue(pub AclEntry);

/// One quota of one user, client id or address.
#[derive(Clone)]
pub struct QuotaValue {
    pub entity: BTreeMap<String, Option<String>>,
    pub name: String,
    pub value: f64,
}

pub static TABLE: &[Entry] = &[
    Entry::method(Kind::Cluster, "acls", &[], Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let acls = call
            .wait(cluster.0.client.acls())?
            .map_err(|error| reading::of_kafka("acls", &cluster.0.name, error))?;
        Ok(match acls {
            Acls::Bindings(acls) => list(acls.iter().map(|acl| AclValue(backup::acl_entry(acl)))),
            Acls::NoAuthorizer => list(std::iter::empty::<AclValue>()),
        })
    })
    .doc("Every ACL; none where the cluster has no authorizer. Needs DESCRIBE on the cluster.")
    .example("cluster(\"dr\").acls()"),
    Entry::method(Kind::Cluster, "quotas", &[], Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let quotas = call
            .wait(cluster.0.client.client_quotas())?
            .map_err(|error| reading::of_kafka("quotas", &cluster.0.name, error))?;
        let quotas = quotas.into_iter();
        Ok(list(quotas.flat_map(|quota| {
            rows(quota.entity.0, quota.values)
        })))
    })
    .doc("Every client quota, one row for each value. Needs DESCRIBE_CONFIGS on the cluster.")
    .example("cluster(\"dr\").quotas()"),
    Entry::method(Kind::Snapshot, "acls", &[], Kind::List, |call| {
        let state = kept(call, "acls")?;
        match state.acls {
            Some(acls) => Ok(list(acls.into_iter().map(AclValue))),
            None => Err(missing(call, "ACLs", "acls", &state)),
        }
    })
    .doc(
        "The ACLs of the source as they were; an error if the backup could not see them. They are kept to be looked at: \
         kbr does not restore them.",
    )
    .example("store(\"prod\").latest().acls()"),
    Entry::method(Kind::Snapshot, "quotas", &[], Kind::List, |call| {
        let state = kept(call, "quotas")?;
        match state.quotas {
            Some(quotas) => {
                let quotas = quotas.into_iter();
                Ok(list(quotas.flat_map(|quota| rows(quota.entity, quota.values))))
            }
            None => Err(missing(call, "client quotas", "quotas", &state)),
        }
    })
    .doc("The client quotas of the source as they were, likewise.")
    .example("store(\"prod\").latest().quotas()"),
    Entry::column(Kind::Acl, "principal", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.principal.into())
    })
    .doc("`User:alice`."),
    Entry::column(Kind::Acl, "permission", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.permission.into())
    })
    .doc("`ALLOW` or `DENY`."),
    Entry::column(Kind::Acl, "operation", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.operation.into())
    })
    .doc("`READ`, `WRITE`, `DESCRIBE`, `ALL` …"),
    Entry::column(Kind::Acl, "resource_type", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.resource_type.into())
    })
    .doc("`TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN`, `USER`."),
    Entry::column(Kind::Acl, "resource", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.resource_name.into())
    })
    .doc("The resource's name, or what it begins with."),
    Entry::column(Kind::Acl, "pattern", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.pattern_type.into())
    })
    .doc("`LITERAL` or `PREFIXED`."),
    Entry::column(Kind::Acl, "host", Kind::Text, |call| {
        Ok(call.me::<AclValue>()?.0.host.into())
    })
    .doc("From which address; `*` for all."),
    Entry::column(Kind::Quota, "entity", Kind::Text, |call| {
        let quota: QuotaValue = call.me()?;
        Ok(QuotaEntity(quota.entity).to_string().into())
    })
    .doc("`user alice`, `user alice, client-id (default)`, `ip 10.0.0.7`."),
    Entry::column(Kind::Quota, "name", Kind::Text, |call| {
        Ok(call.me::<QuotaValue>()?.name.into())
    })
    .doc("`producer_byte_rate`, `consumer_byte_rate`, `request_percentage` …"),
    Entry::column(Kind::Quota, "value", Kind::Decimal, |call| {
        Ok(call.me::<QuotaValue>()?.value.into())
    })
    .doc("In the quota's own unit: bytes or connections per second, percent."),
];

fn list<T: Clone + Send + Sync + 'static>(values: impl Iterator<Item = T>) -> Dynamic {
    values.map(Dynamic::from).collect::<Array>().into()
}

fn rows(
    entity: BTreeMap<String, Option<String>>,
    values: BTreeMap<String, f64>,
) -> impl Iterator<Item = QuotaValue> {
    values.into_iter().map(move |(name, value)| QuotaValue {
        entity: entity.clone(),
        name,
        value,
    })
}

fn kept(call: &Invocation, field: &str) -> Result<ClusterState, Failure> {
    let snapshot: SnapshotValue = call.me()?;
    let state = call
        .wait(snapshot.0.snapshot.cluster())?
        .map_err(|error| reading::of_archive(&snapshot.0.store.url.to_string(), error))?;
    Ok(state.unwrap_or_else(|| ClusterState {
        missing: BTreeMap::from([(
            field.to_string(),
            "its run did not look at them".to_string(),
        )]),
        ..ClusterState::default()
    }))
}

fn missing(call: &Invocation, what: &str, field: &str, state: &ClusterState) -> Failure {
    let number = call
        .me::<SnapshotValue>()
        .map_or(0, |snapshot| snapshot.0.snapshot.number());
    let why = state.missing.get(field);
    let why = why.map_or("the archive does not say why", String::as_str);
    Failure::world(
        "E0322",
        format!("generation {number} holds no {what}: {why}"),
    )
}
