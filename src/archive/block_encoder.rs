//! Makes a block's stored form while its batches come in.

use super::block::BlockCompression;
use super::segment::BlockCodec;
use crate::base::buffers;
use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use zstd::bulk::Compressor;

/// Compressed bytes leave an encoder in buffers of this size, half full or more. The other half has room for what a piece
/// and what the encoder holds back (a block of the codec's own) can come to.
const OUT: usize = 1 << 20;
/// Raw bytes that are compressed at once.
const PIECE: usize = 128 << 10;
/// The level of `auto`.
const FAST_LEVEL: i32 = 1;

pub(super) enum BlockEncoder {
    /// One frame.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// Frame after frame.
    Frames(Box<Frames>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
}

impl BlockEncoder {
    /// `None` if blocks are to be stored as they are.
    pub(super) fn new(compression: BlockCompression) -> io::Result<Option<Self>> {
        Ok(Some(match compression {
            BlockCompression::None => return Ok(None),
            BlockCompression::Auto => Self::Frames(Box::new(Frames::new()?)),
            BlockCompression::Zstd { level } => {
                Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), level)?)
            }
            BlockCompression::Lz4 => {
                let mut info = FrameInfo::new();
                info.block_size = BlockSize::Max256KB;
                let encoder = FrameEncoder::with_frame_info(info, Vec::new());
                Self::Lz4(Box::new(encoder))
            }
        }))
    }

    pub(super) fn codec(&self) -> BlockCodec {
        match self {
            Self::Zstd(_) | Self::Frames(_) => BlockCodec::Zstd,
            Self::Lz4(_) => BlockCodec::Lz4,
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Frames(frames) => &mut frames.out,
            Self::Lz4(encoder) => encoder.get_mut(),
        }
    }

    /// Compresses some more, and hands out what is finished so far: maybe nothing.
    pub(super) fn write(&mut self, slices: &[Bytes]) -> io::Result<Vec<Bytes>> {
        let mut stored = Vec::new();
        if let Self::Frames(frames) = self {
            for slice in slices {
                frames.write(slice, &mut stored)?;
            }
            return Ok(stored);
        }
        for piece in slices.iter().flat_map(|slice| slice.chunks(PIECE)) {
            self.make_room();
            match self {
                Self::Zstd(encoder) => encoder.write_all(piece)?,
                Self::Lz4(encoder) => encoder.write_all(piece)?,
                Self::Frames(_) => {}
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
    pub(super) fn finish(mut self) -> io::Result<Vec<Bytes>> {
        self.make_room();
        let last = match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Frames(frames) => return frames.finish(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
        };
        Ok(vec![buffers::share(last)])
    }
}

/// zstd frames, each of one piece of memory. The encoder keeps no window of its own, so nothing is copied into one, and
/// nothing has to be looked up across the ends of two pieces, which is what makes a stream of small pieces slow: a sixth
/// less work for a hundredth more bytes at the fastest level.
pub(super) struct Frames {
    encoder: Compressor<'static>,
    /// Slices too small for a frame each.
    gathered: Vec<u8>,
    out: Vec<u8>,
}

/// Contexts between two blocks: their tables are large, and made anew they would be scattered over the heaps of all
/// threads. All are of [`FAST_LEVEL`].
static IDLE: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
/// No more blocks than this are in the making at once.
const MOST_IDLE: usize = 8;

impl Frames {
    /// Raw bytes of a frame: below the least, slices are copied together.
    const LEAST: usize = 256 << 10;
    const MOST: usize = 1 << 20;

    fn new() -> io::Result<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Self {
            encoder: match idle {
                Some(encoder) => encoder,
                None => Compressor::new(FAST_LEVEL)?,
            },
            gathered: Vec::new(),
            out: Vec::new(),
        })
    }

    fn write(&mut self, mut slice: &[u8], stored: &mut Vec<Bytes>) -> io::Result<()> {
        if !self.gathered.is_empty() || slice.len() < Self::LEAST {
            let (now, later) = slice.split_at(slice.len().min(Self::LEAST));
            if self.gathered.capacity() == 0 {
                self.gathered = buffers::take(2 * Self::LEAST);
            }
            self.gathered.extend_from_slice(now);
            slice = later;
            if self.gathered.len() < Self::LEAST {
                return Ok(());
            }
            self.frame_of_gathered(stored)?;
        }
        // No frame is much smaller than the others: what is left of a slice goes with the next one.
        while slice.len() >= Self::LEAST {
            let (piece, rest) = slice.split_at(slice.len().min(Self::MOST));
            self.frame(piece, stored)?;
            slice = rest;
        }
        match slice.is_empty() {
            true => Ok(()),
            false => self.write(slice, stored),
        }
    }

    fn frame_of_gathered(&mut self, stored: &mut Vec<Bytes>) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        self.frame(&gathered, stored)?;
        // Back to the others.
        drop(buffers::share(gathered));
        Ok(())
    }

    fn frame(&mut self, piece: &[u8], stored: &mut Vec<Bytes>) -> io::Result<()> {
        let most = zstd::zstd_safe::compress_bound(piece.len());
        let mut frame = buffers::take(most);
        self.encoder.compress_to_buffer(piece, &mut frame)?;
        if self.out.len() + frame.len() > self.out.capacity() && !self.out.is_empty() {
            stored.push(buffers::share(std::mem::take(&mut self.out)));
        }
        if frame.len() >= OUT / 2 {
            stored.push(buffers::share(frame));
            return Ok(());
        }
        if self.out.capacity() == 0 {
            self.out = buffers::take(OUT);
        }
        self.out.extend_from_slice(&frame);
        drop(buffers::share(frame));
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<Bytes>> {
        let mut stored = Vec::new();
        if !self.gathered.is_empty() {
            self.frame_of_gathered(&mut stored)?;
        }
        stored.push(buffers::share(self.out));
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(self.encoder);
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text that shrinks.
    fn text(len: usize) -> Vec<u8> {
        let lines: String = (0..5_000)
            .map(|n| format!("order {n} of customer {}; ", n * 7919 % 1000))
            .collect();
        let mut text = lines.repeat(len / lines.len() + 1).into_bytes();
        text.truncate(len);
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn frames_are_what_was_written_however_it_was_cut(
            lengths in prop::collection::vec(
                prop_oneof![0..2_000usize, 60_000..600_000usize, 1_000_000..2_500_000usize], 1..9),
            together in 1..4usize,
        ) {
            let all = Bytes::from(text(lengths.iter().sum()));
            let mut at = 0;
            let slices: Vec<Bytes> = lengths.iter().map(|len| {
                at += len;
                all.slice(at - len..at)
            }).collect();
            let mut encoder = BlockEncoder::new(BlockCompression::Auto).unwrap().unwrap();
            let mut stored = Vec::new();
            for slices in slices.chunks(together) {
                stored.extend(encoder.write(slices).unwrap());
            }
            stored.extend(encoder.finish().unwrap());
            let stored: Vec<u8> = stored.concat();
            prop_assert!(zstd::stream::decode_all(&stored[..]).unwrap() == all);
            prop_assert!(all.len() < 10_000 || stored.len() < all.len() / 2);
        }
    }
}
