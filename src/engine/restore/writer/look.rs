//! Asking the log itself, for partitions where something was lost: how far it goes once nothing moves any more, and
//! whose batches are at its end.
//!
//! The high watermark alone is not the end: a batch may be appended and not yet replicated, and would come out below
//! what is sent after it. So the end is believed only when the leader's own end (OffsetForLeaderEpoch tells it) is the
//! high watermark, twice, over a quiet interval.

use super::lane::{Question, Settled};
use crate::base::{Offset, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::engine::restore::context::WriteContext;
use crate::kafka::{
    self, Class, Client, ErrorCode, FetchPartition, FetchWanted, Isolation, OffsetAt,
};
use crate::record::{BatchHeader, ProducerStamp, batches};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The end of the log must not move for this long before it is believed.
const QUIET: Duration = Duration::from_millis(200);
/// Logs whose tails are read at the same time.
const TAILS_AT_ONCE: usize = 8;
/// A tail is a few batches.
const TAIL_WITHIN: Duration = Duration::from_secs(30);
const TAIL_BYTES: i32 = 4 << 20;

/// What was seen of one partition.
#[derive(Debug)]
pub(super) enum Seen {
    Settled(Settled),
    /// It cannot be told yet, and why.
    NotYet(String),
    Failed(Error),
}

impl Seen {
    fn of(error: kafka::Error) -> Self {
        match error.class() {
            Class::Fatal if !error.in_doubt() => Self::Failed(error.into()),
            _ => Self::NotYet(error.to_string()),
        }
    }
}

/// Looks at several logs at once; an answer for each, by the caller's numbers.
pub(super) async fn look(
    client: &Client,
    context: &WriteContext,
    questions: Vec<(usize, Question)>,
) -> Vec<(usize, Seen)> {
    let partitions: Vec<TopicPartition> = questions.iter().map(|(_, q)| q.at.clone()).collect();
    let ends = match stable_ends(client, &partitions, QUIET).await {
        Ok(ends) => ends,
        Err(error) => {
            let all = questions.into_iter();
            return all
                .map(|(index, _)| (index, Seen::of(error.clone())))
                .collect();
        }
    };
    let identity = match questions.iter().any(|(_, q)| q.another_identity) {
        false => Ok(None),
        true => another_identity(client, context).await.map(Some),
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => {
            let text = error.to_string();
            let mut fatal = Some(error);
            let all = questions.into_iter();
            // One of them carries the error itself, and that ends the write.
            return all
                .map(|(index, _)| match fatal.take() {
                    Some(Error::Kafka(error)) => (index, Seen::of(error)),
                    Some(error) => (index, Seen::Failed(error)),
                    None => (index, Seen::NotYet(text.clone())),
                })
                .collect();
        }
    };
    let seen = questions.into_iter().map(|(index, question)| {
        let end = ends.get(&question.at).cloned();
        async move {
            let seen = match end {
                Some(Ok(Some(end))) => tail_of(client, question, end, identity).await,
                Some(Ok(None)) | None => Seen::NotYet("the end of its log still moves".into()),
                Some(Err(error)) => Seen::of(error),
            };
            (index, seen)
        }
    });
    // Made before the stream, so that the whole is one future that may move between threads.
    let seen: Vec<_> = seen.collect();
    futures::stream::iter(seen)
        .buffer_unordered(TAILS_AT_ONCE)
        .collect()
        .await
}

async fn another_identity(
    client: &Client,
    context: &WriteContext,
) -> Result<kafka::ProducerIdentity> {
    let identity = client
        .init_producer_id(None, Duration::from_secs(60))
        .await?;
    context.make_known(identity).await?;
    Ok(identity)
}

async fn tail_of(
    client: &Client,
    question: Question,
    end: i64,
    identity: Option<kafka::ProducerIdentity>,
) -> Seen {
    let identity = identity.filter(|_| question.another_identity);
    if end <= question.first {
        let tail = Vec::new();
        return Seen::Settled(Settled {
            end,
            tail,
            identity,
        });
    }
    let mut tail = Vec::new();
    let read = read(client, &question.at, question.first, end, |header, _| {
        let stamp = ProducerStamp {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        };
        tail.push((header.base_offset, stamp));
        Ok(())
    });
    match read.await {
        Ok(()) => Seen::Settled(Settled {
            end,
            tail,
            identity,
        }),
        Err(Error::Kafka(error)) => Seen::of(error),
        Err(error) => Seen::Failed(error),
    }
}

/// The ends of the logs, each if it did not move over `quiet` and everything in it is replicated; `None` if it did.
pub(in crate::engine::restore) async fn stable_ends(
    client: &Client,
    partitions: &[TopicPartition],
    quiet: Duration,
) -> Result<BTreeMap<TopicPartition, Result<Option<i64>, kafka::Error>>, kafka::Error> {
    let seen = client.metadata().generation;
    client.refresh_metadata(seen).await?;
    let before = ends(client, partitions).await?;
    tokio::time::sleep(quiet).await;
    let mut after = ends(client, partitions).await?;
    let stable = before.into_iter().map(|(at, before)| {
        let after = after.remove(&at).unwrap_or_else(|| before.clone());
        let end = match (before, after) {
            (Ok(before), Ok(after)) => {
                let still = before == after && after.high_watermark == after.leader_end;
                Ok(still.then_some(after.high_watermark))
            }
            (_, Err(error)) | (Err(error), _) => Err(error),
        };
        (at, end)
    });
    Ok(stable.collect())
}

/// Two views of where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    high_watermark: i64,
    leader_end: i64,
}

async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Result<End, kafka::Error>>, kafka::Error> {
    let metadata = client.metadata();
    let epochs: Vec<(TopicPartition, i32)> = partitions
        .iter()
        .filter_map(|at| {
            let topic = metadata.topics.get(&at.topic)?;
            let index = topic
                .partitions
                .binary_search_by_key(&at.partition, |p| p.id);
            let epoch = topic.partitions[index.ok()?].leader_epoch;
            (epoch >= 0).then(|| (at.clone(), epoch))
        })
        .collect();
    let wanted: Vec<(TopicPartition, OffsetAt)> = partitions
        .iter()
        .map(|at| (at.clone(), OffsetAt::Latest))
        .collect();
    let high = client
        .list_offsets(&wanted, Isolation::ReadUncommitted)
        .await?;
    let mut leader_ends = match epochs.is_empty() {
        true => BTreeMap::new(),
        // A cluster that does not tell is one where the high watermark must do.
        false => match client.end_offset_for_epoch(&epochs).await {
            Ok(ends) => ends,
            Err(kafka::Error::Unsupported { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        },
    };
    let ends = high.into_iter().map(|(at, high)| {
        let end = high.map(|high| {
            let leader_end = match leader_ends.remove(&at) {
                // Of an epoch that is over it is less than the high watermark: then the next look sees newer metadata.
                Some(Ok(end)) if end.end_offset.0 >= 0 => end.end_offset.0,
                _ => high.offset.0,
            };
            End {
                high_watermark: high.offset.0,
                leader_end,
            }
        });
        (at, end)
    });
    Ok(ends.collect())
}

/// Reads the log's batches from the one that holds `from` up to `end`, whoever wrote them.
pub(in crate::engine::restore) async fn read(
    client: &Client,
    partition: &TopicPartition,
    from: i64,
    end: i64,
    mut batch_read: impl FnMut(&BatchHeader, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = from;
    let mut deadline = Instant::now() + TAIL_WITHIN;
    while at < end {
        let leader = client.leader(partition).await?;
        let wanted = FetchWanted {
            partitions: vec![FetchPartition {
                topic: partition.topic.clone(),
                topic_id: uuid::Uuid::nil(),
                partition: partition.partition,
                offset: Offset(at),
                leader_epoch: -1,
                last_fetched_epoch: -1,
                max_bytes: TAIL_BYTES,
            }],
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: TAIL_BYTES,
            isolation: Isolation::ReadUncommitted,
        };
        let before = at;
        for part in client.fetch(leader, wanted).await? {
            if part.error != ErrorCode::NONE {
                let on = partition.to_string();
                return Err(kafka::Error::broker("Fetch", on, part.error, None).into());
            }
            for batch in batches(&part.records) {
                let batch = batch.map_err(|source| Error::Record {
                    partition: partition.clone(),
                    offset: Offset(at),
                    source,
                })?;
                if batch.header.last_offset() < at || at >= end {
                    continue;
                }
                at = batch.header.next_offset();
                batch_read(&batch.header, batch.bytes())?;
            }
        }
        if at > before {
            deadline = Instant::now() + TAIL_WITHIN;
        } else if Instant::now() > deadline {
            return Err(Error::Stalled {
                partition: partition.clone(),
                at: Offset(at),
                seconds: TAIL_WITHIN.as_secs(),
                last: format!("the log ends at {end}, and nothing comes from {at} on"),
            });
        }
    }
    Ok(())
}
