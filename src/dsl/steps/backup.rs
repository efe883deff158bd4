//! The step that adds a generation to an archive.

use super::saved::{SavedCluster, SavedStore};
use super::{step_error, value};
use crate::archive::Generation;
use crate::base::Digest;
use crate::base::PartitionSet;
use crate::base::size::format_bytes;
use crate::base::text::{counted, first_few, grouped};
use crate::base::time::format_duration_ms;
use crate::dsl::verbs::clusters::Cluster;
use crate::dsl::world::StoreHandle;
use crate::engine::backup::{self, FoundGeneration, Plan, PlanTopic, TopicState};
use crate::run::{
    Blocked, Cell, Detail, Outcome, Reconciled, SavedParts, Step, StepContext, StepError, StepKind,
    StepView,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As the journal has a backup's name in its archive.
const NAME_NOTED: &str = "archive_run";
/// How many partitions are named one by one under a step.
const NAMED: usize = 5;

/// A planned backup run.
pub struct BackupRun {
    pub plan: Plan,
    pub cluster: Cluster,
    pub store: Arc<StoreHandle>,
}

pub fn backup(run: &Arc<BackupRun>) -> Arc<dyn Step> {
    Arc::new(BackupStep { run: run.clone() })
}

struct BackupStep {
    run: Arc<BackupRun>,
}

#[async_trait]
impl Step for BackupStep {
    fn kind(&self) -> StepKind {
        StepKind::Backup
    }

    fn view(&self) -> StepView {
        let plan = &self.run.plan;
        let mut view = StepView::of(
            format!("{} to {}", self.run.cluster.0.name, self.run.store.url),
            vec![
                Cell::text(format!("generation {}", plan.generation)),
                Cell::count(plan.topics.len() as i64, "topic"),
                Cell::number(grouped(i128::from(plan.records_bound())))
                    .before("about")
                    .after("records"),
                Cell::count(i128::from(plan.groups.groups), "group"),
            ],
        );
        for line in self.asked() {
            view = view.note(line);
        }
        for note in self.notes() {
            view = view.note(note);
        }
        if let Some(line) = view.lines.first_mut() {
            line.blocked = plan.blocked.iter().map(|b| b.what.clone()).collect();
        }
        let rows = plan.partitions();
        view.detail(Detail {
            columns: ["topic", "partition", "from", "to", "state"]
                .map(str::to_string)
                .to_vec(),
            rows: rows
                .map(|(topic, partition)| {
                    vec![
                        topic.name.clone(),
                        partition.partition.to_string(),
                        partition.from.to_string(),
                        partition.to.to_string(),
                        state(&topic.state).to_string(),
                    ]
                })
                .collect(),
        })
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        let place = parts.place(&self.run, || {
            json!({
                "plan": value(&self.run.plan),
                "cluster": value(&SavedCluster::from(&self.run.cluster)),
                "store": value(&SavedStore::from(&*self.run.store)),
            })
        });
        json!({ "step": "backup", "part": place })
    }

    fn pinned(&self) -> Value {
        let plan = &self.run.plan;
        let topics: Vec<Value> = plan
            .topics
            .iter()
            .map(|topic| {
                let from: Vec<Value> = topic
                    .partitions
                    .iter()
                    .map(|partition| json!([partition.partition, partition.from]))
                    .collect();
                json!({ "name": topic.name, "id": topic.id, "state": value(&topic.state), "from": from })
            })
            .collect();
        json!({
            "source": plan.source_cluster_id,
            "archive": plan.archive_id,
            // A new archive has no id yet: its place stands for it.
            "url": plan.archive_id.is_none().then_some(&plan.archive_url),
            "parent": plan.parent.map(|parent| parent.digest),
            "generation": plan.generation,
            "block": value(&plan.block),
            "rate": plan.rate,
            "cluster": { "acls": value(&plan.cluster.acls), "quotas": value(&plan.cluster.quotas) },
            "topics": topics,
            "removed": value(&plan.removed),
            "groups": { "include": plan.groups.include, "exclude": plan.groups.exclude },
        })
    }

    fn bounded(&self) -> Value {
        json!("every partition up to its planned end or beyond")
    }

    fn observed(&self) -> Value {
        let partitions = self.run.plan.partitions();
        json!(
            partitions
                .map(|(topic, partition)| json!([topic.name, partition.partition, partition.to]))
                .collect::<Vec<_>>()
        )
    }

    fn blocks(&self) -> Vec<Blocked> {
        let blocked = self.run.plan.blocked.iter();
        blocked
            .map(|blocked| Blocked {
                what: blocked.what.clone(),
                hint: blocked.hint.clone(),
            })
            .collect()
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        backup::check(
            &self.run.plan,
            &self.run.cluster.0.client,
            &self.run.store.store,
        )
        .await
        .map_err(step_error)
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let noted = &context.attempt.notes;
        let ours = |name: &str| noted.iter().any(|note| note[NAME_NOTED] == name);
        let plan = &self.run.plan;
        let found = backup::reconcile(plan, &self.run.store.store, ours)
            .await
            .map_err(step_error)?;
        Ok(match found {
            FoundGeneration::None => Reconciled::NotDone,
            FoundGeneration::Ours(generation, digest) => {
                Reconciled::Done(Box::new(committed(&generation, digest)))
            }
            FoundGeneration::Other(run) => Reconciled::Foreign(format!(
                "generation {} of {} was committed by run {run}",
                plan.generation, self.run.store.url
            )),
        })
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let name = new_name(&context.run)?;
        // Before anything is called so: by its name a resumed run knows what is its own.
        context.attempt.note(&json!({ NAME_NOTED: name }))?;
        let how = backup::Run {
            name,
            progress: context.progress.clone(),
            cancel: context.cancel.clone(),
        };
        let began = Instant::now();
        let report = backup::apply(
            &self.run.plan,
            &self.run.cluster.0.client,
            &self.run.store.store,
            &how,
        )
        .await
        .map_err(step_error)?;
        let mut outcome = Outcome::of(value(&report))
            .total("records archived", report.records)
            .line(format!(
                "generation {}   {} of {}, {}",
                report.generation,
                counted(i128::from(report.records), "record"),
                counted(i128::from(report.topics), "topic"),
                counted(i128::from(report.groups), "group"),
            ));
        outcome.lines.extend(
            volume(report.bytes, report.stored_bytes, began.elapsed())
                .into_iter()
                .chain(gaps(&report.gaps())),
        );
        // Open transactions that harm nobody yet: no reason for alarm, but no silence either.
        outcome.lines.extend(report.notes);
        outcome.incomplete = report.incomplete;
        outcome.damaged = report.damaged;
        Ok(outcome)
    }
}

/// What an attempt at a step calls itself in the archive, where every name is used once. Runs of several machines may have
/// the same id: two characters of it differ within a minute.
fn new_name(run: &str) -> Result<String, StepError> {
    let mut random = [0u8; 2];
    getrandom::fill(&mut random)
        .map_err(|error| StepError::caused_by(std::io::Error::other(error)))?;
    Ok(format!("{run}-{:04x}", u16::from_be_bytes(random)))
}

/// The outcome of a backup that was committed right before its process ended, as far as its generation tells it.
fn committed(generation: &Generation, digest: Digest) -> Outcome {
    let segments = generation
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|partition| &partition.segments);
    let records: u64 = segments.map(|segment| segment.records).sum();
    let mut outcome = Outcome::of(json!({
        "archive_id": generation.archive_id,
        "generation": generation.number,
        "digest": digest,
        "consistency_point": generation.consistency_point,
        "partial": generation.partial,
    }))
    .line(format!(
        "generation {} was committed before the run was interrupted",
        generation.number
    ));
    // A checkpoint lists what earlier generations hold as well.
    if !generation.checkpoint {
        outcome = outcome.total("records archived", records);
    }
    if generation.partial {
        outcome.incomplete.push(format!(
            "generation {} says that it is not all that was asked for",
            generation.number
        ));
    }
    outcome
}

/// `1.1 GiB of batches in 12 s, 94 MiB/s; 317 MiB stored`
fn volume(bytes: u64, stored_bytes: u64, elapsed: Duration) -> Option<String> {
    let rate = (bytes as f64 / elapsed.as_secs_f64()) as u64;
    (bytes > 0).then(|| {
        format!(
            "{} of batches in {}, {}/s; {} stored",
            format_bytes(bytes),
            format_duration_ms(elapsed.as_millis() as i64),
            format_bytes(rate),
            format_bytes(stored_bytes),
        )
    })
}

/// `1,204 offsets without a record: 1,200 compacted, 4 marker`
fn gaps(gaps: &BTreeMap<&str, u64>) -> Option<String> {
    let kinds: Vec<String> = gaps
        .iter()
        .map(|(kind, offsets)| format!("{} {kind}", grouped(*offsets)))
        .collect();
    let all: u64 = gaps.values().sum();
    (all > 0).then(|| {
        let all = counted(i128::from(all), "offset");
        format!("{all} without a record: {}", kinds.join(", "))
    })
}

impl BackupStep {
    /// What the plan's numbers do not tell: parts of topics, what is kept of the cluster, and how fast.
    fn asked(&self) -> Vec<String> {
        let plan = &self.run.plan;
        let mut lines = Vec::new();
        let parts = plan.topics.iter().filter(|topic| !topic.is_whole());
        let parts = parts.map(|topic| {
            let chosen = topic.partitions.iter().map(|at| at.partition);
            let chosen: PartitionSet = chosen.collect();
            format!(
                "{}: partitions {chosen} of {}",
                topic.name, topic.partition_count
            )
        });
        lines.extend(first_few(parts.collect(), NAMED, "topic"));
        let kept = [
            (plan.cluster.acls_found, "ACL"),
            (plan.cluster.quotas_found, "quota"),
        ];
        let kept: Vec<String> = kept
            .into_iter()
            .filter_map(|(found, noun)| Some(counted(found.filter(|n| *n > 0)?, noun)))
            .collect();
        if !kept.is_empty() {
            lines.push(kept.join(", "));
        }
        if let Some(rate) = plan.rate {
            lines.push(format!("at most {}/s", format_bytes(rate)));
        }
        lines
    }

    fn notes(&self) -> Vec<String> {
        let plan = &self.run.plan;
        let mut notes = Vec::new();
        notes.extend(plan.topics.iter().filter_map(PlanTopic::change));
        let (mut lost, mut pending, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (topic, partition) in plan.partitions() {
            let place = format!("{}-{}", topic.name, partition.partition);
            if let Some((from, to)) = partition.lost_to_retention() {
                lost.push(format!(
                    "{place}: {} removed by retention before this run ({from} to {to})",
                    counted(i128::from(to - from), "offset")
                ));
            }
            if let Some((from, to)) = partition.pending() {
                pending.push(format!(
                    "{place}: offsets {from} to {to} are in open transactions and not archived yet"
                ));
            }
            if let Some(problem) = &partition.problem {
                problems.push(format!("{place}: {problem}"));
            }
        }
        for sentences in [lost, pending, problems] {
            notes.extend(first_few(sentences, NAMED, "partition"));
        }
        for topic in &plan.removed {
            notes.push(format!(
                "{} is no longer at the source; what is archived stays",
                topic.name
            ));
        }
        notes.extend(plan.incomplete.iter().cloned());
        notes.extend(plan.notes.iter().cloned());
        notes
    }
}

fn state(state: &TopicState) -> &'static str {
    match state {
        TopicState::New => "new",
        TopicState::Continued => "continued",
        TopicState::Recreated { .. } => "created again",
        TopicState::Rescanned => "read again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_ends_with_how_much_how_fast_and_how_small() {
        let ten_seconds = Duration::from_secs(10);
        assert_eq!(
            volume(1 << 30, 317 << 20, ten_seconds).as_deref(),
            Some("1.0 GiB of batches in 10.0 s, 102 MiB/s; 317 MiB stored")
        );
        assert_eq!(volume(0, 0, ten_seconds), None);
    }

    #[test]
    fn offsets_without_a_record_are_counted_and_named_by_kind() {
        assert_eq!(
            gaps(&BTreeMap::from([("compacted", 1_200), ("marker", 4)])).as_deref(),
            Some("1,204 offsets without a record: 1,200 compacted, 4 marker")
        );
        assert_eq!(gaps(&BTreeMap::new()), None);
    }
}
