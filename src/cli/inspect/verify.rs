//! `kbr verify ARCHIVE`: is it whole, and if not, what is lost and what is left.

use super::{DAMAGED, Opened, Verify, fact, failed, open, remember};
use crate::archive::{Archive, Depth, Held, Span, VerifyOptions, VerifyReport, Witnessed};
use crate::base::size::format_bytes;
use crate::base::text::{counted, grouped};
use crate::base::time::format_duration_ms;
use crate::cli::arguments::Output;
use crate::cli::progress_view::Working;
use crate::cli::report::Report;
use crate::cli::style::{Paint, Style, harmless};
use crate::cli::{print, print_json, with_runtime};
use crate::run::ExitClass;
use serde_json::json;
use std::time::{Duration, Instant};

/// Unreferenced objects that are named; the rest are counted.
const NAMED: usize = 5;

pub fn verify(arguments: Verify) -> Result<ExitClass, Box<Report>> {
    with_runtime(async |cancel| {
        let Opened { archive, witness } = open(&arguments.archive).await?;
        let options = VerifyOptions {
            depth: match arguments.deep {
                true => Depth::Deep,
                false => Depth::Quick,
            },
            witness,
            generation: arguments.generation,
            cancel,
        };
        let began = Instant::now();
        let working = Working::start(
            arguments.progress.look(),
            &format!("verify {}", arguments.archive),
        );
        let report = archive
            .verify_with(&options, working.progress().as_ref())
            .await;
        drop(working);
        let report = report.map_err(|error| failed(&arguments.archive, &error))?;
        let newest = report.newest;
        // One that was interrupted has not come to the end of the chain.
        if report.is_whole()
            && !report.interrupted
            && let Some((generation, digest)) = newest
        {
            remember(&archive, Witnessed { generation, digest });
        }
        let exit = match (report.is_whole(), report.interrupted) {
            (false, _) => DAMAGED,
            (true, true) => ExitClass::Interrupted,
            (true, false) => ExitClass::Done,
        };
        match arguments.output {
            Output::Json => print_json(&document(&archive, &options, &report, exit)),
            Output::Text => {
                let style = Style::of_stdout();
                let text = draw(&archive, &options, &report, began.elapsed(), &style);
                print(&harmless(&text));
            }
        }
        Ok(exit)
    })
}

fn document(
    archive: &Archive,
    options: &VerifyOptions,
    report: &VerifyReport,
    exit: ExitClass,
) -> serde_json::Value {
    json!({
        "schema": "kbr.verify/1",
        "archive": archive.url(),
        "archive_id": archive.archive_id(),
        "deep": options.depth == Depth::Deep,
        "generation": options.generation,
        "whole": report.is_whole(),
        "interrupted": report.interrupted,
        "generations": report.generations,
        "segments": report.segments,
        "blocks": report.blocks,
        "batches": (options.depth == Depth::Deep).then_some(report.batches),
        "records": report.records,
        "bytes": report.bytes,
        "damages": report.damages,
        "restorable": report.restorable,
        "unreferenced": report.unreferenced,
        "unreferenced_bytes": report.unreferenced_bytes,
        "exit": exit.code(),
    })
}

fn draw(
    archive: &Archive,
    options: &VerifyOptions,
    report: &VerifyReport,
    elapsed: Duration,
    style: &Style,
) -> String {
    let line = |label: &str, text: &str| fact(label, text, style.width);
    let deep = options.depth == Depth::Deep;
    let mut text = line("archive", &archive.url());
    let mut seen = vec![
        counted(i128::from(report.generations), "generation"),
        counted(i128::from(report.segments), "segment"),
        counted(i128::from(report.blocks), "block"),
    ];
    if deep {
        seen.push(counted(i128::from(report.batches), "batch").replace("batchs", "batches"));
    }
    seen.push(counted(i128::from(report.records), "record"));
    seen.push(format_bytes(report.bytes));
    text.push_str(&line("checked", &seen.join(", ")));
    text.push_str(&line(
        "how",
        &match deep {
            true => format!(
                "every byte: hashes, checksums, counts, offsets, times; {}",
                format_duration_ms(elapsed.as_millis() as i64)
            ),
            false => format!(
                "chain, books, sizes and indexes, not the blocks (--deep does); {}",
                format_duration_ms(elapsed.as_millis() as i64)
            ),
        },
    ));
    if !report.unreferenced.is_empty() {
        text.push_str(&unreferenced(report, style));
    }
    for damage in &report.damages {
        text.push('\n');
        let label = style.paint(Paint::Red, "damaged");
        text.push_str(&format!("{label}     {}\n", damage.object));
        text.push_str(&line("", &damage.kind.to_string()));
        if !damage.held.is_empty() {
            text.push_str(&line("", &format!("it held {}", held(&damage.held))));
        }
    }
    if !report.is_whole() {
        text.push('\n');
        text.push_str(&left(report, style));
    }
    text.push('\n');
    text.push_str(&match (report.is_whole(), report.interrupted) {
        (true, false) => format!("{} whole\n", style.paint(Paint::Green, "✓")),
        (true, true) => "interrupted: no damage so far\n".to_string(),
        (false, interrupted) => format!(
            "{} {} damaged{}\n",
            style.paint(Paint::Red, "✗"),
            counted(objects(report) as i128, "object"),
            if interrupted {
                " so far; interrupted"
            } else {
                ""
            }
        ),
    });
    text
}

fn objects(report: &VerifyReport) -> usize {
    let mut objects: Vec<&str> = report
        .damages
        .iter()
        .map(|damage| damage.object.as_str())
        .collect();
    objects.sort_unstable();
    objects.dedup();
    objects.len()
}

fn unreferenced(report: &VerifyReport, style: &Style) -> String {
    let mut text = fact(
        "stray",
        &format!(
            "{} that no generation names, {}: left behind by runs that ended early, harmless",
            counted(report.unreferenced.len() as i128, "object"),
            format_bytes(report.unreferenced_bytes)
        ),
        style.width,
    );
    for object in report.unreferenced.iter().take(NAMED) {
        text.push_str(&format!("            {object}\n"));
    }
    if report.unreferenced.len() > NAMED {
        text.push_str(&format!(
            "            and {} more\n",
            grouped((report.unreferenced.len() - NAMED) as u64)
        ));
    }
    text
}

/// What can still be restored.
fn left(report: &VerifyReport, style: &Style) -> String {
    let restorable = &report.restorable;
    let line = |label: &str, text: &str| fact(label, text, style.width);
    let mut text = line(
        "restorable",
        &match &restorable.whole[..] {
            [] => "no generation whole".to_string(),
            whole => format!("whole: generation {}", spans(whole)),
        },
    );
    if !restorable.in_part.is_empty() {
        text.push_str(&line(
            "",
            &format!("in part: generation {}", spans(&restorable.in_part)),
        ));
    }
    if !restorable.unreadable.is_empty() {
        text.push_str(&line(
            "",
            &format!("not: generation {}", spans(&restorable.unreadable)),
        ));
    }
    if let Some(newest) = restorable.newest
        && !restorable.lost.is_empty()
    {
        text.push_str(&line(
            "",
            &format!(
                "generation {newest} has everything but {}",
                held(&restorable.lost)
            ),
        ));
    }
    text
}

fn spans(spans: &[Span]) -> String {
    let spans: Vec<String> = spans
        .iter()
        .map(|span| match span.from == span.to {
            true => span.from.to_string(),
            false => format!("{} to {}", span.from, span.to),
        })
        .collect();
    spans.join(", ")
}

fn held(held: &[Held]) -> String {
    let mut said: Vec<String> = held.iter().take(20).map(ToString::to_string).collect();
    if held.len() > 20 {
        said.push(format!("{} more ranges", held.len() - 20));
    }
    said.join(", ")
}
