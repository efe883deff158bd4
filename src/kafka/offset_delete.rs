//! OffsetDelete: taking single committed offsets from a group. Not part of any transaction.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::coordinator::CoordinatorKind;
use super::error::{Error, Result};
use super::retry::Backoff;
use crate::base::TopicPartition;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetDeleteRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// Far below what a coordinator writes at once.
const PARTITIONS_PER_REQUEST: usize = 5_000;

impl Client {
    /// Deletes committed offsets of one group. Topics that its members subscribe to are refused by the coordinator (86).
    /// One that is not there counts as deleted. A code per partition.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        let mut deleted = BTreeMap::new();
        for some in partitions.chunks(PARTITIONS_PER_REQUEST) {
            deleted.extend(self.delete_some_offsets(group, some).await?);
        }
        Ok(deleted)
    }

    async fn delete_some_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, ErrorCode>> {
        const API: &str = "OffsetDelete";
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for at in partitions {
            let partition =
                OffsetDeleteRequestPartition::default().with_partition_index(at.partition.0);
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.to_string())))
                .with_partitions(partitions)
        });
        let request = OffsetDeleteRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_string())))
            .with_topics(topics.collect());
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let kind = CoordinatorKind::Group;
            let coordinator = self.find_coordinator(kind, group).await?;
            // Deleting twice is deleting, so a lost answer is asked for again.
            let answer = match self
                .send(Route::Broker(coordinator), &request, i16::MAX)
                .await
            {
                Ok(answer) => answer,
                Err(error) if error.class() == Class::Fatal => return Err(error),
                Err(error) => match backoff.wait().await {
                    true => continue,
                    false => return Err(error),
                },
            };
            let code = ErrorCode(answer.error_code);
            match code.class() {
                Class::Ok => {}
                Class::RetryHere | Class::FindCoordinator if backoff.wait().await => continue,
                _ => return Err(Error::broker(API, group, code, None)),
            }
            let mut deleted = BTreeMap::new();
            for topic in answer.topics {
                for at in topic.partitions {
                    let partition =
                        TopicPartition::new(topic.name.0.to_string(), at.partition_index);
                    deleted.insert(partition, ErrorCode(at.error_code));
                }
            }
            if let Some(at) = partitions.iter().find(|at| !deleted.contains_key(at)) {
                return Err(Error::Protocol {
                    api: API,
                    broker: coordinator.to_string(),
                    why: format!("it says nothing about {at}"),
                });
            }
            return Ok(deleted);
        }
    }
}
