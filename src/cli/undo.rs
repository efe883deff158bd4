//! `kbr undo RUN`: a plan that takes a run's committed offsets back to where they were, shown, approved and executed like
//! any other.

use super::arguments::{Output, Undo};
use super::execution::{Starting, approval, look_through, opened_journal, witness, world_of};
use super::plan_view::{PlanView, Typed, quoted, what_next};
use super::report::Report;
use super::saved::save;
use super::show::kept_run;
use super::style::{Paint, Style, harmless, left, wrapped};
use super::{print, print_json, with_runtime};
use crate::base::text::counted;
use crate::base::{Selection, time};
use crate::dsl::{self, World};
use crate::run::{Config, ExitClass, Journal, NotUndone, PlanDocument, RunError, RunRecord};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// `kbr undo RUN`
pub fn undo(arguments: Undo) -> Result<ExitClass, Box<Report>> {
    let groups: Vec<&str> = arguments.groups.iter().map(String::as_str).collect();
    let groups = Selection::of(&groups)
        .map_err(|error| Report::usage("E0214", format!("--group: {error}")))?;
    let (kept, record) = match arguments.execute {
        true => {
            let journal = opened_journal()?;
            let record = journal.run(&arguments.run);
            (journal, record.map_err(|error| Report::from(&error))?)
        }
        false => {
            let (_, journal, record) = kept_run(&arguments.run)?;
            (journal, record)
        }
    };
    let run = record.summary.run.clone();
    look_through(&kept, Some(&run))?;
    // What still runs may move on what is about to be taken back.
    let lock = kept.lock_run(&run).map_err(|error| Report::from(&error))?;
    let Some(lock) = lock else {
        return Err(Box::new(Report::from(&RunError::StillRuns(run))));
    };
    let so_far = kept.so_far(&run).map_err(|error| Report::from(&error))?;
    let world = world(&kept, &record)?;
    let journal = arguments.execute.then_some(&kept);
    let result = with_runtime(async |cancel| {
        let world = Arc::new(world);
        let outcome = async {
            let undo = dsl::undo(&record, &groups, &world, time::now())
                .await
                .map_err(|error| Box::new(Report::from(&error)))?;
            let document = undo.plan.document();
            let silent = arguments.output == Output::Json;
            if document.items.is_empty() {
                return Ok(nothing(&arguments, &record, &undo));
            }
            if !silent {
                let mut view = PlanView::new(&document, Style::of_stdout(), arguments.detail);
                if journal.is_some() {
                    view.so_far = "nothing was changed so far";
                }
                print(&view.draw());
                print(&stays(&undo.left, undo.as_before, &Style::of_stdout()));
            }
            let mut words = run.to_string();
            for group in &arguments.groups {
                words.push_str(&format!(" --group {}", quoted(group)));
            }
            let typed = Typed::Undone(words);
            let Some(journal) = journal else {
                let typed = match &arguments.save {
                    Some(file) => {
                        save(&undo.plan, &document, file)?;
                        Typed::Saved(file.display().to_string())
                    }
                    None => typed,
                };
                match silent {
                    true => print_json(&with_left(&document, &record, &undo)),
                    false => print(&what_next(&document, &typed, &Style::of_stdout())),
                }
                return Ok(ExitClass::Done);
            };
            let lost = witness(journal, &world, &undo.plan);
            let starting = Starting {
                plan: &undo.plan,
                document: &document,
                typed: &typed,
                journal,
                approval: approval(arguments.confirm.as_deref()),
                output: arguments.output,
                detail: arguments.detail,
                look: arguments.progress.look(),
                printed: &[],
                lost: &lost,
                cancel,
            };
            starting.execute().await
        }
        .await;
        world.shutdown().await;
        outcome
    });
    if so_far.is_finished() {
        lock.remove();
    }
    result
}

/// The names that the run's clusters had.
fn world(journal: &Journal, record: &RunRecord) -> Result<World, Box<Report>> {
    match journal.saved_plan(&record.summary.run) {
        Ok(saved) => world_of(&saved),
        // An older kbr kept no plan; its clusters may still be known here.
        Err(_) => Config::find(Path::new("."))
            .map(World::real)
            .map_err(|error| Box::new(Report::from(&error))),
    }
}

fn with_left(document: &PlanDocument, record: &RunRecord, undo: &dsl::Undo) -> Value {
    let mut answer = json!(document);
    answer["undoes"] = json!(record.summary.run);
    answer["not_undone"] = json!(undo.left);
    answer["as_before"] = json!(undo.as_before);
    answer
}

/// What the undo leaves as it is.
fn stays(stays: &[NotUndone], as_before: usize, style: &Style) -> String {
    let mut lines: Vec<String> = stays
        .iter()
        .map(|one| format!("step {}, {}: {}", one.step, one.what, one.why))
        .collect();
    if as_before > 0 {
        let offsets = counted(as_before as i64, "committed offset");
        lines.push(format!("{offsets}: as before the run already"));
    }
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { "not undone" } else { "" };
        for (row, text) in wrapped(line, style.width.saturating_sub(12))
            .into_iter()
            .enumerate()
        {
            let label = if row == 0 { label } else { "" };
            let gap = if index == 0 && row == 0 { "\n" } else { "" };
            let label = style.paint(Paint::Grey, &left(label, 12));
            out.push_str(&format!("{gap}{label}{text}\n"));
        }
    }
    harmless(&out)
}

/// There is nothing to do, and that is no failure.
fn nothing(arguments: &Undo, record: &RunRecord, undo: &dsl::Undo) -> ExitClass {
    let run = &record.summary.run;
    let what = match undo.as_before {
        0 => format!("run {run} has moved no group: there is nothing to undo"),
        _ => format!("every group is where it was before run {run}: there is nothing to undo"),
    };
    match arguments.output {
        Output::Text => {
            print(&format!("{what}\n"));
            print(&stays(&undo.left, undo.as_before, &Style::of_stdout()));
        }
        Output::Json => print_json(&json!({
            "schema": "kbr.undo/1",
            "undoes": run,
            "message": what,
            "not_undone": undo.left,
            "as_before": undo.as_before,
        })),
    }
    ExitClass::Done
}
