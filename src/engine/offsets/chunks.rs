//! A plan in parts that a coordinator takes in its time limit: each part is a transaction of its own, so that all of it
//! moves or none, and the parts go one after the other.
//!
//! 100,000 offsets take about a second, and a transaction may be open for a minute: 200,000 leave room for a slow cluster.

use super::plan::{Plan, Row};
use std::collections::BTreeSet;

/// Committed offsets of one transaction unless the plan says otherwise.
pub const PER_TRANSACTION: usize = 200_000;
/// And bytes, as a coordinator writes them to its log.
const BYTES: usize = 64 << 20;
/// Key, schema, offset and times of one committed offset.
const BYTES_EACH: usize = 100;

/// So many rows of a plan that keep together, and what of them is committed.
struct Piece {
    rows: Vec<Row>,
    committed: usize,
    bytes: usize,
}

/// What one committed offset is for its coordinator, in bytes.
fn weight(row: &Row) -> usize {
    2 * row.target_topic.len() + row.group.len() + row.metadata.len() + BYTES_EACH
}

impl Piece {
    fn fits(&self, more: &Piece, limit: usize) -> bool {
        self.committed + more.committed <= limit && self.bytes + more.bytes <= BYTES
    }

    fn take(&mut self, more: Piece) {
        self.rows.extend(more.rows);
        self.committed += more.committed;
        self.bytes += more.bytes;
    }
}

impl Plan {
    /// Whether all of it goes into one transaction.
    pub fn fits(&self) -> bool {
        let mut bytes = 0;
        let mut count = 0;
        for row in self.rows.iter().filter(|row| self.is_committed(row)) {
            count += 1;
            bytes += weight(row);
        }
        let of_one_kind = self.share.is_empty() || self.is_of_share_groups();
        of_one_kind && count <= self.per_transaction.max(1) && bytes <= BYTES
    }

    /// The plan's parts, in order. A group stays whole if it fits into one at all.
    pub fn chunks(&self) -> Vec<Plan> {
        let limit = self.per_transaction.max(1);
        let piece = |row: &Row| {
            let committed = self.is_committed(row);
            Piece {
                committed: usize::from(committed),
                bytes: if committed { weight(row) } else { 0 },
                rows: vec![row.clone()],
            }
        };
        let mut chunks: Vec<Piece> = Vec::new();
        // Share groups move outside of any transaction: last, and by themselves.
        let (share, rows): (Vec<Row>, Vec<Row>) = self
            .rows
            .iter()
            .cloned()
            .partition(|row| self.share.contains(&row.group));
        for group in rows.chunk_by(|one, other| one.group == other.group) {
            let mut whole = Piece {
                rows: Vec::new(),
                committed: 0,
                bytes: 0,
            };
            let mut parts: Vec<Piece> = Vec::new();
            for row in group {
                let row = piece(row);
                if !whole.fits(&row, limit) {
                    let full = std::mem::replace(&mut whole, row);
                    parts.push(full);
                } else {
                    whole.take(row);
                }
            }
            parts.push(whole);
            for part in parts {
                match chunks.last_mut() {
                    Some(last) if last.fits(&part, limit) => last.take(part),
                    _ => chunks.push(part),
                }
            }
        }
        if !share.is_empty() {
            chunks.push(Piece {
                rows: share,
                committed: 0,
                bytes: 0,
            });
        }
        let mut plans = Vec::new();
        for (index, chunk) in chunks.into_iter().enumerate() {
            let names: BTreeSet<&str> = chunk.rows.iter().map(|row| row.group.as_str()).collect();
            let mut plan = self.without_rows();
            plan.active
                .retain(|active| names.contains(active.group.as_str()));
            // What belongs to no row is told once.
            if index > 0 {
                plan.blocked.clear();
                plan.skipped.clear();
                plan.expiring = None;
            }
            plan.rows = chunk.rows;
            plans.push(plan);
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Offset, PartitionId};
    use crate::engine::offsets::{OutOfRange, Strategy, Why};

    /// Groups with so many partitions each; odd ones are where they go already.
    fn plan(groups: &[i32], per_transaction: usize) -> Plan {
        let mut rows = Vec::new();
        for (group, partitions) in groups.iter().enumerate() {
            for partition in 0..*partitions {
                let from = if partition % 2 == 0 { 0 } else { 5 };
                rows.push(Row {
                    group: format!("group-{group}"),
                    topic: "orders".into(),
                    partition: PartitionId(partition),
                    target_topic: "orders".into(),
                    target_partition: PartitionId(partition),
                    committed: None,
                    from: Some(Offset(from)),
                    target: Ok(Offset(5)),
                    why: Why::SameRecord,
                    lag_before: None,
                    lag_after: None,
                    metadata: String::new(),
                    from_metadata: None,
                });
            }
        }
        Plan {
            target_cluster_id: "c".into(),
            strategy: Strategy::Earliest,
            out_of_range: OutOfRange::Block,
            rows,
            skipped: vec![],
            blocked: vec![],
            active: vec![],
            forced: false,
            expiring: None,
            share: BTreeSet::new(),
            per_transaction,
        }
    }

    #[test]
    fn a_plan_that_fits_is_one_transaction() {
        assert!(plan(&[10, 10], 10).fits());
        assert_eq!(plan(&[10, 10], 10).chunks().len(), 1);
        assert!(plan(&[], 10).fits());
        assert!(!plan(&[1, 1, 1], 1).fits());
        assert_eq!(plan(&[1, 1, 1], 1).chunks().len(), 3);
    }

    #[test]
    fn groups_stay_whole_where_they_fit_and_every_row_is_in_exactly_one_chunk() {
        // Ten rows of a group are five commits.
        let whole = plan(&[10, 10, 40, 2], 8);
        let chunks = whole.chunks();
        let sizes: Vec<usize> = chunks.iter().map(Plan::changes).collect();
        assert_eq!(sizes, [5, 5, 8, 8, 5]);
        let rows: Vec<Row> = chunks.iter().flat_map(|chunk| chunk.rows.clone()).collect();
        assert_eq!(rows, whole.rows);
    }
}
