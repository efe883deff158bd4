//! The list of an archive's generations, with what each run added.

use crate::archive::catalogue::{damage_of, holes};
use crate::archive::manifest::Generation;
use crate::archive::merge::Merged;
use crate::archive::open::READ_TOGETHER;
use crate::archive::retention::Standing;
use crate::archive::run_writer::CHECKPOINT_EVERY;
use crate::archive::{Archive, Damage, Error, Result, Witnessed};
use crate::base::time::{serialize_instant, serialize_maybe_instant};
use crate::base::{Digest, TimestampMs};
use futures::StreamExt;
use serde::Serialize;
use std::collections::HashSet;

/// One generation, as its run left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenerationFacts {
    pub number: u64,
    pub run: String,
    #[serde(serialize_with = "serialize_instant")]
    pub started: TimestampMs,
    #[serde(serialize_with = "serialize_instant")]
    pub finished: TimestampMs,
    /// What was committed at the source by then is in it.
    #[serde(serialize_with = "serialize_instant")]
    pub consistency_point: TimestampMs,
    pub checkpoint: bool,
    pub partial: bool,
    /// Topics that the run saw.
    pub topics: u64,
    /// Records that the run added; `None` where a checkpoint lists them among all others and the generations before
    /// it cannot be read.
    pub records: Option<u64>,
    /// Bytes of the batches that it added.
    pub bytes: Option<u64>,
    /// Bytes of the segment objects that it added.
    pub stored_bytes: Option<u64>,
    /// Groups whose committed offsets it holds; `None` if the run did not look.
    pub groups: Option<u64>,
    /// Pruned since then: it goes once the grace time is over.
    #[serde(serialize_with = "serialize_maybe_instant")]
    pub marked: Option<TimestampMs>,
    /// Of the generation object.
    pub digest: Digest,
}

/// The newest recovery points of an archive.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// How many recovery points there are.
    pub count: u64,
    /// The newest number that is there, recovery point or not, and its hash if it can be read.
    pub tip: (u64, Option<Digest>),
    /// How many of them are older than those that are listed.
    pub hidden: u64,
    /// Newest first.
    pub generations: Vec<GenerationFacts>,
    /// Generations that are there no more, or cannot be read, and are no recovery points that were pruned.
    pub damages: Vec<Damage>,
}

impl Archive {
    /// The newest `limit` recovery points, or all. Reads that many objects, and at most twice [`CHECKPOINT_EVERY`]
    /// more to tell what a checkpoint added; several at once. Damage is listed and ends nothing.
    pub async fn listing(&self, limit: Option<usize>) -> Result<Listing> {
        let listed = self.listed().await?;
        let Some(newest) = listed.last().copied() else {
            return Err(Error::Empty { url: self.url() });
        };
        let known = self.last_retention(&listed).await?;
        let retention = &known.retention;
        let holes = holes(&listed, retention);
        let there: Vec<u64> = listed
            .into_iter()
            .filter(|number| !retention.is_gone(*number))
            .collect();
        let is_point = |number: u64| {
            matches!(
                retention.standing(number),
                Standing::Point | Standing::Marked(_)
            )
        };
        let points: Vec<u64> = there
            .iter()
            .copied()
            .filter(|number| is_point(*number))
            .collect();
        let skipped = limit.map_or(0, |limit| points.len().saturating_sub(limit));
        let mut listing = Listing {
            count: points.len() as u64,
            tip: (newest, None),
            hidden: skipped as u64,
            ..Listing::default()
        };
        let Some(first) = points.get(skipped).copied() else {
            return Ok(listing);
        };
        let begin = begin(first, newest);
        // Whether a damaged end has pruned them nobody can tell; that it is damaged is said in any case.
        let holes = holes
            .into_iter()
            .filter(|hole| known.is_certain() && hole.last >= first);
        listing.damages.extend(holes.map(damage_of));
        let mut previous = None;
        // `None` while it is not known what the archive held before.
        let mut before = None;
        let read = there.into_iter().filter(|number| *number >= begin);
        let mut reads = futures::stream::iter(read)
            .map(async |number| (number, self.read_generation(number).await))
            .buffered(READ_TOGETHER);
        while let Some((number, read)) = reads.next().await {
            if previous.is_some_and(|previous| previous + 1 != number) {
                before = None;
            }
            previous = Some(number);
            let (generation, digest) = match read {
                Ok(read) => read,
                Err(Error::Damaged(damage)) => {
                    before = None;
                    if number >= first {
                        listing.damages.push(*damage);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if number == newest {
                listing.tip.1 = Some(digest);
            }
            if number >= first && is_point(number) {
                let mut facts = facts(&generation, digest, before.as_ref());
                if let Standing::Marked(since) = retention.standing(number) {
                    facts.marked = Some(since);
                }
                listing.generations.push(facts);
            }
            before = lay(before, &generation);
        }
        drop(reads);
        listing.generations.reverse();
        Ok(listing)
    }
}

impl Listing {
    /// What is wrong with the end of the chain, if somebody has seen another or a later one.
    pub fn contradiction(&self, seen: Option<Witnessed>) -> Option<Damage> {
        let (newest, digest) = self.tip;
        let seen = seen?;
        // One that cannot be read is damage of its own.
        let mut damage = seen.contradicts(newest, digest.unwrap_or(seen.digest))?;
        if let Some(point) = self.generations.first() {
            damage.restorable = format!("generation {} and what it holds", point.number);
        }
        Some(damage)
    }
}

/// Where to begin to read: if there is a checkpoint among the wanted, what it added shows only against what was
/// there before it, which the checkpoint before tells.
fn begin(first: u64, newest: u64) -> u64 {
    // A name may carry any number.
    let before = (first - 1).checked_next_multiple_of(CHECKPOINT_EVERY);
    match before.and_then(|before| before.checked_add(1)) {
        Some(checkpoint) if checkpoint <= newest => {
            first.min(checkpoint.saturating_sub(CHECKPOINT_EVERY).max(1))
        }
        _ => first,
    }
}

fn lay(before: Option<Merged>, generation: &Generation) -> Option<Merged> {
    let mut merged = match generation.checkpoint || generation.number == 1 {
        true => Merged::default(),
        false => before?,
    };
    merged.apply(generation).ok().map(|()| merged)
}

fn facts(generation: &Generation, digest: Digest, before: Option<&Merged>) -> GenerationFacts {
    let lists_others = generation.checkpoint && generation.number > 1;
    let (mut records, mut bytes, mut stored_bytes) = (0_u64, 0_u64, 0_u64);
    let mut objects = HashSet::new();
    for topic in &generation.topics {
        for partition in &topic.partitions {
            let known: HashSet<&str> = match before {
                Some(before) if lists_others => before
                    .segments(&topic.name, topic.incarnation, partition.partition)
                    .iter()
                    .map(|segment| segment.path.as_str())
                    .collect(),
                _ => HashSet::new(),
            };
            let segments = partition.segments.iter();
            for segment in segments.filter(|segment| !known.contains(segment.path.as_str())) {
                records += segment.records;
                bytes += segment.raw_bytes;
                if objects.insert(segment.path.as_str()) {
                    stored_bytes += segment.size;
                }
            }
        }
    }
    let told = !lists_others || before.is_some();
    let seen = generation.topics.iter();
    GenerationFacts {
        number: generation.number,
        run: generation.run.clone(),
        started: generation.started,
        finished: generation.finished,
        consistency_point: generation.consistency_point,
        checkpoint: generation.checkpoint,
        partial: generation.partial,
        topics: seen
            .filter(|topic| topic.seen == generation.number && !topic.removed)
            .count() as u64,
        records: told.then_some(records),
        bytes: told.then_some(bytes),
        stored_bytes: told.then_some(stored_bytes),
        groups: generation.groups.as_ref().map(|groups| groups.count),
        marked: None,
        digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_begins_early_enough_to_tell_what_its_first_checkpoint_added() {
        // The wanted generations, and where reading begins.
        for (first, newest, expected) in [
            (1, 20, 1),
            (14, 33, 1),
            (33, 33, 1),
            (34, 40, 34),
            (40, 70, 33),
            (65, 65, 33),
            (9_981, 10_000, 9_953),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(begin(first, newest), expected, "{first}..={newest}");
        }
    }
}
