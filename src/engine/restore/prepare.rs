//! Setting aside what an existing topic's configs would do to records while they are written, and putting it back.
//!
//! A topic that the restore creates is made under harmless settings to begin with (`topic`). One that exists keeps its
//! configs unless they would bite: records that expire or are compacted away before they are verified, times that the
//! broker replaces or refuses, batches that it encodes anew or finds too large.

use super::plan::{Blocked, FinishTopic, PrepareTopic};
use super::topic::{NEVER, room_for, would_delete};
use crate::base::{TimestampMs, TopicId};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ConfigEntry};
use std::collections::BTreeMap;

/// What is known of the records that go in.
pub struct Facts {
    pub largest_batch: usize,
    pub oldest: Option<TimestampMs>,
    pub newest: Option<TimestampMs>,
    /// Bytes that go into the largest partition.
    pub largest_partition: u64,
    pub default_retention_ms: Option<i64>,
    pub now: TimestampMs,
}

type Configs = BTreeMap<String, ConfigEntry>;

fn value<'a>(configs: &'a Configs, name: &str) -> Option<&'a str> {
    configs.get(name)?.value.as_deref()
}

fn number(configs: &Configs, name: &str) -> Option<i64> {
    value(configs, name)?.parse().ok()
}

pub fn is_compacted(configs: &Configs) -> bool {
    value(configs, "cleanup.policy").is_some_and(|policy| policy.contains("compact"))
}

/// What to set while records are written, and how to put back what was; `None` if nothing bites. `holds`: records that
/// are in the topic already.
pub fn prepare(
    topic: &str,
    id: TopicId,
    holds: u64,
    configs: &Configs,
    facts: &Facts,
) -> Option<(PrepareTopic, FinishTopic)> {
    let effective: BTreeMap<String, String> = configs
        .iter()
        .filter_map(|(name, entry)| Some((name.clone(), entry.value.clone()?)))
        .collect();
    let would_delete = would_delete(
        &effective,
        facts.oldest,
        facts.largest_partition,
        facts.default_retention_ms,
        facts.now,
    );
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    let mut aside = |name: &str, value: String| {
        // A broker that does not know a config does not show it, and does not take it either.
        if effective.get(name).is_some_and(|now| *now != value) {
            set.insert(name.to_string(), value);
        }
    };
    let compacted = is_compacted(configs);
    if compacted {
        aside("cleanup.policy", "delete".into());
    }
    let bounded = number(configs, "retention.bytes").is_some_and(|bytes| bytes >= 0);
    // How much the topic holds already is not known, so that any bound by size may be reached.
    if compacted || would_delete.is_some() || bounded && holds > 0 {
        aside("retention.ms", "-1".into());
        aside("retention.bytes", "-1".into());
    }
    aside("compression.type", "producer".into());
    aside("message.timestamp.type", "CreateTime".into());
    let beyond = |name: &str, distance: Option<i64>| {
        let limit = number(configs, name);
        limit
            .zip(distance)
            .is_some_and(|(limit, distance)| distance > limit)
    };
    let age = facts
        .oldest
        .filter(|at| at.0 >= 0)
        .map(|at| facts.now.0 - at.0);
    let ahead = facts.newest.map(|at| at.0 - facts.now.0);
    // A restore takes its time: what is nearly too old would be too old at its end.
    let age = age.map(|age| age.saturating_add(HOUR_MS));
    if beyond("message.timestamp.before.max.ms", age) {
        aside("message.timestamp.before.max.ms", NEVER.into());
    }
    if beyond("message.timestamp.after.max.ms", ahead) {
        aside("message.timestamp.after.max.ms", NEVER.into());
    }
    if beyond("message.timestamp.difference.max.ms", age.max(ahead)) {
        aside("message.timestamp.difference.max.ms", NEVER.into());
    }
    if number(configs, "max.message.bytes").is_some_and(|limit| limit < facts.largest_batch as i64)
    {
        let room = room_for(facts.largest_batch, &BTreeMap::new());
        aside("max.message.bytes", room.to_string());
    }
    if set.is_empty() {
        return None;
    }
    let old: BTreeMap<String, Option<String>> = set
        .keys()
        .map(|name| {
            let entry = configs.get(name).filter(|entry| entry.is_override());
            (name.clone(), entry.and_then(|entry| entry.value.clone()))
        })
        .collect();
    let finish = FinishTopic {
        topic: topic.to_string(),
        id: Some(id),
        set: old
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect(),
        delete: old
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.clone())
            .collect(),
        would_delete,
    };
    let prepare = PrepareTopic {
        topic: topic.to_string(),
        id,
        now: set
            .keys()
            .filter_map(|name| Some((name.clone(), effective.get(name)?.clone())))
            .collect(),
        set,
        old,
        holds,
    };
    Some((prepare, finish))
}

const HOUR_MS: i64 = 3_600_000;

/// The largest batch that the topic takes while records are written.
pub fn limit(configs: &Configs, prepared: Option<&(PrepareTopic, FinishTopic)>) -> Option<usize> {
    let set = prepared.and_then(|(prepare, _)| prepare.set.get("max.message.bytes"));
    match set {
        Some(set) => set.parse().ok(),
        None => value(configs, "max.message.bytes")?.parse().ok(),
    }
}

/// Whether the target would take the change.
pub async fn validate(client: &Client, prepare: &PrepareTopic) -> Result<Option<Blocked>> {
    let refused = client
        .validate_topic_configs(&prepare.topic, &prepare.set, &[])
        .await;
    Ok(refused.err().map(|error| Blocked {
        what: format!(
            "what {} would do to the records cannot be set aside: {error}",
            prepare.topic
        ),
        hint: Some(format!(
            "allow ALTER_CONFIGS on it, set {} by hand, or restore under another name",
            prepare
                .set
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }))
}

/// The topic must be the planned one, under the configs that were found.
pub async fn check_prepare_topic(prepare: &PrepareTopic, client: &Client) -> Result<()> {
    same_topic(&prepare.topic, prepare.id, client).await?;
    let found = overrides(&prepare.topic, client).await?;
    for (name, planned) in &prepare.old {
        if found.get(name) != planned.as_ref() {
            let shown = |value: Option<&String>| {
                value.map_or_else(|| "the broker's default".to_string(), String::clone)
            };
            return Err(Error::Drift(format!(
                "{name} of {} is {} now, not {} as planned",
                prepare.topic,
                shown(found.get(name)),
                shown(planned.as_ref())
            )));
        }
    }
    Ok(())
}

/// Sets aside what would bite.
pub async fn prepare_topic(prepare: &PrepareTopic, client: &Client) -> Result<()> {
    client
        .alter_topic_configs(&prepare.topic, &prepare.set, &[])
        .await?;
    Ok(())
}

/// Whether the topic has the settings that the step would give it.
pub async fn is_prepared(prepare: &PrepareTopic, client: &Client) -> Result<bool> {
    let found = overrides(&prepare.topic, client).await?;
    Ok(prepare
        .set
        .iter()
        .all(|(name, value)| found.get(name) == Some(value)))
}

/// A topic of this name and id must be there.
pub async fn same_topic(topic: &str, id: TopicId, client: &Client) -> Result<()> {
    let wanted = [topic.to_string()];
    let found = client
        .topics(crate::kafka::TopicsWanted::Named(&wanted))
        .await?;
    let found = found
        .into_iter()
        .find(|found| found.error == crate::kafka::ErrorCode::NONE);
    match found {
        None => Err(Error::Drift(format!("topic {topic} is not there"))),
        Some(found) if !id.is_nil() && !found.id.is_nil() && found.id != id => {
            Err(Error::Drift(format!(
                "topic {topic} was deleted and created again: its id is {}, not {id}",
                found.id
            )))
        }
        Some(_) => Ok(()),
    }
}

async fn overrides(topic: &str, client: &Client) -> Result<BTreeMap<String, String>> {
    let mut configs = client.topic_configs(&[topic.to_string()]).await?;
    let entries = match configs.remove(topic) {
        Some(entries) => entries?,
        None => Vec::new(),
    };
    Ok(entries
        .into_iter()
        .filter(ConfigEntry::is_override)
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::ConfigSource;

    const NOW: TimestampMs = TimestampMs(1_795_255_200_000);
    const DAY_MS: i64 = 86_400_000;

    fn configs(own: &[(&str, &str)], inherited: &[(&str, &str)]) -> Configs {
        let defaults = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "-1"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", NEVER),
            ("message.timestamp.after.max.ms", "3600000"),
            ("max.message.bytes", "1048588"),
        ];
        let entry = |(name, value): &(&str, &str), source| {
            let entry = ConfigEntry {
                name: name.to_string(),
                value: Some(value.to_string()),
                source,
                is_default: false,
                read_only: false,
                sensitive: false,
            };
            (name.to_string(), entry)
        };
        let defaults = defaults
            .iter()
            .chain(inherited)
            .map(|pair| entry(pair, ConfigSource::DEFAULT_CONFIG));
        let own = own
            .iter()
            .map(|pair| entry(pair, ConfigSource::DYNAMIC_TOPIC_CONFIG));
        defaults.chain(own).collect()
    }

    fn facts() -> Facts {
        Facts {
            largest_batch: 10_000,
            oldest: Some(TimestampMs(NOW.0 - DAY_MS)),
            newest: Some(TimestampMs(NOW.0 - 1_000)),
            largest_partition: 5_000_000,
            default_retention_ms: Some(7 * DAY_MS),
            now: NOW,
        }
    }

    fn set(prepare: &PrepareTopic) -> Vec<(&str, &str)> {
        let set = prepare.set.iter();
        set.map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    #[test]
    fn a_topic_whose_settings_do_no_harm_is_left_alone() {
        assert!(prepare("orders", TopicId::nil(), 0, &configs(&[], &[]), &facts()).is_none());
    }

    #[test]
    fn what_would_bite_is_set_aside_and_put_back_as_it_was() {
        let own = [
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.ms", "3600000"),
            ("compression.type", "zstd"),
        ];
        let inherited = [("max.message.bytes", "5000")];
        let (prepare, finish) = prepare(
            "orders",
            TopicId::nil(),
            0,
            &configs(&own, &inherited),
            &facts(),
        )
        .unwrap();
        assert_eq!(
            set(&prepare),
            [
                ("compression.type", "producer"),
                ("max.message.bytes", "1048588"),
                ("message.timestamp.type", "CreateTime"),
                ("retention.ms", "-1"),
            ]
        );
        assert_eq!(finish.set.len(), 3);
        assert_eq!(finish.set["retention.ms"], "3600000");
        assert_eq!(finish.delete, ["max.message.bytes"]);
        let text = finish.would_delete.unwrap();
        assert!(text.contains("retention of 1 h"), "{text}");
    }

    #[test]
    fn a_compacted_topic_neither_compacts_nor_expires_while_it_is_written() {
        let own = [("cleanup.policy", "compact")];
        let (prepare, finish) =
            prepare("state", TopicId::nil(), 3, &configs(&own, &[]), &facts()).unwrap();
        assert_eq!(
            set(&prepare),
            [("cleanup.policy", "delete"), ("retention.ms", "-1")]
        );
        assert_eq!(finish.set["cleanup.policy"], "compact");
        assert_eq!(finish.delete, ["retention.ms"]);
        assert_eq!(finish.would_delete, None);
    }

    #[test]
    fn times_that_the_broker_would_refuse_are_let_in() {
        let own = [("message.timestamp.before.max.ms", "3600000")];
        let ahead = Facts {
            newest: Some(TimestampMs(NOW.0 + DAY_MS)),
            ..facts()
        };
        let (prepare, _) =
            prepare("orders", TopicId::nil(), 0, &configs(&own, &[]), &ahead).unwrap();
        assert_eq!(
            set(&prepare),
            [
                ("message.timestamp.after.max.ms", NEVER),
                ("message.timestamp.before.max.ms", NEVER),
            ]
        );
    }
}
