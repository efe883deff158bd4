//! Whether the source's topics are still those that were planned.

use super::apply::LOOKING_AGAIN;
use super::plan::{Plan, PlanTopic};
use super::track::Track;
use crate::base::TopicId;
use crate::base::text::counted;
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ErrorCode, Topic, TopicsWanted};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the topics are still the planned ones after they were read.
pub(super) struct Identity {
    /// What was read of these may belong to either.
    replaced: Vec<String>,
    /// Why nobody could be asked. What was read by topic id is certain even then.
    unknown: Option<String>,
}

impl Identity {
    pub(super) async fn look_again(plan: &Plan, client: &Client) -> Self {
        let names: Vec<String> = plan.topics.iter().map(|topic| topic.name.clone()).collect();
        let asking = client.topics(TopicsWanted::Named(&names));
        let unknown = |why: String| Self {
            replaced: Vec::new(),
            unknown: Some(why),
        };
        // Bounded: a cluster that is gone must not cost what was read of it before.
        let now = match tokio::time::timeout(LOOKING_AGAIN, asking).await {
            Ok(Ok(now)) => now,
            Ok(Err(error)) => return unknown(error.to_string()),
            Err(_) => return unknown(format!("no answer within {LOOKING_AGAIN:?}")),
        };
        let now: BTreeMap<String, TopicId> = now
            .into_iter()
            .filter(|topic| topic.error == ErrorCode::NONE)
            .map(|topic| (topic.name, topic.id))
            .collect();
        let replaced = |planned: &&PlanTopic| {
            let id = now.get(&planned.name);
            id.is_some_and(|id| *id != planned.id)
        };
        Self {
            replaced: plan
                .topics
                .iter()
                .filter(replaced)
                .map(|planned| planned.name.clone())
                .collect(),
            unknown: None,
        }
    }

    /// Why nothing of the partition may be kept.
    pub(super) fn objection(&self, track: &Track) -> Option<String> {
        if self.replaced.contains(&track.stream.topic) {
            return Some("the topic was deleted and created again while it was read".to_string());
        }
        let why = self.unknown.as_ref().filter(|_| !track.by_id)?;
        Some(format!(
            "nobody could say whether the topic is still the same: {why}"
        ))
    }
}

/// Topics that the selection takes and partitions of topics that are taken whole, which the plan does not know, in
/// sentences: a generation without them is not what was asked for.
pub(super) fn newcomers(plan: &Plan, listed: &[Topic]) -> Result<Vec<String>> {
    let asked = &plan.asked;
    let selection = asked.selection();
    let selection = selection.map_err(|error| Error::Internal(error.to_string()))?;
    let planned = plan.topics.iter().map(|topic| &topic.name);
    let known: BTreeSet<&String> = planned.chain(&asked.unread).collect();
    let new = listed.iter().filter(|topic| {
        selection.takes(&topic.name)
            && (asked.internal || !topic.internal)
            && !known.contains(&topic.name)
    });
    let new = new.map(|topic| {
        let name = &topic.name;
        format!("{name} was created after this was planned; the next run takes it")
    });
    let counts = listed
        .iter()
        .map(|topic| (&topic.name, topic.partitions.len()));
    let counts: BTreeMap<&String, usize> = counts.collect();
    let whole = plan.topics.iter().filter(|topic| topic.is_whole());
    let grown = whole.filter_map(|topic| {
        let now = *counts.get(&topic.name)?;
        let more = now
            .checked_sub(topic.partitions.len())
            .filter(|more| *more > 0)?;
        let more = counted(more as i128, "new partition");
        let name = &topic.name;
        Some(format!(
            "{name} has {more} since this was planned; the next run takes them"
        ))
    });
    Ok(new.chain(grown).collect())
}
