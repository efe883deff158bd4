//! What `kbr check` says, word for word, and where.

use kbr::dsl::{Severity, Source, check};

/// `CODE line:column+length message | label | help`, one per finding.
fn findings(script: &str) -> Vec<String> {
    check(&Source::inline("test.rhai", script))
        .into_iter()
        .map(|finding| {
            let place = finding.span.map_or("-".to_string(), |span| {
                format!("{}:{}+{}", span.line, span.column, span.length)
            });
            let mut text = format!("{} {place} {}", finding.code, finding.message);
            for more in [finding.label, finding.help].into_iter().flatten() {
                text.push_str(" | ");
                text.push_str(&more);
            }
            text
        })
        .collect()
}

#[track_caller]
fn finds(script: &str, wanted: &[&str]) {
    assert_eq!(findings(script), wanted, "{script}");
}

const RESTORE: &str = "let snap = store(\"s\").latest(); let dr = cluster(\"dr\");\n";

#[track_caller]
fn finds_in_restore(script: &str, wanted: &[&str]) {
    finds(&format!("{RESTORE}{script}"), wanted);
}

#[test]
fn syntax_errors_have_their_place() {
    finds("let x = ;", &["E0001 1:9+1 unexpected `;`"]);
    finds(
        "while true { ",
        &["E0001 1:14+1 `}` is missing to terminate this block"],
    );
    finds(
        "let x = \"abc",
        &["E0001 1:9+1 open string is not terminated"],
    );
}

#[test]
fn text_in_single_quotes_is_shown_in_double_quotes() {
    finds(
        "cluster('prod')",
        &["E0001 1:9+6 'prod' is no text: text is written in double quotes | write \"prod\""],
    );
}

#[test]
fn an_option_of_another_name_does_not_hide_the_mistakes_after_it() {
    finds_in_restore(
        "restore(snap).topic(\"a\").befor(\"latest\").to(dr);",
        &[
            "E0207 2:15+5 no option `topic` for restore | did you mean `topics`? | kbr docs restore",
            "E0207 2:26+5 no option `befor` for restore | did you mean `before`? | kbr docs restore",
        ],
    );
}

#[test]
fn reserved_words_say_what_to_write_instead() {
    finds_in_restore(
        "restore(snap)\n    .until(\"2026-11-20\")\n    .to(dr);",
        &[
            "E0003 3:6+5 `until` is a reserved word | write `before`: it is exclusive and pairs with `since`",
        ],
    );
    finds(
        "import \"x\" as y;",
        &[
            "E0003 1:1+6 `import` is a reserved word | imports are not in this version: define the functions in the runbook",
        ],
    );
    finds(
        "let n = null;",
        &["E0003 1:9+4 `null` is a reserved word | write `()`"],
    );
    finds(
        "eval(\"1\")",
        &["E0003 1:1+4 `eval` is not a word of runbooks | text is never run as script"],
    );
}

#[test]
fn an_unknown_option_is_named_with_the_nearest_one() {
    finds_in_restore(
        "restore(snap)\n    .befor(\"latest\")\n    .to(dr);",
        &["E0207 3:6+5 no option `befor` for restore | did you mean `before`? | kbr docs restore"],
    );
    finds_in_restore(
        "backup(dr).topic(\"a\").to(store(\"s\"));",
        &["E0207 2:12+5 no option `topic` for backup | did you mean `topics`? | kbr docs backup"],
    );
}

#[test]
fn unknown_names_are_found_wherever_they_are() {
    finds(
        "let x = clustr(\"dr\");",
        &["E0202 1:9+6 no function `clustr` | did you mean `cluster`?"],
    );
    finds(
        "let d = cluster(\"dr\").topcs();",
        &["E0207 1:23+5 no method `topcs` for cluster | did you mean `topics`? | kbr docs cluster"],
    );
    finds(
        "let d = cluster(\"x\"); [1].map(|n| d.topcs())",
        &["E0207 1:37+5 no method `topcs` for cluster | did you mean `topics`? | kbr docs cluster"],
    );
    finds(
        "fn f(x) { clustr(x) } f(1)",
        &["E0202 1:11+6 no function `clustr` | did you mean `cluster`?"],
    );
    finds(
        "let orders = 1; print(order)",
        &["E0201 1:23+5 no variable `order` | did you mean `orders`?"],
    );
    finds(
        "sleep(5)",
        &["E0202 1:1+5 no function `sleep` | kbr docs lists every name"],
    );
    finds(
        "timestamp()",
        &["E0202 1:1+9 no function `timestamp` | kbr docs lists every name"],
    );
    finds_in_restore(
        "restore(snap).filter(|r| r.valeu == \"a\").to(dr);",
        &["E0203 2:28+5 no property `valeu` for record | did you mean `value`?"],
    );
    finds_in_restore(
        "restore(snap).filter(|r| cluster(\"x\").name == r.topic).to(dr);",
        &[
            "E0213 2:26+7 `cluster` cannot be used in a closure over records or names | read what it needs into a variable before, and use that",
        ],
    );
}

#[test]
fn methods_are_called_and_properties_are_not() {
    finds(
        "let d = cluster(\"dr\"); d.topics; d.name()",
        &[
            "E0203 1:26+6 `topics` of cluster is called | write .topics()",
            "E0203 1:36+4 `name` of cluster is not called | write .name without brackets",
        ],
    );
}

#[test]
fn wrong_kinds_and_counts_are_found_where_they_are_written_out() {
    finds_in_restore(
        "restore(snap).topics(5).to(dr);",
        &[
            "E0208 2:22+1 option `topics` of restore takes text, not a whole number | for example restore(snap).topics(\"orders\", \"payments-*\")",
        ],
    );
    finds_in_restore(
        "restore(snap).before(\"yesterday\").to(dr);",
        &[
            "E0214 2:22+11 not an instant: \"yesterday\" (write 2026-11-20T10:00:00Z, 2026-11-20, epoch milliseconds, or -2h)",
        ],
    );
    finds_in_restore(
        "restore(snap).topics(\"/(/\").to(dr);",
        &["E0214 2:22+5 not a pattern: \"/(/\": unclosed group"],
    );
    finds_in_restore(
        "confirm(\"x\"); offset_plan(restore(snap).to(dr)).strategy(\"exakt\").reset();",
        &[
            "E0212 2:58+7 option `strategy` of offset_plan is not \"exakt\" | did you mean \"exact\"? | it is one of: exact, skip, preserve, header, timestamp, cluster-scan, earliest, latest, to-offset, shift-by, to-datetime, by-duration, to-current, to-group, manual",
        ],
    );
    finds_in_restore(
        "restore(dr).to(snap);",
        &[
            "E0208 2:9+2 `restore` takes a snapshot, not a cluster | for example let data = restore(snap).topics(\"orders\").to(dr);",
            "E0208 2:16+4 `to` of restore takes a cluster, not a snapshot | for example let data = restore(snap).to(cluster(\"dr\"));",
        ],
    );
    finds(
        "hours()",
        &["E0209 1:1+5 `hours` takes 1 argument, 0 given | write hours(count: number)"],
    );
    finds(
        "hours(1) < 3600",
        &[
            "E0210 1:10+1 `<` does not compare a duration with a whole number | say what the number counts: seconds(90), minutes(5), hours(1), days(7)",
        ],
    );
}

#[test]
fn arguments_must_be_declared() {
    finds(
        "print(args.at)",
        &[
            "E0205 1:12+2 no argument `at` is declared | declare it at the top: params(#{ at: \"what it is for\" });",
        ],
    );
    finds(
        "params(#{ at: \"x\" }); print(args.att)",
        &["E0205 1:34+3 no argument `att` is declared | did you mean `at`? | declared are: at"],
    );
    finds(
        "params(#{ at: \"x\" }); fn f() { args.at } f()",
        &[
            "E0201 1:32+4 no variable `args` | `args` is not seen inside a fn: pass what it needs as a parameter",
        ],
    );
}

#[test]
fn a_builder_without_its_terminal_verb_does_nothing() {
    finds_in_restore(
        "restore(snap).topics(\"a\");",
        &["W0501 2:1+7 this restore does nothing: it has no `.to(…)` | kbr docs restore"],
    );
    finds_in_restore(
        "let moved = offset_plan(restore(snap).to(dr)); print(moved.rows);",
        &[
            "W0501 2:13+11 this offset_plan does nothing: it has no `.reset(…)` or `.delete_offsets(…)` | kbr docs offset_plan",
        ],
    );
    // Finished under its name, or given away to a function.
    finds_in_restore("let r = restore(snap); r.topics(\"a\").to(dr);", &[]);
    finds_in_restore(
        "fn finish(r, c) { r.to(c) } let r = restore(snap); finish(r, dr);",
        &[],
    );
}

#[test]
fn a_reset_without_a_confirm_is_a_warning() {
    let script = format!("{RESTORE}offset_plan(restore(snap).to(dr)).reset();");
    let found = check(&Source::inline("test.rhai", script.as_str()));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Warning);
    assert_eq!(found[0].code, "W0502");
    assert_eq!(found[0].message, "a reset without a `confirm` before it");
}

#[test]
fn the_examples_pass_without_a_finding() {
    for name in ["dr-failover.rhai", "backup.rhai"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        assert_eq!(check(&Source::read(&path).unwrap()), [], "{name}");
    }
}

#[test]
fn ordinary_scripts_pass() {
    for script in [
        "let x = [1, 2, 3].filter(|n| n > 1).map(|n| `${n}`); print(x.len());",
        "let d = cluster(\"a\"); for t in d.topics() { if t.name.starts_with(\"x\") { print(t); } }",
        "let m = #{ a: 1 }; m.b = 2; m.keys()",
        "fn twice(x) { x * 2 } twice(4)",
        "let x = 5; while x > 0 { x -= 1; } x",
        "switch 3 { 1 => \"a\", _ => \"b\" }",
        "try { throw \"x\"; } catch (e) { print(e); }",
        "let d = cluster(\"a\"); let lag = d.lag(\"g\"); require(lag < 100, \"behind\");",
        "let t = now() - hours(2); t < now()",
        "let f = |a, b| a + b; f.call(1, 2)",
    ] {
        finds(script, &[]);
    }
}

#[test]
fn a_filter_that_must_fail_or_decides_nothing_is_found() {
    let text = "make the text a number with parse_int(…), or quote the number";
    finds_in_restore(
        "restore(snap).filter(|r| r.key == 5 || 7 < r.header(\"n\")).to(dr);",
        &[
            &format!("E0210 2:32+2 `==` does not compare text with a whole number | {text}"),
            &format!("E0210 2:42+1 `<` does not compare a whole number with text | {text}"),
        ],
    );
    let nothing = "a filter that decides nothing is left out, or it means something else";
    finds_in_restore(
        "restore(snap).filter(|r| r.offset >= 0 && (r.key != () || true)).to(dr);",
        &[
            &format!("W0503 2:35+2 this is true for every record | {nothing}"),
            &format!("W0503 2:59+4 this is true for every record | {nothing}"),
        ],
    );
    finds_in_restore(
        "restore(snap).filter(|r| -1 >= r.partition || \"a\" != \"b\").to(dr);",
        &[
            &format!("W0503 2:29+2 this is false for every record | {nothing}"),
            &format!("W0503 2:51+2 this is true for every record | {nothing}"),
        ],
    );
    // What can be is not doubted.
    finds_in_restore(
        "restore(snap).filter(|r| r.key == \"a\" && r.offset > 0 && r.value.n == 5 && r.value != ()).to(dr);",
        &[],
    );
}

#[test]
fn paths_patterns_and_what_becomes_of_failing_records_are_checked_where_they_are_written() {
    finds_in_restore(
        "restore(snap).filter(|r| r.has(\"amount\") && r.key.matches(\"(\"), #{ on_error: \"skip\" }).to(dr);",
        &[
            "E0214 2:32+8 \"amount\" is no path: it begins with `$`; for example $.amount, $.items[0].sku, $[\"a b\"]",
            "E0214 2:59+3 not a regular expression: unclosed group",
            "E0212 2:78+6 `on_error` of a filter is not \"skip\" | it is one of: stop, keep, drop",
        ],
    );
    finds_in_restore(
        "restore(snap).filter(|r| r.json(\"$.a\", 0) > 1, #{ on_eror: \"keep\" }).to(dr);",
        &[
            "E0207 2:51+7 no option `on_eror` in option `filter` of restore | did you mean `on_error`? | it takes on_error",
        ],
    );
}
