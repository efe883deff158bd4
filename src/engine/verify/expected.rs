//! The records that must be in the target: the archive's, as selected, in the order of the units. It goes through the
//! records one by one; how the writer cut batches or mapped offsets plays no part.

use super::{Chunks, Reading};
use crate::archive::{BlockCodec, BlockRef, Snapshot};
use crate::base::{Offset, PartitionId};
use crate::engine::error::{Error, Result};
use crate::engine::restore::units::{BlockFacts, Flow};
use crate::engine::restore::{
    Fate, HeaderRule, Routing, Selector, WritePartition, WriteTopic, scan, selector,
};
use crate::record::{Limits, Record, batches};
use std::collections::BTreeMap;

/// One target partition: where its first record must stand, and the digests of all of them.
pub struct Expected {
    pub base: Offset,
    pub chunks: Chunks,
}

/// What must be in each target partition of a flow.
pub async fn of_flow(
    write: &WriteTopic,
    flow: &Flow,
    snapshot: &Snapshot,
    reading: &Reading<'_>,
) -> Result<BTreeMap<PartitionId, Expected>> {
    let routes = || flow.routes.iter().map(|at| &write.partitions[*at]);
    let mut walk = Walk {
        routing: write.routing,
        headers: write.headers.rule(),
        only: routes().map(|route| (route.source, route.target)).collect(),
        targets: routes()
            .map(|route| {
                let expected = Expected {
                    base: route.base,
                    chunks: Chunks::default(),
                };
                (route.target, expected)
            })
            .collect(),
    };
    let first: BTreeMap<PartitionId, &WritePartition> =
        routes().map(|route| (route.source, route)).collect();
    let mut selectors = Vec::new();
    let mut blocks: Vec<Vec<BlockRef>> = Vec::new();
    for source in &flow.sources {
        let Some(route) = first.get(source) else {
            return Err(Error::Internal(format!("source {source} has no route")));
        };
        let selector = selector(write, route);
        let wanted = scan::wanted(snapshot, &selector.partition, &selector.cut).await?;
        selectors.push(Some(selector));
        blocks.push(wanted.blocks);
    }
    let facts: Vec<Vec<BlockFacts>> = blocks
        .iter()
        .map(|blocks| blocks.iter().map(BlockFacts::from).collect())
        .collect();
    for unit in flow.units(&facts) {
        for block in &blocks[unit.source][unit.blocks.clone()] {
            if reading.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let stored = match block.entry.codec {
                BlockCodec::None => 0,
                _ => block.entry.stored_len,
            };
            let wanted = u64::from(block.entry.raw_len) + u64::from(stored);
            let _memory = reading.memory.take(wanted).await?;
            let bytes = snapshot.read_block(block).await?;
            let offsets = scan::offsets(block);
            // Put back below; a worker that failed ends the whole.
            let Some(mut selector) = selectors[unit.source].take() else {
                return Err(Error::Internal(
                    "a source is gone through twice at once".into(),
                ));
            };
            (walk, selector) = scan::off_reactor(move || {
                let cut = selector.cut;
                selector.cut = cut.within(&offsets);
                walk.block(&bytes, &mut selector)?;
                selector.cut = cut;
                Ok((walk, selector))
            })
            .await?;
            selectors[unit.source] = Some(selector);
        }
    }
    Ok(walk.targets)
}

struct Walk {
    routing: Routing,
    headers: Option<HeaderRule>,
    /// The target of each source that has only one.
    only: BTreeMap<PartitionId, PartitionId>,
    targets: BTreeMap<PartitionId, Expected>,
}

impl Walk {
    fn block(&mut self, bytes: &[u8], selector: &mut Selector) -> Result<()> {
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
                let record = record.map_err(|source| damaged(at)(source))?;
                if selector.record(&record)? == Fate::Keep {
                    self.record(&record, selector)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, selector: &Selector) -> Result<()> {
        let source = selector.partition.partition;
        let target = match self.routing.target(source, record.offset, record.key) {
            Some(target) => target,
            None => self.only.get(&source).copied().unwrap_or(source),
        };
        let Some(expected) = self.targets.get_mut(&target) else {
            return Err(Error::Mismatch(format!(
                "offset {} of {} belongs into partition {target}, which was not written",
                record.offset, selector.partition
            )));
        };
        match &self.headers {
            None => expected.chunks.add(record),
            Some(rule) => {
                let headers = rule.apply(&selector.partition, record);
                expected.chunks.add(&Record {
                    headers: headers.as_headers(),
                    ..record.clone()
                });
            }
        }
        Ok(())
    }
}
