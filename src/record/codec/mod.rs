//! Kafka's compression codecs, decompressing into a buffer that never grows past the caller's limit.
//!
//! A declared size is only ever a reason to refuse: output grows as data really comes out, so a few bytes that
//! promise gigabytes cost nothing.

mod lz4;
mod output;
mod snappy;
mod zstd;

use super::error::{Error, Result};
use output::{bounded_read, failed};
use std::fmt;
use std::io::Write;

/// How the records of a batch are compressed, by the number in its attributes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    pub fn id(self) -> i16 {
        self as i16
    }

    pub fn from_id(id: i16) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.id() == id)
            .ok_or(Error::UnknownCodec { id })
    }

    /// As Kafka's `compression.type` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of that name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much memory opening one batch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one batch's records once decompressed. Brokers bound the compressed size only, so this is what
    /// stops a decompression bomb.
    pub max_decompressed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_decompressed: 256 * 1024 * 1024,
        }
    }
}

/// Decompresses `input` into `out`, whose old content is dropped. On an error `out` holds what came out so far.
pub fn decompress(codec: Codec, input: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Result<()> {
    let limit = limits.max_decompressed;
    out.clear();
    match codec {
        Codec::None if input.len() > limit => Err(Error::TooLarge {
            what: "batch",
            limit,
        }),
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        // Java writes one member and reads any number.
        Codec::Gzip => bounded_read(
            codec,
            &mut flate2::bufread::MultiGzDecoder::new(input),
            input.len(),
            limit,
            out,
        ),
        Codec::Snappy => snappy::decompress(input, limit, out),
        Codec::Lz4 => lz4::decompress(input, limit, out),
        Codec::Zstd => zstd::decompress(input, limit, out),
    }
}

/// Decompresses what is known to give `length` bytes. Into a buffer with room for them nothing else is allocated.
pub fn decompress_exactly(
    codec: Codec,
    input: &[u8],
    length: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.clear();
    let limits = Limits {
        max_decompressed: length,
    };
    match codec {
        // Frames that say so themselves: a length that is only claimed must not cost its memory.
        Codec::Zstd if zstd::content_size(input) == Some(length as u64) => {
            out.reserve_exact(length);
            zstd::decompress_at_once(input, out)
        }
        codec => decompress(codec, input, &limits, out),
    }
}

/// Compresses `input` as Kafka's Java producer frames it. `level` means something to gzip (0–9) and zstd (1–22) only;
/// `None` is the codec's own default, as Kafka's.
pub fn compress(codec: Codec, level: Option<i32>, input: &[u8]) -> Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(input.to_vec()),
        Codec::Gzip => {
            let level = level
                .and_then(|level| u32::try_from(level).ok())
                .map_or_else(flate2::Compression::default, |level| {
                    flate2::Compression::new(level.min(9))
                });
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::with_capacity(input.len() / 2), level);
            encoder
                .write_all(input)
                .and_then(|()| encoder.finish())
                .map_err(|error| failed(codec, error))
        }
        Codec::Snappy => snappy::compress(input),
        Codec::Lz4 => lz4::compress(input),
        Codec::Zstd => zstd::compress(level, input),
    }
}
