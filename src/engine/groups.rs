//! Reading groups: which there are, and how far behind each is.

mod remove;

pub use remove::{
    Removal, Removed, RemovedGroup, RemovedOffset, check_removal, left_of, plan_groups,
    plan_offsets, reconcile_removal, remove,
};

use crate::base::{Offset, Selection, TopicPartition};
use crate::kafka::{Client, Isolation, OffsetAt, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One group as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub group: String,
    pub state: String,
    /// "classic", "consumer", …
    pub kind: String,
    pub members: usize,
    /// Topics with a committed offset.
    pub topics: Vec<String>,
    /// Partitions with a committed offset.
    pub partitions: usize,
}

/// How far a group is behind on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub group: String,
    #[serde(flatten)]
    pub partition: TopicPartition,
    pub committed: Offset,
    /// `None`: the topic is not there any more, or has no leader now.
    pub log_start: Option<Offset>,
    pub end: Option<Offset>,
    /// Offsets from the committed one to the end; 0 if it lies beyond.
    pub lag: Option<u64>,
}

/// The selected groups with their state and what they have committed, sorted by name.
pub async fn list(client: &Client, selection: &Selection) -> Result<Vec<Group>> {
    let names = selected(client, selection).await?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut described = client.describe_groups(&names).await?;
    let mut committed = client.committed_offsets(&names, false).await?;
    let mut groups = Vec::with_capacity(names.len());
    for group in names {
        let offsets = committed.remove(&group).transpose()?.unwrap_or_default();
        let topics: BTreeSet<&String> = offsets.keys().map(|tp| &tp.topic).collect();
        let topics = topics.into_iter().cloned().collect();
        let description = described.remove(&group).transpose()?;
        groups.push(Group {
            partitions: offsets.len(),
            topics,
            state: description
                .as_ref()
                .map_or_else(String::new, |description| description.state.clone()),
            kind: description
                .as_ref()
                .map_or_else(String::new, |description| description.kind.clone()),
            members: description.map_or(0, |description| description.members.len()),
            group,
        });
    }
    Ok(groups)
}

/// The selected groups' lag on every partition they have committed on, sorted by group and partition.
pub async fn lag(client: &Client, selection: &Selection) -> Result<Vec<Lag>> {
    let names = selected(client, selection).await?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut committed: BTreeMap<String, BTreeMap<TopicPartition, Offset>> = BTreeMap::new();
    for (group, offsets) in client.committed_offsets(&names, false).await? {
        let offsets = offsets?
            .into_iter()
            .map(|(partition, committed)| (partition, committed.offset))
            .collect();
        committed.insert(group, offsets);
    }
    let partitions: BTreeSet<&TopicPartition> =
        committed.values().flat_map(BTreeMap::keys).collect();
    let ask = |at| {
        partitions
            .iter()
            .map(|partition| ((*partition).clone(), at))
            .collect::<Vec<_>>()
    };
    let starts = client
        .list_offsets(&ask(OffsetAt::Earliest), Isolation::ReadUncommitted)
        .await?;
    let ends = client
        .list_offsets(&ask(OffsetAt::Latest), Isolation::ReadUncommitted)
        .await?;
    let mut rows = Vec::new();
    for (group, offsets) in &committed {
        for (partition, &offset) in offsets {
            let found = |logs: &BTreeMap<TopicPartition, Result<_>>| match logs.get(partition) {
                Some(Ok(crate::kafka::OffsetFound { offset, .. })) => Some(*offset),
                _ => None,
            };
            let end = found(&ends);
            rows.push(Lag {
                group: group.clone(),
                partition: partition.clone(),
                committed: offset,
                log_start: found(&starts),
                end,
                lag: end.map(|end| u64::try_from(end - offset).unwrap_or(0)),
            });
        }
    }
    Ok(rows)
}

async fn selected(client: &Client, selection: &Selection) -> Result<Vec<String>> {
    Ok(client
        .list_groups()
        .await?
        .into_iter()
        .map(|listing| listing.group)
        .filter(|group| selection.takes(group))
        .collect())
}
