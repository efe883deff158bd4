//! The commands in the documents are run as they stand there, so that they cannot rot.
//!
//! Every `sh` block says what is to happen to it: `sh test` is run, `sh kafka` is run with real Kafka
//! (`documents_kafka.rs`), `sh not-run: WHY` is not. A block is run by `bash -eu` in a copy of the
//! repository's visible part, where `kbr` and `cargo run --release --` are the binary under test.

mod support;

use support::documents::{Fate, blocks, documents, run};

#[test]
fn every_shell_block_says_whether_it_is_run() {
    for document in documents() {
        for block in blocks(&document) {
            assert!(
                !matches!(block.fate, Fate::Unsaid),
                "{}:{}: a shell block needs `test`, `kafka` or `not-run: WHY` after `sh`",
                block.document,
                block.line
            );
        }
    }
}

#[test]
fn the_commands_that_need_no_cluster_run_as_they_are_written() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&document) {
            if matches!(block.fate, Fate::Test) {
                run(&block);
                count += 1;
            }
        }
    }
    assert!(
        count >= 2,
        "the README has at least two such blocks, {count} were found"
    );
}

#[test]
fn the_runbook_in_the_readme_has_no_mistakes() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let (_, rest) = readme
        .split_once("```rhai\n")
        .expect("the README shows a runbook");
    let (runbook, _) = rest.split_once("```").unwrap();
    let folder = support::Folder::new();
    folder.write("readme.rhai", runbook);
    folder.kbr(&["check", "readme.rhai"]).expect(0);
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let link = regex::Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for found in link.captures_iter(&text) {
            let target = document.parent().unwrap().join(&found[1]);
            assert!(
                target.exists(),
                "{} links to {}",
                document.display(),
                &found[1]
            );
        }
    }
}
