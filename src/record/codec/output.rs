//! Output that grows with what is really decompressed and stops at a limit.

use super::Codec;
use crate::record::error::{Error, Result};
use std::fmt;
use std::io::Read;

/// The first guess at the output: enough for typical ratios, small enough that lying about sizes gains nothing.
fn first_size(input: usize) -> usize {
    input.saturating_mul(4).max(4096)
}

/// A vector that is written to as a slice and cut to what was written at the end.
pub(super) struct Output<'a> {
    out: &'a mut Vec<u8>,
    filled: usize,
    limit: usize,
    next: usize,
}

impl<'a> Output<'a> {
    pub fn new(out: &'a mut Vec<u8>, input: usize, limit: usize) -> Self {
        out.clear();
        Self {
            out,
            filled: 0,
            limit,
            next: first_size(input),
        }
    }

    /// Free space to write to; empty only when the limit is reached.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled == self.out.len() {
            let size = self.next.min(self.limit);
            if size > self.out.len() {
                // Exact, so that capacity keeps to the limit as well.
                self.out.reserve_exact(size - self.out.len());
                self.out.resize(size, 0);
                self.next = size.saturating_mul(2);
            }
        }
        &mut self.out[self.filled..]
    }

    pub fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    pub fn too_large(&self) -> Error {
        Error::TooLarge {
            what: "decompressed batch",
            limit: self.limit,
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.filled);
    }
}

/// Reads `reader` to its end into `out`, at most `limit` bytes.
pub(super) fn bounded_read(
    codec: Codec,
    reader: &mut impl Read,
    input: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut output = Output::new(out, input, limit);
    loop {
        let space = output.space();
        if space.is_empty() {
            // Exactly at the limit is still fine if nothing follows.
            return match reader.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(output.too_large()),
                Err(error) => Err(failed(codec, error)),
            };
        }
        match reader.read(space) {
            Ok(0) => return Ok(()),
            Ok(count) => output.advance(count),
            Err(error) => return Err(failed(codec, error)),
        }
    }
}

pub(super) fn failed(codec: Codec, why: impl fmt::Display) -> Error {
    Error::Codec {
        codec,
        why: why.to_string(),
    }
}
