//! The ACLs and client quotas that a cluster keeps, and which of them a filter means. They are stored and shown;
//! nothing is checked against them.

use super::codes::{self, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// The wild card of filters, in all four enumerations.
const ANY: i8 = 1;
const CLUSTER: i8 = 4;
const LAST_RESOURCE_TYPE: i8 = 7;
const MATCH: i8 = 2;
pub(super) const LITERAL: i8 = 3;
pub(super) const PREFIXED: i8 = 4;
const LAST_OPERATION: i8 = 15;
const ALLOW: i8 = 3;

/// One ACL, sorted by resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Acl {
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission: i8,
}

/// Which ACLs are meant: `None` and [`ANY`] stand for all.
#[derive(Clone, Debug)]
pub(super) struct AclFilter {
    pub resource_type: i8,
    pub resource_name: Option<String>,
    pub pattern_type: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

/// The ACLs of a cluster that has an authorizer.
pub(super) type Acls = BTreeSet<Acl>;

pub(super) fn no_authorizer() -> Refusal {
    Refusal::new(codes::SECURITY_DISABLED, "No Authorizer is configured.")
}

impl Acl {
    /// What a controller checks before it takes one (AclControlManager.validateNewAcl).
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let wrong = |what: &str| Err(Refusal::new(codes::INVALID_REQUEST, what));
        let concrete = (2..=LAST_RESOURCE_TYPE).contains(&self.resource_type)
            && (self.pattern_type == LITERAL || self.pattern_type == PREFIXED)
            && (2..=LAST_OPERATION).contains(&self.operation)
            && (2..=ALLOW).contains(&self.permission);
        if !concrete {
            // Brokers fail over these while they read the request, and say no more than that they did.
            return Err(Refusal::new(
                codes::UNKNOWN_SERVER_ERROR,
                "The server experienced an unexpected error when processing the request.",
            ));
        }
        if self.resource_name.is_empty() {
            return wrong("Resource name should not be empty");
        }
        if self.resource_type == CLUSTER && self.resource_name != "kafka-cluster" {
            return wrong("Unknown cluster name (only kafka-cluster is one)");
        }
        if self.principal.split_once(':').is_none() {
            return wrong(
                "Could not parse principal (no colon is present separating the principal type from the principal name)",
            );
        }
        Ok(())
    }
}

impl AclFilter {
    /// A filter may not say UNKNOWN (0).
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let known = [
            self.resource_type,
            self.pattern_type,
            self.operation,
            self.permission,
        ];
        match known.iter().all(|number| *number >= ANY) {
            true => Ok(()),
            false => Err(Refusal::new(
                codes::INVALID_REQUEST,
                "The filter contains UNKNOWN elements",
            )),
        }
    }

    pub(super) fn takes(&self, acl: &Acl) -> bool {
        let number = |wanted: i8, own: i8| wanted == ANY || wanted == own;
        let text = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|w| w == own);
        number(self.resource_type, acl.resource_type)
            && self.takes_name(acl)
            && text(&self.principal, &acl.principal)
            && text(&self.host, &acl.host)
            && number(self.operation, acl.operation)
            && number(self.permission, acl.permission)
    }

    /// KIP-290: MATCH means every ACL that would apply to the name.
    fn takes_name(&self, acl: &Acl) -> bool {
        let Some(name) = self.resource_name.as_deref() else {
            let kinds = [ANY, MATCH];
            return kinds.contains(&self.pattern_type) || self.pattern_type == acl.pattern_type;
        };
        match self.pattern_type {
            ANY => acl.resource_name == name,
            MATCH if acl.pattern_type == PREFIXED => name.starts_with(&acl.resource_name),
            MATCH => acl.resource_name == name || acl.resource_name == "*",
            kind => acl.pattern_type == kind && acl.resource_name == name,
        }
    }
}

/// Whom a quota is for: kind to name, `None` for the default.
pub(super) type QuotaEntity = BTreeMap<String, Option<String>>;

/// All client quotas.
pub(super) type Quotas = BTreeMap<QuotaEntity, BTreeMap<String, f64>>;

/// What each entity may have, and whether a value must be a whole number (QuotaConfig).
const WHOLE: [&str; 2] = ["producer_byte_rate", "consumer_byte_rate"];
const FRACTIONAL: [&str; 2] = ["request_percentage", "controller_mutation_rate"];
const CONNECTIONS: &str = "connection_creation_rate";

/// What a controller checks of an entity (ClientQuotaControlManager.validateEntity).
pub(super) fn check_entity(parts: &[(String, Option<String>)]) -> Result<QuotaEntity, Refusal> {
    let wrong = |what: String| Refusal::new(codes::INVALID_REQUEST, what);
    if parts.is_empty() {
        return Err(wrong("Invalid empty client quota entity".into()));
    }
    let mut entity = QuotaEntity::new();
    for (kind, name) in parts {
        if !["user", "client-id", "ip"].contains(&kind.as_str()) {
            return Err(wrong(format!("Unhandled client quota entity type: {kind}")));
        }
        if name.as_deref() == Some("") {
            return Err(wrong(format!("Empty {kind} not supported")));
        }
        if entity.insert(kind.clone(), name.clone()).is_some() {
            return Err(wrong(format!("Duplicate entity type {kind}")));
        }
    }
    if entity.contains_key("ip") && entity.len() > 1 {
        return Err(wrong("Invalid client quota entity combination".into()));
    }
    Ok(entity)
}

/// What a controller checks of a value.
pub(super) fn check_quota(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), Refusal> {
    let wrong = |what: String| Err(Refusal::new(codes::INVALID_REQUEST, what));
    let ip = entity.contains_key("ip");
    let known = match ip {
        true => key == CONNECTIONS,
        false => WHOLE.contains(&key) || FRACTIONAL.contains(&key),
    };
    if !known {
        return wrong(format!("Invalid configuration key {key}"));
    }
    if value <= 0.0 {
        return wrong(format!("Quota {key} must be greater than 0"));
    }
    if (ip || WHOLE.contains(&key)) && value.fract() != 0.0 {
        return wrong(format!("{key} must be a whole number"));
    }
    Ok(())
}
