//! The step that moves consumer groups: every group of it in one transaction.

use super::saved::SavedCluster;
use super::{active, value};
use crate::base::Digest;
use crate::base::text::{counted, grouped};
use crate::dsl::verbs::clusters::Cluster;
use crate::engine::offsets::{self, Error, Moved, Plan, SavedRows, Summary};
use crate::run::{
    Blocked, Cell, Detail, Gate, Outcome, Reconciled, SavedParts, Step, StepContext, StepError,
    StepKind, StepView, ViewLine, grouped_rows,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long the coordinator waits for a transaction that nobody ends.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// So many offsets that somebody else has committed are named.
const FOREIGN_SHOWN: usize = 3;

/// A step of more rows than this has no table of them for people.
const MOST_DETAIL: usize = 10_000;

/// As a reset is kept for `kbr resume` and `kbr apply`.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedReset<R> {
    pub plan: Plan,
    /// The plan's rows.
    pub rows: R,
    pub cluster: SavedCluster,
}

/// A planned reset.
pub struct ResetRun {
    pub plan: Arc<Plan>,
    pub cluster: Cluster,
}

/// One step, all of whose groups move or none does; several of them if it is more than one transaction takes.
pub fn offsets(run: &Arc<ResetRun>) -> Vec<Arc<dyn Step>> {
    let chunks: Vec<Arc<Plan>> = match run.plan.fits() {
        true => vec![run.plan.clone()],
        false => run.plan.chunks().into_iter().map(Arc::new).collect(),
    };
    let of = chunks.len();
    let step = |(index, plan): (usize, Arc<Plan>)| -> Arc<dyn Step> {
        Arc::new(ResetStep {
            run: run.clone(),
            plan,
            index,
            of,
            summaries: OnceLock::new(),
            view: OnceLock::new(),
            gate: OnceLock::new(),
        })
    };
    chunks.into_iter().enumerate().map(step).collect()
}

struct ResetStep {
    run: Arc<ResetRun>,
    /// Its part of the run's plan.
    plan: Arc<Plan>,
    /// Its place among so many parts.
    index: usize,
    of: usize,
    /// Made when they are asked for: of a hundred thousand rows they take a while.
    summaries: OnceLock<Vec<Summary>>,
    view: OnceLock<StepView>,
    gate: OnceLock<Option<Gate>>,
}

impl ResetStep {
    fn groups(&self) -> String {
        counted(self.plan.group_names().len() as i64, "group")
    }

    /// `transaction 2 of 3`
    fn part(&self) -> Option<String> {
        (self.of > 1).then(|| match self.plan.is_of_share_groups() {
            true => "share groups".to_string(),
            false => format!("transaction {} of {}", self.index + 1, self.of),
        })
    }

    /// What it changes, in the terms of the commit.
    fn rows(&self) -> Value {
        let rows = self.plan.rows.iter().map(|row| {
            let cells = vec![
                json!(row.target_partition),
                json!(row.from.filter(|_| !self.plan.is_forced(row))),
                json!(row.target.as_ref().ok()),
                json!(row.metadata),
            ];
            (row.group.as_str(), row.target_topic.as_str(), cells)
        });
        grouped_rows(&["partition", "from", "to", "metadata"], rows)
    }

    /// The same for a repetition of the same reset in the same run.
    fn transactional_id(&self, run: &str) -> String {
        let rows = self.plan.rows.iter().map(|row| {
            let (at, to) = (row.target_partition, row.target.as_ref().ok());
            let from = row.from.filter(|_| !self.plan.is_forced(row));
            (&row.group, &row.target_topic, at, from, to, &row.metadata)
        });
        let rows: Vec<_> = rows.collect();
        format!("kbr-{run}-{}", Digest::of_json(&rows).short())
    }

    /// Its rows by group and target topic, as the summaries are.
    fn rows_by_line(&self) -> BTreeMap<(&str, &str), Vec<&offsets::Row>> {
        let mut lines: BTreeMap<(&str, &str), Vec<&offsets::Row>> = BTreeMap::new();
        for (group, topic, rows) in self.plan.lines() {
            lines.entry((group, topic)).or_default().extend(rows);
        }
        lines
    }

    fn line(&self, summary: &Summary, rows: &[&offsets::Row]) -> ViewLine {
        let (again, skipped) = rows.iter().fold((0, 0), |(again, skipped), row| {
            let (more, beyond) = row.why.again_and_skipped();
            (again + more, skipped + beyond)
        });
        // What an operator must know comes before the strategy's name.
        let mut said = Vec::new();
        if summary.clamped > 0 {
            said.push(format!("{} clamped", summary.clamped));
        }
        if again > 0 {
            said.push(format!("re-reads {}", grouped(again)));
        }
        if skipped > 0 {
            said.push(format!("skips {}", grouped(skipped)));
        }
        let unknown = rows.iter().filter(|row| row.why.exactness() == "unknown");
        let unknown = unknown.count();
        if unknown > 0 {
            said.push(format!("{} unknown", grouped(unknown as i128)));
        }
        let exactness = match said.is_empty() {
            true => self.plan.strategy.name().to_string(),
            false => said.join(", "),
        };
        let mut line = ViewLine::of(
            summary.group.clone(),
            vec![
                Cell::text(summary.target_topic.clone()),
                Cell::count(summary.partitions as i64, "partition"),
                Cell::text(exactness),
                Cell::number(grouped(i128::from(summary.lag_after))).before("lag after"),
            ],
        );
        let forced = self.plan.forced_groups().iter();
        line.dangers = forced
            .filter(|active| {
                active.group == summary.group && active.reads.contains(&summary.target_topic)
            })
            .map(|active| format!("forced: {}", overwritten(active)))
            .collect();
        line.blocked = rows
            .iter()
            .filter_map(|row| row.target.as_ref().err())
            .map(|blocked| blocked.what.clone())
            .collect();
        line.blocked.dedup();
        // What nobody reads would take most of the memory.
        line.detail = (self.plan.rows.len() <= MOST_DETAIL).then(|| Detail {
            columns: ["partition", "committed", "now", "to", "lag after", "why"]
                .map(str::to_string)
                .to_vec(),
            rows: rows.iter().map(|row| detail(row)).collect(),
        });
        line
    }

    fn summaries(&self) -> &[Summary] {
        self.summaries.get_or_init(|| self.plan.summaries())
    }

    fn made_gate(&self) -> Option<Gate> {
        // The first part asks for all of them.
        if self.index > 0 {
            return None;
        }
        let plan = &self.run.plan;
        let groups = counted(plan.group_names().len() as i64, "group");
        let name = &self.run.cluster.0.name;
        let forced = plan.forced_groups();
        let mut gate = match forced {
            [] => Gate::new(format!("moves committed offsets of {groups}"), name),
            [one] => Gate::new(format!("moves {} under its members", one.group), "force"),
            many => Gate::new(
                format!("moves {} groups under their members", many.len()),
                "force",
            ),
        };
        gate.alone = !forced.is_empty();
        let all;
        let summaries = match self.of {
            1 => self.summaries(),
            _ => {
                all = plan.summaries();
                &all
            }
        };
        gate.lines = summaries
            .iter()
            .map(|summary| {
                ViewLine::of(
                    summary.group.clone(),
                    vec![
                        Cell::text(summary.target_topic.clone()),
                        Cell::count(summary.partitions as i64, "partition"),
                        Cell::number(grouped(i128::from(summary.lag_before))).before("lag now"),
                        Cell::number(grouped(i128::from(summary.lag_after))).before("→"),
                    ],
                )
            })
            .collect();
        gate.notes = vec![match plan.group_names().len() {
            _ if plan.is_of_share_groups() => {
                "Each share group by itself: some may move and others not.".to_string()
            }
            _ if self.of > 1 => format!(
                "{} parts, one after the other: each transaction moves whole or not at all.",
                self.of
            ),
            1 => "One transaction: every partition moves or none does.".to_string(),
            2 => "One transaction: both move or neither.".to_string(),
            _ => "One transaction: all move or none does.".to_string(),
        }];
        gate.notes.extend(forced.iter().map(overwritten));
        Some(gate)
    }

    fn made_view(&self) -> StepView {
        let plan = &self.plan;
        let by_line = self.rows_by_line();
        let mut lines: Vec<ViewLine> = self
            .summaries()
            .iter()
            .map(|summary| {
                let line = (summary.group.as_str(), summary.target_topic.as_str());
                self.line(summary, by_line.get(&line).map_or(&[], Vec::as_slice))
            })
            .collect();
        if let (Some(last), true) = (lines.last_mut(), plan.rows.len() > MOST_DETAIL) {
            let rows = counted(plan.rows.len() as i64, "row");
            last.notes
                .push(format!("{rows}: --output json has them, --detail does not"));
        }
        if lines.is_empty() {
            lines.push(ViewLine::of("no group", Vec::new()));
        }
        let of_share_groups = plan.is_of_share_groups();
        if let Some(last) = lines.last_mut() {
            last.notes.extend(match self.part() {
                _ if of_share_groups => {
                    Some("share groups are told where to start, each by itself".to_string())
                }
                part => part.map(|part| format!("{part}: it moves whole or not at all")),
            });
        }
        if let (Some(last), Some(expiring)) = (lines.last_mut(), &plan.expiring) {
            last.notes.push(expiring.text());
        }
        if let Some(first) = lines.first_mut() {
            let blocked = plan.blocked.iter().map(|blocked| blocked.what.clone());
            first.blocked.extend(blocked);
        }
        StepView {
            lines,
            no_change: plan.changes() == 0 && !plan.is_blocked(),
            counts: Some(self.groups()),
            ..StepView::default()
        }
    }
}

/// What a forced group must be known to have.
fn overwritten(group: &offsets::ActiveGroup) -> String {
    format!(
        "{} has members: {}. Their next commit overwrites this.",
        group.group,
        group.members_text()
    )
}

fn detail(row: &offsets::Row) -> Vec<String> {
    let (to, why) = match &row.target {
        Ok(offset) => (offset.to_string(), row.why.to_string()),
        Err(blocked) => ("blocked".to_string(), blocked.what.clone()),
    };
    vec![
        row.target_partition.to_string(),
        row.committed
            .map_or_else(|| "-".to_string(), |offset| offset.to_string()),
        row.from
            .map_or_else(|| "-".to_string(), |offset| offset.to_string()),
        to,
        row.lag_after
            .map_or_else(|| "-".to_string(), |lag| lag.to_string()),
        why,
    ]
}

#[async_trait]
impl Step for ResetStep {
    fn kind(&self) -> StepKind {
        StepKind::Reset
    }

    fn view(&self) -> StepView {
        self.view.get_or_init(|| self.made_view()).clone()
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        let place = parts.place(&self.run, || SavedReset {
            plan: self.run.plan.without_rows(),
            rows: SavedRows(&self.run.plan.rows),
            cluster: SavedCluster::from(&self.run.cluster),
        });
        json!({ "step": "reset", "part": place, "chunk": self.index })
    }

    fn pinned(&self) -> Value {
        let plan = &self.plan;
        json!({
            "target": plan.target_cluster_id,
            "strategy": value(&plan.strategy),
            "chunk": self.part(),
            "out_of_range": value(&plan.out_of_range),
            "share": plan.share,
            "forced": plan.forced_groups().iter().map(|group| &group.group).collect::<Vec<_>>(),
            "rows": self.rows(),
            "blocked": plan.blocks().iter().map(|blocked| &blocked.what).collect::<Vec<_>>(),
        })
    }

    fn bounded(&self) -> Value {
        json!("every target offset lies within its log")
    }

    fn observed(&self) -> Value {
        let summaries = self.summaries();
        let cells = |summary: &Summary| vec![json!(summary.lag_before), json!(summary.lag_after)];
        let rows = summaries.iter().map(|summary| {
            let line = (summary.group.as_str(), summary.target_topic.as_str());
            (line.0, line.1, cells(summary))
        });
        grouped_rows(&["lag_before", "lag_after"], rows)
    }

    fn gate(&self) -> Option<Gate> {
        self.gate.get_or_init(|| self.made_gate()).clone()
    }

    fn blocks(&self) -> Vec<Blocked> {
        self.plan
            .blocks()
            .into_iter()
            .map(|blocked| Blocked {
                what: blocked.what.clone(),
                hint: blocked.hint.clone(),
            })
            .collect()
    }

    async fn check(&self, _context: &StepContext) -> Result<(), StepError> {
        let client = &self.run.cluster.0.client;
        // What stands in the way of a later part is better found before the first.
        let plan = match self.index {
            0 => &self.run.plan,
            _ => &self.plan,
        };
        offsets::check(plan, client)
            .await
            .map_err(|error| self.error(error))
    }

    async fn old_values(&self, context: &StepContext) -> Result<Value, StepError> {
        let client = &self.run.cluster.0.client;
        let rows = offsets::replaced(&self.plan, client).await;
        let rows = rows.map_err(|error| self.error(error))?;
        let cells = rows.iter().map(|row| {
            let cells = vec![
                json!(row.target_partition),
                json!(row.from),
                json!(row.from_metadata),
            ];
            (row.group.as_str(), row.target_topic.as_str(), cells)
        });
        let old = grouped_rows(&["partition", "offset", "metadata"], cells);
        let mut values = json!({ "cluster": self.plan.target_cluster_id, "offsets": old });
        if let Some(part) = self.part() {
            values["chunk"] = json!({ "part": part, "id": self.transactional_id(&context.run) });
        }
        Ok(values)
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let client = &self.run.cluster.0.client;
        let id = self.transactional_id(&context.run);
        let report = match context.attempt.number {
            1 => offsets::apply(&self.plan, client, &id).await,
            // Of what an earlier attempt has moved one by one, only the rest; and nobody may have come back meanwhile.
            _ => {
                let left = offsets::remaining(&self.plan, client).await;
                let left = left.map_err(|error| self.error(error))?;
                let checked = offsets::check(&left, client).await;
                checked.map_err(|error| self.error(error))?;
                offsets::apply(&left, client, &id).await
            }
        }
        .map_err(|error| self.error(error))?;
        let moved = report.groups.len() as u64;
        let outcome = Outcome::of(value(&report)).total("groups moved", moved);
        Ok(match &report.how {
            Moved::PerGroup { because } => {
                outcome.line(format!("without a transaction, group by group: {because}"))
            }
            _ => outcome,
        })
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        let client = &self.run.cluster.0.client;
        let id = self.transactional_id(&context.run);
        // A transaction that the interrupted attempt left open hides what was committed; taking its id over ends it.
        let ended = match self.plan.is_of_share_groups() {
            true => Ok(()),
            false => client
                .init_producer_id(Some(&id), TRANSACTION_TIMEOUT)
                .await
                .map(drop),
        };
        match ended {
            Ok(_) => {}
            // Then there was none either: the groups were moved one by one.
            Err(error) if error.transactions_not_allowed() => {}
            Err(error) => return Err(StepError::caused_by(error)),
        }
        let state = offsets::reconcile(&self.plan, client)
            .await
            .map_err(|error| self.error(error))?;
        Ok(match state {
            offsets::Reconciled::Done => {
                let groups = self.plan.group_names();
                let outcome = Outcome::of(json!({ "groups": groups, "found": "moved already" }))
                    .total("groups moved", groups.len() as u64);
                Reconciled::Done(Box::new(outcome))
            }
            offsets::Reconciled::NotDone => Reconciled::NotDone,
            offsets::Reconciled::Partial { moved, left } => Reconciled::Partial(format!(
                "{} moved, {} not",
                counted(moved as i64, "offset"),
                grouped(left as i64)
            )),
            offsets::Reconciled::Foreign { rows } => Reconciled::Foreign(
                rows.iter()
                    .map(|row| {
                        let found = row.found.map_or("nothing".to_string(), |o| grouped(o.0));
                        format!(
                            "group {} has {found} committed on {}, neither what it had nor {}",
                            row.group,
                            row.partition,
                            grouped(row.wanted.0)
                        )
                    })
                    .take(FOREIGN_SHOWN)
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        })
    }
}

impl ResetStep {
    /// The engine's refusals with their own codes and facts.
    fn error(&self, error: Error) -> StepError {
        let name = &self.run.cluster.0.name;
        match &error {
            Error::GroupsActive { groups } => active(groups, name, "changed")
                .why("a member's next commit would overwrite the reset unseen")
                .now(
                    "stop the consumers and run the same command again; or reset only topics they do not read",
                ),
            Error::Drift { .. } | Error::OutsideLog { .. } | Error::NoTarget { .. } => {
                StepError::drift(error.to_string())
                    .now("run the same command again to plan against the world as it is")
            }
            _ => StepError::caused_by(error),
        }
    }
}
