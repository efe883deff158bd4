//! Carries out a backup plan: groups, then ends, then data up to them, then the generation that makes it count.
//!
//! The order is what makes a generation consistent: a committed offset that was read first never lies beyond ends that
//! were read after it (unless a transaction is open, and then that is said).

use super::cluster;
use super::copy::Copied;
use super::ends::{self, End};
use super::fetch::{self, Fetched, Limits};
use super::freshness::Freshness;
use super::groups::{self, GroupsRead};
use super::identity::{Identity, newcomers};
use super::open_transactions::name_open_transactions;
use super::options::Run;
use super::plan::{Plan, PlanPartition, PlanTopic};
use super::report::{BackedUp, Failure, Report};
use super::survey;
use super::track::Track;
use crate::archive::{
    Archive, Gap, GapKind, NewGeneration, PartitionEntry, RunOptions, RunWriter, Snapshot, Stream,
    TopicEntry,
};
use crate::base::text::{counted, first_few};
use crate::base::{Offset, ProgressHandle, TopicId, TopicPartition, time};
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client, TopicsWanted};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long the cluster may take to answer questions whose answers a backup can do without.
pub(super) const LOOKING_AGAIN: Duration = Duration::from_secs(10);

/// Takes the backup. What could not be read to its end is named in the report, and the generation says that it is
/// partial; an error means that nothing was committed.
pub async fn apply(plan: &Plan, client: &Client, store: &Store, run: &Run) -> Result<Report> {
    let started = time::now();
    if let Some(blocked) = plan.blocked.first() {
        return Err(Error::Drift(blocked.what.clone()));
    }
    survey::check(plan, client, store).await?;
    let archive = Archive::create_or_open(store.clone(), client.cluster_id()).await?;
    let options = RunOptions {
        compression: plan.block,
    };
    let writer = Arc::new(archive.begin_run(&run.name, options).await?);
    let parent = plan.parent.map(|parent| (parent.number, parent.digest));
    if writer.base().map(|base| (base.number(), base.digest())) != parent {
        return Err(Error::Drift(
            "another run added a generation to the archive meanwhile".to_string(),
        ));
    }

    let beginning = async {
        run.progress.doing("reading committed offsets");
        // Of every topic: a group's offset on one that this run leaves out must not pass for one on an older
        // incarnation.
        let listed = client.topics(TopicsWanted::All).await?;
        let newcomers = newcomers(plan, &listed)?;
        let ids: BTreeMap<String, TopicId> = listed
            .into_iter()
            .map(|topic| (topic.name, topic.id))
            .collect();
        let groups = groups::read(client, &plan.groups, &ids).await?;
        let cluster = cluster::read(client, &plan.cluster).await;
        run.progress.doing("reading the ends of partitions");
        let consistency_point = time::now();
        let beginning = Beginning::look(plan, client).await?;
        Ok::<_, Error>((groups, cluster, consistency_point, beginning, newcomers))
    };
    let (groups, cluster, consistency_point, beginning, newcomers) = tokio::select! {
        begun = beginning => begun?,
        // Nothing was read of any partition: there is nothing to keep.
        () = run.cancel.cancelled() => return Err(Error::Cancelled),
    };

    run.progress.doing("reading records");
    beginning.announce(&run.progress);
    let Beginning {
        tracks,
        mut failures,
        ends,
    } = beginning;
    let fetched = fetch::fetch_all(
        client,
        writer.clone(),
        tracks,
        Limits {
            stall: plan.stall,
            rate: plan.rate,
        },
        run.progress.clone(),
        &run.cancel,
    )
    .await?;

    run.progress.doing("committing the generation");
    let cancelled = fetched.cancelled;
    let identity = Identity::look_again(plan, client).await;
    let mut damaged = Vec::new();
    let mut done = Books {
        plan,
        ends: &ends,
        identity,
        entries: BTreeMap::new(),
    }
    .settle(fetched, &mut failures, &mut damaged);
    leave_out_unfit(plan, &writer, &mut done, &mut failures);
    if !cancelled && nothing_kept(plan, &done, &failures) {
        let failed = failures.iter();
        return Err(Error::NothingRead {
            why: failed.map(|failure| failure.why.clone()).collect(),
        });
    }
    let open = name_open_transactions(client, &done, &groups.groups).await;
    let mut incomplete = incomplete(cancelled, plan, &done, &failures, &groups);
    let partial = cancelled
        || !failures.is_empty()
        || !groups.failures.is_empty()
        || !plan.incomplete.is_empty()
        || !newcomers.is_empty();
    incomplete.extend(first_few(newcomers, NAMED, "topic"));
    incomplete.extend(open.committed_beyond);
    incomplete.extend(cluster.incomplete);
    let mut freshness = Freshness::of(plan, &done, &ends, consistency_point);
    incomplete.append(&mut freshness.missed);
    let topics = entries(plan, &mut done, &freshness, writer.base());
    let mut notes = changed_topics(plan);
    notes.extend(groups.notes);
    notes.extend(cluster.notes);
    notes.extend(open.harmless);
    let new = NewGeneration {
        started,
        consistency_point,
        partial,
        topics: topics.clone(),
        groups: Some(groups.groups.clone()),
        cluster: cluster.state,
    };
    let committed = commit(writer, new).await?;
    Ok(report(
        Facts {
            archive: &archive,
            committed,
            consistency_point,
            cancelled,
            partial,
            groups: groups.groups.groups.len() as u64,
            failures,
            incomplete,
            damaged,
            notes,
        },
        &topics,
    ))
}

async fn commit(writer: Arc<RunWriter>, new: NewGeneration) -> Result<crate::archive::Committed> {
    let writer = Arc::into_inner(writer).ok_or_else(|| {
        Error::Internal("a task still writes although all partitions are done".to_string())
    })?;
    Ok(writer.commit(new).await?)
}

/// What is to be read, decided once groups and ends are known.
struct Beginning {
    tracks: Vec<Track>,
    failures: Vec<Failure>,
    ends: BTreeMap<TopicPartition, End>,
}

impl Beginning {
    async fn look(plan: &Plan, client: &Client) -> Result<Self> {
        let partitions: Vec<TopicPartition> = plan
            .partitions()
            .map(|(topic, partition)| topic.at(partition))
            .collect();
        let mut found = ends::ends(client, &partitions).await?;
        let archived = survey::archived_ends(&plan.topics);
        let mut diverged = ends::divergences(client, &archived, &found).await?;
        let mut beginning = Self {
            tracks: Vec::new(),
            failures: Vec::new(),
            ends: BTreeMap::new(),
        };
        for (topic, partition) in plan.partitions() {
            let at = topic.at(partition);
            let end = match (diverged.remove(&at), found.remove(&at)) {
                (Some(error), _) => Err(error.to_string()),
                (None, Some(Ok(end))) => Ok(end),
                (None, Some(Err(error))) => Err(error.to_string()),
                (None, None) => Err(kafka::Error::NoLeader {
                    partition: at.clone(),
                }
                .to_string()),
            };
            match end {
                Ok(end) => beginning.add(topic, partition, at, end),
                Err(why) => beginning.failures.push(Failure {
                    partition: at,
                    at: None,
                    why,
                }),
            }
        }
        Ok(beginning)
    }

    fn add(&mut self, topic: &PlanTopic, partition: &PlanPartition, at: TopicPartition, end: End) {
        let from = begin(partition, &end);
        let stream = Stream {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: partition.partition,
        };
        // An archived end above the last stable offset would be a divergence, which was looked for.
        let mut track = Track::new(stream, from, end.last_stable.max(from));
        track.leader_epoch = partition.leader_epoch;
        if end.log_start > from {
            track.skip_to(end.log_start);
        }
        self.ends.insert(at, end);
        self.tracks.push(track);
    }

    /// Tells how much there is to read: at most so many records.
    fn announce(&self, progress: &ProgressHandle) {
        let mut all = 0;
        for track in &self.tracks {
            let offsets = u64::try_from(track.to - track.position).unwrap_or(0);
            progress.topic_total(&track.stream.topic, offsets, 0);
            all += offsets;
        }
        progress.total(all, 0);
    }
}

fn begin(partition: &PlanPartition, end: &End) -> Offset {
    match partition.continued {
        true => partition.from,
        false => end.log_start,
    }
}

/// One partition that does not follow from what is archived must not keep the others from being committed.
fn leave_out_unfit(
    plan: &Plan,
    writer: &RunWriter,
    done: &mut Entries,
    failures: &mut Vec<Failure>,
) {
    for (topic, partition) in plan.partitions() {
        let at = topic.at(partition);
        let objection = done
            .get(&at)
            .and_then(|entry| writer.objection(&topic.name, topic.id, entry));
        if let Some(why) = objection {
            done.remove(&at);
            failures.push(Failure {
                partition: at,
                at: None,
                why: format!("what was read of it does not follow what is archived: {why}"),
            });
        }
    }
}

/// Whether every partition failed before a single offset of it was taken.
fn nothing_kept(plan: &Plan, done: &Entries, failures: &[Failure]) -> bool {
    let failed: BTreeSet<&TopicPartition> = failures.iter().map(|one| &one.partition).collect();
    !failures.is_empty()
        && plan
            .partitions()
            .all(|(topic, partition)| failed.contains(&topic.at(partition)))
        && done.values().all(|entry| entry.to <= entry.from)
}

/// Turns what was copied into the generation's entries.
struct Books<'a> {
    plan: &'a Plan,
    ends: &'a BTreeMap<TopicPartition, End>,
    identity: Identity,
    entries: BTreeMap<TopicPartition, PartitionEntry>,
}

/// One entry per partition that was looked at.
pub(super) type Entries = BTreeMap<TopicPartition, PartitionEntry>;

impl Books<'_> {
    fn settle(
        mut self,
        fetched: Fetched,
        failures: &mut Vec<Failure>,
        damaged: &mut Vec<String>,
    ) -> Entries {
        let Fetched {
            tracks,
            copied,
            mut packed,
            cancelled,
        } = fetched;
        let rescanned: BTreeSet<TopicPartition> = self
            .plan
            .partitions()
            .filter(|(_, partition)| partition.rescanned)
            .map(|(topic, partition)| topic.at(partition))
            .collect();
        for (track, copied) in tracks.into_iter().zip(copied) {
            let (Some(copied), Some(end)) = (copied, self.ends.get(&track.at)) else {
                if let Some(error) = &track.failure {
                    failures.push(failure(&track, None, error.to_string()));
                }
                continue;
            };
            if let Some(why) = self.identity.objection(&track) {
                failures.push(failure(&track, None, why));
                continue;
            }
            let reached = copied.walk.position();
            for corrupt in &copied.corrupt {
                damaged.push(format!(
                    "{}: the batch at offset {} is broken at the source ({}): offsets {} to {} were kept out",
                    track.at, corrupt.base, corrupt.why, corrupt.from, corrupt.to
                ));
            }
            if let Some((offset, source)) = &copied.broken {
                let why = format!(
                    "the batch at offset {offset} is broken at the source and was not copied: {source}"
                );
                failures.push(failure(&track, Some(reached), why));
            } else if let Some(error) = &track.failure {
                failures.push(failure(&track, Some(reached), error.to_string()));
            } else if reached < track.to && !cancelled {
                let why = format!("it was read up to {reached} and not to {}", track.to);
                failures.push(failure(&track, Some(reached), why));
            }
            let replaces = rescanned.contains(&track.at);
            if replaces && reached < end.last_stable {
                // Half a rescan would take the place of more than it holds.
                if cancelled && track.failure.is_none() {
                    let why = "its rescan was not finished".to_string();
                    failures.push(failure(&track, None, why));
                }
                continue;
            }
            let key = (track.stream.topic.clone(), track.stream.partition);
            let packed = packed.remove(&key).unwrap_or_default();
            let entry = entry(&track, copied, packed, *end, replaces);
            self.entries.insert(track.at, entry);
        }
        self.entries
    }
}

fn failure(track: &Track, at: Option<Offset>, why: String) -> Failure {
    Failure {
        partition: track.at.clone(),
        at,
        why,
    }
}

fn entry(
    track: &Track,
    copied: Copied,
    packed: Vec<crate::archive::SegmentRef>,
    end: End,
    replaces: bool,
) -> PartitionEntry {
    let to = copied.walk.position();
    let mut gaps = copied.walk.gaps.into_list();
    if to >= end.last_stable && end.high_watermark > to {
        gaps.push(Gap::whole(to, end.high_watermark, GapKind::Pending));
    }
    let mut segments = copied.segments;
    segments.extend(packed);
    PartitionEntry {
        partition: track.stream.partition,
        log_start: end.log_start,
        from: track.from,
        to,
        high_watermark: end.high_watermark.max(to),
        last_leader_epoch: copied.leader_epoch.unwrap_or(-1),
        records: copied.records,
        replaces,
        segments,
        gaps,
        first_timestamp: None,
        last_timestamp: None,
    }
}

/// The generation's topics: every one that was seen, with the partitions of which there is news.
fn entries(
    plan: &Plan,
    done: &mut Entries,
    freshness: &Freshness,
    base: Option<&Snapshot>,
) -> Vec<TopicEntry> {
    let mut topics = Vec::with_capacity(plan.topics.len() + plan.removed.len());
    for topic in &plan.topics {
        let since = freshness.topics.get(&topic.name);
        let archived = base.and_then(|base| base.topic(&topic.name));
        let partitions = topic
            .partitions
            .iter()
            .filter_map(|planned| Some((planned, done.remove(&topic.at(planned))?)))
            .filter(|(planned, entry)| {
                let archived = archived.and_then(|topic| topic.partition(planned.partition));
                is_news(planned, entry, archived.map(|archived| archived.log_start))
            })
            .map(|(_, entry)| entry)
            .collect();
        topics.push(TopicEntry {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.internal,
            replication_factor: topic.replication_factor,
            partition_count: topic.partition_count,
            configs: topic.configs.clone(),
            caught_up: since.and_then(|since| since.caught_up),
            behind: since.map_or(Vec::new(), |since| since.behind.clone()),
            partitions,
            ..TopicEntry::default()
        });
    }
    for removed in &plan.removed {
        topics.push(TopicEntry {
            name: removed.name.clone(),
            id: removed.id,
            removed: true,
            ..TopicEntry::default()
        });
    }
    topics
}

/// Topics that are not what the last run left them as.
fn changed_topics(plan: &Plan) -> Vec<String> {
    let topics = plan.topics.iter().filter_map(PlanTopic::change);
    let removed = plan.removed.iter().map(|removed| {
        let name = &removed.name;
        format!("{name} is no longer at the source; what is archived stays")
    });
    topics.chain(removed).collect()
}

/// A quiet partition is listed once, when it is new, and then only when something about it has changed. Where its log
/// begins counts: a prune may drop what the source has dropped.
fn is_news(planned: &PlanPartition, entry: &PartitionEntry, log_start: Option<Offset>) -> bool {
    !planned.continued
        || entry.to > entry.from
        || !entry.gaps.is_empty()
        || log_start != Some(entry.log_start)
}

/// How many partitions or groups are named one by one; the report has all of them.
const NAMED: usize = 20;

/// Why the run must not end as success, in sentences.
fn incomplete(
    cancelled: bool,
    plan: &Plan,
    done: &Entries,
    failures: &[Failure],
    groups: &GroupsRead,
) -> Vec<String> {
    let mut sentences = Vec::new();
    if cancelled {
        sentences.push("cancelled: the generation holds what was complete".to_string());
    }
    let failed = failures
        .iter()
        .map(|failure| format!("{}: {}", failure.partition, failure.why))
        .collect();
    sentences.extend(first_few(failed, NAMED, "partition"));
    sentences.extend(plan.incomplete.iter().cloned());
    sentences.extend(first_few(groups.failures.clone(), NAMED, "group"));
    let mut lost = Vec::new();
    for (at, entry) in done {
        for gap in &entry.gaps {
            if gap.kind == GapKind::Retention {
                lost.push(format!(
                    "{at}: {} were deleted at the source before this run could read them (offsets {} to {})",
                    counted(i128::from(gap.offsets), "offset"),
                    gap.from,
                    gap.to
                ));
            }
        }
    }
    sentences.extend(first_few(lost, NAMED, "partition"));
    sentences
}

struct Facts<'a> {
    archive: &'a Archive,
    committed: crate::archive::Committed,
    consistency_point: crate::base::TimestampMs,
    cancelled: bool,
    partial: bool,
    groups: u64,
    failures: Vec<Failure>,
    incomplete: Vec<String>,
    damaged: Vec<String>,
    notes: Vec<String>,
}

fn report(facts: Facts<'_>, topics: &[TopicEntry]) -> Report {
    let partitions: Vec<BackedUp> = topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|entry| {
                let mut gaps: BTreeMap<String, u64> = BTreeMap::new();
                for gap in &entry.gaps {
                    *gaps.entry(gap.kind.name().to_string()).or_default() += gap.offsets;
                }
                BackedUp {
                    topic: topic.name.clone(),
                    partition: entry.partition,
                    from: entry.from,
                    to: entry.to,
                    high_watermark: entry.high_watermark,
                    records: entry.records,
                    bytes: entry.segments.iter().map(|segment| segment.raw_bytes).sum(),
                    gaps,
                }
            })
        })
        .collect();
    // Small partitions share objects.
    let objects: BTreeMap<&str, u64> = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|entry| &entry.segments)
        .map(|segment| (segment.path.as_str(), segment.size))
        .collect();
    Report {
        archive_url: facts.archive.url(),
        archive_id: facts.archive.archive_id(),
        generation: facts.committed.number,
        digest: facts.committed.digest,
        consistency_point: facts.consistency_point,
        partial: facts.partial,
        cancelled: facts.cancelled,
        topics: topics.iter().filter(|topic| !topic.removed).count() as u64,
        records: partitions.iter().map(|partition| partition.records).sum(),
        bytes: partitions.iter().map(|partition| partition.bytes).sum(),
        stored_bytes: objects.values().sum(),
        partitions,
        groups: facts.groups,
        failures: facts.failures,
        incomplete: facts.incomplete,
        damaged: facts.damaged,
        notes: facts.notes,
    }
}
