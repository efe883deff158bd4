//! A block's bytes: what is stored for a run of whole batches, and back. Slices only.

use super::segment::{BlockCodec, BlockEntry, FormatError};
use crate::record::{self, Codec, Limits};
use serde::{Deserialize, Serialize};

/// How blocks are compressed when that pays. Batches that their producer has compressed are stored as they are
/// whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockCompression {
    None,
    /// zstd's fastest regular level, since a backup must keep up with the network.
    #[default]
    Auto,
    Zstd {
        level: i32,
    },
    Lz4,
}

impl BlockCompression {
    pub const NAMES: [&'static str; 4] = ["auto", "none", "zstd", "lz4"];

    pub fn name(self) -> &'static str {
        match self {
            BlockCompression::None => "none",
            BlockCompression::Auto => "auto",
            BlockCompression::Zstd { .. } => "zstd",
            BlockCompression::Lz4 => "lz4",
        }
    }

    /// By name; zstd at its usual level.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(BlockCompression::None),
            "auto" => Some(BlockCompression::Auto),
            "zstd" => Some(BlockCompression::ZSTD),
            "lz4" => Some(BlockCompression::Lz4),
            _ => None,
        }
    }

    /// zstd at the level that it takes by itself.
    pub const ZSTD: Self = BlockCompression::Zstd { level: 3 };

    fn codec(self) -> Option<(Codec, Option<i32>, BlockCodec)> {
        match self {
            BlockCompression::None => None,
            BlockCompression::Auto => Some((Codec::Zstd, Some(FAST), BlockCodec::Zstd)),
            BlockCompression::Zstd { level } => Some((Codec::Zstd, Some(level), BlockCodec::Zstd)),
            BlockCompression::Lz4 => Some((Codec::Lz4, None, BlockCodec::Lz4)),
        }
    }
}

/// zstd's levels that [`BlockCompression::Zstd`] takes.
pub const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

const FAST: i32 = 1;

/// Compresses a block's batches; `None` if that is not asked for or saves less than an eighth.
pub fn compress_block(
    compression: BlockCompression,
    raw: &[u8],
) -> Result<Option<(BlockCodec, Vec<u8>)>, record::Error> {
    let Some((codec, level, block_codec)) = compression.codec() else {
        return Ok(None);
    };
    let stored = record::compress(codec, level, raw)?;
    Ok((stored.len() <= raw.len() - raw.len() / 8).then_some((block_codec, stored)))
}

/// Checks the stored bytes against the index entry and gives the batches back in `raw`. The output never grows past
/// the entry's `raw_len`.
pub fn decode_block(
    entry: &BlockEntry,
    stored: &[u8],
    raw: &mut Vec<u8>,
) -> Result<(), BlockError> {
    check_stored(entry, stored)?;
    let codec = match entry.codec {
        BlockCodec::None => {
            raw.clear();
            raw.extend_from_slice(stored);
            return Ok(());
        }
        BlockCodec::Zstd => Codec::Zstd,
        BlockCodec::Lz4 => Codec::Lz4,
    };
    let limits = Limits {
        max_decompressed: entry.raw_len as usize,
    };
    record::decompress(codec, stored, &limits, raw)
        .map_err(|error| FormatError::Broken(format!("its compression: {error}")))?;
    if raw.len() != entry.raw_len as usize {
        return Err(FormatError::Broken(format!(
            "a block of {} bytes is {} bytes once decompressed",
            entry.raw_len,
            raw.len()
        ))
        .into());
    }
    Ok(())
}

/// Checks stored bytes without decompressing them.
pub fn check_stored(entry: &BlockEntry, stored: &[u8]) -> Result<(), BlockError> {
    if stored.len() != entry.stored_len as usize || crc32c::crc32c(stored) != entry.crc {
        return Err(BlockError::Checksum);
    }
    Ok(())
}

/// Why a block cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("it fails its CRC32C")]
    Checksum,
    #[error(transparent)]
    Format(#[from] FormatError),
}
