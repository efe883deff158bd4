//! Commands that look at an archive and change nothing: `list`, `describe`, `show-manifest`, `diff`, `cat`, `verify`.

mod arguments;
mod cat;
mod describe;
mod diff;
mod list;
mod manifest;
mod verify;

pub use arguments::{Cat, Describe, Diff, List, ShowManifest, Verify};
pub use cat::cat;
pub use describe::describe;
pub use diff::diff;
pub use list::list;
pub use manifest::show_manifest;
pub use verify::verify;

use super::plan_view::quoted;
use super::report::Report;
use super::style::{left, right, width};
use crate::archive::{Archive, Snapshot, Witnessed};
use crate::base::TimestampMs;
use crate::base::time::format_instant;
use crate::dsl::World;
use crate::run::{Config, ExitClass, Journal, Witness, journal_path};
use std::path::Path;

/// Opens the archive in a store of `kbr.toml` or at a URL.
async fn open(name: &str) -> Result<Opened, Box<Report>> {
    let config = Config::find(Path::new(".")).map_err(|error| Report::from(&error))?;
    let world = World::real(config);
    let store = world.store(name).await.map_err(|error| {
        let mut report = Report::from(&error);
        // A path without its `file:` is the likeliest slip.
        if !name.contains(':') && Path::new(name).join("archive.json").is_file() {
            report.facts.retain(|(label, _)| label != "now");
            report = report.now(format!("did you mean file:{name}?"));
        }
        Box::new(report)
    })?;
    let archive = Archive::open(store.store.clone())
        .await
        .map_err(|error| failed(name, &error))?;
    Ok(Opened {
        witness: world.witness(archive.archive_id()),
        archive,
    })
}

/// An archive, and the newest generation of it that this machine has seen, if it keeps a journal.
struct Opened {
    archive: Archive,
    witness: Option<Witnessed>,
}

/// Opens a generation, or the newest.
async fn snapshot(
    name: &str,
    opened: &Opened,
    generation: Option<u64>,
) -> Result<Snapshot, Box<Report>> {
    let opened = match generation {
        Some(number) => opened.archive.generation(number).await,
        None => {
            let latest = opened.archive.latest_after(opened.witness).await;
            latest.map(|(latest, _)| latest)
        }
    };
    opened.map_err(|error| failed(name, &error))
}

fn failed(name: &str, error: &crate::archive::Error) -> Box<Report> {
    let mut report = Report::from(error);
    for (label, text) in &mut report.facts {
        if label == "now" {
            *text = text.replace("kbr list ARCHIVE", &format!("kbr list {}", quoted(name)));
        }
    }
    if !report.message.contains(name) {
        report.facts.insert(0, ("archive".into(), name.to_string()));
    }
    Box::new(report)
}

/// Remembers the end of the chain, where a journal is kept already: looking at an archive makes none.
fn remember(archive: &Archive, newest: Witnessed) {
    let Ok(path) = journal_path(|name| std::env::var_os(name)) else {
        return;
    };
    if !path.exists() {
        return;
    }
    // A witness that cannot be written costs nobody the answer.
    if let Ok(journal) = Journal::open(&path) {
        let _ = journal.remember(&Witness {
            archive_id: archive.archive_id().to_string(),
            generation: newest.generation,
            digest: newest.digest,
        });
    }
}

/// `2026-11-20 09:59`, UTC.
fn minute(at: TimestampMs) -> String {
    format_instant(at)
        .get(..16)
        .unwrap_or_default()
        .replace('T', " ")
}

/// The largest unit only: `38 min`, `5 h`, `3 d`.
fn age(now: TimestampMs, at: TimestampMs) -> String {
    let seconds = (now.0 - at.0).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table with a head, two spaces between the columns.
pub(super) fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(column, (title, _))| {
            let cells = rows.iter().map(|row| width(&row[column]));
            cells.chain([width(title)]).max().unwrap_or(0)
        })
        .collect();
    let draw = |cells: &[String]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(columns.iter().zip(&widths))
            .map(|(cell, ((_, side), width))| match side {
                Side::Left => left(cell, *width),
                Side::Right => right(cell, *width),
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let head: Vec<String> = columns.iter().map(|(title, _)| title.to_string()).collect();
    let mut text = draw(&head);
    for row in rows {
        text.push_str(&draw(row));
    }
    text
}

/// `label   text`, wrapped under itself.
fn fact(label: &str, text: &str, columns: usize) -> String {
    let column = 12;
    let mut out = String::new();
    for (index, line) in super::style::wrapped(text, columns.saturating_sub(column))
        .into_iter()
        .enumerate()
    {
        let label = if index == 0 { label } else { "" };
        out.push_str(&format!("{}{line}\n", left(label, column)));
    }
    out
}

/// What a command that found damage ends with.
const DAMAGED: ExitClass = ExitClass::Damaged;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_its_largest_unit() {
        let now = TimestampMs(1_000_000_000);
        for (ms, expected) in [
            (59_999, "59 s"),
            (60_000, "1 min"),
            (5 * 3_600_000 + 1, "5 h"),
            (47 * 3_600_000, "47 h"),
            (49 * 3_600_000, "2 d"),
            (-5, "0 s"),
        ] {
            assert_eq!(age(now, TimestampMs(now.0 - ms)), expected);
        }
    }

    #[test]
    fn a_table_keeps_numbers_right_and_words_left() {
        let rows = [
            vec!["orders".to_string(), "7".to_string()],
            vec!["p".to_string(), "1,204".to_string()],
        ];
        assert_eq!(
            table(&[("topic", Side::Left), ("records", Side::Right)], &rows),
            "topic   records\norders        7\np         1,204\n"
        );
    }
}
