//! Planning live groups from values written down here; no cluster.

use super::super::rows::Wanted;
use super::*;
use crate::base::Selection;
use crate::kafka::Committed;

const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn listing(group: &str, kind: &str) -> GroupListing {
    GroupListing {
        group: group.into(),
        protocol_type: "consumer".into(),
        state: "Empty".into(),
        kind: kind.into(),
    }
}

fn committed(offsets: &[(&str, i32, i64)]) -> BTreeMap<TopicPartition, Committed> {
    let offsets = offsets.iter().map(|(topic, partition, offset)| {
        let committed = Committed {
            offset: Offset(*offset),
            leader_epoch: 3,
            metadata: "m".into(),
        };
        (at(topic, *partition), committed)
    });
    offsets.collect()
}

/// `orders` holds 10…50 in p0 and 0…20 in p1. `audit` is at 30 and, on a topic that is gone, at 7; `other` is at 12 and 3.
fn world() -> World {
    World {
        share_offsets: false,
        groups: ["audit", "other", "empty"]
            .map(|name| listing(name, "classic"))
            .into(),
        committed: BTreeMap::from([
            (
                "audit".to_string(),
                committed(&[("orders", 0, 30), ("gone", 0, 7)]),
            ),
            (
                "other".to_string(),
                committed(&[("orders", 0, 12), ("orders", 1, 3)]),
            ),
        ]),
        topics: BTreeMap::from([("orders".to_string(), vec![PartitionId(0), PartitionId(1)])]),
        logs: BTreeMap::from([
            (at("orders", 0), (Offset(10), Offset(50))),
            (at("orders", 1), (Offset(0), Offset(20))),
        ]),
        at_time: BTreeMap::from([(at("orders", 0), Some(Offset(41))), (at("orders", 1), None)]),
    }
}

fn options(groups: &[&str], topics: &[&str], strategy: Strategy) -> Options {
    Options {
        groups: Selection::of(groups).unwrap(),
        topics: Selection::of(topics).unwrap(),
        strategy,
        ..Options::default()
    }
}

fn planned(options: &Options) -> Plan {
    resolve_live(&world(), options, NOW)
}

/// Partition, from, to.
fn moves(plan: &Plan) -> Vec<(i32, Option<i64>, Result<i64, Reason>)> {
    let rows = plan.rows.iter();
    rows.map(|row| {
        let target = row.target.as_ref();
        (
            row.target_partition.0,
            row.from.map(|from| from.0),
            target.map(|to| to.0).map_err(|blocked| blocked.reason),
        )
    })
    .collect()
}

#[test]
fn each_strategy_moves_to_where_it_says() {
    let both = |p0, p1| vec![(0, Some(30), p0), (1, None, p1)];
    let cases = [
        (Strategy::Earliest, both(Ok(10), Ok(0))),
        (Strategy::Latest, both(Ok(50), Ok(20))),
        (Strategy::ToCurrent, both(Ok(30), Ok(20))),
        (Strategy::ToOffset(Offset(15)), both(Ok(15), Ok(15))),
        (
            Strategy::ToOffset(Offset(50)),
            both(Ok(50), Err(Reason::BeyondLog)),
        ),
        (
            Strategy::ToOffset(Offset(9)),
            both(Err(Reason::BeforeLog), Ok(9)),
        ),
        (Strategy::ShiftBy(-5), both(Ok(25), Err(Reason::NoCommit))),
        (
            Strategy::ShiftBy(21),
            both(Err(Reason::BeyondLog), Err(Reason::NoCommit)),
        ),
        (
            Strategy::ShiftBy(i64::MAX),
            both(Err(Reason::BeyondLog), Err(Reason::NoCommit)),
        ),
        (Strategy::ToDatetime(NOW), both(Ok(41), Ok(20))),
        (Strategy::ByDuration(1), both(Ok(41), Ok(20))),
        (
            Strategy::Exact,
            both(Err(Reason::NoMapping), Err(Reason::NoMapping)),
        ),
    ];
    for (strategy, expected) in cases {
        let plan = planned(&options(&["audit"], &["orders"], strategy.clone()));
        assert_eq!(moves(&plan), expected, "{strategy:?}");
        assert_eq!(plan.blocked, []);
    }
}

#[test]
fn clamping_takes_the_nearest_end_and_says_so() {
    let mut options = options(&["audit"], &["orders"], Strategy::ToOffset(Offset(5_000)));
    options.out_of_range = OutOfRange::Clamp;
    let plan = planned(&options);
    assert_eq!(moves(&plan), [(0, Some(30), Ok(50)), (1, None, Ok(20))]);
    assert_eq!(
        plan.rows[0].why.to_string(),
        "as asked, clamped: 5,000 lies beyond the log's end; skips 20"
    );
}

#[test]
fn what_is_read_again_and_what_is_skipped_is_counted() {
    let plan = planned(&options(&["audit"], &["orders"], Strategy::Earliest));
    let row = &plan.rows[0];
    assert_eq!(row.why.to_string(), "the oldest record; re-reads 20");
    assert_eq!(
        (row.why.exactness(), row.lag_before, row.lag_after),
        ("re-reads", Some(20), Some(40))
    );
    assert_eq!(plan.rows[1].why.exactness(), "starts");
    let plan = planned(&options(&["audit"], &["orders"], Strategy::Latest));
    assert_eq!(plan.rows[0].why.to_string(), "the end of the log; skips 20");
}

#[test]
fn without_a_named_topic_only_what_was_committed_moves_and_what_is_gone_blocks() {
    let plan = planned(&options(&["audit"], &[], Strategy::Earliest));
    assert_eq!(
        moves(&plan),
        [
            (0, Some(7), Err(Reason::NoSuchPartition)),
            (0, Some(30), Ok(10))
        ]
    );
    let mut options = options(&["audit"], &[], Strategy::Earliest);
    options.leave_unplaced = true;
    let plan = planned(&options);
    assert_eq!(moves(&plan), [(0, Some(30), Ok(10))]);
    assert_eq!(plan.skipped[0].topic, "gone");
    assert!(!plan.is_blocked());
}

#[test]
fn another_groups_places_are_taken_over_with_their_metadata() {
    let plan = planned(&options(&["audit"], &[], Strategy::ToGroup("other".into())));
    assert_eq!(moves(&plan), [(0, Some(30), Ok(12)), (1, None, Ok(3))]);
    assert_eq!(plan.rows[1].metadata, "m");
    let plan = planned(&options(&["audit"], &[], Strategy::ToGroup("othr".into())));
    assert!(plan.blocked[0].what.contains("did you mean other?"));
}

#[test]
fn a_file_moves_what_it_names_and_nothing_else() {
    let rows = "audit,orders,1,7\nother,orders,0,11\naudit,orders,0,99\n";
    let wanted = Wanted::parse("rows.csv", rows).unwrap();
    let plan = planned(&options(&["audit"], &[], Strategy::Manual(wanted)));
    assert_eq!(
        moves(&plan),
        [(0, Some(30), Err(Reason::BeyondLog)), (1, None, Ok(7))]
    );
    assert_eq!(plan.rows[1].why.to_string(), "as rows.csv says");
}

#[test]
fn only_the_chosen_partitions_move() {
    let mut options = options(&["other"], &["orders"], Strategy::Latest);
    let partitions = crate::base::PartitionSet::parse("1").unwrap();
    options.partitions = vec![(Pattern::parse("ord*").unwrap(), partitions)];
    assert_eq!(moves(&planned(&options)), [(1, Some(3), Ok(20))]);
}

#[test]
fn names_that_match_nothing_block() {
    let cases: [(&[&str], &[&str], &str); 5] = [
        (
            &["audi"],
            &["orders"],
            "no group is called audi; did you mean audit?",
        ),
        (&["/x.*/"], &["orders"], "no group matches /x.*/"),
        (
            &["audit"],
            &["order"],
            "there is no topic order; did you mean orders?",
        ),
        (&[], &["orders"], "no group is chosen"),
        (&["empty"], &[], "no selected group has a committed offset"),
    ];
    for (groups, topics, expected) in cases {
        let plan = planned(&options(groups, topics, Strategy::Latest));
        let found: Vec<&str> = plan.blocked.iter().map(|b| b.what.as_str()).collect();
        assert!(
            found.iter().any(|what| what.contains(expected)),
            "{groups:?} {topics:?}: {found:?}"
        );
    }
}

#[test]
fn a_group_that_is_not_there_is_made_only_when_asked_for() {
    let mut options = options(&["fresh"], &["orders"], Strategy::Latest);
    assert!(planned(&options).is_blocked());
    options.new_groups = true;
    let plan = planned(&options);
    assert!(!plan.is_blocked(), "{:?}", plan.blocks());
    assert_eq!(moves(&plan), [(0, None, Ok(50)), (1, None, Ok(20))]);
}

#[test]
fn share_groups_are_named_and_not_moved() {
    let mut world = world();
    world.groups[1] = listing("other", "share");
    let plan = resolve_live(
        &world,
        &options(&["other"], &["orders"], Strategy::Latest),
        NOW,
    );
    assert_eq!(plan.blocked[0].reason, Reason::ShareGroup);
}
