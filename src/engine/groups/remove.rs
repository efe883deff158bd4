//! Taking committed offsets from groups, or whole groups with everything they have committed.
//!
//! The coordinator knows no transaction for either: each group is changed by a call of its own, so that an interruption
//! may leave some changed and others not. What is there is planned with its value, compared right before the call, and
//! journalled by the step, so that it can be put back.

use crate::base::{Offset, PartitionId, Selection, TopicPartition};
use crate::engine::offsets::{
    ActiveGroup, Blocked, Drifted, Error, NotMoved, Options, Reason, Result, active_groups,
};
use crate::kafka::{Client, Committed, ErrorCode, GroupDescription, GroupListing, TopicsWanted};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The states of a group without members: it can be deleted.
const WITHOUT_MEMBERS: [&str; 2] = ["Empty", "Dead"];
const DEAD: &str = "Dead";

/// What is taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub cluster_id: String,
    /// The groups go as a whole; else only these offsets of theirs.
    pub whole: bool,
    /// Sorted by name.
    pub groups: Vec<RemovedGroup>,
    pub blocked: Vec<Blocked>,
    /// Those of them that are share groups: what they lose is where they start.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub share: BTreeSet<String>,
}

/// A group, and what it has committed that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedGroup {
    pub group: String,
    /// As the coordinator said it: `Empty`.
    pub state: String,
    /// Sorted by topic and partition.
    pub offsets: Vec<RemovedOffset>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedOffset {
    pub topic: String,
    pub partition: PartitionId,
    pub offset: Offset,
    pub metadata: String,
}

/// How far an interrupted removal came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    All,
    Nothing,
    Partly { gone: usize, left: usize },
    Foreign(Vec<Drifted>),
}

impl RemovedOffset {
    pub fn place(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }
}

impl Removal {
    /// Only these offsets, by group, as they are found there.
    pub fn of_offsets(
        cluster_id: &str,
        offsets: impl IntoIterator<Item = (String, TopicPartition, Committed)>,
    ) -> Self {
        let mut groups: BTreeMap<String, Vec<RemovedOffset>> = BTreeMap::new();
        for (group, at, committed) in offsets {
            groups
                .entry(group)
                .or_default()
                .push(removed(at, &committed));
        }
        Self {
            cluster_id: cluster_id.to_string(),
            whole: false,
            groups: groups
                .into_iter()
                .map(|(group, mut offsets)| {
                    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
                    RemovedGroup {
                        group,
                        state: String::new(),
                        offsets,
                    }
                })
                .collect(),
            blocked: Vec::new(),
            share: BTreeSet::new(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.groups.iter().map(|one| one.group.clone()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.blocked.is_empty()
    }

    /// How many offsets go.
    pub fn offsets(&self) -> usize {
        self.groups.iter().map(|one| one.offsets.len()).sum()
    }

    fn places(&self) -> impl Iterator<Item = (&str, &RemovedOffset)> {
        self.groups
            .iter()
            .flat_map(|one| one.offsets.iter().map(|at| (one.group.as_str(), at)))
    }

    /// The topics that each group is about to lose its offsets of.
    fn topics_by_group(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut topics: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (group, at) in self.places() {
            topics.entry(group).or_default().insert(&at.topic);
        }
        topics
    }

    /// Adds what stands in the way because of members that are there now.
    pub async fn block_what_is_active(&mut self, client: &Client) -> Result<()> {
        let described = described(client, &self.names()).await?;
        for active in self.active(&described) {
            let blocked = Blocked::new(
                Reason::GroupActive,
                format!(
                    "group {} is active: {}",
                    active.group,
                    active.members_text()
                ),
                match self.whole {
                    true => {
                        "only a group without members can be deleted: stop its consumers and run the same command again"
                    }
                    false => {
                        "a member would go on committing there: stop its consumers and run the same command again"
                    }
                },
            );
            self.blocked.push(blocked.of_group(&active.group));
        }
        Ok(())
    }

    fn active(&self, described: &[GroupDescription]) -> Vec<ActiveGroup> {
        if !self.whole {
            return active_groups(described, &self.topics_by_group());
        }
        described
            .iter()
            .filter(|group| !WITHOUT_MEMBERS.contains(&group.state.as_str()))
            .map(|group| {
                let members = group.members.iter();
                let reads: BTreeSet<&String> =
                    members.clone().flat_map(|one| &one.topics).collect();
                ActiveGroup {
                    group: group.group.clone(),
                    state: group.state.clone(),
                    members: members
                        .map(|one| (one.client_id.clone(), one.host.clone()))
                        .collect(),
                    reads: reads.into_iter().cloned().collect(),
                }
            })
            .collect()
    }
}

fn removed(at: TopicPartition, committed: &Committed) -> RemovedOffset {
    RemovedOffset {
        topic: at.topic,
        partition: at.partition,
        offset: committed.offset,
        metadata: committed.metadata.clone(),
    }
}

async fn described(client: &Client, names: &[String]) -> Result<Vec<GroupDescription>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let described = client.describe_groups(names).await?;
    described
        .into_values()
        .map(|group| group.map_err(Error::Kafka))
        .collect()
}

type Current = BTreeMap<String, BTreeMap<TopicPartition, Committed>>;

/// What groups have committed; where share groups start.
async fn committed(client: &Client, names: &[String], share: &BTreeSet<String>) -> Result<Current> {
    let (share, others): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| share.contains(name));
    let mut current = Current::new();
    if !others.is_empty() {
        for (group, offsets) in client.committed_offsets(&others, true).await? {
            current.insert(group, offsets?);
        }
    }
    if !share.is_empty() {
        for (group, offsets) in client.share_offsets(&share).await? {
            current.insert(group, offsets?);
        }
    }
    Ok(current)
}

/// What a selection of groups names, which of them are share groups, and what it names in vain.
struct Selected {
    names: Vec<String>,
    share: BTreeSet<String>,
    blocked: Vec<Blocked>,
}

async fn selected(client: &Client, groups: &Selection) -> Result<Selected> {
    let listed = client.list_groups().await?;
    let (mut names, mut blocked) = named(&listed, groups);
    let mut share: BTreeSet<String> = listed
        .into_iter()
        .filter(|group| group.kind.eq_ignore_ascii_case("share"))
        .map(|group| group.group)
        .filter(|name| names.contains(name))
        .collect();
    if !share.is_empty() {
        let all: Vec<String> = share.iter().cloned().collect();
        for (group, offsets) in client.share_offsets(&all).await? {
            // Without them nothing would bring it back.
            if let Err(crate::kafka::Error::Unsupported { .. }) = offsets {
                let refused = Blocked::new(
                    Reason::ShareGroup,
                    format!(
                        "{group} is a share group, and this cluster does not tell where it starts (Kafka 4.2 does)"
                    ),
                    "leave it out of the selection",
                );
                blocked.push(refused.of_group(&group));
                share.remove(&group);
                names.retain(|name| *name != group);
            }
        }
    }
    Ok(Selected {
        names,
        share,
        blocked,
    })
}

fn named(listed: &[GroupListing], groups: &Selection) -> (Vec<String>, Vec<Blocked>) {
    if groups.include.is_empty() {
        let what = "no group is chosen: what is deleted is named".to_string();
        let blocked = Blocked::new(Reason::NothingSelected, what, "say which groups");
        return (Vec::new(), vec![blocked]);
    }
    let known: Vec<&str> = listed.iter().map(|group| group.group.as_str()).collect();
    let blocked: Vec<Blocked> = groups
        .unmatched(&known)
        .into_iter()
        .map(|pattern| {
            let text = pattern.text();
            let near = crate::base::text::did_you_mean(text, known.iter().copied());
            let what = match near {
                Some(near) => format!("no group is called {text}; did you mean {near}?"),
                None => format!("no group matches {text}"),
            };
            let hint = "kbr groups NAME lists them";
            Blocked::new(Reason::NothingSelected, what, hint)
        })
        .collect();
    let names = known.iter().filter(|name| groups.takes(name));
    let names = names.map(|name| name.to_string()).collect();
    (names, blocked)
}

/// Plans to delete whole groups.
pub async fn plan_groups(client: &Client, groups: &Selection) -> Result<Removal> {
    let Selected {
        names,
        share,
        blocked,
    } = selected(client, groups).await?;
    let mut current = committed(client, &names, &share).await?;
    let mut states: BTreeMap<String, String> = described(client, &names)
        .await?
        .into_iter()
        .map(|group| (group.group, group.state))
        .collect();
    let mut removal = Removal {
        cluster_id: client.cluster_id().to_string(),
        whole: true,
        groups: names
            .into_iter()
            .map(|group| {
                let offsets = current.remove(&group).unwrap_or_default();
                RemovedGroup {
                    state: states.remove(&group).unwrap_or_default(),
                    offsets: offsets
                        .into_iter()
                        .map(|(at, one)| removed(at, &one))
                        .collect(),
                    group,
                }
            })
            .collect(),
        blocked,
        share,
    };
    removal.block_what_is_active(client).await?;
    Ok(removal)
}

/// Plans to delete the committed offsets that the options select: groups, topics, partitions.
pub async fn plan_offsets(client: &Client, options: &Options) -> Result<Removal> {
    let Selected {
        names,
        share,
        mut blocked,
    } = selected(client, &options.groups).await?;
    let current = committed(client, &names, &share).await?;
    let takes = |at: &TopicPartition| {
        options.topics.takes(&at.topic) && options.takes_partition(&at.topic, at.partition)
    };
    for group in &share {
        let places = || current.get(group).into_iter().flatten().map(|(at, _)| at);
        let topics: BTreeSet<&String> = places()
            .filter(|at| takes(at))
            .map(|at| &at.topic)
            .collect();
        for topic in topics {
            if places().any(|at| at.topic == *topic && !takes(at)) {
                let refused = Blocked::new(
                    Reason::ShareGroup,
                    format!(
                        "{group} is a share group, which loses where it starts on all partitions of {topic} or on none"
                    ),
                    "choose all partitions of the topic",
                );
                blocked.push(refused.of_group(group));
            }
        }
    }
    let mut known: BTreeSet<TopicPartition> = BTreeSet::new();
    for topic in client.topics(TopicsWanted::All).await? {
        let partitions = topic.partitions.iter().map(|one| one.id);
        known.extend(partitions.map(|id| TopicPartition::new(topic.name.clone(), id)));
    }
    let all: BTreeSet<&str> = current
        .values()
        .flat_map(|offsets| offsets.keys().map(|at| at.topic.as_str()))
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    for pattern in options.topics.unmatched(&all) {
        let what = format!(
            "no selected group has committed anything on {}",
            pattern.text()
        );
        let hint = "check the topics: kbr lag NAME";
        blocked.push(Blocked::new(Reason::NothingSelected, what, hint));
    }
    let mut offsets = Vec::new();
    for (group, at, one) in current
        .into_iter()
        .flat_map(|(group, offsets)| {
            offsets
                .into_iter()
                .map(move |(at, one)| (group.clone(), at, one))
        })
        .filter(|(_, at, _)| takes(at))
    {
        match known.contains(&at) {
            true => offsets.push((group, at, one)),
            false => {
                let what = format!(
                    "{at}: the cluster has no such partition, and then deletes no offset of {group} there"
                );
                let hint = "leave its topic out, or delete the whole group";
                let unplaced = Blocked::new(Reason::NoSuchPartition, what, hint);
                blocked.push(unplaced.of_group(&group));
            }
        }
    }
    if offsets.is_empty() && blocked.is_empty() {
        blocked.push(Blocked::new(
            Reason::NothingSelected,
            "no selected group has a committed offset on a selected topic".to_string(),
            "check the groups, the topics and the partitions",
        ));
    }
    let mut removal = Removal {
        blocked,
        share,
        ..Removal::of_offsets(client.cluster_id(), offsets)
    };
    removal.block_what_is_active(client).await?;
    Ok(removal)
}

/// Fails unless everything is there as planned, and nobody is active.
pub async fn check_removal(removal: &Removal, client: &Client) -> Result<()> {
    if !removal.blocked.is_empty() {
        let count = removal.blocked.len();
        return Err(Error::Blocked { count });
    }
    let names = removal.names();
    let groups = removal.active(&described(client, &names).await?);
    if !groups.is_empty() {
        return Err(Error::GroupsActive { groups });
    }
    let current = committed(client, &names, &removal.share).await?;
    let mut rows = Vec::new();
    for one in &removal.groups {
        let none = BTreeMap::new();
        let found = current.get(&one.group).unwrap_or(&none);
        let mut planned = BTreeSet::new();
        for at in &one.offsets {
            let now = found.get(&at.place()).map(|committed| committed.offset);
            if now != Some(at.offset) {
                rows.push(drifted(&one.group, at, now));
            }
            planned.insert(at.place());
        }
        // What was committed since would go unseen, and be in no journal.
        let more = found.iter().filter(|(at, _)| !planned.contains(at));
        rows.extend(
            more.filter(|_| removal.whole)
                .map(|(at, committed)| Drifted {
                    group: one.group.clone(),
                    partition: at.clone(),
                    planned: None,
                    found: Some(committed.offset),
                }),
        );
    }
    match rows.is_empty() {
        true => Ok(()),
        false => Err(Error::Drift { rows }),
    }
}

fn drifted(group: &str, at: &RemovedOffset, found: Option<Offset>) -> Drifted {
    Drifted {
        group: group.to_string(),
        partition: at.place(),
        planned: Some(at.offset),
        found,
    }
}

/// Takes it away, and reads back that it is gone. [`check_removal`] comes right before. All groups are tried.
pub async fn remove(removal: &Removal, client: &Client) -> Result<()> {
    let mut failed = match removal.whole {
        true => delete_groups(removal, client).await?,
        false => delete_offsets(removal, client).await,
    };
    let current = committed(client, &removal.names(), &removal.share).await?;
    for (group, at) in removal.places() {
        let found = current
            .get(group)
            .and_then(|offsets| offsets.get(&at.place()));
        if let Some(found) = found
            && !failed.iter().any(|known| known.group == group)
        {
            failed.push(NotMoved {
                group: group.to_string(),
                why: format!("{} reads back as {}", at.place(), found.offset),
            });
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let mut removed = removal.names();
    removed.retain(|group| !failed.iter().any(|known| known.group == *group));
    Err(Error::PartlyRemoved { removed, failed })
}

async fn delete_groups(removal: &Removal, client: &Client) -> Result<Vec<NotMoved>> {
    let deleted = client.delete_groups(&removal.names()).await?;
    let mut failed = Vec::new();
    for (group, outcome) in deleted {
        match outcome {
            Ok(()) => {}
            // Gone by itself meanwhile: a group without offsets lasts only as long as its members.
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {}
            Err(error) => failed.push(NotMoved {
                group,
                why: error.to_string(),
            }),
        }
    }
    Ok(failed)
}

async fn delete_offsets(removal: &Removal, client: &Client) -> Vec<NotMoved> {
    let mut failed = Vec::new();
    for one in &removal.groups {
        if removal.share.contains(&one.group) {
            failed.extend(delete_share_offsets(one, client).await);
            continue;
        }
        let places: Vec<TopicPartition> = one.offsets.iter().map(RemovedOffset::place).collect();
        let why = match client.delete_offsets(&one.group, &places).await {
            Ok(codes) => codes
                .into_iter()
                .find(|(_, code)| !code.is_ok())
                .map(|(at, code)| format!("{at}: {code}")),
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => None,
            Err(error) => Some(error.to_string()),
        };
        failed.extend(why.map(|why| NotMoved {
            group: one.group.clone(),
            why,
        }));
    }
    failed
}

async fn delete_share_offsets(one: &RemovedGroup, client: &Client) -> Option<NotMoved> {
    let topics: BTreeSet<String> = one.offsets.iter().map(|at| at.topic.clone()).collect();
    let why = match client.delete_share_offsets(&one.group, &topics).await {
        Ok(codes) => {
            let mut failed = codes.into_iter().filter(|(_, code)| !code.is_ok());
            failed
                .next()
                .map(|(topic, code)| format!("{topic}: {code}"))
        }
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => None,
        Err(error) => Some(error.to_string()),
    };
    why.map(|why| NotMoved {
        group: one.group.clone(),
        why,
    })
}

/// What is left of a removal that was carried out in part.
pub async fn left_of(removal: &Removal, client: &Client) -> Result<Removal> {
    let names = removal.names();
    let current = committed(client, &names, &removal.share).await?;
    let gone = gone(removal, client, &names).await?;
    let mut left = removal.clone();
    for one in &mut left.groups {
        let found = current.get(&one.group);
        one.offsets
            .retain(|at| found.is_some_and(|found| found.contains_key(&at.place())));
    }
    left.groups
        .retain(|one| !one.offsets.is_empty() || (left.whole && !gone.contains(&one.group)));
    Ok(left)
}

/// The groups that are not there any more.
async fn gone(removal: &Removal, client: &Client, names: &[String]) -> Result<BTreeSet<String>> {
    if !removal.whole {
        return Ok(BTreeSet::new());
    }
    let described = described(client, names).await?.into_iter();
    Ok(described
        .filter(|group| group.state == DEAD)
        .map(|group| group.group)
        .collect())
}

/// After a crash: what of it has happened.
pub async fn reconcile_removal(removal: &Removal, client: &Client) -> Result<Removed> {
    let names = removal.names();
    let current = committed(client, &names, &removal.share).await?;
    let gone = gone(removal, client, &names).await?;
    let (mut away, mut left, mut foreign) = (0, 0, Vec::new());
    for one in &removal.groups {
        let found = current.get(&one.group);
        for at in &one.offsets {
            match found.and_then(|found| found.get(&at.place())) {
                None => away += 1,
                Some(now) if now.offset == at.offset => left += 1,
                Some(now) => foreign.push(drifted(&one.group, at, Some(now.offset))),
            }
        }
        if removal.whole && one.offsets.is_empty() {
            match gone.contains(&one.group) {
                true => away += 1,
                false => left += 1,
            }
        }
    }
    Ok(match (foreign.is_empty(), away, left) {
        (false, ..) => Removed::Foreign(foreign),
        (true, _, 0) => Removed::All,
        (true, 0, _) => Removed::Nothing,
        (true, gone, left) => Removed::Partly { gone, left },
    })
}
