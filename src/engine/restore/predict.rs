//! What a write will come to: every flow is gone through as execution will, without building a batch.
//!
//! The index decides wherever it can. What only the records can tell (a filter, a time bound that may cut, a key that
//! decides the target) is read, up to the scan budget; beyond it the plan says `at most`.

use super::plan::{Predicted, WritePartition, WriteTopic};
use super::routing::Routing;
use super::scan::{self, Wanted};
use super::select::selector;
use super::shape::{Finished, Shape, Shaper};
use super::units::{BlockFacts, Flow};
use crate::archive::{BlockRef, Snapshot};
use crate::base::{CancellationToken, Offset, PartitionId, TimestampMs};
use crate::engine::error::{Error, Result};
use crate::record::batches;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the index tells of each source partition.
pub type Sources = BTreeMap<PartitionId, Wanted>;

/// What planning must know of a write's records besides what the index tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// How many have no key: every block is opened for it.
    pub keyless: bool,
}

/// Bytes that going through a flow opens.
pub fn to_open(write: &WriteTopic, flow: &Flow, sources: &Sources, look: Look) -> u64 {
    let mut bytes = 0;
    for source in &flow.sources {
        let route = write
            .partitions
            .iter()
            .find(|route| route.source == *source);
        let (Some(route), Some(wanted)) = (route, sources.get(source)) else {
            continue;
        };
        let blocks = wanted.blocks.iter();
        bytes += blocks
            .filter(|block| look.keyless || !index_decides(write, route, block))
            .map(|block| u64::from(block.entry.raw_len))
            .sum::<u64>();
    }
    bytes
}

/// Whether the index alone tells where every record of a block goes.
fn index_decides(write: &WriteTopic, route: &WritePartition, block: &BlockRef) -> bool {
    write.routing == Routing::Partition
        && scan::index_tells(block, &selector(write, route).cut, write.filter.is_some())
}

/// What going through a flow told.
pub struct Prediction {
    pub finished: Finished,
    /// Records without a key, where that was looked for.
    pub keyless: u64,
}

/// Goes through a flow.
pub async fn predict(
    snapshot: &Snapshot,
    write: &WriteTopic,
    flow: &Flow,
    sources: &Sources,
    look: Look,
    cancel: &CancellationToken,
) -> Result<Prediction> {
    let routes: Vec<&WritePartition> = flow
        .routes
        .iter()
        .map(|at| &write.partitions[*at])
        .collect();
    let first: BTreeMap<PartitionId, &WritePartition> = routes
        .iter()
        .rev()
        .map(|route| (route.source, *route))
        .collect();
    let mut shaper = Shaper::predicting(Shape::of(write, routes.iter().copied()));
    let nothing = Vec::new();
    let blocks: Vec<&Vec<BlockRef>> = flow
        .sources
        .iter()
        .map(|source| {
            sources
                .get(source)
                .map_or(&nothing, |wanted| &wanted.blocks)
        })
        .collect();
    let facts: Vec<Vec<BlockFacts>> = blocks
        .iter()
        .map(|blocks| blocks.iter().map(BlockFacts::from).collect())
        .collect();
    let mut keyless = 0;
    for unit in flow.units(&facts) {
        let source = flow.sources[unit.source];
        let Some(route) = first.get(&source).copied() else {
            continue;
        };
        shaper.unit_begin(source)?;
        for block in &blocks[unit.source][unit.blocks] {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let decided = index_decides(write, route, block);
            if decided {
                let entry = &block.entry;
                shaper.keep_run(
                    entry.first.0,
                    entry.records as i64,
                    entry.min_timestamp.0,
                    entry.max_timestamp.0,
                )?;
                if !look.keyless {
                    continue;
                }
            }
            let bytes = snapshot.read_block(block).await?;
            if look.keyless {
                keyless += count_keyless(write, route, block, bytes.clone()).await?;
            }
            if decided {
                continue;
            }
            let offsets = scan::offsets(block);
            shaper = scan::off_reactor(move || {
                shaper.block(&bytes, offsets)?;
                Ok(shaper)
            })
            .await?;
        }
        shaper.unit_end()?;
    }
    let mut finished = shaper.finish()?;
    for (source, tally) in &mut finished.sources {
        if let Some(wanted) = sources.get(source) {
            tally.dropped_by_time += wanted.out_of_time;
        }
    }
    Ok(Prediction { finished, keyless })
}

/// How many restored records of a block have no key.
async fn count_keyless(
    write: &WriteTopic,
    route: &WritePartition,
    block: &BlockRef,
    bytes: Bytes,
) -> Result<u64> {
    let mut selector = selector(write, route);
    selector.cut = selector.cut.within(&scan::offsets(block));
    let (partition, offset) = (selector.partition.clone(), Offset(selector.cut.from));
    scan::off_reactor(move || {
        let mut found = 0;
        let mut scratch = Vec::new();
        let damaged = |source| Error::Record {
            partition: partition.clone(),
            offset,
            source,
        };
        for batch in batches(&bytes) {
            let batch = batch.map_err(damaged)?;
            let records = batch
                .open(&crate::record::Limits::default(), &mut scratch)
                .map_err(damaged)?;
            for record in records {
                let record = record.map_err(damaged)?;
                if record.key.is_none() && selector.record(&record)? == super::select::Fate::Keep {
                    found += 1;
                }
            }
        }
        Ok(found)
    })
    .await
}

/// Fills a flow's routes in with what going through it told.
pub fn fill(write: &mut WriteTopic, flow: &Flow, sources: &Sources, finished: Finished) {
    let mut first_of: BTreeMap<PartitionId, bool> = BTreeMap::new();
    let mut routed: BTreeMap<(PartitionId, PartitionId), _> = finished
        .routes
        .into_iter()
        .map(|routed| ((routed.source, routed.target), routed))
        .collect();
    for at in &flow.routes {
        let route = &mut write.partitions[*at];
        let Some(routed) = routed.remove(&(route.source, route.target)) else {
            continue;
        };
        let is_first = first_of.insert(route.source, true).is_none();
        let tally = finished
            .sources
            .get(&route.source)
            .copied()
            .unwrap_or_default();
        let wanted = sources.get(&route.source);
        let archived = wanted.map_or(0, Wanted::records);
        let bytes = wanted.map_or(0, Wanted::bytes);
        route.records = Predicted::Exactly(routed.tally.records);
        route.kept_bytes = share(bytes, routed.tally.records, archived);
        // A route by key reads its share; what nobody keeps stands with the first.
        route.bytes = match write.routing {
            Routing::Partition => bytes,
            Routing::Key { .. } => share(bytes, routed.tally.records, tally.records.max(1)),
        };
        (
            route.dropped_by_filter,
            route.dropped_by_time,
            route.filter_failed,
        ) = match is_first {
            true => (
                tally.dropped_by_filter,
                tally.dropped_by_time,
                tally.filter_failed,
            ),
            false => (0, 0, 0),
        };
        route.first_timestamp = routed.tally.first_timestamp.map(TimestampMs);
        route.last_timestamp = routed.tally.last_timestamp.map(TimestampMs);
        route.set_mapping(routed.mapping);
    }
}

/// `part` of `whole` as a part of `bytes`.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return bytes;
    }
    let share = u128::from(bytes) * u128::from(part) / u128::from(whole);
    u64::try_from(share).unwrap_or(bytes)
}
