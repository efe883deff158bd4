//! The values that are not tied to a cluster or an archive: durations, instants, sizes, secrets, arguments.
//! The others are re-exported from the file of their verbs.

use super::host::Host;
use crate::base::size::format_bytes;
use crate::base::time::{format_duration_ms, format_instant};
use crate::base::{Secret, TimestampMs};
use std::fmt;
use std::sync::Arc;

pub use super::filter::RecordValue;
pub use super::verbs::access::{AclValue, QuotaValue};
pub use super::verbs::archives::{GenerationValue, SnapshotValue, StoreValue};
pub use super::verbs::backup::{BackedUp, Backup};
pub use super::verbs::clusters::{Cluster, Topic};
pub use super::verbs::consumers::{Group, GroupLag, Lag, Member};
pub use super::verbs::logs::PartitionLog;
pub use super::verbs::offsets::{OffsetPlan, OffsetRow};
pub use super::verbs::prune::PrunedValue;
pub use super::verbs::restore::{Restore, Restored};

/// Milliseconds between two instants. Compares only with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub i64);

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub TimestampMs);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A value that nothing shows.
#[derive(Clone, Debug)]
pub struct SecretValue(pub Secret);

/// `args`: what was given after `--`.
#[derive(Clone)]
pub struct ArgumentsValue(pub Arc<Host>);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration_ms(self.0))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_instant(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_bytes(self.0))
    }
}

impl fmt::Display for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
