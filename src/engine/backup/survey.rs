//! Reads source and archive and makes the plan of them. Changes nothing.

use super::ends::{self, Archived, End};
use super::groups;
use super::options::Options;
use super::plan::{
    Blocked, Parent, Plan, PlanGroups, PlanPartition, PlanTopic, RemovedTopic, TopicState,
};
use crate::archive::{Archive, Snapshot, SnapshotTopic};
use crate::base::text::did_you_mean;
use crate::base::{TimestampMs, TopicId, TopicPartition, time};
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client, ConfigEntry, ErrorCode, Topic, TopicsWanted};
use crate::store::Store;
use std::collections::BTreeMap;

/// Kafka's default for `delete.retention.ms`: how long tombstones outlive a cleaning.
const TOMBSTONES_LIVE: i64 = 86_400_000;

/// Plans a backup of `client`'s cluster into the archive at `store`, which need not exist yet.
pub async fn plan(client: &Client, store: &Store, options: &Options) -> Result<Plan> {
    let archive = Archive::open_if_exists(store.clone()).await?;
    let parent = match &archive {
        Some(archive) => archive.tip().await?,
        None => None,
    };
    let mut blocked = Vec::new();
    if let Some(archive) = &archive
        && archive.source_cluster_id() != client.cluster_id()
    {
        return Err(crate::archive::Error::OtherCluster {
            url: archive.url(),
            archive: archive.source_cluster_id().to_string(),
            given: client.cluster_id().to_string(),
        }
        .into());
    }
    let all = client.topics(TopicsWanted::All).await?;
    let names: Vec<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
    for pattern in options.topics.unmatched(&names) {
        blocked.push(Blocked {
            what: format!("no topic of the cluster matches {pattern}"),
            hint: did_you_mean(pattern.text(), names.iter().copied())
                .map(|near| format!("did you mean {near}?")),
        });
    }
    let mut notes = Vec::new();
    let mut taken = Vec::new();
    for topic in &all {
        let wanted = options.topics.takes(&topic.name);
        if wanted && topic.internal && !options.include_internal {
            if !options.topics.include.is_empty() {
                notes.push(format!(
                    "{} is internal to the cluster and left out",
                    topic.name
                ));
            }
        } else if wanted {
            taken.push(topic);
        }
    }
    let topics = Survey {
        client,
        parent: parent.as_ref(),
        now: time::now(),
    }
    .topics(&taken)
    .await?;
    let removed = parent
        .iter()
        .flat_map(Snapshot::topics)
        .filter(|archived| {
            options.topics.takes(&archived.name) && !names.contains(&archived.name.as_str())
        })
        .map(|archived| RemovedTopic {
            name: archived.name.clone(),
            id: archived.id,
        })
        .collect();
    let ids: BTreeMap<String, TopicId> = all
        .iter()
        .map(|topic| (topic.name.clone(), topic.id))
        .collect();
    let mut group_plan = PlanGroups::asked(&options.groups);
    let read = groups::read(client, &group_plan, &ids).await?;
    notes.extend(read.failures);
    group_plan.groups = read.groups.groups.len() as u64;
    group_plan.offsets = read
        .groups
        .groups
        .iter()
        .map(|group| group.offsets.len() as u64)
        .sum();
    let group_names: Vec<&str> = read
        .groups
        .groups
        .iter()
        .map(|group| group.group.as_str())
        .collect();
    for pattern in options.groups.unmatched(&group_names) {
        blocked.push(Blocked {
            what: format!("no group of the cluster matches {pattern}"),
            hint: did_you_mean(pattern.text(), group_names.iter().copied())
                .map(|near| format!("did you mean {near}?")),
        });
    }
    Ok(Plan {
        source_cluster_id: client.cluster_id().to_string(),
        archive_url: store.url().to_string(),
        archive_id: archive.as_ref().map(Archive::archive_id),
        generation: parent.as_ref().map_or(1, |parent| parent.number() + 1),
        parent: parent.as_ref().map(|parent| Parent {
            number: parent.number(),
            digest: parent.digest(),
            consistency_point: parent.consistency_point(),
        }),
        block: options.block,
        rate: options.rate,
        stall: options.stall,
        topics,
        removed,
        groups: group_plan,
        blocked,
        notes,
    })
}

struct Survey<'a> {
    client: &'a Client,
    parent: Option<&'a Snapshot>,
    now: TimestampMs,
}

impl Survey<'_> {
    async fn topics(&self, taken: &[&Topic]) -> Result<Vec<PlanTopic>> {
        let names: Vec<String> = taken.iter().map(|topic| topic.name.clone()).collect();
        let mut configs = self.client.topic_configs(&names).await?;
        let partitions: Vec<TopicPartition> = taken
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| TopicPartition::new(topic.name.clone(), partition.id))
            })
            .collect();
        let ends = ends::ends(self.client, &partitions).await?;
        let mut planned = Vec::with_capacity(taken.len());
        for topic in taken {
            if topic.error != ErrorCode::NONE {
                return Err(
                    kafka::Error::broker("Metadata", &topic.name, topic.error, None).into(),
                );
            }
            let entries = configs
                .remove(&topic.name)
                .unwrap_or_else(|| Ok(Vec::new()))?;
            planned.push(self.topic(topic, &entries, &ends));
        }
        self.name_divergences(&mut planned, &ends).await?;
        Ok(planned)
    }

    fn topic(
        &self,
        topic: &Topic,
        entries: &[ConfigEntry],
        ends: &BTreeMap<TopicPartition, Result<End, kafka::Error>>,
    ) -> PlanTopic {
        let archived = self
            .parent
            .and_then(|parent| parent.topic(&topic.name))
            .filter(|archived| archived.id == topic.id);
        let tombstones_live = tombstones_live(entries);
        let caught_up = archived.and_then(|archived| self.caught_up(archived));
        let state = self.state(topic, archived.is_some(), tombstones_live, caught_up);
        let continued = archived.filter(|_| state == TopicState::Continued);
        let partitions = topic.partitions.iter().map(|partition| {
            let before = continued.and_then(|archived| archived.partition(partition.id));
            let at = TopicPartition::new(topic.name.clone(), partition.id);
            let end = ends.get(&at);
            let (end, problem) = match end {
                Some(Ok(end)) => (*end, None),
                Some(Err(error)) => (nowhere(before), Some(error.to_string())),
                None => (nowhere(before), Some(format!("{at} has no leader now"))),
            };
            PlanPartition {
                partition: partition.id,
                continued: before.is_some(),
                from: before.map_or(end.log_start, |before| before.to),
                log_start: end.log_start,
                to: end.last_stable,
                high_watermark: end.high_watermark,
                leader_epoch: before.map_or(-1, |before| before.last_leader_epoch),
                problem,
            }
        });
        let replicas = topic.partitions.first().map_or(1, |at| at.replicas.len());
        PlanTopic {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.internal,
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            partition_count: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            configs: entries
                .iter()
                .filter(|entry| entry.is_override())
                .filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)))
                .collect(),
            tombstones_live,
            caught_up,
            state,
            partitions: partitions.collect(),
        }
    }

    fn state(
        &self,
        topic: &Topic,
        archived: bool,
        tombstones_live: Option<i64>,
        caught_up: Option<TimestampMs>,
    ) -> TopicState {
        let Some(parent) = self.parent else {
            return TopicState::New;
        };
        if !archived {
            let older = parent
                .all_topics()
                .iter()
                .rfind(|older| older.name == topic.name && older.id != topic.id);
            return match older {
                Some(older) => TopicState::Recreated { was: older.id },
                None => TopicState::New,
            };
        }
        let in_time = |live: i64| {
            caught_up.is_some_and(|caught_up| self.now.0.saturating_sub(caught_up.0) <= live)
        };
        match tombstones_live.is_none_or(in_time) {
            true => TopicState::Continued,
            false => TopicState::Rescanned,
        }
    }

    /// The run before is not enough: it may have left the topic out, or failed on it. An archive from before it was
    /// noted tells at least whether that run saw the topic.
    fn caught_up(&self, archived: &SnapshotTopic) -> Option<TimestampMs> {
        archived.caught_up.or_else(|| {
            let parent = self
                .parent
                .filter(|parent| parent.number() == archived.seen)?;
            Some(parent.consistency_point())
        })
    }

    async fn name_divergences(
        &self,
        planned: &mut [PlanTopic],
        ends: &BTreeMap<TopicPartition, Result<End, kafka::Error>>,
    ) -> Result<()> {
        let archived = archived_ends(planned);
        let diverged = ends::divergences(self.client, &archived, ends).await?;
        for topic in planned {
            for partition in &mut topic.partitions {
                let at = TopicPartition::new(topic.name.clone(), partition.partition);
                if let Some(error) = diverged.get(&at) {
                    partition.problem = Some(error.to_string());
                }
            }
        }
        Ok(())
    }
}

/// `delete.retention.ms` of a compacted topic.
fn tombstones_live(entries: &[ConfigEntry]) -> Option<i64> {
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name)?;
        entry.value.clone()
    };
    let compacted = value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    compacted.then(|| {
        value("delete.retention.ms")
            .and_then(|text| text.parse().ok())
            .unwrap_or(TOMBSTONES_LIVE)
    })
}

/// The partitions that continue something archived.
pub(super) fn archived_ends(topics: &[PlanTopic]) -> Vec<Archived> {
    topics
        .iter()
        .flat_map(|topic| {
            let continued = topic.partitions.iter().filter(|at| at.continued);
            continued.map(|partition| Archived {
                partition: topic.at(partition),
                leader_epoch: partition.leader_epoch,
                archived_to: partition.from,
            })
        })
        .collect()
}

/// The bounds of a partition that nobody could be asked about: nothing is read of it.
fn nowhere(before: Option<&crate::archive::SnapshotPartition>) -> End {
    let at = before.map_or(crate::base::Offset(0), |before| before.to);
    End {
        log_start: at,
        last_stable: at,
        high_watermark: at,
    }
}

/// Whether source and archive are still what the plan was made of. Ends may have moved on, nothing else.
pub async fn check(plan: &Plan, client: &Client, store: &Store) -> Result<()> {
    let drift = |what: String| Err(Error::Drift(what));
    if client.cluster_id() != plan.source_cluster_id {
        return drift(format!(
            "the plan is for cluster {}, this is {}",
            plan.source_cluster_id,
            client.cluster_id()
        ));
    }
    let archive = Archive::open_if_exists(store.clone()).await?;
    let latest = match &archive {
        Some(archive) => archive.tip().await?,
        None => None,
    };
    let found = latest
        .as_ref()
        .map(|latest| (latest.number(), latest.digest()));
    if found != plan.parent.map(|parent| (parent.number, parent.digest)) {
        let name = |number: Option<u64>| {
            number.map_or("no generation".to_string(), |n| format!("generation {n}"))
        };
        return drift(format!(
            "the plan continues {}, but the archive now ends with {}",
            name(plan.parent.map(|parent| parent.number)),
            name(found.map(|(number, _)| number))
        ));
    }
    let names: Vec<String> = plan.topics.iter().map(|topic| topic.name.clone()).collect();
    let now = client.topics(TopicsWanted::Named(&names)).await?;
    for planned in &plan.topics {
        let found = now.iter().find(|topic| topic.name == planned.name);
        match found {
            Some(topic) if topic.error == ErrorCode::NONE && topic.id == planned.id => {}
            Some(topic) if topic.error == ErrorCode::NONE => {
                return drift(format!(
                    "topic {} was deleted and created again since the plan",
                    planned.name
                ));
            }
            _ => return drift(format!("topic {} no longer exists", planned.name)),
        }
    }
    Ok(())
}
