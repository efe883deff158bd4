//! Moving the groups: one transaction for all, or group by group where transactions are not allowed; then reading back.

use super::check::current;
use super::error::{Difference, Error, NotMoved, Result};
use super::plan::{Plan, Row};
use super::resolve::Current;
use crate::base::{Offset, TopicPartition};
use crate::kafka::{Client, CommitWanted, ErrorCode};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;

/// What a reset did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub how: Moved,
    pub groups: Vec<MovedGroup>,
    /// Rows that were at their target already.
    pub unchanged: usize,
}

/// In which way the groups moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Moved {
    /// All in one transaction.
    Transaction { transactional_id: String },
    /// One commit per group, not atomic over groups, and why.
    PerGroup { because: String },
    /// Share groups are told where to start, each by itself.
    ShareGroups,
    /// Every offset was right already.
    NothingToDo,
}

/// One group that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MovedGroup {
    pub group: String,
    pub partitions: usize,
}

/// How far a reset came, judged by what the target says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Reconciled {
    Done,
    NotDone,
    /// Some groups moved and others did not: the fallback was interrupted.
    Partial {
        moved: usize,
        left: usize,
    },
    /// Somebody else committed.
    Foreign {
        rows: Vec<Difference>,
    },
}

/// Commits every row that changes, then reads all rows back. [`super::check`] comes right before. `transactional_id`
/// is the same for a repetition of the same reset, so that a transaction left open by a crash is ended by it.
pub async fn apply(plan: &Plan, target: &Client, transactional_id: &str) -> Result<Report> {
    if plan.is_blocked() {
        return Err(Error::Blocked {
            count: plan.blocks().len(),
        });
    }
    let commits = plan.commits();
    let how = if commits.is_empty() {
        Moved::NothingToDo
    } else if plan.is_of_share_groups() {
        share_groups(target, &commits).await?;
        Moved::ShareGroups
    } else {
        match target
            .commit_offsets_in_transaction(transactional_id, &commits)
            .await
        {
            Ok(()) => Moved::Transaction {
                transactional_id: transactional_id.to_string(),
            },
            Err(error) if error.transactions_not_allowed() => {
                let because = because(&error);
                per_group(target, &commits, &because).await?;
                Moved::PerGroup { because }
            }
            Err(error) => return Err(Error::Kafka(error)),
        }
    };
    read_back(plan, target).await?;
    Ok(Report {
        how,
        unchanged: plan.rows.len() - plan.changes(),
        groups: commits
            .into_iter()
            .map(|(group, offsets)| MovedGroup {
                group,
                partitions: offsets.len(),
            })
            .collect(),
    })
}

/// Why there is no transaction, in words for the report.
fn because(error: &crate::kafka::Error) -> String {
    match error.code() {
        Some(code) => format!("transactions are not allowed here: {code}"),
        None => error.to_string(),
    }
}

type Commits = BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>>;

/// One OffsetCommit per group. All groups are tried, and the error says which moved.
async fn per_group(target: &Client, commits: &Commits, because: &str) -> Result<()> {
    one_by_one(commits, because, |group, offsets| async move {
        target.commit_offsets(group, offsets).await
    })
    .await
}

/// One AlterShareGroupOffsets per group.
async fn share_groups(target: &Client, commits: &Commits) -> Result<()> {
    let because = "share groups know none";
    one_by_one(commits, because, |group, offsets| async move {
        target.alter_share_offsets(group, offsets).await
    })
    .await
}

async fn one_by_one<'c, F, Fut>(commits: &'c Commits, because: &str, change: F) -> Result<()>
where
    F: Fn(&'c String, &'c BTreeMap<TopicPartition, CommitWanted>) -> Fut,
    Fut: Future<Output = crate::kafka::Result<BTreeMap<TopicPartition, ErrorCode>>>,
{
    let mut moved = Vec::new();
    let mut failed = Vec::new();
    for (group, offsets) in commits {
        let why = match change(group, offsets).await {
            Ok(codes) => codes
                .into_iter()
                .find(|(_, code)| *code != ErrorCode::NONE)
                .map(|(partition, code)| refused(&partition.to_string(), code)),
            Err(error) => Some(error.to_string()),
        };
        match why {
            None => moved.push(group.clone()),
            Some(why) => failed.push(NotMoved {
                group: group.clone(),
                why,
            }),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::PartlyMoved {
            moved,
            failed,
            because: because.to_string(),
        })
    }
}

fn refused(partition: &str, code: ErrorCode) -> String {
    // The broker's word for "this group has members", which nobody would guess.
    if code == ErrorCode::UNKNOWN_MEMBER_ID {
        format!("{partition}: the group is active ({code})")
    } else {
        format!("{partition}: {code}")
    }
}

/// What each row replaces: as it was planned, or where members have moved it since.
pub async fn replaced<'p>(plan: &'p Plan, target: &Client) -> Result<Vec<Cow<'p, Row>>> {
    let rows = plan.rows.iter().filter(|row| plan.is_committed(row));
    let mut rows: Vec<Cow<'p, Row>> = rows.map(Cow::Borrowed).collect();
    if !plan.forced_groups().is_empty() {
        let current = current(plan, target).await?;
        for row in rows.iter_mut().filter(|row| plan.is_forced(row)) {
            let row = row.to_mut();
            let now = current.get(&row.group);
            let now = now.and_then(|offsets| offsets.get(&row.target_partition()));
            row.from = now.map(|committed| committed.offset);
            row.from_metadata = now.map(|committed| committed.metadata.clone());
        }
    }
    Ok(rows)
}

/// Compares every row with what the target says now; the first difference in each is enough to fail.
pub async fn read_back(plan: &Plan, target: &Client) -> Result<()> {
    let groups = plan.group_names();
    if groups.is_empty() {
        return Ok(());
    }
    let rows = differences(plan, &current(plan, target).await?);
    if rows.is_empty() {
        Ok(())
    } else {
        Err(Error::ReadBack { rows })
    }
}

fn differences(plan: &Plan, current: &Current) -> Vec<Difference> {
    let mut rows = Vec::new();
    for row in &plan.rows {
        let Ok(wanted) = row.target else { continue };
        let partition = row.target_partition();
        let found = current
            .get(&row.group)
            .and_then(|offsets| offsets.get(&partition));
        let right = found.is_some_and(|found| found.offset == wanted);
        // A row that was right from the start is not written, so its metadata stays what it was.
        let metadata_right =
            !plan.is_committed(row) || found.is_some_and(|found| found.metadata == row.metadata);
        if !right || !metadata_right {
            rows.push(Difference {
                group: row.group.clone(),
                partition,
                wanted,
                found: found.map(|found| found.offset),
                metadata_only: right,
            });
        }
    }
    rows
}

/// After a crash: what of the plan has happened. Only rows that the plan changes tell anything.
pub async fn reconcile(plan: &Plan, target: &Client) -> Result<Reconciled> {
    Ok(judge(plan, &current(plan, target).await?))
}

/// What is left of a plan that was carried out in part: rows that were moved already are at their target now.
pub async fn remaining(plan: &Plan, target: &Client) -> Result<Plan> {
    let current = current(plan, target).await?;
    let mut left = plan.clone();
    for row in &mut left.rows {
        let partition = row.target_partition();
        let found = current
            .get(&row.group)
            .and_then(|offsets| offsets.get(&partition))
            .map(|committed| committed.offset);
        if row.target.as_ref().ok() == found.as_ref() {
            row.from = found;
        }
    }
    Ok(left)
}

fn judge(plan: &Plan, current: &Current) -> Reconciled {
    let (mut moved, mut left) = (0, 0);
    let mut foreign = Vec::new();
    for row in &plan.rows {
        let Ok(wanted) = row.target else { continue };
        let partition = row.target_partition();
        let found: Option<Offset> = current
            .get(&row.group)
            .and_then(|offsets| offsets.get(&partition))
            .map(|committed| committed.offset);
        if found == Some(wanted) {
            moved += usize::from(plan.is_committed(row));
        } else if found == row.from || plan.is_forced(row) {
            left += 1;
        } else {
            foreign.push(Difference {
                group: row.group.clone(),
                partition,
                wanted,
                found,
                metadata_only: false,
            });
        }
    }
    match (foreign.is_empty(), moved, left) {
        (false, _, _) => Reconciled::Foreign { rows: foreign },
        (true, _, 0) => Reconciled::Done,
        (true, 0, _) => Reconciled::NotDone,
        (true, moved, left) => Reconciled::Partial { moved, left },
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
