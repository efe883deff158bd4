//! Faults for tests: the Nth operation on a store fails, hangs, waits, or is done without an answer.
//!
//! They sit under [`super::Store`], between it and the backend, so that its own handling of doubtful answers is
//! what the tests exercise. Every call to the backend is one operation; a streamed object is several.

use crate::base::CancellationToken;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What happens at the chosen operation (counted from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not done, and said so.
    Fail(u64),
    /// Not done, and so is everything after it: the process died there.
    Crash(u64),
    /// Done, then as [`Fault::Crash`]: the process died before it heard the answer.
    CrashAfter(u64),
    /// Done, but the answer is an error.
    DoneWithoutAnswer(u64),
    /// No answer ever comes, and nothing is done.
    Hang(u64),
    /// Waits before it is done, until [`Faults::release`].
    Pause(u64),
}

/// Counts operations and injects [`Fault`]s. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    count: Arc<AtomicU64>,
    paused: CancellationToken,
    released: CancellationToken,
    clock_ahead: Duration,
    refuse_syncs: bool,
}

enum Verdict {
    Pass,
    Refuse,
    DoThenRefuse,
    Never,
    Wait,
}

impl Faults {
    pub fn new(fault: Fault) -> Self {
        Self::several(&[fault])
    }

    /// Each at its own operation.
    pub fn several(faults: &[Fault]) -> Self {
        Self {
            faults: faults.to_vec(),
            ..Self::default()
        }
    }

    /// Only counts.
    pub fn none() -> Self {
        Self::default()
    }

    /// The store's clock is so much ahead of this machine's.
    pub fn clock_ahead(by: Duration) -> Self {
        Self {
            clock_ahead: by,
            ..Self::default()
        }
    }

    /// And no folder syncs where an answer was lost.
    pub fn and_no_sync(self) -> Self {
        Self {
            refuse_syncs: true,
            ..self
        }
    }

    pub(super) fn refused_sync(&self) -> Option<ErrorKind> {
        self.refuse_syncs.then_some(ErrorKind::StorageFull)
    }

    /// How many operations were asked for so far.
    pub fn operations(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub(super) fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Faulty {
            inner,
            faults: self.clone(),
        })
    }

    /// Waits until an operation is at its [`Fault::Pause`].
    pub async fn paused(&self) {
        self.paused.cancelled().await;
    }

    /// Lets the paused operation go on, and every later one.
    pub fn release(&self) {
        self.released.cancel();
    }

    fn next(&self) -> Verdict {
        let nth = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let verdicts = self.faults.iter().filter_map(|fault| fault.verdict(nth));
        // A process that is dead does nothing any more, whatever else was to happen there.
        let mut verdicts: Vec<Verdict> = verdicts.collect();
        let dead = verdicts
            .iter()
            .position(|one| matches!(one, Verdict::Refuse));
        match verdicts.len() {
            0 => Verdict::Pass,
            _ => verdicts.swap_remove(dead.unwrap_or(0)),
        }
    }

    async fn apply<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next() {
            Verdict::Pass => work.await,
            Verdict::Refuse => Err(injected()),
            Verdict::DoThenRefuse => {
                work.await?;
                Err(injected())
            }
            Verdict::Never => futures::future::pending().await,
            Verdict::Wait => {
                self.paused.cancel();
                self.released.cancelled().await;
                work.await
            }
        }
    }
}

impl Fault {
    /// What it does to the `nth` operation.
    fn verdict(self, nth: u64) -> Option<Verdict> {
        match self {
            Fault::Fail(n) if n == nth => Some(Verdict::Refuse),
            Fault::Crash(n) if nth >= n => Some(Verdict::Refuse),
            Fault::CrashAfter(n) if n == nth => Some(Verdict::DoThenRefuse),
            Fault::CrashAfter(n) if nth > n => Some(Verdict::Refuse),
            Fault::DoneWithoutAnswer(n) if n == nth => Some(Verdict::DoThenRefuse),
            Fault::Hang(n) if n == nth => Some(Verdict::Never),
            Fault::Pause(n) if n == nth => Some(Verdict::Wait),
            _ => None,
        }
    }
}

fn injected() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "injected fault".into(),
    }
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.faults
            .apply(self.inner.put_opts(location, payload, opts))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self
            .faults
            .apply(self.inner.put_multipart_opts(location, opts))
            .await?;
        Ok(Box::new(FaultyUpload {
            inner,
            faults: self.faults.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults
            .apply(self.inner.get_opts(location, options))
            .await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults
            .apply(self.inner.get_ranges(location, ranges))
            .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = self.inner.clone();
        let faults = self.faults.clone();
        locations
            .then(move |location| {
                let inner = inner.clone();
                let faults = faults.clone();
                async move {
                    let location = location?;
                    faults
                        .apply(async {
                            let one = futures::stream::iter([Ok(location.clone())]).boxed();
                            match inner.delete_stream(one).next().await {
                                Some(result) => result,
                                None => Ok(location.clone()),
                            }
                        })
                        .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let ahead = self.faults.clock_ahead;
        let listing = self.inner.list(prefix).map_ok(move |mut object| {
            object.last_modified += ahead;
            object
        });
        let listing = listing.boxed();
        let faults = self.faults.clone();
        futures::stream::once(async move { faults.apply(async { Ok(listing) }).await })
            .flat_map(|opened| match opened {
                Ok(listing) => listing,
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults
            .apply(self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults
            .apply(self.inner.copy_opts(from, to, options))
            .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.faults
            .apply(self.inner.rename_opts(from, to, options))
            .await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faults,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let faults = self.faults.clone();
        Box::pin(async move { faults.apply(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faults.apply(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.apply(self.inner.abort()).await
    }
}
