//! A step that stands for what is in the way of a whole verb: a selection that matches nothing.

use crate::run::{Blocked, Outcome, Step, StepContext, StepError, StepKind, StepView, ViewLine};
use async_trait::async_trait;
use serde_json::{Value, json};

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

    fn pinned(&self) -> Value {
        json!({ "target": self.target, "blocks": self.blocks })
    }

    fn blocks(&self) -> Vec<Blocked> {
        self.blocks.clone()
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        Err(StepError::new("E0402", "this step is blocked"))
    }

    async fn apply(&self, _context: &StepContext) -> Result<Outcome, StepError> {
        Err(StepError::new("E0402", "this step is blocked"))
    }
}
