//! OffsetFetch: v1–v9, one group up to v7, several from v8. A group nobody knows has no offsets, which is no error.
//! With `require_stable` a partition that an open transaction has an offset for answers 88.

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::groups::{Group, Partition};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use std::collections::BTreeMap;

/// Offset, leader epoch, metadata, code.
type Found = (i64, i32, String, i16);

impl Api for OffsetFetchRequest {
    async fn serve(self, cx: &Context<'_>) -> OffsetFetchResponse {
        let state = cx.cluster.state();
        answer(self, cx, |group, wanted, stable| {
            cx.check_coordinator(&state, group)?;
            Ok(fetch(&state, group, wanted, stable))
        })
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> OffsetFetchResponse {
        answer(self, cx, |_, _, _| Err(code))
    }
}

fn fetch(
    state: &State,
    group: &str,
    wanted: Option<Vec<Partition>>,
    require_stable: bool,
) -> BTreeMap<String, Vec<(i32, Found)>> {
    let group = state.groups.get(group);
    let partitions = wanted.unwrap_or_else(|| {
        group
            .into_iter()
            .flat_map(Group::all_committed)
            .map(|(partition, _)| partition.clone())
            .collect()
    });
    let mut topics: BTreeMap<String, Vec<(i32, Found)>> = BTreeMap::new();
    for partition in partitions {
        let found = match group {
            Some(group) if require_stable && group.has_pending(&partition) => {
                none(codes::UNSTABLE_OFFSET_COMMIT)
            }
            Some(group) => match group.committed(&partition) {
                Some(committed) => (
                    committed.offset.0,
                    committed.leader_epoch,
                    committed.metadata.clone(),
                    codes::NONE,
                ),
                None => none(codes::NONE),
            },
            None => none(codes::NONE),
        };
        topics
            .entry(partition.0)
            .or_default()
            .push((partition.1, found));
    }
    topics
}

fn none(code: i16) -> Found {
    (-1, -1, String::new(), code)
}

fn answer(
    request: OffsetFetchRequest,
    cx: &Context<'_>,
    fetch: impl Fn(
        &str,
        Option<Vec<Partition>>,
        bool,
    ) -> Result<BTreeMap<String, Vec<(i32, Found)>>, i16>,
) -> OffsetFetchResponse {
    if cx.version >= 8 {
        let groups = request
            .groups
            .iter()
            .map(|group| {
                let wanted = group.topics.as_ref().map(|topics| {
                    flatten(
                        topics
                            .iter()
                            .map(|topic| (&topic.name, &topic.partition_indexes)),
                    )
                });
                let response =
                    OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                match fetch(&group.group_id, wanted, request.require_stable) {
                    Err(code) => response.with_error_code(code),
                    Ok(found) => response.with_topics(found.into_iter().map(many).collect()),
                }
            })
            .collect();
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let wanted = request.topics.as_ref().map(|topics| {
        flatten(
            topics
                .iter()
                .map(|topic| (&topic.name, &topic.partition_indexes)),
        )
    });
    let all = wanted.clone().unwrap_or_default();
    match fetch(&request.group_id, wanted, request.require_stable) {
        Ok(found) => {
            OffsetFetchResponse::default().with_topics(found.into_iter().map(single).collect())
        }
        // Version 1 has no code of its own: every partition carries it.
        Err(code) if cx.version < 2 => {
            let mut topics: BTreeMap<String, Vec<(i32, Found)>> = BTreeMap::new();
            for (topic, index) in all {
                topics.entry(topic).or_default().push((index, none(code)));
            }
            OffsetFetchResponse::default().with_topics(topics.into_iter().map(single).collect())
        }
        Err(code) => OffsetFetchResponse::default().with_error_code(code),
    }
}

fn flatten<'a>(topics: impl Iterator<Item = (&'a TopicName, &'a Vec<i32>)>) -> Vec<Partition> {
    topics
        .flat_map(|(name, indexes)| indexes.iter().map(move |index| (name.to_string(), *index)))
        .collect()
}

fn single((name, partitions): (String, Vec<(i32, Found)>)) -> OffsetFetchResponseTopic {
    let partitions = partitions
        .into_iter()
        .map(|(index, (offset, leader_epoch, metadata, code))| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(text(&metadata)))
                .with_error_code(code)
        })
        .collect();
    OffsetFetchResponseTopic::default()
        .with_name(TopicName(text(&name)))
        .with_partitions(partitions)
}

fn many((name, partitions): (String, Vec<(i32, Found)>)) -> OffsetFetchResponseTopics {
    let partitions = partitions
        .into_iter()
        .map(|(index, (offset, leader_epoch, metadata, code))| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(text(&metadata)))
                .with_error_code(code)
        })
        .collect();
    OffsetFetchResponseTopics::default()
        .with_name(TopicName(text(&name)))
        .with_partitions(partitions)
}
