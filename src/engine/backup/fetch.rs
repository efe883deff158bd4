//! Reads all partitions up to their ends: one stream of fetches per broker, which serves its partitions in turn.
//!
//! Memory is bounded by places, whatever the number of partitions and brokers: so many small partitions are gathered
//! at once, so many large ones written at once, each with a few chunks waiting, and so many bytes are asked for at
//! once. A large partition is asked for alone: slices of a shared answer would each keep all of it in memory.
//!
//! Partitions are let in from both ends of a line, in turn: those that are the longest way behind, so that a run that is
//! stopped early, and the one after it, leave none out for good; and those with the least to read. What an offset weighs
//! nobody knows before it is read. So those that turn out to be large take at most half of the places; more of them are
//! given back what was read of them, at most twice 256 KiB each, and read again once they can be written: they must not
//! hold up the small ones behind them.
//!
//! There is no fetch session (KIP-227): it saves naming partitions whose offset has not moved since the last request,
//! and a backup names none of those, while each session takes one of the broker's places for its consumers.
//!
//! A leader that moved, a short, empty or
//! throttled answer, a lost connection are normal life: a partition ends when its offset has reached its end, and
//! fails, by name and alone, when it has not moved for the plan's stall time. An empty answer never ends one.

use super::copy::{self, Copied, Event, Job, Packed, Small};
use super::track::{SMALL, Stage, Track};
use super::walk::Walk;
use crate::archive::{BlockCompression, RunWriter};
use crate::base::{CancellationToken, Offset, ProgressHandle};
use crate::engine::error::{Error, Result};
use crate::engine::pace::Pace;
use crate::kafka::{self, Client, FetchPartition, FetchWanted, FetchedPartition, Isolation};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Small partitions in memory at once, and those of one leader at least.
const GATHERED: usize = 64;
const GATHERED_PER_LEADER: usize = 4;
/// Requests on their way to one broker: while one is answered the next is already there.
const REQUESTS: usize = 2;
/// Bytes asked for and not yet here, over all brokers.
const IN_FLIGHT: i32 = 16 << 20;
/// Bytes of one answer.
const ANSWER: i32 = 4 << 20;
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How often stalls are looked for.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// The longest pause of a broker that does not answer.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Empty answers after which a partition is asked for alone: only the first batch of an answer comes whatever its
/// size.
pub(super) const EMPTY_BEFORE_ALONE: u32 = 2;

/// How large partitions are read: what bounds the memory of a run.
#[derive(Clone, Copy)]
struct Pipeline {
    /// Written at once.
    written: usize,
    /// Chunks that the task of one has and has not put away.
    chunks: usize,
    /// Bytes of one answer; with its frame it fits into a buffer of a multiple of 256 KiB.
    part: i32,
}

impl Pipeline {
    /// Where nothing is compressed, copying is all the work: the less there is in memory, the more of it stays in the
    /// processor's caches. Encoders take longer than the way here, and must never wait for it: more of them, and the next
    /// chunk is there while they are busy with one.
    fn of(compression: BlockCompression, leaders: usize) -> Self {
        match compression {
            BlockCompression::None => Self {
                written: leaders.clamp(2, 4),
                chunks: 1,
                part: (2 << 20) - 4096,
            },
            _ => Self {
                written: 4,
                chunks: 2,
                part: (768 << 10) - 4096,
            },
        }
    }
}

/// What all the reading came to, one entry per track, in order.
pub(super) struct Fetched {
    pub tracks: Vec<Track>,
    pub copied: Vec<Option<Copied>>,
    pub packed: Packed,
    pub cancelled: bool,
}

pub(super) enum Done {
    Answer {
        leader: i32,
        asked: Vec<usize>,
        /// Bytes that it could bring.
        allowed: i32,
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
pub(super) struct Leader {
    /// Requests on their way.
    pub(super) busy: usize,
    /// Not asked before then.
    pub(super) pause_until: Option<Instant>,
    pub(super) failing_since: Option<Instant>,
    pub(super) failures: u32,
}

pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) writer: Arc<RunWriter>,
    pub(super) stall: Duration,
    pub(super) progress: ProgressHandle,
    pub(super) tracks: Vec<Track>,
    pub(super) copied: Vec<Option<Copied>>,
    /// By the leader they had at the start; the longest way behind first.
    pub(super) waiting: BTreeMap<i32, VecDeque<usize>>,
    /// Whether the next one is let in from the other end.
    least_next: bool,
    /// Known to be large, and not in memory.
    pub(super) large: Vec<usize>,
    /// Those in memory, in the order in which they are to be asked for; and the leader whose place they take.
    pub(super) active: VecDeque<usize>,
    pub(super) place: HashMap<usize, i32>,
    pub(super) leaders: HashMap<i32, Leader>,
    pub(super) in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) small: Option<mpsc::Sender<Small>>,
    pub(super) pace: Pace,
    /// Bytes that requests on their way may bring.
    asked_for: i32,
    pipeline: Pipeline,
    /// The leader whose turn was last.
    asked_last: i32,
    pub(super) refresh: Refresh,
    /// When stalls were last looked for.
    pub(super) looked_at: Instant,
}

pub(super) struct Refresh {
    pub(super) wanted: bool,
    pub(super) running: bool,
    pub(super) not_before: Instant,
}

/// How hard the source is asked.
pub(super) struct Limits {
    pub stall: Duration,
    /// Bytes per second.
    pub rate: Option<u64>,
}

/// Reads every track as far as it goes. An error is one of the archive's: nothing can be committed then.
pub(super) async fn fetch_all(
    client: &Client,
    writer: Arc<RunWriter>,
    mut tracks: Vec<Track>,
    limits: Limits,
    progress: ProgressHandle,
    cancel: &CancellationToken,
) -> Result<Fetched> {
    let (events, mut heard) = mpsc::channel(256);
    let (small, jobs) = mpsc::channel(tracks.len().max(1));
    let packs = tokio::spawn(copy::watched(
        copy::packs(jobs, client.clone(), writer.clone(), events.clone()),
        events.clone(),
    ));
    let mut waiting: BTreeMap<i32, VecDeque<usize>> = BTreeMap::new();
    let metadata = client.metadata();
    for index in longest_behind_first(&tracks) {
        let leader = metadata.leader(&tracks[index].at).unwrap_or(-1);
        waiting.entry(leader).or_default().push_back(index);
    }
    let pipeline = Pipeline::of(writer.compression(), waiting.len());
    for track in &mut tracks {
        track.chunks = pipeline.chunks;
    }
    let mut fetcher = Fetcher {
        client: client.clone(),
        pipeline,
        writer,
        stall: limits.stall,
        pace: Pace::new(limits.rate),
        asked_for: 0,
        asked_last: -1,
        progress,
        copied: tracks.iter().map(|_| None).collect(),
        tracks,
        waiting,
        least_next: false,
        large: Vec::new(),
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
        looked_at: Instant::now(),
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
        .map_err(|error| Error::Internal(format!("the task that writes packs ended: {error}")))?
        .0?;
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
                self.promote();
                self.give_back();
                self.admit();
                self.ask();
                self.ask_for_metadata();
                self.fail_stalled();
            }
            if self.waiting.is_empty() && self.active.is_empty() && self.large.is_empty() {
                return Ok(cancelled);
            }
            let pause = self.pause();
            tokio::select! {
                Some(done) = self.in_flight.next(), if !cancelled => self.done(done),
                Some(event) = heard.recv() => self.heard(event)?,
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.stop();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Until something is to be looked at although nothing has happened.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        match self.pace.waits_until(now) {
            Some(until) => TICK.min(until - now),
            None => TICK,
        }
    }

    /// Places of one leader.
    fn places(&self) -> usize {
        (GATHERED / self.waiting.len().max(1)).max(GATHERED_PER_LEADER)
    }

    /// Takes their places from large partitions where they hold up others.
    fn give_back(&mut self) {
        let most = self.places() / 2;
        let mut full: HashMap<i32, usize> = HashMap::new();
        for index in self.active.clone() {
            let Some(leader) = self.place.get(&index) else {
                continue;
            };
            if !matches!(self.tracks[index].stage, Stage::Full { .. })
                || !self.waiting.contains_key(leader)
            {
                continue;
            }
            let full = full.entry(*leader).or_default();
            *full += 1;
            if *full > most {
                self.tracks[index].give_back();
                self.active.retain(|other| *other != index);
                self.place.remove(&index);
                self.large.push(index);
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
        let places = self.places();
        let mut admitted = Vec::new();
        for (leader, queue) in &mut self.waiting {
            let room = places.saturating_sub(taken.get(leader).copied().unwrap_or(0));
            for _ in 0..room {
                let next = match self.least_next {
                    true => queue.pop_back(),
                    false => queue.pop_front(),
                };
                let Some(index) = next else { break };
                self.least_next = !self.least_next;
                admitted.push((index, *leader));
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        for (index, leader) in admitted {
            self.tracks[index].let_in();
            self.place.insert(index, leader);
            self.active.push_back(index);
            if self.tracks[index].is_complete() {
                self.tracks[index].tell_of_loss();
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
        let mut places = self
            .pipeline
            .written
            .saturating_sub(active.filter(|i| writing(&self.tracks[**i])).count());
        for index in self.active.clone() {
            if places == 0 {
                return;
            }
            if !matches!(self.tracks[index].stage, Stage::Full { .. }) {
                continue;
            }
            places -= 1;
            self.write(index);
        }
        if places > 0 {
            self.large.sort_by_key(|index| behind(&self.tracks[*index]));
        }
        for _ in 0..places {
            let Some(index) = self.large.pop() else {
                return;
            };
            self.active.push_back(index);
            self.write(index);
        }
    }

    /// Starts the task of a large partition, with what was gathered of it.
    fn write(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        let gathered = match &mut track.stage {
            Stage::Full { chunks } => std::mem::take(chunks),
            _ => Vec::new(),
        };
        let (sender, receiver) = mpsc::channel(self.pipeline.chunks + gathered.len());
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
        let client = self.client.clone();
        let copying = copy::segments(job, receiver, client, writer, events.clone());
        tokio::spawn(copy::watched(copying, events));
        if self.tracks[index].is_complete() {
            self.end(index);
        }
    }

    /// Sends each leader that has room requests for those of its partitions whose turn it is.
    fn ask(&mut self) {
        let now = Instant::now();
        if self.pace.waits_until(now).is_some() {
            // It is kbr that waits, not the source that does not answer.
            for index in &self.active {
                self.tracks[*index].progress_at = now;
            }
            return;
        }
        while self.ask_once(now) {}
    }

    /// One request to each leader that has room; whether there was any.
    fn ask_once(&mut self, now: Instant) -> bool {
        let metadata = self.client.metadata();
        let most = self.pace.answer(ANSWER);
        let mut requests: BTreeMap<i32, Request> = BTreeMap::new();
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
            let request = requests.entry(leader).or_default();
            let part = track.part_bytes(self.pipeline.part).min(most);
            let alone = part > SMALL as i32;
            if request.asked.is_empty() || !alone && !request.alone && request.bytes + part <= most
            {
                request.alone = alone;
                request.bytes += part;
                request.asked.push((*index, part));
            }
        }
        // In turn, and none before one that waits for room: else those with low numbers would leave the others nothing.
        let behind = requests.split_off(&self.asked_last.saturating_add(1));
        let mut sent = false;
        for (leader, request) in behind.into_iter().chain(requests) {
            if self.asked_for > 0 && self.asked_for + request.bytes > IN_FLIGHT {
                break;
            }
            self.asked_last = leader;
            self.send(leader, request);
            sent = true;
        }
        sent
    }

    fn send(&mut self, leader: i32, request: Request) {
        self.leaders.entry(leader).or_default().busy += 1;
        let allowed = request.bytes;
        self.asked_for += allowed;
        let mut partitions = Vec::with_capacity(request.asked.len());
        let mut asked = Vec::with_capacity(request.asked.len());
        for (index, part) in request.asked {
            let track = &mut self.tracks[index];
            track.in_flight = true;
            partitions.push(track.wanted(part));
            asked.push(index);
        }
        let wanted = FetchWanted {
            partitions,
            max_wait: MAX_WAIT,
            min_bytes: 1,
            max_bytes: allowed,
            isolation: Isolation::ReadCommitted,
        };
        let client = self.client.clone();
        self.in_flight.push(Box::pin(async move {
            let answer = client.fetch(leader, wanted).await;
            Done::Answer {
                leader,
                asked,
                allowed,
                answer,
            }
        }));
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
                allowed,
                answer,
            } => {
                self.asked_for -= allowed;
                self.answered(leader, asked, answer);
            }
            Done::Refreshed => {
                self.refresh.running = false;
                self.refresh.not_before = Instant::now() + Duration::from_millis(200);
                self.look_for_gone_topics();
            }
            Done::Bounds { index, bounds } => self.bounds(index, bounds),
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
                let topic = &track.stream.topic;
                self.progress.topic_advance(topic, records, bytes);
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
}

/// How much there is to read of it, as far as its offsets tell.
fn behind(track: &Track) -> i64 {
    track.to - track.position
}

/// Where it is as much, in their own order.
fn longest_behind_first(tracks: &[Track]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tracks.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(behind(&tracks[*index])));
    order
}

/// A request that is being put together.
#[derive(Default)]
struct Request {
    asked: Vec<(usize, i32)>,
    bytes: i32,
    /// Nothing else goes into it.
    alone: bool,
}

impl Track {
    fn wanted(&self, max_bytes: i32) -> FetchPartition {
        FetchPartition {
            topic: self.stream.topic.clone(),
            topic_id: self.stream.topic_id,
            partition: self.stream.partition,
            offset: self.position,
            leader_epoch: -1,
            last_fetched_epoch: self.leader_epoch,
            max_bytes,
        }
    }

    fn part_bytes(&self, large: i32) -> i32 {
        match self.stage {
            _ if self.empty_answers >= EMPTY_BEFORE_ALONE => ANSWER,
            Stage::Writing { .. } => large,
            _ => SMALL as i32,
        }
    }
}

pub(super) fn job(index: usize, track: &Track) -> Job {
    Job {
        index,
        stream: track.stream.clone(),
        walk: Walk::new(track.from, track.to),
    }
}
