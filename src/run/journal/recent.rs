//! The newest runs for a shell's completion: read without waiting for anybody, and without leaving a trace.

use super::RunId;
use crate::base::TimestampMs;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// A run, as far as it takes to choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRun {
    pub run: RunId,
    pub started: TimestampMs,
    /// Empty if it was not asked for.
    pub runbook: String,
    /// As of a [`JournalledRun`](super::JournalledRun).
    pub end: String,
}

/// The newest runs first; none where the journal cannot be read at once. The name of the runbook is in the plan: with
/// it all plans are read, which takes its time where they are large.
pub fn recent_runs(path: &Path, limit: usize, with_runbook: bool) -> Vec<RecentRun> {
    read(path, limit, with_runbook).unwrap_or_default()
}

fn read(path: &Path, limit: usize, with_runbook: bool) -> rusqlite::Result<Vec<RecentRun>> {
    let mut url = "file:".to_string();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url.push_str("?mode=ro");
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if !Path::new(&log).exists() {
        // Nobody writes. Without this even a reader makes the files beside the database that readers and writers share.
        url.push_str("&immutable=1");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(url, flags)?;
    connection.busy_timeout(Duration::from_millis(100))?;
    let mut statement = connection.prepare(
        "SELECT run, at, CASE ?2 WHEN 1 THEN json_extract(body, '$.plan.runbook.name') END,
                (SELECT CASE kind WHEN 'end' THEN json_extract(body, '$.end') END FROM entries AS last
                 WHERE last.run = begun.run AND kind IN ('run', 'resume', 'end') ORDER BY seq DESC LIMIT 1)
         FROM entries AS begun WHERE kind = 'run' ORDER BY seq DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([limit as i64, i64::from(with_runbook)], |row| {
        Ok(RecentRun {
            run: RunId(row.get(0)?),
            started: TimestampMs(row.get(1)?),
            runbook: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            end: row
                .get::<_, Option<String>>(3)?
                .unwrap_or_else(|| "unfinished".into()),
        })
    })?;
    rows.collect()
}
