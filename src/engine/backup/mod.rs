//! Backup: a cluster's records, configs and committed offsets into a generation of an archive.
//!
//! Fetch responses go from socket to segment without a record being decoded: header walk, checksum, block, upload.
//! Everything in `[from, to)` of a partition ends up as a record or as a gap with its reason; the archive refuses a
//! generation whose books do not balance. A partition that fails does so by name and alone, and makes the generation
//! partial; nothing that is incomplete is reported as done.

mod answers;
mod apply;
mod cluster;
mod copy;
mod corrupt;
mod endings;
mod ends;
mod fetch;
mod freshness;
mod gaps;
mod groups;
mod identity;
mod open_transactions;
mod options;
mod plan;
mod reconcile;
mod report;
mod select;
mod survey;
mod track;
mod walk;

pub use crate::base::SomePartitions;
pub use apply::apply;
pub use cluster::acl_entry;
pub use options::{Keep, Options, Run};
pub use plan::{
    Blocked, Parent, Plan, PlanAsked, PlanCluster, PlanGroups, PlanPartition, PlanTopic,
    RemovedTopic, TopicState,
};
pub use reconcile::{FoundGeneration, reconcile};
pub use report::{BackedUp, Failure, Report};
pub use survey::{check, plan};
pub(in crate::engine) use walk::Transactions;
