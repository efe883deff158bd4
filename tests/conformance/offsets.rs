//! ListOffsets, DeleteRecords, OffsetForLeaderEpoch, DescribeProducers.

use crate::batches::{batch, now, stamp, transactional};
use crate::harness::{ClusterUnderTest, at, text, unique};
use crate::transactions::Producer;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kbr::base::{Offset, TimestampMs};
use kbr::kafka::Isolation::{self, ReadCommitted, ReadUncommitted};
use kbr::kafka::{OffsetAt, Route};
use kbr::record::ProducerStamp;

/// Error code or offset and timestamp.
async fn found(
    cluster: &ClusterUnderTest,
    topic: &str,
    which: OffsetAt,
    isolation: Isolation,
) -> Result<(i64, i64), i16> {
    let wanted = [(at(topic, 0), which)];
    let mut found = cluster
        .client
        .list_offsets(&wanted, isolation)
        .await
        .unwrap();
    match found.remove(&at(topic, 0)).unwrap() {
        Ok(found) => Ok((found.offset.0, found.timestamp.0)),
        Err(kbr::kafka::Error::Broker { code, .. }) => Err(code.0),
        Err(other) => panic!("{other}"),
    }
}

pub async fn earliest_and_latest_are_the_ends_of_the_log(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    assert_eq!(cluster.ends(&topic).await, (0, 0, 0));
    let sent = batch(4, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    assert_eq!(cluster.ends(&topic).await, (0, 4, 4));
    let latest = found(cluster, &topic, OffsetAt::Latest, ReadUncommitted).await;
    assert_eq!(latest, Ok((4, -1)));
}

pub async fn an_offset_is_found_by_time(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let time = now() - 1_000_000;
    // 0–2 at time…time+2, 3–5 at time+100…time+102.
    cluster
        .produce(&topic, &batch(3, time, ProducerStamp::NONE))
        .await;
    cluster
        .produce(&topic, &batch(3, time + 100, ProducerStamp::NONE))
        .await;
    let ask = async |time| {
        let which = OffsetAt::AtOrAfter(TimestampMs(time));
        found(cluster, &topic, which, ReadUncommitted)
            .await
            .unwrap()
    };
    assert_eq!(ask(0).await, (0, time));
    assert_eq!(ask(time + 1).await, (1, time + 1));
    assert_eq!(ask(time + 3).await, (3, time + 100));
    assert_eq!(ask(time + 102).await, (5, time + 102));
    assert_eq!(ask(time + 103).await, (-1, -1));
}

pub async fn the_largest_timestamp_is_found(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let time = now() - 1_000_000;
    cluster
        .produce(&topic, &batch(3, time + 50, ProducerStamp::NONE))
        .await;
    cluster
        .produce(&topic, &batch(3, time, ProducerStamp::NONE))
        .await;
    let leader = Route::Broker(cluster.leader(&topic).await);
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_current_leader_epoch(-1)
        .with_timestamp(-3);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(TopicName(text(&topic)))
                .with_partitions(vec![partition]),
        ]);
    let answer = cluster.client.call(leader, request).await.unwrap();
    let found = &answer.topics[0].partitions[0];
    assert_eq!(
        (found.error_code, found.offset, found.timestamp),
        (0, 2, time + 52)
    );
}

pub async fn an_open_transaction_holds_the_latest_offset_back(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let time = now() - 1_000_000;
    cluster
        .produce(&topic, &batch(2, time, ProducerStamp::NONE))
        .await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&topic).await;
    producer
        .send(&topic, &transactional(2, time + 10, producer.stamp(0)))
        .await;
    assert_eq!(cluster.ends(&topic).await, (0, 2, 4));
    let which = OffsetAt::AtOrAfter(TimestampMs(time + 5));
    let uncommitted = found(cluster, &topic, which, ReadUncommitted).await;
    assert_eq!(uncommitted, Ok((2, time + 10)));
    let committed = found(cluster, &topic, which, ReadCommitted).await;
    assert_eq!(committed, Ok((-1, -1)));
    assert_eq!(producer.end(false).await, 0);
}

pub async fn a_missing_partition_answers_3(cluster: &ClusterUnderTest) {
    let missing = unique("missing");
    let leader = cluster.topic(&[]).await;
    let leader = Route::Broker(cluster.leader(&leader).await);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(TopicName(text(&missing)))
                .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)]),
        ]);
    let answer = cluster.client.call(leader, request).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 3);
}

async fn delete_before(cluster: &ClusterUnderTest, topic: &str, before: i64) -> Result<i64, i16> {
    let wanted = [(at(topic, 0), Offset(before))];
    let mut deleted = cluster.client.delete_records(&wanted).await.unwrap();
    match deleted.remove(&at(topic, 0)).unwrap() {
        Ok(log_start) => Ok(log_start.0),
        Err(kbr::kafka::Error::Broker { code, .. }) => Err(code.0),
        Err(other) => panic!("{other}"),
    }
}

pub async fn delete_records_moves_the_log_start(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    cluster.produce(&topic, &sent).await;
    assert_eq!(delete_before(cluster, &topic, 7).await, Ok(7));
    assert_eq!(cluster.ends(&topic).await, (7, 10, 10));
    // Backwards it does not move.
    assert_eq!(delete_before(cluster, &topic, 3).await, Ok(7));
    // −1 is the high watermark.
    assert_eq!(delete_before(cluster, &topic, -1).await, Ok(10));
    assert_eq!(cluster.ends(&topic).await, (10, 10, 10));
}

pub async fn delete_records_beyond_the_end_answers_1(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    assert_eq!(delete_before(cluster, &topic, 6).await, Err(1));
}

pub async fn delete_records_on_a_compacted_topic_answers_44(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[("cleanup.policy", "compact")]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    assert_eq!(delete_before(cluster, &topic, 2).await, Err(44));
}

pub async fn the_end_of_the_present_epoch_is_the_end_of_the_log(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    let ask = async |epoch| {
        let wanted = [(at(&topic, 0), epoch)];
        let mut ends = cluster.client.end_offset_for_epoch(&wanted).await.unwrap();
        let end = ends.remove(&at(&topic, 0)).unwrap().unwrap();
        (end.leader_epoch, end.end_offset.0)
    };
    assert_eq!(ask(0).await, (0, 5));
    assert_eq!(ask(7).await, (-1, -1));
}

pub async fn producers_are_described_with_their_open_transactions(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let timeout = std::time::Duration::from_secs(60);
    let id = cluster
        .client
        .init_producer_id(None, timeout)
        .await
        .unwrap()
        .producer_id;
    let sent = batch(3, now(), stamp(id, 0, 0));
    cluster.produce(&topic, &sent).await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&topic).await;
    producer
        .send(&topic, &transactional(1, now(), producer.stamp(0)))
        .await;
    let described = cluster
        .client
        .describe_producers(&[at(&topic, 0)])
        .await
        .unwrap();
    let mut described: Vec<(i64, i32, i64)> = described[&at(&topic, 0)]
        .as_ref()
        .unwrap()
        .iter()
        .map(|one| {
            let open = one.transaction_start.map_or(-1, |offset| offset.0);
            (one.producer_id, one.last_sequence, open)
        })
        .collect();
    described.sort_unstable();
    let mut expected = [(id, 2, -1), (producer.producer_id, 0, 3)];
    expected.sort_unstable();
    assert_eq!(described, expected);
    assert_eq!(producer.end(false).await, 0);
}
