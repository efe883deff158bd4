//! Client quotas: what users, client ids and addresses may take of a cluster.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use kafka_protocol::messages::alter_client_quotas_request::{
    EntityData as AlterEntity, EntryData as AlterEntry, OpData,
};
use kafka_protocol::messages::describe_client_quotas_response::EntryData;
use kafka_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::fmt;

/// Whom a quota is for: a `user`, a `client-id`, an `ip`, or a user with a client id. `None` stands for the default
/// of that kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity(pub BTreeMap<String, Option<String>>);

/// The quotas of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientQuota {
    pub entity: QuotaEntity,
    /// By name: `producer_byte_rate`, `request_percentage`, …
    pub values: BTreeMap<String, f64>,
}

impl Client {
    /// Every client quota of the cluster, sorted by entity. Needs DESCRIBE_CONFIGS on the cluster.
    pub async fn client_quotas(&self) -> Result<Vec<ClientQuota>> {
        const API: &str = "DescribeClientQuotas";
        // No component and not strict: every entity.
        let request = DescribeClientQuotasRequest::default().with_strict(false);
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let answer = self.ask(Route::Any, &request, i16::MAX).await?;
            let code = ErrorCode(answer.error_code);
            match code.class() {
                Class::Ok => {
                    let entries = answer.entries.unwrap_or_default();
                    let mut quotas: Vec<ClientQuota> = entries.into_iter().map(quota).collect();
                    quotas.sort_by(|one, other| one.entity.cmp(&other.entity));
                    return Ok(quotas);
                }
                Class::RetryHere if backoff.wait().await => {}
                _ => {
                    let message = answer.error_message.map(|message| message.to_string());
                    return Err(Error::broker(API, "the cluster", code, message));
                }
            }
        }
    }

    /// Sets some of an entity's quotas and removes others.
    pub async fn alter_client_quotas(
        &self,
        entity: &QuotaEntity,
        set: &BTreeMap<String, f64>,
        remove: &[String],
    ) -> Result<()> {
        const API: &str = "AlterClientQuotas";
        let text = |text: &String| StrBytes::from_string(text.clone());
        let parts = entity.0.iter().map(|(kind, name)| {
            AlterEntity::default()
                .with_entity_type(text(kind))
                .with_entity_name(name.as_ref().map(text))
        });
        let sets = set
            .iter()
            .map(|(key, value)| OpData::default().with_key(text(key)).with_value(*value));
        let removals = remove
            .iter()
            .map(|key| OpData::default().with_key(text(key)).with_remove(true));
        let request = AlterClientQuotasRequest::default().with_entries(vec![
            AlterEntry::default()
                .with_entity(parts.collect())
                .with_ops(sets.chain(removals).collect()),
        ]);
        let answer = self.ask(Route::Controller, &request, i16::MAX).await?;
        let Some(result) = answer.entries.into_iter().next() else {
            return Err(Error::Protocol {
                api: API,
                broker: "the controller".to_string(),
                why: "an empty answer".to_string(),
            });
        };
        let code = ErrorCode(result.error_code);
        if code.is_ok() {
            return Ok(());
        }
        let message = result.error_message.map(|message| message.to_string());
        Err(Error::broker(API, entity.to_string(), code, message))
    }
}

fn quota(entry: EntryData) -> ClientQuota {
    let entity = entry.entity.into_iter().map(|part| {
        let name = part.entity_name.map(|name| name.to_string());
        (part.entity_type.to_string(), name)
    });
    let values = entry.values.into_iter();
    ClientQuota {
        entity: QuotaEntity(entity.collect()),
        values: values
            .map(|value| (value.key.to_string(), value.value))
            .collect(),
    }
}

impl fmt::Display for QuotaEntity {
    /// `user alice, client-id (default)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user first, as Kafka's own tools write it.
        for (position, (kind, name)) in self.0.iter().rev().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            let name = name.as_deref().unwrap_or("(default)");
            write!(f, "{comma}{kind} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_reads_as_in_kafkas_own_tools() {
        let entity = QuotaEntity(BTreeMap::from([
            ("client-id".to_string(), None),
            ("user".to_string(), Some("alice".to_string())),
        ]));
        assert_eq!(entity.to_string(), "user alice, client-id (default)");
    }
}
