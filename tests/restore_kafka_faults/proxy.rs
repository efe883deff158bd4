//! A TCP proxy in front of one broker that knows Kafka's frames and does to produce requests what networks do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a produce request or to its answer.
// Each test program uses a part of it.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out; the connection ends before the answer comes.
    ReplyLost,
    /// Half of its frame arrives, then the connection ends.
    RequestCut,
    /// It is carried out; half of the answer's frame arrives.
    ReplyCut,
    /// The answer takes its time.
    Slow,
    /// It is kept on the way, and arrives when the test says so: [`Proxy::deliver`].
    Kept,
}

type Rule = Box<dyn FnMut(u64) -> Option<Fault> + Send>;

struct Shared {
    rule: Mutex<Rule>,
    produced: AtomicU64,
    faults: AtomicU64,
    broker: String,
    kept: Mutex<Vec<Vec<u8>>>,
    /// Whether what was kept arrives before the next fetch that comes behind a produce request.
    deliver_before_fetch: AtomicBool,
}

pub struct Proxy {
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub fn start(listener: TcpListener, broker: String) -> Self {
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_| None)),
            produced: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            broker: broker.clone(),
            kept: Mutex::default(),
            deliver_before_fetch: AtomicBool::new(false),
        });
        let own = shared.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (broker, shared) = (broker.clone(), own.clone());
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(&broker).await else {
                        return;
                    };
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let expected = Arc::new(Mutex::new(VecDeque::new()));
                    let there = requests(from_client, to_server, shared, expected.clone());
                    let back = answers(from_server, to_client, expected);
                    // Whichever ends first ends the connection on both sides.
                    tokio::select! {
                        () = there => {}
                        () = back => {}
                    }
                });
            }
        });
        Self { shared, accepting }
    }

    /// From now on `rule` decides, told the number of each produce request since, from 1.
    pub fn rule(&self, rule: impl FnMut(u64) -> Option<Fault> + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
        self.shared.produced.store(0, Ordering::SeqCst);
        self.shared.faults.store(0, Ordering::SeqCst);
    }

    /// Brings the requests that were kept to the broker, each over a connection of its own, and waits for the answers.
    // Each test program uses a part of it.
    #[allow(dead_code)]
    pub async fn deliver(&self) -> usize {
        self.shared.deliver().await
    }

    /// The same, before the next fetch that comes behind a produce request, and a while after that.
    #[allow(dead_code)]
    pub fn deliver_before_fetch(&self) {
        self.shared
            .deliver_before_fetch
            .store(true, Ordering::SeqCst);
    }

    /// How often it struck since the rule was made.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn deliver(&self) -> usize {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        for request in &kept {
            let broker = TcpStream::connect(&self.broker).await.unwrap();
            let (mut from, mut to) = broker.into_split();
            to.write_all(request).await.unwrap();
            assert!(frame(&mut from).await.is_some(), "the broker answers");
        }
        kept.len()
    }
}

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
/// In this time a broker forgets the producers of old records that looks for them all the time.
const A_WHILE: Duration = Duration::from_millis(400);

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let size = from.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(size).ok()? + 4];
    frame[..4].copy_from_slice(&size.to_be_bytes());
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

/// The answers that are due, in order: what happens to each.
type Expected = Arc<Mutex<VecDeque<Option<Fault>>>>;

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    expected: Expected,
) {
    while let Some(frame) = frame(&mut from).await {
        let key = i16::from_be_bytes([frame[4], frame[5]]);
        let fault = (key == PRODUCE)
            .then(|| {
                let nth = shared.produced.fetch_add(1, Ordering::SeqCst) + 1;
                (shared.rule.lock().unwrap())(nth)
            })
            .flatten();
        if fault.is_some() {
            shared.faults.fetch_add(1, Ordering::SeqCst);
        }
        if key == FETCH
            && shared.produced.load(Ordering::SeqCst) > 0
            && shared.deliver_before_fetch.swap(false, Ordering::SeqCst)
        {
            tokio::time::sleep(A_WHILE).await;
            shared.deliver().await;
        }
        if fault == Some(Fault::Kept) {
            shared.kept.lock().unwrap().push(frame);
            continue;
        }
        if fault == Some(Fault::RequestCut) {
            let _ = to.write_all(&frame[..frame.len() / 2]).await;
            let _ = to.flush().await;
            return;
        }
        expected.lock().unwrap().push_back(fault);
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, expected: Expected) {
    while let Some(frame) = frame(&mut from).await {
        let fault = expected.lock().unwrap().pop_front().flatten();
        match fault {
            Some(Fault::ReplyLost) => return,
            Some(Fault::ReplyCut) => {
                let _ = to.write_all(&frame[..frame.len() / 2]).await;
                let _ = to.flush().await;
                return;
            }
            Some(Fault::Slow) => tokio::time::sleep(Duration::from_millis(150)).await,
            Some(Fault::RequestCut | Fault::Kept) | None => {}
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}
