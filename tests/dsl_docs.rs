//! The generated part of docs/runbooks.md is what the table says, and every example in it holds.

use kbr::dsl::{Severity, Source, check, docs, docs_markdown};

const BEGIN: &str = "<!-- generated: kbr's own table, checked by tests/dsl_docs.rs -->\n";
const END: &str = "<!-- end of generated -->";

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks.md")
}

/// With `KBR_WRITE_DOCS=1` the file is brought up to date instead.
#[test]
fn the_generated_part_of_the_document_is_what_the_table_says() {
    let text = std::fs::read_to_string(path()).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the marker of the generated part");
    let (generated, after) = rest.split_once(END).expect("the marker of its end");
    let wanted = format!("\n{}", docs_markdown());
    if std::env::var_os("KBR_WRITE_DOCS").is_some() {
        std::fs::write(path(), format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert!(
        generated == wanted,
        "docs/runbooks.md is not up to date: KBR_WRITE_DOCS=1 cargo test --test dsl_docs"
    );
}

/// What the examples take for granted.
const SURROUNDINGS: &str = "
    let prod = cluster(\"prod\");
    let dr = cluster(\"dr\");
    let snap = store(\"prod\").latest();
    let data = restore(snap).to(dr);
    let moved = offset_plan(data);
    print(moved);
";

#[test]
fn every_example_of_the_table_passes_the_lints() {
    let markdown = docs_markdown();
    let mut examples = 0;
    for example in markdown.split("```rhai\n").skip(1) {
        let example = example.split("```").next().unwrap().trim();
        examples += 1;
        let params = if example.contains("params(") {
            ""
        } else {
            "params(#{ at: \"\" });"
        };
        let source = Source::inline("example.rhai", format!("{params}{SURROUNDINGS}{example}"));
        let errors: Vec<_> = check(&source)
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .collect();
        assert!(errors.is_empty(), "{example}\n{errors:?}");
    }
    assert!(examples > 40, "{examples}");
}

#[test]
fn every_runbook_in_the_document_passes_the_lints() {
    let text = std::fs::read_to_string(path()).unwrap();
    let (before, _) = text.split_once(BEGIN).unwrap();
    for block in before.split("```rhai\n").skip(1) {
        let script = block.split("```").next().unwrap().to_string();
        assert_eq!(check(&Source::inline("document", script)), [], "{block}");
    }
}

#[test]
fn docs_tell_one_name_its_members_or_all() {
    let one = docs(Some("restore.before")).unwrap();
    assert!(
        one.starts_with("restore.before(when: text or instant or number) → restore\n"),
        "{one}"
    );
    assert!(one.contains("default: \"latest\""), "{one}");
    let all_of_restore = docs(Some("restore")).unwrap();
    assert!(
        all_of_restore.contains("restore.remap("),
        "{all_of_restore}"
    );
    assert!(docs(None).unwrap().contains("offset_plan"));
    assert_eq!(
        docs(Some("restore.befor")).unwrap_err(),
        "restore has no befor; did you mean restore.before?"
    );
    assert_eq!(
        docs(Some("restor")).unwrap_err(),
        "no name restor in runbooks; did you mean restore?"
    );
}

#[test]
fn the_list_of_names_fits_eighty_columns() {
    let text = kbr::dsl::docs(None).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
