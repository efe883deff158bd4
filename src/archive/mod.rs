//! The archive format: generations, segments, index; its one reader and one writer.
//!
//! Version 1 is laid down byte by byte in `docs/archive-format.md`. The rules that everything here keeps:
//! objects are write-once; a generation object is the only commit point, and nothing counts that no generation
//! names; generations form a hash chain, which binds the segments' indexes and through them every block; whatever
//! an object's bytes are, reading it gives the right records or a named error, never a panic and never an
//! allocation beyond its own size or a fixed bound.

mod block;
mod block_body;
mod block_encoder;
mod catalogue;
mod error;
mod facts;
mod index_cache;
mod index_reader;
mod kept;
mod manifest;
mod merge;
mod open;
mod prune;
mod reader;
mod retention;
mod run_writer;
mod sealed;
mod segment;
mod segment_writer;
mod snapshot;
mod verify;

pub use block::{BlockCompression, BlockError, ZSTD_LEVELS, decode_block};
pub use catalogue::Catalogue;
pub use error::{Damage, DamageKind, Error, Held, Result};
pub use facts::{
    Change, ConfigDifference, Description, Difference, GenerationFacts, GroupDescription,
    GroupDifference, Listing, OffsetDifference, PartitionDescription, PartitionDifference,
    TopicDescription, TopicDifference,
};
pub use kept::{parse_cluster, parse_groups};
pub use manifest::{
    AclEntry, ArchiveHead, Behind, ClusterRef, ClusterState, FORMAT_VERSION, Gap, GapKind,
    Generation, GroupEntry, GroupOffset, Groups, GroupsRef, PartitionEntry, QuotaEntry, SegmentRef,
    TopicEntry,
};
pub use open::{Archive, parse_generation, parse_head};
pub use prune::{
    Back, DataGoing, Fate, FoundCommit, ObjectGoing, ObjectKind, PlannedPoint, Policy, Progressed,
    PrunePlan, Pruned, Tip, UndeletePlan, Why,
};
pub use reader::{ArchivedHeader, ArchivedRecord, PartitionReader, Within};
pub use retention::{
    Anchor, Floor, Numbers, PartitionFloor, Retention, RetentionRef, Round, Standing,
};
pub use run_writer::{CHECKPOINT_EVERY, Committed, NewGeneration, RunOptions, RunWriter};
pub use sealed::SealError;
pub use segment::{
    BlockCodec, BlockEntry, FormatError, SegmentIndex, Stream, Trailer, decode_header,
    decode_index, decode_segment, decode_trailer, encode_index,
};
pub use segment_writer::{BLOCK_TARGET, PackWriter, SegmentWriter};
pub use snapshot::{BlockRef, Snapshot, SnapshotPartition, SnapshotTopic};
pub use verify::{Depth, Restorable, Span, VerifyOptions, VerifyReport, Witnessed, check_block};
