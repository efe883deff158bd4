//! A plan as it is kept: in the journal for a run to be resumed, in a file for `kbr apply`.
//!
//! It is the plan itself, resolved, so that nothing is evaluated again: what is rebuilt from it has the same digest or
//! is refused. How a step is rebuilt is the business of the layer that made it; here its saved form is only carried.
//! Several steps may share one part (the steps of a restore its plan), which is kept once, and as text: the plan of ten
//! thousand partitions is large, and as a tree of values ten times as large.

use super::{
    ArchiveFact, ClusterFact, Item, Plan, RunbookId, Span, StepError, Stopped, canonical_json,
};
use crate::base::{Digest, TimestampMs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const SCHEMA: &str = "kbr.saved-plan/1";
/// zstd's own default level: a plan repeats itself.
const PACKING: i32 = 3;

/// `kbr.saved-plan/1`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedPlan {
    pub schema: String,
    /// Which kbr saved it.
    pub kbr: String,
    pub digest: Digest,
    pub runbook: RunbookId,
    /// The runbook's whole text: filters and renames are closures in it.
    pub text: String,
    /// The `kbr.toml` whose names it uses.
    pub config: Option<PathBuf>,
    pub arguments: BTreeMap<String, String>,
    pub now: TimestampMs,
    pub now_read: bool,
    pub clusters: Vec<ClusterFact>,
    pub archives: Vec<ArchiveFact>,
    /// What steps share, by its place in this list.
    pub parts: Vec<Box<RawValue>>,
    pub items: Vec<SavedItem>,
    pub stopped: Option<Stopped>,
}

/// A step or a confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum SavedItem {
    Step {
        ordinal: u32,
        span: Option<Span>,
        saved: Value,
    },
    Confirm {
        text: String,
        span: Option<Span>,
    },
}

/// Collects what steps share.
#[derive(Default)]
pub struct SavedParts {
    parts: Vec<Box<RawValue>>,
    known: BTreeMap<usize, usize>,
}

impl SavedParts {
    /// The place of what `owner` shares; made at the first call for this owner.
    pub fn place<T, P: Serialize>(&mut self, owner: &Arc<T>, make: impl FnOnce() -> P) -> usize {
        // The plan holds every owner for as long as its parts are collected: an address names one.
        let address = Arc::as_ptr(owner).cast::<()>() as usize;
        if let Some(place) = self.known.get(&address) {
            return *place;
        }
        // Without a part its steps are refused when they are to be made again.
        let part = to_raw_value(&make()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        self.parts.push(part);
        self.known.insert(address, self.parts.len() - 1);
        self.parts.len() - 1
    }
}

impl Plan {
    /// The plan as it is kept.
    pub fn saved(&self) -> SavedPlan {
        self.saved_as(self.digest())
    }

    /// The same with its digest at hand.
    pub(super) fn saved_as(&self, digest: Digest) -> SavedPlan {
        let mut parts = SavedParts::default();
        let items = self
            .items
            .iter()
            .map(|item| match item {
                Item::Confirm { text, span } => SavedItem::Confirm {
                    text: text.clone(),
                    span: *span,
                },
                Item::Step(planned) => SavedItem::Step {
                    ordinal: planned.ordinal,
                    span: planned.span,
                    saved: planned.step.saved(&mut parts),
                },
            })
            .collect();
        SavedPlan {
            schema: SCHEMA.into(),
            kbr: env!("CARGO_PKG_VERSION").into(),
            digest,
            runbook: self.runbook.clone(),
            text: self.text.to_string(),
            config: self.config.clone(),
            arguments: self.arguments.clone(),
            now: self.now,
            now_read: self.now_read,
            clusters: self.clusters.clone(),
            archives: self.archives.clone(),
            parts: parts.parts,
            items,
            stopped: self.stopped.clone(),
        }
    }
}

impl SavedPlan {
    /// The plan without its items, which the caller rebuilds.
    pub fn without_items(&self) -> Plan {
        let mut plan = Plan::new(self.runbook.clone(), self.arguments.clone(), self.now);
        plan.text = self.text.as_str().into();
        plan.config = self.config.clone();
        plan.now_read = self.now_read;
        plan.clusters = self.clusters.clone();
        plan.archives = self.archives.clone();
        plan.stopped = self.stopped.clone();
        plan
    }

    /// As a file: with a hash over everything, since only a part of a plan is in its digest.
    pub fn to_file(&self) -> String {
        let mut document = json!(self);
        document["seal"] = json!(seal(&document));
        format!("{document:#}\n")
    }

    /// Reads what [`SavedPlan::to_file`] wrote, and nothing that was changed since.
    pub fn from_file(name: &str, text: &str) -> Result<Self, StepError> {
        let broken = |why: String| {
            StepError::new(
                "E0440",
                format!("{name} is not a saved plan as kbr wrote it"),
            )
            .why(why)
            .now("save the plan again: kbr run FILE --save PLAN")
            .exit(super::ExitClass::Usage)
        };
        let mut document: Value =
            serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
        Self::known(&document["schema"], name)?;
        let Some(fields) = document.as_object_mut() else {
            return Err(broken("it is no JSON object".into()));
        };
        let given = fields.remove("seal");
        if given.as_ref().and_then(Value::as_str) != Some(seal(&document).as_str()) {
            return Err(broken(
                "its content does not fit its seal: it was changed".into(),
            ));
        }
        serde_json::from_value(document).map_err(|error| broken(error.to_string()))
    }

    /// As the journal keeps it: small, since every run has one.
    pub fn packed(&self) -> std::io::Result<String> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), PACKING)?;
        serde_json::to_writer(&mut encoder, self)?;
        Ok(STANDARD.encode(encoder.finish()?))
    }

    /// Reads what [`SavedPlan::packed`] made.
    pub fn unpacked(name: &str, packed: &str) -> Result<Self, StepError> {
        let broken = |why: String| {
            StepError::new("E0440", format!("the plan of {name} cannot be read")).why(why)
        };
        let bytes = STANDARD
            .decode(packed)
            .map_err(|error| broken(error.to_string()))?;
        let text =
            zstd::stream::decode_all(&bytes[..]).map_err(|error| broken(error.to_string()))?;
        #[derive(Deserialize)]
        struct Head {
            schema: Value,
        }
        let head: Head =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        Self::known(&head.schema, name)?;
        serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))
    }

    fn known(schema: &Value, name: &str) -> Result<(), StepError> {
        let newer = schema
            .as_str()
            .and_then(|schema| schema.strip_prefix("kbr.saved-plan/"))
            .and_then(|version| version.parse::<u32>().ok())
            .is_some_and(|version| version > 1);
        match newer {
            true => Err(StepError::new(
                "E0441",
                format!("the plan in {name} was saved by a newer kbr"),
            )
            .why(format!("its form is {schema}, this kbr reads {SCHEMA}"))
            .now("use the kbr that saved it, or plan again")
            .exit(super::ExitClass::Usage)),
            false => Ok(()),
        }
    }
}

fn seal(document: &Value) -> String {
    Digest::of(&canonical_json(document)).hex()
}
