//! What a runbook does to whole groups of a live cluster: delete them, delete some of their offsets, copy them.

use super::clusters::Cluster;
use super::offsets::OffsetPlan;
use super::restore::{patterns, selection};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::steps::{self, RemovalRun};
use crate::dsl::table::{Entry, Parameter};
use crate::engine::groups::{Removal, plan_groups, plan_offsets};
use crate::engine::offsets::{Blocked, Error, Reason};
use rhai::Dynamic;
use std::sync::Arc;

pub static TABLE: &[Entry] = &[
    Entry::terminal(
        Kind::Cluster,
        "delete_groups",
        &[Parameter::many("names", &[Kind::Text])],
        Kind::Nothing,
        |call| {
            call.host()?.refuse_effects("delete_groups")?;
            let cluster: Cluster = call.me()?;
            let groups = selection(&patterns(call)?, &[])?;
            let planned = call.wait(plan_groups(&cluster.0.client, &groups))?;
            add(call, cluster, planned)
        },
    )
    .doc(
        "Deletes groups with everything they have committed: names, globs or regular expressions between slashes. A gated \
         step; a group with members is refused. What they had committed is in the journal, and `kbr undo` commits it again. Of a \
         share group (Kafka 4.2 and later) that is where it starts.",
    )
    .example("cluster(\"dr\").delete_groups(\"console-*\");"),
    Entry::terminal(Kind::OffsetPlan, "delete_offsets", &[], Kind::Nothing, |call| {
        call.host()?.refuse_effects("delete_offsets")?;
        let plan: OffsetPlan = call.me()?;
        let (cluster, options) = plan.of_live("delete_offsets")?;
        let planned = call.wait(plan_offsets(&cluster.0.client, &options))?;
        add(call, cluster, planned)
    })
    .doc(
        "Deletes the committed offsets that groups, topics and partitions select, and leaves the groups: a consumer then begins \
         where its own settings say. A gated step; a group whose members read one of the topics is refused. `kbr undo` commits \
         them again. A share group loses where it starts by whole topics.",
    )
    .example("offset_plan(dr).groups(\"audit\").topics(\"orders\").delete_offsets();"),
    Entry::option(
        Kind::OffsetPlan,
        "force",
        &[Parameter::one("forced", &[Kind::Flag])],
        "false",
        |call| Ok(Dynamic::from(call.me::<OffsetPlan>()?.forced(call.argument(0)?))),
    )
    .doc(
        "Moves a group also while its members read the topic: a transaction takes that, but a member goes on where it is and \
         overwrites the reset with its next commit. Useful where members hang, or are restarted right after. Asked by itself, \
         whatever `confirm` says, with the members named.",
    )
    .example("offset_plan(dr).groups(\"audit\").strategy(\"earliest\").force(true)"),
    Entry::option(
        Kind::OffsetPlan,
        "per_transaction",
        &[Parameter::one("offsets", &[Kind::Number])],
        "200000",
        |call| {
            let most: i64 = call.argument(0)?;
            let most = usize::try_from(most).ok().filter(|most| *most > 0);
            let most = most.ok_or_else(|| {
                Failure::script("E0211", "a transaction has one offset at least".to_string())
            })?;
            Ok(Dynamic::from(call.me::<OffsetPlan>()?.in_parts(most)))
        },
    )
    .doc(
        "So many committed offsets move in one transaction. A plan with more is several steps, one after the other, each of \
         which moves whole or not at all; a group stays in one of them if it fits.",
    )
    .example("offset_plan(dr).groups(\"*\").strategy(\"earliest\").per_transaction(50000)"),
    Entry::method(
        Kind::Cluster,
        "copy_group",
        &[
            Parameter::one("from", &[Kind::Text]),
            Parameter::one("to", &[Kind::Text]),
        ],
        Kind::OffsetPlan,
        |call| {
            let (from, to) = (call.text(0)?, call.text(1)?);
            let host = call.host()?.clone();
            Ok(Dynamic::from(OffsetPlan::copying(host, call.me()?, from, to)))
        },
    )
    .doc(
        "An offset plan that puts one group where another one is, with the same metadata, and makes it if it is not there: \
         `offset_plan(dr).groups(to).strategy(\"to-group\", from).new_groups(true)`.",
    )
    .example("dr.copy_group(\"audit\", \"audit-2\").reset();"),
];

/// Adds the step, unless something else of the plan changes the same.
fn add(
    call: &Invocation,
    cluster: Cluster,
    planned: Result<Removal, Error>,
) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    let mut plan = planned.map_err(|error| {
        Failure::from_below("E0330", error).prefixed(format!("planning on {}", cluster.0.name))
    })?;
    let mut again = Vec::new();
    for group in &plan.groups {
        let (cluster_id, name) = (&plan.cluster_id, &group.group);
        let mut first = !plan.whole || host.changes_first(cluster_id, format!("group {name}"));
        for at in &group.offsets {
            let partition = std::iter::once(at.partition);
            first &= host.moves_first(cluster_id, name, &at.topic, partition);
        }
        if !first && !again.contains(name) {
            again.push(name.clone());
        }
    }
    // It was planned against the offsets as they are, and would find them as the earlier step leaves them.
    plan.blocked.extend(again.into_iter().map(|group| Blocked {
        group: Some(group.clone()),
        reason: Reason::SameTarget,
        what: format!("an earlier step of this runbook changes group {group} already"),
        hint: Some("change each group once".to_string()),
    }));
    host.add_step(
        steps::removal(&Arc::new(RemovalRun { plan, cluster })),
        call.position,
    );
    Ok(Dynamic::UNIT)
}
