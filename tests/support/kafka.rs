//! Real Apache Kafka for a test, through `scripts/kafka`, and clients of other people's making.
//!
//! `scripts/test` starts the clusters once and names them in `KBR_TEST_KAFKA_*`. Without those variables a
//! test process starts its own and shares them between its tests; the last one that lets go stops them,
//! also while a panic unwinds, and `--while` covers a process that is killed.

use super::process::run_to_end;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka");
const LIMIT: Duration = Duration::from_secs(120);

/// One cluster of real brokers.
pub struct RealKafka {
    pub bootstrap: String,
    pub version: &'static str,
    /// The name to stop it by, if this process started it.
    started: Option<String>,
}

type Shared = Mutex<Weak<RealKafka>>;
static SOURCE: Shared = Mutex::new(Weak::new());
static TARGET: Shared = Mutex::new(Weak::new());
static OLD: Shared = Mutex::new(Weak::new());

impl RealKafka {
    /// Apache Kafka 4.3.0: the cluster that is backed up.
    pub fn source() -> Arc<Self> {
        Self::shared(&SOURCE, "KBR_TEST_KAFKA_430", "4.3.0")
    }

    /// Another cluster of the same version: the one that is restored to.
    pub fn target() -> Arc<Self> {
        Self::shared(&TARGET, "KBR_TEST_KAFKA_430_OTHER", "4.3.0")
    }

    /// Apache Kafka 3.9.2.
    pub fn old() -> Arc<Self> {
        Self::shared(&OLD, "KBR_TEST_KAFKA_392", "3.9.2")
    }

    fn shared(place: &Shared, variable: &str, version: &'static str) -> Arc<Self> {
        // A test that panicked while it held the lock has not harmed the weak pointer inside.
        let mut place = place
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(running) = place.upgrade() {
            return running;
        }
        let cluster = match std::env::var(variable) {
            Ok(bootstrap) => Self {
                bootstrap,
                version,
                started: None,
            },
            Err(_) => Self::start(version, 1),
        };
        let cluster = Arc::new(cluster);
        *place = Arc::downgrade(&cluster);
        cluster
    }

    /// The broker of this version that the environment names, else one of this test's own.
    pub fn running(version: &'static str) -> Self {
        let variable = format!("KBR_TEST_KAFKA_{}", version.replace('.', ""));
        match std::env::var(variable) {
            Ok(bootstrap) => Self {
                bootstrap,
                version,
                started: None,
            },
            Err(_) => Self::start(version, 1),
        }
    }

    /// A cluster of this test's own, stopped when it is dropped.
    pub fn start(version: &'static str, nodes: usize) -> Self {
        Self::start_with(version, nodes, &[])
    }

    /// The same with more lines for `server.properties`.
    pub fn start_with(version: &'static str, nodes: usize, settings: &[&str]) -> Self {
        let name = unique("test");
        let (nodes, pid) = (nodes.to_string(), std::process::id().to_string());
        let mut arguments = vec!["start", "--name", &name, "--version", version];
        arguments.extend(["--nodes", &nodes, "--while", &pid]);
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let bootstrap = script(&arguments);
        Self {
            bootstrap: bootstrap.trim().to_string(),
            version,
            started: Some(name),
        }
    }

    /// Ends one node of a cluster that this test started, without warning (`kill`) or politely; its data stays.
    pub fn stop_node(&self, node: i64, kill: bool) {
        let (name, node) = (self.started.as_deref().unwrap(), node.to_string());
        let mut arguments = vec!["stop", "--name", name, "--node", &node];
        arguments.extend(kill.then_some("--kill"));
        script(&arguments);
    }

    /// Starts a stopped node again.
    pub fn start_node(&self, node: i64) {
        let (name, node) = (self.started.as_deref().unwrap(), node.to_string());
        script(&["start", "--name", name, "--node", &node]);
    }

    /// The folder in which a node of this test's own cluster keeps its logs.
    pub fn node_data(&self, node: i64) -> std::path::PathBuf {
        let folder = script(&["folder", "--name", self.started.as_deref().unwrap()]);
        std::path::Path::new(folder.trim()).join(format!("node-{node}/data"))
    }

    /// Runs kcat against this cluster and returns its standard output.
    pub fn kcat(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.bootstrap]).args(arguments);
        succeed(&mut command, input)
    }

    /// Runs one of Kafka's own tools against this cluster.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> String {
        kafka_tool(
            self.version,
            tool,
            &[&["--bootstrap-server", &self.bootstrap], arguments].concat(),
        )
    }

    /// Runs the Java client (`tests/kafka/Helper.java`) against this cluster.
    pub fn helper(&self, command: &str, arguments: &[&str]) -> String {
        let mut all = vec![
            "helper",
            "--version",
            self.version,
            command,
            "--bootstrap",
            &self.bootstrap,
        ];
        all.extend(arguments);
        script(&all)
    }

    /// Starts a command of the Java client that stays until the returned value is dropped, once it has
    /// printed `ready`.
    pub fn helper_until_dropped(&self, ready: &str, command: &str, arguments: &[&str]) -> Helper {
        let mut child = Command::new(SCRIPT)
            .args([
                "helper",
                "--version",
                self.version,
                command,
                "--bootstrap",
                &self.bootstrap,
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{SCRIPT} cannot be started: {error}"));
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let helper = Helper { child, stdin };
        assert_eq!(line.trim(), ready, "helper {command} {arguments:?}");
        helper
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        if let Some(name) = &self.started {
            // Not `script`: a second panic while one unwinds would abort and lose the first one's message.
            let _ = Command::new(SCRIPT).args(["stop", "--name", name]).output();
        }
    }
}

/// A Java client that runs beside the test. Dropping it ends its input, which makes it leave politely.
pub struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs one of Kafka's own command line tools of a version.
pub fn kafka_tool(version: &str, tool: &str, arguments: &[&str]) -> String {
    script(&[&["tool", "--version", version, tool], arguments].concat())
}

/// A name that no other test, and no earlier run, has used on these clusters.
pub fn unique(prefix: &str) -> String {
    format!(
        "{prefix}-{}",
        &uuid::Uuid::new_v4().simple().to_string()[..8]
    )
}

fn script(arguments: &[&str]) -> String {
    succeed(Command::new(SCRIPT).args(arguments), "")
}

fn succeed(command: &mut Command, input: &str) -> String {
    let output = run_to_end(command, input.as_bytes(), LIMIT);
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
