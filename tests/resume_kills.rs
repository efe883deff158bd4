//! kill -9 at any place of a failover, then `kbr resume`: every record once and in order, the mapping of an uninterrupted
//! run, the real configs in force, the groups where they belong.
//!
//! The target is a sandbox in this process, kbr the real binary in another: killed at every request that the target sees
//! and before every change of its journal, which are the boundaries of its steps, and again while it resumes.

mod cli_scene;

use cli_scene::{FAILOVER, Folder, Scene, batch};
use kbr::base::Digest;
use kbr::run::Journal;
use kbr::sandbox::{Action, Sandbox, SandboxOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
const LIMIT: Duration = Duration::from_secs(60);
/// Rounds that run side by side: most of a round is waiting.
const AT_ONCE: u64 = 4;

/// Where each record of a run went: source partition, target partition, records, digest.
type Mappings = Vec<(i32, i32, u64, Digest)>;

/// What every round begins with: the source's records, its archive, and how an uninterrupted run ends.
struct Base {
    scene: Scene,
    digest: String,
    mappings: Mappings,
    values: Vec<Vec<(i64, String)>>,
}

fn values(sandbox: &Sandbox, topic: &str) -> Vec<Vec<(i64, String)>> {
    (0..2)
        .map(|partition| {
            let records = sandbox.records(topic, partition).unwrap();
            let text = |key: Option<Vec<u8>>| String::from_utf8(key.unwrap()).unwrap();
            records
                .into_iter()
                .map(|record| (record.offset.0, text(record.key)))
                .collect()
        })
        .collect()
}

impl Base {
    async fn new() -> Arc<Self> {
        let scene = Scene::new().await;
        for partition in 0..2 {
            for order in 5..60 {
                let key = format!("order-{order}");
                scene
                    .prod
                    .append("orders", partition, &batch(&key))
                    .unwrap();
            }
        }
        scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
        let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
        let words = ["run", "failover.rhai", "--execute", "--confirm", &digest];
        scene.kbr(&words).expect(0);
        let expected = values(&scene.prod, "orders");
        assert_eq!(values(&scene.dr, "orders_dr"), expected);
        let mappings = mappings(&scene.folder);
        assert_eq!(mappings.len(), 2);
        Arc::new(Self {
            digest,
            mappings,
            values: expected,
            scene,
        })
    }
}

/// Those of the newest run.
fn mappings(folder: &Folder) -> Mappings {
    let journal = Journal::open_existing(&folder.file("state/journal.db"));
    let journal = journal.unwrap().unwrap();
    assert_eq!(journal.verify().unwrap(), None);
    let runs = journal.runs(1).unwrap();
    let kept = journal.mappings(&runs[0].run).unwrap();
    kept.into_iter()
        .map(|(_, kept)| {
            (
                kept.source_partition,
                kept.target_partition,
                kept.records,
                kept.digest,
            )
        })
        .collect()
}

/// One target and one machine of its own, with the archive of the base.
struct Round {
    base: Arc<Base>,
    folder: Folder,
    dr: Sandbox,
    when: String,
}

type Shared = Arc<Mutex<Option<Child>>>;

impl Round {
    async fn new(base: &Arc<Base>, when: String) -> Self {
        // A sandbox's cluster id comes from its name: the plan's digest is the same in every round.
        let dr = Sandbox::start(SandboxOptions::named("dr")).await.unwrap();
        let folder = Folder::new();
        let archive = base.scene.folder.file("archive");
        folder
            .clusters(&[
                ("prod", &base.scene.prod.bootstrap().join(",")),
                ("dr", &dr.bootstrap().join(",")),
            ])
            .write("failover.rhai", FAILOVER);
        std::os::unix::fs::symlink(archive, folder.file("archive")).unwrap();
        Self {
            base: base.clone(),
            folder,
            dr,
            when,
        }
    }

    /// kbr with these words, under a handle by which it can be killed.
    fn start(&self, words: &[&str], environment: &[(&str, &str)], shared: &Shared) {
        let mut command = self.folder.command(words);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *shared.lock().unwrap() = Some(command.spawn().unwrap());
    }

    fn end(&self, shared: &Shared) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ended = shared.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            if let Some(status) = ended {
                return status;
            }
            if Instant::now() > deadline {
                shared.lock().unwrap().as_mut().unwrap().kill().unwrap();
                panic!("{}: kbr did not end within {LIMIT:?}", self.when);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// kbr, killed at the nth request that the target sees; its status.
    fn killed_at_request(&self, words: &[&str], nth: u64) -> ExitStatus {
        let shared = Shared::default();
        let (target, seen) = (shared.clone(), AtomicU64::new(0));
        self.dr.intercept(move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 != nth {
                return Action::Pass;
            }
            // kbr asks only once it runs, but its handle may come a moment later.
            loop {
                if let Some(child) = target.lock().unwrap().as_mut() {
                    let _ = child.kill();
                    // Some requests are carried out although nobody hears the answer.
                    return if nth.is_multiple_of(2) {
                        Action::Pass
                    } else {
                        Action::Drop
                    };
                }
                std::thread::yield_now();
            }
        });
        self.start(words, &[], &shared);
        let status = self.end(&shared);
        self.dr.clear_interceptors();
        status
    }

    /// kbr, killed before its nth change of the journal.
    fn killed_at_change(&self, words: &[&str], library: &str, nth: u64) -> ExitStatus {
        let shared = Shared::default();
        let state = self.folder.file("state").display().to_string();
        let nth = nth.to_string();
        let environment = [
            ("LD_PRELOAD", library),
            ("CRASH_UNDER", &state),
            ("CRASH_AT", &nth),
        ];
        self.start(words, &environment, &shared);
        self.end(&shared)
    }

    fn execute(&self) -> Vec<&str> {
        let digest = self.base.digest.as_str();
        vec!["run", "failover.rhai", "--execute", "--confirm", digest]
    }

    fn resume(&self) -> Vec<&str> {
        vec!["resume", "--confirm", self.base.digest.as_str()]
    }

    /// Whether a run was journalled at all before the kill.
    fn has_run(&self) -> bool {
        let path = self.folder.file("state/journal.db");
        // Killed while the journal was being made: nothing is in it.
        let journal = Journal::open_existing(&path).ok().flatten();
        journal.is_some_and(|journal| journal.runs(1).is_ok_and(|runs| !runs.is_empty()))
    }

    /// Goes on to the end, as an operator would, and looks at everything.
    fn recover(&self) {
        let words = match self.has_run() {
            true => self.resume(),
            false => self.execute(),
        };
        let ran = self.folder.kbr(&words);
        assert_eq!(ran.code, 0, "{}: {}", self.when, ran.text());
        self.assert_whole();
        let again = self.folder.kbr(&["resume"]).expect(0);
        assert!(
            again
                .stdout
                .contains("no run of this machine is unfinished")
        );
    }

    fn assert_whole(&self) {
        let when = &self.when;
        assert_eq!(values(&self.dr, "orders_dr"), self.base.values, "{when}");
        assert_eq!(mappings(&self.folder), self.base.mappings, "{when}");
        let real = |sandbox: &Sandbox, topic: &str| sandbox.topic_configs(topic).unwrap();
        let wanted = real(&self.base.scene.dr, "orders_dr");
        assert_eq!(real(&self.dr, "orders_dr"), wanted, "{when}");
        for group in ["checkout-api", "checkout-audit"] {
            let wanted = self.base.scene.dr.committed(group);
            assert_eq!(self.dr.committed(group), wanted, "{when}: {group}");
        }
    }
}

/// Rounds 1, 2, …, some at a time, until one is not killed any more; how many were killed.
async fn rounds<F>(least: u64, round: F) -> u64
where
    F: Fn(u64) -> tokio::task::JoinHandle<bool>,
{
    let mut killed = 0;
    let mut next = 1;
    loop {
        let started: Vec<_> = (next..next + AT_ONCE).map(&round).collect();
        next += AT_ONCE;
        let mut over = false;
        for task in started {
            match task.await.unwrap() {
                true => killed += 1,
                false => over = true,
            }
        }
        if over {
            assert!(killed >= least, "only {killed} rounds were killed");
            return killed;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_killed_at_any_request_is_resumed_to_the_same_end() {
    let base = Base::new().await;
    let killed = rounds(30, |nth| {
        let base = base.clone();
        tokio::spawn(async move {
            let round = Round::new(&base, format!("killed at request {nth}")).await;
            let killed = tokio::task::block_in_place(|| {
                let status = round.killed_at_request(&round.execute(), nth);
                if status.signal() == Some(SIGKILL) {
                    round.recover();
                    return true;
                }
                assert_eq!(status.code(), Some(0), "{}: {status}", round.when);
                round.assert_whole();
                false
            });
            round.dr.shutdown().await;
            killed
        })
    })
    .await;
    println!("{killed} kills at requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resume_killed_at_any_request_is_resumed_to_the_same_end() {
    let base = Base::new().await;
    let killed = rounds(10, |nth| {
        let base = base.clone();
        tokio::spawn(async move {
            let round = Round::new(&base, format!("killed, and at request {nth} again")).await;
            let killed = tokio::task::block_in_place(|| {
                // In the middle of the write.
                let status = round.killed_at_request(&round.execute(), 24);
                assert_eq!(status.signal(), Some(SIGKILL), "{}: {status}", round.when);
                if !round.has_run() {
                    return true;
                }
                let status = round.killed_at_request(&round.resume(), nth);
                if status.signal() == Some(SIGKILL) {
                    round.recover();
                    return true;
                }
                assert_eq!(status.code(), Some(0), "{}: {status}", round.when);
                round.assert_whole();
                false
            });
            round.dr.shutdown().await;
            killed
        })
    })
    .await;
    println!("{killed} kills at requests of a resume");
}

/// Compiles the library that kills the process it is loaded into.
fn crash_point(folder: &Folder) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/crash_point.c");
    let library = folder.file("crash_point.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library);
    compile.args([source, "-ldl"]);
    let output = cli_scene::run_to_end(&mut compile, b"", LIMIT);
    assert!(output.status.success(), "cc failed");
    library
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_killed_before_any_change_of_its_journal_is_resumed_to_the_same_end() {
    let base = Base::new().await;
    let library = crash_point(&base.scene.folder).display().to_string();
    let killed = rounds(60, |nth| {
        let (base, library) = (base.clone(), library.clone());
        tokio::spawn(async move {
            let round = Round::new(&base, format!("killed before change {nth}")).await;
            let killed = tokio::task::block_in_place(|| {
                let status = round.killed_at_change(&round.execute(), &library, nth);
                if status.signal() == Some(SIGKILL) {
                    round.recover();
                    return true;
                }
                assert_eq!(status.code(), Some(0), "{}: {status}", round.when);
                round.assert_whole();
                false
            });
            round.dr.shutdown().await;
            killed
        })
    })
    .await;
    println!("{killed} kills at changes of the journal");
}
