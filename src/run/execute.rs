//! The one executor: for each step gate, check, intent, effect, outcome; the first failure ends the run.
//!
//! Everything that can refuse a plan as a whole is asked before the run is journalled, so that an error from
//! [`execute`] always means: nothing was changed. After that the run has an id, and what happens is in its report.
//!
//! [`resume`] goes on with a run that did not come to its end, in the same order: what is done is passed over, a step
//! that began is reconciled with the world first, and only gates that nobody has approved in that run are asked.

use super::document::{PlanDocument, add_totals};
use super::{
    Answer, Approval, Approver, Attempt, ExitClass, GateSection, Item, Journal, JournalError,
    Outcome, Plan, PlannedStep, Question, ROOM, Reconciled, RunError, RunId, RunLock, SoFar,
    StateSoFar, StepContext, StepError, Total, plan::PLAN_LIFETIME_MS,
};
use crate::base::{CancellationToken, Digest, NoProgress, Pause, ProgressHandle, time};
use futures::{FutureExt, StreamExt, stream};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a cancelled step may take to leave things whole before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// Looks on: a terminal, a log, nobody.
pub trait Watcher: Send + Sync {
    fn run_started(&self, _run: &RunId) {}
    /// A step begins; what is answered gets its progress.
    fn step_started(&self, _step: &PlannedStep) -> ProgressHandle {
        NoProgress::handle()
    }
    fn step_ended(&self, _step: &PlannedStep, _result: &StepResult) {}
    /// Steps begin that run beside each other. Each of them ends by `step_ended`, in their order, and then all by
    /// `steps_ended`; `step_started` is not called for them.
    fn steps_started(&self, _steps: &[&PlannedStep]) -> ProgressHandle {
        NoProgress::handle()
    }
    fn steps_ended(&self) {}
    /// A gate that nobody had to be asked for: approved by digest or by being a rehearsal.
    fn gate_passed(&self, _section: &GateSection, _how: &Approval) {}
}

/// Nobody looks.
pub struct NoWatcher;
impl Watcher for NoWatcher {}

/// Everything an execution needs beside the plan.
pub struct Execution<'a> {
    pub approval: Approval,
    /// Asked when `approval` is [`Approval::Terminal`].
    pub approver: &'a dyn Approver,
    pub journal: &'a Journal,
    pub watcher: &'a dyn Watcher,
    pub cancel: CancellationToken,
}

#[derive(Clone, Debug)]
pub enum StepState {
    Done(Arc<Outcome>),
    /// By an earlier attempt of the same run.
    DoneBefore(Arc<Outcome>),
    NoChange,
    Failed(StepError),
    /// The run ended before it.
    NotRun,
}

#[derive(Clone, Debug)]
pub struct StepResult {
    pub ordinal: u32,
    pub state: StepState,
    pub elapsed: Duration,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum RunEnd {
    Done,
    /// Everything ran, something is missing: exit status 6.
    Incomplete,
    /// Everything ran, something was found damaged and left out: exit status 5.
    Damaged,
    Failed {
        ordinal: u32,
        error: StepError,
    },
    /// A gate was answered with something else than its word; `before`: the gated steps that did not run.
    Refused {
        before: Vec<u32>,
        typed: String,
        word: String,
    },
    Interrupted,
}

/// What an execution did.
#[derive(Clone, Debug)]
pub struct RunReport {
    pub run: RunId,
    pub steps: Vec<StepResult>,
    pub end: RunEnd,
    pub elapsed: Duration,
    pub totals: Vec<Total>,
    pub incomplete: Vec<String>,
    pub damaged: Vec<String>,
}

/// Applies a plan. An error means that nothing was changed; a failure after the run began is in the report.
pub async fn execute(plan: &Plan, execution: Execution<'_>) -> Result<RunReport, RunError> {
    execute_shown(plan, &plan.document(), execution).await
}

/// The same with the plan's document at hand, which of a large plan takes long to make.
pub async fn execute_shown(
    plan: &Plan,
    document: &PlanDocument,
    execution: Execution<'_>,
) -> Result<RunReport, RunError> {
    let gates = plan.gates();
    refuse(plan)?;
    let age_ms = time::now().0 - plan.now.0;
    if age_ms > PLAN_LIFETIME_MS {
        return Err(RunError::Stale { age_ms });
    }
    refuse_approval(plan, document.digest, &gates, &execution.approval)?;
    let word = execution.approval.word();
    let (run, lock) = execution.journal.begin_run(plan, document, word)?;
    let so_far = SoFar {
        attempts: 1,
        ..SoFar::default()
    };
    Ok(work(plan, gates, execution, run, &so_far, lock).await)
}

/// Goes on with a run. `plan` is the one it was begun with; `lock` is the run's, taken before `so_far` was read, so that
/// nobody else goes on with it. An error means that nothing was changed.
pub async fn resume(
    plan: &Plan,
    run: RunId,
    so_far: &SoFar,
    lock: RunLock,
    execution: Execution<'_>,
) -> Result<RunReport, RunError> {
    refuse(plan)?;
    let gates = unanswered(plan, so_far);
    refuse_approval(plan, plan.digest(), &gates, &execution.approval)?;
    let word = execution.approval.word();
    execution.journal.resume_run(&run, word)?;
    let so_far = SoFar {
        attempts: so_far.attempts + 1,
        ..so_far.clone()
    };
    Ok(work(plan, gates, execution, run, &so_far, lock).await)
}

/// The gates that a resumed run asks: those before a step that is not done and that nobody has approved in it.
pub fn unanswered(plan: &Plan, so_far: &SoFar) -> Vec<GateSection> {
    let mut gates = plan.gates();
    gates.retain(|section| {
        let done = |(planned, _): &(PlannedStep, _)| so_far.is_done(planned.ordinal);
        let over = !section.steps.is_empty() && section.steps.iter().all(done);
        !over && !so_far.approved.contains(&section.before)
    });
    gates
}

async fn work(
    plan: &Plan,
    gates: Vec<GateSection>,
    execution: Execution<'_>,
    run: RunId,
    so_far: &SoFar,
    lock: RunLock,
) -> RunReport {
    execution.watcher.run_started(&run);
    let mut running = Running {
        plan,
        gates,
        execution,
        so_far,
        outcomes: Arc::default(),
        report: RunReport {
            steps: plan
                .steps()
                .map(|planned| StepResult {
                    ordinal: planned.ordinal,
                    state: StepState::NotRun,
                    elapsed: Duration::ZERO,
                })
                .collect(),
            run,
            end: RunEnd::Done,
            elapsed: Duration::ZERO,
            totals: Vec::new(),
            incomplete: Vec::new(),
            damaged: Vec::new(),
        },
    };
    let began = Instant::now();
    let end = running.apply().await;
    let mut report = running.report;
    report.elapsed = began.elapsed();
    report.end = match end {
        Ok(()) if !report.damaged.is_empty() => RunEnd::Damaged,
        Ok(()) if report.incomplete.is_empty() => RunEnd::Done,
        Ok(()) => RunEnd::Incomplete,
        Err(end) => end,
    };
    let finished = matches!(
        report.end,
        RunEnd::Done | RunEnd::Incomplete | RunEnd::Damaged
    );
    match running.execution.journal.end_run(&report) {
        Ok(()) if finished => lock.remove(),
        Ok(()) => {}
        // The effects are done and their outcomes written; only the last line is missing. It must not pass
        // as success, nor hide an earlier failure.
        Err(error) if finished => {
            report.end = RunEnd::Failed {
                ordinal: 0,
                error: journal_failed(error),
            };
        }
        Err(_) => {}
    }
    report
}

/// Every reason of the plan's own to run nothing at all.
fn refuse(plan: &Plan) -> Result<(), RunError> {
    let blocked = plan.blocked();
    if !blocked.is_empty() {
        return Err(RunError::Blocked(blocked));
    }
    if let Some(stopped) = &plan.stopped {
        return Err(RunError::NotReached(stopped.clone()));
    }
    Ok(())
}

/// Whether these gates may be passed.
fn refuse_approval(
    plan: &Plan,
    digest: Digest,
    gates: &[GateSection],
    approval: &Approval,
) -> Result<(), RunError> {
    match approval {
        Approval::Digest(given) => {
            if given.len() < crate::base::types::DIGEST_SHORT {
                return Err(RunError::ShortDigest {
                    given: given.clone(),
                    plan: digest,
                });
            }
            if !digest.matches_prefix(given) {
                return Err(RunError::WrongDigest {
                    given: given.clone(),
                    plan: digest,
                });
            }
        }
        Approval::Terminal => {}
        Approval::Rehearsal if plan.rehearsal => {}
        Approval::Rehearsal | Approval::Nobody => {
            if !gates.is_empty() {
                return Err(RunError::ConfirmationRequired(digest));
            }
        }
    }
    Ok(())
}

struct Running<'a> {
    plan: &'a Plan,
    gates: Vec<GateSection>,
    execution: Execution<'a>,
    so_far: &'a SoFar,
    /// What the steps that are done came to.
    outcomes: Arc<BTreeMap<u32, Arc<Outcome>>>,
    report: RunReport,
}

impl Running<'_> {
    async fn apply(&mut self) -> Result<(), RunEnd> {
        let plan = self.plan;
        let mut gates = std::mem::take(&mut self.gates).into_iter().peekable();
        let mut index = 0;
        while index < plan.items.len() {
            self.stop_if_cancelled()?;
            while let Some(section) = gates.next_if(|section| section.before == index) {
                self.ask(&section).await?;
            }
            let gate = gates.peek().map_or(plan.items.len(), |next| next.before);
            let beside = beside(&plan.items[index..gate]);
            match &plan.items[index] {
                Item::Step(planned) if beside.len() < 2 => self.step(planned).await?,
                Item::Step(_) => self.steps(&beside).await?,
                Item::Confirm { .. } => {}
            }
            index += beside.len().max(1);
        }
        self.stop_if_cancelled()
    }

    fn stop_if_cancelled(&self) -> Result<(), RunEnd> {
        match self.execution.cancel.is_cancelled() {
            true => Err(RunEnd::Interrupted),
            false => Ok(()),
        }
    }

    async fn ask(&self, section: &GateSection) -> Result<(), RunEnd> {
        let ordinals: Vec<u32> = section
            .steps
            .iter()
            .map(|(planned, _)| planned.ordinal)
            .collect();
        let before = ordinals.first().copied().unwrap_or(0);
        let answer = match &self.execution.approval {
            Approval::Terminal => {
                let question = Question {
                    section,
                    run: &self.report.run,
                    word: section.word(),
                };
                tokio::select! {
                    answer = self.execution.approver.ask(&question) => answer,
                    () = self.execution.cancel.cancelled() => return Err(RunEnd::Interrupted),
                }
            }
            // Anything else was settled for the whole plan before it began.
            how => {
                self.execution.watcher.gate_passed(section, how);
                Answer::Yes
            }
        };
        let journalled = self.execution.journal.gate(
            &self.report.run,
            section.before,
            &ordinals,
            self.execution.approval.word(),
            answer == Answer::Yes,
        );
        match answer {
            Answer::Yes => journalled.map_err(|error| RunEnd::Failed {
                ordinal: before,
                error: journal_failed(error),
            }),
            Answer::No(typed) => Err(RunEnd::Refused {
                before: ordinals,
                typed,
                word: section.word(),
            }),
        }
    }

    async fn step(&mut self, planned: &PlannedStep) -> Result<(), RunEnd> {
        let progress = || self.execution.watcher.step_started(planned);
        let result = self.result(planned, progress).await;
        if !matches!(result.state, StepState::DoneBefore(_)) {
            self.execution.watcher.step_ended(planned, &result);
        }
        self.settle(planned, result)
    }

    /// Steps that do not need each other, as many at once as there is room for. After a failure none begins, and those
    /// under way come to their end.
    async fn steps(&mut self, steps: &[&PlannedStep]) -> Result<(), RunEnd> {
        let watcher = self.execution.watcher;
        let progress = watcher.steps_started(steps);
        let (room, failed) = (Semaphore::new(ROOM as usize), AtomicBool::new(false));
        let (this, room, failed) = (&*self, &room, &failed);
        let mut under_way = stream::iter(steps.iter().copied())
            .map(|planned| async move {
                // It is never closed, so that there is always room in the end.
                let _room = room.acquire_many(planned.step.room().min(ROOM)).await;
                let over = failed.load(Ordering::SeqCst) || this.execution.cancel.is_cancelled();
                if over {
                    return (planned, None);
                }
                // What each of them counts is a part of nothing that is known here.
                let result = this.result(planned, NoProgress::handle).await;
                if matches!(result.state, StepState::Failed(_)) {
                    failed.store(true, Ordering::SeqCst);
                }
                (planned, Some(result))
            })
            .buffered(ROOM as usize);
        let mut results = Vec::new();
        while let Some((planned, result)) = under_way.next().await {
            let Some(result) = result else { continue };
            if !matches!(result.state, StepState::DoneBefore(_)) {
                watcher.step_ended(planned, &result);
            }
            results.push((planned, result));
            progress.doing(&format!("{} of {} done", results.len(), steps.len()));
        }
        drop(under_way);
        watcher.steps_ended();
        let mut end = Ok(());
        for (planned, result) in results {
            let settled = self.settle(planned, result);
            end = end.and(settled);
        }
        end
    }

    /// What comes of a step, or came of it before.
    async fn result(
        &self,
        planned: &PlannedStep,
        progress: impl FnOnce() -> ProgressHandle,
    ) -> StepResult {
        let began = Instant::now();
        let state = match self.so_far.state(planned.ordinal) {
            StateSoFar::Done(outcome) => StepState::DoneBefore(Arc::new(outcome.clone())),
            StateSoFar::NoChange => StepState::DoneBefore(Arc::default()),
            StateSoFar::NotBegun | StateSoFar::Begun => {
                match self.attempt(planned, progress(), began).await {
                    Ok(Some(outcome)) => StepState::Done(Arc::new(outcome)),
                    Ok(None) => StepState::NoChange,
                    Err(error) => StepState::Failed(error),
                }
            }
        };
        StepResult {
            ordinal: planned.ordinal,
            state,
            elapsed: began.elapsed(),
        }
    }

    /// Puts a step's result into the report.
    fn settle(&mut self, planned: &PlannedStep, result: StepResult) -> Result<(), RunEnd> {
        let failed = match &result.state {
            StepState::Done(outcome) | StepState::DoneBefore(outcome) => {
                let outcome = outcome.clone();
                self.add(planned.ordinal, &outcome);
                None
            }
            StepState::Failed(error) => Some(error.clone()),
            StepState::NoChange | StepState::NotRun => None,
        };
        if let Some(place) = self
            .report
            .steps
            .iter_mut()
            .find(|known| known.ordinal == planned.ordinal)
        {
            *place = result;
        }
        match failed {
            None => Ok(()),
            // A step that failed for a reason of its own must not hide it behind a cancel that came meanwhile.
            Some(error) if error.exit == Some(ExitClass::Interrupted) => Err(RunEnd::Interrupted),
            Some(error) => Err(RunEnd::Failed {
                ordinal: planned.ordinal,
                error,
            }),
        }
    }

    /// Adds what a step came to to what the run comes to.
    fn add(&mut self, ordinal: u32, outcome: &Arc<Outcome>) {
        add_totals(&mut self.report.totals, &outcome.totals);
        let (incomplete, damaged) = (&outcome.incomplete, &outcome.damaged);
        self.report.incomplete.extend(incomplete.iter().cloned());
        self.report.damaged.extend(damaged.iter().cloned());
        Arc::make_mut(&mut self.outcomes).insert(ordinal, outcome.clone());
    }

    /// One step, and its failure in the journal: also one that came before the effect, which is the world's fault then.
    async fn attempt(
        &self,
        planned: &PlannedStep,
        progress: ProgressHandle,
        began: Instant,
    ) -> Result<Option<Outcome>, StepError> {
        let (journal, run) = (self.execution.journal, &self.report.run);
        let known = self.so_far.steps.get(&planned.ordinal);
        let context = StepContext {
            progress,
            cancel: self.execution.cancel.clone(),
            run: run.to_string(),
            now: self.plan.now,
            rehearsal: self.plan.rehearsal,
            pause: Pause::of_process(),
            attempt: Attempt {
                number: self.so_far.attempts,
                notes: known.map(|step| step.notes.clone()).unwrap_or_default(),
                outcomes: self.outcomes.clone(),
                ..Attempt::of(journal, run, planned.ordinal)
            },
        };
        let ended = match self.so_far.state(planned.ordinal) {
            StateSoFar::Begun => self.reconcile(planned, &context, began).await,
            _ => self.effect(planned, &context, began).await,
        };
        if let Err(error) = &ended {
            // The step's own error matters more than a journal that cannot take it.
            let _ = journal.failed(run, planned.ordinal, error, began.elapsed());
        }
        ended
    }

    /// A step that an earlier attempt began: how far it came decides how it goes on.
    async fn reconcile(
        &self,
        planned: &PlannedStep,
        context: &StepContext,
        began: Instant,
    ) -> Result<Option<Outcome>, StepError> {
        let found = self.reading(planned.step.reconcile(context)).await?;
        match found {
            Reconciled::Done(outcome) => self.done(planned, *outcome, began).map(Some),
            Reconciled::NotDone => self.effect(planned, context, began).await,
            // What it replaces is in the journal since its first intent, which still holds.
            Reconciled::Partial(_) => self.apply_step(planned, context, began).await.map(Some),
            Reconciled::Foreign(what) => Err(StepError::new(
                "E0442",
                "the interrupted step cannot go on: somebody else was there meanwhile",
            )
            .exit(ExitClass::Drift)
            .fact("found", what)
            .now("look at it, and plan again from what is there: kbr run FILE")),
        }
    }

    /// One step, from the drift check to the journalled outcome; `None`: nothing had to change.
    async fn effect(
        &self,
        planned: &PlannedStep,
        context: &StepContext,
        began: Instant,
    ) -> Result<Option<Outcome>, StepError> {
        let (journal, run) = (self.execution.journal, &self.report.run);
        let step = &planned.step;
        self.reading(step.check(context)).await?;
        if step.view().no_change {
            journal
                .no_change(run, planned.ordinal)
                .map_err(journal_failed)?;
            return Ok(None);
        }
        let old = self.reading(step.old_values(context)).await?;
        journal
            .intent(run, planned.ordinal, &old)
            .map_err(journal_failed)?;
        self.apply_step(planned, context, began).await.map(Some)
    }

    async fn apply_step(
        &self,
        planned: &PlannedStep,
        context: &StepContext,
        began: Instant,
    ) -> Result<Outcome, StepError> {
        let grace = async {
            self.execution.cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        let outcome = tokio::select! {
            applied = unwound(planned.step.apply(context)) => applied,
            () = grace => Err(StepError::interrupted("the step did not stop in time and was left where it is")),
        }?;
        self.done(planned, outcome, began)
    }

    fn done(
        &self,
        planned: &PlannedStep,
        outcome: Outcome,
        began: Instant,
    ) -> Result<Outcome, StepError> {
        let (journal, run) = (self.execution.journal, &self.report.run);
        journal
            .outcome(run, planned.ordinal, &outcome, began.elapsed())
            .map_err(journal_failed)?;
        Ok(outcome)
    }

    /// Reads have no effect, so a cancel may drop them at once.
    async fn reading<T>(
        &self,
        read: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        tokio::select! {
            result = unwound(read) => result,
            () = self.execution.cancel.cancelled() => {
                Err(StepError::interrupted("interrupted before the step changed anything"))
            }
        }
    }
}

/// The steps at the beginning of `items` that may run beside each other: neighbours of one kind, none of which takes all
/// the room. Fewer than two: there are none.
fn beside(items: &[Item]) -> Vec<&PlannedStep> {
    let mut found: Vec<&PlannedStep> = Vec::new();
    for item in items {
        match item {
            Item::Step(planned)
                if planned.step.room() < ROOM
                    && found
                        .first()
                        .is_none_or(|first| first.step.kind() == planned.step.kind()) =>
            {
                found.push(planned);
            }
            _ => break,
        }
    }
    found
}

/// A panic of a step is a failure of that step: the run must still be journalled as failed.
async fn unwound<T>(work: impl Future<Output = Result<T, StepError>>) -> Result<T, StepError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let why = panic
                .downcast_ref::<&str>()
                .map(|text| text.to_string())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".into());
            Err(StepError::new("E0901", "kbr itself failed in this step")
                .why(why)
                .now("this is a mistake in kbr: please report it with the output of kbr show"))
        }
    }
}

fn journal_failed(error: JournalError) -> StepError {
    StepError::caused_by(error)
}
