//! The target cluster as it is when a restore is planned: its topics, their logs and configs, and what its brokers take.

use super::plan::{Blocked, TargetState, WriteTopic};
use super::topic;
use crate::archive::SnapshotTopic;
use crate::base::text::counted;
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::engine::error::Result;
use crate::kafka::{Client, ConfigEntry, ErrorCode, Isolation, LogEnds, Topic, TopicsWanted};
use std::collections::BTreeMap;
use std::ops::Range;

/// Kafka's default for `socket.request.max.bytes`, where a broker does not tell its own.
const DEFAULT_REQUEST_BYTES: usize = 100 << 20;
/// What a request has besides one batch, amply.
const REQUEST_OVERHEAD: usize = 64 << 10;

/// What is at the target under the names that a restore would use.
pub struct Target {
    pub brokers: usize,
    pub topics: BTreeMap<String, Topic>,
    /// Log start and end of every existing target partition.
    logs: BTreeMap<TopicPartition, Range<i64>>,
    settings: BTreeMap<String, BTreeMap<String, ConfigEntry>>,
    pub default_retention_ms: Option<i64>,
    /// The smallest that the brokers tell.
    request_bytes: usize,
    /// A topic's `max.message.bytes` without an override of its own.
    pub default_message_bytes: Option<usize>,
}

impl Target {
    pub async fn read(client: &Client, names: &[String]) -> Result<Self> {
        let mut topics = BTreeMap::new();
        if !names.is_empty() {
            for topic in client.topics(TopicsWanted::Named(names)).await? {
                match topic.error {
                    ErrorCode::NONE => {
                        topics.insert(topic.name.clone(), topic);
                    }
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {}
                    // A name that no topic can have is found when creating it is validated.
                    ErrorCode::INVALID_TOPIC_EXCEPTION => {}
                    code => {
                        return Err(crate::kafka::Error::broker(
                            "Metadata", topic.name, code, None,
                        )
                        .into());
                    }
                }
            }
        }
        let partitions: Vec<TopicPartition> = topics
            .values()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| TopicPartition::new(topic.name.clone(), partition.id))
            })
            .collect();
        let existing: Vec<String> = topics.keys().cloned().collect();
        let mut settings = BTreeMap::new();
        if !existing.is_empty() {
            for (name, configs) in client.topic_configs(&existing).await? {
                let entries = configs?.into_iter();
                let entries = entries.map(|entry| (entry.name.clone(), entry)).collect();
                settings.insert(name, entries);
            }
        }
        let brokers = client.describe_cluster().await?.brokers;
        // Who may not see a broker's configs learns its limits from the first refusal.
        let own = match brokers.first() {
            Some(broker) => client.broker_configs(broker.id).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let number = |name: &str| {
            let entry = own.iter().find(|entry| entry.name == name)?;
            entry.value.as_deref()?.parse::<usize>().ok()
        };
        Ok(Self {
            brokers: brokers.len(),
            logs: log_ranges(client, &partitions).await?,
            settings,
            default_retention_ms: topic::default_retention_ms(client).await?,
            request_bytes: number("socket.request.max.bytes").unwrap_or(DEFAULT_REQUEST_BYTES),
            default_message_bytes: number("message.max.bytes"),
            topics,
        })
    }

    /// Where a partition ends now; 0 if it does not exist yet.
    pub fn end(&self, topic: &str, partition: PartitionId) -> Offset {
        self.logs
            .get(&TopicPartition::new(topic, partition))
            .map_or(Offset(0), |log| Offset(log.end))
    }

    /// Every config of an existing topic, inherited ones too.
    pub fn configs(&self, topic: &str) -> BTreeMap<String, ConfigEntry> {
        self.settings.get(topic).cloned().unwrap_or_default()
    }

    /// A batch that no request to this cluster can carry.
    pub fn too_large(&self, largest_batch: usize) -> Option<Blocked> {
        (largest_batch + REQUEST_OVERHEAD > self.request_bytes).then(|| Blocked {
            what: format!(
                "the target's brokers take requests up to {} bytes; the largest batch in the archive has {largest_batch}",
                self.request_bytes
            ),
            hint: Some(format!(
                "raise socket.request.max.bytes of the brokers to {}",
                largest_batch + largest_batch / 8 + REQUEST_OVERHEAD
            )),
        })
    }

    /// Fills in what an existing topic means for writing into it.
    pub fn describe(&self, existing: &Topic, source: &SnapshotTopic, write: &mut WriteTopic) {
        let records: i64 = existing
            .partitions
            .iter()
            .filter_map(|partition| {
                self.logs
                    .get(&TopicPartition::new(existing.name.clone(), partition.id))
            })
            .map(|log| log.end - log.start)
            .sum();
        let id = existing.id;
        write.target = match records {
            0 => TargetState::Empty { id },
            records => TargetState::HasRecords {
                id,
                records: records.unsigned_abs(),
            },
        };
        let have = i32::try_from(existing.partitions.len()).unwrap_or(i32::MAX);
        let differences = topic::differences(
            source,
            &self.configs(&existing.name),
            existing_factor(existing),
        );
        if !differences.is_empty() {
            write.notes.push(format!(
                "{} is used as it is; it differs from the source: {}",
                existing.name,
                differences.join(", ")
            ));
        }
        if have > source.partition_count && write.routing == super::Routing::Partition {
            write.notes.push(format!(
                "{} has {}, its source {}: producers there send a key to another partition than the one it is restored \
                 to; .repartition({have}) restores by key",
                existing.name,
                counted(have, "partition"),
                source.partition_count
            ));
        }
    }
}

fn existing_factor(topic: &Topic) -> i16 {
    let partitions = topic.partitions.iter();
    let factor = partitions.map(|partition| partition.replicas.len()).max();
    i16::try_from(factor.unwrap_or(0)).unwrap_or(i16::MAX)
}

/// Log start and end of each partition.
pub(crate) async fn log_ranges(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Range<i64>>> {
    let mut ranges = BTreeMap::new();
    let found = client.log_ends(partitions.iter().cloned(), Isolation::ReadUncommitted);
    for (partition, ends) in found.await? {
        let LogEnds { start, end } = ends?;
        ranges.insert(partition, start.0..end.0);
    }
    Ok(ranges)
}
