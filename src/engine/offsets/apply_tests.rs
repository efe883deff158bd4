//! Judging what the target says after a commit or a crash; no cluster.

use super::super::plan::{Row, Why};
use super::*;
use crate::base::{PartitionId, TopicPartition};
use crate::engine::offsets::{OutOfRange, Strategy};
use crate::kafka::Committed;
use std::collections::BTreeMap;

/// Two partitions of one group: 5 → 50 and none → 60.
fn plan() -> Plan {
    let row = |partition: i32, from: Option<i64>, target: i64| Row {
        group: "g".into(),
        topic: "orders".into(),
        partition: PartitionId(partition),
        target_topic: "orders_dr".into(),
        target_partition: PartitionId(partition),
        committed: Some(Offset(1)),
        from: from.map(Offset),
        target: Ok(Offset(target)),
        why: Why::SameRecord,
        lag_before: None,
        lag_after: None,
        metadata: "m".into(),
        from_metadata: None,
    };
    Plan {
        target_cluster_id: "c".into(),
        strategy: Strategy::Exact,
        out_of_range: OutOfRange::Block,
        rows: vec![row(0, Some(5), 50), row(1, None, 60)],
        skipped: vec![],
        blocked: vec![],
        active: vec![],
        forced: false,
        expiring: None,
        share: Default::default(),
        per_transaction: 10,
    }
}

fn at(offsets: &[(i32, i64)]) -> Current {
    let offsets = offsets
        .iter()
        .map(|(partition, offset)| {
            (
                TopicPartition::new("orders_dr", *partition),
                Committed {
                    offset: Offset(*offset),
                    leader_epoch: -1,
                    metadata: "m".into(),
                },
            )
        })
        .collect::<BTreeMap<_, _>>();
    Current::from([("g".to_string(), offsets)])
}

#[test]
fn what_happened_is_judged_by_every_row_that_changes() {
    assert_eq!(judge(&plan(), &at(&[(0, 50), (1, 60)])), Reconciled::Done);
    assert_eq!(judge(&plan(), &at(&[(0, 5)])), Reconciled::NotDone);
    assert_eq!(
        judge(&plan(), &at(&[(0, 50)])),
        Reconciled::Partial { moved: 1, left: 1 }
    );
    let Reconciled::Foreign { rows } = judge(&plan(), &at(&[(0, 51), (1, 60)])) else {
        panic!("offset 51 is nobody's of this plan");
    };
    assert_eq!(rows[0].found, Some(Offset(51)));
}

#[test]
fn reading_back_sees_a_commit_in_between_and_lost_metadata() {
    assert!(differences(&plan(), &at(&[(0, 50), (1, 60)])).is_empty());
    let other = differences(&plan(), &at(&[(0, 49), (1, 60)]));
    assert_eq!(
        Error::ReadBack { rows: other }.to_string(),
        "1 committed offsets read back differently: group g on orders_dr-0 is at 49, not 50"
    );
    let mut current = at(&[(0, 50), (1, 60)]);
    if let Some(offsets) = current.get_mut("g") {
        for committed in offsets.values_mut() {
            committed.metadata.clear();
        }
    }
    let lost = differences(&plan(), &current);
    assert_eq!(lost.len(), 2);
    assert!(lost[0].metadata_only);
}
