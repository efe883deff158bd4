//! What can go wrong with a store: always with the operation and the object's path.

use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a store: {url:?}: {why}")]
    BadUrl { url: String, why: String },

    #[error("{url}: {scheme}: stores are not in this version of kbr (file: and memory: are)")]
    Unsupported { scheme: String, url: String },

    #[error("{path:?} is no valid object path: {why}")]
    BadPath { path: String, why: String },

    #[error("{path} does not exist")]
    NotFound { path: String },

    /// Objects are write-once: somebody else's bytes are under this path.
    #[error("{path} exists already and is never overwritten")]
    Exists { path: String },

    #[error("{path} is {size} bytes, so bytes {start}..{end} cannot be read from it")]
    Range {
        path: String,
        start: u64,
        end: u64,
        size: u64,
    },

    #[error("{path} is {size} bytes, more than the {limit} that kbr reads at once")]
    TooLarge { path: String, size: u64, limit: u64 },

    #[error("{op} {path}: no answer after {} s", after.as_secs_f32())]
    Timeout {
        op: &'static str,
        path: String,
        after: Duration,
    },

    #[error("{op} {path}: {source}")]
    Io {
        op: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },

    #[error("{op} {path}: {source}")]
    Folder {
        op: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    /// Whether the operation may have been done although it was not confirmed.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Error::Timeout { .. } | Error::Io { .. })
    }

    pub(super) fn from_backend(op: &'static str, path: &str, source: object_store::Error) -> Self {
        let path = path.to_string();
        match source {
            object_store::Error::NotFound { .. } => Error::NotFound { path },
            object_store::Error::AlreadyExists { .. } => Error::Exists { path },
            source => Error::Io { op, path, source },
        }
    }
}
