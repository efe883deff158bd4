//! What a runbook reaches: names resolved to clusters and stores, once each.
//!
//! In a rehearsal every cluster has a sandbox as its stand-in and every store a `memory:` archive; `rehearse`
//! fills them. Nothing else differs: the same verbs, plans and steps run.

use super::rehearse::Rehearsal;
use crate::archive::Witnessed;
use crate::base::text::counted;
use crate::kafka;
use crate::run::{ClusterFact, Config, Journal, UnknownName, journal_path};
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::store::{Store, StoreUrl};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Resolves the names in a runbook. In a rehearsal every cluster and store has a stand-in in this process.
pub struct World {
    config: Config,
    rehearsal: Option<Rehearsal>,
    clusters: Mutex<BTreeMap<String, Arc<ClusterHandle>>>,
    stores: Mutex<BTreeMap<String, Arc<StoreHandle>>>,
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    /// How each archive ended when it was read, by its id.
    seen: std::sync::Mutex<BTreeMap<uuid::Uuid, Witnessed>>,
}

/// A connected cluster under the name that the runbook gives it.
pub struct ClusterHandle {
    pub name: String,
    pub client: kafka::Client,
    pub fact: ClusterFact,
}

/// An opened store under the name that the runbook gives it.
pub struct StoreHandle {
    pub name: String,
    pub url: StoreUrl,
    pub store: Store,
}

/// A name that cannot be resolved, something that cannot be reached, or a stand-in that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("{0}")]
    UnknownName(#[from] UnknownName),
    #[error("cannot reach cluster {name}: {source}")]
    Cluster {
        name: String,
        /// Where its address is written: `kbr.toml:4`, `the runbook`.
        place: String,
        #[source]
        source: kafka::Error,
    },
    #[error("cannot open store {name}: {source}")]
    Store {
        name: String,
        place: String,
        #[source]
        source: crate::store::Error,
    },
    #[error("no address of a cluster: {0:?}")]
    BadAddress(String),
    #[error("sandbox {name}: {source}")]
    Sandbox {
        name: String,
        #[source]
        source: crate::sandbox::Error,
    },
    /// The seed data set of a rehearsal.
    #[error("{path}: {message}")]
    Seed { path: String, message: String },
    /// Seeding a stand-in or backing it up.
    #[error("preparing the rehearsal: {0}")]
    Prepare(String),
}

impl World {
    /// The real world of a `kbr.toml`.
    pub fn real(config: Config) -> Self {
        Self::new(config, None)
    }

    fn new(config: Config, rehearsal: Option<Rehearsal>) -> Self {
        Self {
            config,
            rehearsal,
            clusters: Mutex::default(),
            stores: Mutex::default(),
            sandboxes: Mutex::default(),
            seen: std::sync::Mutex::default(),
        }
    }

    /// Stand-ins for everything: sandbox clusters, one of them seeded, and archives made by backing it up.
    pub async fn rehearsal(config: Config) -> Result<Self, WorldError> {
        let rehearsal = Rehearsal::read(&config)?;
        Ok(Self::new(config, Some(rehearsal)))
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this is a rehearsal.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal.is_some()
    }

    /// Stops what the world started in this process.
    pub async fn shutdown(&self) {
        let sandboxes = std::mem::take(&mut *self.sandboxes.lock().await);
        for (_, sandbox) in sandboxes {
            sandbox.shutdown().await;
        }
    }

    /// The cluster of a name in `kbr.toml`, of an inline address, or a sandbox.
    pub async fn cluster(&self, name: &str) -> Result<Arc<ClusterHandle>, WorldError> {
        // Held over the connect: two evaluations must not start two sandboxes of one name.
        let mut clusters = self.clusters.lock().await;
        if let Some(known) = clusters.get(name) {
            return Ok(known.clone());
        }
        let (bootstrap, place) = self.address(name).await?;
        let failed = |source| WorldError::Cluster {
            name: name.to_string(),
            place: place.clone(),
            source,
        };
        let client = kafka::Client::connect(kafka::ConnectOptions::new(bootstrap))
            .await
            .map_err(failed)?;
        let info = client.describe_cluster().await.map_err(failed)?;
        let version = match &info.metadata_version {
            Some(version) => format!(", Kafka {version}"),
            None => String::new(),
        };
        let stand_in = if self.is_rehearsal() {
            ", stand-in"
        } else {
            ""
        };
        let handle = Arc::new(ClusterHandle {
            name: name.to_string(),
            fact: ClusterFact {
                name: name.to_string(),
                id: client.cluster_id().to_string(),
                description: format!(
                    "{}{version}{stand_in}",
                    counted(info.brokers.len() as i64, "broker")
                ),
            },
            client,
        });
        clusters.insert(name.to_string(), handle.clone());
        Ok(handle)
    }

    async fn address(&self, name: &str) -> Result<(Vec<String>, String), WorldError> {
        if self.is_rehearsal() {
            // A name that the real run would not find must not pass the rehearsal.
            if !name.contains(':') {
                self.config.cluster(name)?;
            }
            return Ok((self.sandbox(name).await?, "the rehearsal".to_string()));
        }
        if let Some(sandbox) = name.strip_prefix("sandbox:") {
            return Ok((self.sandbox(sandbox).await?, "the runbook".to_string()));
        }
        if name.contains(':') {
            let addresses: Vec<String> = name
                .split(',')
                .map(|address| address.trim().to_string())
                .collect();
            if addresses.iter().any(|address| !is_address(address)) {
                return Err(WorldError::BadAddress(name.to_string()));
            }
            return Ok((addresses, "the runbook".to_string()));
        }
        let cluster = self.config.cluster(name)?;
        Ok((cluster.bootstrap.clone(), cluster.place.clone()))
    }

    async fn sandbox(&self, name: &str) -> Result<Vec<String>, WorldError> {
        let mut sandboxes = self.sandboxes.lock().await;
        if let Some(running) = sandboxes.get(name) {
            return Ok(running.bootstrap());
        }
        let sandbox = Sandbox::start(SandboxOptions::named(name))
            .await
            .map_err(|source| WorldError::Sandbox {
                name: name.to_string(),
                source,
            })?;
        if let Some(rehearsal) = &self.rehearsal {
            rehearsal.fill(name, &sandbox).await?;
        }
        let bootstrap = sandbox.bootstrap();
        sandboxes.insert(name.to_string(), sandbox);
        Ok(bootstrap)
    }

    /// The store of a name in `kbr.toml` or of an inline URL. In a rehearsal, `filled` asks for an archive in it.
    pub async fn store(&self, name: &str) -> Result<Arc<StoreHandle>, WorldError> {
        let mut stores = self.stores.lock().await;
        if let Some(known) = stores.get(name) {
            return Ok(known.clone());
        }
        let (url, place) = if name.contains(':') {
            (name.to_string(), "the runbook".to_string())
        } else {
            let store = self.config.store(name)?;
            (store.url.clone(), store.place.clone())
        };
        let failed = |source| WorldError::Store {
            name: name.to_string(),
            place: place.clone(),
            source,
        };
        let mut url: StoreUrl = url.parse().map_err(failed)?;
        if let Some(rehearsal) = &self.rehearsal {
            url = rehearsal.store_url(name).parse().map_err(failed)?;
        }
        let store = Store::open(&url).await.map_err(failed)?;
        let handle = Arc::new(StoreHandle {
            name: name.to_string(),
            url,
            store,
        });
        stores.insert(name.to_string(), handle.clone());
        Ok(handle)
    }

    /// The store of a saved plan: `url` as it was written, `at` the same from anywhere.
    pub async fn saved_store(
        &self,
        name: &str,
        url: &str,
        at: &str,
    ) -> Result<Arc<StoreHandle>, WorldError> {
        let mut stores = self.stores.lock().await;
        if let Some(known) = stores.get(at) {
            return Ok(known.clone());
        }
        let failed = |source| WorldError::Store {
            name: name.to_string(),
            place: "the saved plan".to_string(),
            source,
        };
        let handle = Arc::new(StoreHandle {
            name: name.to_string(),
            url: url.parse().map_err(failed)?,
            store: Store::open(&at.parse().map_err(failed)?)
                .await
                .map_err(failed)?,
        });
        stores.insert(at.to_string(), handle.clone());
        Ok(handle)
    }

    /// The end of the chain of an archive that this machine's journal has seen; none in a rehearsal.
    pub fn witness(&self, archive_id: uuid::Uuid) -> Option<Witnessed> {
        if self.is_rehearsal() {
            return None;
        }
        let path = journal_path(|name| std::env::var_os(name)).ok()?;
        // A journal that cannot be read is told where it is written to.
        let journal = Journal::open_existing(&path).ok()??;
        let seen = journal.witness(&archive_id.to_string()).ok()??;
        Some(Witnessed {
            generation: seen.generation,
            digest: seen.digest,
        })
    }

    /// Notes how an archive ended when it was read.
    pub fn saw(&self, archive_id: uuid::Uuid, tip: Witnessed) {
        self.seen_so_far().insert(archive_id, tip);
    }

    /// How each archive ended that was read.
    pub fn seen(&self) -> BTreeMap<uuid::Uuid, Witnessed> {
        self.seen_so_far().clone()
    }

    fn seen_so_far(&self) -> std::sync::MutexGuard<'_, BTreeMap<uuid::Uuid, Witnessed>> {
        // One insert is all that is ever done to it, so a poisoned lock still holds a whole map.
        self.seen
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Before a store is read: in a rehearsal it holds a backup of the seeded stand-in.
    pub async fn before_reading(&self, store: &StoreHandle) -> Result<(), WorldError> {
        let Some(rehearsal) = &self.rehearsal else {
            return Ok(());
        };
        let source = self.cluster(rehearsal.source()).await?;
        rehearsal.back_up(&source, store).await
    }
}

/// `host:port`, `[::1]:port`.
pub fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
