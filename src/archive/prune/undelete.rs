//! The way back: what is marked and not deleted yet becomes a recovery point again.

use super::apply::{commit, tip_of};
use super::holdings::{Needs, floors_of, offsets_of};
use super::plan::Tip;
use crate::archive::retention::{Retention, Standing};
use crate::archive::{Archive, Error, Result};
use crate::base::{TimestampMs, time};
use serde::{Deserialize, Serialize};

/// What an undelete would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UndeletePlan {
    pub archive_id: uuid::Uuid,
    pub archive_url: String,
    pub tip: Tip,
    /// The recovery points that come back, ascending.
    pub comes_back: Vec<Back>,
    /// How many are marked.
    pub marked: usize,
    /// Asked for, and not marked.
    pub not_marked: Vec<u64>,
    /// Data that was marked and stays.
    pub floors: usize,
    /// What the commit says; none if there is nothing to say.
    pub retention: Option<Retention>,
}

/// A recovery point that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    pub number: u64,
    pub consistency_point: TimestampMs,
    pub partial: bool,
    pub since: TimestampMs,
}

impl UndeletePlan {
    /// Plans to bring these recovery points back; all that are marked, if none is named. Changes nothing.
    /// [`Error::Pruned`] for one that is deleted.
    pub async fn make(archive: &Archive, numbers: &[u64]) -> Result<Self> {
        let catalogue = archive.catalogue().await?;
        let Some((newest, digest)) = catalogue.newest() else {
            return Err(Error::Empty { url: archive.url() });
        };
        let tip = Tip {
            number: newest.number,
            digest,
        };
        let old = catalogue.retention();
        let wanted: Vec<u64> = match numbers.is_empty() {
            true => catalogue.marked().collect(),
            false => numbers.to_vec(),
        };
        let mut plan = Self {
            archive_id: archive.archive_id(),
            archive_url: archive.url(),
            tip,
            comes_back: Vec::new(),
            marked: catalogue.marked().count(),
            not_marked: Vec::new(),
            floors: 0,
            retention: None,
        };
        let mut needs = Needs::default();
        for number in wanted {
            // A number that is not there, is deleted or is no recovery point is refused by name here.
            let snapshot = archive.generation(number).await?;
            let Standing::Marked(since) = catalogue.standing(number) else {
                plan.not_marked.push(number);
                continue;
            };
            needs.add(snapshot.merged());
            plan.comes_back.push(Back {
                number,
                consistency_point: snapshot.consistency_point(),
                partial: snapshot.is_partial(),
                since,
            });
        }
        plan.comes_back.sort_by_key(|back| back.number);
        plan.comes_back.dedup();
        let mut retention = old.clone();
        retention.abandoned.clear();
        for round in &mut retention.rounds {
            let back = |number: &u64| plan.comes_back.iter().any(|back| back.number == *number);
            round.generations.retain(|number| !back(number));
            if numbers.is_empty() {
                plan.floors += round.floors.len();
                round.floors.clear();
                continue;
            }
            // Data that one that comes back still had stays; floors then lie at or below where it begins.
            let mut floors = offsets_of(&round.floors);
            needs.clamp(&mut floors);
            let floors = floors_of(floors);
            if floors != round.floors {
                plan.floors += 1;
            }
            round.floors = floors;
        }
        retention
            .rounds
            .retain(|round| !round.generations.is_empty() || !round.floors.is_empty());
        if retention.rounds != old.rounds {
            retention.commits.push(tip.number + 1);
            plan.retention = Some(retention);
        }
        Ok(plan)
    }

    /// Whether the archive still ends where it was planned; [`Error::Changed`] if not.
    pub async fn check(&self, archive: &Archive) -> Result<()> {
        tip_of(archive, self.tip).await.map(|_| ())
    }

    /// Commits. `run` names the commit.
    pub async fn apply(&self, archive: &Archive, run: &str) -> Result<Option<Tip>> {
        let tip = tip_of(archive, self.tip).await?;
        match &self.retention {
            Some(retention) => commit(archive, &tip, retention, run, time::now())
                .await
                .map(Some),
            None => Ok(None),
        }
    }
}
