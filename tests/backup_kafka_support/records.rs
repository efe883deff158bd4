//! Records as plain values, from three sides that share no code: Kafka's consumer, kbr's own reader of archives, and
//! the reader that was written from `docs/archive-format.md` alone.

use base64::Engine;
use kbr::archive::{Archive, Depth, GapKind, Snapshot};
use kbr::base::{NoProgress, Offset, PartitionId};
use kbr::record::{Limits, batches};
use kbr::store::{Store, StoreUrl};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub timestamp: i64,
    /// `CreateTime` or `LogAppendTime`.
    pub kind: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// By topic and partition, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(pub BTreeMap<(String, i32), Vec<Row>>);

impl Records {
    /// The Java client's lines.
    pub fn of_consumer(lines: &str) -> Self {
        let mut records = Self::default();
        for line in lines.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let bytes = |value: &Value| {
                let engine = base64::engine::general_purpose::STANDARD;
                value.as_str().map(|text| engine.decode(text).unwrap())
            };
            let headers = record["headers"].as_array().unwrap();
            let row = Row {
                offset: record["offset"].as_i64().unwrap(),
                timestamp: record["timestamp"].as_i64().unwrap(),
                kind: record["type"].as_str().unwrap().to_string(),
                key: bytes(&record["key"]),
                value: bytes(&record["value"]),
                headers: headers
                    .iter()
                    .map(|header| {
                        let key = header[0].as_str().unwrap().as_bytes().to_vec();
                        (key, bytes(&header[1]))
                    })
                    .collect(),
            };
            let partition = record["partition"].as_i64().unwrap() as i32;
            let topic = record["topic"].as_str().unwrap().to_string();
            records.0.entry((topic, partition)).or_default().push(row);
        }
        records
    }

    /// Everything current in an archive, by kbr's reader.
    pub fn of_archive(folder: &Path) -> Self {
        block_on(async {
            let snapshot = latest(folder).await;
            let mut records = Self::default();
            for topic in snapshot.topics() {
                for partition in &topic.partitions {
                    let rows = rows(&snapshot, &topic.name, partition.partition).await;
                    assert_eq!(rows.len() as u64, partition.records, "records as counted");
                    if !rows.is_empty() {
                        let key = (topic.name.clone(), partition.partition.0);
                        records.0.insert(key, rows);
                    }
                }
            }
            records
        })
    }

    /// The same by the independent reader. Batches that it has no codec for are left out, and counted.
    pub fn of_archive_by_python(folder: &Path) -> (Self, usize) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_archive.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(folder).arg("--types");
        let output =
            crate::support::run_to_end(&mut command, b"", std::time::Duration::from_secs(120));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut records = Self::default();
        let mut unread = 0;
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [
                topic,
                partition,
                offset,
                timestamp,
                kind,
                key,
                value,
                headers,
            ] = words[..]
            else {
                assert_eq!(words[0], "?", "{line}");
                unread += 1;
                continue;
            };
            let headers = headers.trim_start_matches('[').trim_end_matches(']');
            let row = Row {
                offset: offset.parse().unwrap(),
                timestamp: timestamp.parse().unwrap(),
                kind: kind.to_string(),
                key: unhex(key),
                value: unhex(value),
                headers: headers
                    .split(',')
                    .filter(|header| !header.is_empty())
                    .map(|header| {
                        let (key, value) = header.split_once('=').unwrap();
                        (unhex(key).unwrap(), unhex(value))
                    })
                    .collect(),
            };
            let key = (topic.to_string(), partition.parse().unwrap());
            records.0.entry(key).or_default().push(row);
        }
        (records, unread)
    }

    pub fn of(&self, topic: &str, partition: i32) -> &[Row] {
        self.0
            .get(&(topic.to_string(), partition))
            .map_or(&[], Vec::as_slice)
    }

    /// The offsets of a partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> Vec<i64> {
        let rows = self.of(topic, partition).iter();
        rows.map(|row| row.offset).collect()
    }

    /// Only the partitions of these topics.
    pub fn only(mut self, topics: &[&str]) -> Self {
        self.0
            .retain(|(topic, _), _| topics.contains(&topic.as_str()));
        self
    }

    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// Panics at the first record that differs, without printing all the others.
#[track_caller]
pub fn assert_same(archived: &Records, expected: &Records) {
    let names = |records: &Records| records.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(archived), names(expected), "partitions with records");
    for (at, expected) in &expected.0 {
        let archived = &archived.0[at];
        for (archived, expected) in archived.iter().zip(expected) {
            if archived != expected {
                panic!(
                    "{at:?}: archived {}, expected {}",
                    short(archived),
                    short(expected)
                );
            }
        }
        assert_eq!(archived.len(), expected.len(), "records of {at:?}");
    }
}

fn short(row: &Row) -> String {
    let mut text = format!("{row:?}");
    text.truncate(400);
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (text != "-").then(|| (0..text.len()).step_by(2).map(digits).collect())
}

async fn rows(snapshot: &Snapshot, topic: &str, partition: PartitionId) -> Vec<Row> {
    let entry = snapshot
        .topic(topic)
        .and_then(|topic| topic.partition(partition))
        .unwrap();
    let range = entry.from..entry.to;
    let mut rows = Vec::new();
    for block in snapshot.blocks(topic, partition, range).await.unwrap() {
        let bytes = snapshot.read_block(&block).await.unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let kind = format!("{:?}", batch.header.attributes.timestamp_type());
            let mut scratch = Vec::new();
            for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
                let record = record.unwrap();
                if (block.first()..=block.last()).contains(&Offset(record.offset)) {
                    rows.push(Row {
                        offset: record.offset,
                        timestamp: record.timestamp,
                        kind: kind.clone(),
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: record
                            .headers
                            .iter()
                            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                            .collect(),
                    });
                }
            }
        }
    }
    rows
}

/// One partition of the newest generation, as far as its manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    pub from: i64,
    pub to: i64,
    pub records: u64,
    pub gaps: Vec<(GapKind, i64, i64, u64)>,
    pub incarnation: u32,
}

impl Books {
    pub fn missing(&self, kind: GapKind) -> u64 {
        let gaps = self.gaps.iter().filter(|gap| gap.0 == kind);
        gaps.map(|gap| gap.3).sum()
    }
}

/// The books of a partition of a current topic.
pub fn books(folder: &Path, topic: &str, partition: i32) -> Books {
    block_on(async {
        let snapshot = latest(folder).await;
        let topic = snapshot.topic(topic).unwrap();
        let entry = topic.partition(PartitionId(partition)).unwrap();
        Books {
            from: entry.from.0,
            to: entry.to.0,
            records: entry.records,
            gaps: entry
                .gaps
                .iter()
                .map(|gap| (gap.kind, gap.from.0, gap.to.0, gap.offsets))
                .collect(),
            incarnation: topic.incarnation,
        }
    })
}

/// Incarnations of a topic that the archive has, the current one last, each with how many records it has.
pub fn incarnations(folder: &Path, topic: &str) -> Vec<(u32, u64)> {
    block_on(async {
        let snapshot = latest(folder).await;
        let all = snapshot.all_topics().iter();
        all.filter(|known| known.name == topic)
            .map(|known| (known.incarnation, known.records()))
            .collect()
    })
}

/// Every hash, checksum and count of the archive.
pub fn assert_undamaged(folder: &Path) {
    block_on(async {
        let archive = open(folder).await;
        let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
        assert_eq!(report.damages, []);
    });
}

async fn open(folder: &Path) -> Archive {
    let url = StoreUrl::File(folder.to_path_buf());
    Archive::open(Store::open(&url).await.unwrap())
        .await
        .unwrap()
}

async fn latest(folder: &Path) -> Snapshot {
    open(folder).await.latest().await.unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
