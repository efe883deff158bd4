//! What an archive tells about itself: the facts of `kbr describe`, `diff`, `verify` and `cat` for scripts.

use super::archives::{SnapshotValue, StoreValue, open};
use crate::archive::{ArchivedRecord, Depth, Error, Snapshot, VerifyOptions, VerifyReport, Within};
use crate::base::{NoProgress, Offset, PartitionId, Selection};
use crate::dsl::failure::Failure;
use crate::dsl::filter::{RecordFields, RecordValue, bytes_value};
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::Instant;
use rhai::{Array, Dynamic, ImmutableString};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// The most records that one call gives: a script's memory is bounded.
pub(super) const MOST_RECORDS: i64 = 10_000;

const DEPTH: &[Parameter] = &[Parameter::choice("depth", &["quick", "deep"])];

pub static TABLE: &[Entry] = &[
    Entry::method(Kind::Store, "verify", DEPTH, Kind::Map, |call| {
        let store: StoreValue = call.me()?;
        let archive = open(call, &store)?;
        let options = options(call, &archive, None)?;
        let report = call
            .wait(archive.verify_with(&options, &NoProgress))?
            .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
        verified(&report)
    })
    .doc(
        "Checks the whole archive: `\"quick\"` its chain, sizes and indexes, `\"deep\"` every byte. The map has `whole`, \
         `damages` and `restorable`; damage does not end the script.",
    )
    .example("require(store(\"prod\").verify(\"deep\").whole, \"the archive is damaged\");"),
    Entry::method(
        Kind::Store,
        "diff",
        &[
            Parameter::one("from", &[Kind::Number]),
            Parameter::one("to", &[Kind::Number]),
        ],
        Kind::Map,
        |call| {
            let store: StoreValue = call.me()?;
            let (from, to) = (number(call, 0)?, number(call, 1)?);
            let archive = open(call, &store)?;
            let reading = async {
                let (from, to) = (archive.generation(from).await?, archive.generation(to).await?);
                from.difference(&to).await
            };
            let difference = call
                .wait(reading)?
                .map_err(|error| reading::of_archive(&store.0.url.to_string(), error))?;
            map(&difference)
        },
    )
    .doc(
        "What lies between two generations: `records` and `bytes` added, `topics` with their changes, `groups` with the \
         offsets that moved.",
    )
    .example("let changes = store(\"prod\").diff(213, 214);"),
    Entry::method(Kind::Snapshot, "describe", &[], Kind::Map, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let description = call
            .wait(snapshot.0.snapshot.describe(&Selection::default()))?
            .map_err(|error| reading::of_archive(&snapshot.0.store.url.to_string(), error))?;
        map(&description)
    })
    .doc(
        "What it holds, as `kbr describe` tells it: `topics` with `partitions`, `configs` and `gaps`, and `groups`.",
    )
    .example("for topic in snap.describe().topics { print(`${topic.name}: ${topic.records}`); }"),
    Entry::method(Kind::Snapshot, "verify", DEPTH, Kind::Map, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let opened = &snapshot.0.snapshot;
        let options = options(call, opened.archive(), Some(opened.number()))?;
        let report = call
            .wait(opened.archive().verify_with(&options, &NoProgress))?
            .map_err(|error| reading::of_archive(&snapshot.0.store.url.to_string(), error))?;
        verified(&report)
    })
    .doc("As `verify` of a store, but of all segments only those that this generation needs.")
    .example("require(snap.verify(\"quick\").whole, \"this generation is damaged\");"),
    Entry::method(
        Kind::Snapshot,
        "read",
        &[
            Parameter::one("topic", &[Kind::Text]),
            Parameter::one("partition", &[Kind::Number]),
            Parameter::one("from", &[Kind::Number, Kind::Instant]),
            Parameter::one("count", &[Kind::Number]),
        ],
        Kind::List,
        records,
    )
    .doc(
        "At most `count` records of a partition, from an offset on, or of an instant or later. At most 10,000 at once.",
    )
    .example("let first = snap.read(\"orders\", 0, 0, 10);"),
];

fn options(
    call: &Invocation,
    archive: &crate::archive::Archive,
    generation: Option<u64>,
) -> Result<VerifyOptions, Failure> {
    let host = call.host()?;
    let mut options = VerifyOptions::new(match call.text(0)?.as_str() {
        "deep" => Depth::Deep,
        _ => Depth::Quick,
    });
    options.generation = generation;
    options.witness = host.world.witness(archive.archive_id());
    options.cancel = host.cancel.clone();
    Ok(options)
}

fn verified(report: &VerifyReport) -> Result<Dynamic, Failure> {
    map(&json!({
        "whole": report.is_whole(),
        "generations": report.generations,
        "segments": report.segments,
        "records": report.records,
        "bytes": report.bytes,
        "damages": report.damages,
        "restorable": report.restorable,
        "unreferenced": report.unreferenced,
    }))
}

fn number(call: &Invocation, index: usize) -> Result<u64, Failure> {
    u64::try_from(call.argument::<i64>(index)?)
        .map_err(|_| Failure::script("E0211", "generations are counted from 1"))
}

/// The same names as in the JSON documents.
fn map(value: &impl Serialize) -> Result<Dynamic, Failure> {
    rhai::serde::to_dynamic(value)
        .map_err(|error| Failure::script("E0200", format!("facts that are no value: {error}")))
}

fn records(call: &Invocation) -> Result<Dynamic, Failure> {
    let snapshot: SnapshotValue = call.me()?;
    let topic = call.text(0)?;
    let partition = call.argument::<i64>(1)?;
    let count = call.argument::<i64>(3)?;
    if !(1..=MOST_RECORDS).contains(&count) {
        return Err(Failure::script(
            "E0211",
            format!("{count} records: it takes 1 to {MOST_RECORDS}"),
        ));
    }
    let mut within = Within::default();
    match call.argument::<Instant>(2) {
        Ok(since) => within.since = Some(since.0),
        Err(_) => within.from = Some(Offset(call.argument::<i64>(2)?)),
    }
    let opened = &snapshot.0.snapshot;
    let names: Vec<&str> = opened.topics().map(|topic| topic.name.as_str()).collect();
    if !names.contains(&topic.as_str()) {
        let place = format!("generation {}", opened.number());
        return Err(reading::missing("topic", &topic, &place, &names));
    }
    // No partition has such a number, and the archive says so.
    let partition = PartitionId(i32::try_from(partition).unwrap_or(-1));
    call.wait(read(opened, &topic, partition, within, count as usize))?
        .map(|records| {
            let name = ImmutableString::from(topic.as_str());
            let values = records.into_iter();
            values
                .map(|record| value(&name, partition, &record))
                .collect::<Array>()
                .into()
        })
        .map_err(|error| reading::of_archive(&snapshot.0.store.url.to_string(), error))
}

pub(super) async fn read(
    snapshot: &Snapshot,
    topic: &str,
    partition: PartitionId,
    within: Within,
    count: usize,
) -> Result<Vec<ArchivedRecord>, Error> {
    let mut reader = snapshot.read_few(topic, partition, within)?;
    let mut records = Vec::new();
    while records.len() < count
        && let Some(batch) = reader.next_batch().await?
    {
        records.extend(batch.into_iter().take(count - records.len()));
    }
    Ok(records)
}

/// A record as scripts see it.
pub(super) fn value(
    topic: &ImmutableString,
    partition: PartitionId,
    record: &ArchivedRecord,
) -> Dynamic {
    let headers = record.headers.iter().map(|header| {
        let name = String::from_utf8_lossy(&header.key).as_ref().into();
        (name, bytes_value(header.value.as_deref()))
    });
    Dynamic::from(RecordValue(Arc::new(RecordFields {
        topic: topic.clone(),
        partition: i64::from(partition.0),
        offset: record.offset.0,
        timestamp: Instant(record.timestamp),
        key: bytes_value(record.key.as_deref()),
        value: bytes_value(record.value.as_deref()),
        headers: headers.collect(),
    })))
}
