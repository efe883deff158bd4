//! Lowered filters against the interpreter: the same answers and the same errors, on closures and records at random.

use super::*;
use crate::dsl::source::Source;
use crate::dsl::{engine, messages};
use crate::record::{Headers, OwnedHeaders, Record};
use proptest::prelude::*;

impl RecordPredicate {
    /// Whether it runs without the interpreter.
    fn is_lowered(&self) -> bool {
        self.lowered.is_some()
    }

    /// The same, with the interpreter for every record: what a lowered filter is compared with.
    fn interpreted(&self) -> Self {
        Self {
            lowered: None,
            ..self.clone()
        }
    }
}

/// A filter from its own text, as `filter` takes it in a runbook.
fn predicate(text: &str, on_error: OnError) -> Result<RecordPredicate, Failure> {
    let source = Source::inline("filter", text);
    let engine = engine::closure_engine();
    let failed = |error: &rhai::EvalAltResult| messages::innermost(&source, error).0;
    let ast = engine::compile(&engine, text)
        .map_err(|error| Failure::script("E0001", error.to_string()))?;
    let pointer = engine
        .eval_ast::<rhai::FnPtr>(&ast)
        .map_err(|error| failed(&error))?;
    Ok(RecordPredicate::new(
        Closure::take(&source, &ast, &pointer)?,
        on_error,
    ))
}

/// Keys, values and headers as topics have them, and some that they should not have.
struct Sample {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OwnedHeaders,
}

fn samples() -> Vec<Sample> {
    let values: [Option<&[u8]>; 19] = [
        Some(br#"{"a": 5, "b": {"c": "x"}, "s": "poison", "n": null, "t": true, "l": [1, 2.5, "a"]}"#),
        Some(br#"{"a": 5.0, "b": {"c": 7}, "s": "", "n": 3, "l": []}"#),
        Some(br#"{"a": "5", "b": null, "s": "a\u00e9\n", "l": [null]}"#),
        Some(br#"{"a": 1, "a": 9, "b": {"c": {"d": 1}}, "s": "POISON"}"#),
        Some(br#"{"a": 9223372036854775807, "s": "{\"c\": 1}", "len": 3}"#),
        Some(br#"{"a": 18446744073709551615, "b": {"c": [1]}}"#),
        Some(br#"{"a": -3, "b": {"c": "x"}"#),
        Some(br#"{"b": {"c": false}, "s": "a b"}"#),
        Some(br#"[1, 2, {"a": 4}]"#),
        Some(b"5"),
        Some(br#""text""#),
        Some(b"null"),
        Some(b"poison"),
        Some("älter, größer".as_bytes()),
        Some(b""),
        Some(&[0xff, 0x00, 0x80]),
        Some(br#""{\"a\": 5}""#),
        Some(br#"{"a": 2.5e0, "s": "abc", "t": false}"#),
        None,
    ];
    let keys: [Option<&[u8]>; 7] = [
        Some(b"poison"),
        None,
        Some(b"5"),
        Some(&[0xfe]),
        Some(b"a"),
        Some(br#"{"a": 5}"#),
        Some(b" 17 "),
    ];
    let mut samples = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mut headers = OwnedHeaders::new();
        if index % 3 > 0 {
            headers.push(b"h", Some(b"first"));
            headers.push(b"h", [Some(&b"a"[..]), None, Some(&[0x80])][index % 3]);
            headers.push(&[0xff], Some(b"x"));
        }
        samples.push(Sample {
            key: keys[index % keys.len()].map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers,
        });
    }
    samples
}

/// Every sample's answer or error, and how many of them the lowered tree told by itself.
fn answers(predicate: &RecordPredicate) -> (Vec<Result<bool, FilterError>>, usize) {
    let mut session = predicate.session();
    let mut native = 0;
    let answers = samples()
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let record = Record {
                offset: index as i64,
                timestamp: 1_000 * (index as i64 - 3),
                key: sample.key.as_deref(),
                value: sample.value.as_deref(),
                headers: sample.headers.as_headers(),
            };
            if let Some(node) = &predicate.lowered {
                native += usize::from(node.keep(&Row::new("orders", 2, &record)).is_ok());
            }
            session.keep(&FilterRecord {
                topic: "orders",
                partition: 2,
                record: &record,
            })
        })
        .collect();
    (answers, native)
}

fn taken(text: &str) -> RecordPredicate {
    predicate(text, OnError::Stop).unwrap_or_else(|failure| panic!("{text}: {}", failure.message))
}

/// Compares, and says how many records the lowered filter told by itself.
fn compare(text: &str) -> Option<usize> {
    // What does not parse is no filter.
    let lowered = predicate(text, OnError::Stop).ok()?;
    if !lowered.is_lowered() {
        return None;
    }
    let (given, native) = answers(&lowered);
    let (wanted, _) = answers(&lowered.interpreted());
    for (index, (given, wanted)) in given.iter().zip(&wanted).enumerate() {
        assert_eq!(given, wanted, "{text} on sample {index}");
    }
    Some(native)
}

#[test]
fn common_closures_are_lowered_and_answer_as_the_interpreter_does() {
    // With how many of the 19 samples they tell without the interpreter.
    let mut different = Vec::new();
    for (text, native) in [
        (r#"|r| r.key != "poison""#, 16),
        (r#"|r| r.key == () || r.key == "a""#, 16),
        (r#"|r| r.offset % 2 == 0 && r.partition in [1, 2, 3]"#, 19),
        (r#"|r| r.offset in 3..9"#, 19),
        (r#"|r| !(r.offset in 3..=9)"#, 19),
        (r#"let from = 4; |r| r.offset >= from"#, 19),
        (
            r#"let keys = ["a", "b", "c", "d", "poison"]; |r| r.key in keys"#,
            16,
        ),
        (r#"let keys = [1, 2, 3, 4, 5]; |r| r.offset !in keys"#, 19),
        (
            r#"|r| r.topic.starts_with("ord") && !r.topic.ends_with("x")"#,
            19,
        ),
        (r#"|r| r.timestamp.ms > 4000"#, 19),
        (r#"|r| r.timestamp - hours(1) < r.timestamp + ms(5)"#, 19),
        (r#"|r| r.header("h") == "a""#, 13),
        (r#"|r| r.value != () && r.value.contains("poison")"#, 18),
        (r#"|r| r.has("$.a")"#, 14),
        (r#"|r| r.has("$.a") && r.json("$.a") != ()"#, 14),
        (r#"|r| r.json("$.s", "") == "poison""#, 13),
        (r#"|r| r.has("$.t") && r.value.t"#, 14),
        (r#"|r| r.json("$.n", 0) ?? 1 == 1"#, 13),
        (r#"|r| r.value != () && "poison" in r.value"#, 18),
        (r#"|r| r.key != () && r.key.matches("^p.*n$")"#, 16),
        (
            r#"|r| { let k = r.key ?? ""; k.len() > 1 && k.to_upper() != "POISON" }"#,
            16,
        ),
        (
            r#"|r| { if r.value == () { return false; } let v = r.value; v.len() > 3 }"#,
            18,
        ),
        (r#"|r| if r.offset > 3 { r.key == "a" } else { true }"#, 17),
        (r#"|r| r.value.a in [5, 9]"#, 6),
        (r#"|r| r.value.l[0] == 1"#, 2),
        (r#"|r| parse_json(r.value)["a"] >= 2.5"#, 6),
        (r#"|r| { let o = parse_json(r.value); o.a == 5 }"#, 6),
        (r#"|r| parse_json(r.value).b.c == "x""#, 1),
        (r#"|r| r.key.a == 5"#, 2),
        (r#"|r| parse_int(r.key ?? "0") > 4"#, 8),
    ] {
        let told = compare(text);
        if told != Some(native) {
            different.push((text, told));
        }
    }
    assert_eq!(different, []);
}

#[test]
fn what_is_not_known_runs_interpreted() {
    for text in [
        r#"|r| r.value?.a == 5"#,
        r#"|r| `${r.key}` == "a""#,
        r#"|r| r.headers.len() > 1"#,
        r#"fn f(r) { true } |r| f(r)"#,
        r#"|r| { let n = 0; for c in r.topic { n += 1; } n > 3 }"#,
        r#"|r| r.key + "x" == "ax""#,
        r#"|r| { let x = r; x.offset > 1 }"#,
    ] {
        assert!(!taken(text).is_lowered(), "{text}");
    }
}

#[test]
fn errors_are_those_of_the_interpreter() {
    let message = |text: &str, sample: usize| {
        let (given, _) = answers(&taken(text));
        given[sample].clone().unwrap_err().message
    };
    let mixed = message("|r| r.key < 5", 0);
    assert!(
        mixed.starts_with("`<` does not compare text with a whole number"),
        "{mixed}"
    );
    assert_eq!(
        message("|r| r.json(\"$.a\") > 1", 18),
        "the value is null, a tombstone: it has no $.a (ask before: r.value != ())"
    );
    assert_eq!(
        message("|r| r.json(\"$.a\") > 1", 7),
        "the value has no $.a (ask with r.has(\"$.a\"), or say what counts instead: r.json(\"$.a\", 0))"
    );
    assert_eq!(
        message("|r| r.value.a > 1", 7),
        "the JSON has no `a` (ask with r.has(\"$.a\"), or say what counts instead: r.json(\"$.a\", 0))"
    );
    let broken = message("|r| r.value.a > 1", 6);
    assert!(
        broken.starts_with("`a` of a text reads JSON, and it is not JSON: EOF"),
        "{broken}"
    );
    assert_eq!(
        message("|r| r.value.len > 1", 0),
        "`len` of text is called (write .len(), or .json(\"$.len\") for the member of JSON)"
    );
    assert_eq!(
        message("|r| r.key", 0),
        "the filter answers true or false, not text"
    );
}

#[test]
fn records_that_fail_are_kept_or_dropped_as_asked_and_counted() {
    for (on_error, keep) in [(OnError::Keep, true), (OnError::Drop, false)] {
        let predicate = predicate("|r| r.json(\"$.a\") > 3", on_error).unwrap();
        let mut session = predicate.session();
        let mut failed = 0;
        for sample in samples() {
            let record = Record {
                offset: 0,
                timestamp: 0,
                key: None,
                value: sample.value.as_deref(),
                headers: Headers::empty(),
            };
            let given = session.keep(&FilterRecord {
                topic: "orders",
                partition: 0,
                record: &record,
            });
            let stopped = answers_one(&record);
            match stopped {
                Ok(answer) => assert_eq!(given, Ok(answer)),
                Err(_) => {
                    failed += 1;
                    assert_eq!(given, Ok(keep));
                }
            }
        }
        assert_eq!(session.failed(), failed);
        assert!(failed > 5);
    }
}

fn answers_one(record: &Record<'_>) -> Result<bool, FilterError> {
    taken("|r| r.json(\"$.a\") > 3")
        .session()
        .keep(&FilterRecord {
            topic: "orders",
            partition: 0,
            record,
        })
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "r.key",
            "r.value",
            "r.topic",
            "r.partition",
            "r.offset",
            "r.timestamp",
            "r.timestamp.ms",
            "r.header(\"h\")",
            "r.value.a",
            "r.value.b.c",
            "r.value.l[0]",
            "parse_json(r.value)[\"s\"]",
            "r.json(\"$.a\")",
            "r.json(\"$.b.c\", 7)",
            "r.json(\"$.s\", \"\")",
            "r.json(\"$\")",
            "r.json(\"$.n\")",
            "r.json(\"$.l[1]\")",
            "parse_json(r.value).t",
            "parse_json(r.key).a",
            "parse_int(r.key)",
            "r.key.len()",
            "r.value.bytes()",
            "limit",
            "word",
            "hours(1)",
            "since",
        ])
        .prop_map(str::to_string),
        prop::sample::select(vec![
            "0",
            "1",
            "5",
            "-3",
            "2.5",
            "9223372036854775807",
            "\"a\"",
            "\"poison\"",
            "\"\"",
            "true",
            "()",
            "9.3e18",
        ])
        .prop_map(str::to_string),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop::sample::select(vec!["+", "-", "*", "/", "%", "??"]),
                inner.clone()
            )
                .prop_map(|(left, symbol, right)| format!("({left} {symbol} {right})")),
            inner.clone().prop_map(|of| format!("(-({of}))")),
            (
                inner.clone(),
                prop::sample::select(vec!["to_lower()", "to_upper()", "len()"])
            )
                .prop_map(|(of, call)| format!("({of}).{call}")),
        ]
    })
}

fn flag() -> impl Strategy<Value = String> {
    let symbols = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        5 => (value(), symbols, value()).prop_map(|(l, s, r)| format!("({l} {s} {r})")),
        1 => value().prop_map(|v| format!("({v} in [1, 5, \"a\", 2.5])")),
        1 => value().prop_map(|v| format!("({v} in words)")),
        1 => value().prop_map(|v| format!("({v} !in -3..6)")),
        1 => (value(), prop::sample::select(vec!["contains", "starts_with", "ends_with"]), value())
            .prop_map(|(of, call, what)| format!("({of}).{call}({what})")),
        1 => value().prop_map(|v| format!("({v}).matches(\"^[a-p]+\")")),
        1 => value().prop_map(|v| format!("({v}).is_empty()")),
        1 => Just("r.has(\"$.b.c\")".to_string()),
        1 => value(),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(if {a} {{ {b} }} else {{ {c} }})")),
            (value(), inner.clone(), inner.clone()).prop_map(|(v, a, b)| format!(
                "{{ let x = {v}; if {a} {{ return x == (); }} {b} }}"
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3_000 }))]

    #[test]
    fn lowered_and_interpreted_answer_and_fail_alike(body in flag()) {
        let text = format!(
            "let limit = 4; let word = \"poison\"; let words = [\"a\", \"poison\", \"5\", \"x\", \"y\"]; \
             let since = ms(5000); |r| {body}"
        );
        compare(&text);
    }
}
