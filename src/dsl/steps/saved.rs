//! What every kind of step keeps of the clusters and stores that it works on.

use crate::dsl::verbs::clusters::Cluster;
use crate::dsl::world::StoreHandle;
use crate::store::StoreUrl;
use serde::{Deserialize, Serialize};

/// A cluster: found again by its name, and checked by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedCluster {
    pub name: String,
    pub id: String,
}

/// A store: found again by its URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedStore {
    pub name: String,
    /// As it was written, which may depend on the folder kbr was started in.
    pub url: String,
    /// The same, from anywhere.
    pub at: String,
}

impl From<&Cluster> for SavedCluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            name: cluster.0.name.clone(),
            id: cluster.0.fact.id.clone(),
        }
    }
}

impl From<&StoreHandle> for SavedStore {
    fn from(store: &StoreHandle) -> Self {
        let at = match &store.url {
            StoreUrl::File(path) => {
                StoreUrl::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            other => other.clone(),
        };
        Self {
            name: store.name.clone(),
            url: store.url.to_string(),
            at: at.to_string(),
        }
    }
}
