//! Committed offsets, read and written outside of transactions.

use super::brokers::Purpose;
use super::client::{Client, Route, exchange};
use super::code::ErrorCode;
use super::coordinator::{CoordinatorKind, Heard, KeyAnswers};
use super::error::{Error, Result};
use crate::base::{Offset, TopicPartition};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// Version 10 of both calls names topics by id, which says nothing about a topic that is gone.
const LAST_BY_NAME: i16 = 9;
/// From version 8 on one OffsetFetch asks about many groups.
const FIRST_WITH_GROUPS: i16 = 8;
/// From version 7 on OffsetFetch can wait for transactions that are committing.
const FIRST_WITH_REQUIRE_STABLE: i16 = 7;
/// A group of 10,000 partitions answers with about 1 MB.
const GROUPS_PER_REQUEST: usize = 100;
/// Far below the broker's limit of about 1 MB for what one commit writes.
const PARTITIONS_PER_COMMIT: usize = 5_000;

/// The partitions asked about, by topic.
type Topics = BTreeMap<String, Vec<i32>>;
/// One partition of an answer, the same in the forms of all versions.
type CommittedPartition = (TopicPartition, Offset, i32, Option<StrBytes>, ErrorCode);

/// A committed offset: the next record its group reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: Offset,
    /// −1: none was committed with it.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// An offset to commit. Always with leader epoch −1: a foreign epoch hangs Java consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitWanted {
    pub offset: Offset,
    pub metadata: String,
}

impl Client {
    /// All committed offsets of the groups. `require_stable` waits for transactions that are committing
    /// over an offset that is there already; a partition whose first commit is still pending is not seen
    /// (brokers list committed partitions only): [`Client::committed_offsets_at`] sees it. A group that
    /// does not exist has none. A result per group.
    pub async fn committed_offsets(
        &self,
        groups: &[String],
        require_stable: bool,
    ) -> Result<BTreeMap<String, Result<BTreeMap<TopicPartition, Committed>>>> {
        let wanted = groups.iter().map(|group| (group.clone(), None)).collect();
        Ok(self.offsets_of(wanted, require_stable).await)
    }

    /// The groups' committed offsets at the named partitions, waiting for every transaction that is
    /// committing there. A partition without an offset is left out. A result per group.
    pub async fn committed_offsets_at(
        &self,
        wanted: &BTreeMap<String, Vec<TopicPartition>>,
    ) -> Result<BTreeMap<String, Result<BTreeMap<TopicPartition, Committed>>>> {
        let wanted = wanted.iter().map(|(group, partitions)| {
            let mut topics: Topics = BTreeMap::new();
            for at in partitions {
                topics
                    .entry(at.topic.clone())
                    .or_default()
                    .push(at.partition.0);
            }
            (group.clone(), Some(topics))
        });
        Ok(self.offsets_of(wanted.collect(), true).await)
    }

    async fn offsets_of(
        &self,
        wanted: BTreeMap<String, Option<Topics>>,
        require_stable: bool,
    ) -> BTreeMap<String, Result<BTreeMap<TopicPartition, Committed>>> {
        const API: &str = "OffsetFetch";
        let (kind, chunk) = (CoordinatorKind::Group, GROUPS_PER_REQUEST);
        self.ask_coordinators(API, kind, wanted, chunk, |broker, groups| async move {
            self.fetch_offsets(broker, groups, require_stable).await
        })
        .await
    }

    async fn fetch_offsets(
        &self,
        broker: i32,
        groups: Vec<(String, Option<Topics>)>,
        require_stable: bool,
    ) -> Result<KeyAnswers<BTreeMap<TopicPartition, Committed>>> {
        let to = Route::Broker(broker);
        let connection = self.connection(to, Purpose::Control).await?;
        let version = connection.choose::<OffsetFetchRequest>(LAST_BY_NAME)?;
        let allowed = self.options().request_timeout;
        if require_stable && version < FIRST_WITH_REQUIRE_STABLE {
            return Err(Error::Unsupported {
                api: "OffsetFetch",
                broker: connection.broker().to_string(),
                wanted: (FIRST_WITH_REQUIRE_STABLE, LAST_BY_NAME),
                offered: Some((0, version)),
            });
        }
        let mut answers = Vec::with_capacity(groups.len());
        if version >= FIRST_WITH_GROUPS {
            let of_group_wanted = |(group, topics): &(String, Option<Topics>)| {
                let topics = topics.as_ref().map(|topics| {
                    let topic = |(name, partitions): (&String, &Vec<i32>)| {
                        OffsetFetchRequestTopics::default()
                            .with_name(topic_name(name))
                            .with_partition_indexes(partitions.clone())
                    };
                    topics.iter().map(topic).collect()
                });
                OffsetFetchRequestGroup::default()
                    .with_group_id(group_id(group))
                    .with_member_id(None)
                    .with_member_epoch(-1)
                    .with_topics(topics)
            };
            let request = OffsetFetchRequest::default()
                .with_groups(groups.iter().map(of_group_wanted).collect())
                .with_require_stable(require_stable);
            let answer = exchange(&connection, &request, version, allowed).await?;
            for group in answer.groups {
                let name = group.group_id.0.to_string();
                let outcome = of_group(&name, ErrorCode(group.error_code), partitions_of(group));
                answers.push((name, outcome));
            }
        } else {
            for (name, topics) in groups {
                let topics = topics.map(|topics| {
                    let topic = |(name, partitions): (String, Vec<i32>)| {
                        OffsetFetchRequestTopic::default()
                            .with_name(topic_name(&name))
                            .with_partition_indexes(partitions)
                    };
                    topics.into_iter().map(topic).collect()
                });
                let request = OffsetFetchRequest::default()
                    .with_group_id(group_id(&name))
                    .with_topics(topics)
                    .with_require_stable(require_stable);
                let answer = exchange(&connection, &request, version, allowed).await?;
                let code = ErrorCode(answer.error_code);
                let mut partitions = Vec::new();
                for topic in answer.topics {
                    for at in topic.partitions {
                        partitions.push((
                            TopicPartition::new(topic.name.0.to_string(), at.partition_index),
                            Offset(at.committed_offset),
                            at.committed_leader_epoch,
                            at.metadata,
                            ErrorCode(at.error_code),
                        ));
                    }
                }
                let outcome = of_group(&name, code, partitions);
                answers.push((name, outcome));
            }
        }
        Ok(answers)
    }

    /// OffsetCommit with generation −1: only a group without members takes it. A code per partition.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommitWanted>,
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        let mut committed = BTreeMap::new();
        let offsets: Vec<_> = offsets.iter().collect();
        for offsets in offsets.chunks(PARTITIONS_PER_COMMIT) {
            committed.extend(self.commit_some_offsets(group, offsets).await?);
        }
        Ok(committed)
    }

    async fn commit_some_offsets(
        &self,
        group: &str,
        offsets: &[(&TopicPartition, &CommitWanted)],
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        const API: &str = "OffsetCommit";
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (at, wanted) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(at.partition.0)
                .with_committed_offset(wanted.offset.0)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::from_string(wanted.metadata.clone())));
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_member_id(StrBytes::from_static_str(""))
            .with_topics(topics.collect());
        // Committing the same offsets twice is committing them.
        let places = offsets.iter().map(|(at, _)| *at);
        self.ask_group(API, group, &request, LAST_BY_NAME, places, |answer| {
            let mut codes = BTreeMap::new();
            for topic in answer.topics {
                for at in topic.partitions {
                    let place = TopicPartition::new(topic.name.0.to_string(), at.partition_index);
                    codes.insert(place, ErrorCode(at.error_code));
                }
            }
            Heard {
                code: ErrorCode::NONE,
                message: None,
                codes,
            }
        })
        .await
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_string()))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

fn partitions_of(group: OffsetFetchResponseGroup) -> Vec<CommittedPartition> {
    let mut partitions = Vec::new();
    for topic in group.topics {
        for at in topic.partitions {
            partitions.push((
                TopicPartition::new(topic.name.0.to_string(), at.partition_index),
                Offset(at.committed_offset),
                at.committed_leader_epoch,
                at.metadata,
                ErrorCode(at.error_code),
            ));
        }
    }
    partitions
}

/// A group's answer. One partition in error (most often an unstable offset) is the group's error: half of
/// a group's offsets must never look like all of them.
fn of_group(
    group: &str,
    code: ErrorCode,
    partitions: Vec<CommittedPartition>,
) -> Result<BTreeMap<TopicPartition, Committed>> {
    const API: &str = "OffsetFetch";
    match code {
        ErrorCode::NONE => {}
        // Some versions say so about a group that has none.
        ErrorCode::GROUP_ID_NOT_FOUND => return Ok(BTreeMap::new()),
        code => return Err(Error::broker(API, group, code, None)),
    }
    let of_partition = |(at, offset, leader_epoch, metadata, code): CommittedPartition| {
        if !code.is_ok() {
            return Err(Error::broker(API, format!("{group} {at}"), code, None));
        }
        let committed = Committed {
            offset,
            leader_epoch,
            metadata: metadata.map(|text| text.to_string()).unwrap_or_default(),
        };
        Ok((at, committed))
    };
    // −1: no offset is committed there.
    let partitions = partitions
        .into_iter()
        .filter(|(_, offset, _, _, code)| offset.0 >= 0 || !code.is_ok());
    partitions.map(of_partition).collect()
}
