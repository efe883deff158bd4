//! A cluster that cases run against, and the calls they share.

use crate::support::RealKafka;
pub use crate::support::unique;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupId, JoinGroupRequest,
    ProduceRequest, SyncGroupRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kbr::base::{Offset, PartitionId, TopicId, TopicPartition};
use kbr::kafka::{
    Client, ConnectOptions, CoordinatorKind, FetchPartition, FetchWanted, FetchedPartition,
    Isolation, NewTopic, OffsetAt, Produced, Route,
};
use kbr::sandbox::{Sandbox, SandboxOptions};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything that a real broker does in the background may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The last Produce version in which a partition must be added to its transaction first (KIP-890).
pub const PRODUCE_BEFORE_KIP_890: i16 = 11;

#[derive(Clone)]
pub struct ClusterUnderTest {
    pub client: Client,
    /// `host:port` of one broker.
    pub bootstrap: String,
    _sandbox: Option<Arc<Sandbox>>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

pub fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// Asks until the answer is there: what a broker does behind an answer takes a moment.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What makes a broker keep ACLs and let everybody do everything.
pub const AUTHORIZER: &[&str] = &[
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
];

impl ClusterUnderTest {
    pub async fn sandbox() -> Self {
        Self::sandbox_as(SandboxOptions::named("conformance")).await
    }

    pub async fn sandbox_with_an_authorizer() -> Self {
        Self::sandbox_as(SandboxOptions {
            authorizer: true,
            ..SandboxOptions::named("conformance")
        })
        .await
    }

    async fn sandbox_as(options: SandboxOptions) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let bootstrap = sandbox.bootstrap().remove(0);
        Self {
            client: connect(&bootstrap).await,
            bootstrap,
            _sandbox: Some(Arc::new(sandbox)),
        }
    }

    pub async fn kafka(kafka: &RealKafka) -> Self {
        Self {
            client: connect(&kafka.bootstrap).await,
            bootstrap: kafka.bootstrap.clone(),
            _sandbox: None,
        }
    }

    /// A new topic of one partition.
    pub async fn topic(&self, configs: &[(&str, &str)]) -> String {
        self.topic_of(1, configs).await
    }

    pub async fn topic_of(&self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = unique("topic");
        let new = NewTopic {
            name: name.clone(),
            partitions,
            replication_factor: 1,
            configs: configs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        };
        let created = self.client.create_topics(&[new], false).await.unwrap();
        created[0].1.as_ref().unwrap();
        // The metadata shows a leader a moment before that broker leads.
        let wanted: Vec<_> = (0..partitions)
            .map(|partition| (at(&name, partition), OffsetAt::Latest))
            .collect();
        eventually("the new topic is led", || async {
            let isolation = Isolation::ReadUncommitted;
            let found = self.client.list_offsets(&wanted, isolation).await.unwrap();
            found.values().all(Result::is_ok).then_some(())
        })
        .await;
        name
    }

    pub async fn leader(&self, topic: &str) -> i32 {
        self.client.leader(&at(topic, 0)).await.unwrap()
    }

    pub async fn topic_id(&self, topic: &str) -> TopicId {
        let wanted = [topic.to_string()];
        let topics = self
            .client
            .topics(kbr::kafka::TopicsWanted::Named(&wanted))
            .await
            .unwrap();
        topics[0].id
    }

    /// Produces a batch to partition 0, by topic name, and returns error code and base offset.
    pub async fn produce(&self, topic: &str, batch: &[u8]) -> (i16, i64) {
        let produced = self
            .produced(topic, batch, None, PRODUCE_BEFORE_KIP_890)
            .await;
        (produced.error.0, produced.base_offset.0)
    }

    pub async fn produce_in(
        &self,
        transactional_id: &str,
        topic: &str,
        batch: &[u8],
    ) -> (i16, i64) {
        let id = Some(transactional_id);
        let produced = self
            .produced(topic, batch, id, PRODUCE_BEFORE_KIP_890)
            .await;
        (produced.error.0, produced.base_offset.0)
    }

    pub async fn produced(
        &self,
        topic: &str,
        batch: &[u8],
        transactional_id: Option<&str>,
        max_version: i16,
    ) -> Produced {
        let data = PartitionProduceData::default()
            .with_index(0)
            .with_records(Some(Bytes::copy_from_slice(batch)));
        let request = ProduceRequest::default()
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(TopicName(text(topic)))
                    .with_partition_data(vec![data]),
            ]);
        let answer = self
            .client
            .call_capped(Route::Any, request, max_version)
            .await
            .unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        Produced {
            topic: topic.to_string(),
            partition: PartitionId(0),
            error: kbr::kafka::ErrorCode(partition.error_code),
            base_offset: Offset(partition.base_offset),
            log_append_time: kbr::base::TimestampMs(partition.log_append_time_ms),
            log_start_offset: Offset(partition.log_start_offset),
            message: None,
        }
    }

    /// One fetch of partition 0 that does not wait.
    pub async fn fetch(&self, topic: &str, offset: i64, isolation: Isolation) -> FetchedPartition {
        let mut wanted = self.fetch_wanted(topic, offset, isolation).await;
        wanted.max_wait = Duration::ZERO;
        self.fetch_as(topic, wanted).await
    }

    pub async fn fetch_wanted(
        &self,
        topic: &str,
        offset: i64,
        isolation: Isolation,
    ) -> FetchWanted {
        FetchWanted {
            partitions: vec![FetchPartition {
                topic: topic.to_string(),
                topic_id: self.topic_id(topic).await,
                partition: PartitionId(0),
                offset: Offset(offset),
                leader_epoch: -1,
                last_fetched_epoch: -1,
                max_bytes: 1 << 20,
            }],
            max_wait: Duration::from_secs(10),
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation,
        }
    }

    pub async fn fetch_as(&self, topic: &str, wanted: FetchWanted) -> FetchedPartition {
        let leader = self.leader(topic).await;
        self.client.fetch(leader, wanted).await.unwrap().remove(0)
    }

    /// Log start, last stable offset and end of partition 0.
    pub async fn ends(&self, topic: &str) -> (i64, i64, i64) {
        let ask = async |which, isolation| {
            let partition = at(topic, 0);
            let mut found = self
                .client
                .list_offsets(&[(partition.clone(), which)], isolation)
                .await
                .unwrap();
            found.remove(&partition).unwrap().unwrap().offset.0
        };
        (
            ask(OffsetAt::Earliest, Isolation::ReadUncommitted).await,
            ask(OffsetAt::Latest, Isolation::ReadCommitted).await,
            ask(OffsetAt::Latest, Isolation::ReadUncommitted).await,
        )
    }

    pub async fn group_coordinator(&self, group: &str) -> Route {
        let kind = CoordinatorKind::Group;
        Route::Broker(self.client.find_coordinator(kind, group).await.unwrap())
    }

    pub async fn transaction_coordinator(&self, transactional_id: &str) -> Route {
        let kind = CoordinatorKind::Transaction;
        let found = self.client.find_coordinator(kind, transactional_id).await;
        Route::Broker(found.unwrap())
    }

    /// Joins a group as its only member, which stays for its session of 30 s, and takes partition 0.
    pub async fn join(&self, group: &str, topic: &str) -> Membership {
        let to = self.group_coordinator(group).await;
        let member = Mutex::new(text(""));
        let joined = eventually("the member has joined", || async {
            let request = join_request(group, topic, member.lock().unwrap().clone());
            let joined = self.client.call(to, request).await.unwrap();
            match joined.error_code {
                0 => Some(joined),
                79 => {
                    *member.lock().unwrap() = joined.member_id;
                    None
                }
                14..=16 => None,
                code => panic!("JoinGroup answers {code}"),
            }
        })
        .await;
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
        let synced = self.client.call(to, request).await.unwrap();
        assert_eq!(synced.error_code, 0);
        Membership {
            member_id: joined.member_id.to_string(),
            generation: joined.generation_id,
        }
    }
}

/// A member of a group.
pub struct Membership {
    pub member_id: String,
    pub generation: i32,
}

fn join_request(group: &str, topic: &str, member: StrBytes) -> JoinGroupRequest {
    let mut subscription = BytesMut::from(&[0_u8, 0][..]);
    ConsumerProtocolSubscription::default()
        .with_topics(vec![text(topic)])
        .encode(&mut subscription, 0)
        .unwrap();
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(subscription.freeze()),
        ])
}

async fn connect(bootstrap: &str) -> Client {
    Client::connect(ConnectOptions::new([bootstrap]))
        .await
        .unwrap()
}
