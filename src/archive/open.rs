//! [`Archive`]: opening and creating one, and reading its generations.

use super::catalogue::Catalogue;
use super::manifest::{ArchiveHead, FORMAT_VERSION, Generation};
use super::merge::{Merged, Mismatch};
use super::retention::{Retention, Standing};
use super::run_writer::{CHECKPOINT_EVERY, RunOptions, RunWriter};
use super::sealed;
use super::snapshot::Snapshot;
use super::{Damage, DamageKind, Error, Result, Witnessed};
use crate::base::{Digest, TimestampMs, time};
use crate::store::{self, Store};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use std::sync::Arc;

/// The object that makes a store an archive.
pub(super) const HEAD_PATH: &str = "archive.json";
pub(super) const GENERATIONS: &str = "generations";

/// How far back a damaged archive is searched for a generation that is whole, to say so in the error.
pub(super) const LOOK_BACK: u64 = 64;

/// Generations read at the same time.
pub(super) const READ_TOGETHER: usize = 8;

/// One archive. Clones share it.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Store,
    head: Arc<ArchiveHead>,
}

impl Archive {
    /// Opens an archive. [`Error::NotAnArchive`] if there is none.
    pub async fn open(store: Store) -> Result<Self> {
        match Self::open_if_exists(store.clone()).await? {
            Some(archive) => Ok(archive),
            None => Err(Error::NotAnArchive {
                url: store.url().to_string(),
                why: if store.list("").await?.is_empty() {
                    "there is nothing at this place".into()
                } else {
                    format!("it holds other things and no {HEAD_PATH}")
                },
            }),
        }
    }

    /// Opens an archive; `None` if there is none. Writes nothing.
    pub async fn open_if_exists(store: Store) -> Result<Option<Self>> {
        let bytes = match store.get(HEAD_PATH).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                if let Some((first, _)) = store.list(GENERATIONS).await?.first() {
                    let mut damage = Damage::new(HEAD_PATH, DamageKind::Missing);
                    damage.restorable = format!(
                        "nothing with kbr until {HEAD_PATH} is put back ({first} and others are there)"
                    );
                    return Err(damage.into());
                }
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let head = parse_head(&bytes)?;
        Ok(Some(Self {
            store,
            head: Arc::new(head),
        }))
    }

    /// Opens the archive for a source cluster, or makes a new one. [`Error::OtherCluster`] if it belongs to another.
    pub async fn create_or_open(store: Store, source_cluster_id: &str) -> Result<Self> {
        if let Some(archive) = Self::open_if_exists(store.clone()).await? {
            return archive.belonging_to(source_cluster_id);
        }
        let head = ArchiveHead {
            format_version: FORMAT_VERSION,
            archive_id: uuid::Uuid::new_v4(),
            source_cluster_id: source_cluster_id.to_string(),
            created: time::now(),
            kbr_version: env!("CARGO_PKG_VERSION").to_string(),
        };
        match store.create(HEAD_PATH, seal(&head)?).await {
            Ok(()) => Ok(Self {
                store,
                head: Arc::new(head),
            }),
            // Another run was faster: it is its archive, and ours if the cluster is the same.
            Err(store::Error::Exists { .. }) => {
                Self::open(store).await?.belonging_to(source_cluster_id)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn belonging_to(self, source_cluster_id: &str) -> Result<Self> {
        if self.head.source_cluster_id == source_cluster_id {
            return Ok(self);
        }
        Err(Error::OtherCluster {
            url: self.store.url().to_string(),
            archive: self.head.source_cluster_id.clone(),
            given: source_cluster_id.to_string(),
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn url(&self) -> String {
        self.store.url().to_string()
    }

    pub fn head(&self) -> &ArchiveHead {
        &self.head
    }

    pub fn archive_id(&self) -> uuid::Uuid {
        self.head.archive_id
    }

    pub fn source_cluster_id(&self) -> &str {
        &self.head.source_cluster_id
    }

    /// The numbers of all recovery points, ascending, without those that are marked for deletion. A hole in the chain
    /// is damage, unless a prune made it.
    pub async fn generations(&self) -> Result<Vec<u64>> {
        Ok(self.catalogue().await?.points().collect())
    }

    /// The numbers that are there, holes or not.
    pub(super) async fn listed(&self) -> Result<Vec<u64>> {
        let listing = self.store.list(GENERATIONS).await?;
        let mut numbers: Vec<u64> = listing
            .iter()
            .filter_map(|(path, _)| generation_number(path))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The newest recovery point, merged. [`Error::Empty`] before the first.
    pub async fn latest(&self) -> Result<Snapshot> {
        let catalogue = self.catalogue().await?;
        match catalogue.points().next_back() {
            Some(newest) => self.snapshot(newest, &catalogue).await,
            None => Err(Error::Empty { url: self.url() }),
        }
    }

    /// The newest recovery point and the end of the chain, which is compared with what was seen of it before: what is
    /// gone or another is an error.
    pub async fn latest_after(&self, seen: Option<Witnessed>) -> Result<(Snapshot, Witnessed)> {
        let catalogue = self.catalogue().await?;
        if let Some(damage) = catalogue.contradiction(seen) {
            return Err(damage.into());
        }
        match (catalogue.points().next_back(), catalogue.tip()) {
            (Some(newest), Some(tip)) => Ok((self.snapshot(newest, &catalogue).await?, tip)),
            _ => Err(Error::Empty { url: self.url() }),
        }
    }

    /// The newest recovery point, merged; `None` before the first.
    pub async fn latest_if_any(&self) -> Result<Option<Snapshot>> {
        match self.latest().await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(Error::Empty { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest recovery point that is not of a later time than `at`, merged: what was committed at the source by its
    /// consistency point is in it.
    pub async fn as_of(&self, at: TimestampMs) -> Result<Snapshot> {
        let catalogue = self.catalogue().await?;
        let points: Vec<u64> = catalogue.points().rev().collect();
        let mut read = futures::stream::iter(points)
            .map(|number| self.read_generation(number))
            .buffered(READ_TOGETHER);
        let mut oldest = None;
        while let Some(generation) = read.next().await {
            let (generation, _) = generation?;
            if generation.consistency_point <= at {
                return self.snapshot(generation.number, &catalogue).await;
            }
            oldest = Some(generation.consistency_point);
        }
        match oldest {
            Some(oldest) => Err(Error::NoneAsOld { at, oldest }),
            None => Err(Error::Empty { url: self.url() }),
        }
    }

    /// The end of the chain, merged, which the next run continues: the newest generation, also where that is no
    /// recovery point but says what was pruned. `None` before the first.
    pub async fn tip(&self) -> Result<Option<Snapshot>> {
        let catalogue = self.catalogue().await?;
        match catalogue.manifests().last() {
            Some(newest) => Ok(Some(self.snapshot(*newest, &catalogue).await?)),
            None => Ok(None),
        }
    }

    /// A recovery point, merged; also one that is marked for deletion. [`Error::Pruned`] for one that is gone.
    pub async fn generation(&self, number: u64) -> Result<Snapshot> {
        let listed = self.listed().await?;
        let newest = match listed.last() {
            Some(newest) => *newest,
            None => return Err(Error::Empty { url: self.url() }),
        };
        if number == 0 || number > newest {
            return Err(Error::NoSuchGeneration { number, newest });
        }
        let retention = self.last_retention(&listed).await?.retention;
        match retention.standing(number) {
            Standing::Point | Standing::Marked(_) => {}
            Standing::Retention => return Err(Error::NoRecoveryPoint { number }),
            Standing::Deleted => {
                let mut points = listed.iter().copied();
                let oldest = points.find(|point| retention.standing(*point) == Standing::Point);
                return Err(Error::Pruned { number, oldest });
            }
        }
        self.merged_or_restorable(number, None, &retention).await
    }

    async fn snapshot(&self, number: u64, catalogue: &Catalogue) -> Result<Snapshot> {
        let newest = catalogue.newest();
        let known = newest.filter(|(generation, _)| generation.number == number);
        let known = known.map(|(generation, digest)| (generation.clone(), digest));
        self.merged_or_restorable(number, known, catalogue.retention())
            .await
    }

    async fn merged_or_restorable(
        &self,
        number: u64,
        known: Option<(Generation, Digest)>,
        retention: &Retention,
    ) -> Result<Snapshot> {
        match self.snapshot_at(number, known, retention).await {
            Err(Error::Damaged(damage)) => {
                // The damaged object may be an older one of the chain; what is before it is whole.
                let at = generation_number(&damage.object).unwrap_or(number);
                Err(self.with_restorable(*damage, at, retention).await)
            }
            result => result,
        }
    }

    /// Walks the chain back to the last checkpoint, verifying every hash, lays the generations on each other, and
    /// leaves out what was pruned.
    async fn snapshot_at(
        &self,
        number: u64,
        known: Option<(Generation, Digest)>,
        retention: &Retention,
    ) -> Result<Snapshot> {
        let (newest, digest) = match known {
            Some(known) => known,
            None => self.read_generation(number).await?,
        };
        if let Some(expected) = retention.anchor(number) {
            check_link(number, expected, digest)?;
        }
        let mut chain = vec![newest];
        // Where the writer puts checkpoints; elsewhere they are found too, one read after the other.
        let checkpoint = number - (number - 1) % CHECKPOINT_EVERY;
        let mut ahead = futures::stream::iter((checkpoint..number).rev())
            .map(|number| self.read_generation(number))
            .buffered(READ_TOGETHER);
        while let Some(oldest) = chain.last()
            && !oldest.checkpoint
            && let Some(parent) = oldest.parent
        {
            let parent_number = oldest.number - 1;
            let (before, found) = match ahead.next().await {
                Some(read) => read?,
                None => self.read_generation(parent_number).await?,
            };
            check_link(parent_number, parent, found)?;
            chain.push(before);
        }
        let mut merged = Merged::default();
        for generation in chain.iter().rev() {
            merged
                .apply(generation)
                .map_err(|mismatch| mismatched(generation.number, mismatch))?;
        }
        merged.trim(&retention.floors);
        // The chain has at least the generation that was asked for, at its front.
        let newest = chain.swap_remove(0);
        Ok(Snapshot::new(self.clone(), newest, digest, merged))
    }

    /// One generation's own object and its hash. Its place in the chain is not checked.
    pub async fn read_generation(&self, number: u64) -> Result<(Generation, Digest)> {
        let path = generation_path(number);
        let bytes = match self.store.get(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(Damage::new(path, DamageKind::Missing).into());
            }
            Err(error) => return Err(error.into()),
        };
        let generation = parse_generation(&path, &bytes)?;
        let swapped = |why: String| Error::from(Damage::new(&path, DamageKind::Swapped(why)));
        if generation.archive_id != self.head.archive_id {
            return Err(swapped(format!(
                "it belongs to archive {}",
                generation.archive_id
            )));
        }
        if generation.number != number {
            return Err(swapped(format!("it is generation {}", generation.number)));
        }
        if generation.parent.is_some() != (number > 1) {
            return Err(Damage::new(
                &path,
                DamageKind::Chain("only the first generation has no parent".into()),
            )
            .into());
        }
        Ok((generation, Digest::of(&bytes)))
    }

    /// A generation's object as it is stored, checked as [`Archive::read_generation`] does.
    pub async fn manifest_text(&self, number: u64) -> Result<String> {
        self.read_generation(number).await?;
        let path = generation_path(number);
        let bytes = self.store.get(&path).await?;
        String::from_utf8(bytes.to_vec())
            .map_err(|error| Damage::new(path, DamageKind::Format(error.to_string())).into())
    }

    /// Begins a run that adds one generation. `run` names it and becomes part of its objects' names: letters, digits,
    /// `-` and `_`, never used before.
    pub async fn begin_run(&self, run: &str, options: RunOptions) -> Result<RunWriter> {
        RunWriter::begin(self.clone(), run, options).await
    }

    /// Says in the damage which generation before `number` is still whole.
    pub(super) async fn with_restorable(
        &self,
        mut damage: Damage,
        number: u64,
        retention: &Retention,
    ) -> Error {
        damage.restorable = "nothing (no generation before it is whole)".into();
        // By what is listed: a number may be any, and so may be the one before it.
        let listed = self.listed().await.unwrap_or_default();
        let before = listed.into_iter().rev().filter(|listed| *listed < number);
        let is_point = |number: &u64| {
            matches!(
                retention.standing(*number),
                Standing::Point | Standing::Marked(_)
            )
        };
        let before: Vec<u64> = before.filter(is_point).take(LOOK_BACK as usize).collect();
        for candidate in before {
            if let Ok(snapshot) = self.snapshot_at(candidate, None, retention).await {
                damage.restorable = format!("generation {} and what it holds", snapshot.number());
                break;
            }
        }
        damage.into()
    }
}

pub(super) fn generation_path(number: u64) -> String {
    format!("{GENERATIONS}/{number:08}.json")
}

/// The number in a generation object's path; `None` for anything else.
pub(super) fn generation_number(path: &str) -> Option<u64> {
    let name = path.strip_prefix(GENERATIONS)?.strip_prefix('/')?;
    let digits = name.strip_suffix(".json")?;
    let number = digits.parse().ok()?;
    (number > 0 && generation_path(number) == path).then_some(number)
}

pub(super) fn check_link(number: u64, expected: Digest, found: Digest) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Damage::new(
        generation_path(number),
        DamageKind::Hash {
            expected: expected.hex(),
            found: found.hex(),
        },
    )
    .into())
}

pub(super) fn mismatched(number: u64, mismatch: Mismatch) -> Error {
    Damage::new(
        generation_path(number),
        DamageKind::Chain(format!(
            "{}-{}: {}",
            mismatch.topic, mismatch.partition, mismatch.why
        )),
    )
    .into()
}

pub(super) fn seal<T: serde::Serialize>(value: &T) -> Result<Bytes> {
    sealed::seal(value)
        .map(Bytes::from)
        .map_err(|error| Error::BadInput {
            why: format!("a manifest that is no JSON: {error}"),
        })
}

/// Only the version, which is looked at first so that a newer format is named and not called damage.
#[derive(Deserialize)]
struct VersionOnly {
    format_version: u32,
}

fn parse_versioned<T: serde::de::DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    let damaged =
        |error: sealed::SealError| Damage::new(path, DamageKind::Format(error.to_string()));
    let version: VersionOnly = sealed::open(bytes).map_err(damaged)?;
    if version.format_version > FORMAT_VERSION {
        return Err(Error::NewerFormat {
            object: path.to_string(),
            found: version.format_version,
            supported: FORMAT_VERSION,
        });
    }
    Ok(sealed::open(bytes).map_err(damaged)?)
}

/// Parses `archive.json`. Takes any bytes.
pub fn parse_head(bytes: &[u8]) -> Result<ArchiveHead> {
    parse_versioned(HEAD_PATH, bytes)
}

/// Parses a generation object. Takes any bytes; `path` is for the error.
pub fn parse_generation(path: &str, bytes: &[u8]) -> Result<Generation> {
    parse_versioned(path, bytes)
}
