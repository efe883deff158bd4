//! What the recovery points of an archive hold: from which offset on each needs a topic, and which segments.

use crate::archive::Result;
use crate::archive::manifest::{Generation, PartitionEntry, SegmentRef};
use crate::archive::merge::{Merged, cut_at};
use crate::archive::open::mismatched;
use crate::archive::retention::{Floor, PartitionFloor};
use crate::base::{Offset, PartitionId, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic by name, incarnation and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::archive) struct TopicKey {
    pub name: String,
    pub incarnation: u32,
    pub id: TopicId,
}

/// Offsets per topic and partition.
pub(in crate::archive) type Offsets = BTreeMap<TopicKey, BTreeMap<PartitionId, Offset>>;

/// Lays the manifests on each other and shows the whole at each; `merged` begins anew where a prune made a hole.
pub(in crate::archive) fn walk<'a>(
    manifests: &'a [Generation],
    mut visit: impl FnMut(&'a Generation, bool, &Merged),
) -> Result<()> {
    let mut merged = Merged::default();
    let mut before = 0;
    for generation in manifests {
        let follows = generation.number == before + 1;
        if !follows {
            merged = Merged::default();
        }
        merged
            .apply(generation)
            .map_err(|mismatch| mismatched(generation.number, mismatch))?;
        visit(generation, follows, &merged);
        before = generation.number;
    }
    Ok(())
}

/// From where on the source still had each partition at any of the recovery points that were added. A topic that is
/// at none of them is not in it.
#[derive(Clone, Debug, Default)]
pub(in crate::archive) struct Needs(pub Offsets);

impl Needs {
    pub fn add(&mut self, merged: &Merged) {
        for (topic, current, partitions) in merged.topics() {
            if !current {
                continue;
            }
            let key = TopicKey {
                name: topic.name.clone(),
                incarnation: topic.incarnation,
                id: topic.id,
            };
            let known = self.0.entry(key).or_default();
            for entry in partitions {
                let lowest = known.entry(entry.partition).or_insert(entry.log_start);
                *lowest = (*lowest).min(entry.log_start);
            }
        }
    }

    /// Lowers floors to what is needed.
    pub fn clamp(&self, floors: &mut Offsets) {
        for (key, partitions) in floors {
            let Some(needed) = self.0.get(key) else {
                continue;
            };
            for (partition, before) in partitions {
                if let Some(needed) = needed.get(partition) {
                    *before = (*before).min(*needed);
                }
            }
        }
    }
}

pub(in crate::archive) fn offsets_of<'a>(floors: impl IntoIterator<Item = &'a Floor>) -> Offsets {
    let mut offsets = Offsets::new();
    raise(&mut offsets, floors);
    offsets
}

/// Raises floors to the higher of two.
pub(in crate::archive) fn raise<'a>(
    offsets: &mut Offsets,
    floors: impl IntoIterator<Item = &'a Floor>,
) {
    for floor in floors {
        let key = TopicKey {
            name: floor.topic.clone(),
            incarnation: floor.incarnation,
            id: floor.id,
        };
        let known = offsets.entry(key).or_default();
        for partition in &floor.partitions {
            let highest = known.entry(partition.partition).or_insert(partition.before);
            *highest = (*highest).max(partition.before);
        }
    }
}

pub(in crate::archive) fn floors_of(offsets: Offsets) -> Vec<Floor> {
    let floors = offsets.into_iter().map(|(key, partitions)| Floor {
        topic: key.name,
        id: key.id,
        incarnation: key.incarnation,
        partitions: partitions
            .into_iter()
            .map(|(partition, before)| PartitionFloor { partition, before })
            .collect(),
    });
    floors
        .filter(|floor| !floor.partitions.is_empty())
        .collect()
}

/// Segments by topic, partition and place, and which of several sets of recovery points hold each.
#[derive(Default)]
pub(in crate::archive) struct Holdings {
    pub segments: BTreeMap<Place, Held>,
    before: u8,
}

/// Where a segment belongs. A pack has several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::archive) struct Place {
    pub topic: Arc<TopicKey>,
    pub partition: PartitionId,
    pub first: Offset,
    pub path: Arc<str>,
}

pub(in crate::archive) struct Held {
    /// One bit for each set.
    pub sets: u8,
    pub segment: SegmentRef,
}

impl Holdings {
    /// Adds what a recovery point holds. `sets` are those that it belongs to; `floors` what each set leaves out.
    pub fn add(
        &mut self,
        generation: &Generation,
        follows: bool,
        merged: &Merged,
        sets: u8,
        floors: &[Offsets],
    ) {
        // What the generation before held in the same sets is there already.
        let only_new = follows && !generation.checkpoint && sets & !self.before == 0;
        self.before = sets;
        if sets == 0 {
            return;
        }
        let new: Option<BTreeMap<(&str, u32), &[PartitionEntry]>> = only_new.then(|| {
            let topics = generation.topics.iter();
            topics
                .map(|topic| {
                    let key = (topic.name.as_str(), topic.incarnation);
                    (key, topic.partitions.as_slice())
                })
                .collect()
        });
        for (topic, _, partitions) in merged.topics() {
            let listed = match &new {
                None => None,
                Some(new) => match new.get(&(topic.name.as_str(), topic.incarnation)) {
                    Some(listed) if !listed.is_empty() => Some(*listed),
                    _ => continue,
                },
            };
            let key = Arc::new(TopicKey {
                name: topic.name.clone(),
                incarnation: topic.incarnation,
                id: topic.id,
            });
            for entry in partitions {
                let segments = match listed {
                    None => &entry.segments,
                    Some(listed) => {
                        match listed.iter().find(|new| new.partition == entry.partition) {
                            Some(new) => &new.segments,
                            None => continue,
                        }
                    }
                };
                let cuts: Vec<Offset> = floors
                    .iter()
                    .map(|floors| floor_of(floors, &key, entry))
                    .collect();
                for segment in segments {
                    let mut held = 0;
                    for (set, cut) in cuts.iter().enumerate() {
                        if sets & (1 << set) != 0 && segment.first >= *cut {
                            held |= 1 << set;
                        }
                    }
                    if held == 0 {
                        continue;
                    }
                    let place = Place {
                        topic: key.clone(),
                        partition: entry.partition,
                        first: segment.first,
                        path: segment.path.as_str().into(),
                    };
                    let known = self.segments.entry(place).or_insert_with(|| Held {
                        sets: 0,
                        segment: segment.clone(),
                    });
                    known.sets |= held;
                }
            }
        }
    }
}

/// Where an entry begins above its floor, if it has one.
pub(in crate::archive) fn floor_of(
    floors: &Offsets,
    key: &TopicKey,
    entry: &PartitionEntry,
) -> Offset {
    let floor = floors
        .get(key)
        .and_then(|partitions| partitions.get(&entry.partition));
    floor.map_or(entry.from, |floor| cut_at(entry, *floor))
}
