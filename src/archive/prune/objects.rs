//! Every object in the store by what becomes of it in a prune.

use super::holdings::Holdings;
use super::plan::{AFTER, Fates, ObjectGoing, ObjectKind, Planner};
use crate::archive::open::{HEAD_PATH, generation_number};
use crate::archive::{Damage, DamageKind, Result};
use crate::store::Listed;
use std::collections::{BTreeMap, BTreeSet};

/// Every object in the store by what becomes of it.
#[derive(Default)]
pub(super) struct Sorted {
    pub going: Vec<ObjectGoing>,
    pub young: Vec<ObjectGoing>,
    pub foreign: Vec<String>,
    pub abandoned: Vec<String>,
}

impl Planner<'_> {
    pub(super) fn sort_objects(
        &self,
        listing: &[Listed],
        fates: &Fates,
        holdings: &Holdings,
        needed: &BTreeSet<u64>,
    ) -> Result<Sorted> {
        let mut stay: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, held) in &holdings.segments {
            if held.sets & AFTER != 0 {
                stay.insert(&place.path, held.segment.size);
            }
        }
        let mut named: BTreeMap<&str, ObjectKind> = BTreeMap::new();
        let mut committed: BTreeSet<&str> = BTreeSet::new();
        for generation in self.manifests {
            committed.insert(&generation.run);
            let partitions = generation.topics.iter().flat_map(|t| &t.partitions);
            for segment in partitions.flat_map(|partition| &partition.segments) {
                named.insert(&segment.path, ObjectKind::Segment);
            }
            let sets = fates.sets.get(&generation.number).copied().unwrap_or(0);
            let stays = sets & AFTER != 0 || generation.number == self.tip.number;
            let groups = generation.groups.iter().map(|r| (r.path.as_str(), r.size));
            let cluster = generation.cluster.iter().map(|r| (r.path.as_str(), r.size));
            for (path, size) in groups.chain(cluster) {
                named.insert(path, ObjectKind::Kept);
                if stays {
                    stay.insert(path, size);
                }
            }
        }
        let present: BTreeMap<&str, u64> = listing
            .iter()
            .map(|object| (object.path.as_str(), object.size))
            .collect();
        for (path, size) in &stay {
            // An archive that lost something keeps all that is left.
            let kind = match present.get(path) {
                Some(found) if found == size => continue,
                Some(found) => DamageKind::Size {
                    expected: *size,
                    found: *found,
                },
                None => DamageKind::Missing,
            };
            return Err(Damage::new(*path, kind).into());
        }

        let mut sorted = Sorted::default();
        let mut unreferenced: Vec<(&Listed, Option<&str>)> = Vec::new();
        for object in listing {
            let path = object.path.as_str();
            if path == HEAD_PATH || stay.contains_key(path) {
                continue;
            }
            let mut going = |kind: ObjectKind| {
                sorted.going.push(ObjectGoing {
                    path: path.to_string(),
                    size: object.size,
                    kind,
                });
            };
            if let Some(number) = generation_number(path) {
                // One that came since the listing is not ours to judge.
                if number <= self.tip.number && !needed.contains(&number) {
                    going(ObjectKind::Manifest);
                }
            } else if let Some(kind) = named.get(path) {
                going(*kind);
            } else if let Some(run) = written_by(path) {
                unreferenced.push((object, run));
            } else {
                sorted.foreign.push(path.to_string());
            }
        }
        self.sort_unreferenced(&unreferenced, &committed, &mut sorted);
        sorted.going.sort_by(|one, other| {
            let key = |object: &ObjectGoing| (object.kind, object.path.clone());
            key(one).cmp(&key(other))
        });
        Ok(sorted)
    }

    /// A run that wrote anything lately may still commit: everything of it stays.
    fn sort_unreferenced(
        &self,
        objects: &[(&Listed, Option<&str>)],
        committed: &BTreeSet<&str>,
        sorted: &mut Sorted,
    ) {
        let young_from = self.now.0.saturating_sub(self.policy.unreferenced_ms());
        let is_young = |object: &Listed| object.modified.0 > young_from;
        let alive: BTreeSet<&str> = objects
            .iter()
            .filter(|(object, _)| is_young(object))
            .filter_map(|(_, run)| *run)
            .collect();
        let mut abandoned = BTreeSet::new();
        for (object, run) in objects {
            let going = ObjectGoing {
                path: object.path.clone(),
                size: object.size,
                kind: ObjectKind::Unreferenced,
            };
            if is_young(object) || run.is_some_and(|run| alive.contains(run)) {
                sorted.young.push(going);
                continue;
            }
            sorted.going.push(going);
            abandoned.extend(run.filter(|run| !committed.contains(run)));
        }
        sorted.abandoned = abandoned.into_iter().map(str::to_string).collect();
    }
}

/// The run that wrote an object that no generation names; `Some(None)` where the path does not tell; `None` if it is
/// none of an archive's paths.
fn written_by(path: &str) -> Option<Option<&str>> {
    // A folder's file that was not finished, by a run that was killed.
    let unfinished = path
        .rsplit_once('#')
        .filter(|(_, n)| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some((path, _)) = unfinished {
        let ours = path == HEAD_PATH || generation_number(path).is_some();
        return (ours || written_by(path).is_some()).then_some(None);
    }
    let (folder, rest) = path.split_once('/')?;
    match folder {
        "staging" => Some(None),
        "packs" => {
            let (run, name) = rest.split_once('/')?;
            name.strip_suffix(".kbs")?;
            Some(Some(run))
        }
        "topics" => {
            let (_, name) = rest.rsplit_once('/')?;
            let name = name.strip_prefix("segment-")?.strip_suffix(".kbs")?;
            Some(Some(name.split_once('-')?.1))
        }
        "groups" | "cluster" => {
            let name = rest.strip_suffix(".json")?;
            Some(Some(name.split_once('-')?.1))
        }
        _ => None,
    }
}
