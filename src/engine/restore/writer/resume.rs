//! Going on with an interrupted write: what stands in the targets already, and whether it is ours.
//!
//! Batch boundaries and offsets are a function of plan and archive, so shaping again gives the very batches of the run
//! before. Those below a target's end are there and are left out; the end must be one of the boundaries, and the last
//! batches before it must hold what would have been written. Contents are compared and not bytes: an existing topic
//! may have a compression of its own.

use super::feed::Feed;
use super::lane::Batch;
use super::look;
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::engine::restore::plan::WriteTopic;
use crate::kafka::{self, Client};
use crate::record::{self, ContentDigest, Limits, SplitBatch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// So many of the last batches before an end are compared with the log.
const COMPARED: usize = 8;
/// Requests of a killed process may still lie in a broker's socket; the ends must not move for this long.
const QUIET: Duration = Duration::from_millis(1000);
/// How long ends may go on moving before that is somebody else's doing.
const STABLE_WITHIN: Duration = Duration::from_secs(60);

/// Where each target partition ends now, once none of them moves.
pub(super) async fn settled_ends(
    write: &WriteTopic,
    client: &Client,
) -> Result<BTreeMap<PartitionId, i64>> {
    let targets: BTreeSet<PartitionId> = write.partitions.iter().map(|at| at.target).collect();
    let partitions: Vec<TopicPartition> = targets
        .iter()
        .map(|target| TopicPartition::new(write.topic.clone(), *target))
        .collect();
    let deadline = Instant::now() + STABLE_WITHIN;
    let mut ends = BTreeMap::new();
    let mut left = partitions;
    while !left.is_empty() {
        let mut moving = Vec::new();
        let mut last = "its end still moves".to_string();
        for (at, end) in look::stable_ends(client, &left, QUIET).await? {
            match end {
                Ok(Some(end)) => {
                    ends.insert(at.partition, end);
                }
                Ok(None) => moving.push(at),
                Err(error) if error.class() == kafka::Class::Fatal => return Err(error.into()),
                Err(error) => {
                    last = error.to_string();
                    moving.push(at);
                }
            }
        }
        if let Some(at) = moving.first()
            && Instant::now() > deadline
        {
            return Err(Error::Stalled {
                partition: at.clone(),
                at: Offset(-1),
                seconds: STABLE_WITHIN.as_secs(),
                last,
            });
        }
        left = moving;
    }
    Ok(ends)
}

/// What is in the targets already.
pub(super) struct Tails<'a> {
    pub client: &'a Client,
    pub topic: &'a str,
    /// Per target partition that may hold some of it.
    pub ends: BTreeMap<PartitionId, i64>,
    /// Only look: hand nothing over, and stop where the log ends.
    pub dry: bool,
}

impl Tails<'_> {
    /// The part of one flow.
    pub fn of<'b>(&self, targets: impl Iterator<Item = &'b PartitionId>) -> FlowTails {
        let tails = targets
            .filter_map(|target| {
                let end = *self.ends.get(target)?;
                let tail = Tail {
                    end,
                    last: VecDeque::new(),
                    reached: false,
                };
                Some((*target, tail))
            })
            .collect();
        FlowTails {
            tails,
            dry: self.dry,
        }
    }
}

/// What is in one flow's targets already.
pub(super) struct FlowTails {
    tails: BTreeMap<PartitionId, Tail>,
    dry: bool,
}

struct Tail {
    end: i64,
    /// The last batches below the end, as they would have been sent, with their places.
    last: VecDeque<(i64, SplitBatch)>,
    /// The end was come to, and what stands before it is ours.
    reached: bool,
}

impl FlowTails {
    pub fn is_dry(&self) -> bool {
        self.dry
    }

    /// Whether a dry run has seen what it came for.
    pub fn is_enough(&self) -> bool {
        self.dry && self.tails.values().all(|tail| tail.reached)
    }

    /// Takes out what stands in the log already; what is left has to be sent.
    pub async fn take_out(
        &mut self,
        target: PartitionId,
        batches: Vec<Batch>,
        feed: &Feed<'_>,
    ) -> Result<Vec<Batch>> {
        let Some(tail) = self.tails.get_mut(&target).filter(|tail| !tail.reached) else {
            return Ok(batches);
        };
        let mut left = Vec::new();
        for mut batch in batches {
            let end = batch.end();
            if end <= tail.end {
                if !self.dry {
                    feed.progress(u64::from(batch.records().unsigned_abs()), batch.share);
                }
                batch.memory = None;
                // A copy, since otherwise the whole block would stay in memory.
                let kept = batch.content.copied();
                tail.last.push_back((batch.base, kept));
                if tail.last.len() > COMPARED {
                    tail.last.pop_front();
                }
                continue;
            }
            if batch.base < tail.end {
                let found = format!(
                    "it ends at {}, in the middle of the batch that would stand at {} to {}",
                    tail.end,
                    batch.base,
                    end - 1
                );
                return Err(not_ours(feed, target, tail.end, found));
            }
            left.push(batch);
        }
        if !left.is_empty() {
            tail.check(target, feed).await?;
        }
        Ok(left)
    }

    /// Nothing more comes: every end must have been reached by then.
    pub async fn end(&mut self, feed: &Feed<'_>) -> Result<()> {
        for (target, tail) in &mut self.tails {
            if !tail.reached && !feed.stop.is_cancelled() {
                tail.check(*target, feed).await?;
            }
        }
        Ok(())
    }
}

impl Tail {
    /// Compares the last batches with what the log holds in their places.
    async fn check(&mut self, target: PartitionId, feed: &Feed<'_>) -> Result<()> {
        self.reached = true;
        let last = std::mem::take(&mut self.last);
        let shaped_to = match last.back() {
            None => start_of(feed, target),
            Some((base, batch)) => base + i64::from(batch.header().record_count),
        };
        if shaped_to != self.end {
            let found = format!(
                "it ends at {}, where this write would end at {shaped_to}",
                self.end
            );
            return Err(not_ours(feed, target, self.end, found));
        }
        let Some(first) = last.front().map(|(base, _)| *base) else {
            return Ok(());
        };
        let mut expected = ContentDigest::default();
        for (base, batch) in &last {
            add(&batch.to_bytes(), i64::MIN..i64::MAX, &mut expected)
                .map_err(|source| damaged(feed, target, *base, source))?;
        }
        let mut found = ContentDigest::default();
        let mut producers = BTreeSet::new();
        let at = TopicPartition::new(feed.tails.topic, target);
        let end = self.end;
        look::read(feed.tails.client, &at, first, end, |header, bytes| {
            producers.insert(header.producer_id);
            add(bytes, first..end, &mut found)
                .map_err(|source| damaged(feed, target, header.base_offset, source))
        })
        .await?;
        if found.finish() != expected.finish() {
            let producers: Vec<String> = producers.iter().map(i64::to_string).collect();
            let found = format!(
                "the records at {first} to {} are others than this write puts there (producer id {})",
                end - 1,
                producers.join(", ")
            );
            return Err(not_ours(feed, target, end, found));
        }
        Ok(())
    }
}

/// Where the plan begins to write.
fn start_of(feed: &Feed<'_>, target: PartitionId) -> i64 {
    let mut routes = feed.write.partitions.iter();
    let route = routes.find(|route| route.target == target);
    route.map_or(0, |route| route.base.0)
}

/// Adds the batch's records at these offsets.
fn add(
    bytes: &[u8],
    offsets: std::ops::Range<i64>,
    digest: &mut ContentDigest,
) -> Result<(), record::Error> {
    let batch = record::Batch::parse(bytes)?;
    let mut scratch = Vec::new();
    for record in batch.open(&Limits::default(), &mut scratch)? {
        let record = record?;
        if offsets.contains(&record.offset) {
            digest.update(&record);
        }
    }
    Ok(())
}

fn not_ours(feed: &Feed<'_>, target: PartitionId, end: i64, found: String) -> Error {
    Error::NotOurs {
        partition: TopicPartition::new(feed.tails.topic, target),
        end: Offset(end),
        found,
    }
}

fn damaged(feed: &Feed<'_>, target: PartitionId, at: i64, source: record::Error) -> Error {
    Error::Record {
        partition: TopicPartition::new(feed.tails.topic, target),
        offset: Offset(at),
        source,
    }
}
