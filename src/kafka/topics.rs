//! Topics: listing, creating, deleting.

use super::client::{Client, not_yet};
use super::code::ErrorCode;
use super::error::Result;
use crate::base::{PartitionId, TopicId};
use std::collections::BTreeMap;

/// Which topics a listing is about.
#[derive(Clone, Copy, Debug)]
pub enum TopicsWanted<'a> {
    All,
    Named(&'a [String]),
}

/// One topic as the cluster's metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub internal: bool,
    /// Not [`ErrorCode::NONE`]: the topic does not exist, may not be seen, …
    pub error: ErrorCode,
    /// Sorted by id.
    pub partitions: Vec<Partition>,
}

/// One partition as the cluster's metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub id: PartitionId,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub error: ErrorCode,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// −1: the broker's default.
    pub partitions: i32,
    /// −1: the broker's default.
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
}

impl Client {
    /// Topics as the cluster has them now, sorted by name. A named topic that does not exist comes back
    /// with `UNKNOWN_TOPIC_OR_PARTITION` in its `error`; topics are never created by asking.
    pub async fn topics(&self, which: TopicsWanted<'_>) -> Result<Vec<Topic>> {
        let _ = which;
        not_yet("topics")
    }

    /// Creates topics and waits until the metadata shows their leaders. A result per topic, in order.
    pub async fn create_topics(
        &self,
        new: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<(String, Result<TopicId>)>> {
        let _ = (new, validate_only);
        not_yet("create_topics")
    }

    /// Deletes topics by name. A result per topic, in order.
    pub async fn delete_topics(&self, names: &[String]) -> Result<Vec<(String, Result<TopicId>)>> {
        let _ = names;
        not_yet("delete_topics")
    }
}
