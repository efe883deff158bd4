//! Indexes of segments that were read and may be wanted again, within a bound of bytes: one of a pack of ten thousand
//! partitions takes megabytes, one of a single partition next to nothing.

use super::index_reader::LoadedIndex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Beyond this all but the newest are dropped, and read again when wanted.
const BYTES: usize = 32 << 20;

/// Empty while the index is read; whoever waits for it shares it.
pub(super) type Slot = Arc<OnceCell<Arc<LoadedIndex>>>;

#[derive(Default)]
pub(super) struct IndexCache {
    /// By the segment's path.
    slots: HashMap<String, Slot>,
    /// Of those that are loaded.
    bytes: usize,
}

impl IndexCache {
    pub(super) fn slot(&mut self, path: &str) -> Slot {
        if let Some(slot) = self.slots.get(path) {
            return slot.clone();
        }
        let slot = Slot::default();
        self.slots.insert(path.to_string(), slot.clone());
        slot
    }

    /// An index was read into its slot.
    pub(super) fn loaded(&mut self, path: &str, bytes: usize) {
        if !self.slots.contains_key(path) {
            // Dropped while it was read: who waits for it has it, and nobody else.
            return;
        }
        if self.bytes.saturating_add(bytes) > BYTES {
            self.slots.retain(|kept, _| kept == path);
            self.bytes = 0;
        }
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cache: &IndexCache) -> Vec<&str> {
        let mut kept: Vec<&str> = cache.slots.keys().map(String::as_str).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn indexes_are_kept_within_their_bytes_and_not_by_their_number() {
        let mut cache = IndexCache::default();
        for number in 0..5_000 {
            let path = format!("small-{number}");
            cache.slot(&path);
            cache.loaded(&path, 100);
        }
        assert_eq!(cache.slots.len(), 5_000);
        for path in ["a", "b", "c"] {
            cache.slot(path);
            cache.loaded(path, BYTES / 3);
        }
        assert_eq!((kept(&cache), cache.bytes), (vec!["c"], BYTES / 3));
        // One alone may be larger than all may be together.
        cache.slot("large");
        cache.loaded("large", BYTES * 2);
        assert_eq!(kept(&cache), ["large"]);
        cache.slot("d");
        cache.loaded("d", 1);
        assert_eq!((kept(&cache), cache.bytes), (vec!["d"], 1));
        // It was dropped before it was there.
        cache.loaded("a", 7);
        assert_eq!((kept(&cache), cache.bytes), (vec!["d"], 1));
    }
}
