//! The language of runbooks: comparison that never lies, limits, secrets, arguments, errors in kbr's words.

use kbr::base::{CancellationToken, TimestampMs};
use kbr::dsl::{Arguments, EvaluateOptions, ScriptError, Shown, Source, World, eval};
use kbr::run::Config;
use std::sync::Arc;

const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

async fn try_eval(script: &str, arguments: &[&str]) -> Result<Shown, ScriptError> {
    let world = Arc::new(World::real(Config::default()));
    let options = EvaluateOptions {
        arguments: Arguments::parse(arguments).unwrap(),
        now: NOW,
        cancel: CancellationToken::new(),
    };
    eval(&Source::inline("test.rhai", script), &world, options).await
}

async fn value(script: &str) -> String {
    match try_eval(script, &[]).await {
        Ok(shown) => shown.text,
        Err(error) => panic!("{script}: {error} {:?}", error.finding),
    }
}

async fn error(script: &str) -> String {
    match try_eval(script, &[]).await {
        Ok(shown) => panic!("{script} gave {:?}", shown.text),
        Err(error) => {
            let finding = error.finding;
            let place = finding.span.map_or("-".to_string(), |span| {
                format!("{}:{}+{}", span.line, span.column, span.length)
            });
            format!("{} {place} {}", finding.code, finding.message)
        }
    }
}

#[tokio::test]
async fn look() {
    for script in [
        "let m = #{}; m.x < 5",
        "let m = #{a: \"1\"}; m.a < 5",
        "let f = |x| x == 5; f.call(\"a\")",
        "let f = |x| x.befor(5); f.call(hours(1))",
        "let f = |x| x.agee; f.call(hours(1))",
        "let x = [1,2]; x[7]",
        "let f = |x, y| x; f.call(1)",
        "fn g(x) { require(x, \"no way\") } g(false)",
        "loop { }",
        "fn g(x) { g(x + 1) } g(1)",
        "let s = \"x\"; loop { s += s; }",
        "let a = []; loop { a.push(1); }",
        "1 / 0",
        "throw \"boo\"",
        "throw #{a: 1}",
        "let x = 5; x.foo()",
        "let f = |x| x + hours(1); f.call(5)",
        "const a = 1; a = 2;",
        "if 5 { 1 }",
        "let x = hours(1); x.seconds = 5;",
        "env(\"NOT_SET_ANYWHERE\")",
        "try { require(false, \"a\") } catch (e) { print(`caught ${e}`); throw e }",
        "check(|| true, \"x\")",
        "let x = \"a\"; x == 5",
        "let x = #{}; x.a.b",
        "for x in 5 { }",
        "let v = parse_json(\"{\\\"a\\\": [1, null]}\"); v.a[1] == ()",
        "let s = 9223372036854775807; s + 1",
        "hours(1) < duration(\"90m\")",
        "now() - instant(\"-2h\")",
        "[hours(1), days(2)]",
        "kib(1) == 1024",
        "5 in [\"a\"]",
        "[\"a\", \"b\"].contains(\"b\")",
        "let f = |x| x; f.call(1, 2, 3)",
        "debug(5)",
        "let c = |c| c.key == 5; c.call(1)",
    ] {
        match try_eval(script, &[]).await {
            Ok(shown) => println!("{script}\n    = {:?} {}", shown.text, shown.json),
            Err(error) => println!(
                "{script}\n    {} {:?} {} | {:?} | {:?} {:?}",
                error.finding.code,
                error.finding.span.map(|s| (s.line, s.column, s.length)),
                error.finding.message,
                error.finding.label,
                error.finding.help,
                error.exit
            ),
        }
    }
}
