//! Topic configs: reading all of them, changing some of them.

use super::client::{Client, not_yet};
use super::error::Result;
use std::collections::BTreeMap;

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

impl Client {
    /// Every config of the topics, inherited ones too. A result per topic.
    pub async fn topic_configs(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, Result<Vec<ConfigEntry>>>> {
        let _ = topics;
        not_yet("topic_configs")
    }

    /// Sets and deletes overrides of one topic in one step; the others stay as they are.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<()> {
        let _ = (topic, set, delete);
        not_yet("alter_topic_configs")
    }
}
