//! Consumer groups: listing, describing, deleting.

use super::client::{Client, not_yet};
use super::error::Result;
use crate::base::TopicPartition;
use std::collections::BTreeMap;

/// One group of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    /// "consumer" for consumer groups; "" for groups that only ever committed.
    pub protocol_type: String,
    /// "Empty", "Stable", …; "" from brokers before 2.6.
    pub state: String,
    /// "classic", "consumer", "share", …; "" from brokers before 3.8.
    pub kind: String,
}

/// One group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    /// "Empty", "Stable", …; "Dead" for a group that does not exist.
    pub state: String,
    /// "classic" or "consumer" (KIP-848).
    pub kind: String,
    pub protocol_type: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub member_id: String,
    pub client_id: String,
    pub host: String,
    /// The topics it subscribes to, sorted.
    pub topics: Vec<String>,
    /// The partitions it reads, sorted.
    pub assigned: Vec<TopicPartition>,
}

impl Client {
    /// Every group of the cluster, sorted by name: all brokers are asked, and all must answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        not_yet("list_groups")
    }

    /// The groups with their members, of the classic and the consumer protocol (KIP-848).
    pub async fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, Result<GroupDescription>>> {
        let _ = groups;
        not_yet("describe_groups")
    }

    /// Deletes empty groups with their committed offsets. A result per group.
    pub async fn delete_groups(&self, groups: &[String]) -> Result<BTreeMap<String, Result<()>>> {
        let _ = groups;
        not_yet("delete_groups")
    }
}
