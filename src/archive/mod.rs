//! The archive format: generations, segments, index; its one reader and one writer.
//!
//! Version 1 is laid down byte by byte in `docs/archive-format.md`. The rules that everything here keeps:
//! objects are write-once; a generation object is the only commit point, and nothing counts that no generation
//! names; generations form a hash chain, which binds the segments' indexes and through them every block; whatever
//! an object's bytes are, reading it gives the right records or a named error, never a panic and never an
//! allocation beyond its own size or a fixed bound.

mod error;
mod manifest;
mod sealed;

pub use error::{Damage, DamageKind, Error, Held, Result};
pub use manifest::{
    ArchiveHead, FORMAT_VERSION, Gap, GapKind, Generation, GroupEntry, GroupOffset, Groups,
    GroupsRef, PartitionEntry, SegmentRef, TopicEntry,
};
