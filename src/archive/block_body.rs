//! The bytes of the block that is being written, on their way to the store.
//!
//! How a block is stored is decided by its beginning; from there on its bytes go on at once, into the object as they
//! are or into the encoder. So a block takes the memory of a sample and of its compressed form, never of all of it.

use super::block::BlockCompression;
use super::block_encoder::BlockEncoder;
use super::segment::BlockCodec;
use super::{Error, Result};
use crate::store::ObjectWriter;
use bytes::{Bytes, BytesMut};
use std::io;

/// Slices below this are copied together: a payload of thousands of tiny ones is slower to write than to copy.
const SMALL_SLICE: usize = 64 << 10;
/// So much of a block decides how all of it is stored.
const SAMPLE: usize = 128 << 10;
/// Raw bytes that are handed to the encoder at once: compression is CPU work and leaves the reactor.
const ENCODED_AT_ONCE: usize = 512 << 10;

pub(super) struct BlockBody {
    compression: BlockCompression,
    state: State,
    /// The block before has shrunk: this one will, and is not tried first.
    likely: bool,
    small: BytesMut,
    len: usize,
    compressed_len: usize,
}

/// A block as it is stored.
pub(super) struct StoredBlock {
    pub codec: BlockCodec,
    pub len: usize,
    pub crc: u32,
}

enum State {
    /// In memory: not enough yet to say how the block is to be stored.
    Sample(Slices),
    /// Stored as it is, and written up to here.
    Plain { crc: u32, len: usize },
    /// In the encoder but for a few; what has come out of it is written.
    Encoded {
        encoder: Box<BlockEncoder>,
        pending: Slices,
        crc: u32,
        len: usize,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Sample(Slices::default())
    }
}

#[derive(Default)]
struct Slices {
    list: Vec<Bytes>,
    len: usize,
}

impl Slices {
    fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.list.push(bytes);
    }

    /// The first bytes, at most so many.
    fn first(&self, mut most: usize) -> Vec<Bytes> {
        let mut first = Vec::new();
        for slice in &self.list {
            let part = slice.slice(..slice.len().min(most));
            most -= part.len();
            first.push(part);
        }
        first
    }
}

impl BlockBody {
    pub(super) fn new(compression: BlockCompression, likely: bool) -> Self {
        Self {
            compression,
            likely,
            state: State::default(),
            small: BytesMut::new(),
            len: 0,
            compressed_len: 0,
        }
    }

    /// So many of the bytes that follow are batches which their producer has compressed.
    pub(super) fn comes_compressed(&mut self, bytes: usize) {
        self.compressed_len += bytes;
    }

    pub(super) async fn push(&mut self, bytes: Bytes, object: &mut ObjectWriter) -> Result<()> {
        self.len += bytes.len();
        if bytes.len() >= SMALL_SLICE {
            self.push_small(object).await?;
            return self.push_slice(bytes, object).await;
        }
        self.small.extend_from_slice(&bytes);
        match self.small.len() >= SMALL_SLICE {
            true => self.push_small(object).await,
            false => Ok(()),
        }
    }

    async fn push_small(&mut self, object: &mut ObjectWriter) -> Result<()> {
        match self.small.is_empty() {
            true => Ok(()),
            false => {
                let bytes = self.small.split().freeze();
                self.push_slice(bytes, object).await
            }
        }
    }

    async fn push_slice(&mut self, bytes: Bytes, object: &mut ObjectWriter) -> Result<()> {
        match &mut self.state {
            State::Sample(sample) => {
                sample.push(bytes);
                match sample.len >= SAMPLE {
                    true => self.decide(object).await,
                    false => Ok(()),
                }
            }
            State::Plain { crc, len } => {
                *crc = crc32c::crc32c_append(*crc, &bytes);
                *len += bytes.len();
                Ok(object.write(bytes).await?)
            }
            State::Encoded { pending, .. } => {
                pending.push(bytes);
                match pending.len >= ENCODED_AT_ONCE {
                    true => self.encode(object).await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Enough of the block is here to say how it is stored.
    async fn decide(&mut self, object: &mut ObjectWriter) -> Result<()> {
        let State::Sample(sample) = std::mem::take(&mut self.state) else {
            return Ok(());
        };
        let pays = match self.likely && !self.came_compressed() {
            true => true,
            false => self.compressed(&sample).await?.is_some(),
        };
        let encoder = match pays {
            true => BlockEncoder::new(self.compression).map_err(not_compressed)?,
            false => None,
        };
        if let Some(encoder) = encoder {
            self.state = State::Encoded {
                encoder: Box::new(encoder),
                pending: sample,
                crc: 0,
                len: 0,
            };
            return Ok(());
        }
        let stored = write(BlockCodec::None, sample.list, object).await?;
        self.state = State::Plain {
            crc: stored.crc,
            len: stored.len,
        };
        Ok(())
    }

    /// The sample compressed (at most [`SAMPLE`] bytes of it), if compression is asked for and saves enough. Batches that
    /// their producer has compressed are not tried.
    async fn compressed(&mut self, sample: &Slices) -> Result<Option<(BlockCodec, Vec<Bytes>)>> {
        let compression = self.compression;
        if compression == BlockCompression::None || self.came_compressed() {
            return Ok(None);
        }
        let slices = sample.first(SAMPLE);
        let stored = blocking(move || encode_all(compression, &slices)).await?;
        let length = |stored: &[Bytes]| stored.iter().map(Bytes::len).sum::<usize>();
        let tried = sample.len.min(SAMPLE);
        Ok(stored.filter(|(_, stored)| pays(length(stored), tried)))
    }

    fn came_compressed(&self) -> bool {
        self.compressed_len * 2 >= self.len
    }

    /// Hands what is pending to the encoder.
    async fn encode(&mut self, object: &mut ObjectWriter) -> Result<()> {
        let State::Encoded {
            mut encoder,
            pending,
            mut crc,
            mut len,
        } = std::mem::take(&mut self.state)
        else {
            return Ok(());
        };
        let (encoder, stored) = blocking(move || {
            let stored = encoder.write(&pending.list)?;
            Ok((encoder, stored))
        })
        .await?;
        for bytes in stored {
            crc = crc32c::crc32c_append(crc, &bytes);
            len += bytes.len();
            object.write(bytes).await?;
        }
        self.state = State::Encoded {
            encoder,
            pending: Slices::default(),
            crc,
            len,
        };
        Ok(())
    }

    /// The last bytes go out.
    pub(super) async fn close(mut self, object: &mut ObjectWriter) -> Result<StoredBlock> {
        self.push_small(object).await?;
        if let State::Encoded { .. } = self.state {
            self.encode(object).await?;
        }
        match std::mem::take(&mut self.state) {
            State::Plain { crc, len } => Ok(StoredBlock {
                codec: BlockCodec::None,
                len,
                crc,
            }),
            State::Encoded {
                encoder, crc, len, ..
            } => {
                let codec = encoder.codec();
                let mut stored = StoredBlock { codec, len, crc };
                for last in blocking(move || encoder.finish()).await? {
                    stored.len += last.len();
                    stored.crc = crc32c::crc32c_append(stored.crc, &last);
                    object.write(last).await?;
                }
                Ok(stored)
            }
            // All of a small block is its sample.
            State::Sample(sample) => match self.compressed(&sample).await? {
                Some((codec, stored)) => write(codec, stored, object).await,
                None => write(BlockCodec::None, sample.list, object).await,
            },
        }
    }
}

async fn write(
    codec: BlockCodec,
    slices: Vec<Bytes>,
    object: &mut ObjectWriter,
) -> Result<StoredBlock> {
    let (mut len, mut crc) = (0, 0);
    for slice in slices {
        len += slice.len();
        crc = crc32c::crc32c_append(crc, &slice);
        object.write(slice).await?;
    }
    Ok(StoredBlock { codec, len, crc })
}

/// Whether compression has saved an eighth.
pub(super) fn pays(stored: usize, raw: usize) -> bool {
    stored <= raw - raw / 8
}

/// The whole of `slices` as one block; `None` if blocks are stored as they are.
fn encode_all(
    compression: BlockCompression,
    slices: &[Bytes],
) -> io::Result<Option<(BlockCodec, Vec<Bytes>)>> {
    let Some(mut encoder) = BlockEncoder::new(compression)? else {
        return Ok(None);
    };
    let codec = encoder.codec();
    let mut stored = encoder.write(slices)?;
    stored.extend(encoder.finish()?);
    Ok(Some((codec, stored)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(not_compressed)?
        .map_err(not_compressed)
}

fn not_compressed(error: impl std::fmt::Display) -> Error {
    Error::Task {
        op: "compressing a block",
        why: error.to_string(),
    }
}
