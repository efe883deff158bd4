//! A large file of a folder, part by part.
//!
//! On the file systems of local disks it goes to the disk at once and past the page cache (O_DIRECT). What waits in the
//! cache would all have to be written in the sync at the end, and an archive of a terabyte would push out of it whatever
//! the machine needs; and copying into it costs more than writing from it. Elsewhere the cache is used, and the kernel is
//! told to begin writing while the file grows.

use super::folder::blocking;
use crate::base::buffers;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many bytes are handed to the disk at once where the page cache is used.
const WRITE_BACK: u64 = 8 << 20;
/// Positions, lengths and addresses of direct writes are multiples of this, which every disk of today takes.
const ALIGN: usize = 4096;
/// Bytes of one direct write, a multiple of [`ALIGN`].
const AT_ONCE: usize = (1 << 20) - ALIGN;

pub(super) struct Upload {
    inner: Box<dyn MultipartUpload>,
    /// Where object_store keeps the file until it is whole.
    unfinished: Arc<PathBuf>,
    /// And where it is then.
    whole: PathBuf,
    /// Bytes of the parts so far.
    written: u64,
    direct: Option<Direct>,
}

/// The file once more, opened for writing past the page cache.
struct Direct {
    file: Arc<DirectFile>,
    /// Where `rest` belongs.
    position: u64,
    /// What does not fill a block yet.
    rest: Vec<u8>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload of {}", self.unfinished.display())
    }
}

impl Upload {
    /// `inner` has begun to make the file `whole`. Blocks.
    pub(super) fn new(inner: Box<dyn MultipartUpload>, whole: PathBuf, direct: bool) -> Box<Self> {
        let numbered = |number| PathBuf::from(format!("{}#{number}", whole.display()));
        let unfinished = numbered(1);
        // Its first choice of a name: with a second one there it may be the other.
        let opened = match direct && !numbered(2).exists() {
            true => DirectFile::open(&unfinished).ok(),
            false => None,
        };
        Box::new(Self {
            inner,
            unfinished: Arc::new(unfinished),
            whole,
            written: 0,
            direct: opened.map(|file| Direct {
                file: Arc::new(file),
                position: 0,
                rest: Vec::new(),
            }),
        })
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let from = self.written / WRITE_BACK * WRITE_BACK;
        self.written += data.content_length() as u64;
        if let Some(direct) = &mut self.direct {
            return direct.put_part(data);
        }
        let part = self.inner.put_part(data);
        let to = self.written / WRITE_BACK * WRITE_BACK;
        if to == from {
            return part;
        }
        let unfinished = self.unfinished.clone();
        Box::pin(async move {
            part.await?;
            blocking(move || {
                begin_write_back(&unfinished, from, to - from);
                Ok(())
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if let Some(direct) = self.direct.take() {
            let unfinished = self.unfinished.clone();
            blocking(move || {
                let file = OpenOptions::new().write(true).open(&*unfinished);
                let written =
                    file.and_then(|file| write_all_at(&file, &direct.rest, direct.position));
                written.map_err(not_written)
            })
            .await?;
        }
        // Syncs the whole file, by whichever way its bytes have come.
        let done = self.inner.complete().await?;
        // Under another's unfinished file of the same name, object_store would have kept this one elsewhere.
        let (whole, written) = (self.whole.clone(), self.written);
        blocking(move || {
            let found = std::fs::metadata(&whole).map_err(not_written)?.len();
            match found == written {
                true => Ok(done),
                false => Err(not_written(io::Error::other(format!(
                    "{} is {found} bytes, and {written} were written",
                    whole.display()
                )))),
            }
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.direct = None;
        self.inner.abort().await
    }
}

impl Direct {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let rest = std::mem::take(&mut self.rest);
        let length = rest.len() + data.content_length();
        let whole = length - length % ALIGN;
        let mut slices = vec![Bytes::from(rest)];
        slices.extend(data);
        let mut left = whole;
        for slice in &mut slices {
            let (now, later) = (left.min(slice.len()), slice.len());
            self.rest.extend_from_slice(&slice[now..later]);
            slice.truncate(now);
            left -= now;
        }
        let (file, position) = (self.file.clone(), self.position);
        self.position += whole as u64;
        Box::pin(blocking(move || {
            // The address has to be aligned too.
            let mut buffer = buffers::take(whole.min(AT_ONCE) + ALIGN);
            let begin = buffer.as_ptr().align_offset(ALIGN);
            buffer.resize(begin, 0);
            let mut written = Ok(());
            let mut at = position;
            for slice in slices {
                let mut rest = &slice[..];
                while !rest.is_empty() && written.is_ok() {
                    let room = AT_ONCE - (buffer.len() - begin);
                    let (now, later) = rest.split_at(room.min(rest.len()));
                    buffer.extend_from_slice(now);
                    rest = later;
                    if buffer.len() - begin == AT_ONCE {
                        written = file.write(&buffer[begin..], at);
                        at += AT_ONCE as u64;
                        buffer.truncate(begin);
                    }
                }
            }
            if written.is_ok() {
                written = file.write(&buffer[begin..], at);
            }
            // Its memory serves the next one.
            drop(buffers::share(buffer));
            written.map_err(not_written)
        }))
    }
}

fn not_written(source: io::Error) -> Error {
    Error::Generic {
        store: "folder",
        source: source.into(),
    }
}

struct DirectFile {
    path: PathBuf,
    file: File,
    /// The disk wants larger blocks after all.
    refused: AtomicBool,
}

impl DirectFile {
    /// One write; by way of the page cache if the disk refuses this one.
    fn write(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if !self.refused.load(Ordering::Relaxed) {
            match write_all_at(&self.file, bytes, position) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        write_all_at(&file, bytes, position)
    }
}

#[cfg(target_os = "linux")]
impl DirectFile {
    fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::DIRECT.bits();
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(flags as i32)
            .open(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            refused: AtomicBool::new(false),
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl DirectFile {
    fn open(_path: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(not(unix))]
fn write_all_at(mut file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(position))?;
    file.write_all(bytes)
}

/// Whether the folder lies on a file system of which it is known that direct writes serve it well: ext2 to ext4, XFS,
/// btrfs (magic numbers of statfs(2)). Files in memory gain nothing, and those of a network have rules of their own.
#[cfg(target_os = "linux")]
pub(super) fn takes_direct_writes(folder: &Path) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    let found = rustix::fs::statfs(folder);
    found.is_ok_and(|found| [EXT, XFS, BTRFS].contains(&(found.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn takes_direct_writes(_folder: &Path) -> bool {
    false
}

/// A hint that changes no byte, so that it does not matter if it fails or meets another's unfinished file.
#[cfg(target_os = "linux")]
fn begin_write_back(path: &Path, from: u64, length: u64) {
    use rustix::fs::{Advice, fadvise};
    if let Ok(file) = File::open(path) {
        // Linux starts writing dirty pages when told that they are not needed, and waits for none.
        let length = std::num::NonZeroU64::new(length);
        let _ = fadvise(&file, from, length, Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
fn begin_write_back(_path: &Path, _from: u64, _length: u64) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreUrl};

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_file_is_the_same_whatever_its_parts_and_whichever_way_they_take() {
        let disk = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(!takes_direct_writes(memory.path()));
        let large = bytes(9 << 20);
        for folder in [&disk, &memory] {
            let url = StoreUrl::parse(&format!("file:{}", folder.path().display())).unwrap();
            let store = Store::open(&url).await.unwrap();
            for (number, lengths) in [
                vec![0],
                vec![1],
                vec![ALIGN],
                vec![ALIGN + 1, 1 << 20, 5],
                vec![1 << 20, (1 << 20) + 1, 3 << 20, 4095, (2 << 20) - 1],
                vec![9 << 20],
            ]
            .into_iter()
            .enumerate()
            {
                let mut writer = store.writer().await.unwrap();
                let mut at = 0;
                for length in lengths {
                    writer.write(large.slice(at..at + length)).await.unwrap();
                    at += length;
                }
                let path = format!("o/{number}");
                assert_eq!(writer.finish(&path).await.unwrap().size, at as u64);
                let found = store.get(&path).await.unwrap();
                assert!(found == large[..at], "{number} in {folder:?}");
            }
        }
    }

    #[test]
    fn a_write_that_the_disk_refuses_goes_by_the_page_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap();
        // No file system takes it at such a position.
        let file = DirectFile::open(&path).unwrap();
        file.write(b"bytes", 3).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0bytes");
    }

    #[tokio::test]
    async fn anothers_unfinished_file_of_the_same_name_is_left_alone() {
        use object_store::ObjectStoreExt;
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("o#1");
        std::fs::write(&other, b"another's").unwrap();
        let store = crate::store::folder::Folder::open(folder.path()).unwrap();
        let mut upload = store.put_multipart(&"o".into()).await.unwrap();
        let large = bytes(3 << 20);
        upload.put_part(large.clone().into()).await.unwrap();
        upload.complete().await.unwrap();
        assert!(std::fs::read(folder.path().join("o")).unwrap() == large);
        assert_eq!(std::fs::read(&other).unwrap(), b"another's");
    }
}
