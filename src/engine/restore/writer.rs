//! One partition's idempotent producer: batches in order, each landing exactly where it was planned.
//!
//! One request is in flight until the first success and again after any trouble, since a broker takes whatever
//! sequence a fresh producer id begins with; then up to [`WINDOW`]. Idempotence is not enough: brokers forget
//! producers whose last batch is dated over a day ago. So after a lost answer the log itself is asked before anything
//! is sent again, identical bytes are sent, and every base offset must be the expected one.

use super::shape::Shaped;
use crate::base::{CancellationToken, Offset, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{
    Class, Client, ErrorCode, FetchPartition, FetchWanted, Isolation, OffsetAt, ProducePartition,
    ProducePending, Produced, ProducerIdentity,
};
use crate::record::{ProducerStamp, batches, restamp};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// As many as a broker remembers per producer.
const WINDOW: usize = 5;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Without an acknowledged batch for this long the partition is given up.
const STALL: Duration = Duration::from_secs(120);
/// The end of the log must not move for this long before it is believed.
const QUIET: Duration = Duration::from_millis(200);

pub struct Writer {
    client: Client,
    partition: TopicPartition,
    identity: ProducerIdentity,
    /// The next batch's first sequence number.
    sequence: i32,
    /// Where the next batch must land.
    next: i64,
    window: usize,
    in_flight: VecDeque<InFlight>,
    last_progress: Instant,
    attempts: u32,
    cancel: CancellationToken,
}

struct InFlight {
    bytes: Bytes,
    base: i64,
    sequence: i32,
    records: i32,
    /// `None`: to be sent (again).
    pending: Option<ProducePending>,
}

impl Writer {
    pub fn new(
        client: Client,
        partition: TopicPartition,
        identity: ProducerIdentity,
        base: Offset,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            client,
            partition,
            identity,
            sequence: 0,
            next: base.0,
            window: 1,
            in_flight: VecDeque::new(),
            last_progress: Instant::now(),
            attempts: 0,
            cancel,
        }
    }

    /// Where the next batch will land.
    pub fn next(&self) -> Offset {
        Offset(self.next)
    }

    /// Puts a batch on its way, waiting for earlier ones if there are too many.
    pub async fn send(&mut self, mut shaped: Shaped) -> Result<()> {
        let stamp = ProducerStamp {
            producer_id: self.identity.producer_id,
            producer_epoch: self.identity.producer_epoch,
            base_sequence: self.sequence,
        };
        restamp(&mut shaped.bytes, 0, stamp).map_err(|source| Error::Record {
            partition: self.partition.clone(),
            offset: self.next(),
            source,
        })?;
        while self.in_flight.len() >= self.window
            || self.in_flight.iter().any(|batch| batch.pending.is_none())
        {
            self.settle().await?;
        }
        let mut batch = InFlight {
            bytes: shaped.bytes.into(),
            base: self.next,
            sequence: self.sequence,
            records: shaped.records,
            pending: None,
        };
        if self.in_flight.is_empty() {
            // Nothing was waited for until now; the archive may have taken its time.
            self.last_progress = Instant::now();
        }
        self.next += i64::from(shaped.records);
        self.sequence = after(self.sequence, shaped.records);
        match self.start(&batch.bytes).await {
            Ok(pending) => {
                batch.pending = Some(pending);
                self.in_flight.push_back(batch);
                Ok(())
            }
            Err(error) => {
                self.in_flight.push_back(batch);
                self.recover(error).await
            }
        }
    }

    /// Waits until everything is acknowledged.
    pub async fn finish(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    async fn start(&self, bytes: &Bytes) -> Result<ProducePending, crate::kafka::Error> {
        let leader = self.client.leader(&self.partition).await?;
        let part = ProducePartition {
            topic: self.partition.topic.clone(),
            partition: self.partition.partition,
            batch: bytes.clone(),
        };
        self.client
            .produce_start(leader, vec![part], REQUEST_TIMEOUT)
            .await
    }

    /// Waits for the oldest batch's answer and judges it.
    async fn settle(&mut self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let Some(front) = self.in_flight.front_mut() else {
            return Ok(());
        };
        let pending = match front.pending.take() {
            Some(pending) => pending,
            None => {
                let bytes = front.bytes.clone();
                match self.start(&bytes).await {
                    Ok(pending) => pending,
                    Err(error) => return self.recover(error).await,
                }
            }
        };
        match pending.answer().await {
            Err(error) => self.recover(error).await,
            Ok(answers) => match self.own(answers) {
                Some(produced) if produced.error == ErrorCode::NONE => self.landed(&produced),
                Some(produced) => self.refused(produced).await,
                None => Err(Error::Mismatch(format!(
                    "the broker's answer to a write does not mention {}",
                    self.partition
                ))),
            },
        }
    }

    fn own(&self, answers: Vec<Produced>) -> Option<Produced> {
        answers.into_iter().find(|produced| {
            produced.topic == self.partition.topic && produced.partition == self.partition.partition
        })
    }

    /// The oldest batch is in the log; it must be in its place.
    fn landed(&mut self, produced: &Produced) -> Result<()> {
        let Some(front) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let expected = Offset(front.base);
        let found = produced.base_offset;
        if found > expected {
            return Err(Error::ForeignWriter {
                partition: self.partition.clone(),
                expected,
                found,
            });
        }
        if found < expected {
            return Err(Error::Duplicate {
                partition: self.partition.clone(),
                expected,
                found,
            });
        }
        self.went_forward();
        self.window = WINDOW;
        Ok(())
    }

    fn went_forward(&mut self) {
        self.last_progress = Instant::now();
        self.attempts = 0;
    }

    async fn refused(&mut self, produced: Produced) -> Result<()> {
        let error = crate::kafka::Error::broker(
            "Produce",
            self.partition.to_string(),
            produced.error,
            produced.message,
        );
        // A sequence error after trouble says that the log and we see things differently: ask the log.
        let look = matches!(
            produced.error,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrorCode::DUPLICATE_SEQUENCE_NUMBER
                | ErrorCode::UNKNOWN_PRODUCER_ID
        );
        if look || produced.error.class() != Class::Fatal {
            self.recover(error).await
        } else {
            Err(error.into())
        }
    }

    /// Something was lost. Lets what is on its way come to rest, then asks the log how far it came.
    async fn recover(&mut self, error: crate::kafka::Error) -> Result<()> {
        if error.class() == Class::Fatal && error.code().is_none() && !error.in_doubt() {
            return Err(error.into());
        }
        tracing::debug!(partition = %self.partition, %error, "looking at the log after a failed write");
        self.window = 1;
        for batch in &mut self.in_flight {
            if let Some(pending) = batch.pending.take() {
                // Its answer does not matter: the log tells.
                let _ = pending.answer().await;
            }
        }
        let mut last = error.to_string();
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if self.last_progress.elapsed() > STALL {
                return Err(Error::Stalled {
                    partition: self.partition.clone(),
                    at: Offset(self.in_flight.front().map_or(self.next, |batch| batch.base)),
                    seconds: STALL.as_secs(),
                    last,
                });
            }
            self.pause().await;
            match self.stable_end().await {
                // Looking at the tail may meet the same trouble: the leader moves on.
                Ok(end) => match self.accept_up_to(end).await {
                    Err(Error::Kafka(error)) if error.class() != Class::Fatal => {
                        last = error.to_string();
                    }
                    done => return done,
                },
                Err(error) if error.class() == Class::Fatal => return Err(error.into()),
                Err(error) => last = error.to_string(),
            }
        }
    }

    async fn pause(&mut self) {
        let wait = Duration::from_millis(50 << self.attempts.min(5));
        self.attempts += 1;
        tokio::time::sleep(wait).await;
    }

    /// The log's end once it has not moved for a quiet interval.
    async fn stable_end(&self) -> Result<i64, crate::kafka::Error> {
        let seen = self.client.metadata().generation;
        self.client.refresh_metadata(seen).await?;
        let mut end = self.end().await?;
        let deadline = Instant::now() + STALL;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.end().await?;
            if now == end || Instant::now() > deadline {
                return Ok(now);
            }
            end = now;
        }
    }

    async fn end(&self) -> Result<i64, crate::kafka::Error> {
        let wanted = [(self.partition.clone(), OffsetAt::Latest)];
        let mut found = self
            .client
            .list_offsets(&wanted, Isolation::ReadUncommitted)
            .await?;
        match found.remove(&self.partition) {
            Some(found) => found.map(|found| found.offset.0),
            None => Err(crate::kafka::Error::NoLeader {
                partition: self.partition.clone(),
            }),
        }
    }

    /// Takes the batches below `end` for written if the log shows that they are ours; the rest will be sent again.
    async fn accept_up_to(&mut self, end: i64) -> Result<()> {
        let Some(front) = self.in_flight.front() else {
            return Ok(());
        };
        let first = front.base;
        let foreign = |found: i64| Error::ForeignWriter {
            partition: self.partition.clone(),
            expected: Offset(first),
            found: Offset(found),
        };
        if end < first {
            return Err(Error::Mismatch(format!(
                "{} ends at {end}, although {first} records were acknowledged: the leader lost some",
                self.partition
            )));
        }
        let written = self
            .in_flight
            .iter()
            .take_while(|batch| batch.base + i64::from(batch.records) <= end)
            .count();
        let reached = self
            .in_flight
            .get(written)
            .map_or(self.next, |batch| batch.base);
        if reached != end {
            return Err(foreign(end));
        }
        let mut ours = self.tail(first, end).await?.into_iter();
        for batch in self.in_flight.iter().take(written) {
            let stands = ours.next() == Some((batch.base, batch.sequence));
            if !stands {
                return Err(foreign(batch.base));
            }
        }
        for _ in 0..written {
            self.in_flight.pop_front();
            self.went_forward();
        }
        Ok(())
    }

    /// Base offset and first sequence of the batches of this producer in `[from, to)`.
    async fn tail(&self, from: i64, to: i64) -> Result<Vec<(i64, i32)>> {
        let mut found = Vec::new();
        let mut at = from;
        let deadline = Instant::now() + STALL;
        while at < to && Instant::now() < deadline {
            let leader = self.client.leader(&self.partition).await?;
            let wanted = FetchWanted {
                partitions: vec![FetchPartition {
                    topic: self.partition.topic.clone(),
                    topic_id: uuid::Uuid::nil(),
                    partition: self.partition.partition,
                    offset: Offset(at),
                    leader_epoch: -1,
                    last_fetched_epoch: -1,
                    max_bytes: 4 << 20,
                }],
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: 4 << 20,
                isolation: Isolation::ReadUncommitted,
            };
            for part in self.client.fetch(leader, wanted).await? {
                if part.error != ErrorCode::NONE {
                    return Err(crate::kafka::Error::broker(
                        "Fetch",
                        self.partition.to_string(),
                        part.error,
                        None,
                    )
                    .into());
                }
                for batch in batches(&part.records) {
                    let batch = batch.map_err(|source| Error::Record {
                        partition: self.partition.clone(),
                        offset: Offset(at),
                        source,
                    })?;
                    let header = batch.header;
                    if header.last_offset() < at {
                        continue;
                    }
                    at = header.next_offset();
                    if header.producer_id == self.identity.producer_id
                        && header.producer_epoch == self.identity.producer_epoch
                    {
                        found.push((header.base_offset, header.base_sequence));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Sequence numbers wrap from 2³¹−1 to 0.
fn after(sequence: i32, records: i32) -> i32 {
    ((i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(after(0, 3), 3);
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 5), 3);
    }
}
