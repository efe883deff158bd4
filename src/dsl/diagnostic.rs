//! What is wrong with a script and where: the one shape of lints and script errors.
//!
//! Every message is in kbr's own words. Codes: E00xx syntax, E02xx names, types and options, E03xx reads of
//! clusters and archives, E04xx what a plan refuses, W05xx lints.

use super::Source;
use crate::run::{ExitClass, Span};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing found in a script.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// `E0207`; stable, listed in docs/runbooks.md.
    pub code: &'static str,
    pub severity: Severity,
    /// One sentence: what is wrong.
    pub message: String,
    pub span: Option<Span>,
    /// A few words under the span ("did you mean `before`?").
    pub label: Option<String>,
    /// Labelled lines below: `tried`, `from`, `why`.
    pub facts: Vec<(String, String)>,
    /// What to do now.
    pub help: Option<String>,
}

/// A script that cannot go on: the finding, and the text to show it in.
#[derive(Clone, Debug)]
pub struct ScriptError {
    pub finding: Finding,
    pub source_name: String,
    pub source_text: Arc<str>,
    /// `Usage` for a mistake in the script, `Failed` for a read that failed.
    pub exit: ExitClass,
    /// The error of a lower layer that this one came from: facts and hints are read from it at the edge.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Finding {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            facts: Vec::new(),
            help: None,
        }
    }

    pub fn helped(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn at(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }
}

impl ScriptError {
    pub fn new(finding: Finding, source: &Source, exit: ExitClass) -> Self {
        Self {
            finding,
            source_name: source.name.clone(),
            source_text: source.text.clone(),
            exit,
            cause: None,
        }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for ScriptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// For the report at the edge: miette draws the source line with the span and its label.
impl miette::Diagnostic for ScriptError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.finding.help.as_ref()?;
        Some(Box::new(help))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.finding
            .span
            .map(|_| &self.source_text as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.finding.span?;
        let start = miette::SourceOffset::from_location(&self.source_text, span.line, span.column);
        Some(Box::new(std::iter::once(miette::LabeledSpan::new(
            self.finding.label.clone(),
            start.offset(),
            span.length.max(1),
        ))))
    }
}
