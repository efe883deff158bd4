//! The digest names exactly one plan: equal plans agree, and every pinned or bounded byte counts.

mod run_fake;

use kbr::base::{Digest, TimestampMs};
use kbr::run::*;
use proptest::prelude::*;
use run_fake::*;
use serde_json::{Value, json};
use std::sync::Arc;

fn with(pinned: Value, bounded: Value, observed: Value) -> Plan {
    let events = Events::default();
    let mut one = step("a", &events);
    (one.pinned, one.bounded, one.observed) = (pinned, bounded, observed);
    let mut plan = plan_of([one]);
    plan.now = TimestampMs(1_795_255_200_000);
    plan
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_json_is_json_again_and_does_not_depend_on_insertion_order(value in any_json()) {
        let bytes = canonical_json(&value);
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(canonical_json(&reversed(&value)), bytes);
    }

    #[test]
    fn a_digest_changes_exactly_when_a_pinned_or_bounded_field_does(
        first in any_json(), second in any_json(), observed in any_json(),
    ) {
        let plan = with(first.clone(), json!(1), json!(1));
        prop_assert_eq!(
            plan.digest(),
            with(first.clone(), json!(1), observed).digest()
        );
        let pinned = with(second.clone(), json!(1), json!(1));
        prop_assert_eq!(plan.digest() == pinned.digest(), first == second);
        let left = with(json!(1), first.clone(), json!(1));
        let right = with(json!(1), second.clone(), json!(1));
        prop_assert_eq!(left.digest() == right.digest(), first == second);
    }
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map
                .iter()
                .map(|(key, value)| (key.clone(), reversed(value)))
                .collect();
            pairs.reverse();
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

#[test]
fn canonical_bytes_are_sorted_and_exact() {
    let value = json!({ "b": 9_007_199_254_740_993_u64, "a": [i64::MIN, "é\n"], "ä": null });
    assert_eq!(
        String::from_utf8(canonical_json(&value)).unwrap(),
        "{\"a\":[-9223372036854775808,\"é\\n\"],\"b\":9007199254740993,\"ä\":null}"
    );
}

#[test]
fn neighbouring_large_offsets_have_different_digests() {
    let one = with(json!(9_007_199_254_740_992_i64), json!(0), json!(0));
    let other = with(json!(9_007_199_254_740_993_i64), json!(0), json!(0));
    assert_ne!(one.digest(), other.digest());
}

#[test]
fn what_identifies_the_run_is_digested_and_what_describes_it_is_not() {
    let base = || {
        let mut plan = with(json!(1), json!(1), json!(1));
        plan.add_cluster(ClusterFact {
            name: "dr".into(),
            id: "abc".into(),
            description: "1 broker".into(),
        });
        plan.add_archive(ArchiveFact {
            url: "file:/a".into(),
            id: Some("archive-1".into()),
            generation: Some(7),
            generation_digest: Some(Digest::of(b"7")),
            description: "generation 7, 1 min old".into(),
        });
        plan
    };
    let digest = base().digest();

    let mut plan = base();
    plan.clusters[0].name = "dr-by-another-name".into();
    plan.clusters[0].description = "3 brokers".into();
    plan.archives[0].description = "generation 7, 2 min old".into();
    plan.archives[0].url = "file:/moved".into();
    plan.now = TimestampMs(plan.now.0 + 1);
    plan.runbook.name = "renamed.rhai".into();
    assert_eq!(plan.digest(), digest);

    type Change = fn(&mut Plan);
    let changes: [(&str, Change); 8] = [
        ("cluster id", |plan| plan.clusters[0].id = "abd".into()),
        ("generation", |plan| plan.archives[0].generation = Some(8)),
        ("generation hash", |plan| {
            plan.archives[0].generation_digest = Some(Digest::of(b"8"))
        }),
        ("runbook", |plan| plan.runbook.digest = Digest::of(b"other")),
        ("argument", |plan| {
            plan.arguments.insert("at".into(), "x".into());
        }),
        ("a clock that was read", |plan| plan.now_read = true),
        ("confirm", |plan| plan.add_confirm("sure?", None)),
        ("another step", |plan| {
            plan.add_step(Arc::new(step("b", &Events::default())), None);
        }),
    ];
    for (what, change) in changes {
        let mut plan = base();
        change(&mut plan);
        assert_ne!(plan.digest(), digest, "{what}");
    }
}

#[test]
fn the_order_of_clusters_does_not_matter() {
    let fact = |id: &str| ClusterFact {
        name: id.into(),
        id: id.into(),
        description: String::new(),
    };
    let (mut one, mut other) = (empty_plan(), empty_plan());
    for id in ["a", "b"] {
        one.add_cluster(fact(id));
    }
    for id in ["b", "a", "b"] {
        other.add_cluster(fact(id));
    }
    assert_eq!(one.digest(), other.digest());
}

#[test]
fn the_summary_counts_what_execution_will_do() {
    let events = Events::default();
    let mut blocked = step("c", &events).gated("dr");
    blocked.blocked = true;
    let mut same = step("d", &events);
    same.no_change = true;
    let plan = plan_of([step("a", &events), step("b", &events), blocked, same]);
    let summary = plan.document().summary;
    assert_eq!(summary.kinds, ["2 write", "1 reset"]);
    assert_eq!((summary.blocked, summary.no_change), (1, 1));
}

#[test]
fn a_plan_document_is_read_back_as_it_was_written() {
    let mut plan = with(json!({"offset": i64::MAX}), json!(1), json!(1));
    plan.add_confirm(
        "sure?",
        Some(Span {
            line: 3,
            column: 1,
            length: 7,
        }),
    );
    let document = plan.document();
    let text = serde_json::to_string(&document).unwrap();
    assert!(text.starts_with("{\"schema\":\"kbr.plan/1\""), "{text}");
    let read: PlanDocument = serde_json::from_str(&text).unwrap();
    assert_eq!(read, document);
}
