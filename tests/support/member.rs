//! A member of a consumer group of the classic protocol, which joins, is assigned one partition, and then says no more: its
//! session lasts half a minute.

use bytes::BytesMut;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupId, JoinGroupRequest,
    LeaveGroupRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kbr::kafka::{Client, ConnectOptions, CoordinatorKind, Route};
use std::time::{Duration, Instant};

pub struct Member {
    client: Client,
    group: String,
    id: String,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

impl Member {
    /// Joins the group and reads partition 0 of the topic.
    pub async fn join(bootstrap: &str, group: &str, topic: &str) -> Self {
        let client = Client::connect(ConnectOptions::new([bootstrap]))
            .await
            .unwrap();
        let kind = CoordinatorKind::Group;
        let to = Route::Broker(client.find_coordinator(kind, group).await.unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        let mut id = text("");
        let joined = loop {
            assert!(Instant::now() < until, "{group} cannot be joined");
            let mut subscription = BytesMut::from(&[0_u8, 0][..]);
            ConsumerProtocolSubscription::default()
                .with_topics(vec![text(topic)])
                .encode(&mut subscription, 0)
                .unwrap();
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(text(group)))
                .with_session_timeout_ms(30_000)
                .with_rebalance_timeout_ms(30_000)
                .with_member_id(id.clone())
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![
                    JoinGroupRequestProtocol::default()
                        .with_name(text("range"))
                        .with_metadata(subscription.freeze()),
                ]);
            let joined = client.call(to, request).await.unwrap();
            match joined.error_code {
                0 => break joined,
                79 => id = joined.member_id,
                14..=16 => tokio::time::sleep(Duration::from_millis(20)).await,
                code => panic!("JoinGroup answers {code}"),
            }
        };
        let mut assignment = BytesMut::from(&[0_u8, 0][..]);
        ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![
                Assigned::default()
                    .with_topic(TopicName(text(topic)))
                    .with_partitions(vec![0]),
            ])
            .encode(&mut assignment, 0)
            .unwrap();
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![
                SyncGroupRequestAssignment::default()
                    .with_member_id(joined.member_id.clone())
                    .with_assignment(assignment.freeze()),
            ]);
        assert_eq!(client.call(to, request).await.unwrap().error_code, 0);
        Self {
            client,
            group: group.to_string(),
            id: joined.member_id.to_string(),
        }
    }

    pub async fn leave(self) {
        let kind = CoordinatorKind::Group;
        let coordinator = self.client.find_coordinator(kind, &self.group).await;
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(text(&self.id));
        let to = Route::Broker(coordinator.unwrap());
        let left = self.client.call_capped(to, request, 2).await.unwrap();
        assert_eq!(left.error_code, 0);
    }
}
