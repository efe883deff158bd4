//! Zstandard frames. The decoder is kept per thread, since making one costs more than a small batch.

use super::Codec;
use super::output::{Output, failed};
use crate::record::error::{Error, Result};
use std::cell::RefCell;
use zstd::bulk::Decompressor;
use zstd::stream::raw::{DParameter, Decoder, Operation};
use zstd::zstd_safe;

/// Decoders must take windows of 8 MiB (RFC 8878), so the limit on output narrows the window no further.
const SMALLEST_WINDOW_LOG: u32 = 23;
/// What zstd itself stops at unless told otherwise: 128 MiB.
const LARGEST_WINDOW_LOG: u32 = 27;

thread_local! {
    static DECODER: RefCell<Option<Decoder<'static>>> = const { RefCell::new(None) };
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    DECODER.with(|slot| {
        let mut slot = slot.borrow_mut();
        let decoder = match &mut *slot {
            Some(decoder) => decoder,
            empty => empty.insert(Decoder::new().map_err(|error| failed(Codec::Zstd, error))?),
        };
        let done = run(decoder, input, limit, out);
        if done.is_err() {
            // What a damaged frame left behind goes with the decoder.
            *slot = None;
        }
        done
    })
}

fn run(decoder: &mut Decoder<'_>, input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    let window =
        (usize::BITS - limit.leading_zeros()).clamp(SMALLEST_WINDOW_LOG, LARGEST_WINDOW_LOG);
    decoder
        .reinit()
        .and_then(|()| decoder.set_parameter(DParameter::WindowLogMax(window)))
        .map_err(|error| failed(Codec::Zstd, error))?;
    let mut output = Output::new(out, input.len(), limit);
    let mut read = 0;
    // Zero at the end of a frame; several frames may follow each other.
    let mut pending = 1;
    loop {
        let mut beyond = [0];
        let space = output.space();
        let at_limit = space.is_empty();
        let space = if at_limit { &mut beyond[..] } else { space };
        if pending == 0 && read == input.len() {
            return Ok(());
        }
        let status = decoder
            .run_on_buffers(&input[read..], space)
            .map_err(|error| failed(Codec::Zstd, error))?;
        if at_limit && status.bytes_written > 0 {
            return Err(output.too_large());
        }
        if !at_limit {
            output.advance(status.bytes_written);
        }
        read += status.bytes_read;
        pending = status.remaining;
        if pending != 0 && status.bytes_read == 0 && status.bytes_written == 0 {
            return Err(Error::Truncated {
                what: "zstd frame",
                at: read,
                wanted: pending,
                have: input.len() - read,
            });
        }
    }
}

/// What the headers of all frames say they hold; `None` if one of them does not say, or is none.
pub(super) fn content_size(mut input: &[u8]) -> Option<u64> {
    let mut size: u64 = 0;
    while !input.is_empty() {
        let frame = zstd_safe::find_frame_compressed_size(input).ok()?;
        size = size.checked_add(zstd_safe::get_frame_content_size(input).ok()??)?;
        input = input.get(frame..)?;
    }
    Some(size)
}

thread_local! {
    static AT_ONCE: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Any number of frames at once, into what `out` has room for: without the window that a decoder keeps beside its
/// output, which for a frame in one segment is as large as the output.
pub(super) fn decompress_at_once(input: &[u8], out: &mut Vec<u8>) -> Result<()> {
    AT_ONCE.with(|slot| {
        let mut slot = slot.borrow_mut();
        let decompressor = match &mut *slot {
            Some(decompressor) => decompressor,
            empty => empty.insert(Decompressor::new().map_err(|error| failed(Codec::Zstd, error))?),
        };
        decompressor
            .decompress_to_buffer(input, out)
            .map(|_| ())
            .map_err(|error| failed(Codec::Zstd, error))
    })
}

pub(super) fn compress(level: Option<i32>, input: &[u8]) -> Result<Vec<u8>> {
    ::zstd::bulk::compress(input, level.unwrap_or(::zstd::DEFAULT_COMPRESSION_LEVEL))
        .map_err(|error| failed(Codec::Zstd, error))
}
