//! What `kbr check` says, word for word, and where.

use kbr::dsl::{Severity, Source, check};

fn findings(script: &str) -> Vec<String> {
    check(&Source::inline("test.rhai", script))
        .into_iter()
        .map(|finding| {
            let place = finding.span.map_or("-".to_string(), |span| {
                format!("{}:{}+{}", span.line, span.column, span.length)
            });
            let label = finding
                .label
                .map_or(String::new(), |label| format!(" | {label}"));
            let help = finding
                .help
                .map_or(String::new(), |help| format!(" | {help}"));
            format!("{} {place} {}{label}{help}", finding.code, finding.message)
        })
        .collect()
}

#[test]
fn look() {
    for script in [
        "let x = ;",
        "let x = clustr(\"dr\");",
        "let d = cluster(\"dr\").topcs();",
        "let d = cluster(\"dr\"); d.topics; d.nme; d.name()",
        "let d = cluster(5);",
        "hours(1) < 3600",
        "print(args.at)",
        "params(#{ at: \"x\" }); print(args.att)",
        "cluster(\"a\").topics().until(3)",
        "hours()",
        "let a = 1; print(b)",
        "let orders = 1; print(order)",
        "fn f() { args.at } f()",
        "import \"x\" as y;",
        "[1].map(|n| n.fooo(2)).lenn()",
        "let d = cluster(\"x\"); [1].map(|n| d.topcs())",
        "fn f(x) { clustr(x) } f(1)",
        "instant(\"yesterday\")",
        "require(\"x\", true)",
        "let n = null;",
        "while true { ",
        "let x = \"abc",
        "eval(\"1\")",
        "sleep(5)",
        "timestamp()",
    ] {
        println!("{script}\n    {}", findings(script).join("\n    "));
    }
    let _ = Severity::Error;
}
