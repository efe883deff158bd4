//! A step's way to the journal while its effect is under way, and what earlier attempts of the same run left there.

use super::{Journal, Outcome, RunId, StepError, StoredMapping};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One execution of a step. The first unless the run is resumed.
#[derive(Clone, Default)]
pub struct Attempt {
    /// From 1; a resumed run counts on.
    pub number: u32,
    /// What earlier attempts noted for this step, oldest first.
    pub notes: Vec<Value>,
    /// What the steps that are done came to, by ordinal.
    pub outcomes: Arc<BTreeMap<u32, Arc<Outcome>>>,
    pub(super) journal: Option<(Journal, RunId, u32)>,
}

impl Attempt {
    pub(super) fn of(journal: &Journal, run: &RunId, ordinal: u32) -> Self {
        Self {
            journal: Some((journal.clone(), run.clone(), ordinal)),
            ..Self::unrecorded()
        }
    }

    /// For tests and for steps outside a run: nothing is kept.
    pub fn unrecorded() -> Self {
        Self {
            number: 1,
            ..Self::default()
        }
    }

    /// Keeps what a later attempt must know; it is on disk when this returns.
    pub fn note(&self, note: &Value) -> Result<(), StepError> {
        match &self.journal {
            Some((journal, run, ordinal)) => journal
                .note(run, *ordinal, note)
                .map_err(StepError::caused_by),
            None => Ok(()),
        }
    }

    /// Keeps where the step's records went: each route, and its mapping's bytes.
    pub fn keep_mappings(
        &self,
        mappings: impl Iterator<Item = (StoredMapping, Vec<u8>)>,
    ) -> Result<(), StepError> {
        match &self.journal {
            Some((journal, run, ordinal)) => journal
                .store_mappings(run, *ordinal, mappings)
                .map_err(StepError::caused_by),
            None => Ok(()),
        }
    }

    /// The outcomes of the steps before, as what they came to.
    pub fn done_before(&self) -> impl Iterator<Item = &Value> {
        self.outcomes.values().map(|outcome| &outcome.value)
    }
}
