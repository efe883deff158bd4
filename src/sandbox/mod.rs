//! In-process Kafka brokers: real loopback sockets, the real protocol, logs in memory.
//!
//! For quick tests, for rehearsals, and for faults that no real broker shows on demand. Truth stays with
//! Apache Kafka: `tests/conformance` runs the same assertions against both. `README.md` next to this file
//! lists what the sandbox does not do.

mod acls;
mod api;
mod batch;
mod cluster;
pub mod codes;
mod configs;
mod direct;
mod groups;
mod intercept;
mod log;
mod producers;
mod server;
mod transactions;

pub use intercept::{Action, Seen};

use crate::base::{Offset, PartitionId, TimestampMs};
use cluster::{Broker, Cluster};
use server::Server;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

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
    /// Whether the cluster keeps ACLs (as `authorizer.class.name` decides). They are kept only, never enforced.
    pub authorizer: bool,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            name: "sandbox".to_string(),
            brokers: 1,
            auto_create_topics: false,
            default_partitions: 1,
            authorizer: false,
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
    cluster: Arc<Cluster>,
    servers: Mutex<BTreeMap<i32, Server>>,
}

impl Sandbox {
    /// Binds one loopback port per broker and serves it.
    pub async fn start(options: SandboxOptions) -> Result<Self> {
        if !(1..=16).contains(&options.brokers) {
            return Err(Error::BrokerCount(options.brokers));
        }
        let count = options.brokers;
        let sandbox = Self {
            cluster: Arc::new(Cluster::new(options)),
            servers: Mutex::default(),
        };
        for node_id in (1..).take(count) {
            sandbox.listen(node_id, 0).await?;
        }
        Ok(sandbox)
    }

    async fn listen(&self, node_id: i32, port: u16) -> Result<()> {
        let server = Server::start(self.cluster.clone(), node_id, port)
            .await
            .map_err(|source| Error::Listen {
                name: self.name().to_string(),
                source,
            })?;
        let broker = Broker {
            port: server.port,
            alive: true,
        };
        lock(&self.servers).insert(node_id, server);
        let mut state = self.cluster.state();
        state.brokers.insert(node_id, broker);
        state.reelect();
        drop(state);
        self.cluster.touch();
        Ok(())
    }

    /// `host:port` of every broker.
    pub fn bootstrap(&self) -> Vec<String> {
        self.cluster
            .state()
            .brokers
            .values()
            .map(|broker| format!("127.0.0.1:{}", broker.port))
            .collect()
    }

    pub fn name(&self) -> &str {
        &self.cluster.options.name
    }

    /// Always the same for the same name, 22 characters like Kafka's own.
    pub fn cluster_id(&self) -> &str {
        &self.cluster.cluster_id
    }

    /// Adds an interceptor: it sees every request of every broker from now on.
    pub fn intercept(&self, interceptor: impl FnMut(&Seen) -> Action + Send + 'static) {
        self.cluster.interceptors.add(Box::new(interceptor));
    }

    /// Removes all interceptors.
    pub fn clear_interceptors(&self) {
        self.cluster.interceptors.clear();
    }

    /// How many requests of this API the cluster received so far.
    pub fn request_count(&self, api_key: i16) -> u64 {
        lock(&self.cluster.requests)
            .get(&api_key)
            .copied()
            .unwrap_or(0)
    }

    /// Stops all brokers and waits until their sockets are closed.
    pub async fn shutdown(self) {
        let servers = std::mem::take(&mut *lock(&self.servers));
        for server in servers.into_values() {
            server.stop.cancel();
            server.tasks.close();
            server.tasks.wait().await;
        }
    }

    /// Closes a broker's listener and connections; its partitions move to other replicas, if any are alive.
    pub async fn stop_broker(&self, node_id: i32) -> Result<()> {
        let server = lock(&self.servers)
            .remove(&node_id)
            .ok_or(Error::NoSuchBroker(node_id))?;
        {
            let mut state = self.cluster.state();
            if let Some(broker) = state.brokers.get_mut(&node_id) {
                broker.alive = false;
            }
            state.reelect();
        }
        self.cluster.touch();
        server.stop.cancel();
        server.tasks.close();
        server.tasks.wait().await;
        Ok(())
    }

    /// Listens again on the port the broker had.
    pub async fn start_broker(&self, node_id: i32) -> Result<()> {
        let port = match self.cluster.state().brokers.get(&node_id) {
            Some(broker) if !broker.alive => broker.port,
            Some(_) => return Ok(()),
            None => return Err(Error::NoSuchBroker(node_id)),
        };
        self.listen(node_id, port).await
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for server in lock(&self.servers).values() {
            server.stop.cancel();
        }
    }
}

/// Locks a mutex. A panic of another thread that held it does not make the state unusable: tests that panic on
/// purpose must still be able to look at it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
