//! IncrementalAlterConfigs: v0–v1, for topics: SET, DELETE, and APPEND and SUBTRACT on lists. All or nothing per
//! topic.

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes::{self, Refusal};
use crate::sandbox::configs::{self, Kind};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use std::collections::BTreeMap;

const TOPIC: i8 = 2;

impl Api for IncrementalAlterConfigsRequest {
    async fn serve(self, cx: &Context<'_>) -> IncrementalAlterConfigsResponse {
        let mut state = cx.cluster.state();
        let responses = self
            .resources
            .iter()
            .map(|resource| {
                let altered = alter(resource, &mut state, self.validate_only);
                describe(resource, altered)
            })
            .collect();
        drop(state);
        cx.cluster.touch();
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> IncrementalAlterConfigsResponse {
        let responses = self
            .resources
            .iter()
            .map(|resource| describe(resource, Err(Refusal::new(code, codes::name(code)))))
            .collect();
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }
}

fn describe(
    resource: &AlterConfigsResource,
    altered: Result<(), Refusal>,
) -> AlterConfigsResourceResponse {
    let response = AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone());
    match altered {
        Ok(()) => response.with_error_message(None),
        Err(refusal) => response
            .with_error_code(refusal.code)
            .with_error_message(Some(text(&refusal.message))),
    }
}

fn alter(
    resource: &AlterConfigsResource,
    state: &mut State,
    validate_only: bool,
) -> Result<(), Refusal> {
    if resource.resource_type != TOPIC {
        return Err(Refusal::new(
            codes::INVALID_REQUEST,
            "The sandbox alters configs of topics only",
        ));
    }
    let Some(topic) = state.topics.get_mut(resource.resource_name.as_str()) else {
        return Err(Refusal::new(
            codes::UNKNOWN_TOPIC_OR_PARTITION,
            format!("The topic '{}' does not exist.", resource.resource_name),
        ));
    };
    let mut altered = topic.configs.clone();
    for config in &resource.configs {
        apply(config, &mut altered)?;
    }
    if !validate_only {
        topic.configs = altered;
    }
    Ok(())
}

fn apply(config: &AlterableConfig, altered: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    let name = config.name.as_str();
    let value = config.value.as_deref();
    let is_list = configs::known(name).is_some_and(|known| known.kind == Kind::List);
    let given = || {
        value.ok_or_else(|| {
            Refusal::new(
                codes::INVALID_CONFIG,
                format!("Null value not supported for : {name}"),
            )
        })
    };
    let next = match config.config_operation {
        0 => given()?.to_string(),
        1 => {
            if configs::known(name).is_none() {
                return configs::check(name, "");
            }
            altered.remove(name);
            return Ok(());
        }
        operation @ (2 | 3) if is_list => {
            let mut parts: Vec<&str> = configs::effective(altered, name)
                .split(',')
                .filter(|part| !part.is_empty())
                .collect();
            for part in given()?.split(',') {
                parts.retain(|present| *present != part);
                if operation == 2 {
                    parts.push(part);
                }
            }
            parts.join(",")
        }
        _ => {
            return Err(Refusal::new(
                codes::INVALID_CONFIG,
                format!("Can't APPEND or SUBTRACT to key {name} because its type is not LIST."),
            ));
        }
    };
    configs::check(name, &next)?;
    altered.insert(name.to_string(), next);
    Ok(())
}
