//! `kbr history` and `kbr show`: what the journal knows.

use super::arguments::{History, Output, Show};
use super::columns::{INDENT, table};
use super::plan_view::PlanView;
use super::report::Report;
use super::style::{Paint, Style, harmless, wrapped};
use super::{print, print_json, tell};
use crate::base::time::{format_duration_ms, format_instant};
use crate::run::{
    ChainBreak, ExitClass, ItemDocument, Journal, JournalError, JournalledStep, RunRecord, Total,
    journal_path,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// `kbr history`
pub fn history(arguments: History) -> Result<ExitClass, Box<Report>> {
    let path = journal_path(|name| std::env::var_os(name)).map_err(|error| Report::from(&error))?;
    let journal = Journal::open_existing(&path).map_err(|error| Report::from(&error))?;
    let (runs, broken) = match &journal {
        None => (Vec::new(), None),
        Some(journal) => (
            journal
                .runs(arguments.limit)
                .map_err(|error| Report::from(&error))?,
            journal.verify().map_err(|error| Report::from(&error))?,
        ),
    };
    match arguments.output {
        Output::Json => print_json(&json!({
            "schema": "kbr.history/1",
            "journal": path.display().to_string(),
            "runs": runs,
            "broken": broken,
        })),
        Output::Text if runs.is_empty() => print("nothing was executed from here yet\n"),
        Output::Text => {
            let columns = ["run", "began", "runbook", "plan", "steps", "end"].map(String::from);
            let rows: Vec<Vec<String>> = runs
                .iter()
                .map(|run| {
                    vec![
                        run.run.to_string(),
                        format_instant(run.started)[..19].replace('T', " "),
                        run.runbook.clone(),
                        run.plan.short(),
                        format!("{} of {}", run.done, run.steps),
                        match run.attempts {
                            0 | 1 => run.end.clone(),
                            _ => format!("{}, resumed", run.end),
                        },
                    ]
                })
                .collect();
            for line in table(&columns, &rows) {
                print(&format!("{}\n", harmless(&line)));
            }
        }
    }
    Ok(told(&path, broken, arguments.output))
}

/// `kbr show RUN`
pub fn show(arguments: Show) -> Result<ExitClass, Box<Report>> {
    let (path, journal, record) = kept_run(&arguments.run)?;
    let broken = journal.verify().map_err(|error| Report::from(&error))?;
    match arguments.output {
        Output::Json => print_json(&json!({
            "schema": "kbr.show/1",
            "run": record,
            "broken": broken,
        })),
        Output::Text => print(&draw(&record, Style::of_stdout(), arguments.detail)),
    }
    Ok(told(&path, broken, arguments.output))
}

/// The journal, where it lies, and what it keeps of a run.
pub(super) fn kept_run(run: &str) -> Result<(PathBuf, Journal, RunRecord), Box<Report>> {
    let path = journal_path(|name| std::env::var_os(name)).map_err(|error| Report::from(&error))?;
    let journal = Journal::open_existing(&path)
        .and_then(|journal| {
            journal.ok_or(JournalError::NoSuchRun {
                path: path.display().to_string(),
                run: run.to_string(),
                nearest: None,
            })
        })
        .map_err(|error| Report::from(&error))?;
    let record = journal.run(run).map_err(|error| Report::from(&error))?;
    Ok((path, journal, record))
}

/// A broken chain ends reading commands with the status of damage.
fn told(path: &Path, broken: Option<ChainBreak>, output: Output) -> ExitClass {
    match broken {
        None => ExitClass::Done,
        Some(broken) => {
            if output == Output::Text {
                tell(&broken_chain(path, &broken, false), Output::Text);
            }
            ExitClass::Damaged
        }
    }
}

/// The report on a journal that was changed behind kbr's back.
pub fn broken_chain(path: &Path, broken: &ChainBreak, warning: bool) -> Report {
    Report {
        warning,
        ..Report::new(
            "E0603",
            ExitClass::Damaged,
            format!("the journal {} was changed outside kbr", path.display()),
        )
    }
    .fact("entry", format!("{}: {}", broken.entry, broken.why))
    .now("keep a copy of it; to begin a new one, move it away")
}

fn draw(record: &RunRecord, style: Style, detail: bool) -> String {
    let view = PlanView::new(&record.plan, style, detail);
    let summary = &record.summary;
    let mut out = format!(
        "run       {}   {}, {} of {} steps\n",
        summary.run, summary.end, summary.done, summary.steps
    );
    let ended = match summary.ended {
        Some(ended) => format!("took {}", format_duration_ms(ended.0 - summary.started.0)),
        None => "never ended: the process died, or is still at it".to_string(),
    };
    out.push_str(&format!(
        "began     {}   {ended}\n",
        format_instant(summary.started)
    ));
    for resumed in &record.resumed {
        out.push_str(&format!("resumed   {resumed}\n"));
    }
    out.push_str(&format!(
        "plan      {}   approved: {}\n",
        summary.plan.short(),
        match record.approval.as_str() {
            "nobody" => "no gate, nobody asked",
            other => other,
        }
    ));
    out.push_str(&view.header());
    out.push('\n');
    for item in &record.plan.items {
        match item {
            ItemDocument::Confirm { text, .. } => {
                out.push_str(&view.ruler(&format!("confirm: {text}")));
            }
            ItemDocument::Step(step) => {
                let fate = record
                    .steps
                    .iter()
                    .find(|fate| fate.ordinal == step.ordinal);
                let (mark, time) = mark(fate);
                out.push_str(&view.step(step, mark, time.as_deref()));
                for line in fate.map(|fate| below(fate, detail)).unwrap_or_default() {
                    for line in wrapped(&line, style.width - INDENT) {
                        out.push_str(&format!("{}{line}\n", " ".repeat(INDENT)));
                    }
                }
            }
        }
    }
    if let Some(message) = &record.message {
        out.push_str(&format!("\n{} {message}\n", style.paint(Paint::Red, "✗")));
    }
    harmless(&out)
}

/// The mark and the time of a step by its fate.
pub fn mark(fate: Option<&JournalledStep>) -> (char, Option<String>) {
    let Some(fate) = fate else {
        return (' ', None);
    };
    let time = fate.elapsed_ms.map(|ms| format_duration_ms(ms as i64));
    match fate.state.as_str() {
        "done" => ('✓', time),
        "no_change" => ('=', time),
        "failed" => ('✗', time),
        "intended" => ('?', Some("began, never ended".into())),
        _ => (' ', Some("did not run".into())),
    }
}

/// What stands below it.
pub fn below(fate: &JournalledStep, detail: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(outcome) = &fate.outcome {
        lines.extend(outcome.lines.iter().cloned());
        let damaged = outcome.damaged.iter();
        lines.extend(damaged.map(|what| format!("damaged: {what}")));
        lines.extend(
            outcome
                .incomplete
                .iter()
                .map(|what| format!("incomplete: {what}")),
        );
        let totals: Vec<String> = outcome.totals.iter().map(Total::text).collect();
        if !totals.is_empty() {
            lines.push(totals.join(", "));
        }
    }
    lines.extend(fate.error.clone());
    if detail && !fate.old_values.is_null() {
        lines.push(format!("before: {}", fate.old_values));
    }
    lines
}
