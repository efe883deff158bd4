//! The plan of a restore made again, with its filters as sessions that run.

use super::{Loader, read, step_error, unfit};
use crate::base::Digest;
use crate::dsl::filter::RecordPredicate;
use crate::dsl::reading;
use crate::dsl::steps::RestoreRun;
use crate::dsl::steps::restore::SavedRestore;
use crate::dsl::steps::saved::SavedStore;
use crate::dsl::verbs::archives::{OpenedSnapshot, SnapshotValue};
use crate::engine::restore::{Plan, RecordFilter};
use crate::run::StepError;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Loader<'_> {
    pub(super) async fn restore(&self, place: usize) -> Result<Arc<RestoreRun>, StepError> {
        let mut part: SavedRestore<Plan> = self.part(place)?;
        let mut made: BTreeMap<&str, Arc<dyn RecordFilter>> = BTreeMap::new();
        for (fingerprint, saved) in &part.filters {
            let filter = RecordPredicate::load(&self.source, saved).map_err(step_error)?;
            made.insert(fingerprint, Arc::new(filter));
        }
        for write in &mut part.plan.writes {
            write.filter = match &write.filter_fingerprint {
                None => None,
                Some(fingerprint) => Some(
                    made.get(fingerprint.as_str())
                        .filter(|filter| filter.fingerprint() == *fingerprint)
                        .cloned()
                        .ok_or_else(|| {
                            unfit(format!("the filter of {} is missing", write.topic))
                        })?,
                ),
            };
        }
        Ok(Arc::new(RestoreRun {
            snapshot: self
                .snapshot(part.store, part.generation_digest, &part.plan)
                .await?,
            cluster: self.cluster(part.cluster).await?,
            plan: part.plan,
        }))
    }

    /// The generation that was planned from, if it is still the same.
    async fn snapshot(
        &self,
        store: SavedStore,
        planned: Digest,
        plan: &Plan,
    ) -> Result<SnapshotValue, StepError> {
        let store = self.store(store).await?;
        let id: uuid::Uuid = read(&serde_json::json!(plan.archive_id))?;
        let archive = self.same_archive(&store, id).await?;
        let snapshot = archive
            .generation(plan.generation)
            .await
            .map_err(|error| step_error(reading::of_archive(&store.url.to_string(), error)))?;
        let opened = OpenedSnapshot {
            snapshot,
            store,
            now: self.saved.now,
        };
        match opened.digest() == planned {
            true => Ok(SnapshotValue(Arc::new(opened))),
            false => Err(StepError::drift(format!(
                "generation {} of {} is not the one that was planned; nothing was changed",
                plan.generation, opened.store.url
            ))
            .fact("planned", planned.hex())
            .fact("found", opened.digest().hex())
            .now("generations are written once: find out who changed the archive (kbr verify), then plan again")),
        }
    }
}
