//! AlterClientQuotas: v0–v1. All or nothing per entity.

use super::{Api, Context, text};
use crate::sandbox::acls::{self, QuotaEntity, Quotas};
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::alter_client_quotas_request::EntryData as Wanted;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use std::collections::BTreeMap;

impl Api for AlterClientQuotasRequest {
    async fn serve(self, cx: &Context<'_>) -> AlterClientQuotasResponse {
        let mut state = cx.cluster.state();
        let results = self.entries.iter().map(|wanted| {
            let altered = alter(wanted, &mut state.quotas, self.validate_only);
            result(wanted, altered)
        });
        AlterClientQuotasResponse::default().with_entries(results.collect())
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> AlterClientQuotasResponse {
        let refused = |wanted| result(wanted, Err(Refusal::new(code, codes::name(code))));
        AlterClientQuotasResponse::default()
            .with_entries(self.entries.iter().map(refused).collect())
    }
}

fn alter(wanted: &Wanted, quotas: &mut Quotas, validate_only: bool) -> Result<(), Refusal> {
    let parts: Vec<(String, Option<String>)> = wanted
        .entity
        .iter()
        .map(|part| {
            let name = part.entity_name.as_ref().map(|name| name.to_string());
            (part.entity_type.to_string(), name)
        })
        .collect();
    let entity: QuotaEntity = acls::check_entity(&parts)?;
    let mut values: BTreeMap<String, f64> = quotas.get(&entity).cloned().unwrap_or_default();
    for operation in &wanted.ops {
        let key = operation.key.to_string();
        if operation.remove {
            values.remove(&key);
        } else {
            acls::check_quota(&entity, &key, operation.value)?;
            values.insert(key, operation.value);
        }
    }
    if validate_only {
        return Ok(());
    }
    match values.is_empty() {
        true => quotas.remove(&entity),
        false => quotas.insert(entity, values),
    };
    Ok(())
}

fn result(wanted: &Wanted, altered: Result<(), Refusal>) -> EntryData {
    let parts = wanted.entity.iter().map(|part| {
        EntityData::default()
            .with_entity_type(part.entity_type.clone())
            .with_entity_name(part.entity_name.clone())
    });
    let result = EntryData::default().with_entity(parts.collect());
    match altered {
        Ok(()) => result.with_error_message(None),
        Err(refusal) => result
            .with_error_code(refusal.code)
            .with_error_message(Some(text(&refusal.message))),
    }
}
