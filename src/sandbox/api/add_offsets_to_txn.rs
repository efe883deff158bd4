//! AddOffsetsToTxn: v0–v4. Makes a group part of the transaction; the group need not exist.

use super::{Api, Context, code_of};
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

impl Api for AddOffsetsToTxnRequest {
    async fn serve(self, cx: &Context<'_>) -> AddOffsetsToTxnResponse {
        let mut state = cx.cluster.state();
        let identity = Identity {
            producer_id: self.producer_id.0,
            producer_epoch: self.producer_epoch,
        };
        let added = cx
            .check_coordinator(&state, &self.transactional_id)
            .and_then(|()| {
                state.add_group(
                    &self.transactional_id,
                    identity,
                    &self.group_id,
                    Fencing::since(cx.version, 2),
                )
            });
        AddOffsetsToTxnResponse::default().with_error_code(code_of(added))
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> AddOffsetsToTxnResponse {
        AddOffsetsToTxnResponse::default().with_error_code(code)
    }
}
