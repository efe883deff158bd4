//! The one executor: for each step check, gate, intent, effect, outcome; the first failure ends the run.

use super::{
    Approval, Approver, GateSection, Journal, Outcome, Plan, PlannedStep, RunError, RunId,
    StepError, Total,
};
use crate::base::{CancellationToken, NoProgress, ProgressHandle};
use std::time::Duration;

/// Looks on: a terminal, a log, nobody.
pub trait Watcher: Send + Sync {
    fn run_started(&self, _run: &RunId) {}
    /// A step begins; what is answered gets its progress.
    fn step_started(&self, _step: &PlannedStep) -> ProgressHandle {
        NoProgress::handle()
    }
    fn step_ended(&self, _step: &PlannedStep, _result: &StepResult) {}
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
    Done(Outcome),
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
    Failed {
        ordinal: u32,
        error: StepError,
    },
    /// A gate was answered with something else than its word.
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
}

/// Applies a plan. An error means that nothing was changed; a failure after the first effect is in the report.
pub async fn execute(plan: &Plan, execution: Execution<'_>) -> Result<RunReport, RunError> {
    let _ = execution;
    Err(RunError::ConfirmationRequired(plan.digest()))
}
