//! The steps of a restore: create topics, write each, verify all, put the real configs in force.

mod journal;
mod write;

use super::blocked::BlockedStep;
use super::prepare::PrepareStep;
use super::saved::{SavedCluster, SavedStore};
use super::{step_error, table, value};
use crate::base::text::counted;
use crate::base::{Digest, TopicId};
use crate::dsl::verbs::archives::SnapshotValue;
use crate::dsl::verbs::clusters::Cluster;
use crate::engine::restore::{self, CreateTopic, FinishTopic, FoundTopic, Plan, WriteTopic};
use crate::engine::verify;
use crate::run::{
    Blocked, Cell, Detail, ExitClass, Gate, Outcome, ROOM, Reconciled, SavedParts, Step,
    StepContext, StepError, StepKind, StepView,
};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use write::WriteStep;

/// A planned restore: what its steps share.
pub struct RestoreRun {
    pub plan: Plan,
    pub snapshot: SnapshotValue,
    pub cluster: Cluster,
}

/// What is kept of it; `P` is the plan, or a reference to it.
#[derive(Serialize, Deserialize)]
pub struct SavedRestore<P> {
    pub plan: P,
    /// By fingerprint.
    pub filters: BTreeMap<String, Value>,
    pub cluster: SavedCluster,
    pub store: SavedStore,
    pub generation_digest: Digest,
}

impl RestoreRun {
    pub(super) fn name(&self) -> &str {
        &self.cluster.0.name
    }

    /// One of its steps as it is kept; the plan is kept once for all of them.
    pub(super) fn saved(
        self: &Arc<Self>,
        step: &str,
        index: usize,
        parts: &mut SavedParts,
    ) -> Value {
        let place = parts.place(self, || {
            let filters: BTreeMap<String, Value> = self
                .plan
                .writes
                .iter()
                .filter_map(|write| write.filter.as_ref())
                .map(|filter| (filter.fingerprint(), filter.saved()))
                .collect();
            SavedRestore {
                plan: &self.plan,
                filters,
                cluster: SavedCluster::from(&self.cluster),
                store: SavedStore::from(&*self.snapshot.0.store),
                generation_digest: self.snapshot.0.digest(),
            }
        });
        json!({ "step": step, "part": place, "index": index })
    }

    /// What every step of it pins: the target by cluster id, the archive by id and generation hash.
    pub(super) fn identity(&self) -> Value {
        json!({
            "target": self.plan.target_cluster_id,
            "archive": self.plan.archive_id,
            "generation": self.plan.generation,
            "generation_digest": self.snapshot.0.digest(),
        })
    }
}

/// The steps, in the order of their effects.
pub fn restore(run: &Arc<RestoreRun>) -> Vec<Arc<dyn Step>> {
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    if !run.plan.blocked.is_empty() {
        steps.push(Arc::new(BlockedStep {
            target: format!("restore to {}", run.name()),
            blocks: run.plan.blocked.iter().map(blocked).collect(),
        }));
    }
    let made = |word: &str, count: usize| {
        let steps = (0..count).filter_map(|index| step(run, word, index));
        steps.collect::<Vec<_>>()
    };
    steps.extend(made("create", run.plan.creates.len()));
    steps.extend(made("prepare", run.plan.prepares.len()));
    steps.extend(made("write", run.plan.writes.len()));
    steps.extend(made("verify", usize::from(!run.plan.writes.is_empty())));
    // Last, so that neither retention nor compaction touches a record before it is verified.
    steps.extend(made("finish", run.plan.finishes.len()));
    steps
}

/// One step of a restore; `None` if its plan has no such.
pub fn step(run: &Arc<RestoreRun>, word: &str, index: usize) -> Option<Arc<dyn Step>> {
    let run = run.clone();
    Some(match word {
        "create" => Arc::new(CreateStep {
            create: run.plan.creates.get(index)?.clone(),
            run,
            index,
        }),
        "prepare" => Arc::new(PrepareStep {
            prepare: run.plan.prepares.get(index)?.clone(),
            run,
            index,
        }),
        "write" => Arc::new(WriteStep {
            write: run.plan.writes.get(index)?.clone(),
            run,
            index,
        }),
        "verify" => Arc::new(VerifyStep { run }),
        "finish" => Arc::new(FinishStep {
            finish: run.plan.finishes.get(index)?.clone(),
            run,
            index,
        }),
        _ => return None,
    })
}

fn blocked(blocked: &restore::Blocked) -> Blocked {
    Blocked {
        what: blocked.what.clone(),
        hint: blocked.hint.clone(),
    }
}

struct CreateStep {
    run: Arc<RestoreRun>,
    /// Its place among the plan's creates.
    index: usize,
    create: CreateTopic,
}

#[async_trait]
impl Step for CreateStep {
    fn kind(&self) -> StepKind {
        StepKind::Create
    }

    fn view(&self) -> StepView {
        let create = &self.create;
        let mut partitions = Cell::count(i64::from(create.partitions), "partition");
        partitions.after = format!(
            "{}, {}",
            partitions.after,
            counted(create.configs.len() as i64, "config")
        );
        let mut cells = vec![partitions];
        if create.source_topic != create.topic {
            cells.push(Cell::text(format!("from {}", create.source_topic)));
        }
        let mut view = StepView::of(format!("topic {}", create.topic), cells);
        for note in &create.notes {
            view = view.note(note);
        }
        let rows = create.configs.iter();
        view.detail(Detail {
            columns: vec!["config".into(), "value".into()],
            rows: rows
                .map(|(name, value)| vec![name.clone(), value.clone()])
                .collect(),
        })
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        self.run.saved("create", self.index, parts)
    }

    fn pinned(&self) -> Value {
        json!({ "restore": self.run.identity(), "create": value(&self.create) })
    }

    /// Each is about a topic of its own.
    fn room(&self) -> u32 {
        1
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        restore::check_create_topic(&self.create, &self.run.cluster.0.client)
            .await
            .map_err(step_error)
    }

    async fn reconcile(&self, _context: &StepContext) -> Result<Reconciled, StepError> {
        let found = restore::reconcile_create(&self.create, &self.run.cluster.0.client).await;
        Ok(match found.map_err(step_error)? {
            FoundTopic::Absent => Reconciled::NotDone,
            FoundTopic::AsPlanned(id) => Reconciled::Done(Box::new(self.outcome(id))),
            FoundTopic::Other(what) => Reconciled::Foreign(what),
        })
    }

    async fn apply(&self, _context: &StepContext) -> Result<Outcome, StepError> {
        let id = restore::create_topic(&self.create, &self.run.cluster.0.client)
            .await
            .map_err(step_error)?;
        Ok(self.outcome(id))
    }
}

impl CreateStep {
    fn outcome(&self, id: TopicId) -> Outcome {
        Outcome::of(json!({ "topic": self.create.topic, "id": id }))
    }
}

/// The id that a topic got from a step of this run.
fn created_id(context: &StepContext, topic: &str) -> Option<TopicId> {
    context
        .attempt
        .done_before()
        .filter(|outcome| outcome.get("topic").and_then(Value::as_str) == Some(topic))
        .find_map(|outcome| outcome.get("id")?.as_str()?.parse().ok())
}

/// What a check found to be otherwise than planned.
pub(super) fn other_than(checked: crate::engine::Result<()>) -> Result<Option<String>, StepError> {
    match checked {
        Ok(()) => Ok(None),
        Err(crate::engine::Error::Drift(what)) => Ok(Some(what)),
        Err(error) => Err(step_error(error)),
    }
}

struct VerifyStep {
    run: Arc<RestoreRun>,
}

#[async_trait]
impl Step for VerifyStep {
    fn kind(&self) -> StepKind {
        StepKind::Verify
    }

    fn view(&self) -> StepView {
        let writes = &self.run.plan.writes;
        let bytes: u64 = writes.iter().map(WriteTopic::kept_bytes).sum();
        StepView {
            // Reading is twice as fast as writing, with its copies on other brokers.
            takes_ms: write::time_for(bytes, 2 * write::USUAL_RATE),
            ..StepView::of(
                counted(writes.len() as i64, "topic"),
                vec![Cell::text("every record")],
            )
        }
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        self.run.saved("verify", 0, parts)
    }

    fn pinned(&self) -> Value {
        let writes = self.run.plan.writes.iter();
        let topics: Vec<&str> = writes.map(|write| write.topic.as_str()).collect();
        json!({ "restore": self.run.identity(), "verify": topics })
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn reconcile(&self, _context: &StepContext) -> Result<Reconciled, StepError> {
        Ok(Reconciled::NotDone)
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        // One count over all topics: what each reads back is a part of it.
        let writes = self.run.plan.writes.iter();
        let (records, bytes) = writes.fold((0, 0), |(records, bytes), write| {
            (records + write.records().bound(), bytes + write.bytes())
        });
        context.progress.total(records, bytes);
        let mut read_back = 0;
        let mut topics = Vec::new();
        let mut different = Vec::new();
        let (run, room) = (&self.run, &Semaphore::new(ROOM as usize));
        let mut reports = stream::iter(0..run.plan.writes.len())
            .map(|index| async move {
                let write = &run.plan.writes[index];
                // It is never closed, so that there is always room in the end.
                let _room = room.acquire_many(write::share(write.bytes())).await;
                let (snapshot, client) = (&run.snapshot.0.snapshot, &run.cluster.0.client);
                let (progress, cancel) = (&context.progress, &context.cancel);
                progress.doing(&format!("reading back {}", write.topic));
                let report = verify::verify_topic(write, snapshot, client, progress, cancel).await;
                (write, report)
            })
            .buffered(ROOM as usize);
        while let Some((write, report)) = reports.next().await {
            let report = report.map_err(step_error)?;
            read_back += report.records();
            for (partition, difference) in report.differences() {
                different.push((
                    format!("{}-{partition}", write.topic),
                    difference.to_string(),
                ));
            }
            let mut topic = json!({ "topic": report.topic });
            topic["partitions"] = table(
                &["partition", "expected", "read", "first", "end", "digest"],
                report.partitions.iter().map(|at| {
                    vec![
                        value(&at.partition),
                        value(&at.expected),
                        value(&at.read),
                        value(&at.first),
                        value(&at.end),
                        value(&at.digest),
                    ]
                }),
            );
            topics.push(topic);
        }
        if !different.is_empty() {
            let mut error = StepError::new(
                "E0501",
                format!(
                    "what was read back differs from the archive in {}",
                    counted(different.len() as i64, "partition")
                ),
            )
            .exit(ExitClass::Damaged);
            for (place, what) in different {
                error = error.fact(place, what);
            }
            return Err(error.now("look at the partition before any group moves to it"));
        }
        let mut came = json!({});
        came["topics"] = Value::Array(topics);
        Ok(Outcome::of(came)
            .total("records read back", read_back)
            .total("differ", 0))
    }
}

struct FinishStep {
    run: Arc<RestoreRun>,
    index: usize,
    finish: FinishTopic,
}

#[async_trait]
impl Step for FinishStep {
    fn kind(&self) -> StepKind {
        StepKind::Update
    }

    fn view(&self) -> StepView {
        let finish = &self.finish;
        let count = finish.set.len() + finish.delete.len();
        let mut view = StepView::of(
            format!("topic {}", finish.topic),
            vec![
                Cell::count(count as i64, "config")
                    .before("puts")
                    .after(if count == 1 {
                        "config in force"
                    } else {
                        "configs in force"
                    }),
            ],
        );
        if let Some(would_delete) = &finish.would_delete {
            view = view.note(would_delete);
        }
        let set = finish
            .set
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()]);
        let delete = finish
            .delete
            .iter()
            .map(|name| vec![name.clone(), "the broker's default".to_string()]);
        view.detail(Detail {
            columns: vec!["config".into(), "value".into()],
            rows: set.chain(delete).collect(),
        })
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        self.run.saved("finish", self.index, parts)
    }

    fn pinned(&self) -> Value {
        json!({
            "restore": self.run.identity(),
            "topic": self.finish.topic,
            "set": self.finish.set,
            "delete": self.finish.delete,
            "deletes_records": self.finish.would_delete.is_some(),
        })
    }

    fn gate(&self) -> Option<Gate> {
        let would_delete = self.finish.would_delete.as_ref()?;
        Some(Gate::new(would_delete.clone(), self.run.name()))
    }

    /// Each is about a topic of its own.
    fn room(&self) -> u32 {
        1
    }

    async fn check(&self, context: &StepContext) -> Result<(), StepError> {
        let created = created_id(context, &self.finish.topic);
        restore::check_finish_topic(&self.finish, created, &self.run.cluster.0.client)
            .await
            .map_err(step_error)
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let (finish, client) = (&self.finish, &self.run.cluster.0.client);
        let created = created_id(context, &finish.topic);
        if let Some(what) = other_than(restore::check_finish_topic(finish, created, client).await)?
        {
            return Ok(Reconciled::Foreign(what));
        }
        Ok(
            match restore::is_finished(finish, client)
                .await
                .map_err(step_error)?
            {
                true => Reconciled::Done(Box::new(self.outcome())),
                false => Reconciled::NotDone,
            },
        )
    }

    async fn apply(&self, _context: &StepContext) -> Result<Outcome, StepError> {
        restore::finish_topic(&self.finish, &self.run.cluster.0.client)
            .await
            .map_err(step_error)?;
        Ok(self.outcome())
    }
}

impl FinishStep {
    fn outcome(&self) -> Outcome {
        Outcome::of(json!({ "topic": self.finish.topic, "put_back": true }))
    }
}
