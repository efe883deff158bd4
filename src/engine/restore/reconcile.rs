//! After a crash: what is there of a topic that was being created, or of configs that were being put in force.

use super::apply::{current, wait_until_led};
use super::plan::{CreateTopic, FinishTopic};
use super::target::log_ranges;
use crate::base::text::{counted, grouped};
use crate::base::{TopicId, TopicPartition};
use crate::engine::error::Result;
use crate::kafka::{Client, ConfigEntry};
use std::collections::BTreeMap;

/// What stands where a topic was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundTopic {
    Absent,
    /// It is as it would have been created, and empty.
    AsPlanned(TopicId),
    /// It is another one: in what.
    Other(String),
}

/// Looks for the topic of an interrupted create.
pub async fn reconcile_create(create: &CreateTopic, client: &Client) -> Result<FoundTopic> {
    let name = &create.topic;
    let Some(topic) = current(client, name).await? else {
        return Ok(FoundTopic::Absent);
    };
    let count = topic.partitions.len();
    if count != create.partitions.unsigned_abs() as usize {
        return Ok(FoundTopic::Other(format!(
            "topic {name} has {}, the plan creates it with {}",
            counted(count as i64, "partition"),
            grouped(create.partitions)
        )));
    }
    let overrides = overrides(client, name).await?;
    let differs = |(config, value): &(&String, &String)| {
        overrides.get(*config).and_then(Option::as_ref) != Some(*value)
    };
    if let Some((config, value)) = create.restore_configs.iter().find(differs) {
        let found = overrides.get(config).cloned().flatten();
        return Ok(FoundTopic::Other(format!(
            "topic {name} has {config}={}, the plan creates it with {value}",
            found.unwrap_or_else(|| "the broker's default".into()),
        )));
    }
    wait_until_led(create, client).await?;
    let partitions: Vec<TopicPartition> = topic
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(name.clone(), partition.id))
        .collect();
    for (partition, log) in log_ranges(client, &partitions).await? {
        if log.end > 0 {
            return Ok(FoundTopic::Other(format!(
                "{partition} ends at {}: somebody wrote into it",
                grouped(log.end)
            )));
        }
    }
    Ok(FoundTopic::AsPlanned(topic.id))
}

/// Whether the topic's real configs are in force.
pub async fn is_finished(finish: &FinishTopic, client: &Client) -> Result<bool> {
    let overrides = overrides(client, &finish.topic).await?;
    let set = finish
        .set
        .iter()
        .all(|(config, value)| overrides.get(config).and_then(Option::as_ref) == Some(value));
    let deleted = finish
        .delete
        .iter()
        .all(|config| !overrides.contains_key(config));
    Ok(set && deleted)
}

async fn overrides(client: &Client, topic: &str) -> Result<BTreeMap<String, Option<String>>> {
    let mut configs = client.topic_configs(&[topic.to_string()]).await?;
    let entries = configs.remove(topic).transpose()?.unwrap_or_default();
    Ok(entries
        .into_iter()
        .filter(ConfigEntry::is_override)
        .map(|entry| (entry.name, entry.value))
        .collect())
}
