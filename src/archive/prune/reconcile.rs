//! After a crash: whether a prune or an undelete has committed, and the deletions that are left then.

use super::apply::{Progressed, Pruned};
use super::plan::{PrunePlan, Tip};
use super::undelete::UndeletePlan;
use crate::archive::{Archive, Result};

/// What stands behind the end of the chain that was planned on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundCommit {
    None,
    /// The run's own commit.
    Ours(Tip),
    /// Another run's: its name.
    Other(String),
}

impl PrunePlan {
    /// Looks for the commit of run `run`.
    pub async fn reconcile(&self, archive: &Archive, run: &str) -> Result<FoundCommit> {
        found(archive, self.tip, run).await
    }

    /// The deletions of a prune that has committed and did not come to its end. Those that were done count again.
    pub async fn go_on(
        &self,
        archive: &Archive,
        commit: Tip,
        how: Progressed<'_>,
    ) -> Result<Pruned> {
        self.delete_all(archive, Some(commit), how).await
    }
}

impl UndeletePlan {
    /// Looks for the commit of run `run`.
    pub async fn reconcile(&self, archive: &Archive, run: &str) -> Result<FoundCommit> {
        found(archive, self.tip, run).await
    }
}

async fn found(archive: &Archive, planned: Tip, run: &str) -> Result<FoundCommit> {
    let tip = archive.tip().await?.map_or(0, |tip| tip.number());
    if tip <= planned.number {
        return Ok(FoundCommit::None);
    }
    let (generation, digest) = archive.read_generation(planned.number + 1).await?;
    let ours = generation.parent == Some(planned.digest)
        && generation.retention.is_some()
        && generation.run == run;
    Ok(match ours {
        true => FoundCommit::Ours(Tip {
            number: generation.number,
            digest,
        }),
        false => FoundCommit::Other(generation.run),
    })
}
