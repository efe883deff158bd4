//! A block's bytes: what is stored for a run of whole batches, and back. Slices only.

use super::segment::{BlockCodec, BlockEntry, FormatError};
use crate::base::buffers;
use crate::record::{self, Codec, Limits};
use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

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
/// The level of `auto`.
const FAST_LEVEL: i32 = 1;

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

/// Compressed bytes leave an encoder in buffers of this size, half full or more. The other half has room for what a piece
/// and what the encoder holds back (a block of the codec's own) can come to.
const OUT: usize = 1 << 20;
/// Raw bytes that are compressed at once.
const PIECE: usize = 128 << 10;

/// Makes a block's stored form while its batches come in.
pub(super) enum BlockEncoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
}

impl BlockEncoder {
    /// `None` if blocks are to be stored as they are.
    pub(super) fn new(compression: BlockCompression) -> io::Result<Option<Self>> {
        let level = match compression {
            BlockCompression::None => return Ok(None),
            BlockCompression::Auto => FAST_LEVEL,
            BlockCompression::Zstd { level } => level,
            BlockCompression::Lz4 => {
                let mut info = FrameInfo::new();
                info.block_size = BlockSize::Max256KB;
                let encoder = FrameEncoder::with_frame_info(info, Vec::new());
                return Ok(Some(Self::Lz4(Box::new(encoder))));
            }
        };
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
        Ok(Some(Self::Zstd(encoder)))
    }

    pub(super) fn codec(&self) -> BlockCodec {
        match self {
            Self::Zstd(_) => BlockCodec::Zstd,
            Self::Lz4(_) => BlockCodec::Lz4,
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Lz4(encoder) => encoder.get_mut(),
        }
    }

    /// Compresses some more, and hands out what is finished so far: maybe nothing.
    pub(super) fn write(&mut self, slices: &[Bytes]) -> io::Result<Vec<Bytes>> {
        let mut stored = Vec::new();
        for piece in slices.iter().flat_map(|slice| slice.chunks(PIECE)) {
            self.make_room();
            match self {
                Self::Zstd(encoder) => encoder.write_all(piece)?,
                Self::Lz4(encoder) => encoder.write_all(piece)?,
            }
            if self.out().len() >= OUT / 2 {
                stored.push(buffers::share(std::mem::take(self.out())));
            }
        }
        Ok(stored)
    }

    fn make_room(&mut self) {
        if self.out().capacity() == 0 {
            *self.out() = buffers::take(OUT);
        }
    }

    /// The last bytes of the block.
    pub(super) fn finish(mut self) -> io::Result<Bytes> {
        self.make_room();
        Ok(buffers::share(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
        }))
    }
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
