//! An archive with every kind of batch that a restore treats in its own way, made without a broker.

#![allow(dead_code)] // Each test program uses a part of it.

use bytes::Bytes;
use kbr::archive::{
    Archive, Gap, GapKind, NewGeneration, PartitionEntry, RunOptions, Snapshot, TopicEntry,
};
use kbr::base::{CancellationToken, Offset, PartitionId, TimestampMs};
use kbr::engine::restore::{self, FilterError, Options, TopicRemap, WriteTopic};
use kbr::kafka::Client;
use kbr::record::{BatchBuilder, BuildOptions, Codec, Headers, ProducerStamp};
use kbr::store::{Store, StoreUrl};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub const NOW: TimestampMs = TimestampMs(1_795_255_200_000);
pub const PARTITIONS: i32 = 3;

static UNIQUE: AtomicU32 = AtomicU32::new(0);

pub fn unique(prefix: &str) -> String {
    let number = UNIQUE.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// A record as it must be in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub timestamp: i64,
    pub key: String,
    pub value: String,
}

/// Letters that hardly repeat.
fn noise(seed: u64, length: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[(state % 64) as usize])
    };
    (0..length).map(|_| next()).collect()
}

/// Batches that pass whole, batches with holes that are rebuilt, and small ones that are merged. `first` is the first
/// record's timestamp.
fn batches(partition: i32, rounds: i64, first: TimestampMs) -> (Vec<u8>, Vec<Row>, i64) {
    let mut bytes = Vec::new();
    let mut rows = Vec::new();
    let mut next = 0;
    for round in 0..rounds {
        let (records, length, step) = match round % 4 {
            0 | 1 => (10, 9_000, 1),
            2 => (6, 2_000, 2),
            _ => (5, 40, 1),
        };
        let mut builder = BatchBuilder::new(BuildOptions {
            codec: Codec::None,
            ..BuildOptions::default()
        })
        .base_offset(next);
        for index in 0..records {
            let seed = (i64::from(partition) * 1_000_000 + next + index) as u64;
            let row = Row {
                timestamp: first.0 + next + index,
                key: format!("key-{}", seed % 23),
                value: noise(seed, length),
            };
            builder
                .push_at(
                    (index * step) as i32,
                    row.timestamp,
                    Some(row.key.as_bytes()),
                    Some(row.value.as_bytes()),
                    Headers::empty(),
                )
                .unwrap();
            rows.push(row);
        }
        bytes.extend(builder.finish(ProducerStamp::NONE).unwrap());
        next += (records - 1) * step + 1;
    }
    (bytes, rows, next)
}

/// A topic `orders`, and what each of its partitions holds.
pub async fn archive(rounds: i64, first: TimestampMs) -> (Snapshot, Vec<Vec<Row>>) {
    let url: StoreUrl = format!("memory:{}", unique("resume")).parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    let archive = Archive::create_or_open(store, "source-cluster")
        .await
        .unwrap();
    let id = uuid::Uuid::from_u128(78);
    let run = archive
        .begin_run("run-1", RunOptions::default())
        .await
        .unwrap();
    let mut partitions = Vec::new();
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let (bytes, rows, end) = batches(partition, rounds, first);
        let mut writer = run
            .segment_writer("orders", id, PartitionId(partition))
            .await
            .unwrap();
        writer.append(Bytes::from(bytes)).await.unwrap();
        let segment = writer.finish().await.unwrap().unwrap();
        let records = rows.len() as u64;
        let holes = end as u64 - records;
        partitions.push(PartitionEntry {
            partition: PartitionId(partition),
            to: Offset(end),
            high_watermark: Offset(end),
            last_leader_epoch: -1,
            records,
            segments: vec![segment],
            gaps: vec![Gap::scattered(
                Offset(0),
                Offset(end),
                GapKind::Compacted,
                holes,
            )],
            ..PartitionEntry::default()
        });
        all.push(rows);
    }
    run.commit(NewGeneration {
        started: NOW,
        consistency_point: NOW,
        partial: false,
        topics: vec![TopicEntry {
            name: "orders".into(),
            id,
            replication_factor: 3,
            partition_count: PARTITIONS,
            partitions,
            ..TopicEntry::default()
        }],
        groups: None,
        cluster: None,
    })
    .await
    .unwrap();
    (archive.latest().await.unwrap(), all)
}

pub struct Rename(pub String);

impl TopicRemap for Rename {
    fn fingerprint(&self) -> String {
        format!("→ {}", self.0)
    }
    fn target(&self, _source: &str) -> Result<String, FilterError> {
        Ok(self.0.clone())
    }
}

/// Plans a restore under a new name, and makes its topic.
pub async fn made(snapshot: &Snapshot, client: &Client) -> WriteTopic {
    let options = Options {
        remap: Some(Arc::new(Rename(unique("restored")))),
        ..Options::default()
    };
    let cancel = CancellationToken::new();
    let plan = restore::plan(snapshot, client, &options, NOW, &cancel)
        .await
        .unwrap();
    restore::create_topic(&plan.creates[0], client)
        .await
        .unwrap();
    plan.writes[0].clone()
}
