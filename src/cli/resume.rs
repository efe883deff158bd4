//! `kbr resume`: goes on with a run that did not come to its end, from what the journal and the world say of it.

use super::arguments::{Output, Resume};
use super::execution::{Starting, approval, look_through, opened_journal, witness, world_of};
use super::plan_view::{PlanView, Typed};
use super::report::Report;
use super::show::{below, mark};
use super::style::{Paint, Style, harmless};
use super::{print, print_json, with_runtime};
use crate::dsl;
use crate::run::{
    ExitClass, ItemDocument, JournalError, Plan, RunError, RunId, RunRecord, SoFar, StateSoFar,
    resume as go_on, unanswered,
};
use serde_json::json;
use std::sync::Arc;

/// `kbr resume [RUN]`
pub fn resume(arguments: Resume) -> Result<ExitClass, Box<Report>> {
    let journal = opened_journal()?;
    let failed = |error: JournalError| Box::new(Report::from(&error));
    let run = match &arguments.run {
        Some(id) => journal.run(id).map_err(failed)?.summary.run,
        None => match journal.newest_unfinished().map_err(failed)? {
            Some(run) => run,
            None => {
                return Ok(nothing(
                    &arguments,
                    None,
                    "no run of this machine is unfinished",
                ));
            }
        },
    };
    look_through(&journal, Some(&run))?;
    // Before the journal is read: another process must not go on from the same place.
    let Some(lock) = journal.lock_run(&run).map_err(failed)? else {
        return Err(Box::new(Report::from(&RunError::StillRuns(run))));
    };
    let so_far = journal.so_far(&run).map_err(failed)?;
    if so_far.is_finished() {
        lock.remove();
        let end = so_far.end.as_deref().unwrap_or_default();
        let what = format!("run {run} came to its end ({end}): nothing to resume");
        return Ok(nothing(&arguments, Some(&run), &what));
    }
    let saved = journal
        .saved_plan(&run)
        .map_err(|error| Report::from(&error))?;
    let record = journal.run(&run.0).map_err(failed)?;
    with_runtime(async |cancel| {
        let world = Arc::new(world_of(&saved)?);
        let outcome = async {
            let plan = dsl::load(&saved, &world)
                .await
                .map_err(|error| Box::new(Report::from(&error)))?;
            let document = plan.document();
            let silent = arguments.output == Output::Json;
            if !silent {
                print(&shown(&record, &so_far, &plan, arguments.detail));
            }
            let lost = witness(&journal, &world, &plan);
            let starting = Starting {
                plan: &plan,
                document: &document,
                typed: &Typed::Resumed(run.to_string()),
                journal: &journal,
                approval: approval(arguments.confirm.as_deref()),
                output: arguments.output,
                detail: arguments.detail,
                look: arguments.progress.look(),
                printed: &[],
                lost: &lost,
                cancel,
            };
            let (run, plan) = (run.clone(), &plan);
            starting
                .executed(async |execution| go_on(plan, run, &so_far, lock, execution).await)
                .await
        }
        .await;
        world.shutdown().await;
        outcome
    })
}

/// There is nothing to do, and that is no failure.
fn nothing(arguments: &Resume, run: Option<&RunId>, what: &str) -> ExitClass {
    match arguments.output {
        Output::Text => print(&format!("{what}\n")),
        Output::Json => print_json(&json!({
            "schema": "kbr.resume/1",
            "run": run,
            "resumed": false,
            "message": what,
        })),
    }
    ExitClass::Done
}

/// The run's plan with what is done of it, what is compared with the world first, and what is asked.
fn shown(record: &RunRecord, so_far: &SoFar, plan: &Plan, detail: bool) -> String {
    let style = Style::of_stdout();
    let view = PlanView::new(&record.plan, style, detail);
    let asked = unanswered(plan, so_far);
    let mut out = format!("run       {}   {}\n", record.summary.run, ended(record));
    out.push_str(&view.header());
    out.push('\n');
    let (mut done, mut begun, mut left) = (0, 0, 0);
    for (index, item) in record.plan.items.iter().enumerate() {
        let question = asked.iter().find(|section| section.before == index);
        match item {
            ItemDocument::Confirm { text, .. } => {
                let answered = if question.is_none() {
                    "confirmed"
                } else {
                    "confirm"
                };
                out.push_str(&view.ruler(&format!("{answered}: {text}")));
            }
            ItemDocument::Step(step) => {
                if let Some(gate) = question.and_then(|section| section.steps.first()) {
                    out.push_str(&view.gate_ruler(&gate.1, "asks first"));
                }
                let fate = record
                    .steps
                    .iter()
                    .find(|fate| fate.ordinal == step.ordinal);
                match so_far.state(step.ordinal) {
                    StateSoFar::Done(_) | StateSoFar::NoChange => {
                        done += 1;
                        let (mark, time) = mark(fate);
                        out.push_str(&view.step(step, mark, time.as_deref()));
                    }
                    StateSoFar::Begun => {
                        begun += 1;
                        out.push_str(&view.step(step, '?', Some("began, did not end")));
                        let failed = fate.map(|fate| below(fate, detail)).unwrap_or_default();
                        for line in failed {
                            out.push_str(&view.note(&line, Paint::Grey));
                        }
                        let text = "compared with what is there before it goes on";
                        out.push_str(&view.note(text, Paint::Yellow));
                    }
                    StateSoFar::NotBegun => {
                        left += 1;
                        out.push_str(&view.step(step, ' ', None));
                    }
                }
            }
        }
    }
    out.push_str(&format!(
        "\n  {done} done and left as is · {begun} began · {left} to do\n\n"
    ));
    harmless(&out)
}

fn ended(record: &RunRecord) -> String {
    match record.summary.end.as_str() {
        "unfinished" => "its process died".to_string(),
        end => match &record.message {
            Some(message) => format!("{end}: {message}"),
            None => end.to_string(),
        },
    }
}
