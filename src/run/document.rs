//! Plans and runs as documents: the same facts for the journal, for `--output json` and for the terminal.
//!
//! `kbr show` draws a plan from the journal as `kbr run` drew it, so the terminal is drawn from these and never
//! from live steps. The schema names are a contract with scripts: fields are only added.

use super::execute::StepResult;
use super::{
    ArchiveFact, Blocked, ClusterFact, ExitClass, Gate, Item, Outcome, Plan, RunEnd, RunId,
    RunReport, RunbookId, StepKind, StepState, StepView, Stopped, Total,
};
use crate::base::{Digest, time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Not;

/// `kbr.plan/1`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDocument {
    pub schema: String,
    pub digest: Digest,
    pub runbook: RunbookId,
    pub arguments: BTreeMap<String, String>,
    /// RFC 3339 with milliseconds.
    pub now: String,
    /// Whether the command to repeat must say `--now`.
    pub now_read: bool,
    pub rehearsal: bool,
    pub clusters: Vec<ClusterFact>,
    pub archives: Vec<ArchiveFact>,
    pub items: Vec<ItemDocument>,
    pub stopped: Option<Stopped>,
    /// Whether execution will ask (or need `--confirm`).
    pub gated: bool,
    pub summary: Summary,
}

/// A step or a confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum ItemDocument {
    Step(Box<StepDocument>),
    Confirm { text: String, line: Option<usize> },
}

/// A step as it was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDocument {
    pub ordinal: u32,
    pub kind: StepKind,
    pub status: StepStatus,
    pub line: Option<usize>,
    pub view: StepView,
    pub pinned: Value,
    pub bounded: Value,
    pub observed: Value,
    pub gate: Option<Gate>,
    pub blocked: Vec<Blocked>,
}

/// What execution would do with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Change,
    NoChange,
    Blocked,
}

/// The plan in numbers; they equal what execution will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// In the order of first appearance: `2 create`, `1 reset (2 groups)`.
    pub kinds: Vec<String>,
    pub no_change: usize,
    pub blocked: usize,
    /// Bytes that will be written.
    pub bytes: u64,
    /// About how long it will take, in milliseconds; 0: nothing is known of that.
    #[serde(default)]
    pub takes_ms: u64,
}

impl Plan {
    /// The plan as `kbr.plan/1`.
    pub fn document(&self) -> PlanDocument {
        let mut items: Vec<ItemDocument> = self.items.iter().map(item).collect();
        let digest = self.digest_of(&mut items);
        PlanDocument {
            schema: "kbr.plan/1".into(),
            digest,
            runbook: self.runbook.clone(),
            arguments: self.arguments.clone(),
            now: time::format_instant(self.now),
            now_read: self.now_read,
            rehearsal: self.rehearsal,
            clusters: self.clusters.clone(),
            archives: self.archives.clone(),
            summary: summarise(&items),
            items,
            stopped: self.stopped.clone(),
            gated: !self.gates().is_empty(),
        }
    }

    /// [`Plan::digest`], of what its steps have pinned in these documents.
    fn digest_of(&self, items: &mut [ItemDocument]) -> Digest {
        let mut places: Vec<&mut Value> = items
            .iter_mut()
            .filter_map(|item| match item {
                ItemDocument::Step(step) => Some(&mut step.pinned),
                ItemDocument::Confirm { .. } => None,
            })
            .collect();
        let mut pinned: Vec<Value> = places.iter_mut().map(|place| place.take()).collect();
        let digest = Digest::of(&self.canonical_of(&mut pinned));
        for (place, value) in places.into_iter().zip(pinned) {
            *place = value;
        }
        digest
    }
}

impl PlanDocument {
    pub fn steps(&self) -> impl Iterator<Item = &StepDocument> {
        self.items.iter().filter_map(|item| match item {
            ItemDocument::Step(step) => Some(step.as_ref()),
            ItemDocument::Confirm { .. } => None,
        })
    }
}

fn item(item: &Item) -> ItemDocument {
    let planned = match item {
        Item::Confirm { text, span } => {
            return ItemDocument::Confirm {
                text: text.clone(),
                line: span.map(|span| span.line),
            };
        }
        Item::Step(planned) => planned,
    };
    let step = &planned.step;
    let (view, blocked) = (step.view(), planned.blocks());
    ItemDocument::Step(Box::new(StepDocument {
        ordinal: planned.ordinal,
        kind: step.kind(),
        status: match (&view, blocked.is_empty()) {
            (_, false) => StepStatus::Blocked,
            (view, true) if view.no_change => StepStatus::NoChange,
            _ => StepStatus::Change,
        },
        line: planned.span.map(|span| span.line),
        pinned: step.pinned(),
        bounded: step.bounded(),
        observed: step.observed(),
        gate: step.gate(),
        view,
        blocked,
    }))
}

fn summarise(items: &[ItemDocument]) -> Summary {
    let mut summary = Summary::default();
    let mut kinds: Vec<(StepKind, usize, Vec<String>)> = Vec::new();
    for item in items {
        let ItemDocument::Step(step) = item else {
            continue;
        };
        match step.status {
            StepStatus::NoChange => {
                summary.no_change += 1;
                continue;
            }
            StepStatus::Blocked => summary.blocked += 1,
            StepStatus::Change => {
                summary.bytes += step.view.bytes;
                summary.takes_ms += step.view.takes_ms;
            }
        }
        let index = match kinds.iter().position(|(kind, ..)| *kind == step.kind) {
            Some(index) => index,
            None => {
                kinds.push((step.kind, 0, Vec::new()));
                kinds.len() - 1
            }
        };
        kinds[index].1 += 1;
        kinds[index].2.extend(step.view.counts.clone());
    }
    summary.kinds = kinds
        .into_iter()
        .map(|(kind, count, counts)| {
            let word = kind.word();
            if counts.is_empty() {
                format!("{count} {word}")
            } else {
                format!("{count} {word} ({})", counts.join(" + "))
            }
        })
        .collect();
    summary
}

impl RunEnd {
    /// The word for history and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Damaged => "damaged",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    pub fn exit(&self) -> ExitClass {
        match self {
            Self::Done => ExitClass::Done,
            Self::Incomplete => ExitClass::Incomplete,
            Self::Damaged => ExitClass::Damaged,
            Self::Failed { error, .. } => error.exit.unwrap_or(ExitClass::Failed),
            Self::Refused { .. } => ExitClass::ConfirmationRequired,
            Self::Interrupted => ExitClass::Interrupted,
        }
    }
}

impl RunReport {
    /// The run as `kbr.run/1`. `error` is the failure as the report at the edge tells it, `printed` what the script has
    /// printed.
    pub fn document<'a>(
        &'a self,
        plan: &'a PlanDocument,
        exit: ExitClass,
        error: Option<Value>,
        printed: &'a [String],
    ) -> RunDocument<'a> {
        RunDocument {
            schema: "kbr.run/1",
            run: &self.run,
            plan,
            end: self.end.word(),
            exit: exit.code(),
            elapsed_ms: self.elapsed.as_millis() as u64,
            steps: self.steps.iter().map(StepOutcome::of).collect(),
            totals: &self.totals,
            incomplete: &self.incomplete,
            damaged: &self.damaged,
            error,
            printed,
        }
    }
}

/// `kbr.run/1`
#[derive(Serialize)]
pub struct RunDocument<'a> {
    schema: &'static str,
    run: &'a RunId,
    plan: &'a PlanDocument,
    end: &'static str,
    exit: u8,
    elapsed_ms: u64,
    steps: Vec<StepOutcome<'a>>,
    totals: &'a [Total],
    incomplete: &'a [String],
    damaged: &'a [String],
    error: Option<Value>,
    printed: &'a [String],
}

/// What came of a step.
#[derive(Serialize)]
struct StepOutcome<'a> {
    ordinal: u32,
    state: &'static str,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome>,
    /// Done by an earlier attempt.
    #[serde(skip_serializing_if = "Not::not")]
    before: bool,
}

impl<'a> StepOutcome<'a> {
    fn of(result: &'a StepResult) -> Self {
        Self {
            ordinal: result.ordinal,
            state: result.state.word(),
            elapsed_ms: result.elapsed.as_millis() as u64,
            outcome: match &result.state {
                StepState::Done(outcome) | StepState::DoneBefore(outcome) => Some(outcome.as_ref()),
                _ => None,
            },
            before: matches!(result.state, StepState::DoneBefore(_)),
        }
    }
}

impl StepState {
    /// Nothing is left to do of it.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_) | Self::DoneBefore(_) | Self::NoChange)
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Done(_) | Self::DoneBefore(_) => "done",
            Self::NoChange => "no_change",
            Self::Failed(_) => "failed",
            Self::NotRun => "not_run",
        }
    }
}

/// Adds `more` to `totals`, number by number.
pub(super) fn add_totals(totals: &mut Vec<Total>, more: &[Total]) {
    for total in more {
        match totals.iter_mut().find(|known| known.what == total.what) {
            Some(known) => known.count += total.count,
            None => totals.push(total.clone()),
        }
    }
}
