//! A consumer of another make that stays in its group.

use kbr::kafka::{Client, ConnectOptions};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
