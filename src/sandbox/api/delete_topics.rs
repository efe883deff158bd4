//! DeleteTopics: v1–v6, by name or (v6) by id. Committed offsets of the topic go with it.

use super::{Api, Context, text};
use crate::sandbox::codes;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

impl Api for DeleteTopicsRequest {
    async fn serve(self, cx: &Context<'_>) -> DeleteTopicsResponse {
        let mut state = cx.cluster.state();
        let response = answer(self, cx, |wanted| {
            let name = match &wanted.name {
                Some(name) => name.to_string(),
                None => state
                    .topic_name(wanted.topic_id)
                    .ok_or(codes::UNKNOWN_TOPIC_ID)?
                    .to_string(),
            };
            let id = state.topics.get(&name).map(|topic| topic.id);
            if !state.delete_topic(&name) {
                return Err(codes::UNKNOWN_TOPIC_OR_PARTITION);
            }
            Ok((name, id.unwrap_or_default()))
        });
        drop(state);
        cx.cluster.touch();
        response
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> DeleteTopicsResponse {
        answer(self, cx, |_| Err(code))
    }
}

fn answer(
    request: DeleteTopicsRequest,
    cx: &Context<'_>,
    mut delete: impl FnMut(&DeleteTopicState) -> Result<(String, uuid::Uuid), i16>,
) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let responses = request
        .topics
        .into_iter()
        .chain(by_name)
        .map(|wanted| match delete(&wanted) {
            Ok((name, id)) => {
                let result =
                    DeletableTopicResult::default().with_name(Some(TopicName(text(&name))));
                if cx.version >= 6 {
                    result.with_topic_id(id)
                } else {
                    result
                }
            }
            Err(code) => {
                let result = DeletableTopicResult::default()
                    .with_name(wanted.name)
                    .with_topic_id(wanted.topic_id)
                    .with_error_code(code);
                if cx.version >= 5 {
                    result.with_error_message(Some(text(codes::name(code))))
                } else {
                    result
                }
            }
        })
        .collect();
    DeleteTopicsResponse::default().with_responses(responses)
}
