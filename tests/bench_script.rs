//! `scripts/bench` runs from end to end in its smallest form, so that the day it is needed it works. Times are never
//! looked at: this machine is busy with tests.

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use support::{RealKafka, run_to_end, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/bench");

fn bench(words: &[&str]) -> Output {
    run_to_end(
        Command::new("python3").arg(SCRIPT).args(words),
        b"",
        Duration::from_secs(300),
    )
}

/// The folders that the script makes for a run, which must be gone after it.
fn left_behind(place: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(place) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("bench")).collect()
}

fn positive(value: &Value, what: &str) -> f64 {
    let number = value
        .as_f64()
        .unwrap_or_else(|| panic!("{what} is {value}"));
    assert!(number > 0.0, "{what} is {number}");
    number
}

#[test]
fn the_backup_suite_measures_every_case_and_verifies_what_it_made() {
    let kafka = RealKafka::source();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let report = folder.path().join("bench.json");
    let name = support::unique("bench");
    let output = bench(&[
        "backup",
        "--quick",
        "--records",
        "4000",
        "--many",
        "40",
        "--runs",
        "1",
        "--bootstrap",
        &kafka.bootstrap,
        "--kbr",
        env!("CARGO_BIN_EXE_kbr"),
        "--name",
        &name,
        "--disk-dir",
        folder.path().to_str().unwrap(),
        "--json",
        report.to_str().unwrap(),
    ]);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");

    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["schema"], "kbr.bench/1");
    assert_eq!(report["machine"]["memory_dir"]["type"], "tmpfs");
    for version in ["kbr", "commit", "kafka", "kcat", "librdkafka", "dd", "java"] {
        assert!(
            report["versions"][version]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "no version of {version}"
        );
    }
    let cases = report["cases"].as_array().unwrap();
    let names: Vec<&str> = cases
        .iter()
        .map(|case| case["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "as-is",
            "disk",
            "zstd-blocks",
            "zstd-letters",
            "zstd-topic",
            "many-partitions"
        ]
    );
    for (case, (reference, records, targets)) in cases.iter().zip([
        (Some("kcat"), 4000, 2),
        (Some("dd"), 4000, 4),
        (Some("kcat"), 4000, 2),
        (Some("kcat"), 4000, 2),
        (Some("kcat"), 4000, 2),
        (None, 400, 2),
    ]) {
        let name = case["name"].as_str().unwrap();
        assert_eq!(case["topic"]["records"], records, "{name}");
        assert_eq!(case["verified"]["records"], records, "{name}");
        assert_eq!(case["verified"]["damaged"], 0, "{name}");
        for side in ["kbr"].into_iter().chain(reference) {
            let side = &case["sides"][side];
            assert!(!side["command"][0].as_str().unwrap().is_empty());
            assert_eq!(side["runs"].as_array().unwrap().len(), 1);
            for number in ["median_seconds", "mb_per_second", "peak_rss_bytes"] {
                positive(&side[number], &format!("{name}: {number}"));
            }
            assert!(side["median_cpu_seconds"].is_number());
        }
        let mine = &case["sides"]["kbr"];
        for number in [
            "stored_bytes",
            "objects",
            "batch_bytes",
            "compression_ratio",
        ] {
            positive(&mine[number], &format!("{name}: {number}"));
        }
        if reference == Some("dd") {
            for by in ["offset", "time"] {
                positive(&case["single_record_ms"][by], by);
            }
        }
        if reference.is_some() {
            positive(&case["ratio"]["median"], name);
        }
        let found = case["targets"].as_array().unwrap();
        assert_eq!(found.len(), targets, "{name}");
        for target in found {
            positive(&target["limit"], name);
            assert!(target["reached"].is_boolean(), "{name}");
        }
        // Both commands are there to be read.
        assert!(
            said.contains(mine["command"][0].as_str().unwrap()),
            "{said}"
        );
    }
    // zstd makes a third of these records; stored as they are they stay what they were.
    let ratio = |case: usize| positive(&cases[case]["sides"]["kbr"]["compression_ratio"], "ratio");
    assert!((0.9..1.0).contains(&ratio(0)), "{}", ratio(0));
    assert!((2.5..4.5).contains(&ratio(2)), "{}", ratio(2));

    assert_eq!(left_behind(folder.path()), ["bench.json"]);
    let topics = cases.iter().map(|case| case["topic"]["name"].as_str());
    for topic in topics.map(Option::unwrap) {
        // A topic is gone for good a moment after its deletion was answered.
        wait_until("its topics are gone", Duration::from_secs(30), || {
            !kafka
                .kcat(&["-L"], "")
                .contains(&format!("topic \"{topic}\""))
        });
    }
}

#[test]
fn the_restore_suite_measures_every_case_beside_the_producer_test() {
    let kafka = RealKafka::source();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let report = folder.path().join("bench.json");
    let name = support::unique("bench");
    let output = bench(&[
        "restore",
        "--quick",
        "--records",
        "2000",
        "--many",
        "20",
        "--runs",
        "1",
        "--bootstrap",
        &kafka.bootstrap,
        "--kbr",
        env!("CARGO_BIN_EXE_kbr"),
        "--name",
        &name,
        "--disk-dir",
        folder.path().to_str().unwrap(),
        "--json",
        report.to_str().unwrap(),
    ]);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");

    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["suite"], "restore");
    let cases = report["cases"].as_array().unwrap();
    let expected = [
        ("as-is", Some("perf"), 2000, 2),
        ("zstd-blocks", Some("perf"), 2000, 2),
        ("single-records", Some("perf"), 600, 2),
        ("half", Some("whole"), 1000, 2),
        ("dry-run", None, 2000, 2),
        ("many-partitions", None, 200, 1),
        ("every-second", None, 10_000, 1),
        ("filter", None, 10_000, 2),
        ("filter-json", None, 10_000, 2),
    ];
    assert_eq!(cases.len(), expected.len(), "{said}");
    for (case, (name, reference, restored, targets)) in cases.iter().zip(expected) {
        assert_eq!(case["name"], name);
        assert_eq!(case["verified"]["records"], restored, "{name}");
        for side in ["kbr"].into_iter().chain(reference) {
            let side = &case["sides"][side];
            assert_eq!(side["runs"].as_array().unwrap().len(), 1);
            for number in ["median_seconds", "mb_per_second", "peak_rss_bytes"] {
                positive(&side[number], &format!("{name}: {number}"));
            }
        }
        let mine = &case["sides"]["kbr"];
        let numbers: &[&str] = match name {
            "dry-run" | "filter" | "filter-json" => &["records_per_core_second"],
            _ => &["process_seconds", "write_seconds", "verify_seconds"],
        };
        for number in numbers {
            positive(&mine[*number], &format!("{name}: {number}"));
        }
        assert_eq!(case["targets"].as_array().unwrap().len(), targets, "{name}");
    }
    assert_eq!(left_behind(folder.path()), ["bench.json"]);
}

#[test]
fn a_broker_that_is_not_there_is_an_error_and_nothing_stays_behind() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = bench(&[
        "backup",
        "--quick",
        "--bootstrap",
        "127.0.0.1:9",
        "--kbr",
        env!("CARGO_BIN_EXE_kbr"),
        "--disk-dir",
        folder.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("bench: ") && said.contains("127.0.0.1:9"),
        "{said}"
    );
    assert!(!said.contains("Traceback"), "{said}");
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

#[test]
fn the_offsets_suite_moves_groups_beside_kafkas_own_tool() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let report = folder.path().join("bench.json");
    let name = support::unique("bench");
    let output = bench(&[
        "offsets",
        "--quick",
        "--runs",
        "1",
        "--kbr",
        env!("CARGO_BIN_EXE_kbr"),
        "--name",
        &name,
        "--disk-dir",
        folder.path().to_str().unwrap(),
        "--json",
        report.to_str().unwrap(),
    ]);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let case = &report["cases"][0];
    assert_eq!(case["name"], "reset");
    // Fifty groups on ten partitions, as Kafka's tool tells them afterwards.
    assert_eq!(case["verified"]["records"], 500);
    for side in ["kbr", "tool"] {
        positive(&case["sides"][side]["median_seconds"], side);
    }
    assert_eq!(case["targets"].as_array().unwrap().len(), 2);
    assert_eq!(left_behind(folder.path()), ["bench.json"]);

    // It moves every group of a cluster: never those of somebody else's.
    let output = bench(&["offsets", "--quick", "--bootstrap", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("moves every group"), "{said}");
}

#[test]
fn a_case_that_is_not_there_is_refused_with_those_that_are() {
    let output = bench(&["backup", "--only", "as-was"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("no case 'as-was' in backup; there is: as-is, disk, zstd-blocks"),
        "{said}"
    );
}
