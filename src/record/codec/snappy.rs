//! Snappy, raw as librdkafka may write it, or in the framing of Java's `SnappyOutputStream` (xerial): a magic, two
//! version numbers, then blocks of a big-endian length and raw snappy.

use super::Codec;
use super::output::failed;
use crate::record::error::{Error, Result};
use crate::record::varint::Cursor;

const JAVA_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const JAVA_HEADER_LEN: usize = 16;
/// As large as Java's own blocks.
const JAVA_BLOCK: usize = 32 * 1024;

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    if !input.starts_with(JAVA_MAGIC) {
        return append_block(input, limit, out);
    }
    let mut cursor = Cursor::new(input);
    cursor.take("snappy header", JAVA_HEADER_LEN)?;
    while cursor.remaining() > 0 {
        // Streams may be concatenated: the reader then meets another header where a length is due.
        if cursor.rest().starts_with(JAVA_MAGIC) {
            cursor.take("snappy header", JAVA_HEADER_LEN)?;
            continue;
        }
        let at = cursor.at();
        let length = cursor.i32("snappy block length")?;
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|&length| length <= cursor.remaining())
        else {
            return Err(Error::BadLength {
                what: "snappy block",
                at,
                length: i64::from(length),
            });
        };
        append_block(cursor.take("snappy block", length)?, limit, out)?;
    }
    Ok(())
}

fn append_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let declared =
        snap::raw::decompress_len(block).map_err(|error| failed(Codec::Snappy, error))?;
    if declared > limit.saturating_sub(out.len()) {
        return Err(Error::TooLarge {
            what: "decompressed batch",
            limit,
        });
    }
    // A copy of 64 bytes takes three: nothing expands more than that, so a larger size is a lie.
    if declared > block.len().saturating_mul(22) {
        return Err(failed(
            Codec::Snappy,
            format!("{} bytes cannot hold the declared {declared}", block.len()),
        ));
    }
    let start = out.len();
    out.reserve_exact(declared);
    out.resize(start + declared, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|error| failed(Codec::Snappy, error))?;
    out.truncate(start + written);
    Ok(())
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(JAVA_HEADER_LEN + input.len() / 2);
    out.extend_from_slice(JAVA_MAGIC);
    // Version and the oldest compatible version.
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(JAVA_BLOCK) {
        let length_at = out.len();
        let bound = snap::raw::max_compress_len(block.len());
        out.resize(length_at + 4 + bound, 0);
        let written = encoder
            .compress(block, &mut out[length_at + 4..])
            .map_err(|error| failed(Codec::Snappy, error))?;
        let length = i32::try_from(written).map_err(|error| failed(Codec::Snappy, error))?;
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        out.truncate(length_at + 4 + written);
    }
    Ok(out)
}
