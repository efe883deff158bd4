//! Clusters and what is read from them: topics, groups, committed offsets, lag.

use crate::base::{Offset, PartitionId, TopicPartition};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::world::ClusterHandle;
use crate::kafka;
use crate::kafka::{Isolation, OffsetAt, TopicsWanted};
use rhai::{Array, Dynamic};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A cluster, connected.
#[derive(Clone)]
pub struct Cluster(pub Arc<ClusterHandle>);

/// A topic as it was when it was read.
#[derive(Clone)]
pub struct Topic {
    pub name: String,
    pub id: String,
    pub partitions: i64,
    pub replicas: i64,
    /// Offsets between log start and end, summed: at most this many records.
    pub records: i64,
}

/// A consumer group as it was when it was read.
#[derive(Clone)]
pub struct Group {
    pub cluster: Cluster,
    pub name: String,
    pub state: String,
    pub kind: String,
    pub members: i64,
    pub topics: Vec<String>,
}

/// A group's committed offset in one partition.
#[derive(Clone)]
pub struct Lag {
    pub topic: String,
    pub partition: i64,
    pub committed: i64,
    pub end: i64,
    pub lag: i64,
}

const NAME: &[Parameter] = &[Parameter::one("name", &[Kind::Text])];

pub static TABLE: &[Entry] = &[
    Entry::function("cluster", NAME, Kind::Cluster, |call| {
        let name = call.text(0)?;
        let host = call.host()?.clone();
        let handle = call
            .wait(host.world.cluster(&name))?
            .map_err(|error| reading::of_world("cluster", error))?;
        host.add_cluster(handle.fact.clone());
        Ok(Dynamic::from(Cluster(handle)))
    })
    .doc(
        "A cluster by its name in `kbr.toml`, by its addresses, or a sandbox in this process. Connects at once.",
    )
    .example("let dr = cluster(\"dr\");   // or cluster(\"127.0.0.1:9092\"), cluster(\"sandbox:test\")"),
    Entry::column(Kind::Cluster, "name", Kind::Text, |call| {
        Ok(call.me::<Cluster>()?.0.name.clone().into())
    })
    .doc("The name it was asked for by."),
    Entry::column(Kind::Cluster, "id", Kind::Text, |call| {
        Ok(call.me::<Cluster>()?.0.fact.id.clone().into())
    })
    .doc("The cluster id, by which plans know it."),
    Entry::column(Kind::Cluster, "description", Kind::Text, |call| {
        Ok(call.me::<Cluster>()?.0.fact.description.clone().into())
    })
    .doc("Brokers and version, for people."),
    Entry::method(Kind::Cluster, "topics", &[], Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let topics = cluster.topics(call, TopicsWanted::All)?;
        Ok(topics
            .into_iter()
            .map(Dynamic::from)
            .collect::<Array>()
            .into())
    })
    .doc("Every topic but Kafka's own, by name.")
    .example("cluster(\"dr\").topics()"),
    Entry::method(Kind::Cluster, "topic", NAME, Kind::Topic, |call| {
        let cluster: Cluster = call.me()?;
        let name = call.text(0)?;
        let found = cluster
            .topics(call, TopicsWanted::All)?
            .into_iter()
            .collect::<Vec<_>>();
        match found.iter().find(|topic| topic.name == name) {
            Some(topic) => Ok(Dynamic::from(topic.clone())),
            None => {
                let names: Vec<&str> = found.iter().map(|topic| topic.name.as_str()).collect();
                Err(reading::missing("topic", &name, &cluster.0.name, &names))
            }
        }
    })
    .doc("One topic; an error if there is none of this name.")
    .example("dr.topic(\"orders\").partitions"),
    Entry::method(Kind::Cluster, "groups", &[], Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let groups = cluster.groups(call, None)?;
        Ok(groups
            .into_iter()
            .map(Dynamic::from)
            .collect::<Array>()
            .into())
    })
    .doc("Every consumer group, by name.")
    .example("cluster(\"dr\").groups()"),
    Entry::method(Kind::Cluster, "group", NAME, Kind::Group, |call| {
        let cluster: Cluster = call.me()?;
        Ok(Dynamic::from(cluster.group(call, &call.text(0)?)?))
    })
    .doc("One consumer group; an error if there is none of this name.")
    .example("dr.group(\"checkout-api\").state"),
    Entry::method(
        Kind::Cluster,
        "lag",
        &[Parameter::one("group", &[Kind::Text])],
        Kind::Number,
        |call| {
            let (cluster, group) = (call.me::<Cluster>()?, call.text(0)?);
            let rows = cluster.lag(call, &group)?;
            // A mistyped group has committed nothing: "no lag" would be a dangerous answer to that.
            if rows.is_empty() {
                cluster.group(call, &group)?;
            }
            Ok(rows.iter().map(|row| row.lag).sum::<i64>().into())
        },
    )
    .doc("How many offsets a group has still to read, over all partitions it has committed; an error if there is no such group.")
    .example("dr.lag(\"checkout-api\")"),
    Entry::column(Kind::Topic, "name", Kind::Text, |call| {
        Ok(call.me::<Topic>()?.name.into())
    }),
    Entry::column(Kind::Topic, "partitions", Kind::Number, |call| {
        Ok(call.me::<Topic>()?.partitions.into())
    })
    .doc("How many partitions."),
    Entry::column(Kind::Topic, "replicas", Kind::Number, |call| {
        Ok(call.me::<Topic>()?.replicas.into())
    })
    .doc("The replication factor."),
    Entry::column(Kind::Topic, "records", Kind::Number, |call| {
        Ok(call.me::<Topic>()?.records.into())
    })
    .doc("Offsets from log start to end, summed. Compaction and markers make the records fewer."),
    Entry::column(Kind::Topic, "id", Kind::Text, |call| {
        Ok(call.me::<Topic>()?.id.into())
    })
    .doc("The topic id, which a topic of the same name created again does not have."),
    Entry::column(Kind::Group, "name", Kind::Text, |call| {
        Ok(call.me::<Group>()?.name.into())
    }),
    Entry::column(Kind::Group, "state", Kind::Text, |call| {
        Ok(call.me::<Group>()?.state.into())
    })
    .doc("`Stable`, `Empty`, `PreparingRebalance` … as the coordinator says it."),
    Entry::column(Kind::Group, "kind", Kind::Text, |call| {
        Ok(call.me::<Group>()?.kind.into())
    })
    .doc("`classic` or `consumer`."),
    Entry::column(Kind::Group, "members", Kind::Number, |call| {
        Ok(call.me::<Group>()?.members.into())
    })
    .doc("How many members are in it now."),
    Entry::property(Kind::Group, "topics", Kind::List, |call| {
        let topics = call.me::<Group>()?.topics;
        Ok(topics
            .into_iter()
            .map(Dynamic::from)
            .collect::<Array>()
            .into())
    })
    .doc("The topics that its members are subscribed to."),
    Entry::method(Kind::Group, "offsets", &[], Kind::List, |call| {
        let group: Group = call.me()?;
        let rows = group.cluster.lag(call, &group.name)?;
        Ok(rows.into_iter().map(Dynamic::from).collect::<Array>().into())
    })
    .doc("Its committed offsets, with the end of each partition and the lag.")
    .example("dr.group(\"checkout-api\").offsets()"),
    Entry::column(Kind::Lag, "topic", Kind::Text, |call| {
        Ok(call.me::<Lag>()?.topic.into())
    }),
    Entry::column(Kind::Lag, "partition", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.partition.into())
    }),
    Entry::column(Kind::Lag, "committed", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.committed.into())
    })
    .doc("The next offset that the group will read."),
    Entry::column(Kind::Lag, "end", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.end.into())
    })
    .doc("The last stable offset of the partition."),
    Entry::column(Kind::Lag, "lag", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.lag.into())
    })
    .doc("`end` − `committed`."),
];

impl Cluster {
    fn failed(&self, doing: &str, error: kafka::Error) -> Failure {
        reading::of_kafka(doing, &self.0.name, error)
    }

    fn topics(&self, call: &Invocation, which: TopicsWanted<'_>) -> Result<Vec<Topic>, Failure> {
        let client = &self.0.client;
        let mut topics = call
            .wait(client.topics(which))?
            .map_err(|error| self.failed("topics", error))?;
        topics.retain(|topic| !topic.internal);
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| TopicPartition::new(topic.name.clone(), partition.id))
            })
            .collect();
        let starts = self.ends(call, &partitions, OffsetAt::Earliest)?;
        let ends = self.ends(call, &partitions, OffsetAt::Latest)?;
        Ok(topics
            .into_iter()
            .map(|topic| Topic {
                records: topic
                    .partitions
                    .iter()
                    .map(|partition| {
                        let place = TopicPartition::new(topic.name.clone(), partition.id);
                        match (starts.get(&place), ends.get(&place)) {
                            (Some(start), Some(end)) => *end - *start,
                            _ => 0,
                        }
                    })
                    .sum(),
                partitions: topic.partitions.len() as i64,
                replicas: topic
                    .partitions
                    .first()
                    .map_or(0, |partition| partition.replicas.len() as i64),
                id: topic.id.to_string(),
                name: topic.name,
            })
            .collect())
    }

    /// Offsets of partitions; one without an answer is left out.
    fn ends(
        &self,
        call: &Invocation,
        partitions: &[TopicPartition],
        at: OffsetAt,
    ) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
        let wanted: Vec<(TopicPartition, OffsetAt)> = partitions
            .iter()
            .map(|partition| (partition.clone(), at))
            .collect();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = call
            .wait(
                self.0
                    .client
                    .list_offsets(&wanted, Isolation::ReadCommitted),
            )?
            .map_err(|error| self.failed("offsets", error))?;
        Ok(found
            .into_iter()
            .filter_map(|(partition, found)| Some((partition, found.ok()?.offset)))
            .collect())
    }

    /// One group; an error if there is none of this name.
    fn group(&self, call: &Invocation, name: &str) -> Result<Group, Failure> {
        let found = self.groups(call, Some(name))?;
        match found.into_iter().find(|group| group.state != "Dead") {
            Some(group) => Ok(group),
            None => {
                let all = self.groups(call, None)?;
                let names: Vec<&str> = all.iter().map(|group| group.name.as_str()).collect();
                Err(reading::missing("group", name, &self.0.name, &names))
            }
        }
    }

    fn groups(&self, call: &Invocation, only: Option<&str>) -> Result<Vec<Group>, Failure> {
        let client = &self.0.client;
        let mut names: Vec<String> = match only {
            Some(name) => vec![name.to_string()],
            None => call
                .wait(client.list_groups())?
                .map_err(|error| self.failed("groups", error))?
                .into_iter()
                .map(|listing| listing.group)
                .collect(),
        };
        names.sort();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let described = call
            .wait(client.describe_groups(&names))?
            .map_err(|error| self.failed("groups", error))?;
        described
            .into_iter()
            .map(|(name, described)| {
                let described = described.map_err(|error| self.failed("groups", error))?;
                let mut topics: Vec<String> = described
                    .members
                    .iter()
                    .flat_map(|member| member.topics.iter().cloned())
                    .collect();
                topics.sort();
                topics.dedup();
                Ok(Group {
                    cluster: self.clone(),
                    name,
                    state: described.state,
                    kind: described.kind,
                    members: described.members.len() as i64,
                    topics,
                })
            })
            .collect()
    }

    fn lag(&self, call: &Invocation, group: &str) -> Result<Vec<Lag>, Failure> {
        let groups = [group.to_string()];
        let committed = call
            .wait(self.0.client.committed_offsets(&groups, false))?
            .map_err(|error| self.failed("committed offsets", error))?
            .remove(group)
            .unwrap_or_else(|| Ok(BTreeMap::new()))
            .map_err(|error| self.failed("committed offsets", error))?;
        let partitions: Vec<TopicPartition> = committed.keys().cloned().collect();
        let ends = self.ends(call, &partitions, OffsetAt::Latest)?;
        Ok(committed
            .into_iter()
            .map(|(place, committed)| {
                let end = ends.get(&place).copied().unwrap_or(committed.offset);
                let PartitionId(partition) = place.partition;
                Lag {
                    topic: place.topic,
                    partition: i64::from(partition),
                    committed: committed.offset.0,
                    end: end.0,
                    lag: (end - committed.offset).max(0),
                }
            })
            .collect())
    }
}
