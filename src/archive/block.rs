//! How blocks are compressed, and their batches from what is stored. Slices only.

use super::segment::{BlockCodec, BlockEntry, FormatError};
use crate::record::{self, Codec};
use serde::{Deserialize, Serialize};

/// How blocks are compressed when that pays. Batches that their producer has compressed are stored as they are
/// whatever is chosen here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockCompression {
    None,
    /// zstd at its fastest regular level, and not for data that does not shrink: a backup must keep up with the network.
    #[default]
    Auto,
    /// zstd at this level, 1 to 22.
    Zstd {
        level: i32,
    },
    Lz4,
}

/// zstd's levels that [`BlockCompression::Zstd`] takes.
pub const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=22;

impl BlockCompression {
    /// zstd at the level that it takes by itself.
    pub const ZSTD: Self = BlockCompression::Zstd { level: 3 };
    /// What [`Self::parse`] takes.
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
        Some(match text {
            "none" => Self::None,
            "auto" => Self::Auto,
            "zstd" => Self::ZSTD,
            "lz4" => Self::Lz4,
            _ => return None,
        })
    }
}

/// Checks the stored bytes against the index entry and gives the batches back in `raw`. It grows no further than to the
/// entry's `raw_len`.
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
    record::decompress_exactly(codec, stored, entry.raw_len as usize, raw)
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
