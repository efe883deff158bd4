//! Whether a compacted topic was read soon enough to hold every deletion.
//!
//! A record that was readable when a run began loses its tombstone no sooner than `delete.retention.ms` later: the
//! cleaning that starts the tombstone's clock also removes the record. So what a run adds holds every deletion if it is
//! read to its end within that time, counted from the last moment at which the archive did: the run that caught up
//! last, or the beginning of this one where it reads from the log start.

use super::apply::Entries;
use super::ends::End;
use super::plan::{Plan, PlanTopic, TopicState};
use crate::archive::GapKind;
use crate::base::{TimestampMs, TopicPartition, time};
use std::collections::BTreeMap;

/// What a run came to in this respect, by topic.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// For the manifest: since when nothing can have been missed.
    pub caught_up: BTreeMap<String, TimestampMs>,
    /// Sentences on topics of which deletions may have been missed. The next run reads them from their log start.
    pub missed: Vec<String>,
}

impl Freshness {
    pub fn of(
        plan: &Plan,
        done: &Entries,
        ends: &BTreeMap<TopicPartition, End>,
        consistency_point: TimestampMs,
    ) -> Self {
        let mut freshness = Self::default();
        let finished = time::now();
        for topic in &plan.topics {
            let read = Read::of(topic, done, ends);
            let anew = topic.state != TopicState::Continued;
            let base = match anew {
                true => Some(consistency_point),
                false => topic.caught_up,
            };
            let took = base.map_or(i64::MAX, |base| finished.0.saturating_sub(base.0));
            // Without a hole nothing has vanished, however long it took.
            let missed = topic
                .tombstones_live
                .filter(|live| read.has_holes && took > *live);
            let since = match (read.complete, missed) {
                (true, None) => Some(consistency_point),
                // What is archived of it begins with this run.
                _ if anew && topic.state != TopicState::Rescanned => base,
                _ => topic.caught_up,
            };
            if let Some(since) = since {
                freshness.caught_up.insert(topic.name.clone(), since);
            }
            if let Some(live) = missed {
                let live = time::format_duration_ms(live);
                freshness.missed.push(format!(
                    "{}: compacted, and not read to its end within the {live} that tombstones live there (delete.retention.ms): deletions may be missing; the next run reads it from its log start",
                    topic.name
                ));
            }
        }
        freshness
    }
}

struct Read {
    /// Every partition, up to the end that it had.
    complete: bool,
    /// What was added has offsets that compaction removed, after some record that is archived.
    has_holes: bool,
}

impl Read {
    fn of(topic: &PlanTopic, done: &Entries, ends: &BTreeMap<TopicPartition, End>) -> Self {
        let mut read = Self {
            complete: true,
            has_holes: false,
        };
        for partition in &topic.partitions {
            let at = topic.at(partition);
            match (done.get(&at), ends.get(&at)) {
                (Some(entry), Some(end)) => {
                    read.complete &= entry.to >= end.last_stable;
                    // A tombstone that vanished before every record that is archived has nothing to delete.
                    let first = match partition.continued {
                        true => Some(entry.from),
                        false => entry.segments.iter().map(|segment| segment.first).min(),
                    };
                    read.has_holes |= entry.gaps.iter().any(|gap| {
                        gap.kind == GapKind::Compacted && first.is_some_and(|first| gap.to > first)
                    });
                }
                _ => read.complete = false,
            }
        }
        read
    }
}
