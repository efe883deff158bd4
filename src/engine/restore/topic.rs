//! A target topic's settings: while it is restored, and for good.

use super::plan::{Blocked, CreateTopic, FinishTopic};
use crate::archive::SnapshotTopic;
use crate::base::TimestampMs;
use crate::base::size::format_bytes;
use crate::base::time::{format_duration_ms, format_instant};
use crate::engine::error::Result;
use crate::kafka::{Client, ConfigEntry, ErrorCode, NewTopic, TopicsWanted};
use std::collections::BTreeMap;

/// Kafka's own default for `retention.ms`, seven days, where the target does not tell its own.
const DEFAULT_RETENTION_MS: i64 = 7 * 24 * 3_600_000;
/// The broker's default `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
pub const NEVER: &str = "9223372036854775807";

/// Configs that only make sense on the cluster they were set on.
const NEVER_COPIED: [&str; 2] = [
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];

/// The settings under which nothing expires, is compacted, recompressed or given another time.
fn restore_settings(max_message_bytes: usize) -> BTreeMap<String, String> {
    [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.before.max.ms", NEVER),
        ("message.timestamp.after.max.ms", NEVER),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value.to_string()))
    .chain([(
        "max.message.bytes".to_string(),
        max_message_bytes.to_string(),
    )])
    .collect()
}

/// Room for the largest archived batch: recompressed with another build of its codec it may grow a little.
pub fn room_for(largest_batch: usize, configs: &BTreeMap<String, String>) -> usize {
    let configured = configs
        .get("max.message.bytes")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    (largest_batch + largest_batch / 8 + 1024)
        .max(configured)
        .max(DEFAULT_MAX_MESSAGE_BYTES)
        .min(i32::MAX as usize)
}

/// The topic to create for `source`, before the target was asked about it.
pub fn wanted(
    source: &SnapshotTopic,
    name: &str,
    partitions: i32,
    brokers: usize,
    largest: usize,
) -> CreateTopic {
    let mut notes = Vec::new();
    let factor = usize::try_from(source.replication_factor)
        .unwrap_or(1)
        .max(1);
    let replication_factor = factor.min(brokers.max(1));
    if replication_factor < factor {
        notes.push(format!(
            "replication factor {replication_factor} instead of {factor}: the target has that many brokers"
        ));
    }
    let mut configs = source.configs.clone();
    for name in NEVER_COPIED {
        if configs.remove(name).is_some() {
            notes.push(format!("{name} is not copied"));
        }
    }
    if configs.remove("remote.storage.enable").is_some() {
        notes.push(
            "remote.storage.enable is not copied: set it by hand where tiered storage is set up"
                .into(),
        );
    }
    let in_sync = configs
        .get("min.insync.replicas")
        .and_then(|value| value.parse::<usize>().ok());
    if in_sync.is_some_and(|needed| needed > replication_factor) {
        configs.remove("min.insync.replicas");
        notes.push(format!(
            "min.insync.replicas={} is not copied: nothing could be written at replication factor {replication_factor}",
            in_sync.unwrap_or_default()
        ));
    }
    let mut restore_configs = configs.clone();
    restore_configs.extend(restore_settings(room_for(largest, &configs)));
    CreateTopic {
        source_topic: source.name.clone(),
        topic: name.to_string(),
        partitions: partitions.max(1),
        // At most the source's own, which is an i16.
        replication_factor: replication_factor as i16,
        configs,
        restore_configs,
        notes,
    }
}

/// Topics in one request ...
const VALIDATED_AT_ONCE: usize = 500;
/// ... and partitions: a controller writes at most ten thousand things for one, a topic and each partition being one.
pub(super) const PARTITIONS_AT_ONCE: i32 = 5000;

/// Asks the target to validate the topics, drops configs that it does not know, and says what else it refuses, by
/// place in `creates`.
pub async fn validate(
    client: &Client,
    creates: &mut [CreateTopic],
) -> Result<Vec<(usize, Blocked)>> {
    let mut blocked = Vec::new();
    let mut open: Vec<usize> = (0..creates.len()).collect();
    // One unknown config is named per answer and topic, so as many rounds as there are configs.
    while !open.is_empty() {
        let mut again = Vec::new();
        for part in parts(&open, creates) {
            let new: Vec<NewTopic> = part.iter().map(|at| creates[*at].new_topic()).collect();
            let answers = client.create_topics(&new, true).await?;
            for (at, (_, answer)) in part.iter().zip(answers) {
                let Err(error) = answer else { continue };
                match creates[*at].without_unknown(&error) {
                    true => again.push(*at),
                    false => blocked.push((
                        *at,
                        Blocked {
                            what: format!(
                                "the target refuses topic {}: {error}",
                                creates[*at].topic
                            ),
                            hint: None,
                        },
                    )),
                }
            }
        }
        open = again;
    }
    Ok(blocked)
}

/// What is validated together, by place in `creates`.
fn parts<'a>(open: &'a [usize], creates: &[CreateTopic]) -> Vec<&'a [usize]> {
    let mut parts = Vec::new();
    let (mut first, mut partitions) = (0, 0);
    for (place, at) in open.iter().enumerate() {
        let own = creates[*at].new_topic().partitions;
        if place > first
            && (partitions + own > PARTITIONS_AT_ONCE || place - first == VALIDATED_AT_ONCE)
        {
            parts.push(&open[first..place]);
            (first, partitions) = (place, 0);
        }
        partitions += own;
    }
    parts.extend((first < open.len()).then(|| &open[first..]));
    parts
}

/// Whether `text` holds `name` as a whole word of a config's letters.
fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-')
        .any(|word| word.trim_end_matches('.') == name)
}

impl CreateTopic {
    /// Drops the config that the target says it does not know; `false` if it says something else.
    fn without_unknown(&mut self, error: &crate::kafka::Error) -> bool {
        let text = error.to_string();
        if error.code() != Some(ErrorCode::INVALID_CONFIG) || !text.contains("nknown") {
            return false;
        }
        let mut names = self.restore_configs.keys();
        let Some(name) = names.find(|name| mentions(&text, name)).cloned() else {
            return false;
        };
        self.restore_configs.remove(&name);
        if self.configs.remove(&name).is_some() {
            self.notes
                .push(format!("{name} is not copied: the target does not know it"));
        }
        true
    }

    /// As it is created; partitions that no controller would take at once are added afterwards.
    pub fn new_topic(&self) -> NewTopic {
        NewTopic {
            name: self.topic.clone(),
            partitions: self.partitions.min(PARTITIONS_AT_ONCE),
            replication_factor: self.replication_factor,
            configs: self.restore_configs.clone(),
        }
    }
}

/// How to put the real configs in force.
pub fn finish(
    create: &CreateTopic,
    oldest: Option<TimestampMs>,
    largest: u64,
    default_retention_ms: Option<i64>,
    now: TimestampMs,
) -> FinishTopic {
    let mut set = BTreeMap::new();
    let mut delete = Vec::new();
    for (name, value) in &create.restore_configs {
        match create.configs.get(name) {
            Some(real) if real == value => {}
            Some(real) => {
                set.insert(name.clone(), real.clone());
            }
            None => delete.push(name.clone()),
        }
    }
    FinishTopic {
        topic: create.topic.clone(),
        id: None,
        set,
        delete,
        would_delete: would_delete(&create.configs, oldest, largest, default_retention_ms, now),
    }
}

/// What a topic's retention would remove of records this old, and of a partition with so many bytes.
pub fn would_delete(
    configs: &BTreeMap<String, String>,
    oldest: Option<TimestampMs>,
    largest: u64,
    default_retention_ms: Option<i64>,
    now: TimestampMs,
) -> Option<String> {
    let policy = configs
        .get("cleanup.policy")
        .map_or("delete", String::as_str);
    if !policy.contains("delete") {
        return None;
    }
    let by_time = by_time(configs, oldest, default_retention_ms, now);
    by_time.or_else(|| by_size(configs, largest))
}

fn by_time(
    configs: &BTreeMap<String, String>,
    oldest: Option<TimestampMs>,
    default_retention_ms: Option<i64>,
    now: TimestampMs,
) -> Option<String> {
    let retention: i64 = match configs.get("retention.ms") {
        Some(value) => value.parse().ok()?,
        None => default_retention_ms.unwrap_or(DEFAULT_RETENTION_MS),
    };
    let oldest = oldest?;
    if retention < 0 || oldest.0 < 0 || oldest.0 >= now.0 - retention {
        return None;
    }
    Some(format!(
        "its retention of {} then removes records older than {}; the oldest is from {}",
        format_duration_ms(retention),
        format_instant(TimestampMs(now.0 - retention)),
        format_instant(oldest)
    ))
}

/// An archive that was filled over a long time holds more of a partition than its source keeps.
fn by_size(configs: &BTreeMap<String, String>, largest: u64) -> Option<String> {
    let retention: u64 = configs.get("retention.bytes")?.parse().ok()?;
    (largest > retention).then(|| {
        format!(
            "its retention of {} per partition then removes the oldest records; the largest partition has {}",
            format_bytes(retention),
            format_bytes(largest)
        )
    })
}

/// The target's own default for `retention.ms`, read off any of its topics; `None` if it has none to ask.
pub async fn default_retention_ms(client: &Client) -> Result<Option<i64>> {
    let topics = client.topics(TopicsWanted::All).await?;
    let Some(topic) = topics.first() else {
        return Ok(None);
    };
    let mut configs = client
        .topic_configs(std::slice::from_ref(&topic.name))
        .await?;
    let Some(Ok(entries)) = configs.remove(&topic.name) else {
        return Ok(None);
    };
    Ok(entries
        .iter()
        .find(|entry| entry.name == "retention.ms" && !entry.is_override())
        .and_then(|entry| entry.value.as_deref()?.parse().ok()))
}

pub fn is_compacted(configs: &BTreeMap<String, String>) -> bool {
    let policy = configs.get("cleanup.policy");
    policy.is_some_and(|policy| policy.contains("compact"))
}

/// The largest batch that a created topic takes while it is written.
pub fn message_limit(create: &CreateTopic, largest: usize) -> usize {
    let own = create.restore_configs.get("max.message.bytes");
    own.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| room_for(largest, &BTreeMap::new()))
}

/// Where an existing topic's settings are not the source's own, in words.
pub fn differences(
    source: &SnapshotTopic,
    target: &BTreeMap<String, ConfigEntry>,
    replication_factor: i16,
) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut found = Vec::new();
    if replication_factor != source.replication_factor {
        found.push(format!(
            "replication factor {replication_factor} instead of {}",
            source.replication_factor
        ));
    }
    for (name, wanted) in &source.configs {
        if NEVER_COPIED.contains(&name.as_str()) {
            continue;
        }
        match target.get(name).and_then(|entry| entry.value.as_ref()) {
            Some(value) if value == wanted => {}
            Some(value) => found.push(format!("{name} {value} instead of {wanted}")),
            None => found.push(format!("no {name}, at the source {wanted}")),
        }
    }
    let own = target.values().filter(|entry| entry.is_override());
    for entry in own.filter(|entry| !source.configs.contains_key(&entry.name)) {
        let value = entry.value.as_deref().unwrap_or("(hidden)");
        found.push(format!("{} {value}, not set at the source", entry.name));
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

    fn create(configs: &[(&str, &str)]) -> CreateTopic {
        let configs: BTreeMap<String, String> = configs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let mut restore_configs = configs.clone();
        restore_configs.extend(restore_settings(2_000_000));
        CreateTopic {
            source_topic: "orders".into(),
            topic: "orders".into(),
            partitions: 3,
            replication_factor: 1,
            configs,
            restore_configs,
            notes: Vec::new(),
        }
    }

    #[test]
    fn finishing_sets_what_the_source_had_and_deletes_what_only_the_restore_needed() {
        let create = create(&[
            ("retention.ms", "3600000"),
            ("segment.ms", "60000"),
            ("cleanup.policy", "delete"),
        ]);
        let finish = finish(&create, None, 0, None, NOW);
        assert_eq!(
            finish.set,
            BTreeMap::from([("retention.ms".to_string(), "3600000".to_string())])
        );
        assert_eq!(
            finish.delete,
            [
                "compression.type",
                "max.message.bytes",
                "message.timestamp.after.max.ms",
                "message.timestamp.before.max.ms",
                "message.timestamp.type",
                "retention.bytes"
            ]
        );
    }

    #[test]
    fn old_records_under_a_short_retention_are_announced() {
        let month_old = Some(TimestampMs(NOW.0 - 30 * 86_400_000));
        let text = finish(&create(&[]), month_old, 0, None, NOW)
            .would_delete
            .unwrap();
        assert!(
            text.contains("7 d 0 h") && text.contains("2026-10-22"),
            "{text}"
        );
        assert_eq!(
            finish(&create(&[("retention.ms", "-1")]), month_old, 0, None, NOW).would_delete,
            None
        );
        assert_eq!(
            finish(
                &create(&[("cleanup.policy", "compact")]),
                month_old,
                0,
                None,
                NOW
            )
            .would_delete,
            None
        );
        assert_eq!(
            finish(&create(&[]), Some(NOW), 0, None, NOW).would_delete,
            None
        );
    }

    #[test]
    fn more_bytes_than_the_source_kept_are_announced() {
        let small = create(&[("retention.bytes", "1000000")]);
        let announced = |bytes| finish(&small, Some(NOW), bytes, None, NOW).would_delete;
        assert_eq!(announced(1_000_000), None);
        let text = announced(1_000_001).unwrap();
        assert!(text.contains("per partition"), "{text}");
        let unbounded = create(&[("retention.bytes", "-1")]);
        assert_eq!(
            finish(&unbounded, Some(NOW), u64::MAX, None, NOW).would_delete,
            None
        );
    }

    #[test]
    fn a_config_is_recognised_in_the_brokers_words_only_as_a_whole() {
        let text = "Unknown topic config name: local.retention.ms.";
        assert!(mentions(text, "local.retention.ms"));
        assert!(!mentions(text, "retention.ms"));
    }
}
