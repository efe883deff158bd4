//! The local record of every execution: intent before effect, old values, outcome after.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// `20261121-0914-k7`: the minute it began (UTC) and two characters that make it unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be written: {why}")]
    Unwritable { path: String, why: String },
    #[error("the journal {path} cannot be read: {why}")]
    Unreadable { path: String, why: String },
    #[error("no run {run} in the journal {path}")]
    NoSuchRun {
        path: String,
        run: String,
        nearest: Option<String>,
    },
}

/// Where the chain of hashes does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainBreak {
    pub entry: i64,
    pub why: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct JournalledRun {
    pub run: RunId,
}

#[derive(Clone, Debug, Serialize)]
pub struct JournalledStep {
    pub ordinal: u32,
}

/// The last generation of an archive that this machine saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    pub archive_id: String,
    pub generation: u64,
    pub digest: crate::base::Digest,
}

pub struct Journal {
    pub path: PathBuf,
}

impl Journal {
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            path: path.to_path_buf(),
        })
    }
}
