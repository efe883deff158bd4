//! What a write keeps in the journal, and how it goes on from there after a crash.

use super::write::WriteStep;
use super::{created_id, other_than};
use crate::base::text::grouped;
use crate::dsl::steps::step_error;
use crate::dsl::verbs::restore::predicted;
use crate::engine::restore::{self, TargetState, TopicReport, WriteContext, WriteProgress};
use crate::kafka::ProducerIdentity;
use crate::run::{Reconciled, StepContext, StepError, StoredMapping};
use serde_json::{Value, json};
use std::sync::Arc;

fn note_of(identity: ProducerIdentity) -> Value {
    json!({
        "producer_id": identity.producer_id,
        "producer_epoch": identity.producer_epoch,
    })
}

/// The last identity that an earlier attempt wrote with, if it came to that.
fn last_identity(context: &StepContext) -> Option<ProducerIdentity> {
    let notes = context.attempt.notes.iter().rev();
    notes
        .filter_map(|note| {
            Some(ProducerIdentity {
                producer_id: note["producer_id"].as_i64()?,
                producer_epoch: note["producer_epoch"].as_i64()?.try_into().ok()?,
            })
        })
        .next()
}

impl WriteStep {
    pub(super) fn write_context(&self, context: &StepContext) -> WriteContext {
        let attempt = context.attempt.clone();
        WriteContext {
            progress: context.progress.clone(),
            cancel: context.cancel.clone(),
            identity: last_identity(context),
            identity_known: Arc::new(move |identity| {
                let noted = attempt.note(&note_of(identity));
                noted.map_err(|error| error.to_string())
            }),
            limit: self.run.plan.rate,
            pause: context.pause.clone(),
        }
    }

    /// That the topic is not the one which the run has created, or which it was planned for.
    async fn other_topic(&self, context: &StepContext) -> Result<Option<String>, StepError> {
        let write = &self.write;
        let planned = match &write.target {
            TargetState::Absent => created_id(context, &write.topic).unwrap_or_default(),
            TargetState::Empty { id } | TargetState::HasRecords { id, .. } => *id,
        };
        let client = &self.run.cluster.0.client;
        other_than(restore::same_topic(&write.topic, planned, client).await)
    }

    pub(super) async fn found(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        if let Some(what) = self.other_topic(context).await? {
            return Ok(Reconciled::Foreign(what));
        }
        let found = restore::reconcile_write(
            &self.write,
            &self.run.snapshot.0.snapshot,
            &self.run.cluster.0.client,
            last_identity(context),
        )
        .await;
        let all = predicted(self.write.records());
        Ok(match found.map_err(step_error)? {
            WriteProgress::NotBegun => Reconciled::NotDone,
            WriteProgress::Partial { records } => {
                let written: u64 = records.values().sum();
                Reconciled::Partial(format!("{} of {all} records are there", grouped(written)))
            }
            // It is gone through once more without writing, for where each record is.
            WriteProgress::Complete => Reconciled::Partial(format!("all {all} records are there")),
            WriteProgress::Foreign(what) => Reconciled::Foreign(what),
        })
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
