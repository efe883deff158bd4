//! Runs a script: compile, check, evaluate on a thread of its own, and the plan that came of it.

use super::check::check_parsed;
use super::diagnostic::{ScriptError, Severity};
use super::failure::Failure;
use super::host::{Host, Mode};
use super::source::{Arguments, Source};
use super::values::ArgumentsValue;
use super::world::World;
use super::{engine, messages, show};
use crate::base::{CancellationToken, TimestampMs};
use crate::run::{ExitClass, Plan, Stopped};
use rhai::{Dynamic, EvalAltResult, Position, Scope};
use std::sync::{Arc, OnceLock};

/// What holds for one evaluation. `now` is fixed by the caller: a plan holds no other clock.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// What was given after `--` on the command line.
    pub arguments: Arguments,
    pub now: TimestampMs,
    pub cancel: CancellationToken,
    /// Whether the value of the last expression is wanted where the plan has no step.
    pub shows_value: bool,
}

/// What came of evaluating a runbook.
pub struct Evaluated {
    pub plan: Plan,
    /// What the script printed, in order, one entry per `print`.
    pub printed: Vec<String>,
    /// The value of its last expression, if it was wanted and there is no step.
    pub value: Option<Shown>,
}

/// A value that `kbr eval` shows: as text for people, as JSON for machines.
#[derive(Clone, Debug)]
pub struct Shown {
    pub text: String,
    /// The same as rows, where it is a table.
    pub table: Option<show::Table>,
    pub json: serde_json::Value,
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
    let shows_value = options.shows_value;
    let (host, value) = run(source, world, options, Mode::Runbook).await?;
    let plan = host.plan();
    let wanted = shows_value && plan.items.is_empty() && plan.stopped.is_none();
    let value = match wanted && !value.is_unit() {
        true => Some(shown(source, &host, value).await?),
        false => None,
    };
    Ok(Evaluated {
        plan,
        printed: host.printed(),
        value,
    })
}

/// Evaluates one expression (or a few statements) for its value. A terminal verb in it is refused.
pub async fn eval(
    source: &Source,
    world: &Arc<World>,
    options: EvaluateOptions,
) -> Result<Shown, ScriptError> {
    let (host, value) = run(source, world, options, Mode::Reads).await?;
    shown(source, &host, value).await
}

/// The value as it is shown. A table may read on, which must not happen on a thread of the reactor.
async fn shown(source: &Source, host: &Arc<Host>, value: Dynamic) -> Result<Shown, ScriptError> {
    let host = host.clone();
    let shown = tokio::task::spawn_blocking(move || Shown {
        text: if value.is_unit() {
            String::new()
        } else {
            show::text(&value)
        },
        table: show::table(&value),
        json: show::json(&value),
        printed: host.printed(),
    });
    shown.await.map_err(|_| ended(source))
}

async fn run(
    source: &Source,
    world: &Arc<World>,
    options: EvaluateOptions,
    mode: Mode,
) -> Result<(Arc<Host>, Dynamic), ScriptError> {
    let host = Host::new(
        source.clone(),
        world.clone(),
        options.arguments,
        options.now,
        mode,
        options.cancel,
    );
    let thread_host = host.clone();
    // Scripts block on reads, so they have a thread of their own.
    let evaluation = tokio::task::spawn_blocking(move || run_here(&thread_host));
    let value = evaluation.await.map_err(|_| ended(source))??;
    Ok((host, value))
}

/// The thread of the evaluation did not come back with an answer.
fn ended(source: &Source) -> ScriptError {
    ScriptError::new(
        Failure::script("E0200", "the evaluation ended without an answer").into_finding(None),
        source,
        ExitClass::Failed,
    )
}

fn run_here(host: &Arc<Host>) -> Result<Dynamic, ScriptError> {
    let source = &host.source;
    let shared_ast = Arc::new(OnceLock::new());
    let engine = engine::runbook_engine(host, &shared_ast);
    let ast = engine::compile(&engine, &source.text).map_err(|error| {
        ScriptError::new(messages::of_parse(source, &error), source, ExitClass::Usage)
    })?;
    let wrong = check_parsed(source, &ast)
        .into_iter()
        .find(|finding| finding.severity == Severity::Error);
    if let Some(wrong) = wrong {
        return Err(ScriptError::new(wrong, source, ExitClass::Usage));
    }
    let ast = shared_ast.get_or_init(|| Arc::new(ast)).clone();

    let mut scope = Scope::new();
    scope.push_constant("args", ArgumentsValue(host.clone()));
    let outcome = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &ast);

    // What was latched counts, whatever the script has caught since.
    if let Some((failure, position)) = host.latched() {
        return stopped(host, failure, position);
    }
    if host.cancel.is_cancelled() {
        let failure = Failure {
            exit: ExitClass::Interrupted,
            ..Failure::script("E0130", "interrupted; nothing was changed")
        };
        return Err(ScriptError::new(
            failure.into_finding(None),
            source,
            ExitClass::Interrupted,
        ));
    }
    match outcome {
        Ok(value) => {
            if let Some(failure) = host.undeclared_arguments() {
                return Err(ScriptError::new(
                    failure.into_finding(None),
                    source,
                    ExitClass::Usage,
                ));
            }
            Ok(value)
        }
        Err(error) => match *error {
            EvalAltResult::Exit(value, _) => Ok(value),
            other => Err(messages::of_evaluation(source, &other)),
        },
    }
}

/// Ended early: by a value that only execution can tell, which makes a stage, or by something worse.
fn stopped(host: &Arc<Host>, failure: Failure, position: Position) -> Result<Dynamic, ScriptError> {
    let source = &host.source;
    let span = failure.span.or_else(|| source.span(position));
    if failure.stops && failure.exit == ExitClass::Done {
        host.stop(Stopped {
            span,
            why: failure.message,
        });
        return Ok(Dynamic::UNIT);
    }
    let exit = failure.exit;
    let cause = failure.cause.clone();
    let mut error = ScriptError::new(failure.into_finding(span), source, exit);
    error.cause = cause;
    Err(error)
}
