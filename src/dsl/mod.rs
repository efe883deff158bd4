//! Runbooks: the Rhai engine with kbr's types and verbs, evaluated into a plan.
//!
//! [`check`] reads a runbook without touching anything. [`evaluate`] runs it with real reads and collects the
//! steps it would take into a [`run::Plan`](crate::run); nothing here changes a cluster. Everything that a
//! runbook can say comes from one table, `table`, and so do the documents and the did-you-means.

mod diagnostic;
mod source;
mod world;

pub use crate::run::Span;
pub use diagnostic::{Finding, ScriptError, Severity};
pub use source::{Arguments, Source};
pub use world::{World, WorldError};

use crate::base::{CancellationToken, TimestampMs};
use crate::run::Plan;
use std::sync::Arc;

/// What holds for one evaluation. `now` is fixed by the caller: a plan holds no other clock.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// What was given after `--` on the command line.
    pub arguments: Arguments,
    pub now: TimestampMs,
    pub cancel: CancellationToken,
}

/// What came of evaluating a runbook.
pub struct Evaluated {
    pub plan: Plan,
    /// What the script printed, in order, one entry per `print`.
    pub printed: Vec<String>,
}

/// Evaluates a runbook: reads are real, verbs only add steps to the plan.
///
/// An error of the script, of a read, or of a `require` is a [`ScriptError`] with its span.
pub async fn evaluate(
    source: &Source,
    world: &Arc<World>,
    options: EvaluateOptions,
) -> Result<Evaluated, ScriptError> {
    let _ = (world, options);
    Err(ScriptError::not_yet(source, "evaluating a runbook"))
}

/// Everything that can be said about a runbook without running it, in the order of the lines. No host call.
pub fn check(source: &Source) -> Vec<Finding> {
    let _ = source;
    Vec::new()
}

/// A value that `kbr eval` shows: as text for people, as JSON for machines.
pub struct Shown {
    pub text: String,
    pub json: serde_json::Value,
    pub printed: Vec<String>,
}

/// Evaluates one expression (or a few statements) for its value. A terminal verb in it is refused.
pub async fn eval(
    source: &Source,
    world: &Arc<World>,
    options: EvaluateOptions,
) -> Result<Shown, ScriptError> {
    let _ = (world, options);
    Err(ScriptError::not_yet(source, "kbr eval"))
}

/// The documentation of one name (`restore`, `restore.before`), or the list of all names for `None`.
/// The error is a sentence with a did-you-mean.
pub fn docs(name: Option<&str>) -> Result<String, String> {
    let _ = name;
    Err("no documentation yet".to_string())
}
