//! Getting bytes to a broker and back: the one place that knows how a connection is protected.
//!
//! TLS wraps the stream here, SASL speaks over it before the connection is handed on; nothing above
//! knows which it is.

use super::options::Security;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connected byte stream, split for one reader and one writer.
pub(super) struct Transport {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Connects to `host:port`, trying each address the name resolves to; the error says why in words.
pub(super) async fn connect(
    address: &str,
    security: &Security,
    timeout: Duration,
) -> Result<Transport, String> {
    if address
        .rsplit_once(':')
        .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
    {
        return Err("not an address of the form host:port".to_string());
    }
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
        .await
        .map_err(|_| format!("no connection within {timeout:?}"))?
        .map_err(|error| describe(&error))?;
    // Requests are small and waited for: Nagle's algorithm would hold each back for up to 40 ms.
    stream.set_nodelay(true).map_err(|error| describe(&error))?;
    match security {
        Security::Plaintext => {
            let (reader, writer) = stream.into_split();
            Ok(Transport {
                reader: Box::new(reader),
                writer: Box::new(writer),
            })
        }
    }
}

/// An I/O error in the words people know, without numbers of the operating system.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        io::ErrorKind::ConnectionReset => "connection reset".to_string(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            "the broker closed it".to_string()
        }
        io::ErrorKind::TimedOut => "no answer from the host".to_string(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_string(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_string(),
        _ => {
            let text = error.to_string();
            if text.contains("failed to lookup address") {
                "no such host".to_string()
            } else {
                text
            }
        }
    }
}
