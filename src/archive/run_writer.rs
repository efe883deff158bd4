//! One backup run's writes: segments, then groups and cluster, then the generation that makes them count.
//!
//! Until the generation object exists nothing of the run counts, so a run that dies anywhere leaves the archive as it
//! was, plus objects that nothing refers to. Names carry the run, so the next run never meets them.

use super::block::BlockCompression;
use super::kept;
use super::manifest::{
    ClusterRef, ClusterState, FORMAT_VERSION, Generation, Groups, GroupsRef, PartitionEntry,
    TopicEntry,
};
use super::merge::{Merged, tidy};
use super::open::{generation_path, seal};
use super::segment::Stream;
use super::segment_writer::{PackWriter, SegmentBuilder, SegmentWriter};
use super::snapshot::Snapshot;
use super::{Archive, Error, Result};
use crate::base::{Digest, PartitionId, TimestampMs, TopicId, time};
use crate::store;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every so many generations one lists everything, so that opening reads at most this many objects.
pub const CHECKPOINT_EVERY: u64 = 32;

/// Whether the generation of this number lists everything.
pub(super) fn is_checkpoint(number: u64) -> bool {
    (number - 1).is_multiple_of(CHECKPOINT_EVERY)
}

/// How a run writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    pub compression: BlockCompression,
}

/// What a run found, for [`RunWriter::commit`]. The topics list what is new since the parent only.
#[derive(Clone, Debug, Default)]
pub struct NewGeneration {
    pub started: TimestampMs,
    /// When the ends were read.
    pub consistency_point: TimestampMs,
    /// Not all that was asked for is in it.
    pub partial: bool,
    /// `incarnation`, `seen`, and each partition's first and last timestamp are filled in at commit.
    pub topics: Vec<TopicEntry>,
    /// `None` if the run did not look at groups.
    pub groups: Option<Groups>,
    /// `None` if it did not look at the cluster's ACLs and quotas.
    pub cluster: Option<ClusterState>,
}

/// A generation that is in the archive now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub number: u64,
    /// BLAKE3 of the generation object: a witness against the deletion of the newest generations.
    pub digest: Digest,
    pub path: String,
    /// As it was written: the whole of it if it is a checkpoint.
    pub generation: Generation,
}

/// See [`Archive::begin_run`].
pub struct RunWriter {
    archive: Archive,
    run: String,
    options: RunOptions,
    base: Option<Snapshot>,
    packs: AtomicU64,
}

impl RunWriter {
    /// How its blocks are compressed.
    pub fn compression(&self) -> BlockCompression {
        self.options.compression
    }

    pub(super) async fn begin(archive: Archive, run: &str, options: RunOptions) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if run.is_empty() || run.len() > 64 || !run.chars().all(plain) {
            return Err(Error::BadInput {
                why: format!("{run:?} is no name for a run (letters, digits, - and _)"),
            });
        }
        let base = archive.tip().await?;
        Ok(Self {
            archive,
            run: run.to_string(),
            options,
            base,
            packs: AtomicU64::new(0),
        })
    }

    pub fn run(&self) -> &str {
        &self.run
    }

    /// The generation that this run continues; `None` for the first.
    pub fn base(&self) -> Option<&Snapshot> {
        self.base.as_ref()
    }

    /// The number that the generation will have.
    pub fn number(&self) -> u64 {
        self.base.as_ref().map_or(1, |base| base.number() + 1)
    }

    /// Why [`RunWriter::commit`] would refuse the generation because of this partition: its books do not balance, or it
    /// does not continue the base. So a run can leave it out, name it, and commit the others.
    pub fn objection(&self, topic: &str, id: TopicId, entry: &PartitionEntry) -> Option<String> {
        let mut entry = entry.clone();
        tidy(&mut entry);
        match &self.base {
            Some(base) => base.merged().objection(topic, id, &entry),
            None => Merged::default().objection(topic, id, &entry),
        }
    }

    /// Starts a segment of one partition. Any number may be open at once.
    pub async fn segment_writer(
        &self,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionId,
    ) -> Result<SegmentWriter> {
        let mut builder = self.builder().await?;
        builder
            .begin_stream(Stream {
                topic: topic.to_string(),
                topic_id,
                partition,
            })
            .await?;
        Ok(SegmentWriter {
            builder,
            folder: format!("topics/{topic}/partition={partition}"),
            run: self.run.clone(),
        })
    }

    /// Starts an object for many small partitions, written one after the other.
    pub async fn pack_writer(&self) -> Result<PackWriter> {
        let number = self.packs.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(PackWriter {
            builder: self.builder().await?,
            path: format!("packs/{}/{number}.kbs", self.run),
        })
    }

    async fn builder(&self) -> Result<SegmentBuilder> {
        SegmentBuilder::start(
            self.archive.store(),
            self.archive.archive_id(),
            self.options.compression,
        )
        .await
    }

    /// Writes groups and what is kept of the cluster, then the generation. Refused if any partition's books do not
    /// balance or do not continue the base, and with [`Error::GenerationTaken`] if another run committed meanwhile. A
    /// prune that committed meanwhile changes nothing that the run goes on from: the generation then comes after it.
    pub async fn commit(mut self, new: NewGeneration) -> Result<Committed> {
        let first = self.number();
        // Before anything is written: books that do not balance leave nothing behind.
        let mut generation = self.assemble(first, &new)?;
        let (groups, cluster) = self.put_kept(first, &new).await?;
        loop {
            let number = generation.number;
            generation.groups = groups.clone();
            generation.cluster = cluster.clone();
            let path = generation_path(number);
            let bytes = seal(&generation)?;
            let digest = Digest::of(&bytes);
            match self.archive.store().create(&path, bytes).await {
                Ok(()) => {
                    return Ok(Committed {
                        number,
                        digest,
                        path,
                        generation,
                    });
                }
                Err(store::Error::Exists { .. }) => self.go_on_after_prunes(first).await?,
                Err(error) => return Err(error.into()),
            }
            generation = self.assemble(self.number(), &new)?;
        }
    }

    async fn put_kept(
        &self,
        number: u64,
        new: &NewGeneration,
    ) -> Result<(Option<GroupsRef>, Option<ClusterRef>)> {
        let before = self.base.as_ref().map(Snapshot::manifest);
        let mut kept = (None, None);
        if let Some(groups) = &new.groups {
            let path = format!("groups/{number:08}-{}.json", self.run);
            let before = before.and_then(|before| before.groups.as_ref());
            kept.0 = Some(kept::put_groups(&self.archive, path, groups, before).await?);
        }
        if let Some(cluster) = &new.cluster {
            let path = format!("cluster/{number:08}-{}.json", self.run);
            let before = before.and_then(|before| before.cluster.as_ref());
            kept.1 = Some(kept::put_cluster(&self.archive, path, cluster, before).await?);
        }
        Ok(kept)
    }

    /// Takes the end of the chain for the new base, if only prunes came between. Each call needs another commit of
    /// somebody else, so this ends.
    async fn go_on_after_prunes(&mut self, first: u64) -> Result<()> {
        let taken = || Error::GenerationTaken { number: first };
        let tip = self.archive.tip().await?.ok_or_else(taken)?;
        if tip.number() < self.number() {
            return Err(taken());
        }
        for number in self.number()..=tip.number() {
            let (generation, _) = self.archive.read_generation(number).await?;
            let retention = generation.retention.ok_or_else(taken)?;
            if retention.abandoned.contains(&self.run) {
                return Err(Error::Abandoned {
                    run: self.run.clone(),
                    number,
                });
            }
        }
        self.base = Some(tip);
        Ok(())
    }

    /// The generation without its groups and cluster.
    fn assemble(&self, number: u64, new: &NewGeneration) -> Result<Generation> {
        let mut merged = match &self.base {
            Some(base) => base.merged().clone(),
            None => Merged::default(),
        };
        let mut topics = new.topics.clone();
        topics.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        for topic in &mut topics {
            topic.incarnation = merged.incarnation(&topic.name, topic.id);
            topic.seen = number;
            topic
                .partitions
                .sort_by_key(|partition| partition.partition);
            topic.partitions.iter_mut().for_each(tidy);
        }
        if let Some(twice) = topics
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name && !pair[0].removed && !pair[1].removed)
        {
            return Err(Error::BadInput {
                why: format!("topic {} is listed twice", twice[0].name),
            });
        }
        let mut generation = Generation {
            format_version: FORMAT_VERSION,
            archive_id: self.archive.archive_id(),
            number,
            parent: self.base.as_ref().map(Snapshot::digest),
            run: self.run.clone(),
            started: new.started,
            finished: time::now(),
            consistency_point: new.consistency_point,
            source_cluster_id: self.archive.source_cluster_id().to_string(),
            kbr_version: env!("CARGO_PKG_VERSION").to_string(),
            checkpoint: false,
            partial: new.partial,
            topics,
            groups: None,
            cluster: None,
            retention: None,
            retention_at: self.base.as_ref().and_then(Snapshot::retention_at),
        };
        merged
            .apply(&generation)
            .map_err(|mismatch| Error::Accounting {
                topic: mismatch.topic,
                partition: mismatch.partition,
                why: mismatch.why,
            })?;
        if is_checkpoint(number) {
            generation.checkpoint = true;
            generation.topics = merged.into_topics();
        }
        Ok(generation)
    }
}
