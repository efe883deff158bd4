//! Steps that record what happens to them, for the tests of plans and executions.
// Each test binary uses its own part of this.
#![allow(dead_code)]

use async_trait::async_trait;
use kbr::base::{CancellationToken, Digest, time};
use kbr::run::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What happened, in order: `check 1`, `old 1`, `apply 1`, `ask …`.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub fn push(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The effects only.
    pub fn applied(&self) -> Vec<String> {
        self.all()
            .into_iter()
            .filter(|event| event.starts_with("apply"))
            .collect()
    }
}

#[derive(Clone)]
pub struct FakeStep {
    pub name: &'static str,
    pub events: Events,
    pub kind: StepKind,
    pub gate: Option<&'static str>,
    pub blocked: bool,
    pub no_change: bool,
    pub drifted: bool,
    pub fails: bool,
    pub panics: bool,
    pub aborts: bool,
    pub incomplete: bool,
    /// Waits for the cancel, then says it was interrupted.
    pub waits: bool,
    pub pinned: Value,
    pub bounded: Value,
    pub observed: Value,
    /// Cancelled by the effect itself.
    pub cancels: Option<CancellationToken>,
    /// Fails for its own reason after that.
    pub fails_after_cancel: bool,
    /// Keeps its name in the journal before its effect.
    pub notes: bool,
    /// What is found of it after a crash.
    pub reconciled: Reconciled,
    /// Of the executor's room.
    pub room: u32,
    /// Its effect goes on until so many steps are at it at once.
    pub meets: Option<Arc<tokio::sync::Barrier>>,
}

pub fn step(name: &'static str, events: &Events) -> FakeStep {
    FakeStep {
        name,
        events: events.clone(),
        kind: StepKind::Write,
        gate: None,
        blocked: false,
        no_change: false,
        drifted: false,
        fails: false,
        panics: false,
        aborts: false,
        incomplete: false,
        waits: false,
        pinned: json!({ "name": name }),
        bounded: Value::Null,
        observed: Value::Null,
        cancels: None,
        fails_after_cancel: false,
        notes: false,
        reconciled: Reconciled::NotDone,
        room: ROOM,
        meets: None,
    }
}

impl FakeStep {
    pub fn beside(mut self, room: u32) -> Self {
        self.room = room;
        self
    }

    pub fn gated(mut self, word: &'static str) -> Self {
        self.gate = Some(word);
        self.kind = StepKind::Reset;
        self
    }
}

#[async_trait]
impl Step for FakeStep {
    fn kind(&self) -> StepKind {
        self.kind
    }
    fn view(&self) -> StepView {
        StepView {
            no_change: self.no_change,
            ..StepView::of(self.name, vec![Cell::count(1200, "record")])
        }
    }
    fn pinned(&self) -> Value {
        self.pinned.clone()
    }
    fn bounded(&self) -> Value {
        self.bounded.clone()
    }
    fn observed(&self) -> Value {
        self.observed.clone()
    }
    fn saved(&self, _: &mut SavedParts) -> Value {
        json!({ "fake": self.name })
    }
    fn gate(&self) -> Option<Gate> {
        self.gate.map(|word| Gate::new("moves offsets", word))
    }
    fn blocks(&self) -> Vec<Blocked> {
        match self.blocked {
            true => vec![Blocked {
                what: "group checkout is active".into(),
                hint: Some("stop it".into()),
            }],
            false => Vec::new(),
        }
    }
    fn room(&self) -> u32 {
        self.room
    }
    async fn check(&self, _: &StepContext) -> Result<(), StepError> {
        self.events.push(format!("check {}", self.name));
        match self.drifted {
            true => Err(StepError::drift(format!("{} has moved", self.name))),
            false => Ok(()),
        }
    }
    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let attempt = &context.attempt;
        self.events.push(format!(
            "reconcile {} in attempt {} after {} done with {}",
            self.name,
            attempt.number,
            attempt.outcomes.len(),
            json!(attempt.notes)
        ));
        Ok(self.reconciled.clone())
    }
    async fn old_values(&self, _: &StepContext) -> Result<Value, StepError> {
        self.events.push(format!("old {}", self.name));
        Ok(json!({ "offset": 9_007_199_254_740_993_i64 }))
    }
    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        self.events.push(format!("apply {}", self.name));
        if let Some(meets) = &self.meets {
            meets.wait().await;
        }
        if self.notes {
            context.attempt.note(&json!({ "id": self.name }))?;
        }
        if self.aborts {
            std::process::abort();
        }
        if self.panics {
            panic!("index out of bounds");
        }
        if self.fails {
            return Err(StepError::new("E0999", "the broker said no"));
        }
        if let Some(cancel) = &self.cancels {
            cancel.cancel();
        }
        if self.fails_after_cancel {
            return Err(StepError::new("E0999", "the broker said no"));
        }
        if self.waits {
            context.cancel.cancelled().await;
            return Err(StepError::interrupted("stopped at offset 17"));
        }
        let mut outcome = Outcome::of(json!({ "written": 1200 })).total("records written", 1200);
        if self.incomplete {
            outcome
                .incomplete
                .push("3 offsets were lost to retention".into());
        }
        Ok(outcome)
    }
}

/// Answers every question with the same text.
pub struct Typed(pub &'static str, pub Events);

#[async_trait]
impl Approver for Typed {
    async fn ask(&self, question: &Question<'_>) -> Answer {
        let covered: Vec<String> = question
            .section
            .steps
            .iter()
            .map(|(planned, _)| planned.ordinal.to_string())
            .collect();
        self.1
            .push(format!("ask {} for {}", question.word, covered.join("+")));
        match self.0 == question.word {
            true => Answer::Yes,
            false => Answer::No(self.0.to_string()),
        }
    }
}

pub fn empty_plan() -> Plan {
    let runbook = RunbookId {
        name: "test.rhai".into(),
        digest: Digest::of(b"script"),
    };
    Plan::new(runbook, BTreeMap::new(), time::now())
}

pub fn plan_of(steps: impl IntoIterator<Item = FakeStep>) -> Plan {
    let mut plan = empty_plan();
    for step in steps {
        plan.add_step(Arc::new(step), None);
    }
    plan
}

/// Executes with nobody looking.
pub async fn run(
    plan: &Plan,
    approval: Approval,
    approver: &dyn Approver,
    journal: &Journal,
) -> Result<RunReport, RunError> {
    let execution = Execution {
        approval,
        approver,
        journal,
        watcher: &NoWatcher,
        cancel: CancellationToken::new(),
    };
    execute(plan, execution).await
}
