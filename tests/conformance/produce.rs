//! Produce: offsets, sequences, and what is refused with which code.

use crate::batches::{self, batch, now, seal, stamp};
use crate::harness::{ClusterUnderTest, PRODUCE_BEFORE_KIP_890, unique};
use kbr::kafka::Isolation::ReadUncommitted;
use kbr::record::{BatchHeader, ControlType, ProducerStamp, control_batch};
use std::time::Duration;

async fn producer(cluster: &ClusterUnderTest) -> i64 {
    let timeout = Duration::from_secs(60);
    let identity = cluster.client.init_producer_id(None, timeout).await;
    identity.unwrap().producer_id
}

pub async fn a_produced_batch_gets_its_offset_and_leader_epoch_and_keeps_every_other_byte(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let sent = batch(3, now(), ProducerStamp::NONE);
    assert_eq!(cluster.produce(&topic, &sent).await, (0, 0));
    assert_eq!(cluster.produce(&topic, &sent).await, (0, 3));
    let fetched = cluster.fetch(&topic, 3, ReadUncommitted).await.records;
    assert_eq!(fetched.len(), sent.len());
    let header = BatchHeader::parse(&fetched).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (3, 0));
    assert_eq!(fetched[8..12], sent[8..12]);
    assert_eq!(fetched[16..], sent[16..]);
}

pub async fn a_duplicate_batch_answers_0_with_the_original_offset(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let first = batch(2, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &first).await, (0, 0));
    let second = batch(1, now(), stamp(id, 0, 2));
    assert_eq!(cluster.produce(&topic, &second).await, (0, 2));
    assert_eq!(cluster.produce(&topic, &first).await, (0, 0));
    assert_eq!(cluster.ends(&topic).await, (0, 3, 3));
}

pub async fn other_bytes_under_known_sequences_are_dropped_with_the_old_offset(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let time = now();
    let sent = batch(1, time, stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &sent).await, (0, 0));
    let other = batch(1, time - 5, stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &other).await, (0, 0));
    let fetched = cluster.fetch(&topic, 0, ReadUncommitted).await.records;
    assert_eq!(batches::times(&fetched), [(0, time)]);
}

pub async fn a_gap_in_the_sequences_answers_45(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let first = batch(2, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &first).await, (0, 0));
    let gap = batch(1, now(), stamp(id, 0, 3));
    assert_eq!(cluster.produce(&topic, &gap).await, (45, -1));
    let next = batch(1, now(), stamp(id, 0, 2));
    assert_eq!(cluster.produce(&topic, &next).await, (0, 2));
}

pub async fn a_fresh_producer_may_begin_with_any_sequence(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let late = batch(1, now(), stamp(id, 0, 1000));
    assert_eq!(cluster.produce(&topic, &late).await, (0, 0));
    let first = batch(1, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &first).await, (45, -1));
}

pub async fn only_the_last_five_batches_are_known(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    for sequence in 0..6 {
        let next = batch(1, now(), stamp(id, 0, sequence));
        assert_eq!(
            cluster.produce(&topic, &next).await,
            (0, i64::from(sequence))
        );
    }
    let fifth_last = batch(1, now(), stamp(id, 0, 1));
    assert_eq!(cluster.produce(&topic, &fifth_last).await, (0, 1));
    let sixth_last = batch(1, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &sixth_last).await, (45, -1));
}

pub async fn sequences_wrap_inside_a_batch(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let wrapping = batch(3, now(), stamp(id, 0, i32::MAX - 1));
    assert_eq!(cluster.produce(&topic, &wrapping).await, (0, 0));
    let next = batch(1, now(), stamp(id, 0, 1));
    assert_eq!(cluster.produce(&topic, &next).await, (0, 3));
}

pub async fn an_older_producer_epoch_answers_47(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let newer = batch(1, now(), stamp(id, 2, 0));
    assert_eq!(cluster.produce(&topic, &newer).await, (0, 0));
    let older = batch(1, now(), stamp(id, 1, 1));
    assert_eq!(cluster.produce(&topic, &older).await, (47, -1));
}

pub async fn a_newer_producer_epoch_begins_at_sequence_0(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let first = batch(1, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &first).await, (0, 0));
    let next = batch(1, now(), stamp(id, 1, 1));
    assert_eq!(cluster.produce(&topic, &next).await, (45, -1));
    let anew = batch(1, now(), stamp(id, 1, 0));
    assert_eq!(cluster.produce(&topic, &anew).await, (0, 1));
}

pub async fn a_count_that_does_not_fit_the_offsets_answers_87(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let mut sent = batch(3, now(), ProducerStamp::NONE);
    // lastOffsetDelta 3 with three records: a hole, as compaction leaves it.
    sent[23..27].copy_from_slice(&3_i32.to_be_bytes());
    seal(&mut sent);
    assert_eq!(cluster.produce(&topic, &sent).await, (87, -1));
}

pub async fn a_damaged_batch_answers_2(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let mut sent = batch(1, now(), ProducerStamp::NONE);
    let last = sent.len() - 1;
    sent[last] ^= 1;
    assert_eq!(cluster.produce(&topic, &sent).await, (2, -1));
}

pub async fn a_batch_over_the_topics_limit_answers_10(cluster: &ClusterUnderTest) {
    let sent = batch(10, now(), ProducerStamp::NONE);
    let fits = sent.len().to_string();
    let too_small = (sent.len() - 1).to_string();
    let topic = cluster.topic(&[("max.message.bytes", &fits)]).await;
    assert_eq!(cluster.produce(&topic, &sent).await, (0, 0));
    let topic = cluster.topic(&[("max.message.bytes", &too_small)]).await;
    assert_eq!(cluster.produce(&topic, &sent).await, (10, -1));
}

pub async fn control_batches_and_two_batches_at_once_answer_87(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let control = control_batch(ControlType::Other(9), 0, now(), -1, -1, 0).unwrap();
    assert_eq!(cluster.produce(&topic, &control).await, (87, -1));
    let one = batch(1, now(), ProducerStamp::NONE);
    let two = [one.as_slice(), one.as_slice()].concat();
    assert_eq!(cluster.produce(&topic, &two).await, (87, -1));
}

pub async fn a_transactional_batch_without_a_transactional_id_answers_53(
    cluster: &ClusterUnderTest,
) {
    let topic = cluster.topic(&[]).await;
    let id = producer(cluster).await;
    let sent = batches::transactional(1, now(), stamp(id, 0, 0));
    assert_eq!(cluster.produce(&topic, &sent).await, (53, -1));
}

pub async fn a_compacted_topic_refuses_a_record_without_a_key(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[("cleanup.policy", "compact")]).await;
    let sent = batches::without_key(now());
    assert_eq!(cluster.produce(&topic, &sent).await, (87, -1));
    let keyed = batch(1, now(), ProducerStamp::NONE);
    assert_eq!(cluster.produce(&topic, &keyed).await, (0, 0));
}

pub async fn a_missing_topic_answers_3(cluster: &ClusterUnderTest) {
    let sent = batch(1, now(), ProducerStamp::NONE);
    let missing = unique("missing");
    assert_eq!(cluster.produce(&missing, &sent).await, (3, -1));
}

pub async fn log_append_time_is_the_brokers(cluster: &ClusterUnderTest) {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let topic = cluster.topic(&configs).await;
    let sent = batch(2, 1_000_000_000_000, ProducerStamp::NONE);
    let before = now();
    let produced = cluster
        .produced(&topic, &sent, None, PRODUCE_BEFORE_KIP_890)
        .await;
    let time = produced.log_append_time.0;
    assert!((before..=now()).contains(&time), "{time}");
    let fetched = cluster.fetch(&topic, 0, ReadUncommitted).await.records;
    assert_eq!(batches::times(&fetched), [(0, time), (1, time)]);
}

pub async fn a_create_time_topic_takes_the_log_append_time_bit_away(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let time = now() - 10_000;
    let mut sent = batches::log_append_time(3, time);
    // The maximum is what a reader of a LogAppendTime batch sees for every record.
    sent[35..43].copy_from_slice(&(time + 5_000).to_be_bytes());
    seal(&mut sent);
    assert_eq!(cluster.produce(&topic, &sent).await, (0, 0));
    let fetched = cluster.fetch(&topic, 0, ReadUncommitted).await.records;
    assert_eq!(
        batches::times(&fetched),
        [(0, time), (1, time + 1), (2, time + 2)]
    );
}

pub async fn a_time_too_far_ahead_answers_32(cluster: &ClusterUnderTest) {
    let configs = [("message.timestamp.after.max.ms", "1000")];
    let topic = cluster.topic(&configs).await;
    let ahead = batch(1, now() + 60_000, ProducerStamp::NONE);
    assert_eq!(cluster.produce(&topic, &ahead).await, (32, -1));
}
