//! The few things that only a test does to a real broker.
#![allow(dead_code)] // Each test file uses its part.

#[path = "../support/mod.rs"]
pub mod support;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    GroupId, JoinGroupRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kbr::kafka::{Client, Route};
use kbr::record::{BatchBuilder, BuildOptions, OwnedHeaders, ProducerStamp};
pub use support::{RealKafka, unique};

/// A batch of `count` records whose timestamps go up by one from `timestamp`.
pub fn batch_of(count: i32, timestamp: i64, stamp: ProducerStamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for number in 0..count {
        let value = format!("value {number}");
        builder
            .push(
                timestamp + i64::from(number),
                Some(b"key"),
                Some(value.as_bytes()),
                OwnedHeaders::new().as_headers(),
            )
            .unwrap();
    }
    builder.finish(stamp).unwrap()
}

/// Joins a group of the classic protocol as its only member and takes the given partitions. The member
/// stays as long as its session: long enough for a test.
pub async fn join_classic_group(
    client: &Client,
    coordinator: i32,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> String {
    let to = Route::Broker(coordinator);
    let group_id = GroupId(StrBytes::from_string(group.to_string()));
    let mut subscription = BytesMut::from(&[0u8, 0][..]);
    ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_string())])
        .encode(&mut subscription, 0)
        .unwrap();
    let subscription: Bytes = subscription.freeze();
    let mut member = StrBytes::from_static_str("");
    let joined = loop {
        let request = JoinGroupRequest::default()
            .with_group_id(group_id.clone())
            .with_session_timeout_ms(45_000)
            .with_rebalance_timeout_ms(45_000)
            .with_member_id(member.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![
                JoinGroupRequestProtocol::default()
                    .with_name(StrBytes::from_static_str("range"))
                    .with_metadata(subscription.clone()),
            ]);
        let joined = client.call(to, request).await.unwrap();
        match joined.error_code {
            0 => break joined,
            // MEMBER_ID_REQUIRED: join again under the id it gives.
            79 => member = joined.member_id,
            code => panic!("JoinGroup: {code}"),
        }
    };
    let mut assignment = BytesMut::from(&[0u8, 0][..]);
    ConsumerProtocolAssignment::default()
        .with_assigned_partitions(vec![
            Assigned::default()
                .with_topic(TopicName(StrBytes::from_string(topic.to_string())))
                .with_partitions(partitions.to_vec()),
        ])
        .encode(&mut assignment, 0)
        .unwrap();
    let request = SyncGroupRequest::default()
        .with_group_id(group_id)
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
        .with_protocol_name(Some(StrBytes::from_static_str("range")))
        .with_assignments(vec![
            SyncGroupRequestAssignment::default()
                .with_member_id(joined.member_id.clone())
                .with_assignment(assignment.freeze()),
        ]);
    let synced = client.call(to, request).await.unwrap();
    assert_eq!(synced.error_code, 0);
    joined.member_id.to_string()
}

/// Joins a group of the consumer protocol (KIP-848) as its only member.
pub async fn join_consumer_group(client: &Client, coordinator: i32, group: &str, topic: &str) {
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_string())))
        .with_member_id(StrBytes::from_string(unique("member")))
        .with_member_epoch(0)
        .with_rebalance_timeout_ms(45_000)
        .with_subscribed_topic_names(Some(vec![TopicName(StrBytes::from_string(
            topic.to_string(),
        ))]))
        .with_topic_partitions(Some(Vec::new()));
    let joined = client
        .call(Route::Broker(coordinator), request)
        .await
        .unwrap();
    assert_eq!(joined.error_code, 0, "{:?}", joined.error_message);
}
