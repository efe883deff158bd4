//! Plan, digest, confirmation, journal, execution. This layer knows steps, not Kafka.
//!
//! A [`Plan`] is a value: an ordered list of fully resolved [`Step`]s and the confirmations between them. It is
//! shown, hashed, approved and then applied by [`execute`], which writes every intent to the [`Journal`] before
//! the effect. What a step does to a cluster is the step's own business.

mod approval;
mod attempt;
mod canonical;
pub mod config;
mod document;
mod error;
mod execute;
mod grouped;
mod journal;
mod plan;
mod saved;
mod step;
mod undo;

pub use approval::{Answer, Approval, Approver, Question};
pub use attempt::Attempt;
pub use canonical::canonical_json;
pub use config::{ClusterConfig, Config, ConfigError, RehearseConfig, StoreConfig, UnknownName};
pub use document::{ItemDocument, PlanDocument, StepDocument, StepStatus, Summary};
pub use error::{ExitClass, RunError, StepError};
pub use execute::{
    Execution, NoWatcher, RunEnd, RunReport, StepResult, StepState, Watcher, execute,
    execute_shown, resume, unanswered,
};
pub use grouped::grouped_rows;
pub use journal::{
    ChainBreak, Journal, JournalError, JournalledRun, JournalledStep, RecentRun, RunId, RunLock,
    RunRecord, SoFar, StateSoFar, StepSoFar, StoredMapping, Witness, journal_path, recent_runs,
};
pub use plan::{
    ArchiveFact, ClusterFact, GateSection, Item, Plan, PlannedStep, RunbookId, Span, Stopped,
};
pub use saved::{SavedItem, SavedParts, SavedPlan};
pub use step::{
    Blocked, Cell, Detail, Gate, Outcome, ROOM, Reconciled, Step, StepContext, StepKind, StepView,
    Total, ViewLine,
};
pub use undo::{NotUndone, UndoOffset, UndoStep, Undoable};
