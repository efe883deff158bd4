//! Clusters, and the topics that are read from them.

use crate::base::TopicPartition;
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::world::ClusterHandle;
use crate::kafka;
use crate::kafka::{Isolation, TopicsWanted};
use rhai::{Array, Dynamic};
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
        let partitions = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| TopicPartition::new(topic.name.clone(), partition.id))
        });
        // One without an answer is left out.
        let logs = call
            .wait(client.log_ends(partitions, Isolation::ReadCommitted))?
            .map_err(|error| self.failed("offsets", error))?;
        Ok(topics
            .into_iter()
            .map(|topic| Topic {
                records: topic
                    .partitions
                    .iter()
                    .map(|partition| {
                        let place = TopicPartition::new(topic.name.clone(), partition.id);
                        let ends = logs.get(&place).and_then(|ends| ends.as_ref().ok());
                        ends.map_or(0, |ends| ends.end - ends.start)
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
}
