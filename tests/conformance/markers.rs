//! WriteTxnMarkers: how an offset-preserving restore fills an offset that has no record.

use crate::batches::{base_offsets, batch, now};
use crate::harness::{ClusterUnderTest, text};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{ProducerId, TopicName, WriteTxnMarkersRequest};
use kbr::kafka::Isolation::{ReadCommitted, ReadUncommitted};
use kbr::kafka::Route;
use kbr::record::{ControlType, ProducerStamp, batches};

/// Writes an abort marker to partition 0 and returns its code.
async fn abort(cluster: &ClusterUnderTest, topic: &str, producer_id: i64, epoch: i16) -> i16 {
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(epoch)
        .with_transaction_result(false)
        .with_coordinator_epoch(0)
        .with_topics(vec![
            WritableTxnMarkerTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partition_indexes(vec![0]),
        ]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let to = Route::Broker(cluster.leader(topic).await);
    let answer = cluster.client.call(to, request).await.unwrap();
    answer.markers[0].topics[0].partitions[0].error_code
}

async fn fresh_producer(cluster: &ClusterUnderTest) -> i64 {
    let timeout = std::time::Duration::from_secs(60);
    let identity = cluster.client.init_producer_id(None, timeout).await;
    identity.unwrap().producer_id
}

pub async fn a_marker_takes_one_offset_each_time(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let plain = batch(1, now(), ProducerStamp::NONE);
    assert_eq!(cluster.produce(&topic, &plain).await, (0, 0));
    let id = fresh_producer(cluster).await;
    assert_eq!(abort(cluster, &topic, id, 0).await, 0);
    assert_eq!(abort(cluster, &topic, id, 0).await, 0);
    assert_eq!(cluster.produce(&topic, &plain).await, (0, 3));
    assert_eq!(cluster.ends(&topic).await, (0, 4, 4));
    let fetched = cluster.fetch(&topic, 0, ReadUncommitted).await.records;
    assert_eq!(base_offsets(&fetched), [0, 1, 2, 3]);
    let marker = batches(&fetched).nth(1).unwrap().unwrap();
    assert_eq!(marker.control_type().unwrap(), Some(ControlType::Abort));
    assert_eq!(marker.bytes().len(), 78);
    assert_eq!(marker.header.producer_id, id);
    assert_eq!(marker.header.base_sequence, -1);
    let committed = cluster.fetch(&topic, 0, ReadCommitted).await;
    assert_eq!(committed.aborted, []);
}

pub async fn a_marker_of_an_older_epoch_answers_47(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let id = fresh_producer(cluster).await;
    assert_eq!(abort(cluster, &topic, id, 3).await, 0);
    assert_eq!(abort(cluster, &topic, id, 2).await, 47);
}
