//! What `archive.json`, a generation and a groups object say, as values.
//!
//! A generation lists only what is new since its parent; a checkpoint lists everything. Both have the same shape, and
//! `merge.rs` is the one place that lays one upon the other. All numbers are JSON numbers up to 64 bits: a reader
//! must not go through floating point.

use super::retention::{Retention, RetentionRef};
use crate::base::{Digest, Offset, PartitionId, PartitionSet, TimestampMs, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this version writes.
pub const FORMAT_VERSION: u32 = 1;

/// `archive.json`: which archive this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveHead {
    pub format_version: u32,
    pub archive_id: uuid::Uuid,
    pub source_cluster_id: String,
    pub created: TimestampMs,
    pub kbr_version: String,
}

/// `generations/{number:08}.json`: one consistent recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub format_version: u32,
    pub archive_id: uuid::Uuid,
    /// From 1, without holes.
    pub number: u64,
    /// BLAKE3 of the whole object of generation `number − 1`; none for the first.
    pub parent: Option<Digest>,
    /// Names the run that wrote it; part of its segments' names.
    pub run: String,
    pub started: TimestampMs,
    pub finished: TimestampMs,
    /// When the ends were read that `to` stands for: the age of a backup counts from here.
    pub consistency_point: TimestampMs,
    pub source_cluster_id: String,
    pub kbr_version: String,
    /// It lists everything, not only what is new.
    #[serde(default)]
    pub checkpoint: bool,
    /// The run was cancelled or lost partitions: what it lists is whole, but not all that was asked for.
    #[serde(default)]
    pub partial: bool,
    pub topics: Vec<TopicEntry>,
    /// May name an earlier generation's object: groups that have not moved are not written again.
    pub groups: Option<GroupsRef>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterRef>,
    /// It is no recovery point: it says which generations are marked and which data is gone. See `retention.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The newest generation before it that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_at: Option<RetentionRef>,
}

/// One topic in a generation. A topic deleted and created again has another id and is another entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicEntry {
    pub name: String,
    pub id: TopicId,
    /// 1 for the first topic of this name in the archive, 2 for the one created after that was deleted …; set at
    /// commit.
    #[serde(default)]
    pub incarnation: u32,
    /// The newest generation whose run saw it at the source; set at commit.
    #[serde(default)]
    pub seen: u64,
    /// The run found that it no longer exists at the source. Its data stays.
    #[serde(default)]
    pub removed: bool,
    #[serde(default)]
    pub internal: bool,
    pub replication_factor: i16,
    /// How many partitions the source has, also those of which nothing could be read; 0 if it was not noted.
    #[serde(default)]
    pub partition_count: i32,
    /// When what is archived of it was last known to hold every deletion: the consistency point of the last run that
    /// read its partitions to their ends before tombstones could vanish unread. None: never, or not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<TimestampMs>,
    /// Partitions for which that moment was another one: newer runs left them out, or did not reach their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Behind>,
    /// The topic's own configs (overrides), as strings.
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<PartitionEntry>,
}

/// Partitions that newer runs left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// `0-3,7`.
    pub partitions: PartitionSet,
    /// As the topic's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<TimestampMs>,
}

/// What a generation adds to one partition: everything in `[from, to)` is either a record in a segment or a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEntry {
    pub partition: PartitionId,
    /// The source's log start offset when the ends were read.
    pub log_start: Offset,
    /// Where the previous generation ended, or the log start for the first.
    pub from: Offset,
    /// Exclusive; never past the last stable offset.
    pub to: Offset,
    pub high_watermark: Offset,
    /// The leader epoch of the last batch, for OffsetForLeaderEpoch before the next run appends; −1 if unknown.
    pub last_leader_epoch: i32,
    /// Records in `segments`.
    pub records: u64,
    /// This entry replaces what earlier generations say of the partition (a full rescan of a compacted topic)
    /// instead of continuing it.
    #[serde(default)]
    pub replaces: bool,
    #[serde(default)]
    pub segments: Vec<SegmentRef>,
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// The lowest and highest record timestamp of the segments, as far as known without opening compressed batches.
    #[serde(default)]
    pub first_timestamp: Option<TimestampMs>,
    #[serde(default)]
    pub last_timestamp: Option<TimestampMs>,
}

/// A partition's blocks in one segment object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    pub path: String,
    /// Of the whole object.
    pub size: u64,
    /// BLAKE3 of the whole object.
    pub digest: Digest,
    /// BLAKE3 of the footer index: it and the block checksums in it bind every ranged read to the generation.
    pub index_digest: Digest,
    /// The first and the last offset of this partition's blocks, both inclusive.
    pub first: Offset,
    pub last: Offset,
    pub records: u64,
    pub blocks: u32,
    /// Bytes of record batches before any compression around them.
    pub raw_bytes: u64,
    pub min_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    /// The largest batch, for the target topic's `max.message.bytes`.
    pub largest_batch: u32,
}

/// Why offsets have no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapKind {
    /// Removed by compaction (or never there, for a reason that the log does not tell).
    Compacted,
    /// A transaction marker.
    Marker,
    /// Data of an aborted transaction.
    Aborted,
    /// Deleted by retention or DeleteRecords before it was read.
    Retention,
    /// Its batch failed its checksum at the source and was kept out.
    Corrupt,
    /// Left out by a filter.
    Filtered,
    /// Between the last stable offset and the high watermark: not archived yet. Lies at or after `to`.
    Pending,
}

impl GapKind {
    pub fn name(self) -> &'static str {
        match self {
            GapKind::Compacted => "compacted",
            GapKind::Marker => "marker",
            GapKind::Aborted => "aborted",
            GapKind::Retention => "retention",
            GapKind::Corrupt => "corrupt",
            GapKind::Filtered => "filtered",
            GapKind::Pending => "pending",
        }
    }
}

/// Offsets without a record in `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
    pub kind: GapKind,
    /// How many offsets in the range have no record for this reason. All of them for a plain gap; fewer for a
    /// scattered one, which stands for many small holes between records (a compacted topic may have millions).
    pub offsets: u64,
}

impl Gap {
    /// Every offset in `[from, to)`.
    pub fn whole(from: Offset, to: Offset, kind: GapKind) -> Self {
        Self {
            from,
            to,
            kind,
            offsets: u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0),
        }
    }

    /// Some `offsets` in `[from, to)`, with records between them.
    pub fn scattered(from: Offset, to: Offset, kind: GapKind, offsets: u64) -> Self {
        Self {
            from,
            to,
            kind,
            offsets,
        }
    }

    /// Whether every offset in the range is missing.
    pub fn is_whole(&self) -> bool {
        self.to.0.checked_sub(self.from.0).map(|n| n as u64) == Some(self.offsets)
    }
}

/// Where a generation's committed offsets are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsRef {
    pub path: String,
    pub size: u64,
    pub digest: Digest,
    /// How many groups.
    pub count: u64,
}

/// `groups/{generation:08}-{run}.json`: the committed offsets of every group, read before the ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    pub groups: Vec<GroupEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    pub group: String,
    pub state: String,
    pub protocol_type: String,
    /// "classic", "consumer", "share", "streams"; "" where the brokers did not tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    pub offsets: Vec<GroupOffset>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    pub topic: String,
    #[serde(default)]
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    #[serde(default)]
    pub leader_epoch: Option<i32>,
    #[serde(default)]
    pub metadata: String,
}

/// Where a generation's [`ClusterState`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRef {
    pub path: String,
    pub size: u64,
    pub digest: Digest,
    /// How many there are; absent where they were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<u64>,
}

/// `cluster/{generation:08}-{run}.json`: what a cluster has besides topics and groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Whether the cluster checks ACLs at all; `None`: not known.
    #[serde(default)]
    pub authorizer: Option<bool>,
    /// Sorted. `None`: not kept, for the reason in `missing`.
    #[serde(default)]
    pub acls: Option<Vec<AclEntry>>,
    /// Sorted by entity. `None`: not kept, for the reason in `missing`.
    #[serde(default)]
    pub quotas: Option<Vec<QuotaEntry>>,
    /// Users with SCRAM credentials, by name only: what they prove themselves with never leaves the cluster.
    #[serde(default)]
    pub scram_users: Option<Vec<String>>,
    /// Why something is not here, by the name of its field.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
}

/// One ACL, in Kafka's own words; a number where kbr had none for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AclEntry {
    /// `TOPIC`, `GROUP`, `CLUSTER`, `TRANSACTIONAL_ID`, `DELEGATION_TOKEN`, `USER`.
    pub resource_type: String,
    pub resource_name: String,
    /// `LITERAL`, `PREFIXED`.
    pub pattern_type: String,
    /// `User:alice`.
    pub principal: String,
    pub host: String,
    /// `READ`, `WRITE`, `ALL`, …
    pub operation: String,
    /// `ALLOW`, `DENY`.
    pub permission: String,
}

/// The client quotas of one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaEntry {
    /// `user`, `client-id`, `ip` to a name, or null for the default.
    pub entity: BTreeMap<String, Option<String>>,
    /// `producer_byte_rate`, `consumer_byte_rate`, `request_percentage`, … to a floating point number.
    pub values: BTreeMap<String, f64>,
}
