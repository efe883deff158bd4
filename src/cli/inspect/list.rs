//! `kbr list ARCHIVE`: its recovery points, newest first.

use super::{DAMAGED, List, Opened, Side, age, failed, minute, open, table};
use crate::archive::{Archive, Listing};
use crate::base::size::format_bytes;
use crate::base::text::{counted, grouped};
use crate::base::{TimestampMs, time};
use crate::cli::arguments::Output;
use crate::cli::report::Report;
use crate::cli::style::harmless;
use crate::cli::{print, print_json, tell, with_runtime};
use crate::run::ExitClass;
use serde_json::json;

pub fn list(arguments: List) -> Result<ExitClass, Box<Report>> {
    with_runtime(async |_| {
        let Opened { archive, witness } = open(&arguments.archive).await?;
        let limit = (arguments.limit > 0).then_some(arguments.limit);
        let mut listing = archive
            .listing(limit)
            .await
            .map_err(|error| failed(&arguments.archive, &error))?;
        listing.damages.extend(listing.contradiction(witness));
        let now = time::now();
        match arguments.output {
            Output::Json => print_json(&json!({
                "schema": "kbr.list/1",
                "archive": archive.url(),
                "archive_id": archive.archive_id(),
                "source_cluster_id": archive.source_cluster_id(),
                "count": listing.count,
                "generations": listing.generations,
                "damages": listing.damages,
            })),
            Output::Text => print(&harmless(&draw(&archive, &listing, now))),
        }
        if listing.damages.is_empty() {
            return Ok(ExitClass::Done);
        }
        if arguments.output == Output::Text {
            for damage in &listing.damages {
                tell(
                    &failed(&arguments.archive, &damage.clone().into()),
                    Output::Text,
                );
            }
        }
        Ok(DAMAGED)
    })
}

fn draw(archive: &Archive, listing: &Listing, now: TimestampMs) -> String {
    let columns = [
        ("number", Side::Right),
        ("at (UTC)", Side::Left),
        ("age", Side::Right),
        ("topics", Side::Right),
        ("new records", Side::Right),
        ("bytes", Side::Right),
        ("stored", Side::Right),
        ("", Side::Left),
    ];
    let rows: Vec<Vec<String>> = listing
        .generations
        .iter()
        .map(|generation| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            vec![
                generation.number.to_string(),
                minute(generation.consistency_point),
                age(now, generation.consistency_point),
                grouped(generation.topics),
                or_dash(generation.records.map(grouped)),
                or_dash(generation.bytes.map(format_bytes)),
                or_dash(generation.stored_bytes.map(format_bytes)),
                match (generation.marked, generation.partial) {
                    (Some(_), _) => "pruned".into(),
                    (None, true) => "partial".into(),
                    (None, false) => String::new(),
                },
            ]
        })
        .collect();
    let mut text = format!(
        "{}  of cluster {}  {}\n\n{}",
        archive.url(),
        archive.source_cluster_id(),
        counted(i128::from(listing.count), "generation"),
        table(&columns, &rows)
    );
    if listing.hidden > 0 {
        text.push_str(&format!(
            "\n{} more; all of them: --limit 0\n",
            grouped(listing.hidden)
        ));
    }
    text
}
