//! Consumer groups: listing, describing, deleting.

use super::client::{Client, Route};
use super::code::ErrorCode;
use super::coordinator::{CoordinatorKind, KeyAnswers};
use super::error::{Error, Result};
use super::membership;
use super::retry::Backoff;
use crate::base::TopicPartition;
use futures::future::join_all;
use kafka_protocol::messages::consumer_group_describe_response::{
    DescribedGroup as ConsumerGroup, Member as ConsumerMember,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId,
    ListGroupsRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

/// How many groups one request is about: with their members an answer stays far below the frame limit.
const GROUPS_PER_REQUEST: usize = 100;
/// The state of a group that does not exist.
const DEAD: &str = "Dead";

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
    /// "classic", "consumer" (KIP-848), "share" or "streams"; the members of the last are not told.
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
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let metadata = self.metadata();
            let brokers = metadata.brokers.keys();
            let listings = join_all(brokers.map(|id| self.list_groups_of(*id))).await;
            match listings.into_iter().collect::<Result<Vec<_>>>() {
                Ok(listings) => {
                    // A group that moves between two answers shows in both.
                    let mut groups: BTreeMap<String, GroupListing> = BTreeMap::new();
                    for listing in listings.into_iter().flatten() {
                        groups.insert(listing.group.clone(), listing);
                    }
                    return Ok(groups.into_values().collect());
                }
                Err(error) => {
                    if error.class() == super::Class::Fatal || !backoff.wait().await {
                        return Err(error);
                    }
                    self.refresh_metadata(metadata.generation).await?;
                }
            }
        }
    }

    async fn list_groups_of(&self, broker: i32) -> Result<Vec<GroupListing>> {
        let request = ListGroupsRequest::default();
        let answer = self.send(Route::Broker(broker), &request, i16::MAX).await?;
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            let on = format!("broker {broker}");
            return Err(Error::broker("ListGroups", on, code, None));
        }
        let groups = answer.groups.into_iter().map(|group| GroupListing {
            group: group.group_id.0.to_string(),
            protocol_type: group.protocol_type.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
        });
        Ok(groups.collect())
    }

    /// The groups with their members: of the classic and the consumer protocol (KIP-848), share groups; of streams groups
    /// (KIP-1071) only their state.
    pub async fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, Result<GroupDescription>>> {
        let mut found = self.describe_classic_groups(groups).await;
        // A group of the consumer protocol is dead or missing to DescribeGroups.
        let missing: Vec<String> = found
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Ok(group) if group.state == DEAD))
            .map(|(name, _)| name.clone())
            .collect();
        for (name, outcome) in self.describe_consumer_groups(&missing).await {
            if let Some(described) = outcome.transpose() {
                found.insert(name, described);
            }
        }
        self.describe_other_kinds(&mut found).await?;
        Ok(found)
    }

    /// Share and streams groups are neither: the listing tells that they are there.
    async fn describe_other_kinds(
        &self,
        found: &mut BTreeMap<String, Result<GroupDescription>>,
    ) -> Result<()> {
        let missing = |found: &BTreeMap<String, Result<GroupDescription>>, name: &str| {
            let found = found.get(name);
            matches!(found, Some(Ok(group)) if group.state == DEAD)
        };
        if !found.keys().any(|name| missing(found, name)) {
            return Ok(());
        }
        let mut share = Vec::new();
        for listed in self.list_groups().await? {
            let kind = listed.kind.to_ascii_lowercase();
            if !missing(found, &listed.group) {
                continue;
            }
            match kind.as_str() {
                "share" => share.push(listed.group),
                // Its members are told by a call that kbr does not have; whether there are any, by its state.
                "streams" => {
                    if let Some(Ok(group)) = found.get_mut(&listed.group) {
                        (group.state, group.kind) = (listed.state, kind);
                        group.protocol_type = listed.protocol_type;
                    }
                }
                _ => {}
            }
        }
        for (name, outcome) in self.describe_share_groups(&share).await {
            if let Some(described) = outcome.transpose() {
                found.insert(name, described);
            }
        }
        Ok(())
    }

    async fn describe_classic_groups(
        &self,
        groups: &[String],
    ) -> BTreeMap<String, Result<GroupDescription>> {
        const API: &str = "DescribeGroups";
        let wanted = groups.iter().map(|group| (group.clone(), ())).collect();
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        self.ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
            let groups = groups.into_iter();
            let request = DescribeGroupsRequest::default()
                .with_groups(groups.map(|(group, ())| group_id(&group)).collect());
            let answer = self.send(Route::Broker(broker), &request, i16::MAX).await?;
            let mut answers: KeyAnswers<GroupDescription> = Vec::new();
            for group in answer.groups {
                let name = group.group_id.0.to_string();
                let code = ErrorCode(group.error_code);
                let outcome = if code.is_ok() || code == ErrorCode::GROUP_ID_NOT_FOUND {
                    Ok(classic(group, broker))
                } else {
                    let message = group.error_message.map(|message| message.to_string());
                    Err(Error::broker(API, &name, code, message))
                };
                answers.push((name, outcome));
            }
            Ok(answers)
        })
        .await
    }

    /// `None` for a group that is none of the consumer protocol, or a broker that does not know it.
    async fn describe_consumer_groups(
        &self,
        groups: &[String],
    ) -> BTreeMap<String, Result<Option<GroupDescription>>> {
        const API: &str = "ConsumerGroupDescribe";
        let wanted = groups.iter().map(|group| (group.clone(), ())).collect();
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        self.ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
            let request = ConsumerGroupDescribeRequest::default()
                .with_group_ids(groups.iter().map(|(group, ())| group_id(group)).collect());
            let answer = match self.send(Route::Broker(broker), &request, i16::MAX).await {
                Ok(answer) => answer,
                Err(Error::Unsupported { .. }) => {
                    let groups = groups.into_iter();
                    return Ok(groups.map(|(group, ())| (group, Ok(None))).collect());
                }
                Err(error) => return Err(error),
            };
            let mut answers: KeyAnswers<Option<GroupDescription>> = Vec::new();
            for group in answer.groups {
                let name = group.group_id.0.to_string();
                let code = ErrorCode(group.error_code);
                let outcome = match code {
                    ErrorCode::NONE => Ok(Some(consumer(group, broker))),
                    ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION => Ok(None),
                    code => {
                        let message = group.error_message.map(|message| message.to_string());
                        Err(Error::broker(API, &name, code, message))
                    }
                };
                answers.push((name, outcome));
            }
            Ok(answers)
        })
        .await
    }

    /// Deletes empty groups with their committed offsets. A result per group.
    pub async fn delete_groups(&self, groups: &[String]) -> Result<BTreeMap<String, Result<()>>> {
        const API: &str = "DeleteGroups";
        let wanted = groups.iter().map(|group| (group.clone(), ())).collect();
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        let in_doubt = std::sync::Mutex::new(BTreeSet::new());
        let doubted = &in_doubt;
        let deleted = self
            .ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
                let request = DeleteGroupsRequest::default()
                    .with_groups_names(groups.iter().map(|(group, ())| group_id(group)).collect());
                let answer = match self.send(Route::Broker(broker), &request, i16::MAX).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        if error.in_doubt()
                            && let Ok(mut doubted) = doubted.lock()
                        {
                            doubted.extend(groups.into_iter().map(|(group, ())| group));
                        }
                        return Err(error);
                    }
                };
                let mut answers: KeyAnswers<()> = Vec::new();
                for group in answer.results {
                    let name = group.group_id.0.to_string();
                    let code = ErrorCode(group.error_code);
                    // Gone after a deletion whose answer was lost: that deletion took place.
                    let gone_by_us = code == ErrorCode::GROUP_ID_NOT_FOUND
                        && doubted.lock().is_ok_and(|doubted| doubted.contains(&name));
                    let outcome = if code.is_ok() || gone_by_us {
                        Ok(())
                    } else {
                        Err(Error::broker(API, &name, code, None))
                    };
                    answers.push((name, outcome));
                }
                Ok(answers)
            })
            .await;
        Ok(deleted)
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_string()))
}

fn classic(group: DescribedGroup, coordinator: i32) -> GroupDescription {
    let missing = ErrorCode(group.error_code) == ErrorCode::GROUP_ID_NOT_FOUND;
    let is_consumer = matches!(group.protocol_type.as_str(), "consumer" | "");
    let member = |member: DescribedGroupMember| Member {
        member_id: member.member_id.to_string(),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        // Other protocols (Connect, Streams before 4.2 is "consumer") put something else there.
        topics: match is_consumer {
            true => membership::subscribed_topics(&member.member_metadata),
            false => Vec::new(),
        },
        assigned: match is_consumer {
            true => membership::assigned_partitions(&member.member_assignment),
            false => Vec::new(),
        },
    };
    GroupDescription {
        group: group.group_id.0.to_string(),
        state: match missing {
            true => DEAD.to_string(),
            false => group.group_state.to_string(),
        },
        kind: "classic".to_string(),
        protocol_type: group.protocol_type.to_string(),
        coordinator,
        members: group.members.into_iter().map(member).collect(),
    }
}

fn consumer(group: ConsumerGroup, coordinator: i32) -> GroupDescription {
    let member = |member: ConsumerMember| {
        let mut assigned: Vec<TopicPartition> = Vec::new();
        for topic in member.assignment.topic_partitions {
            let name = topic.topic_name.0.to_string();
            let partitions = topic.partitions.into_iter();
            assigned.extend(partitions.map(|at| TopicPartition::new(name.clone(), at)));
        }
        assigned.sort();
        // With a pattern the broker tells the pattern, not the topics; what is assigned is subscribed.
        let mut topics: BTreeSet<String> = member
            .subscribed_topic_names
            .into_iter()
            .map(|name| name.0.to_string())
            .collect();
        topics.extend(assigned.iter().map(|at| at.topic.clone()));
        Member {
            member_id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            topics: topics.into_iter().collect(),
            assigned,
        }
    };
    GroupDescription {
        group: group.group_id.0.to_string(),
        state: group.group_state.to_string(),
        kind: "consumer".to_string(),
        protocol_type: "consumer".to_string(),
        coordinator,
        members: group.members.into_iter().map(member).collect(),
    }
}
