//! Reading a source partition's archived blocks, in offset order.

use super::select::Cut;
use crate::archive::{BlockRef, Snapshot};
use crate::base::{Offset, TopicPartition};
use crate::engine::error::{Error, Result};
use std::ops::Range;

/// The blocks that may hold records within the bounds, and how many records lie in those that cannot.
pub struct Wanted {
    pub blocks: Vec<BlockRef>,
    pub out_of_time: u64,
}

impl Wanted {
    /// In the blocks, whether they are restored or not.
    pub fn records(&self) -> u64 {
        self.blocks.iter().map(|block| block.entry.records).sum()
    }

    /// Of the blocks' batches.
    pub fn bytes(&self) -> u64 {
        let blocks = self.blocks.iter();
        blocks.map(|block| u64::from(block.entry.raw_len)).sum()
    }
}

/// Asks the index; reads no block.
pub async fn wanted(snapshot: &Snapshot, partition: &TopicPartition, cut: &Cut) -> Result<Wanted> {
    let all = snapshot
        .blocks(
            &partition.topic,
            partition.partition,
            Offset(cut.from)..Offset(cut.to),
        )
        .await?;
    let mut wanted = Wanted {
        blocks: Vec::with_capacity(all.len()),
        out_of_time: 0,
    };
    for block in all {
        let inside = block.entry.first.0 >= cut.from && block.entry.last.0 < cut.to;
        if inside
            && cut
                .since
                .is_some_and(|since| block.entry.max_timestamp.0 < since)
        {
            wanted.out_of_time += block.entry.records;
        } else {
            wanted.blocks.push(block);
        }
    }
    Ok(wanted)
}

/// Whether the index alone tells that every record of the block is restored, one per offset.
pub fn index_tells(block: &BlockRef, cut: &Cut, filtered: bool) -> bool {
    let entry = &block.entry;
    let dense = entry.last - entry.first + 1 == entry.records as i64;
    dense
        && !filtered
        && entry.first.0 >= cut.from
        && entry.last.0 < cut.to
        && cut
            .before
            .is_none_or(|before| entry.max_timestamp.0 < before)
        && cut
            .since
            .is_none_or(|since| entry.min_timestamp_exact && entry.min_timestamp.0 >= since)
}

/// The offsets that are the block's own; its bytes may reach beyond them.
pub fn offsets(block: &BlockRef) -> Range<i64> {
    block.entry.first.0..block.entry.last.0 + 1
}

/// Runs `work` away from the reactor and gives the shaper back.
pub async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("a worker ended early: {error}")))?
}
