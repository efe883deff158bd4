//! The second half of a check: every segment object, several at once.

use super::block::{Workspace, check_block_in};
use super::chain::Chain;
use super::{Depth, Listed, VerifyOptions, VerifyReport};
use crate::archive::index_reader::{
    LoadedIndex, check_agreement, holding, lost, read_index, size_damage, unreadable,
};
use crate::archive::segment::{BlockCodec, BlockEntry, HEADER_LEN, decode_header};
use crate::archive::{Archive, Damage, DamageKind, Error, Held, Result};
use crate::base::{Digest, Progress};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::ops::Range;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Segments whose indexes are read at once.
const TOGETHER_QUICK: usize = 16;
/// Segments that are read through at once: enough to keep the processors busy while others wait for the store.
const TOGETHER_DEEP: usize = 4;
/// Blocks of one segment on their way while one is checked.
const READ_AHEAD: usize = 2;
/// Bytes of blocks in memory at once. A single block above it is read alone.
const BUDGET: u64 = 48 << 20;
/// What one permit of the budget stands for.
const PERMIT: u64 = 1 << 10;

/// What was found in one segment.
#[derive(Default)]
struct Findings {
    damages: Vec<Damage>,
    blocks: u64,
    batches: u64,
    records: u64,
}

struct Checker<'a> {
    archive: &'a Archive,
    options: &'a VerifyOptions,
    progress: &'a dyn Progress,
    present: &'a BTreeMap<String, u64>,
    memory: Semaphore,
}

/// Checks every segment that the chain names.
pub(super) async fn check(
    archive: &Archive,
    options: &VerifyOptions,
    progress: &dyn Progress,
    chain: &Chain,
    present: &BTreeMap<String, u64>,
    report: &mut VerifyReport,
) -> Result<()> {
    let bytes = chain.segments.values().map(|listed| listed.segment.size);
    let records = chain
        .segments
        .values()
        .flat_map(|listed| listed.streams.values())
        .map(|listed| listed.segment.records);
    progress.total(records.sum(), bytes.sum());
    let checker = Checker {
        archive,
        options,
        progress,
        present,
        memory: Semaphore::new((BUDGET / PERMIT) as usize),
    };
    let together = match options.depth {
        Depth::Quick => TOGETHER_QUICK,
        Depth::Deep => TOGETHER_DEEP,
    };
    let mut results = futures::stream::iter(chain.segments.values())
        .map(async |listed| {
            if options.cancel.is_cancelled() {
                return Ok(None);
            }
            checker.segment(listed).await
        })
        .buffer_unordered(together);
    let total = chain.segments.len();
    while let Some(result) = results.next().await {
        let Some(findings) = result? else {
            report.interrupted = true;
            continue;
        };
        report.segments += 1;
        report.blocks += findings.blocks;
        report.batches += findings.batches;
        report.records += findings.records;
        report.damages.extend(findings.damages);
        progress.doing(&format!("{} of {total} segments", report.segments));
    }
    drop(results);
    report.bytes = chain.segments.values().map(|l| l.segment.size).sum();
    Ok(())
}

impl Checker<'_> {
    /// One segment; `None` if the check was cancelled in it.
    async fn segment(&self, listed: &Listed) -> Result<Option<Findings>> {
        let mut findings = Findings::default();
        match self.through(listed, &mut findings).await {
            Ok(()) if self.options.cancel.is_cancelled() => Ok(None),
            Ok(()) => Ok(Some(findings)),
            Err(Error::Damaged(damage)) => {
                findings.damages.push(*damage);
                Ok(Some(findings))
            }
            Err(error) => Err(error),
        }
    }

    /// Damage that ends the segment's check is the error; other damage is in the findings.
    async fn through(&self, listed: &Listed, findings: &mut Findings) -> Result<()> {
        let segment = &listed.segment;
        match self.present.get(&segment.path) {
            None => {
                let damage = Damage::new(&segment.path, DamageKind::Missing);
                return Err(listed.damaged(damage).into());
            }
            Some(size) if *size != segment.size => {
                return Err(listed.damaged(size_damage(segment, *size)).into());
            }
            Some(_) => {}
        }
        let index = match read_index(self.archive.store(), segment).await {
            Ok(index) => index,
            Err(Error::Damaged(damage)) => return Err(listed.damaged(*damage).into()),
            Err(error) => return Err(error),
        };
        for stream in listed.streams.values() {
            if let Err(kind) = check_agreement(&index, &stream.segment, &stream.stream) {
                let error = Damage::new(&segment.path, kind).into();
                if let Error::Damaged(damage) = holding(error, &stream.segment, &stream.stream) {
                    findings.damages.push(*damage);
                }
                continue;
            }
            findings.blocks += index.blocks_of(&stream.stream).count() as u64;
            findings.records += stream.segment.records;
        }
        match self.options.depth {
            Depth::Quick => {
                self.progress.advance(findings.records, segment.size);
                Ok(())
            }
            Depth::Deep => self.deep(listed, &index, findings).await,
        }
    }

    /// Reads the whole segment once, in order: its hash and every block.
    async fn deep(
        &self,
        listed: &Listed,
        index: &LoadedIndex,
        findings: &mut Findings,
    ) -> Result<()> {
        let segment = &listed.segment;
        let header = self.read(listed, 0..HEADER_LEN as u64).await?;
        let owner = decode_header(&header).map_err(|error| match unreadable(segment, error) {
            Error::Damaged(damage) => listed.damaged(*damage).into(),
            error => error,
        })?;
        if owner != self.archive.archive_id() {
            let kind = DamageKind::Swapped(format!("it belongs to archive {owner}"));
            return Err(listed.damaged(Damage::new(&segment.path, kind)).into());
        }
        let mut workspace = Workspace::default();
        workspace.hasher.update(&header);
        let mut blocks = futures::stream::iter(index.blocks())
            .map(async |block| {
                let room = self.room_for(block).await?;
                let end = block.position + u64::from(block.stored_len);
                let stored = self.read(listed, block.position..end).await?;
                Ok::<_, Error>((*block, stored, room))
            })
            .buffered(READ_AHEAD);
        let mut end = HEADER_LEN as u64;
        let mut any_block = false;
        while let Some(read) = blocks.next().await {
            if self.options.cancel.is_cancelled() {
                return Ok(());
            }
            let (block, stored, room) = read?;
            end = block.position + u64::from(block.stored_len);
            let checked;
            (workspace, checked) = off_reactor(workspace, block, stored).await?;
            drop(room);
            match checked {
                Ok(batches) => findings.batches += batches,
                Err(kind) => {
                    any_block = true;
                    let stream = index.stream(&block);
                    let damage = Damage::new(&segment.path, kind).holding(Held {
                        topic: stream.topic.clone(),
                        partition: stream.partition,
                        first: block.first,
                        last: block.last,
                    });
                    findings.damages.push(damage);
                }
            }
            self.progress
                .advance(block.records, u64::from(block.stored_len));
        }
        workspace
            .hasher
            .update(&self.read(listed, end..segment.size).await?);
        let found = Digest(*workspace.hasher.finalize().as_bytes());
        // A broken block is named already, and better than by the hash of everything.
        if found != segment.digest && !any_block {
            let kind = DamageKind::Hash {
                expected: segment.digest.hex(),
                found: found.hex(),
            };
            return Err(listed.damaged(Damage::new(&segment.path, kind)).into());
        }
        Ok(())
    }

    /// Waits until there is memory for a block and what comes out of it.
    async fn room_for(&self, block: &BlockEntry) -> Result<SemaphorePermit<'_>> {
        let raw = match block.codec {
            BlockCodec::None => 0,
            BlockCodec::Zstd | BlockCodec::Lz4 => u64::from(block.raw_len),
        };
        let bytes = (u64::from(block.stored_len) + raw).min(BUDGET);
        let permits = (bytes / PERMIT).max(1) as u32;
        self.memory
            .acquire_many(permits)
            .await
            .map_err(|error| Error::Task {
                op: "checking a block",
                why: error.to_string(),
            })
    }

    async fn read(&self, listed: &Listed, range: Range<u64>) -> Result<Bytes> {
        let segment = &listed.segment;
        let store = self.archive.store();
        store
            .get_range(&segment.path, range)
            .await
            .map_err(|error| match lost(&error, segment) {
                Some(kind) => listed.damaged(Damage::new(&segment.path, kind)).into(),
                None => error.into(),
            })
    }
}

/// Hashes and checks a block on a thread of its own.
async fn off_reactor(
    mut workspace: Workspace,
    block: BlockEntry,
    stored: Bytes,
) -> Result<(Workspace, Result<u64, DamageKind>)> {
    tokio::task::spawn_blocking(move || {
        workspace.hasher.update(&stored);
        let checked = check_block_in(&block, &stored, &mut workspace);
        (workspace, checked)
    })
    .await
    .map_err(|error| Error::Task {
        op: "checking a block",
        why: error.to_string(),
    })
}
