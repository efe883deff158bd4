//! EndTxn: v0–v5. From v5 on (KIP-890) the producer goes on under the next epoch, which the response tells.

use super::{Api, Context};
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

impl Api for EndTxnRequest {
    async fn serve(self, cx: &Context<'_>) -> EndTxnResponse {
        let mut state = cx.cluster.state();
        let identity = Identity {
            producer_id: self.producer_id.0,
            producer_epoch: self.producer_epoch,
        };
        let bump = cx.version >= 5;
        let ended = cx
            .check_coordinator(&state, &self.transactional_id)
            .and_then(|()| {
                state.end_transaction(
                    &self.transactional_id,
                    identity,
                    self.committed,
                    bump,
                    Fencing::since(cx.version, 2),
                )
            });
        drop(state);
        cx.cluster.touch();
        match ended {
            Err(code) => EndTxnResponse::default().with_error_code(code),
            Ok(next) if bump => EndTxnResponse::default()
                .with_producer_id(ProducerId(next.producer_id))
                .with_producer_epoch(next.producer_epoch),
            Ok(_) => EndTxnResponse::default(),
        }
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> EndTxnResponse {
        EndTxnResponse::default().with_error_code(code)
    }
}
