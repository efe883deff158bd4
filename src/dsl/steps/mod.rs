//! Steps over the engine's plans: how each is shown, pinned, checked, applied.

mod backup;
mod blocked;
mod load;
mod offsets;
mod prepare;
mod prune;
mod restore;
mod saved;

pub use backup::{BackupRun, backup};
pub use load::load;
pub use offsets::{ResetRun, offsets};
pub use prune::{PruneRun, UndeleteRun, prune, undelete};
pub use restore::{RestoreRun, restore};

use crate::engine;
use crate::run::StepError;

/// An engine error as a step's: drift and cancelling have their own exit status, the rest keeps its cause.
fn step_error(error: engine::Error) -> StepError {
    match error {
        engine::Error::Drift(what) => StepError::drift(what)
            .now("run the same command again to plan against the world as it is"),
        engine::Error::Cancelled => StepError::interrupted("interrupted"),
        other => StepError::caused_by(other),
    }
}

/// A value for a digest. What cannot be serialised must not make two plans look equal, so it shows as itself.
fn value(of: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(of)
        .unwrap_or_else(|error| serde_json::Value::from(format!("unserialisable: {error}")))
}
