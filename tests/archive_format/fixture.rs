//! `tests/fixtures/archive-v1` was written once, by the first version, and must stay readable for ever. A second
//! reader, `tests/read_archive.py`, shares nothing with kbr but `docs/archive-format.md`.
//!
//! For the fixture of a new format version: run these tests with `KBR_WRITE_FIXTURE=FOLDER`.

use super::sample::{dump, first_generation, groups, second_generation};
use kbr::archive::{Archive, Depth};
use kbr::base::NoProgress;
use kbr::store::{Store, StoreUrl};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected() -> String {
    std::fs::read_to_string(fixtures().join("archive-v1.records.txt")).unwrap()
}

async fn fixture() -> Archive {
    let url = StoreUrl::File(fixtures().join("archive-v1"));
    Archive::open(Store::open(&url).await.unwrap())
        .await
        .unwrap()
}

pub fn read_with_python(archive: &Path, how: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_archive.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(archive)
        .args(how)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_archive_of_version_1_is_still_read_whole() {
    let archive = fixture().await;
    let latest = archive.latest().await.unwrap();
    assert_eq!(latest.number(), 2);
    assert_eq!(dump(&latest).await.unwrap(), expected());
    let mut kept = groups(55);
    // The first archives did not keep it.
    kept.groups[0].kind.clear();
    assert_eq!(latest.groups().await.unwrap(), kept);
    let orders = latest.topic("orders").unwrap();
    assert_eq!(orders.configs["cleanup.policy"], "compact");
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    assert_eq!(report.damages, []);
    assert_eq!(
        (report.generations, report.records, report.batches),
        (2, 42, 9)
    );
}

/// Compares the other reader's lines with the expected ones. Where it had to pass over a zstd block (no module for
/// it in older Pythons) exactly the records of that block are missing.
fn assert_same(python: &str, expected: &str) {
    let mut missing = Vec::new();
    for line in python.lines().filter(|line| line.starts_with('?')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, topic, partition, first, last, "zstd"] = words[..] else {
            panic!("{line}");
        };
        // Only the second generation's segment of the sample is zstd.
        assert_eq!((topic, partition, first, last), ("orders", "0", "50", "59"));
        missing.extend((50..=59).map(|offset| format!("orders 0 {offset} ")));
    }
    let found: Vec<&str> = python.lines().filter(|l| !l.starts_with('?')).collect();
    let wanted: Vec<&str> = expected
        .lines()
        .filter(|line| !missing.iter().any(|start| line.starts_with(start)))
        .collect();
    assert_eq!(found, wanted);
    assert_eq!(wanted.len() + missing.len(), 42);
}

#[test]
fn an_independent_reader_finds_the_same_records_in_the_archive_of_version_1() {
    assert_same(
        &read_with_python(&fixtures().join("archive-v1"), &[]),
        &expected(),
    );
}

#[tokio::test]
async fn an_independent_reader_finds_the_same_records_in_an_archive_written_now() {
    let folder = tempfile::tempdir().unwrap();
    let place = match std::env::var_os("KBR_WRITE_FIXTURE") {
        Some(place) => PathBuf::from(place),
        None => folder.path().join("archive"),
    };
    let store = Store::open(&StoreUrl::File(place.clone())).await.unwrap();
    first_generation(&store, "run1").await.unwrap();
    second_generation(&store, "run2").await.unwrap();
    let latest = Archive::open(store).await.unwrap().latest().await.unwrap();
    let text = dump(&latest).await.unwrap();
    if let Some(place) = std::env::var_os("KBR_WRITE_FIXTURE") {
        std::fs::write(Path::new(&place).with_extension("records.txt"), &text).unwrap();
    }
    assert_same(&read_with_python(&place, &[]), &text);
}

#[tokio::test]
async fn an_independent_reader_finds_the_groups_acls_and_quotas_of_an_archive_written_now() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("archive");
    let store = Store::open(&StoreUrl::File(place.clone())).await.unwrap();
    first_generation(&store, "run1").await.unwrap();
    second_generation(&store, "run2").await.unwrap();
    let kept = read_with_python(&place, &["--kept"]);
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(
        kept["groups"]["groups"][0]["offsets"][0]["metadata"],
        "mark \"é\""
    );
    let acl = &kept["cluster"]["acls"][0];
    assert_eq!(
        (&acl["principal"], &acl["pattern_type"]),
        (&"User:alice".into(), &"PREFIXED".into())
    );
    let quota = &kept["cluster"]["quotas"][0];
    assert_eq!(quota["values"]["request_percentage"], 12.5);
    assert_eq!(quota["entity"]["user"], serde_json::Value::Null);
    assert_eq!(kept["cluster"]["missing"]["scram_users"], "not allowed");
    // Nothing of it changed between the two runs.
    let second = Archive::open(store).await.unwrap().latest().await.unwrap();
    let path = &second.manifest().cluster.as_ref().unwrap().path;
    assert_eq!(path, "cluster/00000001-run1.json");
}
