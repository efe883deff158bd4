//! The committed offsets of the selected groups, as the archive keeps them.

use super::plan::PlanGroups;
use crate::archive::{GroupEntry, GroupOffset, Groups};
use crate::base::TopicId;
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Client};
use std::collections::BTreeMap;

/// What was read, and which groups could not be.
#[derive(Debug, Default)]
pub(super) struct GroupsRead {
    pub groups: Groups,
    pub failures: Vec<String>,
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
    let listed: BTreeMap<String, kafka::GroupListing> = client
        .list_groups()
        .await?
        .into_iter()
        // Share groups keep no committed offsets of this kind.
        .filter(|group| selection.takes(&group.group) && group.kind != "share")
        .map(|group| (group.group.clone(), group))
        .collect();
    let names: Vec<String> = listed.keys().cloned().collect();
    let mut read = GroupsRead::default();
    if names.is_empty() {
        return Ok(read);
    }
    let mut committed = client.committed_offsets(&names, false).await?;
    for (name, listing) in listed {
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
