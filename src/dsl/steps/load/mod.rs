//! A saved plan made into a plan again: the same steps with the same digest, from what they kept.
//!
//! The runbook is not evaluated: a plan that was approved must not turn out otherwise because a group or a topic more is
//! there now. Clusters are found by name and checked by id, archives by URL, id and hash; what is another one now is
//! drift, before any effect.

mod restore;

use super::blocked::BlockedStep;
use super::offsets::SavedReset;
use super::prune::{PruneRun, UndeleteRun};
use super::saved::{SavedCluster, SavedStore};
use super::{BackupRun, RemovalRun, ResetRun, RestoreRun};
use crate::archive::Archive;
use crate::dsl::failure::Failure;
use crate::dsl::reading;
use crate::dsl::source::Source;
use crate::dsl::verbs::clusters::Cluster;
use crate::dsl::world::{StoreHandle, World};
use crate::engine::offsets;
use crate::run::{Item, Plan, PlannedStep, SavedItem, SavedPlan, Step, StepError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plan that was saved.
pub async fn load(saved: &SavedPlan, world: &Arc<World>) -> Result<Plan, StepError> {
    let source = Source::inline(saved.runbook.name.clone(), saved.text.as_str());
    if source.digest() != saved.runbook.digest {
        return Err(unfit("its runbook is not the one that was planned"));
    }
    let mut loader = Loader {
        saved,
        world,
        source,
        restores: BTreeMap::new(),
        backups: BTreeMap::new(),
        resets: BTreeMap::new(),
        prunes: BTreeMap::new(),
        undeletes: BTreeMap::new(),
        removals: BTreeMap::new(),
    };
    let mut plan = saved.without_items();
    for item in &saved.items {
        plan.items.push(match item {
            SavedItem::Confirm { text, span } => Item::Confirm {
                text: text.clone(),
                span: *span,
            },
            SavedItem::Step {
                ordinal,
                span,
                saved,
            } => Item::Step(PlannedStep {
                ordinal: *ordinal,
                step: loader.step(saved).await?,
                span: *span,
            }),
        });
    }
    if plan.digest() != saved.digest {
        return Err(unfit(
            "the plan that it makes is not the one that was saved",
        ));
    }
    Ok(plan)
}

/// A saved plan that contradicts itself.
fn unfit(why: impl Into<String>) -> StepError {
    StepError::new(
        "E0440",
        "the saved plan cannot be made a plan again; nothing was changed",
    )
    .why(why)
    .now("plan again: kbr run FILE")
}

/// A failure of a read, as a step tells it.
fn step_error(failure: Failure) -> StepError {
    let mut error = StepError::new(failure.code, failure.message).exit(failure.exit);
    error.facts = failure.facts;
    error.cause = failure.cause;
    match failure.help {
        Some(help) => error.now(help),
        None => error,
    }
}

/// One load: what steps share is made once.
struct Loader<'a> {
    saved: &'a SavedPlan,
    world: &'a Arc<World>,
    source: Source,
    restores: BTreeMap<usize, Arc<RestoreRun>>,
    backups: BTreeMap<usize, Arc<BackupRun>>,
    resets: BTreeMap<usize, Arc<ResetRun>>,
    prunes: BTreeMap<usize, Arc<PruneRun>>,
    undeletes: BTreeMap<usize, Arc<UndeleteRun>>,
    removals: BTreeMap<usize, Arc<RemovalRun>>,
}

impl Loader<'_> {
    async fn step(&mut self, saved: &Value) -> Result<Arc<dyn Step>, StepError> {
        let place = saved["part"]
            .as_u64()
            .and_then(|place| usize::try_from(place).ok());
        let word = saved["step"].as_str().unwrap_or_default();
        match (word, place) {
            ("blocked", _) => Ok(Arc::new(read::<BlockedStep>(&saved["blocked"])?)),
            ("backup", Some(place)) => {
                if !self.backups.contains_key(&place) {
                    let run = self.backup(place).await?;
                    self.backups.insert(place, run);
                }
                Ok(super::backup(&self.backups[&place]))
            }
            ("reset", Some(place)) => {
                if !self.resets.contains_key(&place) {
                    let part: SavedReset<Vec<offsets::Row>> = self.part(place)?;
                    let plan = offsets::Plan {
                        rows: part.rows,
                        ..part.plan
                    };
                    let run = Arc::new(ResetRun {
                        plan: Arc::new(plan),
                        cluster: self.cluster(part.cluster).await?,
                    });
                    self.resets.insert(place, run);
                }
                let chunk = saved["chunk"].as_u64().unwrap_or(0);
                super::offsets(&self.resets[&place])
                    .into_iter()
                    .nth(usize::try_from(chunk).unwrap_or(0))
                    .ok_or_else(|| unfit("a reset without a step"))
            }
            ("removal", Some(place)) => {
                if !self.removals.contains_key(&place) {
                    let part: Value = self.part(place)?;
                    let run = Arc::new(RemovalRun {
                        plan: read(&part["plan"])?,
                        cluster: self.cluster(read(&part["cluster"])?).await?,
                    });
                    self.removals.insert(place, run);
                }
                Ok(super::removal(&self.removals[&place]))
            }
            ("prune", Some(place)) => {
                if !self.prunes.contains_key(&place) {
                    let part: Value = self.part(place)?;
                    let run = PruneRun {
                        plan: read(&part["plan"])?,
                        store: self.store(read(&part["store"])?).await?,
                    };
                    self.same_archive(&run.store, run.plan.archive_id).await?;
                    self.prunes.insert(place, Arc::new(run));
                }
                Ok(super::prune(&self.prunes[&place]))
            }
            ("undelete", Some(place)) => {
                if !self.undeletes.contains_key(&place) {
                    let part: Value = self.part(place)?;
                    let run = UndeleteRun {
                        plan: read(&part["plan"])?,
                        store: self.store(read(&part["store"])?).await?,
                    };
                    self.same_archive(&run.store, run.plan.archive_id).await?;
                    self.undeletes.insert(place, Arc::new(run));
                }
                Ok(super::undelete(&self.undeletes[&place]))
            }
            ("create" | "prepare" | "write" | "verify" | "finish", Some(place)) => {
                if !self.restores.contains_key(&place) {
                    let run = self.restore(place).await?;
                    self.restores.insert(place, run);
                }
                let index = saved["index"]
                    .as_u64()
                    .and_then(|index| usize::try_from(index).ok());
                super::restore::step(&self.restores[&place], word, index.unwrap_or(0))
                    .ok_or_else(|| unfit("a step of a restore that its plan does not have"))
            }
            _ => Err(unfit(format!(
                "a step of a kind that this kbr does not know: {word:?}"
            ))),
        }
    }

    fn part<T: DeserializeOwned>(&self, place: usize) -> Result<T, StepError> {
        let part = self.saved.parts.get(place);
        let part = part.ok_or_else(|| unfit(format!("part {place} is missing")))?;
        serde_json::from_str(part.get()).map_err(|error| unfit(error.to_string()))
    }

    async fn backup(&self, place: usize) -> Result<Arc<BackupRun>, StepError> {
        let part: Value = self.part(place)?;
        let run = BackupRun {
            plan: read(&part["plan"])?,
            cluster: self.cluster(read(&part["cluster"])?).await?,
            store: self.store(read(&part["store"])?).await?,
        };
        if let Some(id) = run.plan.archive_id {
            self.same_archive(&run.store, id).await?;
        }
        Ok(Arc::new(run))
    }

    async fn cluster(&self, saved: SavedCluster) -> Result<Cluster, StepError> {
        cluster(self.world, saved).await
    }

    async fn store(&self, saved: SavedStore) -> Result<Arc<StoreHandle>, StepError> {
        self.world
            .saved_store(&saved.name, &saved.url, &saved.at)
            .await
            .map_err(|error| step_error(reading::of_world("store", error)))
    }

    async fn archive(&self, store: &StoreHandle) -> Result<Archive, StepError> {
        Archive::open(store.store.clone())
            .await
            .map_err(|error| step_error(reading::of_archive(&store.url.to_string(), error)))
    }

    async fn same_archive(
        &self,
        store: &StoreHandle,
        id: uuid::Uuid,
    ) -> Result<Archive, StepError> {
        let archive = self.archive(store).await?;
        match archive.archive_id() == id {
            true => Ok(archive),
            false => Err(StepError::drift(format!(
                "another archive lies at {} now; nothing was changed",
                store.url
            ))
            .fact("planned", format!("id {id}"))
            .fact("found", format!("id {}", archive.archive_id()))
            .now("put the archive back where it was, or plan again")),
        }
    }
}

/// The cluster of this name, if it is still the same one.
pub(super) async fn cluster(world: &World, saved: SavedCluster) -> Result<Cluster, StepError> {
    let handle = world
        .cluster(&saved.name)
        .await
        .map_err(|error| step_error(reading::of_world("cluster", error)))?;
    match handle.fact.id == saved.id {
        true => Ok(Cluster(handle)),
        false => Err(StepError::drift(format!(
            "cluster {} is another one now; nothing was changed",
            saved.name
        ))
        .fact("planned", format!("id {}", saved.id))
        .fact("found", format!("id {}", handle.fact.id))
        .now("let kbr.toml name the cluster that was planned, or plan again")),
    }
}

fn read<T: DeserializeOwned>(saved: &Value) -> Result<T, StepError> {
    T::deserialize(saved).map_err(|error| unfit(error.to_string()))
}
