//! ACLs: reading, adding and removing them, in Kafka's own words.
//!
//! A cluster without an authorizer has none and says so with SECURITY_DISABLED; that is an answer of its own kind,
//! which the caller must not take for an empty list.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;
use std::fmt;

macro_rules! acl_enum {
    ($(#[$doc:meta])* $type:ident: $($number:literal $name:ident,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub i8);

        #[allow(missing_docs)]
        impl $type {
            $(pub const $name: $type = $type($number);)*

            /// From Kafka's own name, or from the number that stands for one kbr does not know.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $(stringify!($name) => Some(Self::$name),)*
                    number => number.parse().ok().map(Self),
                }
            }
        }

        impl fmt::Display for $type {
            /// Kafka's own name; the number of one that kbr does not know.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    number => write!(f, "{number}"),
                }
            }
        }
    };
}

acl_enum! {
    /// What an ACL is about (org.apache.kafka.common.resource.ResourceType).
    AclResourceType:
    1 ANY,
    2 TOPIC,
    3 GROUP,
    4 CLUSTER,
    5 TRANSACTIONAL_ID,
    6 DELEGATION_TOKEN,
    7 USER,
}

acl_enum! {
    /// How an ACL's resource name is meant (PatternType, KIP-290).
    AclPatternType:
    1 ANY,
    2 MATCH,
    3 LITERAL,
    4 PREFIXED,
}

acl_enum! {
    /// What is allowed or denied (AclOperation).
    AclOperation:
    1 ANY,
    2 ALL,
    3 READ,
    4 WRITE,
    5 CREATE,
    6 DELETE,
    7 ALTER,
    8 DESCRIBE,
    9 CLUSTER_ACTION,
    10 DESCRIBE_CONFIGS,
    11 ALTER_CONFIGS,
    12 IDEMPOTENT_WRITE,
    13 CREATE_TOKENS,
    14 DESCRIBE_TOKENS,
    15 TWO_PHASE_COMMIT,
}

acl_enum! {
    /// Whether it is allowed or denied (AclPermissionType).
    AclPermission:
    1 ANY,
    2 DENY,
    3 ALLOW,
}

/// One ACL: a principal may, or may not, do something with some resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclBinding {
    pub resource_type: AclResourceType,
    pub resource_name: String,
    pub pattern_type: AclPatternType,
    /// `User:alice`.
    pub principal: String,
    /// An address, or `*`.
    pub host: String,
    pub operation: AclOperation,
    pub permission: AclPermission,
}

/// What a cluster says about its ACLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acls {
    /// Sorted.
    Bindings(Vec<AclBinding>),
    /// It has no authorizer: nothing is checked, and there is nothing to keep.
    NoAuthorizer,
}

impl Client {
    /// Every ACL of the cluster. Needs DESCRIBE on the cluster where there is an authorizer.
    pub async fn acls(&self) -> Result<Acls> {
        const API: &str = "DescribeAcls";
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(AclResourceType::ANY.0)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(AclPatternType::ANY.0)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(AclOperation::ANY.0)
            .with_permission_type(AclPermission::ANY.0);
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let answer = self.ask(Route::Any, &request, i16::MAX).await?;
            let code = ErrorCode(answer.error_code);
            match code.class() {
                Class::Ok => {
                    let mut bindings: Vec<AclBinding> =
                        answer.resources.into_iter().flat_map(bindings_of).collect();
                    bindings.sort();
                    bindings.dedup();
                    return Ok(Acls::Bindings(bindings));
                }
                _ if code == ErrorCode::SECURITY_DISABLED => return Ok(Acls::NoAuthorizer),
                Class::RetryHere if backoff.wait().await => {}
                _ => {
                    let message = answer.error_message.map(|message| message.to_string());
                    return Err(Error::broker(API, "the cluster", code, message));
                }
            }
        }
    }

    /// Adds ACLs, each with its own result. One that is there already stays and is no error.
    pub async fn create_acls(&self, bindings: &[AclBinding]) -> Result<Vec<Result<()>>> {
        const API: &str = "CreateAcls";
        let creation = |binding: &AclBinding| {
            AclCreation::default()
                .with_resource_type(binding.resource_type.0)
                .with_resource_name(StrBytes::from_string(binding.resource_name.clone()))
                .with_resource_pattern_type(binding.pattern_type.0)
                .with_principal(StrBytes::from_string(binding.principal.clone()))
                .with_host(StrBytes::from_string(binding.host.clone()))
                .with_operation(binding.operation.0)
                .with_permission_type(binding.permission.0)
        };
        let request =
            CreateAclsRequest::default().with_creations(bindings.iter().map(creation).collect());
        let answer = self.ask(Route::Controller, &request, i16::MAX).await?;
        let results = answer.results.into_iter().zip(bindings);
        let results = results.map(|(result, binding)| {
            outcome(API, binding, result.error_code, result.error_message)
        });
        let results: Vec<Result<()>> = results.collect();
        all_answered(API, bindings, results)
    }

    /// Removes exactly these ACLs, each with its own result. One that is not there is no error.
    pub async fn delete_acls(&self, bindings: &[AclBinding]) -> Result<Vec<Result<()>>> {
        const API: &str = "DeleteAcls";
        let filter = |binding: &AclBinding| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(binding.resource_type.0)
                .with_resource_name_filter(Some(StrBytes::from_string(
                    binding.resource_name.clone(),
                )))
                .with_pattern_type_filter(binding.pattern_type.0)
                .with_principal_filter(Some(StrBytes::from_string(binding.principal.clone())))
                .with_host_filter(Some(StrBytes::from_string(binding.host.clone())))
                .with_operation(binding.operation.0)
                .with_permission_type(binding.permission.0)
        };
        let request =
            DeleteAclsRequest::default().with_filters(bindings.iter().map(filter).collect());
        let answer = self.ask(Route::Controller, &request, i16::MAX).await?;
        let results = answer.filter_results.into_iter().zip(bindings);
        let results = results.map(|(result, binding)| {
            let failed = result
                .matching_acls
                .into_iter()
                .find(|acl| acl.error_code != 0);
            match failed {
                Some(acl) if result.error_code == 0 => {
                    outcome(API, binding, acl.error_code, acl.error_message)
                }
                _ => outcome(API, binding, result.error_code, result.error_message),
            }
        });
        let results: Vec<Result<()>> = results.collect();
        all_answered(API, bindings, results)
    }
}

fn bindings_of(resource: DescribeAclsResource) -> impl Iterator<Item = AclBinding> {
    let resource_name = resource.resource_name.to_string();
    let (resource_type, pattern_type) = (resource.resource_type, resource.pattern_type);
    resource
        .acls
        .into_iter()
        .map(move |acl: AclDescription| AclBinding {
            resource_type: AclResourceType(resource_type),
            resource_name: resource_name.clone(),
            pattern_type: AclPatternType(pattern_type),
            principal: acl.principal.to_string(),
            host: acl.host.to_string(),
            operation: AclOperation(acl.operation),
            permission: AclPermission(acl.permission_type),
        })
}

fn outcome(
    api: &'static str,
    binding: &AclBinding,
    code: i16,
    message: Option<StrBytes>,
) -> Result<()> {
    let code = ErrorCode(code);
    if code.is_ok() {
        return Ok(());
    }
    let message = message.map(|message| message.to_string());
    Err(Error::broker(api, binding.to_string(), code, message))
}

fn all_answered(
    api: &'static str,
    bindings: &[AclBinding],
    results: Vec<Result<()>>,
) -> Result<Vec<Result<()>>> {
    if results.len() == bindings.len() {
        return Ok(results);
    }
    Err(Error::Protocol {
        api,
        broker: "the controller".to_string(),
        why: format!("{} answers to {} questions", results.len(), bindings.len()),
    })
}

impl fmt::Display for AclBinding {
    /// `User:alice ALLOW READ on PREFIXED TOPIC orders`, and from where if not from everywhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} on {} {} {}",
            self.principal,
            self.permission,
            self.operation,
            self.pattern_type,
            self.resource_type,
            self.resource_name
        )?;
        match self.host.as_str() {
            "*" => Ok(()),
            host => write!(f, " from {host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_unknown_numbers_are_kept() {
        assert_eq!(AclOperation(9).to_string(), "CLUSTER_ACTION");
        assert_eq!(AclOperation::parse("CLUSTER_ACTION"), Some(AclOperation(9)));
        assert_eq!(AclOperation(99).to_string(), "99");
        assert_eq!(AclOperation::parse("99"), Some(AclOperation(99)));
        assert_eq!(AclResourceType::parse("TOPICS"), None);
    }
}
