//! The committed offsets of the selected groups, as the archive keeps them.

use super::plan::PlanGroups;
use crate::archive::{GroupEntry, GroupOffset, Groups};
use crate::base::TopicId;
use crate::base::text::counted;
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client};
use std::collections::BTreeMap;

/// The kind of a group whose members share the partitions.
const SHARE: &str = "share";

/// What was read, and which groups could not be.
#[derive(Debug, Default)]
pub(super) struct GroupsRead {
    pub groups: Groups,
    /// The names of all groups that the cluster lists.
    pub listed: Vec<String>,
    pub failures: Vec<String>,
    pub notes: Vec<String>,
}

/// Reads state and committed offsets of every selected group. Offsets of a transaction that is still open are not
/// committed: the ones before them are read, which at worst means reading some records again.
pub(super) async fn read(
    client: &Client,
    wanted: &PlanGroups,
    topic_ids: &BTreeMap<String, TopicId>,
) -> Result<GroupsRead> {
    let selection = wanted
        .selection()
        .map_err(|error| Error::Internal(error.to_string()))?;
    let mut read = GroupsRead::default();
    let mut wanted: BTreeMap<String, kafka::GroupListing> = BTreeMap::new();
    for group in client.list_groups().await? {
        read.listed.push(group.group.clone());
        if selection.takes(&group.group) {
            wanted.insert(group.group.clone(), group);
        }
    }
    // Share groups keep their positions elsewhere and have no committed offsets (KIP-932).
    let (shared, names): (Vec<String>, Vec<String>) = wanted
        .values()
        .map(|listing| listing.group.clone())
        .partition(|name| wanted.get(name).is_some_and(|group| group.kind == SHARE));
    if !shared.is_empty() {
        read.notes.push(format!(
            "{} noted without positions: share groups commit no offsets",
            counted(shared.len() as i128, "share group")
        ));
    }
    let mut committed = match names.is_empty() {
        true => BTreeMap::new(),
        false => client.committed_offsets(&names, false).await?,
    };
    for (name, listing) in wanted {
        let offsets = match committed.remove(&name) {
            Some(Ok(offsets)) => offsets,
            Some(Err(error)) => {
                read.failures.push(format!("group {name}: {error}"));
                continue;
            }
            None => BTreeMap::new(),
        };
        let offsets = offsets
            .into_iter()
            .map(|(at, committed)| GroupOffset {
                topic_id: topic_ids.get(&at.topic).copied(),
                topic: at.topic,
                partition: at.partition,
                offset: committed.offset,
                leader_epoch: Some(committed.leader_epoch).filter(|epoch| *epoch >= 0),
                metadata: committed.metadata,
            })
            .collect();
        read.groups.groups.push(GroupEntry {
            group: name,
            state: listing.state,
            protocol_type: listing.protocol_type,
            kind: listing.kind,
            offsets,
        });
    }
    Ok(read)
}
