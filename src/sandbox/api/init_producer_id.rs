//! InitProducerId: v0–v5. A transaction left open by an earlier instance is aborted and answered with 51 once.

use super::{Api, Context};
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

impl Api for InitProducerIdRequest {
    async fn serve(self, cx: &Context<'_>) -> InitProducerIdResponse {
        let mut state = cx.cluster.state();
        if let Some(id) = &self.transactional_id
            && let Err(code) = cx.check_coordinator(&state, id)
        {
            return failed(code);
        }
        let given = (cx.version >= 3 && self.producer_id.0 >= 0).then_some(Identity {
            producer_id: self.producer_id.0,
            producer_epoch: self.producer_epoch,
        });
        let identity = state.init_producer_id(
            self.transactional_id.as_ref().map(|id| id.as_str()),
            self.transaction_timeout_ms,
            given,
            Fencing::since(cx.version, 4),
        );
        drop(state);
        cx.cluster.touch();
        match identity {
            Ok(identity) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(identity.producer_id))
                .with_producer_epoch(identity.producer_epoch),
            Err(code) => failed(code),
        }
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> InitProducerIdResponse {
        failed(code)
    }
}

fn failed(code: i16) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
