//! What a runbook reaches: names resolved to clusters and stores, once each.

use crate::run::Config;

/// Resolves the names in a runbook. In a rehearsal every cluster and store has a stand-in in this process.
pub struct World {
    config: Config,
}

/// A name that cannot be resolved, or a stand-in that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct WorldError {
    pub message: String,
    pub help: Option<String>,
}

impl World {
    /// The real world of a `kbr.toml`.
    pub fn real(config: Config) -> Self {
        Self { config }
    }

    /// Stand-ins for everything: sandbox clusters, one of them seeded, and archives made by backing it up.
    pub async fn rehearsal(config: Config) -> Result<Self, WorldError> {
        Ok(Self { config })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this is a rehearsal.
    pub fn is_rehearsal(&self) -> bool {
        false
    }

    /// Stops what the world started in this process.
    pub async fn shutdown(&self) {}
}
