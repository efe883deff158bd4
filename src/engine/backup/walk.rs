//! Goes through the batches of one fetch response: what is data, what is a gap and why.
//!
//! Only headers are read. A batch is opened in one case: a boundary cuts one that has inner holes, and the records
//! within must be counted. Bytes in, ranges out; no I/O.

use super::corrupt::Corrupt;
use super::gaps::Gaps;
use crate::archive::GapKind;
use crate::base::Offset;
use crate::kafka::Aborted;
use crate::record::{self, Batch, ControlType, Limits, batches};
use std::collections::HashSet;
use std::ops::Range;

/// Bytes of a response that belong into the archive, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Whole batches of which every record counts.
    Whole(Range<usize>),
    /// One batch of which only the `records` records with offsets in `within` count.
    Cut {
        bytes: Range<usize>,
        within: Range<Offset>,
        records: u64,
    },
}

/// What a response came to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub pieces: Vec<Piece>,
    pub records: u64,
    pub bytes: u64,
    /// Of the last batch seen; `None` if there was none.
    pub leader_epoch: Option<i32>,
    /// Batches that fail their checksum. They are gaps; what follows them counts.
    pub corrupt: Vec<Corrupt>,
    /// The batch that cannot be passed, by the offset it begins at. Everything before it counts.
    pub broken: Option<(Offset, record::Error)>,
}

/// How far the whole batches of a response go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// The offset after the last of them, at most `to`; `position` if there is none.
    pub offset: Offset,
    /// Under which leader epoch that one was written; −1 if there is none.
    pub leader_epoch: i32,
}

/// Reads headers only and stops quietly at what it cannot read: [`Walk::response`] meets the same bytes and says so. Only
/// the last batch's word counts: that of one before it may be corrupt, and the next one's beginning contradicts it.
pub(super) fn reach(bytes: &[u8], position: Offset, to: Offset) -> Reach {
    let last = batches(bytes).map_while(Result::ok).last();
    match last.map(|batch| batch.header) {
        Some(header) if header.next_offset() > position.0 => Reach {
            offset: Offset(header.next_offset()).min(to).max(position),
            leader_epoch: header.partition_leader_epoch,
        },
        _ => Reach {
            offset: position,
            leader_epoch: -1,
        },
    }
}

/// One partition's way through its log, from `position` up to `to`.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    position: Offset,
    to: Offset,
    pub gaps: Gaps,
}

impl Walk {
    pub fn new(position: Offset, to: Offset) -> Self {
        Self {
            position,
            to,
            gaps: Gaps::default(),
        }
    }

    /// Everything before it is either archived or a gap.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Offsets that the log start has passed before they were read.
    pub fn lost_to_retention(&mut self, log_start: Offset) {
        let log_start = log_start.min(self.to);
        self.gaps
            .whole(self.position, log_start, GapKind::Retention);
        self.position = self.position.max(log_start);
    }

    /// One fetch response. `aborted` is its list, in the broker's order: that of the markers.
    pub fn response(&mut self, bytes: &[u8], aborted: &[Aborted]) -> Walked {
        let mut walked = Walked::default();
        let mut transactions = Transactions::new(aborted);
        let mut at = 0;
        let mut reader = batches(bytes);
        while let Some(batch) = reader.next() {
            let begins = self.position;
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    walked.broken = Some((begins, error));
                    break;
                }
            };
            let range = at..reader.position();
            at = range.end;
            if self.position >= self.to {
                break;
            }
            let base = Offset(batch.header.base_offset);
            let done = match batch.verify_crc() {
                Ok(()) => ascending(&batch, &bytes[at..])
                    .and_then(|()| self.batch(&batch, range, &mut transactions, &mut walked)),
                Err(error) => {
                    let end = end_of_corrupt(&batch, &bytes[at..], self.to);
                    self.corrupt(&batch, error, end, &transactions, &mut walked)
                }
            };
            if let Err(error) = done {
                walked.broken = Some((base, error));
                break;
            }
        }
        walked
    }

    fn batch(
        &mut self,
        batch: &Batch<'_>,
        range: Range<usize>,
        transactions: &mut Transactions,
        walked: &mut Walked,
    ) -> record::Result<()> {
        let header = batch.header;
        // Before anything is skipped: a marker that straddles nothing still ends its transaction.
        let aborted = transactions.is_aborted(batch)?;
        let next = Offset(header.next_offset());
        if next <= self.position {
            return Ok(());
        }
        let first = Offset(header.base_offset).max(self.position);
        let end = next.min(self.to);
        let hole_to = first.min(self.to);
        self.gaps.whole(self.position, hole_to, GapKind::Compacted);
        self.position = hole_to;
        if first >= self.to {
            return Ok(());
        }
        walked.leader_epoch = Some(header.partition_leader_epoch);
        if header.attributes.is_control() {
            // One that compaction has emptied is no marker any more.
            let kind = match header.record_count {
                0 => GapKind::Compacted,
                _ => GapKind::Marker,
            };
            self.gaps.whole(first, end, kind);
        } else if aborted {
            self.gaps.whole(first, end, GapKind::Aborted);
        } else {
            self.data(batch, range, first..end, walked)?;
        }
        self.position = end;
        Ok(())
    }

    /// A batch that fails its checksum: nothing in it can be trusted but where the next one begins. It cannot be passed
    /// where that is not known, or where it may hold the marker that ends an aborted transaction.
    fn corrupt(
        &mut self,
        batch: &Batch<'_>,
        error: record::Error,
        end: Option<Offset>,
        transactions: &Transactions,
        walked: &mut Walked,
    ) -> record::Result<()> {
        let base = Offset(batch.header.base_offset);
        let end = end.filter(|end| *end > base && !transactions.any_aborted_before(*end));
        let Some(end) = end else {
            return Err(error);
        };
        let from = base.max(self.position).min(self.to);
        let to = end.min(self.to);
        self.gaps.whole(self.position, from, GapKind::Compacted);
        self.gaps.whole(from, to, GapKind::Corrupt);
        self.position = self.position.max(to);
        if from < to {
            walked.corrupt.push(Corrupt {
                from,
                to,
                base,
                why: error,
            });
        }
        Ok(())
    }

    fn data(
        &mut self,
        batch: &Batch<'_>,
        range: Range<usize>,
        within: Range<Offset>,
        walked: &mut Walked,
    ) -> record::Result<()> {
        let header = batch.header;
        let span = (within.end - within.start).unsigned_abs();
        let dense = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
        let cut = within.start.0 > header.base_offset || within.end.0 < header.next_offset();
        let records = match (dense, cut) {
            (true, _) => span,
            (false, false) => u64::try_from(header.record_count).unwrap_or(0),
            (false, true) => count_within(batch, &within)?,
        };
        self.gaps
            .scattered(within.start, within.end, GapKind::Compacted, span - records);
        if records == 0 {
            return Ok(());
        }
        walked.records += records;
        walked.bytes += range.len() as u64;
        match walked.pieces.last_mut() {
            Some(Piece::Whole(before)) if !cut && before.end == range.start => {
                before.end = range.end;
            }
            _ if cut => walked.pieces.push(Piece::Cut {
                bytes: range,
                within,
                records,
            }),
            _ => walked.pieces.push(Piece::Whole(range)),
        }
        Ok(())
    }
}

fn count_within(batch: &Batch<'_>, within: &Range<Offset>) -> record::Result<u64> {
    let mut scratch = Vec::new();
    let mut count = 0;
    for record in batch.open(&Limits::default(), &mut scratch)? {
        if within.contains(&Offset(record?.offset)) {
            count += 1;
        }
    }
    Ok(count)
}

/// Where a corrupt batch ends: where the next one begins, if that one is whole or agrees. Its length may be what is
/// corrupt, and then what follows is no batch. At the end of a response there is only its own word, up to `to`: it
/// counts if its two counts agree or it reaches just to the end, else good batches behind it could be passed over.
fn end_of_corrupt(batch: &Batch<'_>, rest: &[u8], to: Offset) -> Option<Offset> {
    let header = batch.header;
    let claimed = Offset(header.next_offset());
    let agrees = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    match base_offset(rest) {
        None => (claimed == to || claimed < to && agrees).then_some(claimed),
        Some(next) if next == claimed => Some(next),
        Some(next) => {
            let following = batches(rest).next()?.ok()?;
            following.verify_crc().is_ok().then_some(next)
        }
    }
}

/// The checksum does not cover the base offset: what shows that it is another one is the order of a log.
fn ascending(batch: &Batch<'_>, rest: &[u8]) -> record::Result<()> {
    match base_offset(rest) {
        Some(next) if next.0 < batch.header.next_offset() => Err(record::Error::BadOffset {
            what: "the base offset of the batch behind it",
            at: batch.bytes().len(),
            value: next.0,
        }),
        _ => Ok(()),
    }
}

/// Where the batch at the start of `bytes` begins, be it whole or cut.
fn base_offset(bytes: &[u8]) -> Option<Offset> {
    let base = bytes.first_chunk::<8>()?;
    Some(Offset(i64::from_be_bytes(*base)))
}

/// Which producers' transactions are aborted at the current batch (KIP-98). Made anew for each response, whose list
/// covers transactions begun before it.
pub(in crate::engine) struct Transactions {
    /// By first offset, the last one first.
    upcoming: Vec<Aborted>,
    active: HashSet<i64>,
}

impl Transactions {
    pub fn new(aborted: &[Aborted]) -> Self {
        let mut upcoming = aborted.to_vec();
        upcoming.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            upcoming,
            active: HashSet::new(),
        }
    }

    /// Whether an aborted transaction has begun before `end`, and not ended as far as is known.
    fn any_aborted_before(&self, end: Offset) -> bool {
        let next = self.upcoming.last();
        !self.active.is_empty() || next.is_some_and(|next| next.first_offset < end)
    }

    /// Whether the batch is data of an aborted transaction. To be asked of every batch in order.
    pub fn is_aborted(&mut self, batch: &Batch<'_>) -> record::Result<bool> {
        let header = batch.header;
        if !header.attributes.is_transactional() {
            return Ok(false);
        }
        while let Some(next) = self.upcoming.last()
            && next.first_offset.0 <= header.last_offset()
        {
            self.active.insert(next.producer_id);
            self.upcoming.pop();
        }
        if header.attributes.is_control() {
            if batch.control_type()? == Some(ControlType::Abort) {
                self.active.remove(&header.producer_id);
            }
            return Ok(false);
        }
        Ok(self.active.contains(&header.producer_id))
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
