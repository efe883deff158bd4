//! When groups committed what they have committed.
//!
//! The group APIs do not tell it; the records of `__consumer_offsets` do. Of that topic only the partitions are read on which
//! the groups are, from their ends backward until every commit is found, and no further than a budget. What cannot be told
//! is told as such: a time is never worth a plan that fails.

use super::super::error::{Error, Result};
use super::super::options::Options;
use super::log::{CommitRecord, Log, Look};
use super::{AT_ONCE, From, logs_of, stable_ends};
use crate::base::size::format_bytes;
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::kafka::{
    ErrorCode, OFFSETS_TOPIC, OffsetRecordKey, OffsetRecordValue, TopicsWanted, offsets_partition,
};
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So much of a partition of the offsets topic is read at most: more than a segment of it, which is 100 MiB.
const BUDGET: u64 = 256 << 20;
/// A partition that cannot be read in this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many offsets at first; what is further back is read in steps that grow.
const FIRST_STEP: i64 = 5_000;

/// A commit, and the offset that it has to be of.
pub(super) type Wanted = BTreeMap<OffsetRecordKey, Offset>;

/// What is told of each commit that was asked for.
#[derive(Debug, Default)]
pub(super) struct Times {
    told: BTreeMap<OffsetRecordKey, std::result::Result<OffsetRecordValue, String>>,
}

impl Times {
    /// The newest commit of that offset; or why it is not told.
    pub fn of(
        &self,
        group: &str,
        at: &TopicPartition,
    ) -> Option<&std::result::Result<OffsetRecordValue, String>> {
        self.told.get(&OffsetRecordKey {
            group: group.to_string(),
            at: at.clone(),
        })
    }

    /// Of a cluster or of an archive of it.
    pub async fn read(from: &From, wanted: Wanted, options: &Options) -> Self {
        if wanted.is_empty() {
            return Self::default();
        }
        let partitions = match partitions(from).await {
            Ok(partitions) => partitions,
            Err(why) => return Self::untold(wanted, &why),
        };
        let mut by_partition: BTreeMap<usize, Wanted> = BTreeMap::new();
        for (key, offset) in wanted {
            let partition = offsets_partition(&key.group, partitions);
            by_partition
                .entry(partition)
                .or_default()
                .insert(key, offset);
        }
        let budget = BUDGET.min(options.scan_budget.0);
        let reads = by_partition.into_iter().map(|(partition, wanted)| {
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            let at = TopicPartition::new(OFFSETS_TOPIC, PartitionId(partition));
            async move { of_partition(from, &at, wanted, budget).await }
        });
        let parts: Vec<Times> = stream::iter(reads)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        Self {
            told: parts.into_iter().flat_map(|part| part.told).collect(),
        }
    }

    fn untold(wanted: Wanted, why: &str) -> Self {
        let told = wanted.into_keys().map(|key| (key, Err(why.to_string())));
        Self {
            told: told.collect(),
        }
    }
}

/// How many partitions the offsets topic has; or why it cannot be read.
async fn partitions(from: &From) -> std::result::Result<usize, String> {
    let none = || Err(format!("there is no {OFFSETS_TOPIC} to read"));
    let count = match from {
        From::Archive(snapshot) => match snapshot.topic(OFFSETS_TOPIC) {
            Some(topic) => usize::try_from(topic.partition_count).unwrap_or(0),
            None => return Err(format!("the archive does not hold {OFFSETS_TOPIC}")),
        },
        From::Cluster(client) => {
            let names = [OFFSETS_TOPIC.to_string()];
            let topics = client.topics(TopicsWanted::Named(&names)).await;
            let topics = topics.map_err(|error| why(&error.into()))?;
            match topics.first() {
                Some(topic) if topic.error.is_ok() => topic.partitions.len(),
                Some(topic) if topic.error == ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                    return Err(NOT_ALLOWED.to_string());
                }
                _ => return none(),
            }
        }
    };
    match count {
        0 => none(),
        count => Ok(count),
    }
}

const NOT_ALLOWED: &str = "no right to read __consumer_offsets (TOPIC_AUTHORIZATION_FAILED)";

fn why(error: &Error) -> String {
    let code = match error {
        Error::Kafka(error) => error.code(),
        _ => None,
    };
    match code {
        Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => NOT_ALLOWED.to_string(),
        Some(code) => format!("{OFFSETS_TOPIC} cannot be read: {code}"),
        None => format!("{OFFSETS_TOPIC} cannot be read: {error}"),
    }
}

async fn of_partition(from: &From, at: &TopicPartition, wanted: Wanted, budget: u64) -> Times {
    let read = async {
        let (log, range) = match from {
            From::Archive(snapshot) => {
                let topic = snapshot.topic(OFFSETS_TOPIC);
                let Some(of) = topic.and_then(|topic| topic.partition(at.partition)) else {
                    return Err(format!("the archive does not hold {at}"));
                };
                let log = Log::Archive(snapshot.clone(), at.clone());
                (log, (of.from.0, of.to.0))
            }
            From::Cluster(client) => {
                let places = std::slice::from_ref(at);
                let logs = logs_of(places, client).await.map_err(|e| why(&e))?;
                let (start, end) = logs.get(at).copied().unwrap_or_default();
                // What an open transaction has written is no commit yet, and may never be one.
                let stable = stable_ends(places, client).await.map_err(|e| why(&e))?;
                let end = stable.get(at).copied().unwrap_or(end);
                (Log::Live(client.clone(), at.clone()), (start.0, end.0))
            }
        };
        let step =
            async |from: i64, to: i64, left: u64| commits(&log, (from, to), &wanted, left).await;
        backward(range, &wanted, budget, step)
            .await
            .map_err(|error| why(&error))
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(told)) => Times { told },
        Ok(Err(why)) => Times::untold(wanted, &why),
        Err(_) => {
            let why = format!("{at} does not answer within {} s", PATIENCE.as_secs());
            Times::untold(wanted, &why)
        }
    }
}

/// What decides of each commit that was asked for, of the records read so far, which come in order: nothing else of them is
/// kept.
struct Newest<'w> {
    wanted: &'w Wanted,
    found: BTreeMap<OffsetRecordKey, CommitRecord>,
}

impl<'w> Newest<'w> {
    fn of(wanted: &'w Wanted) -> Self {
        Self {
            wanted,
            found: BTreeMap::new(),
        }
    }

    fn add(&mut self, record: CommitRecord) {
        let Some(offset) = self.wanted.get(&record.key) else {
            return;
        };
        // Committed since, or by a group that goes on while this is read.
        if matches!(&record.value, Ok(Some(value)) if value.offset != *offset) {
            return;
        }
        self.found.insert(record.key.clone(), record);
    }
}

/// What `[from, to)` tells of the commits that are wanted, and what reading it took; `None` once that is more than `left`.
async fn commits<'w>(
    log: &Log,
    (from, to): (i64, i64),
    wanted: &'w Wanted,
    left: u64,
) -> Result<(Option<Newest<'w>>, u64)> {
    let mut reading = log.read(from, to, Look::Commit)?;
    let (mut newest, mut bytes) = (Newest::of(wanted), 0);
    while let Some(part) = reading.next().await? {
        bytes += part.bytes;
        if bytes > left {
            return Ok((None, bytes));
        }
        let commits = part.seen.into_iter().filter_map(|seen| seen.commit);
        commits.for_each(|commit| newest.add(*commit));
    }
    Ok((Some(newest), bytes))
}

type Told = BTreeMap<OffsetRecordKey, std::result::Result<OffsetRecordValue, String>>;

/// Goes back from the end until the newest record of each commit is found.
async fn backward<'w>(
    (start, end): (i64, i64),
    wanted: &'w Wanted,
    budget: u64,
    step: impl AsyncFn(i64, i64, u64) -> Result<(Option<Newest<'w>>, u64)>,
) -> Result<Told> {
    let mut told = Told::new();
    let mut left: BTreeSet<&OffsetRecordKey> = wanted.keys().collect();
    let (mut to, mut width, mut bytes) = (end, FIRST_STEP, budget);
    let mut why = format!("it is not among what is left of {OFFSETS_TOPIC}");
    while to > start && !left.is_empty() {
        let from = to.saturating_sub(width).max(start);
        let (found, took) = step(from, to, bytes).await?;
        let Some(found) = found else {
            why = format!(
                "it is not among the newest {} of {OFFSETS_TOPIC}",
                format_bytes(budget)
            );
            break;
        };
        bytes = bytes.saturating_sub(took);
        for record in found.found.into_values() {
            if !left.contains(&record.key) {
                continue;
            }
            let answer = match record.value {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(format!(
                    "its newest record in {OFFSETS_TOPIC} takes it back"
                )),
                Err(error) => Err(format!(
                    "its record in {OFFSETS_TOPIC} is not read: {error}"
                )),
            };
            left.remove(&record.key);
            told.insert(record.key, answer);
        }
        (to, width) = (from, width.saturating_mul(4));
    }
    for key in left {
        told.insert(key.clone(), Err(why.clone()));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TimestampMs;
    use crate::kafka::OffsetRecordError;
    use futures::executor::block_on;

    fn key(group: &str) -> OffsetRecordKey {
        OffsetRecordKey {
            group: group.into(),
            at: TopicPartition::new("orders", 0),
        }
    }

    fn record(group: &str, offset: i64, time: i64) -> CommitRecord {
        CommitRecord {
            key: key(group),
            value: Ok(Some(OffsetRecordValue {
                offset: Offset(offset),
                leader_epoch: -1,
                metadata: String::new(),
                committed_at: TimestampMs(time),
                topic_id: None,
            })),
        }
    }

    /// Of a partition in which each record takes 10 bytes.
    fn read(records: &[CommitRecord], wanted: &[(&str, i64)], budget: u64) -> Told {
        let wanted: Wanted = wanted
            .iter()
            .map(|(group, offset)| (key(group), Offset(*offset)))
            .collect();
        let step = async |from: i64, to: i64, left: u64| {
            let part = &records[from as usize..to as usize];
            let bytes = 10 * part.len() as u64;
            let mut newest = Newest::of(&wanted);
            part.iter().for_each(|record| newest.add(record.clone()));
            Ok(((bytes <= left).then_some(newest), bytes))
        };
        block_on(backward((0, records.len() as i64), &wanted, budget, step)).unwrap()
    }

    #[test]
    fn the_newest_commit_of_the_offset_counts_however_far_back_it_is() {
        let mut records = vec![record("quiet", 7, 1), record("busy", 5, 2)];
        records.extend((0..30_000).map(|at| record("other", at, at)));
        records.extend([record("busy", 5, 8), record("busy", 6, 9)]);
        let told = read(&records, &[("quiet", 7), ("busy", 5)], 1 << 30);
        let time = |group: &str| told[&key(group)].as_ref().unwrap().committed_at.0;
        assert_eq!((time("quiet"), time("busy")), (1, 8));
    }

    #[test]
    fn of_all_that_is_read_one_record_is_kept_for_each_commit_that_is_wanted() {
        let wanted = Wanted::from([(key("busy"), Offset(5))]);
        let mut newest = Newest::of(&wanted);
        for at in 0..10_000 {
            newest.add(record(&format!("other-{at}"), 5, at));
            newest.add(record("busy", at % 6, at));
        }
        let kept: Vec<&CommitRecord> = newest.found.values().collect();
        assert_eq!(kept, [&record("busy", 5, 9_995)]);
    }

    #[test]
    fn what_is_taken_back_forgotten_too_far_back_or_of_a_newer_version_is_not_told() {
        let gone = CommitRecord {
            key: key("gone"),
            value: Ok(None),
        };
        let newer = CommitRecord {
            key: key("newer"),
            value: Err(OffsetRecordError::UnknownVersion(9)),
        };
        let mut records = vec![record("old", 1, 1), record("gone", 3, 3), gone, newer];
        let wanted = [("gone", 3), ("newer", 4), ("never", 1)];
        let told = read(&records, &wanted, 1 << 30);
        let why = |told: &Told, group: &str| told[&key(group)].clone().unwrap_err();
        assert!(why(&told, "gone").contains("takes it back"));
        assert!(why(&told, "newer").contains("version 9"));
        assert!(why(&told, "never").contains("what is left of"));
        records.extend((0..20_000).map(|at| record("other", at, at)));
        let told = read(&records, &[("old", 1)], 100_000);
        assert!(
            why(&told, "old").contains("among the newest 98 KiB"),
            "{told:?}"
        );
    }
}
