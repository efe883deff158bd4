//! Runs of `kbr run backup.rhai --execute` in a folder, with an archive on disk.

use super::records::{Records, assert_undamaged};
use crate::support::{Folder, Ran, RealKafka, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder whose runbook backs the chosen topics up into `archive`.
pub struct Backups {
    pub folder: Folder,
}

/// What a run said of itself.
pub struct Report {
    pub exit: i64,
    /// The whole answer in JSON.
    pub json: Value,
    /// What it wrote to standard error, its log among it.
    pub log: String,
}

impl Backups {
    /// `topics` are patterns for topics and for groups.
    pub fn of(kafka: &RealKafka, topics: &[&str]) -> Self {
        let folder = Folder::new();
        folder.clusters(&[("prod", &kafka.bootstrap)]);
        let backups = Self { folder };
        backups.select(topics);
        backups
    }

    pub fn select(&self, topics: &[&str]) {
        let topics: Vec<String> = topics.iter().map(|one| format!("{one:?}")).collect();
        self.folder.write(
            "backup.rhai",
            &format!(
                "backup(cluster(\"prod\")).topics({}).to(store(\"file:archive\"));\n",
                topics.join(", ")
            ),
        );
    }

    /// How long a partition may go without anything new.
    pub fn deadline(&self, duration: &str) {
        let script = std::fs::read_to_string(self.folder.file("backup.rhai")).unwrap();
        let script = script.replace(".to(store", &format!(".deadline({duration}).to(store"));
        self.folder.write("backup.rhai", &script);
    }

    pub fn archive(&self) -> PathBuf {
        self.folder.file("archive")
    }

    fn command(&self) -> Command {
        self.folder
            .command(&["run", "backup.rhai", "--execute", "--output", "json"])
    }

    /// One run from beginning to end; it has to end with this exit status.
    #[track_caller]
    pub fn run(&self, exit: i32) -> Report {
        self.start().end(exit)
    }

    /// A run that goes on beside the test.
    pub fn start(&self) -> Running {
        let output = tempfile::NamedTempFile::new().unwrap();
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.command();
        command
            // How a test knows how far a run has come.
            .env("KBR_LOG", "kbr::engine::backup=trace")
            .stdin(Stdio::null())
            .stdout(output.reopen().unwrap())
            .stderr(errors.reopen().unwrap());
        Running {
            child: command.spawn().unwrap(),
            output,
            errors,
        }
    }

    /// Every current record, after a look at every hash and checksum.
    pub fn archived(&self) -> Records {
        assert_undamaged(&self.archive());
        Records::of_archive(&self.archive())
    }
}

pub struct Running {
    child: Child,
    output: tempfile::NamedTempFile,
    errors: tempfile::NamedTempFile,
}

impl Running {
    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(done.unwrap().success());
    }

    /// Waits until it has read something of every one of these partitions (`topic-0`).
    #[track_caller]
    pub fn await_reading(&mut self, partitions: &[&str]) {
        wait_until("the run reads", Duration::from_secs(60), || {
            assert!(self.is_running(), "it was to be slower");
            let log = std::fs::read_to_string(self.errors.path()).unwrap();
            let is_read = |at: &&str| log.contains(&format!("read partition={at} "));
            partitions.iter().all(is_read)
        });
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    pub fn end(self, exit: i32) -> Report {
        self.end_within(exit, Duration::from_secs(150))
    }

    #[track_caller]
    pub fn end_within(mut self, exit: i32, limit: Duration) -> Report {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "kbr did not end within {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let text = std::fs::read_to_string(self.output.path()).unwrap();
        let errors = std::fs::read_to_string(self.errors.path()).unwrap();
        assert_eq!(
            status.code(),
            Some(exit),
            "exit status\n── stdout\n{text}\n── stderr\n{errors}"
        );
        let json: Value = match serde_json::from_str(&text) {
            Ok(json) => json,
            Err(error) => panic!("{error}\n── stdout\n{text}\n── stderr\n{errors}"),
        };
        assert_eq!(json["exit"], exit, "{text}");
        Report {
            exit: i64::from(exit),
            json,
            log: errors,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// The engine's own report of the step.
    pub fn step(&self) -> &Value {
        &self.json["steps"][0]["outcome"]["value"]
    }

    pub fn records(&self) -> u64 {
        self.step()["records"].as_u64().unwrap()
    }

    /// The sentences on what is missing.
    pub fn incomplete(&self) -> Vec<String> {
        let sentences = self.json["incomplete"].as_array().unwrap();
        sentences
            .iter()
            .map(|sentence| sentence.as_str().unwrap().to_string())
            .collect()
    }

    /// What the summary says to people beside that.
    pub fn lines(&self) -> String {
        let lines = self.json["steps"][0]["outcome"]["lines"].as_array();
        let lines = lines.map(Vec::as_slice).unwrap_or_default().iter();
        lines
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The state of a topic in the plan.
    pub fn state(&self, topic: &str) -> String {
        let topics = self.json["plan"]["items"][0]["pinned"]["topics"].as_array();
        let topic = topics
            .unwrap()
            .iter()
            .find(|planned| planned["name"] == topic)
            .unwrap();
        topic["state"]["state"].as_str().unwrap().to_string()
    }
}
