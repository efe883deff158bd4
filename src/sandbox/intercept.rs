//! Interception: every request a sandbox receives can be seen, and answered otherwise than Kafka would.
//!
//! Faults that a real broker shows once a year (a reply lost after the work was done, a connection cut in the
//! middle of a frame) are one closure here. The first interceptor that does not say [`Action::Pass`] decides.

use bytes::Bytes;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// One request, before anything was done about it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of the API, as in [`kafka_protocol::messages::ApiKey`].
    pub api_key: i16,
    pub version: i16,
    /// The node id of the broker that received it, from 1.
    pub broker: i32,
    /// Counts the connections of the whole cluster, from 1.
    pub connection: u64,
    /// Counts the requests of this API in the whole cluster, from 1.
    pub nth: u64,
    pub client_id: Option<String>,
    /// Header and body as received, without the length in front.
    pub frame: Bytes,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do it and answer.
    Pass,
    /// Close the connection; the request is not done.
    Drop,
    /// Do it, then close the connection instead of answering: the lost reply.
    DoThenDrop,
    /// Wait, then do it and answer.
    Delay(Duration),
    /// Do not do it; answer this error code wherever the response has room for one.
    Error(i16),
    /// Do not do it; answer these bytes as the response body, after the response header.
    Reply(Bytes),
    /// Do it, send only the first `n` bytes of the response frame (its length included), close the connection.
    CutReply(usize),
}

type Interceptor = Box<dyn FnMut(&Seen) -> Action + Send>;

/// The interceptors of one cluster, in the order they were added.
#[derive(Default)]
pub(super) struct Interceptors {
    list: Mutex<Vec<Interceptor>>,
}

impl Interceptors {
    pub(super) fn add(&self, interceptor: Interceptor) {
        super::lock(&self.list).push(interceptor);
    }

    pub(super) fn clear(&self) {
        super::lock(&self.list).clear();
    }

    /// The first answer that is not [`Action::Pass`].
    pub(super) fn decide(&self, seen: &Seen) -> Action {
        super::lock(&self.list)
            .iter_mut()
            .map(|interceptor| interceptor(seen))
            .find(|action| *action != Action::Pass)
            .unwrap_or(Action::Pass)
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", super::lock(&self.list).len())
    }
}
