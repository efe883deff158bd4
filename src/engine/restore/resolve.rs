//! Reads the archive and the target and makes the plan.

use super::choose::{ChosenTarget, ChosenTopic, choose};
use super::headers::HeaderChanges;
use super::options::Options;
use super::plan::{Blocked, Plan, Predicted, TargetState, WritePartition, WriteTopic};
use super::predict::{self, Look, Sources};
use super::prepare;
use super::routing::Routing;
use super::scan;
use super::target::Target;
use super::topic;
use super::units::{self, Flow};
use crate::archive::{Snapshot, SnapshotTopic};
use crate::base::text::{counted, grouped};
use crate::base::{CancellationToken, Offset, PartitionId, TimestampMs, TopicPartition, buffers};
use crate::engine::error::{Error, Result};
use crate::kafka::Client;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use std::collections::BTreeMap;

/// Indexes that are read at the same time.
const INDEXES_AT_ONCE: usize = 16;
/// Flows that are gone through at the same time.
const FLOWS_AT_ONCE: usize = 4;
/// A repartition has a route from every source to every target.
const MOST_ROUTES: u64 = 250_000;

/// What a restore of `snapshot` into the target would do. Changes nothing; reads archived blocks only where a filter,
/// a bound or a key decides and the index does not tell, up to the scan budget.
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
        prepares: Vec::new(),
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
    let mut chosen = choose(snapshot, options)?;
    plan.blocked.append(&mut chosen.blocked);
    plan.notes.append(&mut chosen.notes);
    let names: Vec<String> = chosen.targets.iter().map(|to| to.name.clone()).collect();
    let target = Target::read(client, &names).await?;
    let mut topics = Vec::new();
    for chosen in &chosen.targets {
        topics.push(TargetTopic::draft(chosen, &target, snapshot, options).await?);
    }
    predict_all(
        &mut topics,
        &target,
        snapshot,
        options.scan_budget.0,
        cancel,
    )
    .await?;
    for topic in &mut topics {
        topic.settle(&target, &mut plan, now);
    }
    // In one request: a hundred topics must not take a hundred round trips.
    for (index, blocked) in topic::validate(client, &mut plan.creates).await? {
        let name = plan.creates[index].topic.clone();
        let write = topics
            .iter_mut()
            .flat_map(|topic| &mut topic.drafts)
            .map(|draft| &mut draft.write)
            .find(|write| write.topic == name);
        match write {
            Some(write) => write.blocked.push(blocked),
            None => plan.blocked.push(blocked),
        }
    }
    for prepare in &plan.prepares {
        if let Some(blocked) = prepare::validate(client, prepare).await? {
            plan.blocked.push(blocked);
        }
    }
    for create in &plan.creates {
        if let Some(topic) = topics.iter().find(|topic| topic.name == create.topic) {
            plan.finishes.push(topic::finish(
                create,
                topic.oldest(),
                topic.largest_partition(),
                target.default_retention_ms,
                now,
            ));
        }
    }
    let drafts = topics.into_iter().flat_map(|topic| topic.drafts);
    plan.writes = drafts.map(|draft| draft.write).collect();
    Ok(plan)
}

/// A target topic while it is planned.
struct TargetTopic<'a> {
    name: String,
    /// Partitions that it has, or will have.
    partitions: i32,
    drafts: Vec<Draft<'a>>,
}

/// One source topic's way into it.
struct Draft<'a> {
    source: &'a SnapshotTopic,
    write: WriteTopic,
    sources: Sources,
    flows: Vec<Flow>,
    look: Look,
    keyless: u64,
    /// Not every record could be looked at.
    unseen: bool,
}

impl<'a> TargetTopic<'a> {
    async fn draft(
        chosen: &ChosenTarget<'a>,
        target: &Target,
        snapshot: &Snapshot,
        options: &Options,
    ) -> Result<Self> {
        let existing = target.topics.get(&chosen.name);
        let mut needed = 0;
        let mut drafts = Vec::new();
        for source in &chosen.sources {
            let (draft, wants) = Draft::new(source, &chosen.name, snapshot, options).await?;
            needed = needed.max(wants);
            drafts.push(draft);
        }
        let have = existing.map(|topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        let partitions = have.unwrap_or(needed);
        let last = drafts.len().saturating_sub(1);
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.write.followed = index < last;
            if let Some(existing) = existing {
                target.describe(existing, draft.source, &mut draft.write);
            }
            if let Some(blocked) = unfit_count(&chosen.name, partitions, needed, draft, options) {
                draft.write.blocked.push(blocked);
            }
        }
        if last > 0 {
            let names: Vec<&str> = drafts
                .iter()
                .map(|draft| draft.source.name.as_str())
                .collect();
            drafts[0].write.notes.push(format!(
                "{} are written one behind the other into {}",
                names.join(", "),
                chosen.name
            ));
        }
        Ok(Self {
            name: chosen.name.clone(),
            partitions,
            drafts,
        })
    }

    /// What is decided once every record is counted: the topic to create, the settings to set aside.
    fn settle(&mut self, target: &Target, plan: &mut Plan, now: TimestampMs) {
        let largest = self.largest_batch();
        let existing = target.topics.get(&self.name);
        let Some(first) = self.drafts.first() else {
            return;
        };
        let limit = match existing {
            Some(existing) => {
                let configs = target.configs(&self.name);
                let facts = prepare::Facts {
                    largest_batch: largest,
                    oldest: self.oldest(),
                    newest: self.newest(),
                    largest_partition: self.largest_partition(),
                    default_retention_ms: target.default_retention_ms,
                    now,
                };
                let holds = match first.write.target {
                    TargetState::HasRecords { records, .. } => records,
                    _ => 0,
                };
                let prepared = prepare::prepare(&self.name, existing.id, holds, &configs, &facts);
                let limit = prepare::limit(&configs, prepared.as_ref())
                    .unwrap_or_else(|| topic::room_for(largest, &BTreeMap::new()));
                if let Some((prepare, finish)) = prepared {
                    plan.prepares.push(prepare);
                    plan.finishes.push(finish);
                }
                limit
            }
            None => {
                let mut create = topic::wanted(
                    first.source,
                    &self.name,
                    self.partitions,
                    target.brokers,
                    largest,
                );
                if let Some(bytes) = target.default_message_bytes
                    && !create.configs.contains_key("max.message.bytes")
                    && bytes < largest
                {
                    create.notes.push(format!(
                        "its largest batch has {} bytes; the target's default for max.message.bytes is {}, which holds \
                         again once everything is there: set it on the topic if its producers write as much",
                        grouped(largest as u64),
                        grouped(bytes as u64)
                    ));
                }
                let limit = topic::message_limit(&create, largest);
                plan.creates.push(create);
                limit
            }
        };
        let compacted = match existing {
            Some(_) => prepare::is_compacted(&target.configs(&self.name)),
            None => topic::is_compacted(&first.source.configs),
        };
        for draft in &mut self.drafts {
            draft.write.max_message_bytes = limit;
            draft.write.blocked.extend(target.too_large(largest));
            draft.say_keyless(compacted);
        }
    }

    fn largest_batch(&self) -> usize {
        self.drafts
            .iter()
            .map(Draft::largest_batch)
            .max()
            .unwrap_or(0)
    }

    fn oldest(&self) -> Option<TimestampMs> {
        self.drafts
            .iter()
            .filter_map(|draft| draft.write.oldest())
            .min()
    }

    fn newest(&self) -> Option<TimestampMs> {
        self.drafts
            .iter()
            .filter_map(|draft| draft.write.newest())
            .max()
    }

    /// Bytes that go into the largest target partition.
    fn largest_partition(&self) -> u64 {
        let mut bytes: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for route in self.drafts.iter().flat_map(|draft| &draft.write.partitions) {
            *bytes.entry(route.target).or_default() += route.kept_bytes;
        }
        bytes.into_values().max().unwrap_or(0)
    }
}

/// Why the target's partitions do not fit.
fn unfit_count(
    name: &str,
    have: i32,
    needed: i32,
    draft: &Draft<'_>,
    options: &Options,
) -> Option<Blocked> {
    if let Some(wanted) = options.repartition.filter(|wanted| *wanted != have) {
        return Some(Blocked {
            what: format!(
                "{name} has {}, and the records would be spread over {wanted}: its producers would send keys elsewhere",
                counted(have, "partition")
            ),
            hint: Some(format!(
                "say .repartition({have}), or restore under another name"
            )),
        });
    }
    if have < needed {
        return Some(Blocked {
            what: format!(
                "{name} has {}, its source {} needs {needed}",
                counted(have, "partition"),
                draft.source.name
            ),
            hint: Some(format!(
                "restore under another name with .remap(…), by key with .repartition({have}), or add partitions"
            )),
        });
    }
    let routes = draft.write.partitions.len() as u64;
    (routes > MOST_ROUTES).then(|| Blocked {
        what: format!(
            "{} into {wanted} partitions has {} ways, more than {}",
            draft.source.name,
            grouped(routes),
            grouped(MOST_ROUTES),
            wanted = have
        ),
        hint: Some("restore some partitions at a time with .partitions(…)".into()),
    })
}

impl<'a> Draft<'a> {
    /// The routes without numbers, and how many partitions the target must have.
    async fn new(
        chosen: &ChosenTopic<'a>,
        name: &str,
        snapshot: &Snapshot,
        options: &Options,
    ) -> Result<(Self, i32)> {
        let source = chosen.topic;
        let to = |partition: PartitionId| match &options.partition_remap {
            None => Ok(partition),
            Some(remap) => remap
                .target(&source.name, partition)
                .map_err(|error| Error::Remap {
                    topic: source.name.clone(),
                    source: error,
                }),
        };
        let routing = match options.repartition {
            Some(partitions) => Routing::Key { partitions },
            None => Routing::Partition,
        };
        let mut needed = options.repartition.unwrap_or(0);
        if routing == Routing::Partition {
            // Partitions that are not chosen count too: the topic must be able to take them one day.
            for partition in 0..source.partition_count.max(1) {
                needed = needed.max(to(PartitionId(partition))?.0.saturating_add(1));
            }
        }
        let mut routes = Vec::new();
        for partition in &chosen.partitions {
            let own = partition.archived.partition;
            let targets = match routing {
                Routing::Partition => vec![to(own)?],
                Routing::Key { partitions } => (0..partitions).map(PartitionId).collect(),
            };
            for target in targets {
                routes.push(WritePartition {
                    source: own,
                    target,
                    from: Offset(partition.cut.from),
                    to: Offset(partition.cut.to),
                    archived_from: partition.archived.from,
                    archived_to: partition.archived.to,
                    base: Offset(0),
                    records: Predicted::AtMost(0),
                    bytes: 0,
                    kept_bytes: 0,
                    dropped_by_filter: 0,
                    dropped_by_time: 0,
                    filter_failed: 0,
                    first_timestamp: None,
                    last_timestamp: None,
                    mapping_digest: None,
                    end: None,
                    mapping: None,
                });
            }
        }
        let mut sources = Sources::new();
        let mut waiting = chosen.partitions.iter();
        // One by one: ten thousand futures that have not begun would take more memory than what they find.
        let mut running = FuturesOrdered::new();
        loop {
            while running.len() < INDEXES_AT_ONCE
                && let Some(partition) = waiting.next()
            {
                running.push_back(async move {
                    let own = partition.archived.partition;
                    let at = TopicPartition::new(source.name.clone(), own);
                    Ok::<_, Error>((own, scan::wanted(snapshot, &at, &partition.cut).await?))
                });
            }
            match running.next().await {
                Some(found) => sources.extend([found?]),
                None => break,
            }
        }
        let filter = options.filter.as_ref();
        let write = WriteTopic {
            source_topic: source.name.clone(),
            source_topic_id: source.id,
            topic: name.to_string(),
            target: TargetState::Absent,
            followed: false,
            source_partitions: source.partition_count,
            left_out: source
                .partitions
                .iter()
                .map(|archived| archived.partition)
                .filter(|own| !sources.contains_key(own))
                .collect(),
            routing,
            headers: HeaderChanges::of(&options.headers, snapshot.source_cluster_id()),
            since: options.since,
            before: options.before,
            filter_fingerprint: filter.map(|filter| filter.fingerprint()),
            filter_on_error: filter.map_or_else(Default::default, |filter| filter.on_error()),
            remap_fingerprint: options.remap.as_ref().map(|remap| remap.fingerprint()),
            filter: options.filter.clone(),
            remap: options.remap.clone(),
            max_message_bytes: 0,
            blocked: Vec::new(),
            notes: chosen.notes.clone(),
            partitions: routes,
        };
        let draft = Self {
            source,
            flows: units::flows(routing, &write.partitions),
            write,
            sources,
            look: Look::default(),
            keyless: 0,
            unseen: false,
        };
        Ok((draft, needed))
    }

    fn largest_batch(&self) -> usize {
        let partitions = self.source.partitions.iter();
        let largest = partitions
            .map(|partition| partition.largest_batch as usize)
            .max();
        largest.unwrap_or(0) + self.write.headers.most_bytes()
    }

    /// Numbers from the index alone, for what planning may not read.
    fn at_most(&mut self, flow: usize) {
        self.unseen = true;
        let mut first_of: BTreeMap<PartitionId, bool> = BTreeMap::new();
        for at in &self.flows[flow].routes {
            let route = &mut self.write.partitions[*at];
            let Some(wanted) = self.sources.get(&route.source) else {
                continue;
            };
            let is_first = first_of.insert(route.source, true).is_none();
            route.records = Predicted::AtMost(wanted.records());
            let entries = || wanted.blocks.iter().map(|block| &block.entry);
            route.first_timestamp = entries().map(|entry| entry.min_timestamp).min();
            route.last_timestamp = entries().map(|entry| entry.max_timestamp).max();
            if is_first {
                route.bytes = wanted.bytes();
                route.kept_bytes = route.bytes;
                route.dropped_by_time = wanted.out_of_time;
            }
        }
    }

    /// By key there is a route to every target; those without records go, but for one of each source.
    fn drop_empty_routes(&mut self) {
        if self.write.routing == Routing::Partition {
            return;
        }
        let mut with_records: BTreeMap<PartitionId, bool> = BTreeMap::new();
        for route in &self.write.partitions {
            *with_records.entry(route.source).or_default() |= route.records.bound() > 0;
        }
        let mut kept: Option<PartitionId> = None;
        self.write.partitions.retain_mut(|route| {
            let some = with_records.get(&route.source) == Some(&true);
            let stays = match some {
                true => route.records.bound() > 0,
                false => kept != Some(route.source),
            };
            if stays {
                kept = Some(route.source);
            }
            stays
        });
    }

    /// A compacted topic's cleaner removes records without a key.
    fn say_keyless(&mut self, compacted: bool) {
        if !compacted || !self.look.keyless {
            return;
        }
        let topic = &self.write.topic;
        if self.keyless > 0 {
            self.write.blocked.push(Blocked {
                what: format!(
                    "{topic} is compacted, which removes records without a key; {} has {} of them",
                    self.source.name,
                    grouped(self.keyless)
                ),
                hint: Some(
                    "leave them out with .filter(|r| r.key != ()), or restore under another name"
                        .into(),
                ),
            });
        } else if self.unseen {
            self.write.notes.push(format!(
                "{topic} is compacted, which removes records without a key: whether there are any was not looked at"
            ));
        }
    }
}

/// Goes through everything that planning may read. Of several sources of one target the second begins where the first
/// one ends.
async fn predict_all(
    topics: &mut [TargetTopic<'_>],
    target: &Target,
    snapshot: &Snapshot,
    mut budget: u64,
    cancel: &CancellationToken,
) -> Result<()> {
    // From the first block on: see there.
    buffers::keep_all();
    let rounds = topics
        .iter()
        .map(|topic| topic.drafts.len())
        .max()
        .unwrap_or(0);
    for round in 0..rounds {
        let mut jobs = Vec::new();
        for (at, topic) in topics.iter_mut().enumerate() {
            if round >= topic.drafts.len() {
                continue;
            }
            let compacted = match target.topics.contains_key(&topic.name) {
                true => prepare::is_compacted(&target.configs(&topic.name)),
                false => topic::is_compacted(&topic.drafts[0].source.configs),
            };
            begin(topic, round, target);
            let draft = &mut topic.drafts[round];
            // A compacted source has no such records.
            draft.look.keyless = compacted && !topic::is_compacted(&draft.source.configs);
            for flow in 0..draft.flows.len() {
                let wants =
                    predict::to_open(&draft.write, &draft.flows[flow], &draft.sources, draft.look);
                if wants > budget {
                    draft.at_most(flow);
                } else {
                    budget -= wants;
                    jobs.push((at, flow));
                }
            }
        }
        let mut done = Vec::with_capacity(jobs.len());
        // In order, so that of several records on which a filter fails it is always the same that is named.
        let mut waiting = jobs.into_iter();
        let mut running = FuturesOrdered::new();
        loop {
            while running.len() < FLOWS_AT_ONCE
                && let Some((at, flow)) = waiting.next()
            {
                let draft = &topics[at].drafts[round];
                running.push_back(async move {
                    let (write, sources) = (&draft.write, &draft.sources);
                    let flow_of = &draft.flows[flow];
                    let predicted =
                        predict::predict(snapshot, write, flow_of, sources, draft.look, cancel);
                    Ok::<_, Error>((at, flow, predicted.await?))
                });
            }
            match running.next().await {
                Some(predicted) => done.push(predicted?),
                None => break,
            }
        }
        drop(running);
        for (at, flow, prediction) in done {
            let draft = &mut topics[at].drafts[round];
            draft.keyless += prediction.keyless;
            let flow = draft.flows[flow].clone();
            predict::fill(&mut draft.write, &flow, &draft.sources, prediction.finished);
        }
        for topic in topics.iter_mut() {
            if let Some(draft) = topic.drafts.get_mut(round) {
                draft.drop_empty_routes();
            }
        }
    }
    Ok(())
}

/// Where each route of a source begins to write: behind the target's log, and behind the sources before it.
fn begin(topic: &mut TargetTopic<'_>, round: usize, target: &Target) {
    let (before, own) = topic.drafts.split_at_mut(round);
    let Some(draft) = own.first_mut() else { return };
    let mut unknown = false;
    for route in &mut draft.write.partitions {
        route.base = target.end(&topic.name, route.target);
        for earlier in before.iter().map(|draft| &draft.write) {
            match earlier.planned_ends().get(&route.target) {
                None => {}
                Some(Some(end)) => route.base = *end,
                Some(None) => unknown = true,
            }
        }
    }
    if unknown {
        draft.write.blocked.push(Blocked {
            what: format!(
                "where {} begins in {} is known only after what is written before it",
                draft.source.name, topic.name
            ),
            hint: Some(
                "raise the restore's scan_budget, or restore the topics one after the other".into(),
            ),
        });
    }
}
