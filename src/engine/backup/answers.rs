//! What the fetching loop makes of one answer, partition by partition: data, an error of its own, or nothing.

use super::copy::Chunk;
use super::fetch::{Done, EMPTY_BEFORE_ALONE, Fetcher, LONGEST_PAUSE, Leader};
use super::track::Stage;
use super::walk::reach;
use crate::base::Offset;
use crate::engine::error::{Error, Result};
use crate::kafka::{self, Class, Client, ErrorCode, FetchedPartition, Isolation, OffsetAt};
use crate::record::{self, Limits};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

impl Fetcher {
    pub(super) fn answered(
        &mut self,
        leader: i32,
        asked: Vec<usize>,
        answer: Result<Vec<FetchedPartition>, kafka::Error>,
    ) {
        for index in &asked {
            self.tracks[*index].in_flight = false;
        }
        let state = self.leaders.entry(leader).or_default();
        state.busy = state.busy.saturating_sub(1);
        let answers = match answer {
            Ok(answers) => {
                *state = Leader {
                    busy: state.busy,
                    ..Leader::default()
                };
                answers
            }
            Err(error) => {
                let pause = Duration::from_millis(50 << state.failures.min(5)).min(LONGEST_PAUSE);
                state.failures += 1;
                state.pause_until = Some(Instant::now() + pause);
                state.failing_since.get_or_insert_with(Instant::now);
                self.refresh.wanted = true;
                for index in asked {
                    // One of them may be the reason: alone, the others go on.
                    self.tracks[index].empty_answers = EMPTY_BEFORE_ALONE;
                    self.active.retain(|other| *other != index);
                    // One that was given up meanwhile and is put away must not be waited for again.
                    if !matches!(self.tracks[index].stage, Stage::Finished) {
                        self.active.push_back(index);
                    }
                    self.trouble(index, &error);
                }
                return;
            }
        };
        let index_of: HashMap<(&str, i32), usize> = asked
            .iter()
            .map(|index| {
                let stream = &self.tracks[*index].stream;
                ((stream.topic.as_str(), stream.partition.0), *index)
            })
            .collect();
        let answers: Vec<(usize, FetchedPartition)> = answers
            .into_iter()
            .filter_map(|part| {
                let index = index_of.get(&(part.topic.as_str(), part.partition.0))?;
                Some((*index, part))
            })
            .collect();
        for index in &asked {
            if !answers.iter().any(|(answered, _)| answered == index) {
                let track = &mut self.tracks[*index];
                track.empty_answers += 1;
                track.trouble = Some("the broker's answer does not mention it".to_string());
            }
        }
        let bytes: usize = answers.iter().map(|(_, part)| part.records.len()).sum();
        self.pace.took(bytes as u64, Instant::now());
        let mut delivered = false;
        for (index, part) in answers {
            let before = self.tracks[index].position;
            self.part(index, part);
            delivered |= self.tracks[index].position > before;
        }
        if !delivered {
            // Nothing came at all: throttled, or partitions in trouble. Not as fast as it can.
            let state = self.leaders.entry(leader).or_default();
            state.pause_until = Some(Instant::now() + Duration::from_millis(10));
        }
        // Who was asked for goes to the back, answered or not: one in trouble must not hold up the others.
        self.active.retain(|index| !asked.contains(index));
        for index in asked {
            if !matches!(self.tracks[index].stage, Stage::Finished) {
                self.active.push_back(index);
            }
            if self.tracks[index].is_complete() {
                self.end(index);
            }
        }
    }

    /// One partition's part of an answer.
    fn part(&mut self, index: usize, part: FetchedPartition) {
        if matches!(
            self.tracks[index].stage,
            Stage::Ending { .. } | Stage::Finished
        ) {
            return;
        }
        if part.error == ErrorCode::NONE {
            return self.data(index, part);
        }
        let track = &mut self.tracks[index];
        let error = kafka::Error::broker("Fetch", track.at.to_string(), part.error, None);
        match part.error {
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                track.in_flight = true;
                let (client, at) = (self.client.clone(), track.at.clone());
                self.in_flight.push(Box::pin(async move {
                    let bounds = bounds(&client, &at).await;
                    Done::Bounds { index, bounds }
                }));
            }
            ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::INCONSISTENT_TOPIC_ID => {
                self.refresh.wanted = true;
                self.trouble(index, &error);
            }
            // The refusal has named the leader, and the next request goes there.
            _ if part.moved_to.is_some() => self.trouble(index, &error),
            code => match code.class() {
                Class::Fatal => self.fail(index, error.into()),
                class => {
                    self.refresh.wanted |= class == Class::RefreshMetadata;
                    self.trouble(index, &error);
                }
            },
        }
    }

    fn data(&mut self, index: usize, part: FetchedPartition) {
        let track = &mut self.tracks[index];
        track.by_id &= part.by_id;
        if let Some(diverging) = part.diverging {
            if diverging.end_offset >= track.position {
                // Only the epoch's batches are gone (compaction, and a replica that never saw them).
                track.leader_epoch = -1;
                return;
            }
            // An unclean election while it is read: what was read is history, what comes now is another one.
            let error = Error::Diverged {
                partition: track.at.clone(),
                archived_to: track.position,
                leader_epoch: track.leader_epoch,
                end: diverging.end_offset,
            };
            return self.fail(index, error);
        }
        let records = match upgraded(part.records) {
            Ok(records) => records,
            Err(source) => {
                let (partition, offset) = (track.at.clone(), track.position);
                return self.fail(
                    index,
                    Error::Record {
                        partition,
                        offset,
                        source,
                    },
                );
            }
        };
        let reached = reach(&records, track.position, track.to);
        if reached.offset > track.position {
            let chunk = Chunk {
                asked: track.position,
                log_start: None,
                records,
                aborted: part.aborted,
            };
            return track.add(chunk, reached);
        }
        if let Err(source) = unreadable(&records) {
            // The copying task meets the same bytes after what came before them.
            let (partition, offset) = (track.at.clone(), track.position);
            return self.fail(
                index,
                Error::Record {
                    partition,
                    offset,
                    source,
                },
            );
        }
        track.empty_answers += 1;
        track
            .trouble
            .get_or_insert_with(|| "the broker answers without records".to_string());
    }

    /// The broker has nothing at the offset wanted: retention has passed it, or the log was cut.
    pub(super) fn bounds(&mut self, index: usize, bounds: Result<(Offset, Offset), kafka::Error>) {
        let track = &mut self.tracks[index];
        track.in_flight = false;
        match bounds {
            Err(error) => self.trouble(index, &error),
            Ok((log_start, _)) if log_start > track.position => {
                track.skip_to(log_start);
                if track.is_complete() {
                    track.tell_of_loss();
                    self.end(index);
                }
            }
            Ok((_, end)) if end < track.position => {
                let error = Error::Diverged {
                    partition: track.at.clone(),
                    archived_to: track.position,
                    leader_epoch: track.leader_epoch,
                    end,
                };
                self.fail(index, error);
            }
            Ok(_) => {
                let error = kafka::Error::broker(
                    "Fetch",
                    track.at.to_string(),
                    ErrorCode::OFFSET_OUT_OF_RANGE,
                    None,
                );
                self.trouble(index, &error);
            }
        }
    }
}

/// v0 and v1 message sets, from old segments of old brokers, become v2 batches.
fn upgraded(records: Bytes) -> record::Result<Bytes> {
    match unreadable(&records) {
        Err(record::Error::UnsupportedMagic { magic: 0 | 1, .. }) => {
            record::upgrade_legacy(&records, &Limits::default()).map(Bytes::from)
        }
        _ => Ok(records),
    }
}

/// What is wrong with the headers, if anything.
fn unreadable(records: &[u8]) -> record::Result<()> {
    record::batches(records).try_for_each(|batch| batch.map(drop))
}

/// Log start and high watermark.
async fn bounds(
    client: &Client,
    at: &crate::base::TopicPartition,
) -> Result<(Offset, Offset), kafka::Error> {
    let isolation = Isolation::ReadUncommitted;
    let mut found = [Offset(0); 2];
    for (slot, which) in found.iter_mut().zip([OffsetAt::Earliest, OffsetAt::Latest]) {
        let mut answers = client
            .list_offsets(&[(at.clone(), which)], isolation)
            .await?;
        let answer = answers.remove(at).ok_or_else(|| kafka::Error::NoLeader {
            partition: at.clone(),
        })?;
        *slot = answer?.offset;
    }
    Ok((found[0], found[1]))
}
