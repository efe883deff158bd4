//! The steps that prune an archive and bring back what is marked.

use super::saved::SavedStore;
use super::value;
use crate::archive::{
    self, Archive, DataGoing, Fate, FoundCommit, ObjectKind, PlannedPoint, Progressed, PrunePlan,
    Tip, UndeletePlan, Why,
};
use crate::base::TimestampMs;
use crate::base::size::format_bytes;
use crate::base::text::{counted, grouped};
use crate::base::time::{format_duration_ms, format_instant};
use crate::dsl::world::StoreHandle;
use crate::run::{
    Cell, Detail, Gate, Outcome, Reconciled, SavedParts, Step, StepContext, StepError, StepKind,
    StepView, ViewLine,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many kept recovery points are shown with their reasons; `--detail` shows all.
const KEPT_SHOWN: usize = 8;

/// A planned prune.
pub struct PruneRun {
    pub plan: PrunePlan,
    pub store: Arc<StoreHandle>,
}

/// A planned undelete.
pub struct UndeleteRun {
    pub plan: UndeletePlan,
    pub store: Arc<StoreHandle>,
}

pub fn prune(run: &Arc<PruneRun>) -> Arc<dyn Step> {
    Arc::new(PruneStep { run: run.clone() })
}

pub fn undelete(run: &Arc<UndeleteRun>) -> Arc<dyn Step> {
    Arc::new(UndeleteStep { run: run.clone() })
}

impl PruneRun {
    /// The numbers that stay.
    pub fn keeps(&self) -> Vec<u64> {
        let points = self.plan.points.iter();
        let kept = points.filter(|point| matches!(point.fate, Fate::Kept { .. }));
        kept.map(|point| point.number).collect()
    }

    fn deletes_now(&self) -> bool {
        !self.plan.objects.is_empty() || !self.plan.deletes().is_empty()
    }
}

struct PruneStep {
    run: Arc<PruneRun>,
}

struct UndeleteStep {
    run: Arc<UndeleteRun>,
}

#[async_trait]
impl Step for PruneStep {
    fn kind(&self) -> StepKind {
        match self.run.deletes_now() {
            true => StepKind::Delete,
            false => StepKind::Update,
        }
    }

    fn view(&self) -> StepView {
        let plan = &self.run.plan;
        let mut lines = Vec::new();
        self.show_deleted(&mut lines);
        self.show_marked(&mut lines);
        let (deletes, marks) = (plan.deletes().len(), plan.marks().len());
        if plan.is_empty() {
            lines.push(ViewLine::of(
                self.run.store.name.clone(),
                vec![Cell::text("nothing goes")],
            ));
        }
        let mut last = ViewLine::of(format!("keeps {}", numbers(&self.run.keeps())), Vec::new());
        last.notes = self.notes();
        last.detail = Some(self.every_point());
        lines.push(last);
        StepView {
            lines,
            no_change: plan.is_empty(),
            counts: Some(match (deletes, marks) {
                (0, 0) => counted(plan.objects.len() as i64, "object"),
                (0, marks) => format!("{} marked", counted(marks as i64, "generation")),
                (deletes, 0) => counted(deletes as i64, "generation"),
                (deletes, marks) => {
                    format!("{}, {marks} marked", counted(deletes as i64, "generation"))
                }
            }),
            ..StepView::default()
        }
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        let place = parts.place(&self.run, || {
            json!({
                "plan": value(&self.run.plan),
                "store": value(&SavedStore::from(&*self.run.store)),
            })
        });
        json!({ "step": "prune", "part": place })
    }

    fn pinned(&self) -> Value {
        let plan = &self.run.plan;
        let objects: Vec<&str> = plan.objects.iter().map(|o| o.path.as_str()).collect();
        let floors = plan.retention.as_ref().map(|retention| {
            let rounds = retention.rounds.iter();
            let marked: Vec<Value> = rounds
                .map(|round| json!([round.generations, value(&round.floors)]))
                .collect();
            json!({ "gone": value(&retention.floors), "marked": marked })
        });
        json!({
            "archive": plan.archive_id,
            "after": plan.tip.digest,
            "policy": value(&plan.policy),
            "marks": plan.marks(),
            "deletes": plan.deletes(),
            "floors": floors,
            "objects": objects,
        })
    }

    fn observed(&self) -> Value {
        let plan = &self.run.plan;
        json!({
            "points": value(&plan.points),
            "data": value(&plan.data),
            "objects": value(&plan.objects),
            "bytes": plan.bytes_now(),
            "bytes_later": plan.bytes_later,
            "left": { "young": value(&plan.young), "foreign": plan.foreign },
        })
    }

    fn gate(&self) -> Option<Gate> {
        let plan = &self.run.plan;
        let reason = match self.run.deletes_now() {
            true => format!(
                "deletes {} for good",
                counted(plan.objects.len() as i64, "object")
            ),
            false => format!("marks {}", counted(plan.marks().len() as i64, "generation")),
        };
        Some(Gate::new(reason, word(&self.run.store)))
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        let archive = open(&self.run.store).await?;
        self.run.plan.check(&archive).await.map_err(step_error)
    }

    async fn old_values(&self, _context: &StepContext) -> Result<Value, StepError> {
        // What is deleted cannot be put back; which objects it was is worth knowing.
        Ok(json!({ "objects": value(&self.run.plan.objects) }))
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let archive = open(&self.run.store).await?;
        Ok(match self.found(&archive, &context.run).await? {
            FoundCommit::None => Reconciled::NotDone,
            FoundCommit::Ours(_) => {
                Reconciled::Partial("committed; deletions may be left".to_string())
            }
            FoundCommit::Other(run) => self::foreign(&self.run.store, &run),
        })
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let archive = open(&self.run.store).await?;
        let how = Progressed {
            run: &context.run,
            progress: context.progress.as_ref(),
            cancel: &context.cancel,
        };
        let plan = &self.run.plan;
        let found = match context.attempt.number {
            1 => FoundCommit::None,
            _ => self.found(&archive, &context.run).await?,
        };
        let done = match found {
            FoundCommit::Ours(commit) => plan.go_on(&archive, commit, how).await,
            FoundCommit::None | FoundCommit::Other(_) => plan.apply(&archive, how).await,
        }
        .map_err(step_error)?;
        let mut outcome = Outcome::of(committed(value(&done), archive.archive_id(), done.commit))
            .total("objects deleted", done.objects)
            .line(format!(
                "{} marked, {} deleted   {}, {} freed",
                counted(done.marked.len() as i64, "generation"),
                done.deleted.len(),
                counted(i128::from(done.objects), "object"),
                format_bytes(done.bytes),
            ));
        if done.left > 0 {
            outcome.incomplete.push(format!(
                "{} left for the next prune: it was interrupted",
                counted(i128::from(done.left), "object")
            ));
        }
        Ok(outcome)
    }
}

/// Somebody else has committed to the archive.
fn foreign(store: &StoreHandle, run: &str) -> Reconciled {
    Reconciled::Foreign(format!("run {run} has committed to {} since", store.url))
}

impl PruneStep {
    async fn found(&self, archive: &Archive, run: &str) -> Result<FoundCommit, StepError> {
        let found = self.run.plan.reconcile(archive, run).await;
        found.map_err(step_error)
    }

    /// What is deleted by this prune.
    fn show_deleted(&self, lines: &mut Vec<ViewLine>) {
        let plan = &self.run.plan;
        let deletes = plan.deletes();
        if !deletes.is_empty() {
            lines.push(ViewLine::of(
                format!("generation {}", numbers(&deletes)),
                vec![Cell::text("deleted: the grace time is over")],
            ));
        }
        self.show_data(lines, true);
        let mut by_kind: BTreeMap<ObjectKind, (i128, u64)> = BTreeMap::new();
        for object in &plan.objects {
            let sum = by_kind.entry(object.kind).or_default();
            sum.0 += 1;
            sum.1 += object.size;
        }
        for (kind, (count, bytes)) in by_kind {
            let what = match kind {
                ObjectKind::Segment => "segment",
                ObjectKind::Kept => "groups object",
                ObjectKind::Unreferenced => "object",
                ObjectKind::Manifest => "manifest",
            };
            let why = match kind {
                ObjectKind::Unreferenced => "left behind by runs that died",
                _ => "",
            };
            let size = format_bytes(bytes);
            lines.push(ViewLine::of(
                counted(count, what),
                vec![Cell::text(size), Cell::text(why)],
            ));
        }
    }

    /// What a later prune deletes.
    fn show_marked(&self, lines: &mut Vec<ViewLine>) {
        let plan = &self.run.plan;
        let marks = plan.marks();
        if !marks.is_empty() {
            let grace = format_duration_ms(plan.policy.grace_ms);
            lines.push(ViewLine::of(
                format!("generation {}", numbers(&marks)),
                vec![Cell::text(format!(
                    "marked: no rule keeps it, goes after {grace}"
                ))],
            ));
        }
        let before = lines.len();
        self.show_data(lines, false);
        if lines.len() > before
            && let Some(line) = lines.last_mut()
        {
            line.notes.push(format!(
                "{} of objects are freed then",
                format_bytes(plan.bytes_later)
            ));
        }
    }

    fn show_data(&self, lines: &mut Vec<ViewLine>, now: bool) {
        let mut topics: BTreeMap<(&str, u32, Why), Vec<&DataGoing>> = BTreeMap::new();
        for data in self.run.plan.data.iter().filter(|data| data.now == now) {
            let key = (data.topic.as_str(), data.incarnation, data.why);
            topics.entry(key).or_default().push(data);
        }
        for ((topic, incarnation, why), parts) in topics {
            let records: u64 = parts.iter().map(|data| data.records).sum();
            let bytes: u64 = parts.iter().map(|data| data.bytes).sum();
            let first = parts.iter().map(|data| data.min_timestamp).min();
            let last = parts.iter().map(|data| data.max_timestamp).max();
            let name = match incarnation {
                1 => topic.to_string(),
                n => format!("{topic} (incarnation {n})"),
            };
            let mut line = ViewLine::of(
                name,
                vec![
                    Cell::count(records, "record"),
                    Cell::text(format_bytes(bytes)),
                    Cell::text(reason(why)),
                ],
            );
            let when = match now {
                true => "now",
                false => "later",
            };
            line.notes.push(format!(
                "{when}: {} of {} to {}",
                counted(parts.len() as i64, "partition"),
                first.map_or_else(String::new, minute),
                last.map_or_else(String::new, minute),
            ));
            line.detail = Some(Detail {
                columns: ["partition", "offsets", "records", "bytes"]
                    .map(str::to_string)
                    .to_vec(),
                rows: parts
                    .iter()
                    .map(|data| {
                        vec![
                            data.partition.to_string(),
                            format!("{} … {}", data.first, data.last),
                            grouped(i128::from(data.records)),
                            format_bytes(data.bytes),
                        ]
                    })
                    .collect(),
            });
            lines.push(line);
        }
    }

    fn notes(&self) -> Vec<String> {
        let plan = &self.run.plan;
        let mut notes = Vec::new();
        let kept: Vec<&PlannedPoint> = plan
            .points
            .iter()
            .rev()
            .filter(|point| matches!(point.fate, Fate::Kept { .. }))
            .collect();
        for point in kept.iter().take(KEPT_SHOWN) {
            let partial = if point.partial { "partial, " } else { "" };
            notes.push(format!(
                "{:>6}  {}  {partial}{}",
                point.number,
                minute(point.consistency_point),
                fate(&point.fate)
            ));
        }
        if kept.len() > KEPT_SHOWN {
            notes.push(format!("… and {} more: --detail", kept.len() - KEPT_SHOWN));
        }
        for point in plan.from_the_future() {
            notes.push(format!(
                "generation {} says {}, which is not yet: a clock was ahead, durations count from now",
                point.number,
                minute(point.consistency_point)
            ));
        }
        let waiting = plan.points.iter().filter_map(|point| match point.fate {
            Fate::Marked { until, .. } => Some((point.number, until)),
            _ => None,
        });
        let waiting: Vec<(u64, TimestampMs)> = waiting.collect();
        if let Some(until) = waiting.iter().map(|(_, until)| *until).min() {
            let marked: Vec<u64> = waiting.iter().map(|(number, _)| *number).collect();
            notes.push(format!(
                "marked before: {}, the first goes from {} on",
                numbers(&marked),
                minute(until)
            ));
        }
        if !plan.young.is_empty() {
            notes.push(format!(
                "{} that no generation names stay: too young to tell from a running backup's",
                counted(plan.young.len() as i64, "object")
            ));
        }
        if !plan.foreign.is_empty() {
            notes.push(format!(
                "{} that are no archive's are left alone",
                counted(plan.foreign.len() as i64, "object")
            ));
        }
        notes
    }

    fn every_point(&self) -> Detail {
        let points = self.run.plan.points.iter();
        Detail {
            columns: ["generation", "time", "partial", "what", "why"]
                .map(str::to_string)
                .to_vec(),
            rows: points
                .map(|point| {
                    let what = match &point.fate {
                        Fate::Kept { .. } => "stays",
                        Fate::Marks { .. } => "is marked",
                        Fate::Marked { .. } => "is marked already",
                        Fate::Deletes { .. } => "is deleted",
                    };
                    vec![
                        point.number.to_string(),
                        minute(point.consistency_point),
                        if point.partial { "yes" } else { "" }.to_string(),
                        what.to_string(),
                        fate(&point.fate),
                    ]
                })
                .collect(),
        }
    }
}

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Kept { why } => why.join(", "),
        Fate::Marks { until } => format!("no rule keeps it; goes from {} on", minute(*until)),
        Fate::Marked { until, .. } => format!("goes from {} on", minute(*until)),
        Fate::Deletes { since } => format!("marked {}", minute(*since)),
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Expired => "expired at the source",
        Why::Removed => "no kept generation has it",
        Why::Superseded => "read anew since",
    }
}

/// `2026-11-20 10:00`.
fn minute(at: TimestampMs) -> String {
    let text = format_instant(at);
    match text.get(..16) {
        Some(minute) if text.contains('T') => minute.replace('T', " "),
        _ => text,
    }
}

/// `1–3, 7`, short.
fn numbers(numbers: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let shown: Vec<String> = parts
        .iter()
        .take(6)
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}–{last}"),
        })
        .collect();
    let mut text = shown.join(", ");
    if parts.len() > 6 {
        text.push_str(&format!(", … ({} in all)", numbers.len()));
    }
    text
}

/// What to type at the gate: the store's name, or the last part of its URL.
fn word(store: &StoreHandle) -> String {
    let name = store.name.trim_end_matches('/');
    let last = name.rsplit(['/', ':']).next().unwrap_or(name);
    last.to_string()
}

/// Tells the journal the new end of the chain, as a backup does.
fn committed(mut said: Value, archive_id: uuid::Uuid, commit: Option<Tip>) -> Value {
    if let Some(tip) = commit {
        said["archive_id"] = json!(archive_id);
        said["generation"] = json!(tip.number);
        said["digest"] = value(&tip.digest);
    }
    said
}

async fn open(store: &StoreHandle) -> Result<Archive, StepError> {
    Archive::open(store.store.clone()).await.map_err(step_error)
}

fn step_error(error: archive::Error) -> StepError {
    match error {
        archive::Error::Changed { .. } => StepError::drift(error.to_string())
            .now("run the same command again to plan against the archive as it is"),
        other => StepError::caused_by(other),
    }
}

#[async_trait]
impl Step for UndeleteStep {
    fn kind(&self) -> StepKind {
        StepKind::Update
    }

    fn view(&self) -> StepView {
        let plan = &self.run.plan;
        let mut lines = Vec::new();
        for back in &plan.comes_back {
            let partial = if back.partial { "partial, " } else { "" };
            lines.push(ViewLine::of(
                format!("generation {}", back.number),
                vec![Cell::text(format!(
                    "{partial}{}, marked {}: comes back",
                    minute(back.consistency_point),
                    minute(back.since)
                ))],
            ));
        }
        for number in &plan.not_marked {
            lines.push(ViewLine::of(
                format!("generation {number}"),
                vec![Cell::text("is not marked")],
            ));
        }
        if lines.is_empty() {
            lines.push(ViewLine::of(
                self.run.store.name.clone(),
                vec![Cell::text("nothing is marked")],
            ));
        }
        if plan.floors > 0
            && let Some(line) = lines.last_mut()
        {
            line.notes.push(format!(
                "records of {} that were marked stay",
                counted(plan.floors as i64, "topic")
            ));
        }
        StepView {
            lines,
            no_change: plan.retention.is_none(),
            counts: Some(counted(plan.comes_back.len() as i64, "generation")),
            ..StepView::default()
        }
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        let place = parts.place(&self.run, || {
            json!({
                "plan": value(&self.run.plan),
                "store": value(&SavedStore::from(&*self.run.store)),
            })
        });
        json!({ "step": "undelete", "part": place })
    }

    fn pinned(&self) -> Value {
        let plan = &self.run.plan;
        let back: Vec<u64> = plan.comes_back.iter().map(|back| back.number).collect();
        json!({ "archive": plan.archive_id, "after": plan.tip.digest, "comes_back": back })
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        let archive = open(&self.run.store).await?;
        self.run.plan.check(&archive).await.map_err(step_error)
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let archive = open(&self.run.store).await?;
        let found = self.run.plan.reconcile(&archive, &context.run).await;
        Ok(match found.map_err(step_error)? {
            FoundCommit::None => Reconciled::NotDone,
            FoundCommit::Ours(commit) => Reconciled::Done(Box::new(self.outcome(Some(commit)))),
            FoundCommit::Other(run) => foreign(&self.run.store, &run),
        })
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let archive = open(&self.run.store).await?;
        let done = self
            .run
            .plan
            .apply(&archive, &context.run)
            .await
            .map_err(step_error)?;
        Ok(self.outcome(done))
    }
}

impl UndeleteStep {
    fn outcome(&self, commit: Option<Tip>) -> Outcome {
        let back = self.run.plan.comes_back.len();
        let said = json!({ "commit": value(&commit) });
        Outcome::of(committed(said, self.run.plan.archive_id, commit))
            .line(format!("{} back", counted(back as i64, "generation")))
    }
}
