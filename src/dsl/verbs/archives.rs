//! Stores, archives in them, and snapshots: an archive as of one generation.

use super::quantities::instant_of;
use super::restore::epoch_ms;
use crate::archive::{Archive, Snapshot};
use crate::base::text::counted;
use crate::base::time::format_duration_ms;
use crate::base::{Digest, TimestampMs};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{Duration, Instant, Size};
use crate::dsl::world::StoreHandle;
use crate::run::ArchiveFact;
use rhai::{Array, Dynamic};
use std::sync::Arc;

/// A place that holds an archive or will.
#[derive(Clone)]
pub struct StoreValue(pub Arc<StoreHandle>);

/// One generation in a list.
#[derive(Clone)]
pub struct GenerationValue {
    pub number: i64,
    pub consistency_point: TimestampMs,
    pub age_ms: i64,
    pub topics: i64,
    /// `None` where it cannot be told from what was there before.
    pub records: Option<i64>,
    pub bytes: Option<u64>,
    pub partial: bool,
}

/// An archive as of one generation, opened.
#[derive(Clone)]
pub struct SnapshotValue(pub Arc<OpenedSnapshot>);

pub struct OpenedSnapshot {
    pub snapshot: Snapshot,
    pub store: Arc<StoreHandle>,
    /// The clock of the evaluation, from which the age counts.
    pub now: TimestampMs,
}

impl OpenedSnapshot {
    /// Never negative: a rehearsal makes its archive after its clock was fixed, and clocks differ.
    fn age_ms(&self) -> i64 {
        (self.now.0 - self.snapshot.consistency_point().0).max(0)
    }

    pub fn digest(&self) -> Digest {
        self.snapshot.digest()
    }
}

pub static TABLE: &[Entry] = &[
    Entry::function(
        "store",
        &[Parameter::one("name", &[Kind::Text])],
        Kind::Store,
        |call| {
            let name = call.text(0)?;
            let handle = call
                .wait(call.host()?.world.store(&name))?
                .map_err(|error| reading::of_world("store", error))?;
            Ok(Dynamic::from(StoreValue(handle)))
        },
    )
    .doc("An archive's place by its name in `kbr.toml` or by its URL: `file:PATH`, `memory:NAME`.")
    .example("let archive = store(\"prod\");   // or store(\"file:archive/prod\")"),
    Entry::column(Kind::Store, "name", Kind::Text, |call| {
        Ok(call.me::<StoreValue>()?.0.name.clone().into())
    })
    .doc("The name it was asked for by."),
    Entry::column(Kind::Store, "url", Kind::Text, |call| {
        Ok(call.me::<StoreValue>()?.0.url.to_string().into())
    })
    .doc("Where it is."),
    Entry::method(Kind::Store, "latest", &[], Kind::Snapshot, |call| {
        let store: StoreValue = call.me()?;
        let archive = open(call, &store)?;
        let snapshot = latest(call, &store, &archive)?;
        opened(call, &store, snapshot)
    })
    .doc(
        "The newest generation, verified down to the last checkpoint. An error if this machine's journal has seen a newer \
         one: what is gone is asked for by number.",
    )
    .example("let snap = store(\"prod\").latest();"),
    Entry::method(
        Kind::Store,
        "at",
        &[Parameter::one(
            "when",
            &[Kind::Text, Kind::Instant, Kind::Number],
        )],
        Kind::Snapshot,
        |call| {
            let store: StoreValue = call.me()?;
            let at = if let Ok(instant) = call.argument::<Instant>(0) {
                instant.0
            } else if let Ok(ms) = call.argument::<i64>(0) {
                epoch_ms(ms)?
            } else {
                instant_of(call, &call.text(0)?)?
            };
            let archive = open(call, &store)?;
            // Whether newer ones are missing decides which is the newest of them, too.
            latest(call, &store, &archive)?;
            let snapshot = call
                .wait(archive.as_of(at))?
                .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
            opened(call, &store, snapshot)
        },
    )
    .doc(
        "The source as it was at a time: the newest generation whose consistency point is not later. Topics are those of \
         then, also where one was deleted or created anew since. What was written between that point and the time is in the \
         next generation: `.latest()` with `.before(…)` restores by the records' own times.",
    )
    .example("let snap = store(\"prod\").at(\"2026-11-20T10:00:00Z\");"),
    Entry::method(
        Kind::Store,
        "generation",
        &[Parameter::one("number", &[Kind::Number])],
        Kind::Snapshot,
        |call| {
            let store: StoreValue = call.me()?;
            let number = u64::try_from(call.argument::<i64>(0)?)
                .map_err(|_| Failure::script("E0211", "generations are counted from 1"))?;
            let archive = open(call, &store)?;
            let snapshot = call
                .wait(archive.generation(number))?
                .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
            opened(call, &store, snapshot)
        },
    )
    .doc("One generation by its number.")
    .example("let snap = store(\"prod\").generation(214);"),
    Entry::method(Kind::Store, "generations", &[], Kind::List, |call| {
        let store: StoreValue = call.me()?;
        let archive = open(call, &store)?;
        let listing = call
            .wait(archive.listing(None))?
            .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
        if let Some(damage) = listing.damages.into_iter().next() {
            return Err(reading::of_archive(&store.0.url.to_string(), damage.into()));
        }
        let now = call.host()?.now;
        Ok(listing
            .generations
            .into_iter()
            .rev()
            .filter(|generation| generation.marked.is_none())
            .map(|generation| {
                Dynamic::from(GenerationValue {
                    number: whole(generation.number),
                    consistency_point: generation.consistency_point,
                    age_ms: (now.0 - generation.consistency_point.0).max(0),
                    topics: whole(generation.topics),
                    records: generation.records.map(whole),
                    bytes: generation.bytes,
                    partial: generation.partial,
                })
            })
            .collect::<Array>()
            .into())
    })
    .doc("Every recovery point, oldest first; without those that a prune has marked.")
    .example("store(\"prod\").generations()"),
    Entry::column(Kind::Generation, "number", Kind::Number, |call| {
        Ok(call.me::<GenerationValue>()?.number.into())
    })
    .doc("Counted from 1."),
    Entry::column(Kind::Generation, "at", Kind::Instant, |call| {
        Ok(Dynamic::from(Instant(
            call.me::<GenerationValue>()?.consistency_point,
        )))
    })
    .doc("Its consistency point: what was committed at the source by then is in it."),
    Entry::column(Kind::Generation, "age", Kind::Duration, |call| {
        Ok(Dynamic::from(Duration(
            call.me::<GenerationValue>()?.age_ms,
        )))
    })
    .doc("Counted from the consistency point."),
    Entry::column(Kind::Generation, "topics", Kind::Number, |call| {
        Ok(call.me::<GenerationValue>()?.topics.into())
    })
    .doc("How many topics it tells of."),
    Entry::column(Kind::Generation, "records", Kind::Number, |call| {
        let records = call.me::<GenerationValue>()?.records;
        Ok(records.map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("How many records it added."),
    Entry::property(Kind::Generation, "bytes", Kind::Size, |call| {
        let bytes = call.me::<GenerationValue>()?.bytes;
        Ok(bytes.map_or(Dynamic::UNIT, |bytes| Dynamic::from(Size(bytes))))
    })
    .doc("Bytes of the record batches that it added."),
    Entry::column(Kind::Generation, "partial", Kind::Flag, |call| {
        Ok(call.me::<GenerationValue>()?.partial.into())
    })
    .doc("Whether the run was ended early."),
    Entry::column(Kind::Snapshot, "generation", Kind::Number, |call| {
        let number = call.me::<SnapshotValue>()?.0.snapshot.number();
        Ok(i64::try_from(number).unwrap_or(i64::MAX).into())
    })
    .doc("The number of the generation."),
    Entry::column(Kind::Snapshot, "age", Kind::Duration, |call| {
        let snapshot: SnapshotValue = call.me()?;
        Ok(Dynamic::from(Duration(snapshot.0.age_ms())))
    })
    .doc("Counted from the consistency point: what was committed at the source by then is in it.")
    .example("require(snap.age < hours(1), \"the newest backup is too old\");"),
    Entry::column(Kind::Snapshot, "topics", Kind::List, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let topics = snapshot.0.snapshot.topics();
        Ok(topics
            .map(|topic| Dynamic::from(topic.name.clone()))
            .collect::<Array>()
            .into())
    })
    .doc("Names of its topics."),
    Entry::property(Kind::Snapshot, "at", Kind::Instant, |call| {
        let snapshot: SnapshotValue = call.me()?;
        Ok(Dynamic::from(Instant(
            snapshot.0.snapshot.consistency_point(),
        )))
    })
    .doc("Its consistency point."),
    Entry::property(Kind::Snapshot, "records", Kind::Number, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let partitions = snapshot.0.snapshot.topics();
        let records: u64 = partitions
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.records)
            .sum();
        Ok(i64::try_from(records).unwrap_or(i64::MAX).into())
    })
    .doc("How many records it holds."),
    Entry::property(Kind::Snapshot, "bytes", Kind::Size, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let partitions = snapshot.0.snapshot.topics();
        let bytes: u64 = partitions
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.bytes)
            .sum();
        Ok(Dynamic::from(Size(bytes)))
    })
    .doc("Bytes of its record batches."),
];

/// The newest generation; it must be the newest that this machine has seen.
fn latest(call: &Invocation, store: &StoreValue, archive: &Archive) -> Result<Snapshot, Failure> {
    // Older generations stay open to who asks for them by number; the newest must be the newest.
    let world = &call.host()?.world;
    let witness = world.witness(archive.archive_id());
    let (snapshot, tip) = call
        .wait(archive.latest_after(witness))?
        .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
    world.saw(archive.archive_id(), tip);
    Ok(snapshot)
}

/// Opens the archive for reading; in a rehearsal it is filled first.
pub(super) fn open(call: &Invocation, store: &StoreValue) -> Result<Archive, Failure> {
    let host = call.host()?;
    call.wait(host.world.before_reading(&store.0))?
        .map_err(|error| reading::of_world("store", error))?;
    call.wait(Archive::open(store.0.store.clone()))?
        .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))
}

/// Scripts count in 64 bits with a sign.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn opened(call: &Invocation, store: &StoreValue, snapshot: Snapshot) -> Result<Dynamic, Failure> {
    let host = call.host()?;
    let value = OpenedSnapshot {
        snapshot,
        store: store.0.clone(),
        now: host.now,
    };
    host.add_archive(ArchiveFact {
        url: store.0.url.to_string(),
        id: Some(value.snapshot.archive_id().to_string()),
        generation: Some(value.snapshot.number()),
        generation_digest: Some(value.digest()),
        description: format!(
            "generation {}, {} old, {}",
            value.snapshot.number(),
            format_duration_ms(value.age_ms()),
            counted(value.snapshot.topics().count() as i64, "topic"),
        ),
    });
    Ok(Dynamic::from(SnapshotValue(Arc::new(value))))
}
