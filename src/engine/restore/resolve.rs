//! Reads the archive and the target and makes the plan.

use super::headers::HeaderChanges;
use super::options::Options;
use super::plan::{Blocked, Plan, Predicted, TargetState, WritePartition, WriteTopic};
use super::routing::Routing;
use super::scan::{self, Wanted};
use super::select::Cut;
use super::topic;
use crate::archive::{Snapshot, SnapshotTopic};
use crate::base::text::{counted, did_you_mean};
use crate::base::{CancellationToken, Offset, PartitionId, TimestampMs, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ErrorCode, Isolation, OffsetAt, Topic, TopicsWanted};
use std::collections::BTreeMap;
use std::ops::Range;

/// What a restore of `snapshot` into the target would do. Changes nothing; reads archived blocks only where a filter
/// or a bound may cut them and the index does not tell, up to the scan budget.
pub async fn plan(
    snapshot: &Snapshot,
    client: &Client,
    options: &Options,
    now: TimestampMs,
    cancel: &CancellationToken,
) -> Result<Plan> {
    let mut plan = Plan {
        source_cluster_id: snapshot.source_cluster_id().to_string(),
        target_cluster_id: client.cluster_id().to_string(),
        archive_id: snapshot.archive_id().to_string(),
        generation: snapshot.number(),
        rate: options.rate,
        creates: Vec::new(),
        writes: Vec::new(),
        finishes: Vec::new(),
        blocked: Vec::new(),
        notes: Vec::new(),
    };
    if snapshot.is_partial() {
        plan.notes.push(format!(
            "generation {} is partial: its run could not read every partition to its end",
            snapshot.number()
        ));
    }
    let selected = select(snapshot, options, &mut plan);
    let named = name_targets(&selected, options, &mut plan)?;
    let target = Target::read(client, &named).await?;
    let mut budget = options.scan_budget.0;
    for (source, name) in named {
        let existing = target.topics.get(&name);
        let mut write = WriteTopic {
            source_topic: source.name.clone(),
            source_topic_id: source.id,
            topic: name.clone(),
            target: TargetState::Absent,
            routing: Routing::Partition,
            headers: HeaderChanges::default(),
            partitions: Vec::new(),
            since: options.since,
            before: options.before,
            filter_fingerprint: options.filter.as_ref().map(|filter| filter.fingerprint()),
            filter_on_error: options
                .filter
                .as_ref()
                .map_or_else(Default::default, |filter| filter.on_error()),
            remap_fingerprint: options.remap.as_ref().map(|remap| remap.fingerprint()),
            filter: options.filter.clone(),
            remap: options.remap.clone(),
            max_message_bytes: 0,
            expires: None,
            blocked: Vec::new(),
            notes: Vec::new(),
        };
        if let Some(existing) = existing {
            target.describe(existing, source, &mut write);
        }
        for partition in &source.partitions {
            let at = TopicPartition::new(source.name.clone(), partition.partition);
            let base = target.base(&name, partition.partition);
            let cut = Cut {
                from: partition.from.0,
                to: partition.to.0,
                since: options.since.map(|at| at.0),
                before: options.before.map(|at| at.0),
            };
            let wanted = scan::wanted(snapshot, &at, &cut).await?;
            let mut route = of_index(partition.partition, &cut, &wanted, base);
            let to_open = scan::to_open(&wanted, &cut, write.filter.is_some());
            if to_open <= budget {
                budget -= to_open;
                predict(snapshot, &write, &mut route, &wanted, cancel).await?;
            }
            write.partitions.push(route);
        }
        let largest = source
            .partitions
            .iter()
            .map(|partition| partition.largest_batch as usize)
            .max()
            .unwrap_or(0);
        if existing.is_some() {
            let none = BTreeMap::new();
            write.expires = topic::would_delete(
                target.settings.get(&name).unwrap_or(&none),
                write.oldest(),
                write.largest(),
                target.default_retention_ms,
                now,
            );
        }
        if existing.is_none() {
            let mut create = topic::wanted(source, &name, target.brokers, largest);
            if let Some(blocked) = topic::validate(client, &mut create).await? {
                write.blocked.push(blocked);
            }
            write.max_message_bytes = create
                .restore_configs
                .get("max.message.bytes")
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| topic::room_for(largest, &BTreeMap::new()));
            plan.finishes.push(topic::finish(
                &create,
                write.oldest(),
                write.largest(),
                target.default_retention_ms,
                now,
            ));
            plan.creates.push(create);
        }
        plan.writes.push(write);
    }
    Ok(plan)
}

/// The archive's topics that the options take. An include that matches nothing blocks: a typo must not pass as an
/// empty restore.
fn select<'a>(
    snapshot: &'a Snapshot,
    options: &Options,
    plan: &mut Plan,
) -> Vec<&'a SnapshotTopic> {
    let names: Vec<&str> = snapshot.topics().map(|topic| topic.name.as_str()).collect();
    for pattern in options.topics.unmatched(&names) {
        let near = did_you_mean(pattern.text(), names.iter().copied());
        plan.blocked.push(Blocked {
            what: format!(
                "no topic {} in generation {} of the archive",
                pattern,
                snapshot.number()
            ),
            hint: Some(match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it holds {}", listed(&names)),
            }),
        });
    }
    let named = |topic: &SnapshotTopic| {
        options.topics.include.iter().any(
            |pattern| matches!(pattern, crate::base::Pattern::Name(name) if *name == topic.name),
        )
    };
    let taken: Vec<&SnapshotTopic> = snapshot
        .topics()
        .filter(|topic| options.topics.takes(&topic.name))
        .filter(|topic| !topic.internal || named(topic))
        .collect();
    if taken.is_empty() && plan.blocked.is_empty() {
        plan.blocked.push(Blocked {
            what: format!(
                "generation {} of the archive holds no topic to restore",
                snapshot.number()
            ),
            hint: None,
        });
    }
    taken
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "no topics".to_string(),
        count if count <= SHOWN => names.join(", "),
        count => format!(
            "{}, … ({})",
            names[..SHOWN].join(", "),
            counted(count as i64, "topic")
        ),
    }
}

/// Each topic with its target's name; two onto one target are blocked.
fn name_targets<'a>(
    selected: &[&'a SnapshotTopic],
    options: &Options,
    plan: &mut Plan,
) -> Result<Vec<(&'a SnapshotTopic, String)>> {
    let mut named: Vec<(&SnapshotTopic, String)> = Vec::new();
    for source in selected {
        let name = match &options.remap {
            None => source.name.clone(),
            Some(remap) => remap.target(&source.name).map_err(|error| Error::Remap {
                topic: source.name.clone(),
                source: error,
            })?,
        };
        if let Some((other, _)) = named.iter().find(|(_, taken)| *taken == name) {
            plan.blocked.push(Blocked {
                what: format!(
                    "{} and {} would both be restored into {name}",
                    other.name, source.name
                ),
                hint: Some("give one of them another name with .remap(…)".into()),
            });
            continue;
        }
        named.push((source, name));
    }
    Ok(named)
}

/// What the index alone tells of a partition.
fn of_index(id: PartitionId, cut: &Cut, wanted: &Wanted, base: Offset) -> WritePartition {
    let archived: u64 = wanted.blocks.iter().map(|block| block.entry.records).sum();
    let bytes: u64 = wanted
        .blocks
        .iter()
        .map(|block| u64::from(block.entry.raw_len))
        .sum();
    WritePartition {
        source: id,
        target: id,
        from: Offset(cut.from),
        to: Offset(cut.to),
        base,
        records: Predicted::AtMost(archived),
        bytes,
        kept_bytes: bytes,
        dropped_by_filter: 0,
        dropped_by_time: wanted.out_of_time,
        filter_failed: 0,
        first_timestamp: wanted
            .blocks
            .iter()
            .map(|block| block.entry.min_timestamp)
            .min(),
        last_timestamp: wanted
            .blocks
            .iter()
            .map(|block| block.entry.max_timestamp)
            .max(),
        mapping_digest: None,
        end: None,
        mapping: None,
    }
}

/// Replaces what the index tells by what the records do.
async fn predict(
    snapshot: &Snapshot,
    topic: &WriteTopic,
    write: &mut WritePartition,
    wanted: &Wanted,
    cancel: &CancellationToken,
) -> Result<()> {
    let archived = write.records.bound();
    let finished = scan::predict(snapshot, topic, write, wanted, cancel).await?;
    let (Some(routed), Some(tally)) = (
        finished.routes.into_iter().next(),
        finished.sources.get(&write.source).copied(),
    ) else {
        return Err(Error::Internal("a flow of one route has none".into()));
    };
    write.records = Predicted::Exactly(tally.records);
    if archived > 0 {
        let kept = u128::from(write.bytes) * u128::from(tally.records) / u128::from(archived);
        write.kept_bytes = u64::try_from(kept).unwrap_or(write.bytes);
    }
    write.dropped_by_filter = tally.dropped_by_filter;
    write.filter_failed = tally.filter_failed;
    write.dropped_by_time = tally.dropped_by_time;
    write.first_timestamp = tally.first_timestamp.map(TimestampMs);
    write.last_timestamp = tally.last_timestamp.map(TimestampMs);
    write.set_mapping(routed.mapping);
    Ok(())
}

/// The target as it is now.
struct Target {
    brokers: usize,
    topics: BTreeMap<String, Topic>,
    /// Log start and end of every existing target partition.
    logs: BTreeMap<TopicPartition, Range<i64>>,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    default_retention_ms: Option<i64>,
}

impl Target {
    async fn read(client: &Client, named: &[(&SnapshotTopic, String)]) -> Result<Self> {
        let names: Vec<String> = named.iter().map(|(_, name)| name.clone()).collect();
        let mut topics = BTreeMap::new();
        if !names.is_empty() {
            for topic in client.topics(TopicsWanted::Named(&names)).await? {
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
                let values = configs?
                    .into_iter()
                    .filter_map(|entry| Some((entry.name, entry.value?)))
                    .collect();
                settings.insert(name, values);
            }
        }
        Ok(Self {
            brokers: client.describe_cluster().await?.brokers.len(),
            logs: log_ranges(client, &partitions).await?,
            settings,
            default_retention_ms: topic::default_retention_ms(client).await?,
            topics,
        })
    }

    fn base(&self, topic: &str, partition: PartitionId) -> Offset {
        self.logs
            .get(&TopicPartition::new(topic, partition))
            .map_or(Offset(0), |log| Offset(log.end))
    }

    /// Fills in what an existing topic means for writing into it.
    fn describe(&self, existing: &Topic, source: &SnapshotTopic, write: &mut WriteTopic) {
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
        let largest = source
            .partitions
            .iter()
            .map(|partition| partition.largest_batch as usize)
            .max()
            .unwrap_or(0);
        let none = BTreeMap::new();
        let settings = self.settings.get(&existing.name).unwrap_or(&none);
        let (blocked, notes) = topic::unfit(&existing.name, settings, largest);
        write.blocked.extend(blocked);
        write.notes.extend(notes);
        write.max_message_bytes = settings
            .get("max.message.bytes")
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| topic::room_for(largest, &none));
        let needed = source.partition_count;
        let have = existing.partitions.len() as i32;
        if have < needed {
            write.blocked.push(Blocked {
                what: format!(
                    "{} has {}, its source {} has {needed}",
                    existing.name,
                    counted(have, "partition"),
                    source.name
                ),
                hint: Some("restore under another name with .remap(…), or add partitions".into()),
            });
        }
    }
}

/// Log start and end of each partition.
pub(crate) async fn log_ranges(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Range<i64>>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ask = |at: OffsetAt| {
        partitions
            .iter()
            .map(|p| (p.clone(), at))
            .collect::<Vec<_>>()
    };
    let starts = client
        .list_offsets(&ask(OffsetAt::Earliest), Isolation::ReadUncommitted)
        .await?;
    let mut ends = client
        .list_offsets(&ask(OffsetAt::Latest), Isolation::ReadUncommitted)
        .await?;
    let mut ranges = BTreeMap::new();
    for (partition, start) in starts {
        let start = start?.offset.0;
        let end = match ends.remove(&partition) {
            Some(end) => end?.offset.0,
            None => {
                return Err(crate::kafka::Error::NoLeader { partition }.into());
            }
        };
        ranges.insert(partition, start..end);
    }
    Ok(ranges)
}
