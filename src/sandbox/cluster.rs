//! The state of a sandbox cluster: brokers, topics, partitions. One lock guards all of it; whoever changes it
//! tells the waiters (long polls, joining group members) through a counter.

use super::acls::{Acls, Quotas};
use super::batch::AppendRules;
use super::codes::{self, Refusal};
use super::configs;
use super::groups::Group;
use super::intercept::Interceptors;
use super::log::Log;
use super::transactions::Transaction;
use super::{SandboxOptions, lock};
use crate::base::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Cluster {
    pub options: SandboxOptions,
    pub cluster_id: String,
    pub interceptors: Interceptors,
    /// Requests received, by API key.
    pub requests: Mutex<BTreeMap<i16, u64>>,
    pub connections: AtomicU64,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Cluster {
    pub(super) fn new(options: SandboxOptions) -> Self {
        let state = State {
            acls: options.authorizer.then(Acls::new),
            ..State::default()
        };
        Self {
            cluster_id: cluster_id(&options.name),
            options,
            interceptors: Interceptors::default(),
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        }
    }

    /// The state, with everything done first that time alone has brought about.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        if state.expire() {
            self.touch();
        }
        state
    }

    /// Wakes everyone who waits for a change.
    pub(super) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Subscribe before looking at the state: then no change is missed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<String, Topic>,
    /// How many topics of a name there were, so that one created again has another id.
    pub incarnations: BTreeMap<String, u32>,
    pub groups: BTreeMap<String, Group>,
    pub transactions: BTreeMap<String, Transaction>,
    /// `None`: there is no authorizer.
    pub acls: Option<Acls>,
    pub quotas: Quotas,
    next_producer_id: i64,
    next_member: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Broker {
    pub port: u16,
    pub alive: bool,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub id: TopicId,
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub log: Log,
}

/// A topic to create.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicWanted {
    pub name: String,
    /// −1 for the default.
    pub partitions: i32,
    /// −1 for the default.
    pub replication_factor: i16,
    /// Replicas by partition; empty to let the cluster choose.
    pub assignments: Vec<Vec<i32>>,
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    pub(super) fn rules(&self, leader_epoch: i32) -> AppendRules {
        let number = |name| configs::effective_number(&self.configs, name);
        AppendRules {
            leader_epoch,
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            log_append_time: configs::effective(&self.configs, "message.timestamp.type")
                == "LogAppendTime",
            compacted: configs::effective(&self.configs, "cleanup.policy").contains("compact"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            now: now_ms(),
        }
    }

    pub(super) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

impl Partition {
    fn led_by(replicas: Vec<i32>, leader: Option<i32>) -> Self {
        let mut log = Log::default();
        log.begin_epoch(0);
        Self {
            leader,
            leader_epoch: 0,
            replicas,
            log,
        }
    }

    /// Makes `leader` the leader, under the next epoch.
    pub(super) fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader.is_some() {
            self.log.begin_epoch(self.leader_epoch);
        }
    }

    /// What a broker answers a client that asks it about a partition, with the epoch the client believes in
    /// (−1: none).
    pub(super) fn check_leader(&self, broker: i32, believed_epoch: i32) -> Result<(), i16> {
        match self.leader {
            None => Err(codes::LEADER_NOT_AVAILABLE),
            Some(leader) if leader != broker => Err(codes::NOT_LEADER_OR_FOLLOWER),
            _ if believed_epoch < 0 || believed_epoch == self.leader_epoch => Ok(()),
            _ if believed_epoch < self.leader_epoch => Err(codes::FENCED_LEADER_EPOCH),
            _ => Err(codes::UNKNOWN_LEADER_EPOCH),
        }
    }
}

impl State {
    pub(super) fn alive(&self) -> Vec<i32> {
        self.brokers
            .iter()
            .filter(|(_, broker)| broker.alive)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn controller(&self) -> i32 {
        self.alive().first().copied().unwrap_or(-1)
    }

    /// Which broker coordinates a group or a transactional id.
    pub(super) fn coordinator(&self, key: &str) -> Option<i32> {
        let alive = self.alive();
        let hash = blake3::hash(key.as_bytes());
        let spread = usize::from(hash.as_bytes()[0]);
        alive.get(spread % alive.len().max(1)).copied()
    }

    pub(super) fn topic_name(&self, id: TopicId) -> Option<&str> {
        self.topics
            .iter()
            .find(|(_, topic)| topic.id == id)
            .map(|(name, _)| name.as_str())
    }

    /// Code 3 unless the partition exists.
    pub(super) fn partition(&self, topic: &str, index: i32) -> Result<&Partition, i16> {
        self.topics
            .get(topic)
            .and_then(|topic| topic.partition(index))
            .ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, index: i32) -> Result<&mut Partition, i16> {
        self.topics
            .get_mut(topic)
            .and_then(|topic| topic.partition_mut(index))
            .ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)
    }

    pub(super) fn take_producer_id(&mut self) -> i64 {
        // Kafka hands out ids from 0 too, in blocks.
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// The random part of a member id, which here is a counter: tests see the same ids every time.
    pub(super) fn take_member_number(&mut self) -> u64 {
        self.next_member += 1;
        self.next_member
    }

    /// Checks a topic and creates it unless only asked whether that would work.
    pub(super) fn create_topic(
        &mut self,
        cluster: &Cluster,
        wanted: &TopicWanted,
        validate_only: bool,
    ) -> Result<TopicId, Refusal> {
        check_topic_name(&wanted.name)?;
        if self.topics.contains_key(&wanted.name) {
            return Err(Refusal::new(
                codes::TOPIC_ALREADY_EXISTS,
                format!("Topic '{}' already exists.", wanted.name),
            ));
        }
        for (name, value) in &wanted.configs {
            configs::check(name, value)?;
        }
        let replicas = self.placement(cluster, wanted)?;
        let incarnation = self.incarnations.get(&wanted.name).copied().unwrap_or(0);
        let id = topic_id(&cluster.options.name, &wanted.name, incarnation);
        if validate_only {
            return Ok(id);
        }
        let alive: BTreeSet<i32> = self.alive().into_iter().collect();
        let partitions = replicas
            .into_iter()
            .map(|replicas| {
                let leader = replicas.iter().find(|id| alive.contains(id)).copied();
                Partition::led_by(replicas, leader)
            })
            .collect();
        *self.incarnations.entry(wanted.name.clone()).or_default() += 1;
        self.topics.insert(
            wanted.name.clone(),
            Topic {
                id,
                configs: wanted.configs.clone(),
                partitions,
            },
        );
        Ok(id)
    }

    /// The replicas of every partition of a topic to create.
    fn placement(&self, cluster: &Cluster, wanted: &TopicWanted) -> Result<Vec<Vec<i32>>, Refusal> {
        if !wanted.assignments.is_empty() {
            if wanted.partitions != -1 || wanted.replication_factor != -1 {
                return Err(Refusal::new(
                    codes::INVALID_REQUEST,
                    "A manual partition assignment was specified, but numPartitions or replicationFactor was not -1.",
                ));
            }
            let known = |id: &i32| self.brokers.contains_key(id);
            if !wanted
                .assignments
                .iter()
                .all(|ids| !ids.is_empty() && ids.iter().all(known))
            {
                return Err(Refusal::new(
                    codes::INVALID_REPLICA_ASSIGNMENT,
                    "The manual partition assignment includes an unknown broker.",
                ));
            }
            return Ok(wanted.assignments.clone());
        }
        let count = match wanted.partitions {
            -1 => cluster.options.default_partitions,
            count if count <= 0 => {
                return Err(Refusal::new(
                    codes::INVALID_PARTITIONS,
                    "Number of partitions was set to an invalid non-positive value.",
                ));
            }
            count => count,
        };
        let factor = match wanted.replication_factor {
            -1 => 1,
            factor if factor <= 0 => {
                return Err(Refusal::new(
                    codes::INVALID_REPLICATION_FACTOR,
                    "Replication factor must be larger than 0, or -1 to use the default value.",
                ));
            }
            factor => usize::from(factor.unsigned_abs()),
        };
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        if factor > brokers.len() {
            return Err(Refusal::new(
                codes::INVALID_REPLICATION_FACTOR,
                format!(
                    "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {} broker(s) are registered.",
                    brokers.len()
                ),
            ));
        }
        Ok((0..usize::try_from(count).unwrap_or(0))
            .map(|index| {
                (0..factor)
                    .map(|replica| brokers[(index + replica) % brokers.len()])
                    .collect()
            })
            .collect())
    }

    /// Adds partitions up to `count`.
    pub(super) fn grow_topic(&mut self, topic: &str, count: i32) -> Result<(), Refusal> {
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let Some(topic) = self.topics.get_mut(topic) else {
            return Err(Refusal::new(
                codes::UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            ));
        };
        let factor = topic
            .partitions
            .first()
            .map_or(1, |first| first.replicas.len());
        let wanted = usize::try_from(count).unwrap_or(0);
        for index in topic.partitions.len()..wanted {
            let replicas: Vec<i32> = (0..factor)
                .map(|replica| brokers[(index + replica) % brokers.len()])
                .collect();
            let leader = replicas.first().copied();
            topic.partitions.push(Partition::led_by(replicas, leader));
        }
        Ok(())
    }

    /// Removes a topic and what groups have committed for it.
    pub(super) fn delete_topic(&mut self, name: &str) -> bool {
        if self.topics.remove(name).is_none() {
            return false;
        }
        for group in self.groups.values_mut() {
            group.forget_topic(name);
        }
        true
    }

    /// Moves partitions off a broker that stopped, or back onto one that started.
    pub(super) fn reelect(&mut self) {
        let alive: BTreeSet<i32> = self.alive().into_iter().collect();
        for partition in self
            .topics
            .values_mut()
            .flat_map(|topic| topic.partitions.iter_mut())
        {
            if partition
                .leader
                .is_some_and(|leader| alive.contains(&leader))
            {
                continue;
            }
            let next = partition
                .replicas
                .iter()
                .find(|id| alive.contains(id))
                .copied();
            if next != partition.leader {
                partition.elect(next);
            }
        }
    }

    /// What time alone brings about: transactions and group members that went silent. True if anything changed.
    fn expire(&mut self) -> bool {
        let transactions = self.expire_transactions();
        let mut groups = false;
        for group in self.groups.values_mut() {
            groups |= group.expire();
        }
        transactions || groups
    }
}

fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.len() > 249
        || !name.chars().all(legal)
    {
        return Err(Refusal::new(
            codes::INVALID_TOPIC_EXCEPTION,
            format!("Topic name is invalid: '{name}'"),
        ));
    }
    Ok(())
}

/// 22 characters as Kafka's ids have, readable where there is room.
fn cluster_id(name: &str) -> String {
    let readable: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(8)
        .collect();
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mut id = format!("sandbox-{readable}-{hash}");
    id.truncate(22);
    id
}

/// A version-4 UUID that follows from the names, so that two runs of a test see the same ids.
fn topic_id(cluster: &str, topic: &str, incarnation: u32) -> TopicId {
    let hash = blake3::hash(format!("{cluster}/{topic}/{incarnation}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The broker's clock, ms since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        })
}
