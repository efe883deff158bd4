//! [`Store`]: one place that holds objects, and the few operations on it.

use super::folder::Folder;
use super::writer::ObjectWriter;
use super::{Error, Faults, Result, StoreUrl};
use crate::base::{Digest, TimestampMs};
use bytes::Bytes;
use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long one operation on a store may take before its result counts as unknown.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// The largest object that is read whole (a manifest); larger ones are read in ranges.
pub const MAX_OBJECT: u64 = 1 << 30;

/// How much of a large object is read at a time when it is hashed.
const HASH_CHUNK: u64 = 4 << 20;

/// `memory:` stores live as long as the process and are shared by name.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> =
    LazyLock::new(|| Mutex::new(HashMap::new()));

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub path: String,
    pub size: u64,
    pub modified: TimestampMs,
}

/// A place that holds objects. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    url: StoreUrl,
    backend: Backend,
    deadline: Duration,
    faults: Option<Faults>,
}

enum Backend {
    /// The folder may not exist yet; reading an absent one finds nothing, and only a write creates it, so that
    /// planning leaves no trace.
    Folder {
        root: PathBuf,
        opened: OnceLock<Arc<dyn ObjectStore>>,
    },
    Memory(Arc<dyn ObjectStore>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner.url)
    }
}

impl Store {
    /// Opens a store. Touches nothing: an absent folder is created by the first write.
    pub async fn open(url: &StoreUrl) -> Result<Self> {
        let backend = match url {
            StoreUrl::File(path) => {
                let root = std::path::absolute(path).map_err(|source| Error::Folder {
                    op: "open",
                    path: path.display().to_string(),
                    source,
                })?;
                if root.exists() && !root.is_dir() {
                    return Err(Error::BadUrl {
                        url: url.to_string(),
                        why: "it is a file, not a folder".into(),
                    });
                }
                Backend::Folder {
                    root,
                    opened: OnceLock::new(),
                }
            }
            StoreUrl::Memory(name) => {
                let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
                Backend::Memory(stores.entry(name.clone()).or_default().clone())
            }
            StoreUrl::Cloud { scheme, .. } => {
                return Err(Error::Unsupported {
                    scheme: scheme.clone(),
                    url: url.to_string(),
                });
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                url: url.clone(),
                backend,
                deadline: DEFAULT_DEADLINE,
                faults: None,
            }),
        })
    }

    /// Parses and opens a URL.
    pub async fn open_text(url: &str) -> Result<Self> {
        Self::open(&StoreUrl::parse(url)?).await
    }

    /// The same store with faults injected under every operation. For tests.
    pub fn with_faults(&self, faults: Faults) -> Self {
        self.changed(self.inner.deadline, Some(faults))
    }

    /// The same store with another deadline for one operation.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        self.changed(deadline, self.inner.faults.clone())
    }

    fn changed(&self, deadline: Duration, faults: Option<Faults>) -> Self {
        let backend = match &self.inner.backend {
            Backend::Folder { root, opened } => Backend::Folder {
                root: root.clone(),
                opened: opened.clone(),
            },
            Backend::Memory(store) => Backend::Memory(store.clone()),
        };
        Self {
            inner: Arc::new(Inner {
                url: self.inner.url.clone(),
                backend,
                deadline,
                faults,
            }),
        }
    }

    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    /// The backend for reading; `None` while the folder does not exist.
    fn reading(&self) -> Result<Option<Arc<dyn ObjectStore>>> {
        match &self.inner.backend {
            Backend::Memory(store) => Ok(Some(self.faulty(store.clone()))),
            Backend::Folder { root, opened } => {
                if opened.get().is_none() && !root.is_dir() {
                    return Ok(None);
                }
                self.folder(root, opened)
                    .map(|store| Some(self.faulty(store)))
            }
        }
    }

    /// The backend for writing; creates the folder.
    pub(super) fn writing(&self) -> Result<Arc<dyn ObjectStore>> {
        match &self.inner.backend {
            Backend::Memory(store) => Ok(self.faulty(store.clone())),
            Backend::Folder { root, opened } => {
                if opened.get().is_none() {
                    create_folder(root).map_err(|source| Error::Folder {
                        op: "create folder",
                        path: root.display().to_string(),
                        source,
                    })?;
                }
                self.folder(root, opened).map(|store| self.faulty(store))
            }
        }
    }

    fn folder(
        &self,
        root: &Path,
        opened: &OnceLock<Arc<dyn ObjectStore>>,
    ) -> Result<Arc<dyn ObjectStore>> {
        if let Some(store) = opened.get() {
            return Ok(store.clone());
        }
        let store = Folder::open(root)
            .map_err(|source| Error::from_backend("open", &root.display().to_string(), source))?;
        Ok(opened.get_or_init(|| Arc::new(store)).clone())
    }

    fn faulty(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match &self.inner.faults {
            Some(faults) => faults.wrap(store),
            None => store,
        }
    }

    /// Runs one backend operation under the deadline.
    pub(super) async fn answer<T>(
        &self,
        op: &'static str,
        path: &str,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.inner.deadline, work).await {
            Ok(result) => result.map_err(|source| Error::from_backend(op, path, source)),
            Err(_) => Err(Error::Timeout {
                op,
                path: path.to_string(),
                after: self.inner.deadline,
            }),
        }
    }

    /// The whole object, at most [`MAX_OBJECT`] bytes. One request.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let place = object_path(path)?;
        let store = self.reading()?.ok_or_else(|| not_found(path))?;
        let reading = async {
            let object = store.get(&place).await?;
            match object.meta.size {
                // The body is not read yet: an object too large costs nothing.
                size if size > MAX_OBJECT => Ok(Err(size)),
                _ => object.bytes().await.map(Ok),
            }
        };
        self.answer("read", path, reading)
            .await?
            .map_err(|size| Error::TooLarge {
                path: path.to_string(),
                size,
                limit: MAX_OBJECT,
            })
    }

    /// Exactly the bytes of `range`; a range that goes past the object's end is an error.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let place = object_path(path)?;
        let store = self.reading()?.ok_or_else(|| not_found(path))?;
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        let result = self
            .answer("read", path, store.get_range(&place, range.clone()))
            .await;
        // Backends cut a range that goes past the end, or refuse it in words of their own.
        let short = match &result {
            Ok(bytes) => bytes.len() as u64 != range.end - range.start,
            Err(Error::Io { .. }) => true,
            Err(_) => false,
        };
        if short {
            let size = self.size(path).await?;
            if range.end > size {
                return Err(Error::Range {
                    path: path.to_string(),
                    start: range.start,
                    end: range.end,
                    size,
                });
            }
        }
        result
    }

    /// The object's size in bytes.
    pub async fn size(&self, path: &str) -> Result<u64> {
        let place = object_path(path)?;
        let store = self.reading()?.ok_or_else(|| not_found(path))?;
        Ok(self.answer("look at", path, store.head(&place)).await?.size)
    }

    /// Whether the object exists.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        match self.size(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a new object whole, or not at all. [`Error::Exists`] if there is one; if the answer is lost, the
    /// object is read back and compared, and the same bytes mean that it was done.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<()> {
        let place = object_path(path)?;
        let store = self.writing()?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let result = self
            .answer(
                "write",
                path,
                store.put_opts(&place, bytes.clone().into(), options),
            )
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_doubtful() => match self.get(path).await {
                Ok(found) if found == bytes => self.settle(path).await,
                Ok(_) => Err(Error::Exists {
                    path: path.to_string(),
                }),
                Err(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// What was read back may be in memory only: the answer that was missing may have been that a folder refused to
    /// sync. So a folder syncs every entry on the way to the object once more, and if it cannot, that is the answer.
    pub(super) async fn settle(&self, path: &str) -> Result<()> {
        let Backend::Folder { root, .. } = &self.inner.backend else {
            return Ok(());
        };
        let refused = self.inner.faults.as_ref().and_then(Faults::refused_sync);
        let (root, object) = (root.clone(), root.join(path));
        let synced = tokio::task::spawn_blocking(move || {
            for folder in object.ancestors().skip(1) {
                let synced = match refused {
                    Some(refused) => Err(refused.into()),
                    None => sync_folder(folder),
                };
                synced.map_err(|source| Error::Folder {
                    op: "sync folder",
                    path: folder.display().to_string(),
                    source,
                })?;
                if folder == root {
                    break;
                }
            }
            Ok(())
        });
        match synced.await {
            Ok(synced) => synced,
            Err(error) => Err(Error::Folder {
                op: "sync folder",
                path: path.to_string(),
                source: std::io::Error::other(error),
            }),
        }
    }

    /// Starts a new object that is written piece by piece and appears whole, under its name, at the end.
    pub async fn writer(&self) -> Result<ObjectWriter> {
        ObjectWriter::start(self.clone()).await
    }

    /// The BLAKE3 hash and size of an object, read in pieces.
    pub async fn digest(&self, path: &str) -> Result<(Digest, u64)> {
        let size = self.size(path).await?;
        let mut hasher = blake3::Hasher::new();
        let mut position = 0;
        while position < size {
            let end = size.min(position + HASH_CHUNK);
            hasher.update(&self.get_range(path, position..end).await?);
            position = end;
        }
        Ok((Digest(*hasher.finalize().as_bytes()), size))
    }

    /// Every object whose path starts with the folders of `prefix` (all, if it is empty), with its size, sorted.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let listed = self.list_objects(prefix).await?;
        Ok(listed
            .into_iter()
            .map(|object| (object.path, object.size))
            .collect())
    }

    /// As [`Store::list`], with the time of each object's last change by the store's own clock.
    pub async fn list_objects(&self, prefix: &str) -> Result<Vec<Listed>> {
        let Some(store) = self.reading()? else {
            return Ok(Vec::new());
        };
        let prefix = prefix.trim_end_matches('/');
        let place = if prefix.is_empty() {
            None
        } else {
            Some(object_path(prefix)?)
        };
        let mut listing = store.list(place.as_ref());
        let mut found = Vec::new();
        while let Some(object) = self
            .answer("list", prefix, async { listing.next().await.transpose() })
            .await?
        {
            found.push(Listed {
                path: object.location.to_string(),
                size: object.size,
                modified: TimestampMs(object.last_modified.timestamp_millis()),
            });
        }
        found.sort();
        Ok(found)
    }

    /// Deletes an object; one that is not there is [`Error::NotFound`].
    pub async fn delete(&self, path: &str) -> Result<()> {
        let place = object_path(path)?;
        // `memory:` deletes what is not there without a word; the answer must not depend on the backend.
        self.size(path).await?;
        let store = self.writing()?;
        self.answer("delete", path, store.delete(&place)).await
    }
}

fn not_found(path: &str) -> Error {
    Error::NotFound {
        path: path.to_string(),
    }
}

/// Refuses `..`, empty parts and everything else that would leave the store.
pub(super) fn object_path(path: &str) -> Result<ObjectPath> {
    let bad = |why: String| Error::BadPath {
        path: path.to_string(),
        why,
    };
    if path.is_empty() || path.starts_with('/') || path.ends_with('/') {
        return Err(bad("it must name an object below the store".into()));
    }
    ObjectPath::parse(path).map_err(|error| bad(error.to_string()))
}

/// Creates a folder and syncs every one that got a new entry by it, so that all of them outlive a power cut.
fn create_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let changed = changed_by_creating(folder);
    std::fs::create_dir_all(folder)?;
    changed.into_iter().try_for_each(sync_folder)
}

/// The folders that get a new entry, the innermost first: all that do not exist yet, and the first one that does.
fn changed_by_creating(folder: &Path) -> Vec<&Path> {
    let mut changed = Vec::new();
    for ancestor in folder.ancestors().skip(1) {
        changed.push(ancestor);
        if ancestor.is_dir() {
            break;
        }
    }
    changed
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened, and its entries are the system's to keep.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_a_new_entry_is_synced() {
        let there = tempfile::tempdir().unwrap();
        let there = there.path();
        let (a, b) = (there.join("a"), there.join("a/b"));
        let c = there.join("a/b/c");
        assert_eq!(changed_by_creating(&c), [&*b, &*a, there]);
        std::fs::create_dir(&a).unwrap();
        assert_eq!(changed_by_creating(&c), [&*b, &*a]);
        create_folder(&c).unwrap();
        assert!(c.is_dir());
    }
}
