//! `backup(cluster)…to(store)`: one more generation in an archive.

use super::clusters::Cluster;
use super::restore::{patterns, selection};
use crate::archive::BlockCompression;
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::steps::{self, BackupRun};
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{self, StoreValue};
use crate::engine::backup;
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
    groups: Vec<String>,
    compression: String,
    deadline: Duration,
}

/// A planned backup.
#[derive(Clone)]
pub struct BackedUp(pub Arc<BackupRun>);

/// In milliseconds.
const SHORTEST_DEADLINE: u64 = 1000;

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];

pub static TABLE: &[Entry] = &[
    Entry::verb(
        "backup",
        &[Parameter::one("cluster", &[Kind::Cluster])],
        Kind::Backup,
        |call| {
            Ok(Dynamic::from(Backup {
                cluster: call.argument(0)?,
                topics: Vec::new(),
                exclude: Vec::new(),
                groups: Vec::new(),
                compression: BlockCompression::default().name().to_string(),
                deadline: backup::Options::default().stall,
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
    Entry::option(Kind::Backup, "groups", NAMES, "every group", |call| {
        let mut builder: Backup = call.me()?;
        builder.groups.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc("Which consumer groups' committed offsets are taken along.")
    .example("backup(prod).groups(\"checkout-*\")"),
    Entry::option(
        Kind::Backup,
        "compression",
        &[Parameter::choice("name", &["zstd", "lz4", "none"])],
        "\"zstd\"",
        |call| {
            let mut builder: Backup = call.me()?;
            builder.compression = call.text(0)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "How the archive's blocks are compressed where that pays. Batches that their producer has compressed are stored as \
         they are, and with `none` all of them.",
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
    let options = backup::Options {
        topics: selection(&builder.topics, &builder.exclude)?,
        groups: selection(&builder.groups, &[])?,
        block: BlockCompression::parse(&builder.compression).ok_or_else(|| {
            let what = format!("no compression is called {:?}", builder.compression);
            Failure::script("E0212", what)
        })?,
        stall: builder.deadline,
        ..backup::Options::default()
    };
    let cluster = &builder.cluster.0;
    let mut plan = call
        .wait(backup::plan(&cluster.client, &store.0.store, &options))?
        .map_err(|error| {
            reading::of_engine(format!("planning the backup of {}", cluster.name), error)
        })?;
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
