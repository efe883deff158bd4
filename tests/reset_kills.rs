//! Fifty groups moved by one reset, with kbr killed and connections cut between any two of its requests: all of them are
//! where they were or all where they go, and `kbr resume` (or `kbr undo`) brings it to an end.
//!
//! The target is a sandbox of three brokers in this process, kbr the real binary in another.

mod cli_scene;

use cli_scene::{Folder, batch};
use kbr::record::{BatchBuilder, BuildOptions, OwnedHeaders, ProducerStamp};
use kbr::run::Journal;
use kbr::sandbox::{Action, CommittedOffset, Sandbox, SandboxOptions, Seen};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const OFFSET_FETCH: i16 = 9;
const INIT_PRODUCER_ID: i16 = 22;
const ADD_OFFSETS_TO_TXN: i16 = 25;
const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;
const OFFSET_DELETE: i16 = 47;
const DELETE_GROUPS: i16 = 42;
const GROUPS: usize = 50;
const LIMIT: Duration = Duration::from_secs(240);
/// Rounds that run side by side: most of a round is waiting.
const AT_ONCE: u64 = 10;

fn of_a_transaction(key: i16) -> bool {
    matches!(
        key,
        INIT_PRODUCER_ID | ADD_OFFSETS_TO_TXN | TXN_OFFSET_COMMIT | END_TXN
    )
}

/// How fifty groups of `dr` are moved.
struct Scenario {
    runbook: &'static str,
    /// Requests of this kind are the places to strike at.
    strikes: fn(i16) -> bool,
    /// Groups that move at once.
    together: usize,
}

/// Live groups in one transaction.
static LIVE: Scenario = Scenario {
    runbook: r#"offset_plan(cluster("dr")).groups("g-*").strategy("earliest").reset();"#,
    strikes: |_| true,
    together: GROUPS,
};

/// The same in four transactions, one after the other.
static IN_PARTS: Scenario = Scenario {
    runbook: r#"offset_plan(cluster("dr")).groups("g-*").strategy("earliest").per_transaction(26).reset();"#,
    strikes: of_a_transaction,
    together: 13,
};

/// An archive's groups behind a restore. They are new at the target.
static RESTORED: Scenario = Scenario {
    runbook: r#"let data = restore(store("file:archive").latest())
    .topics("orders")
    .remap(#{ "orders": "orders_dr" })
    .to(cluster("dr"));
offset_plan(data).groups("g-*").reset();"#,
    strikes: |key| of_a_transaction(key) || key == OFFSET_FETCH,
    together: GROUPS,
};

/// The same groups onto what a restore has left there, by the headers in the records, without that restore.
static TRANSLATED: Scenario = Scenario {
    runbook: r#"offset_plan(store("file:archive").latest()).onto(cluster("dr")).groups("g-*").topics("orders")
    .remap(#{ "orders": "orders_dr" }).strategy("header").reset();"#,
    strikes: |key| of_a_transaction(key) || key == OFFSET_FETCH,
    together: GROUPS,
};

/// By the times of its records.
static BY_TIME: Scenario = Scenario {
    runbook: r#"offset_plan(store("file:archive").latest()).onto(cluster("dr")).groups("g-*").topics("orders")
    .remap(#{ "orders": "orders_dr" }).strategy("timestamp").reset();"#,
    strikes: of_a_transaction,
    together: GROUPS,
};

/// Offsets that are deleted, group by group: no transaction can hold that, and resuming goes on with those left.
static DELETED: Scenario = Scenario {
    runbook: r#"offset_plan(cluster("dr")).groups("g-*").partitions("*", 0).delete_offsets();"#,
    strikes: |key| key == OFFSET_DELETE || key == OFFSET_FETCH,
    together: 1,
};

/// Whole groups.
static DELETED_GROUPS: Scenario = Scenario {
    runbook: r#"cluster("dr").delete_groups("g-*");"#,
    strikes: |key| key == DELETE_GROUPS || key == OFFSET_FETCH,
    together: 1,
};

/// Partition → offset and metadata of each group.
type Committed = BTreeMap<String, BTreeMap<(String, i32), CommittedOffset>>;

fn name(group: usize) -> String {
    format!("g-{group:02}")
}

async fn cluster(name: &str) -> Sandbox {
    let options = SandboxOptions {
        brokers: 3,
        ..SandboxOptions::named(name)
    };
    Sandbox::start(options).await.unwrap()
}

fn fill(cluster: &Sandbox) {
    cluster.create_topic("orders", 2, &[]).unwrap();
    for partition in 0..2 {
        for order in 0..20 {
            let batch = batch(&format!("order-{order}"));
            cluster.append("orders", partition, &batch).unwrap();
        }
    }
    for group in 0..GROUPS {
        let offset = 5 + group as i64 % 10;
        cluster.set_committed(&name(group), "orders", 0, offset, "from the source");
        cluster.set_committed(&name(group), "orders", 1, 1 + offset, "");
    }
}

/// What a restore with the headers of its origin has left of `orders` at another cluster.
fn restore(prod: &Sandbox, dr: &Sandbox) {
    dr.create_topic("orders_dr", 2, &[("retention.ms", "-1")])
        .unwrap();
    let cluster = prod.cluster_id();
    for partition in 0..2 {
        for record in prod.records("orders", partition).unwrap() {
            let mut headers = OwnedHeaders::new();
            headers.push(
                b"x-original-offset",
                Some(record.offset.0.to_string().as_bytes()),
            );
            headers.push(
                b"x-original-partition",
                Some(partition.to_string().as_bytes()),
            );
            headers.push(b"x-source-cluster", Some(cluster.as_bytes()));
            let mut builder = BatchBuilder::new(BuildOptions::default());
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder
                .push(record.timestamp.0, key, value, headers.as_headers())
                .unwrap();
            let batch = builder.finish(ProducerStamp::NONE).unwrap();
            dr.append("orders_dr", partition, &batch).unwrap();
        }
    }
}

fn committed(cluster: &Sandbox) -> Committed {
    let groups = cluster.groups().into_iter();
    groups
        .map(|group| (group.clone(), cluster.committed(&group)))
        .filter(|(_, offsets)| !offsets.is_empty())
        .collect()
}

/// What every round begins with and ends at.
struct Base {
    scenario: &'static Scenario,
    folder: Folder,
    prod: Option<Sandbox>,
    digest: String,
    old: Committed,
    new: Committed,
}

impl Base {
    async fn new(scenario: &'static Scenario) -> Arc<Self> {
        let folder = Folder::new();
        let dr = cluster("dr").await;
        let mut clusters = vec![("dr", dr.bootstrap().join(","))];
        let mut prod = None;
        if scenario.runbook.contains("file:archive") {
            let source = cluster("prod").await;
            fill(&source);
            clusters.push(("prod", source.bootstrap().join(",")));
            if scenario.runbook.contains(".onto(") {
                restore(&source, &dr);
            }
            prod = Some(source);
        } else {
            fill(&dr);
        }
        let named: Vec<(&str, &str)> = clusters.iter().map(|(n, at)| (*n, at.as_str())).collect();
        folder
            .clusters(&named)
            .write("backup.rhai", cli_scene::BACKUP)
            .write("move.rhai", scenario.runbook);
        let old = committed(&dr);
        let digest = tokio::task::block_in_place(|| {
            if prod.is_some() {
                folder.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
            }
            let digest = folder.kbr(&["run", "move.rhai"]).expect(0).digest();
            let words = ["run", "move.rhai", "--execute", "--confirm", &digest];
            folder.kbr(&words).expect(0);
            digest
        });
        let new = committed(&dr);
        assert_ne!(old, new);
        dr.shutdown().await;
        Arc::new(Self {
            scenario,
            folder,
            prod,
            digest,
            old,
            new,
        })
    }
}

/// A target and a machine of its own.
struct Round {
    base: Arc<Base>,
    folder: Folder,
    dr: Sandbox,
    when: String,
}

type Shared = Arc<Mutex<Option<Child>>>;

impl Round {
    async fn new(base: &Arc<Base>, when: String) -> Self {
        let dr = cluster("dr").await;
        match &base.prod {
            None => fill(&dr),
            Some(prod) if base.scenario.runbook.contains(".onto(") => restore(prod, &dr),
            Some(_) => {}
        }
        let folder = Folder::new();
        folder
            .clusters(&[("dr", &dr.bootstrap().join(","))])
            .write("move.rhai", base.scenario.runbook);
        if base.prod.is_some() {
            std::os::unix::fs::symlink(base.folder.file("archive"), folder.file("archive"))
                .unwrap();
        }
        Self {
            base: base.clone(),
            folder,
            dr,
            when,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.folder.command(words);
        command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(self.folder.file("output")).unwrap())
            .stderr(std::fs::File::create(self.folder.file("errors")).unwrap());
        command
    }

    fn end(&self, shared: &Shared) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ended = shared.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            if let Some(status) = ended {
                return status;
            }
            assert!(Instant::now() < deadline, "{}: kbr does not end", self.when);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// kbr, with something done at the nth request of the scenario's kinds.
    fn struck(
        &self,
        words: &[&str],
        nth: u64,
        mut strike: impl FnMut(&Seen, &Shared) -> Action + Send + 'static,
    ) -> ExitStatus {
        let shared = Shared::default();
        let (target, seen) = (shared.clone(), AtomicU64::new(0));
        let strikes = self.base.scenario.strikes;
        self.dr.intercept(move |request| {
            if !strikes(request.api_key) || seen.fetch_add(1, Ordering::Relaxed) + 1 != nth {
                return Action::Pass;
            }
            strike(request, &target)
        });
        *shared.lock().unwrap() = Some(self.command(words).spawn().unwrap());
        let status = self.end(&shared);
        self.dr.clear_interceptors();
        status
    }

    /// kbr, killed at the nth request, which is then carried out or not.
    fn killed(&self, words: &[&str], nth: u64) -> bool {
        let fate = match nth.is_multiple_of(2) {
            true => Action::Pass,
            false => Action::Drop,
        };
        let status = self.struck(words, nth, move |_, target| {
            loop {
                if let Some(child) = target.lock().unwrap().as_mut() {
                    let _ = child.kill();
                    return fate.clone();
                }
                std::thread::yield_now();
            }
        });
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "{}: {status}", self.when);
        killed
    }

    fn execute(&self) -> Vec<&str> {
        let digest = self.base.digest.as_str();
        vec!["run", "move.rhai", "--execute", "--confirm", digest]
    }

    fn run(&self) -> Option<String> {
        let journal = Journal::open_existing(&self.folder.file("state/journal.db"));
        let journal = journal.ok().flatten()?;
        assert_eq!(journal.verify().unwrap(), None, "{}", self.when);
        let runs = journal.runs(1).ok()?;
        runs.first().map(|run| run.run.to_string())
    }

    fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.file(name)).unwrap_or_default();
        format!("{}\n{}", read("output"), read("errors"))
    }

    /// Groups that move together are all at the new offsets or all at the old ones, the parts in their order.
    fn assert_whole(&self) {
        let (found, base) = (committed(&self.dr), &self.base);
        let names: Vec<String> = (0..GROUPS).map(name).collect();
        let mut before = true;
        for part in names.chunks(base.scenario.together) {
            let of = |all: &Committed| -> Committed {
                let part = part
                    .iter()
                    .filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
                part.collect()
            };
            let (now, old, new) = (of(&found), of(&base.old), of(&base.new));
            assert!(now == old || now == new, "{}: {now:?}", self.when);
            // Parts that go by themselves may be under way beside each other.
            if base.scenario.together > 1 {
                assert!(
                    before || now == old,
                    "{}: the parts are out of order",
                    self.when
                );
            }
            before = now == new;
        }
    }

    fn assert_new(&self) {
        assert_eq!(committed(&self.dr), self.base.new, "{}", self.when);
    }

    /// Goes on to the end, as an operator would.
    fn recover(&self) {
        let words = match self.run() {
            Some(_) => vec!["resume", "--confirm", self.base.digest.as_str()],
            None => self.execute(),
        };
        let ran = self.folder.kbr(&words);
        assert_eq!(ran.code, 0, "{}: {}", self.when, ran.text());
        self.assert_new();
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
        let struck = tokio::task::block_in_place(|| play(&round));
        round.dr.shutdown().await;
        struck
    })
}

/// Rounds 1, 1 + every, …, some at a time, until one is not struck any more; how many were.
async fn rounds(every: u64, least: u64, round: impl Fn(u64) -> tokio::task::JoinHandle<bool>) {
    let (mut struck, mut next) = (0, 0);
    loop {
        let started: Vec<_> = (next..next + AT_ONCE)
            .map(|number| round(1 + every * number))
            .collect();
        next += AT_ONCE;
        let mut over = false;
        for task in started {
            match task.await.unwrap() {
                true => struck += 1,
                false => over = true,
            }
        }
        if over {
            assert!(struck >= least, "only {struck} rounds were struck");
            println!("{struck} rounds");
            return;
        }
    }
}

async fn killed_at_every_request(scenario: &'static Scenario, every: u64, least: u64) {
    let base = Base::new(scenario).await;
    rounds(every, least, |nth| {
        round(&base, format!("killed at request {nth}"), move |round| {
            if !round.killed(&round.execute(), nth) {
                round.assert_new();
                return false;
            }
            round.assert_whole();
            round.recover();
            true
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_killed_at_any_request_move_all_or_none() {
    killed_at_every_request(&LIVE, 1, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_in_several_transactions_move_part_by_part() {
    killed_at_every_request(&IN_PARTS, 3, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_behind_a_restore_killed_at_any_request_move_all_or_none() {
    killed_at_every_request(&RESTORED, 2, 45).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_found_again_by_headers_and_killed_at_any_request_move_all_or_none() {
    killed_at_every_request(&TRANSLATED, 3, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_found_again_by_time_and_killed_at_any_request_move_all_or_none() {
    killed_at_every_request(&BY_TIME, 4, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleted_offsets_killed_at_any_request_are_all_gone_in_the_end() {
    killed_at_every_request(&DELETED, 3, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleted_groups_killed_at_any_request_are_all_gone_in_the_end() {
    killed_at_every_request(&DELETED_GROUPS, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resume_killed_at_any_request_moves_all_or_none() {
    let base = Base::new(&LIVE).await;
    rounds(3, 30, |nth| {
        let when = format!("killed in the transaction, and at request {nth} again");
        round(&base, when, move |round| {
            // Behind the reads and half of the groups' calls.
            assert!(round.killed(&round.execute(), 85), "{}", round.when);
            let resume = ["resume", "--confirm", &round.base.digest];
            let struck = round.killed(&resume, nth);
            round.assert_whole();
            round.recover();
            struck
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_cut_once_at_any_request_of_the_transaction_is_made_good() {
    let base = Base::new(&IN_PARTS).await;
    rounds(2, 40, |nth| {
        let lost = nth % 4 == 1;
        let when = format!("request {nth} cut, carried out: {lost}");
        round(&base, when, move |round| {
            let struck = Arc::new(AtomicU64::new(0));
            let seen = struck.clone();
            let status = round.struck(&round.execute(), nth, move |_, _| {
                seen.store(1, Ordering::Relaxed);
                match lost {
                    true => Action::DoThenDrop,
                    false => Action::Drop,
                }
            });
            assert!(status.success(), "{}: {}", round.when, round.said());
            round.assert_new();
            struck.load(Ordering::Relaxed) == 1
        })
    })
    .await;
}

/// From some request on the coordinators answer nothing more until kbr has given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coordinators_that_are_cut_off_for_good_leave_all_or_none() {
    let base = Base::new(&LIVE).await;
    // The first AddOffsetsToTxn, one in the middle, a commit, the end; and the end carried out unheard.
    let cases: [(i16, u64, bool); 5] = [
        (ADD_OFFSETS_TO_TXN, 1, false),
        (ADD_OFFSETS_TO_TXN, 25, true),
        (TXN_OFFSET_COMMIT, 30, false),
        (END_TXN, 1, false),
        (END_TXN, 1, true),
    ];
    let tasks = cases.map(|(key, nth, carried_out)| {
        let when =
            format!("cut off from request {nth} of API {key} on, carried out: {carried_out}");
        round(&base, when, move |round| {
            let mut cut = false;
            round.dr.intercept(move |request| {
                if request.api_key == key && request.nth == nth && !cut {
                    cut = true;
                    return match carried_out {
                        true => Action::DoThenDrop,
                        false => Action::Drop,
                    };
                }
                match cut && of_a_transaction(request.api_key) {
                    true => Action::Drop,
                    false => Action::Pass,
                }
            });
            let shared = Shared::default();
            *shared.lock().unwrap() = Some(round.command(&round.execute()).spawn().unwrap());
            let status = round.end(&shared);
            round.dr.clear_interceptors();
            assert_eq!(status.code(), Some(1), "{}: {}", round.when, round.said());
            round.assert_whole();
            round.recover();
            true
        })
    });
    for task in tasks {
        assert!(task.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_by_somebody_else_before_the_end_is_found_by_reading_back() {
    let base = Base::new(&LIVE).await;
    let round = Round::new(&base, "a foreign commit".to_string()).await;
    let dr = Arc::new(round.dr);
    let (inside, mut done) = (Arc::downgrade(&dr), false);
    dr.intercept(move |request| {
        if request.api_key == END_TXN
            && !std::mem::replace(&mut done, true)
            && let Some(dr) = inside.upgrade()
        {
            dr.set_committed("g-07", "orders", 1, 13, "a consumer");
        }
        Action::Pass
    });
    let ran = tokio::task::block_in_place(|| {
        let digest = base.digest.as_str();
        round
            .folder
            .kbr(&["run", "move.rhai", "--execute", "--confirm", digest])
    });
    // Somebody has moved it: the world is not as it was planned.
    assert_eq!(ran.code, 4, "{}", ran.text());
    let text = ran.text();
    assert!(text.contains("error[E0416]"), "{text}");
    assert!(
        text.contains("group g-07 on orders-1 is at 13, not 0"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_died_is_taken_back_from_wherever_it_was() {
    let base = Base::new(&LIVE).await;
    rounds(9, 10, |nth| {
        round(&base, format!("killed at request {nth}"), move |round| {
            let struck = round.killed(&round.execute(), nth);
            let Some(run) = round.run() else {
                return struck;
            };
            let moved = committed(&round.dr) == round.base.new;
            let plan = round.folder.kbr(&["undo", &run]);
            if plan.code != 0 {
                // Its transaction is still open; nothing can tell yet how that ends. A resume ends it.
                assert!(
                    plan.text().contains("error[E0451]"),
                    "{}: {}",
                    round.when,
                    plan.text()
                );
                round.recover();
                return struck;
            }
            match moved {
                true => {
                    let digest = plan.digest();
                    round
                        .folder
                        .kbr(&["undo", &run, "--execute", "--confirm", &digest])
                        .expect(0);
                }
                false => assert!(
                    plan.stdout.contains("there is nothing to undo"),
                    "{}: {}",
                    round.when,
                    plan.text()
                ),
            }
            assert_eq!(committed(&round.dr), round.base.old, "{}", round.when);
            struck
        })
    })
    .await;
}

/// Where transactions are not allowed groups move one by one: then a kill leaves some here and some there, which a resume
/// finishes and an undo takes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_transactions_what_is_half_done_is_finished_or_taken_back() {
    const OFFSET_COMMIT: i16 = 8;
    const NOT_AUTHORIZED: i16 = 53;
    static ONE_BY_ONE: Scenario = Scenario {
        runbook: LIVE.runbook,
        strikes: |key| key == OFFSET_COMMIT,
        together: 1,
    };
    let base = Base::new(&ONE_BY_ONE).await;
    let mixed = Arc::new(AtomicU64::new(0));
    rounds(7, 6, |nth| {
        let mixed = mixed.clone();
        round(&base, format!("killed at commit {nth}"), move |round| {
            round.dr.intercept(|request| match request.api_key {
                INIT_PRODUCER_ID => Action::Error(NOT_AUTHORIZED),
                _ => Action::Pass,
            });
            let struck = round.killed(&round.execute(), nth);
            round.assert_whole();
            let now = committed(&round.dr);
            if now != round.base.old && now != round.base.new {
                mixed.fetch_add(1, Ordering::Relaxed);
            }
            match round.run() {
                Some(run) if nth.is_multiple_of(2) && now != round.base.old => {
                    let digest = round.folder.kbr(&["undo", &run]).expect(0).digest();
                    let words = ["undo", &run, "--execute", "--confirm", &digest];
                    round.folder.kbr(&words).expect(0);
                    assert_eq!(committed(&round.dr), round.base.old, "{}", round.when);
                }
                _ => round.recover(),
            }
            struck
        })
    })
    .await;
    assert!(mixed.load(Ordering::Relaxed) >= 5);
}
