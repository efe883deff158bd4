//! `kbr show-offset-mapping RUN`: where the records of a run went, from the journal.
//!
//! A mapping may have millions of runs: JSON and CSV are written run by run, the table shows the first of each route.

use super::arguments::{MappingForm, Output, ShowOffsetMapping};
use super::inspect::{Side, table};
use super::report::Report;
use super::show::kept_run;
use super::style::harmless;
use crate::base::text::{counted, grouped};
use crate::base::{Offset, Pattern};
use crate::engine::mapping::{How, Mapping};
use crate::run::{ExitClass, RunId, StoredMapping};
use serde_json::{Value, json};
use std::io::{BufWriter, Write};

pub fn show(arguments: ShowOffsetMapping) -> Result<ExitClass, Box<Report>> {
    let (_, journal, record) = kept_run(&arguments.run)?;
    let run = record.summary.run;
    let kept = journal
        .mappings(&run)
        .map_err(|error| Report::from(&error))?;
    if kept.is_empty() {
        return Err(Box::new(
            Report::new(
                "E0604",
                ExitClass::Failed,
                format!("run {run} keeps no offset mapping"),
            )
            .why("only a restore's write that came to its end has one")
            .now(format!("kbr show {run} tells what the run did")),
        ));
    }
    let routes = wanted(&kept, &run, &arguments)?;
    let read = |(ordinal, route): &(u32, StoredMapping)| -> Result<Mapping, Box<Report>> {
        let damaged = |why: String| {
            let route = route_text(route);
            Report::new(
                "E0605",
                ExitClass::Damaged,
                format!("the stored mapping of {route} is not the one that run {run} wrote"),
            )
            .why(why)
            .now("restore from a copy of the journal; the records themselves are not touched")
        };
        let bytes = journal
            .mapping_bytes(&run, *ordinal, route)
            .map_err(|error| Report::from(&error))?;
        let mapping = Mapping::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
        if mapping.digest() != route.digest {
            return Err(Box::new(damaged("its digest is another".to_string())));
        }
        Ok(mapping)
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    // A reader that went away (`| head`) is not an error of ours, and ends the writing.
    let mut gone = false;
    let mut write = |text: &str| {
        gone = gone || out.write_all(text.as_bytes()).is_err();
        !gone
    };
    if let Some(offset) = arguments.offset {
        translate(
            &run,
            &routes,
            Offset(offset),
            arguments.output,
            read,
            &mut write,
        )?;
        return Ok(ExitClass::Done);
    }
    match arguments.output {
        MappingForm::Json => as_json(&run, &routes, read, &mut write)?,
        MappingForm::Csv => as_csv(&routes, read, &mut write)?,
        MappingForm::Table => as_table(&run, &routes, arguments.limit, read, &mut write)?,
    }
    Ok(ExitClass::Done)
}

/// What errors are shown as.
pub fn form(arguments: &ShowOffsetMapping) -> Output {
    match arguments.output {
        MappingForm::Json => Output::Json,
        MappingForm::Csv | MappingForm::Table => Output::Text,
    }
}

type Route = (u32, StoredMapping);

fn route_text(route: &StoredMapping) -> String {
    format!(
        "{}-{} → {}-{}",
        route.source_topic, route.source_partition, route.target_topic, route.target_partition
    )
}

fn wanted(
    kept: &[Route],
    run: &RunId,
    arguments: &ShowOffsetMapping,
) -> Result<Vec<Route>, Box<Report>> {
    let pattern = arguments
        .topic
        .as_deref()
        .map(Pattern::parse)
        .transpose()
        .map_err(|error| Box::new(Report::usage("E0106", error.to_string())))?;
    let routes: Vec<Route> = kept
        .iter()
        .filter(|(_, route)| {
            pattern.as_ref().is_none_or(|pattern| {
                pattern.matches(&route.source_topic) || pattern.matches(&route.target_topic)
            })
        })
        .filter(|(_, route)| {
            arguments
                .partition
                .is_none_or(|partition| route.source_partition == partition)
        })
        .cloned()
        .collect();
    if !routes.is_empty() {
        return Ok(routes);
    }
    let mut report = Report::usage(
        "E0604",
        format!("run {run} has no offset mapping of that topic and partition"),
    );
    for (_, route) in kept.iter().take(8) {
        report = report.fact("has", route_text(route));
    }
    Err(Box::new(report))
}

fn facts(route: &StoredMapping, mapping: &Mapping) -> Value {
    json!({
        "source_topic": route.source_topic,
        "source_partition": route.source_partition,
        "target_topic": route.target_topic,
        "target_partition": route.target_partition,
        "records": mapping.records(),
        "source_end": mapping.source_end(),
        "target_base": mapping.target_base(),
        "target_end": mapping.target_end(),
        "digest": mapping.digest(),
    })
}

fn as_json(
    run: &RunId,
    routes: &[Route],
    read: impl Fn(&Route) -> Result<Mapping, Box<Report>>,
    write: &mut impl FnMut(&str) -> bool,
) -> Result<(), Box<Report>> {
    let head = json!({ "schema": "kbr.offset_mapping/1", "run": run });
    let head = head.to_string();
    write(head.trim_end_matches('}'));
    write(",\"routes\":[");
    for (index, route) in routes.iter().enumerate() {
        let mapping = read(route)?;
        let facts = facts(&route.1, &mapping).to_string();
        write(if index > 0 { ",\n" } else { "\n" });
        write(facts.trim_end_matches('}'));
        write(",\"runs\":[");
        for (index, run) in mapping.runs().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let run = format!(
                "{comma}\n{{\"source_from\":{},\"source_to\":{},\"target_from\":{},\"target_to\":{}}}",
                run.source_from,
                run.source_to,
                run.target_from,
                run.target_to()
            );
            if !write(&run) {
                return Ok(());
            }
        }
        write("]}");
    }
    write("\n]}\n");
    Ok(())
}

fn as_csv(
    routes: &[Route],
    read: impl Fn(&Route) -> Result<Mapping, Box<Report>>,
    write: &mut impl FnMut(&str) -> bool,
) -> Result<(), Box<Report>> {
    write(
        "source_topic,source_partition,source_from,source_to,target_topic,target_partition,target_from,target_to,records\n",
    );
    for route in routes {
        let mapping = read(route)?;
        // Names of topics are letters, digits, dots, dashes and underscores: nothing to quote.
        let (source, target) = (
            format!("{},{}", route.1.source_topic, route.1.source_partition),
            format!("{},{}", route.1.target_topic, route.1.target_partition),
        );
        for run in mapping.runs() {
            let line = format!(
                "{source},{},{},{target},{},{},{}\n",
                run.source_from,
                run.source_to,
                run.target_from,
                run.target_to(),
                run.count()
            );
            if !write(&line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn as_table(
    run: &RunId,
    routes: &[Route],
    limit: usize,
    read: impl Fn(&Route) -> Result<Mapping, Box<Report>>,
    write: &mut impl FnMut(&str) -> bool,
) -> Result<(), Box<Report>> {
    let columns = [
        ("source from", Side::Right),
        ("to", Side::Right),
        ("target from", Side::Right),
        ("to", Side::Right),
        ("records", Side::Right),
    ];
    write(&format!(
        "run {run}   {}; each `to` is the offset after the last record\n",
        counted(routes.len() as i64, "route")
    ));
    for route in routes {
        let mapping = read(route)?;
        let shown = match limit {
            0 => usize::MAX,
            limit => limit,
        };
        let rows: Vec<Vec<String>> = mapping
            .runs()
            .take(shown)
            .map(|run| {
                vec![
                    grouped(run.source_from.0),
                    grouped(run.source_to.0),
                    grouped(run.target_from.0),
                    grouped(run.target_to().0),
                    grouped(run.count()),
                ]
            })
            .collect();
        let mut text = format!(
            "\n{}   {} in {}, source read to {}\n",
            route_text(&route.1),
            counted(i128::from(mapping.records()), "record"),
            counted(i128::from(mapping.run_count()), "run"),
            grouped(mapping.source_end().0)
        );
        if !rows.is_empty() {
            text.push_str(&table(&columns, &rows));
        }
        let more = mapping.run_count().saturating_sub(rows.len() as u64);
        if more > 0 {
            text.push_str(&format!(
                "… {} more; all of them: --limit 0, or --output csv\n",
                grouped(more)
            ));
        }
        if !write(&harmless(&text)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Where a group would read on that would have read `offset` next.
fn translate(
    run: &RunId,
    routes: &[Route],
    offset: Offset,
    form: MappingForm,
    read: impl Fn(&Route) -> Result<Mapping, Box<Report>>,
    write: &mut impl FnMut(&str) -> bool,
) -> Result<(), Box<Report>> {
    let mut rows = Vec::new();
    for route in routes {
        let mapping = read(route)?;
        let translated = mapping.translate(offset);
        let why = match translated.how {
            How::SameRecord => "the same record".to_string(),
            How::NextRestored { source } => {
                format!("not restored; the next that was is {}", grouped(source.0))
            }
            How::AfterLast if offset >= mapping.source_end() => format!(
                "behind the last record; the source was read to {}",
                grouped(mapping.source_end().0)
            ),
            How::AfterLast => "behind the last restored record".to_string(),
        };
        rows.push((route.1.clone(), translated, why));
    }
    match form {
        MappingForm::Json => {
            let routes: Vec<Value> = rows
                .iter()
                .map(|(route, translated, _)| {
                    json!({
                        "source_topic": route.source_topic,
                        "source_partition": route.source_partition,
                        "source_offset": offset,
                        "target_topic": route.target_topic,
                        "target_partition": route.target_partition,
                        "target_offset": translated.offset,
                        "how": translated.how,
                    })
                })
                .collect();
            let document =
                json!({ "schema": "kbr.offset_translation/1", "run": run, "routes": routes });
            write(&format!("{document:#}\n"));
        }
        MappingForm::Csv => {
            write(
                "source_topic,source_partition,source_offset,target_topic,target_partition,target_offset\n",
            );
            for (route, translated, _) in &rows {
                write(&format!(
                    "{},{},{offset},{},{},{}\n",
                    route.source_topic,
                    route.source_partition,
                    route.target_topic,
                    route.target_partition,
                    translated.offset
                ));
            }
        }
        MappingForm::Table => {
            for (route, translated, why) in &rows {
                let line = format!(
                    "{}   {} → {}   {why}\n",
                    route_text(route),
                    grouped(offset.0),
                    grouped(translated.offset.0)
                );
                write(&harmless(&line));
            }
        }
    }
    Ok(())
}
