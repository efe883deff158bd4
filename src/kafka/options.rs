//! How to reach a cluster, as a struct with defaults.

use std::time::Duration;

/// How connections are protected. TLS and SASL are further variants, handled in `transport.rs` only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// TCP as it is.
    #[default]
    Plaintext,
}

/// What a [`Client`](super::Client) needs to know.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `host:port` of some of the cluster's brokers, tried in turn.
    pub bootstrap: Vec<String>,
    /// What brokers log and account the requests under.
    pub client_id: String,
    pub security: Security,
    /// The longest wait for one TCP connection and its first exchange.
    pub connect_timeout: Duration,
    /// The longest wait for one answer.
    pub request_timeout: Duration,
    /// How long a call is tried again while the cluster says "not now".
    pub retry_deadline: Duration,
    /// The largest answer accepted, in bytes; a larger one is an error before anything is allocated for it.
    pub max_frame: usize,
}

impl ConnectOptions {
    /// Sane defaults: 5 s to connect, 30 s for an answer, 30 s of retries, answers up to 256 MiB.
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            client_id: "kbr".to_string(),
            security: Security::Plaintext,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_deadline: Duration::from_secs(30),
            max_frame: 256 << 20,
        }
    }
}
