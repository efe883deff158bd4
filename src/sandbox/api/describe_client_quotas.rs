//! DescribeClientQuotas: v0–v1. Which entities are asked for: by kind, and exactly, by default, or any.

use super::{Api, Context, text};
use crate::sandbox::acls::{QuotaEntity, Quotas};
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use std::collections::BTreeMap;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

impl Api for DescribeClientQuotasRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeClientQuotasResponse {
        let state = cx.cluster.state();
        match find(&self, &state.quotas) {
            Ok(entries) => DescribeClientQuotasResponse::default()
                .with_error_message(None)
                .with_entries(Some(entries)),
            Err(refusal) => refused(&refusal),
        }
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeClientQuotasResponse {
        refused(&Refusal::new(code, codes::name(code)))
    }
}

fn refused(refusal: &Refusal) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default()
        .with_error_code(refusal.code)
        .with_error_message(Some(text(&refusal.message)))
        .with_entries(None)
}

/// What is asked of one kind of entity: a name, the default (`None`), or whatever it is.
enum Wanted {
    Named(Option<String>),
    Any,
}

fn find(request: &DescribeClientQuotasRequest, quotas: &Quotas) -> Result<Vec<EntryData>, Refusal> {
    let wanted = components(&request.components)?;
    let takes = |entity: &QuotaEntity| {
        wanted.iter().all(|(kind, wanted)| match wanted {
            Wanted::Any => entity.contains_key(kind),
            Wanted::Named(name) => entity.get(kind) == Some(name),
        }) && (!request.strict || entity.len() == wanted.len())
    };
    let found = quotas.iter().filter(|(entity, _)| takes(entity));
    Ok(found
        .map(|(entity, values)| entry(entity, values))
        .collect())
}

fn components(asked: &[ComponentData]) -> Result<BTreeMap<String, Wanted>, Refusal> {
    let mut wanted = BTreeMap::new();
    for component in asked {
        let kind = component.entity_type.to_string();
        if !["user", "client-id", "ip"].contains(&kind.as_str()) {
            return Err(Refusal::new(
                codes::UNSUPPORTED_VERSION,
                format!("Unsupported entity type {kind}"),
            ));
        }
        let name = component._match.as_ref().map(|name| name.to_string());
        let wrong = |what: &str| Err(Refusal::new(codes::INVALID_REQUEST, what));
        let one = match (component.match_type, name) {
            (EXACT, Some(name)) => Wanted::Named(Some(name)),
            (DEFAULT, None) => Wanted::Named(None),
            (ANY, None) => Wanted::Any,
            _ => return wrong("The match type and the match string contradict each other"),
        };
        if wanted.insert(kind, one).is_some() {
            return wrong("An entity type cannot appear more than once in the filter");
        }
    }
    Ok(wanted)
}

fn entry(entity: &QuotaEntity, values: &BTreeMap<String, f64>) -> EntryData {
    let parts = entity.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(text(kind))
            .with_entity_name(name.as_deref().map(text))
    });
    let values = values
        .iter()
        .map(|(key, value)| ValueData::default().with_key(text(key)).with_value(*value));
    EntryData::default()
        .with_entity(parts.collect())
        .with_values(values.collect())
}
