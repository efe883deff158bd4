//! The language of runbooks: comparison that never lies, limits, secrets, arguments, errors in kbr's words.

use kbr::base::{CancellationToken, TimestampMs};
use kbr::dsl::{Arguments, EvaluateOptions, ScriptError, Shown, Source, World, eval};
use kbr::run::{Config, ExitClass};
use std::sync::Arc;

const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

async fn run(script: &str, arguments: &[&str]) -> Result<Shown, ScriptError> {
    let world = Arc::new(World::real(Config::default()));
    let options = EvaluateOptions {
        arguments: Arguments::parse(arguments).unwrap(),
        now: NOW,
        cancel: CancellationToken::new(),
        shows_value: false,
    };
    eval(&Source::inline("test.rhai", script), &world, options).await
}

async fn gives(script: &str, wanted: &str) {
    match run(script, &[]).await {
        Ok(shown) => assert_eq!(shown.text, wanted, "{script}"),
        Err(error) => panic!("{script}: {error}"),
    }
}

/// `CODE line:column+length message`
fn line(error: &ScriptError) -> String {
    let finding = &error.finding;
    let place = finding.span.map_or("-".to_string(), |span| {
        format!("{}:{}+{}", span.line, span.column, span.length)
    });
    format!("{} {place} {}", finding.code, finding.message)
}

async fn fails(script: &str, wanted: &str) -> ScriptError {
    match run(script, &[]).await {
        Ok(shown) => panic!("{script} gave {:?}", shown.text),
        Err(error) => {
            assert_eq!(line(&error), wanted, "{script}");
            error
        }
    }
}

#[tokio::test]
async fn values_of_different_kinds_do_not_compare() {
    for (script, wanted) in [
        (
            "let f = |x| x == 5; f.call(\"a\")",
            "E0210 1:15+2 `==` does not compare text with a whole number",
        ),
        (
            "let f = |x| x != 5; f.call(\"a\")",
            "E0210 1:15+2 `!=` does not compare text with a whole number",
        ),
        (
            "let f = |x| x < 5; f.call(hours(1))",
            "E0210 1:15+1 `<` does not compare a duration with a whole number",
        ),
        (
            "let f = |x| 5 >= x; f.call(hours(1))",
            "E0210 1:15+2 `>=` does not compare a whole number with a duration",
        ),
        (
            "let f = |x| x == 1024; f.call(kib(1))",
            "E0210 1:15+2 `==` does not compare a size with a whole number",
        ),
        (
            "let f = |x| x > \"a\"; f.call(now())",
            "E0210 1:15+1 `>` does not compare an instant with text",
        ),
        (
            "let f = |x| x < 5; f.call(())",
            "E0210 1:15+1 `<` does not compare nothing, `()` with a whole number",
        ),
        (
            "let f = |x| x == true; f.call(1)",
            "E0210 1:15+2 `==` does not compare a whole number with true or false",
        ),
        (
            "let f = |x| x < true; f.call(false)",
            "E0210 1:15+1 `<` does not compare true or false with another",
        ),
        (
            "let f = |x| x == [1]; f.call(1)",
            "E0210 1:15+2 `==` does not compare a whole number with a list",
        ),
        (
            "5 in [\"a\"]",
            "E0210 1:3+2 `==` does not compare text with a whole number",
        ),
    ] {
        fails(script, wanted).await;
    }
}

#[tokio::test]
async fn values_of_one_kind_compare_as_they_should() {
    for (script, wanted) in [
        ("hours(1) < duration(\"90m\")", "true"),
        ("minutes(60) == hours(1)", "true"),
        ("now() > now() - hours(1)", "true"),
        ("kib(64) < mib(1)", "true"),
        ("\"a\" < \"b\" && \"a\" == 'a'", "true"),
        ("1 < 1.5", "true"),
        ("() == ()", "true"),
        ("let f = |x| x == (); f.call(5)", "false"),
        ("let f = |x| x != (); f.call(hours(1))", "true"),
        ("[1, 2] == [1, 2]", "true"),
        ("#{ a: 1 } == #{ a: 2 }", "false"),
        ("\"b\" in [\"a\", \"b\"]", "true"),
        ("9223372036854775807 == 9223372036854775806", "false"),
    ] {
        gives(script, wanted).await;
    }
}

#[tokio::test]
async fn quantities_know_what_they_count() {
    gives("now() - instant(\"-2h\")", "2 h 0 min").await;
    gives("hours(1) + minutes(30)", "1 h 30 min").await;
    gives(
        "instant(\"2026-11-20T10:00:00Z\")",
        "2026-11-20T10:00:00.000Z",
    )
    .await;
    gives("size(\"1.5 GiB\")", "1.5 GiB").await;
    gives("hours(2).seconds", "7,200").await;
    fails(
        "let f = |x| x + hours(1); f.call(5)",
        "E0210 1:15+1 `+` does not go between a whole number and a duration",
    )
    .await;
    fails(
        "days(9223372036854775807)",
        "E0211 1:1+4 the duration is too long",
    )
    .await;
}

#[tokio::test]
async fn a_variable_that_a_verb_was_given_keeps_its_value() {
    gives("let n = 2; hours(n); n", "2").await;
    gives("let text = \"[1]\"; parse_json(text); text", "[1]").await;
    gives("let ok = true; require(ok, \"no\"); ok", "true").await;
}

#[tokio::test]
async fn a_script_that_does_not_end_is_ended() {
    for (script, wanted) in [
        (
            "loop { }",
            "E0220 1:6+1 the script takes more than 5000000 operations",
        ),
        (
            "fn g(x) { g(x + 1) } g(1)",
            "E0220 1:22+1 functions call each other more than 64 deep",
        ),
        (
            "let s = \"x\"; loop { s += s; }",
            "E0221 1:23+2 a text grows too large",
        ),
        (
            "let a = [1]; loop { a += a; }",
            "E0221 1:23+2 a list grows too large",
        ),
    ] {
        fails(script, wanted).await;
    }
}

#[tokio::test]
async fn errors_are_in_words_of_runbooks() {
    for (script, wanted) in [
        ("let m = #{}; m.x", "E0203 1:16+1 the map has no `x`"),
        (
            "let x = [1, 2]; x[7]",
            "E0215 1:19+1 no member 7: the list has 2 members",
        ),
        (
            "let f = |x, y| x; f.call(1)",
            "E0209 1:21+4 the closure does not take 1 argument",
        ),
        (
            "let f = |x| x.befor(5); f.call(hours(1))",
            "E0202 1:15+5 no function `befor`",
        ),
        (
            "let f = |x| x.agee; f.call(hours(1))",
            "E0203 1:15+4 no property `agee` for duration",
        ),
        (
            "let x = hours(1); x.seconds = 5;",
            "E0206 1:21+7 `seconds` of duration cannot be set",
        ),
        ("const a = 1; a = 2;", "E0206 1:14+1 `a` is a constant"),
        ("1 / 0", "E0211 1:3+1 division by zero: 1 / 0"),
        (
            "fn g(x) { require(x, \"no way\") } g(false)",
            "E0301 1:11+7 no way",
        ),
        ("throw \"boo\"", "E0301 1:1+5 boo"),
        (
            "check(|| true, \"x\")",
            "E0219 1:1+5 `check` is not in this version of kbr",
        ),
        (
            "wait_for(|| true, minutes(1), \"x\")",
            "E0219 1:1+8 `wait_for` is not in this version of kbr",
        ),
        (
            "confirm(\"x\")",
            "E0218 1:1+7 `confirm` belongs in a runbook: kbr eval only reads",
        ),
        (
            "cluster(\"nowhere\")",
            "E0311 1:1+7 no cluster nowhere in kbr.toml (there is none)",
        ),
        (
            "cluster(\"a:b\")",
            "E0312 1:1+7 not an address of a cluster: \"a:b\"",
        ),
        (
            "store(\"s3://bucket/x\").latest()",
            "E0320 1:1+5 cannot open store s3://bucket/x: s3: stores are not in this version of kbr (file: and memory: are)",
        ),
    ] {
        let error = fails(script, wanted).await;
        let everything = format!("{:?}", error.finding);
        for jargon in [
            "ImmutableString",
            "Function not found",
            "anon$",
            "Dynamic",
            "i64",
            "line 1",
        ] {
            assert!(!everything.contains(jargon), "{script}: {everything}");
        }
    }
}

#[tokio::test]
async fn a_script_error_is_a_usage_error_and_a_failed_condition_is_not() {
    let wrong = run("hours(\"1\")", &[]).await.unwrap_err();
    assert_eq!(wrong.exit, ExitClass::Usage);
    let failed = run("require(1 > 2, \"no\")", &[]).await.unwrap_err();
    assert_eq!(failed.exit, ExitClass::Failed);
    assert_eq!(failed.finding.help.as_deref(), Some("nothing was changed"));
}

#[tokio::test]
async fn an_error_can_be_caught_and_thrown_again_as_it_was() {
    let error = fails(
        "try { env(\"KBR_NEVER_SET\") } catch (e) { print(`caught: ${e}`); throw e; }",
        "E0302 1:65+5 environment variable KBR_NEVER_SET is not set",
    )
    .await;
    assert_eq!(error.exit, ExitClass::Failed);
}

#[tokio::test]
async fn a_requirement_that_does_not_hold_cannot_be_caught() {
    for script in [
        "try { require(false, \"too old\") } catch { } 1",
        "fn careless() { try { require(false, \"too old\") } catch (e) { print(e); } } careless(); 1",
        "[1].map(|n| { try { require(false, \"too old\") } catch { n } }); 1",
    ] {
        let error = run(script, &[]).await.expect_err(script);
        assert_eq!(error.exit, ExitClass::Failed, "{script}");
        assert_eq!(error.finding.message, "too old", "{script}");
    }
}

#[tokio::test]
async fn arguments_are_declared_given_or_absent() {
    let script = "params(#{ at: \"a time\", dry_run: \"or not\" }); `${args.at ?? \"none\"} ${args.dry_run == ()}`";
    let shown = run(script, &["--at", "-2h"]).await.unwrap();
    assert_eq!(shown.text, "-2h true");
    let shown = run(script, &["--dry-run"]).await.unwrap();
    assert_eq!(shown.text, "none false");
    let error = run(script, &["--att", "x"]).await.unwrap_err();
    assert_eq!(
        line(&error),
        "E0205 1:1+6 this runbook takes no argument --att"
    );
    assert_eq!(error.finding.label.as_deref(), Some("did you mean `at`?"));
    let error = run("1", &["--at", "x"]).await.unwrap_err();
    assert_eq!(line(&error), "E0205 - this runbook takes no argument --at");
    let error = run("let name = \"at\"; params(#{ a: \"\" }); args[name]", &[])
        .await
        .unwrap_err();
    assert_eq!(error.finding.code, "E0205");
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    // PATH is set wherever tests run, and its value is easily recognised.
    let value = std::env::var("PATH").unwrap();
    let script = "let s = env(\"PATH\"); print(s); print(`${s}`); print(\"x\" + s); print([s]); print(#{ s: s }); \
                  debug(s); s";
    let shown = run(script, &[]).await.unwrap();
    assert_eq!(shown.text, "<secret PATH>");
    let everything = format!("{:?} {}", shown.printed, shown.json);
    assert!(!everything.contains(&value), "{everything}");
    assert_eq!(
        everything.matches("<secret PATH>").count(),
        7,
        "{everything}"
    );
    fails(
        "let f = |x| x == \"a\"; f.call(env(\"PATH\"))",
        "E0210 1:15+2 `==` does not compare a secret with text",
    )
    .await;
    fails(
        "env(\"KBR_NOT_SET_ANYWHERE\")",
        "E0302 1:1+3 environment variable KBR_NOT_SET_ANYWHERE is not set",
    )
    .await;
    let caught = run(
        "try { throw env(\"PATH\") } catch (e) { throw `${e}` }",
        &[],
    )
    .await
    .unwrap_err();
    assert_eq!(caught.finding.message, "<secret PATH>");
}

#[tokio::test]
async fn json_is_looked_into() {
    gives(
        "let v = parse_json(\"{\\\"a\\\": [1, null]}\"); v.a[1] == ()",
        "true",
    )
    .await;
    let error = run("parse_json(\"{\")", &[]).await.unwrap_err();
    assert_eq!(error.finding.code, "E0214");
}

#[tokio::test]
async fn numbers_stay_numbers_in_json() {
    let shown = run(
        "#{ offset: 9223372036854775807, none: (), list: [1, \"a\", hours(1)] }",
        &[],
    )
    .await
    .unwrap();
    assert_eq!(
        shown.json.to_string(),
        "{\"list\":[1,\"a\",3600000],\"none\":null,\"offset\":9223372036854775807}"
    );
}

#[tokio::test]
async fn a_cancelled_evaluation_ends_as_interrupted() {
    let world = Arc::new(World::real(Config::default()));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let options = EvaluateOptions {
        arguments: Arguments::default(),
        now: NOW,
        cancel,
        shows_value: false,
    };
    let source = Source::inline("test.rhai", "let x = 0; loop { try { x += 1; } catch { } }");
    let error = eval(&source, &world, options).await.err().unwrap();
    assert_eq!(error.exit, ExitClass::Interrupted);
}
