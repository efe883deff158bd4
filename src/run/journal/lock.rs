//! One process at a time works on a run: a lock beside the journal that ends with the process, however it ends.

use super::{Journal, JournalError, RunId};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Held while a run is executed or resumed; given back when dropped.
#[derive(Debug)]
pub struct RunLock(Option<(PathBuf, File)>);

impl Journal {
    /// Takes the lock of a run; `None`: another process works on it. A journal in memory belongs to its process, and
    /// so do its runs.
    pub fn lock_run(&self, run: &RunId) -> Result<Option<RunLock>, JournalError> {
        if self.path == Path::new(super::IN_MEMORY) {
            return Ok(Some(RunLock(None)));
        }
        let folder = self.path.with_file_name("runs");
        let path = folder.join(format!("{run}.lock"));
        let unwritable = |error: std::io::Error| JournalError::Unwritable {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RunLock(Some((path, file))))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unwritable(error)),
        }
    }
}

impl RunLock {
    /// The run has ended for good, so nobody needs the file any more. Whoever has opened it meanwhile takes the lock of
    /// a file without a name, and then reads in the journal that there is nothing to do.
    pub fn remove(self) {
        if let Some((path, _file)) = &self.0 {
            // One that stays is in nobody's way.
            let _ = std::fs::remove_file(path);
        }
    }
}
