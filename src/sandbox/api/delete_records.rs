//! DeleteRecords: v0–v2. −1 means up to the high watermark. Refused on topics that are only compacted.

use super::{Api, Context};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::configs;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

impl Api for DeleteRecordsRequest {
    async fn serve(self, cx: &Context<'_>) -> DeleteRecordsResponse {
        let mut state = cx.cluster.state();
        let response = answer(self, |topic, wanted| {
            delete(topic, wanted, &mut state, cx.broker)
        });
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DeleteRecordsResponse {
        answer(self, |_, _| Err(code))
    }
}

fn delete(
    name: &str,
    wanted: &DeleteRecordsPartition,
    state: &mut State,
    broker: i32,
) -> Result<i64, i16> {
    state
        .partition(name, wanted.partition_index)?
        .check_leader(broker, -1)?;
    let deletable = state.topics.get(name).is_some_and(|topic| {
        configs::effective(&topic.configs, "cleanup.policy")
            .split(',')
            .any(|policy| policy == "delete")
    });
    if !deletable {
        return Err(codes::POLICY_VIOLATION);
    }
    let log = &mut state.partition_mut(name, wanted.partition_index)?.log;
    let before = match wanted.offset {
        -1 => log.end_offset(),
        offset => offset,
    };
    if before < 0 || before > log.end_offset() {
        return Err(codes::OFFSET_OUT_OF_RANGE);
    }
    log.delete_before(before);
    Ok(log.log_start_offset())
}

fn answer(
    request: DeleteRecordsRequest,
    mut delete: impl FnMut(&str, &DeleteRecordsPartition) -> Result<i64, i16>,
) -> DeleteRecordsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    let deleted = delete(&topic.name, wanted);
                    DeleteRecordsPartitionResult::default()
                        .with_partition_index(wanted.partition_index)
                        .with_low_watermark(deleted.unwrap_or(-1))
                        .with_error_code(deleted.err().unwrap_or(codes::NONE))
                })
                .collect();
            DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    DeleteRecordsResponse::default().with_topics(topics)
}
