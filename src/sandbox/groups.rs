//! Consumer groups of the classic protocol: committed offsets, members, rebalances.
//!
//! The coordinator's part without the network: handlers in `api/` call these under the cluster's lock and wait for
//! changes outside it. Sessions and rebalances end by time in [`Group::expire`].

use super::CommittedOffset;
use super::codes;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A partition by topic name and number.
pub(super) type Partition = (String, i32);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum GroupState {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// As DescribeGroups spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// Supported assignors with what the member told each, in its order of preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    /// Whether a JoinGroup of it waits for the rebalance under way.
    pub joining: bool,
    deadline: Instant,
}

/// What a member brings when it joins.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
}

/// A committed offset and when it was written, compared with others of the group.
#[derive(Clone, Debug)]
struct Written {
    offset: CommittedOffset,
    order: u64,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub state: GroupState,
    pub protocol_type: String,
    pub protocol: String,
    pub generation: i32,
    pub leader: String,
    pub members: BTreeMap<String, Member>,
    /// Ids handed out with MEMBER_ID_REQUIRED that have not joined yet.
    pub promised: BTreeSet<String>,
    offsets: BTreeMap<Partition, Written>,
    /// Offsets of open transactions, by producer id.
    pending: BTreeMap<i64, BTreeMap<Partition, Written>>,
    writes: u64,
    rebalance_ends: Option<Instant>,
}

impl Group {
    pub(super) fn is_active(&self) -> bool {
        !self.members.is_empty()
    }

    pub(super) fn committed(&self, partition: &Partition) -> Option<&CommittedOffset> {
        self.offsets.get(partition).map(|written| &written.offset)
    }

    pub(super) fn all_committed(&self) -> impl Iterator<Item = (&Partition, &CommittedOffset)> {
        self.offsets
            .iter()
            .map(|(partition, written)| (partition, &written.offset))
    }

    /// Whether an open transaction has an offset for this partition.
    pub(super) fn has_pending(&self, partition: &Partition) -> bool {
        self.pending
            .values()
            .any(|offsets| offsets.contains_key(partition))
    }

    pub(super) fn commit(&mut self, partition: Partition, offset: CommittedOffset) {
        self.writes += 1;
        let written = Written {
            offset,
            order: self.writes,
        };
        self.offsets.insert(partition, written);
    }

    pub(super) fn commit_pending(
        &mut self,
        producer_id: i64,
        partition: Partition,
        offset: CommittedOffset,
    ) {
        self.writes += 1;
        let written = Written {
            offset,
            order: self.writes,
        };
        self.pending
            .entry(producer_id)
            .or_default()
            .insert(partition, written);
    }

    /// Applies or drops what a transaction has committed. A plain commit that came later than the transaction's own
    /// wins over it.
    pub(super) fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        let Some(pending) = self.pending.remove(&producer_id) else {
            return;
        };
        if !commit {
            return;
        }
        for (partition, written) in pending {
            let later = self
                .offsets
                .get(&partition)
                .is_some_and(|present| present.order > written.order);
            if !later {
                self.offsets.insert(partition, written);
            }
        }
    }

    /// Deletes a committed offset; one of an open transaction comes with its end.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.offsets.remove(partition);
    }

    pub(super) fn forget_topic(&mut self, topic: &str) {
        self.offsets.retain(|(name, _), _| name != topic);
        for pending in self.pending.values_mut() {
            pending.retain(|(name, _), _| name != topic);
        }
    }

    /// Whether this caller may commit offsets: `Ok` or the code to answer.
    pub(super) fn check_commit(
        &mut self,
        member_id: &str,
        generation: i32,
        transactional: bool,
    ) -> Result<(), i16> {
        // Admin tools and consumers that manage their own assignment come without a generation.
        if generation < 0 && member_id.is_empty() {
            return if transactional || !self.is_active() {
                Ok(())
            } else {
                Err(codes::UNKNOWN_MEMBER_ID)
            };
        }
        if generation < 0 && !self.is_active() {
            return Ok(());
        }
        self.check_member(member_id, generation)?;
        if self.state == GroupState::CompletingRebalance && !transactional {
            return Err(codes::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    fn check_member(&mut self, member_id: &str, generation: i32) -> Result<(), i16> {
        let Some(member) = self.members.get_mut(member_id) else {
            return Err(codes::UNKNOWN_MEMBER_ID);
        };
        if generation != self.generation {
            return Err(codes::ILLEGAL_GENERATION);
        }
        member.deadline = Instant::now() + member.session_timeout;
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), i16> {
        self.check_member(member_id, generation)?;
        if self.state == GroupState::PreparingRebalance {
            return Err(codes::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Whether some assignor is supported by all members and by this one.
    pub(super) fn agrees(&self, joining: &Joining) -> bool {
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, _)| **id != joining.member_id)
            .map(|(_, member)| member)
            .collect();
        if !others.is_empty() && self.protocol_type != joining.protocol_type {
            return false;
        }
        joining.protocols.iter().any(|(name, _)| {
            others
                .iter()
                .all(|member| member.protocols.iter().any(|(other, _)| other == name))
        })
    }

    /// Takes a member in, or in again. True if it must wait for a rebalance, false if nothing changed for it.
    pub(super) fn join(&mut self, joining: Joining) -> bool {
        let now = Instant::now();
        self.promised.remove(&joining.member_id);
        let unchanged = self
            .members
            .get(&joining.member_id)
            .is_some_and(|known| known.protocols == joining.protocols);
        let settled =
            self.state == GroupState::Stable || self.state == GroupState::CompletingRebalance;
        if unchanged && settled && self.leader != joining.member_id {
            return false;
        }
        self.protocol_type = joining.protocol_type;
        let assignment = self
            .members
            .get(&joining.member_id)
            .map(|known| known.assignment.clone())
            .unwrap_or_default();
        self.members.insert(
            joining.member_id,
            Member {
                instance_id: joining.instance_id,
                client_id: joining.client_id,
                host: joining.host,
                session_timeout: joining.session_timeout,
                rebalance_timeout: joining.rebalance_timeout,
                protocols: joining.protocols,
                assignment,
                joining: true,
                deadline: now + joining.session_timeout,
            },
        );
        self.prepare_rebalance();
        self.try_complete(false);
        true
    }

    fn prepare_rebalance(&mut self) {
        if self.state == GroupState::PreparingRebalance {
            return;
        }
        self.state = GroupState::PreparingRebalance;
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default();
        self.rebalance_ends = Some(Instant::now() + longest);
    }

    /// Ends the rebalance when all members are back, or all that are back when its time is over.
    fn try_complete(&mut self, time_is_over: bool) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        if time_is_over {
            self.members.retain(|_, member| member.joining);
        } else if self.members.values().any(|member| !member.joining) {
            return;
        }
        self.generation += 1;
        self.rebalance_ends = None;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        self.state = GroupState::CompletingRebalance;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.protocol = self.vote();
        let now = Instant::now();
        for member in self.members.values_mut() {
            member.joining = false;
            member.assignment = Bytes::new();
            member.deadline = now + member.session_timeout;
        }
    }

    /// The first assignor of the leader that everyone supports.
    fn vote(&self) -> String {
        let Some(leader) = self.members.get(&self.leader) else {
            return String::new();
        };
        leader
            .protocols
            .iter()
            .map(|(name, _)| name)
            .find(|name| {
                self.members
                    .values()
                    .all(|member| member.protocols.iter().any(|(other, _)| other == *name))
            })
            .cloned()
            .unwrap_or_default()
    }

    /// What a member told the assignor in use.
    pub(super) fn metadata(&self, member: &Member) -> Bytes {
        member
            .protocols
            .iter()
            .find(|(name, _)| *name == self.protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Takes the leader's assignments, or only checks a follower.
    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<(), i16> {
        self.check_member(member_id, generation)?;
        match self.state {
            GroupState::Empty => Err(codes::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => Err(codes::REBALANCE_IN_PROGRESS),
            GroupState::Stable => Ok(()),
            GroupState::CompletingRebalance => {
                if member_id == self.leader {
                    for (id, assignment) in assignments {
                        if let Some(member) = self.members.get_mut(&id) {
                            member.assignment = assignment;
                        }
                    }
                    self.state = GroupState::Stable;
                }
                Ok(())
            }
        }
    }

    pub(super) fn leave(&mut self, member_id: &str) -> Result<(), i16> {
        if self.promised.remove(member_id) {
            return Ok(());
        }
        if self.members.remove(member_id).is_none() {
            return Err(codes::UNKNOWN_MEMBER_ID);
        }
        self.prepare_rebalance();
        self.try_complete(false);
        Ok(())
    }

    /// When the rebalance under way ends at the latest.
    pub(super) fn rebalance_ends(&self) -> Option<Instant> {
        self.rebalance_ends
    }

    /// Removes members whose session is over and ends a rebalance whose time is. True if anything changed.
    pub(super) fn expire(&mut self) -> bool {
        let now = Instant::now();
        let before = self.members.len();
        self.members
            .retain(|_, member| member.joining || member.deadline > now);
        let mut changed = self.members.len() != before;
        if changed {
            self.prepare_rebalance();
            self.try_complete(false);
        }
        if self.rebalance_ends.is_some_and(|end| end <= now) {
            self.try_complete(true);
            changed = true;
        }
        changed
    }
}
