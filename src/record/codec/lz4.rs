//! LZ4 frames. Kafka clients before message format 1 computed the header checksum over the frame's magic as well;
//! such frames still lie in old segments, so both checksums are taken.

use super::Codec;
use super::output::failed;
use crate::record::error::{Error, Result};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::hash::Hasher;
use std::io::{BufRead, Read, Write};

const FRAME_MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();
/// Magic, FLG and BD, content size, dictionary id, header checksum.
const LONGEST_HEADER: usize = 4 + 2 + 8 + 4 + 1;

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut header = [0; LONGEST_HEADER];
    let length = frame_header_len(input)?;
    let Some(given) = input.get(..length) else {
        return Err(Error::Truncated {
            what: "lz4 frame header",
            at: 0,
            wanted: length,
            have: input.len(),
        });
    };
    header[..length].copy_from_slice(given);
    let stored = header[length - 1];
    if stored == header_checksum(&header[..length - 1]) {
        header[length - 1] = header_checksum(&header[4..length - 1]);
    }
    let repaired = header[..length].chain(&input[length..]);
    let mut decoder = FrameDecoder::new(repaired);
    loop {
        let block = decoder
            .fill_buf()
            .map_err(|error| failed(Codec::Lz4, error))?;
        if block.is_empty() {
            return Ok(());
        }
        let needed = out.len() + block.len();
        if needed > limit {
            return Err(Error::TooLarge {
                what: "decompressed batch",
                limit,
            });
        }
        if needed > out.capacity() {
            let size = needed.max(out.capacity().saturating_mul(2)).min(limit);
            out.reserve_exact(size - out.len());
        }
        out.extend_from_slice(block);
        let taken = block.len();
        decoder.consume(taken);
    }
}

/// Bytes of the frame header, checksum included. Refuses what is not an LZ4 frame.
fn frame_header_len(input: &[u8]) -> Result<usize> {
    let Some(start) = input.get(..7) else {
        return Err(Error::Truncated {
            what: "lz4 frame header",
            at: 0,
            wanted: 7,
            have: input.len(),
        });
    };
    if start[..4] != FRAME_MAGIC {
        return Err(failed(Codec::Lz4, "not an LZ4 frame"));
    }
    let content_size = if start[4] & 0b1000 != 0 { 8 } else { 0 };
    let dictionary = if start[4] & 0b1 != 0 { 4 } else { 0 };
    Ok(7 + content_size + dictionary)
}

/// The second byte of the xxHash32 of the descriptor.
fn header_checksum(descriptor: &[u8]) -> u8 {
    let mut hasher = twox_hash::XxHash32::with_seed(0);
    hasher.write(descriptor);
    (hasher.finish() >> 8) as u8
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>> {
    // What Java writes: independent blocks of 64 KiB, no checksum of the content, since the batch has its own.
    let frame = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::with_capacity(input.len() / 2));
    encoder
        .write_all(input)
        .map_err(|error| failed(Codec::Lz4, error))?;
    encoder.finish().map_err(|error| failed(Codec::Lz4, error))
}
