//! kill -9 of a restore into real Apache Kafka, then `kbr resume`: every record once, as kcat reads them. Between kbr and
//! the broker stands a proxy that knows produce requests: a kill comes at one of them, which is then carried out, lost,
//! or kept and let go when it is long too late.

mod cli_scene;
#[path = "restore_kafka_faults/proxy.rs"]
mod proxy;

use cli_scene::support::RealKafka;
use cli_scene::{Folder, Ran, run_to_end};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::run::{Journal, StoredMapping};
use kbr::sandbox::{Sandbox, SandboxOptions};
use proxy::{Fault, Proxy};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const SIGKILL: i32 = 9;
const LIMIT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;
const DAY_MS: i64 = 86_400_000;
/// The broker looks all the time for producers that it may forget: those whose last batch is dated over a day ago.
const FORGETFUL: &str = "producer.id.expiration.check.interval.ms=50";
/// Brokers that start beside each other on two cores take minutes.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// One to one, and by key through a filter; each run under names of its own.
const RUNBOOK: &str = r#"params(#{ run: #{ help: "of the round", required: true } });
let snap = store("file:archive").latest();
restore(snap).prefix(`${args.run}-whole-`).to(cluster("dr"));
restore(snap)
    .prefix(`${args.run}-spread-`)
    .repartition(2)
    .filter(|r| r.offset % 5 != 0)
    .to(cluster("dr"));
"#;

/// Letters that hardly repeat.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    });
    letters.collect()
}

/// A source with records from `first` on.
async fn source(first: i64) -> Sandbox {
    let prod = Sandbox::start(SandboxOptions::named("prod")).await.unwrap();
    let forever = [("retention.ms", "-1")];
    prod.create_topic("orders", PARTITIONS, &forever).unwrap();
    for partition in 0..PARTITIONS {
        for round in 0..120_u64 {
            let mut builder = BatchBuilder::new(BuildOptions::default());
            for record in 0..8 {
                let seed = 1_000_000 * partition as u64 + 8 * round + record;
                let (key, value) = (format!("key-{}", seed % 97), noise(seed, 3_000));
                let at = first + (8 * round + record) as i64;
                builder
                    .push(
                        at,
                        Some(key.as_bytes()),
                        Some(value.as_bytes()),
                        Headers::empty(),
                    )
                    .unwrap();
            }
            let batch = builder.finish(ProducerStamp::NONE).unwrap();
            prod.append("orders", partition, &batch).unwrap();
        }
    }
    prod
}

type Content = BTreeMap<(String, i32), Vec<Value>>;
type Shared = Arc<Mutex<Option<Child>>>;

struct Scene {
    prod: Sandbox,
    kafka: RealKafka,
    proxy: Proxy,
    archived: Folder,
    /// How an uninterrupted run ends: by topic without its prefix.
    whole: Content,
    mappings: Vec<(u32, StoredMapping)>,
}

impl Scene {
    async fn new(first: i64, settings: &[&'static str]) -> Self {
        let prod = source(first).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut all = vec![format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}")];
        all.extend(settings.iter().map(|setting| setting.to_string()));
        let kafka = tokio::task::spawn_blocking(move || {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            RealKafka::start_with("4.3.0", 1, &all)
        });
        let kafka = kafka.await.unwrap();
        let proxy = Proxy::start(listener, kafka.bootstrap.clone());
        let mut scene = Self {
            prod,
            kafka,
            proxy,
            archived: Folder::new(),
            whole: Content::new(),
            mappings: Vec::new(),
        };
        tokio::task::block_in_place(|| {
            let bootstrap = scene.prod.bootstrap().join(",");
            scene.archived.clusters(&[("prod", &bootstrap)]);
            scene.archived.write("backup.rhai", cli_scene::BACKUP);
            let backup = ["run", "backup.rhai", "--execute"];
            scene.archived.kbr(&backup).expect(0);
            let round = scene.round("reference");
            round.folder.kbr(&round.words()).expect(0);
            let (whole, mappings) = (round.content(), round.mappings());
            (scene.whole, scene.mappings) = (whole, mappings);
            // All of them, and of each five that are to be spread four.
            let records = |kind: &str| -> usize {
                let parts = scene.whole.iter().filter(|(at, _)| at.0 == kind);
                parts.map(|(_, rows)| rows.len()).sum()
            };
            assert_eq!((records("whole"), records("spread")), (2880, 2304));
        });
        scene
    }

    /// A machine of its own and topics of their own.
    fn round(&self, name: &str) -> Round<'_> {
        let folder = Folder::new();
        folder.clusters(&[("dr", &self.kafka.bootstrap)]);
        folder.write("restore.rhai", RUNBOOK);
        std::os::unix::fs::symlink(self.archived.file("archive"), folder.file("archive")).unwrap();
        Round {
            scene: self,
            folder,
            name: name.to_string(),
        }
    }
}

struct Round<'a> {
    scene: &'a Scene,
    folder: Folder,
    name: String,
}

impl Round<'_> {
    fn words(&self) -> Vec<&str> {
        vec![
            "run",
            "restore.rhai",
            "--execute",
            "--",
            "--run",
            &self.name,
        ]
    }

    /// The restore, killed at its nth produce request, to which this happens.
    fn killed(&self, words: &[&str], nth: u64, fate: Option<Fault>) {
        let shared = Shared::default();
        let target = shared.clone();
        self.scene.proxy.rule(move |seen| {
            if seen < nth {
                return None;
            }
            if seen > nth {
                // Behind the killed one, and on its way already.
                return Some(Fault::RequestCut);
            }
            loop {
                if let Some(child) = target.lock().unwrap().as_mut() {
                    let _ = child.kill();
                    return fate;
                }
                std::thread::yield_now();
            }
        });
        let mut command: Command = self.folder.command(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *shared.lock().unwrap() = Some(command.spawn().unwrap());
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = shared.lock().unwrap().as_mut().unwrap().try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{}: no end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), Some(SIGKILL), "{}: {status}", self.name);
        self.scene.proxy.rule(|_| None);
    }

    fn resume(&self) -> Ran {
        self.folder.kbr(&["resume"])
    }

    /// What kcat reads, by topic without the prefix.
    fn content(&self) -> Content {
        let mut content = Content::new();
        for (kind, partitions) in [("whole", PARTITIONS), ("spread", 2)] {
            let topic = format!("{}-{kind}-orders", self.name);
            for partition in 0..partitions {
                let partition_text = partition.to_string();
                let mut kcat = Command::new("kcat");
                kcat.args(["-b", &self.scene.kafka.bootstrap, "-C", "-J", "-e", "-q"]);
                kcat.args(["-o", "beginning", "-t", &topic, "-p", &partition_text]);
                let output = run_to_end(&mut kcat, b"", LIMIT);
                let text = String::from_utf8(output.stdout).unwrap();
                let rows = text.lines().map(|line| {
                    let mut row: Value = serde_json::from_str(line).unwrap();
                    row.as_object_mut().unwrap().remove("topic");
                    row.as_object_mut().unwrap().remove("broker");
                    row
                });
                content.insert((kind.to_string(), partition), rows.collect());
            }
        }
        content
    }

    fn mappings(&self) -> Vec<(u32, StoredMapping)> {
        let journal = Journal::open_existing(&self.folder.file("state/journal.db"));
        let journal = journal.unwrap().unwrap();
        assert_eq!(journal.verify().unwrap(), None);
        let runs = journal.runs(1).unwrap();
        let mut mappings = journal.mappings(&runs[0].run).unwrap();
        for (_, mapping) in &mut mappings {
            mapping.target_topic = mapping.target_topic.replace(&self.name, "");
        }
        mappings.sort_by_key(|(ordinal, at)| (*ordinal, at.source_partition, at.target_partition));
        mappings
    }

    fn assert_whole(&self) {
        let content = self.content();
        for (at, expected) in &self.scene.whole {
            let found = &content[at];
            assert_eq!(found.len(), expected.len(), "{}: {at:?}", self.name);
            let first = found.iter().zip(expected).find(|(one, other)| one != other);
            assert_eq!(first, None, "{}: {at:?}", self.name);
        }
    }

    /// Goes on, as often as the broker is at rest again.
    fn recover(&self) {
        let ran = self.resume();
        assert_eq!(ran.code, 0, "{}: {}", self.name, ran.text());
        self.assert_whole();
        let mut expected = self.scene.mappings.clone();
        for (_, mapping) in &mut expected {
            mapping.target_topic = mapping.target_topic.replace("reference", "");
        }
        assert_eq!(self.mappings(), expected, "{}", self.name);
    }
}

/// What becomes of the request at which kbr is killed.
const FATES: [Option<Fault>; 3] = [None, Some(Fault::ReplyLost), Some(Fault::RequestCut)];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_killed_ten_times_is_resumed_to_the_same_end() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new(kbr::base::time::now().0 - DAY_MS / 2, &[]).await;
    for nth in 1..=8 {
        let round = scene.round(&format!("killed-{nth}"));
        tokio::task::block_in_place(|| {
            round.killed(&round.words(), nth, FATES[nth as usize % 3]);
            round.recover();
        });
    }
    // Twice in the same run.
    let round = scene.round("killed-twice");
    tokio::task::block_in_place(|| {
        round.killed(&round.words(), 2, None);
        round.killed(&["resume"], 2, Some(Fault::ReplyLost));
        round.recover();
    });
    // A request that arrives when the resumed run is long over is a duplicate to the broker, which knows the producer.
    let round = scene.round("late");
    tokio::task::block_in_place(|| {
        round.killed(&round.words(), 3, Some(Fault::Kept));
        round.recover();
    });
    assert_eq!(scene.proxy.deliver().await, 1);
    tokio::task::block_in_place(|| round.assert_whole());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn old_records_whose_producer_the_broker_forgets_are_there_once_and_late_ones_are_found() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let old = kbr::base::time::now().0 - 700 * DAY_MS;
    let scene = Scene::new(old, &[FORGETFUL]).await;
    for nth in 1..=4 {
        let round = scene.round(&format!("forgotten-{nth}"));
        tokio::task::block_in_place(|| {
            round.killed(&round.words(), nth, FATES[nth as usize % 3]);
            // Answers are lost while it goes on, too.
            let lost = move |seen| (seen % 3 == nth % 3).then_some(Fault::ReplyLost);
            scene.proxy.rule(lost);
            round.recover();
            assert!(scene.proxy.faults() > 0);
        });
        scene.proxy.rule(|_| None);
    }
    // One that arrives behind everything: nothing can keep it out, and it is found when everything is read back.
    let round = scene.round("late");
    tokio::task::block_in_place(|| {
        round.killed(&round.words(), 2, Some(Fault::Kept));
        scene.proxy.deliver_before_fetch();
        let ran = round.resume();
        assert_eq!(ran.code, 5, "{}", ran.text());
        assert!(ran.stderr.contains("error[E0501]"), "{}", ran.text());
        assert!(ran.stderr.contains("late-whole-orders-"), "{}", ran.text());
    });
}
