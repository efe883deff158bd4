//! ListOffsets: v1–v10. Log start (−2, −4), end (−1), largest timestamp (−3), tiered (−5: none), or the first
//! record at or after a time. With read_committed nothing at or past the last stable offset is found.

use super::{Api, Context};
use crate::sandbox::cluster::Partition;
use crate::sandbox::codes;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

impl Api for ListOffsetsRequest {
    async fn serve(self, cx: &Context<'_>) -> ListOffsetsResponse {
        let state = cx.cluster.state();
        let committed_only = self.isolation_level == 1;
        answer(self, cx.version, |topic, wanted| {
            let partition = state.partition(topic, wanted.partition_index)?;
            partition.check_leader(cx.broker, wanted.current_leader_epoch)?;
            find(partition, wanted.timestamp, committed_only)
        })
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> ListOffsetsResponse {
        answer(self, cx.version, |_, _| Err(code))
    }
}

/// Timestamp, offset and leader epoch; −1 each for nothing.
type Found = (i64, i64, i32);

fn find(partition: &Partition, timestamp: i64, committed_only: bool) -> Result<Found, i16> {
    let log = &partition.log;
    let bound = if committed_only {
        log.last_stable_offset()
    } else {
        log.end_offset()
    };
    let record = match timestamp {
        -1 => return Ok((-1, bound, partition.leader_epoch)),
        -2 | -4 => {
            let start = log.log_start_offset();
            return Ok((-1, start, log.epoch_at(start)));
        }
        -5 => None,
        -3 => log
            .offset_of_max_timestamp()
            .map_err(|refusal| refusal.code)?,
        time if time >= 0 => log.offset_for_time(time).map_err(|refusal| refusal.code)?,
        _ => return Err(codes::INVALID_REQUEST),
    };
    Ok(record
        .filter(|(_, offset)| *offset < bound)
        .map_or((-1, -1, -1), |(time, offset)| {
            (time, offset, log.epoch_at(offset))
        }))
}

fn answer(
    request: ListOffsetsRequest,
    version: i16,
    find: impl Fn(&str, &ListOffsetsPartition) -> Result<Found, i16>,
) -> ListOffsetsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    let (code, (timestamp, offset, leader_epoch)) = match find(&topic.name, wanted)
                    {
                        Ok(found) => (codes::NONE, found),
                        Err(code) => (code, (-1, -1, -1)),
                    };
                    let response = ListOffsetsPartitionResponse::default()
                        .with_partition_index(wanted.partition_index)
                        .with_error_code(code)
                        .with_timestamp(timestamp)
                        .with_offset(offset);
                    if version >= 4 {
                        response.with_leader_epoch(leader_epoch)
                    } else {
                        response
                    }
                })
                .collect();
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    ListOffsetsResponse::default().with_topics(topics)
}
