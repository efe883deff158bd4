//! Transactions: offsets of groups, fencing, and which code refuses what.

use crate::batches::{now, stamp, transactional};
use crate::groups::{commit, committed};
use crate::harness::{ClusterUnderTest, at, eventually, text, unique};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId,
    InitProducerIdRequest, OffsetFetchRequest, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kbr::base::Offset;
use kbr::kafka::{CommitWanted, Route};
use kbr::record::ProducerStamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A transactional producer that speaks the protocol of before KIP-890, as kbr does.
pub struct Producer<'a> {
    cluster: &'a ClusterUnderTest,
    pub transactional_id: String,
    pub producer_id: i64,
    pub epoch: i16,
    to: Route,
}

impl<'a> Producer<'a> {
    pub async fn begin(cluster: &'a ClusterUnderTest) -> Self {
        Self::begin_as(cluster, &unique("transactional")).await
    }

    pub async fn begin_as(cluster: &'a ClusterUnderTest, transactional_id: &str) -> Self {
        let timeout = Duration::from_secs(60);
        let init = cluster
            .client
            .init_producer_id(Some(transactional_id), timeout);
        let identity = init.await.unwrap();
        Self {
            cluster,
            transactional_id: transactional_id.to_string(),
            producer_id: identity.producer_id,
            epoch: identity.producer_epoch,
            to: cluster.transaction_coordinator(transactional_id).await,
        }
    }

    pub fn stamp(&self, sequence: i32) -> ProducerStamp {
        stamp(self.producer_id, self.epoch, sequence)
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(text(&self.transactional_id))
    }

    /// Adds partition 0 of each topic; the codes in the topics' order.
    pub async fn add_partitions(&self, topics: &[&str]) -> Vec<i16> {
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(
                topics
                    .iter()
                    .map(|topic| {
                        AddPartitionsToTxnTopic::default()
                            .with_name(TopicName(text(topic)))
                            .with_partitions(vec![0])
                    })
                    .collect(),
            );
        // 51 while the markers of the transaction before are still being written.
        let answer = eventually("the transaction before is over", || async {
            let call = self.cluster.client.call_capped(self.to, request.clone(), 3);
            let answer = call.await.unwrap().results_by_topic_v3_and_below;
            let waiting = answer[0].results_by_partition[0].partition_error_code == 51;
            (!waiting).then_some(answer)
        })
        .await;
        let code = |topic: &&str| {
            let found = answer.iter().find(|result| result.name.as_str() == *topic);
            found.unwrap().results_by_partition[0].partition_error_code
        };
        topics.iter().map(code).collect()
    }

    pub async fn add_partition(&self, topic: &str) {
        assert_eq!(self.add_partitions(&[topic]).await, [0]);
    }

    pub async fn send(&self, topic: &str, batch: &[u8]) -> (i16, i64) {
        self.cluster
            .produce_in(&self.transactional_id, topic, batch)
            .await
    }

    pub async fn add_group(&self, group: &str) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text(group)));
        eventually("the transaction before is over", || async {
            let call = self.cluster.client.call_capped(self.to, request.clone(), 3);
            let code = call.await.unwrap().error_code;
            (code != 51).then_some(code)
        })
        .await
    }

    /// Commits an offset for partition 0 of each topic within the transaction; the codes.
    pub async fn commit_offset(&self, group: &str, topics: &[&str], offset: i64) -> Vec<i16> {
        let topics = topics
            .iter()
            .map(|topic| {
                let partition = TxnOffsetCommitRequestPartition::default()
                    .with_partition_index(0)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(Some(text("moved")));
                TxnOffsetCommitRequestTopic::default()
                    .with_name(TopicName(text(topic)))
                    .with_partitions(vec![partition])
            })
            .collect();
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id())
            .with_group_id(GroupId(text(group)))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(topics);
        let to = self.cluster.group_coordinator(group).await;
        let answer = self
            .cluster
            .client
            .call_capped(to, request, 3)
            .await
            .unwrap();
        let topics = answer.topics.iter();
        topics.map(|topic| topic.partitions[0].error_code).collect()
    }

    pub async fn end(&self, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        eventually("the end before is over", || async {
            let call = self.cluster.client.call_capped(self.to, request.clone(), 4);
            let code = call.await.unwrap().error_code;
            (code != 51).then_some(code)
        })
        .await
    }
}

pub async fn offsets_move_for_missing_empty_and_active_groups_at_once(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let (missing, empty, active) = (unique("missing"), unique("empty"), unique("active"));
    assert_eq!(commit(cluster, &empty, &topic, 1, "before").await, 0);
    cluster.join(&active, &topic).await;
    let groups: BTreeMap<_, _> = [&missing, &empty, &active]
        .into_iter()
        .map(|group| {
            let wanted = CommitWanted {
                offset: Offset(42),
                metadata: "moved".to_string(),
            };
            (group.clone(), BTreeMap::from([(at(&topic, 0), wanted)]))
        })
        .collect();
    let id = unique("transactional");
    let moved = cluster
        .client
        .commit_offsets_in_transaction(&id, &groups)
        .await;
    moved.unwrap();
    for group in [&missing, &empty, &active] {
        let found = committed(cluster, group, &topic).await;
        assert_eq!(found, Some((42, "moved".to_string())), "{group}");
    }
}

pub async fn an_aborted_transaction_leaves_nothing(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let (missing, empty) = (unique("missing"), unique("empty"));
    assert_eq!(commit(cluster, &empty, &topic, 1, "before").await, 0);
    let producer = Producer::begin(cluster).await;
    for group in [&missing, &empty] {
        assert_eq!(producer.add_group(group).await, 0);
        assert_eq!(producer.commit_offset(group, &[&topic], 42).await, [0]);
    }
    assert_eq!(producer.end(false).await, 0);
    let found = committed(cluster, &empty, &topic).await;
    assert_eq!(found, Some((1, "before".to_string())));
    assert_eq!(committed(cluster, &missing, &topic).await, None);
}

pub async fn a_missing_topic_answers_3_and_does_not_end_the_transaction(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let missing = unique("missing");
    let group = unique("group");
    let producer = Producer::begin(cluster).await;
    assert_eq!(producer.add_group(&group).await, 0);
    let mut codes = producer
        .commit_offset(&group, &[&topic, &missing], 42)
        .await;
    codes.sort_unstable();
    assert_eq!(codes, [0, 3]);
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(committed(cluster, &group, &topic).await.unwrap().0, 42);
}

/// Code and offset of partition 0, read with `require_stable` once.
async fn stable_read(
    cluster: &ClusterUnderTest,
    group: &str,
    topic: &str,
    stable: bool,
) -> (i16, i64) {
    let topics = vec![
        OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![0]),
    ];
    let request = OffsetFetchRequest::default()
        .with_groups(vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text(group)))
                .with_topics(Some(topics)),
        ])
        .with_require_stable(stable);
    let to = cluster.group_coordinator(group).await;
    let answer = cluster.client.call_capped(to, request, 8).await.unwrap();
    let partition = &answer.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

pub async fn a_pending_offset_answers_88_to_a_stable_read(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(commit(cluster, &group, &topic, 1, "before").await, 0);
    let producer = Producer::begin(cluster).await;
    assert_eq!(producer.add_group(&group).await, 0);
    assert_eq!(producer.commit_offset(&group, &[&topic], 42).await, [0]);
    assert_eq!(stable_read(cluster, &group, &topic, true).await, (88, -1));
    assert_eq!(stable_read(cluster, &group, &topic, false).await, (0, 1));
    assert_eq!(producer.end(true).await, 0);
    eventually("the committed offset", || async {
        (stable_read(cluster, &group, &topic, true).await == (0, 42)).then_some(())
    })
    .await;
}

pub async fn a_plain_commit_in_between_wins(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    let producer = Producer::begin(cluster).await;
    assert_eq!(producer.add_group(&group).await, 0);
    assert_eq!(producer.commit_offset(&group, &[&topic], 42).await, [0]);
    assert_eq!(commit(cluster, &group, &topic, 7, "between").await, 0);
    assert_eq!(producer.end(true).await, 0);
    let found = committed(cluster, &group, &topic).await;
    assert_eq!(found, Some((7, "between".to_string())));
}

pub async fn ending_twice_is_fine_and_ending_otherwise_answers_48(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let producer = Producer::begin(cluster).await;
    assert_eq!(producer.end(true).await, 48);
    producer.add_partition(&topic).await;
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(producer.end(false).await, 48);
}

pub async fn a_group_that_is_not_in_the_transaction_answers_48(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&topic).await;
    let codes = producer.commit_offset(&unique("group"), &[&topic], 1).await;
    assert_eq!(codes, [48]);
    assert_eq!(producer.end(false).await, 0);
}

pub async fn a_new_instance_fences_the_old_one(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let old = Producer::begin(cluster).await;
    let new = Producer::begin_as(cluster, &old.transactional_id).await;
    assert_eq!(new.producer_id, old.producer_id);
    assert_eq!(new.epoch, old.epoch + 1);
    assert_eq!(old.add_partitions(&[&topic]).await, [90]);
    assert_eq!(old.add_group(&unique("group")).await, 90);
    assert_eq!(old.end(true).await, 90);
    new.add_partition(&topic).await;
    let batch = transactional(1, now(), new.stamp(0));
    assert_eq!(new.send(&topic, &batch).await, (0, 0));
    let fenced = transactional(1, now(), old.stamp(0));
    assert_eq!(old.send(&topic, &fenced).await, (47, -1));
    assert_eq!(new.end(true).await, 0);
}

pub async fn an_open_transaction_of_an_older_instance_is_aborted(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    let old = Producer::begin(cluster).await;
    old.add_partition(&topic).await;
    let batch = transactional(1, now(), old.stamp(0));
    assert_eq!(old.send(&topic, &batch).await, (0, 0));
    assert_eq!(old.add_group(&group).await, 0);
    assert_eq!(old.commit_offset(&group, &[&topic], 42).await, [0]);
    let new = Producer::begin_as(cluster, &old.transactional_id).await;
    // One epoch for the abort, one for the new instance.
    assert_eq!(new.epoch, old.epoch + 2);
    assert_eq!(cluster.ends(&topic).await, (0, 2, 2));
    assert_eq!(committed(cluster, &group, &topic).await, None);
    assert_eq!(old.end(true).await, 90);
}

pub async fn a_partition_that_is_not_in_the_transaction_answers_120_or_before_version_11_48(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let other = cluster.topic(&[]).await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&other).await;
    let batch = transactional(1, now(), producer.stamp(0));
    let id = Some(producer.transactional_id.as_str());
    let newer = cluster.produced(&topic, &batch, id, 11).await;
    assert_eq!((newer.error.0, newer.base_offset.0), (120, -1));
    let older = cluster.produced(&topic, &batch, id, 10).await;
    assert_eq!((older.error.0, older.base_offset.0), (48, -1));
    assert_eq!(producer.end(false).await, 0);
}

pub async fn one_bad_partition_keeps_the_others_out(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let missing = unique("missing");
    let producer = Producer::begin(cluster).await;
    let codes = producer.add_partitions(&[&topic, &missing]).await;
    assert_eq!(codes, [55, 3]);
    assert_eq!(producer.end(true).await, 48);
}

pub async fn an_unknown_transactional_id_answers_49(cluster: &ClusterUnderTest) {
    let id = unique("unknown");
    let producer = Producer {
        cluster,
        transactional_id: id.clone(),
        producer_id: 123_456,
        epoch: 0,
        to: eventually("the coordinator", || async {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(text(&unique("other")))))
                .with_transaction_timeout_ms(1000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let to = cluster.transaction_coordinator(&id).await;
            let answer = cluster.client.call_capped(to, request, 4).await.unwrap();
            (answer.error_code == 0).then_some(to)
        })
        .await,
    };
    assert_eq!(producer.end(true).await, 49);
    assert_eq!(producer.add_group(&unique("group")).await, 49);
}
