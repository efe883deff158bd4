//! In-process Kafka brokers: real loopback sockets, the real protocol, logs in memory.
//!
//! For quick tests, for rehearsals, and for faults that no real broker shows on demand. Truth stays with
//! Apache Kafka: `tests/conformance` runs the same assertions against both. `README.md` next to this file
//! lists what the sandbox does not do.

mod intercept;

pub use intercept::{Action, Seen};

use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Why the sandbox could not do what a test or a rehearsal asked of it directly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox {name:?}: no listener on 127.0.0.1: {source}")]
    Listen {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("sandbox: a cluster has 1 to 16 brokers, not {0}")]
    BrokerCount(usize),
    #[error("sandbox: there is no broker {0}")]
    NoSuchBroker(i32),
    #[error("sandbox: there is no partition {partition} of topic {topic:?}")]
    NoSuchPartition {
        topic: String,
        partition: PartitionId,
    },
    /// The cluster answered as it would have answered a client.
    #[error("sandbox: {what}: {message} (code {code})")]
    Refused {
        what: String,
        code: i16,
        message: String,
    },
    #[error("sandbox: {0} is not built yet")]
    NotBuilt(&'static str),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a sandbox cluster is made.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The cluster's name; its cluster id and topic ids follow from it.
    pub name: String,
    /// How many brokers, with the node ids 1, 2, …
    pub brokers: usize,
    /// Whether asking for the metadata of a missing topic creates it, as `auto.create.topics.enable` does.
    pub auto_create_topics: bool,
    /// Partitions of topics created without a count.
    pub default_partitions: i32,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            name: "sandbox".to_string(),
            brokers: 1,
            auto_create_topics: false,
            default_partitions: 1,
        }
    }
}

impl SandboxOptions {
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// One record as it lies in a log, control records included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub producer_id: i64,
    pub transactional: bool,
    pub control: bool,
}

/// A committed offset of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// A transaction that a test began directly and nobody has ended: what a hanging transaction looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub first_offset: Offset,
}

/// A running cluster of in-process brokers. Dropping it stops them.
#[derive(Debug)]
pub struct Sandbox {
    options: SandboxOptions,
}

impl Sandbox {
    /// Binds one loopback port per broker and serves it.
    pub async fn start(_options: SandboxOptions) -> Result<Self> {
        Err(Error::NotBuilt("start"))
    }

    /// `host:port` of every broker.
    pub fn bootstrap(&self) -> Vec<String> {
        Vec::new()
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Always the same for the same name, 22 characters like Kafka's own.
    pub fn cluster_id(&self) -> &str {
        ""
    }

    /// Adds an interceptor: it sees every request of every broker from now on.
    pub fn intercept(&self, _interceptor: impl FnMut(&Seen) -> Action + Send + 'static) {}

    /// Removes all interceptors.
    pub fn clear_interceptors(&self) {}

    /// How many requests of this API the cluster received so far.
    pub fn request_count(&self, _api_key: i16) -> u64 {
        0
    }

    /// Stops all brokers and waits until their sockets are closed.
    pub async fn shutdown(self) {}

    /// Closes a broker's listener and connections; its partitions move to other replicas, if any.
    pub fn stop_broker(&self, _node_id: i32) -> Result<()> {
        Err(Error::NotBuilt("stop_broker"))
    }

    /// Listens again on the port the broker had.
    pub async fn start_broker(&self, _node_id: i32) -> Result<()> {
        Err(Error::NotBuilt("start_broker"))
    }

    /// Makes another broker the leader, under the next leader epoch.
    pub fn move_leader(&self, _topic: &str, _partition: i32, _node_id: i32) -> Result<()> {
        Err(Error::NotBuilt("move_leader"))
    }

    pub fn create_topic(
        &self,
        _name: &str,
        _partitions: i32,
        _configs: &[(&str, &str)],
    ) -> Result<TopicId> {
        Err(Error::NotBuilt("create_topic"))
    }

    pub fn delete_topic(&self, _name: &str) -> Result<()> {
        Err(Error::NotBuilt("delete_topic"))
    }

    /// The names of all topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        Vec::new()
    }

    /// Appends one batch as the leader would for a producer: same checks, offsets assigned. Returns its base offset.
    pub fn append(&self, _topic: &str, _partition: i32, _batch: &[u8]) -> Result<Offset> {
        Err(Error::NotBuilt("append"))
    }

    /// Puts batches into the log as a follower does: offsets, epochs and inner gaps stay as they are. This is how
    /// the log of a compacted topic is made. Returns the log's new end.
    pub fn replicate(&self, _topic: &str, _partition: i32, _batches: &[u8]) -> Result<Offset> {
        Err(Error::NotBuilt("replicate"))
    }

    /// Begins a transaction of a fresh producer with this batch and leaves it open.
    pub fn begin_transaction(
        &self,
        _topic: &str,
        _partition: i32,
        _batch: &[u8],
    ) -> Result<OpenTransaction> {
        Err(Error::NotBuilt("begin_transaction"))
    }

    /// Writes the marker of a transaction begun with [`Sandbox::begin_transaction`]. Returns the marker's offset.
    pub fn end_transaction(
        &self,
        _topic: &str,
        _partition: i32,
        _transaction: OpenTransaction,
        _commit: bool,
    ) -> Result<Offset> {
        Err(Error::NotBuilt("end_transaction"))
    }

    /// Appends a batch in a transaction of its own and aborts it. Returns the batch's base offset.
    pub fn append_aborted(&self, _topic: &str, _partition: i32, _batch: &[u8]) -> Result<Offset> {
        Err(Error::NotBuilt("append_aborted"))
    }

    /// Every record of a partition from its log start, control records included, decompressed.
    pub fn records(&self, _topic: &str, _partition: i32) -> Result<Vec<LogRecord>> {
        Err(Error::NotBuilt("records"))
    }

    /// The log's batches as they are.
    pub fn log(&self, _topic: &str, _partition: i32) -> Result<Vec<u8>> {
        Err(Error::NotBuilt("log"))
    }

    pub fn log_start_offset(&self, _topic: &str, _partition: i32) -> Result<Offset> {
        Err(Error::NotBuilt("log_start_offset"))
    }

    pub fn end_offset(&self, _topic: &str, _partition: i32) -> Result<Offset> {
        Err(Error::NotBuilt("end_offset"))
    }

    pub fn last_stable_offset(&self, _topic: &str, _partition: i32) -> Result<Offset> {
        Err(Error::NotBuilt("last_stable_offset"))
    }

    /// Moves the log start, as DeleteRecords and retention do.
    pub fn delete_records(&self, _topic: &str, _partition: i32, _before: i64) -> Result<()> {
        Err(Error::NotBuilt("delete_records"))
    }

    /// Cuts the log's end and starts a new leader epoch: what an unclean leader election does.
    pub fn truncate(&self, _topic: &str, _partition: i32, _to: i64) -> Result<()> {
        Err(Error::NotBuilt("truncate"))
    }

    /// Removes single records as the log cleaner does: offsets of the others stay, empty batches go.
    pub fn compact_away(&self, _topic: &str, _partition: i32, _offsets: &[i64]) -> Result<()> {
        Err(Error::NotBuilt("compact_away"))
    }

    /// Commits an offset for a group, whatever its state.
    pub fn set_committed(
        &self,
        _group: &str,
        _topic: &str,
        _partition: i32,
        _offset: i64,
        _metadata: &str,
    ) {
    }

    /// All committed offsets of a group by topic and partition; empty for an unknown group.
    pub fn committed(&self, _group: &str) -> BTreeMap<(String, i32), CommittedOffset> {
        BTreeMap::new()
    }
}

/// Locks a mutex. A panic of another thread that held it does not make the state unusable: tests that panic on
/// purpose must still be able to look at it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
