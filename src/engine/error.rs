//! What can go wrong in the engine, with the topic, partition and offsets it is about.

use super::restore::FilterError;
use crate::base::time::format_instant;
use crate::base::{Offset, TimestampMs, TopicPartition};
use crate::{archive, kafka, record};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// Bytes of a batch that are not as they must be: at the source while backing up, in the archive otherwise.
    #[error("{partition} at offset {offset}: {source}")]
    Record {
        partition: TopicPartition,
        offset: Offset,
        source: record::Error,
    },
    /// The filter or remap closure failed on a record.
    #[error(
        "the filter failed on {partition} offset {offset} ({}, {key}): {source}",
        format_instant(*timestamp)
    )]
    Filter {
        partition: TopicPartition,
        offset: Offset,
        timestamp: TimestampMs,
        /// As far as it helps to find the record.
        key: String,
        source: FilterError,
    },
    #[error("the remap closure failed on topic {topic}: {source}")]
    Remap { topic: String, source: FilterError },
    /// Somebody else wrote into a partition while it was restored.
    #[error(
        "another producer wrote into {partition}: offset {expected} was next, and the records went to {found}"
    )]
    ForeignWriter {
        partition: TopicPartition,
        expected: Offset,
        found: Offset,
    },
    /// The broker took a batch for one it already had.
    #[error(
        "{partition}: the batch for offset {expected} was taken for a duplicate of the one at {found}"
    )]
    Duplicate {
        partition: TopicPartition,
        expected: Offset,
        found: Offset,
    },
    /// An interrupted write cannot go on: what stands at a target's end is not what it put there.
    #[error("{partition} cannot be gone on with: {found}")]
    NotOurs {
        partition: TopicPartition,
        end: Offset,
        found: String,
    },
    /// Nothing went forward on a partition for too long.
    #[error("{partition}: no progress for {seconds} s at offset {at}: {last}")]
    Stalled {
        partition: TopicPartition,
        at: Offset,
        seconds: u64,
        last: String,
    },
    /// Every partition of a backup failed, and none of their records is kept.
    #[error("nothing could be read: {}", why.first().map_or("no partition is left", String::as_str))]
    NothingRead { why: Vec<String> },
    /// The source's log was cut below the archived end and written anew: nothing can be appended to what is archived.
    #[error(
        "{partition} was truncated at its source: {archived_to} offsets are archived, but its log (leader epoch {leader_epoch}) now ends that history at {end}"
    )]
    Diverged {
        partition: TopicPartition,
        archived_to: Offset,
        leader_epoch: i32,
        end: Offset,
    },
    /// A topic went away, or was made anew, while it was read.
    #[error("topic {topic} {what}")]
    TopicGone { topic: String, what: &'static str },
    /// The world is not as it was planned.
    #[error("{0}")]
    Drift(String),
    /// What was written or read back is not what was planned.
    #[error("{0}")]
    Mismatch(String),
    #[error(transparent)]
    Mapping(#[from] super::mapping::Error),
    #[error("cancelled")]
    Cancelled,
    /// What a crash would need to find again could not be written down, so nothing was begun.
    #[error("the producer identity could not be recorded: {0}")]
    NotRecorded(String),
    /// A worker thread ended without an answer.
    #[error("{0}")]
    Internal(String),
}
