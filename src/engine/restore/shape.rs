//! Archived batches into batches that a broker takes, and the mapping that comes of it. Bytes only.
//!
//! A whole, dense CreateTime batch passes as it is. Everything else is rebuilt from its kept records: batches that a
//! bound or a filter cuts, batches with inner gaps (brokers demand as many records as offsets), LogAppendTime batches
//! (passed through, the broker would clear the bit and show other times). Small neighbours of one codec are merged,
//! since a broker takes one batch per partition and request, so that tiny ones cost a round trip each.

use super::select::{Fate, Selector, Verdict};
use crate::base::Offset;
use crate::engine::error::{Error, Result};
use crate::engine::mapping::{Mapping, MappingBuilder};
use crate::record::{
    Batch, BatchBuilder, BuildOptions, Codec, Limits, ProducerStamp, Record, TimestampType, batches,
};
use std::ops::Range;

/// Batches below this many bytes are merged with their neighbours.
const SMALL: usize = 64 * 1024;
/// Rebuilt batches hold about this many bytes before compression, unless one record is larger.
const REBUILT: usize = 1024 * 1024;

/// A batch to write: base offset 0, not yet stamped with a producer.
#[derive(Debug)]
pub struct Shaped {
    pub bytes: Vec<u8>,
    pub records: i32,
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
    /// The largest batch that is made, in bytes.
    pub largest_batch: usize,
}

/// Goes through one partition's batches in offset order.
pub struct Shaper {
    selector: Selector,
    mapping: MappingBuilder,
    tally: Tally,
    /// `None` while planning: then nothing is built.
    output: Option<Output>,
    scratch: Vec<u8>,
    limits: Limits,
}

struct Output {
    /// The largest batch the target takes.
    limit: usize,
    codec: Codec,
    builder: BatchBuilder,
    /// A small whole batch that waits for a neighbour to be merged with.
    lone: Option<Vec<u8>>,
    done: Vec<Shaped>,
}

impl Shaper {
    /// For planning: the mapping and the numbers only.
    pub fn predicting(selector: Selector, base: Offset) -> Self {
        Self {
            selector,
            mapping: MappingBuilder::new(base),
            tally: Tally::default(),
            output: None,
            scratch: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// For writing batches of at most `limit` bytes.
    pub fn writing(selector: Selector, base: Offset, limit: usize) -> Self {
        Self {
            output: Some(Output {
                limit,
                codec: Codec::None,
                builder: BatchBuilder::new(BuildOptions::default()),
                lone: None,
                done: Vec::new(),
            }),
            ..Self::predicting(selector, base)
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What an index entry says of a run of offsets that all have their record and are all kept.
    pub fn keep_run(&mut self, first: i64, records: i64, earliest: i64, latest: i64) -> Result<()> {
        let end = self.mapping.target_end();
        self.mapping.push_run(Offset(first), records, end)?;
        self.tally.records += records.unsigned_abs();
        self.saw(earliest, latest);
        Ok(())
    }

    /// A block's batches, in order. Its first and last batch may reach beyond `offsets`; those records are not its.
    pub fn block(&mut self, bytes: &[u8], offsets: Range<i64>) -> Result<()> {
        let cut = self.selector.cut;
        self.selector.cut = cut.within(&offsets);
        let done = self.batches(bytes);
        self.selector.cut = cut;
        done
    }

    fn batches(&mut self, bytes: &[u8]) -> Result<()> {
        let mut iter = batches(bytes);
        for batch in iter.by_ref() {
            let batch = batch.map_err(|source| self.damaged(-1, source))?;
            self.batch(&batch)?;
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

    fn batch(&mut self, batch: &Batch<'_>) -> Result<()> {
        let header = &batch.header;
        match self.selector.batch(header) {
            Verdict::Outside => Ok(()),
            Verdict::OutOfTime => {
                // Those within the offsets; exact unless a batch with holes straddles a boundary.
                let cut = &self.selector.cut;
                let within = header.next_offset().min(cut.to) - header.base_offset.max(cut.from);
                self.tally.dropped_by_time +=
                    i64::from(header.record_count).min(within).unsigned_abs();
                Ok(())
            }
            Verdict::Whole if header.is_dense() => {
                self.keep_run(
                    header.base_offset,
                    i64::from(header.record_count),
                    header.base_timestamp,
                    header.max_timestamp,
                )?;
                if self.output.is_none() {
                    self.tally.largest_batch = self.tally.largest_batch.max(header.total_len());
                    return Ok(());
                }
                if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
                    return self.rebuild_whole(batch.bytes());
                }
                self.pass(batch)
            }
            Verdict::Whole | Verdict::Open => self.cut(batch),
        }
    }

    /// A batch all of whose records stay, in its own bytes.
    fn pass(&mut self, batch: &Batch<'_>) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        if batch.bytes().len() >= SMALL {
            output
                .flush()
                .map_err(|source| self.damaged(batch.header.base_offset, source))?;
            self.emit(Shaped {
                bytes: batch.bytes().to_vec(),
                records: batch.header.record_count,
            });
            return Ok(());
        }
        if output.lone.is_none() && output.builder.is_empty() {
            output.lone = Some(batch.bytes().to_vec());
            return Ok(());
        }
        if let Some(lone) = output.lone.take() {
            self.rebuild_whole(&lone)?;
        }
        self.rebuild_whole(batch.bytes())
    }

    /// Adds every record of a batch to the one being built; mapping and tally know them already.
    fn rebuild_whole(&mut self, bytes: &[u8]) -> Result<()> {
        let batch = Batch::parse(bytes).map_err(|source| self.damaged(-1, source))?;
        let at = batch.header.base_offset;
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        let built = (|| {
            output.begin(batch.header.attributes.codec()?)?;
            for record in batch.open(&self.limits, &mut self.scratch)? {
                output.add(&record?)?;
            }
            Ok(())
        })();
        built.map_err(|source| self.damaged(at, source))
    }

    /// Opens a batch and keeps what is to be kept.
    fn cut(&mut self, batch: &Batch<'_>) -> Result<()> {
        let at = batch.header.base_offset;
        let codec = batch
            .header
            .attributes
            .codec()
            .map_err(|source| self.damaged(at, source))?;
        if let Some(output) = &mut self.output
            && let Err(source) = output.begin(codec)
        {
            return Err(self.damaged(at, source));
        }
        // Taken out so that the records may borrow it while `self` changes.
        let mut scratch = std::mem::take(&mut self.scratch);
        let kept = self.cut_records(batch, &mut scratch);
        self.scratch = scratch;
        kept
    }

    fn cut_records(&mut self, batch: &Batch<'_>, scratch: &mut Vec<u8>) -> Result<()> {
        let at = batch.header.base_offset;
        let limits = self.limits;
        let records = batch
            .open(&limits, scratch)
            .map_err(|source| self.damaged(at, source))?;
        for record in records {
            let record = record.map_err(|source| self.damaged(at, source))?;
            match self.selector.record(&record)? {
                Fate::Outside => {}
                Fate::OutOfTime => self.tally.dropped_by_time += 1,
                Fate::Filtered => self.tally.dropped_by_filter += 1,
                Fate::Keep => {
                    self.mapping.append(Offset(record.offset))?;
                    self.tally.records += 1;
                    self.saw(record.timestamp, record.timestamp);
                    if let Some(output) = &mut self.output
                        && let Err(source) = output.add(&record)
                    {
                        return Err(self.damaged(record.offset, source));
                    }
                }
            }
        }
        self.tally.largest_batch = self.tally.largest_batch.max(batch.header.total_len());
        Ok(())
    }

    /// The batches finished so far.
    pub fn take(&mut self) -> Vec<Shaped> {
        match &mut self.output {
            Some(output) => std::mem::take(&mut output.done),
            None => Vec::new(),
        }
    }

    /// The last batches, and the mapping up to `source_end`.
    pub fn finish(mut self, source_end: Offset) -> Result<(Vec<Shaped>, Mapping, Tally)> {
        if let Some(output) = &mut self.output
            && let Err(source) = output.flush()
        {
            return Err(self.damaged(-1, source));
        }
        let done = self.take();
        self.tally.filter_failed = self.selector.failed();
        Ok((done, self.mapping.finish(source_end)?, self.tally))
    }

    fn emit(&mut self, shaped: Shaped) {
        self.tally.largest_batch = self.tally.largest_batch.max(shaped.bytes.len());
        if let Some(output) = &mut self.output {
            output.done.push(shaped);
        }
    }

    fn saw(&mut self, earliest: i64, latest: i64) {
        let tally = &mut self.tally;
        tally.first_timestamp = Some(
            tally
                .first_timestamp
                .map_or(earliest, |at| at.min(earliest)),
        );
        tally.last_timestamp = Some(tally.last_timestamp.map_or(latest, |at| at.max(latest)));
    }

    fn damaged(&self, at: i64, source: crate::record::Error) -> Error {
        Error::Record {
            partition: self.selector.partition.clone(),
            offset: Offset(at.max(self.selector.cut.from)),
            source,
        }
    }
}

impl Output {
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
            let records = Batch::parse(&lone)?.header.record_count;
            self.done.push(Shaped {
                bytes: lone,
                records,
            });
        }
        if !self.builder.is_empty() {
            // A builder refuses more records than an i32 counts.
            let records = self.builder.record_count() as i32;
            let bytes = self.builder.finish(ProducerStamp::NONE)?;
            self.done.push(Shaped { bytes, records });
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
