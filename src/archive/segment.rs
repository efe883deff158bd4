//! The segment object's layout: header, blocks, footer index, trailer. Slices in, values out; no I/O.
//!
//! ```text
//! header 64 | block | block | … | index | trailer 32
//! ```
//!
//! All integers are big-endian, as in the record batches. A reader that knows the object's size reads the trailer,
//! then the index, then only the blocks it wants. Everything that a length or a count could make large is checked
//! against the bytes that are there before memory is asked for. `docs/archive-format.md` has every field.

use crate::base::{Digest, Offset, PartitionId, TimestampMs, TopicId};

pub const HEADER_LEN: usize = 64;
pub const TRAILER_LEN: usize = 32;
const BLOCK_ENTRY_LEN: usize = 76;
/// A stream with a name of one byte.
const SMALLEST_STREAM: usize = 2 + 1 + 16 + 4;

const HEADER_MAGIC: &[u8; 8] = b"KBRSEG\r\n";
const TRAILER_MAGIC: &[u8; 8] = b"KBRSEND\n";
const SEGMENT_VERSION: u16 = 1;

/// An index beyond this is refused; at 76 bytes a block of 4 MiB it stands for more than 3 TB.
pub const MAX_INDEX: u32 = 64 << 20;
/// The largest block, before and after compression: a little over the largest batch a broker can hold is not
/// possible within 32-bit Kafka sizes, and nothing real comes near.
pub const MAX_BLOCK: u32 = 1 << 30;
/// Kafka's own limit for topic names.
const MAX_TOPIC_NAME: usize = 249;

const FLAG_MIN_TIMESTAMP_EXACT: u8 = 1;

/// Why bytes are no part of a segment that this version reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Broken(String),
    #[error("segment version {0}")]
    NewerVersion(u16),
    #[error("encryption scheme {0}")]
    Encrypted(u16),
}

fn broken(why: impl Into<String>) -> FormatError {
    FormatError::Broken(why.into())
}

/// How a block is compressed as a whole, on top of whatever its batches are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockCodec {
    #[default]
    None,
    Zstd,
    Lz4,
}

impl BlockCodec {
    fn id(self) -> u8 {
        match self {
            BlockCodec::None => 0,
            BlockCodec::Zstd => 1,
            BlockCodec::Lz4 => 2,
        }
    }

    fn from_id(id: u8) -> Option<Self> {
        [BlockCodec::None, BlockCodec::Zstd, BlockCodec::Lz4]
            .into_iter()
            .find(|codec| codec.id() == id)
    }

    pub fn name(self) -> &'static str {
        match self {
            BlockCodec::None => "none",
            BlockCodec::Zstd => "zstd",
            BlockCodec::Lz4 => "lz4",
        }
    }
}

/// One partition whose blocks a segment holds. Most segments hold one; a pack holds many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub topic: String,
    pub topic_id: TopicId,
    pub partition: PartitionId,
}

/// One block in the index: whole batches of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Position in [`SegmentIndex::streams`].
    pub stream: u32,
    pub codec: BlockCodec,
    /// The first and the last offset that count, both inclusive. The first batch may begin before `first` and the
    /// last end after `last`; such records are no part of the archive.
    pub first: Offset,
    pub last: Offset,
    /// The lowest timestamp. If not exact it is only the lowest first timestamp of a batch, and records behind it
    /// in compressed batches may be older: see [`BlockEntry::may_hold`].
    pub min_timestamp: TimestampMs,
    pub min_timestamp_exact: bool,
    pub max_timestamp: TimestampMs,
    /// Records that count.
    pub records: u64,
    pub batches: u32,
    /// Where the stored bytes are in the object.
    pub position: u64,
    pub stored_len: u32,
    /// Bytes of batches, once decompressed.
    pub raw_len: u32,
    /// CRC32C of the stored bytes.
    pub crc: u32,
    /// The largest batch, in bytes.
    pub largest_batch: u32,
}

impl BlockEntry {
    /// Whether a record with `since ≤ timestamp < before` may be in the block. Never false when there is one.
    pub fn may_hold(&self, since: Option<TimestampMs>, before: Option<TimestampMs>) -> bool {
        since.is_none_or(|since| self.max_timestamp >= since)
            && before.is_none_or(|before| !self.min_timestamp_exact || self.min_timestamp < before)
    }
}

/// The footer index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    pub streams: Vec<Stream>,
    pub blocks: Vec<BlockEntry>,
}

/// Where the index is and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub index_position: u64,
    pub index_len: u32,
    pub index_crc: u32,
}

/// The 64 bytes that a segment begins with.
pub fn encode_header(archive_id: uuid::Uuid) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[0..8].copy_from_slice(HEADER_MAGIC);
    out[8..10].copy_from_slice(&SEGMENT_VERSION.to_be_bytes());
    // 10..12: the encryption scheme, 0 for none. 12..16: flags, none so far.
    out[16..32].copy_from_slice(archive_id.as_bytes());
    // 32..60: reserved, zero.
    let crc = crc32c::crc32c(&out[..60]);
    out[60..64].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Checks a segment's header and returns the archive it belongs to.
pub fn decode_header(bytes: &[u8]) -> Result<uuid::Uuid, FormatError> {
    let mut cursor = Cursor(bytes);
    let whole = bytes
        .get(..HEADER_LEN)
        .ok_or_else(|| broken("its header is cut short"))?;
    if &cursor.array::<8>()? != HEADER_MAGIC {
        return Err(broken("it does not begin as a segment does"));
    }
    let (version, encryption) = (cursor.u16()?, cursor.u16()?);
    let stored = u32::from_be_bytes([whole[60], whole[61], whole[62], whole[63]]);
    if crc32c::crc32c(&whole[..60]) != stored {
        return Err(broken("its header fails its CRC32C"));
    }
    check_version(version, encryption)?;
    cursor.u32()?;
    Ok(uuid::Uuid::from_bytes(cursor.array()?))
}

fn check_version(version: u16, encryption: u16) -> Result<(), FormatError> {
    if version > SEGMENT_VERSION {
        return Err(FormatError::NewerVersion(version));
    }
    if version != SEGMENT_VERSION {
        return Err(broken(format!("segment version {version} never was")));
    }
    if encryption != 0 {
        return Err(FormatError::Encrypted(encryption));
    }
    Ok(())
}

/// The 32 bytes that a segment ends with.
pub fn encode_trailer(trailer: &Trailer) -> [u8; TRAILER_LEN] {
    let mut out = [0; TRAILER_LEN];
    out[0..8].copy_from_slice(&trailer.index_position.to_be_bytes());
    out[8..12].copy_from_slice(&trailer.index_len.to_be_bytes());
    out[12..16].copy_from_slice(&trailer.index_crc.to_be_bytes());
    out[16..18].copy_from_slice(&SEGMENT_VERSION.to_be_bytes());
    // 18..20: the encryption scheme, 0 for none.
    let crc = crc32c::crc32c(&out[..20]);
    out[20..24].copy_from_slice(&crc.to_be_bytes());
    out[24..32].copy_from_slice(TRAILER_MAGIC);
    out
}

/// Reads the trailer of an object of `size` bytes from its last [`TRAILER_LEN`] bytes.
pub fn decode_trailer(bytes: &[u8], size: u64) -> Result<Trailer, FormatError> {
    if bytes.len() != TRAILER_LEN || size < (HEADER_LEN + TRAILER_LEN) as u64 {
        return Err(broken("it is too short for a segment"));
    }
    if &bytes[24..32] != TRAILER_MAGIC {
        return Err(broken(
            "it does not end as a segment does; it may have been cut",
        ));
    }
    let mut cursor = Cursor(bytes);
    let trailer = Trailer {
        index_position: cursor.u64()?,
        index_len: cursor.u32()?,
        index_crc: cursor.u32()?,
    };
    let (version, encryption) = (cursor.u16()?, cursor.u16()?);
    if crc32c::crc32c(&bytes[..20]) != cursor.u32()? {
        return Err(broken("its trailer fails its CRC32C"));
    }
    check_version(version, encryption)?;
    let end = trailer
        .index_position
        .checked_add(u64::from(trailer.index_len));
    if trailer.index_len > MAX_INDEX
        || trailer.index_position < HEADER_LEN as u64
        || end != Some(size - TRAILER_LEN as u64)
    {
        return Err(broken("its trailer points to no index"));
    }
    Ok(trailer)
}

pub fn encode_index(index: &SegmentIndex) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + index.blocks.len() * BLOCK_ENTRY_LEN + 64);
    out.extend_from_slice(&(index.streams.len() as u32).to_be_bytes());
    for stream in &index.streams {
        out.extend_from_slice(&(stream.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(stream.topic.as_bytes());
        out.extend_from_slice(stream.topic_id.as_bytes());
        out.extend_from_slice(&stream.partition.0.to_be_bytes());
    }
    out.extend_from_slice(&(index.blocks.len() as u32).to_be_bytes());
    for block in &index.blocks {
        out.extend_from_slice(&block.stream.to_be_bytes());
        out.push(block.codec.id());
        out.push(if block.min_timestamp_exact {
            FLAG_MIN_TIMESTAMP_EXACT
        } else {
            0
        });
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&block.batches.to_be_bytes());
        out.extend_from_slice(&block.first.0.to_be_bytes());
        out.extend_from_slice(&block.last.0.to_be_bytes());
        out.extend_from_slice(&block.min_timestamp.0.to_be_bytes());
        out.extend_from_slice(&block.max_timestamp.0.to_be_bytes());
        out.extend_from_slice(&block.records.to_be_bytes());
        out.extend_from_slice(&block.position.to_be_bytes());
        out.extend_from_slice(&block.stored_len.to_be_bytes());
        out.extend_from_slice(&block.raw_len.to_be_bytes());
        out.extend_from_slice(&block.crc.to_be_bytes());
        out.extend_from_slice(&block.largest_batch.to_be_bytes());
    }
    out
}

/// Parses and checks an index. `index_position` is where it begins in the object: the blocks must fill the object
/// from the header to there without a hole.
pub fn decode_index(bytes: &[u8], index_position: u64) -> Result<SegmentIndex, FormatError> {
    let mut cursor = Cursor(bytes);
    let stream_count = cursor.count(SMALLEST_STREAM, "partitions")?;
    let mut streams = Vec::with_capacity(stream_count);
    for _ in 0..stream_count {
        let length = usize::from(cursor.u16()?);
        if length == 0 || length > MAX_TOPIC_NAME {
            return Err(broken(format!("a topic name of {length} bytes")));
        }
        let topic = std::str::from_utf8(cursor.take(length)?)
            .map_err(|_| broken("a topic name that is no text"))?
            .to_string();
        streams.push(Stream {
            topic,
            topic_id: uuid::Uuid::from_bytes(cursor.array()?),
            partition: PartitionId(cursor.u32()? as i32),
        });
    }
    let block_count = cursor.count(BLOCK_ENTRY_LEN, "blocks")?;
    let mut blocks = Vec::with_capacity(block_count);
    let mut next_position = HEADER_LEN as u64;
    let mut previous_last: Vec<Option<Offset>> = vec![None; streams.len()];
    for number in 0..block_count {
        let block = decode_entry(&mut cursor)?;
        let wrong = |why: &str| broken(format!("block {number} of its index: {why}"));
        let previous = previous_last
            .get_mut(block.stream as usize)
            .ok_or_else(|| wrong("a partition that is not listed"))?;
        if block.position != next_position {
            return Err(wrong("it does not follow the block before it"));
        }
        if block.stored_len == 0 || block.stored_len > MAX_BLOCK || block.raw_len > MAX_BLOCK {
            return Err(wrong("its length"));
        }
        if block.codec == BlockCodec::None && block.stored_len != block.raw_len {
            return Err(wrong("its two lengths differ though it is not compressed"));
        }
        if block.first.0 < 0
            || block.last < block.first
            || previous.is_some_and(|last| block.first <= last)
        {
            return Err(wrong("its offsets"));
        }
        // last − first cannot overflow: both are non-negative. The +1 is done in u64.
        let span = (block.last.0 - block.first.0) as u64 + 1;
        if block.records == 0 || block.records > span || block.batches == 0 {
            return Err(wrong("its counts"));
        }
        *previous = Some(block.last);
        next_position += u64::from(block.stored_len);
        blocks.push(block);
    }
    if next_position != index_position {
        return Err(broken("its blocks do not end where its index begins"));
    }
    if !cursor.0.is_empty() {
        return Err(broken("bytes behind the last block of its index"));
    }
    Ok(SegmentIndex { streams, blocks })
}

fn decode_entry(cursor: &mut Cursor<'_>) -> Result<BlockEntry, FormatError> {
    let stream = cursor.u32()?;
    let [codec, flags, reserved @ ..] = cursor.array::<4>()?;
    let codec = BlockCodec::from_id(codec)
        .ok_or_else(|| broken(format!("block compression {codec} is not known")))?;
    if flags & !FLAG_MIN_TIMESTAMP_EXACT != 0 || reserved != [0, 0] {
        return Err(broken("reserved bits of its index are set"));
    }
    Ok(BlockEntry {
        stream,
        codec,
        batches: cursor.u32()?,
        first: Offset(cursor.i64()?),
        last: Offset(cursor.i64()?),
        min_timestamp: TimestampMs(cursor.i64()?),
        min_timestamp_exact: flags & FLAG_MIN_TIMESTAMP_EXACT != 0,
        max_timestamp: TimestampMs(cursor.i64()?),
        records: cursor.u64()?,
        position: cursor.u64()?,
        stored_len: cursor.u32()?,
        raw_len: cursor.u32()?,
        crc: cursor.u32()?,
        largest_batch: cursor.u32()?,
    })
}

/// A whole segment in memory, for tests, fuzzing and the deep check of small ones: header, trailer and index.
pub fn decode_segment(bytes: &[u8]) -> Result<(uuid::Uuid, SegmentIndex, Digest), FormatError> {
    let archive_id = decode_header(bytes)?;
    let tail = bytes
        .len()
        .checked_sub(TRAILER_LEN)
        .and_then(|at| bytes.get(at..))
        .ok_or_else(|| broken("it is too short for a segment"))?;
    let trailer = decode_trailer(tail, bytes.len() as u64)?;
    // decode_trailer has checked that the index lies within the object.
    let index = usize::try_from(trailer.index_position)
        .ok()
        .and_then(|at| bytes.get(at..at + trailer.index_len as usize))
        .ok_or_else(|| broken("its trailer points to no index"))?;
    if crc32c::crc32c(index) != trailer.index_crc {
        return Err(broken("its index fails its CRC32C"));
    }
    Ok((
        archive_id,
        decode_index(index, trailer.index_position)?,
        Digest::of(index),
    ))
}

/// Big-endian fields from borrowed bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| broken("it is cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A count of things that take at least `smallest` bytes each: more than there is room for is refused, so that
    /// it can be used to reserve memory.
    fn count(&mut self, smallest: usize, what: &str) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / smallest {
            return Err(broken(format!("its index counts {count} {what}")));
        }
        Ok(count)
    }
}
