//! The steps that take something away from groups: single committed offsets, or whole groups with theirs. What goes is in
//! the journal first, so that an undo commits it again.

use super::saved::SavedCluster;
use super::{active, value};
use crate::base::text::{counted, grouped};
use crate::dsl::verbs::clusters::Cluster;
use crate::engine::groups::{self, Removal, Removed, RemovedGroup, RemovedOffset};
use crate::engine::offsets::Error;
use crate::run::{
    Blocked, Cell, Detail, Gate, Outcome, Reconciled, SavedParts, Step, StepContext, StepError,
    StepKind, StepView, ViewLine,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many offsets that somebody else has committed are named.
const FOREIGN_SHOWN: usize = 3;

/// A planned removal.
pub struct RemovalRun {
    pub plan: Removal,
    pub cluster: Cluster,
}

/// One step: groups are changed one by one, and all of them are read back.
pub fn removal(run: &Arc<RemovalRun>) -> Arc<dyn Step> {
    Arc::new(RemovalStep { run: run.clone() })
}

struct RemovalStep {
    run: Arc<RemovalRun>,
}

impl RemovalStep {
    fn plan(&self) -> &Removal {
        &self.run.plan
    }

    fn groups(&self) -> String {
        counted(self.plan().groups.len() as i64, "group")
    }

    fn what(&self) -> &'static str {
        match self.plan().whole {
            true => "groups",
            false => "offsets",
        }
    }

    /// What goes, row by row.
    fn rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for group in &self.plan().groups {
            for at in &group.offsets {
                rows.push(json!({
                    "group": group.group,
                    "topic": at.topic,
                    "partition": at.partition,
                    "offset": at.offset,
                    "metadata": at.metadata,
                }));
            }
        }
        rows
    }

    fn lines(&self) -> Vec<ViewLine> {
        let plan = self.plan();
        let mut lines = Vec::new();
        for group in &plan.groups {
            let first = lines.len();
            match plan.whole {
                true => lines.push(of_group(group)),
                false => lines.extend(of_offsets(group)),
            }
            if let Some(line) = lines.get_mut(first) {
                line.blocked = self.blocked_of(Some(&group.group));
            }
        }
        let has_line = |name: &str| {
            let mut groups = plan.groups.iter();
            groups.any(|group| group.group == name && (plan.whole || !group.offsets.is_empty()))
        };
        let others = plan.blocked.iter().filter_map(|one| one.group.as_deref());
        let others: BTreeSet<&str> = others.filter(|name| !has_line(name)).collect();
        for name in others {
            let head = match plan.whole {
                true => format!("group {name}"),
                false => name.to_string(),
            };
            let mut line = ViewLine::of(head, Vec::new());
            line.blocked = self.blocked_of(Some(name));
            lines.push(line);
        }
        let of_none = self.blocked_of(None);
        if lines.is_empty() || !of_none.is_empty() {
            let mut line = ViewLine::of("no group", Vec::new());
            line.blocked = of_none;
            lines.push(line);
        }
        lines
    }

    /// What stands in the way of this group; `None`: of what was said, and of no group.
    fn blocked_of(&self, group: Option<&str>) -> Vec<String> {
        let blocked = self.plan().blocked.iter();
        let blocked = blocked.filter(|blocked| blocked.group.as_deref() == group);
        blocked.map(|blocked| blocked.what.clone()).collect()
    }
}

fn of_group(group: &RemovedGroup) -> ViewLine {
    let topics: BTreeSet<&str> = group.offsets.iter().map(|at| at.topic.as_str()).collect();
    let mut line = ViewLine::of(
        format!("group {}", group.group),
        vec![
            Cell::count(group.offsets.len() as i64, "committed offset"),
            Cell::text(match topics.len() {
                0 => String::new(),
                1 => topics.into_iter().collect(),
                several => format!("on {several} topics"),
            }),
        ],
    );
    if group.offsets.is_empty() {
        line.notes
            .push("it has nothing committed: an undo could not bring it back".to_string());
    }
    line.detail = Some(detail(group.offsets.iter()));
    line
}

fn of_offsets(group: &RemovedGroup) -> Vec<ViewLine> {
    let mut topics: BTreeMap<&str, Vec<&RemovedOffset>> = BTreeMap::new();
    for at in &group.offsets {
        topics.entry(&at.topic).or_default().push(at);
    }
    topics
        .into_iter()
        .map(|(topic, offsets)| {
            let mut line = ViewLine::of(
                group.group.clone(),
                vec![
                    Cell::text(topic),
                    Cell::count(offsets.len() as i64, "committed offset"),
                ],
            );
            line.detail = Some(detail(offsets.into_iter()));
            line
        })
        .collect()
}

fn detail<'a>(offsets: impl Iterator<Item = &'a RemovedOffset>) -> Detail {
    Detail {
        columns: ["topic", "partition", "committed", "metadata"]
            .map(str::to_string)
            .to_vec(),
        rows: offsets
            .map(|at| {
                vec![
                    at.topic.clone(),
                    at.partition.to_string(),
                    at.offset.to_string(),
                    at.metadata.clone(),
                ]
            })
            .collect(),
    }
}

#[async_trait]
impl Step for RemovalStep {
    fn kind(&self) -> StepKind {
        StepKind::Delete
    }

    fn view(&self) -> StepView {
        StepView {
            lines: self.lines(),
            counts: Some(match self.plan().whole {
                true => self.groups(),
                false => counted(self.plan().offsets() as i64, "committed offset"),
            }),
            ..StepView::default()
        }
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        let place = parts.place(&self.run, || {
            json!({
                "plan": value(self.plan()),
                "cluster": value(&SavedCluster::from(&self.run.cluster)),
            })
        });
        json!({ "step": "removal", "part": place })
    }

    fn pinned(&self) -> Value {
        json!({
            "target": self.plan().cluster_id,
            "deletes": self.what(),
            "groups": self.plan().names(),
            "rows": self.rows(),
            "blocked": self.plan().blocked.iter().map(|blocked| &blocked.what).collect::<Vec<_>>(),
        })
    }

    fn bounded(&self) -> Value {
        json!("no member reads what goes")
    }

    fn gate(&self) -> Option<Gate> {
        let name = &self.run.cluster.0.name;
        let offsets = counted(self.plan().offsets() as i64, "committed offset");
        let mut gate = Gate::new(
            match self.plan().whole {
                true => format!("deletes {} with {offsets}", self.groups()),
                false => format!("deletes {offsets} of {}", self.groups()),
            },
            name,
        );
        gate.notes = vec![match self.plan().whole {
            true => "Each group by itself; what they have committed is in the journal first.".into(),
            false => "Each group by itself; without an offset a consumer begins where its own settings say.".into(),
        }];
        Some(gate)
    }

    fn blocks(&self) -> Vec<Blocked> {
        let blocked = self.plan().blocked.iter();
        blocked
            .map(|blocked| Blocked {
                what: blocked.what.clone(),
                hint: blocked.hint.clone(),
            })
            .collect()
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        let client = &self.run.cluster.0.client;
        groups::check_removal(self.plan(), client)
            .await
            .map_err(|error| self.error(error))
    }

    async fn old_values(&self, _context: &StepContext) -> Result<Value, StepError> {
        Ok(json!({
            "cluster": self.plan().cluster_id,
            "deleted": self.what(),
            "groups": self.plan().names(),
            "offsets": self.rows(),
            "share": self.plan().share,
        }))
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let client = &self.run.cluster.0.client;
        let left = match context.attempt.number {
            1 => None,
            // An earlier attempt may have come half way; of the rest everything must still be as it was.
            _ => {
                let left = groups::left_of(self.plan(), client).await;
                let left = left.map_err(|error| self.error(error))?;
                let checked = groups::check_removal(&left, client).await;
                checked.map_err(|error| self.error(error))?;
                Some(left)
            }
        };
        groups::remove(left.as_ref().unwrap_or(self.plan()), client)
            .await
            .map_err(|error| self.error(error))?;
        Ok(self.outcome())
    }

    async fn reconcile(&self, _context: &StepContext) -> Result<Reconciled, StepError> {
        let client = &self.run.cluster.0.client;
        let found = groups::reconcile_removal(self.plan(), client).await;
        Ok(match found.map_err(|error| self.error(error))? {
            Removed::All => Reconciled::Done(Box::new(self.outcome())),
            Removed::Nothing => Reconciled::NotDone,
            Removed::Partly { gone, left } => {
                Reconciled::Partial(format!("{} gone, {} not", grouped(gone as i64), grouped(left as i64)))
            }
            Removed::Foreign(rows) => Reconciled::Foreign(
                rows.iter()
                    .take(FOREIGN_SHOWN)
                    .map(|row| {
                        let found = row.found.map_or("nothing".to_string(), |at| grouped(at.0));
                        let (group, at) = (&row.group, &row.partition);
                        format!("group {group} has {found} committed on {at}, which was not there before")
                    })
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        })
    }
}

impl RemovalStep {
    fn outcome(&self) -> Outcome {
        let plan = self.plan();
        let outcome = Outcome::of(json!({ "deleted": self.what(), "groups": plan.names() }))
            .total("committed offsets deleted", plan.offsets() as u64);
        match plan.whole {
            true => outcome.total("groups deleted", plan.groups.len() as u64),
            false => outcome,
        }
    }

    /// The engine's refusals with their own codes and facts.
    fn error(&self, error: Error) -> StepError {
        let name = &self.run.cluster.0.name;
        match &error {
            Error::GroupsActive { groups } => active(groups, name, "deleted")
                .why("brokers delete no group that has members, and members would commit again")
                .now("stop the consumers and run the same command again"),
            Error::Drift { .. } => StepError::drift(error.to_string().replace("moved", "deleted"))
                .now("run the same command again to plan against the world as it is"),
            _ => StepError::caused_by(error),
        }
    }
}
