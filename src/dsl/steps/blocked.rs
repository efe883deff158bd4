//! A step that stands for what is in the way of a whole verb: a selection that matches nothing.

use super::value;
use crate::run::{
    Blocked, Outcome, Reconciled, SavedParts, Step, StepContext, StepError, StepKind, StepView,
    ViewLine,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
pub struct BlockedStep {
    pub target: String,
    pub blocks: Vec<Blocked>,
}

#[async_trait]
impl Step for BlockedStep {
    fn kind(&self) -> StepKind {
        StepKind::Check
    }

    fn view(&self) -> StepView {
        let mut line = ViewLine::of(self.target.clone(), Vec::new());
        line.blocked = self
            .blocks
            .iter()
            .map(|blocked| blocked.what.clone())
            .collect();
        StepView {
            lines: vec![line],
            ..StepView::default()
        }
    }

    fn saved(&self, _parts: &mut SavedParts) -> Value {
        json!({ "step": "blocked", "blocked": value(self) })
    }

    fn pinned(&self) -> Value {
        json!({ "target": self.target, "blocks": self.blocks })
    }

    fn blocks(&self) -> Vec<Blocked> {
        self.blocks.clone()
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        Err(StepError::new("E0402", "this step is blocked"))
    }

    async fn reconcile(&self, _context: &StepContext) -> Result<Reconciled, StepError> {
        Ok(Reconciled::NotDone)
    }

    async fn apply(&self, _context: &StepContext) -> Result<Outcome, StepError> {
        Err(StepError::new("E0402", "this step is blocked"))
    }
}
