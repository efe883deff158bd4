//! Planning from values written down here; no cluster.

use super::super::options::Given;
use super::*;
use crate::base::Selection;
use crate::engine::mapping::MappingBuilder;

/// Of `orders` p0 (10..30 archived): 10–12 and 20–21 restored, to 100 and on.
fn mapping() -> Mapping {
    let mut builder = MappingBuilder::new(Offset(100));
    for source in [10, 11, 12, 20, 21] {
        builder.append(Offset(source)).unwrap();
    }
    builder.finish(Offset(30)).unwrap()
}

fn orders(mapping: Option<Mapping>) -> SourceTopic {
    SourceTopic {
        topic: "orders".into(),
        topic_id: TopicId::from_u128(1),
        target_topic: "orders_dr".into(),
        by_key: false,
        left_out: PartitionSet::default(),
        partitions: vec![SourcePartition {
            partition: PartitionId(0),
            target_partition: PartitionId(0),
            log_start: Offset(10),
            to: Offset(30),
            mapping,
        }],
    }
}

fn group(name: &str, offsets: &[(&str, i32, i64)]) -> GroupEntry {
    GroupEntry {
        group: name.into(),
        state: "Empty".into(),
        protocol_type: "consumer".into(),
        kind: "classic".into(),
        offsets: offsets
            .iter()
            .map(|(topic, partition, offset)| GroupOffset {
                topic: topic.to_string(),
                partition: PartitionId(*partition),
                offset: Offset(*offset),
                metadata: "m".into(),
                ..GroupOffset::default()
            })
            .collect(),
    }
}

fn source(committed: i64) -> Source {
    Source {
        groups: vec![group("g", &[("orders", 0, committed)])],
        topics: vec![orders(Some(mapping()))],
        ..Source::default()
    }
}

fn planned(source: &Source, options: &Options) -> Plan {
    resolve(source, &Current::new(), options)
}

fn clamp() -> Options {
    Options {
        out_of_range: OutOfRange::Clamp,
        ..Options::default()
    }
}

#[test]
fn an_offset_within_the_archive_goes_to_the_first_restored_record_at_or_after_it() {
    let cases = [
        (10, 100, Why::SameRecord, 5),
        (13, 103, Why::NextRestored { source: Offset(20) }, 2),
        (21, 104, Why::SameRecord, 1),
        (22, 105, Why::AfterLast, 0),
        (30, 105, Why::AfterLast, 0),
    ];
    for (committed, target, why, lag) in cases {
        let plan = planned(&source(committed), &Options::default());
        let row = &plan.rows[0];
        assert_eq!(row.target, Ok(Offset(target)), "{committed}");
        assert_eq!((row.why.clone(), row.lag_after), (why, Some(lag)));
        assert_eq!((row.from, row.lag_before), (None, Some(5)));
        assert_eq!(row.metadata, "m");
        assert!(!plan.is_blocked());
    }
}

#[test]
fn an_offset_beyond_the_archive_blocks_and_clamps_only_when_told() {
    let plan = planned(&source(9001), &Options::default());
    let blocked = plan.rows[0].target.clone().unwrap_err();
    assert_eq!(blocked.reason, Reason::NotYetArchived);
    assert_eq!(
        blocked.what,
        "orders p0: committed 9,001 is not in the archive yet (ends at 30)"
    );
    assert!(blocked.hint.unwrap().contains(".out_of_range(\"clamp\")"));
    assert_eq!(plan.blocks().len(), 1);
    assert!(plan.commits().is_empty());

    let plan = planned(&source(9001), &clamp());
    assert_eq!(plan.rows[0].target, Ok(Offset(105)));
    assert_eq!(plan.rows[0].why, Why::Clamped { to: Offset(30) });
    assert_eq!(plan.rows[0].why.exactness(), "clamped");
}

#[test]
fn an_offset_before_the_log_start_blocks_and_clamps_only_when_told() {
    let plan = planned(&source(3), &Options::default());
    assert_eq!(
        plan.rows[0].target.clone().unwrap_err().reason,
        Reason::BeforeArchive
    );
    let plan = planned(&source(3), &clamp());
    assert_eq!(plan.rows[0].target, Ok(Offset(100)));
    assert_eq!(plan.rows[0].why, Why::Clamped { to: Offset(10) });
}

#[test]
fn topics_outside_the_restore_are_skipped_and_never_block() {
    let mut source = source(10);
    source.groups[0] = group("g", &[("orders", 0, 10), ("audit", 1, 5), ("audit", 0, 5)]);
    let plan = planned(&source, &Options::default());
    assert_eq!(plan.rows.len(), 1);
    assert!(!plan.is_blocked());
    let skipped: Vec<_> = plan
        .skipped
        .iter()
        .map(|skipped| {
            (
                skipped.topic.as_str(),
                skipped.partitions.clone(),
                skipped.why.as_str(),
            )
        })
        .collect();
    assert_eq!(
        skipped,
        [(
            "audit",
            vec![PartitionId(0), PartitionId(1)],
            "not part of this restore"
        )]
    );
}

#[test]
fn a_partition_that_the_archive_lacks_blocks_and_cannot_be_clamped() {
    let mut source = source(10);
    source.groups[0] = group("g", &[("orders", 0, 10), ("orders", 7, 4)]);
    for options in [Options::default(), clamp()] {
        let plan = planned(&source, &options);
        assert_eq!(plan.rows[0].target, Ok(Offset(100)));
        let blocked = plan.rows[1].target.clone().unwrap_err();
        assert_eq!(blocked.reason, Reason::NotYetArchived);
        assert_eq!(
            blocked.what,
            "orders p7: committed 4, but the archive holds nothing of this partition"
        );
    }
}

#[test]
fn without_a_mapping_the_row_says_that_only_execution_can_tell() {
    let mut source = source(10);
    source.topics = vec![orders(None)];
    let plan = planned(&source, &Options::default());
    assert_eq!(
        plan.rows[0].target.clone().unwrap_err().reason,
        Reason::KnownAfterExecution
    );
}

#[test]
fn a_commit_for_a_deleted_topic_of_the_same_name_is_not_taken_for_this_one() {
    let mut source = source(10);
    source.groups[0].offsets[0].topic_id = Some(TopicId::from_u128(2));
    let plan = planned(&source, &Options::default());
    assert_eq!(
        plan.rows[0].target.clone().unwrap_err().reason,
        Reason::OtherIncarnation
    );
    source.groups[0].offsets[0].topic_id = Some(TopicId::nil());
    assert!(!planned(&source, &Options::default()).is_blocked());
}

/// `orders` p0 and p1 into one partition: targets 0,1 are p0's 0,1; 2,3,4 are p1's 10,11,12; 5 is p0's 2.
fn two_into_one(committed: &[(&str, i32, i64)]) -> Source {
    let way = |partition, runs: &[(i64, i64, i64)], to| {
        let mut builder = MappingBuilder::new(Offset(0));
        for (source, count, target) in runs {
            builder
                .push_run(Offset(*source), *count, Offset(*target))
                .unwrap();
        }
        SourcePartition {
            partition: PartitionId(partition),
            target_partition: PartitionId(0),
            log_start: Offset(0),
            to: Offset(to),
            mapping: Some(builder.finish(Offset(to)).unwrap()),
        }
    };
    Source {
        groups: vec![group("g", committed)],
        topics: vec![SourceTopic {
            partitions: vec![
                way(0, &[(0, 2, 0), (2, 1, 5)], 3),
                way(1, &[(10, 3, 2)], 13),
            ],
            ..orders(None)
        }],
        ..Source::default()
    }
}

#[test]
fn where_partitions_were_joined_a_group_goes_to_the_first_record_it_has_not_read() {
    // (p0, p1) committed → target, why, lag.
    let cases = [
        ((0, 10), 0, Why::SameRecord, 6),
        // Has p0's 0 and 1, and nothing of p1: nothing is read twice.
        ((2, 10), 2, Why::SameRecord, 4),
        // Has all of p1, and p0's 0: p1's three come after the first unread.
        ((1, 13), 1, Why::ReReads { records: 3 }, 5),
        ((3, 12), 4, Why::ReReads { records: 1 }, 2),
        ((3, 13), 6, Why::AfterLast, 0),
    ];
    for ((first, second), target, why, lag) in cases {
        let source = two_into_one(&[("orders", 0, first), ("orders", 1, second)]);
        let plan = planned(&source, &Options::default());
        assert_eq!(plan.rows.len(), 1);
        let row = &plan.rows[0];
        assert_eq!(row.target, Ok(Offset(target)), "{first}, {second}");
        assert_eq!(
            (row.why.clone(), row.lag_after),
            (why, Some(lag)),
            "{first}, {second}"
        );
    }
}

#[test]
fn where_partitions_were_joined_a_missing_commit_blocks() {
    let plan = planned(&two_into_one(&[("orders", 0, 1)]), &Options::default());
    let blocked = plan.rows[0].target.clone().unwrap_err();
    assert_eq!(blocked.reason, Reason::NoCommit);
    assert_eq!(
        blocked.what,
        "orders_dr-0 has records of orders p1, where g committed nothing"
    );
}

#[test]
fn a_partition_that_was_spread_by_key_gives_a_row_for_each_target() {
    let mut source = two_into_one(&[("orders", 0, 1), ("orders", 1, 10)]);
    source.topics[0].by_key = true;
    let mut elsewhere = source.topics[0].partitions[1].clone();
    elsewhere.partition = PartitionId(0);
    elsewhere.target_partition = PartitionId(7);
    source.topics[0].partitions.push(elsewhere);
    let plan = planned(&source, &Options::default());
    let rows: Vec<_> = plan
        .rows
        .iter()
        .map(|row| (row.target_partition.0, row.target.clone().unwrap().0))
        .collect();
    // p0's 1 stands at 1; in partition 7 the first record at or after it is the one of source offset 10, at 2.
    assert_eq!(rows, [(0, 1), (7, 2)]);
}

#[test]
fn a_partition_that_was_left_out_of_the_restore_is_skipped_and_not_missing() {
    let mut source = source(10);
    source.groups[0] = group("g", &[("orders", 0, 10), ("orders", 1, 5)]);
    source.topics[0].left_out = [PartitionId(1)].into_iter().collect();
    let plan = planned(&source, &Options::default());
    assert_eq!(plan.rows.len(), 1);
    assert_eq!(plan.skipped[0].partitions, [PartitionId(1)]);
    assert!(!plan.is_blocked());
}

#[test]
fn a_name_that_matches_no_group_blocks_the_plan() {
    let options = Options {
        groups: Selection::of(&["chekout-*"]).unwrap(),
        ..Options::default()
    };
    let plan = planned(&source(10), &options);
    assert!(plan.rows.is_empty());
    assert_eq!(plan.blocked.len(), 1);
    assert_eq!(
        plan.blocked[0].what,
        "no group in the archive matches chekout-*"
    );
    // All groups of an archive, and none has read what is restored: also nothing to be called a success.
    let mut nothing = source(10);
    nothing.groups[0] = group("g", &[("audit", 0, 5)]);
    assert!(planned(&nothing, &Options::default()).is_blocked());
}

#[test]
fn nothing_committed_is_no_row() {
    let mut source = source(10);
    source.groups[0] = group("g", &[("orders", 0, -1)]);
    assert!(planned(&source, &Options::default()).rows.is_empty());
}

#[test]
fn the_target_of_now_is_the_from_of_the_plan_and_no_change_is_not_committed() {
    let committed = |offset| Committed {
        offset: Offset(offset),
        leader_epoch: -1,
        metadata: "old".into(),
    };
    let tp = TopicPartition::new("orders_dr", 0);
    let at = |offset| {
        Current::from([(
            "g".to_string(),
            BTreeMap::from([(tp.clone(), committed(offset))]),
        )])
    };
    let plan = resolve(&source(20), &at(101), &Options::default());
    let row = &plan.rows[0];
    assert_eq!((row.from, row.lag_before), (Some(Offset(101)), Some(4)));
    assert_eq!(row.from_metadata.as_deref(), Some("old"));
    let commits = plan.commits();
    assert_eq!(commits["g"][&tp].offset, Offset(103));
    assert_eq!(commits["g"][&tp].metadata, "m");

    let plan = resolve(&source(20), &at(103), &Options::default());
    assert_eq!(plan.changes(), 0);
    assert!(plan.commits().is_empty());
}

#[test]
fn an_active_group_blocks_its_rows_and_names_its_members() {
    let mut plan = planned(&source(20), &Options::default());
    block_active(
        &mut plan,
        vec![ActiveGroup {
            group: "g".into(),
            state: "Stable".into(),
            members: vec![("app-1".into(), "/127.0.0.1".into())],
            reads: vec!["orders_dr".into()],
        }],
    );
    let blocked = plan.rows[0].target.clone().unwrap_err();
    assert_eq!(blocked.reason, Reason::GroupActive);
    assert_eq!(
        blocked.what,
        "group g is active: app-1 (127.0.0.1), subscribed to orders_dr"
    );
}

#[test]
fn the_summary_adds_up_per_group_and_topic() {
    let mut source = source(10);
    source.groups = vec![
        group("b", &[("orders", 0, 20)]),
        group("a", &[("orders", 0, 9001)]),
    ];
    let plan = planned(&source, &Options::default());
    let lines: Vec<_> = plan
        .summaries()
        .into_iter()
        .map(|line| {
            (
                line.group,
                line.changes,
                line.blocked,
                line.lag_before,
                line.lag_after,
            )
        })
        .collect();
    assert_eq!(
        lines,
        [("a".to_string(), 0, 1, 5, 0), ("b".to_string(), 1, 0, 5, 2)]
    );
    assert_eq!(plan.group_names(), ["a", "b"]);
    assert_eq!(plan.only(|group| group == "b").rows.len(), 1);
}

#[test]
fn strategies_that_do_not_exist_are_refused_by_name() {
    use super::super::Error;
    assert_eq!(
        Strategy::parse("exact", Given::Nothing).unwrap(),
        Strategy::Exact
    );
    assert_eq!(
        Strategy::parse("exakt", Given::Nothing)
            .unwrap_err()
            .to_string(),
        "there is no strategy `exakt`; did you mean `exact`?"
    );
    assert!(matches!(
        OutOfRange::parse("clamped"),
        Err(Error::UnknownOutOfRange { meant: Some(_), .. })
    ));
}
