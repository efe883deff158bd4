//! Restore: an archive's records into a cluster, each once, with every base offset asserted.
//!
//! [`plan`] reads the archive and the target and answers with a value; each part of it has a `check` (is the world
//! still as planned?) and an apply function that takes the part and nothing else. The order is: create the topics
//! under settings that neither expire nor compact nor re-stamp anything, write, put the real configs back, verify
//! (`engine::verify`).

mod apply;
mod choose;
mod context;
mod headers;
mod options;
mod plan;
mod predict;
mod prepare;
mod reconcile;
mod resolve;
mod routing;
pub(crate) mod scan;
mod select;
mod shape;
mod target;
mod topic;
pub(crate) mod units;
mod writer;

pub use apply::{
    check_create_topic, check_finish_topic, check_write_topic, create_topic, finish_topic,
    written_so_far,
};
pub use context::{IdentityKnown, WriteContext, WriteProgress};
pub use headers::HeaderChanges;
pub(crate) use headers::{
    HeaderRule, ORIGINAL_OFFSET, ORIGINAL_PARTITION, SOURCE_CLUSTER, is_of_origin,
};
pub use options::{
    FilterError, FilterRecord, FilterSession, HeaderOptions, OnError, Options, PartitionRemap,
    RecordFilter, ScanBudget, SomeOffsets, TopicRemap,
};
pub use plan::{
    Blocked, CreateTopic, FinishTopic, Plan, Predicted, PrepareTopic, TargetState, TopicReport,
    WritePartition, WriteTopic, WrittenPartition,
};
pub use prepare::{check_prepare_topic, is_prepared, prepare_topic, same_topic};
pub use reconcile::{FoundTopic, is_finished, reconcile_create};
pub use resolve::plan;
pub use routing::{KEYLESS_RUN, Routing, murmur2};
pub(crate) use select::{Fate, Selector, selector};
pub(crate) use target::log_ranges;
pub use writer::{reconcile_write, write_topic};
