//! Apache Kafka's Java client as a companion of a test (`tests/kafka/Session.java`): one process, one question and one
//! answer a line. It writes what is backed up and reads it back as a consumer does.

use super::Records;
use crate::support::RealKafka;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka");
const LIMIT: Duration = Duration::from_secs(150);

pub struct Java {
    child: Child,
    talk: Mutex<(ChildStdin, Receiver<String>)>,
}

impl Java {
    pub fn of(kafka: &RealKafka) -> Self {
        let mut child = Command::new(SCRIPT)
            .args(["helper", "--version", kafka.version, "session"])
            .args(["--bootstrap", &kafka.bootstrap])
            .env("KBR_KAFKA_LOG_LEVEL", "ERROR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{SCRIPT} cannot be started: {error}"));
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, receiver) = channel();
        // A thread reads, so that a client that hangs cannot hang the test with it.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let java = Self {
            child,
            talk: Mutex::new((stdin, receiver)),
        };
        assert_eq!(java.hear(&java.lock()), json!({ "ready": true }));
        java
    }

    fn lock(&self) -> MutexGuard<'_, (ChildStdin, Receiver<String>)> {
        self.talk
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn hear(&self, talk: &(ChildStdin, Receiver<String>)) -> Value {
        let line = talk.1.recv_timeout(LIMIT).expect("the Java client answers");
        serde_json::from_str(&line).unwrap()
    }

    /// One command, whatever comes of it.
    pub fn try_ask(&self, command: Value) -> Value {
        let mut talk = self.lock();
        writeln!(talk.0, "{command}").unwrap();
        self.hear(&talk)
    }

    /// One command, which has to succeed.
    #[track_caller]
    pub fn ask(&self, command: Value) -> Value {
        let answer = self.try_ask(command.clone());
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }

    #[track_caller]
    pub fn create(&self, topic: &str, partitions: i32, configs: Value) {
        self.ask(json!({
            "do": "create", "topic": topic, "partitions": partitions, "configs": configs,
        }));
    }

    /// Log start, last stable offset and high watermark of a partition.
    #[track_caller]
    pub fn ends(&self, topic: &str, partition: usize) -> (i64, i64, i64) {
        let answer = self.ask(json!({ "do": "ends", "topic": topic }));
        let ends = &answer["partitions"][partition];
        let number = |name: &str| ends[name].as_i64().unwrap();
        (number("start"), number("stable"), number("end"))
    }

    /// The broker that leads partition 0; −1: none.
    #[track_caller]
    pub fn leader(&self, topic: &str) -> i64 {
        let answer = self.ask(json!({ "do": "describe", "topic": topic }));
        answer["partitions"][0]["leader"].as_i64().unwrap()
    }

    /// What a read_committed consumer sees of the topics.
    #[track_caller]
    pub fn dump(&self, topics: &[&str]) -> Records {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.ask(json!({ "do": "dump", "topics": topics, "file": file.path() }));
        Records::of_consumer(&std::fs::read_to_string(file.path()).unwrap())
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // Nothing it has open is worth a polite end: brokers time out what is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
