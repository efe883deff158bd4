//! The handle everything goes through.

use super::error::{Error, Result};
use super::metadata::Metadata;
use super::options::ConnectOptions;
use crate::base::TopicPartition;
use kafka_protocol::protocol::Request;
use std::sync::Arc;

/// Which broker a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Any broker that answers.
    Any,
    /// The controller, or any broker where brokers forward to it (KRaft).
    Controller,
    /// The broker with this id.
    Broker(i32),
}

/// One broker as the cluster advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl BrokerInfo {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What a cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: String,
    pub controller_id: Option<i32>,
    pub brokers: Vec<BrokerInfo>,
    /// The finalized `metadata.version` as Kafka's release ("4.3"), or `level N` for one kbr does not
    /// know; `None` when the cluster does not tell.
    pub metadata_version: Option<String>,
}

/// A cluster's client: cheap to clone, safe to share.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ConnectOptions,
    cluster_id: String,
}

pub(super) fn not_yet<T>(what: &str) -> Result<T> {
    Err(Error::BadRequest(format!("{what}: not in this build yet")))
}

impl Client {
    /// Connects to the first bootstrap address that answers and learns the cluster from it.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let _ = options;
        not_yet("connect")
    }

    pub fn options(&self) -> &ConnectOptions {
        &self.inner.options
    }

    /// The cluster's own id.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// Asks the cluster who it is and which brokers it has now.
    pub async fn describe_cluster(&self) -> Result<ClusterInfo> {
        not_yet("describe_cluster")
    }

    /// Sends one request in the highest version both sides speak and waits for its answer. Only a failed
    /// connection attempt is retried; error codes in the answer are the caller's.
    pub async fn call<R: Request>(&self, to: Route, request: R) -> Result<R::Response> {
        self.call_capped(to, request, i16::MAX).await
    }

    /// As [`Client::call`], with no version above `max_version`.
    pub async fn call_capped<R: Request>(
        &self,
        to: Route,
        request: R,
        max_version: i16,
    ) -> Result<R::Response> {
        let _ = (to, request, max_version);
        not_yet("call")
    }

    /// The metadata as last seen.
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::new(Metadata::default())
    }

    /// Fetches the metadata again unless somebody did since generation `seen` of it.
    pub async fn refresh_metadata(&self, seen: u64) -> Result<Arc<Metadata>> {
        let _ = seen;
        not_yet("refresh_metadata")
    }

    /// The broker that leads the partition, from the cache if it is there.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<i32> {
        let _ = partition;
        not_yet("leader")
    }
}
