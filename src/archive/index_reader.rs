//! Reading a segment's index, and finding out whether it is what the generation lists.
//!
//! The generation vouches for the index by its hash, the index for every block by its CRC32C.

use super::block::BlockError;
use super::segment::{
    BlockEntry, FormatError, HEADER_LEN, SegmentIndex, Stream, TRAILER_LEN, Trailer, decode_index,
    decode_trailer,
};
use super::{Damage, DamageKind, Error, Held, Result, SegmentRef};
use crate::base::{Digest, Offset, TimestampMs};
use crate::store::{self, Store};
use bytes::Bytes;
use std::collections::HashMap;
use std::ops::Range;

/// An index with each partition's blocks at hand: a pack may hold thousands of partitions.
pub(super) struct LoadedIndex {
    index: SegmentIndex,
    /// Positions in the index's blocks, ascending.
    of: HashMap<Stream, Vec<usize>>,
}

impl LoadedIndex {
    pub(super) fn new(index: SegmentIndex) -> Self {
        let mut of_number: Vec<Vec<usize>> = vec![Vec::new(); index.streams.len()];
        for (position, block) in index.blocks.iter().enumerate() {
            // decode_index has checked that the number is one of the streams.
            of_number[block.stream as usize].push(position);
        }
        let mut of = HashMap::with_capacity(index.streams.len());
        for (stream, positions) in index.streams.iter().zip(of_number) {
            of.entry(stream.clone()).or_insert(positions);
        }
        Self { index, of }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        // Each stream is listed and a key, with its name; each block is listed and has its position.
        let streams = self.index.streams.iter();
        let names: usize = streams.map(|stream| stream.topic.capacity()).sum();
        let per_stream = 2 * size_of::<Stream>() + size_of::<Vec<usize>>() + 32;
        let per_block = size_of::<BlockEntry>() + size_of::<usize>();
        2 * names + self.index.streams.len() * per_stream + self.index.blocks.len() * per_block
    }

    /// A partition's blocks, in offset order.
    pub(super) fn blocks_of<'a>(
        &'a self,
        stream: &Stream,
    ) -> impl Iterator<Item = &'a BlockEntry> + use<'a> {
        let positions = self.of.get(stream).map_or(&[][..], Vec::as_slice);
        positions
            .iter()
            .map(move |position| &self.index.blocks[*position])
    }

    /// Every block, in the order of the object.
    pub(super) fn blocks(&self) -> &[BlockEntry] {
        &self.index.blocks
    }

    pub(super) fn stream(&self, block: &BlockEntry) -> &Stream {
        &self.index.streams[block.stream as usize]
    }
}

/// Whether an index says of a stream what the generation says.
pub(super) fn check_agreement(
    index: &LoadedIndex,
    segment: &SegmentRef,
    stream: &Stream,
) -> Result<(), DamageKind> {
    let mut found: Option<(Offset, Offset)> = None;
    let (mut records, mut blocks, mut raw_bytes) = (0_u64, 0_u32, 0_u64);
    let (mut lowest, mut highest, mut largest) = (TimestampMs(i64::MAX), TimestampMs(i64::MIN), 0);
    for block in index.blocks_of(stream) {
        found = Some((found.map_or(block.first, |(first, _)| first), block.last));
        records = records.saturating_add(block.records);
        raw_bytes += u64::from(block.raw_len);
        blocks += 1;
        lowest = lowest.min(block.min_timestamp);
        highest = highest.max(block.max_timestamp);
        largest = largest.max(block.largest_batch);
    }
    let Some((first, last)) = found else {
        return Err(DamageKind::Swapped(format!(
            "it holds nothing of {}-{} ({})",
            stream.topic, stream.partition, stream.topic_id
        )));
    };
    let here = (first, last, records, blocks, raw_bytes);
    let listed = (
        segment.first,
        segment.last,
        segment.records,
        segment.blocks,
        segment.raw_bytes,
    );
    if here != listed {
        return Err(DamageKind::Disagrees(format!(
            "it holds {records} records in {blocks} blocks, offsets {first} to {last}, not {} in {}, {} to {}",
            segment.records, segment.blocks, segment.first, segment.last
        )));
    }
    let here = (lowest, highest, largest);
    let listed = (
        segment.min_timestamp,
        segment.max_timestamp,
        segment.largest_batch,
    );
    if here != listed {
        return Err(DamageKind::Disagrees(format!(
            "its times are {lowest} to {highest} and its largest batch {largest} bytes, not {} to {} and {}",
            segment.min_timestamp, segment.max_timestamp, segment.largest_batch
        )));
    }
    Ok(())
}

/// Reads and checks a segment's index: usually one ranged read, two if the index is large.
pub(super) async fn read_index(store: &Store, segment: &SegmentRef) -> Result<LoadedIndex> {
    let result = read_index_bytes(store, segment).await;
    let (trailer, bytes) = match result {
        Ok(found) => found,
        Err(error) => {
            let Error::Damaged(damage) = error else {
                return Err(error);
            };
            // A cut or grown object is better named by its size than by where its trailer should be.
            return Err(match store.size(&segment.path).await {
                Ok(size) if size != segment.size => size_damage(segment, size).into(),
                _ => Error::Damaged(damage),
            });
        }
    };
    let found = Digest::of(&bytes);
    if found != segment.index_digest {
        return Err(Damage::new(
            &segment.path,
            DamageKind::Swapped(format!(
                "the hash of its index is {}, not {}",
                found.short(),
                segment.index_digest.short()
            )),
        )
        .into());
    }
    decode_index(&bytes, trailer.index_position)
        .map(LoadedIndex::new)
        .map_err(|error| unreadable(segment, error))
}

async fn read_index_bytes(store: &Store, segment: &SegmentRef) -> Result<(Trailer, Bytes)> {
    let size = segment.size;
    if size < (HEADER_LEN + TRAILER_LEN) as u64 {
        return Err(unreadable(
            segment,
            FormatError::Broken("the generation lists it with an impossible size".into()),
        ));
    }
    // The index of a segment with this many blocks; a pack's is longer and takes a second read.
    let guess = (TRAILER_LEN as u64 + 1024 + u64::from(segment.blocks) * 80).min(4 << 20);
    let start = size.saturating_sub(guess);
    let tail = read_range(store, segment, start..size).await?;
    let trailer = decode_trailer(&tail[tail.len() - TRAILER_LEN..], size)
        .map_err(|error| unreadable(segment, error))?;
    let index_end = trailer.index_position + u64::from(trailer.index_len);
    let bytes = if trailer.index_position >= start {
        let at = (trailer.index_position - start) as usize;
        tail.slice(at..at + trailer.index_len as usize)
    } else {
        read_range(store, segment, trailer.index_position..index_end).await?
    };
    if crc32c::crc32c(&bytes) != trailer.index_crc {
        return Err(unreadable(
            segment,
            FormatError::Broken("its index fails its CRC32C".into()),
        ));
    }
    Ok((trailer, bytes))
}

async fn read_range(store: &Store, segment: &SegmentRef, range: Range<u64>) -> Result<Bytes> {
    store
        .get_range(&segment.path, range)
        .await
        .map_err(|error| match lost(&error, segment) {
            Some(kind) => Damage::new(&segment.path, kind).into(),
            None => error.into(),
        })
}

/// The damage behind a store's error, if it is one: the object is gone or shorter than listed.
pub(super) fn lost(error: &store::Error, segment: &SegmentRef) -> Option<DamageKind> {
    match error {
        store::Error::NotFound { .. } => Some(DamageKind::Missing),
        store::Error::Range { size, .. } => Some(DamageKind::Size {
            expected: segment.size,
            found: *size,
        }),
        store::Error::BadPath { why, .. } => Some(DamageKind::Format(format!(
            "it is no path of an object: {why}"
        ))),
        _ => None,
    }
}

pub(super) fn size_damage(segment: &SegmentRef, found: u64) -> Damage {
    Damage::new(
        &segment.path,
        DamageKind::Size {
            expected: segment.size,
            found,
        },
    )
}

pub(super) fn unreadable(segment: &SegmentRef, error: FormatError) -> Error {
    match error {
        FormatError::NewerVersion(version) => Error::NewerFormat {
            object: segment.path.clone(),
            found: u32::from(version),
            supported: 1,
        },
        FormatError::Encrypted(scheme) => Error::Encrypted {
            object: segment.path.clone(),
            scheme,
        },
        FormatError::Broken(why) => Damage::new(&segment.path, DamageKind::Format(why)).into(),
    }
}

pub(super) fn block_damage(error: BlockError, entry: &BlockEntry) -> DamageKind {
    match error {
        BlockError::Checksum => DamageKind::BlockChecksum {
            position: entry.position,
        },
        BlockError::Format(error) => DamageKind::Format(error.to_string()),
    }
}

/// Adds what the segment held to its damage.
pub(super) fn holding(error: Error, segment: &SegmentRef, stream: &Stream) -> Error {
    match error {
        Error::Damaged(damage) => damage
            .holding(Held {
                topic: stream.topic.clone(),
                partition: stream.partition,
                first: segment.first,
                last: segment.last,
            })
            .into(),
        error => error,
    }
}
