//! A plan: what a runbook would do, every step resolved, with a digest that names exactly this.
//!
//! The digest covers what must be equal (pinned), what must hold (bounded), the runbook's content, its arguments,
//! and the identity of every cluster and archive that was read; not what moves by itself.

use super::{Gate, Step, canonical_json};
use crate::base::{Digest, TimestampMs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A place in a runbook: line and column from 1, length in characters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Span {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

/// Which runbook: its name for people and the hash of its content (with everything it imports).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunbookId {
    pub name: String,
    pub digest: Digest,
}

/// A cluster the runbook read or changes. Only the id is digested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFact {
    pub name: String,
    pub id: String,
    /// `3 brokers, Kafka 4.3`.
    pub description: String,
}

/// An archive the runbook read or adds to. Id and generation hash are digested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFact {
    pub url: String,
    pub id: Option<String>,
    pub generation: Option<u64>,
    pub generation_digest: Option<Digest>,
    /// `generation 214, 38 min old`.
    pub description: String,
}

/// Where the evaluation ended because a value is known after execution only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub span: Option<Span>,
    /// `records written to orders_dr: known after execution`.
    pub why: String,
}

/// One thing in a plan, in the order of the runbook.
#[derive(Clone)]
pub enum Item {
    Step(PlannedStep),
    Confirm { text: String, span: Option<Span> },
}

/// A step in its place.
#[derive(Clone)]
pub struct PlannedStep {
    /// From 1.
    pub ordinal: u32,
    pub step: Arc<dyn Step>,
    pub span: Option<Span>,
}

impl PlannedStep {
    /// What stands in its way, each once: a check may find the same for several groups or partitions.
    pub fn blocks(&self) -> Vec<super::Blocked> {
        let mut distinct = Vec::new();
        for blocked in self.step.blocks() {
            if !distinct.contains(&blocked) {
                distinct.push(blocked);
            }
        }
        distinct
    }
}

/// What one question covers.
#[derive(Clone)]
pub struct GateSection {
    /// The runbook's text, or `None` for a gated step that no `confirm` covers.
    pub text: Option<String>,
    /// The gated steps, and only those.
    pub steps: Vec<(PlannedStep, Gate)>,
    /// The index in `Plan::items` before which it is asked.
    pub before: usize,
}

impl GateSection {
    /// What to type: the gates' words, each once; `yes` for a question that guards no gated step.
    pub fn word(&self) -> String {
        let mut words: Vec<&str> = Vec::new();
        for (_, gate) in &self.steps {
            if !words.contains(&gate.word.as_str()) {
                words.push(&gate.word);
            }
        }
        if words.is_empty() {
            return "yes".to_string();
        }
        words.join(" ")
    }
}

/// What a runbook would do.
#[derive(Clone)]
pub struct Plan {
    pub runbook: RunbookId,
    /// The runbook's whole text.
    pub text: Arc<str>,
    /// The `kbr.toml` that its names were looked up in.
    pub config: Option<PathBuf>,
    /// What was given after `--`.
    pub arguments: BTreeMap<String, String>,
    /// The clock of the evaluation.
    pub now: TimestampMs,
    /// Whether the runbook's outcome depends on `now` (`now()`, `-2h`): then it is digested, and the command to
    /// repeat says `--now`.
    pub now_read: bool,
    pub clusters: Vec<ClusterFact>,
    pub archives: Vec<ArchiveFact>,
    pub items: Vec<Item>,
    pub stopped: Option<Stopped>,
    /// Against stand-ins: gates approve themselves and say so.
    pub rehearsal: bool,
}

/// How long a plan may wait for its approval, by the real clock.
pub(super) const PLAN_LIFETIME_MS: i64 = 60 * 60 * 1000;

impl Plan {
    pub fn new(runbook: RunbookId, arguments: BTreeMap<String, String>, now: TimestampMs) -> Self {
        Self {
            runbook,
            text: "".into(),
            config: None,
            arguments,
            now,
            now_read: false,
            clusters: Vec::new(),
            archives: Vec::new(),
            items: Vec::new(),
            stopped: None,
            rehearsal: false,
        }
    }

    /// Adds a step; the answer is its ordinal, from 1.
    pub fn add_step(&mut self, step: Arc<dyn Step>, span: Option<Span>) -> u32 {
        let ordinal = self.steps().count() as u32 + 1;
        self.items.push(Item::Step(PlannedStep {
            ordinal,
            step,
            span,
        }));
        ordinal
    }

    pub fn add_confirm(&mut self, text: impl Into<String>, span: Option<Span>) {
        self.items.push(Item::Confirm {
            text: text.into(),
            span,
        });
    }

    /// Adds a cluster once, by id and name.
    pub fn add_cluster(&mut self, fact: ClusterFact) {
        if !self
            .clusters
            .iter()
            .any(|known| known.id == fact.id && known.name == fact.name)
        {
            self.clusters.push(fact);
        }
    }

    /// Adds an archive once, by URL and generation.
    pub fn add_archive(&mut self, fact: ArchiveFact) {
        if !self
            .archives
            .iter()
            .any(|known| known.url == fact.url && known.generation == fact.generation)
        {
            self.archives.push(fact);
        }
    }

    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.items.iter().filter_map(|item| match item {
            Item::Step(step) => Some(step),
            Item::Confirm { .. } => None,
        })
    }

    /// The steps that are blocked, and by what.
    pub fn blocked(&self) -> Vec<(u32, Vec<super::Blocked>)> {
        self.steps()
            .map(|planned| (planned.ordinal, planned.blocks()))
            .filter(|(_, blocks)| !blocks.is_empty())
            .collect()
    }

    /// Every question that execution asks, in order.
    ///
    /// A `confirm` covers the gated steps up to the next one, and is asked even if there are none: its author
    /// wanted to be asked. A gate that is asked alone is a question of its own all the same. A gated step before the first `confirm` is a question of its own.
    pub fn gates(&self) -> Vec<GateSection> {
        let mut sections: Vec<GateSection> = Vec::new();
        let mut confirm: Option<usize> = None;
        for (index, item) in self.items.iter().enumerate() {
            match item {
                Item::Confirm { text, .. } => {
                    confirm = Some(sections.len());
                    sections.push(GateSection {
                        text: Some(text.clone()),
                        steps: Vec::new(),
                        before: index,
                    });
                }
                Item::Step(planned) => {
                    let Some(gate) = planned.step.gate() else {
                        continue;
                    };
                    if planned.step.view().no_change {
                        continue;
                    }
                    match confirm.filter(|_| !gate.alone) {
                        Some(section) => sections[section].steps.push((planned.clone(), gate)),
                        None => sections.push(GateSection {
                            text: None,
                            steps: vec![(planned.clone(), gate)],
                            before: index,
                        }),
                    }
                }
            }
        }
        sections
    }

    /// The bytes that are hashed.
    fn canonical(&self) -> Vec<u8> {
        let mut pinned: Vec<Value> = self.steps().map(|planned| planned.step.pinned()).collect();
        self.canonical_of(&mut pinned)
    }

    /// The same with what the steps have pinned at hand, in their order. It is lent: some is large.
    pub(super) fn canonical_of(&self, pinned: &mut [Value]) -> Vec<u8> {
        let mut identity = self.identity(pinned.iter_mut().map(Value::take));
        let canonical = canonical_json(&identity);
        let items = identity["items"].as_array_mut().into_iter().flatten();
        let lent = items.filter_map(|item| item.get_mut("pinned"));
        for (place, value) in pinned.iter_mut().zip(lent) {
            *place = value.take();
        }
        canonical
    }

    fn identity(&self, mut pinned: impl Iterator<Item = Value>) -> Value {
        let mut clusters: Vec<&str> = self.clusters.iter().map(|fact| fact.id.as_str()).collect();
        clusters.sort_unstable();
        clusters.dedup();
        let mut archives: Vec<Value> = self
            .archives
            .iter()
            .map(|fact| {
                json!({
                    "id": fact.id,
                    "generation": fact.generation,
                    "digest": fact.generation_digest,
                    // An archive that does not exist yet has no id: its place stands for it.
                    "url": if fact.id.is_none() { Some(&fact.url) } else { None },
                })
            })
            .collect();
        archives.sort_by_key(canonical_json);
        archives.dedup();
        let items: Vec<Value> = self
            .items
            .iter()
            .map(|item| match item {
                Item::Confirm { text, .. } => json!({ "confirm": text }),
                Item::Step(planned) => {
                    let mut step = json!({
                        "step": planned.ordinal,
                        "kind": planned.step.kind(),
                        "bounded": planned.step.bounded(),
                        "gate": planned.step.gate().map(|gate| gate.word),
                        "blocked": planned.step.blocks().len(),
                        "no_change": planned.step.view().no_change,
                    });
                    // Moved, since the macro copies, and some are large.
                    step["pinned"] = pinned.next().unwrap_or_default();
                    step
                }
            })
            .collect();
        let mut identity = json!({
            "schema": "kbr.plan-digest/1",
            "runbook": self.runbook.digest,
            "arguments": self.arguments,
            "now": self.now_read.then_some(self.now),
            "clusters": clusters,
            "archives": archives,
            "stopped": self.stopped.as_ref().map(|stopped| &stopped.why),
            "rehearsal": self.rehearsal,
        });
        identity["items"] = Value::Array(items);
        identity
    }

    /// The name of exactly this plan.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }
}
