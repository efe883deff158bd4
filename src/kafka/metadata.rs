//! What the client knows of the cluster: brokers, topics, leaders.

use super::client::BrokerInfo;
use super::topics::Topic;
use crate::base::{TopicId, TopicPartition};
use std::collections::{BTreeMap, HashMap};

/// One state of the metadata. A newer one has a higher `generation`.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub generation: u64,
    pub cluster_id: Option<String>,
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, BrokerInfo>,
    pub topics: HashMap<String, Topic>,
}

impl Metadata {
    /// The leader of the partition, if there is one.
    pub fn leader(&self, partition: &TopicPartition) -> Option<i32> {
        self.topics
            .get(&partition.topic)?
            .partitions
            .iter()
            .find(|candidate| candidate.id == partition.partition)?
            .leader
    }

    /// The topic's id, if the brokers tell one.
    pub fn topic_id(&self, topic: &str) -> Option<TopicId> {
        self.topics
            .get(topic)
            .map(|topic| topic.id)
            .filter(|id| !id.is_nil())
    }
}
