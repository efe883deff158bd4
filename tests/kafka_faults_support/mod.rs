//! A broker that does as a test tells it: real sockets, scripted answers, no state of its own.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, MetadataResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// The n-th request of this kind, over all connections, from 0.
    pub nth: usize,
    /// The connection's number, from 0.
    pub connection: usize,
    pub body: Bytes,
}

impl Seen {
    pub fn decode<M: Decodable>(&self) -> M {
        M::decode(&mut self.body.clone(), self.version).unwrap()
    }
}

/// What to do about a request.
pub enum Reply {
    /// A proper frame around an encoded answer.
    Answer(Bytes),
    /// These bytes, as they are.
    Raw(Bytes),
    /// These bytes, then the end of the connection.
    RawThenClose(Bytes),
    Close,
    /// No answer; the connection stays.
    Silence,
    /// The answer, later.
    Late(Duration, Bytes),
}

/// An answer of the request's version.
pub fn answer<M: Encodable>(seen: &Seen, message: M) -> Reply {
    Reply::Answer(encoded(seen, message))
}

pub fn encoded<M: Encodable>(seen: &Seen, message: M) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, seen.version).unwrap();
    body.freeze()
}

/// A whole frame: size, response header, body.
pub fn frame(seen: &Seen, correlation_id: i32, body: &[u8]) -> Bytes {
    let mut inner = BytesMut::new();
    let header_version = seen.api.response_header_version(seen.version);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut inner, header_version)
        .unwrap();
    inner.put_slice(body);
    let mut frame = BytesMut::new();
    frame.put_i32(inner.len() as i32);
    frame.put_slice(&inner);
    frame.freeze()
}

/// ApiVersions as a current broker answers it: everything the crate knows, but not the newest forms that
/// name topics by id, so that scripts are simple.
pub fn api_versions(seen: &Seen) -> Reply {
    let apis = (0..80).filter_map(|key| ApiKey::try_from(key).ok());
    let apis = apis.map(|api| {
        let range = api.valid_versions();
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(range.min)
            .with_max_version(match api {
                ApiKey::Produce | ApiKey::Fetch => 12,
                _ => range.max,
            })
    });
    answer(
        seen,
        ApiVersionsResponse::default().with_api_keys(apis.collect()),
    )
}

/// Metadata: these brokers, and one topic of one partition with this leader.
pub fn metadata(seen: &Seen, brokers: &[(i32, u16)], topic: &str, leader: i32) -> Reply {
    let brokers = brokers.iter().map(|(id, port)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(*port))
    });
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.to_string()))))
        .with_partitions(vec![
            MetadataResponsePartition::default()
                .with_partition_index(0)
                .with_leader_id(BrokerId(leader)),
        ]);
    let message = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str("scripted")))
        .with_controller_id(BrokerId(1))
        .with_topics(vec![topic]);
    answer(seen, message)
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A listening socket that answers by its script until it is dropped.
pub struct Scripted {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Scripted {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// As `start`, on a listener that is bound already, for scripts that must know their own port.
    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let counts: Arc<Mutex<HashMap<i16, usize>>> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let log = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, counts) = (script.clone(), log.clone(), counts.clone());
                tasks.spawn(serve(stream, connection, script, log, counts));
                connection += 1;
            }
        });
        Self {
            port,
            seen,
            accepting,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests of one kind so far.
    pub fn seen(&self, api: ApiKey) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.api == api)
            .cloned()
            .collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
    counts: Arc<Mutex<HashMap<i16, usize>>>,
) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame_bytes = vec![0; size as usize];
        if stream.read_exact(&mut frame_bytes).await.is_err() {
            return;
        }
        let mut body = Bytes::from(frame_bytes);
        let header = decode_request_header_from_buffer(&mut body).unwrap();
        let nth = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(header.request_api_key).or_default();
            *count += 1;
            *count - 1
        };
        let seen = Seen {
            api: ApiKey::try_from(header.request_api_key).unwrap(),
            version: header.request_api_version,
            correlation_id: header.correlation_id,
            nth,
            connection,
            body,
        };
        log.lock().unwrap().push(seen.clone());
        let wrap = |body: &Bytes| frame(&seen, seen.correlation_id, body);
        let sent = match script(&seen) {
            Reply::Answer(body) => stream.write_all(&wrap(&body)).await,
            Reply::Raw(bytes) => stream.write_all(&bytes).await,
            Reply::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Close => return,
            Reply::Silence => Ok(()),
            Reply::Late(after, body) => {
                tokio::time::sleep(after).await;
                stream.write_all(&wrap(&body)).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A listener that is no Kafka broker: sends `bytes` once it has read what `until` says is enough.
pub async fn foreign(
    until: fn(&[u8]) -> bool,
    bytes: &'static [u8],
) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = Vec::new();
            while !until(&read) {
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(bytes).await;
            // Reads on until the client leaves, so that what was sent is not lost to a reset.
            while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {}
        }
    });
    (address, task)
}
