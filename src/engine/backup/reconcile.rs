//! After a crash: whether the generation of a backup run was committed.

use super::plan::Plan;
use crate::archive::{Archive, Generation};
use crate::base::Digest;
use crate::engine::error::Result;
use crate::store::Store;

/// What stands where the run's generation would.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundGeneration {
    None,
    /// Committed by the run; with its hash.
    Ours(Box<Generation>, Digest),
    /// Committed by another run: its name.
    Other(String),
}

/// Looks for the generation that the plan adds. `ours` knows the names that the run goes by.
pub async fn reconcile(
    plan: &Plan,
    store: &Store,
    ours: impl Fn(&str) -> bool,
) -> Result<FoundGeneration> {
    let Some(archive) = Archive::open_if_exists(store.clone()).await? else {
        return Ok(FoundGeneration::None);
    };
    let tip = archive.tip().await?.map_or(0, |tip| tip.number());
    if tip < plan.generation {
        return Ok(FoundGeneration::None);
    }
    let (generation, digest) = archive.read_generation(plan.generation).await?;
    let parent = plan.parent.map(|parent| parent.digest);
    Ok(match generation.parent == parent && ours(&generation.run) {
        true => FoundGeneration::Ours(Box::new(generation), digest),
        false => FoundGeneration::Other(generation.run),
    })
}
