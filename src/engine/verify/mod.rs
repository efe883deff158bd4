//! Reading a restore back: every record in the target against every selected record in the archive.
//!
//! The two sides share neither the batches nor the mapping that the writer made: the expected side goes through the
//! archive's records, the actual side consumes the target. Both are reduced to a digest per [`CHUNK`] records over
//! timestamp, key, value and headers in order, so that a difference is found together with its place.

mod expected;
mod target;

use crate::archive::Snapshot;
use crate::base::buffers;
use crate::base::text::grouped;
use crate::base::{CancellationToken, Digest, Offset, PartitionId, ProgressHandle};
use crate::engine::error::{Error, Result};
use crate::engine::restore::WriteTopic;
use crate::engine::restore::units::{self, Flow};
use crate::kafka::Client;
use crate::record::{ContentDigest, Record};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of blocks and answers in memory at once.
const BUDGET: u64 = 16 << 20;
/// What the budget counts in.
const GRAIN: u64 = 1 << 10;
/// Records per digest.
const CHUNK: u64 = 1024;
/// Small partitions are many, and each waits for its broker.
const FLOWS_AT_ONCE: usize = 8;
const PARTITIONS_AT_ONCE: usize = 4;

/// What one topic's verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub topic: String,
    pub partitions: Vec<PartitionReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    pub partition: PartitionId,
    /// Records that the archive and the selection say must be there.
    pub expected: u64,
    /// Records read back.
    pub read: u64,
    /// The target offsets they stand at: first, and the one after the last.
    pub first: Offset,
    pub end: Offset,
    /// Over all expected records.
    pub digest: Digest,
    pub difference: Option<Difference>,
}

/// The first thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Difference {
    /// Fewer or more records than expected.
    Count { expected: u64, read: u64 },
    /// More records follow than were restored: another producer wrote, or something was written twice.
    Beyond { end: Offset, log_end: Offset },
    /// The records do not stand at consecutive offsets from where they were written.
    Offset { expected: Offset, read: Offset },
    /// Some record in these target offsets (end exclusive) has another key, value, header or timestamp.
    Content { from: Offset, to: Offset },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count { expected, read } => {
                write!(
                    f,
                    "{} records instead of {}",
                    grouped(*read),
                    grouped(*expected)
                )
            }
            Self::Beyond { end, log_end } => write!(
                f,
                "the restored records end at {end}, the log at {log_end}: another producer wrote into it"
            ),
            Self::Offset { expected, read } => {
                write!(f, "a record at offset {read} where {expected} was due")
            }
            Self::Content { from, to } => write!(
                f,
                "a record in offsets {from} to {} has another key, value, header or timestamp",
                to.0 - 1
            ),
        }
    }
}

impl Report {
    pub fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.read).sum()
    }

    pub fn differences(&self) -> impl Iterator<Item = (PartitionId, &Difference)> {
        self.partitions
            .iter()
            .filter_map(|partition| Some((partition.partition, partition.difference.as_ref()?)))
    }
}

/// Digests over runs of [`CHUNK`] records.
#[derive(Default)]
struct Chunks {
    done: Vec<Digest>,
    current: ContentDigest,
    records: u64,
}

impl Chunks {
    fn add(&mut self, record: &Record<'_>) {
        self.current.update(record);
        self.records += 1;
        if self.current.records() == CHUNK {
            self.close();
        }
    }

    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.current).finish());
    }

    fn finish(mut self) -> (u64, Vec<Digest>) {
        if self.current.records() > 0 {
            self.close();
        }
        (self.records, self.done)
    }
}

/// What reading back goes by.
struct Reading<'a> {
    client: &'a Client,
    memory: Memory,
    progress: &'a ProgressHandle,
    cancel: &'a CancellationToken,
}

/// What all partitions share of memory. Whoever holds some of it needs no more to give it back.
struct Memory(Semaphore);

impl Memory {
    fn new() -> Self {
        // Far below what a semaphore can count.
        Self(Semaphore::new((BUDGET / GRAIN) as usize))
    }

    async fn take(&self, bytes: u64) -> Result<SemaphorePermit<'_>> {
        // Anything larger than the budget is as large as the budget.
        let grains = bytes.clamp(GRAIN, BUDGET) / GRAIN;
        let taken = self.0.acquire_many(grains as u32).await;
        taken.map_err(|_| Error::Internal("the budget is closed".into()))
    }
}

/// Reads back everything that `write` wrote. A difference is in the report, not an error.
pub async fn verify_topic(
    write: &WriteTopic,
    snapshot: &Snapshot,
    client: &Client,
    progress: &ProgressHandle,
    cancel: &CancellationToken,
) -> Result<Report> {
    let flows = units::flows(write.routing, &write.partitions);
    buffers::keep_all();
    let reading = &Reading {
        client,
        memory: Memory::new(),
        progress,
        cancel,
    };
    let mut partitions: Vec<PartitionReport> = Vec::with_capacity(flows.len());
    let mut waiting = flows.iter();
    // One by one: ten thousand futures that have not begun would take more memory than their blocks.
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < FLOWS_AT_ONCE
            && let Some(flow) = waiting.next()
        {
            running.push(verify_flow(write, flow, snapshot, reading));
        }
        match running.next().await {
            Some(done) => partitions.extend(done?),
            None => break,
        }
    }
    partitions.sort_by_key(|report| report.partition);
    Ok(Report {
        topic: write.topic.clone(),
        partitions,
    })
}

async fn verify_flow(
    write: &WriteTopic,
    flow: &Flow,
    snapshot: &Snapshot,
    reading: &Reading<'_>,
) -> Result<Vec<PartitionReport>> {
    let expected = expected::of_flow(write, flow, snapshot, reading).await?;
    let work: Vec<_> = expected
        .into_iter()
        .map(|(target, expected)| async move {
            let base = expected.base;
            let wanted = expected.chunks.finish();
            let read = target::digests(&write.topic, target, base, wanted.0, reading).await?;
            let end = base + wanted.0 as i64;
            let mut report = compare(target, base, wanted, read);
            // What is written behind it by another step of the plan is verified there.
            if report.difference.is_none() && !write.followed {
                report.difference =
                    target::beyond(&write.topic, target, end, reading.client).await?;
            }
            Ok::<_, Error>(report)
        })
        .collect();
    futures::stream::iter(work)
        .buffered(PARTITIONS_AT_ONCE)
        .try_collect()
        .await
}

fn compare(
    partition: PartitionId,
    base: Offset,
    (expected, wanted): (u64, Vec<Digest>),
    read: target::Read,
) -> PartitionReport {
    let mut whole = blake3::Hasher::new();
    for digest in &wanted {
        whole.update(&digest.0);
    }
    let (count, found) = read.chunks.finish();
    let content = wanted
        .iter()
        .zip(&found)
        .position(|(wanted, found)| wanted != found)
        .map(|chunk| {
            let from = base + (chunk as u64 * CHUNK) as i64;
            Difference::Content {
                from,
                to: Offset((from.0 + CHUNK as i64).min(base.0 + expected.min(count) as i64)),
            }
        });
    let counted = (count != expected).then_some(Difference::Count {
        expected,
        read: count,
    });
    PartitionReport {
        partition,
        expected,
        read: count,
        first: base,
        end: base + count as i64,
        digest: Digest(*whole.finalize().as_bytes()),
        difference: read.misplaced.or(counted).or(content),
    }
}
