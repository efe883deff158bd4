//! One target partition's way into the log: what waits, what is on its way, what to do after trouble. No I/O.
//!
//! One batch is on its way until the first success and again after any trouble, since a broker takes whatever sequence
//! a fresh producer id begins with; then up to [`WINDOW`]. Idempotence is not enough: brokers forget producers whose
//! last batch is dated over a day ago, so that old records go one batch at a time. And after trouble everything on its way comes to rest, the log itself is asked,
//! and only what it does not hold is sent again, as identical bytes. Every base offset must be the expected one.

use crate::base::time::now;
use crate::base::{Offset, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Class, ErrorCode, ProducerIdentity};
use crate::record::{ProducerStamp, SplitBatch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// As many as a broker remembers per producer.
const WINDOW: usize = 5;
/// A broker forgets a producer whose last batch is dated a day ago, and then takes its next batch whatever stands before
/// it. What is dated before this, or will be soon, goes one by one: a batch that is refused has no other behind it.
const REMEMBERED: Duration = Duration::from_secs(12 * 3600);
/// Without an acknowledged batch for this long the partition is given up.
pub(super) const STALL: Duration = Duration::from_secs(120);
/// So often a settled log may refuse our sequence before another producer id is taken.
const REFUSALS: u32 = 2;

/// A batch that is stamped and has its place.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub content: SplitBatch,
    /// The target offset of its first record.
    pub base: i64,
    /// Archived bytes that it stands for in the progress.
    pub share: u64,
    /// Its part of the memory budget, held until it is acknowledged.
    pub memory: Option<Arc<OwnedSemaphorePermit>>,
}

impl Batch {
    pub fn records(&self) -> i32 {
        self.content.header().record_count
    }

    /// As of when a broker counts it (ms).
    fn dated(&self) -> i64 {
        self.content.header().max_timestamp
    }

    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.base + i64::from(self.records())
    }
}

/// Sequence numbers follow the offsets, so that the same batch has the same number whenever it is sent; they wrap from
/// 2³¹−1 to 0.
pub(super) fn stamp(identity: ProducerIdentity, start: Offset, base: i64) -> ProducerStamp {
    ProducerStamp {
        producer_id: identity.producer_id,
        producer_epoch: identity.producer_epoch,
        base_sequence: ((base - start.0) & i64::from(i32::MAX)) as i32,
    }
}

/// A batch on its way.
#[derive(Debug)]
struct Sent {
    batch: Batch,
    /// Its answer was seen before that of one in front of it.
    landed: bool,
}

/// Something went wrong, and the log has not been seen to go on since.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: String,
    /// Looks at the log since it began.
    looks: u32,
    /// Refusals of our sequence after the log was settled.
    refusals: u32,
    not_before: Instant,
    /// The log was looked at; one batch may try it.
    settled: bool,
    another_identity: bool,
}

/// What the log holds from the first unacknowledged batch on, once nothing moves any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub end: i64,
    /// Base offset and stamp of every batch in `[first, end)`.
    pub tail: Vec<(i64, ProducerStamp)>,
    /// A new producer identity, if one was asked for. It is recorded already.
    pub identity: Option<ProducerIdentity>,
}

/// What a look at the log has to find out.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub at: TopicPartition,
    pub first: i64,
    pub another_identity: bool,
}

/// One target partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub at: TopicPartition,
    /// Where the plan begins to write.
    start: Offset,
    identity: ProducerIdentity,
    waiting: VecDeque<Batch>,
    in_flight: VecDeque<Sent>,
    /// Requests with a batch of it that have not come to an end.
    unanswered: usize,
    window: usize,
    /// Who got the last batch.
    leader: Option<i32>,
    /// The date of the last batch that landed: by it the broker remembers its producer.
    dated: i64,
    next: i64,
    trouble: Option<Trouble>,
    looking: bool,
}

impl Lane {
    /// `next`: the log's end, which is `start` unless an earlier run has written some of it.
    pub fn new(at: TopicPartition, start: Offset, next: i64, identity: ProducerIdentity) -> Self {
        Self {
            at,
            start,
            identity,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            unanswered: 0,
            window: 1,
            leader: None,
            dated: i64::MAX,
            next,
            trouble: None,
            looking: false,
        }
    }

    /// Puts a batch in line.
    pub fn push(&mut self, mut batch: Batch) -> Result<()> {
        if batch.base != self.next {
            return Err(Error::Internal(format!(
                "a batch for offset {} of {} where {} was next",
                batch.base, self.at, self.next
            )));
        }
        self.next = batch.end();
        // It was stamped before the lane changed its identity.
        if self.changed_identity(&batch) {
            self.restamp(&mut batch)?;
        }
        self.waiting.push_back(batch);
        Ok(())
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Whether a batch could go out now, to this leader. What went to another one before must have landed: two brokers
    /// keep no order between them.
    pub fn is_ready(&self, leader: i32) -> bool {
        let moved = self.leader != Some(leader);
        let window = match moved || self.may_be_forgotten() {
            true => 1,
            false => self.window,
        };
        !self.waiting.is_empty() && self.in_flight.len() < window && self.may_send()
    }

    /// Whether the broker may forget the producer while something is on its way.
    fn may_be_forgotten(&self) -> bool {
        let sent = self.in_flight.iter().map(|sent| sent.batch.dated());
        let oldest = sent.fold(self.dated, i64::min);
        oldest < now().0.saturating_sub(REMEMBERED.as_millis() as i64)
    }

    pub fn may_send(&self) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| trouble.settled)
    }

    /// Bytes of the batch that would go out next.
    pub fn next_len(&self) -> usize {
        self.waiting.front().map_or(0, |batch| batch.content.len())
    }

    /// The next batch goes on its way: its bytes and its place.
    pub fn send(&mut self, leader: i32) -> Option<(SplitBatch, i64)> {
        if !self.is_ready(leader) {
            return None;
        }
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            self.window = 1;
        }
        let batch = self.waiting.pop_front()?;
        let sent = (batch.content.clone(), batch.base);
        self.in_flight.push_back(Sent {
            batch,
            landed: false,
        });
        self.unanswered += 1;
        Some(sent)
    }

    /// The batch for `base` is in the log, at `found`. Gives back what is behind everything before it now: answers that
    /// come close together may be seen in another order.
    pub fn landed(&mut self, base: i64, found: i64) -> Result<Vec<Batch>> {
        self.unanswered = self.unanswered.saturating_sub(1);
        if found > base {
            return Err(Error::ForeignWriter {
                partition: self.at.clone(),
                expected: Offset(base),
                found: Offset(found),
            });
        }
        if found < base {
            return Err(Error::Duplicate {
                partition: self.at.clone(),
                expected: Offset(base),
                found: Offset(found),
            });
        }
        let Some(sent) = self.in_flight.iter_mut().find(|s| s.batch.base == base) else {
            // The log was asked meanwhile, and showed it.
            return Ok(Vec::new());
        };
        sent.landed = true;
        if self.may_send() {
            self.trouble = None;
            self.window = WINDOW;
        }
        let done = self.in_flight.iter().take_while(|sent| sent.landed).count();
        let landed: Vec<Batch> = self
            .in_flight
            .drain(..done)
            .map(|sent| sent.batch)
            .collect();
        self.dated = landed.last().map_or(self.dated, Batch::dated);
        Ok(landed)
    }

    /// A batch did not land, or nobody knows. An error comes back if nothing can be done about it.
    pub fn failed(&mut self, error: kafka::Error, now: Instant) -> Result<()> {
        self.unanswered = self.unanswered.saturating_sub(1);
        let sequence = matches!(
            error.code(),
            Some(
                ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                    | ErrorCode::DUPLICATE_SEQUENCE_NUMBER
                    | ErrorCode::UNKNOWN_PRODUCER_ID
                    | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    | ErrorCode::INVALID_PRODUCER_EPOCH
            )
        );
        if error.class() == Class::Fatal && !sequence && !error.in_doubt() {
            return Err(error.into());
        }
        let settled = self.trouble.as_ref().is_some_and(|trouble| trouble.settled);
        self.distrust(error.to_string(), now);
        if let Some(trouble) = &mut self.trouble
            && sequence
        {
            // A settled log that still refuses: the broker's memory of our id is not what its log says.
            trouble.refusals += u32::from(settled);
            trouble.another_identity |= trouble.refusals >= REFUSALS
                || matches!(
                    error.code(),
                    Some(
                        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    )
                );
        }
        Ok(())
    }

    /// From now on only the log is believed.
    pub fn distrust(&mut self, why: String, now: Instant) {
        self.window = 1;
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            last: String::new(),
            looks: 0,
            refusals: 0,
            not_before: now,
            settled: false,
            another_identity: false,
        });
        if trouble.settled {
            trouble.settled = false;
            trouble.not_before = now + wait(trouble.looks);
        }
        trouble.last = why;
    }

    /// When the log should be looked at, if it should and nothing is on its way any more.
    pub fn wants_look(&self) -> Option<Instant> {
        let trouble = self.trouble.as_ref()?;
        (!trouble.settled && self.unanswered == 0 && !self.looking).then_some(trouble.not_before)
    }

    /// What to ask. The answer goes to [`Lane::settle`] or [`Lane::unsettled`].
    pub fn look(&mut self) -> Question {
        self.looking = true;
        if let Some(trouble) = &mut self.trouble {
            trouble.looks += 1;
        }
        Question {
            at: self.at.clone(),
            first: self.first(),
            another_identity: self.trouble.as_ref().is_some_and(|t| t.another_identity),
        }
    }

    /// The first offset that is not known to be ours.
    fn first(&self) -> i64 {
        let sent = self.in_flight.front().map(|sent| &sent.batch);
        let oldest = sent.or(self.waiting.front());
        oldest.map_or(self.next, |batch| batch.base)
    }

    /// The log could not be seen, or still moves.
    pub fn unsettled(&mut self, why: String, now: Instant) -> Result<()> {
        self.looking = false;
        let first = self.first();
        if let Some(trouble) = &mut self.trouble {
            trouble.last = why;
            trouble.not_before = now + wait(trouble.looks);
            if trouble.since + STALL < now {
                return Err(Error::Stalled {
                    partition: self.at.clone(),
                    at: Offset(first),
                    seconds: STALL.as_secs(),
                    last: trouble.last.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes what the log shows for written if it is ours, in whole batches; the rest is put in line again.
    pub fn settle(&mut self, settled: Settled, now: Instant) -> Result<Vec<Batch>> {
        self.looking = false;
        let first = self.first();
        if settled.end < first {
            return Err(Error::Mismatch(format!(
                "{} ends at {}, although everything up to {first} was acknowledged: the leader lost some",
                self.at, settled.end
            )));
        }
        let written = self
            .in_flight
            .iter()
            .take_while(|sent| sent.batch.end() <= settled.end)
            .count();
        let reached = match written {
            0 => first,
            some => self.in_flight[some - 1].batch.end(),
        };
        if reached != settled.end {
            return Err(self.foreign(reached, settled.end));
        }
        let mut tail = settled.tail.iter();
        for Sent { batch, .. } in self.in_flight.iter().take(written) {
            let ours = stamp(self.identity, self.start, batch.base);
            if tail.next() != Some(&(batch.base, ours)) {
                return Err(self.foreign(batch.base, batch.base));
            }
        }
        if let Some(batch) = tail.next() {
            return Err(self.foreign(batch.0, batch.0));
        }
        let landed = self.in_flight.drain(..written);
        let landed: Vec<Batch> = landed.map(|sent| sent.batch).collect();
        self.dated = landed.last().map_or(self.dated, Batch::dated);
        while let Some(sent) = self.in_flight.pop_back() {
            self.waiting.push_front(sent.batch);
        }
        if let Some(identity) = settled.identity {
            self.identity = identity;
            let mut waiting = std::mem::take(&mut self.waiting);
            for batch in &mut waiting {
                self.restamp(batch)?;
            }
            self.waiting = waiting;
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.settled = true;
            if settled.identity.is_some() {
                trouble.another_identity = false;
                trouble.refusals = 0;
            }
            if !landed.is_empty() {
                trouble.since = now;
                trouble.looks = 0;
            } else if trouble.since + STALL < now {
                return Err(Error::Stalled {
                    partition: self.at.clone(),
                    at: Offset(first),
                    seconds: STALL.as_secs(),
                    last: trouble.last.clone(),
                });
            }
        }
        Ok(landed)
    }

    fn foreign(&self, expected: i64, found: i64) -> Error {
        Error::ForeignWriter {
            partition: self.at.clone(),
            expected: Offset(expected),
            found: Offset(found),
        }
    }

    fn changed_identity(&self, batch: &Batch) -> bool {
        let header = batch.content.header();
        header.producer_id != self.identity.producer_id
            || header.producer_epoch != self.identity.producer_epoch
    }

    fn restamp(&self, batch: &mut Batch) -> Result<()> {
        let stamp = stamp(self.identity, self.start, batch.base);
        batch
            .content
            .restamp(0, stamp)
            .map_err(|source| Error::Record {
                partition: self.at.clone(),
                offset: Offset(batch.base),
                source,
            })
    }
}

/// Before the next look at a log that was looked at so often.
fn wait(looks: u32) -> Duration {
    Duration::from_millis(50 << looks.min(5))
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
