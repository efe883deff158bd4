//! CreateTopics: v2–v7. Existing topics answer 36, unknown or bad configs 40; `validate_only` creates nothing.

use super::{Api, Context, text};
use crate::sandbox::cluster::{State, TopicWanted};
use crate::sandbox::codes;
use crate::sandbox::configs;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

impl Api for CreateTopicsRequest {
    async fn serve(self, cx: &Context<'_>) -> CreateTopicsResponse {
        let mut state = cx.cluster.state();
        let topics = self
            .topics
            .iter()
            .map(|topic| create(topic, &mut state, cx, self.validate_only))
            .collect();
        drop(state);
        cx.cluster.touch();
        CreateTopicsResponse::default().with_topics(topics)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> CreateTopicsResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| failed(topic, code, codes::name(code)))
            .collect();
        CreateTopicsResponse::default().with_topics(topics)
    }
}

fn failed(topic: &CreatableTopic, code: i16, message: &str) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(code)
        .with_error_message(Some(text(message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

fn create(
    topic: &CreatableTopic,
    state: &mut State,
    cx: &Context<'_>,
    validate_only: bool,
) -> CreatableTopicResult {
    let wanted = TopicWanted {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| assignment.broker_ids.iter().map(|id| id.0).collect())
            .collect(),
        configs: topic
            .configs
            .iter()
            .filter_map(|config| {
                let value = config.value.as_ref()?;
                Some((config.name.to_string(), value.to_string()))
            })
            .collect(),
    };
    let id = match state.create_topic(cx.cluster, &wanted, validate_only) {
        Ok(id) => id,
        Err(refusal) => return failed(topic, refusal.code, &refusal.message),
    };
    let result = CreatableTopicResult::default().with_name(topic.name.clone());
    if cx.version < 5 {
        return result;
    }
    let created = state.topics.get(&wanted.name);
    let result = match created {
        Some(created) => result
            .with_num_partitions(i32::try_from(created.partitions.len()).unwrap_or(-1))
            .with_replication_factor(created.partitions.first().map_or(-1, |first| {
                i16::try_from(first.replicas.len()).unwrap_or(-1)
            })),
        None => result
            .with_num_partitions(wanted.partitions)
            .with_replication_factor(wanted.replication_factor),
    };
    let described = configs::TOPIC_CONFIGS
        .iter()
        .map(|known| {
            let source = if wanted.configs.contains_key(known.name) {
                1
            } else {
                5
            };
            CreatableTopicConfigs::default()
                .with_name(text(known.name))
                .with_value(Some(text(configs::effective(&wanted.configs, known.name))))
                .with_config_source(source)
        })
        .collect();
    let result = result.with_configs(Some(described));
    if cx.version >= 7 && !validate_only {
        result.with_topic_id(id)
    } else {
        result
    }
}
