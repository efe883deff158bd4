//! `offset_plan(data)….reset()`: committed offsets of the archive, translated by a restore, onto its target; or groups
//! of a live cluster, to where the operator wants them.
//!
//! The builder is the plan: it is made when something of it is read for the first time, and kept.

use super::archives::SnapshotValue;
use super::backup::some_partitions;
use super::clusters::Cluster;
use super::quantities::instant_of;
use super::restore::{Restored, epoch_ms, patterns, selection};
use super::translate::{Onto, no_target, of_snapshot};
use crate::base::Pattern;
use crate::base::text::{counted, grouped};
use crate::base::time::parse_duration_ms;
use crate::dsl::failure::Failure;
use crate::dsl::host::Host;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::show;
use crate::dsl::steps::{self, ResetRun};
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{Duration, Instant};
use crate::engine::backup::SomePartitions;
use crate::engine::offsets::{self, Given};
use crate::run::ExitClass;
use rhai::{Array, Dynamic, EvalAltResult, Position};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Options, and the plan once it was asked for.
#[derive(Clone)]
pub struct OffsetPlan {
    host: Arc<Host>,
    pub(super) source: PlannedFrom,
    groups: Vec<String>,
    exclude: Vec<String>,
    topics: Vec<String>,
    partitions: Vec<SomePartitions>,
    /// `None`: the source's own.
    strategy: Option<offsets::Strategy>,
    out_of_range: String,
    leave_unplaced: bool,
    new_groups: bool,
    force: bool,
    per_transaction: Option<usize>,
    pub(super) onto: Onto,
    /// Shared by copies of the same options; an option makes a new one.
    planned: Arc<Mutex<Option<Arc<offsets::Plan>>>>,
}

/// Where the groups and their offsets come from.
#[derive(Clone)]
pub(super) enum PlannedFrom {
    /// The archive's groups, through a restore.
    Restored(Box<Restored>),
    /// The cluster's own.
    Live(Cluster),
    /// The archive's groups, without a restore.
    Snapshot(SnapshotValue),
}

/// One row, to be looked at.
#[derive(Clone)]
pub struct OffsetRow(pub Arc<offsets::Plan>, pub usize);

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];

pub static TABLE: &[Entry] = &[
    Entry::verb(
        "offset_plan",
        &[Parameter::one("source", &[Kind::Restored, Kind::Cluster, Kind::Snapshot])],
        Kind::OffsetPlan,
        |call| {
            let source = if let Ok(cluster) = call.argument::<Cluster>(0) {
                PlannedFrom::Live(cluster)
            } else if let Ok(snapshot) = call.argument::<SnapshotValue>(0) {
                PlannedFrom::Snapshot(snapshot)
            } else {
                PlannedFrom::Restored(Box::new(call.argument(0)?))
            };
            Ok(Dynamic::from(OffsetPlan::new(
                call.host()?.clone(),
                source,
            )))
        },
    )
    .doc(
        "Where consumer groups go on. Of a restore: the archive's groups at its target, for each committed offset the very \
         record that would have been read next. Of a cluster: its own groups, by a strategy such as `earliest`. Of a snapshot or \
         a cluster with `.onto(…)`: its groups on topics that are there already. Nothing is moved before `.reset()`; \
         printing it shows every row.",
    )
    .example("let moved = offset_plan(data).groups(\"checkout-*\");   // or offset_plan(cluster(\"dr\"))"),
    Entry::option(Kind::OffsetPlan, "groups", NAMES, "every group of the archive; of a cluster they are named", |call| {
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
    .doc(
        "Only offsets on these topics; of a restore by their names in the archive. Of a live group, a topic named in full is \
         moved in all of its partitions, also those in which the group has committed nothing.",
    )
    .example("offset_plan(data).topics(\"orders\")"),
    Entry::option(
        Kind::OffsetPlan,
        "partitions",
        &[
            Parameter::one("topics", &[Kind::Text]),
            Parameter::one("partitions", &[Kind::List, Kind::Text, Kind::Number]),
        ],
        "every partition",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.partitions.push(some_partitions(call)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc("Of a live group's topics that match, only these partitions: a list, a number, or ranges as text.")
    .example("offset_plan(dr).groups(\"checkout-api\").partitions(\"orders\", \"0-3\")"),
    Entry::option(
        Kind::OffsetPlan,
        "strategy",
        &[
            Parameter::choice("name", offsets::Strategy::NAMES),
            Parameter::one(
                "with",
                &[Kind::Number, Kind::Text, Kind::Instant, Kind::Duration],
            )
            .optional(),
        ],
        "\"exact\" of a restore or onto a cluster, \"to-current\" of a cluster",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.strategy = Some(strategy(call)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "How offsets are found. Of a restore: `exact` by its own mapping from source to target offsets, `skip` leaves groups \
         where they are. Of a cluster, as Kafka's own tool has them: `earliest`, `latest`, `to-current`, `to-offset` with an \
         offset, `shift-by` with a number, `to-datetime` with a time, `by-duration` with a duration before now, `to-group` \
         with another group's name, and `manual` with a file of `group,topic,partition,offset`, in CSV or JSON. Onto a cluster: \
         `header` by the headers that `origin_headers` of a restore adds, `timestamp` by the time of what is unread, which may \
         read some records again, `cluster-scan` by the records around the offset and when it was committed, `preserve` the \
         same numbers. A row is `exact` only where nothing unread can be skipped; where that is not known it is `unknown`: `header` \
         beyond a million offsets, which it bisects, `cluster-scan` of topics of more than 200,000 offsets at the source, \
         `preserve` of a partition of more than 100,000, and `timestamp` of more than one partition. What `out_of_range` moved \
         to an end of the source is `clamped`. With another number of partitions `header` and `timestamp` lead to every one of them, the others block.",
    )
    .example("offset_plan(dr).groups(\"audit\").strategy(\"to-datetime\", \"2026-11-20T10:00:00Z\")"),
    Entry::option(
        Kind::OffsetPlan,
        "unplaced",
        &[Parameter::choice("what", &["block", "leave"])],
        "\"block\"",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.leave_unplaced = call.text(0)? == "leave";
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "Committed offsets for which there is no target: `block` stops the plan, `leave` leaves them as they are and lists \
         them.",
    )
    .example("offset_plan(dr).groups(\"*\").strategy(\"shift-by\", -10).unplaced(\"leave\")"),
    Entry::option(
        Kind::OffsetPlan,
        "new_groups",
        &[Parameter::one("made", &[Kind::Flag])],
        "false",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.new_groups = call.argument(0)?;
            Ok(Dynamic::from(plan))
        },
    )
    .doc("Whether a group that is named in full and not there is made, by its first commit; else it blocks the plan.")
    .example("offset_plan(dr).groups(\"audit-2\").strategy(\"to-group\", \"audit\").new_groups(true)"),
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
        "An offset that lies outside of what the archive, or the log, holds: `block` stops the plan, `clamp` takes the \
         nearest end and says so.",
    )
    .example("offset_plan(data).out_of_range(\"clamp\")"),
    Entry::terminal(Kind::OffsetPlan, "reset", &[], Kind::Nothing, |call| {
        let host = call.host()?;
        host.refuse_effects("reset")?;
        let plan: OffsetPlan = call.me()?;
        let cluster = plan.target()?.clone();
        let mut plan = plan.plan()?;
        let mut again: Vec<String> = Vec::new();
        for (group, topic, rows) in plan.lines() {
            let partitions = rows.iter().map(|row| row.target_partition);
            let first = host.moves_first(&plan.target_cluster_id, group, topic, partitions);
            if !first && again.last().is_none_or(|last| last != group) {
                again.push(group.to_string());
            }
        }
        if !again.is_empty() {
            // It was planned against the offsets as they are, and would find them as the earlier step leaves them.
            let blocked = again.into_iter().map(|group| offsets::Blocked {
                group: None,
                reason: offsets::Reason::SameTarget,
                what: format!("an earlier step of this runbook moves group {group} already"),
                hint: Some("move each group once".to_string()),
            });
            Arc::make_mut(&mut plan).blocked.extend(blocked);
        }
        let run = Arc::new(ResetRun { plan, cluster });
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
    Entry::method(
        Kind::OffsetPlan,
        "exported",
        &[Parameter::choice("form", &["csv", "json", "sh"])],
        Kind::Text,
        |call| {
            let plan = call.me::<OffsetPlan>()?.plan()?;
            let text = match call.text(0)?.as_str() {
                "csv" => offsets::csv(&plan),
                "json" => offsets::json(&plan),
                _ => offsets::shell(&plan),
            };
            Ok(text.trim_end().to_string().into())
        },
    )
    .doc(
        "Its rows as text for people without kbr: `csv` as `kafka-consumer-groups --from-file` reads it, `json`, or `sh`, a \
         script that calls that tool for each group. Blocked rows are not in it.",
    )
    .example("print(moved.exported(\"csv\"))"),
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
        Ok(row(&call.me()?)
            .committed
            .map_or(Dynamic::UNIT, |offset| offset.0.into()))
    })
    .doc("What the group had committed at the source; `()` if nothing."),
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

/// A file with rows is no larger than this.
const LARGEST_FILE: u64 = 64 << 20;

/// `.strategy(name, with)`.
fn strategy(call: &Invocation) -> Result<offsets::Strategy, Failure> {
    let name = call.text(0)?;
    let text = call.text(1).ok();
    let given = if call.arguments.len() < 2 {
        Given::Nothing
    } else if let Ok(number) = call.argument::<i64>(1) {
        match name.as_str() {
            "to-datetime" => Given::Instant(epoch_ms(number)?),
            _ => Given::Number(number),
        }
    } else if let Ok(at) = call.argument::<Instant>(1) {
        Given::Instant(at.0)
    } else if let Ok(duration) = call.argument::<Duration>(1) {
        Given::Duration(duration.0)
    } else {
        let text = text.unwrap_or_default();
        match name.as_str() {
            "to-datetime" => Given::Instant(instant_of(call, &text)?),
            "by-duration" => Given::Duration(
                parse_duration_ms(&text).map_err(|error| Failure::script("E0214", error))?,
            ),
            "manual" => return rows_of(&text),
            _ => Given::Text(text),
        }
    };
    offsets::Strategy::parse(&name, given).map_err(|error| Failure::from_below("E0212", error))
}

/// The rows of a file; its path counts from where kbr was started.
fn rows_of(path: &str) -> Result<offsets::Strategy, Failure> {
    let cannot = |what: String| Failure::script("E0231", format!("{path}: {what}"));
    let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if size.len() > LARGEST_FILE {
        return Err(cannot("a file of rows has at most 64 MiB".to_string()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    offsets::Wanted::parse(path, &text)
        .map(offsets::Strategy::Manual)
        .map_err(|error| Failure::from_below("E0231", error))
}

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
    /// The same plan, moving groups under their members as well.
    pub fn forced(mut self, forced: bool) -> Self {
        self.force = forced;
        self.changed()
    }

    /// The same plan in transactions of at most so many offsets.
    pub fn in_parts(mut self, offsets: usize) -> Self {
        self.per_transaction = Some(offsets);
        self.changed()
    }

    fn new(host: Arc<Host>, source: PlannedFrom) -> Self {
        Self {
            host,
            source,
            groups: Vec::new(),
            exclude: Vec::new(),
            topics: Vec::new(),
            partitions: Vec::new(),
            strategy: None,
            out_of_range: "block".to_string(),
            leave_unplaced: false,
            new_groups: false,
            force: false,
            per_transaction: None,
            onto: Onto::default(),
            planned: Arc::default(),
        }
    }

    /// A group of the cluster to where another one is.
    pub fn copying(host: Arc<Host>, cluster: Cluster, from: String, to: String) -> Self {
        let strategy = offsets::Strategy::ToGroup(from);
        Self {
            groups: vec![to],
            new_groups: true,
            strategy: Some(strategy),
            ..Self::new(host, PlannedFrom::Live(cluster))
        }
    }

    /// The cluster and what is selected of its groups; an error for the plan of a restore.
    pub fn of_live(&self, verb: &str) -> Result<(Cluster, offsets::Options), Failure> {
        match &self.source {
            PlannedFrom::Live(cluster) if self.onto.cluster.is_none() => {
                Ok((cluster.clone(), self.options()?))
            }
            _ => Err(Failure::script(
                "E0218",
                format!("`{verb}` is about a cluster's own groups, not about those of a restore"),
            )
            .help(format!(
                "offset_plan(cluster(\"dr\")).groups(\"…\").{verb}()"
            ))),
        }
    }

    /// The cluster whose groups are moved.
    fn target(&self) -> Result<&Cluster, Failure> {
        match (&self.onto.cluster, &self.source) {
            (Some(cluster), _) | (None, PlannedFrom::Live(cluster)) => Ok(cluster),
            (None, PlannedFrom::Restored(restored)) => Ok(&restored.cluster),
            (None, PlannedFrom::Snapshot(_)) => Err(no_target()),
        }
    }

    /// With other options it is another plan.
    pub(super) fn changed(mut self) -> Self {
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

    fn options(&self) -> Result<offsets::Options, Failure> {
        let wrong = |error: offsets::Error| Failure::script("E0212", error.to_string());
        Ok(offsets::Options {
            groups: selection(&self.groups, &self.exclude)?,
            topics: selection(&self.topics, &[])?,
            partitions: self
                .partitions
                .iter()
                .map(|some| (some.topics.clone(), some.partitions.clone()))
                .collect(),
            strategy: self.strategy.clone().unwrap_or(match self.source {
                PlannedFrom::Live(_) if self.onto.cluster.is_none() => offsets::Strategy::ToCurrent,
                _ => offsets::Strategy::Exact,
            }),
            out_of_range: offsets::OutOfRange::parse(&self.out_of_range).map_err(wrong)?,
            leave_unplaced: self.leave_unplaced,
            new_groups: self.new_groups,
            force: self.force,
            per_transaction: self.per_transaction,
            at_most_behind: self.onto.at_most_behind,
            scan_budget: self.onto.scan_budget,
        })
    }

    fn make(&self) -> Result<offsets::Plan, Failure> {
        let mut options = self.options()?;
        let cluster = &self.target()?.0;
        let of_cluster = |error| {
            Failure::from_below("E0330", error)
                .prefixed(format!("planning offsets on {}", cluster.name))
        };
        let restored = match &self.source {
            PlannedFrom::Restored(restored) => restored,
            PlannedFrom::Snapshot(snapshot) => {
                let from = of_snapshot(snapshot);
                let plan = self.onto.translation(from);
                let plan = offsets::plan_onto(&plan, &cluster.client, &options);
                return self.host.wait(plan)?.map_err(of_cluster);
            }
            PlannedFrom::Live(source) if self.onto.cluster.is_some() => {
                let from = offsets::From::Cluster(source.0.client.clone());
                let plan = self.onto.translation(from);
                let plan = offsets::plan_onto(&plan, &cluster.client, &options);
                return self.host.wait(plan)?.map_err(of_cluster);
            }
            PlannedFrom::Live(_) => {
                self.onto.refuse_in_place()?;
                // A file that names its groups chooses them.
                if let offsets::Strategy::Manual(wanted) = &options.strategy
                    && self.groups.is_empty()
                {
                    let named: Vec<String> =
                        wanted.groups().into_iter().map(str::to_string).collect();
                    let exact = named.iter().map(|name| Pattern::Name(name.clone()));
                    options.groups.include = exact.collect();
                }
                let now = match options.strategy {
                    offsets::Strategy::ByDuration(_) => self.host.read_now(),
                    _ => self.host.now,
                };
                let plan = offsets::plan_live(&cluster.client, &options, now);
                return self.host.wait(plan)?.map_err(of_cluster);
            }
        };
        let snapshot = &restored.snapshot.0;
        let groups = self
            .host
            .wait(snapshot.snapshot.groups())?
            .map_err(|error| reading::of_archive(&snapshot.store.url.to_string(), error))?;
        let writes = restored.run.plan.writes.iter();
        let chosen = groups.groups.iter().map(|group| group.group.as_str());
        let chosen = chosen.filter(|name| options.groups.takes(name));
        let renamed = self.onto.renamed(chosen).map_err(of_cluster)?;
        let source = offsets::Source {
            groups: groups.groups,
            renamed,
            // The archive may hold records that the source's log start has passed since: they are restored, and a group
            // that was at one of them goes on there.
            topics: writes.map(offsets::SourceTopic::from).collect(),
        };
        let plan = self
            .host
            .wait(offsets::plan(&source, &cluster.client, &options))?
            .map_err(of_cluster)?;
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
                row.committed
                    .map_or_else(|| "-".to_string(), |offset| grouped(offset.0)),
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
        "no row: no selected group has a committed offset there".to_string()
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
    let rows = plan.rows.iter().filter_map(|row| row.target.as_ref().err());
    // What to do is told once, however many rows it is for.
    let mut hints: Vec<&String> = rows.filter_map(|blocked| blocked.hint.as_ref()).collect();
    for blocked in &plan.blocked {
        text.push_str(&format!("\nblocked: {}", blocked.what));
        hints.extend(&blocked.hint);
    }
    let mut told = BTreeSet::new();
    for hint in hints {
        if told.insert(hint) {
            text.push_str(&format!("\nnow: {hint}"));
        }
    }
    text
}
