//! A real cluster of three loses the leader of a partition: the calls find the next one.

mod kafka_real_support;

use kafka_real_support::{RealKafka, batch_of, unique};
use kbr::base::{Offset, PartitionId, TopicPartition};
use kbr::kafka::{
    Class, Client, CommitWanted, ConnectOptions, ErrorCode, FetchPartition, FetchWanted, Isolation,
    NewTopic, OffsetAt, ProducePartition,
};
use kbr::record::{ProducerStamp, SplitBatch};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_time_and_nothing_else() {
    let cluster = RealKafka::start("4.3.0", 3);
    let client = Client::connect(ConnectOptions {
        request_timeout: TIMEOUT,
        retry_deadline: Duration::from_secs(60),
        ..ConnectOptions::new(cluster.bootstrap.split(','))
    })
    .await
    .unwrap();
    let topic = unique("replicated");
    let new = NewTopic {
        name: topic.clone(),
        partitions: 1,
        replication_factor: 3,
        configs: BTreeMap::from([("retention.ms".to_string(), "-1".to_string())]),
    };
    client.create_topics(&[new], false).await.unwrap()[0]
        .1
        .as_ref()
        .unwrap();
    let at = TopicPartition::new(topic.as_str(), 0);
    let producer = client.init_producer_id(None, TIMEOUT).await.unwrap();
    let batch = |sequence: i32| ProducePartition {
        topic: topic.clone(),
        partition: PartitionId(0),
        batch: SplitBatch::new(
            batch_of(
                10,
                1_000,
                ProducerStamp {
                    producer_id: producer.producer_id,
                    producer_epoch: producer.producer_epoch,
                    base_sequence: sequence,
                },
            )
            .into(),
        )
        .unwrap(),
    };
    let leader = client.leader(&at).await.unwrap();
    let first = client
        .produce(leader, vec![batch(0)], TIMEOUT)
        .await
        .unwrap();
    assert_eq!(first[0].base_offset, Offset(0));

    // Has seen this leader, and will not look again by itself.
    let outdated = Client::connect(ConnectOptions::new(cluster.bootstrap.split(',')))
        .await
        .unwrap();
    assert_eq!(outdated.leader(&at).await.unwrap(), leader);

    cluster.stop_node(leader.into(), true);

    // As a writer does it: the same bytes, to whoever leads now, until they are in the log.
    let begun = Instant::now();
    let second = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "no new leader");
        let seen = client.metadata().generation;
        if let Ok(leader) = client.leader(&at).await {
            match client.produce(leader, vec![batch(10)], TIMEOUT).await {
                Ok(produced) if produced[0].error.is_ok() => break produced,
                Ok(produced) => assert_ne!(produced[0].error.class(), Class::Fatal, "{produced:?}"),
                Err(error) => assert_eq!(error.class(), Class::RefreshMetadata, "{error}"),
            }
        }
        client.refresh_metadata(seen).await.unwrap();
    };
    assert_eq!(second[0].base_offset, Offset(10));
    let next = client.leader(&at).await.unwrap();
    assert_ne!(next, leader);

    // A follower would serve any consumer (KIP-392), but not one that still believes in the epoch before: its refusal
    // names the leader (KIP-951).
    let neither = (1..=3)
        .find(|broker| ![leader, next].contains(broker))
        .unwrap();
    let old = outdated.metadata().topics[&topic].clone();
    let wanted = FetchWanted {
        partitions: vec![FetchPartition {
            topic: topic.clone(),
            topic_id: old.id,
            partition: PartitionId(0),
            offset: Offset(0),
            leader_epoch: old.partitions[0].leader_epoch,
            last_fetched_epoch: -1,
            max_bytes: 1 << 20,
        }],
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadUncommitted,
    };
    let refused = outdated.fetch(neither, wanted).await.unwrap().remove(0);
    assert_eq!(refused.error, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(refused.moved_to, Some(next));
    assert_eq!(outdated.metadata().leader(&at), Some(next));

    let end = client
        .list_offsets(
            &[(at.clone(), OffsetAt::Latest)],
            Isolation::ReadUncommitted,
        )
        .await
        .unwrap();
    assert_eq!(end[&at].as_ref().unwrap().offset, Offset(20));

    // Coordinators that lived on the dead broker are found again.
    let groups: BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> = (0..8)
        .map(|number| {
            let wanted = CommitWanted {
                offset: Offset(number),
                metadata: String::new(),
            };
            let offsets = BTreeMap::from([(at.clone(), wanted)]);
            (format!("group-{number}"), offsets)
        })
        .collect();
    client
        .commit_offsets_in_transaction(&unique("kbr"), &groups)
        .await
        .unwrap();
    let names: Vec<String> = groups.keys().cloned().collect();
    for (group, offsets) in client.committed_offsets(&names, true).await.unwrap() {
        assert_eq!(offsets.unwrap()[&at].offset, groups[&group][&at].offset);
    }
    assert_eq!(client.list_groups().await.unwrap().len(), 8);
}
