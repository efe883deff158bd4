//! Topics: listing, creating, deleting.

use super::brokers::Purpose;
use super::client::{Client, Route, exchange};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use crate::base::{PartitionId, TopicId};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Duration;

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
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let metadata = match which {
                TopicsWanted::All => self.fetch_metadata(None).await?,
                TopicsWanted::Named([]) => return Ok(Vec::new()),
                TopicsWanted::Named(names) => self.fetch_metadata(Some(names)).await?,
            };
            let mut topics: Vec<Topic> = match which {
                TopicsWanted::All => metadata.topics.values().cloned().collect(),
                TopicsWanted::Named(names) => names
                    .iter()
                    .filter_map(|name| metadata.topics.get(name).cloned())
                    .collect(),
            };
            topics.sort_by(|one, other| one.name.cmp(&other.name));
            topics.dedup_by(|one, other| one.name == other.name);
            // A topic being created shows LEADER_NOT_AVAILABLE for a moment; one that does not exist
            // stays that way and is the caller's to judge.
            let settling = topics
                .iter()
                .any(|topic| topic.error == ErrorCode::LEADER_NOT_AVAILABLE);
            if !settling || !backoff.wait().await {
                return Ok(topics);
            }
        }
    }

    /// Creates topics and waits until the metadata shows their leaders. A result per topic, in order.
    pub async fn create_topics(
        &self,
        new: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<(String, Result<TopicId>)>> {
        const API: &str = "CreateTopics";
        let request = CreateTopicsRequest::default()
            .with_topics(new.iter().map(creatable).collect())
            .with_timeout_ms(self.broker_timeout_ms())
            .with_validate_only(validate_only);
        let answer = self
            .at_the_controller(
                |to| self.send(to, &request, i16::MAX),
                |answer| answer.topics.iter().map(|topic| topic.error_code).collect(),
            )
            .await?;
        let mut found: BTreeMap<String, Result<TopicId>> = BTreeMap::new();
        for topic in answer.topics {
            let name = topic.name.0.to_string();
            let outcome = outcome(
                API,
                &name,
                topic.error_code,
                topic.error_message,
                topic.topic_id,
            );
            found.insert(name, outcome);
        }
        let results = in_order(API, new.iter().map(|topic| topic.name.clone()), found);
        if !validate_only {
            let created: Vec<String> = results
                .iter()
                .filter(|(_, outcome)| outcome.is_ok())
                .map(|(name, _)| name.clone())
                .collect();
            self.wait_until(&created, has_leaders).await;
        }
        Ok(results)
    }

    /// Gives a topic more partitions, `count` in all, and waits until the metadata shows their leaders.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<()> {
        const API: &str = "CreatePartitions";
        let name = TopicName(StrBytes::from_string(topic.to_string()));
        let wanted = CreatePartitionsTopic::default()
            .with_name(name)
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(self.broker_timeout_ms());
        let answer = self
            .at_the_controller(
                |to| self.send(to, &request, i16::MAX),
                |answer| answer.results.iter().map(|of| of.error_code).collect(),
            )
            .await?;
        for of in answer.results {
            outcome(API, topic, of.error_code, of.error_message, TopicId::nil())?;
        }
        let grown = |found: Option<&Topic>| {
            has_leaders(found) && found.is_some_and(|at| at.partitions.len() as i32 >= count)
        };
        self.wait_until(&[topic.to_string()], grown).await;
        Ok(())
    }

    /// Deletes topics by name and waits until the metadata no longer shows them. A result per topic, in order.
    pub async fn delete_topics(&self, names: &[String]) -> Result<Vec<(String, Result<TopicId>)>> {
        const API: &str = "DeleteTopics";
        let connection = self.connection(Route::Controller, Purpose::Control).await?;
        let version = connection.choose::<DeleteTopicsRequest>(i16::MAX)?;
        let topic_name = |name: &String| TopicName(StrBytes::from_string(name.clone()));
        let mut request = DeleteTopicsRequest::default().with_timeout_ms(self.broker_timeout_ms());
        if version >= 6 {
            let state = |name| DeleteTopicState::default().with_name(Some(topic_name(name)));
            request = request.with_topics(names.iter().map(state).collect());
        } else {
            request = request.with_topic_names(names.iter().map(topic_name).collect());
        }
        let (request, allowed) = (&request, self.options().request_timeout);
        let answer = self
            .at_the_controller(
                |to| async move {
                    let connection = self.connection(to, Purpose::Control).await?;
                    exchange(&connection, request, version, allowed).await
                },
                |answer| {
                    answer
                        .responses
                        .iter()
                        .map(|topic| topic.error_code)
                        .collect()
                },
            )
            .await?;
        let mut found: BTreeMap<String, Result<TopicId>> = BTreeMap::new();
        for topic in answer.responses {
            let Some(name) = topic.name.map(|name| name.0.to_string()) else {
                continue;
            };
            let outcome = outcome(
                API,
                &name,
                topic.error_code,
                topic.error_message,
                topic.topic_id,
            );
            found.insert(name, outcome);
        }
        let results = in_order(API, names.iter().cloned(), found);
        let deleted = results.iter().filter(|(_, outcome)| outcome.is_ok());
        let deleted: Vec<String> = deleted.map(|(name, _)| name.clone()).collect();
        self.wait_until(&deleted, |topic| {
            topic.is_some_and(|topic| topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        })
        .await;
        Ok(results)
    }

    /// What brokers get as their own time limit: a little less than ours, so that theirs is the one that
    /// tells.
    pub(super) fn broker_timeout_ms(&self) -> i32 {
        let ours = self.options().request_timeout;
        i32::try_from(ours.saturating_sub(Duration::from_secs(1)).as_millis())
            .unwrap_or(i32::MAX)
            .max(1000)
    }

    /// Sends to the controller, and again after NOT_CONTROLLER alone: nothing was done then.
    async fn at_the_controller<A, Fut: Future<Output = Result<A>>>(
        &self,
        send: impl Fn(Route) -> Fut,
        codes: impl Fn(&A) -> Vec<i16>,
    ) -> Result<A> {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let seen = self.metadata().generation;
            let answer = send(Route::Controller).await;
            let elsewhere = match &answer {
                Ok(answer) => codes(answer)
                    .iter()
                    .all(|code| ErrorCode(*code) == ErrorCode::NOT_CONTROLLER),
                Err(error) => error.class() == Class::RefreshMetadata && !error.in_doubt(),
            };
            if !elsewhere || !backoff.wait().await {
                return answer;
            }
            self.refresh_metadata(seen).await?;
        }
    }

    /// The controller answers before the brokers have heard: waits until their metadata shows the topics
    /// as `settled` wants them, or gives up quietly, since the next call meets the same state and says so.
    async fn wait_until(&self, names: &[String], settled: impl Fn(Option<&Topic>) -> bool) {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        while !names.is_empty() {
            if let Ok(metadata) = self.fetch_metadata(Some(names)).await
                && names.iter().all(|name| settled(metadata.topics.get(name)))
            {
                return;
            }
            if !backoff.wait().await {
                return;
            }
        }
    }
}

fn has_leaders(topic: Option<&Topic>) -> bool {
    topic.is_some_and(|topic| {
        topic.error.is_ok()
            && !topic.partitions.is_empty()
            && topic.partitions.iter().all(|at| at.leader.is_some())
    })
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let configs = topic.configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
    });
    CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(configs.collect())
}

fn outcome(
    api: &'static str,
    topic: &str,
    code: i16,
    message: Option<StrBytes>,
    id: TopicId,
) -> Result<TopicId> {
    let code = ErrorCode(code);
    if code.is_ok() {
        Ok(id)
    } else {
        let message = message.map(|message| message.to_string());
        Err(Error::broker(api, topic, code, message))
    }
}

/// The results in the order of the question; a topic the answer leaves out is an error.
fn in_order(
    api: &'static str,
    names: impl Iterator<Item = String>,
    mut found: BTreeMap<String, Result<TopicId>>,
) -> Vec<(String, Result<TopicId>)> {
    names
        .map(|name| {
            let outcome = found.remove(&name).unwrap_or_else(|| {
                Err(Error::Protocol {
                    api,
                    broker: "the controller".to_string(),
                    why: format!("it says nothing about topic {name:?}"),
                })
            });
            (name, outcome)
        })
        .collect()
}
