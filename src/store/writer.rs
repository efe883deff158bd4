//! A large object written piece by piece.
//!
//! The pieces go to a staging object; only the finished whole is put under its final name, and only if that name is
//! free. A crash leaves a staging object that nothing refers to, never half an object under a real name. The name
//! is chosen at the end, because a segment is named after its first offset.

use super::open::object_path;
use super::{Error, Result, Store};
use crate::base::Digest;
use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Pieces are gathered to at least this size before they are sent. A folder takes any size; what is not gathered
/// needs no memory.
pub const PART_SIZE: usize = 1 << 20;

/// How many parts may be on their way at once: one is written while the next is gathered.
const PARTS_IN_FLIGHT: usize = 1;

/// Where unfinished objects live.
const STAGING: &str = "staging";

/// What was written under the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub size: u64,
    pub digest: Digest,
}

/// See [`Store::writer`]. Dropping it leaves nothing under a final name.
pub struct ObjectWriter {
    store: Store,
    backend: Arc<dyn ObjectStore>,
    staging: String,
    staging_place: ObjectPath,
    upload: Box<dyn MultipartUpload>,
    in_flight: JoinSet<object_store::Result<()>>,
    gathered: Vec<Bytes>,
    gathered_size: usize,
    size: u64,
    hasher: blake3::Hasher,
}

impl ObjectWriter {
    pub(super) async fn start(store: Store) -> Result<Self> {
        let backend = store.writing()?;
        let staging = format!("{STAGING}/{}", uuid::Uuid::new_v4());
        let staging_place = object_path(&staging)?;
        let upload = store
            .answer("start", &staging, backend.put_multipart(&staging_place))
            .await?;
        Ok(Self {
            store,
            backend,
            staging,
            staging_place,
            upload,
            in_flight: JoinSet::new(),
            gathered: Vec::new(),
            gathered_size: 0,
            size: 0,
            hasher: blake3::Hasher::new(),
        })
    }

    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes; waits while too many parts are on their way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.hasher.update(&bytes);
        self.size += bytes.len() as u64;
        self.gathered_size += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_size >= PART_SIZE {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.landed().await?;
        }
        let part: PutPayload = std::mem::take(&mut self.gathered).into_iter().collect();
        self.gathered_size = 0;
        self.in_flight.spawn(self.upload.put_part(part));
        Ok(())
    }

    /// Waits for one part.
    async fn landed(&mut self) -> Result<()> {
        let in_flight = &mut self.in_flight;
        self.store
            .answer("write a part of", &self.staging, async {
                match in_flight.join_next().await {
                    Some(Ok(result)) => result,
                    Some(Err(source)) => Err(object_store::Error::JoinError { source }),
                    None => Ok(()),
                }
            })
            .await
    }

    /// Puts the whole under its final name. [`Error::Exists`] if that is taken by other bytes.
    pub async fn finish(mut self, path: &str) -> Result<Written> {
        let place = object_path(path)?;
        if self.gathered_size > 0 || self.size == 0 {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.landed().await?;
        }
        let written = Written {
            size: self.size,
            digest: Digest(*self.hasher.finalize().as_bytes()),
        };
        let completed = self
            .store
            .answer("finish", &self.staging, self.upload.complete())
            .await;
        if let Err(error) = completed {
            // The upload may be whole although the answer was lost.
            if !error.is_doubtful() || !holds(&self.store, &self.staging, &written).await {
                return Err(error);
            }
            self.store.settle(&self.staging).await?;
        }
        let named = self
            .store
            .answer(
                "write",
                path,
                self.backend.copy_if_not_exists(&self.staging_place, &place),
            )
            .await;
        if let Err(error) = named {
            if !error.is_doubtful() || !holds(&self.store, path, &written).await {
                return Err(error);
            }
            self.store.settle(path).await?;
        }
        // A staging object that stays behind costs space and nothing else.
        if let Err(error) = self
            .store
            .answer(
                "delete",
                &self.staging,
                self.backend.delete(&self.staging_place),
            )
            .await
        {
            tracing::debug!(%error, "a staging object stays behind");
        }
        Ok(written)
    }

    /// Gives the object up and removes what was staged.
    pub async fn abort(mut self) -> Result<()> {
        self.in_flight.shutdown().await;
        self.store
            .answer("abandon", &self.staging, self.upload.abort())
            .await
            .or_else(|error| match error {
                Error::NotFound { .. } => Ok(()),
                error => Err(error),
            })
    }
}

/// Whether an object is what was written. No method: the upload is `Send` and not `Sync`, and the writer must be able
/// to live in a task.
async fn holds(store: &Store, path: &str, written: &Written) -> bool {
    matches!(
        store.digest(path).await,
        Ok((digest, size)) if digest == written.digest && size == written.size
    )
}
