//! Topic configs: reading all of them, changing some of them.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a config's value comes from (the numbers of DescribeConfigs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigSource(pub i8);

#[allow(missing_docs)]
impl ConfigSource {
    pub const UNKNOWN: ConfigSource = ConfigSource(0);
    pub const DYNAMIC_TOPIC_CONFIG: ConfigSource = ConfigSource(1);
    pub const DYNAMIC_BROKER_CONFIG: ConfigSource = ConfigSource(2);
    pub const DYNAMIC_DEFAULT_BROKER_CONFIG: ConfigSource = ConfigSource(3);
    pub const STATIC_BROKER_CONFIG: ConfigSource = ConfigSource(4);
    pub const DEFAULT_CONFIG: ConfigSource = ConfigSource(5);
}

/// One config of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` for a sensitive value.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_default: bool,
    pub read_only: bool,
    pub sensitive: bool,
}

impl ConfigEntry {
    /// Set on the topic itself, not inherited from the broker.
    pub fn is_override(&self) -> bool {
        self.source == ConfigSource::DYNAMIC_TOPIC_CONFIG
    }
}

/// ConfigResource.Type.TOPIC.
const TOPIC: i8 = 2;
/// ConfigResource.Type.BROKER.
const BROKER: i8 = 4;
/// AlterConfigOp.OpType.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// How long a changed config may take to show.
const PATIENCE_WITH_CONFIGS: Duration = Duration::from_secs(3);
/// How many topics one DescribeConfigs asks about: about 35 entries each.
const TOPICS_PER_REQUEST: usize = 500;

impl Client {
    /// Every config of the topics, inherited ones too. A result per topic.
    pub async fn topic_configs(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Result<Vec<ConfigEntry>>>> {
        let mut found = BTreeMap::new();
        for topics in topics.chunks(TOPICS_PER_REQUEST) {
            let resource = |topic: &String| {
                DescribeConfigsResource::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(StrBytes::from_string(topic.clone()))
                    .with_configuration_keys(None)
            };
            let request = DescribeConfigsRequest::default()
                .with_resources(topics.iter().map(resource).collect());
            let answer = self.ask(Route::Any, &request, i16::MAX).await?;
            for topic in answer.results {
                let name = topic.resource_name.to_string();
                let code = ErrorCode(topic.error_code);
                let outcome = if code.is_ok() {
                    let mut entries: Vec<_> = topic.configs.into_iter().map(entry).collect();
                    entries.sort_by(|one, other| one.name.cmp(&other.name));
                    Ok(entries)
                } else {
                    let message = topic.error_message.map(|message| message.to_string());
                    Err(Error::broker("DescribeConfigs", &name, code, message))
                };
                found.insert(name, outcome);
            }
        }
        for topic in topics {
            found.entry(topic.clone()).or_insert_with(|| {
                Err(Error::Protocol {
                    api: "DescribeConfigs",
                    broker: "the cluster".to_string(),
                    why: format!("it says nothing about topic {topic:?}"),
                })
            });
        }
        Ok(found)
    }

    /// Every config of one broker; it is asked itself, since others do not know.
    pub async fn broker_configs(&self, broker: i32) -> Result<Vec<ConfigEntry>> {
        const API: &str = "DescribeConfigs";
        let request = DescribeConfigsRequest::default().with_resources(vec![
            DescribeConfigsResource::default()
                .with_resource_type(BROKER)
                .with_resource_name(StrBytes::from_string(broker.to_string()))
                .with_configuration_keys(None),
        ]);
        let answer = self.ask(Route::Broker(broker), &request, i16::MAX).await?;
        let result = answer.results.into_iter().next().ok_or(Error::Protocol {
            api: API,
            broker: broker.to_string(),
            why: "an empty answer".to_string(),
        })?;
        match ErrorCode(result.error_code) {
            ErrorCode::NONE => Ok(result.configs.into_iter().map(entry).collect()),
            code => {
                let message = result.error_message.map(|message| message.to_string());
                Err(Error::broker(
                    API,
                    format!("broker {broker}"),
                    code,
                    message,
                ))
            }
        }
    }

    /// Sets and deletes overrides of one topic in one step; the others stay as they are.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<()> {
        self.alter(topic, set, delete, false).await
    }

    /// Whether [`Client::alter_topic_configs`] would be taken; changes nothing.
    pub async fn validate_topic_configs(
        &self,
        topic: &str,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<()> {
        self.alter(topic, set, delete, true).await
    }

    async fn alter(
        &self,
        topic: &str,
        set: &BTreeMap<String, String>,
        delete: &[String],
        validate_only: bool,
    ) -> Result<()> {
        const API: &str = "IncrementalAlterConfigs";
        let config = |name: &String, operation, value: Option<&String>| {
            AlterableConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_config_operation(operation)
                .with_value(value.map(|value| StrBytes::from_string(value.clone())))
        };
        let sets = set
            .iter()
            .map(|(name, value)| config(name, SET, Some(value)));
        let deletes = delete.iter().map(|name| config(name, DELETE, None));
        let configs: Vec<_> = sets.chain(deletes).collect();
        if configs.is_empty() {
            return Ok(());
        }
        let request = IncrementalAlterConfigsRequest::default()
            .with_validate_only(validate_only)
            .with_resources(vec![
                AlterConfigsResource::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(StrBytes::from_string(topic.to_string()))
                    .with_configs(configs),
            ]);
        // Setting a value twice is setting it, so a lost answer may be asked for again.
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let answer = self.ask(Route::Controller, &request, i16::MAX).await?;
            let result = answer.responses.into_iter().next().ok_or(Error::Protocol {
                api: API,
                broker: "the controller".to_string(),
                why: "an empty answer".to_string(),
            })?;
            let code = ErrorCode(result.error_code);
            match code.class() {
                Class::Ok if validate_only => return Ok(()),
                Class::Ok => {
                    self.wait_for_configs(topic, set, delete).await;
                    return Ok(());
                }
                Class::RetryHere if backoff.wait().await => continue,
                _ if code == ErrorCode::NOT_CONTROLLER && backoff.wait().await => {
                    self.refresh_metadata(self.metadata().generation).await?;
                }
                _ => {
                    let message = result.error_message.map(|message| message.to_string());
                    return Err(Error::broker(API, topic, code, message));
                }
            }
        }
    }
}

impl Client {
    /// The controller answers before the brokers have heard: waits until they show the change, or gives up
    /// quietly, since a broker may write a value in another form than it was given.
    async fn wait_for_configs(
        &self,
        topic: &str,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) {
        let mut backoff = Backoff::within(PATIENCE_WITH_CONFIGS);
        let topics = [topic.to_string()];
        loop {
            if let Ok(mut configs) = self.topic_configs(&topics).await
                && let Some(Ok(entries)) = configs.remove(topic)
            {
                let shown = |name: &String| entries.iter().find(|entry| entry.name == *name);
                let is_set = |(name, value): (&String, &String)| {
                    shown(name).is_some_and(|entry| {
                        entry.is_override()
                            && (entry.sensitive || entry.value.as_deref() == Some(value.trim()))
                    })
                };
                let is_deleted =
                    |name: &String| shown(name).is_none_or(|entry| !entry.is_override());
                if set.iter().all(is_set) && delete.iter().all(is_deleted) {
                    return;
                }
            }
            if !backoff.wait().await {
                return;
            }
        }
    }
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    let source = ConfigSource(config.config_source);
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.map(|value| value.to_string()),
        source,
        is_default: source == ConfigSource::DEFAULT_CONFIG,
        read_only: config.read_only,
        sensitive: config.is_sensitive,
    }
}
