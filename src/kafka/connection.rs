//! One connection to one broker: one task writes, one reads, any number of callers wait.
//!
//! Brokers answer a connection's requests in order, so the callers wait in a queue and the answer's
//! correlation id must be that of the queue's front. Anything else (another id, a frame too large, bytes
//! that do not decode) breaks the connection for good: nothing after it could be trusted. A request that
//! gets no answer in time breaks it too, since every later answer would wait behind it. A caller that
//! goes away (a dropped future) loses nothing: its request was sent whole or not at all, its answer is
//! read and thrown away.

use super::error::{Error, Result};
use super::options::ConnectOptions;
use super::transport::{self, Transport, describe};
use super::versions::{self, Answered, ApiVersions, CORRELATION_AT};
use super::{ErrorCode, decode};
use crate::base::CancellationToken;
use bytes::{Buf, BufMut, Bytes, BytesMut};
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
    frames: mpsc::Sender<Bytes>,
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
    /// Waits for the answer's frame. No answer in time breaks the connection.
    async fn frame(self) -> Result<(Arc<Connection>, Bytes)> {
        let broker = &self.connection.broker;
        match tokio::time::timeout_at(self.deadline, self.answer).await {
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
        let deadline = Instant::now() + allowed;
        let mut frame = versions::frame(request, version, &self.client_id).map_err(|why| {
            Error::BadRequest(format!("{api}: the request cannot be written: {why}"))
        })?;
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
            frame[CORRELATION_AT].copy_from_slice(&correlation_id.to_be_bytes());
            waiting.queue.push_back(Waiter {
                correlation_id,
                ordinal,
                answer,
            });
            // Within the lock, so that the order of waiting is the order of writing.
            room.send(frame.freeze());
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

async fn write_frames(
    mut writer: Box<dyn AsyncWrite + Send + Unpin>,
    mut queue: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
) {
    loop {
        let frame = tokio::select! {
            () = shared.ended.cancelled() => break,
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
        };
        shared.begun.fetch_add(1, Ordering::SeqCst);
        let written = tokio::select! {
            () = shared.ended.cancelled() => break,
            written = writer.write_all(&frame) => written,
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
    let mut frame = BytesMut::with_capacity(size);
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
    Ok(frame.freeze())
}

fn frame_size(bytes: [u8; 4], max_frame: usize) -> Result<usize, String> {
    let size = i32::from_be_bytes(bytes);
    match usize::try_from(size) {
        Ok(size) if size <= max_frame => Ok(size),
        Ok(size) => Err(format!(
            "an answer of {size} bytes, over the limit of {max_frame}"
        )),
        Err(_) => Err(format!("an answer of {size} bytes")),
    }
}

/// Why no connection came about.
#[derive(Clone, Debug)]
pub(super) enum OpenError {
    /// In words, for [`Attempt::why`](super::Attempt).
    Failed(String),
    /// Something else than a Kafka broker's listener of this kind answers there.
    NotKafka {
        looks_like: String,
        first_bytes: Vec<u8>,
    },
}

impl OpenError {
    pub(super) fn why(&self) -> String {
        match self {
            OpenError::Failed(why) => why.clone(),
            OpenError::NotKafka { looks_like, .. } => format!("not a Kafka broker: {looks_like}"),
        }
    }
}

/// Asks for the versions, before the connection has any other user.
async fn greet(
    transport: &mut Transport,
    options: &ConnectOptions,
) -> Result<ApiVersions, OpenError> {
    for version in [3, 0] {
        let frame = versions::ask(version, &options.client_id).map_err(OpenError::Failed)?;
        transport
            .writer
            .write_all(&frame)
            .await
            .map_err(|error| OpenError::Failed(describe(&error)))?;
        let answer = read_first_frame(transport, options.max_frame).await?;
        match versions::read(answer, version)
            .map_err(|why| OpenError::Failed(format!("an invalid answer to ApiVersions: {why}")))?
        {
            Answered::Versions(versions) => return Ok(versions),
            Answered::OnlyVersion0 => continue,
            Answered::Refused(code) => {
                return Err(OpenError::Failed(format!("ApiVersions: {code}")));
            }
        }
    }
    Err(OpenError::Failed(format!(
        "ApiVersions: {}",
        ErrorCode::UNSUPPORTED_VERSION
    )))
}

async fn read_first_frame(transport: &mut Transport, max_frame: usize) -> Result<Bytes, OpenError> {
    let mut start = [0; 4];
    if let Err(error) = transport.reader.read_exact(&mut start).await {
        return Err(OpenError::Failed(match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                "it closes the connection at the first request; a listener for TLS or SASL does that"
                    .to_string()
            }
            _ => describe(&error),
        }));
    }
    if let Some(looks_like) = foreign_protocol(&start) {
        return Err(not_kafka(looks_like, &start, transport).await);
    }
    let size = match frame_size(start, max_frame) {
        Ok(size) => size,
        Err(_) => {
            return Err(not_kafka("its answer is in no form kbr knows", &start, transport).await);
        }
    };
    let mut frame = BytesMut::zeroed(size.min(1 << 20));
    if frame.len() < size {
        return Err(not_kafka("its answer is in no form kbr knows", &start, transport).await);
    }
    transport
        .reader
        .read_exact(&mut frame)
        .await
        .map_err(|error| OpenError::Failed(describe(&error)))?;
    Ok(frame.freeze())
}

/// What else speaks first or answers a Kafka request, by its first bytes.
fn foreign_protocol(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'H', b'T', b'T', b'P', ..] | [b'<', b'!', ..] | [b'<', b'h' | b'H', ..] => {
            Some("it answers like an HTTP server")
        }
        [0x15, 0x03, ..] => Some("it answers like a TLS listener; kbr connected without TLS"),
        [b'S', b'S', b'H', b'-', ..] => Some("it answers like an SSH server"),
        _ => None,
    }
}

async fn not_kafka(looks_like: &str, start: &[u8], transport: &mut Transport) -> OpenError {
    let mut first_bytes = BytesMut::from(start);
    let mut more = (&mut first_bytes).limit(16usize.saturating_sub(start.len()));
    if more.has_remaining_mut() {
        // What is there at once is enough to show; an error here changes nothing.
        let _ = tokio::time::timeout(
            Duration::from_millis(100),
            transport.reader.read_buf(&mut more),
        )
        .await;
    }
    OpenError::NotKafka {
        looks_like: looks_like.to_string(),
        first_bytes: first_bytes.chunk().to_vec(),
    }
}

/// A listener that swallows a Kafka request and says nothing may be an HTTP server that waits for the
/// end of a line: two empty lines make it speak, and nobody else worse.
async fn probe_after_silence(transport: &mut Transport, options: &ConnectOptions) -> OpenError {
    let silence = OpenError::Failed(format!(
        "connected, but no answer to ApiVersions within {:?}",
        options.connect_timeout
    ));
    let mut start = [0; 4];
    let spoken = async {
        transport.writer.write_all(b"\r\n\r\n").await?;
        transport.reader.read_exact(&mut start).await
    };
    match tokio::time::timeout(Duration::from_millis(500), spoken).await {
        Ok(Ok(_)) => match foreign_protocol(&start) {
            Some(looks_like) => not_kafka(looks_like, &start, transport).await,
            None => silence,
        },
        _ => silence,
    }
}
