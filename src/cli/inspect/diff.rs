//! `kbr diff ARCHIVE [FROM] [TO]`: what lies between two generations.

use super::{Diff, Side, fact, failed, minute, open, snapshot, table};
use crate::archive::{Archive, Change, Difference, GroupDifference, TopicDifference};
use crate::base::Offset;
use crate::base::size::format_bytes;
use crate::base::text::{counted, grouped};
use crate::cli::arguments::Output;
use crate::cli::report::Report;
use crate::cli::style::{Style, harmless};
use crate::cli::{print, print_json, with_runtime};
use crate::run::ExitClass;
use serde_json::{Value, json};

pub fn diff(arguments: Diff) -> Result<ExitClass, Box<Report>> {
    with_runtime(async |_| {
        let name = &arguments.archive;
        let opened = open(name).await?;
        let from = match arguments.from {
            Some(from) => from,
            None => before_newest(name, &opened.archive).await?,
        };
        let older = snapshot(name, &opened, Some(from)).await?;
        let newer = snapshot(name, &opened, arguments.to).await?;
        let difference = older
            .difference(&newer)
            .await
            .map_err(|error| failed(name, &error))?;
        match arguments.output {
            Output::Json => {
                let mut document = json!(difference);
                document["schema"] = Value::from("kbr.diff/1");
                print_json(&document);
            }
            Output::Text => {
                let text = draw(&difference, arguments.detail, &Style::of_stdout());
                print(&harmless(&text));
            }
        }
        Ok(ExitClass::Done)
    })
}

async fn before_newest(name: &str, archive: &Archive) -> Result<u64, Box<Report>> {
    let points = archive
        .generations()
        .await
        .map_err(|error| failed(name, &error))?;
    match points[..] {
        [.., before, _] => Ok(before),
        _ => Err(Box::new(
            Report::usage("E0107", format!("{name} has only one generation"))
                .now(format!("kbr describe {name} says what it holds")),
        )),
    }
}

fn draw(difference: &Difference, detail: bool, style: &Style) -> String {
    let mut text = fact("archive", &difference.archive, style.width);
    text.push_str(&fact(
        "from",
        &format!(
            "generation {} of {} UTC",
            difference.from,
            minute(difference.from_at)
        ),
        style.width,
    ));
    text.push_str(&fact(
        "to",
        &format!(
            "generation {} of {} UTC",
            difference.to,
            minute(difference.to_at)
        ),
        style.width,
    ));
    text.push_str(&fact(
        "added",
        &format!(
            "{}, {}",
            counted(i128::from(difference.records), "record"),
            format_bytes(difference.bytes)
        ),
        style.width,
    ));
    if difference.topics.is_empty() && difference.groups.is_empty() {
        text.push_str("\nnothing changed\n");
    }
    if !difference.topics.is_empty() {
        text.push('\n');
        text.push_str(&topics(&difference.topics));
        for topic in &difference.topics {
            text.push_str(&inside(topic, detail));
        }
    }
    if !difference.groups.is_empty() {
        text.push('\n');
        text.push_str(&groups(&difference.groups));
        if detail {
            text.push_str(&offsets(&difference.groups));
        }
    }
    text
}

fn mark(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Removed => "-",
        Change::Recreated => "!",
        Change::Changed => "~",
    }
}

fn topics(topics: &[TopicDifference]) -> String {
    let columns = [
        ("", Side::Left),
        ("topic", Side::Left),
        ("change", Side::Left),
        ("records", Side::Right),
        ("bytes", Side::Right),
        ("partitions", Side::Left),
    ];
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|topic| {
            vec![
                mark(topic.change).into(),
                topic.topic.clone(),
                topic.change.word().into(),
                format!("+{}", grouped(topic.records)),
                format_bytes(topic.bytes),
                match topic.partition_count {
                    Some((before, after)) => format!("{before} → {after}"),
                    None => String::new(),
                },
            ]
        })
        .collect();
    table(&columns, &rows)
}

fn inside(topic: &TopicDifference, detail: bool) -> String {
    let mut text = String::new();
    // A new topic's configs are all new: they are its description, not a change.
    if topic.change == Change::Changed {
        for config in &topic.configs {
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "(default)".into());
            text.push_str(&format!(
                "   {}  {}: {} → {}\n",
                topic.topic,
                config.name,
                said(&config.before),
                said(&config.after)
            ));
        }
    }
    if detail {
        for partition in &topic.partitions {
            let again = if partition.replaced {
                "  read again from its start"
            } else {
                ""
            };
            text.push_str(&format!(
                "   {}-{}  {} → {}  +{}  {}{again}\n",
                topic.topic,
                partition.partition,
                grouped(partition.from.0),
                grouped(partition.to.0),
                counted(i128::from(partition.records), "record"),
                format_bytes(partition.bytes)
            ));
        }
    }
    text
}

fn groups(groups: &[GroupDifference]) -> String {
    let columns = [
        ("", Side::Left),
        ("group", Side::Left),
        ("change", Side::Left),
        ("offsets", Side::Right),
        ("forward", Side::Right),
        ("back", Side::Right),
    ];
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let moved = |wanted: fn(i64) -> bool| {
                let moves = group
                    .offsets
                    .iter()
                    .filter_map(|offset| Some(offset.after?.0 - offset.before?.0));
                let sum: i64 = moves.filter(|by| wanted(*by)).sum();
                match sum {
                    0 => String::new(),
                    sum => grouped(sum.abs()),
                }
            };
            vec![
                mark(group.change).into(),
                group.group.clone(),
                group.change.word().into(),
                grouped(group.offsets.len() as u64),
                moved(|by| by > 0),
                moved(|by| by < 0),
            ]
        })
        .collect();
    table(&columns, &rows)
}

fn offsets(groups: &[GroupDifference]) -> String {
    let mut text = String::new();
    let said = |offset: Option<Offset>| match offset {
        Some(offset) => grouped(offset.0),
        None => "none".into(),
    };
    for group in groups {
        for offset in &group.offsets {
            text.push_str(&format!(
                "   {}  {}-{}  {} → {}\n",
                group.group,
                offset.topic,
                offset.partition,
                said(offset.before),
                said(offset.after)
            ));
        }
    }
    text
}
