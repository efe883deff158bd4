//! A folder as a store, with what a process that died has left unfinished in it.
//!
//! object_store writes a new file as `NAME#N` before it gets its name, and hides such files. Half a segment of a killed
//! backup would then be found by nobody and stay for ever. Here they are listed, looked at and deleted like any other
//! object; reading one stays refused.

use super::upload::{self, Upload};
use crate::base::buffers;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result,
};
use std::io::{ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, fs, io};

#[derive(Debug)]
pub(super) struct Folder {
    inner: LocalFileSystem,
    root: Arc<PathBuf>,
    /// Large files go past the page cache.
    direct: bool,
}

impl Folder {
    pub(super) fn open(root: &std::path::Path) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        Ok(Self {
            inner,
            root: Arc::new(root.to_path_buf()),
            direct: upload::takes_direct_writes(root),
        })
    }
}

/// Whether object_store has named it so while it was written.
fn is_unfinished(name: &str) -> bool {
    let number = name.split_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn failed(path: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound {
            path: path.to_string(),
            source: error.into(),
        },
        _ => Error::Generic {
            store: "folder",
            source: error.into(),
        },
    }
}

fn meta(location: Path, found: &fs::Metadata) -> Result<ObjectMeta> {
    let modified = found
        .modified()
        .map_err(|error| failed(location.as_ref(), error))?;
    Ok(ObjectMeta {
        location,
        last_modified: modified.into(),
        size: found.len(),
        e_tag: None,
        version: None,
    })
}

/// Reads a range into a buffer that is used again: blocks come and go by the thousand.
fn into_kept_buffer(mut got: GetResult) -> GetResult {
    let range = got.range.clone();
    let Ok(length) = usize::try_from(range.end - range.start) else {
        return got;
    };
    if let GetResultPayload::File(mut file, path) = got.payload {
        let read = blocking(move || {
            let mut buffer = buffers::take(length);
            file.seek(io::SeekFrom::Start(range.start))
                .and_then(|_| file.take(length as u64).read_to_end(&mut buffer))
                .map_err(|error| failed(&path.display().to_string(), error))?;
            Ok(buffers::share(buffer))
        });
        got.payload = GetResultPayload::Stream(futures::stream::once(read).boxed());
    }
    got
}

/// Every unfinished file below `folder`, which lies in `root`. One that is finished meanwhile is none any more.
fn unfinished(root: &std::path::Path, folder: PathBuf) -> Vec<Result<ObjectMeta>> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                found.push(Err(failed(&folder.display().to_string(), error)));
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) if is_unfinished(&entry.file_name().to_string_lossy()) => {
                    let below = path
                        .strip_prefix(root)
                        .ok()
                        .and_then(|below| below.to_str());
                    let location = below.and_then(|below| Path::parse(below).ok());
                    found.extend(location.map(|location| meta(location, &metadata)));
                }
                _ => {}
            }
        }
    }
    found
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::JoinError { source })?
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        let (whole, direct) = (self.root.join(location.as_ref()), self.direct);
        blocking(move || Ok(Upload::new(inner, whole, direct) as Box<dyn MultipartUpload>)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !options.head || !is_unfinished(location.filename().unwrap_or_default()) {
            let ranged = options.range.is_some();
            let got = self.inner.get_opts(location, options).await?;
            return Ok(if ranged { into_kept_buffer(got) } else { got });
        }
        let (root, location) = (self.root.clone(), location.clone());
        let meta = blocking(move || {
            let found = fs::metadata(root.join(location.as_ref()));
            let found = found.map_err(|error| failed(location.as_ref(), error))?;
            meta(location, &found)
        })
        .await?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::empty().boxed()),
            range: 0..meta.size,
            meta,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let root = self.root.clone();
        let removed = locations.then(move |location| {
            let root = root.clone();
            async move {
                let location = location?;
                if !is_unfinished(location.filename().unwrap_or_default()) {
                    return Ok((location, false));
                }
                blocking(move || {
                    fs::remove_file(root.join(location.as_ref()))
                        .map_err(|error| failed(location.as_ref(), error))?;
                    Ok((location, true))
                })
                .await
            }
        });
        let inner = self.inner.clone();
        let finished = removed.then(move |removed| {
            let inner = inner.clone();
            async move {
                let (location, done) = removed?;
                if done {
                    return Ok(location);
                }
                let one = futures::stream::iter([Ok(location.clone())]).boxed();
                match inner.delete_stream(one).next().await {
                    Some(result) => result,
                    None => Ok(location),
                }
            }
        });
        finished.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = self.root.clone();
        let folder = match prefix {
            Some(prefix) => root.join(prefix.as_ref()),
            None => root.to_path_buf(),
        };
        let looking = blocking(move || Ok(unfinished(&root, folder)));
        let left = futures::stream::once(looking).flat_map(|found| match found {
            Ok(found) => futures::stream::iter(found),
            Err(error) => futures::stream::iter(vec![Err(error)]),
        });
        self.inner.list(prefix).chain(left).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
