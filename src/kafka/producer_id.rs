//! InitProducerId: an identity for idempotent and transactional writes.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::coordinator::CoordinatorKind;
use super::error::{Error, Result};
use super::retry::Backoff;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::time::Duration;

const API: &str = "InitProducerId";

/// A producer's id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

impl Client {
    /// A fresh identity; with a transactional id, the identity bound to it, after anything it had left open
    /// was aborted. `timeout` bounds its transactions. Coordinators that are loading are waited for.
    pub async fn init_producer_id(
        &self,
        transactional_id: Option<&str>,
        timeout: Duration,
    ) -> Result<ProducerIdentity> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(
                transactional_id.map(|id| TransactionalId(StrBytes::from_string(id.to_string()))),
            )
            .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let Some(transactional_id) = transactional_id else {
            return self.init_idempotent(&request).await;
        };
        let request = &request;
        let wanted = BTreeMap::from([(transactional_id.to_string(), ())]);
        let kind = CoordinatorKind::Transaction;
        let mut found = self
            .ask_coordinators(API, kind, wanted, 1, |coordinator, keys| async move {
                let to = Route::Broker(coordinator);
                let outcome = self.init_once(to, request, transactional_id).await;
                Ok(keys
                    .into_iter()
                    .map(|(key, ())| (key, outcome.clone()))
                    .collect())
            })
            .await;
        found
            .remove(transactional_id)
            .unwrap_or_else(|| Err(Error::BadRequest(format!("{API}: no answer"))))
    }

    async fn init_idempotent(&self, request: &InitProducerIdRequest) -> Result<ProducerIdentity> {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let error = match self.init_once(Route::Any, request, "the cluster").await {
                Ok(identity) => return Ok(identity),
                Err(error) => error,
            };
            // An unused id is no harm, so even a lost answer may be asked for again.
            if error.class() == Class::Fatal || !backoff.wait().await {
                return Err(error);
            }
        }
    }

    async fn init_once(
        &self,
        to: Route,
        request: &InitProducerIdRequest,
        on: &str,
    ) -> Result<ProducerIdentity> {
        let answer = self.send(to, request, i16::MAX).await?;
        let code = ErrorCode(answer.error_code);
        if !code.is_ok() {
            return Err(Error::broker(API, on, code, None));
        }
        Ok(ProducerIdentity {
            producer_id: answer.producer_id.0,
            producer_epoch: answer.producer_epoch,
        })
    }
}
