//! What of a pruned archive must be there: the manifests that are left may name more.

use super::Listed;
use crate::archive::manifest::Generation;
use crate::archive::merge::Merged;
use crate::archive::prune::holdings::{Holdings, Offsets, offsets_of};
use crate::archive::retention::{Retention, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// Which segments the recovery points of a pruned archive hold. The manifests that are left may name more, and that
/// may be gone.
pub(super) struct Pruned<'a> {
    retention: &'a Retention,
    floors: [Offsets; 1],
    holdings: Holdings,
    /// Named by recovery points whose chain is broken.
    unsure: BTreeSet<String>,
}

impl<'a> Pruned<'a> {
    pub(super) fn new(retention: &'a Retention) -> Self {
        Self {
            retention,
            floors: [offsets_of(&retention.floors)],
            holdings: Holdings::default(),
            unsure: BTreeSet::new(),
        }
    }

    /// Nothing was ever deleted: every segment that is named must be there.
    fn is_whole(&self) -> bool {
        self.retention.deleted.is_empty() && self.retention.gone.is_empty()
    }

    pub(super) fn add(&mut self, generation: &Generation, follows: bool, merged: Option<&Merged>) {
        if self.is_whole() {
            return;
        }
        let is_point = matches!(
            self.retention.standing(generation.number),
            Standing::Point | Standing::Marked(_)
        );
        match merged {
            Some(merged) => {
                let sets = u8::from(is_point);
                self.holdings
                    .add(generation, follows, merged, sets, &self.floors);
            }
            None if is_point => {
                let partitions = generation.topics.iter().flat_map(|t| &t.partitions);
                let segments = partitions.flat_map(|partition| &partition.segments);
                self.unsure
                    .extend(segments.map(|segment| segment.path.clone()));
            }
            None => {}
        }
    }

    pub(super) fn leave_out(&self, segments: &mut BTreeMap<String, Listed>) {
        if self.is_whole() {
            return;
        }
        let places = self.holdings.segments.keys();
        let held: BTreeSet<(&str, &str, i32)> = places
            .map(|place| {
                let topic = place.topic.name.as_str();
                (&*place.path, topic, place.partition.0)
            })
            .collect();
        segments.retain(|path, listed| {
            if self.unsure.contains(path) {
                return true;
            }
            let held = |key: &(String, i32)| held.contains(&(path.as_str(), key.0.as_str(), key.1));
            listed.streams.retain(|key, _| held(key));
            !listed.streams.is_empty()
        });
    }
}
