//! `kbr describe ARCHIVE`: what a generation holds.

use super::{Describe, Side, age, fact, failed, minute, open, snapshot, table};
use crate::archive::{Description, TopicDescription};
use crate::base::size::format_bytes;
use crate::base::text::{counted, did_you_mean, grouped};
use crate::base::{Selection, TimestampMs, time};
use crate::cli::arguments::Output;
use crate::cli::report::Report;
use crate::cli::style::{Style, harmless};
use crate::cli::{print, print_json, with_runtime};
use crate::run::ExitClass;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn describe(arguments: Describe) -> Result<ExitClass, Box<Report>> {
    let patterns: Vec<&str> = arguments.topic.iter().map(String::as_str).collect();
    let selection = Selection::of(&patterns)
        .map_err(|error| Box::new(Report::usage("E0106", error.to_string())))?;
    with_runtime(async |_| {
        let opened = open(&arguments.archive).await?;
        let snapshot = snapshot(&arguments.archive, &opened, arguments.generation).await?;
        let names: Vec<&str> = snapshot.topics().map(|topic| topic.name.as_str()).collect();
        if let Some(pattern) = selection.unmatched(&names).first() {
            return Err(no_topic(pattern.text(), &names, snapshot.number()));
        }
        let description = snapshot
            .describe(&selection)
            .await
            .map_err(|error| failed(&arguments.archive, &error))?;
        match arguments.output {
            Output::Json => {
                let mut document = json!(description);
                document["schema"] = Value::from("kbr.describe/1");
                print_json(&document);
            }
            Output::Text => {
                let detail = arguments.detail || !patterns.is_empty();
                let text = draw(&description, detail, time::now(), &Style::of_stdout());
                print(&harmless(&text));
            }
        }
        Ok(ExitClass::Done)
    })
}

/// No topic of that name: what there is, or what was meant.
pub(super) fn no_topic(given: &str, names: &[&str], generation: u64) -> Box<Report> {
    let report = Report::usage(
        "E0314",
        format!("generation {generation} holds no topic {given}"),
    );
    Box::new(match did_you_mean(given, names.iter().copied()) {
        Some(near) => report.now(format!("did you mean {near}?")),
        None if names.is_empty() => report.why("it holds no topic at all"),
        None => {
            let some: Vec<&str> = names.iter().take(8).copied().collect();
            let more = if names.len() > 8 { ", …" } else { "" };
            report.fact("known", format!("{}{more}", some.join(", ")))
        }
    })
}

fn draw(description: &Description, detail: bool, now: TimestampMs, style: &Style) -> String {
    let line = |label: &str, text: String| fact(label, &text, style.width);
    let partial = if description.partial { ", partial" } else { "" };
    let mut text = line(
        "archive",
        format!(
            "{}  of cluster {}",
            description.archive, description.source_cluster_id
        ),
    );
    text.push_str(&line(
        "generation",
        format!(
            "{} of {} UTC, {} old{partial}, run {}",
            description.generation,
            minute(description.consistency_point),
            age(now, description.consistency_point),
            description.run
        ),
    ));
    text.push_str(&line(
        "holds",
        format!(
            "{} in {}, {} ({} stored)",
            counted(i128::from(description.records), "record"),
            counted(description.topics.len() as i128, "topic"),
            format_bytes(description.bytes),
            format_bytes(description.stored_bytes),
        ),
    ));
    let kept: Vec<String> = [
        (Some(description.groups.len() as u64), "group"),
        (description.acls, "ACL"),
        (description.quotas, "client quota"),
    ]
    .into_iter()
    .filter_map(|(count, noun)| Some(counted(i128::from(count?), noun)))
    .collect();
    text.push_str(&line("and", kept.join(", ")));
    if !description.topics.is_empty() {
        text.push('\n');
        text.push_str(&topics(description, style));
    }
    if detail {
        for topic in &description.topics {
            text.push('\n');
            text.push_str(&partitions(topic, style));
        }
    }
    if !description.groups.is_empty() {
        text.push('\n');
        text.push_str(&groups(description, style));
    }
    text
}

fn topics(description: &Description, style: &Style) -> String {
    let columns = [
        ("topic", Side::Left),
        ("partitions", Side::Right),
        ("records", Side::Right),
        ("bytes", Side::Right),
        ("first (UTC)", Side::Left),
        ("last", Side::Left),
    ];
    let rows: Vec<Vec<String>> = description
        .topics
        .iter()
        .map(|topic| {
            vec![
                topic.name.clone(),
                grouped(topic.partitions.len() as u64),
                grouped(topic.records),
                format_bytes(topic.bytes),
                topic.first_timestamp.map(minute).unwrap_or_default(),
                topic.last_timestamp.map(minute).unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = table(&columns, &rows);
    let with_gaps: Vec<&TopicDescription> = description
        .topics
        .iter()
        .filter(|topic| !topic.gaps.is_empty())
        .collect();
    if !with_gaps.is_empty() {
        text.push_str("\noffsets without a record\n");
        for topic in with_gaps {
            text.push_str(&indented(
                &format!("{}  {}", topic.name, gaps(&topic.gaps)),
                2,
                style,
            ));
        }
    }
    text
}

fn indented(text: &str, by: usize, style: &Style) -> String {
    crate::cli::style::wrapped(text, style.width.saturating_sub(by))
        .into_iter()
        .map(|line| format!("{}{line}\n", " ".repeat(by)))
        .collect()
}

fn gaps(gaps: &BTreeMap<&'static str, u64>) -> String {
    let gaps: Vec<String> = gaps
        .iter()
        .map(|(kind, offsets)| format!("{} {kind}", grouped(*offsets)))
        .collect();
    gaps.join(", ")
}

fn partitions(topic: &TopicDescription, style: &Style) -> String {
    let columns = [
        ("", Side::Left),
        ("partition", Side::Right),
        ("from", Side::Right),
        ("to", Side::Right),
        ("records", Side::Right),
        ("bytes", Side::Right),
    ];
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .map(|partition| {
            vec![
                String::new(),
                partition.partition.to_string(),
                grouped(partition.from.0),
                grouped(partition.to.0),
                grouped(partition.records),
                format_bytes(partition.bytes),
            ]
        })
        .collect();
    let mut text = format!("{}\n", topic.name);
    let drawn = table(&columns, &rows);
    // The head stands before the first partition.
    let partitions = topic.partitions.iter().map(Some);
    for (line, partition) in drawn.lines().zip([None].into_iter().chain(partitions)) {
        text.push_str(&format!("{line}\n"));
        if let Some(partition) = partition.filter(|partition| !partition.gaps.is_empty()) {
            let said = format!("no record: {}", gaps(&partition.gaps));
            text.push_str(&indented(&said, 13, style));
        }
    }
    if topic.partition_count as usize > topic.partitions.len() {
        text.push_str(&format!(
            "  of {} at the source\n",
            counted(i128::from(topic.partition_count), "partition")
        ));
    }
    for (name, value) in &topic.configs {
        for (index, part) in crate::cli::style::wrapped(&format!("{name}={value}"), style.width - 4)
            .into_iter()
            .enumerate()
        {
            let indent = if index == 0 { "  " } else { "    " };
            text.push_str(&format!("{indent}{part}\n"));
        }
    }
    text
}

fn groups(description: &Description, style: &Style) -> String {
    let columns = [
        ("group", Side::Left),
        ("state", Side::Left),
        ("partitions", Side::Right),
        ("topics", Side::Left),
    ];
    let rows: Vec<Vec<String>> = description
        .groups
        .iter()
        .map(|group| {
            vec![
                group.group.clone(),
                group.state.clone(),
                grouped(group.partitions),
                match &group.topics[..] {
                    topics if topics.len() > 3 => format!("{} topics", topics.len()),
                    topics => topics.join(", "),
                },
            ]
        })
        .collect();
    let text = table(&columns, &rows);
    // The last column gives way where a line would be too wide.
    text.lines()
        .map(|line| format!("{}\n", cut(line, style.width)))
        .collect()
}

fn cut(line: &str, columns: usize) -> String {
    if crate::cli::style::width(line) <= columns {
        return line.to_string();
    }
    let mut out = String::new();
    for c in line.chars() {
        if crate::cli::style::width(&out) + 2 > columns {
            break;
        }
        out.push(c);
    }
    out + "…"
}
