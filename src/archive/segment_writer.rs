//! Builds a segment while it streams to the store.
//!
//! Batches form blocks of about 4 MiB of one partition. How a block is stored is decided by its beginning, and from
//! there on its bytes go on at once, to the store as they are or into the encoder: a segment of any size takes the
//! memory of a few slices and of one compressed block. Whole batches only: what a boundary cuts off is said by the
//! block's first and last offset, the bytes stay as they are.

use super::block::BlockCompression;
use super::block_body::{self, BlockBody};
use super::segment::{
    BlockCodec, BlockEntry, HEADER_LEN, MAX_BLOCK, MAX_INDEX, SegmentIndex, Stream, Trailer,
    encode_header, encode_index, encode_trailer,
};
use super::{Error, Result, SegmentRef};
use crate::base::{Digest, Offset, TimestampMs};
use crate::record::{Batch, Codec};
use crate::store::{ObjectWriter, Store};
use bytes::Bytes;
use std::ops::Range;

/// A block is closed once it holds this many bytes of batches.
pub const BLOCK_TARGET: usize = 4 << 20;

/// The part of a segment that all kinds of writer share: any number of partitions, one after the other.
pub(super) struct SegmentBuilder {
    object: ObjectWriter,
    compression: BlockCompression,
    index: SegmentIndex,
    block: OpenBlock,
    /// Where the next block will be.
    position: u64,
    /// Per stream, the offset after the last one appended.
    next: Vec<Offset>,
    /// A block was lost on its way: whatever the caller made of the error, the segment must not be finished.
    lost_block: bool,
}

struct OpenBlock {
    stream: u32,
    body: BlockBody,
    raw_len: usize,
    first: Option<Offset>,
    last: Offset,
    records: u64,
    batches: u32,
    min_timestamp: i64,
    min_exact: bool,
    max_timestamp: i64,
    largest_batch: u32,
}

impl OpenBlock {
    fn new(stream: u32, compression: BlockCompression) -> Self {
        Self {
            stream,
            body: BlockBody::new(compression, false),
            raw_len: 0,
            first: None,
            last: Offset(0),
            records: 0,
            batches: 0,
            min_timestamp: 0,
            min_exact: false,
            max_timestamp: 0,
            largest_batch: 0,
        }
    }
}

/// What of a batch counts.
struct Counted {
    first: Offset,
    last: Offset,
    records: u64,
}

impl SegmentBuilder {
    pub(super) async fn start(
        store: &Store,
        archive_id: uuid::Uuid,
        compression: BlockCompression,
    ) -> Result<Self> {
        let mut object = store.writer().await?;
        object
            .write(Bytes::copy_from_slice(&encode_header(archive_id)))
            .await?;
        Ok(Self {
            object,
            compression,
            index: SegmentIndex::default(),
            block: OpenBlock::new(0, compression),
            position: HEADER_LEN as u64,
            next: Vec::new(),
            lost_block: false,
        })
    }

    /// Bytes written and gathered so far.
    pub(super) fn size(&self) -> u64 {
        self.position + self.block.raw_len as u64
    }

    /// Switches to a partition; the one before is closed for good.
    pub(super) async fn begin_stream(&mut self, stream: Stream) -> Result<()> {
        self.close_block().await?;
        if stream.topic.is_empty() || stream.topic.len() > 249 {
            return Err(Error::BadInput {
                why: format!("{:?} is no topic name", stream.topic),
            });
        }
        self.index.streams.push(stream);
        self.next.push(Offset(0));
        self.block = OpenBlock::new(self.index.streams.len() as u32 - 1, self.compression);
        Ok(())
    }

    /// Appends whole batches of which every record counts.
    pub(super) async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let mut start = 0;
        let mut at = 0;
        let mut result = Ok(());
        while at < bytes.len() {
            match self.add_whole(&bytes[at..]) {
                Ok(length) => at += length,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if self.block.raw_len >= BLOCK_TARGET {
                self.push(bytes.slice(start..at)).await?;
                start = at;
                self.close_block().await?;
            }
        }
        // Also after an error: the batches before it are counted, so their bytes must follow.
        if start < at {
            self.push(bytes.slice(start..at)).await?;
        }
        result
    }

    /// Counts the batch at the start of `bytes`, all of it, and returns its length.
    fn add_whole(&mut self, bytes: &[u8]) -> Result<usize> {
        let batch = parse(bytes)?;
        let header = batch.header;
        self.add_batch(
            &batch,
            Counted {
                first: Offset(header.base_offset),
                last: Offset(header.last_offset()),
                records: header.record_count as u64,
            },
        )?;
        Ok(header.total_len())
    }

    /// Appends one batch of which only the `records` with offsets in `within` count.
    pub(super) async fn append_within(
        &mut self,
        bytes: Bytes,
        within: Range<Offset>,
        records: u64,
    ) -> Result<()> {
        let batch = parse(&bytes)?;
        let header = batch.header;
        if header.total_len() != bytes.len() {
            return Err(Error::BadInput {
                why: "a cut batch must come alone".into(),
            });
        }
        let first = within.start.max(Offset(header.base_offset));
        let end = within.end.min(Offset(header.next_offset()));
        let full = end - first;
        if full < 1 || records == 0 || records > full as u64 {
            return Err(Error::BadInput {
                why: format!(
                    "{records} records of the batch {}..={} cannot lie within {}..{}",
                    header.base_offset,
                    header.last_offset(),
                    within.start,
                    within.end
                ),
            });
        }
        // Only the ends of a block can cut a batch.
        if first.0 > header.base_offset {
            self.close_block().await?;
        }
        self.add_batch(
            &batch,
            Counted {
                first,
                last: Offset(end.0 - 1),
                records,
            },
        )?;
        let cut_at_end = end.0 < header.next_offset();
        self.push(bytes).await?;
        if cut_at_end || self.block.raw_len >= BLOCK_TARGET {
            self.close_block().await?;
        }
        Ok(())
    }

    fn add_batch(&mut self, batch: &Batch<'_>, counted: Counted) -> Result<()> {
        let header = &batch.header;
        let stream = self.block.stream as usize;
        let Some(next) = self.next.get_mut(stream) else {
            return Err(Error::BadInput {
                why: "a batch before any partition was begun".into(),
            });
        };
        if header.attributes.is_control() || counted.records == 0 {
            return Err(Error::BadInput {
                why: format!(
                    "the batch at offset {} is a control batch or empty; that is a gap",
                    header.base_offset
                ),
            });
        }
        if counted.first < *next {
            return Err(Error::BadInput {
                why: format!("offset {} comes again, after {}", counted.first, *next),
            });
        }
        let total = header.total_len();
        if total > MAX_BLOCK as usize - self.block.raw_len {
            return Err(Error::BadInput {
                why: format!("a batch of {total} bytes is more than a block can hold"),
            });
        }
        let (min_timestamp, min_exact) = lowest_timestamp(batch)?;
        *next = counted.last + 1;
        let block = &mut self.block;
        if block.first.is_none() {
            block.first = Some(counted.first);
            block.min_timestamp = min_timestamp;
            block.min_exact = min_exact;
            block.max_timestamp = header.max_timestamp;
        } else {
            block.min_timestamp = block.min_timestamp.min(min_timestamp);
            block.min_exact &= min_exact;
            block.max_timestamp = block.max_timestamp.max(header.max_timestamp);
        }
        block.last = counted.last;
        block.records += counted.records;
        block.batches += 1;
        block.raw_len += total;
        block.largest_batch = block.largest_batch.max(total as u32);
        if header.attributes.codec().is_ok_and(|c| c != Codec::None) {
            block.body.comes_compressed(total);
        }
        Ok(())
    }

    /// Takes the bytes of batches that are counted already.
    async fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.begin_write()?;
        self.block.body.push(bytes, &mut self.object).await?;
        self.lost_block = false;
        Ok(())
    }

    async fn close_block(&mut self) -> Result<()> {
        self.begin_write()?;
        self.write_block().await?;
        self.lost_block = false;
        Ok(())
    }

    /// A write that fails, or is given up, may lose bytes: then nothing more is written.
    fn begin_write(&mut self) -> Result<()> {
        if self.lost_block {
            return Err(Error::BadInput {
                why: "a block of this segment was not written; it must be begun again".into(),
            });
        }
        self.lost_block = true;
        Ok(())
    }

    async fn write_block(&mut self) -> Result<()> {
        let stream = self.block.stream;
        let Some(first) = self.block.first else {
            return Ok(());
        };
        let next = OpenBlock::new(stream, self.compression);
        let block = std::mem::replace(&mut self.block, next);
        let stored = block.body.close(&mut self.object).await?;
        // What comes next in a partition is of the same kind as a rule.
        let shrunk =
            stored.codec != BlockCodec::None && block_body::pays(stored.len, block.raw_len);
        self.block.body = BlockBody::new(self.compression, shrunk);
        let entry = BlockEntry {
            stream: block.stream,
            codec: stored.codec,
            first,
            last: block.last,
            min_timestamp: TimestampMs(block.min_timestamp),
            min_timestamp_exact: block.min_exact,
            max_timestamp: TimestampMs(block.max_timestamp),
            records: block.records,
            batches: block.batches,
            position: self.position,
            stored_len: stored.len as u32,
            raw_len: block.raw_len as u32,
            crc: stored.crc,
            largest_batch: block.largest_batch,
        };
        self.position += u64::from(entry.stored_len);
        self.index.blocks.push(entry);
        Ok(())
    }

    /// The first offset of a stream's first block, once one is closed.
    pub(super) async fn first_offset(&mut self) -> Result<Option<Offset>> {
        self.close_block().await?;
        Ok(self.index.blocks.first().map(|block| block.first))
    }

    /// Writes index and trailer and puts the segment under its name. One reference per stream that has blocks.
    pub(super) async fn finish(mut self, path: &str) -> Result<Vec<(Stream, SegmentRef)>> {
        self.close_block().await?;
        let index = encode_index(&self.index);
        let index_len = u32::try_from(index.len())
            .ok()
            .filter(|len| *len <= MAX_INDEX)
            .ok_or_else(|| Error::BadInput {
                why: format!("{path} has too many blocks; finish segments earlier"),
            })?;
        let trailer = Trailer {
            index_position: self.position,
            index_len,
            index_crc: crc32c::crc32c(&index),
        };
        let index_digest = Digest::of(&index);
        self.object.write(Bytes::from(index)).await?;
        self.object
            .write(Bytes::copy_from_slice(&encode_trailer(&trailer)))
            .await?;
        let written = self.object.finish(path).await?;
        let mut refs: Vec<Option<SegmentRef>> = vec![None; self.index.streams.len()];
        for block in &self.index.blocks {
            let slot = &mut refs[block.stream as usize];
            match slot {
                None => {
                    *slot = Some(SegmentRef {
                        path: path.to_string(),
                        size: written.size,
                        digest: written.digest,
                        index_digest,
                        first: block.first,
                        last: block.last,
                        records: block.records,
                        blocks: 1,
                        raw_bytes: u64::from(block.raw_len),
                        min_timestamp: block.min_timestamp,
                        max_timestamp: block.max_timestamp,
                        largest_batch: block.largest_batch,
                    });
                }
                Some(segment) => {
                    segment.last = block.last;
                    segment.records += block.records;
                    segment.blocks += 1;
                    segment.raw_bytes += u64::from(block.raw_len);
                    segment.min_timestamp = segment.min_timestamp.min(block.min_timestamp);
                    segment.max_timestamp = segment.max_timestamp.max(block.max_timestamp);
                    segment.largest_batch = segment.largest_batch.max(block.largest_batch);
                }
            }
        }
        Ok(self
            .index
            .streams
            .into_iter()
            .zip(refs)
            .filter_map(|(stream, segment)| segment.map(|segment| (stream, segment)))
            .collect())
    }

    pub(super) async fn abort(self) -> Result<()> {
        Ok(self.object.abort().await?)
    }
}

fn parse(bytes: &[u8]) -> Result<Batch<'_>> {
    Batch::parse(bytes).map_err(|error| Error::BadInput {
        why: error.to_string(),
    })
}

/// The lowest timestamp of a batch, and whether that is certain.
fn lowest_timestamp(batch: &Batch<'_>) -> Result<(i64, bool)> {
    let header = &batch.header;
    let known = batch.lowest_timestamp().map_err(|error| Error::BadInput {
        why: format!("the batch at offset {}: {error}", header.base_offset),
    })?;
    Ok(match known {
        Some(lowest) => (lowest, true),
        // With a delete horizon the base timestamp is the horizon, not a record's time.
        None if header.attributes.has_delete_horizon() => (header.max_timestamp, false),
        None => (header.base_timestamp.min(header.max_timestamp), false),
    })
}

/// Writes one partition's segment. See [`super::RunWriter::segment_writer`].
pub struct SegmentWriter {
    pub(super) builder: SegmentBuilder,
    pub(super) folder: String,
    pub(super) run: String,
}

impl SegmentWriter {
    /// Appends one or more whole v2 batches, in offset order. Their own checksums are the caller's to check; control
    /// batches and batches without records are refused (they are gaps).
    pub async fn append(&mut self, batches: Bytes) -> Result<()> {
        self.builder.append(batches).await
    }

    /// Appends one batch that a boundary cuts: only its `records` records with offsets in `within` count.
    pub async fn append_within(
        &mut self,
        batch: Bytes,
        within: Range<Offset>,
        records: u64,
    ) -> Result<()> {
        self.builder.append_within(batch, within, records).await
    }

    /// Bytes so far, for choosing when to begin the next segment.
    pub fn size(&self) -> u64 {
        self.builder.size()
    }

    /// Finishes the segment; `None` if nothing was appended, and then nothing is left in the store.
    pub async fn finish(mut self) -> Result<Option<SegmentRef>> {
        let Some(first) = self.builder.first_offset().await? else {
            self.builder.abort().await?;
            return Ok(None);
        };
        let path = format!("{}/segment-{:020}-{}.kbs", self.folder, first.0, self.run);
        Ok(self
            .builder
            .finish(&path)
            .await?
            .pop()
            .map(|(_, segment)| segment))
    }

    /// Gives the segment up.
    pub async fn abort(self) -> Result<()> {
        self.builder.abort().await
    }
}

/// Writes one object that holds many small partitions. See [`super::RunWriter::pack_writer`].
pub struct PackWriter {
    pub(super) builder: SegmentBuilder,
    pub(super) path: String,
}

impl PackWriter {
    /// Begins a partition; all batches until the next call are its own.
    pub async fn begin(&mut self, stream: Stream) -> Result<()> {
        self.builder.begin_stream(stream).await
    }

    /// As [`SegmentWriter::append`].
    pub async fn append(&mut self, batches: Bytes) -> Result<()> {
        self.builder.append(batches).await
    }

    /// As [`SegmentWriter::append_within`].
    pub async fn append_within(
        &mut self,
        batch: Bytes,
        within: Range<Offset>,
        records: u64,
    ) -> Result<()> {
        self.builder.append_within(batch, within, records).await
    }

    pub fn size(&self) -> u64 {
        self.builder.size()
    }

    /// Finishes the pack: one reference per partition that holds records.
    pub async fn finish(mut self) -> Result<Vec<(Stream, SegmentRef)>> {
        if self.builder.first_offset().await?.is_none() {
            self.builder.abort().await?;
            return Ok(Vec::new());
        }
        self.builder.finish(&self.path).await
    }
}
