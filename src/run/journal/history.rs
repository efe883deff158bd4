//! Reading the journal: the list of runs, and everything about one.

use super::{COLUMNS, Entry, Journal, JournalError, RunId};
use crate::base::{Digest, TimestampMs, text, time};
use crate::run::{Outcome, PlanDocument};
use serde::Serialize;
use serde_json::Value;

/// A line of `kbr history`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalledRun {
    pub run: RunId,
    #[serde(serialize_with = "instant")]
    pub started: TimestampMs,
    /// `None`: it was never finished; the process ended in the middle.
    #[serde(serialize_with = "maybe_instant")]
    pub ended: Option<TimestampMs>,
    pub runbook: String,
    pub plan: Digest,
    /// `done`, `incomplete`, `damaged`, `failed`, `refused`, `interrupted`, or `unfinished`.
    pub end: String,
    pub exit: Option<u8>,
    /// How often it was begun: more than once if it was resumed.
    pub attempts: usize,
    /// Steps done, of all.
    pub done: usize,
    pub steps: usize,
}

/// A step's fate, for `kbr show`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalledStep {
    pub ordinal: u32,
    /// `done`, `no_change`, `failed`, `intended` (began, never ended) or `not_run`.
    pub state: String,
    #[serde(serialize_with = "maybe_instant")]
    pub began: Option<TimestampMs>,
    pub elapsed_ms: Option<u64>,
    pub old_values: Value,
    pub outcome: Option<Outcome>,
    pub error: Option<String>,
}

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    pub summary: JournalledRun,
    pub approval: String,
    /// When it was resumed.
    pub resumed: Vec<String>,
    pub plan: PlanDocument,
    pub steps: Vec<JournalledStep>,
    pub message: Option<String>,
}

/// Times in documents are RFC 3339 with milliseconds.
fn instant<S: serde::Serializer>(at: &TimestampMs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::format_instant(*at))
}

fn maybe_instant<S: serde::Serializer>(
    at: &Option<TimestampMs>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(time::format_instant).serialize(serializer)
}

impl Journal {
    /// The newest runs first.
    pub fn runs(&self, limit: usize) -> Result<Vec<JournalledRun>, JournalError> {
        let beginnings = self.entries(
            "WHERE kind = 'run' ORDER BY seq DESC LIMIT ?1",
            &[&(limit as i64)],
        )?;
        beginnings
            .iter()
            .map(|begin| {
                let entries = self.entries("WHERE run = ?1 ORDER BY seq", &[&begin.run])?;
                self.summary(&entries).map(|(summary, _)| summary)
            })
            .collect()
    }

    /// Everything about one run; a unique beginning of its id will do.
    pub fn run(&self, id: &str) -> Result<RunRecord, JournalError> {
        let known: Vec<String> = self
            .entries("WHERE kind = 'run' ORDER BY seq DESC", &[])?
            .into_iter()
            .map(|entry| entry.run)
            .collect();
        let mut found: Vec<&String> = known.iter().filter(|run| *run == id).collect();
        if found.is_empty() && !id.is_empty() {
            found = known.iter().filter(|run| run.starts_with(id)).collect();
        }
        if found.len() > 1 {
            return Err(JournalError::SeveralRuns {
                path: self.path.display().to_string(),
                run: id.to_string(),
                count: found.len(),
            });
        }
        let [run] = found[..] else {
            return Err(JournalError::NoSuchRun {
                path: self.path.display().to_string(),
                run: id.to_string(),
                nearest: text::did_you_mean(id, known.iter().map(String::as_str))
                    .map(str::to_string),
            });
        };
        let entries = self.entries("WHERE run = ?1 ORDER BY seq", &[run])?;
        let (summary, plan) = self.summary(&entries)?;
        let approval = entries
            .first()
            .and_then(|begin| begin.body()["approval"].as_str().map(str::to_string))
            .unwrap_or_default();
        let steps = plan
            .steps()
            .map(|step| journalled_step(step.ordinal, &entries))
            .collect();
        let message =
            end(&entries).and_then(|end| end.body()["message"].as_str().map(str::to_string));
        let resumed = entries.iter().filter(|entry| entry.kind == "resume");
        let resumed = resumed.map(|entry| time::format_instant(TimestampMs(entry.at)));
        let resumed = resumed.collect();
        Ok(RunRecord {
            summary,
            approval,
            plan,
            resumed,
            steps,
            message,
        })
    }

    fn summary(&self, entries: &[Entry]) -> Result<(JournalledRun, PlanDocument), JournalError> {
        let Some(begin) = entries.first() else {
            return Err(self.unreadable("a run without a beginning"));
        };
        let plan: PlanDocument = serde_json::from_value(begin.body()["plan"].take())
            .map_err(|error| self.unreadable(format!("entry {}: {error}", begin.seq)))?;
        let end = end(entries);
        let body = end.map(Entry::body).unwrap_or_default();
        let summary = JournalledRun {
            run: RunId(begin.run.clone()),
            started: TimestampMs(begin.at),
            ended: end.map(|entry| TimestampMs(entry.at)),
            runbook: plan.runbook.name.clone(),
            plan: plan.digest,
            end: body["end"].as_str().unwrap_or("unfinished").to_string(),
            exit: body["exit"].as_u64().and_then(|exit| exit.try_into().ok()),
            attempts: entries
                .iter()
                .filter(|entry| matches!(entry.kind.as_str(), "run" | "resume"))
                .count(),
            done: entries
                .iter()
                .filter(|entry| matches!(entry.kind.as_str(), "outcome" | "no_change"))
                .count(),
            steps: plan.steps().count(),
        };
        Ok((summary, plan))
    }

    pub(super) fn entries(
        &self,
        which: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Entry>, JournalError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<Entry>> {
            let mut statement =
                connection.prepare(&format!("SELECT {COLUMNS} FROM entries {which}"))?;
            statement.query_map(parameters, Entry::read)?.collect()
        };
        read().map_err(|error| self.unreadable(error))
    }
}

/// The end of the last attempt; none if that never ended.
fn end(entries: &[Entry]) -> Option<&Entry> {
    let mut entries = entries.iter().rev();
    entries
        .find(|entry| matches!(entry.kind.as_str(), "end" | "resume" | "run"))
        .filter(|entry| entry.kind == "end")
}

fn journalled_step(ordinal: u32, entries: &[Entry]) -> JournalledStep {
    let mut step = JournalledStep {
        ordinal,
        state: "not_run".into(),
        began: None,
        elapsed_ms: None,
        old_values: Value::Null,
        outcome: None,
        error: None,
    };
    for entry in entries
        .iter()
        .filter(|entry| entry.ordinal == Some(ordinal))
    {
        let mut body = entry.body();
        step.elapsed_ms = body["elapsed_ms"].as_u64().or(step.elapsed_ms);
        match entry.kind.as_str() {
            "intent" => {
                step.state = "intended".into();
                step.began = Some(TimestampMs(entry.at));
                step.old_values = body["old"].take();
                step.error = None;
            }
            "outcome" => {
                step.state = "done".into();
                step.error = None;
                step.outcome = serde_json::from_value(body["outcome"].take()).ok();
            }
            "failed" => {
                step.state = "failed".into();
                step.error = body["message"].as_str().map(str::to_string);
            }
            "no_change" => step.state = "no_change".into(),
            _ => {}
        }
    }
    step
}
