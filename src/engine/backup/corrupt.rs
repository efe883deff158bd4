//! Batches that fail their checksum: looked at a second time, then named and kept out.
//!
//! A checksum that fails may be the source's disk or the way here. So the batch is fetched once more, by itself; only
//! what fails twice becomes a `corrupt` gap. Never copied, never passed over in silence: the run ends with status 5.

use super::copy::Chunk;
use crate::archive::Stream;
use crate::base::{Offset, TopicPartition};
use crate::kafka::{Client, FetchPartition, FetchWanted, Isolation};
use crate::record;
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::time::Duration;

/// Batches of one chunk that are looked at again; more are a broken disk, not an accident.
const LOOKED_AT_AGAIN: usize = 16;
const MAX_WAIT: Duration = Duration::from_millis(500);

/// A batch that fails its checksum at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Corrupt {
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
    /// Where the batch begins, as its header says.
    pub base: Offset,
    pub why: record::Error,
}

/// The chunk with those of its corrupt batches replaced that a second look finds whole; `None` if there is none.
pub(super) async fn look_again(
    client: &Client,
    stream: &Stream,
    chunk: &Chunk,
    corrupt: &[Corrupt],
) -> Option<Chunk> {
    let mut mended: Option<BytesMut> = None;
    for (range, base) in places(&chunk.records, corrupt)
        .into_iter()
        .take(LOOKED_AT_AGAIN)
    {
        if let Some(batch) = again(client, stream, base, range.len()).await {
            let records = mended.get_or_insert_with(|| BytesMut::from(&chunk.records[..]));
            records[range].copy_from_slice(&batch);
        }
    }
    mended.map(|records| Chunk {
        records: records.freeze(),
        ..chunk.clone()
    })
}

/// Where the corrupt batches lie in the chunk.
fn places(records: &[u8], corrupt: &[Corrupt]) -> Vec<(Range<usize>, Offset)> {
    let mut reader = record::batches(records);
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(Ok(batch)) = reader.next() {
        let base = Offset(batch.header.base_offset);
        if corrupt.iter().any(|corrupt| corrupt.base == base) {
            places.push((at..reader.position(), base));
        }
        at = reader.position();
    }
    places
}

/// The batch as it comes now, if it is whole and takes the same place.
async fn again(client: &Client, stream: &Stream, base: Offset, length: usize) -> Option<Bytes> {
    let at = TopicPartition::new(stream.topic.clone(), stream.partition);
    let leader = client.metadata().leader(&at)?;
    let max_bytes = i32::try_from(length).ok()?;
    let wanted = FetchWanted {
        partitions: vec![FetchPartition {
            topic: stream.topic.clone(),
            topic_id: stream.topic_id,
            partition: stream.partition,
            offset: base,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes,
        }],
        max_wait: MAX_WAIT,
        min_bytes: 1,
        max_bytes,
        isolation: Isolation::ReadUncommitted,
    };
    let answer = client.fetch(leader, wanted).await.ok()?.pop()?;
    let batch = record::batches(&answer.records).next()?.ok()?;
    let same = batch.header.base_offset == base.0 && batch.header.total_len() == length;
    (same && batch.verify_crc().is_ok()).then(|| answer.records.slice(..length))
}
