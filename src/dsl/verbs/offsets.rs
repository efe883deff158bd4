//! `offset_plan(data)….reset()`: committed offsets of the archive, translated by a restore, onto its target.
//!
//! The builder is the plan: it is made when something of it is read for the first time, and kept.

use super::restore::{Restored, patterns, selection};
use crate::base::text::{counted, grouped};
use crate::dsl::failure::Failure;
use crate::dsl::host::Host;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::show;
use crate::dsl::steps::{self, ResetRun};
use crate::dsl::table::{Entry, Parameter};
use crate::engine::offsets;
use crate::run::ExitClass;
use rhai::{Array, Dynamic, EvalAltResult, Position};
use std::sync::{Arc, Mutex};

/// Options, and the plan once it was asked for.
#[derive(Clone)]
pub struct OffsetPlan {
    host: Arc<Host>,
    restored: Restored,
    groups: Vec<String>,
    exclude: Vec<String>,
    topics: Vec<String>,
    strategy: String,
    out_of_range: String,
    /// Shared by copies of the same options; an option makes a new one.
    planned: Arc<Mutex<Option<Arc<offsets::Plan>>>>,
}

/// One row, to be looked at.
#[derive(Clone)]
pub struct OffsetRow(pub Arc<offsets::Plan>, pub usize);

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];

pub static TABLE: &[Entry] = &[
    Entry::verb(
        "offset_plan",
        &[Parameter::one("restored", &[Kind::Restored])],
        Kind::OffsetPlan,
        |call| {
            Ok(Dynamic::from(OffsetPlan {
                host: call.host()?.clone(),
                restored: call.argument(0)?,
                groups: Vec::new(),
                exclude: Vec::new(),
                topics: Vec::new(),
                strategy: "exact".to_string(),
                out_of_range: "block".to_string(),
                planned: Arc::default(),
            }))
        },
    )
    .doc(
        "Where the archive's consumer groups go on at the target of a restore: for each committed offset the very \
         record that would have been read next. Nothing is moved before `.reset()`; printing it shows every row.",
    )
    .example("let moved = offset_plan(data).groups(\"checkout-*\");"),
    Entry::option(Kind::OffsetPlan, "groups", NAMES, "every group", |call| {
        let mut plan = call.me::<OffsetPlan>()?.changed();
        plan.groups.extend(patterns(call)?);
        Ok(Dynamic::from(plan))
    })
    .doc("Which groups: names, globs or regular expressions between slashes. One that matches nothing blocks the plan.")
    .example("offset_plan(data).groups(\"checkout-*\")"),
    Entry::option(Kind::OffsetPlan, "exclude", NAMES, "none", |call| {
        let mut plan = call.me::<OffsetPlan>()?.changed();
        plan.exclude.extend(patterns(call)?);
        Ok(Dynamic::from(plan))
    })
    .doc("Groups to leave out of those chosen.")
    .example("offset_plan(data).exclude(\"console-*\")"),
    Entry::option(Kind::OffsetPlan, "topics", NAMES, "every restored topic", |call| {
        let mut plan = call.me::<OffsetPlan>()?.changed();
        plan.topics.extend(patterns(call)?);
        Ok(Dynamic::from(plan))
    })
    .doc("Only offsets on these topics, by their names in the archive.")
    .example("offset_plan(data).topics(\"orders\")"),
    Entry::option(
        Kind::OffsetPlan,
        "strategy",
        &[Parameter::choice("name", &["exact"])],
        "\"exact\"",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.strategy = call.text(0)?;
            Ok(Dynamic::from(plan))
        },
    )
    .doc("How offsets are found. `exact` uses the restore's own mapping from source to target offsets.")
    .example("offset_plan(data).strategy(\"exact\")"),
    Entry::option(
        Kind::OffsetPlan,
        "out_of_range",
        &[Parameter::choice("what", &["block", "clamp"])],
        "\"block\"",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.out_of_range = call.text(0)?;
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "A committed offset that lies outside of what the archive holds: `block` stops the plan, `clamp` takes the nearest \
         end and says so.",
    )
    .example("offset_plan(data).out_of_range(\"clamp\")"),
    Entry::terminal(Kind::OffsetPlan, "reset", &[], Kind::Nothing, |call| {
        let host = call.host()?;
        host.refuse_effects("reset")?;
        let plan: OffsetPlan = call.me()?;
        let mut moved = (*plan.plan()?).clone();
        let mut again: Vec<String> = Vec::new();
        for row in &moved.rows {
            let what = format!("group {} on {}", row.group, row.target_partition());
            if !host.changes_first(&moved.target_cluster_id, what) && !again.contains(&row.group) {
                again.push(row.group.clone());
            }
        }
        // It was planned against the offsets as they are, and would find them as the earlier step leaves them.
        moved.blocked.extend(again.into_iter().map(|group| offsets::Blocked {
            reason: offsets::Reason::SameTarget,
            what: format!("an earlier step of this runbook moves group {group} already"),
            hint: Some("move each group once".to_string()),
        }));
        let run = Arc::new(ResetRun {
            plan: Arc::new(moved),
            cluster: plan.restored.cluster.clone(),
        });
        for step in steps::offsets(&run) {
            host.add_step(step, call.position);
        }
        Ok(Dynamic::UNIT)
    })
    .doc(
        "Moves the groups: all of them in one transaction where the cluster allows it. A gated step; a group whose members \
         read one of the topics is refused.",
    )
    .example("moved.reset();"),
    Entry::property(Kind::OffsetPlan, "group_names", Kind::List, |call| {
        let plan = call.me::<OffsetPlan>()?.plan()?;
        Ok(texts(plan.group_names()))
    })
    .doc("The groups that have rows."),
    Entry::property(Kind::OffsetPlan, "rows", Kind::List, |call| {
        let plan = call.me::<OffsetPlan>()?.plan()?;
        Ok((0..plan.rows.len())
            .map(|index| Dynamic::from(OffsetRow(plan.clone(), index)))
            .collect::<Array>()
            .into())
    })
    .doc("Every row: one group on one partition."),
    Entry::property(Kind::OffsetPlan, "blocked", Kind::List, |call| {
        let plan = call.me::<OffsetPlan>()?.plan()?;
        Ok(texts(
            plan.blocks()
                .into_iter()
                .map(|blocked| blocked.what.clone()),
        ))
    })
    .doc("What stands in the way, as texts; empty if nothing does."),
    Entry::column(Kind::OffsetRow, "group", Kind::Text, |call| {
        Ok(row(&call.me()?).group.clone().into())
    }),
    Entry::column(Kind::OffsetRow, "topic", Kind::Text, |call| {
        Ok(row(&call.me()?).target_topic.clone().into())
    })
    .doc("The topic at the target."),
    Entry::column(Kind::OffsetRow, "partition", Kind::Number, |call| {
        Ok(i64::from(row(&call.me()?).target_partition.0).into())
    })
    .doc("The partition at the target."),
    Entry::column(Kind::OffsetRow, "committed", Kind::Number, |call| {
        Ok(row(&call.me()?).committed.0.into())
    })
    .doc("What the group had committed at the source."),
    Entry::column(Kind::OffsetRow, "from", Kind::Number, |call| {
        Ok(row(&call.me()?)
            .from
            .map_or(Dynamic::UNIT, |offset| offset.0.into()))
    })
    .doc("What it has committed at the target now; `()` if nothing."),
    Entry::column(Kind::OffsetRow, "to", Kind::Number, |call| {
        Ok(row(&call.me()?)
            .target
            .as_ref()
            .map_or(Dynamic::UNIT, |offset| offset.0.into()))
    })
    .doc("Where it goes; `()` if the row is blocked."),
    Entry::column(Kind::OffsetRow, "why", Kind::Text, |call| {
        Ok(why(row(&call.me()?)).into())
    })
    .doc("How the offset was found, or what blocks it."),
    Entry::column(Kind::OffsetRow, "lag_after", Kind::Number, |call| {
        Ok(row(&call.me()?)
            .lag_after
            .map_or(Dynamic::UNIT, |lag| number(lag).into()))
    })
    .doc("Restored records that it will still have to read."),
];

fn row(row: &OffsetRow) -> &offsets::Row {
    &row.0.rows[row.1]
}

fn why(row: &offsets::Row) -> String {
    match &row.target {
        Ok(_) => row.why.to_string(),
        Err(blocked) => blocked.what.clone(),
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn texts(of: impl IntoIterator<Item = String>) -> Dynamic {
    of.into_iter().map(Dynamic::from).collect::<Array>().into()
}

impl OffsetPlan {
    /// With other options it is another plan.
    fn changed(mut self) -> Self {
        self.planned = Arc::default();
        self
    }

    /// The plan, made at the first call.
    pub fn plan(&self) -> Result<Arc<offsets::Plan>, Failure> {
        let mut planned = self
            .planned
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(plan) = &*planned {
            return Ok(plan.clone());
        }
        let plan = Arc::new(self.make()?);
        *planned = Some(plan.clone());
        Ok(plan)
    }

    /// Makes the plan, and latches where the evaluation ends if it cannot be made yet.
    pub fn ready(&self, position: Position) -> Result<(), Box<EvalAltResult>> {
        self.plan().map(drop).map_err(|failure| {
            if failure.stops {
                self.host.latch(failure.clone(), position);
            }
            failure.raise(position)
        })
    }

    fn make(&self) -> Result<offsets::Plan, Failure> {
        let wrong = |error: offsets::Error| Failure::script("E0212", error.to_string());
        let options = offsets::Options {
            groups: selection(&self.groups, &self.exclude)?,
            topics: selection(&self.topics, &[])?,
            strategy: offsets::Strategy::parse(&self.strategy).map_err(wrong)?,
            out_of_range: offsets::OutOfRange::parse(&self.out_of_range).map_err(wrong)?,
        };
        let snapshot = &self.restored.snapshot.0;
        let groups = self
            .host
            .wait(snapshot.snapshot.groups())?
            .map_err(|error| reading::of_archive(&snapshot.store.url.to_string(), error))?;
        let source = offsets::Source {
            groups: groups.groups,
            topics: self.topics_of_restore(),
        };
        let cluster = &self.restored.cluster.0;
        let plan = self
            .host
            .wait(offsets::plan(&source, &cluster.client, &options))?
            .map_err(|error| {
                Failure::from_below("E0330", error)
                    .prefixed(format!("planning offsets on {}", cluster.name))
            })?;
        let unknown = plan
            .blocks()
            .into_iter()
            .find(|blocked| blocked.reason == offsets::Reason::KnownAfterExecution);
        if let Some(unknown) = unknown {
            return Err(Failure {
                stops: true,
                exit: ExitClass::Done,
                ..Failure::script("E0230", unknown.what.clone())
            });
        }
        Ok(plan)
    }

    fn topics_of_restore(&self) -> Vec<offsets::SourceTopic> {
        // The archive may hold records that the source's log start has passed since: they are restored, and a group
        // that was at one of them goes on there.
        let writes = self.restored.run.plan.writes.iter();
        writes.map(offsets::SourceTopic::from).collect()
    }

    /// What `print` shows: every row, then a summary.
    pub fn table_text(&self) -> String {
        match self.plan() {
            Ok(plan) => plan_text(&plan),
            Err(failure) => failure.message,
        }
    }

    pub fn json(&self) -> serde_json::Value {
        self.plan()
            .ok()
            .and_then(|plan| serde_json::to_value(&*plan).ok())
            .unwrap_or(serde_json::Value::Null)
    }
}

fn plan_text(plan: &offsets::Plan) -> String {
    let header = [
        "group",
        "topic",
        "partition",
        "committed",
        "now",
        "to",
        "lag after",
        "why",
    ]
    .map(str::to_string);
    let numeric = [false, false, true, true, true, true, true, false];
    let rows: Vec<Vec<String>> = plan
        .rows
        .iter()
        .map(|row| {
            vec![
                row.group.clone(),
                row.target_topic.clone(),
                row.target_partition.to_string(),
                grouped(row.committed.0),
                row.from
                    .map_or_else(|| "-".to_string(), |offset| grouped(offset.0)),
                row.target
                    .as_ref()
                    .map_or_else(|_| "blocked".to_string(), |offset| grouped(offset.0)),
                row.lag_after
                    .map_or_else(|| "-".to_string(), |lag| grouped(i128::from(lag))),
                why(row),
            ]
        })
        .collect();
    let mut text = if rows.is_empty() {
        "no group has a committed offset on a restored topic".to_string()
    } else {
        show::table_text(&header, &rows, &numeric)
    };
    for skipped in &plan.skipped {
        text.push_str(&format!(
            "\nleft alone: {} on {} ({}), {}",
            skipped.group,
            skipped.topic,
            counted(skipped.partitions.len() as i64, "partition"),
            skipped.why
        ));
    }
    text
}
