//! How far a run came, for it to be resumed: gates that were answered, steps that are done, steps that began.

use super::{Entry, Journal, JournalError, RunId};
use crate::run::{Outcome, SavedPlan, StepError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the journal knows of a run's attempts.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    /// How often it was begun or resumed.
    pub attempts: u32,
    /// The gates that were answered with their word, by the place in the plan's items that they stand before.
    pub approved: BTreeSet<usize>,
    pub steps: BTreeMap<u32, StepSoFar>,
    /// The end that the last attempt wrote; none: its process died, or is still at it.
    pub end: Option<String>,
    /// Whether it was approved by the plan's digest.
    pub by_digest: bool,
}

/// What the journal knows of one step.
#[derive(Clone, Debug, Default)]
pub struct StepSoFar {
    pub state: StateSoFar,
    pub notes: Vec<Value>,
}

#[derive(Clone, Debug, Default)]
pub enum StateSoFar {
    /// No effect of it began.
    #[default]
    NotBegun,
    /// Its intent is journalled, and no outcome.
    Begun,
    NoChange,
    Done(Outcome),
}

impl SoFar {
    pub fn state(&self, ordinal: u32) -> &StateSoFar {
        static NOT_BEGUN: StateSoFar = StateSoFar::NotBegun;
        self.steps
            .get(&ordinal)
            .map_or(&NOT_BEGUN, |step| &step.state)
    }

    /// Nothing is left to do.
    pub fn is_finished(&self) -> bool {
        matches!(self.end.as_deref(), Some("done" | "incomplete" | "damaged"))
    }

    pub fn is_done(&self, ordinal: u32) -> bool {
        matches!(
            self.state(ordinal),
            StateSoFar::Done(_) | StateSoFar::NoChange
        )
    }

    fn read(entries: &[Entry]) -> Self {
        let mut so_far = Self::default();
        for entry in entries {
            let mut body = entry.body();
            let step = entry
                .ordinal
                .map(|ordinal| so_far.steps.entry(ordinal).or_default());
            match (entry.kind.as_str(), step) {
                ("run" | "resume", None) => {
                    so_far.attempts += 1;
                    so_far.by_digest |= body["approval"] == "digest";
                    so_far.end = None;
                }
                ("gate", None) if body["approved"] == true => {
                    let before = body["before"].as_u64();
                    so_far
                        .approved
                        .extend(before.and_then(|at| usize::try_from(at).ok()));
                }
                ("end", None) => so_far.end = body["end"].as_str().map(str::to_string),
                ("intent", Some(step)) => step.state = StateSoFar::Begun,
                ("note", Some(step)) => step.notes.push(body["note"].take()),
                ("no_change", Some(step)) => step.state = StateSoFar::NoChange,
                ("outcome", Some(step)) => {
                    let outcome = serde_json::from_value(body["outcome"].take());
                    step.state = StateSoFar::Done(outcome.unwrap_or_default());
                }
                // A failure says nothing about how far the effect came.
                _ => {}
            }
        }
        so_far
    }
}

impl Journal {
    /// How far a run came.
    pub fn so_far(&self, run: &RunId) -> Result<SoFar, JournalError> {
        let entries = self.entries("WHERE run = ?1 ORDER BY seq", &[&run.0])?;
        Ok(SoFar::read(&entries))
    }

    /// The plan of a run as it was saved; [`E0443`](StepError) for a run that cannot be resumed.
    pub fn saved_plan(&self, run: &RunId) -> Result<SavedPlan, StepError> {
        let begin = self
            .entries("WHERE run = ?1 AND kind = 'run'", &[&run.0])
            .map_err(StepError::caused_by)?;
        let body = begin.first().map(Entry::body).unwrap_or_default();
        match body["saved"].as_str() {
            Some(saved) => SavedPlan::unpacked(&format!("run {run}"), saved),
            None => Err(
                StepError::new("E0443", format!("run {run} cannot be resumed"))
                    .why("the kbr that began it did not keep its plan")
                    .now("plan again: kbr run FILE"),
            ),
        }
    }

    /// The newest run that was begun and not finished.
    pub fn newest_unfinished(&self) -> Result<Option<RunId>, JournalError> {
        let runs: Vec<String> = {
            let connection = self.lock();
            let read = || -> rusqlite::Result<Vec<String>> {
                let mut statement = connection
                    .prepare("SELECT run FROM entries WHERE kind = 'run' ORDER BY seq DESC")?;
                statement.query_map([], |row| row.get(0))?.collect()
            };
            read().map_err(|error| self.unreadable(error))?
        };
        for run in runs {
            let run = RunId(run);
            if !self.so_far(&run)?.is_finished() {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}
