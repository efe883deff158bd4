//! The local record of every execution: intent before effect, old values, outcome after.
//!
//! One SQLite table of entries, each with the hash of the one before, so that a changed or missing entry shows.
//! (Entries cut off at the end do not: nothing after them knows.) Every entry is committed to disk before the call
//! returns: an effect whose intent is not durable must not begin.

mod chain;
mod history;
mod lock;
mod mappings;
mod recent;
mod so_far;

pub use chain::ChainBreak;
pub use history::{JournalledRun, JournalledStep, RunRecord};
pub use lock::RunLock;
pub use mappings::StoredMapping;
pub use recent::{RecentRun, recent_runs};
pub use so_far::{SoFar, StateSoFar, StepSoFar};

use super::{Outcome, Plan, PlanDocument, RunReport, StepError, canonical_json};
use crate::base::{Digest, time};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// "kbr1": what SQLite's `file` type shows, and what tells a journal from another database.
const APPLICATION_ID: i32 = 0x6b62_7231;
/// The path of a journal that lasts as long as its process.
const IN_MEMORY: &str = ":memory:";
/// 2 added the mappings.
const SCHEMA_VERSION: i32 = 2;
const SCHEMA: &str = "
    CREATE TABLE entries (
        seq      INTEGER PRIMARY KEY,
        run      TEXT NOT NULL,
        kind     TEXT NOT NULL,
        ordinal  INTEGER,
        at       INTEGER NOT NULL,
        body     TEXT NOT NULL,
        hash     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX entries_of_run ON entries (run, seq);
    CREATE INDEX entries_of_kind ON entries (kind, seq);
    CREATE TABLE witnesses (
        archive    TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        digest     TEXT NOT NULL,
        at         INTEGER NOT NULL
    ) STRICT;
";

/// `20261121-0914-k7`: the minute it began (UTC) and two characters that make it unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be written")]
    Unwritable { path: String, why: String },
    #[error("the journal {path} cannot be read")]
    Unreadable { path: String, why: String },
    #[error("there is no place for the journal")]
    NoPlace,
    #[error("{count} runs begin with {run}")]
    SeveralRuns {
        path: String,
        run: String,
        count: usize,
    },
    #[error("no run {run} in the journal")]
    NoSuchRun {
        path: String,
        run: String,
        nearest: Option<String>,
    },
}

/// The first entry of a run.
#[derive(Serialize)]
struct RunBody<'a> {
    approval: &'a str,
    kbr: &'a str,
    plan: &'a PlanDocument,
    /// [`SavedPlan::packed`](super::SavedPlan::packed).
    saved: Option<String>,
}

/// The last generation of an archive that this machine saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    pub archive_id: String,
    pub generation: u64,
    pub digest: Digest,
}

/// Copies are the same journal.
#[derive(Clone)]
pub struct Journal {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

struct Entry {
    seq: i64,
    run: String,
    kind: String,
    ordinal: Option<u32>,
    at: i64,
    body: String,
    hash: String,
}

impl Entry {
    /// The hash of the entry and the one before: over canonical JSON, whose keys are sorted.
    fn link(&self, previous: &str) -> String {
        #[derive(Serialize)]
        struct Link<'a> {
            at: i64,
            body: &'a str,
            kind: &'a str,
            ordinal: Option<u32>,
            previous: &'a str,
            run: &'a str,
            seq: i64,
        }
        Digest::of_json(&Link {
            at: self.at,
            body: &self.body,
            kind: &self.kind,
            ordinal: self.ordinal,
            previous,
            run: &self.run,
            seq: self.seq,
        })
        .hex()
    }

    fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            run: row.get(1)?,
            kind: row.get(2)?,
            ordinal: row.get(3)?,
            at: row.get(4)?,
            body: row.get(5)?,
            hash: row.get(6)?,
        })
    }
}

const COLUMNS: &str = "seq, run, kind, ordinal, at, body, hash";

/// `$KBR_STATE_DIR/journal.db`, else under `$XDG_STATE_HOME/kbr`, else under `~/.local/state/kbr`.
pub fn journal_path(
    environment: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<PathBuf, JournalError> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let folder = if let Some(own) = set("KBR_STATE_DIR") {
        PathBuf::from(own)
    } else if let Some(state) = set("XDG_STATE_HOME") {
        PathBuf::from(state).join("kbr")
    } else if let Some(home) = set("HOME") {
        PathBuf::from(home).join(".local/state/kbr")
    } else {
        return Err(JournalError::NoPlace);
    };
    Ok(folder.join("journal.db"))
}

impl Journal {
    /// Opens the journal for writing; it is made if it does not exist.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let unwritable = |why: String| JournalError::Unwritable {
            path: path.display().to_string(),
            why,
        };
        if let Some(folder) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder
                .create(folder)
                .map_err(|error| unwritable(error.to_string()))?;
        }
        let connection = Connection::open(path).map_err(|error| unwritable(error.to_string()))?;
        let journal = Self::of(path, connection);
        journal.prepare()?;
        Ok(journal)
    }

    /// Opens the journal for reading; `None` if there is none yet.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, JournalError> {
        if !path.exists() {
            return Ok(None);
        }
        let unreadable = |error: rusqlite::Error| JournalError::Unreadable {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        let opened = |access: OpenFlags| -> rusqlite::Result<(Connection, i64)> {
            let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            let tables = "SELECT count(*) FROM sqlite_schema";
            let tables = connection.query_row(tables, [], |row| row.get(0))?;
            Ok((connection, tables))
        };
        let (connection, tables) = opened(OpenFlags::SQLITE_OPEN_READ_ONLY)
            // A process that was killed in the middle of a write has left something to roll back, which takes writing.
            .or_else(|error| opened(OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|_| error))
            .map_err(unreadable)?;
        if tables == 0 {
            // Killed while it was made.
            return Ok(None);
        }
        let journal = Self::of(path, connection);
        journal.known_version()?;
        Ok(Some(journal))
    }

    /// A journal that lasts as long as the process, for rehearsals.
    pub fn in_memory() -> Result<Self, JournalError> {
        let path = Path::new(IN_MEMORY);
        let connection =
            Connection::open_in_memory().map_err(|error| JournalError::Unwritable {
                path: path.display().to_string(),
                why: error.to_string(),
            })?;
        let journal = Self::of(path, connection);
        journal.prepare()?;
        Ok(journal)
    }

    fn of(path: &Path, connection: Connection) -> Self {
        Self {
            path: path.to_path_buf(),
            connection: Arc::new(Mutex::new(connection)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // Every write is one SQLite transaction, so a panic elsewhere leaves nothing half done.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritable(&self, error: rusqlite::Error) -> JournalError {
        JournalError::Unwritable {
            path: self.path.display().to_string(),
            why: error.to_string(),
        }
    }

    fn unreadable(&self, error: impl fmt::Display) -> JournalError {
        JournalError::Unreadable {
            path: self.path.display().to_string(),
            why: error.to_string(),
        }
    }

    fn prepare(&self) -> Result<(), JournalError> {
        let mut connection = self.lock();
        let made = (|| {
            connection.busy_timeout(Duration::from_secs(10))?;
            // One flush to the disk per entry instead of four. Where the file system cannot do it, as some that are shared
            // between machines, the file stays as it is, which is as safe and slower.
            let _ = connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let tables: i64 =
                transaction
                    .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            let pragma = |name: &str| -> rusqlite::Result<i32> {
                transaction.pragma_query_value(None, name, |row| row.get(0))
            };
            if tables == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.execute_batch(mappings::SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            } else if pragma("application_id")? == APPLICATION_ID && pragma("user_version")? == 1 {
                transaction.execute_batch(mappings::SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            transaction.commit()
        })();
        made.map_err(|error| self.unwritable(error))?;
        drop(connection);
        self.known_version()
    }

    fn known_version(&self) -> Result<(), JournalError> {
        let connection = self.lock();
        let pragma = |name: &str| -> rusqlite::Result<i32> {
            connection.pragma_query_value(None, name, |row| row.get(0))
        };
        let (application, version) = pragma("application_id")
            .and_then(|application| Ok((application, pragma("user_version")?)))
            .map_err(|error| self.unreadable(error))?;
        if application != APPLICATION_ID {
            return Err(self.unreadable("it is a database of something else"));
        }
        if version > SCHEMA_VERSION {
            return Err(self.unreadable(format!(
                "a newer kbr wrote it (format {version}, this kbr knows {SCHEMA_VERSION})"
            )));
        }
        Ok(())
    }

    /// Writes one entry at the end of the chain.
    fn append(
        &self,
        run: &RunId,
        kind: &str,
        ordinal: Option<u32>,
        body: &Value,
    ) -> Result<(), JournalError> {
        let body = String::from_utf8_lossy(&canonical_json(body)).into_owned();
        append_to(&mut self.lock(), &run.0, kind, ordinal, time::now().0, body)
            .map_err(|error| self.unwritable(error))
    }

    /// The same of what is written as it is: as a tree of values it would take ten times the memory.
    fn append_made(
        &self,
        run: &RunId,
        kind: &str,
        ordinal: Option<u32>,
        body: &impl Serialize,
    ) -> Result<(), JournalError> {
        let body = serde_json::to_string(body).map_err(|error| JournalError::Unwritable {
            path: self.path.display().to_string(),
            why: error.to_string(),
        })?;
        append_to(&mut self.lock(), &run.0, kind, ordinal, time::now().0, body)
            .map_err(|error| self.unwritable(error))
    }

    /// Begins a run: its id is new, its plan is stored whole, as people see it and as it can be made again.
    pub fn begin_run(
        &self,
        plan: &Plan,
        document: &PlanDocument,
        approval: &str,
    ) -> Result<(RunId, RunLock), JournalError> {
        let run = self.new_id()?;
        let lock = self
            .lock_run(&run)?
            .ok_or_else(|| JournalError::Unwritable {
                path: self.path.display().to_string(),
                why: format!("another process holds the new run {run}"),
            })?;
        let unwritable = |why: String| JournalError::Unwritable {
            path: self.path.display().to_string(),
            why,
        };
        // Stand-ins are gone with their process, and nothing of a rehearsal can be resumed.
        let saved = (!plan.rehearsal)
            .then(|| plan.saved_as(document.digest).packed())
            .transpose()
            .map_err(|error| unwritable(error.to_string()))?;
        let body = RunBody {
            approval,
            kbr: env!("CARGO_PKG_VERSION"),
            plan: document,
            saved,
        };
        self.append_made(&run, "run", None, &body)?;
        Ok((run, lock))
    }

    /// Goes on with a run.
    pub fn resume_run(&self, run: &RunId, approval: &str) -> Result<(), JournalError> {
        let body = json!({ "approval": approval, "kbr": env!("CARGO_PKG_VERSION") });
        self.append(run, "resume", None, &body)
    }

    fn new_id(&self) -> Result<RunId, JournalError> {
        let minute = time::format_instant(time::now());
        let minute: String = minute.chars().filter(char::is_ascii_digit).collect();
        // A letter and a digit: 230 ids a minute, none of which reads as another.
        const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz";
        const DIGITS: &[u8] = b"0123456789";
        let connection = self.lock();
        for _ in 0..1000 {
            let mut random = [0u8; 2];
            getrandom::fill(&mut random).map_err(|error| JournalError::Unwritable {
                path: self.path.display().to_string(),
                why: error.to_string(),
            })?;
            let letter = LETTERS[random[0] as usize % LETTERS.len()] as char;
            let digit = DIGITS[random[1] as usize % DIGITS.len()] as char;
            let id = format!("{}-{}-{letter}{digit}", &minute[..8], &minute[8..12]);
            let taken: Option<i64> = connection
                .query_row("SELECT seq FROM entries WHERE run = ?1", [&id], |row| {
                    row.get(0)
                })
                .optional()
                .map_err(|error| self.unreadable(error))?;
            if taken.is_none() {
                return Ok(RunId(id));
            }
        }
        Err(JournalError::Unwritable {
            path: self.path.display().to_string(),
            why: "every run id of this minute is taken".into(),
        })
    }

    /// A gate was answered; `before`: the place among the plan's items that it stands before.
    pub fn gate(
        &self,
        run: &RunId,
        before: usize,
        ordinals: &[u32],
        how: &str,
        approved: bool,
    ) -> Result<(), JournalError> {
        let body = json!({ "before": before, "steps": ordinals, "how": how, "approved": approved });
        self.append(run, "gate", None, &body)
    }

    /// What a step must not forget while its effect is under way: the producer id that it writes with.
    pub fn note(&self, run: &RunId, ordinal: u32, note: &Value) -> Result<(), JournalError> {
        self.append(run, "note", Some(ordinal), &json!({ "note": note }))
    }

    /// A step is about to have its effect on what `old` says.
    pub fn intent(&self, run: &RunId, ordinal: u32, old: &Value) -> Result<(), JournalError> {
        #[derive(Serialize)]
        struct Intent<'a> {
            old: &'a Value,
        }
        self.append_made(run, "intent", Some(ordinal), &Intent { old })
    }

    pub fn no_change(&self, run: &RunId, ordinal: u32) -> Result<(), JournalError> {
        self.append(run, "no_change", Some(ordinal), &json!({}))
    }

    pub fn outcome(
        &self,
        run: &RunId,
        ordinal: u32,
        outcome: &Outcome,
        elapsed: Duration,
    ) -> Result<(), JournalError> {
        #[derive(Serialize)]
        struct Made<'a> {
            elapsed_ms: u64,
            outcome: &'a Outcome,
        }
        let elapsed_ms = elapsed.as_millis() as u64;
        let made = Made {
            elapsed_ms,
            outcome,
        };
        self.append_made(run, "outcome", Some(ordinal), &made)
    }

    pub fn failed(
        &self,
        run: &RunId,
        ordinal: u32,
        error: &StepError,
        elapsed: Duration,
    ) -> Result<(), JournalError> {
        let body = json!({
            "code": error.code,
            "message": error.message,
            "facts": error.facts,
            "elapsed_ms": elapsed.as_millis() as u64,
        });
        self.append(run, "failed", Some(ordinal), &body)
    }

    pub fn end_run(&self, report: &RunReport) -> Result<(), JournalError> {
        let message = match &report.end {
            super::RunEnd::Failed { ordinal, error } => Some(format!("step {ordinal}: {error}")),
            _ => None,
        };
        let body = json!({
            "end": report.end.word(),
            "exit": report.end.exit().code(),
            "message": message,
            "incomplete": report.incomplete,
            "damaged": report.damaged,
            "totals": report.totals,
        });
        self.append(&report.run, "end", None, &body)
    }

    /// Remembers the newest generation seen of an archive. One that is not newer than what was seen changes nothing, also
    /// if another process has seen it meanwhile.
    pub fn remember(&self, witness: &Witness) -> Result<(), JournalError> {
        self.put_witness(witness, "WHERE excluded.generation > witnesses.generation")
    }

    /// Remembers a generation although a newer one was seen, which is lost.
    pub fn remember_after_loss(&self, witness: &Witness) -> Result<(), JournalError> {
        self.put_witness(witness, "")
    }

    fn put_witness(&self, witness: &Witness, only: &str) -> Result<(), JournalError> {
        self.lock()
            .execute(
                &format!(
                    "INSERT INTO witnesses (archive, generation, digest, at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (archive) DO UPDATE SET
                         generation = excluded.generation, digest = excluded.digest, at = excluded.at
                     {only}"
                ),
                params![
                    witness.archive_id,
                    witness.generation as i64,
                    witness.digest.hex(),
                    time::now().0
                ],
            )
            .map(|_| ())
            .map_err(|error| self.unwritable(error))
    }

    /// The newest generation that was ever seen here.
    pub fn witness(&self, archive_id: &str) -> Result<Option<Witness>, JournalError> {
        let found: Option<(i64, String)> = self
            .lock()
            .query_row(
                "SELECT generation, digest FROM witnesses WHERE archive = ?1",
                [archive_id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(|error| self.unreadable(error))?;
        found
            .map(|(generation, digest)| {
                Ok(Witness {
                    archive_id: archive_id.to_string(),
                    generation: generation as u64,
                    digest: Digest::from_hex(&digest)
                        .ok_or_else(|| self.unreadable("a witness is not a digest"))?,
                })
            })
            .transpose()
    }
}

fn append_to(
    connection: &mut Connection,
    run: &str,
    kind: &str,
    ordinal: Option<u32>,
    at: i64,
    body: String,
) -> rusqlite::Result<()> {
    // Immediate: two kbr at once take turns, so that each links to the other's last entry.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let last: Option<(i64, String)> = transaction
        .query_row(
            "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (last, previous) = last.unwrap_or((0, String::new()));
    let mut entry = Entry {
        seq: last + 1,
        run: run.to_string(),
        kind: kind.to_string(),
        ordinal,
        at,
        body,
        hash: String::new(),
    };
    entry.hash = entry.link(&previous);
    transaction.execute(
        &format!("INSERT INTO entries ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        params![
            entry.seq,
            entry.run,
            entry.kind,
            entry.ordinal,
            entry.at,
            entry.body,
            entry.hash
        ],
    )?;
    transaction.commit()
}
