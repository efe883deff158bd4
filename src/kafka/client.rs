//! The handle everything goes through: which broker a call goes to, and on which connection.

use super::brokers::{self, Brokers, Purpose};
use super::code::{Class, ErrorCode};
use super::connection::Connection;
use super::coordinator::CoordinatorCache;
use super::error::{Attempt, Error, Result};
use super::metadata::{self, MetadataCache};
use super::options::ConnectOptions;
use super::retry::Backoff;
use super::versions::name_of;
use kafka_protocol::messages::DescribeClusterRequest;
use kafka_protocol::protocol::Request;
use std::sync::Arc;
use std::time::Duration;

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
    /// `host:port`, or `[host]:port` for an IPv6 address.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            // An IPv6 address.
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// What a cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: String,
    pub controller_id: Option<i32>,
    /// Sorted by id.
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
    brokers: Brokers,
    metadata: MetadataCache,
    coordinators: CoordinatorCache,
}

impl Client {
    /// Connects to the first bootstrap address that answers and learns the cluster from it. From then on
    /// the brokers are reached at the addresses that they advertise.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let seed = brokers::bootstrap(&options).await?;
        // No topics: the list of brokers is all that is needed, and large clusters have many topics.
        let answer = exchange(
            &seed,
            &metadata::request(Some(&[])),
            i16::MAX,
            options.request_timeout,
        )
        .await?;
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            return Err(Error::broker("Metadata", "the cluster", code, None));
        }
        let metadata = metadata::from_answer(answer);
        let cluster_id = metadata.cluster_id.clone().unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                cluster_id,
                brokers: Brokers::default(),
                metadata: MetadataCache::new(metadata),
                coordinators: CoordinatorCache::default(),
            }),
        })
    }

    pub fn options(&self) -> &ConnectOptions {
        &self.inner.options
    }

    /// The cluster's own id; empty for brokers before 0.10.1, which had none.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    pub(super) fn cache(&self) -> &MetadataCache {
        &self.inner.metadata
    }

    pub(super) fn coordinators(&self) -> &CoordinatorCache {
        &self.inner.coordinators
    }

    /// Asks the cluster who it is and which brokers it has now.
    pub async fn describe_cluster(&self) -> Result<ClusterInfo> {
        let connection = self.connection(Route::Any, Purpose::Control).await?;
        let metadata_version = connection.versions.metadata_level.map(release_of_level);
        let request = DescribeClusterRequest::default();
        let answer = match self.ask(Route::Any, &request, i16::MAX).await {
            Ok(answer) => answer,
            // Brokers before 2.8.
            Err(Error::Unsupported { .. }) => {
                let metadata = self.fetch_metadata(Some(&[])).await?;
                return Ok(ClusterInfo {
                    cluster_id: self.cluster_id().to_string(),
                    controller_id: metadata.controller_id,
                    brokers: metadata.brokers.values().cloned().collect(),
                    metadata_version,
                });
            }
            Err(error) => return Err(error),
        };
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            let message = answer.error_message.map(|message| message.to_string());
            return Err(Error::broker(
                "DescribeCluster",
                "the cluster",
                code,
                message,
            ));
        }
        let mut brokers: Vec<BrokerInfo> = answer
            .brokers
            .into_iter()
            .map(|broker| BrokerInfo {
                id: broker.broker_id.0,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.map(|rack| rack.to_string()),
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterInfo {
            cluster_id: answer.cluster_id.to_string(),
            controller_id: Some(answer.controller_id.0).filter(|id| *id >= 0),
            brokers,
            metadata_version,
        })
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
        self.send(to, &request, max_version).await
    }

    pub(super) async fn send<R: Request>(
        &self,
        to: Route,
        request: &R,
        max_version: i16,
    ) -> Result<R::Response> {
        self.send_on(Purpose::Control, to, request, max_version)
            .await
    }

    /// As `send`, on a connection of its own.
    pub(super) async fn send_on<R: Request>(
        &self,
        purpose: Purpose,
        to: Route,
        request: &R,
        max_version: i16,
    ) -> Result<R::Response> {
        let connection = self.connection(to, purpose).await?;
        let allowed = self.options().request_timeout;
        exchange(&connection, request, max_version, allowed).await
    }

    /// As `send`, and again after a lost connection or a late answer until the retry time is over: only
    /// for requests that may be carried out twice.
    pub(super) async fn ask<R: Request>(
        &self,
        to: Route,
        request: &R,
        max_version: i16,
    ) -> Result<R::Response> {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let error = match self.send(to, request, max_version).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.class() == Class::Fatal || !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// A connection to the broker that the route names.
    pub(super) async fn connection(&self, to: Route, purpose: Purpose) -> Result<Arc<Connection>> {
        match to {
            Route::Broker(id) => self.connection_to(id, purpose).await,
            Route::Any => self.connection_to_any(purpose).await,
            Route::Controller => {
                let metadata = self.metadata();
                match metadata.controller_id {
                    Some(id) if metadata.brokers.contains_key(&id) => {
                        self.connection_to(id, purpose).await
                    }
                    _ => self.connection_to_any(purpose).await,
                }
            }
        }
    }

    /// The connection to a broker, if there is one.
    pub(super) fn usable(&self, id: i32, purpose: Purpose) -> Option<Arc<Connection>> {
        let metadata = self.metadata();
        self.inner
            .brokers
            .usable(metadata.brokers.get(&id)?, purpose)
    }

    async fn connection_to(&self, id: i32, purpose: Purpose) -> Result<Arc<Connection>> {
        let metadata = self.metadata();
        let broker = match metadata.brokers.get(&id) {
            Some(broker) => broker.clone(),
            None => {
                // Boxed: refreshing itself needs a connection, to any broker.
                let refreshed = Box::pin(self.refresh_metadata(metadata.generation)).await?;
                let found = refreshed.brokers.get(&id).cloned();
                found.ok_or(Error::UnknownBroker { id })?
            }
        };
        let Inner {
            brokers, options, ..
        } = &*self.inner;
        brokers.connection(&broker, purpose, options).await
    }

    /// A broker that is connected already, else the first that can be, else a bootstrap address.
    async fn connection_to_any(&self, purpose: Purpose) -> Result<Arc<Connection>> {
        let metadata = self.metadata();
        let Inner {
            brokers, options, ..
        } = &*self.inner;
        let mut usable = metadata.brokers.values();
        if let Some(connection) = usable.find_map(|broker| brokers.usable(broker, purpose)) {
            return Ok(connection);
        }
        let mut tried: Vec<Attempt> = Vec::new();
        for broker in metadata.brokers.values() {
            match brokers.connection(broker, purpose, options).await {
                Ok(connection) => return Ok(connection),
                Err(Error::Unreachable { tried: attempts }) => tried.extend(attempts),
                Err(error) => tried.push(Attempt {
                    address: broker.address(),
                    why: error.to_string(),
                    times: 1,
                    elapsed: Duration::ZERO,
                }),
            }
        }
        match brokers::bootstrap(options).await {
            Ok(connection) => Ok(connection),
            Err(Error::Unreachable { tried: attempts }) => {
                tried.extend(attempts);
                Err(Error::Unreachable { tried })
            }
            Err(error) => Err(error),
        }
    }
}

/// One request and its answer on a connection, in the highest version both sides speak up to `cap`.
pub(super) async fn exchange<R: Request>(
    connection: &Arc<Connection>,
    request: &R,
    cap: i16,
    allowed: Duration,
) -> Result<R::Response> {
    let version = connection.choose::<R>(cap)?;
    let pending = connection.send(request, version, allowed).await?;
    pending.answer::<R>(version).await
}

impl Connection {
    /// The version of `R` to speak with this broker.
    pub(super) fn choose<R: Request>(&self, cap: i16) -> Result<i16> {
        self.versions
            .choose::<R>(cap)
            .map_err(|none| Error::Unsupported {
                api: name_of::<R>(),
                broker: self.broker().to_string(),
                wanted: none.wanted,
                offered: none.offered,
            })
    }
}

/// Kafka's release for a level of the `metadata.version` feature (MetadataVersion.java).
fn release_of_level(level: i16) -> String {
    let release = match level {
        1 => "3.0",
        2 => "3.1",
        3 => "3.2",
        4..=7 => "3.3",
        8 => "3.4",
        9..=11 => "3.5",
        12..=14 => "3.6",
        15..=19 => "3.7",
        20 => "3.8",
        21 => "3.9",
        22..=25 => "4.0",
        26..=27 => "4.1",
        28..=29 => "4.2",
        30 => "4.3",
        _ => return format!("level {level}"),
    };
    release.to_string()
}
