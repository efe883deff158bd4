//! Reads source and archive and makes the plan of them. Changes nothing.

use super::cluster;
use super::ends::{self, Archived, End};
use super::groups;
use super::options::Options;
use super::plan::{
    Blocked, Parent, Plan, PlanAsked, PlanCluster, PlanGroups, PlanPartition, PlanTopic,
    RemovedTopic, TopicState,
};
use super::select::{self, Offer, Taken};
use crate::archive::{Archive, Behind, Snapshot, SnapshotTopic};
use crate::base::text::did_you_mean;
use crate::base::{PartitionId, TimestampMs, TopicId, TopicPartition, time};
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client, ConfigEntry, ErrorCode, Topic, TopicsWanted};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

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
    let unlisted = select::unlisted_names(&all, options, parent.as_ref());
    let unlisted: BTreeMap<String, ErrorCode> = client
        .topics(TopicsWanted::Named(&unlisted))
        .await?
        .into_iter()
        .map(|topic| (topic.name, topic.error))
        .collect();
    let offer = Offer {
        all: &all,
        unlisted: &unlisted,
        parent: parent.as_ref(),
    };
    let mut selected = select::select(&offer, options);
    blocked.append(&mut selected.blocked);
    let narrower = parent
        .as_ref()
        .and_then(|parent| select::narrower(&selected, &all, parent));
    let mut notes: Vec<String> = narrower.into_iter().collect();
    let mut survey = Survey {
        client,
        parent: parent.as_ref(),
        now: time::now(),
        incomplete: Vec::new(),
        notes: Vec::new(),
    };
    let topics = survey.topics(&selected.topics).await?;
    let mut asked = PlanAsked::of(&options.topics, options.include_internal);
    let names = selected.topics.iter().map(|taken| &taken.topic.name);
    let planned: BTreeSet<&String> = topics.iter().map(|topic| &topic.name).collect();
    let unread = names.filter(|name| !planned.contains(name));
    asked.unread = unread.cloned().collect();
    let removed = survey.removed(options, &all, &unlisted);
    let Survey {
        incomplete,
        notes: found,
        ..
    } = survey;
    notes.extend(found);
    let ids: BTreeMap<String, TopicId> = all
        .iter()
        .map(|topic| (topic.name.clone(), topic.id))
        .collect();
    let mut group_plan = PlanGroups::asked(&options.groups);
    let read = groups::read(client, &group_plan, &ids).await?;
    // Read again when the plan is carried out, and judged then.
    notes.extend(read.failures);
    notes.extend(read.notes);
    group_plan.groups = read.groups.groups.len() as u64;
    group_plan.offsets = read
        .groups
        .groups
        .iter()
        .map(|group| group.offsets.len() as u64)
        .sum();
    let group_names: Vec<&str> = read.listed.iter().map(String::as_str).collect();
    for pattern in options.groups.unmatched(&group_names) {
        blocked.push(Blocked {
            what: format!("no group of the cluster matches {pattern}"),
            hint: did_you_mean(pattern.text(), group_names.iter().copied())
                .map(|near| format!("did you mean {near}?")),
        });
    }
    let mut cluster_plan = PlanCluster {
        acls: options.acls,
        quotas: options.quotas,
        ..PlanCluster::default()
    };
    let read = cluster::read(client, &cluster_plan).await;
    if let Some(state) = &read.state {
        cluster_plan.acls_found = state.acls.as_ref().map(|acls| acls.len() as u64);
        cluster_plan.quotas_found = state.quotas.as_ref().map(|quotas| quotas.len() as u64);
    }
    notes.extend(read.notes);
    notes.extend(read.incomplete);
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
        asked,
        removed,
        groups: group_plan,
        cluster: cluster_plan,
        blocked,
        incomplete,
        notes,
    })
}

struct Survey<'a> {
    client: &'a Client,
    parent: Option<&'a Snapshot>,
    now: TimestampMs,
    incomplete: Vec<String>,
    notes: Vec<String>,
}

type Ends = BTreeMap<TopicPartition, Result<End, kafka::Error>>;

impl Survey<'_> {
    async fn topics(&mut self, taken: &[Taken<'_>]) -> Result<Vec<PlanTopic>> {
        let mut readable = Vec::with_capacity(taken.len());
        for taken in taken {
            let topic = taken.topic;
            match topic.error {
                ErrorCode::NONE => readable.push(taken),
                code => {
                    let error = kafka::Error::broker("Metadata", &topic.name, code, None);
                    self.incomplete
                        .push(format!("{} cannot be read: {error}", topic.name));
                }
            }
        }
        let names: Vec<String> = readable.iter().map(|t| t.topic.name.clone()).collect();
        let mut configs = self.client.topic_configs(&names).await?;
        let partitions: Vec<TopicPartition> = readable
            .iter()
            .flat_map(|taken| {
                let partitions = taken.topic.partitions.iter();
                partitions
                    .filter(|partition| taken.takes(partition.id))
                    .map(|at| TopicPartition::new(taken.topic.name.clone(), at.id))
            })
            .collect();
        let ends = ends::ends(self.client, &partitions).await?;
        let mut planned = Vec::with_capacity(readable.len());
        for taken in readable {
            let entries = configs.remove(&taken.topic.name);
            planned.push(self.topic(taken, entries, &ends));
        }
        self.name_divergences(&mut planned, &ends).await?;
        Ok(planned)
    }

    fn topic(
        &mut self,
        taken: &Taken<'_>,
        entries: Option<Result<Vec<ConfigEntry>, kafka::Error>>,
        ends: &Ends,
    ) -> PlanTopic {
        let topic = taken.topic;
        let archived = self.parent.and_then(|parent| {
            let mut known = parent.all_topics().iter().rev();
            // Also one that a run in between took for removed.
            known.find(|known| known.name == topic.name && known.id == topic.id && known.goes_on())
        });
        let configs = self.configs(topic, archived, entries);
        let mut rescanned = false;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions.iter().filter(|at| taken.takes(at.id)) {
            let planned = self.partition(topic, archived, &configs, partition.id, ends);
            rescanned |= planned.rescanned;
            partitions.push(planned);
        }
        let replicas = topic.partitions.first().map_or(1, |at| at.replicas.len());
        PlanTopic {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.internal,
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            partition_count: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            configs: configs.own,
            tombstones_live: configs.tombstones_live,
            behind: archived.map_or(Vec::new(), |archived| self.behind(archived, taken)),
            state: match archived {
                Some(_) if rescanned => TopicState::Rescanned,
                Some(_) => TopicState::Continued,
                None => self.new_or_recreated(topic),
            },
            partitions,
        }
    }

    fn partition(
        &self,
        topic: &Topic,
        archived: Option<&SnapshotTopic>,
        configs: &Configs,
        id: PartitionId,
        ends: &Ends,
    ) -> PlanPartition {
        let known = archived.and_then(|archived| Some((archived, archived.partition(id)?)));
        let caught_up = known.and_then(|(archived, _)| self.caught_up(archived, id));
        let in_time = |live: i64| {
            caught_up.is_some_and(|caught_up| self.now.0.saturating_sub(caught_up.0) <= live)
        };
        let rescanned = known.is_some() && !configs.tombstones_live.is_none_or(in_time);
        let before = known.map(|(_, partition)| partition).filter(|_| !rescanned);
        let at = TopicPartition::new(topic.name.clone(), id);
        let (end, problem) = match ends.get(&at) {
            Some(Ok(end)) => (*end, None),
            Some(Err(error)) => (nowhere(before), Some(error.to_string())),
            None => (nowhere(before), Some(format!("{at} has no leader now"))),
        };
        PlanPartition {
            partition: id,
            continued: before.is_some(),
            rescanned,
            caught_up,
            from: before.map_or(end.log_start, |before| before.to),
            log_start: end.log_start,
            to: end.last_stable,
            high_watermark: end.high_watermark,
            leader_epoch: before.map_or(-1, |before| before.last_leader_epoch),
            problem,
        }
    }

    /// The run before is not enough: it may have left the partition out, or failed on it. An archive from before it was
    /// noted tells at least whether that run saw the topic.
    fn caught_up(&self, archived: &SnapshotTopic, id: PartitionId) -> Option<TimestampMs> {
        archived.caught_up_at(id).or_else(|| {
            let parent = self.parent.filter(|parent| {
                let noted = archived.caught_up.is_some() || !archived.behind.is_empty();
                parent.number() == archived.seen && !noted
            })?;
            Some(parent.consistency_point())
        })
    }

    /// What of the topic is archived and not selected now.
    fn behind(&self, archived: &SnapshotTopic, taken: &Taken<'_>) -> Vec<Behind> {
        let mut by_time: BTreeMap<Option<TimestampMs>, Vec<PartitionId>> = BTreeMap::new();
        for partition in &archived.partitions {
            let id = partition.partition;
            if !taken.takes(id) {
                by_time
                    .entry(self.caught_up(archived, id))
                    .or_default()
                    .push(id);
            }
        }
        by_time
            .into_iter()
            .map(|(caught_up, partitions)| Behind {
                partitions: partitions.into_iter().collect(),
                caught_up,
            })
            .collect()
    }

    /// Of a topic that continues nothing.
    fn new_or_recreated(&self, topic: &Topic) -> TopicState {
        let older = self.parent.and_then(|parent| {
            parent
                .all_topics()
                .iter()
                .rfind(|older| older.name == topic.name)
        });
        match older {
            Some(older) => TopicState::Recreated { was: older.id },
            None => TopicState::New,
        }
    }

    /// The topic's overrides. Where the brokers do not tell them, those of the last run stand, and that is said.
    fn configs(
        &mut self,
        topic: &Topic,
        archived: Option<&SnapshotTopic>,
        entries: Option<Result<Vec<ConfigEntry>, kafka::Error>>,
    ) -> Configs {
        let entries = match entries {
            Some(Ok(entries)) => entries,
            failed => {
                let why = match failed {
                    Some(Err(error)) => error.to_string(),
                    _ => "the brokers say nothing about them".to_string(),
                };
                let kept = match archived {
                    Some(archived) => format!("those of generation {} stand", archived.seen),
                    None => "it is archived without them".to_string(),
                };
                self.incomplete.push(format!(
                    "the configs of {} could not be read, {kept}: {why}",
                    topic.name
                ));
                return Configs::of_overrides(
                    archived.map_or(BTreeMap::new(), |archived| archived.configs.clone()),
                );
            }
        };
        let mut own = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.is_override()) {
            match &entry.value {
                Some(value) => {
                    own.insert(entry.name.clone(), value.clone());
                }
                // Sensitive ones, and those that the broker's version does not know any more.
                None => self.notes.push(format!(
                    "{}: the brokers do not show the value of its config {}, which is not kept",
                    topic.name, entry.name
                )),
            }
        }
        let value = |name: &str| {
            let entry = entries.iter().find(|entry| entry.name == name)?;
            entry.value.as_deref()
        };
        Configs::of(own, value)
    }

    /// Archived topics that the selection would take and that no longer exist.
    fn removed(
        &mut self,
        options: &Options,
        all: &[Topic],
        unlisted: &BTreeMap<String, ErrorCode>,
    ) -> Vec<RemovedTopic> {
        let listed: BTreeSet<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
        let archived = self.parent.into_iter().flat_map(Snapshot::topics);
        let mut removed = Vec::new();
        for archived in archived {
            let name = &archived.name;
            if !options.topics.takes(name) || listed.contains(name.as_str()) {
                continue;
            }
            match unlisted.get(name).copied() {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => removed.push(RemovedTopic {
                    name: name.clone(),
                    id: archived.id,
                }),
                code => {
                    let why = code.map_or("the cluster does not list it".to_string(), |code| {
                        kafka::Error::broker("Metadata", name, code, None).to_string()
                    });
                    self.incomplete
                        .push(format!("{name} cannot be read any more: {why}"));
                }
            }
        }
        removed
    }

    async fn name_divergences(&self, planned: &mut [PlanTopic], ends: &Ends) -> Result<()> {
        let archived = archived_ends(planned);
        let diverged = ends::divergences(self.client, &archived, ends).await?;
        if diverged.is_empty() {
            return Ok(());
        }
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

/// A topic's own configs, and what the effective ones mean for reading it.
struct Configs {
    own: BTreeMap<String, String>,
    /// `delete.retention.ms` of a compacted topic.
    tombstones_live: Option<i64>,
}

impl Configs {
    fn of<'a>(own: BTreeMap<String, String>, value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let compacted = value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        let tombstones_live = compacted.then(|| {
            value("delete.retention.ms")
                .and_then(|text| text.parse().ok())
                .unwrap_or(TOMBSTONES_LIVE)
        });
        Self {
            tombstones_live,
            own,
        }
    }

    fn of_overrides(own: BTreeMap<String, String>) -> Self {
        let all = own.clone();
        Self::of(own, |name| all.get(name).map(String::as_str))
    }
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
    let now: BTreeMap<&str, &Topic> = now.iter().map(|t| (t.name.as_str(), t)).collect();
    for planned in &plan.topics {
        match now.get(planned.name.as_str()) {
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
