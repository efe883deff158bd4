//! [`Snapshot`]: everything that an archive holds at one generation, and the way to its records.
//!
//! Trust comes down a chain: the generation's hash, the index's hash in it, each block's CRC32C in the index. So a
//! ranged read of one block is as safe as reading the whole segment.

use super::block::decode_block;
use super::index_cache::IndexCache;
use super::index_reader::{LoadedIndex, block_damage, check_agreement, holding, lost, read_index};
use super::kept::{read_cluster, read_groups};
use super::manifest::{
    Behind, ClusterState, Gap, Generation, Groups, PartitionEntry, SegmentRef, TopicEntry,
};
use super::merge::{Merged, goes_on};
use super::retention::RetentionRef;
use super::segment::{BlockCodec, BlockEntry, Stream};
use super::{Archive, Damage, DamageKind, Error, Held, Result};
use crate::base::{Digest, Offset, PartitionId, TimestampMs, TopicId, buffers};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// An archive at one generation. Clones share it and its cache of indexes.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    archive: Archive,
    generation: Generation,
    digest: Digest,
    merged: Merged,
    topics: Vec<SnapshotTopic>,
    /// Names of current topics to their place in `topics`.
    by_name: BTreeMap<String, usize>,
    indexes: Mutex<IndexCache>,
}

/// A topic as it was at the source at this generation.
#[derive(Clone, Debug)]
pub struct SnapshotTopic {
    pub name: String,
    pub id: TopicId,
    pub incarnation: u32,
    pub internal: bool,
    /// Whether this is the topic of its name: the newest incarnation, and not removed at the source.
    pub current: bool,
    /// A run has seen that the source has it no more.
    pub removed: bool,
    /// The newest generation whose run saw it.
    pub seen: u64,
    /// Partitions that newer runs left out, or did not read to their ends.
    pub behind: Vec<Behind>,
    pub replication_factor: i16,
    /// At the source; at least as many as `partitions` holds.
    pub partition_count: i32,
    /// The consistency point of the last run that read it to its ends in time; see the manifest.
    pub caught_up: Option<TimestampMs>,
    pub configs: BTreeMap<String, String>,
    /// Sorted by id.
    pub partitions: Vec<SnapshotPartition>,
}

/// A partition with everything that is archived of it: `[from, to)`.
#[derive(Clone, Debug)]
pub struct SnapshotPartition {
    pub partition: PartitionId,
    /// The source's log start offset at this generation; the archive may hold older records.
    pub log_start: Offset,
    pub from: Offset,
    pub to: Offset,
    pub high_watermark: Offset,
    pub last_leader_epoch: i32,
    pub records: u64,
    /// Bytes of record batches.
    pub bytes: u64,
    pub segments: Vec<Arc<SegmentRef>>,
    pub gaps: Vec<Gap>,
    pub min_timestamp: Option<TimestampMs>,
    pub max_timestamp: Option<TimestampMs>,
    /// The largest batch in bytes; 0 if there is none.
    pub largest_batch: u32,
}

impl SnapshotTopic {
    pub fn partition(&self, partition: PartitionId) -> Option<&SnapshotPartition> {
        self.partitions
            .binary_search_by_key(&partition, |entry| entry.partition)
            .ok()
            .map(|position| &self.partitions[position])
    }

    /// When what is archived of a partition was last known to hold every deletion.
    pub fn caught_up_at(&self, partition: PartitionId) -> Option<TimestampMs> {
        let mut behind = self.behind.iter();
        match behind.find(|behind| behind.partitions.contains(partition)) {
            Some(behind) => behind.caught_up,
            None => self.caught_up,
        }
    }

    /// Whether what a source has under this topic's id now belongs to it, also if a run in between did not see it.
    pub fn goes_on(&self) -> bool {
        let spans = self.partitions.iter().map(|p| (p.from, p.to));
        goes_on(self.removed, self.id, spans)
    }

    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|p| p.records).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.partitions.iter().map(|p| p.bytes).sum()
    }
}

/// One block and how to read it.
#[derive(Clone, Debug)]
pub struct BlockRef {
    pub topic: String,
    pub partition: PartitionId,
    pub segment: Arc<SegmentRef>,
    pub entry: BlockEntry,
}

impl BlockRef {
    pub fn first(&self) -> Offset {
        self.entry.first
    }

    pub fn last(&self) -> Offset {
        self.entry.last
    }

    pub fn records(&self) -> u64 {
        self.entry.records
    }

    pub(super) fn damage(&self, kind: DamageKind) -> Damage {
        Damage::new(&self.segment.path, kind).holding(Held {
            topic: self.topic.clone(),
            partition: self.partition,
            first: self.entry.first,
            last: self.entry.last,
        })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} generation {})", self.url(), self.number())
    }
}

impl Snapshot {
    pub(super) fn new(
        archive: Archive,
        generation: Generation,
        digest: Digest,
        merged: Merged,
    ) -> Self {
        let entries = merged.clone().into_topics();
        // Sorted by name, then incarnation: the last of a name is the newest.
        let mut by_name = BTreeMap::new();
        for (position, entry) in entries.iter().enumerate() {
            if entry.removed {
                by_name.remove(&entry.name);
            } else {
                by_name.insert(entry.name.clone(), position);
            }
        }
        let topics = entries
            .into_iter()
            .enumerate()
            .map(|(position, entry)| {
                let current = by_name.get(&entry.name) == Some(&position);
                snapshot_topic(entry, current)
            })
            .collect();
        Self {
            inner: Arc::new(Inner {
                archive,
                generation,
                digest,
                merged,
                topics,
                by_name,
                indexes: Mutex::default(),
            }),
        }
    }

    pub fn archive(&self) -> &Archive {
        &self.inner.archive
    }

    pub fn url(&self) -> String {
        self.inner.archive.url()
    }

    pub fn archive_id(&self) -> uuid::Uuid {
        self.inner.archive.archive_id()
    }

    pub fn source_cluster_id(&self) -> &str {
        &self.inner.generation.source_cluster_id
    }

    pub fn number(&self) -> u64 {
        self.inner.generation.number
    }

    /// The hash of the generation object, which stands for everything in it and before it.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// The generation's own manifest: what its run added (all, if it is a checkpoint).
    pub fn manifest(&self) -> &Generation {
        &self.inner.generation
    }

    /// The generation that says what was pruned, as of this one.
    pub(super) fn retention_at(&self) -> Option<RetentionRef> {
        let generation = self.manifest();
        let own = generation.retention.is_some().then_some(RetentionRef {
            generation: generation.number,
            digest: self.digest(),
        });
        own.or(generation.retention_at)
    }

    /// When the source's ends were read: the age of a backup counts from here.
    pub fn consistency_point(&self) -> TimestampMs {
        self.inner.generation.consistency_point
    }

    /// Whether its run says that it is not all that was asked for.
    pub fn is_partial(&self) -> bool {
        self.inner.generation.partial
    }

    pub(super) fn merged(&self) -> &Merged {
        &self.inner.merged
    }

    /// The topics of this recovery point, sorted by name; without removed ones and earlier incarnations.
    pub fn topics(&self) -> impl Iterator<Item = &SnapshotTopic> {
        self.inner.topics.iter().filter(|topic| topic.current)
    }

    /// Every topic and incarnation that the archive holds.
    pub fn all_topics(&self) -> &[SnapshotTopic] {
        &self.inner.topics
    }

    /// A current topic by name.
    pub fn topic(&self, name: &str) -> Option<&SnapshotTopic> {
        self.inner
            .by_name
            .get(name)
            .map(|position| &self.inner.topics[*position])
    }

    fn partition(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<(&SnapshotTopic, &SnapshotPartition)> {
        self.topic(topic)
            .and_then(|found| Some((found, found.partition(partition)?)))
            .ok_or_else(|| Error::NotInSnapshot {
                topic: topic.to_string(),
                partition,
                generation: self.number(),
            })
    }

    /// The committed offsets of every group; empty if the generation's run did not look at groups.
    pub async fn groups(&self) -> Result<Groups> {
        read_groups(&self.inner.archive, &self.inner.generation).await
    }

    /// What it keeps of the cluster besides topics and groups; `None` from a run that did not look.
    pub async fn cluster(&self) -> Result<Option<ClusterState>> {
        read_cluster(&self.inner.archive, &self.inner.generation).await
    }

    /// The blocks that hold offsets of `range`, in order. Reads the indexes of the segments concerned.
    pub async fn blocks(
        &self,
        topic: &str,
        partition: PartitionId,
        range: Range<Offset>,
    ) -> Result<Vec<BlockRef>> {
        let (stream, entry) = self.stream(topic, partition)?;
        let mut blocks = Vec::new();
        for segment in &entry.segments {
            if segment.last < range.start || segment.first >= range.end {
                continue;
            }
            let found = self.blocks_of(segment, &stream).await?;
            blocks.extend(
                found
                    .into_iter()
                    .filter(|block| block.last() >= range.start && block.first() < range.end),
            );
        }
        Ok(blocks)
    }

    /// A partition of a current topic, and what its blocks are listed under.
    pub(super) fn stream(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<(Stream, &SnapshotPartition)> {
        let (found, entry) = self.partition(topic, partition)?;
        let stream = Stream {
            topic: topic.to_string(),
            topic_id: found.id,
            partition,
        };
        Ok((stream, entry))
    }

    /// A partition's blocks in one of its segments, in order. Reads the segment's index unless it is known.
    pub(super) async fn blocks_of(
        &self,
        segment: &Arc<SegmentRef>,
        stream: &Stream,
    ) -> Result<Vec<BlockRef>> {
        let index = self.index(segment, stream).await?;
        let blocks = index.blocks_of(stream).map(|block| BlockRef {
            topic: stream.topic.clone(),
            partition: stream.partition,
            segment: segment.clone(),
            entry: *block,
        });
        Ok(blocks.collect())
    }

    /// A block's batches, as they were on the source's wire, one after the other. The first may begin before and the
    /// last end after the block's offsets: such records are no part of the archive.
    pub async fn read_block(&self, block: &BlockRef) -> Result<Bytes> {
        let entry = block.entry;
        let end = entry.position + u64::from(entry.stored_len);
        let store = self.inner.archive.store();
        let stored = match store
            .get_range(&block.segment.path, entry.position..end)
            .await
        {
            Ok(stored) => stored,
            Err(error) => {
                return Err(match lost(&error, &block.segment) {
                    Some(kind) => block.damage(kind).into(),
                    None => error.into(),
                });
            }
        };
        if entry.codec == BlockCodec::None {
            super::block::check_stored(&entry, &stored)
                .map_err(|error| block.damage(block_damage(error, &entry)))?;
            return Ok(stored);
        }
        let raw = tokio::task::spawn_blocking(move || {
            let mut raw = buffers::take(entry.raw_len as usize);
            decode_block(&entry, &stored, &mut raw).map(|()| buffers::share(raw))
        })
        .await
        .map_err(|error| Error::Task {
            op: "reading a block",
            why: error.to_string(),
        })?
        .map_err(|error| block.damage(block_damage(error, &entry)))?;
        Ok(raw)
    }

    async fn index(&self, segment: &Arc<SegmentRef>, stream: &Stream) -> Result<Arc<LoadedIndex>> {
        let slot = self.cache(|cache| cache.slot(&segment.path));
        // A thousand partitions of one pack, read at once, read its index once.
        let index = slot
            .get_or_try_init(async || {
                let read = read_index(self.inner.archive.store(), segment).await?;
                self.cache(|cache| cache.loaded(&segment.path, read.bytes()));
                Ok(Arc::new(read))
            })
            .await
            .map_err(|error| holding(error, segment, stream))?;
        // In a pack each partition's reference is checked on its own.
        check_agreement(index, segment, stream)
            .map_err(|kind| holding(Damage::new(&segment.path, kind).into(), segment, stream))?;
        Ok(index.clone())
    }

    fn cache<T>(&self, work: impl FnOnce(&mut IndexCache) -> T) -> T {
        // A panic elsewhere cannot leave the map half changed: entries are whole values.
        let mut cache = self
            .inner
            .indexes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(&mut cache)
    }
}

fn snapshot_topic(entry: TopicEntry, current: bool) -> SnapshotTopic {
    SnapshotTopic {
        current,
        removed: entry.removed,
        name: entry.name,
        id: entry.id,
        incarnation: entry.incarnation,
        internal: entry.internal,
        seen: entry.seen,
        behind: entry.behind,
        replication_factor: entry.replication_factor,
        partition_count: entry
            .partitions
            .iter()
            .map(|partition| partition.partition.0 + 1)
            .fold(entry.partition_count, i32::max),
        caught_up: entry.caught_up,
        configs: entry.configs,
        partitions: entry
            .partitions
            .into_iter()
            .map(snapshot_partition)
            .collect(),
    }
}

fn snapshot_partition(entry: PartitionEntry) -> SnapshotPartition {
    SnapshotPartition {
        partition: entry.partition,
        log_start: entry.log_start,
        from: entry.from,
        to: entry.to,
        high_watermark: entry.high_watermark,
        last_leader_epoch: entry.last_leader_epoch,
        records: entry.records,
        bytes: entry.segments.iter().map(|s| s.raw_bytes).sum(),
        min_timestamp: entry.segments.iter().map(|s| s.min_timestamp).min(),
        max_timestamp: entry.segments.iter().map(|s| s.max_timestamp).max(),
        largest_batch: entry
            .segments
            .iter()
            .map(|s| s.largest_batch)
            .max()
            .unwrap_or(0),
        segments: entry.segments.into_iter().map(Arc::new).collect(),
        gaps: entry.gaps,
    }
}
