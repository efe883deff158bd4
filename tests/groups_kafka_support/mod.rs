//! Groups of a real cluster, and what networks do to the requests of a transaction.

// Each test program uses its own part of this.
#![allow(dead_code)]

use crate::support::{RealKafka, unique};
use kbr::base::{Offset, TopicPartition};
use kbr::kafka::{Client, CommitWanted, ConnectOptions, NewTopic};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const LIMIT: Duration = Duration::from_secs(120);

pub async fn connect(bootstrap: &str) -> Client {
    Client::connect(ConnectOptions::new([bootstrap]))
        .await
        .unwrap()
}

/// A topic with ten records in each of its two partitions.
pub async fn topic(kafka: &RealKafka, client: &Client) -> String {
    let name = unique("groups");
    let new = NewTopic {
        name: name.clone(),
        partitions: 2,
        replication_factor: 1,
        configs: BTreeMap::default(),
    };
    let made = client.create_topics(&[new], false).await.unwrap();
    made[0].1.as_ref().unwrap();
    tokio::task::block_in_place(|| {
        for partition in ["0", "1"] {
            let records: String = (0..10).map(|number| format!("record {number}\n")).collect();
            kafka.kcat(&["-P", "-t", &name, "-p", partition], &records);
        }
    });
    name
}

pub async fn commit(client: &Client, group: &str, topic: &str, offsets: &[(i32, i64, &str)]) {
    let wanted: BTreeMap<_, _> = offsets
        .iter()
        .map(|(partition, offset, metadata)| {
            let wanted = CommitWanted {
                offset: Offset(*offset),
                metadata: metadata.to_string(),
            };
            (TopicPartition::new(topic, *partition), wanted)
        })
        .collect();
    for (at, code) in client.commit_offsets(group, &wanted).await.unwrap() {
        assert!(code.is_ok(), "{group} {at}: {code}");
    }
}

/// Partition, offset, metadata, leader epoch; of all topics, sorted.
pub async fn committed(client: &Client, group: &str) -> Vec<(i32, i64, String, i32)> {
    let groups = [group.to_string()];
    let mut found = client.committed_offsets(&groups, true).await.unwrap();
    let found = found.remove(group).unwrap().unwrap().into_iter();
    found
        .map(|(at, one)| (at.partition.0, one.offset.0, one.metadata, one.leader_epoch))
        .collect()
}

pub fn at(partition: i32, offset: i64, metadata: &str) -> (i32, i64, String, i32) {
    (partition, offset, metadata.to_string(), -1)
}

/// Kills a process at the nth request of a transaction that goes through it; without one the connection is cut.
#[derive(Default)]
pub struct Strike {
    pub seen: AtomicU64,
    /// 0: never.
    pub nth: AtomicU64,
    /// Whether the request still arrives.
    pub arrives: std::sync::atomic::AtomicBool,
    pub target: Mutex<Option<u32>>,
    pub cuts: AtomicU64,
    /// Of each kind of request, how many there were.
    pub kinds: Mutex<BTreeMap<i16, u64>>,
}

pub async fn frame(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let size = from.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(size).ok()? + 4];
    frame[..4].copy_from_slice(&size.to_be_bytes());
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

pub async fn proxy(listener: TcpListener, broker: String, strike: Arc<Strike>) {
    while let Ok((client, _)) = listener.accept().await {
        let (broker, strike) = (broker.clone(), strike.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&broker).await else {
                return;
            };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let there = async {
                while let Some(frame) = frame(&mut from_client).await {
                    let key = i16::from_be_bytes([frame[4], frame[5]]);
                    if matches!(key, 22 | 25 | 26 | 28) {
                        *strike.kinds.lock().unwrap().entry(key).or_default() += 1;
                        let nth = strike.seen.fetch_add(1, Ordering::SeqCst) + 1;
                        if nth == strike.nth.load(Ordering::SeqCst) {
                            let arrives = strike.arrives.load(Ordering::SeqCst);
                            let target = strike.target.lock().unwrap().take();
                            if let Some(pid) = target {
                                let pid = pid.to_string();
                                let killed = std::process::Command::new("kill")
                                    .args(["-9", &pid])
                                    .status();
                                assert!(killed.unwrap().success());
                            } else {
                                strike.cuts.fetch_add(1, Ordering::SeqCst);
                                if arrives {
                                    to_server.write_all(&frame).await.unwrap();
                                }
                                return arrives;
                            }
                            if !arrives {
                                return false;
                            }
                        }
                    }
                    if to_server.write_all(&frame).await.is_err() {
                        return false;
                    }
                }
                // What was sent by a process that died is still carried out.
                std::future::pending::<bool>().await
            };
            let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
            let unheard = tokio::select! {
                unheard = there => unheard,
                _ = back => false,
                () = tokio::time::sleep(LIMIT) => false,
            };
            drop((from_client, to_client));
            if unheard {
                // A broker need not carry out what comes from a connection that has ended: it ends after the answer.
                let _ = tokio::time::timeout(LIMIT, frame(&mut from_server)).await;
            }
        });
    }
}

pub async fn offsets(client: &Client, names: &[String], stable: bool) -> Vec<i64> {
    let found = client.committed_offsets(names, stable).await.unwrap();
    let found = found
        .into_values()
        .flat_map(|offsets| offsets.unwrap().into_values());
    let found: Vec<i64> = found.map(|one| one.offset.0).collect();
    assert_eq!(found.len(), 2 * names.len());
    found
}

/// As Kafka's own tool sees it.
pub fn nothing_hangs(kafka: &RealKafka) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let listed = tokio::task::block_in_place(|| kafka.tool("kafka-transactions", &["list"]));
        let ours: Vec<&str> = listed
            .lines()
            .filter(|line| line.contains("kbr-"))
            .collect();
        assert!(!ours.is_empty(), "{listed}");
        // A verdict that is given takes a moment to be written everywhere.
        let open = ours.iter().any(|line| {
            !line.contains("CompleteCommit")
                && !line.contains("CompleteAbort")
                && !line.contains("Empty")
        });
        if !open {
            break;
        }
        assert!(Instant::now() < until, "{listed}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let broker = ["find-hanging", "--broker-id", "1"];
    let hanging = tokio::task::block_in_place(|| kafka.tool("kafka-transactions", &broker));
    assert!(
        !hanging.contains("kbr-") && hanging.lines().count() <= 1,
        "{hanging}"
    );
}
