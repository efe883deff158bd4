//! Sends the batches of all target partitions to their leaders: one task, one loop, no lock.
//!
//! Whatever is ready goes out together: a request takes one batch of each ready partition of a leader, up to about a
//! mebibyte, and a few requests are under way to each leader. What is in line decides the size of requests, nothing
//! waits for more. Requests to one leader are handed over one after the other and over the same connection, so that a
//! partition's batches reach it in order: over a second connection a later batch could come first, and a broker that has
//! forgotten the producer would take it.

use super::lane::{Batch, Lane};
use super::look::{self, Seen};
use crate::base::{CancellationToken, PartitionId};
use crate::engine::error::{Error, Result};
use crate::engine::pace::Pace;
use crate::engine::restore::context::WriteContext;
use crate::kafka::{
    self, Client, ErrorCode, ProduceLine, ProducePartition, ProducePending, Produced,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A request is closed once it holds so many bytes ...
const REQUEST_BYTES: usize = 1 << 20;
/// ... or would grow past this.
const REQUEST_AT_MOST: usize = 2 << 20;
/// Requests under way to one leader: enough that it never waits for the next one.
const REQUESTS: usize = 5;
/// How long what is on its way may take to land once the write has failed or was cancelled.
const LANDING: Duration = Duration::from_secs(5);
/// With a rate, no request is made smaller than this.
const SMALLEST_REQUEST: i32 = 64 << 10;

/// A leader's part: partitions that have something for it, in turn.
#[derive(Default)]
struct Leader {
    ready: VecDeque<usize>,
    /// What the last request went over.
    line: Option<ProduceLine>,
    /// A request is being handed over.
    starting: bool,
    requests: usize,
}

/// The batches of one request: lane and base offset.
type Parts = Vec<(usize, i64)>;

enum Done {
    Started {
        leader: i32,
        parts: Parts,
        result: Result<ProducePending, kafka::Error>,
    },
    Answered {
        leader: i32,
        parts: Parts,
        result: Result<Vec<Produced>, kafka::Error>,
    },
    Looked(Vec<(usize, Seen)>),
}

pub(super) struct Sender {
    client: Client,
    context: WriteContext,
    stop: CancellationToken,
    lanes: Vec<Lane>,
    by_target: HashMap<PartitionId, usize>,
    /// Lanes that stand in some leader's line, or are in the request being put together.
    in_line: Vec<bool>,
    leaders: BTreeMap<i32, Leader>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    looking: bool,
    /// Lanes whose log must be looked at.
    troubled: Vec<usize>,
    pace: Pace,
}

impl Sender {
    /// `stop`: as cancelled, for whoever feeds it.
    pub fn new(
        client: Client,
        context: WriteContext,
        stop: CancellationToken,
        lanes: Vec<Lane>,
    ) -> Self {
        let by_target = lanes
            .iter()
            .enumerate()
            .map(|(index, lane)| (lane.at.partition, index))
            .collect();
        Self {
            client,
            stop,
            in_line: vec![false; lanes.len()],
            lanes,
            by_target,
            leaders: BTreeMap::new(),
            running: FuturesUnordered::new(),
            looking: false,
            troubled: Vec::new(),
            pace: Pace::new(context.limit),
            context,
        }
    }

    /// Sends what comes until nothing comes any more and everything is in the log.
    pub async fn run(
        mut self,
        mut batches: mpsc::Receiver<(PartitionId, Vec<Batch>)>,
    ) -> Result<()> {
        let result = self.until_done(&mut batches).await;
        if result.is_err() {
            // What is on its way lands or does not; whoever looks at the target next should not meet it half way.
            let _ = tokio::time::timeout(LANDING, self.land()).await;
        }
        result
    }

    async fn until_done(
        &mut self,
        batches: &mut mpsc::Receiver<(PartitionId, Vec<Batch>)>,
    ) -> Result<()> {
        let cancel: CancellationToken = self.stop.clone();
        let mut pause = self.context.pause.watch();
        let mut more = true;
        let mut was_held = false;
        loop {
            let now = Instant::now();
            let held = *pause.borrow_and_update();
            if held != was_held {
                was_held = held;
                let doing = if held { "paused" } else { "writing" };
                self.context.progress.doing(doing);
            }
            let mut wake_at = None;
            if !held {
                wake_at = self.send_all(now);
                wake_at = earliest(wake_at, self.look_at_logs(now));
            }
            if !more && self.running.is_empty() && self.lanes.iter().all(Lane::is_idle) {
                return Ok(());
            }
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::Cancelled),
                Some(done) = self.running.next(), if !self.running.is_empty() => self.done(done)?,
                delivered = batches.recv(), if more => match delivered {
                    Some((target, batches)) => self.take(target, batches)?,
                    None => more = false,
                },
                // The sender of the switch lives as long as the context.
                _ = pause.changed() => {}
                () = wake => {}
            }
        }
    }

    /// Waits for what is on its way; nothing new is sent.
    async fn land(&mut self) {
        while let Some(done) = self.running.next().await {
            if let Done::Started {
                leader,
                parts,
                result: Ok(pending),
            } = done
            {
                self.await_answer(leader, parts, pending);
            }
        }
    }

    fn take(&mut self, target: PartitionId, batches: Vec<Batch>) -> Result<()> {
        let Some(&index) = self.by_target.get(&target) else {
            return Err(Error::Internal(format!(
                "batches for partition {target}, which is not written to"
            )));
        };
        for batch in batches {
            self.lanes[index].push(batch)?;
        }
        self.line_up(index);
        Ok(())
    }

    /// Puts a lane in its leader's line if it has something to send.
    fn line_up(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if self.in_line[index] || lane.next_len() == 0 {
            return;
        }
        match self.client.metadata().leader(&lane.at) {
            Some(leader) if lane.is_ready(leader) => {
                self.in_line[index] = true;
                self.leaders
                    .entry(leader)
                    .or_default()
                    .ready
                    .push_back(index);
            }
            None if lane.may_send() => {
                lane.distrust(format!("{} has no leader now", lane.at), Instant::now());
                self.look_later(index);
            }
            _ => {}
        }
    }

    /// Requests to every leader that has room; when to come back if the rate holds them up.
    fn send_all(&mut self, now: Instant) -> Option<Instant> {
        let free: Vec<i32> = self
            .leaders
            .iter()
            .filter(|(_, leader)| {
                !leader.starting && leader.requests < REQUESTS && !leader.ready.is_empty()
            })
            .map(|(id, _)| *id)
            .collect();
        for leader in free {
            if let Some(until) = self.pace.waits_until(now) {
                return Some(until);
            }
            self.send(leader, now);
        }
        None
    }

    fn send(&mut self, id: i32, now: Instant) {
        let most = self
            .pace
            .answer(i32::try_from(REQUEST_BYTES).unwrap_or(i32::MAX))
            .max(SMALLEST_REQUEST) as usize;
        let metadata = self.client.metadata();
        let Some(leader) = self.leaders.get_mut(&id) else {
            return;
        };
        let mut bytes = 0;
        let mut produce = Vec::new();
        let mut parts: Parts = Vec::new();
        let mut moved = Vec::new();
        while bytes < most {
            let Some(index) = leader.ready.pop_front() else {
                break;
            };
            let lane = &mut self.lanes[index];
            if metadata.leader(&lane.at) != Some(id) {
                moved.push(index);
                continue;
            }
            if bytes > 0 && bytes + lane.next_len() > REQUEST_AT_MOST {
                leader.ready.push_front(index);
                break;
            }
            let Some((batch, base)) = lane.send(id) else {
                // Something failed since it stood in line.
                self.in_line[index] = false;
                continue;
            };
            bytes += batch.len();
            parts.push((index, base));
            produce.push(ProducePartition {
                topic: lane.at.topic.clone(),
                partition: lane.at.partition,
                batch,
            });
        }
        if !produce.is_empty() {
            // With nothing under way any connection will do.
            let over = leader.line.clone().filter(|_| leader.requests > 0);
            leader.starting = true;
            leader.requests += 1;
            self.pace.took(bytes as u64, now);
            let client = self.client.clone();
            let sent = parts.clone();
            self.running.push(Box::pin(async move {
                let result = client
                    .produce_start(id, produce, REQUEST_TIMEOUT, over)
                    .await;
                Done::Started {
                    leader: id,
                    parts: sent,
                    result,
                }
            }));
        }
        // Each of them may have more for the next request.
        for index in parts.into_iter().map(|(index, _)| index).chain(moved) {
            self.in_line[index] = false;
            self.line_up(index);
        }
    }

    fn await_answer(&mut self, leader: i32, parts: Parts, pending: ProducePending) {
        self.running.push(Box::pin(async move {
            Done::Answered {
                leader,
                parts,
                result: pending.answer().await,
            }
        }));
    }

    fn done(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Started {
                leader,
                parts,
                result,
            } => {
                if let Some(leader) = self.leaders.get_mut(&leader) {
                    leader.starting = false;
                    if let Ok(pending) = &result {
                        leader.line = Some(pending.line());
                    }
                }
                match result {
                    Ok(pending) => self.await_answer(leader, parts, pending),
                    Err(error) => self.request_failed(leader, parts, &error)?,
                }
                Ok(())
            }
            Done::Answered {
                leader,
                parts,
                result: Ok(answers),
            } => self.answered(leader, parts, answers),
            Done::Answered {
                leader,
                parts,
                result: Err(error),
            } => self.request_failed(leader, parts, &error),
            Done::Looked(seen) => self.looked(seen),
        }
    }

    fn request_over(&mut self, leader: i32) {
        if let Some(leader) = self.leaders.get_mut(&leader) {
            leader.requests = leader.requests.saturating_sub(1);
        }
    }

    fn request_failed(&mut self, leader: i32, parts: Parts, error: &kafka::Error) -> Result<()> {
        tracing::debug!(leader, %error, "a produce request failed");
        self.request_over(leader);
        for (index, _) in parts {
            self.failed(index, error.clone())?;
        }
        Ok(())
    }

    fn failed(&mut self, index: usize, error: kafka::Error) -> Result<()> {
        let lane = &mut self.lanes[index];
        tracing::debug!(partition = %lane.at, %error, "a batch may not have landed");
        lane.failed(error, Instant::now())?;
        self.look_later(index);
        Ok(())
    }

    /// Once its last answer is there.
    fn look_later(&mut self, index: usize) {
        if self.lanes[index].wants_look().is_some() {
            self.troubled.push(index);
        }
    }

    fn answered(&mut self, leader: i32, parts: Parts, answers: Vec<Produced>) -> Result<()> {
        self.request_over(leader);
        let mut answers: HashMap<PartitionId, Produced> = answers
            .into_iter()
            .map(|produced| (produced.partition, produced))
            .collect();
        for (index, base) in parts {
            let lane = &mut self.lanes[index];
            let Some(produced) = answers.remove(&lane.at.partition) else {
                return Err(Error::Mismatch(format!(
                    "the broker's answer to a write does not mention {}",
                    lane.at
                )));
            };
            if produced.error != ErrorCode::NONE {
                let on = lane.at.to_string();
                let error = kafka::Error::broker("Produce", on, produced.error, produced.message);
                self.failed(index, error)?;
                continue;
            }
            for batch in lane.landed(base, produced.base_offset.0)? {
                self.acknowledged(index, &batch);
            }
            self.look_later(index);
            self.line_up(index);
        }
        Ok(())
    }

    fn acknowledged(&self, index: usize, batch: &Batch) {
        let progress = &self.context.progress;
        let records = u64::from(batch.records().unsigned_abs());
        progress.advance(records, batch.share);
        progress.topic_advance(&self.lanes[index].at.topic, records, batch.share);
    }

    /// Begins to look at the logs of lanes in trouble that have nothing on its way; when to come back for the others.
    fn look_at_logs(&mut self, now: Instant) -> Option<Instant> {
        if self.looking || self.troubled.is_empty() {
            return None;
        }
        self.troubled.sort_unstable();
        self.troubled.dedup();
        let mut wake_at = None;
        let mut questions = Vec::new();
        let lanes = &mut self.lanes;
        self.troubled.retain(|index| {
            let lane = &mut lanes[*index];
            match lane.wants_look() {
                Some(at) if at <= now => {
                    questions.push((*index, lane.look()));
                    false
                }
                Some(at) => {
                    wake_at = earliest(wake_at, Some(at));
                    true
                }
                // Something of it is on its way again.
                None => false,
            }
        });
        if questions.is_empty() {
            return wake_at;
        }
        self.looking = true;
        let client = self.client.clone();
        let context = self.context.clone();
        self.running.push(Box::pin(async move {
            Done::Looked(look::look(&client, &context, questions).await)
        }));
        wake_at
    }

    fn looked(&mut self, seen: Vec<(usize, Seen)>) -> Result<()> {
        self.looking = false;
        let now = Instant::now();
        for (index, seen) in seen {
            match seen {
                Seen::Settled(settled) => {
                    for batch in self.lanes[index].settle(settled, now)? {
                        self.acknowledged(index, &batch);
                    }
                    self.line_up(index);
                }
                Seen::NotYet(why) => {
                    tracing::debug!(partition = %self.lanes[index].at, why, "its log cannot be told yet");
                    self.lanes[index].unsettled(why, now)?;
                    self.troubled.push(index);
                }
                Seen::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
