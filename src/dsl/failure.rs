//! Why a verb refused: carried through the engine as a value, so that code, hint and causes survive.

use super::diagnostic::{Finding, Severity};
use crate::run::{ExitClass, Span};
use rhai::{Dynamic, EvalAltResult, Position};
use std::sync::Arc;

/// An error that a verb or an operator raises. Scripts may catch it and print it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
    pub label: Option<String>,
    /// Labelled lines below: `tried`, `from`, `why`.
    pub facts: Vec<(String, String)>,
    pub help: Option<String>,
    pub exit: ExitClass,
    /// The error of a lower layer; its message is already in `message`.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// Where, if better known than the call's own position.
    pub span: Option<Span>,
    /// Not an error: the evaluation ends here because a value is known only after execution.
    pub stops: bool,
}

impl Failure {
    /// A mistake in the script.
    pub fn script(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            label: None,
            facts: Vec::new(),
            help: None,
            exit: ExitClass::Usage,
            cause: None,
            span: None,
            stops: false,
        }
    }

    /// A read of the world that failed.
    pub fn world(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit: ExitClass::Failed,
            ..Self::script(code, message)
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a labelled line: `tried`, `from`.
    pub fn fact(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.facts.push((label.into(), text.into()));
        self
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// A lower layer's error as it is: its message, and itself for the report at the edge.
    pub fn from_below(
        code: &'static str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            cause: Some(Arc::new(error)),
            ..Self::world(code, "")
        }
        .with_message_of_cause()
    }

    /// Puts what was being done before the message.
    pub fn prefixed(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    fn with_message_of_cause(mut self) -> Self {
        if let Some(cause) = &self.cause {
            self.message = cause.to_string();
            let mut next = cause.source();
            while let Some(below) = next {
                let text = below.to_string();
                if !self.message.contains(&text) {
                    self.facts.push(("why".to_string(), text));
                }
                next = below.source();
            }
        }
        self
    }

    pub fn into_finding(self, span: Option<Span>) -> Finding {
        Finding {
            code: self.code,
            severity: Severity::Error,
            message: self.message,
            span: self.span.or(span),
            label: self.label,
            facts: self.facts,
            help: self.help,
        }
    }

    /// Into the engine. A stop is a termination, which no script can catch.
    pub fn raise(self, position: Position) -> Box<EvalAltResult> {
        let stops = self.stops;
        let value = Dynamic::from(self);
        Box::new(if stops {
            EvalAltResult::ErrorTerminated(value, position)
        } else {
            EvalAltResult::ErrorRuntime(value, position)
        })
    }
}
