//! A look into a live partition: some records from an offset on, and how far in time a reader there is behind.
//!
//! What a `read_committed` consumer would see: markers and aborted transactions are passed over. A look takes as little
//! as it can, and ends where the log does; nothing waits for records to come.

use super::backup::Transactions;
use super::error::{Error, Result};
use crate::archive::ArchivedRecord;
use crate::base::{Offset, TimestampMs, TopicPartition};
use crate::kafka::{
    Client, ErrorCode, FetchPartition, FetchWanted, FetchedPartition, Isolation, OffsetAt,
};
use crate::record::{Limits, batches};
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of one fetch; the first batch comes whole, however large it is.
const FETCH_BYTES: i32 = 256 << 10;
/// How long a broker may wait for something to read.
const MOST_WAIT: Duration = Duration::from_millis(200);
/// So many answers in a row without anything new end a look: the log has ended, or lost its leader.
const MOST_EMPTY: usize = 5;
/// So far from a log's end its last record is looked for; where only markers and aborted records stand for longer than
/// that, nothing is told.
const MOST_BACK: i64 = 4096;
/// Looks under way at once.
const AT_ONCE: usize = 16;

/// At most `count` records from `from` on; of a lower offset than the log start, from there.
pub async fn records(
    client: &Client,
    at: &TopicPartition,
    from: Offset,
    count: usize,
) -> Result<Vec<ArchivedRecord>> {
    let bytes = if count == 1 { 1 } else { FETCH_BYTES };
    let (mut next, mut found, mut empty) = (from, Vec::new(), 0);
    while found.len() < count && empty < MOST_EMPTY {
        let part = fetch(client, at, next, bytes).await?;
        if part.error == ErrorCode::OFFSET_OUT_OF_RANGE && next < part.log_start_offset {
            next = part.log_start_offset;
            continue;
        }
        match part.error {
            ErrorCode::NONE => {}
            // Beyond the end, where nothing is.
            ErrorCode::OFFSET_OUT_OF_RANGE => break,
            code => {
                let error = crate::kafka::Error::broker("Fetch", at.to_string(), code, None);
                return Err(error.into());
            }
        }
        let before = next;
        take(&part, at, &mut next, count, &mut found)?;
        let end = match part.last_stable_offset.0 {
            -1 => part.high_watermark,
            _ => part.last_stable_offset,
        };
        if next >= end {
            break;
        }
        empty = if next > before { 0 } else { empty + 1 };
    }
    Ok(found)
}

/// Of each partition that has something from the given offset on: how much older its next record is than its newest, in
/// milliseconds, never negative. A partition that cannot be read, by right or by trouble, is left out.
pub async fn behind(
    client: &Client,
    places: &[(TopicPartition, Offset)],
) -> BTreeMap<TopicPartition, i64> {
    let wanted: Vec<_> = places
        .iter()
        .map(|(at, _)| (at.clone(), OffsetAt::Latest))
        .collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let isolation = Isolation::ReadCommitted;
    let Ok(ends) = client.list_offsets(&wanted, isolation).await else {
        return BTreeMap::new();
    };
    let looks = places.iter().filter_map(|(at, from)| {
        let end = ends.get(at)?.as_ref().ok()?.offset;
        Some(async move {
            let next = records(client, at, *from, 1).await.ok()?.pop()?;
            let newest = last(client, at, next.offset, end).await.ok()??;
            Some((at.clone(), older(next.timestamp, newest.timestamp)))
        })
    });
    futures::stream::iter(looks.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// The last record of `[from, end)`. Brokers tell the largest timestamp of a log themselves (KIP-734), but of markers and
/// aborted records, too; so the log's end is read, from further and further back where nothing else stands there.
async fn last(
    client: &Client,
    at: &TopicPartition,
    from: Offset,
    end: Offset,
) -> Result<Option<ArchivedRecord>> {
    let mut back = 1;
    loop {
        let begin = Offset((end.0 - back).max(from.0));
        let count = usize::try_from(end.0 - begin.0).unwrap_or(0);
        let found = records(client, at, begin, count).await?.pop();
        if found.is_some() || begin == from || back > MOST_BACK {
            return Ok(found);
        }
        back *= 16;
    }
}

/// How much older `next` is than `newest`.
pub fn older(next: TimestampMs, newest: TimestampMs) -> i64 {
    (newest.0 - next.0).max(0)
}

async fn fetch(
    client: &Client,
    at: &TopicPartition,
    offset: Offset,
    max_bytes: i32,
) -> Result<FetchedPartition> {
    let leader = client.leader(at).await?;
    let wanted = FetchWanted {
        partitions: vec![FetchPartition {
            topic: at.topic.clone(),
            topic_id: uuid::Uuid::nil(),
            partition: at.partition,
            offset,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes,
        }],
        max_wait: MOST_WAIT,
        min_bytes: 1,
        max_bytes,
        isolation: Isolation::ReadCommitted,
    };
    let part = client.fetch(leader, wanted).await?.pop();
    part.ok_or_else(|| {
        Error::from(crate::kafka::Error::NoLeader {
            partition: at.clone(),
        })
    })
}

/// Adds records at or after `next`, and moves `next` behind what was read.
fn take(
    part: &FetchedPartition,
    at: &TopicPartition,
    next: &mut Offset,
    count: usize,
    found: &mut Vec<ArchivedRecord>,
) -> Result<()> {
    let mut transactions = Transactions::new(&part.aborted);
    let mut scratch = Vec::new();
    let damaged = |offset: Offset, source| Error::Record {
        partition: at.clone(),
        offset,
        source,
    };
    for batch in batches(&part.records) {
        let batch = batch.map_err(|error| damaged(*next, error))?;
        batch.verify_crc().map_err(|error| damaged(*next, error))?;
        let aborted = transactions.is_aborted(&batch);
        let aborted = aborted.map_err(|error| damaged(*next, error))?;
        let header = batch.header;
        if header.next_offset() <= next.0 {
            continue;
        }
        if !aborted && !header.attributes.is_control() {
            let kind = header.attributes.timestamp_type();
            let opened = batch.open(&Limits::default(), &mut scratch);
            for record in opened.map_err(|error| damaged(*next, error))? {
                let record = record.map_err(|error| damaged(*next, error))?;
                if record.offset < next.0 {
                    continue;
                }
                found.push(ArchivedRecord::of(&record, kind));
                *next = Offset(record.offset + 1);
                if found.len() == count {
                    return Ok(());
                }
            }
        }
        *next = Offset(header.next_offset());
    }
    Ok(())
}
