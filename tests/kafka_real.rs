//! Every typed call of the Kafka layer, against real brokers of both versions kbr is tested with.
//!
//! `KBR_TEST_KAFKA_430` and `KBR_TEST_KAFKA_392` may name a running broker (`host:port`); otherwise
//! `scripts/kafka` starts one for the test and stops it at the end.

mod kafka_real_support;

use kafka_real_support::{RealKafka, batch_of, join_classic_group, join_consumer_group, unique};
use kbr::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use kbr::kafka::{
    Client, CommitWanted, ConfigSource, ConnectOptions, CoordinatorKind, Error, ErrorCode,
    FetchPartition, FetchWanted, Isolation, NewTopic, OffsetAt, ProducePartition, TopicsWanted,
    TransactionOutcome, TransactionStage,
};
use kbr::record::{self, ProducerStamp, SplitBatch};
use std::collections::BTreeMap;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_works_on_kafka_4_3_0() {
    let broker = RealKafka::running("4.3.0");
    every_call_works(&broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_works_on_kafka_3_9_2() {
    let broker = RealKafka::running("3.9.2");
    every_call_works(&broker).await;
}

async fn every_call_works(broker: &RealKafka) {
    let client = Client::connect(ConnectOptions::new([broker.bootstrap.as_str()]))
        .await
        .unwrap();
    the_cluster_describes_itself(&client, broker).await;
    let topic = topics_are_created_described_and_altered(&client).await;
    records_are_produced_and_fetched(&client, &topic).await;
    offsets_and_epochs_are_found(&client, &topic).await;
    groups_are_listed_described_moved_and_deleted(&client, &topic).await;
    if broker.version == "4.3.0" {
        // 3.9 has the consumer protocol (KIP-848) behind a switch that is off.
        groups_of_the_consumer_protocol_are_described(&client, &topic).await;
    }
    transactions_move_all_groups_or_none(&client, &topic).await;
    many_groups_move_in_one_transaction(&client, &topic).await;
    records_and_topics_are_deleted(&client, &topic).await;
}

async fn the_cluster_describes_itself(client: &Client, broker: &RealKafka) {
    let cluster = client.describe_cluster().await.unwrap();
    assert_eq!(cluster.cluster_id, client.cluster_id());
    assert_eq!(cluster.brokers.len(), 1);
    assert_eq!(cluster.brokers[0].address(), broker.bootstrap);
    let release = broker.version.rsplit_once('.').unwrap().0;
    assert_eq!(cluster.metadata_version.as_deref(), Some(release));
}

async fn topics_are_created_described_and_altered(client: &Client) -> String {
    let topic = unique("orders");
    let new = NewTopic {
        name: topic.clone(),
        partitions: 3,
        replication_factor: -1,
        // The records are dated 1970: the default retention would take them within minutes.
        configs: BTreeMap::from([
            ("retention.ms".to_string(), "-1".to_string()),
            ("segment.ms".to_string(), "3600000".to_string()),
        ]),
    };
    let bad = NewTopic {
        name: "not a topic's name".to_string(),
        ..new.clone()
    };

    let dry = client
        .create_topics(std::slice::from_ref(&new), true)
        .await
        .unwrap();
    assert!(dry[0].1.is_ok(), "{dry:?}");
    let created = client
        .create_topics(&[bad, new.clone()], false)
        .await
        .unwrap();
    let refused = created[0].1.as_ref().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
    let id = *created[1].1.as_ref().unwrap();
    assert!(!id.is_nil());
    let again = client.create_topics(&[new], false).await.unwrap();
    let exists = again[0].1.as_ref().unwrap_err();
    assert_eq!(exists.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));

    let names = [topic.clone(), "missing".to_string()];
    let named = client.topics(TopicsWanted::Named(&names)).await.unwrap();
    assert_eq!(named.len(), 2);
    assert_eq!(named[0].name, "missing");
    assert_eq!(named[0].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(named[1].id, id);
    assert_eq!(named[1].partitions.len(), 3);
    assert!(named[1].partitions[2].leader.is_some());
    let all = client.topics(TopicsWanted::All).await.unwrap();
    assert!(all.iter().any(|found| found.name == topic));

    let configs = client.topic_configs(&names).await.unwrap();
    let missing = configs["missing"].as_ref().unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let entries = configs[&topic].as_ref().unwrap();
    assert!(entries.len() > 20);
    let overrides: Vec<_> = entries.iter().filter(|entry| entry.is_override()).collect();
    assert_eq!(overrides.len(), 2);
    assert_eq!(overrides[0].name, "retention.ms");
    assert_eq!(overrides[0].value.as_deref(), Some("-1"));

    let set = BTreeMap::from([("compression.type".to_string(), "producer".to_string())]);
    let delete = ["segment.ms".to_string()];
    client
        .alter_topic_configs(&topic, &set, &delete)
        .await
        .unwrap();
    let configs = client
        .topic_configs(std::slice::from_ref(&topic))
        .await
        .unwrap();
    let find = |name: &str| {
        let entries = configs[&topic].as_ref().unwrap();
        entries
            .iter()
            .find(|entry| entry.name == name)
            .unwrap()
            .clone()
    };
    assert!(find("compression.type").is_override());
    assert_eq!(find("segment.ms").source, ConfigSource::DEFAULT_CONFIG);
    let bad = BTreeMap::from([("retention.ms".to_string(), "soon".to_string())]);
    let refused = client
        .alter_topic_configs(&topic, &bad, &[])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::INVALID_CONFIG));
    topic
}

async fn records_are_produced_and_fetched(client: &Client, topic: &str) {
    let producer = client.init_producer_id(None, TIMEOUT).await.unwrap();
    let leader = client.leader(&TopicPartition::new(topic, 0)).await.unwrap();
    let batch = |sequence: i32| {
        let stamp = ProducerStamp {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            base_sequence: sequence,
        };
        SplitBatch::new(batch_of(10, 1_000, stamp).into()).unwrap()
    };
    let part = |partition: i32, batch: SplitBatch| ProducePartition {
        topic: topic.to_string(),
        partition: PartitionId(partition),
        batch,
    };

    // Two partitions in one request, and a second request behind it before the first is answered.
    let first = client
        .produce_start(
            leader,
            vec![part(0, batch(0)), part(1, batch(0))],
            TIMEOUT,
            None,
        )
        .await
        .unwrap();
    let second = client
        .produce_start(
            leader,
            vec![part(0, batch(10))],
            TIMEOUT,
            Some(first.line()),
        )
        .await
        .unwrap();
    let first = first.answer().await.unwrap();
    let second = second.answer().await.unwrap();
    assert_eq!(first.len(), 2);
    assert!(
        first
            .iter()
            .all(|at| at.error.is_ok() && at.base_offset == Offset(0))
    );
    assert_eq!(second[0].base_offset, Offset(10));

    // The same bytes again are answered with the offset they have already.
    let again = client
        .produce(leader, vec![part(0, batch(10))], TIMEOUT)
        .await
        .unwrap();
    assert!(again[0].error.is_ok());
    assert_eq!(again[0].base_offset, Offset(10));

    // One partition's error is that partition's alone.
    let mixed = client
        .produce(
            leader,
            vec![part(0, batch(777)), part(2, batch(0))],
            TIMEOUT,
        )
        .await
        .unwrap();
    let of = |partition: i32| {
        let at = PartitionId(partition);
        mixed.iter().find(|found| found.partition == at).unwrap()
    };
    assert_eq!(of(0).error, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert!(of(2).error.is_ok());

    let producers = client
        .describe_producers(&[TopicPartition::new(topic, 0)])
        .await
        .unwrap();
    let known = producers[&TopicPartition::new(topic, 0)].as_ref().unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].producer_id, producer.producer_id);
    assert_eq!(known[0].last_sequence, 19);
    assert_eq!(known[0].transaction_start, None);

    let id = client
        .topics(TopicsWanted::Named(&[topic.to_string()]))
        .await
        .unwrap()[0]
        .id;
    for topic_id in [id, kbr::base::TopicId::nil()] {
        let from = |partition: i32, offset: i64| FetchPartition {
            topic: topic.to_string(),
            topic_id,
            partition: PartitionId(partition),
            offset: Offset(offset),
            leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: 1 << 20,
        };
        let fetched = client
            .fetch(
                leader,
                FetchWanted {
                    partitions: vec![from(0, 0), from(1, 99)],
                    max_wait: Duration::from_millis(100),
                    min_bytes: 1,
                    max_bytes: 8 << 20,
                    isolation: Isolation::ReadCommitted,
                },
            )
            .await
            .unwrap();
        let of = |partition: i32| {
            let at = PartitionId(partition);
            fetched.iter().find(|found| found.partition == at).unwrap()
        };
        assert_eq!(of(1).error, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(of(0).error, ErrorCode::NONE);
        assert_eq!(of(0).topic, topic);
        assert_eq!(of(0).high_watermark, Offset(20));
        assert_eq!(of(0).last_stable_offset, Offset(20));
        let batches: Vec<_> = record::batches(&of(0).records)
            .map(Result::unwrap)
            .collect();
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[1].header.base_offset, 10);
        batches[1].verify_crc().unwrap();
    }
}

async fn offsets_and_epochs_are_found(client: &Client, topic: &str) {
    let at = |partition: i32| TopicPartition::new(topic, partition);
    let missing = TopicPartition::new("missing", 0);
    let wanted = [
        (at(0), OffsetAt::Latest),
        (at(1), OffsetAt::Earliest),
        (at(2), OffsetAt::AtOrAfter(TimestampMs(1_005))),
        (missing.clone(), OffsetAt::Latest),
        (at(77), OffsetAt::Latest),
    ];
    let found = client
        .list_offsets(&wanted, Isolation::ReadCommitted)
        .await
        .unwrap();
    assert_eq!(found[&at(0)].as_ref().unwrap().offset, Offset(20));
    assert_eq!(found[&at(1)].as_ref().unwrap().offset, Offset(0));
    let by_time = found[&at(2)].as_ref().unwrap();
    assert_eq!(
        (by_time.offset, by_time.timestamp),
        (Offset(5), TimestampMs(1_005))
    );
    let unknown = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(found[&missing].as_ref().unwrap_err().code(), unknown);
    assert_eq!(found[&at(77)].as_ref().unwrap_err().code(), unknown);
    let later = [(at(0), OffsetAt::AtOrAfter(TimestampMs(99_999)))];
    let found = client
        .list_offsets(&later, Isolation::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(found[&at(0)].as_ref().unwrap().offset, Offset(-1));

    let ends = client
        .end_offset_for_epoch(&[(at(0), 0), (at(1), 0)])
        .await
        .unwrap();
    assert_eq!(ends[&at(0)].as_ref().unwrap().end_offset, Offset(20));
    assert_eq!(ends[&at(1)].as_ref().unwrap().end_offset, Offset(10));
}

fn wanted(offset: i64, metadata: &str) -> CommitWanted {
    CommitWanted {
        offset: Offset(offset),
        metadata: metadata.to_string(),
    }
}

async fn groups_are_listed_described_moved_and_deleted(client: &Client, topic: &str) {
    let (group, active, missing) = (unique("group"), unique("active"), unique("missing"));
    let at = |partition: i32| TopicPartition::new(topic, partition);
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, &group)
        .await
        .unwrap();
    let offsets = BTreeMap::from([(at(0), wanted(7, "kept")), (at(1), wanted(3, ""))]);

    let committed = client.commit_offsets(&group, &offsets).await.unwrap();
    assert!(committed.values().all(|code| code.is_ok()), "{committed:?}");
    let mut unknown = offsets.clone();
    unknown.insert(TopicPartition::new("missing", 0), wanted(1, ""));
    let committed = client.commit_offsets(&group, &unknown).await.unwrap();
    assert_eq!(
        committed[&TopicPartition::new("missing", 0)],
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(committed[&at(0)], ErrorCode::NONE);

    let member = join_classic_group(client, coordinator, &active, topic, &[0, 2]).await;
    let refused = client.commit_offsets(&active, &offsets).await.unwrap();
    assert_eq!(refused[&at(0)], ErrorCode::UNKNOWN_MEMBER_ID);

    let groups = [group.clone(), active.clone(), missing.clone()];
    let read = client.committed_offsets(&groups, true).await.unwrap();
    let of_group = read[&group].as_ref().unwrap();
    assert_eq!(of_group.len(), 2);
    assert_eq!(of_group[&at(0)].offset, Offset(7));
    assert_eq!(of_group[&at(0)].metadata, "kept");
    assert_eq!(of_group[&at(0)].leader_epoch, -1);
    assert!(read[&missing].as_ref().unwrap().is_empty());

    let listed = client.list_groups().await.unwrap();
    let find = |name: &str| listed.iter().find(|listed| listed.group == name);
    assert_eq!(find(&group).unwrap().state, "Empty");
    assert_eq!(find(&active).unwrap().state, "Stable");
    assert_eq!(find(&active).unwrap().protocol_type, "consumer");
    assert!(find(&missing).is_none());

    let described = client.describe_groups(&groups).await.unwrap();
    assert_eq!(described[&group].as_ref().unwrap().state, "Empty");
    assert_eq!(described[&missing].as_ref().unwrap().state, "Dead");
    let stable = described[&active].as_ref().unwrap();
    assert_eq!(
        (stable.state.as_str(), stable.kind.as_str()),
        ("Stable", "classic")
    );
    assert_eq!(stable.coordinator, coordinator);
    assert_eq!(stable.members.len(), 1);
    assert_eq!(stable.members[0].member_id, member);
    assert_eq!(stable.members[0].topics, [topic]);
    assert_eq!(stable.members[0].assigned, [at(0), at(2)]);

    let deleted = client.delete_groups(&groups).await.unwrap();
    assert_eq!(deleted[&group], Ok(()));
    let code = |name: &str| deleted[name].as_ref().unwrap_err().code();
    assert_eq!(code(&active), Some(ErrorCode::NON_EMPTY_GROUP));
    assert_eq!(code(&missing), Some(ErrorCode::GROUP_ID_NOT_FOUND));
}

async fn groups_of_the_consumer_protocol_are_described(client: &Client, topic: &str) {
    let group = unique("modern");
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, &group)
        .await
        .unwrap();
    join_consumer_group(client, coordinator, &group, topic).await;

    let described = client
        .describe_groups(std::slice::from_ref(&group))
        .await
        .unwrap();
    let found = described[&group].as_ref().unwrap();
    assert_eq!(found.kind, "consumer");
    assert_eq!(found.members.len(), 1);
    assert_eq!(found.members[0].topics, [topic]);
    let listed = client.list_groups().await.unwrap();
    let listed = listed.iter().find(|listed| listed.group == group).unwrap();
    assert_eq!(listed.kind.to_lowercase(), "consumer");
    let offsets = BTreeMap::from([(TopicPartition::new(topic, 0), wanted(1, ""))]);
    let refused = client.commit_offsets(&group, &offsets).await.unwrap();
    assert_eq!(
        refused[&TopicPartition::new(topic, 0)],
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

async fn transactions_move_all_groups_or_none(client: &Client, topic: &str) {
    let (one, other) = (unique("one"), unique("other"));
    let transactional_id = unique("kbr-reset");
    let at = |partition: i32| TopicPartition::new(topic, partition);
    let names = [one.clone(), other.clone()];

    // A partition that does not exist spoils it for everybody.
    let spoilt = BTreeMap::from([
        (one.clone(), BTreeMap::from([(at(0), wanted(1, ""))])),
        (
            other.clone(),
            BTreeMap::from([(TopicPartition::new("missing", 0), wanted(1, ""))]),
        ),
    ]);
    let error = client
        .commit_offsets_in_transaction(&transactional_id, &spoilt)
        .await
        .unwrap_err();
    assert!(!error.transactions_not_allowed());
    match error {
        Error::Transaction {
            stage,
            group,
            partition,
            outcome,
            source,
            ..
        } => {
            assert_eq!(stage, TransactionStage::Commit);
            assert_eq!(group.as_deref(), Some(other.as_str()));
            assert_eq!(partition.unwrap().topic, "missing");
            assert_eq!(outcome, TransactionOutcome::Aborted);
            assert_eq!(source.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        }
        other => panic!("{other:?}"),
    }
    let read = client.committed_offsets(&names, true).await.unwrap();
    assert!(
        read.values()
            .all(|offsets| offsets.as_ref().unwrap().is_empty())
    );

    let moves = BTreeMap::from([
        (one.clone(), BTreeMap::from([(at(0), wanted(5, "old"))])),
        (
            other.clone(),
            BTreeMap::from([(at(1), wanted(0, "")), (at(2), wanted(9, ""))]),
        ),
    ]);
    for _ in 0..2 {
        client
            .commit_offsets_in_transaction(&transactional_id, &moves)
            .await
            .unwrap();
    }
    let read = client.committed_offsets(&names, true).await.unwrap();
    assert_eq!(read[&one].as_ref().unwrap()[&at(0)].offset, Offset(5));
    assert_eq!(read[&one].as_ref().unwrap()[&at(0)].metadata, "old");
    assert_eq!(read[&other].as_ref().unwrap()[&at(1)].offset, Offset(0));
    assert_eq!(read[&other].as_ref().unwrap()[&at(2)].offset, Offset(9));

    let too_long = BTreeMap::from([(
        one.clone(),
        BTreeMap::from([(at(0), wanted(1, &"m".repeat(5_000)))]),
    )]);
    let error = client
        .commit_offsets_in_transaction(&transactional_id, &too_long)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OFFSET_METADATA_TOO_LARGE));
}

async fn many_groups_move_in_one_transaction(client: &Client, topic: &str) {
    let prefix = unique("many");
    let groups: BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> = (0..200)
        .map(|number| {
            let offsets = (0..3).map(|at| (TopicPartition::new(topic, at), wanted(2, "")));
            (format!("{prefix}-{number:03}"), offsets.collect())
        })
        .collect();
    let begun = std::time::Instant::now();
    client
        .commit_offsets_in_transaction(&unique("kbr-many"), &groups)
        .await
        .unwrap();
    println!("200 groups in {:?}", begun.elapsed());
    let names: Vec<String> = groups.keys().cloned().collect();
    let read = client.committed_offsets(&names, true).await.unwrap();
    assert_eq!(read.len(), 200);
    assert!(
        read.values()
            .all(|offsets| offsets.as_ref().unwrap().len() == 3)
    );
}

async fn records_and_topics_are_deleted(client: &Client, topic: &str) {
    let at = TopicPartition::new(topic, 0);
    let deleted = client
        .delete_records(&[(at.clone(), Offset(4))])
        .await
        .unwrap();
    assert_eq!(deleted[&at], Ok(Offset(4)));
    let wanted = [(at.clone(), OffsetAt::Earliest)];
    let found = client
        .list_offsets(&wanted, Isolation::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(found[&at].as_ref().unwrap().offset, Offset(4));
    let beyond = client
        .delete_records(&[(at.clone(), Offset(99))])
        .await
        .unwrap();
    let code = beyond[&at].as_ref().unwrap_err().code();
    assert_eq!(code, Some(ErrorCode::OFFSET_OUT_OF_RANGE));

    let names = [topic.to_string(), "missing".to_string()];
    let deleted = client.delete_topics(&names).await.unwrap();
    assert!(deleted[0].1.is_ok());
    let missing = deleted[1].1.as_ref().unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}
