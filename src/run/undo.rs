//! What the journal says of a run that can be taken back: committed offsets, as they were before each step that changed
//! them. Everything else that it did is named, with why it stays.

use super::grouped::rows_of;
use super::{JournalledStep, RunRecord, StepDocument, StepKind};
use crate::base::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What of a run can be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undoable {
    /// The last one first.
    pub steps: Vec<UndoStep>,
    pub left: Vec<NotUndone>,
}

/// Committed offsets that a step has changed, or may have if it never came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoStep {
    pub ordinal: u32,
    pub cluster_id: String,
    pub offsets: Vec<UndoOffset>,
}

/// One committed offset: before, and as the step left it (`None`: nothing committed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoOffset {
    pub group: String,
    pub topic: String,
    pub partition: PartitionId,
    pub was: Option<Offset>,
    pub metadata: String,
    pub wrote: Option<Offset>,
    /// Of a share group that was deleted.
    pub share: bool,
}

/// A step whose effect stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotUndone {
    pub step: u32,
    /// `write orders_dr`
    pub what: String,
    pub why: String,
}

/// As steps that change committed offsets journal what was there.
#[derive(Deserialize)]
struct OldOffsets {
    cluster: String,
    /// Of a reset [`super::grouped`], of what was deleted a list of [`OldOffset`].
    offsets: Value,
    /// Whole groups that went.
    #[serde(default)]
    groups: Vec<String>,
    /// Those that are share groups.
    #[serde(default)]
    share: BTreeSet<String>,
}

#[derive(Deserialize)]
struct OldOffset {
    group: String,
    topic: String,
    partition: PartitionId,
    offset: Option<Offset>,
    metadata: Option<String>,
}

impl OldOffsets {
    fn offsets(&self) -> Option<Vec<OldOffset>> {
        if self.offsets.is_array() {
            return Vec::deserialize(&self.offsets).ok();
        }
        rows_of(&self.offsets, ["partition", "offset", "metadata"])
            .map(|(group, topic, [partition, offset, metadata])| {
                Some(OldOffset {
                    group: group.to_string(),
                    topic: topic.to_string(),
                    partition: PartitionId::deserialize(partition).ok()?,
                    offset: Option::deserialize(offset).ok()?,
                    metadata: Option::deserialize(metadata).ok()?,
                })
            })
            .collect()
    }
}

impl RunRecord {
    /// What of the run can be taken back, and what stays.
    pub fn undoable(&self) -> Undoable {
        let mut undoable = Undoable::default();
        for fate in self.steps.iter().rev() {
            let step = self.plan.steps().find(|step| step.ordinal == fate.ordinal);
            // Without an intent nothing was changed.
            let (Some(step), true) = (step, fate.began.is_some()) else {
                continue;
            };
            let what = format!("{} {}", step.kind.word(), step.view.target());
            let mut stays = |why: String| {
                undoable.left.push(NotUndone {
                    step: fate.ordinal,
                    what: what.clone(),
                    why,
                });
            };
            match changed(step, fate) {
                Some((undo, lost)) => {
                    if !lost.is_empty() {
                        stays(format!(
                            "{} had nothing committed: a group comes back with its first member",
                            lost.join(", ")
                        ));
                    }
                    if !undo.offsets.is_empty() {
                        undoable.steps.push(undo);
                    }
                }
                None => {
                    let over =
                        matches!(self.summary.end.as_str(), "done" | "incomplete" | "damaged");
                    if let Some(why) = why_it_stays(step.kind, over) {
                        stays(why.to_string());
                    }
                }
            }
        }
        undoable.left.reverse();
        undoable
    }
}

/// The offsets that a step has changed, and the groups that went and had none.
fn changed(step: &StepDocument, fate: &JournalledStep) -> Option<(UndoStep, Vec<String>)> {
    if !matches!(step.kind, StepKind::Reset | StepKind::Delete) {
        return None;
    }
    let old = OldOffsets::deserialize(&fate.old_values).ok()?;
    let mut wrote: BTreeMap<(String, String, PartitionId), Offset> = BTreeMap::new();
    if step.kind == StepKind::Reset {
        let planned = rows_of(&step.pinned["rows"], ["partition", "to"]);
        for (group, topic, [partition, to]) in planned {
            let partition = PartitionId::deserialize(partition).ok()?;
            if let Some(to) = Option::deserialize(to).ok()? {
                wrote.insert((group.to_string(), topic.to_string(), partition), to);
            }
        }
    }
    let before = old.offsets()?;
    let share = old.share.clone();
    let mut lost = old.groups;
    let with_offsets: BTreeSet<&str> = before.iter().map(|old| old.group.as_str()).collect();
    lost.retain(|group| !with_offsets.contains(group.as_str()));
    let offsets = before.into_iter().map(|old| UndoOffset {
        wrote: wrote
            .get(&(old.group.clone(), old.topic.clone(), old.partition))
            .copied(),
        share: share.contains(&old.group),
        group: old.group,
        topic: old.topic,
        partition: old.partition,
        was: old.offset,
        metadata: old.metadata.unwrap_or_default(),
    });
    let undo = UndoStep {
        ordinal: fate.ordinal,
        cluster_id: old.cluster,
        offsets: offsets.collect(),
    };
    Some((undo, lost))
}

/// `None`: it has changed nothing that lasts. `over`: whether the run came to its end.
fn why_it_stays(kind: StepKind, over: bool) -> Option<&'static str> {
    match kind {
        StepKind::Backup => {
            Some("what was backed up stays in the archive; kbr prune takes recovery points away")
        }
        StepKind::Create => Some("topics stay: kbr deletes none"),
        // The last step of a restore puts back what the first has set aside.
        StepKind::Update if over => None,
        StepKind::Update => Some("configs stay set aside until the run goes on: kbr resume"),
        StepKind::Write => Some("records stay where they were written"),
        StepKind::Delete => {
            Some("in an archive, kbr undelete takes marks away within the grace time")
        }
        StepKind::Reset => Some("the kbr that did it kept no offsets"),
        StepKind::Verify | StepKind::Check => None,
    }
}
