//! The step that sets aside what an existing topic's configs would do to records while they are written. The last steps
//! of the restore put them back; what they were stands in the journal.

use super::restore::{RestoreRun, other_than};
use super::step_error;
use crate::base::text::counted;
use crate::engine::restore::{self, PrepareTopic};
use crate::run::{
    Cell, Detail, Gate, Outcome, Reconciled, SavedParts, Step, StepContext, StepError, StepKind,
    StepView,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) struct PrepareStep {
    pub run: Arc<RestoreRun>,
    /// Its place among the plan's prepares.
    pub index: usize,
    pub prepare: PrepareTopic,
}

impl PrepareStep {
    fn outcome(&self) -> Outcome {
        let prepare = &self.prepare;
        Outcome::of(json!({ "topic": prepare.topic, "id": prepare.id, "set_aside": prepare.set }))
    }
}

#[async_trait]
impl Step for PrepareStep {
    fn kind(&self) -> StepKind {
        StepKind::Update
    }

    fn view(&self) -> StepView {
        let prepare = &self.prepare;
        let count = prepare.set.len();
        let view = StepView::of(
            format!("topic {}", prepare.topic),
            vec![
                Cell::count(count as i64, "config")
                    .before("sets aside")
                    .after(match count {
                        1 => "config while records are written",
                        _ => "configs while records are written",
                    }),
            ],
        );
        let rows = prepare.set.iter().map(|(name, value)| {
            let now = prepare.now.get(name).cloned().unwrap_or_default();
            vec![name.clone(), now, value.clone()]
        });
        let names: Vec<&str> = prepare.set.keys().map(String::as_str).collect();
        view.note(names.join(", ")).detail(Detail {
            columns: ["config", "now", "while records are written"]
                .map(str::to_string)
                .to_vec(),
            rows: rows.collect(),
        })
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        self.run.saved("prepare", self.index, parts)
    }

    fn pinned(&self) -> Value {
        let prepare = &self.prepare;
        json!({
            "restore": self.run.identity(),
            "topic": prepare.topic,
            "topic_id": prepare.id,
            "set": prepare.set,
            "old": prepare.old,
        })
    }

    fn gate(&self) -> Option<Gate> {
        let prepare = &self.prepare;
        (prepare.holds > 0).then(|| {
            Gate::new(
                format!(
                    "{} holds {}, which its configs no longer govern until the last step",
                    prepare.topic,
                    counted(i128::from(prepare.holds), "record")
                ),
                self.run.name(),
            )
        })
    }

    /// Each is about a topic of its own.
    fn room(&self) -> u32 {
        1
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        let (prepare, client) = (&self.prepare, &self.run.cluster.0.client);
        restore::check_prepare_topic(prepare, client)
            .await
            .map_err(step_error)?;
        // Nothing is set aside for a write that could not begin: it would have to be put back by hand.
        let mut writes = self.run.plan.writes.iter();
        match writes.find(|write| write.topic == prepare.topic) {
            Some(write) => restore::check_write_topic(write, None, client)
                .await
                .map_err(step_error),
            None => Ok(()),
        }
    }

    async fn old_values(&self, _context: &StepContext) -> Result<Value, StepError> {
        Ok(json!({ "topic": self.prepare.topic, "configs": self.prepare.old }))
    }

    async fn apply(&self, _context: &StepContext) -> Result<Outcome, StepError> {
        restore::prepare_topic(&self.prepare, &self.run.cluster.0.client)
            .await
            .map_err(step_error)?;
        Ok(self.outcome())
    }

    async fn reconcile(&self, _context: &StepContext) -> Result<Reconciled, StepError> {
        let (prepare, client) = (&self.prepare, &self.run.cluster.0.client);
        if let Some(what) =
            other_than(restore::same_topic(&prepare.topic, prepare.id, client).await)?
        {
            return Ok(Reconciled::Foreign(what));
        }
        let done = restore::is_prepared(prepare, client).await;
        if done.map_err(step_error)? {
            return Ok(Reconciled::Done(Box::new(self.outcome())));
        }
        // Set all at once or not at all: anything else than what was there before is somebody else's.
        let checked = restore::check_prepare_topic(prepare, client).await;
        Ok(match other_than(checked)? {
            None => Reconciled::NotDone,
            Some(what) => Reconciled::Foreign(what),
        })
    }
}
