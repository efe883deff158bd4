//! What one partition remembers of each producer, and the sequence rules that rest on it.
//!
//! The rules are those of `ProducerAppendInfo` and `ProducerStateEntry` in Apache Kafka: the last five batches
//! are known, a known one is a duplicate, a producer nobody has seen may begin with any sequence.

use super::codes::{self, Refusal};
use crate::record::BatchHeader;
use std::collections::VecDeque;

/// How many batches of a producer a broker remembers, so that five may be in flight.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub timestamp: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProducerState {
    pub producer_epoch: i16,
    pub batches: VecDeque<KnownBatch>,
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    /// Where the open transaction began.
    pub open_since: Option<i64>,
}

impl ProducerState {
    pub(super) fn new(producer_epoch: i16) -> Self {
        Self {
            producer_epoch,
            batches: VecDeque::new(),
            coordinator_epoch: -1,
            last_timestamp: -1,
            open_since: None,
        }
    }

    /// −1 when only markers are known.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    /// A batch of the same epoch with the same first and last sequence is the same batch. Its bytes are not
    /// compared: a broker drops other bytes under known sequences in silence.
    pub(super) fn duplicate_of(&self, header: &BatchHeader) -> Option<&KnownBatch> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        let last = last_sequence(header);
        self.batches.iter().find(|known| {
            known.first_sequence == header.base_sequence && known.last_sequence == last
        })
    }

    /// Whether the partition takes this batch from the producer, which is no duplicate.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<(), Refusal> {
        if header.producer_epoch < self.producer_epoch {
            return Err(Refusal::new(
                codes::INVALID_PRODUCER_EPOCH,
                format!(
                    "Epoch of producer {} is {}, which is smaller than the last seen epoch {}",
                    header.producer_id, header.producer_epoch, self.producer_epoch
                ),
            ));
        }
        let in_order = if header.producer_epoch == self.producer_epoch {
            follows(self.last_sequence(), header.base_sequence)
        } else {
            header.base_sequence == 0
        };
        if in_order {
            return Ok(());
        }
        Err(Refusal::new(
            codes::OUT_OF_ORDER_SEQUENCE_NUMBER,
            format!(
                "Out of order sequence number for producer {}: {} (incoming seq. number), {} (current end sequence number)",
                header.producer_id,
                header.base_sequence,
                self.last_sequence()
            ),
        ))
    }

    /// Remembers an appended batch.
    pub(super) fn appended(&mut self, header: &BatchHeader) {
        if header.producer_epoch != self.producer_epoch {
            self.producer_epoch = header.producer_epoch;
            self.batches.clear();
        }
        if self.batches.len() == REMEMBERED_BATCHES {
            self.batches.pop_front();
        }
        self.batches.push_back(KnownBatch {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset: header.base_offset,
            timestamp: header.max_timestamp,
        });
        self.last_timestamp = header.max_timestamp;
        if header.attributes.is_transactional() && self.open_since.is_none() {
            self.open_since = Some(header.base_offset);
        }
    }
}

/// Sequences wrap from 2³¹−1 to 0, inside a batch too.
fn last_sequence(header: &BatchHeader) -> i32 {
    let past = i64::from(header.base_sequence) + i64::from(header.last_offset_delta);
    // The remainder of a division by 2³¹ fits an i32.
    (past % (i64::from(i32::MAX) + 1)) as i32
}

fn follows(last: i32, next: i32) -> bool {
    if last == i32::MAX {
        next == 0
    } else {
        next == last + 1
    }
}
