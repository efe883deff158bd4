//! What the backup tests share: a sandbox, an archive in memory, and both sides' records as plain values.

use kbr::archive::{Archive, GapKind, Snapshot};
use kbr::base::{CancellationToken, NoProgress, Offset, PartitionId};
use kbr::engine::backup::{self, Options, Plan, Report, Run};
use kbr::engine::{Error, Result};
use kbr::kafka::{Client, ConnectOptions};
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Limits, OwnedHeaders, ProducerStamp, batches,
};
use kbr::sandbox::{Sandbox, SandboxOptions};
use kbr::store::{Store, StoreUrl};
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

/// A source cluster and the archive it is backed up into.
pub struct World {
    pub sandbox: Arc<Sandbox>,
    pub client: Client,
    pub store: Store,
    runs: AtomicU32,
}

impl World {
    pub async fn new(brokers: usize) -> Self {
        let options = SandboxOptions {
            brokers,
            ..SandboxOptions::named(unique("source"))
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
            runs: AtomicU32::new(0),
        }
    }

    pub async fn plan(&self, options: &Options) -> Result<Plan> {
        backup::plan(&self.client, &self.store, options).await
    }

    pub async fn apply(&self, plan: &Plan) -> Result<Report> {
        self.apply_until(plan, CancellationToken::new()).await
    }

    pub async fn apply_until(&self, plan: &Plan, cancel: CancellationToken) -> Result<Report> {
        let run = Run {
            name: format!("run-{}", self.runs.fetch_add(1, Ordering::Relaxed)),
            progress: NoProgress::handle(),
            cancel,
        };
        let applied = backup::apply(plan, &self.client, &self.store, &run);
        tokio::time::timeout(Duration::from_secs(60), applied)
            .await
            .map_err(|_| Error::Internal("the backup did not end within 60 s".into()))?
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
        let mut sums = std::collections::BTreeMap::new();
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
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            let mut scratch = Vec::new();
            for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
                let record = record.unwrap();
                if (block.first()..=block.last()).contains(&Offset(record.offset)) {
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
        }
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
