//! Every version of every API that the sandbox offers gets an answer that the client's side can read: with and
//! without an error in it. The crate refuses to encode a field that a version does not have, so this is where a
//! forgotten version shows.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use kbr::kafka::{Client, ConnectOptions, Route};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::{Action, Sandbox, SandboxOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const TOPIC: &str = "orders";
const GROUP: &str = "checkout";

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(1_700_000_000_000, Some(b"key"), None, Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// A sandbox with something in it, and whether it answers errors.
struct Stage {
    sandbox: Sandbox,
    client: Client,
    failing: Arc<AtomicBool>,
}

impl Stage {
    async fn new() -> Self {
        let sandbox = Sandbox::start(SandboxOptions::named("versions"))
            .await
            .unwrap();
        sandbox.create_topic(TOPIC, 1, &[]).unwrap();
        sandbox.append(TOPIC, 0, &batch()).unwrap();
        sandbox.set_committed(GROUP, TOPIC, 0, 1, "here");
        let client = Client::connect(ConnectOptions::new(sandbox.bootstrap()))
            .await
            .unwrap();
        let failing = Arc::new(AtomicBool::new(false));
        let fails = failing.clone();
        sandbox.intercept(move |seen| {
            if fails.load(Ordering::SeqCst) && seen.api_key != ApiVersionsRequest::KEY {
                Action::Error(41)
            } else {
                Action::Pass
            }
        });
        Self {
            sandbox,
            client,
            failing,
        }
    }

    /// Sends the request in each of its versions; `Client` decodes what comes back.
    async fn every_version<R: Request>(&self, request: impl Fn(i16) -> R) {
        for version in R::VERSIONS.min..=R::VERSIONS.max {
            let call = self
                .client
                .call_capped(Route::Any, request(version), version);
            let answer = call.await;
            assert!(
                answer.is_ok(),
                "API key {} version {version}: {}",
                R::KEY,
                answer.err().unwrap()
            );
        }
    }

    async fn both_ways<R: Request>(&self, request: impl Fn(i16) -> R) {
        self.failing.store(false, Ordering::SeqCst);
        self.every_version(&request).await;
        self.failing.store(true, Ordering::SeqCst);
        self.every_version(&request).await;
        self.failing.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn every_version_of_the_log_apis_is_answered() {
    let stage = Stage::new().await;
    let id = stage.sandbox.create_topic("other", 1, &[]).unwrap();
    stage
        .both_ways(|version| {
            let data =
                produce_request::PartitionProduceData::default().with_records(Some(batch().into()));
            let topic_data =
                produce_request::TopicProduceData::default().with_partition_data(vec![data]);
            let topic_data = match version {
                13.. => topic_data.with_topic_id(id),
                _ => topic_data.with_name(topic()),
            };
            ProduceRequest::default()
                .with_acks(-1)
                .with_topic_data(vec![topic_data])
        })
        .await;
    stage
        .both_ways(|version| {
            let partition =
                fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
            let wanted = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
            let wanted = match version {
                13.. => wanted.with_topic_id(id),
                _ => wanted.with_topic(topic()),
            };
            FetchRequest::default()
                .with_max_bytes(1 << 20)
                .with_isolation_level(1)
                .with_session_epoch(if version >= 7 { -1 } else { 0 })
                .with_topics(vec![wanted])
        })
        .await;
    stage
        .both_ways(|_| {
            let partition =
                list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
            ListOffsetsRequest::default().with_topics(vec![
                list_offsets_request::ListOffsetsTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition]),
            ])
        })
        .await;
    stage
        .both_ways(|_| {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            OffsetForLeaderEpochRequest::default().with_topics(vec![
                offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                    .with_topic(topic())
                    .with_partitions(vec![partition]),
            ])
        })
        .await;
    stage
        .both_ways(|_| {
            let partition = delete_records_request::DeleteRecordsPartition::default();
            DeleteRecordsRequest::default().with_topics(vec![
                delete_records_request::DeleteRecordsTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition]),
            ])
        })
        .await;
    stage
        .both_ways(|_| {
            DescribeProducersRequest::default().with_topics(vec![
                describe_producers_request::TopicRequest::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0]),
            ])
        })
        .await;
    stage
        .both_ways(|_| {
            let topics = vec![
                write_txn_markers_request::WritableTxnMarkerTopic::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0]),
            ];
            WriteTxnMarkersRequest::default().with_markers(vec![
                write_txn_markers_request::WritableTxnMarker::default()
                    .with_producer_id(ProducerId(9))
                    .with_topics(topics),
            ])
        })
        .await;
}

#[tokio::test]
async fn every_version_of_the_cluster_apis_is_answered() {
    let stage = Stage::new().await;
    stage
        .both_ways(|_| {
            let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
            MetadataRequest::default().with_topics(Some(vec![wanted]))
        })
        .await;
    stage.both_ways(|_| ApiVersionsRequest::default()).await;
    stage.both_ways(|_| DescribeClusterRequest::default()).await;
    stage
        .both_ways(|_| {
            let name = TopicName(text("new"));
            CreateTopicsRequest::default().with_topics(vec![
                create_topics_request::CreatableTopic::default()
                    .with_name(name)
                    .with_num_partitions(1)
                    .with_replication_factor(1),
            ])
        })
        .await;
    stage
        .both_ways(|version| match version {
            6.. => DeleteTopicsRequest::default().with_topics(vec![
                delete_topics_request::DeleteTopicState::default()
                    .with_name(Some(TopicName(text("new")))),
            ]),
            _ => DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("new"))]),
        })
        .await;
    stage
        .both_ways(|_| {
            CreatePartitionsRequest::default().with_topics(vec![
                create_partitions_request::CreatePartitionsTopic::default()
                    .with_name(topic())
                    .with_count(1)
                    .with_assignments(None),
            ])
        })
        .await;
    stage
        .both_ways(|_| {
            DescribeConfigsRequest::default()
                .with_include_synonyms(true)
                .with_resources(vec![
                    describe_configs_request::DescribeConfigsResource::default()
                        .with_resource_type(2)
                        .with_resource_name(text(TOPIC))
                        .with_configuration_keys(None),
                ])
        })
        .await;
    stage
        .both_ways(|_| {
            let config = incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("5")));
            IncrementalAlterConfigsRequest::default().with_resources(vec![
                incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(TOPIC))
                    .with_configs(vec![config]),
            ])
        })
        .await;
    stage
        .both_ways(|version| match version {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]),
            _ => FindCoordinatorRequest::default().with_key(text(GROUP)),
        })
        .await;
}

#[tokio::test]
async fn every_version_of_the_group_apis_is_answered() {
    let stage = Stage::new().await;
    stage
        .both_ways(|_| {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_offset(1);
            OffsetCommitRequest::default()
                .with_group_id(group())
                .with_topics(vec![
                    offset_commit_request::OffsetCommitRequestTopic::default()
                        .with_name(topic())
                        .with_partitions(vec![partition]),
                ])
        })
        .await;
    stage
        .both_ways(|version| match version {
            8.. => OffsetFetchRequest::default().with_groups(vec![
                offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group())
                    .with_topics(None),
            ]),
            _ => OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![
                    offset_fetch_request::OffsetFetchRequestTopic::default()
                        .with_name(topic())
                        .with_partition_indexes(vec![0]),
                ])),
        })
        .await;
    stage.both_ways(|_| ListGroupsRequest::default()).await;
    stage
        .both_ways(|_| {
            let missing = GroupId(text("missing"));
            DescribeGroupsRequest::default().with_groups(vec![group(), missing])
        })
        .await;
    stage
        .both_ways(|_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]))
        .await;
    stage
        .both_ways(|_| {
            let protocol =
                join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            JoinGroupRequest::default()
                .with_group_id(GroupId(text("joined")))
                .with_session_timeout_ms(50)
                .with_rebalance_timeout_ms(50)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol])
        })
        .await;
    stage
        .both_ways(|_| SyncGroupRequest::default().with_group_id(group()))
        .await;
    stage
        .both_ways(|_| HeartbeatRequest::default().with_group_id(group()))
        .await;
    stage
        .both_ways(|version| match version {
            3.. => LeaveGroupRequest::default()
                .with_group_id(group())
                .with_members(vec![
                    leave_group_request::MemberIdentity::default().with_member_id(text("m")),
                ]),
            _ => LeaveGroupRequest::default()
                .with_group_id(group())
                .with_member_id(text("m")),
        })
        .await;
    stage
        .both_ways(|_| {
            DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("missing"))])
        })
        .await;
}

#[tokio::test]
async fn every_version_of_the_transaction_apis_is_answered() {
    let stage = Stage::new().await;
    let id = || TransactionalId(text("mover"));
    stage
        .both_ways(|_| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(id()))
                .with_transaction_timeout_ms(1000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        })
        .await;
    stage
        .both_ways(|version| {
            let topics = vec![
                add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![0]),
            ];
            match version {
                4.. => AddPartitionsToTxnRequest::default().with_transactions(vec![
                    add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
                        .with_transactional_id(id())
                        .with_topics(topics),
                ]),
                _ => AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id())
                    .with_v3_and_below_topics(topics),
            }
        })
        .await;
    stage
        .both_ways(|_| {
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(id())
                .with_group_id(group())
        })
        .await;
    stage
        .both_ways(|_| {
            let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
            TxnOffsetCommitRequest::default()
                .with_transactional_id(id())
                .with_group_id(group())
                .with_generation_id(-1)
                .with_topics(vec![
                    txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                        .with_name(topic())
                        .with_partitions(vec![partition]),
                ])
        })
        .await;
    stage
        .both_ways(|_| EndTxnRequest::default().with_transactional_id(id()))
        .await;
}
