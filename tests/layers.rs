//! Imports go downward only: every `crate::` path under `src/` names the file's own layer or a lower one.

use std::path::{Path, PathBuf};

/// Top to bottom, as `src/lib.rs` and docs/architecture.md list them.
const LAYERS: [&str; 10] = [
    "cli", "dsl", "run", "engine", "archive", "store", "sandbox", "kafka", "record", "base",
];

fn depth(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The layers that a line names: `crate::kafka::Client`, `use crate::{base, record}`.
fn named(line: &str) -> Vec<String> {
    let mut layers = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let path = &line[at + "crate::".len()..];
        let heads: Vec<&str> = match path.strip_prefix('{') {
            Some(group) => group.split(',').collect(),
            None => vec![path],
        };
        for head in heads {
            let head = head.trim_start();
            let end = head
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(head.len());
            layers.push(head[..end].to_string());
        }
    }
    layers
}

#[test]
fn no_module_imports_from_a_layer_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut upward = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap();
        let own = relative
            .iter()
            .next()
            .and_then(|part| part.to_str())
            .map(|part| part.trim_end_matches(".rs"))
            .unwrap();
        let Some(own_depth) = depth(own) else {
            assert!(
                ["lib", "main"].contains(&own),
                "{} belongs to no layer",
                relative.display()
            );
            continue;
        };
        let text = std::fs::read_to_string(file).unwrap();
        let in_tests =
            relative.ends_with("tests.rs") || relative.iter().any(|part| part == "tests");
        let mut tests_began = in_tests;
        for (number, line) in text.lines().enumerate() {
            tests_began |= line.trim_start().starts_with("#[cfg(test)]");
            if line.trim_start().starts_with("//") {
                continue;
            }
            for layer in named(line) {
                // The tests of the lower layers may stand on a sandbox broker.
                let allowed = tests_began && layer == "sandbox";
                if depth(&layer).is_some_and(|other| other < own_depth) && !allowed {
                    upward.push(format!(
                        "src/{}:{}: {}",
                        relative.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(files.len() > 10, "the walk found nothing to check");
    assert!(upward.is_empty(), "upward imports:\n{}", upward.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_groups_and_paths() {
    assert_eq!(named("use crate::kafka::Client;"), ["kafka"]);
    assert_eq!(
        named("use crate::{base::Digest, record};"),
        ["base", "record"]
    );
    assert_eq!(named("let x: crate::run::Plan = y();"), ["run"]);
}

#[test]
fn no_source_file_is_longer_than_700_lines() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(
            lines <= 700,
            "{} has {lines} lines: split it",
            file.display()
        );
    }
}
