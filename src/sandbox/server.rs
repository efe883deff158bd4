//! Listeners, connections and frames: what lies between a socket and `api/`.
//!
//! Like a broker, a connection has one request at a time in work and answers in order; a long poll holds up what
//! was sent behind it.

use super::api::{self, Context};
use super::cluster::Cluster;
use super::intercept::{Action, Seen};
use super::lock;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::Decodable;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// `socket.request.max.bytes`: a longer frame closes the connection.
const LARGEST_FRAME: usize = 100 * 1024 * 1024;

/// One broker's listener and connections. Cancelling `stop` ends all of them; `tasks` says when they are gone.
#[derive(Debug)]
pub(super) struct Server {
    pub port: u16,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Server {
    /// Binds `port` (0 for any) and serves `broker` on it.
    pub(super) async fn start(cluster: Arc<Cluster>, broker: i32, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let accepting = accept(cluster, broker, listener, stop.clone(), tasks.clone());
        tasks.spawn(accepting);
        Ok(Self { port, stop, tasks })
    }
}

async fn accept(
    cluster: Arc<Cluster>,
    broker: i32,
    listener: TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            continue;
        };
        let cluster = cluster.clone();
        let stop = stop.clone();
        tasks.spawn(async move {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = serve(&cluster, broker, stream, peer) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(broker, %peer, %error, "connection closed");
            }
        });
    }
}

async fn serve(
    cluster: &Arc<Cluster>,
    broker: i32,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = cluster.connections.fetch_add(1, Ordering::Relaxed) + 1;
    while let Some(frame) = read_frame(&mut stream).await? {
        let request = Request::parse(frame)?;
        let action = cluster
            .interceptors
            .decide(&request.seen(cluster, broker, connection));
        tracing::trace!(
            broker,
            connection,
            key = request.key,
            version = request.version,
            ?action,
            "request"
        );
        if let Action::Delay(time) = action {
            tokio::time::sleep(time).await;
        }
        let error = match action {
            Action::Drop => return Ok(()),
            Action::Reply(body) => {
                let reply = request.frame_reply(|out| {
                    out.extend_from_slice(&body);
                    Ok(())
                })?;
                stream.write_all(&reply).await?;
                continue;
            }
            Action::Error(code) => Some(code),
            _ => None,
        };
        let host = format!("/{}", peer.ip());
        let context = Context {
            cluster,
            broker,
            version: request.version,
            client_id: request.client_id.as_deref().unwrap_or(""),
            host: &host,
        };
        let reply = api::answer(&context, &request, error).await?;
        match (action, reply) {
            (Action::DoThenDrop, _) => return Ok(()),
            (Action::CutReply(length), Some(reply)) => {
                stream.write_all(&reply[..length.min(reply.len())]).await?;
                stream.shutdown().await?;
                return Ok(());
            }
            (_, Some(reply)) => stream.write_all(&reply).await?,
            (_, None) => {}
        }
    }
    Ok(())
}

/// One request frame without its length; `None` at the end of the stream.
async fn read_frame(stream: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(i32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= LARGEST_FRAME)
        .ok_or_else(|| malformed("frame length"))?;
    // Grown as bytes arrive: a length alone must not reserve memory.
    let mut frame = BytesMut::with_capacity(length.min(64 * 1024));
    let mut limited = stream.take(length as u64);
    while frame.len() < length {
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(frame.freeze()))
}

pub(super) fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// A request whose header has been read.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
    pub body: Bytes,
    frame: Bytes,
}

impl Request {
    fn parse(frame: Bytes) -> io::Result<Self> {
        let start: &[u8; 4] = frame
            .first_chunk()
            .ok_or_else(|| malformed("request without a header"))?;
        let key = i16::from_be_bytes([start[0], start[1]]);
        let version = i16::from_be_bytes([start[2], start[3]]);
        let api = ApiKey::try_from(key).map_err(|()| malformed(format!("API key {key}")))?;
        // A version of ApiVersions that nobody knows comes with the newest header, and is answered (KIP-511).
        let header_version = if api == ApiKey::ApiVersions && version > 4 {
            2
        } else {
            api.request_header_version(version)
        };
        let mut body = frame.clone();
        let header = RequestHeader::decode(&mut body, header_version).map_err(malformed)?;
        Ok(Self {
            key,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(|id| id.to_string()),
            body,
            frame,
        })
    }

    fn seen(&self, cluster: &Cluster, broker: i32, connection: u64) -> Seen {
        let mut requests = lock(&cluster.requests);
        let nth = requests.entry(self.key).or_default();
        *nth += 1;
        Seen {
            api_key: self.key,
            version: self.version,
            broker,
            connection,
            nth: *nth,
            client_id: self.client_id.clone(),
            frame: self.frame.clone(),
        }
    }

    /// A whole response frame: length, header, and the body that `write` appends.
    pub(super) fn frame_reply(
        &self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> io::Result<BytesMut> {
        let mut out = BytesMut::with_capacity(256);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.correlation_id.to_be_bytes());
        // Response header 1 adds tagged fields, of which there are none.
        let header_version =
            ApiKey::try_from(self.key).map_or(0, |api| api.response_header_version(self.version));
        if header_version >= 1 {
            out.extend_from_slice(&[0]);
        }
        write(&mut out)?;
        let length = i32::try_from(out.len() - 4).map_err(malformed)?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(out)
    }
}
