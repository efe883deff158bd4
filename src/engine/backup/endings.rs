//! How a partition's reading ends: complete, failed by name, stalled, cancelled, or with its topic gone.

use super::copy::Small;
use super::fetch::{Fetcher, TICK, job};
use super::track::Stage;
use crate::engine::error::Error;
use crate::kafka::{self, ErrorCode};
use std::time::Duration;
use tokio::time::Instant;

/// How long a topic may be missing from the metadata while it is read.
const GONE: Duration = Duration::from_secs(5);

/// The loop looks several times a second. When it does not, for this long, the reason is here and not at the source.
const OWN_PAUSE: Duration = Duration::from_millis(500);

impl Fetcher {
    pub(super) fn trouble(&mut self, index: usize, error: &kafka::Error) {
        self.tracks[index].trouble = Some(error.to_string());
    }

    /// A partition goes no further; what was read of it counts.
    pub(super) fn fail(&mut self, index: usize, error: Error) {
        tracing::warn!(partition = %self.tracks[index].at, %error, "this partition is not read to its end");
        self.tracks[index].failure = Some(error);
        self.end(index);
    }

    /// No more is read of it: hands over what is in memory.
    pub(super) fn end(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        if let Stage::Full { .. } = track.stage
            && track.is_complete()
        {
            // Waits for a place of its own.
            return;
        }
        self.put_away(index);
    }

    pub(super) fn put_away(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        let ending = Stage::Ending { writing: false };
        match std::mem::replace(&mut track.stage, ending) {
            Stage::Gathering { chunks, .. } | Stage::Full { chunks } => {
                let job = job(index, track);
                // There is room for every partition; without the task the run has failed, and it tells why itself.
                if let Some(small) = &self.small {
                    let _ = small.try_send(Small { job, chunks });
                }
            }
            Stage::Writing { .. } => track.stage = Stage::Ending { writing: true },
            Stage::Waiting | Stage::Large => track.stage = Stage::Finished,
            before @ (Stage::Ending { .. } | Stage::Finished) => track.stage = before,
        }
    }

    /// Cancelled: nothing more is fetched, everything read so far is put away.
    pub(super) fn stop(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
        self.large.clear();
        for index in 0..self.tracks.len() {
            self.put_away(index);
        }
    }

    /// A process that was stopped, or that got no time, has not heard what its brokers said meanwhile: that time is
    /// not theirs.
    fn forgive_own_pause(&mut self, now: Instant) {
        let looked_at = std::mem::replace(&mut self.looked_at, now);
        let pause = now.duration_since(looked_at);
        if pause < OWN_PAUSE {
            return;
        }
        // Not all of it: even one that always gets too little time comes to an end.
        let pause = pause - TICK;
        for track in &mut self.tracks {
            track.progress_at += pause;
        }
        for leader in self.leaders.values_mut() {
            if let Some(since) = &mut leader.failing_since {
                *since += pause;
            }
        }
    }

    pub(super) fn fail_stalled(&mut self) {
        let now = Instant::now();
        self.forgive_own_pause(now);
        let late = |since: Instant| now.saturating_duration_since(since) >= self.stall;
        let metadata = self.client.metadata();
        // A quota makes a broker deaf for as long as it likes, and says so: that is slow, and not a stall.
        let throttled = |index: usize| {
            let leader = metadata.leader(&self.tracks[index].at)?;
            self.client.fetch_throttled_until(leader)
        };
        let stalled: Vec<usize> = self
            .active
            .iter()
            .copied()
            .filter(|index| {
                let track = &self.tracks[*index];
                track.waits_for_source()
                    && !track.is_complete()
                    && late(track.progress_at)
                    && throttled(*index).is_none_or(late)
            })
            .collect();
        let dead: Vec<i32> = self
            .leaders
            .iter()
            .filter(|(_, state)| state.failing_since.is_some_and(late))
            .map(|(leader, _)| *leader)
            .collect();
        let mut hopeless = Vec::new();
        for (leader, queue) in &mut self.waiting {
            if dead.contains(leader) {
                // Those that another broker leads by now have their chance.
                queue.retain(|index| {
                    let gone = metadata.leader(&self.tracks[*index].at) == Some(*leader);
                    if gone {
                        hopeless.push(*index);
                    }
                    !gone
                });
            }
        }
        self.large.retain(|index| {
            let leader = metadata.leader(&self.tracks[*index].at);
            let gone = leader.is_some_and(|leader| dead.contains(&leader));
            if gone {
                hopeless.push(*index);
            }
            !gone
        });
        for index in stalled.into_iter().chain(hopeless) {
            let track = &self.tracks[index];
            let error = Error::Stalled {
                partition: track.at.clone(),
                at: track.position,
                seconds: self.stall.as_secs(),
                last: track
                    .trouble
                    .clone()
                    .unwrap_or_else(|| "its leader did not answer".to_string()),
            };
            self.fail(index, error);
        }
    }

    /// Partitions whose topic was deleted or made anew while it was read.
    pub(super) fn look_for_gone_topics(&mut self) {
        let metadata = self.client.metadata();
        let mut gone = Vec::new();
        for index in &self.active {
            let track = &self.tracks[*index];
            if !track.waits_for_source() || track.is_complete() {
                continue;
            }
            let Some(topic) = metadata.topics.get(&track.stream.topic) else {
                continue;
            };
            if topic.error == ErrorCode::NONE && topic.id != track.stream.topic_id {
                gone.push((*index, "was deleted and created again while it was read"));
            } else if topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                && track.progress_at.elapsed() >= GONE.min(self.stall)
            {
                gone.push((*index, "was deleted while it was read"));
            }
        }
        for (index, what) in gone {
            let topic = self.tracks[index].stream.topic.clone();
            self.fail(index, Error::TopicGone { topic, what });
        }
    }
}
