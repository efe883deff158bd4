//! Rehearsal: sandbox clusters stand in for the runbook's, one of them filled from the seed data set, and each
//! store that is read holds an archive made by really backing that one up.

use super::world::{ClusterHandle, StoreHandle, WorldError};
use crate::base::time::parse_instant;
use crate::base::{CancellationToken, NoProgress, TimestampMs, time};
use crate::engine::backup;
use crate::record::{BatchBuilder, BuildOptions, OwnedHeaders, ProducerStamp};
use crate::run::Config;
use crate::sandbox::Sandbox;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

static REHEARSALS: AtomicU64 = AtomicU64::new(0);

/// The data set of `[rehearse] seed`, and which stores were filled from it.
pub struct Rehearsal {
    path: PathBuf,
    seed: Seed,
    /// The clock that the seed's relative times count from.
    now: TimestampMs,
    filled: Mutex<BTreeSet<String>>,
    /// Which rehearsal of this process.
    number: u64,
}

/// What the stand-in of one cluster holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    /// The cluster in `kbr.toml` that the data stands for.
    cluster: String,
    topics: BTreeMap<String, SeedTopic>,
    /// Group → topic → committed offset of each partition; null for none.
    #[serde(default)]
    groups: BTreeMap<String, BTreeMap<String, Vec<Option<i64>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedTopic {
    partitions: i32,
    #[serde(default)]
    configs: BTreeMap<String, String>,
    records: Vec<SeedRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedRecord {
    partition: i32,
    /// An instant, or a duration before now: `-12m`.
    at: String,
    key: Option<String>,
    /// Null is a tombstone; text is itself; anything else is its JSON.
    value: Value,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
}

impl Rehearsal {
    pub fn read(config: &Config) -> Result<Self, WorldError> {
        let Some(path) = config.rehearse.seed.clone() else {
            return Err(WorldError::Prepare(
                "kbr.toml names no data set: write [rehearse] with seed = \"seed.json\""
                    .to_string(),
            ));
        };
        let wrong = |message: String| WorldError::Seed {
            path: path.display().to_string(),
            message,
        };
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let seed: Seed = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            path,
            seed,
            now: time::now(),
            filled: Mutex::default(),
            number: REHEARSALS.fetch_add(1, Ordering::Relaxed) + 1,
        })
    }

    /// The cluster whose stand-in is filled.
    pub fn source(&self) -> &str {
        &self.seed.cluster
    }

    /// Where the stand-in of a store lies. Memory stores are shared by name in the process, so each rehearsal has
    /// its own.
    pub fn store_url(&self, name: &str) -> String {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        match self.number {
            1 => format!("memory:{name}"),
            number => format!("memory:{name}-{number}"),
        }
    }

    fn wrong(&self, message: impl std::fmt::Display) -> WorldError {
        WorldError::Seed {
            path: self.path.display().to_string(),
            message: message.to_string(),
        }
    }

    /// Fills the stand-in of the source; every other cluster starts empty.
    pub async fn fill(&self, name: &str, sandbox: &Sandbox) -> Result<(), WorldError> {
        if name != self.seed.cluster {
            return Ok(());
        }
        for (topic, seeded) in &self.seed.topics {
            let configs: Vec<(&str, &str)> = seeded
                .configs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            sandbox
                .create_topic(topic, seeded.partitions, &configs)
                .map_err(|error| self.wrong(error))?;
            for (index, record) in seeded.records.iter().enumerate() {
                let batch = self
                    .batch(record)
                    .map_err(|error| self.wrong(format!("{topic}, record {index}: {error}")))?;
                sandbox
                    .append(topic, record.partition, &batch)
                    .map_err(|error| self.wrong(format!("{topic}, record {index}: {error}")))?;
            }
        }
        for (group, topics) in &self.seed.groups {
            for (topic, offsets) in topics {
                for (partition, offset) in (0..).zip(offsets) {
                    if let Some(offset) = offset {
                        sandbox.set_committed(group, topic, partition, *offset, "");
                    }
                }
            }
        }
        Ok(())
    }

    fn batch(&self, record: &SeedRecord) -> Result<Vec<u8>, String> {
        let at = parse_instant(&record.at, self.now)?;
        let value = match &record.value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let mut headers = OwnedHeaders::new();
        for (name, value) in &record.headers {
            headers.push(name.as_bytes(), value.as_deref().map(str::as_bytes));
        }
        let mut builder = BatchBuilder::new(BuildOptions::default());
        builder
            .push(
                at.0,
                record.key.as_deref().map(str::as_bytes),
                value.as_deref().map(str::as_bytes),
                headers.as_headers(),
            )
            .map_err(|error| error.to_string())?;
        builder
            .finish(ProducerStamp::NONE)
            .map_err(|error| error.to_string())
    }

    /// Backs the source's stand-in up into a store's, once.
    pub async fn back_up(
        &self,
        source: &ClusterHandle,
        store: &StoreHandle,
    ) -> Result<(), WorldError> {
        // Held over the backup: a second reader waits for the archive.
        let mut filled = self.filled.lock().await;
        if filled.contains(&store.name) {
            return Ok(());
        }
        let failed = |error: &dyn std::error::Error| {
            WorldError::Prepare(format!(
                "backing up the stand-in of {}: {error}",
                source.name
            ))
        };
        let options = backup::Options::default();
        let plan = backup::plan(&source.client, &store.store, &options)
            .await
            .map_err(|error| failed(&error))?;
        let run = backup::Run {
            name: "rehearsal".to_string(),
            progress: NoProgress::handle(),
            cancel: CancellationToken::new(),
        };
        backup::apply(&plan, &source.client, &store.store, &run)
            .await
            .map_err(|error| failed(&error))?;
        filled.insert(store.name.clone());
        Ok(())
    }
}
