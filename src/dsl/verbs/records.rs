//! The record in a filter closure.

use crate::dsl::filter::RecordValue;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, Parameter};
use rhai::Dynamic;

pub static TABLE: &[Entry] = &[
    Entry::column(Kind::Record, "topic", Kind::Text, |call| {
        Ok(call.me::<RecordValue>()?.0.topic.clone().into())
    })
    .doc("The topic in the archive, before any renaming."),
    Entry::column(Kind::Record, "partition", Kind::Number, |call| {
        Ok(call.me::<RecordValue>()?.0.partition.into())
    })
    .doc("The partition in the archive."),
    Entry::column(Kind::Record, "offset", Kind::Number, |call| {
        Ok(call.me::<RecordValue>()?.0.offset.into())
    })
    .doc("The offset at the source."),
    Entry::column(Kind::Record, "timestamp", Kind::Instant, |call| {
        Ok(Dynamic::from(call.me::<RecordValue>()?.0.timestamp))
    })
    .doc("The record's time; `.timestamp.ms` is the number."),
    Entry::column(Kind::Record, "key", Kind::Any, |call| {
        Ok(call.me::<RecordValue>()?.0.key.clone())
    })
    .doc("Text; bytes if it is not UTF-8; `()` for a null key.")
    .example("restore(snap).filter(|r| r.key != \"poison\")"),
    Entry::column(Kind::Record, "value", Kind::Any, |call| {
        Ok(call.me::<RecordValue>()?.0.value.clone())
    })
    .doc("Text; bytes if it is not UTF-8; `()` for a tombstone."),
    Entry::property(Kind::Record, "headers", Kind::List, |call| {
        Ok(call.me::<RecordValue>()?.headers().into())
    })
    .doc("Every header in order, duplicates too: maps of `key` and `value`."),
    Entry::method(
        Kind::Record,
        "header",
        &[Parameter::one("name", &[Kind::Text])],
        Kind::Any,
        |call| Ok(call.me::<RecordValue>()?.header(&call.text(0)?)),
    )
    .doc("The last value under a header's name; `()` if there is none.")
    .example("restore(snap).filter(|r| r.header(\"tenant\") == \"eu\")"),
];
