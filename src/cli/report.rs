//! The one place that turns any error into what a person reads and a machine parses: code, message, the place in
//! the script, labelled facts, what to do now, and the exit status.

use super::causes;
use super::style::{Paint, Style, harmless, left, wrapped};
use crate::dsl::{Finding, ScriptError, Severity, WorldError};
use crate::run::{ConfigError, ExitClass, JournalError, RunError, Span, StepError};
use serde_json::{Value, json};
use std::error::Error;

/// One thing that went wrong, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub code: String,
    pub warning: bool,
    /// One sentence: what.
    pub message: String,
    pub snippet: Option<Snippet>,
    /// `tried`, `members`, `why`, `now`: in this order.
    pub facts: Vec<(String, String)>,
    /// Below a snippet, where there is no `now`.
    pub help: Option<String>,
    pub exit: ExitClass,
}

/// A line of a file with a mark under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub file: String,
    pub text: String,
    pub span: Span,
    pub label: Option<String>,
}

impl Report {
    pub fn new(code: &str, exit: ExitClass, message: impl Into<String>) -> Self {
        Self {
            code: code.to_string(),
            warning: false,
            message: message.into(),
            snippet: None,
            facts: Vec::new(),
            help: None,
            exit,
        }
    }

    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, ExitClass::Usage, message)
    }

    pub fn fact(mut self, label: &str, text: impl Into<String>) -> Self {
        self.facts.push((label.to_string(), text.into()));
        self
    }

    pub fn why(self, text: impl Into<String>) -> Self {
        self.fact("why", text)
    }

    pub fn now(self, text: impl Into<String>) -> Self {
        self.fact("now", text)
    }

    /// With this to do, and nothing else that was said to do.
    pub fn instead_now(mut self, text: impl Into<String>) -> Self {
        self.facts.retain(|(label, _)| label != "now");
        self.now(text)
    }

    /// A finding of `kbr check`, or the finding inside a script's error.
    pub fn of_finding(finding: &Finding, file: &str, text: &str) -> Self {
        let mut report = Self::usage(finding.code, &finding.message);
        report.warning = finding.severity == Severity::Warning;
        report.snippet = finding.span.map(|span| Snippet {
            file: file.to_string(),
            text: text.to_string(),
            span,
            label: finding.label.clone(),
        });
        report.facts = finding.facts.clone();
        report.help = finding.help.clone();
        report
    }

    /// What a lower layer's error adds: its facts always; its exit where nobody said better; its code if
    /// `take_code`, and its message too if this one only repeats the error's own.
    fn caused_by(mut self, cause: Option<&(dyn Error + 'static)>, take_code: bool) -> Self {
        let Some(cause) = cause else {
            return self;
        };
        let Some(known) = causes::describe(cause) else {
            return self;
        };
        if take_code {
            self.code = known.code.to_string();
            // `reading the archive URL: URL is no archive` says the place twice.
            // What else the error's own text tells is in the facts below.
            if let Some(own) = self.message.strip_suffix(&cause.to_string()) {
                let place = own.trim_end_matches([':', ' ']).rsplit(' ').next();
                self.message = match place.is_some_and(|place| known.message.contains(place)) {
                    true => known.message,
                    false => format!("{own}{}", known.message),
                };
            }
        }
        if self.exit == ExitClass::Failed {
            self.exit = known.exit;
        }
        for (label, text) in known.facts {
            let taken = self.facts.iter().any(|(known, _)| known == label);
            let helped = label == "now" && self.help.is_some();
            if !taken && !helped {
                self.facts.push((label.to_string(), text));
            }
        }
        self
    }
}

impl Report {
    /// Effects come after the evaluation: one that failed has changed nothing. Said where somebody may doubt it.
    fn harmless_evaluation(mut self) -> Self {
        let said = {
            let texts = self.facts.iter().map(|(_, text)| text);
            let mut texts = texts.chain([&self.message]).chain(&self.help);
            texts.any(|text| text.contains("nothing was changed"))
        };
        let doubted = !matches!(self.exit, ExitClass::Usage | ExitClass::Interrupted);
        if doubted && !said {
            self.facts.push(("changed".into(), "nothing".into()));
        }
        self
    }
}

impl Report {
    /// Without a word of what was not changed.
    pub fn without_reassurance(mut self) -> Self {
        let is_changed = |label: &str, text: &str| label == "changed" && text == "nothing";
        self.facts.retain(|(label, text)| !is_changed(label, text));
        let texts = self.facts.iter_mut().map(|(_, text)| text);
        for text in texts.chain([&mut self.message]).chain(&mut self.help) {
            if let Some(rest) = text.strip_suffix("; nothing was changed") {
                *text = rest.to_string();
            }
        }
        self
    }
}

/// Stand-ins that could not be made.
impl From<&WorldError> for Report {
    fn from(error: &WorldError) -> Self {
        Self::new("E0303", ExitClass::Failed, error.to_string()).caused_by(Some(error), true)
    }
}

/// An archive that cannot be read, or is damaged.
impl From<&crate::archive::Error> for Report {
    fn from(error: &crate::archive::Error) -> Self {
        Self::new("E0321", ExitClass::Failed, error.to_string()).caused_by(Some(error), true)
    }
}

impl From<&ScriptError> for Report {
    fn from(error: &ScriptError) -> Self {
        let mut report = Self::of_finding(&error.finding, &error.source_name, &error.source_text);
        report.exit = error.exit;
        // The script's layer says what was read; the error below says more exactly what went wrong.
        report.caused_by(error.source(), true).harmless_evaluation()
    }
}

impl From<&StepError> for Report {
    fn from(error: &StepError) -> Self {
        let mut report = Self::new(
            error.code.unwrap_or("E0499"),
            error.exit.unwrap_or(ExitClass::Failed),
            &error.message,
        );
        report.facts = error.facts.clone();
        report.caused_by(error.source(), error.code.is_none())
    }
}

impl From<&ConfigError> for Report {
    fn from(error: &ConfigError) -> Self {
        let mut report = Self::usage("E0110", &error.message);
        if error.line > 0 {
            report.snippet = Some(Snippet {
                file: error.path.clone(),
                text: error.text.clone(),
                span: Span {
                    line: error.line,
                    column: error.column,
                    length: error.length,
                },
                label: error.label.clone(),
            });
        }
        report.help = error.help.clone();
        report
    }
}

impl From<&JournalError> for Report {
    fn from(error: &JournalError) -> Self {
        let report = Self::new("E0601", ExitClass::Failed, error.to_string());
        match error {
            JournalError::Unwritable { why, .. } => Self {
                message: format!("{error}; nothing was changed"),
                ..report
            }
            .why(why)
            .now("make it writable, or name another folder with KBR_STATE_DIR"),
            JournalError::Unreadable { why, .. } => report
                .why(why)
                .now("name another folder with KBR_STATE_DIR, or move the file away"),
            JournalError::NoPlace => report
                .why("neither KBR_STATE_DIR nor XDG_STATE_HOME nor HOME is set")
                .now("set KBR_STATE_DIR to a folder that lasts"),
            JournalError::SeveralRuns { path, .. } => Self {
                code: "E0602".into(),
                exit: ExitClass::Usage,
                ..report
            }
            .fact("journal", path)
            .now("say more of the id; kbr history lists the runs"),
            JournalError::NoSuchRun { path, nearest, .. } => {
                let report = Self {
                    code: "E0602".into(),
                    exit: ExitClass::Usage,
                    ..report
                }
                .fact("journal", path);
                match nearest {
                    Some(nearest) => {
                        report.now(format!("did you mean {nearest}? kbr history lists them"))
                    }
                    None => report.now("kbr history lists the runs"),
                }
            }
        }
    }
}

impl From<&RunError> for Report {
    fn from(error: &RunError) -> Self {
        let report = Self::new("E0400", error.exit(), error.to_string());
        let code = |code: &str, report: Report| Report {
            code: code.into(),
            ..report
        };
        match error {
            RunError::Blocked(steps) => {
                let mut report = code("E0402", report);
                for (ordinal, blocks) in steps.iter().take(5) {
                    for blocked in blocks.iter().take(3) {
                        report = report.fact(&format!("step {ordinal}"), &blocked.what);
                        if let Some(hint) = &blocked.hint {
                            report = report.now(hint);
                        }
                    }
                }
                report
            }
            RunError::NotReached(stopped) => code("E0403", report).why(&stopped.why).now(
                "this version executes plans that are complete before the first effect: take the value out of the \
                 condition, or split the runbook there",
            ),
            RunError::ConfirmationRequired(digest) => code("E0404", report)
                .why("it has a gate, and there is no terminal to ask at")
                .now(format!("add --confirm {}", digest.short())),
            RunError::WrongDigest { plan, .. } => code("E0405", report)
                .why("the clusters, the archive, the runbook or its arguments are not as they were")
                .fact("plan", plan.short())
                .now("read the plan above; run the same command without --execute and --confirm to see only it"),
            RunError::ShortDigest { .. } => code("E0406", report)
                .why("at least 12 characters of the plan's digest name it")
                .now("run the same command without --execute and --confirm: its last line is what to type"),
            RunError::Stale { .. } => code("E0407", report)
                .why("a plan expires after an hour by the real clock")
                .now("plan again: the same command without --execute, --confirm and --now"),
            RunError::StillRuns(_) => code("E0444", report)
                .why("another process works on it")
                .now("wait for its end; kbr show tells how far it is"),
            RunError::Journal(error) => Report::from(error),
            RunError::Config(error) => Report::from(error),
        }
    }
}

impl Report {
    /// As text, ending with a line break.
    pub fn draw(&self, style: &Style) -> String {
        let (word, paint) = match self.warning {
            true => ("warning", Paint::Yellow),
            false => ("error", Paint::Red),
        };
        let head = format!("{word}[{}]", self.code);
        let mut out = String::new();
        // Never broken: it is what one searches a log for.
        let head = style.paint(paint, &head);
        out.push_str(&format!("{head}: {}\n", self.message));
        if let Some(snippet) = &self.snippet {
            out.push_str(&draw_snippet(snippet, style));
        }
        let labels = self.facts.iter().map(|(label, _)| label.len()).max();
        let column = labels.unwrap_or(0).max(7) + 3;
        let mut previous = "";
        for (label, text) in &self.facts {
            let shown = if label == previous { "" } else { label };
            previous = label;
            for (index, line) in wrapped(
                &short_digests(&without_errno(text)),
                style.width.saturating_sub(column + 3),
            )
            .into_iter()
            .enumerate()
            {
                let label = if index == 0 { shown } else { "" };
                let label = style.paint(Paint::Bold, &left(label, column));
                out.push_str(&format!("   {label}{line}\n"));
            }
        }
        if let Some(help) = &self.help {
            for (index, line) in wrapped(help, style.width.saturating_sub(9))
                .into_iter()
                .enumerate()
            {
                let label = if index == 0 { "help: " } else { "      " };
                out.push_str(&format!("   {}{line}\n", style.paint(Paint::Bold, label)));
            }
        }
        harmless(&out)
    }

    /// As `kbr.error/1`.
    pub fn json(&self) -> Value {
        let facts: Vec<Value> = self
            .facts
            .iter()
            .map(|(label, text)| json!({ "label": label, "text": text }))
            .collect();
        json!({
            "schema": "kbr.error/1",
            "code": self.code,
            "severity": if self.warning { "warning" } else { "error" },
            "message": self.message,
            "place": self.snippet.as_ref().map(|snippet| json!({
                "file": snippet.file,
                "line": snippet.span.line,
                "column": snippet.span.column,
                "length": snippet.span.length,
                "label": snippet.label,
            })),
            "facts": facts,
            "help": self.help,
            "exit": self.exit.code(),
        })
    }
}

/// `No such file or directory (os error 2)`: the number says nothing that the words do not.
fn without_errno(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(" (os error ") {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        rest = tail.find(')').map_or("", |end| &tail[end + 1..]);
    }
    out + rest
}

/// Twelve characters tell two digests apart; whole ones are in the JSON document.
fn short_digests(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match is_digest(word) {
            true => out.push_str(&format!("{}…{}", &word[..12], &part[word.len()..])),
            false => out.push_str(part),
        }
    }
    out
}

/// The line with its mark, drawn by miette; only its frame is taken, head and help are kbr's own.
fn draw_snippet(snippet: &Snippet, style: &Style) -> String {
    let at =
        miette::SourceOffset::from_location(&snippet.text, snippet.span.line, snippet.span.column);
    // A span that goes past its line would draw every line it covers.
    let rest = snippet.text[at.offset().min(snippet.text.len())..]
        .lines()
        .next()
        .unwrap_or("");
    let length: usize = rest
        .chars()
        .take(snippet.span.length.max(1))
        .map(char::len_utf8)
        .sum();
    let label = miette::LabeledSpan::new(snippet.label.clone(), at.offset(), length.max(1));
    let diagnostic = miette::MietteDiagnostic::new("").with_label(label);
    let source = miette::NamedSource::new(&snippet.file, snippet.text.clone());
    let report = miette::Report::new(diagnostic).with_source_code(source);
    let theme = match style.colour {
        true => miette::GraphicalTheme::unicode(),
        false => miette::GraphicalTheme::unicode_nocolor(),
    };
    let mut drawn = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_context_lines(1)
        .with_width(style.width.max(120))
        .with_links(false);
    if handler.render_report(&mut drawn, report.as_ref()).is_err() {
        return format!(
            "   {}:{}:{}\n",
            snippet.file, snippet.span.line, snippet.span.column
        );
    }
    // miette cuts the line to the span without a context; with one it also shows the neighbours, which go.
    let frame = |line: &&str| {
        let number: String = line
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        line.contains(['╭', '│', '·', '╰'])
            && (number.is_empty() || number == snippet.span.line.to_string())
    };
    drawn
        .lines()
        .skip_while(|line| !line.contains("╭─"))
        .filter(frame)
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_script_is_drawn_with_its_line_and_what_was_meant() {
        let mut report = Report::usage("E0207", "no option `befor` for restore");
        report.snippet = Some(Snippet {
            file: "dr-failover.rhai".into(),
            text: "let a = 1;\n    .befor(args.at ?? \"latest\")\n".into(),
            span: Span {
                line: 2,
                column: 6,
                length: 5,
            },
            label: Some("did you mean `before`?".into()),
        });
        report.help = Some("kbr docs restore".into());
        assert_eq!(
            report.draw(&Style::PLAIN),
            "error[E0207]: no option `befor` for restore\n   \
             ╭─[dr-failover.rhai:2:6]\n \
             2 │     .befor(args.at ?? \"latest\")\n   \
             ·      ──┬──\n   \
             ·        ╰── did you mean `before`?\n   \
             ╰────\n   \
             help: kbr docs restore\n"
        );
    }

    #[test]
    fn facts_are_aligned_and_a_repeated_label_is_written_once() {
        let error = StepError::new(
            "E0412",
            "group checkout-api is active on dr; nothing was changed",
        )
        .fact("members", "checkout-7f9c (10.2.0.14)")
        .fact("members", "checkout-81aa (10.2.0.15)")
        .why("a member's next commit would overwrite the reset unseen")
        .now("stop the consumers and run the same command again");
        assert_eq!(
            Report::from(&error).draw(&Style::PLAIN),
            "error[E0412]: group checkout-api is active on dr; nothing was changed\n   \
             members   checkout-7f9c (10.2.0.14)\n             checkout-81aa (10.2.0.15)\n   \
             why       a member's next commit would overwrite the reset unseen\n   \
             now       stop the consumers and run the same command again\n"
        );
    }

    #[test]
    fn every_code_in_the_source_is_in_the_documents() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let documented = std::fs::read_to_string(root.join("docs/errors.md")).unwrap();
        let pattern = regex::Regex::new("\"([EW]0[0-9]{3})\"").unwrap();
        let mut folders = vec![root.join("src")];
        let mut missing = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let shown = text.split("#[cfg(test)]").next().unwrap_or("");
                for found in pattern.captures_iter(shown) {
                    if !documented.contains(&found[1]) {
                        missing.push(format!("{} in {}", &found[1], path.display()));
                    }
                }
            }
        }
        assert!(missing.is_empty(), "not in docs/errors.md: {missing:#?}");
    }
}
