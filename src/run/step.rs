//! What a step is: one effect, fully resolved at plan time, that can be shown, hashed, checked and applied.
//!
//! Everything in a plan is one of these, so that showing, approving, journalling and executing are written once.

use super::{Attempt, SavedParts, StepError};
use crate::base::{CancellationToken, NoProgress, Pause, ProgressHandle, TimestampMs, text};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One effect of a plan.
///
/// The first group of methods reads the resolved plan only: no I/O, and the same answer each time. The second
/// group runs during execution, in this order: `check`, `old_values`, (intent journalled), `apply`.
#[async_trait]
pub trait Step: Send + Sync {
    fn kind(&self) -> StepKind;
    /// What people see of it.
    fn view(&self) -> StepView;
    /// Digested; must be equal when the plan is executed. Clusters by id, topics by id, closures by source.
    fn pinned(&self) -> Value;
    /// Digested predicates ("end not below 4711"), which `check` holds against the world.
    fn bounded(&self) -> Value {
        Value::Null
    }
    /// Shown only: moving ends, lags, estimates.
    fn observed(&self) -> Value {
        Value::Null
    }
    /// The step as it is kept, for it to be rebuilt as it is without evaluating the runbook again. No secret is in it.
    fn saved(&self, parts: &mut SavedParts) -> Value;
    /// Why it must be confirmed, if it must.
    fn gate(&self) -> Option<Gate> {
        None
    }
    /// What stands in its way. One such step and nothing of the plan is applied.
    fn blocks(&self) -> Vec<Blocked> {
        Vec::new()
    }
    /// How much of [`ROOM`] it takes while it is carried out. Neighbours of one kind that fit in together run beside each
    /// other, so it may be less than all only if neither needs the other.
    fn room(&self) -> u32 {
        ROOM
    }
    /// The planned preconditions against the world as it is now; a difference is [`StepError::drift`].
    async fn check(&self, context: &StepContext) -> Result<(), StepError>;
    /// What the effect will replace. Journalled before it.
    async fn old_values(&self, _context: &StepContext) -> Result<Value, StepError> {
        Ok(Value::Null)
    }
    /// The effect, read back.
    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError>;
    /// After a crash between intent and outcome: how far it came.
    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError>;
}

/// What there is for steps that run beside each other.
pub const ROOM: u32 = 16;

/// What kind of effect; the word in the plan's second column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    Backup,
    Create,
    Update,
    Write,
    Verify,
    Reset,
    Delete,
    Check,
}

impl StepKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Create => "create",
            Self::Update => "update",
            Self::Write => "write",
            Self::Verify => "verify",
            Self::Reset => "reset",
            Self::Delete => "delete",
            Self::Check => "check",
        }
    }
}

/// A step as people see it. Most steps have one line; a reset that moves several groups in one transaction has
/// one line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    pub lines: Vec<ViewLine>,
    /// The world is already as the step wants it: shown in grey, journalled, `apply` not called.
    pub no_change: bool,
    /// What the summary counts when one step is several things: `2 groups` → `1 reset (2 groups)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<String>,
    /// What applying it will cost, for the line under the summary: bytes to write.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// And time, in milliseconds, as far as it can be told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub takes_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One line of a step, the notes under it, and what `--detail` adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewLine {
    /// On what: `topic orders_dr`, `orders_dr`, `checkout-api`.
    pub target: String,
    /// Columns, aligned with the same columns of other steps of this kind.
    pub cells: Vec<Cell>,
    /// Indented lines below, always shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Indented lines below, in red: what is done although it may go wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangers: Vec<String>,
    /// Indented lines below that stand in the way; shown in red and ended by `blocked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
    /// Per-partition rows for `--detail` and `kbr show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// A small table: partition rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// One column of a line: `lag after 120,310`, `12 partitions, 4 configs`, `exact`. The number is right-aligned
/// under those of its neighbours, the words around it left-aligned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub number: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
}

impl Cell {
    /// Words only.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            after: text.into(),
            ..Self::default()
        }
    }

    /// `1,204,551 records`.
    pub fn count(number: impl Into<i128>, noun: &str) -> Self {
        let counted = text::counted(number, noun);
        match counted.split_once(' ') {
            Some((number, after)) => Self::number(number).after(after),
            None => Self::number(counted),
        }
    }

    /// A number as it should be printed: `1.1 GiB`, `41`.
    pub fn number(number: impl Into<String>) -> Self {
        Self {
            number: number.into(),
            ..Self::default()
        }
    }

    pub fn before(mut self, before: impl Into<String>) -> Self {
        self.before = before.into();
        self
    }

    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = after.into();
        self
    }
}

impl StepView {
    /// A step of one line.
    pub fn of(target: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self {
            lines: vec![ViewLine::of(target, cells)],
            ..Self::default()
        }
    }

    /// Adds a note under the last line.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Some(line) = self.lines.last_mut() {
            line.notes.push(note.into());
        }
        self
    }

    /// Sets the rows of the last line that `--detail` shows.
    pub fn detail(mut self, detail: Detail) -> Self {
        if let Some(line) = self.lines.last_mut() {
            line.detail = Some(detail);
        }
        self
    }

    /// The first line's target: what the step is called in an error.
    pub fn target(&self) -> &str {
        self.lines.first().map_or("", |line| line.target.as_str())
    }
}

impl ViewLine {
    pub fn of(target: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self {
            target: target.into(),
            cells,
            ..Self::default()
        }
    }
}

/// A step that must be confirmed before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// `moves committed offsets`, `orders_dr holds 4,711 records`.
    pub reason: String,
    /// What to type on a terminal: the cluster's name.
    pub word: String,
    /// What the question shows for each line of the step instead of the plan's columns (`lag now 9 → 4`);
    /// empty: the plan's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<ViewLine>,
    /// Below them: `One transaction: both move or neither.`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Asked by itself whatever `confirm` stands before it, and in red.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

impl Gate {
    pub fn new(reason: impl Into<String>, word: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            word: word.into(),
            lines: Vec::new(),
            notes: Vec::new(),
            alone: false,
        }
    }
}

/// Something that stands in a step's way, by the check that found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// `a committed offset lies beyond the archive`.
    pub what: String,
    /// What to do: a command, or what to say in the runbook.
    pub hint: Option<String>,
}

/// What a step gets to work with.
#[derive(Clone)]
pub struct StepContext {
    pub progress: ProgressHandle,
    /// Ends the step early: it finishes what must be whole and says that it is incomplete.
    pub cancel: CancellationToken,
    /// The run's id, which goes into segment names and transactional ids.
    pub run: String,
    /// The plan's `now`.
    pub now: TimestampMs,
    pub rehearsal: bool,
    /// Holds up work that can be paused.
    pub pause: Pause,
    /// Which attempt at the step this is, and what those before it left.
    pub attempt: Attempt,
}

impl StepContext {
    /// For tests: nobody looks, nobody cancels.
    pub fn quiet(run: &str) -> Self {
        Self {
            progress: NoProgress::handle(),
            cancel: CancellationToken::new(),
            run: run.to_string(),
            now: crate::base::time::now(),
            rehearsal: false,
            pause: Pause::default(),
            attempt: Attempt::unrecorded(),
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// For the journal and for JSON.
    pub value: Value,
    /// For people, under the step's line.
    pub lines: Vec<String>,
    /// What it did not do although it ended well: gaps, a partial generation. Exit status 6.
    pub incomplete: Vec<String>,
    /// What it found damaged and left out although it ended well. Exit status 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// Added up over all steps for the last line: `records written`, `records read back`, `differ`.
    pub totals: Vec<Total>,
}

impl Outcome {
    pub fn of(value: Value) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }

    pub fn total(mut self, what: impl Into<String>, count: u64) -> Self {
        self.totals.push(Total {
            what: what.into(),
            count,
        });
        self
    }

    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

/// A number for the run's last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    pub what: String,
    pub count: u64,
}

impl Total {
    /// `2 groups moved`, `1 group moved`.
    pub fn text(&self) -> String {
        let what = match self.count {
            1 => self.what.replacen("s ", " ", 1),
            _ => self.what.clone(),
        };
        format!("{} {what}", text::grouped(self.count))
    }
}

/// How far an interrupted step came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconciled {
    /// With what it came to.
    Done(Box<Outcome>),
    /// Nothing of it happened: it is checked and applied as if it had not begun.
    NotDone,
    /// How far it came; applying it again goes on from there, and its preconditions no longer hold.
    Partial(String),
    /// The world shows neither the old nor the new state: somebody else was there.
    Foreign(String),
}
