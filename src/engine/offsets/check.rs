//! Is the world still as planned? Asked right before the commit, since the coordinator asks nothing (design §7, §10).

use super::error::{Drifted, Error, OutsideLog, Result};
use super::plan::Plan;
use super::resolve::{Current, topics_by_group};
use crate::base::{Offset, PartitionId, TopicPartition};
use crate::kafka::{Client, ErrorCode, GroupDescription, Isolation, LogEnds, Member};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A group with members that read a topic it would be moved on. Their next commit would overwrite the reset unseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveGroup {
    pub group: String,
    pub state: String,
    /// Client id and host of each member that reads the topics.
    pub members: Vec<(String, String)>,
    /// The topics of the plan that they read, or may read.
    pub reads: Vec<String>,
}

impl ActiveGroup {
    /// `checkout-7f9c (10.2.0.14), checkout-81aa (10.2.0.15), subscribed to orders_dr`
    pub fn members_text(&self) -> String {
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(client, host)| format!("{client} ({})", host.trim_start_matches('/')))
            .collect();
        match (members.is_empty(), self.reads.is_empty()) {
            (true, _) => format!("its state is {}", self.state),
            (false, true) => members.join(", "),
            (false, false) => format!(
                "{}, subscribed to {}",
                members.join(", "),
                self.reads.join(", ")
            ),
        }
    }
}

/// The groups of `wanted` (group → target topics) whose members read one of those topics.
pub(in crate::engine) fn active_groups(
    described: &[GroupDescription],
    wanted: &BTreeMap<&str, BTreeSet<&str>>,
) -> Vec<ActiveGroup> {
    let mut active = Vec::new();
    for description in described {
        let Some(topics) = wanted.get(description.group.as_str()) else {
            continue;
        };
        let mut reads: BTreeSet<&str> = BTreeSet::new();
        let mut members = Vec::new();
        for member in &description.members {
            let read = topics_read(member, topics);
            if !read.is_empty() {
                members.push((member.client_id.clone(), member.host.clone()));
                reads.extend(read);
            }
        }
        // Nobody may be in a share group when it is told where to start; and who is in a streams group is not told.
        let occupied = !["Empty", "Dead"].contains(&description.state.as_str());
        if occupied && matches!(description.kind.as_str(), "share" | "streams") {
            reads = topics.clone();
            let all = description.members.iter();
            members = all
                .map(|member| (member.client_id.clone(), member.host.clone()))
                .collect();
        }
        if !members.is_empty() || !reads.is_empty() {
            active.push(ActiveGroup {
                group: description.group.clone(),
                state: description.state.clone(),
                members,
                reads: reads.into_iter().map(str::to_string).collect(),
            });
        }
    }
    active
}

/// Which of `topics` a member reads. While a group rebalances, brokers do not tell what a member subscribes to: then
/// it may be any of them.
fn topics_read<'t>(member: &Member, topics: &BTreeSet<&'t str>) -> BTreeSet<&'t str> {
    if member.topics.is_empty() && member.assigned.is_empty() {
        return topics.clone();
    }
    topics
        .iter()
        .filter(|topic| {
            member.topics.iter().any(|name| name == *topic)
                || member.assigned.iter().any(|tp| tp.topic == **topic)
        })
        .copied()
        .collect()
}

/// Fails unless no group is active on the plan's topics, every committed offset is the planned `from`, and every
/// planned offset lies within the target's log as it is now.
pub async fn check(plan: &Plan, target: &Client) -> Result<()> {
    if plan.is_blocked() {
        return Err(Error::Blocked {
            count: plan.blocks().len(),
        });
    }
    let groups = plan.group_names();
    if groups.is_empty() {
        return Ok(());
    }
    // None of them needs another's answer.
    let (described, current, logs) = futures::join!(
        target.describe_groups(&groups),
        current(plan, target),
        logs(plan, target)
    );
    let described: std::result::Result<Vec<_>, _> = described?.into_values().collect();
    let mut active = active_groups(&described?, &topics_by_group(plan));
    let forced = plan.forced_groups();
    active.retain(|now| !forced.iter().any(|planned| planned.group == now.group));
    if !active.is_empty() {
        return Err(Error::GroupsActive { groups: active });
    }
    let drifted = drifted(plan, &current?);
    if !drifted.is_empty() {
        return Err(Error::Drift { rows: drifted });
    }
    let outside = outside(plan, &logs?);
    if !outside.is_empty() {
        return Err(Error::OutsideLog { rows: outside });
    }
    Ok(())
}

/// The groups' committed offsets, with transactions that are committing waited for.
pub(super) async fn committed(target: &Client, groups: &[String]) -> Result<Current> {
    let mut current = Current::new();
    for (group, offsets) in target.committed_offsets(groups, true).await? {
        current.insert(group, offsets?);
    }
    Ok(current)
}

fn drifted(plan: &Plan, current: &Current) -> Vec<Drifted> {
    let mut drifted = Vec::new();
    // Where members commit on and on, no planned place would hold.
    for row in plan.rows.iter().filter(|row| !plan.is_forced(row)) {
        let partition = row.target_partition();
        let found = current
            .get(&row.group)
            .and_then(|offsets| offsets.get(&partition))
            .map(|committed| committed.offset);
        if found != row.from {
            drifted.push(Drifted {
                group: row.group.clone(),
                partition,
                planned: row.from,
                found,
            });
        }
    }
    drifted
}

/// The same for a plan's groups, whatever they are: a share group has a place to start instead.
pub(super) async fn current(plan: &Plan, target: &Client) -> Result<Current> {
    let (share, others): (Vec<String>, Vec<String>) = plan
        .group_names()
        .into_iter()
        .partition(|group| plan.share.contains(group));
    let mut current = match others.is_empty() {
        true => Current::new(),
        false => committed(target, &others).await?,
    };
    if !share.is_empty() {
        for (group, offsets) in target.share_offsets(&share).await? {
            current.insert(group, offsets?);
        }
    }
    Ok(current)
}

type Logs = BTreeMap<TopicPartition, (Offset, Offset)>;

/// Log start and high watermark of every target partition.
async fn logs(plan: &Plan, target: &Client) -> Result<Logs> {
    let mut partitions: BTreeSet<(&str, PartitionId)> = BTreeSet::new();
    for (_, topic, rows) in plan.lines() {
        partitions.extend(rows.iter().map(|row| (topic, row.target_partition)));
    }
    let partitions = partitions.into_iter();
    let partitions = partitions.map(|(topic, partition)| TopicPartition::new(topic, partition));
    logs_of(&partitions.collect::<Vec<_>>(), target).await
}

/// Log start and high watermark of partitions; an error if one is not there.
pub(super) async fn logs_of(partitions: &[TopicPartition], target: &Client) -> Result<Logs> {
    let mut logs = Logs::new();
    let found = target.log_ends(partitions.iter().cloned(), Isolation::ReadUncommitted);
    for (partition, ends) in found.await? {
        match ends {
            Ok(LogEnds { start, end }) => drop(logs.insert(partition, (start, end))),
            Err(error) => {
                return Err(match error.code() {
                    Some(code) if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                        Error::NoTarget { partition, code }
                    }
                    _ => Error::Kafka(error),
                });
            }
        }
    }
    Ok(logs)
}

fn outside(plan: &Plan, logs: &Logs) -> Vec<OutsideLog> {
    let mut outside = Vec::new();
    for row in &plan.rows {
        let partition = row.target_partition();
        let (Ok(target), Some(&(log_start, log_end))) = (&row.target, logs.get(&partition)) else {
            continue;
        };
        if *target < log_start || *target > log_end {
            outside.push(OutsideLog {
                group: row.group.clone(),
                partition,
                target: *target,
                log_start,
                log_end,
            });
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: Vec<Member>) -> GroupDescription {
        GroupDescription {
            group: "checkout".into(),
            state: "Stable".into(),
            kind: "classic".into(),
            protocol_type: "consumer".into(),
            coordinator: 1,
            members,
        }
    }

    fn member(client_id: &str, topics: &[&str], assigned: &[(&str, i32)]) -> Member {
        Member {
            member_id: format!("{client_id}-id"),
            client_id: client_id.into(),
            host: "/10.2.0.14".into(),
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            assigned: assigned
                .iter()
                .map(|(topic, partition)| TopicPartition::new(*topic, *partition))
                .collect(),
        }
    }

    fn active_on(members: Vec<Member>) -> Vec<ActiveGroup> {
        let wanted = BTreeMap::from([("checkout", BTreeSet::from(["orders_dr", "payments"]))]);
        active_groups(&[group(members)], &wanted)
    }

    #[test]
    fn a_group_counts_as_active_only_on_topics_its_members_read() {
        assert_eq!(active_on(vec![]), []);
        assert_eq!(active_on(vec![member("a", &["orders"], &[])]), []);
        let active = active_on(vec![
            member("a", &["orders_dr"], &[]),
            member("b", &["other"], &[("other", 0)]),
            // Manual assignment within a group has no subscription.
            member("c", &[], &[("payments", 1)]),
        ]);
        assert_eq!(
            active[0].members_text(),
            "a (10.2.0.14), c (10.2.0.14), subscribed to orders_dr, payments"
        );
    }

    #[test]
    fn a_member_that_tells_nothing_may_read_everything() {
        let active = active_on(vec![member("a", &[], &[])]);
        assert_eq!(active[0].reads, ["orders_dr", "payments"]);
    }
}
