//! `store.prune(#{…})` and `store.undelete(…)`: what an archive forgets, and the way back.

use super::archives::{StoreValue, open};
use crate::archive::{Archive, Policy, PrunePlan, Snapshot, UndeletePlan};
use crate::base::text::counted;
use crate::base::{NoProgress, time};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::steps::{self, PruneRun, UndeleteRun};
use crate::dsl::table::{Entry, MapOption, Parameter};
use crate::dsl::values::{Duration, Size};
use crate::run::ArchiveFact;
use rhai::{Array, Dynamic, Map};
use std::sync::Arc;

/// A planned prune.
#[derive(Clone)]
pub struct PrunedValue(pub Arc<PruneRun>);

const COUNT: &[Kind] = &[Kind::Number, Kind::Text];
const TIME: &[Kind] = &[Kind::Duration, Kind::Text];

const POLICY: &[MapOption] = &[
    MapOption {
        name: "keep_last",
        kinds: COUNT,
        default: "none",
        doc: "The newest so many recovery points stay.",
    },
    MapOption {
        name: "keep_within",
        kinds: TIME,
        default: "none",
        doc: "Those stay that are at most so much older than the newest.",
    },
    MapOption {
        name: "keep_daily",
        kinds: COUNT,
        default: "none",
        doc: "The newest of each of the last so many days (UTC) that have one.",
    },
    MapOption {
        name: "keep_weekly",
        kinds: COUNT,
        default: "none",
        doc: "Likewise of weeks (ISO 8601).",
    },
    MapOption {
        name: "keep_monthly",
        kinds: COUNT,
        default: "none",
        doc: "Likewise of months.",
    },
    MapOption {
        name: "redundancy",
        kinds: COUNT,
        default: "1",
        doc: "Never fewer whole recovery points than this.",
    },
    MapOption {
        name: "grace",
        kinds: TIME,
        default: "\"7d\"",
        doc: "How long what is marked stays before a later prune deletes it.",
    },
    MapOption {
        name: "drop",
        kinds: &[Kind::Text, Kind::List],
        default: "nothing",
        doc: "Records that go although recovery points that stay list them: `expired`, which the source no longer had at any \
              of them; `removed`, topics that none of them has; `all`, both.",
    },
];

const GENERATIONS: &[Parameter] = &[Parameter::one(
    "generations",
    &[Kind::Number, Kind::List, Kind::Text],
)];

pub static TABLE: &[Entry] = &[
    Entry::terminal(
        Kind::Store,
        "prune",
        &[Parameter::map("policy", POLICY)],
        Kind::Pruned,
        prune,
    )
    .doc(
        "Plans to forget recovery points. One stays if any `keep_` option wants it; the newest whole one always stays. The \
         others are marked: hidden, and deleted by a prune after the grace time. Without a `keep_` option nothing is marked, and only what \
         is due is deleted. Records leave the archive with the last recovery point that shows them, and otherwise only if `drop` says so.",
    )
    .example("store(\"prod\").prune(#{ keep_last: 7, keep_daily: 30 });"),
    Entry::terminal(Kind::Store, "undelete", GENERATIONS, Kind::List, undelete)
        .doc("Plans to bring marked recovery points back, by their numbers or `\"all\"`. Answers with their numbers.")
        .example("store(\"prod\").undelete(\"all\");"),
    Entry::column(Kind::Pruned, "marks", Kind::List, |call| {
        Ok(numbers(&call.me::<PrunedValue>()?.0.plan.marks()))
    })
    .doc("The numbers of the recovery points that it marks."),
    Entry::column(Kind::Pruned, "deletes", Kind::List, |call| {
        Ok(numbers(&call.me::<PrunedValue>()?.0.plan.deletes()))
    })
    .doc("The numbers of the recovery points that it deletes for good."),
    Entry::column(Kind::Pruned, "keeps", Kind::List, |call| {
        Ok(numbers(&call.me::<PrunedValue>()?.0.keeps()))
    })
    .doc("The numbers of the recovery points that stay."),
    Entry::column(Kind::Pruned, "objects", Kind::Number, |call| {
        let pruned: PrunedValue = call.me()?;
        Ok((pruned.0.plan.objects.len() as i64).into())
    })
    .doc("How many objects it deletes now."),
    Entry::column(Kind::Pruned, "bytes", Kind::Size, |call| {
        Ok(Dynamic::from(Size(call.me::<PrunedValue>()?.0.plan.bytes_now())))
    })
    .doc("Their size."),
];

fn numbers(numbers: &[u64]) -> Dynamic {
    let numbers = numbers.iter();
    numbers
        .map(|number| Dynamic::from(i64::try_from(*number).unwrap_or(i64::MAX)))
        .collect::<Array>()
        .into()
}

fn prune(call: &Invocation) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    host.refuse_effects("prune")?;
    let store: StoreValue = call.me()?;
    let policy = policy(&call.argument::<Map>(0)?)?;
    let archive = open(call, &store)?;
    let latest = latest(call, &store, &archive)?;
    // A plan's clock may be set; what ends a grace time, or lets a run's objects count as left behind, may not be.
    let now = host.now.min(time::now());
    let plan = call
        .wait(PrunePlan::make(&archive, &policy, now, &NoProgress))?
        .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
    let points = counted(plan.points.len() as i64, "recovery point");
    note_archive(call, &store, &latest, points)?;
    let run = Arc::new(PruneRun {
        plan,
        store: store.0.clone(),
    });
    host.add_step(steps::prune(&run), call.position);
    Ok(Dynamic::from(PrunedValue(run)))
}

/// The newest recovery point. If the end of the chain is not what this machine has seen, nothing is planned: what is
/// gone may be put back, and then needs what a prune would take for left behind.
fn latest(call: &Invocation, store: &StoreValue, archive: &Archive) -> Result<Snapshot, Failure> {
    let world = &call.host()?.world;
    let seen = world.witness(archive.archive_id());
    let (latest, tip) = call
        .wait(archive.latest_after(seen))?
        .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
    world.saw(archive.archive_id(), tip);
    Ok(latest)
}

/// The archive by its newest recovery point, as whoever reads it knows it; the step itself pins the end of the chain.
fn note_archive(
    call: &Invocation,
    store: &StoreValue,
    latest: &Snapshot,
    description: String,
) -> Result<(), Failure> {
    call.host()?.add_archive(ArchiveFact {
        url: store.0.url.to_string(),
        id: Some(latest.archive_id().to_string()),
        generation: Some(latest.number()),
        generation_digest: Some(latest.digest()),
        description,
    });
    Ok(())
}

fn policy(map: &Map) -> Result<Policy, Failure> {
    let mut policy = Policy::default();
    for (name, value) in map.iter().filter(|(_, value)| !value.is_unit()) {
        match name.as_str() {
            "keep_last" => policy.keep_last = count(name, value)?,
            "keep_within" => policy.keep_within_ms = Some(duration(name, value)?),
            "keep_daily" => policy.keep_daily = count(name, value)?,
            "keep_weekly" => policy.keep_weekly = count(name, value)?,
            "keep_monthly" => policy.keep_monthly = count(name, value)?,
            "redundancy" => policy.redundancy = count(name, value)?.max(1),
            "grace" => policy.grace_ms = duration(name, value)?,
            _ => drop_of(value, &mut policy)?,
        }
    }
    Ok(policy)
}

fn count(name: &str, value: &Dynamic) -> Result<u32, Failure> {
    let number = match value.as_int() {
        Ok(number) => u32::try_from(number).ok(),
        Err(_) => value
            .clone()
            .into_string()
            .ok()
            .and_then(|t| t.parse().ok()),
    };
    number
        .ok_or_else(|| Failure::script("E0214", format!("{name} is a number from 0, not {value}")))
}

fn duration(name: &str, value: &Dynamic) -> Result<i64, Failure> {
    if let Some(duration) = value.read_lock::<Duration>() {
        return Ok(duration.0);
    }
    let text = value.clone().into_string().unwrap_or_default();
    time::parse_duration_ms(&text).map_err(|why| Failure::script("E0214", format!("{name}: {why}")))
}

fn drop_of(value: &Dynamic, policy: &mut Policy) -> Result<(), Failure> {
    for word in words(value) {
        match word.as_str() {
            "expired" => policy.drop_expired = true,
            "removed" => policy.drop_removed = true,
            "all" => (policy.drop_expired, policy.drop_removed) = (true, true),
            other => {
                return Err(Failure::script("E0212", format!("drop is not {other:?}"))
                    .help("it is expired, removed or all"));
            }
        }
    }
    Ok(())
}

/// The words of a text or of a list of texts and numbers, between spaces and commas.
fn words(value: &Dynamic) -> Vec<String> {
    let texts: Vec<String> = match value.read_lock::<Array>() {
        Some(list) => list.iter().map(ToString::to_string).collect(),
        None => vec![value.to_string()],
    };
    let words = texts.iter().flat_map(|text| text.split([' ', ',']));
    words
        .filter(|w| !w.is_empty())
        .map(str::to_string)
        .collect()
}

fn undelete(call: &Invocation) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    host.refuse_effects("undelete")?;
    let store: StoreValue = call.me()?;
    let given = words(call.arguments.first().unwrap_or(&Dynamic::UNIT));
    let mut wanted = Vec::new();
    if given != ["all"] {
        for word in given {
            wanted.push(word.parse::<u64>().map_err(|_| {
                Failure::script(
                    "E0214",
                    format!("undelete: {word:?} is no number of a generation"),
                )
                .help("write their numbers, or \"all\"")
            })?);
        }
        if wanted.is_empty() {
            return Err(Failure::script("E0214", "undelete: no generation is named")
                .help("write their numbers, or \"all\""));
        }
    }
    let archive = open(call, &store)?;
    let latest = latest(call, &store, &archive)?;
    let plan = call
        .wait(UndeletePlan::make(&archive, &wanted))?
        .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
    note_archive(call, &store, &latest, format!("{} marked", plan.marked))?;
    let back: Vec<u64> = plan.comes_back.iter().map(|back| back.number).collect();
    let run = Arc::new(UndeleteRun {
        plan,
        store: store.0.clone(),
    });
    host.add_step(steps::undelete(&run), call.position);
    Ok(numbers(&back))
}
