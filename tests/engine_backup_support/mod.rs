//! What the backup tests share: a sandbox, an archive in memory, and both sides' records as plain values.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code)]

use bytes::Bytes;
use kbr::archive::{Archive, Depth, GapKind, Snapshot};
use kbr::base::{CancellationToken, NoProgress, Offset, PartitionId};
use kbr::engine::backup::{self, Options, Plan, Report, Run};
use kbr::engine::{Error, Result};
use kbr::kafka::{Client, ConnectOptions};
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Limits, OwnedHeaders, ProducerStamp, batches,
};
use kbr::sandbox::{Sandbox, SandboxOptions};
use kbr::store::{Store, StoreUrl};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const NOW: i64 = 1_795_255_200_000;

static UNIQUE: AtomicU32 = AtomicU32::new(0);

fn unique(prefix: &str) -> String {
    let number = UNIQUE.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What was produced, kept beside the sandbox: a record that a fault loses or doubles shows against this.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    partitions: BTreeMap<(String, i32), Vec<Plain>>,
}

impl Produced {
    /// Appends a batch to the source and remembers its records with the offsets they got.
    pub fn append(&mut self, source: &Sandbox, topic: &str, partition: i32, bytes: &[u8]) {
        let base = source.append(topic, partition, bytes).unwrap().0;
        let records = self.partitions.entry((topic.to_string(), partition));
        let records = records.or_default();
        for mut record in plain(bytes) {
            record.offset += base;
            records.push(record);
        }
    }

    pub fn partitions(&self) -> impl Iterator<Item = (&str, i32, &[Plain])> {
        let partitions = self.partitions.iter();
        partitions.map(|((topic, partition), records)| (topic.as_str(), *partition, &records[..]))
    }

    /// The archive verifies deep and holds exactly what was produced; the objects that no generation names.
    #[track_caller]
    pub fn assert_archived(&self, store: &Store, when: &str) -> impl Future<Output = Vec<String>> {
        let (store, when) = (store.clone(), when.to_string());
        async move {
            let unreferenced = assert_sound(&store, &when).await;
            let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
            for (topic, partition, records) in self.partitions() {
                let found = archived(&snapshot, topic, partition).await;
                assert!(
                    found == records,
                    "{when}: {topic}-{partition} has {} records, {} were produced; the first difference is at {:?}",
                    found.len(),
                    records.len(),
                    found
                        .iter()
                        .zip(records)
                        .position(|(one, other)| one != other)
                );
            }
            unreferenced
        }
    }
}

/// Every link, block, batch and count of the archive is right, and what is left over lies where nothing looks for it.
pub async fn assert_sound(store: &Store, when: &str) -> Vec<String> {
    let Some(archive) = Archive::open_if_exists(store.clone()).await.unwrap() else {
        for (path, _) in store.list("").await.unwrap() {
            assert!(is_unfinished(&path), "{when}: {path} without an archive");
        }
        return Vec::new();
    };
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    assert!(report.is_whole(), "{when}: {:?}", report.damages);
    for path in &report.unreferenced {
        let folder = path.split('/').next().unwrap();
        let harmless = ["staging", "topics", "packs", "groups", "cluster"].contains(&folder);
        assert!(
            harmless || is_unfinished(path),
            "{when}: {path} is left over"
        );
    }
    report.unreferenced
}

/// A file that a store in a folder was writing when its process died.
fn is_unfinished(path: &str) -> bool {
    let number = path.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The records of batches, opened.
pub fn plain(bytes: &[u8]) -> Vec<Plain> {
    let mut records = Vec::new();
    let mut scratch = Vec::new();
    for batch in batches(bytes) {
        for record in batch
            .unwrap()
            .open(&Limits::default(), &mut scratch)
            .unwrap()
        {
            let record = record.unwrap();
            records.push(Plain {
                offset: record.offset,
                timestamp: record.timestamp,
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
    records
}

/// A source cluster and the archive it is backed up into.
pub struct World {
    pub sandbox: Arc<Sandbox>,
    pub client: Client,
    pub store: Store,
}

impl World {
    pub async fn new(brokers: usize) -> Self {
        Self::of(SandboxOptions {
            brokers,
            ..SandboxOptions::default()
        })
        .await
    }

    /// A source as the options say, with a name of its own.
    pub async fn of(options: SandboxOptions) -> Self {
        let options = SandboxOptions {
            name: unique("source"),
            ..options
        };
        let sandbox = Sandbox::start(options).await.unwrap();
        let mut connect = ConnectOptions::new(sandbox.bootstrap());
        connect.retry_deadline = Duration::from_secs(5);
        connect.request_timeout = Duration::from_secs(5);
        let client = Client::connect(connect).await.unwrap();
        let url: StoreUrl = format!("memory:{}", unique("backup")).parse().unwrap();
        Self {
            sandbox: Arc::new(sandbox),
            client,
            store: Store::open(&url).await.unwrap(),
        }
    }

    /// The same source, and another archive in memory that holds these objects.
    pub async fn with_archive(&self, objects: &[(String, Bytes)]) -> Store {
        let url: StoreUrl = format!("memory:{}", unique("backup")).parse().unwrap();
        let store = Store::open(&url).await.unwrap();
        for (path, bytes) in objects {
            store.create(path, bytes.clone()).await.unwrap();
        }
        store
    }

    /// Plans and applies into `store`, with the given options; the run is named uniquely.
    pub async fn run_into(&self, store: &Store, options: &Options) -> Result<Report> {
        let plan = backup::plan(&self.client, store, options).await?;
        self.apply_into(store, &plan, CancellationToken::new())
            .await
    }

    pub async fn apply_into(
        &self,
        store: &Store,
        plan: &Plan,
        cancel: CancellationToken,
    ) -> Result<Report> {
        let run = Run {
            name: unique("run"),
            progress: NoProgress::handle(),
            cancel,
        };
        let applied = backup::apply(plan, &self.client, store, &run);
        tokio::time::timeout(Duration::from_secs(60), applied)
            .await
            .map_err(|_| Error::Internal("the backup did not end within 60 s".into()))?
    }

    pub async fn plan(&self, options: &Options) -> Result<Plan> {
        backup::plan(&self.client, &self.store, options).await
    }

    pub async fn apply(&self, plan: &Plan) -> Result<Report> {
        self.apply_until(plan, CancellationToken::new()).await
    }

    pub async fn apply_until(&self, plan: &Plan, cancel: CancellationToken) -> Result<Report> {
        self.apply_into(&self.store, plan, cancel).await
    }

    /// Plans and applies; nothing may be missing.
    pub async fn backup(&self) -> Report {
        let plan = self.plan(&quick()).await.unwrap();
        let report = self.apply(&plan).await.unwrap();
        assert_eq!(report.incomplete, Vec::<String>::new());
        assert!(!report.partial);
        report
    }

    pub async fn latest(&self) -> Snapshot {
        let archive = Archive::open(self.store.clone()).await.unwrap();
        archive.latest().await.unwrap()
    }

    /// Every record that the archive holds of a partition.
    pub async fn archived(&self, topic: &str, partition: i32) -> Vec<Plain> {
        let snapshot = self.latest().await;
        archived(&snapshot, topic, partition).await
    }

    /// Every record of the source that a consumer with read_committed gets, aborted ones given by offset.
    pub fn source(&self, topic: &str, partition: i32, aborted: &[i64]) -> Vec<Plain> {
        self.sandbox
            .records(topic, partition)
            .unwrap()
            .into_iter()
            .filter(|record| !record.control && !aborted.contains(&record.offset.0))
            .map(|record| Plain {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                key: record.key,
                value: record.value,
                headers: record.headers,
            })
            .collect()
    }

    /// Missing offsets by reason, over everything that the archive holds of the partition.
    pub async fn gaps(&self, topic: &str, partition: i32) -> Vec<(GapKind, u64)> {
        let snapshot = self.latest().await;
        let entry = snapshot
            .topic(topic)
            .and_then(|topic| topic.partition(PartitionId(partition)))
            .unwrap();
        let mut sums = BTreeMap::new();
        for gap in &entry.gaps {
            *sums.entry(gap.kind).or_default() += gap.offsets;
        }
        sums.into_iter().collect()
    }
}

/// Gives up soon, so that a test of a stall does not take a minute.
pub fn quick() -> Options {
    Options {
        stall: Duration::from_secs(10),
        ..Options::default()
    }
}

pub async fn archived(snapshot: &Snapshot, topic: &str, partition: i32) -> Vec<Plain> {
    let entry = snapshot
        .topic(topic)
        .and_then(|topic| topic.partition(PartitionId(partition)))
        .unwrap()
        .clone();
    let range = entry.from..entry.to;
    let blocks = snapshot
        .blocks(topic, PartitionId(partition), range)
        .await
        .unwrap();
    let mut records = Vec::new();
    for block in blocks {
        let bytes = snapshot.read_block(&block).await.unwrap();
        let counted = plain(&bytes).into_iter();
        records.extend(
            counted
                .filter(|record| (block.first()..=block.last()).contains(&Offset(record.offset))),
        );
    }
    assert_eq!(records.len() as u64, entry.records, "records as counted");
    records
}

/// A batch of `count` records with keys, nulls, tombstones, duplicate header keys; `seed` makes them differ.
pub fn batch(codec: Codec, seed: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions {
        codec,
        ..BuildOptions::default()
    });
    for index in 0..count {
        let key = (index % 4 != 0).then(|| format!("key-{seed}-{index}").into_bytes());
        let value = (index % 5 != 1).then(|| format!("value {seed} {index}").into_bytes());
        let mut headers = OwnedHeaders::new();
        if index % 3 == 0 {
            headers
                .push(b"twice", Some(b"one"))
                .push(b"twice", None)
                .push(b"", Some(b""));
        }
        builder
            .push(
                NOW + seed * 1000 + (index * 7919) % 500,
                key.as_deref(),
                value.as_deref(),
                headers.as_headers(),
            )
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// A batch of `count` records of `size` bytes that do not compress.
pub fn large_batch(seed: u64, count: usize, size: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..count {
        let value: Vec<u8> = (0..size)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let headers = kbr::record::Headers::empty();
        builder.push(NOW, None, Some(&value), headers).unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}
