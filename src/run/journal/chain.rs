//! Whether the journal is as it was written: each entry has the hash of the one before.

use super::{COLUMNS, Entry, Journal, JournalError, RunId};
use rusqlite::Connection;
use serde::Serialize;

/// So much of the journal is looked through before an execution.
const RECENT_BYTES: i64 = 4 << 20;

/// Where the chain of hashes does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainBreak {
    pub entry: i64,
    pub why: String,
}

impl Journal {
    /// Follows the whole chain; the first entry that does not fit.
    pub fn verify(&self) -> Result<Option<ChainBreak>, JournalError> {
        follow(&self.lock(), 1, String::new()).map_err(|error| self.unreadable(error))
    }

    /// The same for the newest entries only, [`RECENT_BYTES`] of them and all since `run` began: a history of years must not
    /// hold up a recovery.
    pub fn verify_recent(&self, run: Option<&RunId>) -> Result<Option<ChainBreak>, JournalError> {
        let connection = self.lock();
        let recent = || -> rusqlite::Result<Option<ChainBreak>> {
            let run = run.map_or("", |run| &run.0);
            let began: Option<i64> = connection.query_row(
                "SELECT min(seq) FROM entries WHERE run = ?1",
                [run],
                |row| row.get(0),
            )?;
            let mut statement = connection
                .prepare("SELECT seq, hash, octet_length(body) FROM entries ORDER BY seq DESC")?;
            let mut rows = statement.query([])?;
            let (mut bytes, mut first, mut before) = (0, 1, String::new());
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                if bytes > RECENT_BYTES && began.is_none_or(|began| seq < began) {
                    (first, before) = (seq + 1, row.get(1)?);
                    break;
                }
                bytes += row.get::<_, i64>(2)?;
            }
            follow(&connection, first, before)
        };
        recent().map_err(|error| self.unreadable(error))
    }
}

/// The first entry from `first` on that does not fit to the one before, whose hash is `previous`.
fn follow(
    connection: &Connection,
    first: i64,
    mut previous: String,
) -> rusqlite::Result<Option<ChainBreak>> {
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM entries WHERE seq >= ?1 ORDER BY seq"
    ))?;
    for (expected, entry) in (first..).zip(statement.query_map([first], Entry::read)?) {
        let entry = entry?;
        if entry.seq != expected {
            return Ok(Some(ChainBreak {
                entry: expected,
                why: "it is missing".into(),
            }));
        }
        if entry.link(&previous) != entry.hash {
            return Ok(Some(ChainBreak {
                entry: entry.seq,
                why: "it or the one before was changed".into(),
            }));
        }
        previous = entry.hash;
    }
    Ok(None)
}
