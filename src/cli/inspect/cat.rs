//! `kbr cat ARCHIVE TOPIC[:PARTITION]`: records as JSON lines.
//!
//! One line per record, partition after partition, offsets ascending. Text is text; bytes that are not UTF-8 are under
//! another name (`key_base64`), so that no reader takes one for the other. Null stays null.

use super::describe::no_topic;
use super::{Cat, failed, open, snapshot};
use crate::archive::{ArchivedHeader, ArchivedRecord, Snapshot, Within};
use crate::base::time::{self, format_instant, parse_instant};
use crate::base::{CancellationToken, Offset, PartitionId, TimestampMs};
use crate::cli::report::Report;
use crate::cli::with_runtime;
use crate::record::TimestampType;
use crate::run::ExitClass;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

pub fn cat(arguments: Cat) -> Result<ExitClass, Box<Report>> {
    let now = time::now();
    let instant = |option: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(|text| parse_instant(text, now));
        parsed.transpose().map_err(|why| {
            Box::new(Report::usage("E0104", format!("--{option} is no instant")).why(why))
        })
    };
    let within = Within {
        from: arguments.from.map(Offset),
        to: arguments.to.map(Offset),
        since: instant("since", &arguments.since)?,
        before: instant("before", &arguments.before)?,
    };
    with_runtime(async |cancel| {
        let opened = open(&arguments.archive).await?;
        let snapshot = snapshot(&arguments.archive, &opened, arguments.generation).await?;
        let (topic, partitions) = place(&arguments.topic, &snapshot)?;
        let mut out = Lines {
            out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()),
            left: arguments.limit.unwrap_or(u64::MAX),
        };
        let key = arguments.key.as_deref().map(str::as_bytes);
        let written = through(
            &snapshot,
            &topic,
            &partitions,
            within,
            key,
            &mut out,
            &cancel,
        )
        .await;
        let flushed = out.out.flush();
        match written.and_then(|end| {
            flushed.map_err(End::Output)?;
            Ok(end)
        }) {
            Ok(exit) => Ok(exit),
            // A reader that went away (`| head`) has seen what it wanted.
            Err(End::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitClass::Done),
            Err(End::Output(error)) => Err(Box::new(
                Report::new(
                    "E0903",
                    ExitClass::Failed,
                    "standard output cannot be written",
                )
                .why(error.to_string()),
            )),
            Err(End::Archive(error)) => Err(failed(&arguments.archive, &error)),
        }
    })
}

/// So many records are a block or two: nothing is read ahead for them.
const FEW: u64 = 1_000;

/// What ends the output early.
enum End {
    Archive(crate::archive::Error),
    Output(std::io::Error),
}

struct Lines {
    out: BufWriter<StdoutLock<'static>>,
    left: u64,
}

async fn through(
    snapshot: &Snapshot,
    topic: &str,
    partitions: &[PartitionId],
    within: Within,
    key: Option<&[u8]>,
    lines: &mut Lines,
    cancel: &CancellationToken,
) -> Result<ExitClass, End> {
    if lines.left == 0 {
        return Ok(ExitClass::Done);
    }
    for partition in partitions {
        let few = lines.left <= FEW;
        let mut reader = match few {
            true => snapshot.read_few(topic, *partition, within),
            false => snapshot.read(topic, *partition, within),
        }
        .map_err(End::Archive)?;
        while let Some(records) = reader.next_batch().await.map_err(End::Archive)? {
            if cancel.is_cancelled() {
                return Ok(ExitClass::Interrupted);
            }
            for record in records {
                if key.is_some_and(|key| record.key.as_deref() != Some(key)) {
                    continue;
                }
                let line = Line {
                    topic,
                    partition: *partition,
                    record: &record,
                };
                serde_json::to_writer(&mut lines.out, &line)
                    .map_err(|error| End::Output(error.into()))?;
                lines.out.write_all(b"\n").map_err(End::Output)?;
                lines.left -= 1;
                if lines.left == 0 {
                    return Ok(ExitClass::Done);
                }
            }
        }
    }
    Ok(ExitClass::Done)
}

/// `orders` or `orders:3`. A topic's name has no colon.
fn place(given: &str, snapshot: &Snapshot) -> Result<(String, Vec<PartitionId>), Box<Report>> {
    let (name, number) = match given.split_once(':') {
        Some((name, number)) => (name, Some(number)),
        None => (given, None),
    };
    let Some(topic) = snapshot.topic(name) else {
        let names: Vec<&str> = snapshot.topics().map(|topic| topic.name.as_str()).collect();
        return Err(no_topic(name, &names, snapshot.number()));
    };
    let all: Vec<PartitionId> = topic.partitions.iter().map(|p| p.partition).collect();
    let Some(number) = number else {
        return Ok((name.to_string(), all));
    };
    let wanted = number.parse().map(PartitionId).ok();
    match wanted.filter(|wanted| all.contains(wanted)) {
        Some(wanted) => Ok((name.to_string(), vec![wanted])),
        None => Err(Box::new(
            Report::usage(
                "E0314",
                format!(
                    "generation {} holds no partition {number} of {name}",
                    snapshot.number()
                ),
            )
            .now(match (all.first(), all.last()) {
                (Some(first), Some(last)) => format!("it holds {first} to {last}"),
                _ => "it holds none of its partitions".into(),
            }),
        )),
    }
}

/// One record as a line shows it, fields in the order of reading.
struct Line<'a> {
    topic: &'a str,
    partition: PartitionId,
    record: &'a ArchivedRecord,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("topic", self.topic)?;
        line.serialize_entry("partition", &self.partition)?;
        line.serialize_entry("offset", &record.offset)?;
        let at = match record.timestamp {
            TimestampMs(-1) => None,
            at => Some(format_instant(at)),
        };
        line.serialize_entry("timestamp", &at)?;
        line.serialize_entry("timestamp_ms", &record.timestamp)?;
        let timestamp_type = match record.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        line.serialize_entry("timestamp_type", timestamp_type)?;
        bytes(&mut line, "key", "key_base64", record.key.as_deref())?;
        bytes(&mut line, "value", "value_base64", record.value.as_deref())?;
        let headers: Vec<Pair<'_>> = record.headers.iter().map(Pair).collect();
        line.serialize_entry("headers", &headers)?;
        line.end()
    }
}

struct Pair<'a>(&'a ArchivedHeader);

impl Serialize for Pair<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_map(None)?;
        bytes(&mut pair, "key", "key_base64", Some(&self.0.key))?;
        bytes(&mut pair, "value", "value_base64", self.0.value.as_deref())?;
        pair.end()
    }
}

fn bytes<M: SerializeMap>(
    into: &mut M,
    text: &'static str,
    base64: &'static str,
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => into.serialize_entry(text, &None::<&str>),
        Some((_, Ok(found))) => into.serialize_entry(text, found),
        Some((bytes, Err(_))) => into.serialize_entry(base64, &STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_line_tells_null_from_empty_and_text_from_bytes() {
        let header = |key: &'static str, value: Option<&'static [u8]>| ArchivedHeader {
            key: Bytes::from(key),
            value: value.map(Bytes::from_static),
        };
        let record = ArchivedRecord {
            offset: Offset(i64::MAX),
            timestamp: TimestampMs(1_795_168_799_998),
            timestamp_type: TimestampType::CreateTime,
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: None,
            headers: vec![header("h", Some(b"")), header("h", None)],
        };
        let line = Line {
            topic: "orders",
            partition: PartitionId(3),
            record: &record,
        };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            concat!(
                r#"{"topic":"orders","partition":3,"offset":9223372036854775807,"#,
                r#""timestamp":"2026-11-20T09:59:59.998Z","timestamp_ms":1795168799998,"#,
                r#""timestamp_type":"CreateTime","key_base64":"/wA=","value":null,"#,
                r#""headers":[{"key":"h","value":""},{"key":"h","value":null}]}"#
            )
        );
    }
}
