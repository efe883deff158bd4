//! kill -9 at any place of a run, then `kbr resume`: every record once and in order, the mapping of an uninterrupted run,
//! the real configs in force, the groups where they belong.
//!
//! The target is a sandbox in this process, kbr the real binary in another. It is killed at every request that the
//! target sees, before its changes of the journal (which are the boundaries of its steps), at any moment, with requests that
//! come in late, and again while it resumes. How an uninterrupted run ends is the measure.

mod cli_scene;

use cli_scene::{FAILOVER, Folder};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::run::{Journal, StoredMapping};
use kbr::sandbox::{Action, CommittedOffset, Sandbox, SandboxOptions};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const SIGKILL: i32 = 9;
const LIMIT: Duration = Duration::from_secs(120);
/// Rounds that run side by side: most of a round is waiting.
const AT_ONCE: u64 = 10;

/// What is restored how, and what the target holds before.
struct Scenario {
    runbook: &'static str,
    prepare: fn(&Sandbox),
}

/// One topic, partition by partition, under a new name; then the groups.
static PLAIN: Scenario = Scenario {
    runbook: FAILOVER,
    prepare: |_| {},
};

/// By key and through a filter into a topic that holds records and has configs in the way; two topics joined in one
/// partition, and a group moved to it; behind that another topic, its headers changed.
static EVERY_WAY: Scenario = Scenario {
    runbook: r#"let snap = store("file:archive").latest();
let dr = cluster("dr");
let keys = ["order-7", "order-9"];
restore(snap)
    .topics("orders")
    .remap(|topic| "there")
    .repartition(3)
    .filter(|r| r.offset % 3 != 0 || keys.contains(r.key))
    .to(dr);
let joined = restore(snap)
    .topics("orders", "payments")
    .remap(|topic| "joined")
    .merge(true)
    .remap_partitions(|partition| 0)
    .to(dr);
offset_plan(joined).groups("checkout-api").reset();
restore(snap)
    .topics("payments")
    .prefix("last-")
    .origin_headers(true)
    .set_header("restored-by", "drill")
    .to(dr);
"#,
    prepare: |dr| {
        let configs = [("cleanup.policy", "compact"), ("compression.type", "zstd")];
        dr.create_topic("there", 3, &configs).unwrap();
        for key in ["before-1", "before-2"] {
            dr.append("there", 1, &batch(&[key], AT)).unwrap();
        }
    },
};

/// When the records of a topic begin: the same in every round, so that contents can be compared.
const AT: i64 = 1_790_000_000_000;

fn batch(keys: &[&str], at: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for key in keys {
        let value = format!("the value of {key}");
        builder
            .push(
                at,
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                Headers::empty(),
            )
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// A record as it is compared: offset, time, key, value, headers.
type Found = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, String);

/// Everything that a cluster holds.
#[derive(Debug, PartialEq)]
struct Whole {
    records: BTreeMap<(String, i32), Vec<Found>>,
    configs: BTreeMap<String, BTreeMap<String, String>>,
    committed: BTreeMap<String, BTreeMap<(String, i32), CommittedOffset>>,
}

impl Whole {
    fn of(sandbox: &Sandbox) -> Self {
        let topics = sandbox.topics();
        let mut records = BTreeMap::new();
        for topic in &topics {
            for partition in 0..sandbox.partition_count(topic).unwrap() {
                let found = sandbox.records(topic, partition).unwrap();
                let found = found.into_iter().map(|record| {
                    let headers = format!("{:?}", record.headers);
                    let (offset, at) = (record.offset.0, record.timestamp.0);
                    (offset, at, record.key, record.value, headers)
                });
                records.insert((topic.clone(), partition), found.collect());
            }
        }
        let configs = topics
            .iter()
            .map(|topic| (topic.clone(), sandbox.topic_configs(topic).unwrap()));
        let committed = sandbox.groups().into_iter().map(|group| {
            let committed = sandbox.committed(&group);
            (group, committed)
        });
        Self {
            records,
            configs: configs.collect(),
            committed: committed.collect(),
        }
    }
}

/// What every round begins with: the source's archive, and how an uninterrupted run ends.
struct Base {
    scenario: &'static Scenario,
    folder: Folder,
    prod: Sandbox,
    digest: String,
    mappings: Vec<(u32, StoredMapping)>,
    whole: Whole,
    /// How long an uninterrupted run takes.
    time: Duration,
}

impl Base {
    async fn new(scenario: &'static Scenario) -> Arc<Self> {
        let prod = Sandbox::start(SandboxOptions::named("prod")).await.unwrap();
        for (topic, first, word) in [("orders", 0, "order"), ("payments", 20, "payment")] {
            prod.create_topic(topic, 2, &[]).unwrap();
            for number in 0..60 {
                let keys = [0, 1].map(|add| format!("{word}-{}", 2 * number + add));
                let at = AT + 1000 * (first + number);
                let batch = batch(&keys.each_ref().map(String::as_str), at);
                prod.append(topic, (number % 2) as i32, &batch).unwrap();
            }
        }
        for (partition, offset) in [(0, 31), (1, 17)] {
            prod.set_committed("checkout-api", "orders", partition, offset, "");
            prod.set_committed("checkout-api", "payments", partition, offset, "");
        }
        prod.set_committed("checkout-audit", "orders", 0, 0, "");
        let dr = Sandbox::start(SandboxOptions::named("dr")).await.unwrap();
        (scenario.prepare)(&dr);
        let folder = Folder::new();
        folder
            .clusters(&[
                ("prod", &prod.bootstrap().join(",")),
                ("dr", &dr.bootstrap().join(",")),
            ])
            .write("backup.rhai", cli_scene::BACKUP)
            .write("failover.rhai", scenario.runbook);
        let (digest, time) = tokio::task::block_in_place(|| {
            folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
            let digest = folder.kbr(&["run", "failover.rhai"]).expect(0).digest();
            let words = ["run", "failover.rhai", "--execute", "--confirm", &digest];
            let began = Instant::now();
            folder.kbr(&words).expect(0);
            (digest, began.elapsed())
        });
        let whole = Whole::of(&dr);
        let mappings = mappings(&folder);
        dr.shutdown().await;
        Arc::new(Self {
            scenario,
            folder,
            prod,
            digest,
            mappings,
            whole,
            time,
        })
    }
}

/// Those of the newest run, in a journal that is whole.
fn mappings(folder: &Folder) -> Vec<(u32, StoredMapping)> {
    let journal = Journal::open_existing(&folder.file("state/journal.db"));
    let journal = journal.unwrap().unwrap();
    assert_eq!(journal.verify().unwrap(), None);
    let runs = journal.runs(1).unwrap();
    journal.mappings(&runs[0].run).unwrap()
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
        (base.scenario.prepare)(&dr);
        let folder = Folder::new();
        let archive = base.folder.file("archive");
        folder
            .clusters(&[
                ("prod", &base.prod.bootstrap().join(",")),
                ("dr", &dr.bootstrap().join(",")),
            ])
            .write("failover.rhai", base.scenario.runbook);
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
            .stdout(std::fs::File::create(self.folder.file("output")).unwrap())
            .stderr(std::fs::File::create(self.folder.file("errors")).unwrap());
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
                let read = |name| std::fs::read_to_string(self.folder.file(name)).unwrap();
                let (output, errors) = (read("output"), read("errors"));
                let when = &self.when;
                panic!("{when}: kbr did not end within {LIMIT:?}\n{output}\n{errors}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// kbr, killed at the nth request that the target sees, which is then carried out or not; its status.
    fn killed_at_request(&self, words: &[&str], nth: u64) -> ExitStatus {
        let fate = match nth.is_multiple_of(2) {
            // Some requests are carried out although nobody hears the answer.
            true => Action::Pass,
            false => Action::Drop,
        };
        self.killed_at(words, nth, |_| true, fate)
    }

    /// kbr, killed at the nth request of an API that the target sees.
    fn killed_at(
        &self,
        words: &[&str],
        nth: u64,
        counts: fn(i16) -> bool,
        fate: Action,
    ) -> ExitStatus {
        let shared = Shared::default();
        let (target, seen) = (shared.clone(), AtomicU64::new(0));
        self.dr.intercept(move |request| {
            if !counts(request.api_key) || seen.fetch_add(1, Ordering::Relaxed) + 1 != nth {
                return Action::Pass;
            }
            // kbr asks only once it runs, but its handle may come a moment later.
            loop {
                if let Some(child) = target.lock().unwrap().as_mut() {
                    let _ = child.kill();
                    return fate.clone();
                }
                std::thread::yield_now();
            }
        });
        self.start(words, &[], &shared);
        let status = self.end(&shared);
        self.dr.clear_interceptors();
        status
    }

    /// kbr, killed after a while.
    fn killed_after(&self, words: &[&str], time: Duration) -> ExitStatus {
        let shared = Shared::default();
        self.start(words, &[], &shared);
        std::thread::sleep(time);
        let _ = shared.lock().unwrap().as_mut().unwrap().kill();
        self.end(&shared)
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
        let (when, base) = (&self.when, &self.base);
        let found = Whole::of(&self.dr);
        assert_eq!(found.records, base.whole.records, "{when}");
        assert_eq!(found.configs, base.whole.configs, "{when}");
        assert_eq!(found.committed, base.whole.committed, "{when}");
        assert_eq!(mappings(&self.folder), base.mappings, "{when}");
    }

    /// What comes after a kill; whether there was one.
    fn go_on(&self, status: ExitStatus) -> bool {
        if status.signal() == Some(SIGKILL) {
            self.recover();
            return true;
        }
        assert_eq!(status.code(), Some(0), "{}: {status}", self.when);
        self.assert_whole();
        false
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

/// One round, whatever it does, on a thread that may block.
fn round(
    base: &Arc<Base>,
    when: String,
    play: impl FnOnce(&Round) -> bool + Send + 'static,
) -> tokio::task::JoinHandle<bool> {
    let base = base.clone();
    tokio::spawn(async move {
        let round = Round::new(&base, when).await;
        let killed = tokio::task::block_in_place(|| play(&round));
        round.dr.shutdown().await;
        killed
    })
}

async fn at_every_request(scenario: &'static Scenario, least: u64) {
    let base = Base::new(scenario).await;
    let killed = rounds(least, |nth| {
        round(&base, format!("killed at request {nth}"), move |round| {
            round.go_on(round.killed_at_request(&round.execute(), nth))
        })
    })
    .await;
    println!("{killed} kills at requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_killed_at_any_request_is_resumed_to_the_same_end() {
    at_every_request(&PLAIN, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_in_every_way_killed_at_any_request_is_resumed_to_the_same_end() {
    at_every_request(&EVERY_WAY, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resume_killed_at_any_request_is_resumed_to_the_same_end() {
    let base = Base::new(&EVERY_WAY).await;
    let killed = rounds(20, |nth| {
        // Every other one; of those, every other one is carried out.
        let nth = 2 * nth - nth % 2;
        let when = format!("killed in a write, and at request {nth} again");
        round(&base, when, move |round| {
            let produce = |key| key == PRODUCE;
            let status = round.killed_at(&round.execute(), 2, produce, Action::Pass);
            assert_eq!(status.signal(), Some(SIGKILL), "{}: {status}", round.when);
            round.go_on(round.killed_at_request(&round.resume(), nth))
        })
    })
    .await;
    println!("{killed} kills at requests of a resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_come_in_late_put_no_record_there_twice() {
    let base = Base::new(&EVERY_WAY).await;
    let killed = rounds(4, |nth| {
        // Before the end is taken for settled, about then, and while the resumed write is done or over.
        let late = Duration::from_millis(700 + 300 * (nth % 5));
        let when = format!("killed at produce request {nth}, which comes in {late:?} late");
        round(&base, when, move |round| {
            let produce = |key| key == PRODUCE;
            let status = round.killed_at(&round.execute(), nth, produce, Action::Delay(late));
            let killed = round.go_on(status);
            if killed {
                std::thread::sleep(late);
                round.assert_whole();
            }
            killed
        })
    })
    .await;
    println!("{killed} kills with late requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_killed_at_any_moment_is_resumed_to_the_same_end() {
    const KILLS: u64 = 40;
    let base = Base::new(&EVERY_WAY).await;
    let seed = kbr::base::time::now().0 as u64;
    // A whole run takes less than this. The first one was measured, on a machine that may have been busier than now.
    let whole = Arc::new(AtomicU64::new(base.time.as_micros() as u64));
    let (mut killed, mut nth) = (0, 0);
    while killed < KILLS && nth < 4 * KILLS {
        let some = (nth..nth + AT_ONCE).map(|nth| {
            // A different moment of each fortieth of the run.
            let random = seed.wrapping_mul(6_364_136_223_846_793_005 + 2 * nth) >> 33;
            let part =
                ((nth % KILLS) as f64 + random as f64 / f64::from(1_u32 << 31)) / KILLS as f64;
            let time = Duration::from_micros(whole.load(Ordering::Relaxed)).mul_f64(part);
            let whole = whole.clone();
            round(
                &base,
                format!("seed {seed}: killed after {time:?}"),
                move |round| {
                    let killed = round.go_on(round.killed_after(&round.execute(), time));
                    if !killed {
                        whole.fetch_min(time.as_micros() as u64, Ordering::Relaxed);
                    }
                    killed
                },
            )
        });
        for task in some.collect::<Vec<_>>() {
            killed += u64::from(task.await.unwrap());
        }
        nth += AT_ONCE;
    }
    assert!(killed >= KILLS / 2, "only {killed} of {nth} were killed");
    println!("{killed} kills at any moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_is_resumed_by_one_process_at_a_time() {
    let base = Base::new(&PLAIN).await;
    let round = Round::new(&base, "resumed twice at once".into()).await;
    tokio::task::block_in_place(|| {
        let produce = |key| key == PRODUCE;
        let status = round.killed_at(&round.execute(), 1, produce, Action::Drop);
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
        let writes = Arc::new(AtomicU64::new(0));
        let seen = writes.clone();
        round.dr.intercept(move |request| match request.api_key {
            PRODUCE => {
                seen.fetch_add(1, Ordering::Relaxed);
                Action::Delay(Duration::from_secs(3))
            }
            _ => Action::Pass,
        });
        let first = Shared::default();
        round.start(&round.resume(), &[], &first);
        let deadline = Instant::now() + LIMIT;
        while writes.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "the first resume never writes");
            std::thread::sleep(Duration::from_millis(2));
        }
        let second = round.folder.kbr(&round.resume());
        assert_eq!(second.code, 1, "{}", second.text());
        assert!(second.stderr.contains("error[E0444]"), "{}", second.text());
        assert_eq!(round.end(&first).code(), Some(0));
        round.assert_whole();
    });
    round.dr.shutdown().await;
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

/// Kills before every `every`th change of the journal.
async fn at_changes(scenario: &'static Scenario, every: u64, least: u64) {
    let base = Base::new(scenario).await;
    let library = crash_point(&base.folder).display().to_string();
    let killed = rounds(least, |nth| {
        let (library, nth) = (library.clone(), every * nth);
        round(&base, format!("killed before change {nth}"), move |round| {
            round.go_on(round.killed_at_change(&round.execute(), &library, nth))
        })
    })
    .await;
    println!("{killed} kills at changes of the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_killed_before_any_change_of_its_journal_is_resumed_to_the_same_end() {
    at_changes(&PLAIN, 3, 55).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_in_every_way_killed_before_changes_of_its_journal_is_resumed_to_the_same_end() {
    at_changes(&EVERY_WAY, 6, 55).await;
}

/// A change of an archive: how it is asked for, and what is in the archive before.
struct Change {
    runbook: &'static str,
    /// Runbooks that are executed before.
    before: &'static [&'static str],
}

const BACKUP_AGAIN: &str = "backup(cluster(\"prod\")).to(store(\"file:archive\"));";
const PRUNE: &str = "store(\"file:archive\").prune(#{ keep_last: 1 });";

/// What an archive holds, without what differs between runs: numbers, fates, records.
fn archived(folder: &Folder) -> (Vec<serde_json::Value>, usize) {
    let verified = folder.kbr(&["verify", "file:archive", "--deep"]);
    assert_eq!(verified.code, 0, "{}", verified.text());
    let list = folder.kbr(&["list", "file:archive", "--output", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list.expect(0).stdout).unwrap();
    let generations = list["generations"].as_array().unwrap().iter();
    let generations = generations.map(|one| {
        let fields = ["number", "topics", "records", "partial"].map(|field| one[field].clone());
        let marked = one["marked"].is_null();
        serde_json::json!([fields, marked, list["count"]])
    });
    let words = ["cat", "file:archive", "orders"];
    let records = folder.kbr(&words).expect(0).stdout;
    (generations.collect(), records.lines().count())
}

async fn a_change_killed(change: &'static Change, marked: usize) {
    let prod = Arc::new(Sandbox::start(SandboxOptions::named("prod")).await.unwrap());
    prod.create_topic("orders", 2, &[]).unwrap();
    let base = Arc::new(Folder::new());
    base.clusters(&[("prod", &prod.bootstrap().join(","))]);
    let append = |number: usize| {
        for partition in 0..2 {
            let key = format!("order-{number}");
            prod.append("orders", partition, &batch(&[&key], AT))
                .unwrap();
        }
    };
    append(0);
    for (number, text) in change.before.iter().enumerate() {
        base.write("before.rhai", text);
        tokio::task::block_in_place(|| {
            let digest = base.kbr(&["run", "before.rhai"]).expect(0).digest();
            let words = ["run", "before.rhai", "--execute", "--confirm", &digest];
            base.kbr(&words).expect(0);
        });
        append(number + 1);
    }
    let machine = |base: &Folder| {
        let folder = Folder::new();
        folder.write(
            "kbr.toml",
            &std::fs::read_to_string(base.file("kbr.toml")).unwrap(),
        );
        folder.write("change.rhai", change.runbook);
        let copied = Command::new("cp")
            .arg("-r")
            .args([base.file("archive"), folder.file("archive")])
            .status();
        assert!(copied.unwrap().success());
        folder
    };
    // The words of the command, and the digest of its plan.
    let planned = |folder: &Folder| {
        let digest = folder.kbr(&["run", "change.rhai"]).expect(0).digest();
        let words = format!("run change.rhai --execute --confirm {digest}");
        (words, digest)
    };
    let reference = machine(&base);
    let expected = tokio::task::block_in_place(|| {
        let (words, _) = planned(&reference);
        let words: Vec<&str> = words.split(' ').collect();
        reference.kbr(&words).expect(0);
        archived(&reference)
    });
    let library = crash_point(&base).display().to_string();
    let expected = Arc::new(expected);
    let left = expected.0.iter().filter(|one| one[1] == false).count();
    assert_eq!(left, marked);
    let killed = rounds(20, |nth| {
        let (base, library, expected) = (base.clone(), library.clone(), expected.clone());
        tokio::task::spawn_blocking(move || {
            let folder = machine(&base);
            let under = folder.path().display().to_string();
            // Every fourth.
            let nth = 4 * nth;
            let (words, digest) = planned(&folder);
            let words: Vec<&str> = words.split(' ').collect();
            let mut command = folder.command(&words);
            command
                .env("LD_PRELOAD", &library)
                .env("CRASH_UNDER", &under)
                .env("CRASH_AT", nth.to_string());
            let ended = cli_scene::run_to_end(&mut command, b"", LIMIT).status;
            let killed = ended.signal() == Some(SIGKILL);
            if killed {
                let journal = Journal::open_existing(&folder.file("state/journal.db")).unwrap();
                let began = journal.is_some_and(|journal| !journal.runs(1).unwrap().is_empty());
                let ran = match began {
                    true => folder.kbr(&["resume", "--confirm", &digest]),
                    false => folder.kbr(&words),
                };
                assert_eq!(ran.code, 0, "before change {nth}: {}", ran.text());
            } else {
                assert_eq!(ended.code(), Some(0), "{ended}");
            }
            assert_eq!(archived(&folder), *expected, "before change {nth}");
            killed
        })
    })
    .await;
    println!("{killed} kills at changes of archive and journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_killed_before_a_change_of_its_archive_is_resumed_to_the_same_end() {
    static CHANGE: Change = Change {
        runbook: BACKUP_AGAIN,
        before: &[BACKUP_AGAIN],
    };
    a_change_killed(&CHANGE, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_prune_killed_before_a_change_of_its_archive_is_resumed_to_the_same_end() {
    static CHANGE: Change = Change {
        runbook: PRUNE,
        before: &[BACKUP_AGAIN, BACKUP_AGAIN],
    };
    a_change_killed(&CHANGE, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_undelete_killed_before_a_change_of_its_archive_is_resumed_to_the_same_end() {
    static CHANGE: Change = Change {
        runbook: "store(\"file:archive\").undelete([1]);",
        before: &[BACKUP_AGAIN, BACKUP_AGAIN, PRUNE],
    };
    a_change_killed(&CHANGE, 0).await;
}
