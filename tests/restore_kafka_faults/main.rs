//! Restores into real Apache Kafka while replies are lost, connections cut, brokers killed: every record once, compared
//! one by one by kcat. The records are two years old, and the brokers look for expired producers all the time, so that
//! they forget a producer id as soon as a batch is in: idempotence is of no help here.

#[path = "../engine_restore_support/mod.rs"]
mod engine_restore_support;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod toxiproxy;

use engine_restore_support::{NOW, Row, archive, made};
use kbr::archive::Snapshot;
use kbr::base::{Progress, TimestampMs};
use kbr::engine::restore::{self, WriteContext, WriteProgress, WriteTopic};
use kbr::kafka::{Client, ConnectOptions, ProducerIdentity};
use proxy::{Fault, Proxy};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::RealKafka;
use tokio::net::TcpListener;
use toxiproxy::{Toxic, Toxiproxy};

/// Two years before now.
const OLD: TimestampMs = TimestampMs(NOW.0 - 2 * 365 * 86_400_000);
const FORGETFUL: &str = "producer.id.expiration.check.interval.ms=50";
const WITHIN: Duration = Duration::from_secs(180);
/// Five brokers that start beside each other on two cores take minutes.
static ONE_CLUSTER_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn connect(bootstrap: &str) -> Client {
    Client::connect(ConnectOptions {
        request_timeout: Duration::from_secs(10),
        ..ConnectOptions::new(bootstrap.split(','))
    })
    .await
    .unwrap()
}

/// A restore whose topic is made.
struct Scene {
    client: Client,
    snapshot: Snapshot,
    rows: Vec<Vec<Row>>,
    write: WriteTopic,
}

impl Scene {
    async fn of(bootstrap: &str, rounds: i64) -> Self {
        let client = connect(bootstrap).await;
        let (snapshot, rows) = archive(rounds, OLD).await;
        let write = made(&snapshot, &client).await;
        Self {
            client,
            snapshot,
            rows,
            write,
        }
    }

    async fn write(
        &self,
        context: &WriteContext,
    ) -> Result<restore::TopicReport, kbr::engine::Error> {
        let write = restore::write_topic(&self.write, &self.snapshot, &self.client, context);
        tokio::time::timeout(WITHIN, write).await.expect("it ends")
    }

    fn assert_as_planned(&self, report: &restore::TopicReport, what: &str) {
        for (route, written) in self.write.partitions.iter().zip(&report.partitions) {
            assert_eq!(
                route.mapping_digest,
                Some(written.mapping.digest()),
                "{what}"
            );
        }
    }

    /// Reads the topic with kcat, which knows nothing of kbr.
    fn assert_every_record_once(&self, kafka: &RealKafka, what: &str) {
        for (partition, rows) in self.rows.iter().enumerate() {
            let partition = partition.to_string();
            let words = ["-C", "-J", "-e", "-q", "-o", "beginning"];
            let place = ["-t", &self.write.topic, "-p", &partition];
            let read = kafka.kcat(&[&words[..], &place[..]].concat(), "");
            let mut found = Vec::new();
            for (offset, line) in read.lines().enumerate() {
                let record: Value = serde_json::from_str(line).unwrap();
                assert_eq!(record["offset"], offset, "{what}, partition {partition}");
                found.push(Row {
                    timestamp: record["ts"].as_i64().unwrap(),
                    key: record["key"].as_str().unwrap().to_string(),
                    value: record["payload"].as_str().unwrap().to_string(),
                });
            }
            assert_eq!(found.len(), rows.len(), "{what}, partition {partition}");
            assert!(
                found == *rows,
                "{what}, partition {partition}: other records"
            );
        }
    }
}

/// A broker that is reached through the proxy only.
async fn broker_behind_a_proxy(version: &'static str) -> (RealKafka, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let kafka = tokio::task::spawn_blocking(move || {
        RealKafka::start_with(version, 1, &[&advertised, FORGETFUL])
    })
    .await
    .unwrap();
    let proxy = Proxy::start(listener, kafka.bootstrap.clone());
    (kafka, proxy)
}

async fn whatever_the_network_does(version: &'static str) {
    let _turn = ONE_CLUSTER_AT_A_TIME.lock().await;
    let (kafka, proxy) = broker_behind_a_proxy(version).await;
    let kinds = [
        Fault::ReplyLost,
        Fault::RequestCut,
        Fault::ReplyCut,
        Fault::Slow,
    ];
    for fault in kinds {
        for every in [2, 3, 7] {
            let what = format!("{version}: {fault:?}, every {every} requests");
            let scene = Scene::of(&kafka.bootstrap, 24).await;
            proxy.rule(move |nth| (nth % every == 0).then_some(fault));
            let report = scene.write(&WriteContext::unrecorded()).await;
            assert!(proxy.faults() > 0, "{what}: nothing happened");
            proxy.rule(|_| None);
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            scene.assert_as_planned(&report, &what);
            scene.assert_every_record_once(&kafka, &what);
        }
    }
    killed_and_gone_on_with(&kafka, &proxy).await;
}

/// The writer is gone in the middle, with a reply lost at that; another one goes on.
async fn killed_and_gone_on_with(kafka: &RealKafka, proxy: &Proxy) {
    for nth in [1, 2, 4, 7] {
        let what = format!("killed at request {nth}");
        let scene = Scene::of(&kafka.bootstrap, 24).await;
        let known: Arc<Mutex<Option<ProducerIdentity>>> = Arc::default();
        let context = |identity| {
            let known = known.clone();
            WriteContext {
                identity,
                identity_known: Arc::new(move |identity| {
                    *known.lock().unwrap() = Some(identity);
                    Ok(())
                }),
                ..WriteContext::unrecorded()
            }
        };
        let dead = Arc::new(tokio::sync::Notify::new());
        let tell = dead.clone();
        proxy.rule(move |request| {
            let last = request == nth;
            if last {
                tell.notify_one();
            }
            last.then_some(Fault::ReplyLost)
        });
        let fresh = context(None);
        tokio::select! {
            () = dead.notified() => {}
            done = scene.write(&fresh) => { done.unwrap(); }
        }
        proxy.rule(|_| None);
        let identity = *known.lock().unwrap();
        let client = connect(&kafka.bootstrap).await;
        let found = restore::reconcile_write(&scene.write, &scene.snapshot, &client, identity)
            .await
            .unwrap();
        assert!(
            !matches!(found, WriteProgress::Foreign(_)),
            "{what}: {found:?}"
        );
        let report = scene.write(&context(identity)).await;
        let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
        scene.assert_as_planned(&report, &what);
        scene.assert_every_record_once(kafka, &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost_and_connections_cut_leave_every_record_once_on_kafka_4_3_0() {
    whatever_the_network_does("4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost_and_connections_cut_leave_every_record_once_on_kafka_3_9_2() {
    whatever_the_network_does("3.9.2").await;
}

/// Tells when so many records were acknowledged.
struct Until {
    records: AtomicU64,
    wanted: u64,
    reached: tokio::sync::Notify,
}

impl Progress for Until {
    fn total(&self, _records: u64, _bytes: u64) {}
    fn advance(&self, records: u64, _bytes: u64) {
        let before = self.records.fetch_add(records, Ordering::SeqCst);
        if before < self.wanted && before + records >= self.wanted {
            self.reached.notify_one();
        }
    }
    fn doing(&self, _what: &str) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_while_it_is_written_to_leaves_every_record_once() {
    let _turn = ONE_CLUSTER_AT_A_TIME.lock().await;
    let kafka = tokio::task::spawn_blocking(|| RealKafka::start_with("4.3.0", 3, &[FORGETFUL]))
        .await
        .unwrap();
    let kafka = Arc::new(kafka);
    let scene = Scene::of(&kafka.bootstrap, 60).await;
    let all: u64 = scene.rows.iter().map(|rows| rows.len() as u64).sum();
    let until = Arc::new(Until {
        records: AtomicU64::new(0),
        wanted: all / 4,
        reached: tokio::sync::Notify::new(),
    });
    let context = WriteContext {
        progress: until.clone(),
        // Slow enough that there is something left to write when the broker dies.
        limit: Some(2 << 20),
        ..WriteContext::unrecorded()
    };
    let at = kbr::base::TopicPartition::new(scene.write.topic.clone(), 0);
    let leader = scene.client.leader(&at).await.unwrap();
    let kill = async {
        until.reached.notified().await;
        let cluster = kafka.clone();
        tokio::task::spawn_blocking(move || cluster.stop_node(leader.into(), true))
            .await
            .unwrap();
        until.records.load(Ordering::SeqCst)
    };
    let (report, there) = tokio::join!(scene.write(&context), kill);
    assert!(there < all, "the broker died too late to matter");
    let report = report.unwrap();
    scene.assert_as_planned(&report, "a leader killed");
    scene.assert_every_record_once(&kafka, "a leader killed");
    assert_ne!(scene.client.leader(&at).await.unwrap(), leader);
}

/// What Toxiproxy can do to a connection, and whether it ends it.
fn toxics() -> Vec<(Toxic, bool)> {
    let toxic = |kind, stream, attributes| Toxic {
        kind,
        stream,
        attributes,
    };
    vec![
        (
            toxic(
                "latency",
                "downstream",
                json!({ "latency": 120, "jitter": 100 }),
            ),
            false,
        ),
        (
            toxic("bandwidth", "upstream", json!({ "rate": 400 })),
            false,
        ),
        (
            toxic(
                "slicer",
                "upstream",
                json!({ "average_size": 700, "size_variation": 600, "delay": 20 }),
            ),
            false,
        ),
        // What was on its way does not arrive: neither the rest of a request nor the answer to it.
        (toxic("timeout", "upstream", json!({ "timeout": 60 })), true),
        (
            toxic("timeout", "downstream", json!({ "timeout": 60 })),
            true,
        ),
        // A connection ends within a frame.
        (
            toxic("limit_data", "upstream", json!({ "bytes": 30_000 })),
            true,
        ),
        (
            toxic("limit_data", "downstream", json!({ "bytes": 70 })),
            true,
        ),
        (
            toxic("reset_peer", "downstream", json!({ "timeout": 0 })),
            true,
        ),
    ]
}

async fn whatever_toxiproxy_does(version: &'static str) {
    let _turn = ONE_CLUSTER_AT_A_TIME.lock().await;
    let start = || {
        let toxiproxy = Toxiproxy::start();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
        let kafka = RealKafka::start_with(version, 1, &[&advertised, FORGETFUL]);
        toxiproxy.proxy(port, &kafka.bootstrap);
        (toxiproxy, kafka)
    };
    let (toxiproxy, kafka) = tokio::task::spawn_blocking(start).await.unwrap();
    let toxiproxy = Arc::new(toxiproxy);
    let mut faults: Vec<Option<(Toxic, bool)>> = toxics().into_iter().map(Some).collect();
    // Without a toxic it is the whole proxy that is down for a while.
    faults.push(None);
    for fault in faults {
        let what = match &fault {
            Some((toxic, _)) => format!("{version}: {} {}", toxic.kind, toxic.stream),
            None => format!("{version}: nobody answers"),
        };
        let scene = Scene::of(&kafka.bootstrap, 20).await;
        let before = toxiproxy.connections();
        let done = Arc::new(AtomicU64::new(0));
        let (strike, over) = (fault.clone(), done.clone());
        let proxy = toxiproxy.clone();
        let trouble = tokio::task::spawn_blocking(move || {
            let mut strikes = 0;
            // The restore has its own limit of time, and this ends with it.
            while over.load(Ordering::SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(150));
                match &strike {
                    Some((toxic, _)) => proxy.add(toxic),
                    None => proxy.enable(false),
                }
                std::thread::sleep(Duration::from_millis(250));
                match &strike {
                    Some((toxic, _)) => proxy.remove(toxic),
                    None => proxy.enable(true),
                }
                strikes += 1;
            }
            strikes
        });
        let context = WriteContext {
            // So that it takes a while, and is struck several times.
            limit: Some(3 << 19),
            ..WriteContext::unrecorded()
        };
        let report = scene.write(&context).await;
        done.store(1, Ordering::SeqCst);
        let strikes = trouble.await.unwrap();
        let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(strikes > 1, "{what}: it was over too soon");
        let again = toxiproxy.connections() - before;
        if fault.is_none_or(|(_, ends)| ends) {
            // The first ones, of which there are a few, and those after a strike.
            assert!(again > 3, "{what}: {again} connections, none was cut");
        }
        scene.assert_as_planned(&report, &what);
        scene.assert_every_record_once(&kafka, &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_toxiproxy_does_every_record_is_there_once_on_kafka_4_3_0() {
    whatever_toxiproxy_does("4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_toxiproxy_does_every_record_is_there_once_on_kafka_3_9_2() {
    whatever_toxiproxy_does("3.9.2").await;
}
