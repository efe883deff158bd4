//! Which generations an archive has, and what each of them is: a recovery point, one that is marked, one that is only
//! a link of the chain any more, or one that says what was pruned.
//!
//! The newest generation leads to everything: it carries what was pruned, or the number and the hash of the generation
//! that does. So this costs a listing and at most two objects, however old the archive is.

use super::manifest::Generation;
use super::open::{LOOK_BACK, check_link, generation_path};
use super::retention::{Numbers, Retention, RetentionRef, Standing};
use super::{Archive, Damage, DamageKind, Error, Result, Witnessed};
use crate::base::Digest;
use std::sync::Arc;

/// The generations of an archive.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// Ascending; without those whose manifests are pruned.
    numbers: Vec<u64>,
    /// The newest object and its hash; none in an archive without a generation.
    newest: Option<(Generation, Digest)>,
    at: Option<RetentionRef>,
    retention: Arc<Retention>,
}

impl Catalogue {
    /// Every manifest that is part of the archive, ascending, whatever it stands for.
    pub fn manifests(&self) -> &[u64] {
        &self.numbers
    }

    /// The recovery points, ascending; without marked ones.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.with(|standing| standing == Standing::Point)
    }

    /// The recovery points that go once their grace time is over, ascending.
    pub fn marked(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.with(|standing| matches!(standing, Standing::Marked(_)))
    }

    fn with(&self, wanted: fn(Standing) -> bool) -> impl DoubleEndedIterator<Item = u64> {
        let numbers = self.numbers.iter().copied();
        numbers.filter(move |number| wanted(self.standing(*number)))
    }

    pub fn standing(&self, number: u64) -> Standing {
        self.retention.standing(number)
    }

    /// What was pruned so far.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The generation that says so.
    pub fn retention_at(&self) -> Option<RetentionRef> {
        self.at
    }

    /// What is wrong with the end of the chain, if somebody has seen another or a later one. It counts whatever the
    /// newest generation stands for: one that says what was pruned is as little to be lost as a recovery point.
    pub fn contradiction(&self, seen: Option<Witnessed>) -> Option<Damage> {
        let tip = self.tip()?;
        let mut damage = seen?.contradicts(tip.generation, tip.digest)?;
        damage.restorable = match self.points().next_back() {
            Some(newest) => format!("generation {newest} and what it holds"),
            None => "nothing (no recovery point is left)".into(),
        };
        Some(damage)
    }

    /// The end of the chain, to be remembered.
    pub fn tip(&self) -> Option<Witnessed> {
        let (newest, digest) = self.newest()?;
        Some(Witnessed {
            generation: newest.number,
            digest,
        })
    }

    /// The newest generation's own object, recovery point or not, and its hash.
    pub fn newest(&self) -> Option<(&Generation, Digest)> {
        let newest = self.newest.as_ref();
        newest.map(|(generation, digest)| (generation, *digest))
    }
}

/// What was pruned, as far as an archive still tells.
#[derive(Debug, Default)]
pub(super) struct LastKnown {
    pub retention: Arc<Retention>,
    /// Why it may be out of date: the newest generation, or the one that it leads to, cannot be read. Then nobody can tell
    /// what is gone from what is lost.
    pub damage: Option<Damage>,
}

impl LastKnown {
    /// Whether what is not there and not said to be pruned is lost.
    pub fn is_certain(&self) -> bool {
        self.damage.is_none()
    }
}

impl Archive {
    /// The generations of the archive. A manifest that is missing without having been pruned is damage.
    pub async fn catalogue(&self) -> Result<Catalogue> {
        let listed = self.listed().await?;
        let Some(last) = listed.last().copied() else {
            return Ok(Catalogue {
                numbers: Vec::new(),
                newest: None,
                at: None,
                retention: Arc::default(),
            });
        };
        let (newest, digest) = match self.read_generation(last).await {
            Ok(newest) => newest,
            // Whether numbers that are not there were pruned, only it could tell: it is the damage, not they.
            Err(Error::Damaged(damage)) => {
                let known = self.last_retention(&listed).await?;
                let error = self.with_restorable(*damage, last, &known.retention);
                return Err(error.await);
            }
            Err(error) => return Err(error),
        };
        let (at, retention) = match self.retention_of(&newest, digest).await {
            Ok(found) => found,
            Err(Error::Damaged(damage)) => {
                let known = self.last_retention(&listed).await?;
                let after = last.saturating_add(1);
                let error = self.with_restorable(*damage, after, &known.retention);
                return Err(error.await);
            }
            Err(error) => return Err(error),
        };
        if let Some(hole) = holes(&listed, &retention).first() {
            let damage = damage_of(*hole);
            return Err(self.with_restorable(damage, hole.first, &retention).await);
        }
        let numbers = listed.into_iter();
        Ok(Catalogue {
            numbers: numbers.filter(|n| !retention.is_gone(*n)).collect(),
            newest: Some((newest, digest)),
            at,
            retention,
        })
    }

    /// What a generation knows of what was pruned.
    async fn retention_of(
        &self,
        generation: &Generation,
        digest: Digest,
    ) -> Result<(Option<RetentionRef>, Arc<Retention>)> {
        if let Some(own) = &generation.retention {
            let at = RetentionRef {
                generation: generation.number,
                digest,
            };
            return Ok((Some(at), Arc::new(own.clone())));
        }
        let Some(at) = generation.retention_at else {
            return Ok((None, Arc::default()));
        };
        let (holder, found) = self.read_generation(at.generation).await?;
        check_link(at.generation, at.digest, found)?;
        match holder.retention {
            Some(retention) => Ok((Some(at), Arc::new(retention))),
            None => Err(Damage::new(
                generation_path(at.generation),
                DamageKind::Disagrees("it does not say what was pruned".into()),
            )
            .into()),
        }
    }

    /// What was pruned, also of an archive with a damaged end.
    pub(super) async fn last_retention(&self, listed: &[u64]) -> Result<LastKnown> {
        let mut known = LastKnown::default();
        for number in listed.iter().rev().take(LOOK_BACK as usize) {
            let read = async {
                let (generation, digest) = self.read_generation(*number).await?;
                self.retention_of(&generation, digest).await
            };
            match read.await {
                Ok((_, retention)) => {
                    known.retention = retention;
                    break;
                }
                Err(Error::Damaged(damage)) => {
                    known.damage.get_or_insert(*damage);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }
}

/// The numbers below the last listed one that are neither there nor pruned, as ranges: a stray name may carry any
/// number, so nothing may walk up to it.
pub(super) fn holes(listed: &[u64], retention: &Retention) -> Vec<Numbers> {
    let mut holes = Vec::new();
    let mut next = 1_u64;
    for number in listed {
        if *number > next {
            missing(next, *number - 1, retention, &mut holes);
        }
        next = number.saturating_add(1);
    }
    holes
}

/// The parts of `first` to `last` that no prune has taken.
fn missing(mut first: u64, last: u64, retention: &Retention, holes: &mut Vec<Numbers>) {
    let begin = retention.gone.partition_point(|gone| gone.last < first);
    for gone in &retention.gone[begin..] {
        if gone.first > last {
            break;
        }
        if gone.first > first {
            let last = gone.first - 1;
            holes.push(Numbers { first, last });
        }
        if gone.last >= last {
            return;
        }
        first = gone.last + 1;
    }
    holes.push(Numbers { first, last });
}

/// How many numbers these are.
pub(super) fn count_of(range: Numbers) -> u64 {
    (range.last - range.first).saturating_add(1)
}

/// Manifests that are missing.
pub(super) fn damage_of(hole: Numbers) -> Damage {
    let first = generation_path(hole.first);
    match count_of(hole) {
        1 => Damage::new(first, DamageKind::Missing),
        count => {
            let path = format!("{first} to {:08}.json", hole.last);
            Damage::new(path, DamageKind::AllMissing { count })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(listed: &[u64], gone: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let gone = gone.iter();
        let retention = Retention {
            gone: gone
                .map(|(first, last)| Numbers {
                    first: *first,
                    last: *last,
                })
                .collect(),
            ..Retention::default()
        };
        let holes = holes(listed, &retention).into_iter();
        holes.map(|hole| (hole.first, hole.last)).collect()
    }

    #[test]
    fn what_is_neither_there_nor_pruned_is_a_hole_however_far_a_number_lies() {
        assert_eq!(pairs(&[1, 2, 3], &[]), []);
        assert_eq!(pairs(&[2, 5], &[]), [(1, 1), (3, 4)]);
        assert_eq!(pairs(&[1, 9], &[(2, 8)]), []);
        assert_eq!(
            pairs(&[1, 20], &[(3, 5), (8, 8)]),
            [(2, 2), (6, 7), (9, 19)]
        );
        assert_eq!(pairs(&[7], &[(1, 3), (5, 6)]), [(4, 4)]);
        let last = u64::MAX;
        assert_eq!(pairs(&[1, last], &[]), [(2, last - 1)]);
        assert_eq!(pairs(&[1, last], &[(2, last)]), []);
    }
}
