//! Share groups (KIP-932): their members, and the offsets at which they start (Kafka 4.2 and later). There are no commits
//! and no transactions for them: a group without members is told where to start.

use super::client::{Client, Route};
use super::code::ErrorCode;
use super::commits::{CommitWanted, Committed};
use super::coordinator::{CoordinatorKind, Heard, KeyAnswers};
use super::error::{Error, Result};
use super::groups::{GroupDescription, Member};
use crate::base::{Offset, TopicPartition};
use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest, GroupId, ShareGroupDescribeRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

const GROUPS_PER_REQUEST: usize = 100;

type Offsets = BTreeMap<TopicPartition, Committed>;

impl Client {
    /// Where share groups start; a partition that has no start offset yet is left out. A result per group.
    pub async fn share_offsets(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, Result<Offsets>>> {
        const API: &str = "DescribeShareGroupOffsets";
        let wanted = groups.iter().map(|group| (group.clone(), ())).collect();
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        let found = self
            .ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
                let group = |(group, ()): &(String, ())| {
                    DescribeShareGroupOffsetsRequestGroup::default()
                        .with_group_id(group_id(group))
                        .with_topics(None)
                };
                let request = DescribeShareGroupOffsetsRequest::default()
                    .with_groups(groups.iter().map(group).collect());
                let answer = self.send(Route::Broker(broker), &request, i16::MAX).await?;
                let mut answers: KeyAnswers<Offsets> = Vec::new();
                for group in answer.groups {
                    let name = group.group_id.0.to_string();
                    let failed = |on: String, code: i16, message: Option<StrBytes>| {
                        let message = message.map(|message| message.to_string());
                        Error::broker(API, on, ErrorCode(code), message)
                    };
                    let mut outcome = match ErrorCode(group.error_code) {
                        ErrorCode::NONE | ErrorCode::GROUP_ID_NOT_FOUND => Ok(Offsets::new()),
                        code => Err(failed(name.clone(), code.0, group.error_message)),
                    };
                    for topic in group.topics {
                        let of = topic.topic_name.0.to_string();
                        for at in topic.partitions {
                            let place = TopicPartition::new(of.clone(), at.partition_index);
                            if at.error_code != 0 {
                                let on = format!("{name} {place}");
                                outcome = Err(failed(on, at.error_code, at.error_message));
                            } else if let (Ok(offsets), true) = (&mut outcome, at.start_offset >= 0)
                            {
                                let start = Committed {
                                    offset: Offset(at.start_offset),
                                    leader_epoch: -1,
                                    metadata: String::new(),
                                };
                                offsets.insert(place, start);
                            }
                        }
                    }
                    answers.push((name, outcome));
                }
                Ok(answers)
            })
            .await;
        Ok(found)
    }

    /// Lets a share group without members start there. A code per partition.
    pub async fn alter_share_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommitWanted>,
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        const API: &str = "AlterShareGroupOffsets";
        let mut topics: BTreeMap<&str, Vec<AlterShareGroupOffsetsRequestPartition>> =
            BTreeMap::new();
        for (at, wanted) in offsets {
            let partition = AlterShareGroupOffsetsRequestPartition::default()
                .with_partition_index(at.partition.0)
                .with_start_offset(wanted.offset.0);
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions(partitions)
        });
        let request = AlterShareGroupOffsetsRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics.collect());
        // Twice is once.
        self.ask_group(API, group, &request, i16::MAX, offsets.keys(), |answer| {
            let mut codes = BTreeMap::new();
            for topic in answer.responses {
                let name = topic.topic_name.0;
                for at in topic.partitions {
                    let place = TopicPartition::new(name.to_string(), at.partition_index);
                    codes.insert(place, ErrorCode(at.error_code));
                }
            }
            Heard {
                code: ErrorCode(answer.error_code),
                message: answer.error_message.map(|message| message.to_string()),
                codes,
            }
        })
        .await
    }

    /// Takes from a share group without members where it starts on whole topics: the broker knows nothing smaller. A topic on
    /// which it has no place counts as taken. A code per topic.
    pub async fn delete_share_offsets(
        &self,
        group: &str,
        topics: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, ErrorCode>> {
        const API: &str = "DeleteShareGroupOffsets";
        let wanted = topics.iter().map(|name| {
            DeleteShareGroupOffsetsRequestTopic::default()
                .with_topic_name(TopicName(StrBytes::from_string(name.clone())))
        });
        let request = DeleteShareGroupOffsetsRequest::default()
            .with_group_id(group_id(group))
            .with_topics(wanted.collect());
        // Twice is once.
        self.ask_group(API, group, &request, i16::MAX, topics.iter(), |answer| {
            Heard {
                code: ErrorCode(answer.error_code),
                message: answer.error_message.map(|message| message.to_string()),
                codes: answer
                    .responses
                    .into_iter()
                    .map(|topic| (topic.topic_name.0.to_string(), ErrorCode(topic.error_code)))
                    .collect(),
            }
        })
        .await
    }

    /// Share groups with their members; `None` for one that is none, or a broker that does not know them.
    pub(super) async fn describe_share_groups(
        &self,
        groups: &[String],
    ) -> BTreeMap<String, Result<Option<GroupDescription>>> {
        const API: &str = "ShareGroupDescribe";
        let wanted = groups.iter().map(|group| (group.clone(), ())).collect();
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        self.ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
            let request = ShareGroupDescribeRequest::default()
                .with_group_ids(groups.iter().map(|(group, ())| group_id(group)).collect());
            let answer = match self.send(Route::Broker(broker), &request, i16::MAX).await {
                Ok(answer) => answer,
                Err(Error::Unsupported { .. }) => {
                    let groups = groups.into_iter();
                    return Ok(groups.map(|(group, ())| (group, Ok(None))).collect());
                }
                Err(error) => return Err(error),
            };
            let mut answers: KeyAnswers<Option<GroupDescription>> = Vec::new();
            for group in answer.groups {
                let name = group.group_id.0.to_string();
                let outcome = match ErrorCode(group.error_code) {
                    ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION => Ok(None),
                    ErrorCode::NONE => Ok(Some(GroupDescription {
                        group: name.clone(),
                        state: group.group_state.to_string(),
                        kind: "share".to_string(),
                        protocol_type: "share".to_string(),
                        coordinator: broker,
                        members: group
                            .members
                            .into_iter()
                            .map(|member| Member {
                                member_id: member.member_id.to_string(),
                                client_id: member.client_id.to_string(),
                                host: member.client_host.to_string(),
                                topics: member
                                    .subscribed_topic_names
                                    .into_iter()
                                    .map(|name| name.0.to_string())
                                    .collect(),
                                assigned: Vec::new(),
                            })
                            .collect(),
                    })),
                    code => {
                        let message = group.error_message.map(|message| message.to_string());
                        Err(Error::broker(API, &name, code, message))
                    }
                };
                answers.push((name, outcome));
            }
            Ok(answers)
        })
        .await
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_string()))
}
