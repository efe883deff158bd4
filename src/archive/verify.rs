//! Checks an archive: every link, every object, and with [`Depth::Deep`] every record batch.
//!
//! Damage is a list, not the first error: the answer to "what have I lost" needs all of it. Only a store that does
//! not answer ends the check.

use super::block::decode_block;
use super::index_reader::{
    block_damage, check_agreement, holding, lost, of_stream, read_index, size_damage, unreadable,
};
use super::kept::{read_cluster, read_groups};
use super::manifest::{Generation, SegmentRef};
use super::merge::Merged;
use super::open::{HEAD_PATH, check_link, generation_path, mismatched};
use super::prune::holdings::{Holdings, Offsets, offsets_of};
use super::retention::{Retention, Standing};
use super::segment::{
    BlockEntry, HEADER_LEN, SegmentIndex, Stream, TRAILER_LEN, decode_header, encode_index,
};
use super::{Archive, Damage, DamageKind, Error, Held, Result};
use crate::base::{Digest, Progress};
use crate::record::{Limits, batches};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How far a check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The chain, the books, every object's existence and size, every index.
    Quick,
    /// Also every byte: hashes of objects, CRCs of blocks and batches, counts, ascending offsets.
    Deep,
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    pub generations: u64,
    pub segments: u64,
    pub blocks: u64,
    /// Counted by a deep check only.
    pub batches: u64,
    pub records: u64,
    /// Bytes of segments.
    pub bytes: u64,
    pub damages: Vec<Damage>,
    /// Objects that no generation names: left behind by runs that died, harmless.
    pub unreferenced: Vec<String>,
}

impl VerifyReport {
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One segment object and all that generations say of it.
struct Listed {
    segment: SegmentRef,
    streams: BTreeMap<(String, i32), (Stream, SegmentRef)>,
}

struct Verifier<'a> {
    archive: &'a Archive,
    depth: Depth,
    progress: &'a dyn Progress,
    report: VerifyReport,
    /// Every object in the store with its size.
    present: BTreeMap<String, u64>,
    named: BTreeSet<String>,
    /// Groups and cluster objects that were read: path, size and hash as a generation says them.
    read: BTreeSet<(String, u64, Digest)>,
}

impl Archive {
    /// Checks the whole archive.
    pub async fn verify(&self, depth: Depth, progress: &dyn Progress) -> Result<VerifyReport> {
        let present = self.store().list("").await?.into_iter().collect();
        let mut verifier = Verifier {
            archive: self,
            depth,
            progress,
            report: VerifyReport::default(),
            present,
            named: BTreeSet::from([HEAD_PATH.to_string()]),
            read: BTreeSet::new(),
        };
        verifier.run().await?;
        Ok(verifier.report)
    }
}

impl Verifier<'_> {
    async fn run(&mut self) -> Result<()> {
        let listed = self.generations().await?;
        let total: u64 = listed.values().map(|listed| listed.segment.size).sum();
        let records: u64 = listed
            .values()
            .flat_map(|listed| listed.streams.values())
            .map(|(_, segment)| segment.records)
            .sum();
        self.progress.total(records, total);
        for listed in listed.values() {
            let result = self.segment(listed).await;
            self.keep(result)?;
        }
        self.report.unreferenced = self
            .present
            .keys()
            .filter(|path| !self.named.contains(*path))
            .cloned()
            .collect();
        Ok(())
    }

    /// Turns damage into a finding; anything else ends the check.
    fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged(damage)) => {
                self.report.damages.push(*damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Walks the whole chain and gathers every segment that a generation names.
    async fn generations(&mut self) -> Result<BTreeMap<String, Listed>> {
        let numbers = self.archive.listed().await?;
        let read = self.archive.last_retention(&numbers).await;
        let (_, retention) = self.keep(read)?.unwrap_or_default();
        let mut segments = BTreeMap::new();
        let mut pruned = Pruned::new(&retention);
        let mut merged = Some(Merged::default());
        let mut parent: Option<Digest> = None;
        for number in 1..=numbers.last().copied().unwrap_or(0) {
            if retention.is_gone(number) {
                // The chain goes on at a checkpoint after the hole.
                merged = None;
                parent = None;
                continue;
            }
            self.named.insert(generation_path(number));
            let read = self.archive.read_generation(number).await;
            let Some((generation, digest)) = self.keep(read)? else {
                merged = None;
                parent = None;
                continue;
            };
            self.report.generations += 1;
            if let (Some(expected), Some(found)) = (generation.parent, parent) {
                let link = check_link(number - 1, expected, found);
                self.keep(link)?;
            }
            if let Some(expected) = retention.anchor(number) {
                let anchored = check_link(number, expected, digest);
                self.keep(anchored)?;
            }
            let follows = parent.is_some();
            parent = Some(digest);
            self.lay(&mut merged, &generation, &retention)?;
            if retention.standing(number) != Standing::Deleted {
                self.kept(&generation).await?;
            }
            self.gather(&generation, &mut segments)?;
            pruned.add(&generation, follows, merged.as_ref());
        }
        pruned.leave_out(&mut segments);
        Ok(segments)
    }

    /// What it keeps besides records. Generations may share an object: it is read once for each thing said of it.
    async fn kept(&mut self, generation: &Generation) -> Result<()> {
        if let Some(groups) = &generation.groups {
            self.named.insert(groups.path.clone());
            let said = (groups.path.clone(), groups.size, groups.digest);
            if self.read.insert(said) {
                let read = read_groups(self.archive, generation).await;
                self.keep(read)?;
            }
        }
        if let Some(cluster) = &generation.cluster {
            self.named.insert(cluster.path.clone());
            let said = (cluster.path.clone(), cluster.size, cluster.digest);
            if self.read.insert(said) {
                let read = read_cluster(self.archive, generation).await;
                self.keep(read)?;
            }
        }
        Ok(())
    }

    /// Lays a generation on the ones before it. After a lost generation only a checkpoint can go on.
    fn lay(
        &mut self,
        merged: &mut Option<Merged>,
        generation: &Generation,
        retention: &Retention,
    ) -> Result<()> {
        let before = merged.take();
        if before.is_none() && !generation.checkpoint {
            let mut damage = Damage::new(
                generation_path(generation.number),
                DamageKind::Chain("a generation before it is lost or broken".into()),
            );
            damage.restorable = "what checkpoints and earlier generations hold".into();
            self.report.damages.push(damage);
            return Ok(());
        }
        // A checkpoint must say what the generations before it said, and what is new in it.
        let mut after = before.clone().unwrap_or_default();
        let mut laid = after.apply(generation);
        if laid.is_ok()
            && generation.checkpoint
            && let Some(mut before) = before
        {
            // What was pruned may be in both, or in the older one only.
            before.trim(&retention.floors);
            let mut trimmed = after.clone();
            trimmed.trim(&retention.floors);
            laid = trimmed.continues(&before);
        }
        match laid {
            Ok(()) => *merged = Some(after),
            Err(mismatch) => {
                let error = mismatched(generation.number, mismatch);
                self.keep::<()>(Err(error))?;
            }
        }
        Ok(())
    }

    fn gather(
        &mut self,
        generation: &Generation,
        segments: &mut BTreeMap<String, Listed>,
    ) -> Result<()> {
        for topic in &generation.topics {
            for partition in &topic.partitions {
                for segment in &partition.segments {
                    self.named.insert(segment.path.clone());
                    let listed = segments
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
                    let known = listed
                        .streams
                        .entry(key)
                        .or_insert_with(|| (stream.clone(), segment.clone()));
                    if !same || known.1 != *segment || known.0 != stream {
                        let damage = Damage::new(
                            generation_path(generation.number),
                            DamageKind::Chain(format!(
                                "it lists {} otherwise than a generation before it",
                                segment.path
                            )),
                        );
                        self.report.damages.push(damage);
                    }
                }
            }
        }
        Ok(())
    }

    async fn segment(&mut self, listed: &Listed) -> Result<()> {
        let segment = &listed.segment;
        let held = |damage: Damage| listed.damaged(damage);
        self.report.segments += 1;
        self.report.bytes += segment.size;
        match self.present.get(&segment.path) {
            None => return Err(held(Damage::new(&segment.path, DamageKind::Missing))),
            Some(size) if *size != segment.size => return Err(held(size_damage(segment, *size))),
            Some(_) => {}
        }
        let index = match read_index(self.archive.store(), segment).await {
            Ok(index) => index,
            Err(Error::Damaged(damage)) => return Err(held(*damage)),
            Err(error) => return Err(error),
        };
        for (stream, reference) in listed.streams.values() {
            if let Err(kind) = check_agreement(&index, reference, stream) {
                let error = Damage::new(&segment.path, kind).into();
                self.keep::<()>(Err(holding(error, reference, stream)))?;
                continue;
            }
            self.report.blocks += of_stream(&index, stream).count() as u64;
            self.report.records += reference.records;
        }
        match self.depth {
            Depth::Quick => self.progress.advance(0, segment.size),
            Depth::Deep => self.deep(listed, &index).await?,
        }
        Ok(())
    }

    /// Reads the whole segment once, in order: its hash and every block.
    async fn deep(&mut self, listed: &Listed, index: &SegmentIndex) -> Result<()> {
        let segment = &listed.segment;
        let mut hasher = blake3::Hasher::new();
        let header = self.read(listed, 0..HEADER_LEN as u64).await?;
        hasher.update(&header);
        let owner = decode_header(&header).map_err(|error| match unreadable(segment, error) {
            Error::Damaged(damage) => listed.damaged(*damage),
            error => error,
        })?;
        if owner != self.archive.archive_id() {
            let kind = DamageKind::Swapped(format!("it belongs to archive {owner}"));
            return Err(listed.damaged(Damage::new(&segment.path, kind)));
        }
        let mut any_block = false;
        for block in &index.blocks {
            let end = block.position + u64::from(block.stored_len);
            let stored = self.read(listed, block.position..end).await?;
            hasher.update(&stored);
            let entry = *block;
            let checked = tokio::task::spawn_blocking(move || check_block(&entry, &stored))
                .await
                .map_err(|error| Error::Task {
                    op: "checking a block",
                    why: error.to_string(),
                })?;
            match checked {
                Ok(batches) => self.report.batches += batches,
                Err(kind) => {
                    any_block = true;
                    let stream = &index.streams[block.stream as usize];
                    let damage = Damage::new(&segment.path, kind).holding(Held {
                        topic: stream.topic.clone(),
                        partition: stream.partition,
                        first: block.first,
                        last: block.last,
                    });
                    self.report.damages.push(damage);
                }
            }
            self.progress
                .advance(block.records, u64::from(block.stored_len));
        }
        let index_position = segment.size - TRAILER_LEN as u64 - encode_index(index).len() as u64;
        hasher.update(&self.read(listed, index_position..segment.size).await?);
        let found = Digest(*hasher.finalize().as_bytes());
        // A broken block is named already, and better than by the hash of everything.
        if found != segment.digest && !any_block {
            let kind = DamageKind::Hash {
                expected: segment.digest.hex(),
                found: found.hex(),
            };
            return Err(listed.damaged(Damage::new(&segment.path, kind)));
        }
        Ok(())
    }

    async fn read(&self, listed: &Listed, range: Range<u64>) -> Result<Bytes> {
        let segment = &listed.segment;
        let store = self.archive.store();
        store
            .get_range(&segment.path, range)
            .await
            .map_err(|error| match lost(&error, segment) {
                Some(kind) => listed.damaged(Damage::new(&segment.path, kind)),
                None => error.into(),
            })
    }
}

/// Which segments the recovery points of a pruned archive hold. The manifests that are left may name more, and that
/// may be gone.
struct Pruned<'a> {
    retention: &'a Retention,
    floors: [Offsets; 1],
    holdings: Holdings,
    /// Named by recovery points whose chain is broken.
    unsure: BTreeSet<String>,
}

impl<'a> Pruned<'a> {
    fn new(retention: &'a Retention) -> Self {
        Self {
            retention,
            floors: [offsets_of(&retention.floors)],
            holdings: Holdings::default(),
            unsure: BTreeSet::new(),
        }
    }

    /// Nothing was ever deleted: every segment that is named must be there.
    fn is_whole(&self) -> bool {
        self.retention.deleted.is_empty() && self.retention.gone.is_empty()
    }

    fn add(&mut self, generation: &Generation, follows: bool, merged: Option<&Merged>) {
        if self.is_whole() {
            return;
        }
        let is_point = matches!(
            self.retention.standing(generation.number),
            Standing::Point | Standing::Marked(_)
        );
        match merged {
            Some(merged) => {
                let sets = u8::from(is_point);
                self.holdings
                    .add(generation, follows, merged, sets, &self.floors);
            }
            None if is_point => {
                let partitions = generation.topics.iter().flat_map(|t| &t.partitions);
                let segments = partitions.flat_map(|partition| &partition.segments);
                self.unsure
                    .extend(segments.map(|segment| segment.path.clone()));
            }
            None => {}
        }
    }

    fn leave_out(&self, segments: &mut BTreeMap<String, Listed>) {
        if self.is_whole() {
            return;
        }
        let places = self.holdings.segments.keys();
        let held: BTreeSet<(&str, &str, i32)> = places
            .map(|place| {
                let topic = place.topic.name.as_str();
                (&*place.path, topic, place.partition.0)
            })
            .collect();
        segments.retain(|path, listed| {
            if self.unsure.contains(path) {
                return true;
            }
            let held = |key: &(String, i32)| held.contains(&(path.as_str(), key.0.as_str(), key.1));
            listed.streams.retain(|key, _| held(key));
            !listed.streams.is_empty()
        });
    }
}

impl Listed {
    /// The damage with everything that the segment held.
    fn damaged(&self, mut damage: Damage) -> Error {
        for (stream, segment) in self.streams.values() {
            damage = damage.holding(Held {
                topic: stream.topic.clone(),
                partition: stream.partition,
                first: segment.first,
                last: segment.last,
            });
        }
        damage.into()
    }
}

/// Everything about one block: its CRC, then every batch's CRC, every record's offset, all counts. Takes any bytes.
/// Returns how many batches it holds.
pub fn check_block(entry: &BlockEntry, stored: &[u8]) -> Result<u64, DamageKind> {
    let mut raw = Vec::new();
    decode_block(entry, stored, &mut raw).map_err(|error| block_damage(error, entry))?;
    let broken = |offset: i64, why: String| DamageKind::Batch { offset, why };
    let limits = Limits::default();
    let mut scratch = Vec::new();
    let (mut count, mut records, mut next) = (0_u64, 0_u64, i64::MIN);
    let mut walk = batches(&raw);
    for batch in walk.by_ref() {
        let batch = batch.map_err(|error| broken(next.max(0), error.to_string()))?;
        let base = batch.header.base_offset;
        if base < next {
            return Err(broken(base, format!("it comes after offset {}", next - 1)));
        }
        next = batch.header.next_offset();
        batch
            .verify_crc()
            .map_err(|error| broken(base, error.to_string()))?;
        let opened = batch
            .open(&limits, &mut scratch)
            .map_err(|error| broken(base, error.to_string()))?;
        for record in opened {
            let record = record.map_err(|error| broken(base, error.to_string()))?;
            if record.offset >= entry.first.0 && record.offset <= entry.last.0 {
                records += 1;
            }
        }
        count += 1;
    }
    if !walk.remainder().is_empty() {
        return Err(broken(next.max(0), "it is cut short".into()));
    }
    if count != u64::from(entry.batches) || records != entry.records {
        return Err(DamageKind::Disagrees(format!(
            "the block at byte {} holds {records} records in {count} batches, not {} in {}",
            entry.position, entry.records, entry.batches
        )));
    }
    Ok(count)
}
