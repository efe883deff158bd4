//! Which generations an archive has, and what each of them is: a recovery point, one that is marked, one that is only
//! a link of the chain any more, or one that says what was pruned.
//!
//! The newest generation leads to everything: it carries what was pruned, or the number and the hash of the generation
//! that does. So this costs a listing and at most two objects, however old the archive is.

use super::manifest::Generation;
use super::open::{LOOK_BACK, check_link, generation_path};
use super::retention::{Retention, RetentionRef, Standing};
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
        let (newest, retention) = match self.read_generation(last).await {
            Ok((newest, digest)) => {
                let retention = self.retention_of(&newest, digest).await?;
                (Ok((newest, digest)), retention)
            }
            // A hole is looked for all the same: it is what happened first.
            Err(Error::Damaged(damage)) => (Err(damage), self.last_retention(&listed).await?),
            Err(error) => return Err(error),
        };
        let (at, retention) = retention;
        let mut numbers = Vec::with_capacity(listed.len());
        for number in 1..=last {
            if retention.is_gone(number) {
                continue;
            }
            if listed.binary_search(&number).is_err() {
                let damage = Damage::new(generation_path(number), DamageKind::Missing);
                return Err(self.with_restorable(damage, number, &retention).await);
            }
            numbers.push(number);
        }
        match newest {
            Ok(newest) => Ok(Catalogue {
                numbers,
                newest: Some(newest),
                at,
                retention,
            }),
            Err(damage) => Err(self.with_restorable(*damage, last, &retention).await),
        }
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

    /// What was pruned, as far as an archive with a damaged end still tells.
    pub(super) async fn last_retention(
        &self,
        listed: &[u64],
    ) -> Result<(Option<RetentionRef>, Arc<Retention>)> {
        for number in listed.iter().rev().take(LOOK_BACK as usize) {
            match self.read_generation(*number).await {
                Ok((generation, digest)) => return self.retention_of(&generation, digest).await,
                Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((None, Arc::default()))
    }
}
