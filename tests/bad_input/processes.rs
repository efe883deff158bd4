//! What stands beside a session: an HTTP server, a port where nothing listens, a consumer that stays in its group.

use kbr::kafka::{Client, ConnectOptions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A port of this machine that was free a moment ago.
pub fn refused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Answers everything as web servers answer what they cannot read. Dropping it stops it.
pub struct HttpServer {
    pub address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut connection = connection.unwrap();
                connection
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                let mut request = [0; 1024];
                // A client that is gone again is not the server's trouble.
                let _ = connection.read(&mut request);
                let _ = connection.write_all(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread, which then sees the flag.
        let _ = std::net::TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// kcat as a member of a group, until it is dropped.
pub struct Consumer {
    child: Child,
}

impl Consumer {
    /// Starts it and waits until the coordinator lists it with its subscription.
    pub async fn join(bootstrap: &str, group: &str, topic: &str) -> Self {
        let child = Command::new("kcat")
            .args(["-b", bootstrap, "-G", group, "-q", topic])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kcat is installed");
        let consumer = Self { child };
        let client = Client::connect(ConnectOptions::new(vec![bootstrap.to_string()]))
            .await
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let described = client.describe_groups(&[group.to_string()]).await.unwrap();
            if let Some(Ok(description)) = described.get(group)
                && let [member] = description.members.as_slice()
                && member.topics.iter().any(|name| name == topic)
                && description.state == "Stable"
            {
                return consumer;
            }
            assert!(Instant::now() < deadline, "kcat never joined {group}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
