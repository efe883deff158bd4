//! The records that must be in the target: the archive's, as selected.

use super::Chunks;
use crate::archive::Snapshot;
use crate::base::{CancellationToken, Digest, Offset};
use crate::engine::error::{Error, Result};
use crate::engine::restore::{Fate, Selector, WritePartition, WriteTopic, scan, selector};
use crate::record::{Limits, batches};

/// How many there are, and their digests.
pub async fn digests(
    write: &WriteTopic,
    partition: &WritePartition,
    snapshot: &Snapshot,
    cancel: &CancellationToken,
) -> Result<(u64, Vec<Digest>)> {
    let mut selector = selector(write, partition);
    let wanted = scan::wanted(snapshot, &selector.partition, &selector.cut).await?;
    let mut chunks = Chunks::default();
    for block in &wanted.blocks {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let bytes = snapshot.read_block(block).await?;
        let offsets = scan::offsets(block);
        (selector, chunks) = scan::off_reactor(move || {
            let cut = selector.cut;
            selector.cut = cut.within(&offsets);
            add_block(&bytes, &mut selector, &mut chunks)?;
            selector.cut = cut;
            Ok((selector, chunks))
        })
        .await?;
    }
    Ok(chunks.finish())
}

fn add_block(bytes: &[u8], selector: &mut Selector, chunks: &mut Chunks) -> Result<()> {
    let partition = selector.partition.clone();
    let damaged = |offset: i64| {
        let partition = partition.clone();
        move |source| Error::Record {
            partition,
            offset: Offset(offset),
            source,
        }
    };
    let mut scratch = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.map_err(damaged(selector.cut.from))?;
        let at = batch.header.base_offset;
        if batch.header.last_offset() < selector.cut.from || at >= selector.cut.to {
            continue;
        }
        for record in batch
            .open(&Limits::default(), &mut scratch)
            .map_err(damaged(at))?
        {
            let record = record.map_err(damaged(at))?;
            if selector.record(&record)? == Fate::Keep {
                chunks.add(&record);
            }
        }
    }
    Ok(())
}
