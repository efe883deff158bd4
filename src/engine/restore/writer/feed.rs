//! From the archive's blocks to stamped batches: each flow reads ahead, shapes its units in order, hands batches over.
//!
//! Everything between the store and the acknowledgement is paid for from one budget of bytes, so that memory does not
//! depend on how many partitions there are. A unit is paid for as a whole before it is read, in the order in which units
//! ask: whoever has paid never needs more to get done, so nobody waits for somebody who waits. It pays for what it may
//! need at worst (the stored block, the block, everything built anew) and gets back what it did not need.

use super::lane::{self, Batch};
use super::resume::{FlowTails, Tails};
use crate::archive::{BlockCodec, BlockRef, Snapshot};
use crate::base::text::grouped;
use crate::base::{CancellationToken, Offset, PartitionId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::engine::restore::context::WriteContext;
use crate::engine::restore::plan::{WritePartition, WriteTopic, WrittenPartition};
use crate::engine::restore::scan;
use crate::engine::restore::shape::{Shape, Shaped, Shaper};
use crate::engine::restore::units::{BlockFacts, Flow, Unit};
use crate::kafka::ProducerIdentity;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes of blocks and batches in memory at once.
const BUDGET: u64 = 20 << 20;
/// What the budget counts in.
const GRAIN: u64 = 1 << 10;
/// A unit costs at least this much: a task, requests to the store, a few allocations.
const LEAST: u64 = 16 << 10;
/// Flows under way at once. Small partitions are many, and each waits for its store.
const FLOWS: usize = 64;
/// Blocks of one unit that are read at the same time.
const BLOCKS: usize = 4;

/// Where the batches of one partition go.
pub(super) type Batches = (PartitionId, Vec<Batch>);

/// What all flows share.
pub(super) struct Feed<'a> {
    pub write: &'a WriteTopic,
    pub snapshot: &'a Snapshot,
    pub context: &'a WriteContext,
    pub stop: &'a CancellationToken,
    pub identity: ProducerIdentity,
    pub sender: mpsc::Sender<Batches>,
    pub tails: &'a Tails<'a>,
    pub budget: Arc<Semaphore>,
}

pub(super) fn budget() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(grains(BUDGET) as usize))
}

/// What the budget counts bytes as. Anything larger than the budget is as large as the budget.
fn grains(bytes: u64) -> u32 {
    (bytes.min(BUDGET) / GRAIN) as u32
}

/// Gives back what goes beyond `bytes`.
fn keep_of(memory: &mut OwnedSemaphorePermit, bytes: u64) {
    let least = grains(bytes.max(LEAST)) as usize;
    drop(memory.split(memory.num_permits().saturating_sub(least)));
}

/// A unit in memory.
struct ReadUnit {
    source: PartitionId,
    blocks: Vec<(Bytes, Range<i64>)>,
    raw: u64,
    /// For the blocks and for as much again, should everything be built anew.
    memory: OwnedSemaphorePermit,
}

/// What shaping a unit gave.
struct ShapedUnit {
    work: Work,
    batches: BTreeMap<PartitionId, Vec<Batch>>,
    records: u64,
}

/// What a flow takes along from unit to unit.
struct Work {
    shaper: Shaper,
    targets: BTreeMap<PartitionId, Target>,
}

/// A target partition of a flow, as far as it was shaped.
#[derive(Clone, Debug)]
struct Target {
    at: TopicPartition,
    start: Offset,
    next: i64,
    bytes: u64,
}

impl Feed<'_> {
    /// Goes through all flows, several at once; what each route came to, in the order of the plan.
    pub async fn run(&self, flows: &[Flow]) -> Result<Vec<WrittenPartition>> {
        let mut routes: Vec<(usize, WrittenPartition)> = Vec::with_capacity(flows.len());
        let mut waiting = flows.iter();
        // One by one: ten thousand futures that have not begun would take more memory than their blocks.
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < FLOWS
                && let Some(flow) = waiting.next()
            {
                running.push(self.flow(flow));
            }
            match running.next().await {
                Some(done) => routes.extend(done?),
                None => break,
            }
        }
        routes.sort_by_key(|(route, _)| *route);
        Ok(routes.into_iter().map(|(_, written)| written).collect())
    }

    async fn flow(&self, flow: &Flow) -> Result<Vec<(usize, WrittenPartition)>> {
        let routes: Vec<&WritePartition> = flow
            .routes
            .iter()
            .map(|at| &self.write.partitions[*at])
            .collect();
        let shape = Shape::of(self.write, routes.iter().copied());
        let cuts = shape.sources.iter().map(|source| {
            let selector = &source.selector;
            (selector.partition.clone(), selector.cut)
        });
        // A filter's session moves between threads, but no two may look at it.
        let cuts: Vec<_> = cuts.collect();
        let mut work = Work {
            shaper: Shaper::writing(shape, self.write.max_message_bytes),
            targets: targets(self.write, &routes),
        };
        let mut blocks = Vec::with_capacity(cuts.len());
        for (partition, cut) in &cuts {
            let wanted = scan::wanted(self.snapshot, partition, cut).await?;
            blocks.push(wanted.blocks);
        }
        let facts: Vec<Vec<BlockFacts>> = blocks
            .iter()
            .map(|blocks| blocks.iter().map(BlockFacts::from).collect())
            .collect();
        let units = flow.units(&facts);
        let mut tails = self.tails.of(work.targets.keys());
        let mut units = units.iter();
        let mut ahead = match units.next() {
            Some(unit) => Some(self.read(flow, unit, &blocks).await?),
            None => None,
        };
        while let Some(unit) = ahead.take() {
            if self.stop.is_cancelled() || tails.is_enough() {
                break;
            }
            let next = async {
                match units.next() {
                    Some(unit) => self.read(flow, unit, &blocks).await.map(Some),
                    None => Ok(None),
                }
            };
            let this = self.shape_and_send(work, unit, &mut tails);
            (ahead, work) = futures::try_join!(next, this)?;
        }
        if self.stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        tails.end(self).await?;
        match self.tails.dry {
            true => Ok(Vec::new()),
            false => self.conclude(flow, work),
        }
    }

    /// What each route came to, which must be what was planned.
    fn conclude(&self, flow: &Flow, work: Work) -> Result<Vec<(usize, WrittenPartition)>> {
        let finished = work.shaper.finish()?;
        if !finished.batches.is_empty() {
            return Err(Error::Internal("a unit was left open".into()));
        }
        let mut sources = finished.sources;
        let mut targets = work.targets;
        let mut done = Vec::with_capacity(flow.routes.len());
        for routed in finished.routes {
            let is_it = |index: &&usize| {
                let route = &self.write.partitions[**index];
                (route.source, route.target) == (routed.source, routed.target)
            };
            let Some(index) = flow.routes.iter().find(is_it) else {
                continue;
            };
            let route = &self.write.partitions[*index];
            let at = TopicPartition::new(self.write.topic.clone(), route.target);
            let mapping = routed.mapping;
            if let Some(planned) = route.mapping_digest
                && planned != mapping.digest()
            {
                return Err(Error::Mismatch(format!(
                    "{at}: the records written are not those planned ({} instead of {}): the filter does not answer the same each time",
                    grouped(mapping.records()),
                    grouped(route.records.bound())
                )));
            }
            // What belongs to a source or a target as a whole stands with its first route.
            let bytes = targets
                .get_mut(&route.target)
                .map(|target| std::mem::take(&mut target.bytes));
            let failed = sources
                .remove(&route.source)
                .map(|tally| tally.filter_failed);
            let written = WrittenPartition {
                source: route.source,
                target: route.target,
                records: routed.tally.records,
                filter_failed: failed.unwrap_or(0),
                bytes: bytes.unwrap_or(0),
                first: route.base,
                end: mapping.target_end(),
                mapping,
            };
            done.push((*index, written));
        }
        Ok(done)
    }

    /// Pays for a unit, then reads it.
    async fn read(&self, flow: &Flow, unit: &Unit, blocks: &[Vec<BlockRef>]) -> Result<ReadUnit> {
        let source = flow.sources[unit.source];
        let blocks = &blocks[unit.source][unit.blocks.clone()];
        let raw: u64 = blocks
            .iter()
            .map(|block| u64::from(block.entry.raw_len))
            .sum();
        let packed = blocks
            .iter()
            .filter(|block| block.entry.codec != BlockCodec::None);
        let stored: u64 = packed.map(|block| u64::from(block.entry.stored_len)).sum();
        let cost = grains((2 * raw + stored).clamp(LEAST, BUDGET));
        let paid = self.budget.clone().acquire_many_owned(cost);
        let mut memory = tokio::select! {
            paid = paid => paid.map_err(|_| Error::Internal("the budget is closed".into()))?,
            () = self.stop.cancelled() => return Err(Error::Cancelled),
        };
        // Made before the stream, so that the whole is one future that may move between threads.
        let reads: Vec<_> = blocks
            .iter()
            .map(|block| async move {
                let bytes = self.snapshot.read_block(block).await?;
                Ok::<_, Error>((bytes, scan::offsets(block)))
            })
            .collect();
        let blocks = futures::stream::iter(reads)
            .buffered(BLOCKS)
            .try_collect()
            .await?;
        keep_of(&mut memory, 2 * raw);
        Ok(ReadUnit {
            source,
            blocks,
            raw,
            memory,
        })
    }

    async fn shape_and_send(
        &self,
        work: Work,
        unit: ReadUnit,
        tails: &mut FlowTails,
    ) -> Result<Work> {
        let (identity, raw) = (self.identity, unit.raw);
        let mut shaped = scan::off_reactor(move || shape(work, unit, identity)).await?;
        share_out(raw, &mut shaped);
        if shaped.records == 0 {
            self.progress(0, raw);
        }
        for (target, batches) in std::mem::take(&mut shaped.batches) {
            let batches = tails.take_out(target, batches, self).await?;
            if batches.is_empty() || tails.is_dry() {
                continue;
            }
            if self.sender.send((target, batches)).await.is_err() {
                // The sender has ended and tells why.
                return Err(Error::Cancelled);
            }
        }
        Ok(shaped.work)
    }

    /// Tells of records that are in the target.
    pub fn progress(&self, records: u64, bytes: u64) {
        self.context.progress.advance(records, bytes);
        let topic = &self.write.topic;
        self.context.progress.topic_advance(topic, records, bytes);
    }
}

fn targets(write: &WriteTopic, routes: &[&WritePartition]) -> BTreeMap<PartitionId, Target> {
    let targets = routes.iter().map(|route| {
        let target = Target {
            at: TopicPartition::new(write.topic.clone(), route.target),
            start: route.base,
            next: route.base.0,
            bytes: 0,
        };
        (route.target, target)
    });
    targets.collect()
}

/// CPU work, away from the reactor: shaping, stamping, checksums.
fn shape(mut work: Work, unit: ReadUnit, identity: ProducerIdentity) -> Result<ShapedUnit> {
    let mut batches: BTreeMap<PartitionId, Vec<Batch>> = BTreeMap::new();
    let (mut records, mut held) = (0, 0);
    let mut stamp_all = |work: &mut Work| {
        for shaped in work.shaper.take() {
            let target = work.targets.get_mut(&shaped.target).ok_or_else(|| {
                Error::Internal(format!("a batch for partition {}", shaped.target))
            })?;
            records += u64::from(shaped.records().unsigned_abs());
            // What passes keeps its block; what was built anew lies in memory of its own.
            held += shaped.batch.len() as u64;
            let batch = stamped(shaped, target, identity)?;
            batches.entry(target.at.partition).or_default().push(batch);
        }
        Ok::<_, Error>(())
    };
    work.shaper.unit_begin(unit.source)?;
    for (block, offsets) in unit.blocks {
        work.shaper.block(&block, offsets)?;
        stamp_all(&mut work)?;
    }
    work.shaper.unit_end()?;
    stamp_all(&mut work)?;
    let mut memory = unit.memory;
    if work.shaper.take_passed() {
        held = held.max(unit.raw);
    }
    keep_of(&mut memory, held);
    let memory = Arc::new(memory);
    for batch in batches.values_mut().flatten() {
        batch.memory = Some(memory.clone());
    }
    Ok(ShapedUnit {
        work,
        batches,
        records,
    })
}

fn stamped(mut shaped: Shaped, target: &mut Target, identity: ProducerIdentity) -> Result<Batch> {
    let base = target.next;
    let stamp = lane::stamp(identity, target.start, base);
    let records = shaped.records();
    let batch = &mut shaped.batch;
    batch.restamp(0, stamp).map_err(|source| Error::Record {
        partition: target.at.clone(),
        offset: Offset(base),
        source,
    })?;
    target.next += i64::from(records);
    target.bytes += batch.len() as u64;
    Ok(Batch {
        content: shaped.batch,
        base,
        share: 0,
        memory: None,
    })
}

/// Each batch stands for its part of the archived bytes, the last one for what is left over.
fn share_out(raw: u64, shaped: &mut ShapedUnit) {
    let records = shaped.records.max(1);
    let mut left = raw;
    let mut last = None;
    for batch in shaped.batches.values_mut().flatten() {
        let part =
            u128::from(raw) * u128::from(batch.records().unsigned_abs()) / u128::from(records);
        batch.share = u64::try_from(part).unwrap_or(0).min(left);
        left -= batch.share;
        last = Some(batch);
    }
    if let Some(last) = last {
        last.share += left;
    }
}
