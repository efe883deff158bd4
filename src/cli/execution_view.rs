//! An execution as a person follows it: a bar while a step runs, its line with mark and time once it is done,
//! the question at a gate, and the last lines.

use super::plan_view::PlanView;
use super::progress_view::{Look, Working};
use super::style::{Paint, Style, harmless, width, wrapped};
use crate::base::time::format_duration_ms;
use crate::base::{NoProgress, ProgressHandle};
use crate::run::{
    Answer, Approval, Approver, ExitClass, GateSection, PlanDocument, PlannedStep, Question,
    RunEnd, RunReport, StepDocument, StepKind, StepResult, StepState, Total, Watcher,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a gate's word may be typed.
const ATTEMPTS: usize = 3;

/// Draws an execution. Finished steps go to `out`, everything that moves to standard error.
pub struct ExecutionView<'a> {
    plan: &'a PlanDocument,
    out_style: Style,
    error_style: Style,
    detail: bool,
    /// `--output json`: nothing on standard output but the document at the end.
    silent: bool,
    look: Look,
    working: Mutex<Option<Working>>,
    /// Several steps are under way.
    beside: AtomicBool,
}

impl<'a> ExecutionView<'a> {
    pub fn new(plan: &'a PlanDocument, detail: bool, silent: bool, look: Look) -> Self {
        Self {
            plan,
            out_style: Style::of_stdout(),
            error_style: Style::of_stderr(),
            detail,
            silent,
            look,
            working: Mutex::new(None),
            beside: AtomicBool::new(false),
        }
    }

    fn working(&self) -> MutexGuard<'_, Option<Working>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn document(&self, ordinal: u32) -> Option<&StepDocument> {
        self.plan.steps().find(|step| step.ordinal == ordinal)
    }

    /// Prints to standard output between two states of the bar.
    fn print(&self, text: &str) {
        if self.silent {
            return;
        }
        let text = harmless(text);
        let working = self.working();
        match working.as_ref() {
            Some(working) => working.aside(|| super::print(&text)),
            None => super::print(&text),
        }
    }

    /// The gate's ruler and the steps it covers.
    fn section(&self, section: &GateSection, style: Style) -> String {
        let view = PlanView::new(self.plan, style, false);
        let first = section.steps.first().map(|(_, gate)| gate);
        let mut out = match (&section.text, first) {
            (Some(text), _) => view.ruler(&format!("confirm: {text}")),
            (None, Some(gate)) => view.gate_ruler(gate, "confirm"),
            (None, None) => view.ruler("confirm: go on?"),
        };
        let paint = match first {
            Some(gate) if gate.alone => Paint::Red,
            _ => Paint::Plain,
        };
        let mut notes: Vec<&str> = Vec::new();
        for (planned, gate) in &section.steps {
            if let Some(step) = self.document(planned.ordinal) {
                out.push_str(&view.gate_lines(step.kind, step, gate));
            }
            for note in &gate.notes {
                if !notes.contains(&note.as_str()) {
                    notes.push(note);
                }
            }
        }
        for note in notes {
            for line in wrapped(note, style.width - 8) {
                out.push_str(&format!("        {}\n", style.paint(paint, &line)));
            }
        }
        out
    }

    /// Whether it has moved committed offsets, which the journal can put back.
    fn can_be_undone(&self, report: &RunReport) -> bool {
        let done =
            |step: &StepResult| matches!(step.state, StepState::Done(_) | StepState::DoneBefore(_));
        let done = report.steps.iter().filter(|step| done(step));
        done.filter_map(|step| self.document(step.ordinal))
            .any(moves_groups)
    }

    /// The line after the last step.
    pub fn conclusion(&self, report: &RunReport, with_journal: bool) -> String {
        let style = self.out_style;
        let done = report
            .steps
            .iter()
            .filter(|step| step.state.is_done())
            .count();
        let time = format_duration_ms(report.elapsed.as_millis() as i64);
        let steps = crate::base::text::counted(done as i128, "step");
        let mark = match report.end {
            RunEnd::Done => style.paint(Paint::Green, "✓"),
            RunEnd::Incomplete => style.paint(Paint::Yellow, "!"),
            _ => style.paint(Paint::Red, "✗"),
        };
        let head = match &report.end {
            RunEnd::Done => format!("{steps} in {time}"),
            RunEnd::Incomplete => format!("{steps} in {time}, incomplete"),
            RunEnd::Damaged => format!("{steps} in {time}, damage found"),
            RunEnd::Failed { ordinal: 0, .. } => {
                format!("{steps} in {time}, then the journal failed")
            }
            RunEnd::Failed { ordinal, .. } => format!("stopped at step {ordinal} after {time}"),
            RunEnd::Refused { .. } => format!("not confirmed: stopped after {steps}"),
            RunEnd::Interrupted => format!("interrupted after {time}, {steps} done"),
        };
        let mut parts = vec![head];
        if with_journal {
            parts.push(format!("run {}", report.run));
        }
        let totals: Vec<String> = report.totals.iter().map(Total::text).collect();
        let totals = totals.join(", ");
        let line = parts.join("    ");
        let mut out = match width(&line) + 6 + width(&totals) <= style.width {
            true => format!("\n{mark} {}\n", format!("{line}    {totals}").trim_end()),
            false => {
                let mut out = format!("\n{mark} {line}\n");
                for more in wrapped(&totals, style.width - 2) {
                    out.push_str(&format!("  {more}\n"));
                }
                out
            }
        };
        out.push_str(&fate(report));
        let labelled = [
            ("damaged", Paint::Red, &report.damaged),
            ("incomplete", Paint::Yellow, &report.incomplete),
        ];
        for (label, paint, sentences) in labelled {
            for sentence in sentences {
                for (index, line) in wrapped(sentence, style.width - 16).into_iter().enumerate() {
                    let label = if index == 0 { label } else { "" };
                    let label = style.paint(paint, &super::style::left(label, 12));
                    out.push_str(&format!("  {label}{line}\n"));
                }
            }
        }
        for (topic, configs) in set_aside(report) {
            let text = format!(
                "{} of {topic}, until the run goes on; kbr show {} tells what was there",
                configs.join(", "),
                report.run
            );
            for (index, line) in wrapped(&text, style.width - 16).into_iter().enumerate() {
                let label = if index == 0 { "set aside" } else { "" };
                let label = style.paint(Paint::Yellow, &super::style::left(label, 12));
                out.push_str(&format!("  {label}{line}\n"));
            }
        }
        if with_journal {
            if can_go_on(report) {
                out.push_str(&format!("  go on: kbr resume {}\n", report.run));
            }
            if self.can_be_undone(report) {
                out.push_str(&format!("  undo: kbr undo {}\n", report.run));
            }
            out.push_str(&format!("  report: kbr show {}\n", report.run));
        }
        harmless(&out)
    }
}

/// Whether what it does to committed offsets can be taken back.
fn moves_groups(step: &StepDocument) -> bool {
    step.kind == StepKind::Reset || !step.pinned["deletes"].is_null()
}

/// The configs that a run which ended early has set aside and not put back, by topic.
fn set_aside(report: &RunReport) -> BTreeMap<String, Vec<String>> {
    let mut aside: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in &report.steps {
        let (StepState::Done(outcome) | StepState::DoneBefore(outcome)) = &step.state else {
            continue;
        };
        let value = &outcome.value;
        let Some(topic) = value["topic"].as_str() else {
            continue;
        };
        if let Some(set) = value["set_aside"].as_object() {
            aside.insert(topic.to_string(), set.keys().cloned().collect());
        }
        if value["put_back"] == true {
            aside.remove(topic);
        }
    }
    aside
}

/// Whether resuming the run is the way on: it did not come to its end, and something of it was done.
fn can_go_on(report: &RunReport) -> bool {
    let ended = matches!(
        report.end,
        RunEnd::Done | RunEnd::Incomplete | RunEnd::Damaged
    );
    let began = report.steps.iter().any(|step| match &step.state {
        StepState::Failed(error) => error.exit != Some(ExitClass::Drift),
        state => state.is_done(),
    });
    !ended && began
}

/// What a run that ended early has done and not done.
fn fate(report: &RunReport) -> String {
    if matches!(
        report.end,
        RunEnd::Done | RunEnd::Incomplete | RunEnd::Damaged
    ) {
        return String::new();
    }
    let of = |wanted: &str| -> Vec<u32> {
        report
            .steps
            .iter()
            .filter(|step| step.state.word() == wanted)
            .map(|step| step.ordinal)
            .collect()
    };
    let mut done = of("done");
    done.extend(of("no_change"));
    done.sort_unstable();
    let (failed, not_run) = (of("failed"), of("not_run"));
    let mut parts = Vec::new();
    if !done.is_empty() {
        parts.push(format!("done and left as is: {}", ranges(&done)));
    }
    if !failed.is_empty() {
        let word = match report.end {
            RunEnd::Interrupted => "stopped on the way",
            _ => "failed",
        };
        parts.push(format!("{word}: {}", ranges(&failed)));
    }
    if !not_run.is_empty() {
        parts.push(format!("did not run: {}", ranges(&not_run)));
    }
    let nothing = done.is_empty() && failed.is_empty();
    let tail = if nothing { "; nothing was changed" } else { "" };
    format!("  steps {}{tail}\n", parts.join("; "))
}

/// `1–5, 7`.
fn ranges(ordinals: &[u32]) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut index = 0;
    while index < ordinals.len() {
        let first = ordinals[index];
        let mut last = first;
        while index + 1 < ordinals.len() && ordinals[index + 1] == last + 1 {
            index += 1;
            last = ordinals[index];
        }
        out.push(match last - first {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first}–{last}"),
        });
        index += 1;
    }
    out.join(", ")
}

impl Watcher for ExecutionView<'_> {
    fn step_started(&self, step: &PlannedStep) -> ProgressHandle {
        let Some(document) = self.document(step.ordinal) else {
            return NoProgress::handle();
        };
        let head = format!(
            "{:>3}  {:<6}   {}",
            step.ordinal,
            document.kind.word(),
            document.view.target()
        );
        let working = Working::start(self.look, &head);
        let progress = working.progress().clone();
        *self.working() = Some(working);
        progress
    }

    fn steps_started(&self, steps: &[&PlannedStep]) -> ProgressHandle {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            return NoProgress::handle();
        };
        let ordinals = format!("{}–{}", first.ordinal, last.ordinal);
        let head = format!("{ordinals:>3}  {:<6}", first.step.kind().word());
        let working = Working::start(self.look, &head);
        let progress = working.progress().clone();
        *self.working() = Some(working);
        self.beside.store(true, Ordering::Relaxed);
        progress
    }

    fn steps_ended(&self) {
        self.beside.store(false, Ordering::Relaxed);
        self.working().take();
    }

    fn step_ended(&self, step: &PlannedStep, result: &StepResult) {
        // Dropping it takes the bars away. Those of several steps stay until all of them have ended.
        if !self.beside.load(Ordering::Relaxed) {
            self.working().take();
        }
        let Some(document) = self.document(step.ordinal) else {
            return;
        };
        let mark = match result.state {
            StepState::Done(_) | StepState::DoneBefore(_) => '✓',
            StepState::NoChange => '=',
            StepState::Failed(_) => '✗',
            StepState::NotRun => ' ',
        };
        let time = format_duration_ms(result.elapsed.as_millis() as i64);
        let mut view = PlanView::new(self.plan, self.out_style, self.detail);
        view.notes = false;
        let mut text = view.step(document, mark, Some(&time));
        if let StepState::Done(outcome) = &result.state {
            for line in &outcome.lines {
                for line in wrapped(line, self.out_style.width - super::columns::INDENT) {
                    text.push_str(&format!("{}{line}\n", " ".repeat(super::columns::INDENT)));
                }
            }
        }
        self.print(&text);
    }

    fn gate_passed(&self, section: &GateSection, how: &Approval) {
        let how = match how {
            Approval::Rehearsal => "a rehearsal confirms by itself; for real it asks here",
            _ => "confirmed by the plan's digest",
        };
        let mut text = self.section(section, self.out_style);
        text.push_str(&format!(
            "        {}\n",
            self.out_style.paint(Paint::Grey, how)
        ));
        self.print(&text);
    }
}

#[async_trait::async_trait]
impl Approver for ExecutionView<'_> {
    async fn ask(&self, question: &Question<'_>) -> Answer {
        let mut text = self.section(question.section, self.error_style);
        let guarded = question.section.steps.iter();
        if guarded
            .filter_map(|(planned, _)| self.document(planned.ordinal))
            .any(moves_groups)
        {
            text.push_str(&format!(
                "        Undo later with: kbr undo {}\n",
                question.run
            ));
        }
        let what = match question.section.steps.len() {
            0 => "Type yes".to_string(),
            _ if question.section.steps.iter().any(|(_, gate)| gate.alone) => {
                format!("Type {}", question.word)
            }
            _ if question.word.contains(' ') => {
                format!("Type the clusters' names ({})", question.word)
            }
            _ => format!("Type the cluster's name ({})", question.word),
        };
        text.push_str(&format!("        {what} to go on: "));
        let mut error = std::io::stderr();
        // Without a terminal to write to there is nobody to answer either.
        let _ = error.write_all(harmless(&text).as_bytes());
        let _ = error.flush();
        let mut attempt = 1;
        loop {
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map(|_| line)
            })
            .await;
            let typed = match line {
                Ok(Ok(line)) => line.trim().to_string(),
                _ => String::new(),
            };
            if typed == question.word {
                return Answer::Yes;
            }
            // A slip of the finger must not throw away the hours of work before the gate; an empty line stops.
            if typed.is_empty() || attempt == ATTEMPTS {
                return Answer::No(typed);
            }
            attempt += 1;
            let again = format!(
                "        That is not it. Type {} to go on, or nothing to stop: ",
                question.word
            );
            let _ = error.write_all(harmless(&again).as_bytes());
            let _ = error.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_told_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1–3, 5, 7, 8");
        assert_eq!(ranges(&[]), "");
    }
}
