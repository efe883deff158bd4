//! Places by headers, from records written down here; and against a model that looks at every record.

use super::super::log::Origin;
use super::*;
use crate::archive::{GroupEntry, GroupOffset};
use crate::engine::mapping::MappingBuilder;
use crate::engine::offsets::renamed::Renamed;
use crate::engine::offsets::resolve::{Current, resolve};
use crate::engine::offsets::{Source, SourcePartition, SourceTopic};
use crate::engine::restore::{FilterError, TopicRemap};
use proptest::prelude::*;

/// Target offset, and where the record says that it came from.
fn seen(target: i64, origin: Option<(i32, i64)>) -> Seen {
    Seen {
        offset: target,
        timestamp: 0,
        broker_time: false,
        digest: [0; 16],
        origin: origin.map(|(partition, offset)| Origin {
            offset,
            partition: Some(PartitionId(partition)),
            elsewhere: false,
        }),
        commit: None,
    }
}

fn commits(groups: &[&[(i32, i64)]]) -> Commits {
    groups
        .iter()
        .map(|of| of.iter().map(|(p, at)| (PartitionId(*p), *at)).collect())
        .collect()
}

fn searched(records: &[Seen], groups: &Commits) -> Search {
    let mut search = Search::new(PartitionId(0), groups);
    for record in records {
        search.see(record, groups);
    }
    search
}

fn targets(search: &Search) -> Vec<Option<i64>> {
    let found = search.found.iter();
    found.map(|first| first.map(|first| first.target)).collect()
}

#[test]
fn a_group_goes_to_the_first_record_that_it_has_not_read() {
    // 10, 11 and 14 of the source's partition 0, and one of somebody else.
    let records = [
        seen(100, Some((0, 10))),
        seen(101, Some((0, 11))),
        seen(102, None),
        seen(103, Some((0, 14))),
        seen(104, None),
    ];
    let groups = commits(&[
        &[(0, 0)],
        &[(0, 10)],
        &[(0, 11)],
        &[(0, 12)],
        &[(0, 14)],
        &[(0, 15)],
    ]);
    let search = searched(&records, &groups);
    assert_eq!(
        targets(&search),
        [Some(100), Some(100), Some(101), Some(103), Some(103), None]
    );
    assert_eq!(search.again, [0; 6]);
    assert_eq!((search.tally.from_source, search.tally.without), (3, 2));
    // What somebody else wrote behind the source's records is unread.
    assert_eq!(search.tally.end, Some(104));
}

#[test]
fn where_partitions_are_joined_what_is_read_again_is_counted() {
    let records = [
        seen(0, Some((0, 0))),
        seen(1, Some((1, 0))),
        seen(2, Some((0, 1))),
        seen(3, Some((1, 1))),
        seen(4, Some((0, 2))),
    ];
    // The first one has read all of partition 0 and nothing of partition 1.
    let groups = commits(&[&[(0, 3), (1, 0)], &[(0, 1), (1, 2)], &[(0, 3), (1, 2)]]);
    let search = searched(&records, &groups);
    assert_eq!(targets(&search), [Some(1), Some(2), None]);
    assert_eq!(search.again, [2, 1, 0]);
}

#[test]
fn a_topic_that_was_restored_twice_is_read_from_its_first_copy() {
    let records = [
        seen(0, Some((0, 0))),
        seen(1, Some((0, 1))),
        seen(2, Some((0, 0))),
        seen(3, Some((0, 1))),
    ];
    let groups = commits(&[&[(0, 1)], &[(0, 2)]]);
    let search = searched(&records, &groups);
    assert_eq!(targets(&search), [Some(1), None]);
    assert_eq!(search.again, [1, 0]);
    assert_eq!(search.tally.end, Some(4));
}

#[test]
fn records_of_another_cluster_do_not_count() {
    let mut foreign = seen(0, Some((0, 7)));
    foreign.origin.as_mut().unwrap().elsewhere = true;
    let groups = commits(&[&[(0, 3)]]);
    let search = searched(&[foreign, seen(1, Some((0, 3)))], &groups);
    assert_eq!(targets(&search), [Some(1)]);
    assert_eq!(search.tally.from_elsewhere, 1);
}

/// Looks at every record for every group.
fn naive(records: &[Seen], commits: &BTreeMap<PartitionId, i64>) -> (Option<i64>, u64) {
    let unread = |record: &Seen| {
        let origin = record.origin?;
        let committed = commits.get(&origin.partition?)?;
        Some(origin.offset >= *committed)
    };
    let first = records
        .iter()
        .position(|record| unread(record) == Some(true));
    let Some(first) = first else {
        return (None, 0);
    };
    let again = records[first..]
        .iter()
        .filter(|record| unread(record) == Some(false));
    (Some(records[first].offset), again.count() as u64)
}

fn history() -> impl Strategy<Value = Vec<Seen>> {
    let record = (prop::option::weighted(0.8, (0..3i32, 0..20i64)), 1..4i64);
    prop::collection::vec(record, 0..40).prop_map(|records| {
        let mut at = 0;
        records
            .into_iter()
            .map(|(origin, step)| {
                at += step;
                seen(at, origin)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_place_is_the_naive_one_in_any_order_of_records(
        records in history(),
        in_order in any::<bool>(),
        committed in prop::collection::vec(prop::collection::btree_map(0..3i32, 0..21i64, 0..3), 1..6),
    ) {
        let mut records = records;
        if in_order {
            // As one restore writes them: each partition's records ascend.
            let mut next = [0; 3];
            for record in &mut records {
                if let Some(origin) = &mut record.origin {
                    let next = &mut next[origin.partition.unwrap().0 as usize];
                    *next += 1 + origin.offset % 3;
                    origin.offset = *next;
                }
            }
        }
        let groups: Commits = committed
            .iter()
            .map(|of| of.iter().map(|(p, at)| (PartitionId(*p), *at)).collect())
            .collect();
        let search = searched(&records, &groups);
        for (index, of) in groups.iter().enumerate() {
            let (target, again) = naive(&records, of);
            prop_assert_eq!(search.found[index].map(|first| first.target), target);
            prop_assert_eq!(search.again[index], again);
        }
    }
}

proptest! {
    /// A source with gaps, of which some records are restored behind what the target holds already, groups renamed.
    #[test]
    fn the_mapping_and_the_headers_lead_to_the_same_place_and_nothing_unread_lies_before_it(
        steps in prop::collection::vec((1..4i64, any::<bool>()), 1..60),
        base in 0..100i64,
        beyond in 0..4i64,
        pick in 0..1000usize,
    ) {
        let mut at = 0;
        let mut mapping = MappingBuilder::new(Offset(base));
        let mut restored = Vec::new();
        for (step, kept) in steps {
            at += step;
            if kept {
                mapping.append(Offset(at)).unwrap();
                restored.push((at, base + restored.len() as i64));
            }
        }
        let end = at + 1 + beyond;
        let committed = pick as i64 % (end + 1);
        let naive = restored.iter().find(|(source, _)| *source >= committed);
        let after_last = base + restored.len() as i64;

        let offset = GroupOffset {
            topic: "orders".into(),
            offset: Offset(committed),
            ..GroupOffset::default()
        };
        let source = Source {
            groups: vec![GroupEntry {
                group: "g".into(),
                state: "Empty".into(),
                protocol_type: "consumer".into(),
                kind: "classic".into(),
                offsets: vec![offset],
            }],
            topics: vec![SourceTopic {
                topic: "orders".into(),
                topic_id: Default::default(),
                target_topic: "orders_dr".into(),
                by_key: false,
                left_out: Default::default(),
                partitions: vec![SourcePartition {
                    partition: PartitionId(0),
                    target_partition: PartitionId(0),
                    log_start: Offset(0),
                    to: Offset(end),
                    mapping: Some(mapping.finish(Offset(end)).unwrap()),
                }],
            }],
            renamed: Renamed::by(&Suffix, ["g"]).unwrap(),
        };
        let plan = resolve(&source, &Current::new(), &Options::default());
        prop_assert_eq!(&plan.rows[0].group, "g-dr");
        let exact = plan.rows[0].target.clone().unwrap().0;
        prop_assert_eq!(exact, naive.map_or(after_last, |(_, target)| *target));

        let records: Vec<Seen> = restored
            .iter()
            .map(|(source, target)| seen(*target, Some((0, *source))))
            .collect();
        let search = searched(&records, &commits(&[&[(0, committed)]]));
        let by_header = search.found[0].map_or(search.tally.end.unwrap_or(base), |first| first.target);
        prop_assert_eq!(by_header, exact);
        prop_assert_eq!(search.again[0], 0);
    }
}

struct Suffix;

impl TopicRemap for Suffix {
    fn fingerprint(&self) -> String {
        String::new()
    }

    fn target(&self, name: &str) -> std::result::Result<String, FilterError> {
        Ok(format!("{name}-dr"))
    }
}

#[test]
fn groups_that_would_share_a_name_are_told() {
    struct One;
    impl TopicRemap for One {
        fn fingerprint(&self) -> String {
            String::new()
        }

        fn target(&self, name: &str) -> std::result::Result<String, FilterError> {
            Ok(if name == "c" {
                String::new()
            } else {
                "one".into()
            })
        }
    }
    let names = ["a", "b", "c"];
    let renamed = Renamed::by(&One, names).unwrap();
    let blocked = renamed.collisions(names.into_iter());
    let texts: Vec<&str> = blocked
        .iter()
        .map(|blocked| blocked.what.as_str())
        .collect();
    assert_eq!(
        texts,
        ["the new name of c is empty", "a, b would all be called one"]
    );
}
