//! One connection to one broker: one task writes, one reads, any number of callers wait.
//!
//! Brokers answer a connection's requests in order, so the callers wait in a queue and the answer's
//! correlation id must be that of the queue's front. Anything else (another id, a frame too large, bytes
//! that do not decode) breaks the connection for good: nothing after it could be trusted. A request that
//! gets no answer in time breaks it too, since every later answer would wait behind it. A caller that
//! goes away (a dropped future) loses nothing: its request was sent whole or not at all, its answer is
//! read and thrown away.

use super::decode;
use super::error::{Error, Result};
use super::frame::{Frame, Pieces};
use super::greeting::{OpenError, greet, probe_after_silence};
use super::options::ConnectOptions;
use super::transport::{self, describe};
use super::versions::{self, ApiVersions};
use crate::base::{CancellationToken, buffers};
use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::Request;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How many frames may wait for the writer; more callers wait for room.
const WRITE_QUEUE: usize = 16;

/// Why a connection is of no use any more.
#[derive(Clone, Debug)]
enum Broken {
    Ended(String),
    Invalid(String),
}

impl Broken {
    fn error(&self, api: &'static str, broker: &str, in_doubt: bool) -> Error {
        match self {
            Broken::Ended(why) => Error::Disconnected {
                api,
                broker: broker.to_string(),
                why: why.clone(),
                in_doubt,
            },
            Broken::Invalid(why) => Error::Protocol {
                api,
                broker: broker.to_string(),
                why: why.clone(),
            },
        }
    }
}

struct Waiter {
    correlation_id: i32,
    /// The frame's place in the order of writing, from 0.
    ordinal: u64,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Frame(Bytes),
    Broken { broken: Broken, in_doubt: bool },
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Waiter>,
    next: u64,
    broken: Option<Broken>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// How many frames the writer has begun to write: those may have reached the broker.
    begun: AtomicU64,
    /// Until when the broker has said that it will not read from this connection.
    throttled_until: Mutex<Option<Instant>>,
    /// Ends both tasks: on a break, and when the last handle is gone.
    ended: CancellationToken,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while the lock is held leaves at worst an answer without its waiter, which breaks the
        // connection by its correlation id; so the state stays usable.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks the connection: everybody who waits is told, nobody can send any more.
    fn break_with(&self, broken: Broken) {
        let begun = self.begun.load(Ordering::SeqCst);
        let waiters = {
            let mut waiting = self.waiting();
            waiting.broken.get_or_insert_with(|| broken.clone());
            std::mem::take(&mut waiting.queue)
        };
        for waiter in waiters {
            // A caller that went away does not mind.
            let _ = waiter.answer.send(Answer::Broken {
                broken: broken.clone(),
                in_doubt: waiter.ordinal < begun,
            });
        }
        self.ended.cancel();
    }
}

/// A live connection whose versions are known.
pub(super) struct Connection {
    broker: String,
    client_id: String,
    pub(super) versions: ApiVersions,
    frames: mpsc::Sender<Pieces>,
    shared: Arc<Shared>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.ended.cancel();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// A request that was handed to the writer.
#[derive(Debug)]
pub(super) struct Pending {
    connection: Arc<Connection>,
    api: &'static str,
    answer: oneshot::Receiver<Answer>,
    deadline: Instant,
    allowed: Duration,
}

impl Pending {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Waits for the answer's frame. No answer in time breaks the connection; a broker that throttles
    /// gets that much more time.
    async fn frame(mut self) -> Result<(Arc<Connection>, Bytes)> {
        let broker = &self.connection.broker;
        let mut outcome = tokio::time::timeout_at(self.deadline, &mut self.answer).await;
        while outcome.is_err()
            && let Some(throttled_until) = self.connection.throttled_until()
            && throttled_until + self.allowed > self.deadline
        {
            self.deadline = throttled_until + self.allowed;
            outcome = tokio::time::timeout_at(self.deadline, &mut self.answer).await;
        }
        match outcome {
            Ok(Ok(Answer::Frame(frame))) => Ok((self.connection, frame)),
            Ok(Ok(Answer::Broken { broken, in_doubt })) => {
                Err(broken.error(self.api, broker, in_doubt))
            }
            // The queue was dropped with the runtime.
            Ok(Err(_)) => Err(Broken::Ended("it was closed".into()).error(self.api, broker, true)),
            Err(_) => {
                self.connection.shared.break_with(Broken::Ended(format!(
                    "an earlier request ({}) got no answer within {:?}",
                    self.api, self.allowed
                )));
                Err(Error::Timeout {
                    api: self.api,
                    broker: broker.clone(),
                    after: self.allowed,
                })
            }
        }
    }

    /// Waits for the answer and decodes it as the answer to an `R` of `version`.
    pub(super) async fn answer<R: Request>(self, version: i16) -> Result<R::Response> {
        let api = self.api;
        let (connection, frame) = self.frame().await?;
        decode::cut_header::<R::Response>(frame, version)
            .and_then(|body| decode::decode::<R::Response>(body, version))
            .map_err(|why| {
                let broken = Broken::Invalid(why);
                connection.shared.break_with(broken.clone());
                broken.error(api, &connection.broker, true)
            })
    }
}

impl Connection {
    /// Connects, learns the broker's versions, and starts the two tasks.
    pub(super) async fn open(
        address: &str,
        broker: String,
        options: &ConnectOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let deadline = Instant::now() + options.connect_timeout;
        let mut transport = transport::connect(address, &options.security, options.connect_timeout)
            .await
            .map_err(OpenError::Failed)?;
        let versions = match tokio::time::timeout_at(deadline, greet(&mut transport, options)).await
        {
            Ok(greeted) => greeted?,
            Err(_) => return Err(probe_after_silence(&mut transport, options).await),
        };
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            begun: AtomicU64::new(0),
            throttled_until: Mutex::default(),
            ended: CancellationToken::new(),
        });
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        tokio::spawn(write_frames(transport.writer, queue, shared.clone()));
        tokio::spawn(read_frames(
            transport.reader,
            shared.clone(),
            options.max_frame,
        ));
        Ok(Arc::new(Self {
            broker,
            client_id: options.client_id.clone(),
            versions,
            frames,
            shared,
        }))
    }

    /// Remembers that the broker will not read from this connection for a while (KIP-219): requests sent
    /// meanwhile are late by that, and not lost.
    pub(super) fn throttle(&self, throttle_time_ms: i32) {
        if let Ok(wait @ 1..) = u64::try_from(throttle_time_ms) {
            let until = Instant::now() + Duration::from_millis(wait);
            *self.lock_throttled() = Some(until);
        }
    }

    pub(super) fn throttled_until(&self) -> Option<Instant> {
        *self.lock_throttled()
    }

    fn lock_throttled(&self) -> MutexGuard<'_, Option<Instant>> {
        let throttled = &self.shared.throttled_until;
        throttled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this side calls itself.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// `id (host:port)`, for messages.
    pub(super) fn broker(&self) -> &str {
        &self.broker
    }

    /// Whether requests can still be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.shared.ended.is_cancelled()
    }

    /// Encodes the request and hands it to the writer; requests go out in the order of these calls'
    /// returns. Dropped before it returns, nothing was sent.
    pub(super) async fn send<R: Request>(
        self: &Arc<Self>,
        request: &R,
        version: i16,
        allowed: Duration,
    ) -> Result<Pending> {
        let api = versions::name_of::<R>();
        let frame = versions::frame(request, version, &self.client_id)
            .map_err(|why| unwritable(api, &why))?;
        self.send_frame(api, frame.into(), allowed).await
    }

    /// As [`Connection::send`], for a frame that is written already.
    pub(super) async fn send_frame(
        self: &Arc<Self>,
        api: &'static str,
        mut frame: Frame,
        allowed: Duration,
    ) -> Result<Pending> {
        let deadline = Instant::now() + allowed;
        let room = match tokio::time::timeout_at(deadline, self.frames.reserve()).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) => return Err(self.broken_before_sending(api)),
            Err(_) => {
                return Err(Error::Disconnected {
                    api,
                    broker: self.broker.clone(),
                    why: format!("the request could not be sent within {allowed:?}"),
                    in_doubt: false,
                });
            }
        };
        let (answer, receiver) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting();
            if let Some(broken) = &waiting.broken {
                return Err(broken.error(api, &self.broker, false));
            }
            let ordinal = waiting.next;
            waiting.next += 1;
            let correlation_id = (ordinal & 0x7fff_ffff) as i32;
            frame.set_correlation_id(correlation_id);
            waiting.queue.push_back(Waiter {
                correlation_id,
                ordinal,
                answer,
            });
            // Within the lock, so that the order of waiting is the order of writing.
            room.send(frame.pieces());
        }
        Ok(Pending {
            connection: self.clone(),
            api,
            answer: receiver,
            deadline,
            allowed,
        })
    }

    fn broken_before_sending(&self, api: &'static str) -> Error {
        let broken = self.shared.waiting().broken.clone();
        broken
            .unwrap_or(Broken::Ended("it was closed".into()))
            .error(api, &self.broker, false)
    }
}

/// A request that does not fit its own form.
pub(super) fn unwritable(api: &str, why: &str) -> Error {
    Error::BadRequest(format!("{api}: the request cannot be written: {why}"))
}

async fn write_frames(
    mut writer: Box<dyn AsyncWrite + Send + Unpin>,
    mut queue: mpsc::Receiver<Pieces>,
    shared: Arc<Shared>,
) {
    loop {
        let mut frame = tokio::select! {
            () = shared.ended.cancelled() => break,
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
        };
        shared.begun.fetch_add(1, Ordering::SeqCst);
        let written = tokio::select! {
            () = shared.ended.cancelled() => break,
            written = writer.write_all_buf(&mut frame) => written,
        };
        if let Err(error) = written {
            shared.break_with(Broken::Ended(describe(&error)));
            break;
        }
    }
}

async fn read_frames(
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
    shared: Arc<Shared>,
    max_frame: usize,
) {
    let broken = tokio::select! {
        () = shared.ended.cancelled() => Broken::Ended("it was closed".to_string()),
        broken = read_until_broken(&mut reader, &shared, max_frame) => broken,
    };
    shared.break_with(broken);
}

async fn read_until_broken(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    shared: &Shared,
    max_frame: usize,
) -> Broken {
    loop {
        let frame = match read_frame(reader, max_frame).await {
            Ok(frame) => frame,
            Err(broken) => return broken,
        };
        let Some(correlation_id) = frame.first_chunk().map(|id| i32::from_be_bytes(*id)) else {
            return Broken::Invalid(format!("a frame of {} bytes", frame.len()));
        };
        let waiter = {
            let mut waiting = shared.waiting();
            match waiting.queue.front() {
                Some(front) if front.correlation_id == correlation_id => waiting.queue.pop_front(),
                Some(front) => {
                    return Broken::Invalid(format!(
                        "correlation id {correlation_id} where {} was next",
                        front.correlation_id
                    ));
                }
                None => {
                    return Broken::Invalid(format!(
                        "an answer nobody asked for (correlation id {correlation_id})"
                    ));
                }
            }
        };
        if let Some(waiter) = waiter {
            // A caller that went away does not mind.
            let _ = waiter.answer.send(Answer::Frame(frame));
        }
    }
}

/// Reads one frame, its size checked before anything is allocated for it.
async fn read_frame(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    max_frame: usize,
) -> Result<Bytes, Broken> {
    let mut size = [0; 4];
    reader
        .read_exact(&mut size)
        .await
        .map_err(|error| Broken::Ended(describe(&error)))?;
    let size = frame_size(size, max_frame).map_err(Broken::Invalid)?;
    let mut frame = buffers::take(size);
    while frame.len() < size {
        let missing = size - frame.len();
        let read = reader
            .read_buf(&mut (&mut frame).limit(missing))
            .await
            .map_err(|error| Broken::Ended(describe(&error)))?;
        if read == 0 {
            return Err(Broken::Ended(format!(
                "the broker closed it in the middle of an answer ({} of {size} bytes)",
                frame.len()
            )));
        }
    }
    Ok(buffers::share(frame))
}

pub(super) fn frame_size(bytes: [u8; 4], max_frame: usize) -> Result<usize, String> {
    let size = i32::from_be_bytes(bytes);
    match usize::try_from(size) {
        Ok(size) if size <= max_frame => Ok(size),
        Ok(size) => Err(format!(
            "an answer of {size} bytes, over the limit of {max_frame}"
        )),
        Err(_) => Err(format!("an answer of {size} bytes")),
    }
}
