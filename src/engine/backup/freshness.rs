//! Whether a compacted topic was read soon enough to hold every deletion.
//!
//! A record that was readable when a run began loses its tombstone no sooner than `delete.retention.ms` later: the
//! cleaning that starts the tombstone's clock also removes the record. So what a run adds holds every deletion if it is
//! read to its end within that time, counted from the last moment at which the archive did: the run that caught up
//! last, or the beginning of this one where it reads from the log start.

use super::apply::Entries;
use super::ends::End;
use super::plan::{Plan, PlanPartition, PlanTopic};
use crate::archive::{Behind, GapKind, PartitionEntry};
use crate::base::{PartitionId, PartitionSet, TimestampMs, TopicPartition, time};
use std::collections::BTreeMap;

/// What a run came to in this respect.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// By topic, for the manifest.
    pub topics: BTreeMap<String, Since>,
    /// Sentences on topics of which deletions may have been missed. The next run reads them from their log start.
    pub missed: Vec<String>,
}

/// Since when nothing can have been missed of a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Since {
    pub caught_up: Option<TimestampMs>,
    /// The partitions for which it is another moment.
    pub behind: Vec<Behind>,
}

impl Freshness {
    pub fn of(
        plan: &Plan,
        done: &Entries,
        ends: &BTreeMap<TopicPartition, End>,
        consistency_point: TimestampMs,
    ) -> Self {
        let run = Run {
            done,
            ends,
            consistency_point,
            finished: time::now(),
        };
        let mut freshness = Self::default();
        for topic in &plan.topics {
            let mut moments: BTreeMap<Option<TimestampMs>, Vec<PartitionId>> = BTreeMap::new();
            let mut missed = false;
            for partition in &topic.partitions {
                let read = run.read(topic, partition);
                missed |= read.missed;
                let same = moments.entry(read.caught_up).or_default();
                same.push(partition.partition);
            }
            if let (true, Some(live)) = (missed, topic.tombstones_live) {
                let live = time::format_duration_ms(live);
                freshness.missed.push(format!(
                    "{}: compacted, and not read to its end within the {live} that tombstones live there (delete.retention.ms): deletions may be missing; the next run reads it from its log start",
                    topic.name
                ));
            }
            let since = Since::of(moments, &topic.behind);
            freshness.topics.insert(topic.name.clone(), since);
        }
        freshness
    }
}

impl Since {
    /// The newest moment stands for the topic, the others for the partitions that they are of.
    fn of(
        mut moments: BTreeMap<Option<TimestampMs>, Vec<PartitionId>>,
        left_out: &[Behind],
    ) -> Self {
        let caught_up = moments.pop_last().and_then(|(newest, _)| newest);
        let behind = moments.into_iter().map(|(caught_up, partitions)| Behind {
            partitions: PartitionSet::from_iter(partitions),
            caught_up,
        });
        let mut behind: Vec<Behind> = behind.collect();
        for left_out in left_out {
            let same = |known: &&mut Behind| known.caught_up == left_out.caught_up;
            match behind.iter_mut().find(same) {
                Some(known) => known.partitions = known.partitions.union(&left_out.partitions),
                None => behind.push(left_out.clone()),
            }
        }
        Self { caught_up, behind }
    }
}

struct Run<'a> {
    done: &'a Entries,
    ends: &'a BTreeMap<TopicPartition, End>,
    consistency_point: TimestampMs,
    finished: TimestampMs,
}

/// How one partition was read.
struct Read {
    caught_up: Option<TimestampMs>,
    /// A tombstone may have vanished before it could be read.
    missed: bool,
}

impl Run<'_> {
    fn read(&self, topic: &PlanTopic, partition: &PlanPartition) -> Read {
        let at = topic.at(partition);
        let entry = self.done.get(&at);
        let complete = match (entry, self.ends.get(&at)) {
            (Some(entry), Some(end)) => entry.to >= end.last_stable,
            _ => false,
        };
        let anew = !partition.continued;
        let base = match anew {
            true => Some(self.consistency_point),
            false => partition.caught_up,
        };
        let took = base.map_or(i64::MAX, |base| self.finished.0.saturating_sub(base.0));
        // Without a hole nothing has vanished, however long it took.
        let holes = entry.is_some_and(|entry| has_holes(entry, partition));
        let missed = holes && topic.tombstones_live.is_some_and(|live| took > live);
        let caught_up = match complete && !missed {
            true => Some(self.consistency_point),
            // What is archived of it begins with this run.
            false if anew && !partition.rescanned => base,
            false => partition.caught_up,
        };
        Read { caught_up, missed }
    }
}

/// Whether what was added has offsets that compaction removed, after some record that is archived.
fn has_holes(entry: &PartitionEntry, partition: &PlanPartition) -> bool {
    // A tombstone that vanished before every record that is archived has nothing to delete.
    let first = match partition.continued {
        true => Some(entry.from),
        false => entry.segments.iter().map(|segment| segment.first).min(),
    };
    entry
        .gaps
        .iter()
        .any(|gap| gap.kind == GapKind::Compacted && first.is_some_and(|first| gap.to > first))
}
