//! Carries out a prune: first the commit that says it, then the deletions that the commit allows.

use super::plan::{CLOCKS_APART_MS, ObjectGoing, ObjectKind, PrunePlan, Tip, commit_of};
use crate::archive::open::{generation_path, seal};
use crate::archive::retention::Retention;
use crate::archive::{Archive, Error, Result, Snapshot};
use crate::base::{CancellationToken, Digest, Progress, TimestampMs, time};
use crate::store;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What came of a prune.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The generation that says it; none if there was nothing to say.
    pub commit: Option<Tip>,
    pub marked: Vec<u64>,
    pub deleted: Vec<u64>,
    pub objects: u64,
    pub bytes: u64,
    /// It was cancelled: so many objects are left for the next prune.
    pub left: u64,
}

/// How an approved plan is carried out.
pub struct Progressed<'a> {
    /// Names the commit: letters, digits, `-` and `_`.
    pub run: &'a str,
    pub progress: &'a dyn Progress,
    /// Ends it between two deletions.
    pub cancel: &'a CancellationToken,
}

impl PrunePlan {
    /// Whether the archive still ends where it was planned; [`Error::Changed`] if not.
    pub async fn check(&self, archive: &Archive) -> Result<()> {
        tip_of(archive, self.tip).await.map(|_| ())
    }

    /// Commits, then deletes. What it does not come to delete, the next prune does.
    pub async fn apply(&self, archive: &Archive, how: Progressed<'_>) -> Result<Pruned> {
        let tip = tip_of(archive, self.tip).await?;
        if !self.objects.is_empty() {
            check_clock(archive).await?;
        }
        let mut committed = None;
        if let Some(retention) = &self.retention {
            let mut retention = retention.clone();
            let now = self.now.max(time::now());
            // The grace time begins when it is said, not when it was planned; and a clock that is behind those that
            // wrote the archive does not end it early.
            let now = now.max(tip.manifest().finished).max(self.written);
            if self.marks_anew
                && let Some(own) = retention.rounds.last_mut()
            {
                own.since = now;
            }
            how.progress.doing("committing what goes");
            committed = Some(commit(archive, &tip, &retention, how.run, now).await?);
        }
        self.delete_all(archive, committed, how).await
    }

    /// What comes after the commit.
    pub(super) async fn delete_all(
        &self,
        archive: &Archive,
        commit: Option<Tip>,
        how: Progressed<'_>,
    ) -> Result<Pruned> {
        let mut done = Pruned {
            commit,
            marked: self.marks(),
            deleted: self.deletes(),
            objects: 0,
            bytes: 0,
            left: 0,
        };
        how.progress.doing("deleting objects");
        how.progress
            .total(self.objects.len() as u64, self.bytes_now());
        for object in &self.objects {
            if how.cancel.is_cancelled() {
                done.left = self.objects.len() as u64 - done.objects;
                break;
            }
            delete(archive, object).await?;
            done.objects += 1;
            done.bytes += object.size;
            how.progress.advance(1, object.size);
        }
        Ok(done)
    }
}

/// Whether this machine's clock and the store's agree: what is deleted was judged by both. Asked of the store by an
/// object that is made for it.
async fn check_clock(archive: &Archive) -> Result<()> {
    let store = archive.store();
    let path = format!("staging/{}", uuid::Uuid::new_v4());
    store
        .create(&path, Bytes::from_static(b"what time is it"))
        .await?;
    let here = time::now();
    let probe = store.list_objects("staging").await?;
    let probe = probe.into_iter().find(|object| object.path == path);
    match store.delete(&path).await {
        Ok(()) | Err(store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match probe {
        Some(probe) if clocks_agree(here, probe.modified) => Ok(()),
        Some(probe) => Err(Error::Clocks {
            here,
            store: probe.modified,
        }),
        // Taken by another prune that cleans up: then nothing is known of the clock.
        None => Err(Error::BadInput {
            why: format!("{path} is gone as soon as it is written"),
        }),
    }
}

fn clocks_agree(here: TimestampMs, store: TimestampMs) -> bool {
    here.0.abs_diff(store.0) <= CLOCKS_APART_MS.unsigned_abs()
}

async fn delete(archive: &Archive, object: &ObjectGoing) -> Result<()> {
    // A manifest that a commit says is gone is not read any more, so a crash between two deletions is harmless.
    debug_assert!(object.kind != ObjectKind::Manifest || object.path.starts_with("generations/"));
    match archive.store().delete(&object.path).await {
        Ok(()) => Ok(()),
        // Another prune was here, or the answer to our own request was lost.
        Err(store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The end of the chain, which must be the planned one.
pub(super) async fn tip_of(archive: &Archive, planned: Tip) -> Result<Snapshot> {
    let changed = |found: u64| Error::Changed {
        planned: planned.number,
        found,
    };
    let tip = archive.tip().await?.ok_or_else(|| changed(0))?;
    if (tip.number(), tip.digest()) != (planned.number, planned.digest) {
        return Err(changed(tip.number()));
    }
    Ok(tip)
}

/// Adds the generation that says what was pruned. Of two that try at once one is told [`Error::Changed`].
pub(super) async fn commit(
    archive: &Archive,
    tip: &Snapshot,
    retention: &Retention,
    run: &str,
    now: TimestampMs,
) -> Result<Tip> {
    let generation = commit_of(archive, tip, retention, run, now);
    let number = generation.number;
    let bytes = seal(&generation)?;
    let digest = Digest::of(&bytes);
    match archive
        .store()
        .create(&generation_path(number), bytes)
        .await
    {
        Ok(()) => Ok(Tip { number, digest }),
        Err(store::Error::Exists { .. }) => Err(Error::Changed {
            planned: tip.number(),
            found: number,
        }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_minutes_apart_agree_and_no_others() {
        let here = TimestampMs(1_700_000_000_000);
        for (apart, agree) in [
            (0, true),
            (600_000, true),
            (-600_000, true),
            (600_001, false),
            (-86_400_000, false),
        ] {
            assert_eq!(clocks_agree(here, TimestampMs(here.0 + apart)), agree);
        }
        assert!(!clocks_agree(here, TimestampMs(0)));
    }
}
