//! One partition's state while it is read: how far, and what is to be done with it next.

use super::copy::Chunk;
use super::walk::Reach;
use crate::archive::Stream;
use crate::base::{Offset, TopicPartition};
use crate::engine::error::Error;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A partition whose data fits in here shares an object with others.
pub(super) const SMALL: usize = 256 << 10;
#[derive(Debug)]
pub(super) enum Stage {
    /// Its turn has not come.
    Waiting,
    /// Kept in memory until it is known to be small or large.
    Gathering {
        chunks: Vec<Chunk>,
        bytes: usize,
    },
    /// Large, and waiting for one of the places to write segments.
    Full {
        chunks: Vec<Chunk>,
    },
    /// Known to be large, and nothing of it is kept until it gets such a place.
    Large,
    Writing {
        chunks: mpsc::Sender<Chunk>,
        waiting: usize,
    },
    /// No more is read; its task puts the rest away.
    Ending {
        writing: bool,
    },
    Finished,
}

/// What reading a partition again from the same place needs.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    position: Offset,
    leader_epoch: i32,
    log_start: Option<Offset>,
}

#[derive(Debug)]
pub(super) struct Track {
    pub stream: Stream,
    pub at: TopicPartition,
    pub from: Offset,
    /// The next offset to fetch.
    pub position: Offset,
    /// Where it stood when it was let in.
    let_in: Standing,
    pub to: Offset,
    /// Under which leader epoch the batch before `position` was written; −1: not known.
    pub leader_epoch: i32,
    pub stage: Stage,
    /// How many chunks its task may have at once.
    pub chunks: usize,
    pub in_flight: bool,
    /// Everything so far was asked for by topic id.
    pub by_id: bool,
    /// Where the log starts now, if that lies beyond the last chunk's end.
    pub log_start: Option<Offset>,
    /// Answers in a row without anything new.
    pub empty_answers: u32,
    pub progress_at: Instant,
    /// What was last in its way.
    pub trouble: Option<String>,
    pub failure: Option<Error>,
}

impl Track {
    pub fn new(stream: Stream, from: Offset, to: Offset) -> Self {
        Self {
            at: TopicPartition::new(stream.topic.clone(), stream.partition),
            stream,
            from,
            position: from,
            let_in: Standing::default(),
            to,
            leader_epoch: -1,
            stage: Stage::Waiting,
            chunks: 1,
            in_flight: false,
            by_id: true,
            log_start: None,
            empty_answers: 0,
            progress_at: Instant::now(),
            trouble: None,
            failure: None,
        }
    }

    /// Its turn has come: what is read of it is kept in memory.
    pub fn let_in(&mut self) {
        self.let_in = Standing {
            position: self.position,
            leader_epoch: self.leader_epoch,
            log_start: self.log_start,
        };
        self.stage = Stage::Gathering {
            chunks: Vec::new(),
            bytes: 0,
        };
        self.progress_at = Instant::now();
    }

    /// What was read of it is dropped, to be read again when it can be written: it waits without taking memory.
    pub fn give_back(&mut self) {
        let Standing {
            position,
            leader_epoch,
            log_start,
        } = self.let_in;
        self.position = position;
        self.leader_epoch = leader_epoch;
        self.log_start = log_start;
        self.stage = Stage::Large;
    }

    pub fn is_complete(&self) -> bool {
        self.position >= self.to
    }

    /// Whether another chunk of it has room.
    pub fn wants_data(&self) -> bool {
        let room = match &self.stage {
            Stage::Gathering { .. } => true,
            Stage::Writing { waiting, .. } => *waiting < self.chunks,
            _ => false,
        };
        room && !self.in_flight && !self.is_complete()
    }

    /// Whether only the source can be the reason that nothing happens.
    pub fn waits_for_source(&self) -> bool {
        match &self.stage {
            Stage::Gathering { .. } => true,
            Stage::Writing { waiting, .. } => *waiting < self.chunks,
            _ => false,
        }
    }

    /// Takes in part of an answer that reaches up to `reached`.
    pub fn add(&mut self, mut chunk: Chunk, reached: Reach) {
        chunk.log_start = self.log_start.take();
        if reached.offset > self.position {
            self.position = reached.offset;
            self.leader_epoch = reached.leader_epoch;
        }
        tracing::trace!(partition = %self.at, position = %self.position, "read");
        self.empty_answers = 0;
        self.progress_at = Instant::now();
        self.trouble = None;
        match &mut self.stage {
            Stage::Gathering { chunks, bytes } => {
                *bytes += chunk.records.len();
                // A copy: a small slice would keep its whole frame in memory.
                chunk.records = Bytes::copy_from_slice(&chunk.records);
                chunks.push(chunk);
                if *bytes > SMALL {
                    self.stage = Stage::Full {
                        chunks: std::mem::take(chunks),
                    };
                }
            }
            Stage::Writing { chunks, waiting } => {
                // Only a task that has met a broken batch hangs up early, and it tells so itself.
                let taken = chunks.try_send(chunk).is_ok();
                *waiting += usize::from(taken);
            }
            _ => {}
        }
    }

    /// Nothing is left to fetch after [`Self::skip_to`]: an empty chunk, so that the task hears of what was lost.
    pub fn tell_of_loss(&mut self) {
        if self.log_start.is_some() {
            let nothing = Chunk {
                asked: self.position,
                log_start: None,
                records: Bytes::new(),
                aborted: Vec::new(),
            };
            let nowhere = Reach {
                offset: self.position,
                leader_epoch: self.leader_epoch,
            };
            self.add(nothing, nowhere);
        }
    }

    /// The log start has moved past where reading stands.
    pub fn skip_to(&mut self, log_start: Offset) {
        self.log_start = Some(log_start);
        self.position = log_start.min(self.to);
        // Whoever wrote the offset before it is gone with it.
        self.leader_epoch = -1;
        self.progress_at = Instant::now();
    }
}
