//! Archived batches into batches that a broker takes, and the mapping that comes of it. Bytes only.
//!
//! A whole, dense CreateTime batch passes as it is. Everything else is rebuilt from its kept records: batches that a
//! bound or a filter cuts, batches with inner gaps (brokers demand as many records as offsets), LogAppendTime batches
//! (passed through, the broker would clear the bit and show other times). Small neighbours of one codec are merged,
//! since a broker takes one batch per partition and request, so that tiny ones cost a round trip each.
//!
//! It works on a whole flow: several sources may feed one target, and one source many. What it makes depends on
//! nothing but the archive, the plan and the order of the units, so that planning, writing and resuming agree on every
//! offset and every batch.

use super::headers::{HeaderChanges, HeaderRule};
use super::plan::{WritePartition, WriteTopic};
use super::routing::Routing;
use super::select::{Fate, Selector, Verdict, selector};
use crate::base::{Offset, PartitionId};
use crate::engine::error::{Error, Result};
use crate::engine::mapping::{Mapping, MappingBuilder};
use crate::record::{
    Batch, BatchBuilder, BuildOptions, Codec, Limits, ProducerStamp, Record, SplitBatch,
    TimestampType, batches,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// Batches below this many bytes are merged with their neighbours.
const SMALL: usize = 64 * 1024;
/// Rebuilt batches hold about this many bytes before compression, unless one record is larger.
const REBUILT: usize = 1024 * 1024;

/// A batch to write, not yet stamped with a producer. One that stays whole lies in the block that it was read with.
#[derive(Debug)]
pub struct Shaped {
    pub target: PartitionId,
    pub batch: SplitBatch,
}

impl Shaped {
    pub fn records(&self) -> i32 {
        self.batch.header().record_count
    }
}

/// What was kept and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    pub dropped_by_filter: u64,
    pub dropped_by_time: u64,
    /// Records on which the filter failed, kept or dropped as was asked.
    pub filter_failed: u64,
    /// The earliest timestamp seen among kept records. For batches that stay whole, their first record's.
    pub first_timestamp: Option<i64>,
    pub last_timestamp: Option<i64>,
}

/// A flow: source partitions whose records share target partitions, how they find them, and what becomes of them.
pub struct Shape {
    pub topic: String,
    pub routing: Routing,
    pub headers: HeaderChanges,
    pub sources: Vec<ShapeSource>,
}

/// One source partition of a shape.
pub struct ShapeSource {
    pub selector: Selector,
    /// Its target partitions and where each of them ends before anything is written.
    pub routes: Vec<(PartitionId, Offset)>,
}

impl Shape {
    /// The flow that consists of these routes of a write.
    pub fn of<'a>(
        write: &WriteTopic,
        routes: impl IntoIterator<Item = &'a WritePartition>,
    ) -> Self {
        let mut sources: BTreeMap<PartitionId, ShapeSource> = BTreeMap::new();
        for route in routes {
            let source = sources.entry(route.source).or_insert_with(|| ShapeSource {
                selector: selector(write, route),
                routes: Vec::new(),
            });
            source.routes.push((route.target, route.base));
        }
        Self {
            topic: write.source_topic.clone(),
            routing: write.routing,
            headers: write.headers.clone(),
            sources: sources.into_values().collect(),
        }
    }
}

/// Where one source's records went in one target, or would.
#[derive(Debug)]
pub struct Routed {
    pub source: PartitionId,
    pub target: PartitionId,
    pub tally: Tally,
    pub mapping: Mapping,
}

/// What is left when a flow is done.
pub struct Finished {
    pub batches: Vec<Shaped>,
    /// Every route that was given, also those without records. Sorted by source, then target.
    pub routes: Vec<Routed>,
    /// By source partition.
    pub sources: BTreeMap<PartitionId, Tally>,
}

/// Goes through a flow's batches, unit by unit: those of one unit are of one source, in offset order.
pub struct Shaper {
    topic: String,
    routing: Routing,
    headers: Option<HeaderRule>,
    sources: Vec<Source>,
    /// Sorted by partition.
    targets: Vec<Target>,
    /// The place in `sources` of the unit that is gone through.
    current: usize,
    scratch: Vec<u8>,
    limits: Limits,
    /// Some batch lies in the block that it was read with.
    passed: bool,
}

struct Source {
    selector: Selector,
    tally: Tally,
    /// The place in `targets` of the only route.
    only: Option<usize>,
    /// By place in `targets`; `None` where no route leads.
    routes: Vec<Option<Route>>,
}

struct Route {
    tally: Tally,
    mapping: MappingBuilder,
}

struct Target {
    partition: PartitionId,
    /// Where its next record goes.
    next: Offset,
    /// `None` while planning: then nothing is built.
    output: Option<Output>,
}

struct Output {
    /// The largest batch the target takes.
    limit: usize,
    codec: Codec,
    builder: BatchBuilder,
    /// A small whole batch that waits for a neighbour to be merged with.
    lone: Option<Bytes>,
    done: Vec<SplitBatch>,
}

impl Shaper {
    /// For planning: the mapping and the numbers only.
    pub fn predicting(shape: Shape) -> Self {
        Self::new(shape, None)
    }

    /// For writing batches of at most `limit` bytes.
    pub fn writing(shape: Shape, limit: usize) -> Self {
        Self::new(shape, Some(limit))
    }

    fn new(shape: Shape, limit: Option<usize>) -> Self {
        let bases: BTreeMap<PartitionId, Offset> = shape
            .sources
            .iter()
            .flat_map(|source| source.routes.iter().copied())
            .collect();
        let targets: Vec<Target> = bases
            .iter()
            .map(|(partition, base)| Target {
                partition: *partition,
                next: *base,
                output: limit.map(Output::new),
            })
            .collect();
        let place: BTreeMap<PartitionId, usize> = bases.keys().copied().zip(0..).collect();
        let sources = shape.sources.into_iter().map(|source| {
            let mut routes: Vec<Option<Route>> = targets.iter().map(|_| None).collect();
            for (partition, base) in &source.routes {
                routes[place[partition]] = Some(Route {
                    tally: Tally::default(),
                    mapping: MappingBuilder::new(*base),
                });
            }
            Source {
                selector: source.selector,
                tally: Tally::default(),
                only: match (shape.routing, source.routes.as_slice()) {
                    (Routing::Partition, [(partition, _)]) => Some(place[partition]),
                    _ => None,
                },
                routes,
            }
        });
        Self {
            sources: sources.collect(),
            topic: shape.topic,
            routing: shape.routing,
            headers: shape.headers.rule(),
            targets,
            current: 0,
            scratch: Vec::new(),
            limits: Limits::default(),
            passed: false,
        }
    }

    /// What comes next is of this source, until [`Shaper::unit_end`].
    pub fn unit_begin(&mut self, source: PartitionId) -> Result<()> {
        let place = self
            .sources
            .iter()
            .position(|own| own.selector.partition.partition == source);
        self.current = place.ok_or_else(|| {
            Error::Internal(format!("{} {source} is not part of this flow", self.topic))
        })?;
        Ok(())
    }

    /// No batch spans units: everything that waits for a neighbour is finished.
    pub fn unit_end(&mut self) -> Result<()> {
        for target in &mut self.targets {
            if let Some(output) = &mut target.output {
                output
                    .flush()
                    .map_err(|error| damaged(&self.sources[self.current], -1, error))?;
            }
        }
        Ok(())
    }

    /// What an index entry says of a run of offsets that all have their record, are all kept and take the same route.
    pub fn keep_run(&mut self, first: i64, records: i64, earliest: i64, latest: i64) -> Result<()> {
        let Some(place) = self.sources[self.current].only else {
            return Err(Error::Internal(format!(
                "records of {} were to be routed unseen",
                self.topic
            )));
        };
        self.went(place, first, records, earliest, latest)
    }

    /// Counts kept records and where they go.
    fn went(
        &mut self,
        place: usize,
        first: i64,
        records: i64,
        earliest: i64,
        latest: i64,
    ) -> Result<()> {
        let source = &mut self.sources[self.current];
        let target = &mut self.targets[place];
        let Some(route) = source.routes.get_mut(place).and_then(Option::as_mut) else {
            return Err(unplanned(source, target.partition, first));
        };
        route
            .mapping
            .push_run(Offset(first), records, target.next)?;
        target.next = target.next + records;
        for tally in [&mut source.tally, &mut route.tally] {
            tally.records += records.unsigned_abs();
            tally.saw(earliest, latest);
        }
        Ok(())
    }

    /// A block's batches, in order. Its first and last batch may reach beyond `offsets`; those records are not its.
    pub fn block(&mut self, bytes: &Bytes, offsets: Range<i64>) -> Result<()> {
        let selector = &mut self.sources[self.current].selector;
        let cut = selector.cut;
        selector.cut = cut.within(&offsets);
        let done = self.batches(bytes);
        self.sources[self.current].selector.cut = cut;
        done
    }

    fn batches(&mut self, bytes: &Bytes) -> Result<()> {
        let mut iter = batches(bytes);
        for batch in iter.by_ref() {
            let batch = batch.map_err(|error| self.damaged(-1, error))?;
            self.batch(&batch, bytes)?;
        }
        match iter.remainder().len() {
            0 => Ok(()),
            left => Err(self.damaged(
                -1,
                crate::record::Error::Truncated {
                    what: "batch",
                    at: iter.position(),
                    wanted: crate::record::HEADER_LEN,
                    have: left,
                },
            )),
        }
    }

    fn batch(&mut self, batch: &Batch<'_>, block: &Bytes) -> Result<()> {
        let header = &batch.header;
        let source = &mut self.sources[self.current];
        match (source.selector.batch(header), source.only) {
            (Verdict::Outside, _) => Ok(()),
            (Verdict::OutOfTime, _) => {
                // Those within the offsets; exact unless a batch with holes straddles a boundary.
                let cut = &source.selector.cut;
                let within = header.next_offset().min(cut.to) - header.base_offset.max(cut.from);
                let dropped = i64::from(header.record_count).min(within).unsigned_abs();
                source.tally.dropped_by_time += dropped;
                Ok(())
            }
            (Verdict::Whole, Some(place)) if header.is_dense() => {
                // Headers change no count and no offset: planning need not open it for them.
                let building = self.targets[place].output.is_some();
                if building && self.headers.is_some() {
                    return self.open(batch);
                }
                self.went(
                    place,
                    header.base_offset,
                    i64::from(header.record_count),
                    header.base_timestamp,
                    header.max_timestamp,
                )?;
                if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
                    return self.rebuild_whole(place, batch.bytes());
                }
                self.pass(place, batch, block)
            }
            (Verdict::Whole | Verdict::Open, _) => self.open(batch),
        }
    }

    /// A batch all of whose records stay, in its own bytes.
    fn pass(&mut self, place: usize, batch: &Batch<'_>, block: &Bytes) -> Result<()> {
        let source = &self.sources[self.current];
        let at = batch.header.base_offset;
        let Some(output) = &mut self.targets[place].output else {
            return Ok(());
        };
        if batch.bytes().len() >= SMALL {
            self.passed = true;
            let passed = output
                .flush()
                .and_then(|()| SplitBatch::new(block.slice_ref(batch.bytes())));
            output
                .done
                .push(passed.map_err(|error| damaged(source, at, error))?);
            return Ok(());
        }
        if output.lone.is_none() && output.builder.is_empty() {
            output.lone = Some(block.slice_ref(batch.bytes()));
            return Ok(());
        }
        if let Some(lone) = output.lone.take() {
            self.rebuild_whole(place, &lone)?;
        }
        self.rebuild_whole(place, batch.bytes())
    }

    /// Adds every record of a batch to the one being built; mapping and tally know them already.
    fn rebuild_whole(&mut self, place: usize, bytes: &[u8]) -> Result<()> {
        let batch = Batch::parse(bytes).map_err(|error| self.damaged(-1, error))?;
        let at = batch.header.base_offset;
        let Some(output) = &mut self.targets[place].output else {
            return Ok(());
        };
        let built = (|| {
            output.begin(batch.header.attributes.codec()?)?;
            for record in batch.open(&self.limits, &mut self.scratch)? {
                output.add(&record?)?;
            }
            Ok(())
        })();
        built.map_err(|error| self.damaged(at, error))
    }

    /// Opens a batch and decides record by record.
    fn open(&mut self, batch: &Batch<'_>) -> Result<()> {
        // Taken out so that the records may borrow it while `self` changes.
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.open_records(batch, &mut scratch);
        self.scratch = scratch;
        done
    }

    fn open_records(&mut self, batch: &Batch<'_>, scratch: &mut Vec<u8>) -> Result<()> {
        let at = batch.header.base_offset;
        let limits = self.limits;
        let codec = batch
            .header
            .attributes
            .codec()
            .map_err(|error| self.damaged(at, error))?;
        let records = batch
            .open(&limits, scratch)
            .map_err(|error| self.damaged(at, error))?;
        for record in records {
            let record = record.map_err(|error| self.damaged(at, error))?;
            let source = &mut self.sources[self.current];
            match source.selector.record(&record)? {
                Fate::Outside => {}
                Fate::OutOfTime => {
                    source.tally.dropped_by_time += 1;
                }
                Fate::Filtered => {
                    source.tally.dropped_by_filter += 1;
                }
                Fate::Keep => self.keep(&record, codec)?,
            }
        }
        Ok(())
    }

    fn keep(&mut self, record: &Record<'_>, codec: Codec) -> Result<()> {
        let place = self.place(record)?;
        self.went(place, record.offset, 1, record.timestamp, record.timestamp)?;
        let Some(output) = &mut self.targets[place].output else {
            return Ok(());
        };
        let source = &self.sources[self.current];
        let added = match &self.headers {
            None => output.begin(codec).and_then(|()| output.add(record)),
            Some(rule) => {
                let headers = rule.apply(&source.selector.partition, record);
                let changed = Record {
                    headers: headers.as_headers(),
                    ..record.clone()
                };
                output.begin(codec).and_then(|()| output.add(&changed))
            }
        };
        added.map_err(|error| damaged(source, record.offset, error))
    }

    /// The place in `targets` that a record goes to.
    fn place(&self, record: &Record<'_>) -> Result<usize> {
        let source = &self.sources[self.current];
        if let Some(only) = source.only {
            return Ok(only);
        }
        let from = source.selector.partition.partition;
        let target = self
            .routing
            .target(from, record.offset, record.key)
            .ok_or_else(|| Error::Internal(format!("{} {from} has no one route", self.topic)))?;
        self.targets
            .binary_search_by_key(&target, |own| own.partition)
            .map_err(|_| unplanned(source, target, record.offset))
    }

    /// The batches finished so far, in the order of their target's offsets.
    pub fn take(&mut self) -> Vec<Shaped> {
        let mut done = Vec::new();
        for target in &mut self.targets {
            let Some(output) = &mut target.output else {
                continue;
            };
            done.extend(output.done.drain(..).map(|batch| Shaped {
                target: target.partition,
                batch,
            }));
        }
        done
    }

    /// Whether some batch, since this was last asked, lies in the block that it was read with.
    pub fn take_passed(&mut self) -> bool {
        std::mem::take(&mut self.passed)
    }

    /// The last batches, the mapping of every route, and what was kept and dropped.
    pub fn finish(mut self) -> Result<Finished> {
        self.unit_end()?;
        let batches = self.take();
        let mut routes = Vec::new();
        let mut sources = BTreeMap::new();
        for source in self.sources {
            let partition = source.selector.partition.partition;
            let mut tally = source.tally;
            tally.filter_failed = source.selector.failed();
            sources.insert(partition, tally);
            let source_end = Offset(source.selector.cut.to);
            for (target, route) in self.targets.iter().zip(source.routes) {
                let Some(route) = route else { continue };
                routes.push(Routed {
                    source: partition,
                    target: target.partition,
                    tally: route.tally,
                    mapping: route.mapping.finish(source_end)?,
                });
            }
        }
        Ok(Finished {
            batches,
            routes,
            sources,
        })
    }

    fn damaged(&self, at: i64, error: crate::record::Error) -> Error {
        damaged(&self.sources[self.current], at, error)
    }
}

/// Bytes of `source` that are not as they must be, at an offset if that is known.
fn damaged(source: &Source, at: i64, error: crate::record::Error) -> Error {
    Error::Record {
        partition: source.selector.partition.clone(),
        offset: Offset(at.max(source.selector.cut.from)),
        source: error,
    }
}

fn unplanned(source: &Source, target: PartitionId, offset: i64) -> Error {
    Error::Mismatch(format!(
        "the record at offset {offset} of {} goes to partition {target}, which the plan does not know of",
        source.selector.partition
    ))
}

impl Tally {
    fn saw(&mut self, earliest: i64, latest: i64) {
        self.first_timestamp = Some(self.first_timestamp.map_or(earliest, |at| at.min(earliest)));
        self.last_timestamp = Some(self.last_timestamp.map_or(latest, |at| at.max(latest)));
    }
}

impl Output {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            codec: Codec::None,
            builder: BatchBuilder::new(BuildOptions::default()),
            lone: None,
            done: Vec::new(),
        }
    }

    /// Makes ready for records of `codec`: a batch has one codec.
    fn begin(&mut self, codec: Codec) -> Result<(), crate::record::Error> {
        if codec != self.codec || self.lone.is_some() {
            self.flush()?;
            self.codec = codec;
            self.builder = BatchBuilder::new(BuildOptions {
                codec,
                ..BuildOptions::default()
            });
        }
        Ok(())
    }

    fn add(&mut self, record: &Record<'_>) -> Result<(), crate::record::Error> {
        let size = record_size(record);
        let limit = REBUILT.min(self.limit);
        if !self.builder.is_empty() && self.builder.len_estimate() + size > limit {
            self.flush()?;
        }
        self.builder.push_record(record)
    }

    fn flush(&mut self) -> Result<(), crate::record::Error> {
        if let Some(lone) = self.lone.take() {
            // A copy: it is small, and would keep its whole block.
            self.done.push(SplitBatch::new(lone)?.copied());
        }
        if !self.builder.is_empty() {
            self.done
                .push(self.builder.finish_split(ProducerStamp::NONE)?);
        }
        Ok(())
    }
}

/// At least what the record takes in a batch.
fn record_size(record: &Record<'_>) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len) + 10)
        .sum();
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers + 36
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
