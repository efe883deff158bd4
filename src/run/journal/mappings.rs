//! Where a run's records went: one row per route of a write step, as the engine's own compact bytes.
//!
//! The bytes can be many; the entries of the journal hold only each mapping's digest, in the outcome of its step.

use super::{Journal, JournalError, RunId};
use crate::base::Digest;
use rusqlite::{OptionalExtension, params};

pub(super) const SCHEMA: &str = "
    CREATE TABLE mappings (
        run              TEXT NOT NULL,
        ordinal          INTEGER NOT NULL,
        source_topic     TEXT NOT NULL,
        source_partition INTEGER NOT NULL,
        target_topic     TEXT NOT NULL,
        target_partition INTEGER NOT NULL,
        records          INTEGER NOT NULL,
        digest           TEXT NOT NULL,
        bytes            BLOB NOT NULL,
        PRIMARY KEY (run, ordinal, source_topic, source_partition, target_topic, target_partition)
    ) STRICT;
";

/// One route's mapping, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMapping {
    pub source_topic: String,
    pub source_partition: i32,
    pub target_topic: String,
    pub target_partition: i32,
    pub records: u64,
    /// Of the mapping, as it stands in the outcome of the step.
    pub digest: Digest,
}

impl Journal {
    /// Keeps what a write step has mapped; a step that is gone on with stores it again. All of them or none, and one
    /// wait for the disk: a topic may have thousands of partitions.
    pub fn store_mappings(
        &self,
        run: &RunId,
        ordinal: u32,
        mappings: impl Iterator<Item = (StoredMapping, Vec<u8>)>,
    ) -> Result<(), JournalError> {
        let mut connection = self.lock();
        let stored = (|| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            let mut statement = transaction.prepare(
                "INSERT OR REPLACE INTO mappings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            for (mapping, bytes) in mappings {
                statement.execute(params![
                    run.0,
                    ordinal,
                    mapping.source_topic,
                    mapping.source_partition,
                    mapping.target_topic,
                    mapping.target_partition,
                    mapping.records as i64,
                    mapping.digest.hex(),
                    bytes
                ])?;
            }
            drop(statement);
            transaction.commit()
        })();
        stored.map_err(|error| self.unwritable(error))
    }

    /// The mappings of a run with the ordinals of their steps, by source topic and partition. None for a run of a kbr
    /// that kept none.
    pub fn mappings(&self, run: &RunId) -> Result<Vec<(u32, StoredMapping)>, JournalError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<(u32, StoredMapping, String)>> {
            let kept: i64 = connection.query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'mappings'",
                [],
                |row| row.get(0),
            )?;
            if kept == 0 {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare(
                "SELECT ordinal, source_topic, source_partition, target_topic, target_partition, records, digest
                 FROM mappings WHERE run = ?1
                 ORDER BY source_topic, source_partition, target_topic, target_partition, ordinal",
            )?;
            statement
                .query_map([&run.0], |row| {
                    let mapping = StoredMapping {
                        source_topic: row.get(1)?,
                        source_partition: row.get(2)?,
                        target_topic: row.get(3)?,
                        target_partition: row.get(4)?,
                        records: row.get::<_, i64>(5)?.unsigned_abs(),
                        digest: Digest([0; 32]),
                    };
                    Ok((row.get(0)?, mapping, row.get(6)?))
                })?
                .collect()
        };
        let rows = read().map_err(|error| self.unreadable(error))?;
        rows.into_iter()
            .map(|(ordinal, mapping, digest)| {
                let digest = Digest::from_hex(&digest)
                    .ok_or_else(|| self.unreadable("a mapping's digest is none"))?;
                Ok((ordinal, StoredMapping { digest, ..mapping }))
            })
            .collect()
    }

    /// The bytes of one of them.
    pub fn mapping_bytes(
        &self,
        run: &RunId,
        ordinal: u32,
        mapping: &StoredMapping,
    ) -> Result<Vec<u8>, JournalError> {
        let found: Option<Vec<u8>> = self
            .lock()
            .query_row(
                "SELECT bytes FROM mappings WHERE run = ?1 AND ordinal = ?2
                 AND source_topic = ?3 AND source_partition = ?4
                 AND target_topic = ?5 AND target_partition = ?6",
                params![
                    run.0,
                    ordinal,
                    mapping.source_topic,
                    mapping.source_partition,
                    mapping.target_topic,
                    mapping.target_partition
                ],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| self.unreadable(error))?;
        found.ok_or_else(|| self.unreadable("a mapping is gone"))
    }
}
