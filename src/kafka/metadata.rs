//! What the client knows of the cluster: brokers, topics, leaders.
//!
//! Every state has a generation. Whoever finds it wrong names the generation that misled it; the cluster
//! is asked again only if nobody has since. Topics enter when they are first asked for.

use super::client::{BrokerInfo, Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use super::topics::{Partition, Topic};
use crate::base::{PartitionId, TopicId, TopicPartition};
use futures::future::join_all;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The leader that a broker which does not lead (any more) points to in its refusal (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaderHint {
    pub(super) partition: TopicPartition,
    pub(super) leader: i32,
    pub(super) leader_epoch: i32,
}

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
        self.partition(partition)?.leader
    }

    fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        let topic = self.topics.get(&partition.topic)?;
        Some(&topic.partitions[topic.place(partition.partition)?])
    }

    fn partition_mut(&mut self, partition: &TopicPartition) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&partition.topic)?;
        let place = topic.place(partition.partition)?;
        Some(&mut topic.partitions[place])
    }

    /// The topic's id, if the brokers tell one.
    pub fn topic_id(&self, topic: &str) -> Option<TopicId> {
        self.topics
            .get(topic)
            .map(|topic| topic.id)
            .filter(|id| !id.is_nil())
    }

    /// Why the partition has no leader to ask.
    fn why_no_leader(&self, api: &'static str, partition: &TopicPartition) -> Error {
        let code = match self.topics.get(&partition.topic) {
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(topic) if !topic.error.is_ok() => topic.error,
            Some(topic) => {
                let known = |candidate: &Partition| candidate.id == partition.partition;
                if topic.partitions.iter().any(known) {
                    return Error::NoLeader {
                        partition: partition.clone(),
                    };
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            }
        };
        Error::broker(api, partition.to_string(), code, None)
    }
}

impl Topic {
    fn place(&self, partition: PartitionId) -> Option<usize> {
        // Sorted by id; a topic may have thousands.
        self.partitions
            .binary_search_by_key(&partition, |candidate| candidate.id)
            .ok()
    }
}

/// Asked again at most one at a time.
#[derive(Debug)]
pub(super) struct MetadataCache {
    current: Mutex<Arc<Metadata>>,
    refreshing: Semaphore,
}

impl MetadataCache {
    pub(super) fn new(first: Metadata) -> Self {
        Self {
            current: Mutex::new(Arc::new(first)),
            refreshing: Semaphore::new(1),
        }
    }

    pub(super) fn current(&self) -> Arc<Metadata> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes in leaders of a newer epoch than the known ones, where their addresses are known, from `brokers` at the
    /// latest (as Metadata.updatePartitionLeadership of the Java client does). Older hints change nothing.
    pub(super) fn follow(&self, hints: &[LeaderHint], brokers: Vec<BrokerInfo>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let addressed = |leader: i32| {
            let named = brokers.iter().any(|broker| broker.id == leader);
            named || current.brokers.contains_key(&leader)
        };
        let newer: Vec<&LeaderHint> = hints
            .iter()
            .filter(|hint| {
                let known = current.partition(&hint.partition);
                addressed(hint.leader)
                    && known.is_some_and(|known| known.leader_epoch < hint.leader_epoch)
            })
            .collect();
        if newer.is_empty() {
            return;
        }
        let mut news = Metadata::clone(&current);
        news.generation += 1;
        news.brokers
            .extend(brokers.into_iter().map(|broker| (broker.id, broker)));
        for hint in newer {
            if let Some(partition) = news.partition_mut(&hint.partition) {
                partition.leader = Some(hint.leader);
                partition.leader_epoch = hint.leader_epoch;
            }
        }
        *current = Arc::new(news);
    }

    /// Takes in what the cluster said; topics that it said nothing about stay as they are, unless the
    /// answer was about all topics.
    fn take_in(&self, mut news: Metadata, about_all: bool) -> Arc<Metadata> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        news.generation = current.generation + 1;
        if news.cluster_id.is_none() {
            news.cluster_id = current.cluster_id.clone();
        }
        if !about_all {
            for (name, topic) in &current.topics {
                news.topics
                    .entry(name.clone())
                    .or_insert_with(|| topic.clone());
            }
        }
        *current = Arc::new(news);
        current.clone()
    }
}

/// A Metadata request that creates nothing. `None` asks about all topics.
pub(super) fn request(topics: Option<&[String]>) -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(topics.map(|names| {
            names
                .iter()
                .map(|name| {
                    MetadataRequestTopic::default()
                        .with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
                })
                .collect()
        }))
        .with_allow_auto_topic_creation(false)
}

/// The answer in this layer's types.
pub(super) fn from_answer(answer: MetadataResponse) -> Metadata {
    let brokers = answer.brokers.into_iter().map(|broker| {
        let info = BrokerInfo {
            id: broker.node_id.0,
            host: broker.host.to_string(),
            port: broker.port,
            rack: broker.rack.map(|rack| rack.to_string()),
        };
        (info.id, info)
    });
    let topics = answer.topics.into_iter().filter_map(|topic| {
        let mut partitions: Vec<Partition> = topic
            .partitions
            .into_iter()
            .map(|partition| Partition {
                id: PartitionId(partition.partition_index),
                leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                isr: partition.isr_nodes.iter().map(|id| id.0).collect(),
                error: ErrorCode(partition.error_code),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.id);
        let topic = Topic {
            name: topic.name?.0.to_string(),
            id: topic.topic_id,
            internal: topic.is_internal,
            error: ErrorCode(topic.error_code),
            partitions,
        };
        Some((topic.name.clone(), topic))
    });
    Metadata {
        generation: 0,
        cluster_id: answer.cluster_id.map(|id| id.to_string()),
        controller_id: Some(answer.controller_id.0).filter(|id| *id >= 0),
        brokers: brokers.collect(),
        topics: topics.collect(),
    }
}

/// One answer per partition that was asked about.
pub(super) type PartitionAnswers<A> = Vec<(TopicPartition, Result<A>)>;

/// How many waits a topic that the metadata does not show is given: a topic just created takes a moment
/// to reach every broker, a misspelt one should not cost the whole retry time.
const WAITS_FOR_UNKNOWN_TOPIC: u32 = 5;

impl Client {
    /// The metadata as last seen.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.cache().current()
    }

    /// Takes in the leaders that broker `asked` pointed to; for each, who leads the partition by now, if that is another
    /// broker.
    pub(super) fn follow_leaders(
        &self,
        asked: i32,
        hints: &[LeaderHint],
        brokers: Vec<BrokerInfo>,
    ) -> BTreeMap<TopicPartition, i32> {
        self.cache().follow(hints, brokers);
        let metadata = self.metadata();
        hints
            .iter()
            .filter_map(|hint| {
                let known = metadata.partition(&hint.partition)?;
                let leader = known.leader.filter(|leader| *leader != asked)?;
                let as_new = known.leader_epoch >= hint.leader_epoch;
                as_new.then(|| (hint.partition.clone(), leader))
            })
            .collect()
    }

    /// Asks the cluster again about every topic seen so far, unless somebody did since generation `seen`.
    pub async fn refresh_metadata(&self, seen: u64) -> Result<Arc<Metadata>> {
        // Refreshing takes at most the retries of one call; whoever waits for it waits as long.
        let patience = self.options().retry_deadline + self.options().request_timeout;
        let permit = tokio::time::timeout(patience, self.cache().refreshing.acquire()).await;
        let current = self.metadata();
        if current.generation > seen {
            return Ok(current);
        }
        let names: Vec<String> = current.topics.keys().cloned().collect();
        let refreshed = self.fetch_metadata(Some(&names)).await;
        drop(permit);
        refreshed
    }

    /// Asks about some topics, or all, and takes the answer in.
    pub(super) async fn fetch_metadata(&self, topics: Option<&[String]>) -> Result<Arc<Metadata>> {
        let answer = self.ask(Route::Any, &request(topics), i16::MAX).await?;
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            return Err(Error::broker("Metadata", "the cluster", code, None));
        }
        Ok(self.cache().take_in(from_answer(answer), topics.is_none()))
    }

    /// The broker that leads the partition, from the cache if it is there.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<i32> {
        if let Some(leader) = self.metadata().leader(partition) {
            return Ok(leader);
        }
        let metadata = self
            .fetch_metadata(Some(std::slice::from_ref(&partition.topic)))
            .await?;
        metadata
            .leader(partition)
            .ok_or_else(|| metadata.why_no_leader("Metadata", partition))
    }

    /// Makes sure the cache has these topics, asking about those it does not have without error.
    async fn know_topics(&self, names: BTreeSet<&str>) -> Result<Arc<Metadata>> {
        let current = self.metadata();
        let missing: Vec<String> = names
            .into_iter()
            .filter(|name| {
                let known = current.topics.get(*name);
                known.is_none_or(|topic| !topic.error.is_ok())
            })
            .map(str::to_string)
            .collect();
        if missing.is_empty() {
            return Ok(current);
        }
        self.fetch_metadata(Some(&missing)).await
    }

    /// Asks each partition's leader, all leaders at once, and again where the answer's class allows it,
    /// until every partition has an answer or the retry time is over. `ask` sends one leader its part.
    pub(super) async fn ask_leaders<Q, A, F, Fut>(
        &self,
        api: &'static str,
        wanted: BTreeMap<TopicPartition, Q>,
        ask: F,
    ) -> Result<BTreeMap<TopicPartition, Result<A>>>
    where
        Q: Clone,
        F: Fn(i32, Vec<(TopicPartition, Q)>) -> Fut,
        Fut: Future<Output = Result<PartitionAnswers<A>>>,
    {
        let mut open = wanted;
        let mut done = BTreeMap::new();
        let mut backoff = Backoff::within(self.options().retry_deadline);
        while !open.is_empty() {
            let topics = open.keys().map(|partition| partition.topic.as_str());
            let metadata = self.know_topics(topics.collect()).await?;
            let mut failed: BTreeMap<TopicPartition, Error> = BTreeMap::new();
            let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, Q)>> = BTreeMap::new();
            for (partition, question) in &open {
                match metadata.leader(partition) {
                    Some(leader) => by_leader
                        .entry(leader)
                        .or_default()
                        .push((partition.clone(), question.clone())),
                    None => {
                        let why = metadata.why_no_leader(api, partition);
                        failed.insert(partition.clone(), why);
                    }
                }
            }
            let rounds = by_leader.into_iter().map(|(leader, questions)| {
                let partitions: Vec<_> = questions.iter().map(|(at, _)| at.clone()).collect();
                let answers = ask(leader, questions);
                async move { (leader, partitions, answers.await) }
            });
            for (leader, partitions, answers) in join_all(rounds).await {
                match answers {
                    Ok(answers) => {
                        for (partition, answer) in answers {
                            match answer {
                                Ok(answer) if open.remove(&partition).is_some() => {
                                    done.insert(partition, Ok(answer));
                                }
                                Ok(_) => {}
                                Err(error) => {
                                    failed.insert(partition, error);
                                }
                            }
                        }
                        for partition in partitions {
                            if open.contains_key(&partition) && !failed.contains_key(&partition) {
                                let error = Error::Protocol {
                                    api,
                                    broker: leader.to_string(),
                                    why: format!("it says nothing about {partition}"),
                                };
                                failed.insert(partition, error);
                            }
                        }
                    }
                    Err(error) => {
                        let errors = partitions.into_iter().map(|at| (at, error.clone()));
                        failed.extend(errors);
                    }
                }
            }
            for (partition, error) in &failed {
                let unknown = error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                let hopeless = error.class() == Class::Fatal
                    || (unknown && backoff.waits >= WAITS_FOR_UNKNOWN_TOPIC);
                if hopeless && open.remove(partition).is_some() {
                    done.insert(partition.clone(), Err(error.clone()));
                }
            }
            if open.is_empty() {
                break;
            }
            if !backoff.wait().await {
                for partition in std::mem::take(&mut open).into_keys() {
                    let error = failed.remove(&partition).unwrap_or(Error::NoLeader {
                        partition: partition.clone(),
                    });
                    done.insert(partition, Err(error));
                }
                break;
            }
            let refresh = |error: &Error| error.class() == Class::RefreshMetadata;
            if failed.values().any(refresh) {
                self.refresh_metadata(metadata.generation).await?;
            }
        }
        Ok(done)
    }
}
