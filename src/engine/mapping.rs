//! Where each restored record went: source offset → target offset, as exact runs.
//!
//! Restore knows it for sure, so translating a committed offset needs neither headers in the data nor guessing by time.
//! A run is dense: every source offset in it has its record, at the same distance in the target. Source offsets
//! between runs were not restored. Runs ascend in both logs; neighbours that continue each other are always one run,
//! so that equal mappings are equal bytes.

mod coded;

use crate::base::{Digest, Offset};
use coded::Chunk;
pub use coded::Runs;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// `count` records from `source_from` up to `source_to` (exclusive) stand from `target_from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub source_from: Offset,
    pub source_to: Offset,
    pub target_from: Offset,
}

impl Run {
    /// How many records it holds.
    pub fn count(&self) -> i64 {
        self.source_to - self.source_from
    }

    /// The target offset after its last record.
    pub fn target_to(&self) -> Offset {
        self.target_from + self.count()
    }
}

/// One source partition's way into one target partition. A copy shares the runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "coded::Wire")]
pub struct Mapping(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chunks: Vec<Chunk>,
    run_count: u64,
    source_end: Offset,
    target_base: Offset,
    target_end: Offset,
    records: u64,
    digest: OnceLock<Digest>,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        let facts = |mapping: &Self| {
            (
                mapping.0.source_end,
                mapping.0.target_base,
                mapping.0.run_count,
            )
        };
        facts(self) == facts(other) && self.runs().eq(other.runs())
    }
}

impl Eq for Mapping {}

/// A translated offset and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    pub offset: Offset,
    pub how: How,
}

/// Which record the translated offset points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum How {
    /// At the very record the group would have read next.
    SameRecord,
    /// That one was not restored; this is the first restored one after it, at `source` in the source.
    NextRestored { source: Offset },
    /// No restored record at or after it: behind the last one.
    AfterLast,
}

/// A mapping that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "source offset {source_offset} → target offset {target_offset} does not come after {source_next} → {target_next}"
    )]
    OutOfOrder {
        source_offset: Offset,
        target_offset: Offset,
        source_next: Offset,
        target_next: Offset,
    },
    #[error("a run of {count} records from source offset {source_offset} is impossible")]
    BadCount { source_offset: Offset, count: i64 },
    #[error("the source range ends at {source_end}, before the last restored record at {last}")]
    EndBeforeLast { source_end: Offset, last: Offset },
    #[error("a stored mapping is damaged at byte {at}")]
    BadBytes { at: usize },
}

impl Mapping {
    /// In the order of the source.
    pub fn runs(&self) -> Runs<'_> {
        Runs::over(&self.0.chunks)
    }

    pub fn run_count(&self) -> u64 {
        self.0.run_count
    }

    /// The source range's end (exclusive): what lies at or after it was not looked at.
    pub fn source_end(&self) -> Offset {
        self.0.source_end
    }

    /// Where the first restored record went, or would have.
    pub fn target_base(&self) -> Offset {
        self.0.target_base
    }

    /// The target offset after the last restored record; the base if there is none.
    pub fn target_end(&self) -> Offset {
        self.0.target_end
    }

    /// How many records were restored.
    pub fn records(&self) -> u64 {
        self.0.records
    }

    /// The target offset from which a group reads on that would have read `source` next: of the first restored record
    /// at or after it, or behind the last. Says nothing about whether `source` lies in the restored range.
    pub fn translate(&self, source: Offset) -> Translated {
        let chunks = &self.0.chunks;
        // The chunk before the first one that begins behind it; a run that ends at it lies before.
        let near = chunks.partition_point(|chunk| chunk.source <= source.0);
        let next = Runs::over(&chunks[near.saturating_sub(1)..]).find(|run| run.source_to > source);
        match next {
            None => Translated {
                offset: self.target_end(),
                how: How::AfterLast,
            },
            Some(run) if run.source_from <= source => Translated {
                offset: run.target_from + (source - run.source_from),
                how: How::SameRecord,
            },
            Some(run) => Translated {
                offset: run.target_from,
                how: How::NextRestored {
                    source: run.source_from,
                },
            },
        }
    }

    /// Restored records from a target offset on: a group's lag right after it is moved there.
    pub fn lag_from(&self, target: Offset) -> u64 {
        let chunks = &self.0.chunks;
        let near = chunks
            .partition_point(|chunk| chunk.target <= target.0)
            .saturating_sub(1);
        let Some(chunk) = chunks.get(near) else {
            return 0;
        };
        let mut before = chunk.records;
        for run in Runs::over(&chunks[near..]) {
            if run.target_from >= target {
                break;
            }
            before += (target.min(run.target_to()) - run.target_from).unsigned_abs();
        }
        self.0.records - before
    }

    /// A hash over the whole mapping: equal if and only if every record goes to the same place.
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(b"kbr.mapping/1");
            for number in [
                self.0.source_end.0,
                self.0.target_base.0,
                self.0.target_end.0,
                self.0.run_count as i64,
            ] {
                hasher.update(&number.to_le_bytes());
            }
            for run in self.runs() {
                let mut bytes = [0; 24];
                bytes[..8].copy_from_slice(&run.source_from.0.to_le_bytes());
                bytes[8..16].copy_from_slice(&run.source_to.0.to_le_bytes());
                bytes[16..].copy_from_slice(&run.target_from.0.to_le_bytes());
                hasher.update(&bytes);
            }
            Digest(*hasher.finalize().as_bytes())
        })
    }
}

/// Collects runs in source order and merges those that continue each other.
#[derive(Clone, Debug)]
pub struct MappingBuilder {
    target_base: Offset,
    /// Full chunks, and the one being filled.
    chunks: Vec<Chunk>,
    open: Option<coded::OpenChunk>,
    run_count: u64,
    records: u64,
    /// Not coded yet: it may go on.
    last: Option<Run>,
}

impl MappingBuilder {
    /// `target_base`: the offset that the first restored record gets, the target partition's end before writing.
    pub fn new(target_base: Offset) -> Self {
        Self {
            target_base,
            chunks: Vec::new(),
            open: None,
            run_count: 0,
            records: 0,
            last: None,
        }
    }

    /// One record.
    pub fn push(&mut self, source: Offset, target: Offset) -> Result<(), Error> {
        self.push_run(source, 1, target)
    }

    /// One record, behind the last one in the target.
    pub fn append(&mut self, source: Offset) -> Result<(), Error> {
        self.push_run(source, 1, self.target_end())
    }

    /// `count` records without a hole between them, in source and target.
    pub fn push_run(&mut self, source: Offset, count: i64, target: Offset) -> Result<(), Error> {
        let impossible = Error::BadCount {
            source_offset: source,
            count,
        };
        let source_to = source.0.checked_add(count).map(Offset).ok_or(impossible)?;
        if count <= 0 || source.0 < 0 || target.0.checked_add(count).is_none() {
            return Err(impossible);
        }
        let (source_next, target_next) = match &self.last {
            Some(last) => (last.source_to, last.target_to()),
            None => (Offset(0), self.target_base),
        };
        if source < source_next || target < target_next {
            return Err(Error::OutOfOrder {
                source_offset: source,
                target_offset: target,
                source_next,
                target_next,
            });
        }
        match &mut self.last {
            Some(last) if source == source_next && target == target_next => {
                last.source_to = source_to;
            }
            _ => {
                self.close();
                self.last = Some(Run {
                    source_from: source,
                    source_to,
                    target_from: target,
                });
            }
        }
        Ok(())
    }

    /// Codes the run that cannot go on any more.
    fn close(&mut self) {
        let Some(run) = &self.last else {
            return;
        };
        let open = self
            .open
            .get_or_insert_with(|| coded::OpenChunk::new(run, self.records));
        open.push(run);
        self.run_count += 1;
        self.records += run.count().unsigned_abs();
        if open.is_full() {
            self.chunks
                .extend(self.open.take().map(coded::OpenChunk::finish));
        }
    }

    /// The target offset that comes next if nothing lies in between.
    pub fn target_end(&self) -> Offset {
        self.last.as_ref().map_or(self.target_base, Run::target_to)
    }

    /// `source_end`: the end (exclusive) of the source range that was gone through, restored or not.
    pub fn finish(mut self, source_end: Offset) -> Result<Mapping, Error> {
        if let Some(last) = &self.last
            && last.source_to > source_end
        {
            return Err(Error::EndBeforeLast {
                source_end,
                last: last.source_to + -1,
            });
        }
        let target_end = self.target_end();
        self.close();
        self.chunks
            .extend(self.open.take().map(coded::OpenChunk::finish));
        Ok(Mapping(Arc::new(Inner {
            chunks: self.chunks,
            run_count: self.run_count,
            records: self.records,
            source_end,
            target_base: self.target_base,
            target_end,
            digest: OnceLock::new(),
        })))
    }
}

#[cfg(test)]
#[path = "mapping/tests.rs"]
mod tests;
