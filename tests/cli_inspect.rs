//! Looking into archives from the command line: what is shown fits a terminal, machines get the same facts, damage is
//! told with the object's name and its own exit status.

mod cli_scene;

use cli_scene::{Folder, Ran, Scene, batch};
use kbr::archive::{
    Archive, BlockCompression, NewGeneration, PartitionEntry, RunOptions, TopicEntry,
};
use kbr::base::{Offset, PartitionId, TimestampMs, TopicId};
use kbr::kafka::{Client, ConnectOptions};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::store::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.text()))
}

fn lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn offsets(ran: &Ran) -> Vec<i64> {
    let records = lines(ran);
    records
        .iter()
        .map(|line| line["offset"].as_i64().unwrap())
        .collect()
}

fn flip(folder: &Folder, object: &str, position: usize) {
    let path = folder.path().join("archive").join(object);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn what_is_shown_of_an_archive_fits_a_terminal() {
    let folder = Folder::with_released_archive();
    for words in [
        &["list", "file:archive"][..],
        &["describe", "file:archive"],
        &["describe", "file:archive", "--detail"],
        &["diff", "file:archive", "--detail"],
        &["verify", "file:archive"],
        &["verify", "file:archive", "--deep"],
    ] {
        let ran = folder.kbr(words).expect(0);
        assert_eq!(ran.stderr, "", "{words:?}");
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
    }
}

#[test]
fn machines_get_the_same_facts_under_a_versioned_schema() {
    let folder = Folder::with_released_archive();
    let of = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--output", "json"]).collect();
        json(&folder.kbr(&words).expect(0))
    };
    let list = of(&["list", "file:archive"]);
    assert_eq!(list["schema"], "kbr.list/1");
    assert_eq!(list["count"], 2);
    assert_eq!(list["generations"][0]["number"], 2);
    assert_eq!(list["generations"][0]["records"], 10);
    assert_eq!(list["generations"][1]["records"], 32);
    assert_eq!(
        list["generations"][0]["consistency_point"],
        "2025-10-09T08:53:22.000Z"
    );

    let described = of(&["describe", "file:archive", "--topic", "ord*"]);
    assert_eq!(described["schema"], "kbr.describe/1");
    assert_eq!(described["records"], 38);
    let orders = &described["topics"][0];
    assert_eq!(orders["gaps"]["retention"], 10);
    assert_eq!(orders["configs"]["cleanup.policy"], "compact");
    assert_eq!(orders["partitions"][0]["to"], 60);
    assert_eq!(described["groups"][0]["partitions"], 1);

    // As the second generation's index has them, written down when the fixture was made.
    assert_eq!(
        (&orders["bytes"], &orders["records"]),
        (&21572.into(), &38.into())
    );
    assert_eq!(orders["first_timestamp"], "2025-10-09T08:53:19.980Z");
    assert_eq!(orders["last_timestamp"], "2025-10-09T08:53:20.090Z");
    assert_eq!(orders["partitions"][0]["largest_batch"], 15136);
    assert_eq!(described["groups"][0]["state"], "Empty");

    let diff = of(&["diff", "file:archive", "1", "2"]);
    assert_eq!(diff["schema"], "kbr.diff/1");
    assert_eq!(diff["topics"][0]["partitions"][0]["from"], 40);
    assert_eq!(diff["groups"][0]["offsets"][0]["after"], 55);

    let verified = of(&["verify", "file:archive", "--deep"]);
    assert_eq!(verified["schema"], "kbr.verify/1");
    assert_eq!(verified["whole"], true);
    assert_eq!(verified["batches"], 9);
    assert_eq!(verified["restorable"]["whole"][0]["to"], 2);

    let manifest = json(&folder.kbr(&["show-manifest", "file:archive"]).expect(0));
    assert_eq!(manifest["body"]["number"], 2);
}

#[test]
fn records_are_one_json_line_each_and_come_by_offset_time_and_key() {
    let folder = Folder::with_released_archive();
    let cat = |words: &[&str]| {
        let words: Vec<&str> = ["cat", "file:archive"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        folder.kbr(&words).expect(0)
    };
    let all = lines(&cat(&["orders"]));
    assert_eq!(all.len(), 38);
    let expected = include_str!("fixtures/archive-v1.records.txt");
    let expected: Vec<(i64, i64)> = expected
        .lines()
        .filter_map(|line| line.strip_prefix("orders "))
        .map(|line| {
            let mut words = line.split(' ').skip(1).map(|word| word.parse().unwrap());
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    let found: Vec<(i64, i64)> = all
        .iter()
        .map(|line| {
            let number = |name: &str| line[name].as_i64().unwrap();
            (number("offset"), number("timestamp_ms"))
        })
        .collect();
    assert_eq!(found, expected);

    assert_eq!(
        offsets(&cat(&["orders:0", "--from", "16", "--to", "25"])),
        [16, 17, 20, 24]
    );
    assert_eq!(offsets(&cat(&["orders:0", "--limit", "2"])), [4, 5]);
    assert_eq!(offsets(&cat(&["orders:1"])), [7, 8, 9]);
    assert_eq!(offsets(&cat(&["orders", "--key", "key-8"])), [8, 8]);
    // 16 is older than its neighbours.
    let since = cat(&["orders:0", "--since", "1760000000036", "--to", "40"]);
    assert_eq!(offsets(&since), [15, 17, 36, 37, 38, 39]);
    let before = cat(&["orders:0", "--before", "2025-10-09T08:53:20.005Z"]);
    assert_eq!(offsets(&before), [4, 20, 24, 29]);
    let first = cat(&["orders:0", "--generation", "1", "--from", "40"]);
    assert_eq!(first.stdout, "");

    let odd = &lines(&cat(&["orders:0", "--from", "15", "--limit", "1"]))[0];
    assert_eq!(odd["key"], Value::Null);
    assert_eq!(odd["value"], "no key");
    assert_eq!(odd["timestamp_type"], "CreateTime");
    assert_eq!(
        odd["headers"].to_string(),
        r#"[{"key":"trace","value":"1"},{"key":"trace","value":null},{"key":"","value":""}]"#
    );
}

#[test]
fn a_slip_in_a_name_is_answered_with_what_was_meant() {
    let folder = Folder::with_released_archive();
    for (words, code, said) in [
        (&["list", "archive"][..], 2, "did you mean file:archive?"),
        (
            &["list", "file:nowhere"],
            1,
            "there is nothing at this place",
        ),
        (
            &["describe", "file:archive", "--topic", "ordrs"],
            2,
            "did you mean orders?",
        ),
        (&["cat", "file:archive", "orders:9"], 2, "it holds 0 to 1"),
        (
            &["cat", "file:archive", "orders", "--since", "soon"],
            2,
            "not an instant: \"soon\"",
        ),
        (
            &["describe", "file:archive", "--generation", "9"],
            1,
            "the newest is 2",
        ),
        (
            &["show-manifest", "file:archive", "9"],
            1,
            "the newest is 2",
        ),
    ] {
        let ran = folder.kbr(words).expect(code);
        assert!(ran.stderr.contains(said), "{words:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
    }
}

#[test]
fn a_damaged_object_is_named_with_what_it_held_and_the_status_is_five() {
    let folder = Folder::with_released_archive();
    let segment = "topics/orders/partition=1/segment-00000000000000000007-run1.kbs";
    flip(&folder, segment, 70);
    // The index is whole, so a quick check cannot see it.
    folder.kbr(&["verify", "file:archive"]).expect(0);
    let ran = folder.kbr(&["verify", "file:archive", "--deep"]).expect(5);
    for said in [
        segment,
        "the block at byte 64 fails its CRC32C",
        "it held orders-1 offsets 7 to 9",
        "in part: generation 1 to 2",
        "generation 2 has everything but orders-1 offsets 7 to 9",
        "1 object damaged",
    ] {
        assert!(ran.stdout.contains(said), "{said}\n{}", ran.stdout);
    }
    let ran = folder.kbr(&["cat", "file:archive", "orders:1"]).expect(5);
    assert!(ran.stderr.contains(segment), "{}", ran.stderr);
    folder.kbr(&["cat", "file:archive", "orders:0"]).expect(0);

    let manifest = "generations/00000001.json";
    flip(&folder, manifest, 300);
    for words in [
        &["list", "file:archive"][..],
        &["verify", "file:archive"],
        &["describe", "file:archive", "--generation", "1"],
        &["show-manifest", "file:archive", "1"],
    ] {
        let ran = folder.kbr(words).expect(5);
        assert!(ran.text().contains(manifest), "{words:?}: {}", ran.text());
    }
    // What is still there is still listed.
    let ran = folder.kbr(&["list", "file:archive"]).expect(5);
    assert!(
        ran.stdout.contains("\n     2  2025-10-09"),
        "{}",
        ran.stdout
    );
    let ran = folder
        .kbr(&["verify", "file:archive", "--output", "json"])
        .expect(5);
    assert_eq!(json(&ran)["damages"][0]["object"], manifest);
}

/// An archive of 3,000 records of a kilobyte.
async fn large(folder: &Folder) {
    let url = format!("file:{}", folder.path().join("archive").display());
    let store = Store::open_text(&url).await.unwrap();
    let archive = Archive::create_or_open(store, "cluster").await.unwrap();
    let options = RunOptions {
        compression: BlockCompression::ZSTD,
    };
    let run = archive.begin_run("r1", options).await.unwrap();
    let id = TopicId::from_u128(7);
    let mut segment = run
        .segment_writer("orders", id, PartitionId(0))
        .await
        .unwrap();
    for base in (0..3_000).step_by(100) {
        let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(base);
        for offset in base..base + 100 {
            let value = vec![b'a' + (offset % 26) as u8; 1024];
            builder
                .push(offset, None, Some(&value), Headers::empty())
                .unwrap();
        }
        let batch = builder.finish(ProducerStamp::NONE).unwrap();
        segment.append(batch.into()).await.unwrap();
    }
    let segment = segment.finish().await.unwrap().unwrap();
    let entry = PartitionEntry {
        to: Offset(3_000),
        high_watermark: Offset(3_000),
        records: 3_000,
        segments: vec![segment],
        ..PartitionEntry::default()
    };
    let new = NewGeneration {
        consistency_point: TimestampMs(1_760_000_000_000),
        topics: vec![TopicEntry {
            name: "orders".into(),
            id,
            replication_factor: 1,
            partitions: vec![entry],
            ..TopicEntry::default()
        }],
        ..NewGeneration::default()
    };
    run.commit(new).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_output_quietly() {
    let folder = Folder::new();
    large(&folder).await;
    let mut child = folder
        .command(&["cat", "file:archive", "orders"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(
        line.starts_with(r#"{"topic":"orders","partition":0,"offset":0,"#),
        "{line}"
    );
    // Three megabytes do not fit into a pipe: it is still writing.
    drop(out);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_saw_a_generation_notices_when_it_is_gone() {
    let scene = Scene::backed_up().await;
    scene.prod.append("orders", 0, &batch("one more")).unwrap();
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let latest = r#"store("file:archive").latest().records"#;
    assert_eq!(scene.kbr(&["eval", latest]).expect(0).stdout, "11\n");
    let newest = scene
        .folder
        .path()
        .join("archive/generations/00000002.json");
    std::fs::remove_file(newest).unwrap();
    for words in [
        &["list", "file:archive"][..],
        &["verify", "file:archive"],
        &["describe", "file:archive"],
        &["eval", latest],
    ] {
        let ran = scene.kbr(words).expect(5);
        assert!(
            ran.text().contains("generations/00000002.json")
                && ran.text().contains("the newest there now"),
            "{words:?}: {}",
            ran.text()
        );
    }
    // On purpose it is read by its number, and a backup goes on and says so.
    let older = r#"store("file:archive").generation(1).records"#;
    assert_eq!(scene.kbr(&["eval", older]).expect(0).stdout, "10\n");
    scene
        .kbr(&["describe", "file:archive", "--generation", "1"])
        .expect(0);
    let ran = scene.kbr(&["run", "backup.rhai"]).expect(0);
    assert!(
        ran.text().contains("has seen generation 2"),
        "{}",
        ran.text()
    );
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    // Its own new generation is what the machine goes by from then on.
    scene.kbr(&["verify", "file:archive"]).expect(0);
    assert_eq!(scene.kbr(&["eval", latest]).expect(0).stdout, "11\n");
}

#[test]
fn scripts_read_the_same_facts() {
    let folder = Folder::with_released_archive();
    let eval = |code: &str| {
        let ran = folder.kbr(&["eval", code]).expect(0);
        ran.stdout.trim_end().to_string()
    };
    let snap = r#"store("file:archive").latest()"#;
    assert_eq!(
        eval(&format!("{snap}.describe().topics[0].partitions[0].to")),
        "60"
    );
    assert_eq!(eval(&format!(r#"{snap}.verify("deep").whole"#)), "true");
    assert_eq!(
        eval(r#"store("file:archive").verify("quick").segments"#),
        "4"
    );
    assert_eq!(eval(r#"store("file:archive").diff(1, 2).records"#), "10");
    assert_eq!(
        eval(r#"store("file:archive").generations()[1].records"#),
        "10"
    );
    let records = format!(r#"{snap}.read("orders", 0, 14, 3)"#);
    assert_eq!(
        eval(&format!("{records}.map(|r| r.offset)")),
        "[14, 15, 16]"
    );
    assert_eq!(eval(&format!("{records}[1].headers.len()")), "3");
    let ran = folder
        .kbr(&["eval", &format!(r#"{snap}.verify("fast")"#)])
        .expect(2);
    assert!(ran.stderr.contains("quick, deep"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_tells_what_came_what_went_what_is_new_under_an_old_name_and_what_was_set() {
    let scene = Scene::new().await;
    for topic in ["goes", "again", "set"] {
        scene.prod.create_topic(topic, 1, &[]).unwrap();
        scene.prod.append(topic, 0, &batch("before")).unwrap();
    }
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    scene.prod.delete_topic("goes").unwrap();
    scene.prod.delete_topic("again").unwrap();
    scene.prod.create_topic("again", 1, &[]).unwrap();
    scene.prod.create_topic("comes", 2, &[]).unwrap();
    scene.prod.append("comes", 1, &batch("after")).unwrap();
    let addresses = scene.prod.bootstrap();
    let client = Client::connect(ConnectOptions::new(addresses.iter().map(String::as_str)));
    let retention = BTreeMap::from([("retention.ms".to_string(), "1000".to_string())]);
    let set = client.await.unwrap();
    set.alter_topic_configs("set", &retention, &[])
        .await
        .unwrap();
    scene.prod.set_committed("newcomer", "set", 0, 1, "");
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);

    let shown = scene.kbr(&["diff", "file:archive"]).expect(0);
    let row = |topic: &str| {
        let mut lines = shown.stdout.lines();
        let found = lines.find(|line| line.split_whitespace().any(|word| word == topic));
        let found = found.unwrap_or_else(|| panic!("no {topic} in\n{}", shown.stdout));
        found
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<String>>()
    };
    assert_eq!(row("comes")[..3], ["+", "comes", "added"]);
    assert_eq!(row("goes")[..3], ["-", "goes", "removed"]);
    assert_eq!(row("again")[..3], ["!", "again", "recreated"]);
    assert_eq!(row("newcomer")[..3], ["+", "newcomer", "added"]);
    assert!(!shown.stdout.contains("orders"), "{}", shown.stdout);
    let set = shown
        .stdout
        .lines()
        .filter(|line| line.contains("retention.ms"));
    let set: Vec<&str> = set.collect();
    assert!(
        matches!(set[..], [line] if line.contains("1000")),
        "{}",
        shown.stdout
    );
}
