//! Fetch: what comes for an offset, and the list of aborted transactions.

use crate::batches::{base_offsets, batch, now, stamp, transactional};
use crate::harness::{ClusterUnderTest, at, eventually, unique};
use crate::transactions::Producer;
use kbr::base::{Offset, TopicId};
use kbr::kafka::Isolation::{ReadCommitted, ReadUncommitted};
use kbr::record::ProducerStamp;
use std::time::{Duration, Instant};

pub async fn the_whole_batch_that_holds_the_offset_comes(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    for base in [0, 5, 10] {
        assert_eq!(cluster.produce(&topic, &sent).await, (0, base));
    }
    let fetched = cluster.fetch(&topic, 7, ReadUncommitted).await;
    assert_eq!(base_offsets(&fetched.records), [5, 10]);
    assert_eq!(fetched.high_watermark, Offset(15));
    assert_eq!(fetched.last_stable_offset, Offset(15));
    assert_eq!(fetched.log_start_offset, Offset(0));
}

pub async fn offsets_outside_the_log_answer_1(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(5, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    let at_end = cluster.fetch(&topic, 5, ReadUncommitted).await;
    assert_eq!((at_end.error.0, at_end.records.len()), (0, 0));
    let beyond = cluster.fetch(&topic, 6, ReadUncommitted).await;
    assert_eq!(beyond.error.0, 1);
}

pub async fn after_delete_records_the_straddling_batch_comes_whole(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(10, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    let before = [(at(&topic, 0), Offset(4))];
    let deleted = cluster.client.delete_records(&before).await.unwrap();
    assert_eq!(deleted[&at(&topic, 0)], Ok(Offset(4)));
    let fetched = cluster.fetch(&topic, 4, ReadUncommitted).await;
    assert_eq!(base_offsets(&fetched.records), [0]);
    assert_eq!(fetched.log_start_offset, Offset(4));
    let below = cluster.fetch(&topic, 3, ReadUncommitted).await;
    assert_eq!(below.error.0, 1);
}

pub async fn the_first_batch_comes_whole_even_beyond_the_limits(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(10, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &sent).await;
    cluster.produce(&topic, &sent).await;
    let mut wanted = cluster.fetch_wanted(&topic, 0, ReadUncommitted).await;
    wanted.max_bytes = 1;
    wanted.partitions[0].max_bytes = 1;
    let fetched = cluster.fetch_as(&topic, wanted).await;
    assert_eq!(base_offsets(&fetched.records), [0]);
}

pub async fn a_leader_epoch_from_the_future_answers_75(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let mut wanted = cluster.fetch_wanted(&topic, 0, ReadUncommitted).await;
    wanted.partitions[0].leader_epoch = 99;
    let fetched = cluster.fetch_as(&topic, wanted).await;
    assert_eq!(fetched.error.0, 75);
}

pub async fn an_unknown_topic_answers_3_by_name_and_100_by_id(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let leader = cluster.leader(&topic).await;
    let mut wanted = cluster.fetch_wanted(&topic, 0, ReadUncommitted).await;
    wanted.partitions[0].topic_id = TopicId::from_u128(77);
    let by_id = cluster.client.fetch(leader, wanted.clone()).await.unwrap();
    assert_eq!(by_id[0].error.0, 100);
    wanted.partitions[0].topic_id = TopicId::nil();
    wanted.partitions[0].topic = unique("missing");
    let by_name = cluster.client.fetch(leader, wanted).await.unwrap();
    assert_eq!(by_name[0].error.0, 3);
}

/// Producer ids and first offsets of the aborted list.
fn aborted(fetched: &kbr::kafka::FetchedPartition) -> Vec<(i64, i64)> {
    let list = fetched.aborted.iter();
    list.map(|one| (one.producer_id, one.first_offset.0))
        .collect()
}

async fn stable(cluster: &ClusterUnderTest, topic: &str, offset: i64) {
    eventually("the last stable offset", || async {
        (cluster.ends(topic).await.1 == offset).then_some(())
    })
    .await;
}

pub async fn aborted_transactions_are_listed_in_the_order_of_their_markers(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let first = Producer::begin(cluster).await;
    let second = Producer::begin(cluster).await;
    first.add_partition(&topic).await;
    second.add_partition(&topic).await;
    // 0–1 of the first, 2 of the second, 3 plain; marker 4 of the second, marker 5 of the first.
    assert_eq!(
        first
            .send(&topic, &transactional(2, now(), first.stamp(0)))
            .await,
        (0, 0)
    );
    assert_eq!(
        second
            .send(&topic, &transactional(1, now(), second.stamp(0)))
            .await,
        (0, 2)
    );
    let plain = batch(1, now(), ProducerStamp::NONE);
    assert_eq!(cluster.produce(&topic, &plain).await, (0, 3));
    assert_eq!(second.end(false).await, 0);
    eventually("the second's marker", || async {
        (cluster.ends(&topic).await.2 == 5).then_some(())
    })
    .await;
    assert_eq!(first.end(false).await, 0);
    stable(cluster, &topic, 6).await;
    let fetched = cluster.fetch(&topic, 0, ReadCommitted).await;
    assert_eq!(base_offsets(&fetched.records), [0, 2, 3, 4, 5]);
    assert_eq!(
        aborted(&fetched),
        [(second.producer_id, 2), (first.producer_id, 0)]
    );
    let uncommitted = cluster.fetch(&topic, 0, ReadUncommitted).await;
    assert_eq!(aborted(&uncommitted), []);
}

pub async fn an_aborted_transaction_begun_before_the_fetch_offset_is_listed(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&topic).await;
    producer
        .send(&topic, &transactional(3, now(), producer.stamp(0)))
        .await;
    producer
        .send(&topic, &transactional(1, now(), producer.stamp(3)))
        .await;
    assert_eq!(producer.end(false).await, 0);
    stable(cluster, &topic, 5).await;
    let fetched = cluster.fetch(&topic, 3, ReadCommitted).await;
    assert_eq!(base_offsets(&fetched.records), [3, 4]);
    assert_eq!(aborted(&fetched), [(producer.producer_id, 0)]);
    let after = cluster.fetch(&topic, 5, ReadCommitted).await;
    assert_eq!(aborted(&after), []);
}

pub async fn nothing_past_the_last_stable_offset_comes_under_read_committed(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let plain = batch(1, now(), ProducerStamp::NONE);
    cluster.produce(&topic, &plain).await;
    let producer = Producer::begin(cluster).await;
    producer.add_partition(&topic).await;
    producer
        .send(&topic, &transactional(2, now(), producer.stamp(0)))
        .await;
    cluster.produce(&topic, &plain).await;
    let fetched = cluster.fetch(&topic, 0, ReadCommitted).await;
    assert_eq!(base_offsets(&fetched.records), [0]);
    assert_eq!(fetched.last_stable_offset, Offset(1));
    assert_eq!(fetched.high_watermark, Offset(4));
    let beyond = cluster.fetch(&topic, 3, ReadCommitted).await;
    assert_eq!((beyond.error.0, beyond.records.len()), (0, 0));
    assert_eq!(producer.end(true).await, 0);
    stable(cluster, &topic, 5).await;
    let fetched = cluster.fetch(&topic, 0, ReadCommitted).await;
    assert_eq!(base_offsets(&fetched.records), [0, 1, 3, 4]);
    assert_eq!(aborted(&fetched), []);
}

pub async fn a_waiting_fetch_ends_when_records_arrive(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let mut wanted = cluster.fetch_wanted(&topic, 0, ReadUncommitted).await;
    wanted.max_wait = Duration::from_secs(20);
    let began = Instant::now();
    let fetching = cluster.fetch_as(&topic, wanted);
    let producing = async {
        let id = cluster
            .client
            .init_producer_id(None, Duration::from_secs(60))
            .await;
        let sent = batch(1, now(), stamp(id.unwrap().producer_id, 0, 0));
        cluster.produce(&topic, &sent).await
    };
    let (fetched, produced) = tokio::join!(fetching, producing);
    assert_eq!(produced, (0, 0));
    assert_eq!(base_offsets(&fetched.records), [0]);
    assert!(began.elapsed() < Duration::from_secs(15));
}
