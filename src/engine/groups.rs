//! Taking groups away, and single committed offsets of them.

mod remove;

pub use remove::{
    Removal, Removed, RemovedGroup, RemovedOffset, check_removal, left_of, plan_groups,
    plan_offsets, reconcile_removal, remove,
};
