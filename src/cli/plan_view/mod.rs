//! A plan as a person reads it: what will change, what will not, what stands in the way, what to type next.

use super::columns::{self, Columns, INDENT};
use super::style::{Paint, Style, harmless, left, right, width, wrapped};
use super::subcommand;
use crate::base::size::format_bytes;
use crate::base::time::format_duration_ms;
use crate::dsl::{Declared, declared};
use crate::run::{Gate, ItemDocument, PlanDocument, StepDocument, StepKind, StepStatus};

/// From here on a plan says about how long it will take.
const WORTH_TELLING_MS: u64 = 3_000;
/// How many blocked reasons are spelt out below the plan.
const BLOCKED_SHOWN: usize = 10;

/// Draws a plan.
pub struct PlanView<'a> {
    pub plan: &'a PlanDocument,
    pub style: Style,
    pub detail: bool,
    /// Whether the notes below a step are drawn; an execution has shown them with the plan.
    pub notes: bool,
    /// What the summary ends with.
    pub so_far: &'static str,
    /// What is said to do about a block, in words of the command that was typed.
    pub hint: &'a dyn Fn(&str) -> String,
    columns: Columns,
}

impl<'a> PlanView<'a> {
    pub fn new(plan: &'a PlanDocument, style: Style, detail: bool) -> Self {
        let lines = plan
            .steps()
            .flat_map(|step| step.view.lines.iter().map(|line| (step.kind, line)))
            .collect::<Vec<_>>();
        Self {
            plan,
            style,
            detail,
            notes: true,
            so_far: "nothing was changed",
            hint: &|hint| hint.to_string(),
            columns: Columns::of(&lines),
        }
    }

    /// Everything: header, steps, summary, what is blocked. Ends with a line break.
    pub fn draw(&self) -> String {
        let mut out = self.header();
        out.push('\n');
        out.push_str(&self.items());
        out.push('\n');
        out.push_str(&self.summary());
        out.push_str(&self.blocked());
        harmless(&out)
    }

    pub fn header(&self) -> String {
        let plan = self.plan;
        let mut rows = vec![(
            "runbook",
            format!(
                "{} ({})",
                plan.runbook.name,
                &plan.runbook.digest.hex()[..7]
            ),
            String::new(),
        )];
        if !plan.arguments.is_empty() {
            rows.push(("arguments", runbook_arguments(plan), String::new()));
        }
        for archive in &plan.archives {
            rows.push(("archive", archive.url.clone(), archive.description.clone()));
        }
        let names = plan.clusters.iter().map(|fact| width(&fact.name)).max();
        for cluster in &plan.clusters {
            let id: String = cluster.id.chars().take(8).collect();
            rows.push((
                "cluster",
                left(&cluster.name, names.unwrap_or(0)),
                match plan.rehearsal {
                    true => cluster.description.clone(),
                    false => format!("{}, id {id}", cluster.description),
                },
            ));
        }
        let mut out = String::new();
        for (label, what, more) in rows {
            let label = self.style.paint(Paint::Grey, &left(label, 10));
            if more.is_empty() || 10 + width(&what) + 2 + width(&more) <= self.style.width {
                out.push_str(&format!(
                    "{label}{}\n",
                    format!("{what}  {more}").trim_end()
                ));
            } else {
                out.push_str(&format!("{label}{}\n", what.trim_end()));
                if !more.is_empty() {
                    out.push_str(&format!("{}{more}\n", " ".repeat(12)));
                }
            }
        }
        if plan.rehearsal {
            let label = self.style.paint(Paint::Grey, &left("rehearsal", 10));
            out.push_str(&format!(
                "{label}every cluster and store is a stand-in inside this process\n"
            ));
        }
        out
    }

    fn items(&self) -> String {
        let mut out = String::new();
        let mut confirmed = false;
        for item in &self.plan.items {
            match item {
                ItemDocument::Confirm { text, .. } => {
                    confirmed = true;
                    out.push_str(&self.ruler(&format!("confirm: {text}")));
                }
                ItemDocument::Step(step) => {
                    if let (Some(gate), StepStatus::Change) = (&step.gate, step.status)
                        && (gate.alone || !confirmed)
                    {
                        out.push_str(&self.gate_ruler(gate, "asks first"));
                    }
                    out.push_str(&self.step(step, ' ', None));
                }
            }
        }
        if let Some(stopped) = &self.plan.stopped {
            let place = stopped
                .span
                .map_or(String::new(), |span| format!(" (line {})", span.line));
            out.push_str(&self.ruler(&format!("not reached: the rest of the runbook{place}")));
            out.push_str(&self.indented(&stopped.why, Paint::Yellow));
        }
        if self.plan.items.is_empty() && self.plan.stopped.is_none() {
            out.push_str("  nothing to do: the runbook adds no step\n");
        }
        out
    }

    /// `     ── confirm: Move 2 groups on dr? ─────────…`
    pub fn ruler(&self, text: &str) -> String {
        self.ruled(text, Paint::Bold)
    }

    fn ruled(&self, text: &str, paint: Paint) -> String {
        let text = text.lines().next().unwrap_or("");
        let head = format!("     ── {text} ");
        let rest = self.style.width.saturating_sub(width(&head)).max(2);
        let line = format!("{head}{}", "─".repeat(rest));
        format!("{}\n", self.style.paint(paint, &line))
    }

    /// The same above a gated step; in red for one that is asked alone.
    pub fn gate_ruler(&self, gate: &Gate, word: &str) -> String {
        let text = format!("{word}: {}", gate.reason);
        match gate.alone {
            true => self.ruled(&text, Paint::Red),
            false => self.ruler(&text),
        }
    }

    /// One step with its notes. `mark` stands before the ordinal; `time` ends the first line.
    pub fn step(&self, step: &StepDocument, mark: char, time: Option<&str>) -> String {
        let paint = match step.status {
            StepStatus::Blocked => Paint::Red,
            StepStatus::NoChange => Paint::Grey,
            StepStatus::Change => paint_of(step.kind),
        };
        let mut out = String::new();
        let mut ordinal = format!("{mark}{:>2}", step.ordinal);
        let mut kind = step.kind.word();
        // What the first line has no room for stands at the end.
        let mut late = None;
        for line in &step.view.lines {
            let suffix = match (step.status, kind.is_empty()) {
                (StepStatus::NoChange, false) => Some("no change".to_string()),
                (_, false) => time.map(str::to_string),
                _ => None,
            };
            let reserve = suffix.as_ref().map_or(0, |suffix| width(suffix) + 2);
            let drawn = self.columns.draw(step.kind, line, &self.style, reserve);
            let mut drawn = drawn.into_iter();
            let first = drawn.next().unwrap_or_default();
            let head = format!("{ordinal}  {}   ", self.style.paint(paint, &left(kind, 6)));
            let body = match step.status {
                StepStatus::NoChange => self.style.paint(Paint::Grey, &first),
                _ => first.clone(),
            };
            out.push_str(&head);
            out.push_str(&body);
            if let Some(suffix) = suffix {
                let used = INDENT + width(&first) + width(&suffix);
                if used + 2 <= self.style.width {
                    out.push_str(&" ".repeat(self.style.width - used));
                    out.push_str(&self.style.paint(Paint::Grey, &suffix));
                } else {
                    late = Some(suffix);
                }
            }
            out.push('\n');
            for more in drawn {
                out.push_str(&format!("{}{more}\n", " ".repeat(INDENT)));
            }
            for note in line.notes.iter().filter(|_| self.notes) {
                out.push_str(&self.indented(note, Paint::Grey));
            }
            for danger in line.dangers.iter().filter(|_| self.notes) {
                out.push_str(&self.indented(danger, Paint::Red));
            }
            for blocked in &line.blocked {
                out.push_str(&self.in_the_way(blocked));
            }
            if let (true, Some(detail)) = (self.detail, &line.detail) {
                for row in columns::detail(detail) {
                    out.push_str(&format!("{}{row}\n", " ".repeat(INDENT)));
                }
            }
            (ordinal, kind) = ("   ".to_string(), "");
        }
        if let Some(suffix) = late {
            let line = right(&suffix, self.style.width);
            out.push_str(&format!("{}\n", self.style.paint(Paint::Grey, &line)));
        }
        let told = step.view.lines.iter().any(|line| !line.blocked.is_empty());
        if step.status == StepStatus::Blocked && !told {
            for blocked in step.blocked.iter().take(BLOCKED_SHOWN) {
                out.push_str(&self.in_the_way(&blocked.what));
            }
        }
        out
    }

    /// A note below a step that the step itself does not have.
    pub fn note(&self, text: &str, paint: Paint) -> String {
        self.indented(text, paint)
    }

    /// A note below a step: indented, broken between words.
    fn indented(&self, text: &str, paint: Paint) -> String {
        wrapped(text, self.style.width.saturating_sub(INDENT))
            .into_iter()
            .map(|line| format!("{}{}\n", " ".repeat(INDENT), self.style.paint(paint, &line)))
            .collect()
    }

    /// A note that ends with the word `blocked`, which is never torn from what it is about.
    fn in_the_way(&self, text: &str) -> String {
        let room = self.style.width.saturating_sub(INDENT);
        let mut lines = wrapped(text, room);
        match lines.last_mut() {
            Some(last) if width(last) + 10 <= room => last.push_str("   blocked"),
            _ => lines.push("blocked".into()),
        }
        lines
            .into_iter()
            .map(|line| {
                let line = self.style.paint(Paint::Red, &line);
                format!("{}{line}\n", " ".repeat(INDENT))
            })
            .collect()
    }

    fn summary(&self) -> String {
        let summary = &self.plan.summary;
        let mut parts = Vec::new();
        if !summary.kinds.is_empty() {
            parts.push(summary.kinds.join(", "));
        }
        if summary.no_change > 0 {
            parts.push(format!("{} no change", summary.no_change));
        }
        if summary.blocked > 0 {
            parts.push(format!("{} blocked", summary.blocked));
        }
        if self.plan.stopped.is_some() {
            parts.push("the rest not reached".into());
        }
        if summary.bytes > 0 {
            parts.push(format!("{} to write", format_bytes(summary.bytes)));
        }
        // Less than a few seconds is not worth a word.
        if summary.takes_ms >= WORTH_TELLING_MS {
            let seconds = i64::try_from(summary.takes_ms.div_ceil(1000)).unwrap_or(i64::MAX / 1000);
            let about = match seconds {
                0..60 => format!("{seconds} s"),
                _ => format_duration_ms(seconds * 1000),
            };
            parts.push(format!("about {about}"));
        }
        parts.push(self.so_far.into());
        // Broken between the parts, never inside one.
        let mut lines: Vec<String> = Vec::new();
        for part in parts {
            match lines.last_mut() {
                Some(line) if width(line) + 3 + width(&part) <= self.style.width - 2 => {
                    line.push_str(" · ");
                    line.push_str(&part);
                }
                _ => lines.push(part),
            }
        }
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }

    fn blocked(&self) -> String {
        let blocked: Vec<(u32, &crate::run::Blocked)> = self
            .plan
            .steps()
            .flat_map(|step| step.blocked.iter().map(|blocked| (step.ordinal, blocked)))
            .collect();
        let mut out = String::new();
        for (index, (ordinal, blocked)) in blocked.iter().take(BLOCKED_SHOWN).enumerate() {
            let label = match index {
                0 => format!("\n{}", self.style.paint(Paint::Red, &left("blocked", 10))),
                _ => " ".repeat(10),
            };
            let what = format!("step {ordinal}: {}", blocked.what);
            out.push_str(&hanging(&label, &what, self.style.width));
            if let Some(hint) = &blocked.hint {
                out.push_str(&hanging(
                    &" ".repeat(10),
                    &(self.hint)(hint),
                    self.style.width,
                ));
            }
        }
        if blocked.len() > BLOCKED_SHOWN {
            let more = blocked.len() - BLOCKED_SHOWN;
            out.push_str(&format!("{}and {more} more\n", " ".repeat(10)));
        }
        out
    }

    /// What a question shows for its gated steps.
    pub fn gate_lines(&self, kind: StepKind, step: &StepDocument, gate: &Gate) -> String {
        let lines = match gate.lines.is_empty() {
            true => &step.view.lines,
            false => &gate.lines,
        };
        let columns = Columns::of(&lines.iter().map(|line| (kind, line)).collect::<Vec<_>>());
        let mut out = String::new();
        for line in lines {
            for (index, drawn) in columns.draw(kind, line, &self.style, 0).iter().enumerate() {
                let indent = if index == 0 { 8 } else { 10 };
                out.push_str(&format!("{}{drawn}\n", " ".repeat(indent)));
            }
        }
        out
    }
}

/// Text after a label of ten columns, broken between words.
fn hanging(label: &str, text: &str, columns: usize) -> String {
    wrapped(text, columns.saturating_sub(10))
        .into_iter()
        .enumerate()
        .map(|(index, line)| match index {
            0 => format!("{label}{line}\n"),
            _ => format!("{}{line}\n", " ".repeat(10)),
        })
        .collect()
}

fn paint_of(kind: StepKind) -> Paint {
    match kind {
        StepKind::Create | StepKind::Backup => Paint::Green,
        StepKind::Update | StepKind::Write | StepKind::Reset => Paint::Yellow,
        StepKind::Delete => Paint::Red,
        StepKind::Verify | StepKind::Check => Paint::Plain,
    }
}

/// `--at 2026-11-20T10:00:00Z`, as it can be typed again.
pub fn runbook_arguments(plan: &PlanDocument) -> String {
    named(plan.arguments.iter()).join(" ")
}

fn named<'a>(arguments: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    arguments
        .map(|(name, value)| {
            let name = name.replace('_', "-");
            match value.as_str() {
                "true" => format!("--{name}"),
                value if value.starts_with("--") => format!("--{name}={}", quoted(value)),
                value => format!("--{name} {}", quoted(value)),
            }
        })
        .collect()
}

/// A script's words as a person types them: those that have a place first, the others by name.
fn script_words(name: &str, plan: &PlanDocument) -> Vec<String> {
    let declared = subcommand::source(name).map(|source| declared(&source));
    let declared = declared.unwrap_or_default();
    let left_out = |one: &Declared| {
        let mut others = declared.iter();
        others.any(|other| {
            other.instead_of.as_ref() == Some(&one.name) && plan.arguments.contains_key(&other.name)
        })
    };
    let mut places: Vec<&Declared> = declared
        .iter()
        .filter(|one| one.position.is_some() && !left_out(one))
        .collect();
    places.sort_by_key(|place| place.position);
    let bare: Vec<(&String, &String)> = places
        .into_iter()
        // Of several words in one place nobody can tell any more where they were apart.
        .take_while(|place| !place.rest)
        .map_while(|place| plan.arguments.get_key_value(&place.name))
        .take_while(|(_, value)| !value.is_empty() && !value.starts_with('-'))
        .collect();
    let others = plan.arguments.iter().filter(|one| !bare.contains(one));
    let words = bare.iter().map(|(_, value)| quoted(value));
    words.chain(named(others)).collect()
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// How a runbook was named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// `kbr run FILE`
    File(String),
    /// `kbr NAME`
    Script(String),
    /// `kbr apply PLAN`
    Saved(String),
    /// `kbr resume RUN`
    Resumed(String),
    /// `kbr undo RUN`, with the groups that were chosen
    Undone(String),
}

impl From<&str> for Typed {
    fn from(file: &str) -> Self {
        Self::File(file.to_string())
    }
}

impl Typed {
    /// The command with these options and the plan's own arguments.
    pub fn command(&self, options: &str, plan: &PlanDocument) -> String {
        let (mut command, separator) = match self {
            Self::File(file) => (format!("kbr run {}{options}", quoted(file)), " --"),
            Self::Script(name) => {
                let words = script_words(name, plan).into_iter();
                let words = words.map(|word| format!(" {word}"));
                return format!("kbr {name}{}{options}", words.collect::<String>());
            }
            // The arguments are in the plan.
            Self::Saved(file) => return format!("kbr apply {}{options}", quoted(file)),
            Self::Resumed(run) => return format!("kbr resume {run}{options}"),
            Self::Undone(words) => return format!("kbr undo {words}{options}"),
        };
        if !plan.arguments.is_empty() {
            command.push_str(&format!("{separator} {}", runbook_arguments(plan)));
        }
        command
    }
}

/// The exact command that executes this plan.
pub fn command_to_execute(plan: &PlanDocument, typed: &Typed) -> String {
    let mut options = match typed {
        Typed::Resumed(_) => String::new(),
        _ => " --execute".to_string(),
    };
    if plan.now_read && matches!(typed, Typed::File(_) | Typed::Script(_)) {
        options.push_str(&format!(" --now {}", plan.now));
    }
    options.push_str(&format!(" --confirm {}", plan.digest.short()));
    typed.command(&options, plan)
}

/// The last line under a plan that was only shown.
pub fn what_next(plan: &PlanDocument, typed: &Typed, style: &Style) -> String {
    let head = format!("plan {}", plan.digest.short());
    if plan.summary.blocked > 0 {
        return format!("\n{head} cannot be executed while a step is blocked\n");
    }
    if plan.stopped.is_some() {
        return format!("\n{head} cannot be executed: its end is not known\n");
    }
    if plan.items.is_empty() {
        return format!("\n{head}: nothing to execute\n");
    }
    let command = command_to_execute(plan, typed);
    let bold = style.paint(Paint::Bold, &command);
    match width(&head) + 4 + width(&command) <= style.width {
        true => format!("\n{head}    {bold}\n"),
        // Never broken: it is there to be copied.
        false => format!("\n{head}; to execute exactly this:\n  {bold}\n"),
    }
}

#[cfg(test)]
mod tests;
