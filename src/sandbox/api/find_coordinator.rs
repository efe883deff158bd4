//! FindCoordinator: v0–v6, for groups (0) and transactional ids (1). One key up to v3, many from v4.

use super::{Api, Context, text};
use crate::sandbox::codes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

impl Api for FindCoordinatorRequest {
    async fn serve(self, cx: &Context<'_>) -> FindCoordinatorResponse {
        if self.key_type != 0 && self.key_type != 1 {
            return self.refuse(codes::INVALID_REQUEST, cx);
        }
        let state = cx.cluster.state();
        answer(self, cx, |key| {
            let id = state
                .coordinator(key)
                .ok_or(codes::COORDINATOR_NOT_AVAILABLE)?;
            let port = state
                .brokers
                .get(&id)
                .map_or(-1, |broker| i32::from(broker.port));
            Ok((id, port))
        })
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> FindCoordinatorResponse {
        answer(self, cx, |_| Err(code))
    }
}

fn answer(
    request: FindCoordinatorRequest,
    cx: &Context<'_>,
    find: impl Fn(&str) -> Result<(i32, i32), i16>,
) -> FindCoordinatorResponse {
    let parts = |key: &str| match find(key) {
        Ok((id, port)) => (id, "127.0.0.1", port, codes::NONE, None),
        Err(code) => (-1, "", -1, code, Some(text(codes::name(code)))),
    };
    if cx.version >= 4 {
        let coordinators = request
            .coordinator_keys
            .iter()
            .map(|key| {
                let (id, host, port, code, message) = parts(key);
                Coordinator::default()
                    .with_key(key.clone())
                    .with_node_id(BrokerId(id))
                    .with_host(text(host))
                    .with_port(port)
                    .with_error_code(code)
                    .with_error_message(message)
            })
            .collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let (id, host, port, code, message) = parts(&request.key);
    FindCoordinatorResponse::default()
        .with_node_id(BrokerId(id))
        .with_host(text(host))
        .with_port(port)
        .with_error_code(code)
        .with_error_message(message)
}
