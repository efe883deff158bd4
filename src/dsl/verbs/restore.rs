//! `restore(snap)…to(cluster)`: which records of a snapshot go where.

use super::archives::SnapshotValue;
use super::clusters::Cluster;
use super::quantities::{instant_of, rate_of};
use super::routes::Routes;
use crate::base::size::parse_bytes;
use crate::base::text::grouped;
use crate::base::time::format_instant;
use crate::base::{Pattern, Selection, TimestampMs};
use crate::dsl::closure::Closure;
use crate::dsl::failure::Failure;
use crate::dsl::filter::{RecordPredicate, Renames};
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::steps::{self, RestoreRun};
use crate::dsl::table::{Entry, MapOption, Parameter};
use crate::dsl::values::{Instant, Size};
use crate::engine::restore;
use crate::run::ExitClass;
use rhai::{Array, Dynamic, Map};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The builder: a value, copied by each option.
#[derive(Clone)]
pub struct Restore {
    pub snapshot: SnapshotValue,
    topics: Vec<String>,
    exclude: Vec<String>,
    since: Option<TimestampMs>,
    before: Option<TimestampMs>,
    filter: Option<RecordPredicate>,
    renames: Option<Renames>,
    /// What is set by the options of `routes`.
    pub routes: Routes,
    scan_budget: restore::ScanBudget,
    limit: Option<u64>,
}

/// A planned restore, with the values that execution will give.
#[derive(Clone)]
pub struct Restored {
    pub run: Arc<RestoreRun>,
    pub snapshot: SnapshotValue,
    pub cluster: Cluster,
}

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];
/// What `on_error` of a filter may be.
pub const ON_ERROR: [&str; 3] = ["stop", "keep", "drop"];
const FILTER_OPTIONS: &[MapOption] = &[MapOption {
    name: "on_error",
    kinds: &[Kind::Text],
    default: "\"stop\"",
    doc: "What becomes of a record on which the closure fails: \"stop\" ends the restore and names it, \"keep\" restores it, \"drop\" leaves it out.",
}];
const WHEN: &[Parameter] = &[Parameter::one(
    "when",
    &[Kind::Text, Kind::Instant, Kind::Number],
)];

pub static TABLE: &[Entry] = &[
    Entry::verb(
        "restore",
        &[Parameter::one("snapshot", &[Kind::Snapshot])],
        Kind::Restore,
        |call| {
            Ok(Dynamic::from(Restore {
                snapshot: call.argument(0)?,
                topics: Vec::new(),
                exclude: Vec::new(),
                since: None,
                before: None,
                filter: None,
                renames: None,
                routes: Routes::default(),
                scan_budget: restore::ScanBudget::default(),
                limit: None,
            }))
        },
    )
    .doc("Restores records of a snapshot. Nothing is planned before `.to(cluster)`.")
    .example("let data = restore(snap).topics(\"orders\").to(dr);"),
    Entry::option(Kind::Restore, "topics", NAMES, "every topic", |call| {
        let mut builder: Restore = call.me()?;
        builder.topics.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Which topics: names, globs (`payments-*`) or regular expressions between slashes (`/^pay/`). One that matches \
         nothing blocks the plan.",
    )
    .example("restore(snap).topics(\"orders\", \"payments-*\")"),
    Entry::option(Kind::Restore, "exclude", NAMES, "none", |call| {
        let mut builder: Restore = call.me()?;
        builder.exclude.extend(patterns(call)?);
        Ok(Dynamic::from(builder))
    })
    .doc("Topics to leave out of those chosen.")
    .example("restore(snap).topics(\"payments-*\").exclude(\"payments-test\")"),
    Entry::option(Kind::Restore, "since", WHEN, "\"earliest\"", |call| {
        let mut builder: Restore = call.me()?;
        builder.since = when(call, "earliest")?;
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Records of this time or later, to the millisecond, each record by its own timestamp. Inclusive. A time is ISO 8601 \
         with any zone (UTC without one), a date, milliseconds since 1970, or back from now: `\"-2h\"`.",
    )
    .example("restore(snap).since(\"2026-11-20T09:00:00Z\")"),
    Entry::option(Kind::Restore, "before", WHEN, "\"latest\"", |call| {
        let mut builder: Restore = call.me()?;
        builder.before = when(call, "latest")?;
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Records before this time, to the millisecond, each record by its own timestamp. Exclusive: it pairs with \
         `since`. `\"latest\"` is no bound.",
    )
    .example("restore(snap).before(args.at ?? \"latest\")"),
    Entry::option(
        Kind::Restore,
        "filter",
        &[
            Parameter::one("keep", &[Kind::Closure]),
            Parameter::map("options", FILTER_OPTIONS).optional(),
        ],
        "every record",
        |call| {
            let mut builder: Restore = call.me()?;
            if builder.filter.is_some() {
                return Err(Failure::script("E0222", "option `filter` of restore is given twice")
                    .help("join the conditions with `&&`"));
            }
            let closure = closure(call)?;
            builder.filter = Some(RecordPredicate::new(closure, on_error(call)?));
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Keeps the records for which the closure answers true. It sees one record, sees no verbs and no clock, and what it \
         captures is frozen here. A record on which it fails, or for which it answers neither true nor false, ends the restore \
         and is named; with `on_error` such records are kept or dropped instead, and counted.",
    )
    .example("restore(snap).filter(|r| r.key != \"poison\")"),
    Entry::option(
        Kind::Restore,
        "remap",
        &[Parameter::one("names", &[Kind::Map, Kind::Closure])],
        "every topic keeps its name",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.renames = Some(match call.closure(0) {
                Some(_) => Renames::Closure(closure(call)?),
                None => Renames::Map(names(call)?),
            });
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Names of topics at the target: a map from the archive's names, or a closure from name to name. A topic that the \
         map does not have, or for which the closure answers `()`, keeps its name.",
    )
    .example("restore(snap).remap(#{ \"orders\": \"orders_dr\" })   // or .remap(|name| name + \"_dr\")"),
    Entry::option(
        Kind::Restore,
        "scan_budget",
        &[Parameter::one("bytes", &[Kind::Size, Kind::Text])],
        "\"8 GiB\"",
        |call| {
            let mut builder: Restore = call.me()?;
            let bytes = match call.argument::<Size>(0) {
                Ok(size) => size.0,
                Err(_) => parse_bytes(&call.text(0)?)
                    .map_err(|error| Failure::script("E0214", error))?,
            };
            builder.scan_budget = restore::ScanBudget(bytes);
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "How much of the archive planning may read to learn what a filter or a time bound cuts. Where that is not enough, \
         the plan says `at most`, and what depends on the exact number is known after execution only.",
    )
    .example("restore(snap).filter(|r| r.key != \"poison\").scan_budget(\"64 GiB\")"),
    Entry::option(
        Kind::Restore,
        "limit",
        &[Parameter::one("rate", &[Kind::Text, Kind::Size])],
        "as fast as it goes",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.limit = Some(rate_of(call)?);
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "At most so many bytes per second into the cluster, over all partitions. A restore that runs is paused with \
         `kill -USR1` and goes on with `kill -USR2`.",
    )
    .example("restore(snap).limit(\"50 MB/s\")"),
    Entry::option(
        Kind::Restore,
        "acls",
        &[Parameter::one("too", &[Kind::Flag])],
        "false",
        |_| Err(not_yet("acls")),
    )
    .doc("Whether ACLs are restored. Not in this version: the snapshot shows them.")
    .example("print(snap.acls());"),
    Entry::option(
        Kind::Restore,
        "quotas",
        &[Parameter::one("too", &[Kind::Flag])],
        "false",
        |_| Err(not_yet("quotas")),
    )
    .doc("Whether client quotas are restored. Not in this version: the snapshot shows them.")
    .example("print(snap.quotas());"),
    Entry::terminal(
        Kind::Restore,
        "to",
        &[Parameter::one("cluster", &[Kind::Cluster])],
        Kind::Restored,
        to,
    )
    .doc(
        "Plans the restore into a cluster: creates topics with the source's configs, writes, verifies every record, puts \
         the real configs in force. Answers with what it will have done.",
    )
    .example("let data = restore(snap).to(cluster(\"dr\"));"),
    Entry::column(Kind::Restored, "topics", Kind::List, |call| {
        let restored: Restored = call.me()?;
        let topics = restored.run.plan.writes.iter();
        Ok(topics
            .map(|write| Dynamic::from(write.topic.clone()))
            .collect::<Array>()
            .into())
    })
    .doc("The topics at the target."),
    Entry::column(Kind::Restored, "records", Kind::Number, |call| {
        let restored: Restored = call.me()?;
        let mut records = 0;
        for write in &restored.run.plan.writes {
            match write.records().exact() {
                Some(count) => records += count,
                None => return Err(unknown("records", &write.topic)),
            }
        }
        Ok(i64::try_from(records).unwrap_or(i64::MAX).into())
    })
    .doc(
        "How many records are written. If only execution can tell (a filter over more than planning may read), reading it \
         ends the evaluation there.",
    ),
    Entry::column(Kind::Restored, "bytes", Kind::Size, |call| {
        let restored: Restored = call.me()?;
        let bytes = restored.run.plan.writes.iter().map(|write| write.bytes());
        Ok(Dynamic::from(Size(bytes.sum())))
    })
    .doc("Bytes of archived batches that are read for it."),
    Entry::property(Kind::Restored, "dropped", Kind::Number, |call| {
        let restored: Restored = call.me()?;
        let mut dropped = 0;
        for write in &restored.run.plan.writes {
            if write.records().exact().is_none() {
                return Err(unknown("dropped", &write.topic));
            }
            dropped += write
                .partitions
                .iter()
                .map(|partition| partition.dropped_by_filter + partition.dropped_by_time)
                .sum::<u64>();
        }
        Ok(i64::try_from(dropped).unwrap_or(i64::MAX).into())
    })
    .doc("How many records the filter and the time bounds leave out."),
    Entry::property(Kind::Restored, "cluster", Kind::Cluster, |call| {
        Ok(Dynamic::from(call.me::<Restored>()?.cluster))
    })
    .doc("The target."),
];

fn not_yet(name: &str) -> Failure {
    Failure::script(
        "E0219",
        format!("restoring `{name}` is not in this version of kbr"),
    )
    .help(format!("print(snap.{name}()) shows what the archive holds"))
}

/// Reading it ends the evaluation: a comparison must not swallow a number that nobody knows.
fn unknown(what: &str, topic: &str) -> Failure {
    Failure {
        stops: true,
        exit: ExitClass::Done,
        ..Failure::script(
            "E0230",
            format!("`{what}` of {topic}: known after execution"),
        )
    }
}

/// Every name checked as a pattern, so that a broken one is an error at its place.
pub fn patterns(call: &Invocation) -> Result<Vec<String>, Failure> {
    let texts = call.texts(0)?;
    for text in &texts {
        Pattern::parse(text).map_err(|error| Failure::script("E0214", error.to_string()))?;
    }
    Ok(texts)
}

pub fn selection(include: &[String], exclude: &[String]) -> Result<Selection, Failure> {
    let parse = |texts: &[String]| {
        texts
            .iter()
            .map(|text| {
                Pattern::parse(text).map_err(|error| Failure::script("E0214", error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Selection {
        include: parse(include)?,
        exclude: parse(exclude)?,
    })
}

fn when(call: &Invocation, unbounded: &str) -> Result<Option<TimestampMs>, Failure> {
    if let Ok(instant) = call.argument::<Instant>(0) {
        return Ok(Some(instant.0));
    }
    if let Ok(ms) = call.argument::<i64>(0) {
        return epoch_ms(ms).map(Some);
    }
    let text = call.text(0)?;
    if text == unbounded {
        return Ok(None);
    }
    instant_of(call, &text).map(Some)
}

/// Seconds where milliseconds are meant would be a time in 1970.
pub fn epoch_ms(ms: i64) -> Result<TimestampMs, Failure> {
    const EARLIEST: i64 = 100_000_000_000;
    if ms < EARLIEST {
        return Err(Failure::script(
            "E0214",
            format!("{ms} is no time in milliseconds since 1970"),
        )
        .help("seconds since 1970 times 1000, or write 2026-11-20T10:00:00Z"));
    }
    Ok(TimestampMs(ms))
}

pub fn closure(call: &Invocation) -> Result<Closure, Failure> {
    let host = call.host()?;
    match (call.closure(0), call.ast) {
        (Some(pointer), Some(ast)) => Closure::take(&host.source, ast, &pointer),
        _ => Err(Failure::script(
            "E0213",
            "this closure cannot be taken along",
        )),
    }
}

/// The `on_error` of a filter's options.
fn on_error(call: &Invocation) -> Result<restore::OnError, Failure> {
    let Some(options) = call.arguments.get(1) else {
        return Ok(restore::OnError::Stop);
    };
    let given = options
        .read_lock::<Map>()
        .and_then(|options| options.get("on_error").cloned())
        .unwrap_or(Dynamic::UNIT);
    match given.into_string().as_deref() {
        Ok("stop") | Err(_) => Ok(restore::OnError::Stop),
        Ok("keep") => Ok(restore::OnError::Keep),
        Ok("drop") => Ok(restore::OnError::Drop),
        Ok(other) => Err(no_such_on_error(other)),
    }
}

/// `on_error: "skip"`.
pub fn no_such_on_error(given: &str) -> Failure {
    let failure = Failure::script("E0212", format!("`on_error` of a filter is not {given:?}"))
        .help(format!("it is one of: {}", ON_ERROR.join(", ")));
    match crate::base::text::did_you_mean(given, ON_ERROR) {
        Some(near) => failure.label(format!("did you mean \"{near}\"?")),
        None => failure,
    }
}

pub fn names(call: &Invocation) -> Result<BTreeMap<String, String>, Failure> {
    let map: Map = call.argument(0)?;
    map.into_iter()
        .map(|(from, to)| {
            let kind = Kind::of(&to);
            to.into_string()
                .map(|to| (from.to_string(), to))
                .map_err(|_| {
                    Failure::script(
                        "E0208",
                        format!("the new name of {from} is text, not {}", kind.phrase()),
                    )
                })
        })
        .collect()
}

fn to(call: &Invocation) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    host.refuse_effects("to")?;
    let builder: Restore = call.me()?;
    let cluster: Cluster = call.argument(0)?;
    if let (Some(since), Some(before)) = (builder.since, builder.before)
        && since >= before
    {
        return Err(Failure::script(
            "E0214",
            format!(
                "no record lies between `since` ({}) and `before` ({})",
                format_instant(since),
                format_instant(before)
            ),
        )
        .help("`since` is the earlier of the two; `before` is exclusive"));
    }
    let options = restore::Options {
        topics: selection(&builder.topics, &builder.exclude)?,
        since: builder.since,
        before: builder.before,
        filter: match &builder.filter {
            Some(predicate) => {
                // A closure that cannot be made ready is this line's error, not a worker's.
                predicate.open()?;
                Some(Arc::new(predicate.clone()))
            }
            None => None,
        },
        partitions: builder.routes.partitions.clone(),
        offsets: builder.routes.offsets.clone(),
        remap: builder.routes.names(builder.renames.clone()),
        partition_remap: builder.routes.partition_remap(),
        repartition: builder.routes.repartition,
        merge: builder.routes.merge,
        headers: builder.routes.headers.clone(),
        scan_budget: builder.scan_budget,
        rate: builder.limit,
    };
    let snapshot = &builder.snapshot.0.snapshot;
    let client = &cluster.0.client;
    let planning = restore::plan(snapshot, client, &options, host.now, &host.cancel);
    let mut plan = call.wait(planning)?.map_err(|error| {
        reading::of_engine(format!("planning the restore to {}", cluster.0.name), error)
    })?;
    for note in &plan.notes {
        host.print(note);
    }
    let mut seen = std::collections::BTreeSet::new();
    for write in &mut plan.writes {
        // Several sources of one target are written one behind the other, as planned.
        if !seen.insert(write.topic.clone()) {
            continue;
        }
        // It was planned against the topic as it is, and would find it as the earlier step leaves it.
        if !host.changes_first(&plan.target_cluster_id, format!("topic {}", write.topic)) {
            write.blocked.push(restore::Blocked {
                what: format!(
                    "an earlier step of this runbook writes into {} already",
                    write.topic
                ),
                hint: Some(
                    "restore it in a runbook of its own, or under another name with .remap(…)"
                        .to_string(),
                ),
            });
        }
    }
    let run = Arc::new(RestoreRun {
        plan,
        snapshot: builder.snapshot.clone(),
        cluster: cluster.clone(),
    });
    for step in steps::restore(&run) {
        host.add_step(step, call.position);
    }
    Ok(Dynamic::from(Restored {
        run,
        snapshot: builder.snapshot,
        cluster,
    }))
}

/// `1,204,551`, or `at most 1,204,551` when only execution can tell.
pub fn predicted(records: restore::Predicted) -> String {
    match records {
        restore::Predicted::Exactly(count) => grouped(count),
        restore::Predicted::AtMost(count) => format!("at most {}", grouped(count)),
    }
}
