//! What a snapshot holds, summed up by topic and partition.

use crate::archive::{Gap, GapKind, Groups, Result, SegmentRef, Snapshot, SnapshotPartition};
use crate::archive::{SnapshotTopic, manifest::GroupEntry};
use crate::base::time::{serialize_instant, serialize_maybe_instant};
use crate::base::{Digest, Offset, PartitionId, Selection, TimestampMs, TopicId};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Offsets without a record, by the reason why.
type Gaps = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    pub archive: String,
    pub archive_id: uuid::Uuid,
    pub source_cluster_id: String,
    pub generation: u64,
    pub digest: Digest,
    pub run: String,
    #[serde(serialize_with = "serialize_instant")]
    pub started: TimestampMs,
    #[serde(serialize_with = "serialize_instant")]
    pub finished: TimestampMs,
    #[serde(serialize_with = "serialize_instant")]
    pub consistency_point: TimestampMs,
    pub checkpoint: bool,
    pub partial: bool,
    /// The newest kbr that wrote to it, as of this generation.
    pub kbr_version: String,
    /// Of the selected topics, as everything below.
    pub records: u64,
    /// Bytes of record batches.
    pub bytes: u64,
    /// Bytes of the segment objects; one that several topics share counts once.
    pub stored_bytes: u64,
    pub topics: Vec<TopicDescription>,
    /// Every group, or those with offsets in the selected topics.
    pub groups: Vec<GroupDescription>,
    /// Kept besides; `None` where the run did not look or was not allowed to.
    pub acls: Option<u64>,
    pub quotas: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicDescription {
    pub name: String,
    pub id: TopicId,
    pub incarnation: u32,
    pub internal: bool,
    /// The newest generation whose run saw it.
    pub seen: u64,
    pub replication_factor: i16,
    /// At the source.
    pub partition_count: i32,
    pub configs: BTreeMap<String, String>,
    pub records: u64,
    pub bytes: u64,
    #[serde(serialize_with = "serialize_maybe_instant")]
    pub first_timestamp: Option<TimestampMs>,
    #[serde(serialize_with = "serialize_maybe_instant")]
    pub last_timestamp: Option<TimestampMs>,
    pub gaps: Gaps,
    pub partitions: Vec<PartitionDescription>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionDescription {
    pub partition: PartitionId,
    /// At the source.
    pub log_start: Offset,
    /// What is archived, `to` exclusive.
    pub from: Offset,
    pub to: Offset,
    /// At the source.
    pub high_watermark: Offset,
    pub records: u64,
    pub bytes: u64,
    pub segments: u64,
    pub largest_batch: u32,
    #[serde(serialize_with = "serialize_maybe_instant")]
    pub first_timestamp: Option<TimestampMs>,
    #[serde(serialize_with = "serialize_maybe_instant")]
    pub last_timestamp: Option<TimestampMs>,
    pub gaps: Gaps,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupDescription {
    pub group: String,
    pub state: String,
    pub protocol_type: String,
    /// Topics that it has committed offsets in.
    pub topics: Vec<String>,
    /// Partitions that it has committed offsets of.
    pub partitions: u64,
}

impl Snapshot {
    /// Sums up the selected topics. Reads the groups object, if there is one, and nothing else.
    pub async fn describe(&self, selection: &Selection) -> Result<Description> {
        let groups = self.groups().await?;
        let manifest = self.manifest();
        let selected: Vec<&SnapshotTopic> = self
            .topics()
            .filter(|topic| selection.takes(&topic.name))
            .collect();
        let cluster = manifest.cluster.as_ref();
        Ok(Description {
            archive: self.url(),
            archive_id: self.archive_id(),
            source_cluster_id: self.source_cluster_id().to_string(),
            generation: self.number(),
            digest: self.digest(),
            run: manifest.run.clone(),
            started: manifest.started,
            finished: manifest.finished,
            consistency_point: manifest.consistency_point,
            checkpoint: manifest.checkpoint,
            partial: manifest.partial,
            kbr_version: manifest.kbr_version.clone(),
            records: selected.iter().map(|topic| topic.records()).sum(),
            bytes: selected.iter().map(|topic| topic.bytes()).sum(),
            stored_bytes: stored(&selected),
            topics: selected.iter().map(|topic| of_topic(topic)).collect(),
            groups: of_groups(&groups, selection),
            acls: cluster.and_then(|cluster| cluster.acls),
            quotas: cluster.and_then(|cluster| cluster.quotas),
        })
    }
}

fn stored(topics: &[&SnapshotTopic]) -> u64 {
    let segments = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|partition| &partition.segments);
    let objects: HashMap<&str, &Arc<SegmentRef>> = segments
        .map(|segment| (segment.path.as_str(), segment))
        .collect();
    objects.values().map(|segment| segment.size).sum()
}

fn of_topic(topic: &SnapshotTopic) -> TopicDescription {
    let partitions: Vec<PartitionDescription> = topic.partitions.iter().map(of_partition).collect();
    let mut gaps = Gaps::new();
    for (kind, offsets) in partitions.iter().flat_map(|partition| &partition.gaps) {
        *gaps.entry(kind).or_default() += offsets;
    }
    TopicDescription {
        name: topic.name.clone(),
        id: topic.id,
        incarnation: topic.incarnation,
        internal: topic.internal,
        seen: topic.seen,
        replication_factor: topic.replication_factor,
        partition_count: topic.partition_count,
        configs: topic.configs.clone(),
        records: topic.records(),
        bytes: topic.bytes(),
        first_timestamp: partitions.iter().filter_map(|p| p.first_timestamp).min(),
        last_timestamp: partitions.iter().filter_map(|p| p.last_timestamp).max(),
        gaps,
        partitions,
    }
}

fn of_partition(partition: &SnapshotPartition) -> PartitionDescription {
    PartitionDescription {
        partition: partition.partition,
        log_start: partition.log_start,
        from: partition.from,
        to: partition.to,
        high_watermark: partition.high_watermark,
        records: partition.records,
        bytes: partition.bytes,
        segments: partition.segments.len() as u64,
        largest_batch: partition.largest_batch,
        first_timestamp: partition.min_timestamp,
        last_timestamp: partition.max_timestamp,
        gaps: gaps(&partition.gaps),
    }
}

fn gaps(gaps: &[Gap]) -> Gaps {
    let mut by_kind = Gaps::new();
    for gap in gaps {
        let kind: GapKind = gap.kind;
        *by_kind.entry(kind.name()).or_default() += gap.offsets;
    }
    by_kind
}

fn of_groups(groups: &Groups, selection: &Selection) -> Vec<GroupDescription> {
    let all = selection.include.is_empty() && selection.exclude.is_empty();
    let mut described: Vec<GroupDescription> = groups
        .groups
        .iter()
        .map(|group| of_group(group, selection))
        .filter(|group| all || group.partitions > 0)
        .collect();
    described.sort_by(|one, other| one.group.cmp(&other.group));
    described
}

fn of_group(group: &GroupEntry, selection: &Selection) -> GroupDescription {
    let offsets = || {
        let offsets = group.offsets.iter();
        offsets.filter(|offset| selection.takes(&offset.topic))
    };
    let mut topics: Vec<String> = offsets().map(|offset| offset.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    GroupDescription {
        group: group.group.clone(),
        state: group.state.clone(),
        protocol_type: group.protocol_type.clone(),
        topics,
        partitions: offsets().count() as u64,
    }
}
