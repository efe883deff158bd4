//! `backup(cluster)…to(store)`: one more generation in an archive.

use super::clusters::Cluster;
use super::quantities::rate_of;
use super::restore::{patterns, selection};
use crate::archive::{BlockCompression, Witnessed, ZSTD_LEVELS};
use crate::base::{PartitionId, PartitionSet, Pattern};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::steps::{self, BackupRun};
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{self, StoreValue};
use crate::engine::backup::{self, Keep, SomePartitions};
use crate::run::ArchiveFact;
use rhai::{Array, Dynamic};
use std::sync::Arc;
use std::time::Duration;

/// The builder: a value, copied by each option.
#[derive(Clone)]
pub struct Backup {
    cluster: Cluster,
    topics: Vec<String>,
    exclude: Vec<String>,
    partitions: Vec<SomePartitions>,
    internal: bool,
    groups: Vec<String>,
    exclude_groups: Vec<String>,
    acls: Keep,
    quotas: Keep,
    compression: BlockCompression,
    compression_level: Option<i32>,
    limit: Option<u64>,
    deadline: Duration,
}

/// A planned backup.
#[derive(Clone)]
pub struct BackedUp(pub Arc<BackupRun>);

/// In milliseconds.
const SHORTEST_DEADLINE: u64 = 1000;

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];
const KEEP: &[Parameter] = &[Parameter::choice("when", &Keep::NAMES)];

pub static TABLE: &[Entry] = &[
    Entry::verb(
        "backup",
        &[Parameter::one("cluster", &[Kind::Cluster])],
        Kind::Backup,
        |call| {
            let defaults = backup::Options::default();
            Ok(Dynamic::from(Backup {
                cluster: call.argument(0)?,
                topics: Vec::new(),
                exclude: Vec::new(),
                partitions: Vec::new(),
                internal: false,
                groups: Vec::new(),
                exclude_groups: Vec::new(),
                acls: defaults.acls,
                quotas: defaults.quotas,
                compression: defaults.block,
                compression_level: None,
                limit: None,
                deadline: defaults.stall,
            }))
        },
    )
    .doc("Backs a cluster up: records, configs, committed offsets. Nothing is planned before `.to(store)`.")
    .example("backup(cluster(\"prod\")).to(store(\"prod\"));"),
    Entry::option(Kind::Backup, "topics", NAMES, "every topic but Kafka's own", |call| {
        let mut builder: Backup = call.me()?;
        builder.topics.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Which topics: names, globs (`payments-*`) or regular expressions between slashes (`/^pay/`). One that matches \
         nothing blocks the plan.",
    )
    .example("backup(prod).topics(\"orders\", \"payments-*\")"),
    Entry::option(Kind::Backup, "exclude", NAMES, "none", |call| {
        let mut builder: Backup = call.me()?;
        builder.exclude.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc("Topics to leave out of those chosen.")
    .example("backup(prod).exclude(\"*-tmp\")"),
    Entry::option(
        Kind::Backup,
        "partitions",
        &[
            Parameter::one("topics", &[Kind::Text]),
            Parameter::one("partitions", &[Kind::List, Kind::Text, Kind::Number]),
        ],
        "every partition",
        |call| {
            let mut builder: Backup = call.me()?;
            builder.partitions.push(some_partitions(call)?);
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Of the topics that match, only these partitions: a list, a number, or ranges as text (`\"0-3,7\"`, `\"4-\"`). May be \
         given several times. What is archived of the others stays as it is.",
    )
    .example("backup(prod).partitions(\"orders\", [0, 3]).partitions(\"payments-*\", \"0-3,7\")"),
    Entry::option(
        Kind::Backup,
        "internal",
        &[Parameter::one("too", &[Kind::Flag])],
        "false",
        |call| {
            let mut builder: Backup = call.me()?;
            builder.internal = call.argument(0)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Whether topics that Kafka keeps for itself (`__consumer_offsets`, `__transaction_state`) are taken too, where the \
         selection matches them. Committed offsets are archived without that.",
    )
    .example("backup(prod).topics(\"__consumer_offsets\").internal(true)"),
    Entry::option(Kind::Backup, "groups", NAMES, "every group", |call| {
        let mut builder: Backup = call.me()?;
        builder.groups.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc("Which consumer groups' committed offsets are taken along. One that matches nothing blocks the plan.")
    .example("backup(prod).groups(\"checkout-*\")"),
    Entry::option(Kind::Backup, "exclude_groups", NAMES, "none", |call| {
        let mut builder: Backup = call.me()?;
        builder.exclude_groups.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc("Groups to leave out of those chosen.")
    .example("backup(prod).exclude_groups(\"console-consumer-*\")"),
    Entry::option(Kind::Backup, "acls", KEEP, "\"if allowed\"", |call| {
        let mut builder: Backup = call.me()?;
        builder.acls = keep(call)?;
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Whether the cluster's ACLs are kept, and the names of users with SCRAM credentials. Where kbr may not see them a note \
         says so; with `\"required\"` the run is then incomplete (exit status 6). A cluster without an authorizer has none.",
    )
    .example("backup(prod).acls(\"required\")"),
    Entry::option(Kind::Backup, "quotas", KEEP, "\"if allowed\"", |call| {
        let mut builder: Backup = call.me()?;
        builder.quotas = keep(call)?;
        Ok(Dynamic::from(builder))
    })
    .doc("Whether client quotas are kept, likewise.")
    .example("backup(prod).quotas(\"none\")"),
    Entry::option(
        Kind::Backup,
        "compression",
        &[Parameter::choice("name", &BlockCompression::NAMES)],
        "\"auto\"",
        |call| {
            let mut builder: Backup = call.me()?;
            let name = call.text(0)?;
            builder.compression = BlockCompression::parse(&name).ok_or_else(|| {
                Failure::script("E0212", format!("no compression is called {name:?}"))
            })?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "How the archive's blocks are compressed where that pays. Batches that their producer has compressed are stored as \
         they are whatever is chosen; `auto` takes zstd at its fastest level for the rest, `none` stores all as it is.",
    )
    .example("backup(prod).compression(\"none\")"),
    Entry::option(
        Kind::Backup,
        "deadline",
        &[Parameter::one("time", &[Kind::Duration])],
        "`minutes(1)`",
        |call| {
            let mut builder: Backup = call.me()?;
            let time: values::Duration = call.argument(0)?;
            builder.deadline = match u64::try_from(time.0) {
                Ok(ms) if ms >= SHORTEST_DEADLINE => Duration::from_millis(ms),
                _ => {
                    return Err(Failure::script("E0212", "a deadline of less than a second")
                        .help("a partition gets at least `seconds(1)`"));
                }
            };
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "How long a partition may go without a new offset before it fails by name. The others go on, and the generation \
         says that it is partial.",
    )
    .example("backup(prod).deadline(minutes(5))"),
    Entry::option(
        Kind::Backup,
        "compression_level",
        &[Parameter::one("level", &[Kind::Number])],
        "3 with `compression(\"zstd\")`",
        |call| {
            let mut builder: Backup = call.me()?;
            let level = i32::try_from(call.argument::<i64>(0)?).unwrap_or(0);
            if !ZSTD_LEVELS.contains(&level) {
                return Err(Failure::script(
                    "E0211",
                    format!(
                        "zstd has levels {} to {}",
                        ZSTD_LEVELS.start(),
                        ZSTD_LEVELS.end()
                    ),
                ));
            }
            builder.compression_level = Some(level);
            Ok(Dynamic::from(builder))
        },
    )
    .doc("zstd's level, 1 (fast) to 22 (small). Only with `compression(\"zstd\")`.")
    .example("backup(prod).compression(\"zstd\").compression_level(9)"),
    Entry::option(
        Kind::Backup,
        "limit",
        &[Parameter::one("rate", &[Kind::Text, Kind::Size])],
        "as fast as it goes",
        |call| {
            let mut builder: Backup = call.me()?;
            builder.limit = Some(rate_of(call)?);
            Ok(Dynamic::from(builder))
        },
    )
    .doc("At most so many bytes per second from the cluster, over all partitions.")
    .example("backup(prod).limit(\"50 MB/s\")"),
    Entry::terminal(
        Kind::Backup,
        "to",
        &[Parameter::one("store", &[Kind::Store])],
        Kind::BackedUp,
        to,
    )
    .doc(
        "Plans one run into an archive: it starts where the last one ended, and adds one generation. The archive is made \
         if there is none.",
    )
    .example("backup(cluster(\"prod\")).to(store(\"prod\"));"),
    Entry::column(Kind::BackedUp, "generation", Kind::Number, |call| {
        let run = call.me::<BackedUp>()?.0;
        Ok(i64::try_from(run.plan.generation).unwrap_or(i64::MAX).into())
    })
    .doc("The number of the generation that the run adds."),
    Entry::column(Kind::BackedUp, "topics", Kind::List, |call| {
        let run = call.me::<BackedUp>()?.0;
        let topics = run.plan.topics.iter();
        Ok(topics
            .map(|topic| Dynamic::from(topic.name.clone()))
            .collect::<Array>()
            .into())
    })
    .doc("The topics that are read."),
];

fn to(call: &Invocation) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    host.refuse_effects("to")?;
    let builder: Backup = call.me()?;
    let store: StoreValue = call.argument(0)?;
    let block = match (builder.compression, builder.compression_level) {
        (BlockCompression::Zstd { .. }, Some(level)) => BlockCompression::Zstd { level },
        (compression, None) => compression,
        (compression, Some(_)) => {
            return Err(Failure::script(
                "E0214",
                format!("compression {} has no levels", compression.name()),
            )
            .help("write .compression(\"zstd\").compression_level(9)"));
        }
    };
    let options = backup::Options {
        topics: selection(&builder.topics, &builder.exclude)?,
        partitions: builder.partitions.clone(),
        include_internal: builder.internal,
        groups: selection(&builder.groups, &builder.exclude_groups)?,
        acls: builder.acls,
        quotas: builder.quotas,
        block,
        rate: builder.limit,
        stall: builder.deadline,
    };
    let cluster = &builder.cluster.0;
    let mut plan = call
        .wait(backup::plan(&cluster.client, &store.0.store, &options))?
        .map_err(|error| {
            reading::of_engine(format!("planning the backup of {}", cluster.name), error)
        })?;
    if let (Some(id), Some(parent)) = (plan.archive_id, plan.parent) {
        host.world.saw(
            id,
            Witnessed {
                generation: parent.number,
                digest: parent.digest,
            },
        );
    }
    if let (Some(id), Some(parent)) = (plan.archive_id, plan.parent)
        && let Some(seen) = host.world.witness(id)
        && seen.generation > parent.number
    {
        // No reason not to back up: what was lost is read again as far as the source still has it.
        plan.notes.push(format!(
            "this machine has seen generation {} of the archive, which is gone; the newest there is {}",
            seen.generation, parent.number
        ));
    }
    host.add_archive(ArchiveFact {
        url: store.0.url.to_string(),
        id: plan.archive_id.map(|id| id.to_string()),
        generation: plan.parent.map(|parent| parent.number),
        generation_digest: plan.parent.map(|parent| parent.digest),
        description: match plan.parent {
            Some(parent) => format!("generation {}", parent.number),
            None => "a new archive".to_string(),
        },
    });
    let run = Arc::new(BackupRun {
        plan,
        cluster: builder.cluster.clone(),
        store: store.0.clone(),
    });
    host.add_step(steps::backup(&run), call.position);
    Ok(Dynamic::from(BackedUp(run)))
}

fn keep(call: &Invocation) -> Result<Keep, Failure> {
    let text = call.text(0)?;
    Keep::parse(&text)
        .ok_or_else(|| Failure::script("E0212", format!("{} is not {text:?}", call.entry.title())))
}

/// Topics by pattern, and some of their partitions: the first two arguments of a call.
pub fn some_partitions(call: &Invocation) -> Result<SomePartitions, Failure> {
    let wrong = |what: String| Failure::script("E0214", what);
    let topics = Pattern::parse(&call.text(0)?).map_err(|error| wrong(error.to_string()))?;
    let number = |value: i64| {
        i32::try_from(value)
            .ok()
            .filter(|id| (0..i32::MAX).contains(id))
            .map(PartitionId)
            .ok_or_else(|| Failure::script("E0211", format!("{value} is no partition")))
    };
    let partitions = if let Ok(list) = call.argument::<Array>(1) {
        let ids = list.iter().map(|member| {
            let id = member.as_int().map_err(|_| {
                let kind = Kind::of(member);
                let title = call.entry.title();
                Failure::script(
                    "E0208",
                    format!(
                        "{title} takes whole numbers in its list, not {}",
                        kind.phrase()
                    ),
                )
            })?;
            number(id)
        });
        ids.collect::<Result<PartitionSet, _>>()?
    } else if let Ok(text) = call.text(1) {
        PartitionSet::parse(&text).map_err(wrong)?
    } else {
        PartitionSet::from_iter([number(call.argument::<i64>(1)?)?])
    };
    if partitions.is_empty() {
        return Err(wrong(format!("no partition of {topics} is chosen"))
            .help("leave the option out for every partition, or the topic with .exclude(…)"));
    }
    Ok(SomePartitions { topics, partitions })
}
