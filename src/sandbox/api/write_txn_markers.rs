//! WriteTxnMarkers: v1. What coordinators send; an offset-preserving restore uses it to fill an offset.

use super::{Api, Context};
use crate::sandbox::cluster::{State, now_ms};
use crate::sandbox::codes;
use crate::sandbox::log::Marker;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

impl Api for WriteTxnMarkersRequest {
    async fn serve(self, cx: &Context<'_>) -> WriteTxnMarkersResponse {
        let mut state = cx.cluster.state();
        let response = answer(self, |marker, topic, index| {
            write(marker, topic, index, &mut state, cx.broker)
        });
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> WriteTxnMarkersResponse {
        answer(self, |_, _, _| code)
    }
}

fn write(
    wanted: &WritableTxnMarker,
    topic: &str,
    index: i32,
    state: &mut State,
    broker: i32,
) -> i16 {
    let partition = match state.partition_mut(topic, index) {
        Ok(partition) => partition,
        Err(code) => return code,
    };
    if let Err(code) = partition.check_leader(broker, -1) {
        return code;
    }
    let marker = Marker {
        producer_id: wanted.producer_id.0,
        producer_epoch: wanted.producer_epoch,
        coordinator_epoch: wanted.coordinator_epoch,
        commit: wanted.transaction_result,
    };
    let epoch = partition.leader_epoch;
    match partition.log.append_marker(&marker, epoch, now_ms()) {
        Ok(_) => codes::NONE,
        Err(refusal) => refusal.code,
    }
}

fn answer(
    request: WriteTxnMarkersRequest,
    mut write: impl FnMut(&WritableTxnMarker, &str, i32) -> i16,
) -> WriteTxnMarkersResponse {
    let markers = request
        .markers
        .iter()
        .map(|marker| {
            let topics = marker
                .topics
                .iter()
                .map(|topic| {
                    let partitions = topic
                        .partition_indexes
                        .iter()
                        .map(|index| {
                            WritableTxnMarkerPartitionResult::default()
                                .with_partition_index(*index)
                                .with_error_code(write(marker, &topic.name, *index))
                        })
                        .collect();
                    WritableTxnMarkerTopicResult::default()
                        .with_name(topic.name.clone())
                        .with_partitions(partitions)
                })
                .collect();
            WritableTxnMarkerResult::default()
                .with_producer_id(marker.producer_id)
                .with_topics(topics)
        })
        .collect();
    WriteTxnMarkersResponse::default().with_markers(markers)
}
