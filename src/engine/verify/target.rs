//! The records that are in the target, as a consumer reads them.

use super::{Chunks, Difference, Reading};
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::engine::restore::log_ranges;
use crate::kafka::{Class, Client, ErrorCode, FetchPartition, FetchWanted, Isolation};
use crate::record::{Limits, batches};
use std::time::{Duration, Instant};

const FETCH_BYTES: i32 = 1 << 20;
/// Without a single new record for this long the partition is given up.
const STALL: Duration = Duration::from_secs(60);

/// What was read.
pub struct Read {
    pub chunks: Chunks,
    /// The first record that does not stand where the one before it says.
    pub misplaced: Option<Difference>,
}

/// Reads `expected` records from `base` on: no more, since others may write behind them.
pub async fn digests(
    topic: &str,
    partition: PartitionId,
    base: Offset,
    expected: u64,
    reading: &Reading<'_>,
) -> Result<Read> {
    let client = reading.client;
    let at = TopicPartition::new(topic, partition);
    let mut read = Read {
        chunks: Chunks::default(),
        misplaced: None,
    };
    // Counts are far below 2⁶³.
    let end = base.0 + expected as i64;
    let mut next = base.0;
    let mut last_progress = Instant::now();
    let mut last_trouble = String::from("the log ends there");
    while next < end && read.misplaced.is_none() {
        if reading.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if last_progress.elapsed() > STALL {
            return Err(Error::Stalled {
                partition: at,
                at: Offset(next),
                seconds: STALL.as_secs(),
                last: last_trouble,
            });
        }
        // The answer, and what a batch of it is decompressed into.
        let _memory = reading.memory.take(2 * FETCH_BYTES as u64).await?;
        let fetched = match fetch(client, &at, next).await {
            Ok(Fetched::Records {
                bytes,
                end: log_end,
            }) => {
                if log_end <= next {
                    // Nothing more is there: fewer records than expected.
                    break;
                }
                bytes
            }
            Ok(Fetched::Gone { log_start }) => {
                read.misplaced = Some(Difference::Offset {
                    expected: Offset(next),
                    read: log_start,
                });
                break;
            }
            Err(error) if error.class() == Class::Fatal => return Err(error.into()),
            Err(error) => {
                last_trouble = error.to_string();
                let seen = client.metadata().generation;
                // Tried again by the loop, which is bounded in time.
                let _ = client.refresh_metadata(seen).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let before = next;
        let size = fetched.len() as u64;
        let partition = at.clone();
        (read, next) = crate::engine::restore::scan::off_reactor(move || {
            add(&fetched, &partition, before, end, &mut read).map(|next| (read, next))
        })
        .await?;
        if next > before {
            last_progress = Instant::now();
            reading
                .progress
                .advance((next - before).unsigned_abs(), size);
        }
    }
    Ok(read)
}

/// Whether the log goes on behind `end`.
pub async fn beyond(
    topic: &str,
    partition: PartitionId,
    end: Offset,
    client: &Client,
) -> Result<Option<Difference>> {
    let at = TopicPartition::new(topic, partition);
    let logs = log_ranges(client, std::slice::from_ref(&at)).await?;
    Ok(logs
        .get(&at)
        .filter(|log| log.end > end.0)
        .map(|log| Difference::Beyond {
            end,
            log_end: Offset(log.end),
        }))
}

enum Fetched {
    Records {
        bytes: bytes::Bytes,
        end: i64,
    },
    /// The offset is below the log start.
    Gone {
        log_start: Offset,
    },
}

async fn fetch(
    client: &Client,
    at: &TopicPartition,
    offset: i64,
) -> Result<Fetched, crate::kafka::Error> {
    let leader = client.leader(at).await?;
    let wanted = FetchWanted {
        partitions: vec![FetchPartition {
            topic: at.topic.clone(),
            topic_id: uuid::Uuid::nil(),
            partition: at.partition,
            offset: Offset(offset),
            leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: FETCH_BYTES,
        }],
        max_wait: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        isolation: Isolation::ReadUncommitted,
    };
    let mut parts = client.fetch(leader, wanted).await?;
    let Some(part) = parts.pop() else {
        return Err(crate::kafka::Error::NoLeader {
            partition: at.clone(),
        });
    };
    match part.error {
        ErrorCode::NONE => Ok(Fetched::Records {
            bytes: part.records,
            end: part.high_watermark.0,
        }),
        ErrorCode::OFFSET_OUT_OF_RANGE if part.log_start_offset.0 > offset => Ok(Fetched::Gone {
            log_start: part.log_start_offset,
        }),
        // Beyond the end: as if nothing were there.
        ErrorCode::OFFSET_OUT_OF_RANGE => Ok(Fetched::Records {
            bytes: bytes::Bytes::new(),
            end: offset,
        }),
        code => Err(crate::kafka::Error::broker(
            "Fetch",
            at.to_string(),
            code,
            None,
        )),
    }
}

/// Adds the records in `[from, end)`; the answer is the next offset to read.
fn add(
    bytes: &[u8],
    partition: &TopicPartition,
    from: i64,
    end: i64,
    read: &mut Read,
) -> Result<i64> {
    let mut next = from;
    let mut scratch = Vec::new();
    for batch in batches(bytes) {
        let damaged = |source| Error::Record {
            partition: partition.clone(),
            offset: Offset(next),
            source,
        };
        let batch = batch.map_err(damaged)?;
        batch.verify_crc().map_err(damaged)?;
        if batch.header.last_offset() < next {
            continue;
        }
        if batch.header.attributes.is_control() {
            read.misplaced = Some(Difference::Offset {
                expected: Offset(next),
                read: Offset(batch.header.next_offset()),
            });
            return Ok(next);
        }
        for record in batch
            .open(&Limits::default(), &mut scratch)
            .map_err(damaged)?
        {
            let record = record.map_err(|source| Error::Record {
                partition: partition.clone(),
                offset: Offset(next),
                source,
            })?;
            if record.offset < next {
                continue;
            }
            if next >= end {
                return Ok(next);
            }
            if record.offset > next {
                read.misplaced = Some(Difference::Offset {
                    expected: Offset(next),
                    read: Offset(record.offset),
                });
                return Ok(next);
            }
            read.chunks.add(&record);
            next += 1;
        }
    }
    Ok(next)
}
