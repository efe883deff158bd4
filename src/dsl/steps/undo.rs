//! The plan that takes a run back: made from the journal's old values and from what the cluster says now, without a
//! runbook. From there on it is a plan like any other.

use super::{ResetRun, offsets, removal};
use crate::base::{Selection, TimestampMs, TopicPartition};
use crate::dsl::source::{Arguments, Source};
use crate::dsl::steps::groups::RemovalRun;
use crate::dsl::steps::saved::SavedCluster;
use crate::dsl::world::World;
use crate::engine::offsets::{Blocked, Error, Plan as OffsetPlan, WayBack, plan_back};
use crate::kafka::ErrorCode;
use crate::run::{NotUndone, Plan, RunRecord, RunbookId, StepError, UndoStep};
use std::sync::Arc;

/// What takes a run back.
pub struct Undo {
    pub plan: Plan,
    /// What of the run stays, and why.
    pub left: Vec<NotUndone>,
    /// Offsets that are as they were before it already.
    pub as_before: usize,
}

/// Plans the way back of a run, for the groups that are selected.
pub async fn undo(
    record: &RunRecord,
    groups: &Selection,
    world: &Arc<World>,
    now: TimestampMs,
) -> Result<Undo, StepError> {
    let run = record.summary.run.to_string();
    // It stands for the runbook in the digest, and so makes the plan that of this very run.
    let text = format!("// The way back of run {run}, from the journal of what it changed.\n");
    let source = Source::inline(format!("undo of {run}"), text.as_str());
    let runbook = RunbookId {
        name: source.name.clone(),
        digest: source.digest(),
    };
    let mut plan = Plan::new(runbook, Arguments::default().0, now);
    plan.text = source.text.clone();
    plan.config = world.config().path.clone();
    let undoable = record.undoable();
    let mut as_before = 0;
    let known: Vec<&str> = undoable
        .steps
        .iter()
        .flat_map(|step| step.offsets.iter().map(|at| at.group.as_str()))
        .collect();
    let in_vain: Vec<&str> = groups
        .unmatched(&known)
        .iter()
        .map(|one| one.text())
        .collect();
    if !in_vain.is_empty() && !known.is_empty() {
        return Err(StepError::new(
            "E0450",
            format!("run {run} has moved no group {}", in_vain.join(", ")),
        )
        .exit(crate::run::ExitClass::Usage)
        .now(format!("kbr show {run} lists the groups that it moved")));
    }
    for step in &undoable.steps {
        let ways = ways(step, groups);
        if ways.is_empty() {
            continue;
        }
        let named = record
            .plan
            .clusters
            .iter()
            .find(|fact| fact.id == step.cluster_id);
        let name = named.map(|fact| fact.name.clone()).ok_or_else(|| {
            StepError::new(
                "E0450",
                format!(
                    "run {run} does not tell which cluster its step {} changed",
                    step.ordinal
                ),
            )
        })?;
        let saved = SavedCluster {
            name,
            id: step.cluster_id.clone(),
        };
        let cluster = super::load::cluster(world, saved).await?;
        plan.add_cluster(cluster.0.fact.clone());
        let (back, gone) = plan_back(&run, &ways, &cluster.0.client)
            .await
            .map_err(|error| unplanned(&run, error))?;
        as_before += ways.len() - back.rows.len() - gone.offsets();
        let rows = !back.rows.is_empty();
        if (rows || !gone.is_empty()) && plan.items.is_empty() {
            plan.add_confirm(format!("Undo run {run}?"), None);
        }
        if rows {
            let back = explained(&run, back);
            let run = Arc::new(ResetRun {
                plan: Arc::new(back),
                cluster: cluster.clone(),
            });
            for step in offsets(&run) {
                plan.add_step(step, None);
            }
        }
        if !gone.is_empty() {
            let run = RemovalRun {
                plan: gone,
                cluster,
            };
            plan.add_step(removal(&Arc::new(run)), None);
        }
    }
    Ok(Undo {
        plan,
        left: undoable.left,
        as_before,
    })
}

fn unplanned(run: &str, error: Error) -> StepError {
    match &error {
        Error::Kafka(kafka) if kafka.code() == Some(ErrorCode::UNSTABLE_OFFSET_COMMIT) => {
            StepError::new(
                "E0451",
                format!(
                    "a transaction over what run {run} moved is still open; nothing was changed"
                ),
            )
            .why("whether it commits or not decides what there is to undo")
            .now(format!(
                "kbr resume {run} ends it, and so does its coordinator a minute after it began"
            ))
        }
        _ => StepError::caused_by(error),
    }
}

fn ways(step: &UndoStep, groups: &Selection) -> Vec<WayBack> {
    let chosen = step.offsets.iter().filter(|at| groups.takes(&at.group));
    chosen
        .map(|at| WayBack {
            group: at.group.clone(),
            at: TopicPartition::new(at.topic.clone(), at.partition),
            was: at.was,
            metadata: at.metadata.clone(),
            wrote: at.wrote,
            share: at.share,
        })
        .collect()
}

/// An undo has an option that a runbook's reset has not.
fn explained(run: &str, mut plan: OffsetPlan) -> OffsetPlan {
    for row in &mut plan.rows {
        if let Err(Blocked { hint, .. }) = &mut row.target {
            let text = hint.take().unwrap_or_default();
            let more = format!("kbr undo {run} --group NAME takes back only groups that it names");
            *hint = Some(match text.is_empty() {
                true => more,
                false => format!("{text}; {more}"),
            });
        }
    }
    plan
}
