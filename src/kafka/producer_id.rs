//! InitProducerId: an identity for idempotent and transactional writes.

use super::client::{Client, not_yet};
use super::error::Result;
use std::time::Duration;

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
        let _ = (transactional_id, timeout);
        not_yet("init_producer_id")
    }
}
