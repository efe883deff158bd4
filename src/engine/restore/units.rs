//! In which order a topic's archived blocks are written: flows side by side, units one after the other.
//!
//! A *flow* is what hangs together: routes that share a source or a target partition. Flows run side by side; within one
//! flow everything happens in order. A *unit* is a run of a source partition's blocks that is shaped as one; no batch
//! spans two units. Both are pure functions of the plan and of the archive's index, so that planning, writing, resuming
//! and verifying meet the same batch boundaries and the same target offsets.

use super::plan::WritePartition;
use super::routing::Routing;
use crate::archive::BlockRef;
use crate::base::PartitionId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A unit ends with the block that brings it to so many bytes of batches.
const UNIT: u64 = 1 << 20;
/// A flow with several targets spreads a unit over them, and wants so much for each ...
const UNIT_PER_TARGET: u64 = 128 << 10;
/// ... up to this, since a unit lies in memory as a whole.
const LARGEST_UNIT: u64 = 16 << 20;

/// Routes that hang together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Positions in [`super::WriteTopic::partitions`], ascending.
    pub routes: Vec<usize>,
    /// Ascending.
    pub sources: Vec<PartitionId>,
    /// Ascending.
    pub targets: Vec<PartitionId>,
}

/// Blocks of one source partition that are shaped as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Position in [`Flow::sources`].
    pub source: usize,
    /// Positions among the source partition's wanted blocks.
    pub blocks: Range<usize>,
}

/// What the order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// Bytes of batches.
    pub raw: u64,
    /// The index's lowest timestamp: exact or not, it is always the same.
    pub earliest: i64,
}

impl From<&BlockRef> for BlockFacts {
    fn from(block: &BlockRef) -> Self {
        Self {
            raw: u64::from(block.entry.raw_len),
            earliest: block.entry.min_timestamp.0,
        }
    }
}

/// The flows of a topic, in the order of their first routes.
///
/// By key everything is one flow over every target, also those that get no record: which routes there are is known
/// only after all was looked at, and the units must not depend on it.
pub fn flows(routing: Routing, routes: &[WritePartition]) -> Vec<Flow> {
    if let Routing::Key { partitions } = routing {
        let sources: BTreeSet<PartitionId> = routes.iter().map(|route| route.source).collect();
        return vec![Flow {
            routes: (0..routes.len()).collect(),
            sources: sources.into_iter().collect(),
            targets: (0..partitions).map(PartitionId).collect(),
        }];
    }
    let ends: Vec<(PartitionId, PartitionId)> = routes
        .iter()
        .map(|route| (route.source, route.target))
        .collect();
    flows_of(&ends)
}

fn flows_of(routes: &[(PartitionId, PartitionId)]) -> Vec<Flow> {
    let mut by_source: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
    let mut by_target: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
    for (index, (source, target)) in routes.iter().enumerate() {
        by_source.entry(*source).or_default().push(index);
        by_target.entry(*target).or_default().push(index);
    }
    let mut taken = vec![false; routes.len()];
    let mut flows = Vec::new();
    for first in 0..routes.len() {
        if taken[first] {
            continue;
        }
        taken[first] = true;
        let mut members = Vec::new();
        let mut reached = vec![first];
        while let Some(index) = reached.pop() {
            members.push(index);
            let (source, target) = routes[index];
            // Each list is walked once: whoever comes second finds it empty.
            let neighbours = [by_source.remove(&source), by_target.remove(&target)];
            for next in neighbours.into_iter().flatten().flatten() {
                if !taken[next] {
                    taken[next] = true;
                    reached.push(next);
                }
            }
        }
        members.sort_unstable();
        let sources: BTreeSet<PartitionId> = members.iter().map(|at| routes[*at].0).collect();
        let targets: BTreeSet<PartitionId> = members.iter().map(|at| routes[*at].1).collect();
        flows.push(Flow {
            routes: members,
            sources: sources.into_iter().collect(),
            targets: targets.into_iter().collect(),
        });
    }
    flows
}

impl Flow {
    /// Bytes that make a unit of this flow.
    pub fn unit_bytes(&self) -> u64 {
        match self.targets.len() as u64 {
            0 | 1 => UNIT,
            targets => (targets * UNIT_PER_TARGET).clamp(UNIT, LARGEST_UNIT),
        }
    }

    /// The flow's units in order; `blocks` holds each source's wanted blocks, as in [`Flow::sources`].
    ///
    /// One source's units keep their order. Several sources are merged by the latest of the units' earliest timestamps
    /// up to each, which makes the target about as ordered in time as the sources are: a group that stood at the same
    /// time everywhere has little to read again.
    pub fn units(&self, blocks: &[Vec<BlockFacts>]) -> Vec<Unit> {
        let unit_bytes = self.unit_bytes();
        let mut units: Vec<(i64, Unit)> = Vec::new();
        for (source, blocks) in blocks.iter().enumerate() {
            let mut running = i64::MIN;
            for blocks_of_unit in cut(blocks, unit_bytes) {
                let within = blocks[blocks_of_unit.clone()].iter();
                let earliest = within.map(|block| block.earliest).min();
                running = running.max(earliest.unwrap_or(i64::MIN));
                let unit = Unit {
                    source,
                    blocks: blocks_of_unit,
                };
                units.push((running, unit));
            }
        }
        // Stable: equal times keep the order of sources, and of units within one.
        units.sort_by_key(|(time, _)| *time);
        units.into_iter().map(|(_, unit)| unit).collect()
    }
}

/// Where each unit of one source begins and ends.
fn cut(blocks: &[BlockFacts], unit_bytes: u64) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    let mut first = 0;
    let mut bytes = 0;
    for (index, block) in blocks.iter().enumerate() {
        bytes += block.raw;
        if bytes >= unit_bytes {
            units.push(first..index + 1);
            first = index + 1;
            bytes = 0;
        }
    }
    if first < blocks.len() {
        units.push(first..blocks.len());
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(ends: &[(i32, i32)]) -> Vec<(PartitionId, PartitionId)> {
        ends.iter()
            .map(|(source, target)| (PartitionId(*source), PartitionId(*target)))
            .collect()
    }

    fn partitions(ids: &[i32]) -> Vec<PartitionId> {
        ids.iter().map(|id| PartitionId(*id)).collect()
    }

    fn blocks(facts: &[(u64, i64)]) -> Vec<BlockFacts> {
        facts
            .iter()
            .map(|(kib, earliest)| BlockFacts {
                raw: kib << 10,
                earliest: *earliest,
            })
            .collect()
    }

    fn flow(sources: &[i32], targets: &[i32]) -> Flow {
        Flow {
            routes: Vec::new(),
            sources: partitions(sources),
            targets: partitions(targets),
        }
    }

    #[test]
    fn routes_that_share_nothing_are_flows_of_their_own() {
        let found = flows_of(&routes(&[(0, 2), (1, 0), (2, 1)]));
        let ends: Vec<_> = found
            .iter()
            .map(|flow| {
                (
                    flow.routes.clone(),
                    flow.sources.clone(),
                    flow.targets.clone(),
                )
            })
            .collect();
        assert_eq!(
            ends,
            [
                (vec![0], partitions(&[0]), partitions(&[2])),
                (vec![1], partitions(&[1]), partitions(&[0])),
                (vec![2], partitions(&[2]), partitions(&[1])),
            ]
        );
    }

    #[test]
    fn routes_hang_together_by_way_of_others() {
        // 0 and 2 both write into target 7; 2 also into 8, where 5 writes. 1 stands alone.
        let found = flows_of(&routes(&[(0, 7), (1, 3), (2, 7), (2, 8), (5, 8)]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].routes, [0, 2, 3, 4]);
        assert_eq!(found[0].sources, partitions(&[0, 2, 5]));
        assert_eq!(found[0].targets, partitions(&[7, 8]));
        assert_eq!(found[1].routes, [1]);
    }

    #[test]
    fn a_source_and_a_target_of_one_number_are_not_the_same_partition() {
        assert_eq!(flows_of(&routes(&[(0, 1), (1, 0)])).len(), 2);
    }

    #[test]
    fn blocks_are_gathered_up_to_a_mebibyte() {
        let blocks = [blocks(&[(600, 0), (600, 0), (4096, 0), (10, 0), (20, 0)])];
        let units = flow(&[3], &[3]).units(&blocks);
        let ranges: Vec<_> = units.into_iter().map(|unit| unit.blocks).collect();
        assert_eq!(ranges, [0..2, 2..3, 3..5]);
    }

    #[test]
    fn the_more_targets_the_larger_the_units_within_bounds() {
        let all: Vec<i32> = (0..1000).collect();
        assert_eq!(flow(&[0], &all[..1]).unit_bytes(), 1 << 20);
        assert_eq!(flow(&[0], &all[..2]).unit_bytes(), 1 << 20);
        assert_eq!(flow(&[0], &all[..24]).unit_bytes(), 3 << 20);
        assert_eq!(flow(&[0], &all).unit_bytes(), 16 << 20);
    }

    #[test]
    fn sources_are_merged_by_time_and_each_keeps_its_order() {
        // The second unit of source 0 goes back in time; it still comes after the first.
        let blocks = [
            blocks(&[(2048, 50), (2048, 10), (2048, 70)]),
            blocks(&[(2048, 20), (2048, 50), (2048, 60)]),
        ];
        let order: Vec<(usize, usize)> = flow(&[0, 1], &[0])
            .units(&blocks)
            .into_iter()
            .map(|unit| (unit.source, unit.blocks.start))
            .collect();
        assert_eq!(order, [(1, 0), (0, 0), (0, 1), (1, 1), (1, 2), (0, 2)]);
    }

    #[test]
    fn nothing_wanted_is_no_unit() {
        assert_eq!(flow(&[0], &[0]).units(&[Vec::new()]), []);
    }
}
