//! Who says yes to a gate, and how.

use super::{GateSection, RunId};
use async_trait::async_trait;

/// How gates are approved in this execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// A person types the word at each gate.
    Terminal,
    /// `--confirm DIGEST`: this plan as a whole, before its first effect.
    Digest(String),
    /// A rehearsal touches stand-ins only: its gates approve themselves, and say so.
    Rehearsal,
    /// Nobody is there: a plan with a gate runs nothing.
    Nobody,
}

impl Approval {
    /// The word for the journal.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Digest(_) => "digest",
            Self::Rehearsal => "rehearsal",
            Self::Nobody => "nobody",
        }
    }
}

/// A question at a gate.
pub struct Question<'a> {
    pub section: &'a GateSection,
    pub run: &'a RunId,
    /// What to type; several clusters are typed with a space between.
    pub word: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    /// With what was typed.
    No(String),
}

/// Asks a person.
#[async_trait]
pub trait Approver: Send + Sync {
    async fn ask(&self, question: &Question<'_>) -> Answer;
}
