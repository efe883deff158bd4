//! DescribeConfigs: v1–v4, for topics (all of Kafka's topic configs) and brokers (the few a client may look at).

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::configs::{self, Kind};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const DEFAULT_CONFIG: i8 = 5;

impl Api for DescribeConfigsRequest {
    async fn serve(self, cx: &Context<'_>) -> DescribeConfigsResponse {
        let state = cx.cluster.state();
        let results = self
            .resources
            .iter()
            .map(|resource| describe(resource, &state, cx, self.include_synonyms))
            .collect();
        DescribeConfigsResponse::default().with_results(results)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeConfigsResponse {
        let results = self
            .resources
            .iter()
            .map(|resource| failed(resource, code, codes::name(code)))
            .collect();
        DescribeConfigsResponse::default().with_results(results)
    }
}

fn failed(resource: &DescribeConfigsResource, code: i16, message: &str) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_error_code(code)
        .with_error_message(Some(text(message)))
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

/// Name, value, kind, source.
type Entry = (String, String, Kind, i8);

fn describe(
    resource: &DescribeConfigsResource,
    state: &State,
    cx: &Context<'_>,
    synonyms: bool,
) -> DescribeConfigsResult {
    let entries: Vec<Entry> = match resource.resource_type {
        TOPIC => match state.topics.get(resource.resource_name.as_str()) {
            None => {
                return failed(
                    resource,
                    codes::UNKNOWN_TOPIC_OR_PARTITION,
                    "This server does not host this topic-partition.",
                );
            }
            Some(topic) => configs::TOPIC_CONFIGS
                .iter()
                .map(|known| {
                    let source = if topic.configs.contains_key(known.name) {
                        DYNAMIC_TOPIC_CONFIG
                    } else {
                        DEFAULT_CONFIG
                    };
                    let value = configs::effective(&topic.configs, known.name);
                    (
                        known.name.to_string(),
                        value.to_string(),
                        known.kind,
                        source,
                    )
                })
                .collect(),
        },
        BROKER => broker_entries(cx),
        _ => {
            return failed(
                resource,
                codes::INVALID_REQUEST,
                "Unsupported resource type",
            );
        }
    };
    let wanted = |name: &str| {
        resource
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == name))
    };
    let described = entries
        .into_iter()
        .filter(|(name, ..)| wanted(name))
        .map(|entry| result(entry, cx, synonyms))
        .collect();
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
        .with_configs(described)
}

fn broker_entries(cx: &Context<'_>) -> Vec<Entry> {
    let options = &cx.cluster.options;
    vec![
        (
            "auto.create.topics.enable".to_string(),
            options.auto_create_topics.to_string(),
            Kind::Boolean,
            4,
        ),
        (
            "message.max.bytes".to_string(),
            "1048588".to_string(),
            Kind::Int,
            DEFAULT_CONFIG,
        ),
        (
            "offsets.retention.minutes".to_string(),
            "10080".to_string(),
            Kind::Int,
            DEFAULT_CONFIG,
        ),
        (
            "num.partitions".to_string(),
            options.default_partitions.to_string(),
            Kind::Int,
            4,
        ),
    ]
}

fn result(
    (name, value, kind, source): Entry,
    cx: &Context<'_>,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let names = if synonyms {
        vec![
            DescribeConfigsSynonym::default()
                .with_name(text(&name))
                .with_value(Some(text(&value)))
                .with_source(source),
        ]
    } else {
        Vec::new()
    };
    let entry = DescribeConfigsResourceResult::default()
        .with_name(text(&name))
        .with_value(Some(text(&value)))
        .with_config_source(source)
        .with_synonyms(names);
    if cx.version >= 3 {
        entry.with_config_type(kind.id())
    } else {
        entry
    }
}
