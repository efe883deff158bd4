//! A digest of what records say: equal for source and target if and only if every record, in order, has the same
//! timestamp, key, value and headers. Offsets, codecs and batch boundaries are left out, since restoring changes them.

use super::records::Record;
use crate::base::Digest;

/// Small records are gathered before they are hashed: BLAKE3 is fast on long input only.
const GATHER: usize = 64 * 1024;

/// A running BLAKE3 hash over records. Every part is preceded by its length, null by −1, so that no two different
/// sequences of records give the same bytes.
#[derive(Clone, Default)]
pub struct ContentDigest {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
    records: u64,
}

impl ContentDigest {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.put(&record.timestamp.to_le_bytes());
        self.nullable(record.key);
        self.nullable(record.value);
        self.put(&(record.headers.len() as u64).to_le_bytes());
        for header in record.headers {
            self.nullable(Some(header.key));
            self.nullable(header.value);
        }
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    pub fn finish(mut self) -> Digest {
        self.hasher.update(&self.gathered);
        Digest(*self.hasher.finalize().as_bytes())
    }

    fn nullable(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.put(&(-1i64).to_le_bytes()),
            Some(bytes) => {
                self.put(&(bytes.len() as i64).to_le_bytes());
                self.put(bytes);
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHER {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
        if bytes.len() > GATHER {
            self.hasher.update(bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
        }
    }
}

impl std::fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContentDigest({} records)", self.records)
    }
}
