//! Checks an archive: every link, every object, and with [`Depth::Deep`] every record batch.
//!
//! Damage is a list, not the first error: the answer to "what have I lost" needs all of it, and so does "what is
//! left". Only a store that does not answer, or a cancel, ends the check.
//!
//! Several segments are checked at once; what is read of them is bounded by a budget of bytes. What the manifests list is
//! not: every partition's part of every segment is known until the end, some 500 bytes each, and so are the names of all
//! objects. Ten thousand partitions in one pack a day are 5 MB a day: what is pruned costs nothing any more.

mod block;
mod chain;
mod pruned;
mod restorable;
mod segments;

pub use block::check_block;
pub use restorable::{Restorable, Span};

use super::manifest::SegmentRef;
use super::open::{HEAD_PATH, generation_path};
use super::segment::Stream;
use super::{Archive, Damage, DamageKind, Error, Held, Result};
use crate::base::{CancellationToken, Digest, Progress};
use std::collections::BTreeMap;

/// How far a check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The chain, the books, every object's existence and size, every index.
    Quick,
    /// Also every byte: hashes of objects, CRCs of blocks and batches, counts, ascending offsets, timestamps.
    Deep,
}

/// The newest generation of an archive that somebody outside of it remembers: the only thing that shows when the
/// newest generations are deleted whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    pub generation: u64,
    pub digest: Digest,
}

impl Witnessed {
    /// What is wrong if `newest` is the newest generation that is there.
    pub fn contradicts(&self, newest: u64, digest: Digest) -> Option<Damage> {
        let path = generation_path(self.generation);
        if newest < self.generation {
            let mut damage = Damage::new(path, DamageKind::Gone { newest });
            damage.restorable = format!("generation {newest} and what it holds");
            return Some(damage);
        }
        (newest == self.generation && digest != self.digest).then(|| self.other(digest))
    }

    fn other(&self, found: Digest) -> Damage {
        let kind = DamageKind::NotAsSeen {
            expected: self.digest.hex(),
            found: found.hex(),
        };
        Damage::new(generation_path(self.generation), kind)
    }
}

/// How to check.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub depth: Depth,
    pub witness: Option<Witnessed>,
    /// Only the segments that this generation needs; the chain is checked as a whole.
    pub generation: Option<u64>,
    pub cancel: CancellationToken,
}

impl VerifyOptions {
    pub fn new(depth: Depth) -> Self {
        Self {
            depth,
            witness: None,
            generation: None,
            cancel: CancellationToken::new(),
        }
    }
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    pub generations: u64,
    pub segments: u64,
    pub blocks: u64,
    /// Counted by a deep check only.
    pub batches: u64,
    pub records: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// The newest generation whose manifest can be read.
    pub newest: Option<(u64, Digest)>,
    /// In the order of the objects' paths.
    pub damages: Vec<Damage>,
    /// Objects that no generation names: left behind by runs that died, harmless.
    pub unreferenced: Vec<String>,
    pub unreferenced_bytes: u64,
    pub restorable: Restorable,
    /// It was cancelled: what it says is true, but not all.
    pub interrupted: bool,
}

impl VerifyReport {
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One segment object and all that generations say of it.
struct Listed {
    segment: SegmentRef,
    streams: BTreeMap<(String, i32), ListedStream>,
}

struct ListedStream {
    stream: Stream,
    segment: SegmentRef,
    /// The first generation that holds it.
    since: u64,
    /// The first that no longer does: a rescan has replaced it.
    until: Option<u64>,
}

impl ListedStream {
    fn is_held_by(&self, generation: u64) -> bool {
        self.since <= generation && self.until.is_none_or(|until| generation < until)
    }
}

impl Listed {
    /// The damage with everything that the segment held.
    fn damaged(&self, mut damage: Damage) -> Damage {
        for listed in self.streams.values() {
            damage = damage.holding(Held {
                topic: listed.stream.topic.clone(),
                partition: listed.stream.partition,
                first: listed.segment.first,
                last: listed.segment.last,
            });
        }
        damage
    }
}

impl Archive {
    /// Checks the whole archive.
    pub async fn verify(&self, depth: Depth, progress: &dyn Progress) -> Result<VerifyReport> {
        self.verify_with(&VerifyOptions::new(depth), progress).await
    }

    /// Checks the whole archive; a cancel ends it with what was found so far.
    pub async fn verify_with(
        &self,
        options: &VerifyOptions,
        progress: &dyn Progress,
    ) -> Result<VerifyReport> {
        let present: BTreeMap<String, u64> = self.store().list("").await?.into_iter().collect();
        let mut report = VerifyReport::default();
        let mut chain = chain::walk(self, options, progress, &mut report).await?;
        if let Some(number) = options.generation {
            if !chain.generations.contains_key(&number) {
                let newest = report.newest.map_or(0, |(newest, _)| newest);
                return Err(Error::NoSuchGeneration { number, newest });
            }
            chain.only(number);
        }
        let checked = segments::check(self, options, progress, &chain, &present, &mut report);
        checked.await?;
        if !report.interrupted && options.generation.is_none() {
            for (path, size) in present {
                if path != HEAD_PATH && !chain.named.contains(&path) {
                    report.unreferenced.push(path);
                    report.unreferenced_bytes += size;
                }
            }
        }
        chain.doubt(&mut report.damages);
        report
            .damages
            .sort_by(|one, other| one.object.cmp(&other.object));
        report.damages.dedup();
        report.restorable = Restorable::of(&chain, &report.damages);
        Ok(report)
    }
}

/// Turns damage into a finding; anything else ends the check.
fn keep<T>(damages: &mut Vec<Damage>, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damaged(damage)) => {
            damages.push(*damage);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
