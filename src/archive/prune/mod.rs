//! Pruning: which recovery points and which data go, in two phases, and the way back within the grace time.
//!
//! A prune marks: what is marked is hidden, and all of it is still there. A later prune, once the grace time is over,
//! deletes. Both are commits in the chain of generations, so a prune and a backup that run at once come one after the
//! other: the loser of a number reads again. What a commit says is gone counts as gone whether or not its objects
//! were deleted yet, so a prune that dies at any moment leaves an archive that is in order.

mod apply;
pub(super) mod holdings;
mod objects;
mod plan;
mod policy;
mod reconcile;
mod undelete;

pub use apply::{Progressed, Pruned};
pub use plan::{DataGoing, Fate, ObjectGoing, ObjectKind, PlannedPoint, PrunePlan, Tip, Why};
pub use policy::Policy;
pub use reconcile::FoundCommit;
pub use undelete::{Back, UndeletePlan};
