//! CreatePartitions: v0–v3. The count is the new total and may only grow.

use super::{Api, Context, text};
use crate::sandbox::cluster::State;
use crate::sandbox::codes::{self, Refusal};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

impl Api for CreatePartitionsRequest {
    async fn serve(self, cx: &Context<'_>) -> CreatePartitionsResponse {
        let mut state = cx.cluster.state();
        let results = self
            .topics
            .iter()
            .map(|topic| describe(topic, create(topic, &mut state, self.validate_only)))
            .collect();
        drop(state);
        cx.cluster.touch();
        CreatePartitionsResponse::default().with_results(results)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> CreatePartitionsResponse {
        let results = self
            .topics
            .iter()
            .map(|topic| describe(topic, Err(Refusal::new(code, codes::name(code)))))
            .collect();
        CreatePartitionsResponse::default().with_results(results)
    }
}

fn describe(
    topic: &CreatePartitionsTopic,
    created: Result<(), Refusal>,
) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
    match created {
        Ok(()) => result.with_error_message(None),
        Err(refusal) => result
            .with_error_code(refusal.code)
            .with_error_message(Some(text(&refusal.message))),
    }
}

fn create(
    topic: &CreatePartitionsTopic,
    state: &mut State,
    validate_only: bool,
) -> Result<(), Refusal> {
    let name = topic.name.as_str();
    let Some(present) = state.topics.get(name).map(|topic| topic.partitions.len()) else {
        return Err(Refusal::new(
            codes::UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.",
        ));
    };
    if usize::try_from(topic.count).unwrap_or(0) <= present {
        return Err(Refusal::new(
            codes::INVALID_PARTITIONS,
            format!(
                "The topic {name} currently has {present} partition(s); {} would not be an increase.",
                topic.count
            ),
        ));
    }
    if validate_only {
        return Ok(());
    }
    state.grow_topic(name, topic.count)
}
