//! The mapping against written-down values, and against the plain list of every record.

use super::*;
use proptest::prelude::*;

fn two_runs() -> Mapping {
    // Source 10..13 and 20..22 restored of [10, 30), into a target that begins at 100.
    let mut builder = MappingBuilder::new(Offset(100));
    for source in [10, 11, 12, 20, 21] {
        builder.append(Offset(source)).unwrap();
    }
    builder.finish(Offset(30)).unwrap()
}

#[test]
fn neighbours_that_continue_each_other_are_one_run() {
    let mapping = two_runs();
    assert_eq!(
        mapping.runs().collect::<Vec<_>>(),
        [
            Run {
                source_from: Offset(10),
                source_to: Offset(13),
                target_from: Offset(100)
            },
            Run {
                source_from: Offset(20),
                source_to: Offset(22),
                target_from: Offset(103)
            },
        ]
    );
    assert_eq!(mapping.records(), 5);
    assert_eq!(mapping.target_end(), Offset(105));
}

#[test]
fn an_offset_becomes_that_of_the_first_restored_record_at_or_after_it() {
    let mapping = two_runs();
    let cases = [
        (0, 100, How::NextRestored { source: Offset(10) }),
        (10, 100, How::SameRecord),
        (12, 102, How::SameRecord),
        (13, 103, How::NextRestored { source: Offset(20) }),
        (19, 103, How::NextRestored { source: Offset(20) }),
        (20, 103, How::SameRecord),
        (21, 104, How::SameRecord),
        (22, 105, How::AfterLast),
        (30, 105, How::AfterLast),
    ];
    for (source, offset, how) in cases {
        assert_eq!(
            mapping.translate(Offset(source)),
            Translated {
                offset: Offset(offset),
                how
            },
            "source offset {source}"
        );
    }
}

#[test]
fn with_nothing_restored_every_offset_becomes_the_base() {
    let mapping = MappingBuilder::new(Offset(7)).finish(Offset(50)).unwrap();
    assert_eq!(mapping.translate(Offset(3)).offset, Offset(7));
    assert_eq!(mapping.translate(Offset(50)).offset, Offset(7));
    assert_eq!(mapping.lag_from(Offset(7)), 0);
}

#[test]
fn lag_counts_restored_records_and_no_holes_in_the_target() {
    let mut builder = MappingBuilder::new(Offset(0));
    builder.push_run(Offset(0), 3, Offset(0)).unwrap();
    builder.push_run(Offset(3), 2, Offset(10)).unwrap();
    let mapping = builder.finish(Offset(5)).unwrap();
    assert_eq!(mapping.lag_from(Offset(0)), 5);
    assert_eq!(mapping.lag_from(Offset(2)), 3);
    assert_eq!(mapping.lag_from(Offset(5)), 2);
    assert_eq!(mapping.lag_from(Offset(11)), 1);
    assert_eq!(mapping.lag_from(Offset(12)), 0);
}

#[test]
fn it_is_written_as_small_numbers_and_read_back_the_same() {
    let mapping = two_runs();
    let text = serde_json::to_string(&mapping).unwrap();
    assert_eq!(
        text,
        r#"{"source_end":30,"target_base":100,"runs":[[10,3,0],[7,2,0]]}"#
    );
    let back: Mapping = serde_json::from_str(&text).unwrap();
    assert_eq!(back, mapping);
    assert_eq!(back.digest(), mapping.digest());
}

#[test]
fn runs_that_go_back_are_refused_when_built_and_when_read() {
    let mut builder = MappingBuilder::new(Offset(5));
    builder.push_run(Offset(10), 5, Offset(5)).unwrap();
    assert!(matches!(
        builder.push(Offset(14), Offset(10)),
        Err(Error::OutOfOrder { .. })
    ));
    assert!(matches!(
        builder.push(Offset(15), Offset(9)),
        Err(Error::OutOfOrder { .. })
    ));
    assert!(matches!(
        builder.push_run(Offset(15), 0, Offset(10)),
        Err(Error::BadCount { .. })
    ));
    assert!(matches!(
        builder.finish(Offset(14)),
        Err(Error::EndBeforeLast { .. })
    ));
    for text in [
        r#"{"source_end":30,"target_base":0,"runs":[[10,3,0],[-1,2,0]]}"#,
        r#"{"source_end":30,"target_base":0,"runs":[[10,3,0],[1,2,-1]]}"#,
        r#"{"source_end":30,"target_base":0,"runs":[[9223372036854775807,3,0]]}"#,
        r#"{"source_end":2,"target_base":0,"runs":[[0,3,0]]}"#,
    ] {
        assert!(serde_json::from_str::<Mapping>(text).is_err(), "{text}");
    }
}

#[test]
fn mappings_that_differ_anywhere_have_different_digests() {
    let mut other = MappingBuilder::new(Offset(100));
    for source in [10, 11, 12, 20, 22] {
        other.append(Offset(source)).unwrap();
    }
    assert_ne!(
        two_runs().digest(),
        other.finish(Offset(30)).unwrap().digest()
    );
}

#[test]
fn a_mapping_is_stored_in_two_bytes_a_run_and_read_back_the_same() {
    let mut builder = MappingBuilder::new(Offset(7));
    for source in (1..2_000_001).step_by(2) {
        builder.append(Offset(source)).unwrap();
    }
    let mapping = builder.finish(Offset(2_000_001)).unwrap();
    assert_eq!(mapping.run_count(), 1_000_000);
    let bytes = mapping.to_bytes();
    assert!(bytes.len() < 2_000_100, "{} bytes", bytes.len());
    let back = Mapping::from_bytes(&bytes).unwrap();
    assert_eq!(back, mapping);
    assert_eq!(back.digest(), mapping.digest());
    assert_eq!(back.translate(Offset(1_000_000)).offset, Offset(500_007));
    assert_eq!(back.lag_from(Offset(500_007)), 500_000);
}

#[test]
fn stored_bytes_that_are_cut_lengthened_or_of_another_kind_are_refused() {
    let bytes = two_runs().to_bytes();
    assert_eq!(bytes, [b'K', b'B', b'M', b'1', 30, 100, 2, 10, 6, 7, 4]);
    for length in 0..bytes.len() {
        assert!(
            Mapping::from_bytes(&bytes[..length]).is_err(),
            "{length} bytes"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(
        Mapping::from_bytes(&longer),
        Err(Error::BadBytes { .. })
    ));
    // Two runs that are one: the same mapping must be the same bytes.
    assert!(Mapping::from_bytes(b"KBM1\x1e\x64\x02\x0a\x06\x00\x04").is_err());
    assert!(Mapping::from_bytes(b"KBM2\x1e\x64\x00").is_err());
}

/// Kept source offsets and their target offsets, ascending in both.
fn records() -> impl Strategy<Value = (i64, Vec<(i64, i64)>, i64)> {
    let steps =
        proptest::collection::vec((0..4i64, prop_oneof![9 => Just(0), 1 => 0..3i64]), 0..3_000);
    (0..1_000i64, steps, 0..5i64).prop_map(|(base, steps, behind)| {
        let (mut source, mut target) = (0, base);
        let mut kept = Vec::new();
        for (skip, hole) in steps {
            source += skip;
            target += hole;
            kept.push((source, target));
            source += 1;
            target += 1;
        }
        (base, kept, source + behind)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_lookup_is_that_of_the_plain_list((base, kept, end) in records()) {
        let mut builder = MappingBuilder::new(Offset(base));
        for (source, target) in &kept {
            builder.push(Offset(*source), Offset(*target)).unwrap();
        }
        let mapping = builder.finish(Offset(end)).unwrap();
        prop_assert_eq!(mapping.records(), kept.len() as u64);
        let listed: Vec<(i64, i64)> = mapping
            .runs()
            .flat_map(|run| (0..run.count()).map(move |n| (run.source_from.0 + n, run.target_from.0 + n)))
            .collect();
        prop_assert_eq!(&listed, &kept);
        let target_end = kept.last().map_or(base, |(_, target)| target + 1);
        prop_assert_eq!(mapping.target_end(), Offset(target_end));
        for source in (0..end + 2).step_by(7) {
            let next = kept.iter().find(|(at, _)| *at >= source);
            prop_assert_eq!(
                mapping.translate(Offset(source)).offset.0,
                next.map_or(target_end, |(_, target)| *target)
            );
        }
        for target in (base..target_end + 2).step_by(5) {
            let behind = kept.iter().filter(|(_, at)| *at >= target).count();
            prop_assert_eq!(mapping.lag_from(Offset(target)), behind as u64);
        }
        let back = Mapping::from_bytes(&mapping.to_bytes()).unwrap();
        prop_assert_eq!(&back, &mapping);
        let text = serde_json::to_string(&mapping).unwrap();
        let read: Mapping = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &mapping);
    }
}
