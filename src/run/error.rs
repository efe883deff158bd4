//! What can go wrong with a plan and its execution, and which exit status it means.

use super::{ConfigError, JournalError};
use crate::base::Digest;
use std::fmt;
use std::sync::Arc;

/// Exit statuses of kbr, design §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitClass {
    Done = 0,
    Failed = 1,
    Usage = 2,
    ConfirmationRequired = 3,
    Drift = 4,
    Damaged = 5,
    Incomplete = 6,
    Interrupted = 130,
}

impl ExitClass {
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A step that could not be done: what, where, why, what now.
///
/// A step that fails because a lower layer did keeps that layer's error as `cause`; the report at the edge reads
/// code, facts and hint from it. What is set here wins.
#[derive(Clone, Debug)]
pub struct StepError {
    /// `E0412`; `None`: the one of the cause.
    pub code: Option<&'static str>,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Labelled lines below it: `members`, `tried`, `why`, `now`.
    pub facts: Vec<(String, String)>,
    pub exit: Option<ExitClass>,
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl StepError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            message: message.into(),
            facts: Vec::new(),
            exit: None,
            cause: None,
        }
    }

    /// A failure of a lower layer; code and facts come from it.
    pub fn caused_by(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            code: None,
            message: error.to_string(),
            facts: Vec::new(),
            exit: None,
            cause: Some(Arc::new(error)),
        }
    }

    /// The world is no longer as it was planned: E0401, exit status 4.
    pub fn drift(message: impl Into<String>) -> Self {
        Self::new("E0401", message).exit(ExitClass::Drift)
    }

    /// Cancelled before it was done: exit status 130.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new("E0130", message).exit(ExitClass::Interrupted)
    }

    /// Adds a labelled line: `tried`, `members`.
    pub fn fact(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.facts.push((label.into(), text.into()));
        self
    }

    pub fn why(self, text: impl Into<String>) -> Self {
        self.fact("why", text)
    }

    /// What to do now.
    pub fn now(self, text: impl Into<String>) -> Self {
        self.fact("now", text)
    }

    pub fn exit(mut self, exit: ExitClass) -> Self {
        self.exit = Some(exit);
        self
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Why a plan was not executed. None of these comes after an effect.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{} of the plan {} blocked; nothing was changed", steps(.0), if .0.len() == 1 { "is" } else { "are" })]
    Blocked(Vec<(u32, Vec<super::Blocked>)>),
    #[error(
        "the runbook needs a value that only execution can tell (line {}); nothing was changed",
        .0.span.map_or(0, |span| span.line)
    )]
    NotReached(super::Stopped),
    #[error("plan {} needs a confirmation; nothing was changed", .0.short())]
    ConfirmationRequired(Digest),
    #[error("the plan is no longer {given}; nothing was changed")]
    WrongDigest { given: String, plan: Digest },
    #[error("{given:?} is too short to confirm a plan; nothing was changed")]
    ShortDigest { given: String, plan: Digest },
    #[error("the plan is {} old; nothing was changed", crate::base::time::format_duration_ms(*.age_ms))]
    Stale { age_ms: i64 },
    #[error("run {0} still runs; nothing was changed")]
    StillRuns(super::RunId),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Config(#[from] ConfigError),
}

fn steps(blocked: &[(u32, Vec<super::Blocked>)]) -> String {
    let ordinals: Vec<String> = blocked
        .iter()
        .map(|(ordinal, _)| ordinal.to_string())
        .collect();
    let noun = if ordinals.len() == 1 { "step" } else { "steps" };
    format!("{noun} {}", ordinals.join(", "))
}

impl RunError {
    pub fn exit(&self) -> ExitClass {
        match self {
            Self::Blocked(_) | Self::NotReached(_) | Self::StillRuns(_) | Self::Journal(_) => {
                ExitClass::Failed
            }
            Self::ConfirmationRequired(_) => ExitClass::ConfirmationRequired,
            Self::WrongDigest { .. } | Self::Stale { .. } => ExitClass::Drift,
            Self::ShortDigest { .. } | Self::Config(_) => ExitClass::Usage,
        }
    }
}
