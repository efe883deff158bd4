//! Reads all partitions up to their ends: one stream of fetches per broker, which serves its partitions in turn.
//!
//! Memory is bounded by places, whatever the number of partitions: so many small ones are gathered at once per
//! leader, so many large ones written at once, each with a few chunks waiting. A leader that moved, a short, empty or
//! throttled answer, a lost connection are normal life: a partition ends when its offset has reached its end, and
//! fails, by name and alone, when it has not moved for the plan's stall time. An empty answer never ends one.

use super::copy::{self, Chunk, Copied, Event, Job, Packed, Small};
use super::track::{CHUNKS_WAITING, SMALL, Stage, Track};
use super::walk::{Walk, reach};
use crate::archive::RunWriter;
use crate::base::{CancellationToken, Offset, ProgressHandle};
use crate::engine::error::{Error, Result};
use crate::kafka::{
    self, Class, Client, ErrorCode, FetchPartition, FetchWanted, FetchedPartition, Isolation,
    OffsetAt,
};
use crate::record::{self, Limits};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Small partitions of one leader in memory at once.
const GATHERED_PER_LEADER: usize = 32;
/// Large partitions written at once.
const WRITTEN: usize = 4;
/// Requests on their way to one broker: while one is answered the next is already there.
const REQUESTS: usize = 2;
/// Bytes of one answer, and of one large partition in it. A request names only as many partitions as fit, so that none
/// starves behind others.
const ANSWER: i32 = 4 << 20;
const LARGE_PART: i32 = 2 << 20;
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How often stalls are looked for.
const TICK: Duration = Duration::from_millis(100);
/// The longest pause of a broker that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Empty answers after which a partition is asked for alone: only the first batch of an answer comes whatever its
/// size.
const EMPTY_BEFORE_ALONE: u32 = 2;
/// How long a topic may be missing from the metadata while it is read.
const GONE: Duration = Duration::from_secs(5);

/// What all the reading came to, one entry per track, in order.
pub(super) struct Fetched {
    pub tracks: Vec<Track>,
    pub copied: Vec<Option<Copied>>,
    pub packed: Packed,
    pub cancelled: bool,
}

enum Done {
    Answer {
        leader: i32,
        asked: Vec<usize>,
        answer: Result<Vec<FetchedPartition>, kafka::Error>,
    },
    Refreshed,
    Bounds {
        index: usize,
        bounds: Result<(Offset, Offset), kafka::Error>,
    },
}

/// A leader's connection as the loop sees it.
#[derive(Default)]
struct Leader {
    /// Requests on their way.
    busy: usize,
    /// Not asked before then.
    pause_until: Option<Instant>,
    failing_since: Option<Instant>,
    failures: u32,
}

pub(super) struct Fetcher {
    client: Client,
    writer: Arc<RunWriter>,
    stall: Duration,
    progress: ProgressHandle,
    tracks: Vec<Track>,
    copied: Vec<Option<Copied>>,
    /// By the leader they had at the start.
    waiting: BTreeMap<i32, VecDeque<usize>>,
    /// Those in memory, in the order in which they are to be asked for; and the leader whose place they take.
    active: VecDeque<usize>,
    place: HashMap<usize, i32>,
    leaders: HashMap<i32, Leader>,
    in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
    events: mpsc::Sender<Event>,
    small: Option<mpsc::Sender<Small>>,
    refresh: Refresh,
}

struct Refresh {
    wanted: bool,
    running: bool,
    not_before: Instant,
}

/// Reads every track as far as it goes. An error is one of the archive's: nothing can be committed then.
pub(super) async fn fetch_all(
    client: &Client,
    writer: Arc<RunWriter>,
    tracks: Vec<Track>,
    stall: Duration,
    progress: ProgressHandle,
    cancel: &CancellationToken,
) -> Result<Fetched> {
    let (events, mut heard) = mpsc::channel(256);
    let (small, jobs) = mpsc::channel(tracks.len().max(1));
    let packs = tokio::spawn(copy::packs(jobs, writer.clone(), events.clone()));
    let mut waiting: BTreeMap<i32, VecDeque<usize>> = BTreeMap::new();
    let metadata = client.metadata();
    for (index, track) in tracks.iter().enumerate() {
        let leader = metadata.leader(&track.at).unwrap_or(-1);
        waiting.entry(leader).or_default().push_back(index);
    }
    let mut fetcher = Fetcher {
        client: client.clone(),
        writer,
        stall,
        progress,
        copied: tracks.iter().map(|_| None).collect(),
        tracks,
        waiting,
        active: VecDeque::new(),
        place: HashMap::new(),
        leaders: HashMap::new(),
        in_flight: FuturesUnordered::new(),
        events,
        small: Some(small),
        refresh: Refresh {
            wanted: false,
            running: false,
            not_before: Instant::now(),
        },
    };
    let cancelled = fetcher.run(&mut heard, cancel).await?;
    let Fetcher {
        tracks,
        copied,
        small,
        writer,
        ..
    } = fetcher;
    drop((small, writer));
    let packed = packs
        .await
        .map_err(|error| Error::Internal(format!("the task that writes packs ended: {error}")))??;
    Ok(Fetched {
        tracks,
        copied,
        packed,
        cancelled,
    })
}

impl Fetcher {
    async fn run(
        &mut self,
        heard: &mut mpsc::Receiver<Event>,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let mut cancelled = false;
        loop {
            if !cancelled {
                self.admit();
                self.promote();
                self.ask();
                self.ask_for_metadata();
                self.fail_stalled();
            }
            let finished = |track: &Track| matches!(track.stage, Stage::Finished);
            if self.tracks.iter().all(finished) {
                return Ok(cancelled);
            }
            tokio::select! {
                Some(done) = self.in_flight.next(), if !cancelled => self.done(done),
                Some(event) = heard.recv() => self.heard(event)?,
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.stop();
                }
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Lets waiting partitions in where there is room.
    fn admit(&mut self) {
        let mut taken: HashMap<i32, usize> = HashMap::new();
        for index in &self.active {
            if let (Some(leader), false) = (
                self.place.get(index),
                matches!(self.tracks[*index].stage, Stage::Writing { .. }),
            ) {
                *taken.entry(*leader).or_default() += 1;
            }
        }
        let mut admitted = Vec::new();
        for (leader, queue) in &mut self.waiting {
            let room = GATHERED_PER_LEADER.saturating_sub(taken.get(leader).copied().unwrap_or(0));
            for index in queue.drain(..room.min(queue.len())) {
                admitted.push((index, *leader));
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        for (index, leader) in admitted {
            let track = &mut self.tracks[index];
            track.stage = Stage::Gathering {
                chunks: Vec::new(),
                bytes: 0,
            };
            track.progress_at = Instant::now();
            self.place.insert(index, leader);
            self.active.push_back(index);
            if self.tracks[index].is_complete() {
                self.end(index);
            }
        }
    }

    /// Gives large partitions a task of their own while there are places.
    fn promote(&mut self) {
        let writing = |track: &Track| {
            matches!(
                track.stage,
                Stage::Writing { .. } | Stage::Ending { writing: true }
            )
        };
        let active = self.active.iter();
        let mut places =
            WRITTEN.saturating_sub(active.filter(|i| writing(&self.tracks[**i])).count());
        for index in self.active.clone() {
            if places == 0 {
                return;
            }
            let track = &mut self.tracks[index];
            let Stage::Full { chunks } = &mut track.stage else {
                continue;
            };
            places -= 1;
            let gathered = std::mem::take(chunks);
            let (sender, receiver) = mpsc::channel(CHUNKS_WAITING + gathered.len());
            let waiting = gathered.len();
            for chunk in gathered {
                // There is room for all of them.
                let _ = sender.try_send(chunk);
            }
            track.stage = Stage::Writing {
                chunks: sender,
                waiting,
            };
            track.progress_at = Instant::now();
            let job = job(index, track);
            let (writer, events) = (self.writer.clone(), self.events.clone());
            tokio::spawn(copy::segments(job, receiver, writer, events));
            if self.tracks[index].is_complete() {
                self.end(index);
            }
        }
    }

    /// Sends each idle leader a request for those of its partitions whose turn it is.
    fn ask(&mut self) {
        let metadata = self.client.metadata();
        let now = Instant::now();
        let mut requests: BTreeMap<i32, (Vec<usize>, i32)> = BTreeMap::new();
        for index in &self.active {
            let track = &self.tracks[*index];
            if !track.wants_data() {
                continue;
            }
            let Some(leader) = metadata.leader(&track.at) else {
                self.refresh.wanted = true;
                continue;
            };
            let state = self.leaders.entry(leader).or_default();
            if state.busy >= REQUESTS || state.pause_until.is_some_and(|until| until > now) {
                continue;
            }
            let (asked, bytes) = requests.entry(leader).or_default();
            let part = match track.empty_answers >= EMPTY_BEFORE_ALONE {
                true => ANSWER,
                false => track.part_bytes(),
            };
            if *bytes + part <= ANSWER {
                *bytes += part;
                asked.push(*index);
            }
        }
        for (leader, (asked, _)) in requests {
            self.leaders.entry(leader).or_default().busy += 1;
            let partitions = asked
                .iter()
                .map(|index| self.tracks[*index].wanted())
                .collect();
            for index in &asked {
                self.tracks[*index].in_flight = true;
            }
            let wanted = FetchWanted {
                partitions,
                max_wait: MAX_WAIT,
                min_bytes: 1,
                max_bytes: ANSWER,
                isolation: Isolation::ReadCommitted,
            };
            let client = self.client.clone();
            self.in_flight.push(Box::pin(async move {
                let answer = client.fetch(leader, wanted).await;
                Done::Answer {
                    leader,
                    asked,
                    answer,
                }
            }));
        }
    }

    fn ask_for_metadata(&mut self) {
        let Refresh {
            wanted,
            running,
            not_before,
        } = self.refresh;
        if !wanted || running || not_before > Instant::now() {
            return;
        }
        self.refresh.running = true;
        self.refresh.wanted = false;
        let client = self.client.clone();
        self.in_flight.push(Box::pin(async move {
            let seen = client.metadata().generation;
            // A failure shows as partitions that go on having trouble.
            let _ = client.refresh_metadata(seen).await;
            Done::Refreshed
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answer {
                leader,
                asked,
                answer,
            } => self.answered(leader, asked, answer),
            Done::Refreshed => {
                self.refresh.running = false;
                self.refresh.not_before = Instant::now() + Duration::from_millis(200);
                self.look_for_gone_topics();
            }
            Done::Bounds { index, bounds } => self.bounds(index, bounds),
        }
    }

    fn answered(
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
                    self.active.push_back(index);
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
        if reached > track.position {
            let chunk = Chunk {
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
    fn bounds(&mut self, index: usize, bounds: Result<(Offset, Offset), kafka::Error>) {
        let track = &mut self.tracks[index];
        track.in_flight = false;
        match bounds {
            Err(error) => self.trouble(index, &error),
            Ok((log_start, _)) if log_start > track.position => {
                track.skip_to(log_start);
                if track.is_complete() {
                    // So that the task hears of the loss.
                    let nothing = Chunk {
                        log_start: None,
                        records: Bytes::new(),
                        aborted: Vec::new(),
                    };
                    let reached = track.position;
                    track.add(nothing, reached);
                    self.end(index);
                }
            }
            Ok((_, end)) if end < track.position => {
                let error = Error::Diverged {
                    partition: track.at.clone(),
                    archived_to: track.position,
                    leader_epoch: -1,
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

    fn heard(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Consumed {
                index,
                records,
                bytes,
            } => {
                self.progress.advance(records, bytes);
                let track = &mut self.tracks[index];
                if let Stage::Writing { waiting, .. } = &mut track.stage {
                    *waiting = waiting.saturating_sub(1);
                    track.progress_at = Instant::now();
                }
                Ok(())
            }
            Event::Finished(copied) => {
                let index = copied.index;
                self.tracks[index].stage = Stage::Finished;
                self.copied[index] = Some(*copied);
                self.active.retain(|other| *other != index);
                self.place.remove(&index);
                Ok(())
            }
            Event::Failed(error) => Err(error.into()),
        }
    }

    fn trouble(&mut self, index: usize, error: &kafka::Error) {
        self.tracks[index].trouble = Some(error.to_string());
    }

    /// A partition goes no further; what was read of it counts.
    fn fail(&mut self, index: usize, error: Error) {
        tracing::warn!(partition = %self.tracks[index].at, %error, "this partition is not read to its end");
        self.tracks[index].failure = Some(error);
        self.end(index);
    }

    /// No more is read of it: hands over what is in memory.
    fn end(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        if let Stage::Full { .. } = track.stage
            && track.is_complete()
        {
            // Waits for a place of its own.
            return;
        }
        self.put_away(index);
    }

    fn put_away(&mut self, index: usize) {
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
            Stage::Waiting => track.stage = Stage::Finished,
            before @ (Stage::Ending { .. } | Stage::Finished) => track.stage = before,
        }
    }

    /// Cancelled: nothing more is fetched, everything read so far is put away.
    fn stop(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
        for index in 0..self.tracks.len() {
            self.put_away(index);
        }
    }

    fn fail_stalled(&mut self) {
        let now = Instant::now();
        let late = |since: Instant| now.duration_since(since) >= self.stall;
        let stalled: Vec<usize> = self
            .active
            .iter()
            .copied()
            .filter(|index| {
                let track = &self.tracks[*index];
                track.waits_for_source() && !track.is_complete() && late(track.progress_at)
            })
            .collect();
        let dead: Vec<i32> = self
            .leaders
            .iter()
            .filter(|(_, state)| state.failing_since.is_some_and(late))
            .map(|(leader, _)| *leader)
            .collect();
        let metadata = self.client.metadata();
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
    fn look_for_gone_topics(&mut self) {
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

impl Track {
    fn wanted(&self) -> FetchPartition {
        FetchPartition {
            topic: self.stream.topic.clone(),
            topic_id: self.stream.topic_id,
            partition: self.stream.partition,
            offset: self.position,
            leader_epoch: -1,
            max_bytes: match self.empty_answers >= EMPTY_BEFORE_ALONE {
                true => ANSWER,
                false => self.part_bytes(),
            },
        }
    }

    fn part_bytes(&self) -> i32 {
        match self.stage {
            Stage::Writing { .. } => LARGE_PART,
            _ => SMALL as i32,
        }
    }
}

fn job(index: usize, track: &Track) -> Job {
    Job {
        index,
        stream: track.stream.clone(),
        walk: Walk::new(track.from, track.to),
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
