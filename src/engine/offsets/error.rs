//! Why offsets were not planned or not moved. Nothing has moved unless the error says what has.

use super::check::ActiveGroup;
use crate::archive;
use crate::base::{Offset, TopicPartition};
use crate::engine::restore::FilterError;
use crate::kafka::{self, ErrorCode};
use crate::record;
use serde::Serialize;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A committed offset that is no longer what the plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drifted {
    pub group: String,
    pub partition: TopicPartition,
    pub planned: Option<Offset>,
    pub found: Option<Offset>,
}

/// A planned offset that the target's log does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutsideLog {
    pub group: String,
    pub partition: TopicPartition,
    pub target: Offset,
    pub log_start: Offset,
    pub log_end: Offset,
}

/// An offset that reads back as another one than was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub group: String,
    pub partition: TopicPartition,
    pub wanted: Offset,
    pub found: Option<Offset>,
    /// The offset is right and the metadata string is not.
    pub metadata_only: bool,
}

/// A group that a fallback commit did not move, and what the broker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMoved {
    pub group: String,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error("{partition} at offset {offset}: {source}")]
    Record {
        partition: TopicPartition,
        offset: Offset,
        source: record::Error,
    },
    #[error("{partition}: nothing more came at offset {at} for {seconds} s ({last})")]
    Stalled {
        partition: TopicPartition,
        at: Offset,
        seconds: u64,
        last: String,
    },
    #[error("a worker ended early: {0}")]
    Worker(String),
    #[error("renaming {name}: {source}")]
    Rename { name: String, source: FilterError },
    #[error("strategy `{name}` takes {what}")]
    StrategyWants { name: String, what: &'static str },
    #[error(
        "strategy `{name}` is not one of a restore; its groups move by `exact`, or stay by `skip`"
    )]
    ForLiveGroups { name: &'static str },
    #[error(
        "strategy `{name}` moves groups within a cluster; onto another one they go by `preserve`, `header`, \
         `timestamp` or `cluster-scan`"
    )]
    NotOnto { name: &'static str },
    #[error("{origin}: {what}")]
    Rows { origin: String, what: String },
    #[error("there is no strategy `{name}`{}", suggestion(.meant))]
    UnknownStrategy { name: String, meant: Option<String> },
    #[error("out_of_range takes \"block\" or \"clamp\", not `{name}`{}", suggestion(.meant))]
    UnknownOutOfRange { name: String, meant: Option<String> },
    #[error("{count} rows of the offset plan are blocked; no offset was moved")]
    Blocked { count: usize },
    /// Members would overwrite the reset with their next commit, unseen (E0412).
    #[error("{}; no offset was moved", active(.groups))]
    GroupsActive { groups: Vec<ActiveGroup> },
    #[error("committed offsets are not as planned: {}; no offset was moved", drifted(.rows))]
    Drift { rows: Vec<Drifted> },
    #[error("planned offsets lie outside the target's log: {}; no offset was moved", outside(.rows))]
    OutsideLog { rows: Vec<OutsideLog> },
    #[error("{partition} does not exist at the target ({code}); no offset was moved")]
    NoTarget {
        partition: TopicPartition,
        code: ErrorCode,
    },
    /// Without transactions groups move one by one, and some did not.
    #[error(
        "{} of {} groups were not moved: {}",
        .failed.len(), .failed.len() + .moved.len(), not_moved(.failed)
    )]
    PartlyMoved {
        moved: Vec<String>,
        failed: Vec<NotMoved>,
        /// Why there was no transaction.
        because: String,
    },
    /// Groups are changed one by one where offsets are deleted, and some were not.
    #[error(
        "{} of {} groups were not changed: {}",
        .failed.len(), .failed.len() + .removed.len(), not_moved(.failed)
    )]
    PartlyRemoved {
        removed: Vec<String>,
        failed: Vec<NotMoved>,
    },
    /// Somebody committed in between, and a plain commit wins over the transaction.
    #[error("{} committed offsets read back differently: {}", .rows.len(), differences(.rows))]
    ReadBack { rows: Vec<Difference> },
}

/// How many of a list an error message shows.
const SHOWN: usize = 3;

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut text = items
        .iter()
        .take(SHOWN)
        .map(show)
        .collect::<Vec<_>>()
        .join("; ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

fn known(offset: &Option<Offset>) -> String {
    offset.map_or_else(|| "none".to_string(), |offset| offset.to_string())
}

fn suggestion(candidate: &Option<String>) -> String {
    candidate
        .as_ref()
        .map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn active(groups: &[ActiveGroup]) -> String {
    match groups {
        [one] => format!("group {} is active", one.group),
        many => format!(
            "{} groups are active: {}",
            many.len(),
            list(many, |group| group.group.clone())
        ),
    }
}

fn drifted(rows: &[Drifted]) -> String {
    list(rows, |row| {
        format!(
            "group {} on {} was at {} and is at {}",
            row.group,
            row.partition,
            known(&row.planned),
            known(&row.found)
        )
    })
}

fn outside(rows: &[OutsideLog]) -> String {
    list(rows, |row| {
        format!(
            "group {} to {} on {}, which holds {} to {}",
            row.group, row.target, row.partition, row.log_start, row.log_end
        )
    })
}

fn not_moved(groups: &[NotMoved]) -> String {
    list(groups, |group| format!("{} ({})", group.group, group.why))
}

fn differences(rows: &[Difference]) -> String {
    list(rows, |row| {
        if row.metadata_only {
            format!(
                "group {} on {} has other metadata",
                row.group, row.partition
            )
        } else {
            format!(
                "group {} on {} is at {}, not {}",
                row.group,
                row.partition,
                known(&row.found),
                row.wanted
            )
        }
    })
}
