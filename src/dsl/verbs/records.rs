//! The record in a filter closure.

use crate::dsl::failure::Failure;
use crate::dsl::filter::{RecordValue, json};
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
    .doc(
        "Text; bytes if it is not UTF-8; `()` for a tombstone. A property of a text reads it as JSON: `r.value.amount`, \
         `r.value.items[0].sku`. One that is not there is an error, null is `()`. Names that texts have themselves (`len`, \
         `is_empty`, `bytes`, `chars`) are read with `json`.",
    )
    .example("restore(snap).filter(|r| r.value != () && r.value.amount > 0)"),
    Entry::method(
        Kind::Record,
        "json",
        &[
            Parameter::one("path", &[Kind::Text]),
            Parameter::one("otherwise", &[Kind::Any]).optional(),
        ],
        Kind::Any,
        |call| {
            let path = call.text(0)?;
            let found = call.me::<RecordValue>()?.json(&path)?;
            match (found, call.arguments.get(1)) {
                (Some(value), _) => Ok(value),
                (None, Some(otherwise)) => Ok(otherwise.clone()),
                (None, None) => Err(Failure::script("E0215", format!("the value has no {path}")).help(
                    format!("ask with r.has({path:?}), or say what counts instead: r.json({path:?}, 0)"),
                )),
            }
        },
    )
    .doc(
        "The value's JSON by path: `$.amount`, `$.items[0].sku`, `$[\"a b\"]`. Null is `()`; a path that leads nowhere is an \
         error, unless a second argument says what counts instead. The whole value is read: JSON that breaks off is an error.",
    )
    .example("restore(snap).filter(|r| r.json(\"$.amount\", 0) > 100)"),
    Entry::method(
        Kind::Record,
        "has",
        &[Parameter::one("path", &[Kind::Text])],
        Kind::Flag,
        |call| {
            let record = call.me::<RecordValue>()?;
            // A tombstone has nothing, whatever the path.
            let path = call.text(0)?;
            if record.0.value.is_unit() && json::parse_path(&path).is_ok() {
                return Ok(false.into());
            }
            Ok(record.json(&path)?.is_some().into())
        },
    )
    .doc("Whether the value's JSON has something at the path, be it null. A tombstone has nothing.")
    .example("restore(snap).filter(|r| r.has(\"$.amount\") && r.value.amount > 100)"),
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
