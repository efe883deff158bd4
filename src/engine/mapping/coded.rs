//! How runs are kept and stored: per run two varints, or three where the target has a hole before it.
//!
//! A run is `source offsets skipped`, then `2 × records + 1 if target offsets are skipped`, then those. What is
//! skipped counts from the end of the run before; a chunk begins anew, with its first run skipping nothing.
//! Stored, all runs follow each other, behind the magic and the ends; nothing that a builder would refuse can be read.

use super::{Error, Mapping, MappingBuilder, Run};
use crate::base::Offset;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};

/// Bytes of a chunk: what a lookup decodes at most.
const CHUNK: usize = 512;
const MAGIC: &[u8; 4] = b"KBM1";

/// Neighbouring runs, coded.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Of its first run.
    pub source: i64,
    pub target: i64,
    /// Records in the chunks before it.
    pub records: u64,
    bytes: Box<[u8]>,
}

/// A chunk that takes more runs.
#[derive(Clone, Debug)]
pub(super) struct OpenChunk {
    source: i64,
    target: i64,
    records: u64,
    /// Where the last run ends.
    source_next: i64,
    target_next: i64,
    bytes: Vec<u8>,
}

impl OpenChunk {
    /// Of which `first` is the first run, after so many records.
    pub fn new(first: &Run, records: u64) -> Self {
        Self {
            source: first.source_from.0,
            target: first.target_from.0,
            records,
            source_next: first.source_from.0,
            target_next: first.target_from.0,
            bytes: Vec::with_capacity(CHUNK + 30),
        }
    }

    pub fn push(&mut self, run: &Run) {
        put_run(&mut self.bytes, run, self.source_next, self.target_next);
        self.source_next = run.source_to.0;
        self.target_next = run.target_to().0;
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK
    }

    pub fn finish(self) -> Chunk {
        Chunk {
            source: self.source,
            target: self.target,
            records: self.records,
            bytes: self.bytes.into_boxed_slice(),
        }
    }
}

/// The runs of neighbouring chunks.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    chunks: &'a [Chunk],
    bytes: &'a [u8],
    source_next: i64,
    target_next: i64,
}

impl<'a> Runs<'a> {
    pub(super) fn over(chunks: &'a [Chunk]) -> Self {
        Self {
            chunks,
            bytes: &[],
            source_next: 0,
            target_next: 0,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.bytes.is_empty() {
            let (chunk, rest) = self.chunks.split_first()?;
            self.chunks = rest;
            self.bytes = &chunk.bytes;
            (self.source_next, self.target_next) = (chunk.source, chunk.target);
        }
        // A chunk is made here only, from runs that the builder took.
        let run = take_run(&mut self.bytes, self.source_next, self.target_next)?;
        self.source_next = run.source_to.0;
        self.target_next = run.target_to().0;
        Some(run)
    }
}

fn put_run(out: &mut Vec<u8>, run: &Run, source_next: i64, target_next: i64) {
    let skipped = run.target_from.0 - target_next;
    put(out, (run.source_from.0 - source_next) as u64);
    // Offsets end below 2^63, so the doubled count fits.
    put(out, (run.count() as u64) << 1 | u64::from(skipped != 0));
    if skipped != 0 {
        put(out, skipped as u64);
    }
}

/// `None` for bytes that are no run.
fn take_run(bytes: &mut &[u8], source_next: i64, target_next: i64) -> Option<Run> {
    let skipped = i64::try_from(take(bytes)?).ok()?;
    let count = take(bytes)?;
    let target_skipped = match count & 1 {
        0 => 0,
        _ => i64::try_from(take(bytes)?).ok()?,
    };
    let count = i64::try_from(count >> 1).ok()?;
    let source_from = source_next.checked_add(skipped)?;
    let target_from = target_next.checked_add(target_skipped)?;
    target_from.checked_add(count)?;
    Some(Run {
        source_from: Offset(source_from),
        source_to: Offset(source_from.checked_add(count)?),
        target_from: Offset(target_from),
    })
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

impl Mapping {
    /// As it is stored: a few bytes per run.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept: usize = self.0.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let mut out = Vec::with_capacity(kept + kept / 64 + 64);
        out.extend_from_slice(MAGIC);
        put(&mut out, self.source_end().0 as u64);
        put(&mut out, self.target_base().0 as u64);
        put(&mut out, self.run_count());
        let (mut source, mut target) = (0, self.target_base().0);
        for run in self.runs() {
            put_run(&mut out, &run, source, target);
            (source, target) = (run.source_to.0, run.target_to().0);
        }
        out
    }

    /// Reads what [`Mapping::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Error::BadBytes { at: 0 })?;
        let at = |rest: &[u8]| Error::BadBytes {
            at: bytes.len() - rest.len(),
        };
        let mut ends = [0; 3];
        for end in &mut ends {
            *end = take(&mut rest).ok_or_else(|| at(rest))?;
        }
        let [source_end, target_base, count] = ends;
        let mut builder = MappingBuilder::new(Offset(target_base as i64));
        let (mut source, mut target) = (0, target_base as i64);
        for _ in 0..count {
            let run = take_run(&mut rest, source, target).ok_or_else(|| at(rest))?;
            builder.push_run(run.source_from, run.count(), run.target_from)?;
            (source, target) = (run.source_to.0, run.target_to().0);
        }
        // Runs that continue each other are never stored as two.
        let mapping = builder.finish(Offset(source_end as i64))?;
        if !rest.is_empty() || mapping.run_count() != count {
            return Err(at(rest));
        }
        Ok(mapping)
    }
}

/// How a mapping reads in JSON: each run as source offsets skipped, records, target offsets skipped.
#[derive(Deserialize)]
pub(super) struct Wire {
    source_end: Offset,
    target_base: Offset,
    runs: Vec<(i64, i64, i64)>,
}

/// Writes the runs one by one: there may be millions.
struct WireRuns<'a>(&'a Mapping);

impl Serialize for WireRuns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mapping = self.0;
        let mut list = serializer.serialize_seq(usize::try_from(mapping.run_count()).ok())?;
        let (mut source, mut target) = (Offset(0), mapping.target_base());
        for run in mapping.runs() {
            list.serialize_element(&(
                run.source_from - source,
                run.count(),
                run.target_from - target,
            ))?;
            (source, target) = (run.source_to, run.target_to());
        }
        list.end()
    }
}

impl Serialize for Mapping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Mapping", 3)?;
        fields.serialize_field("source_end", &self.source_end())?;
        fields.serialize_field("target_base", &self.target_base())?;
        fields.serialize_field("runs", &WireRuns(self))?;
        fields.end()
    }
}

impl TryFrom<Wire> for Mapping {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<Self, Error> {
        let mut builder = MappingBuilder::new(wire.target_base);
        let mut source = Offset(0);
        for (source_skip, count, target_skip) in wire.runs {
            let impossible = Error::BadCount {
                source_offset: source,
                count,
            };
            let (Some(from), Some(target)) = (
                source.0.checked_add(source_skip),
                builder.target_end().0.checked_add(target_skip),
            ) else {
                return Err(impossible);
            };
            builder.push_run(Offset(from), count, Offset(target))?;
            source = Offset(from + count);
        }
        builder.finish(wire.source_end)
    }
}
