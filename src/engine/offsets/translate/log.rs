//! Records of one partition, of an archive or of a live cluster, in order and a piece at a time: as much of each as
//! finding a place needs, and never more of them in memory than one answer or one block.

use super::super::error::{Error, Result};
use crate::archive::{self, ArchivedRecord, Snapshot, Within};
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use crate::engine::restore::{ORIGINAL_OFFSET, ORIGINAL_PARTITION, SOURCE_CLUSTER, is_of_origin};
use crate::kafka::{
    Aborted, Class, Client, ErrorCode, FetchPartition, FetchWanted, Isolation, OffsetAt,
    OffsetRecordError, OffsetRecordKey, OffsetRecordValue, offset_record_key, offset_record_value,
};
use crate::record::{Batch, ControlType, Limits, Record, TimestampType, batches};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One answer of a broker.
const FETCH_BYTES: i32 = 1 << 20;
/// The same where a single record is wanted. A batch that is larger comes whole all the same.
const FEW_BYTES: i32 = 16 << 10;
/// Without a single new record for this long a partition is given up.
const STALL: Duration = Duration::from_secs(60);

/// What is looked at in each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Offset and time.
    Time,
    /// The headers that say where it came from; of this cluster.
    Origin { cluster: String },
    /// Key, value and headers, without those of its origin.
    Content,
    /// Whose committed offset it is, in the topic where Kafka keeps them.
    Commit,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub offset: i64,
    pub timestamp: i64,
    /// The time is that of the broker that holds it.
    pub broker_time: bool,
    /// Zeros unless its content was looked at.
    pub digest: [u8; 16],
    pub origin: Option<Origin>,
    pub commit: Option<Box<CommitRecord>>,
}

/// A record of the offsets topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommitRecord {
    pub key: OffsetRecordKey,
    /// `None`: the commit is taken back.
    pub value: Result<Option<OffsetRecordValue>, OffsetRecordError>,
}

/// What a record says of where it was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub offset: i64,
    pub partition: Option<PartitionId>,
    /// It names another cluster.
    pub elsewhere: bool,
}

/// Some records, and what reading them took.
pub(super) struct Part {
    pub seen: Vec<Seen>,
    pub bytes: u64,
}

/// A partition that can be read.
#[derive(Clone)]
pub(super) enum Log {
    Archive(Snapshot, TopicPartition),
    Live(Client, TopicPartition),
}

/// A walk through `[from, to)` of a partition.
pub(super) enum Reading {
    Archive(Box<archive::PartitionReader>, Look),
    Live(LiveReading),
}

pub(super) struct LiveReading {
    client: Client,
    at: TopicPartition,
    next: i64,
    to: i64,
    look: Look,
    /// Of one answer.
    bytes: i32,
    last_progress: Instant,
}

impl Log {
    pub fn at(&self) -> &TopicPartition {
        match self {
            Self::Archive(_, at) | Self::Live(_, at) => at,
        }
    }

    pub fn read(&self, from: i64, to: i64, look: Look) -> Result<Reading> {
        self.read_in_parts(from, to, look, FETCH_BYTES)
    }

    fn read_in_parts(&self, from: i64, to: i64, look: Look, bytes: i32) -> Result<Reading> {
        Ok(match self {
            Self::Archive(snapshot, at) => {
                let within = Within::offsets(Offset(from), Offset(to));
                let reader = snapshot.read_few(&at.topic, at.partition, within)?;
                Reading::Archive(Box::new(reader), look)
            }
            Self::Live(client, at) => Reading::Live(LiveReading {
                client: client.clone(),
                at: at.clone(),
                next: from,
                to,
                look,
                bytes,
                last_progress: Instant::now(),
            }),
        })
    }

    /// The first record of `[from, to)`.
    pub async fn first(&self, from: i64, to: i64, look: Look) -> Result<Option<Seen>> {
        let mut reading = self.read_in_parts(from, to, look, FEW_BYTES)?;
        Ok(match reading.next().await? {
            Some(part) => part.seen.into_iter().next(),
            None => None,
        })
    }
}

impl Log {
    /// The last records of `[from, to)`, at most so many, in order; fewer if more than `budget` would have to be read.
    pub async fn last(
        &self,
        (from, to): (i64, i64),
        count: usize,
        look: Look,
        budget: &mut u64,
    ) -> Result<Vec<Seen>> {
        let mut width = count as i64;
        loop {
            let start = to.saturating_sub(width).max(from);
            let mut reading = self.read(start, to, look.clone())?;
            let mut last = std::collections::VecDeque::with_capacity(count);
            while let Some(part) = reading.next().await? {
                *budget = budget.saturating_sub(part.bytes);
                for seen in part.seen {
                    if last.len() == count {
                        last.pop_front();
                    }
                    last.push_back(seen);
                }
            }
            if last.len() == count || start == from || *budget == 0 {
                return Ok(last.into());
            }
            // Holes that compaction and aborted transactions leave may be wide.
            width = width.saturating_mul(16);
        }
    }

    /// The record with the lowest offset among those of this time or later.
    pub async fn first_at_time(&self, at: TimestampMs, end: i64) -> Result<Option<Seen>> {
        match self {
            Self::Archive(snapshot, place) => {
                let (topic, partition) = (&place.topic, place.partition);
                let found = snapshot.record_at_time(topic, partition, at).await?;
                Ok(found.map(|record| of_archived(&record, &Look::Content)))
            }
            Self::Live(client, place) => {
                let wanted = [(place.clone(), OffsetAt::AtOrAfter(at))];
                let mut found = client
                    .list_offsets(&wanted, Isolation::ReadUncommitted)
                    .await?;
                match found.remove(place).transpose()? {
                    Some(found) if found.offset.0 >= 0 => {
                        self.first(found.offset.0, end, Look::Content).await
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}

impl Reading {
    /// The next records, at least one; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        match self {
            Self::Archive(reader, look) => {
                let Some(records) = reader.next_batch().await? else {
                    return Ok(None);
                };
                let seen = records.iter().map(|record| of_archived(record, look));
                Ok(Some(Part {
                    seen: seen.collect(),
                    bytes: records.iter().map(size).sum(),
                }))
            }
            Self::Live(reading) => loop {
                match reading.step().await? {
                    Some(part) if part.seen.is_empty() => {}
                    other => return Ok(other),
                }
            },
        }
    }
}

impl LiveReading {
    /// What one fetch brings, which may be nothing; `None` at the end.
    async fn step(&mut self) -> Result<Option<Part>> {
        let mut last_trouble = String::from("the broker sends no records");
        while self.next < self.to {
            if self.last_progress.elapsed() > STALL {
                return Err(Error::Stalled {
                    partition: self.at.clone(),
                    at: Offset(self.next),
                    seconds: STALL.as_secs(),
                    last: last_trouble,
                });
            }
            match self.fetch().await {
                Ok(Fetched::Records { bytes, aborted }) if !bytes.is_empty() => {
                    let size = bytes.len() as u64;
                    let (seen, next) = self.decode(bytes, aborted).await?;
                    if next > self.next {
                        self.next = next;
                        self.last_progress = Instant::now();
                        return Ok(Some(Part { seen, bytes: size }));
                    }
                    last_trouble = String::from("the broker sends a batch that is cut");
                }
                Ok(Fetched::Records { .. }) => {}
                Ok(Fetched::Gone { log_start }) => {
                    self.next = log_start.0;
                    continue;
                }
                Ok(Fetched::Beyond) => return Ok(None),
                Err(error) if error.class() == Class::Fatal => return Err(error.into()),
                Err(error) => {
                    last_trouble = error.to_string();
                    let seen = self.client.metadata().generation;
                    // Tried again by the loop, which is bounded in time.
                    let _ = self.client.refresh_metadata(seen).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }

    async fn decode(&self, bytes: Bytes, aborted: Vec<Aborted>) -> Result<(Vec<Seen>, i64)> {
        let (from, to) = (self.next, self.to);
        let (look, at) = (self.look.clone(), self.at.clone());
        tokio::task::spawn_blocking(move || records(&bytes, aborted, from..to, &look, &at))
            .await
            .map_err(|error| Error::Worker(error.to_string()))?
    }

    async fn fetch(&self) -> Result<Fetched, crate::kafka::Error> {
        let leader = self.client.leader(&self.at).await?;
        let wanted = FetchWanted {
            partitions: vec![FetchPartition {
                topic: self.at.topic.clone(),
                topic_id: uuid::Uuid::nil(),
                partition: self.at.partition,
                offset: Offset(self.next),
                leader_epoch: -1,
                last_fetched_epoch: -1,
                max_bytes: self.bytes,
            }],
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: self.bytes,
            isolation: Isolation::ReadCommitted,
        };
        let mut parts = self.client.fetch(leader, wanted).await?;
        let Some(part) = parts.pop() else {
            return Err(crate::kafka::Error::NoLeader {
                partition: self.at.clone(),
            });
        };
        match part.error {
            ErrorCode::NONE => Ok(Fetched::Records {
                bytes: part.records,
                aborted: part.aborted,
            }),
            ErrorCode::OFFSET_OUT_OF_RANGE if part.log_start_offset.0 > self.next => {
                Ok(Fetched::Gone {
                    log_start: part.log_start_offset,
                })
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => Ok(Fetched::Beyond),
            code => Err(crate::kafka::Error::broker(
                "Fetch",
                self.at.to_string(),
                code,
                None,
            )),
        }
    }
}

enum Fetched {
    Records {
        bytes: Bytes,
        aborted: Vec<Aborted>,
    },
    /// The offset is below the log start.
    Gone {
        log_start: Offset,
    },
    Beyond,
}

/// The committed records of `range`, and the offset after the last batch.
fn records(
    bytes: &[u8],
    mut aborted: Vec<Aborted>,
    range: std::ops::Range<i64>,
    look: &Look,
    at: &TopicPartition,
) -> Result<(Vec<Seen>, i64)> {
    let mut next = range.start;
    let mut seen = Vec::new();
    let mut scratch = Vec::new();
    let mut in_aborted: BTreeSet<i64> = BTreeSet::new();
    // Taken from the end.
    aborted.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
    for batch in batches(bytes) {
        let damaged = |source| Error::Record {
            partition: at.clone(),
            offset: Offset(next),
            source,
        };
        let batch: Batch<'_> = batch.map_err(damaged)?;
        batch.verify_crc().map_err(damaged)?;
        let header = batch.header;
        while let Some(one) = aborted
            .last()
            .filter(|one| one.first_offset.0 <= header.last_offset())
        {
            in_aborted.insert(one.producer_id);
            aborted.pop();
        }
        let stamp = header.producer_id;
        if header.attributes.is_control() {
            if batch.control_type().map_err(damaged)? == Some(ControlType::Abort) {
                in_aborted.remove(&stamp);
            }
            next = next.max(header.next_offset());
            continue;
        }
        let broker_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        if !(header.attributes.is_transactional() && in_aborted.contains(&stamp)) {
            let opened = batch.open(&Limits::default(), &mut scratch);
            for record in opened.map_err(damaged)? {
                let record = record.map_err(|source| Error::Record {
                    partition: at.clone(),
                    offset: Offset(next),
                    source,
                })?;
                if range.contains(&record.offset) {
                    seen.push(Seen {
                        broker_time,
                        ..of_record(&record, look)
                    });
                }
            }
        }
        next = next.max(header.next_offset());
    }
    Ok((seen, next))
}

fn of_record(record: &Record<'_>, look: &Look) -> Seen {
    let headers = || {
        let headers = record.headers.iter();
        headers.map(|header| (header.key, header.value))
    };
    seen(
        (record.offset, record.timestamp),
        (record.key, record.value),
        headers,
        look,
    )
}

fn of_archived(record: &ArchivedRecord, look: &Look) -> Seen {
    let headers = || {
        let headers = record.headers.iter();
        headers.map(|header| (&header.key[..], header.value.as_deref()))
    };
    seen(
        (record.offset.0, record.timestamp.0),
        (record.key.as_deref(), record.value.as_deref()),
        headers,
        look,
    )
}

fn size(record: &ArchivedRecord) -> u64 {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|one| one.key.len() + of(&one.value)).sum();
    (of(&record.key) + of(&record.value) + headers) as u64
}

type Parts<'r> = (Option<&'r [u8]>, Option<&'r [u8]>);

fn seen<'r, I>(
    (offset, timestamp): (i64, i64),
    content: Parts<'r>,
    headers: impl Fn() -> I,
    look: &Look,
) -> Seen
where
    I: Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
{
    let mut seen = Seen {
        offset,
        timestamp,
        broker_time: false,
        digest: [0; 16],
        origin: None,
        commit: None,
    };
    match look {
        Look::Time => {}
        Look::Origin { cluster } => seen.origin = origin(headers(), cluster),
        Look::Content => seen.digest = digest(content, headers()),
        Look::Commit => seen.commit = commit(content).map(Box::new),
    }
    seen
}

/// `None` for what is about something else, or cannot be read: it stands for no commit that anybody asks for.
fn commit((key, value): Parts<'_>) -> Option<CommitRecord> {
    let key = offset_record_key(key?).ok().flatten()?;
    let value = value.map(offset_record_value).transpose();
    Some(CommitRecord { key, value })
}

/// Without an offset that can be read there is no origin.
fn origin<'r>(
    headers: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
    cluster: &str,
) -> Option<Origin> {
    let (mut offset, mut partition, mut elsewhere) = (None, None, false);
    for (name, value) in headers {
        let text = || std::str::from_utf8(value?).ok();
        if name == ORIGINAL_OFFSET.as_bytes() {
            offset = text().and_then(|text| text.parse::<i64>().ok());
        } else if name == ORIGINAL_PARTITION.as_bytes() {
            partition = text().and_then(|text| text.parse().ok()).map(PartitionId);
        } else if name == SOURCE_CLUSTER.as_bytes() {
            elsewhere = value != Some(cluster.as_bytes());
        }
    }
    Some(Origin {
        offset: offset.filter(|offset| *offset >= 0)?,
        partition,
        elsewhere,
    })
}

/// What a restore does not change: lengths before parts, so that no two records give the same bytes.
fn digest<'r>(
    (key, value): Parts<'r>,
    headers: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>,
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| bytes.len() as i64);
        hasher.update(&length.to_le_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    put(key);
    put(value);
    for (name, value) in headers.filter(|(name, _)| !is_of_origin(name)) {
        put(Some(name));
        put(value);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}
