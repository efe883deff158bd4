//! Where the source's logs begin and end, and whether they still continue what is archived.

use crate::base::{Offset, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client, Isolation, OffsetAt};
use std::collections::BTreeMap;

/// One partition's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub log_start: Offset,
    pub last_stable: Offset,
    pub high_watermark: Offset,
}

/// The bounds of all partitions, or why one has none.
pub(super) async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Result<End, kafka::Error>>> {
    let asked = |at: OffsetAt| -> Vec<(TopicPartition, OffsetAt)> {
        partitions
            .iter()
            .map(|partition| (partition.clone(), at))
            .collect()
    };
    // The high watermark last: it is then not below the last stable offset.
    let mut starts = client
        .list_offsets(&asked(OffsetAt::Earliest), Isolation::ReadUncommitted)
        .await?;
    let mut stable = client
        .list_offsets(&asked(OffsetAt::Latest), Isolation::ReadCommitted)
        .await?;
    let high = client
        .list_offsets(&asked(OffsetAt::Latest), Isolation::ReadUncommitted)
        .await?;
    let mut found = BTreeMap::new();
    for (partition, high) in high {
        let start = starts.remove(&partition);
        let stable = stable.remove(&partition);
        let (Some(start), Some(stable)) = (start, stable) else {
            let error = kafka::Error::NoLeader {
                partition: partition.clone(),
            };
            found.insert(partition, Err(error));
            continue;
        };
        let end = start.and_then(|start| {
            let (stable, high) = (stable?.offset, high?.offset);
            Ok(End {
                // Retention may have moved the start on between the questions.
                log_start: start.offset.min(stable),
                last_stable: stable,
                high_watermark: high.max(stable),
            })
        });
        found.insert(partition, end);
    }
    Ok(found)
}

/// A partition of which `archived_to` offsets are archived, the last batch under `leader_epoch`.
#[derive(Clone, Debug)]
pub(super) struct Archived {
    pub partition: TopicPartition,
    pub leader_epoch: i32,
    pub archived_to: Offset,
}

/// The partitions whose log no longer continues the archive: it was cut and written anew below the archived end. A
/// topic keeps its id through that, only the leader epochs tell (KIP-101).
pub(super) async fn divergences(
    client: &Client,
    archived: &[Archived],
    ends: &BTreeMap<TopicPartition, Result<End, kafka::Error>>,
) -> Result<BTreeMap<TopicPartition, Error>> {
    let asked: Vec<(TopicPartition, i32)> = archived
        .iter()
        .filter(|known| known.leader_epoch >= 0)
        .map(|known| (known.partition.clone(), known.leader_epoch))
        .collect();
    let answers = match asked.is_empty() {
        true => BTreeMap::new(),
        false => client.end_offset_for_epoch(&asked).await?,
    };
    let mut diverged = BTreeMap::new();
    for known in archived {
        let partition = &known.partition;
        let too_short = match ends.get(partition) {
            Some(Ok(end)) => (end.high_watermark < known.archived_to).then_some(end.high_watermark),
            _ => None,
        };
        let epoch_ends = match answers.get(partition) {
            // −1: the leader has never heard of an epoch that new. Its log is not the one that was archived.
            Some(Ok(answer)) if answer.end_offset.0 < 0 => match ends.get(partition) {
                Some(Ok(end)) => (end.log_start < known.archived_to).then_some(end.log_start),
                _ => None,
            },
            Some(Ok(answer)) => Some(answer.end_offset).filter(|end| *end < known.archived_to),
            Some(Err(error)) if ends.get(partition).is_some_and(Result::is_ok) => {
                diverged.insert(partition.clone(), Error::Kafka(error.clone()));
                continue;
            }
            _ => None,
        };
        if let Some(end) = too_short.or(epoch_ends) {
            diverged.insert(
                partition.clone(),
                Error::Diverged {
                    partition: partition.clone(),
                    archived_to: known.archived_to,
                    leader_epoch: known.leader_epoch,
                    end,
                },
            );
        }
    }
    Ok(diverged)
}
