//! Toxiproxy in front of one broker: the network as it is when it is bad, by somebody else's hand.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/toxiproxy");
const PATIENCE: Duration = Duration::from_secs(20);

/// One thing that goes wrong, in Toxiproxy's words.
#[derive(Clone, Debug)]
pub struct Toxic {
    pub kind: &'static str,
    /// `upstream`: what kbr sends; `downstream`: what the broker answers.
    pub stream: &'static str,
    pub attributes: Value,
}

pub struct Toxiproxy {
    child: Child,
    api: SocketAddr,
    log: tempfile::NamedTempFile,
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Toxiproxy {
    pub fn start() -> Self {
        let built = Command::new(SCRIPT).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{SCRIPT}: {said}");
        let binary = String::from_utf8(built.stdout).unwrap();
        let api = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new(binary.trim())
            .args(["-host", "127.0.0.1", "-port", &api.port().to_string()])
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let toxiproxy = Self { child, api, log };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(toxiproxy.api).is_err() {
            assert!(Instant::now() < deadline, "Toxiproxy does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        toxiproxy
    }

    /// From now on what is sent to `port` goes to `broker`.
    pub fn proxy(&self, port: u16, broker: &str) {
        self.ask(
            "POST",
            "/proxies",
            json!({ "name": "broker", "listen": format!("127.0.0.1:{port}"), "upstream": broker, "enabled": true }),
        );
    }

    pub fn add(&self, toxic: &Toxic) {
        self.ask(
            "POST",
            "/proxies/broker/toxics",
            json!({ "name": toxic.stream, "type": toxic.kind, "stream": toxic.stream, "toxicity": 1.0,
                "attributes": toxic.attributes }),
        );
    }

    pub fn remove(&self, toxic: &Toxic) {
        let path = format!("/proxies/broker/toxics/{}", toxic.stream);
        self.ask("DELETE", &path, Value::Null);
    }

    /// Whether it listens at all; what is connected when it stops is cut.
    pub fn enable(&self, enabled: bool) {
        self.ask("POST", "/proxies/broker", json!({ "enabled": enabled }));
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        let log = std::fs::read_to_string(self.log.path()).unwrap();
        log.matches("Accepted client").count()
    }

    fn ask(&self, method: &str, path: &str, body: Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut connection = TcpStream::connect(self.api).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.api,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 2"),
            "{method} {path}: {answer}"
        );
    }
}
