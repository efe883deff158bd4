//! What a write keeps in the journal: the producer it writes as, before it writes, and where each record went.

use super::WriteStep;
use crate::engine::restore::{TopicReport, WriteContext};
use crate::kafka::ProducerIdentity;
use crate::run::{StepContext, StepError, StoredMapping};
use serde_json::{Value, json};
use std::sync::Arc;

fn note_of(identity: ProducerIdentity) -> Value {
    json!({
        "producer_id": identity.producer_id,
        "producer_epoch": identity.producer_epoch,
    })
}

impl WriteStep {
    pub(super) fn write_context(&self, context: &StepContext) -> WriteContext {
        let attempt = context.attempt.clone();
        WriteContext {
            progress: context.progress.clone(),
            cancel: context.cancel.clone(),
            identity: None,
            identity_known: Arc::new(move |identity| {
                let noted = attempt.note(&note_of(identity));
                noted.map_err(|error| error.to_string())
            }),
            limit: self.run.plan.rate,
            pause: context.pause.clone(),
        }
    }

    /// Keeps where the records went.
    pub(super) fn keep(
        &self,
        context: &StepContext,
        report: &TopicReport,
    ) -> Result<(), StepError> {
        let mappings = report.partitions.iter().map(|route| {
            let stored = StoredMapping {
                source_topic: self.write.source_topic.clone(),
                source_partition: route.source.0,
                target_topic: report.topic.clone(),
                target_partition: route.target.0,
                records: route.records,
                digest: route.mapping.digest(),
            };
            (stored, route.mapping.to_bytes())
        });
        context.attempt.keep_mappings(mappings)
    }
}
