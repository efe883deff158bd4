//! A request's frame in pieces: record batches are large, and go from where they lie to the socket without being copied.

use super::versions::CORRELATION_AT;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Below this a piece is copied: a list of tiny pieces would cost more than they do.
const COPIED: usize = 4 << 10;

/// What a request is on the wire, its size in front.
#[derive(Debug)]
pub(super) struct Frame {
    /// Size, api key, version and correlation id at least.
    head: BytesMut,
    rest: Vec<Bytes>,
}

impl From<BytesMut> for Frame {
    fn from(head: BytesMut) -> Self {
        let rest = Vec::new();
        Self { head, rest }
    }
}

impl Frame {
    pub(super) fn set_correlation_id(&mut self, correlation_id: i32) {
        self.head[CORRELATION_AT].copy_from_slice(&correlation_id.to_be_bytes());
    }

    pub(super) fn pieces(self) -> Pieces {
        let mut pieces = VecDeque::with_capacity(1 + self.rest.len());
        pieces.push_back(self.head.freeze());
        pieces.extend(self.rest);
        let left = pieces.iter().map(Bytes::len).sum();
        Pieces { pieces, left }
    }
}

/// Puts a frame together.
pub(super) struct FrameBuilder {
    frame: Frame,
    /// What comes behind the last piece.
    current: BytesMut,
}

impl FrameBuilder {
    /// `head`: four bytes for the size, which [`FrameBuilder::finish`] fills in, and the request's header.
    pub(super) fn new(head: BytesMut) -> Self {
        Self {
            current: head,
            frame: Frame::from(BytesMut::new()),
        }
    }

    /// To write into.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.current
    }

    pub(super) fn piece(&mut self, bytes: &Bytes) {
        if bytes.len() < COPIED {
            self.current.extend_from_slice(bytes);
            return;
        }
        self.close();
        self.frame.rest.push(bytes.clone());
    }

    fn close(&mut self) {
        let written = std::mem::take(&mut self.current);
        if self.frame.head.is_empty() {
            self.frame.head = written;
        } else if !written.is_empty() {
            self.frame.rest.push(written.freeze());
        }
    }

    pub(super) fn finish(mut self) -> Result<Frame, String> {
        self.close();
        let mut frame = self.frame;
        let rest: usize = frame.rest.iter().map(Bytes::len).sum();
        let size = i32::try_from(frame.head.len() + rest - 4)
            .map_err(|_| "the request is over 2 GiB".to_string())?;
        frame.head[..4].copy_from_slice(&size.to_be_bytes());
        Ok(frame)
    }
}

/// What of a frame is still to be written.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "past the end of a frame");
        self.left -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_stay_where_they_are_and_small_ones_are_copied() {
        let (large, small) = (Bytes::from(vec![1; COPIED]), Bytes::from_static(b"small"));
        let mut builder = FrameBuilder::new(BytesMut::from(&[0; 12][..]));
        builder.piece(&small);
        builder.piece(&large);
        builder.piece(&large);
        builder.out().extend_from_slice(b"end");
        let mut frame = builder.finish().unwrap();
        frame.set_correlation_id(7);
        let mut pieces = frame.pieces();
        let size = 8 + 5 + 2 * COPIED + 3;
        assert_eq!(pieces.remaining(), 4 + size);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(pieces.chunks_vectored(&mut slices), 4);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        // As a socket takes it: in whatever amounts.
        let mut written = Vec::new();
        while pieces.has_remaining() {
            let chunk = pieces.chunk();
            let count = chunk.len().min(1000);
            written.extend_from_slice(&chunk[..count]);
            pieces.advance(count);
        }
        assert_eq!(written[..4], (size as u32).to_be_bytes());
        assert_eq!(written[8..12], 7i32.to_be_bytes());
        assert_eq!(&written[12..17], b"small");
        assert_eq!(
            written[17..17 + 2 * COPIED],
            [&large[..], &large[..]].concat()
        );
        assert_eq!(&written[17 + 2 * COPIED..], b"end");
    }
}
