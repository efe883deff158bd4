//! OffsetDelete: taking single committed offsets from a group. Not part of any transaction.

use super::client::Client;
use super::code::ErrorCode;
use super::coordinator::Heard;
use super::error::Result;
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
        // Deleting twice is deleting.
        self.ask_group(
            API,
            group,
            &request,
            i16::MAX,
            partitions.iter(),
            |answer| {
                let mut codes = BTreeMap::new();
                for topic in answer.topics {
                    for at in topic.partitions {
                        let place =
                            TopicPartition::new(topic.name.0.to_string(), at.partition_index);
                        codes.insert(place, ErrorCode(at.error_code));
                    }
                }
                Heard {
                    code: ErrorCode(answer.error_code),
                    message: None,
                    codes,
                }
            },
        )
        .await
    }
}
