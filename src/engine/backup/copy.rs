//! Puts fetched chunks into the archive: one task per large partition, and one for all small ones.
//!
//! A chunk is one partition's part of one fetch response. Checksums, gaps and writing happen here, away from the loop
//! that fetches, so that the network does not wait for compression or for the store.

use super::corrupt::{self, Corrupt};
use super::walk::{Piece, Walk, Walked};
use crate::archive::{self, PackWriter, RunWriter, SegmentRef, SegmentWriter, Stream};
use crate::base::{Offset, PartitionId};
use crate::kafka::{Aborted, Client};
use crate::record;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A segment is finished and the next one begun once it holds this many bytes.
const SEGMENT_TARGET: u64 = 1 << 30;
const PACK_TARGET: u64 = 64 << 20;

/// One partition's part of one fetch response.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// The offset that was asked for: what lies before it came with the chunks before.
    pub asked: Offset,
    /// The log start had moved to here before the response; what lies before it is lost.
    pub log_start: Option<Offset>,
    pub records: Bytes,
    pub aborted: Vec<Aborted>,
}

/// A partition that was read as far as it could be.
#[derive(Debug)]
pub(super) struct Copied {
    pub index: usize,
    pub walk: Walk,
    pub segments: Vec<SegmentRef>,
    pub records: u64,
    pub bytes: u64,
    pub leader_epoch: Option<i32>,
    /// Batches that were kept out.
    pub corrupt: Vec<Corrupt>,
    pub broken: Option<(Offset, record::Error)>,
}

/// What the tasks tell the fetching loop.
#[derive(Debug)]
pub(super) enum Event {
    /// A chunk of the partition is out of memory.
    Consumed {
        index: usize,
        records: u64,
        bytes: u64,
    },
    Finished(Box<Copied>),
    /// The archive cannot be written: that ends the whole run.
    Failed(archive::Error),
}

/// A partition's place in the work, its name and where it begins and ends.
#[derive(Debug)]
pub(super) struct Job {
    pub index: usize,
    pub stream: Stream,
    pub walk: Walk,
}

impl Job {
    fn started(self) -> (Stream, Copied) {
        let copied = Copied {
            index: self.index,
            walk: self.walk,
            segments: Vec::new(),
            records: 0,
            bytes: 0,
            leader_epoch: None,
            corrupt: Vec::new(),
            broken: None,
        };
        (self.stream, copied)
    }
}

impl Copied {
    /// Walks over a chunk and says which of its bytes to keep. The chunk is another one afterwards if a second look
    /// mended some of it.
    async fn take(&mut self, chunk: &mut Chunk, stream: &Stream, client: &Client) -> Walked {
        if let Some(log_start) = chunk.log_start {
            self.walk.lost_to_retention(log_start);
        }
        if self.walk.position() < chunk.asked {
            // A batch that a second look mended ends before where it first said: what lies between was not read.
            let skipped = record::Error::BadOffset {
                what: "the next offset that was asked for,",
                at: 0,
                value: chunk.asked.0,
            };
            self.broken = Some((self.walk.position(), skipped));
            return Walked::default();
        }
        let before = self.walk.clone();
        let mut walked = self.walk.response(&chunk.records, &chunk.aborted);
        if !walked.corrupt.is_empty()
            && let Some(mended) = corrupt::look_again(client, stream, chunk, &walked.corrupt).await
        {
            *chunk = mended;
            self.walk = before;
            walked = self.walk.response(&chunk.records, &chunk.aborted);
        }
        self.records += walked.records;
        self.bytes += walked.bytes;
        self.leader_epoch = walked.leader_epoch.or(self.leader_epoch);
        self.corrupt.append(&mut walked.corrupt);
        self.broken = walked.broken.take();
        walked
    }
}

/// Copies one partition into segments of its own, chunk by chunk, until there are no more.
pub(super) async fn segments(
    job: Job,
    mut chunks: mpsc::Receiver<Chunk>,
    client: Client,
    writer: Arc<RunWriter>,
    events: mpsc::Sender<Event>,
) {
    let (stream, mut copied) = job.started();
    let done = {
        let to = (&client, &*writer, &events);
        copy_segments(&stream, &mut copied, &mut chunks, to).await
    };
    // The writer must be free before the loop hears of the end: it commits with it.
    drop(writer);
    tell(&events, done.map(|()| copied)).await;
}

/// Runs a copying task and tells the loop should it panic, which would otherwise wait for it for ever.
pub(super) async fn watched<T: Default + Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
    events: mpsc::Sender<Event>,
) -> T {
    match tokio::spawn(task).await {
        Ok(done) => done,
        Err(error) => {
            let failed = archive::Error::Task {
                op: "writing to the archive",
                why: error.to_string(),
            };
            tell(&events, Err(failed)).await;
            T::default()
        }
    }
}

async fn tell(events: &mpsc::Sender<Event>, done: archive::Result<Copied>) {
    let event = match done {
        Ok(copied) => Event::Finished(Box::new(copied)),
        Err(error) => Event::Failed(error),
    };
    // Without a listener the run is over and nothing of it counts.
    let _ = events.send(event).await;
}

async fn copy_segments(
    stream: &Stream,
    copied: &mut Copied,
    chunks: &mut mpsc::Receiver<Chunk>,
    (client, writer, events): (&Client, &RunWriter, &mpsc::Sender<Event>),
) -> archive::Result<()> {
    let mut segment: Option<SegmentWriter> = None;
    while let Some(mut chunk) = chunks.recv().await {
        let walked = copied.take(&mut chunk, stream, client).await;
        for piece in &walked.pieces {
            let open = match &mut segment {
                Some(open) => open,
                None => segment.insert(
                    writer
                        .segment_writer(&stream.topic, stream.topic_id, stream.partition)
                        .await?,
                ),
            };
            append_to_segment(open, &chunk.records, piece).await?;
        }
        drop(chunk);
        if let Some(full) = segment.take_if(|open| open.size() >= SEGMENT_TARGET) {
            copied.segments.extend(full.finish().await?);
        }
        let consumed = Event::Consumed {
            index: copied.index,
            records: walked.records,
            bytes: walked.bytes,
        };
        if events.send(consumed).await.is_err() || copied.broken.is_some() {
            break;
        }
    }
    if let Some(last) = segment {
        copied.segments.extend(last.finish().await?);
    }
    Ok(())
}

async fn append_to_segment(
    segment: &mut SegmentWriter,
    records: &Bytes,
    piece: &Piece,
) -> archive::Result<()> {
    match piece {
        Piece::Whole(range) => segment.append(records.slice(range.clone())).await,
        Piece::Cut {
            bytes,
            within,
            records: count,
        } => {
            let batch = records.slice(bytes.clone());
            segment.append_within(batch, within.clone(), *count).await
        }
    }
}

/// A small partition with all its chunks.
#[derive(Debug)]
pub(super) struct Small {
    pub job: Job,
    pub chunks: Vec<Chunk>,
}

/// The references that packs got, by topic and partition.
pub(super) type Packed = HashMap<(String, PartitionId), Vec<SegmentRef>>;

/// Copies small partitions into common objects, one after the other, until there are no more.
pub(super) async fn packs(
    mut jobs: mpsc::Receiver<Small>,
    client: Client,
    writer: Arc<RunWriter>,
    events: mpsc::Sender<Event>,
) -> PacksDone {
    let mut packed = Packed::new();
    let done = match copy_packs(&mut jobs, (&client, &writer, &events), &mut packed).await {
        // The loop waits for this one's partitions while any is left: it must hear at once.
        Err(error) if !events.is_closed() && !jobs.is_closed() => {
            tell(&events, Err(error)).await;
            Ok(packed)
        }
        done => done.map(|()| packed),
    };
    PacksDone(done)
}

/// The references that packs got, or why they could not be written.
pub(super) struct PacksDone(pub archive::Result<Packed>);

impl Default for PacksDone {
    fn default() -> Self {
        Self(Ok(Packed::new()))
    }
}

async fn copy_packs(
    jobs: &mut mpsc::Receiver<Small>,
    (client, writer, events): (&Client, &RunWriter, &mpsc::Sender<Event>),
    packed: &mut Packed,
) -> archive::Result<()> {
    let mut pack: Option<PackWriter> = None;
    while let Some(Small { job, chunks }) = jobs.recv().await {
        let (stream, mut copied) = job.started();
        copy_into_pack(&stream, &mut copied, chunks, &mut pack, (client, writer)).await?;
        if let Some(full) = pack.take_if(|open| open.size() >= PACK_TARGET) {
            finish_pack(full, packed).await?;
        }
        let consumed = Event::Consumed {
            index: copied.index,
            records: copied.records,
            bytes: copied.bytes,
        };
        if events.send(consumed).await.is_err() {
            break;
        }
        tell(events, Ok(copied)).await;
    }
    if let Some(last) = pack {
        finish_pack(last, packed).await?;
    }
    Ok(())
}

async fn finish_pack(pack: PackWriter, packed: &mut Packed) -> archive::Result<()> {
    for (stream, segment) in pack.finish().await? {
        packed
            .entry((stream.topic, stream.partition))
            .or_default()
            .push(segment);
    }
    Ok(())
}

async fn copy_into_pack(
    stream: &Stream,
    copied: &mut Copied,
    chunks: Vec<Chunk>,
    pack: &mut Option<PackWriter>,
    (client, writer): (&Client, &RunWriter),
) -> archive::Result<()> {
    let mut begun = false;
    for mut chunk in chunks {
        let walked = copied.take(&mut chunk, stream, client).await;
        for piece in &walked.pieces {
            let open = match pack {
                Some(open) => open,
                None => pack.insert(writer.pack_writer().await?),
            };
            if !begun {
                open.begin(stream.clone()).await?;
                begun = true;
            }
            match piece {
                Piece::Whole(range) => open.append(chunk.records.slice(range.clone())).await?,
                Piece::Cut {
                    bytes,
                    within,
                    records,
                } => {
                    let batch = chunk.records.slice(bytes.clone());
                    open.append_within(batch, within.clone(), *records).await?;
                }
            }
        }
        if copied.broken.is_some() {
            break;
        }
    }
    Ok(())
}
