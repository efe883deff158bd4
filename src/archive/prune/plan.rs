//! The prune plan: what is marked, what is deleted, what stays and why.

use super::holdings::{
    Holdings, Needs, Offsets, TopicKey, floor_of, floors_of, offsets_of, raise, walk,
};
use super::policy::{Candidate, Policy, choose};
use crate::archive::manifest::{FORMAT_VERSION, Generation};
use crate::archive::merge::{Merged, cut_at};
use crate::archive::open::check_link;
use crate::archive::retention::{Anchor, Floor, Numbers, Retention, Round, Standing};
use crate::archive::run_writer::is_checkpoint;
use crate::archive::{Archive, Catalogue, Error, Result, Snapshot};
use crate::base::{Digest, Offset, PartitionId, Progress, TimestampMs};
use crate::store::Listed;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The end of the chain that a plan was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    pub number: u64,
    pub digest: Digest,
}

/// What a prune would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrunePlan {
    pub archive_id: uuid::Uuid,
    pub archive_url: String,
    pub tip: Tip,
    pub policy: Policy,
    /// The clock that the grace time is counted by.
    pub now: TimestampMs,
    /// When the newest object was written by the store's clock: a grace time begins no earlier.
    pub written: TimestampMs,
    /// Every recovery point, oldest first.
    pub points: Vec<PlannedPoint>,
    /// Records that leave the archive, by topic and partition.
    pub data: Vec<DataGoing>,
    /// Objects that are deleted now.
    pub objects: Vec<ObjectGoing>,
    /// Objects that nothing names, and that are too young to tell whether a run still writes them.
    pub young: Vec<ObjectGoing>,
    /// Objects that are none of an archive's; left alone.
    pub foreign: Vec<String>,
    /// Bytes of the objects that go once the grace time of what is marked is over.
    pub bytes_later: u64,
    /// What the commit says; none if there is nothing to say.
    pub retention: Option<Retention>,
    /// Whether its last round is this prune's own.
    pub marks_anew: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPoint {
    pub number: u64,
    pub consistency_point: TimestampMs,
    pub partial: bool,
    #[serde(flatten)]
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum Fate {
    /// By these rules.
    Kept { why: Vec<String> },
    /// Marked by this prune; it can be deleted from `until` on.
    Marks { until: TimestampMs },
    /// Marked by an earlier one.
    Marked {
        since: TimestampMs,
        until: TimestampMs,
    },
    /// Its grace time is over.
    Deletes { since: TimestampMs },
}

/// Records of one partition that go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataGoing {
    pub topic: String,
    pub incarnation: u32,
    pub partition: PartitionId,
    /// The first and the last offset of the segments that go, both inclusive.
    pub first: Offset,
    pub last: Offset,
    pub records: u64,
    /// Bytes of record batches.
    pub bytes: u64,
    pub min_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub why: Why,
    /// Deleted by this prune; else once the grace time is over.
    pub now: bool,
}

/// Why records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The source no longer had them at any recovery point that is kept.
    Expired,
    /// No recovery point that is kept has the topic.
    Removed,
    /// A full rescan took their place before any recovery point that is kept.
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectGoing {
    pub path: String,
    pub size: u64,
    pub kind: ObjectKind,
}

/// In the order of deletion: what a manifest names goes before the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// Records.
    Segment,
    /// Groups and what is kept of the cluster.
    Kept,
    /// Left behind by a run that never committed.
    Unreferenced,
    Manifest,
}

/// How far clocks may be apart.
pub(super) const CLOCKS_APART_MS: i64 = 600_000;

/// Which recovery points a segment is held by: those that are there, those that are there after this prune, those
/// that are kept.
const BEFORE: u8 = 1;
pub(super) const AFTER: u8 = 2;
const KEPT: u8 = 4;

impl PrunePlan {
    /// Plans a prune. Changes nothing. A damaged chain is refused: what is whole is not to be told from what is not.
    pub async fn make(
        archive: &Archive,
        policy: &Policy,
        now: TimestampMs,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let catalogue = archive.catalogue().await?;
        let Some((tip, digest)) = catalogue.newest() else {
            return Err(Error::Empty { url: archive.url() });
        };
        let tip = Tip {
            number: tip.number,
            digest,
        };
        let (manifests, digests) = read_all(archive, &catalogue, progress).await?;
        let listing = archive.store().list_objects("").await?;
        let planner = Planner {
            archive,
            policy,
            now,
            tip,
            catalogue: &catalogue,
            manifests: &manifests,
            digests: &digests,
        };
        planner.plan(&listing)
    }

    /// Whether it would change anything.
    pub fn is_empty(&self) -> bool {
        self.retention.is_none() && self.objects.is_empty()
    }

    /// The recovery points that are later than now: the clock of the machine that made them was ahead.
    pub fn from_the_future(&self) -> impl Iterator<Item = &PlannedPoint> {
        let latest = TimestampMs(self.now.0.saturating_add(CLOCKS_APART_MS));
        let points = self.points.iter();
        points.filter(move |point| point.consistency_point > latest)
    }

    /// The numbers that it marks.
    pub fn marks(&self) -> Vec<u64> {
        self.numbers(|fate| matches!(fate, Fate::Marks { .. }))
    }

    /// The numbers that it deletes.
    pub fn deletes(&self) -> Vec<u64> {
        self.numbers(|fate| matches!(fate, Fate::Deletes { .. }))
    }

    fn numbers(&self, wanted: impl Fn(&Fate) -> bool) -> Vec<u64> {
        let points = self.points.iter().filter(|point| wanted(&point.fate));
        points.map(|point| point.number).collect()
    }

    /// Bytes of the objects that are deleted now.
    pub fn bytes_now(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }
}

/// Every manifest, each checked against its neighbours.
async fn read_all(
    archive: &Archive,
    catalogue: &Catalogue,
    progress: &dyn Progress,
) -> Result<(Vec<Generation>, BTreeMap<u64, Digest>)> {
    progress.doing("reading generations");
    let mut manifests: Vec<Generation> = Vec::with_capacity(catalogue.manifests().len());
    let mut digests = BTreeMap::new();
    for number in catalogue.manifests() {
        let (generation, digest) = archive.read_generation(*number).await?;
        if let (Some(expected), Some(found)) = (generation.parent, digests.get(&(number - 1))) {
            check_link(number - 1, expected, *found)?;
        }
        if let Some(expected) = catalogue.retention().anchor(*number) {
            check_link(*number, expected, digest)?;
        }
        digests.insert(*number, digest);
        manifests.push(generation);
    }
    Ok((manifests, digests))
}

pub(super) struct Planner<'a> {
    pub archive: &'a Archive,
    pub policy: &'a Policy,
    pub now: TimestampMs,
    pub tip: Tip,
    pub catalogue: &'a Catalogue,
    pub manifests: &'a [Generation],
    pub digests: &'a BTreeMap<u64, Digest>,
}

/// What each recovery point becomes.
pub(super) struct Fates {
    pub points: Vec<PlannedPoint>,
    pub sets: BTreeMap<u64, u8>,
}

impl Planner<'_> {
    fn plan(&self, listing: &[Listed]) -> Result<PrunePlan> {
        let old = self.catalogue.retention();
        let fates = self.fates();
        let is_due = |round: &&Round| self.is_due(round);

        // From where on the recovery points need each partition.
        let (mut kept, mut after) = (Needs::default(), Needs::default());
        let mut newest = Merged::default();
        walk(self.manifests, |generation, _, merged| {
            let sets = fates.sets.get(&generation.number).copied().unwrap_or(0);
            if sets & KEPT != 0 {
                kept.add(merged);
            }
            if sets & AFTER != 0 {
                after.add(merged);
            }
            if generation.number == self.tip.number {
                newest = merged.clone();
            }
        })?;

        // What is gone, what will be gone after this prune, and what once everything that is marked is deleted.
        let floors_before = offsets_of(&old.floors);
        let mut due = offsets_of(old.rounds.iter().filter(is_due).flat_map(|r| &r.floors));
        after.clamp(&mut due);
        let mut floors_after = floors_before.clone();
        raise(&mut floors_after, &floors_of(due));
        let young: Vec<Round> = old.rounds.iter().filter(|r| !is_due(r)).cloned().collect();
        let mut planned = floors_after.clone();
        raise(&mut planned, young.iter().flat_map(|round| &round.floors));
        let new_floors = self.new_floors(&newest, &kept, &planned);
        raise(&mut planned, &new_floors);
        kept.clamp(&mut planned);
        // What is gone stays gone, whatever is needed.
        raise(&mut planned, &floors_of(floors_after.clone()));

        let floors = [floors_before, floors_after, planned];
        let mut holdings = Holdings::default();
        walk(self.manifests, |generation, follows, merged| {
            let sets = fates.sets.get(&generation.number).copied().unwrap_or(0);
            holdings.add(generation, follows, merged, sets, &floors);
        })?;
        let [_, floors_after, _] = floors;

        let marks: Vec<u64> = {
            let points = fates.points.iter();
            let marks = points.filter(|point| matches!(point.fate, Fate::Marks { .. }));
            marks.map(|point| point.number).collect()
        };
        let mut rounds = young;
        let marks_anew = !marks.is_empty() || !new_floors.is_empty();
        if marks_anew {
            rounds.push(Round {
                since: self.now,
                grace_ms: self.policy.grace_ms,
                generations: marks,
                floors: new_floors,
            });
        }
        let deletes: Vec<u64> = {
            let points = fates.points.iter();
            let deletes = points.filter(|point| matches!(point.fate, Fate::Deletes { .. }));
            deletes.map(|point| point.number).collect()
        };
        let deleting = old.rounds.iter().any(|round| is_due(&round));

        let needed = self.needed_manifests(&fates, deleting);
        let sorted = self.sort_objects(listing, &fates, &holdings, &needed)?;
        let says_something = deleting || marks_anew || !sorted.abandoned.is_empty();
        let retention = says_something.then(|| {
            self.retention(
                Said {
                    rounds,
                    deletes,
                    floors: floors_after,
                    abandoned: sorted.abandoned,
                },
                &needed,
            )
        });
        Ok(PrunePlan {
            archive_id: self.archive.archive_id(),
            archive_url: self.archive.url(),
            tip: self.tip,
            policy: self.policy.clone(),
            now: self.now,
            written: written(listing, &sorted.foreign).unwrap_or(self.now),
            data: data_going(&holdings, &kept),
            points: fates.points,
            objects: sorted.going,
            young: sorted.young,
            foreign: sorted.foreign,
            bytes_later: bytes_later(&holdings),
            retention,
            marks_anew,
        })
    }

    fn is_due(&self, round: &Round) -> bool {
        self.now >= self.due_at(round)
    }

    /// When the grace time is over: what was promised with the mark, or what this prune asks for if that is longer.
    fn due_at(&self, round: &Round) -> TimestampMs {
        let grace = self.policy.grace_ms.max(round.grace_ms);
        TimestampMs(round.since.0.saturating_add(grace))
    }

    fn fates(&self) -> Fates {
        let candidate = |generation: &Generation| Candidate {
            number: generation.number,
            consistency_point: generation.consistency_point,
            partial: generation.partial,
        };
        let standing = |number: u64| self.catalogue.standing(number);
        let points: Vec<Candidate> = self
            .manifests
            .iter()
            .filter(|generation| standing(generation.number) == Standing::Point)
            .map(candidate)
            .collect();
        let mut kept = choose(self.policy, &points, self.now);
        let retention = self.catalogue.retention();
        let mut fates = Fates {
            points: Vec::new(),
            sets: BTreeMap::new(),
        };
        for generation in self.manifests {
            let (fate, sets) = match standing(generation.number) {
                Standing::Point => match kept.remove(&generation.number) {
                    Some(why) => (Fate::Kept { why }, BEFORE | AFTER | KEPT),
                    None => {
                        let until = TimestampMs(self.now.0.saturating_add(self.policy.grace_ms));
                        (Fate::Marks { until }, BEFORE | AFTER)
                    }
                },
                Standing::Marked(since) => match retention.round_of(generation.number) {
                    Some(round) if !self.is_due(round) => {
                        let until = self.due_at(round);
                        (Fate::Marked { since, until }, BEFORE | AFTER)
                    }
                    _ => (Fate::Deletes { since }, BEFORE),
                },
                Standing::Retention | Standing::Deleted => continue,
            };
            fates.sets.insert(generation.number, sets);
            let Candidate {
                number,
                consistency_point,
                partial,
            } = candidate(generation);
            fates.points.push(PlannedPoint {
                number,
                consistency_point,
                partial,
                fate,
            });
        }
        fates
    }

    /// The floors that the policy allows beyond those that are planned already.
    fn new_floors(&self, newest: &Merged, kept: &Needs, planned: &Offsets) -> Vec<Floor> {
        let mut floors = Offsets::new();
        for (topic, _, partitions) in newest.topics() {
            let key = TopicKey {
                name: topic.name.clone(),
                incarnation: topic.incarnation,
                id: topic.id,
            };
            let needed = kept.0.get(&key);
            let may_go = match needed {
                Some(_) => self.policy.drop_expired,
                None => self.policy.drop_removed,
            };
            if !may_go {
                continue;
            }
            for entry in partitions {
                let before = match needed {
                    None => entry.to,
                    Some(needed) => match needed.get(&entry.partition) {
                        Some(needed) => *needed,
                        None => continue,
                    },
                };
                let begins = floor_of(planned, &key, entry);
                if cut_at(entry, before) > begins {
                    let partitions = floors.entry(key.clone()).or_default();
                    partitions.insert(entry.partition, before);
                }
            }
        }
        floors_of(floors)
    }

    /// The manifests that stay: the chain of every recovery point that stays, of the newest generation and of the one
    /// that says what was pruned. Nothing is deleted unless the commit deletes recovery points.
    fn needed_manifests(&self, fates: &Fates, deleting: bool) -> BTreeSet<u64> {
        let all = self.manifests.iter().map(|generation| generation.number);
        if !deleting {
            return all.collect();
        }
        let mut needed = BTreeSet::new();
        let stays = |number: u64| {
            let sets = fates.sets.get(&number).copied().unwrap_or(0);
            sets & AFTER != 0 || number == self.tip.number
        };
        let mut wanted = false;
        for generation in self.manifests.iter().rev() {
            wanted = wanted || stays(generation.number);
            if wanted {
                needed.insert(generation.number);
            }
            // Its chain ends here.
            if generation.checkpoint {
                wanted = false;
            }
        }
        needed
    }

    fn retention(&self, said: Said, needed: &BTreeSet<u64>) -> Retention {
        let old = self.catalogue.retention();
        let next = self.tip.number + 1;
        let gone = between(needed, next);
        let borders = needed.iter().filter(|number| {
            let holes = [**number - 1, **number + 1];
            let is_hole = |number: &u64| *number > 0 && *number < next && !needed.contains(number);
            holes.iter().any(is_hole)
        });
        let anchors = borders.filter_map(|number| {
            Some(Anchor {
                number: *number,
                digest: *self.digests.get(number)?,
            })
        });
        let was_deleted = |number: &u64| {
            self.catalogue.standing(*number) == Standing::Deleted || said.deletes.contains(number)
        };
        let deleted = needed.iter().copied().filter(was_deleted);
        let commits = old.commits.iter().copied();
        Retention {
            rounds: said.rounds,
            deleted: ranges(deleted),
            gone,
            anchors: anchors.collect(),
            floors: floors_of(said.floors),
            commits: commits
                .filter(|number| needed.contains(number))
                .chain([next])
                .collect(),
            abandoned: said.abandoned,
        }
    }
}

/// When the newest object of the archive's own was written.
fn written(listing: &[Listed], foreign: &[String]) -> Option<TimestampMs> {
    let foreign: BTreeSet<&String> = foreign.iter().collect();
    let own = listing.iter().filter(|one| !foreign.contains(&one.path));
    own.map(|object| object.modified).max()
}

/// What a commit says, before it is brought into its form.
struct Said {
    rounds: Vec<Round>,
    deletes: Vec<u64>,
    floors: Offsets,
    abandoned: Vec<String>,
}

/// The numbers from 1 to below `next` that are none of these.
fn between(needed: &BTreeSet<u64>, next: u64) -> Vec<Numbers> {
    let mut ranges = Vec::new();
    let mut first = 1;
    for number in needed.iter().copied().chain([next]) {
        if number > first {
            let last = number - 1;
            ranges.push(Numbers { first, last });
        }
        first = number + 1;
    }
    ranges
}

fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<Numbers> {
    let mut ranges: Vec<Numbers> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.last + 1 == number => last.last = number,
            _ => ranges.push(Numbers {
                first: number,
                last: number,
            }),
        }
    }
    ranges
}

/// What leaves the archive, by partition and reason.
fn data_going(holdings: &Holdings, kept: &Needs) -> Vec<DataGoing> {
    let mut going: Vec<DataGoing> = Vec::new();
    for (place, held) in &holdings.segments {
        if held.sets & KEPT != 0 {
            continue;
        }
        let segment = &held.segment;
        let why = match kept.0.get(&*place.topic) {
            None => Why::Removed,
            Some(needed) => match needed.get(&place.partition) {
                Some(needed) if segment.last < *needed => Why::Expired,
                _ => Why::Superseded,
            },
        };
        let now = held.sets & AFTER == 0;
        let same = going.iter_mut().rev().take(4).find(|known| {
            known.topic == place.topic.name
                && known.incarnation == place.topic.incarnation
                && known.partition == place.partition
                && (known.why, known.now) == (why, now)
        });
        match same {
            Some(known) => {
                known.last = known.last.max(segment.last);
                known.records += segment.records;
                known.bytes += segment.raw_bytes;
                known.min_timestamp = known.min_timestamp.min(segment.min_timestamp);
                known.max_timestamp = known.max_timestamp.max(segment.max_timestamp);
            }
            None => going.push(DataGoing {
                topic: place.topic.name.clone(),
                incarnation: place.topic.incarnation,
                partition: place.partition,
                first: segment.first,
                last: segment.last,
                records: segment.records,
                bytes: segment.raw_bytes,
                min_timestamp: segment.min_timestamp,
                max_timestamp: segment.max_timestamp,
                why,
                now,
            }),
        }
    }
    going
}

fn bytes_later(holdings: &Holdings) -> u64 {
    let mut objects: BTreeMap<&str, (u8, u64)> = BTreeMap::new();
    for (place, held) in &holdings.segments {
        let known = objects.entry(&place.path).or_default();
        known.0 |= held.sets;
        known.1 = held.segment.size;
    }
    let later = objects.values();
    later
        .filter(|(sets, _)| sets & AFTER != 0 && sets & KEPT == 0)
        .map(|(_, size)| size)
        .sum()
}

/// The generation that carries `retention`, after `tip`.
pub(super) fn commit_of(
    archive: &Archive,
    tip: &Snapshot,
    retention: &Retention,
    run: &str,
    now: TimestampMs,
) -> Generation {
    let number = tip.number() + 1;
    let checkpoint = is_checkpoint(number);
    let topics = match checkpoint {
        false => Vec::new(),
        true => {
            let mut merged = tip.merged().clone();
            merged.trim(&retention.floors);
            merged.into_topics()
        }
    };
    let before = tip.manifest();
    Generation {
        format_version: FORMAT_VERSION,
        archive_id: archive.archive_id(),
        number,
        parent: Some(tip.digest()),
        run: run.to_string(),
        started: now,
        finished: crate::base::time::now(),
        // It adds no data: the age of the archive stays what it was.
        consistency_point: before.consistency_point,
        source_cluster_id: archive.source_cluster_id().to_string(),
        kbr_version: env!("CARGO_PKG_VERSION").to_string(),
        checkpoint,
        partial: false,
        topics,
        // So that the next run need not write them again.
        groups: before.groups.clone(),
        cluster: before.cluster.clone(),
        retention: Some(retention.clone()),
        retention_at: None,
    }
}
