//! What every layer shares: small types, time, sizes, text, name patterns, progress, pause, buffers.

pub mod buffers;
pub mod partitions;
pub mod pattern;
pub mod pause;
pub mod progress;
pub mod size;
pub mod text;
pub mod time;
pub mod types;

pub use partitions::{PartitionSet, SomePartitions};
pub use pattern::{Pattern, PatternError, Selection};
pub use pause::Pause;
pub use progress::{NoProgress, Progress, ProgressHandle};
pub use tokio_util::sync::CancellationToken;
pub use types::{Digest, Offset, PartitionId, Secret, TimestampMs, TopicId, TopicPartition};
