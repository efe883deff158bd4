//! The first exchange on a new connection: which versions the broker speaks, or what it is instead.
//!
//! A wrong port is the commonest mistake there is, so what answers there is looked at before it is taken
//! for a broker: HTTP, TLS and SSH servers are named.

use super::ErrorCode;
use super::connection::frame_size;
use super::options::ConnectOptions;
use super::transport::{Transport, describe};
use super::versions::{self, Answered, ApiVersions};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
pub(super) async fn greet(
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
pub(super) async fn probe_after_silence(
    transport: &mut Transport,
    options: &ConnectOptions,
) -> OpenError {
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
