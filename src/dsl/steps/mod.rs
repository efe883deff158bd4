//! Steps over the engine's plans: how each is shown, pinned, checked, applied.

mod backup;
mod blocked;
mod groups;
mod load;
mod offsets;
mod prepare;
mod prune;
mod restore;
mod saved;
mod undo;

pub use backup::{BackupRun, backup};
pub use groups::{RemovalRun, removal};
pub use load::load;
pub use offsets::{ResetRun, offsets};
pub use prune::{PruneRun, UndeleteRun, prune, undelete};
pub use restore::{RestoreRun, restore};
pub use undo::{Undo, undo};

use crate::base::text::counted;
use crate::engine;
use crate::engine::offsets::ActiveGroup;
use crate::run::StepError;
use serde_json::Value;

/// An engine error as a step's: drift and cancelling have their own exit status, the rest keeps its cause.
fn step_error(error: engine::Error) -> StepError {
    match error {
        engine::Error::Drift(what) => StepError::drift(what)
            .now("run the same command again to plan against the world as it is"),
        engine::Error::Cancelled => StepError::interrupted("interrupted"),
        other => StepError::caused_by(other),
    }
}

/// Rows of one shape, with their names once: as objects they would take four times the memory, and a restore has ten
/// thousand of them.
fn table(columns: &[&str], rows: impl Iterator<Item = Vec<Value>>) -> Value {
    let rows: Vec<Value> = rows.map(Value::Array).collect();
    let mut table = serde_json::json!({ "columns": columns });
    table["rows"] = Value::Array(rows);
    table
}

/// A value for a digest. What cannot be serialised must not make two plans look equal, so it shows as itself.
fn value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of)
        .unwrap_or_else(|error| serde_json::Value::from(format!("unserialisable: {error}")))
}

/// The refusal of a step whose groups have members; what to do about it is the step's to say.
fn active(groups: &[ActiveGroup], cluster: &str, done: &str) -> StepError {
    let who = match groups {
        [one] => format!("group {} is", one.group),
        many => format!("{} are", counted(many.len() as i64, "group")),
    };
    let message = format!("{who} active on {cluster}; nothing was {done}");
    let refusal = StepError::new("E0412", message);
    groups.iter().fold(refusal, |refusal, group| {
        refusal.fact("members", group.members_text())
    })
}
