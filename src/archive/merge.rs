//! Lays generations one upon the other, and checks each one's books.
//!
//! The same code serves the reader (what does the archive hold at generation n), the writer (does this run continue
//! its parent) and the check, so that they cannot disagree. Values only, no I/O.

use super::manifest::{Gap, GapKind, Generation, PartitionEntry, SegmentRef, TopicEntry};
use super::retention::Floor;
use crate::base::{Offset, PartitionId, TimestampMs, TopicId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Why a generation does not follow from its parent, or its books do not balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub topic: String,
    pub partition: PartitionId,
    pub why: String,
}

/// Everything that an archive holds at one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// By name and incarnation.
    topics: BTreeMap<(String, u32), MergedTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MergedTopic {
    /// Without partitions.
    entry: TopicEntry,
    partitions: BTreeMap<PartitionId, PartitionEntry>,
}

impl MergedTopic {
    /// Whether more of a topic with the same id belongs to it. If a run did not see it, and the next one does, it is
    /// the same: only its id can tell, and a cluster without ids gives the same to all. One of which a prune has left
    /// nothing begins anew: what it had before would stay away.
    fn goes_on(&self) -> bool {
        let spans = self.partitions.values().map(|entry| (entry.from, entry.to));
        goes_on(self.entry.removed, self.entry.id, spans)
    }
}

/// See [`MergedTopic::goes_on`]; `spans` are from where to where each partition is archived.
pub(super) fn goes_on(
    removed: bool,
    id: TopicId,
    mut spans: impl Iterator<Item = (Offset, Offset)>,
) -> bool {
    !removed || (id != TopicId::nil() && spans.any(|(from, to)| from < to))
}

impl Merged {
    /// Lays a generation on top. On an error `self` is not to be used any more.
    pub(super) fn apply(&mut self, generation: &Generation) -> Result<(), Mismatch> {
        if generation.checkpoint {
            self.topics.clear();
        }
        for topic in &generation.topics {
            self.apply_topic(topic)?;
        }
        Ok(())
    }

    fn apply_topic(&mut self, topic: &TopicEntry) -> Result<(), Mismatch> {
        let mismatch = |partition: PartitionId, why: String| Mismatch {
            topic: topic.name.clone(),
            partition,
            why,
        };
        let head = TopicEntry {
            partitions: Vec::new(),
            ..topic.clone()
        };
        let merged = match self.topics.entry((topic.name.clone(), topic.incarnation)) {
            Entry::Vacant(slot) => slot.insert(MergedTopic {
                entry: head,
                partitions: BTreeMap::new(),
            }),
            Entry::Occupied(slot) => {
                let merged = slot.into_mut();
                if merged.entry.id != topic.id {
                    return Err(mismatch(
                        PartitionId(0),
                        format!(
                            "incarnation {} has id {} here and {} before",
                            topic.incarnation, topic.id, merged.entry.id
                        ),
                    ));
                }
                if topic.removed {
                    merged.entry.removed = true;
                } else {
                    merged.entry = head;
                }
                merged
            }
        };
        for partition in &topic.partitions {
            let before = merged.partitions.get(&partition.partition);
            if let Some(why) = objection(before, partition) {
                return Err(mismatch(partition.partition, why));
            }
            match merged.partitions.entry(partition.partition) {
                Entry::Vacant(slot) => {
                    slot.insert(partition.clone());
                }
                Entry::Occupied(mut slot) if partition.replaces => {
                    slot.insert(partition.clone());
                }
                Entry::Occupied(slot) => extend(slot.into_mut(), partition),
            }
        }
        Ok(())
    }

    /// Whether a checkpoint keeps everything that `before` held.
    pub(super) fn continues(&self, before: &Merged) -> Result<(), Mismatch> {
        for (key, old) in &before.topics {
            for (id, old_partition) in &old.partitions {
                let new = self
                    .topics
                    .get(key)
                    .and_then(|topic| topic.partitions.get(id));
                let kept = new.is_some_and(|new| {
                    new.replaces
                        || (new.from == old_partition.from
                            && new.to >= old_partition.to
                            && new.segments.starts_with(&old_partition.segments))
                });
                if !kept {
                    return Err(Mismatch {
                        topic: key.0.clone(),
                        partition: *id,
                        why: "the checkpoint does not hold what was archived before it".into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Leaves out what a prune has dropped. A topic of which nothing is left stays as a name with empty partitions,
    /// so that its incarnation is never given to another.
    pub(super) fn trim(&mut self, floors: &[Floor]) {
        for floor in floors {
            let key = (floor.topic.clone(), floor.incarnation);
            let Some(topic) = self.topics.get_mut(&key) else {
                continue;
            };
            if topic.entry.id != floor.id {
                continue;
            }
            for partition in &floor.partitions {
                if let Some(entry) = topic.partitions.get_mut(&partition.partition) {
                    cut(entry, partition.before);
                }
            }
        }
    }

    /// The segments of a partition so far; none if it is not known.
    pub(super) fn segments(
        &self,
        topic: &str,
        incarnation: u32,
        partition: PartitionId,
    ) -> &[SegmentRef] {
        self.topics
            .get(&(topic.to_string(), incarnation))
            .and_then(|topic| topic.partitions.get(&partition))
            .map_or(&[], |entry| &entry.segments)
    }

    /// The number that a topic's next entry gets: its own if the id is known, else the one after the last. One that
    /// was removed and is there again goes on as the same, see [`MergedTopic::goes_on`].
    pub(super) fn incarnation(&self, name: &str, id: TopicId) -> u32 {
        let mut highest = 0;
        for ((_, incarnation), topic) in self.of_name(name) {
            if topic.entry.id == id && topic.goes_on() {
                return *incarnation;
            }
            highest = *incarnation;
        }
        highest.saturating_add(1)
    }

    /// Why a run's entry of a partition cannot come next.
    pub(super) fn objection(
        &self,
        topic: &str,
        id: TopicId,
        entry: &PartitionEntry,
    ) -> Option<String> {
        let key = (topic.to_string(), self.incarnation(topic, id));
        let known = self.topics.get(&key);
        let before = known.and_then(|known| known.partitions.get(&entry.partition));
        objection(before, entry)
    }

    fn of_name<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (&'a (String, u32), &'a MergedTopic)> + use<'a> {
        self.topics
            .range((name.to_string(), 0)..=(name.to_string(), u32::MAX))
    }

    /// Every topic and incarnation without its partitions, whether it is the current one of its name, and its
    /// partitions. Sorted.
    pub(super) fn topics(
        &self,
    ) -> impl Iterator<Item = (&TopicEntry, bool, impl Iterator<Item = &PartitionEntry>)> {
        let mut topics = self.topics.values().peekable();
        std::iter::from_fn(move || {
            let topic = topics.next()?;
            let newer = topics.peek();
            let newest = newer.is_none_or(|newer| newer.entry.name != topic.entry.name);
            let current = newest && !topic.entry.removed;
            Some((&topic.entry, current, topic.partitions.values()))
        })
    }

    /// Every topic and incarnation with all its partitions, sorted.
    pub(super) fn into_topics(self) -> Vec<TopicEntry> {
        self.topics
            .into_values()
            .map(|topic| TopicEntry {
                partitions: topic.partitions.into_values().collect(),
                ..topic.entry
            })
            .collect()
    }
}

/// Why `entry` cannot follow `before`: its books do not balance, or it begins elsewhere.
fn objection(before: Option<&PartitionEntry>, entry: &PartitionEntry) -> Option<String> {
    if let Err(why) = check_books(entry) {
        return Some(why);
    }
    let before = before.filter(|before| !entry.replaces && before.to != entry.from)?;
    Some(format!(
        "it begins at {} but the generation before ended at {}",
        entry.from, before.to
    ))
}

fn extend(before: &mut PartitionEntry, new: &PartitionEntry) {
    // Only an entry that was not continued since still counts as a replacement.
    before.replaces = false;
    before.log_start = new.log_start;
    before.to = new.to;
    before.high_watermark = new.high_watermark;
    if new.last_leader_epoch >= 0 {
        before.last_leader_epoch = new.last_leader_epoch;
    }
    before.records = before.records.saturating_add(new.records);
    before.segments.extend(new.segments.iter().cloned());
    // What was pending is archived now, or still pending and listed again.
    before.gaps.retain(|gap| gap.kind != GapKind::Pending);
    before.gaps.extend(new.gaps.iter().copied());
    before.first_timestamp = pick(
        before.first_timestamp,
        new.first_timestamp,
        TimestampMs::min,
    );
    before.last_timestamp = pick(before.last_timestamp, new.last_timestamp, TimestampMs::max);
}

fn pick(
    one: Option<TimestampMs>,
    other: Option<TimestampMs>,
    choose: fn(TimestampMs, TimestampMs) -> TimestampMs,
) -> Option<TimestampMs> {
    match (one, other) {
        (Some(one), Some(other)) => Some(choose(one, other)),
        (one, other) => one.or(other),
    }
}

/// Where an entry begins once what lies before `floor` is left out, as far as whole segments and countable gaps
/// allow: a segment that reaches over it stays whole, and so does a gap of which nobody knows how much lies where.
pub(super) fn cut_at(entry: &PartitionEntry, floor: Offset) -> Offset {
    let mut at = floor.min(entry.to);
    loop {
        let segments = entry.segments.iter();
        let segments = segments.filter(|s| s.first < at && s.last >= at);
        let gaps = entry.gaps.iter();
        let gaps = gaps.filter(|gap| {
            gap.kind != GapKind::Pending && !gap.is_whole() && gap.from < at && gap.to > at
        });
        let lower = segments.map(|s| s.first).chain(gaps.map(|gap| gap.from));
        match lower.min() {
            Some(lower) => at = lower,
            None => return at.max(entry.from),
        }
    }
}

/// Leaves out what lies before [`cut_at`]: the books still balance.
fn cut(entry: &mut PartitionEntry, floor: Offset) {
    let at = cut_at(entry, floor);
    if at == entry.from {
        return;
    }
    entry.segments.retain(|segment| segment.first >= at);
    entry
        .gaps
        .retain(|gap| gap.kind == GapKind::Pending || gap.to > at);
    for gap in &mut entry.gaps {
        if gap.from < at {
            *gap = Gap::whole(at, gap.to, gap.kind);
        }
    }
    entry.from = at;
    entry.records = entry.segments.iter().map(|s| s.records).sum();
    entry.first_timestamp = entry.segments.iter().map(|s| s.min_timestamp).min();
    entry.last_timestamp = entry.segments.iter().map(|s| s.max_timestamp).max();
}

/// Puts a partition's segments and gaps in order and fills in what follows from them.
pub(super) fn tidy(partition: &mut PartitionEntry) {
    partition.segments.sort_by_key(|segment| segment.first);
    partition
        .gaps
        .sort_by_key(|gap| (gap.from, gap.to, gap.kind));
    partition.first_timestamp = partition.segments.iter().map(|s| s.min_timestamp).min();
    partition.last_timestamp = partition.segments.iter().map(|s| s.max_timestamp).max();
}

/// `records + gap offsets == to − from`, and everything lies where it may: no record can be lost between the source
/// and a generation without this failing.
pub(super) fn check_books(partition: &PartitionEntry) -> Result<(), String> {
    let PartitionEntry { from, to, .. } = *partition;
    if from.0 < 0 || to < from {
        return Err(format!("it covers {from} to {to}, which is no range"));
    }
    if partition.high_watermark < to {
        return Err(format!(
            "it ends at {to}, past the high watermark {}",
            partition.high_watermark
        ));
    }
    let mut records: u128 = 0;
    let mut previous = None;
    for segment in &partition.segments {
        if segment.first < from
            || segment.last >= to
            || segment.last < segment.first
            || previous.is_some_and(|last| segment.first <= last)
        {
            return Err(format!(
                "{} holds offsets {} to {}, which do not fit in order into {from} to {to}",
                segment.path, segment.first, segment.last
            ));
        }
        previous = Some(segment.last);
        records += u128::from(segment.records);
    }
    if records != u128::from(partition.records) {
        return Err(format!(
            "its segments hold {records} records, but it counts {}",
            partition.records
        ));
    }
    let mut missing: u128 = 0;
    for gap in &partition.gaps {
        check_gap(partition, gap)?;
        if gap.kind != GapKind::Pending {
            missing += u128::from(gap.offsets);
        }
    }
    let span = (to.0 - from.0) as u128;
    if records + missing != span {
        return Err(format!(
            "{records} records and {missing} offsets in gaps do not add up to the {span} offsets from {from} to {to}"
        ));
    }
    Ok(())
}

fn check_gap(partition: &PartitionEntry, gap: &Gap) -> Result<(), String> {
    let fits = if gap.kind == GapKind::Pending {
        gap.from >= partition.to
    } else {
        gap.from >= partition.from && gap.to <= partition.to
    };
    let span = i128::from(gap.to.0) - i128::from(gap.from.0);
    if !fits || span < 1 || i128::from(gap.offsets) > span || gap.offsets == 0 {
        return Err(format!(
            "its {} gap of {} offsets from {} to {} does not fit into {} to {}",
            gap.kind.name(),
            gap.offsets,
            gap.from,
            gap.to,
            partition.from,
            partition.to
        ));
    }
    Ok(())
}
