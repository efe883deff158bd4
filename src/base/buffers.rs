//! Large buffers that are used again.
//!
//! Records pass through memory in pieces of a megabyte or so. Taken from the allocator each time, such pieces leave it
//! with several times the memory that is in use at any moment, or cost a page fault per 4 KiB if it gives them back; so
//! a few of them are kept.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Smaller buffers are left to the allocator.
const SMALLEST: usize = 64 << 10;
/// Capacities are multiples of this, so that a buffer fits the next one who asks.
const STEP: usize = 256 << 10;
/// Larger buffers are rare (a record of tens of megabytes) and not kept.
const LARGEST: usize = 8 << 20;
/// Bytes that are kept while nobody uses them.
const KEPT: usize = 4 << 20;

/// Bytes that are kept once [`keep_all`] was called.
const ALL: usize = 48 << 20;

static SPARE: Mutex<Spare> = Mutex::new(Spare {
    buffers: VecDeque::new(),
    bytes: 0,
    keep: KEPT,
});

struct Spare {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Bytes that may be kept now.
    keep: usize,
}

impl Spare {
    /// Those that nobody has asked for longest go first.
    fn shrink(&mut self) {
        while self.bytes > self.keep {
            match self.buffers.pop_front() {
                Some(oldest) => self.bytes -= oldest.capacity(),
                None => break,
            }
        }
    }
}

/// From now on whatever comes back is kept, up to [`ALL`]: for work whose budget bounds what is taken at once.
///
/// A large buffer that the allocator gets back makes it take the next ones out of its heaps, of which there is one per
/// thread and which hardly ever shrink: that alone was 25 MiB of a restore's 90.
pub fn keep_all() {
    spare().keep = ALL;
}

fn spare() -> MutexGuard<'static, Spare> {
    // Nothing in here panics between two states.
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty buffer that holds at least `capacity` bytes.
pub fn take(capacity: usize) -> Vec<u8> {
    if !(SMALLEST..=LARGEST).contains(&capacity) {
        return Vec::with_capacity(capacity);
    }
    let capacity = capacity.next_multiple_of(STEP);
    let mut spare = spare();
    let fits = |buffer: &Vec<u8>| (capacity..=2 * capacity).contains(&buffer.capacity());
    let found = spare.buffers.iter().rposition(fits);
    match found.and_then(|index| spare.buffers.remove(index)) {
        Some(buffer) => {
            spare.bytes -= buffer.capacity();
            buffer
        }
        None => {
            drop(spare);
            Vec::with_capacity(capacity)
        }
    }
}

/// The buffer's bytes, to be shared; it is kept for the next [`take`] once nobody holds them any more. A few bytes in a
/// large buffer are copied: thousands of them may be gathered before they go on.
pub fn share(buffer: Vec<u8>) -> Bytes {
    if !is_kept(buffer.capacity()) {
        return Bytes::from(buffer);
    }
    let shared = Shared(buffer);
    match shared.0.len() < shared.0.capacity() / 4 {
        true => Bytes::copy_from_slice(&shared.0),
        false => Bytes::from_owner(shared),
    }
}

/// A buffer that is of no use any more, for the next [`take`].
pub fn give_back(buffer: Vec<u8>) {
    if is_kept(buffer.capacity()) {
        keep(buffer);
    }
}

fn keep(mut buffer: Vec<u8>) {
    buffer.clear();
    let mut spare = spare();
    spare.bytes += buffer.capacity();
    spare.buffers.push_back(buffer);
    spare.shrink();
}

/// Buffers of other capacities fit nobody and would only take the place of those that do.
fn is_kept(capacity: usize) -> bool {
    capacity > 0 && capacity <= LARGEST && capacity.is_multiple_of(STEP)
}

struct Shared(Vec<u8>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        keep(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_once_nobody_holds_its_bytes() {
        let mut buffer = take(3 << 20);
        buffer.resize(1 << 20, b'x');
        let place = buffer.as_ptr();
        let bytes = share(buffer);
        let part = bytes.slice(2..5);
        drop(bytes);
        // Other tests of this process may take from the same store, hence no claim on where this one lies.
        let other = take(3 << 20);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(&part[..], b"xxx");
    }

    #[test]
    fn a_few_bytes_do_not_keep_a_large_buffer() {
        let mut buffer = take(3 << 20);
        buffer.extend_from_slice(b"records");
        let place = buffer.as_ptr();
        let bytes = share(buffer);
        assert_eq!(&bytes[..], b"records");
        assert_ne!(bytes.as_ptr(), place);
    }

    #[test]
    fn what_is_asked_for_is_there_whatever_its_size() {
        for size in [0, 1, SMALLEST, SMALLEST + 1, STEP + 1, LARGEST, LARGEST + 1] {
            let buffer = take(size);
            assert!(buffer.capacity() >= size);
            assert!(buffer.is_empty());
        }
    }
}
