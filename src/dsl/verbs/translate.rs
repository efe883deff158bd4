//! The options of an offset plan that leads onto another cluster, without a restore in the same runbook.

use super::archives::SnapshotValue;
use super::clusters::Cluster;
use super::offsets::{OffsetPlan, PlannedFrom};
use super::restore::{closure, names};
use crate::base::size::parse_bytes;
use crate::base::time::parse_duration_ms;
use crate::dsl::failure::Failure;
use crate::dsl::filter::Renames;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{Duration, Size};
use crate::engine::offsets::{self, Behind};
use crate::engine::restore::{ScanBudget, TopicRemap};
use rhai::Dynamic;
use std::sync::Arc;

/// What these options have set so far.
#[derive(Clone, Default)]
pub struct Onto {
    pub cluster: Option<Cluster>,
    topics: Option<Renames>,
    pub groups: Option<Renames>,
    pub at_most_behind: Option<Behind>,
    pub scan_budget: ScanBudget,
}

pub static TABLE: &[Entry] = &[
    Entry::option(
        Kind::OffsetPlan,
        "onto",
        &[Parameter::one("cluster", &[Kind::Cluster])],
        "the restore's target, or the cluster itself",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            if matches!(plan.source, PlannedFrom::Restored(_)) {
                return Err(Failure::script("E0222", "a restore has its own target")
                    .help("offset_plan(snap).onto(…) plans without the restore"));
            }
            plan.onto.cluster = Some(call.argument(0)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "The cluster onto whose topics the groups of a snapshot, or of another cluster, are to go. What the source's records \
         are found by there is the strategy: `header`, `timestamp`, `cluster-scan` or `preserve`.",
    )
    .example("offset_plan(snap).onto(cluster(\"dr\")).strategy(\"header\")"),
    Entry::option(
        Kind::OffsetPlan,
        "remap",
        &[Parameter::one("names", &[Kind::Map, Kind::Closure])],
        "every topic has its own name",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            if matches!(plan.source, PlannedFrom::Restored(_)) {
                return Err(Failure::script("E0222", "the restore says what its topics are called"));
            }
            plan.onto.topics = Some(renames(call)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc("With `onto`: what topics are called at the target, as `remap` of a restore has it.")
    .example("offset_plan(snap).onto(dr).remap(#{ \"orders\": \"orders_dr\" }).strategy(\"header\")"),
    Entry::option(
        Kind::OffsetPlan,
        "rename_groups",
        &[Parameter::one("names", &[Kind::Map, Kind::Closure])],
        "every group keeps its name",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.onto.groups = Some(renames(call)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "What groups are called at the target: a map from the source's names, or a closure from name to name. A group that \
         the map does not have, or for which the closure answers `()`, keeps its name. Two groups of one name block the plan.",
    )
    .example("offset_plan(data).rename_groups(|group| group + \"-dr\")"),
    Entry::option(
        Kind::OffsetPlan,
        "at_most_behind",
        &[Parameter::one("most", &[Kind::Number, Kind::Duration, Kind::Text])],
        "any number",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            plan.onto.at_most_behind = Some(behind(call)?);
            Ok(Dynamic::from(plan))
        },
    )
    .doc(
        "A group that would read more than so many records again on a partition, or go back further than a duration, blocks \
         the plan. What counts is the most that it may be.",
    )
    .example("offset_plan(snap).onto(dr).strategy(\"timestamp\").at_most_behind(1000)   // or minutes(5)"),
    Entry::option(
        Kind::OffsetPlan,
        "scan_budget",
        &[Parameter::one("bytes", &[Kind::Size, Kind::Text])],
        "\"8 GiB\"",
        |call| {
            let mut plan = call.me::<OffsetPlan>()?.changed();
            let bytes = match call.argument::<Size>(0) {
                Ok(size) => size.0,
                Err(_) => parse_bytes(&call.text(0)?)
                    .map_err(|error| Failure::script("E0214", error))?,
            };
            plan.onto.scan_budget = ScanBudget(bytes);
            Ok(Dynamic::from(plan))
        },
    )
    .doc("With `onto`: how much of each partition planning may read. What would need more is a blocked row.")
    .example("offset_plan(snap).onto(dr).strategy(\"cluster-scan\").scan_budget(\"64 GiB\")"),
];

fn renames(call: &Invocation) -> Result<Renames, Failure> {
    Ok(match call.closure(0) {
        Some(_) => Renames::Closure(closure(call)?),
        None => Renames::Map(names(call)?),
    })
}

fn behind(call: &Invocation) -> Result<Behind, Failure> {
    if let Ok(records) = call.argument::<i64>(0) {
        let records = u64::try_from(records);
        return records
            .map(Behind::Records)
            .map_err(|_| Failure::script("E0211", "at most so many records behind: 0 or more"));
    }
    if let Ok(duration) = call.argument::<Duration>(0) {
        return Ok(Behind::Time(duration.0));
    }
    let ms = parse_duration_ms(&call.text(0)?);
    ms.map(Behind::Time)
        .map_err(|error| Failure::script("E0214", error))
}

/// A plan that has to know where it leads.
pub fn no_target() -> Failure {
    Failure::script(
        "E0222",
        "an offset plan of a snapshot does not say onto which cluster",
    )
    .help("offset_plan(snap).onto(cluster(\"dr\")).strategy(\"header\"); or plan from the restore: offset_plan(restored)")
}

impl Onto {
    /// The engine's part of it.
    pub fn translation(&self, from: offsets::From) -> offsets::Translation {
        let rule = |renames: &Option<Renames>| {
            let renames = renames.clone()?;
            Some(Arc::new(renames) as Arc<dyn TopicRemap>)
        };
        offsets::Translation {
            from,
            remap: rule(&self.topics),
            rename_groups: rule(&self.groups),
        }
    }

    /// What groups of an archive are called at a restore's target.
    pub fn renamed<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a str>,
    ) -> Result<offsets::Renamed, offsets::Error> {
        match &self.groups {
            Some(rule) => offsets::Renamed::by(rule, groups),
            None => Ok(offsets::Renamed::default()),
        }
    }

    /// Options that mean nothing where a cluster's own groups are moved in place.
    pub fn refuse_in_place(&self) -> Result<(), Failure> {
        let refused = match (&self.topics, &self.groups) {
            (Some(_), _) => "remap",
            (_, Some(_)) => "rename_groups",
            _ => return Ok(()),
        };
        Err(Failure::script(
            "E0222",
            format!("`{refused}` needs to know onto which cluster"),
        )
        .help("say .onto(cluster(\"dr\")); a copy of a group within its cluster is made with .strategy(\"to-group\", \"NAME\")"))
    }
}

/// The engine's view of a snapshot.
pub fn of_snapshot(snapshot: &SnapshotValue) -> offsets::From {
    offsets::From::Archive(snapshot.0.snapshot.clone())
}
