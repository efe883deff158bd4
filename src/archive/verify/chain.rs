//! The first half of a check: every generation in order, each laid on the ones before it, and every segment that
//! any of them names.

use super::pruned::Pruned;
use super::{Listed, ListedStream, VerifyOptions, VerifyReport, keep};
use crate::archive::catalogue::{LastKnown, count_of, damage_of, holes};
use crate::archive::kept::{read_cluster, read_groups};
use crate::archive::manifest::{Generation, TopicEntry};
use crate::archive::merge::{Merged, Mismatch};
use crate::archive::open::{READ_TOGETHER, check_link, generation_path, mismatched};
use crate::archive::retention::{Numbers, Retention, Standing};
use crate::archive::segment::Stream;
use crate::archive::{Archive, Damage, DamageKind, Result};
use crate::base::{Digest, Progress};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A hole of more generations is kept as a range: how many it has is whatever a name says.
const LISTED_HOLE: u64 = 1024;

/// What the generations say.
#[derive(Default)]
pub(super) struct Chain {
    /// Every object that counts, but for `archive.json`.
    pub named: BTreeSet<String>,
    /// By path.
    pub segments: BTreeMap<String, Listed>,
    /// Every recovery point, and what can be read of it as far as manifests go.
    pub generations: BTreeMap<u64, State>,
    /// Many that are lost, one after the other; not in `generations`.
    pub holes: Vec<Numbers>,
    /// Whether what is not there may have been pruned.
    doubtful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It and everything that it builds on.
    Readable,
    /// All but the groups' offsets, or the cluster's ACLs and quotas.
    RecordsOnly,
    Unreadable,
}

impl Chain {
    /// The newest recovery point that can be read. A prune never takes it.
    pub(super) fn newest(&self) -> Option<u64> {
        let mut newest = self.generations.iter().rev();
        let newest = newest.find(|(_, state)| **state != State::Unreadable);
        newest.map(|(number, _)| *number)
    }

    /// If nobody can tell what was pruned, segments that are not there, and that the newest recovery point does not
    /// need, may have been.
    pub(super) fn doubt(&self, damages: &mut [Damage]) {
        let newest = self.newest();
        for damage in damages.iter_mut().filter(|_| self.doubtful) {
            let Some(listed) = self.segments.get(&damage.object) else {
                continue;
            };
            let needed = |newest: u64| {
                let mut streams = listed.streams.values();
                streams.any(|stream| stream.is_held_by(newest))
            };
            if !newest.is_some_and(needed) {
                damage.kind = DamageKind::in_doubt(damage.kind.clone());
            }
        }
    }

    /// Leaves out what one generation does not need.
    pub(super) fn only(&mut self, number: u64) {
        self.generations.retain(|known, _| *known == number);
        self.holes.clear();
        self.segments.retain(|_, listed| {
            listed.streams.retain(|_, stream| stream.is_held_by(number));
            !listed.streams.is_empty()
        });
    }
}

/// Reads and lays every generation.
pub(super) async fn walk(
    archive: &Archive,
    options: &VerifyOptions,
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Result<Chain> {
    let listed = archive.listed().await?;
    let newest = listed.last().copied().unwrap_or(0);
    let LastKnown { retention, damage } = archive.last_retention(&listed).await?;
    let doubtful = damage.is_some();
    // Most are found again below, by their own names.
    report.damages.extend(damage);
    let holes = holes(&listed, &retention);
    let there: Vec<u64> = listed
        .into_iter()
        .filter(|number| !retention.is_gone(*number))
        .collect();
    progress.doing(&format!("reading {} generations", there.len()));
    let mut walk = Walk {
        chain: Chain {
            doubtful,
            ..Chain::default()
        },
        kept: BTreeMap::new(),
        merged: Some(Merged::default()),
        parent: None,
        retention,
    };
    let retention = walk.retention.clone();
    let mut pruned = Pruned::new(&retention);
    for hole in holes {
        walk.hole(hole, &mut report.damages);
    }
    let mut reads = futures::stream::iter(there)
        .map(async |number| (number, archive.read_generation(number).await))
        .buffered(READ_TOGETHER);
    let mut previous = 0;
    while let Some((number, read)) = reads.next().await {
        if number != previous + 1 {
            // What was pruned lies between; a checkpoint goes on.
            walk.merged = None;
            walk.parent = None;
        }
        previous = number;
        if options.cancel.is_cancelled() {
            report.interrupted = true;
            break;
        }
        walk.chain.named.insert(generation_path(number));
        let Some((generation, digest)) = keep(&mut report.damages, read)? else {
            walk.lost(number);
            continue;
        };
        if let Some(witness) = options.witness
            && witness.generation == number
            && witness.digest != digest
        {
            report.damages.push(witness.other(digest));
        }
        if let Some(expected) = walk.retention.anchor(number) {
            keep(&mut report.damages, check_link(number, expected, digest))?;
        }
        report.newest = Some((number, digest));
        report.generations += 1;
        let follows = walk.parent.is_some();
        walk.generation(&generation, digest, &mut report.damages)?;
        pruned.add(&generation, follows, walk.merged.as_ref());
        // What says what was pruned names the objects of the generation before it, for the next run to go on from. They
        // are kept for that at the end of the chain only.
        if walk.is_point(number) || number == newest {
            walk.keeps(generation);
        } else if walk.retention.standing(number) == Standing::Retention {
            walk.names(&generation);
        }
    }
    drop(reads);
    walk.read_kept(archive, report).await?;
    pruned.leave_out(&mut walk.chain.segments);
    if let Some(witness) = options.witness
        && witness.generation > newest
        && let Some(damage) = witness.contradicts(newest, Digest::of(b""))
    {
        report.damages.push(damage);
    }
    Ok(walk.chain)
}

struct KeptObject {
    kind: Kept,
    /// The first that names it, without its topics.
    generation: Generation,
    /// All that do.
    numbers: Vec<u64>,
}

/// Objects that generations name besides segments.
#[derive(Clone, Copy)]
enum Kept {
    Groups,
    Cluster,
}

struct Walk {
    chain: Chain,
    /// By path, size and hash.
    kept: BTreeMap<(String, u64, Digest), KeptObject>,
    /// Everything up to the generation before; `None` after a lost one, until the next checkpoint.
    merged: Option<Merged>,
    parent: Option<Digest>,
    /// What was pruned and need not be there.
    retention: Arc<Retention>,
}

impl Walk {
    fn is_point(&self, number: u64) -> bool {
        matches!(
            self.retention.standing(number),
            Standing::Point | Standing::Marked(_)
        )
    }

    /// Manifests that are not there.
    fn hole(&mut self, hole: Numbers, damages: &mut Vec<Damage>) {
        let mut damage = damage_of(hole);
        if self.chain.doubtful {
            damage.kind = DamageKind::in_doubt(damage.kind);
            damages.push(damage);
            return;
        }
        damages.push(damage);
        if count_of(hole) > LISTED_HOLE {
            self.chain.holes.push(hole);
            return;
        }
        for number in hole.first..=hole.last {
            if self.is_point(number) {
                self.chain.generations.insert(number, State::Unreadable);
            }
        }
    }

    fn lost(&mut self, number: u64) {
        if self.is_point(number) {
            self.chain.generations.insert(number, State::Unreadable);
        }
        self.merged = None;
        self.parent = None;
    }

    fn generation(
        &mut self,
        generation: &Generation,
        digest: Digest,
        damages: &mut Vec<Damage>,
    ) -> Result<()> {
        let number = generation.number;
        let mut linked = true;
        if let (Some(expected), Some(found)) = (generation.parent, self.parent) {
            linked = keep(damages, check_link(number - 1, expected, found))?.is_some();
        }
        self.parent = Some(digest);
        let before = match linked {
            true => self.merged.take(),
            false => None,
        };
        self.merged = self.lay(before, generation, damages)?;
        let state = match self.merged {
            None => State::Unreadable,
            Some(_) => State::Readable,
        };
        if self.is_point(number) {
            self.chain.generations.insert(number, state);
        }
        for topic in &generation.topics {
            self.gather(number, topic, damages);
        }
        Ok(())
    }

    /// Notes what a generation keeps besides records. Generations share such objects: each is read once for each
    /// thing that is said of it.
    fn keeps(&mut self, mut generation: Generation) {
        // What is asked of the generation later is only this.
        generation.topics.clear();
        let groups = generation.groups.as_ref().map(|groups| {
            let said = (groups.path.clone(), groups.size, groups.digest);
            (said, Kept::Groups)
        });
        let cluster = generation.cluster.as_ref().map(|cluster| {
            let said = (cluster.path.clone(), cluster.size, cluster.digest);
            (said, Kept::Cluster)
        });
        for (said, kind) in groups.into_iter().chain(cluster) {
            self.chain.named.insert(said.0.clone());
            let object = self.kept.entry(said).or_insert_with(|| KeptObject {
                kind,
                generation: generation.clone(),
                numbers: Vec::new(),
            });
            object.numbers.push(generation.number);
        }
    }

    /// Notes objects that need not be there, and are no strangers if they are.
    fn names(&mut self, generation: &Generation) {
        let groups = generation.groups.iter().map(|groups| &groups.path);
        let cluster = generation.cluster.iter().map(|cluster| &cluster.path);
        self.chain.named.extend(groups.chain(cluster).cloned());
    }

    async fn read_kept(&mut self, archive: &Archive, report: &mut VerifyReport) -> Result<()> {
        let kept = std::mem::take(&mut self.kept);
        let newest = self.chain.newest();
        let mut reads = futures::stream::iter(kept.into_values())
            .map(async |object| {
                let generation = &object.generation;
                let read = match object.kind {
                    Kept::Groups => read_groups(archive, generation).await.map(|_| ()),
                    Kept::Cluster => read_cluster(archive, generation).await.map(|_| ()),
                };
                (read, object.numbers)
            })
            .buffered(READ_TOGETHER);
        while let Some((read, numbers)) = reads.next().await {
            let before = report.damages.len();
            if keep(&mut report.damages, read)?.is_some() {
                continue;
            }
            if self.chain.doubtful && newest.is_none_or(|newest| !numbers.contains(&newest)) {
                for damage in &mut report.damages[before..] {
                    damage.kind = DamageKind::in_doubt(damage.kind.clone());
                }
            }
            for number in numbers {
                let state = self.chain.generations.entry(number);
                state.and_modify(|state| {
                    if *state == State::Readable {
                        *state = State::RecordsOnly;
                    }
                });
            }
        }
        Ok(())
    }

    /// Lays a generation on the ones before it. After a lost generation only a checkpoint can go on.
    fn lay(
        &mut self,
        before: Option<Merged>,
        generation: &Generation,
        damages: &mut Vec<Damage>,
    ) -> Result<Option<Merged>> {
        if let Some(before) = &before {
            self.replaced(before, generation);
        }
        let mismatch = if generation.checkpoint {
            let mut after = Merged::default();
            match after.apply(generation) {
                // It must say what the generations before it said, and what is new in it. If it does not, what
                // comes after still builds on it.
                Ok(()) => match before.map(|before| self.continues(&after, before)) {
                    None | Some(Ok(())) => return Ok(Some(after)),
                    Some(Err(mismatch)) => {
                        keep::<()>(damages, Err(mismatched(generation.number, mismatch)))?;
                        return Ok(Some(after));
                    }
                },
                Err(mismatch) => mismatch,
            }
        } else {
            // The damage that broke the chain is named already.
            let Some(mut after) = before else {
                return Ok(None);
            };
            match after.apply(generation) {
                Ok(()) => return Ok(Some(after)),
                Err(mismatch) => mismatch,
            }
        };
        keep::<()>(damages, Err(mismatched(generation.number, mismatch)))?;
        Ok(None)
    }

    /// A checkpoint leaves out what was pruned before it.
    fn continues(&self, after: &Merged, mut before: Merged) -> Result<(), Mismatch> {
        let floors = &self.retention.floors;
        if floors.is_empty() {
            return after.continues(&before);
        }
        let mut after = after.clone();
        after.trim(floors);
        before.trim(floors);
        after.continues(&before)
    }

    /// Notes which segments a rescan replaces: older generations need them, this one and later ones do not.
    fn replaced(&mut self, before: &Merged, generation: &Generation) {
        for topic in &generation.topics {
            for entry in topic.partitions.iter().filter(|entry| entry.replaces) {
                let old = before.segments(&topic.name, topic.incarnation, entry.partition);
                for segment in old {
                    let kept = entry.segments.iter().any(|new| new.path == segment.path);
                    let key = (topic.name.clone(), entry.partition.0);
                    if let Some(listed) = self.chain.segments.get_mut(&segment.path)
                        && let Some(stream) = listed.streams.get_mut(&key)
                        && !kept
                    {
                        stream.until.get_or_insert(generation.number);
                    }
                }
            }
        }
    }

    fn gather(&mut self, number: u64, topic: &TopicEntry, damages: &mut Vec<Damage>) {
        for partition in &topic.partitions {
            for segment in &partition.segments {
                self.chain.named.insert(segment.path.clone());
                let listed = self
                    .chain
                    .segments
                    .entry(segment.path.clone())
                    .or_insert_with(|| Listed {
                        segment: segment.clone(),
                        streams: BTreeMap::new(),
                    });
                let stream = Stream {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partition: partition.partition,
                };
                let same = listed.segment.digest == segment.digest
                    && listed.segment.index_digest == segment.index_digest
                    && listed.segment.size == segment.size;
                let key = (topic.name.clone(), partition.partition.0);
                let known = listed.streams.entry(key).or_insert_with(|| ListedStream {
                    stream: stream.clone(),
                    segment: segment.clone(),
                    since: number,
                    until: None,
                });
                if !same || known.segment != *segment || known.stream != stream {
                    let why = format!(
                        "it lists {} otherwise than a generation before it",
                        segment.path
                    );
                    damages.push(Damage::new(generation_path(number), DamageKind::Chain(why)));
                }
            }
        }
    }
}
