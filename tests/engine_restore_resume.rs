//! A restore that is interrupted anywhere and gone on with: every record once, where an uninterrupted run puts it. What
//! is not its own is refused and named.

mod engine_restore_support;

use engine_restore_support::{NOW, Row, archive, made, unique};
use kbr::archive::Snapshot;
use kbr::base::time::now;
use kbr::base::{Digest, PartitionId, TimestampMs};
use kbr::engine::Error;
use kbr::engine::restore::{self, WriteContext, WriteProgress, WriteTopic};
use kbr::kafka::{Client, ConnectOptions, ProducerIdentity};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::{Action, Sandbox, SandboxOptions};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const PRODUCE: i16 = 0;
const WITHIN: Duration = Duration::from_secs(60);
/// So old that a broker forgets who wrote it.
const OLD: TimestampMs = TimestampMs(NOW.0 - 30 * 86_400_000);

async fn sandbox(brokers: usize) -> Arc<Sandbox> {
    let options = SandboxOptions {
        brokers,
        ..SandboxOptions::named(unique("dr"))
    };
    Arc::new(Sandbox::start(options).await.unwrap())
}

async fn connect(sandbox: &Sandbox) -> Client {
    Client::connect(ConnectOptions::new(sandbox.bootstrap()))
        .await
        .unwrap()
}

/// A planned restore whose topic is there.
struct Scene {
    sandbox: Arc<Sandbox>,
    snapshot: Snapshot,
    rows: Vec<Vec<Row>>,
    write: Arc<WriteTopic>,
    /// Every identity that a write made known, in order.
    known: Arc<Mutex<Vec<ProducerIdentity>>>,
}

impl Scene {
    /// Records of now, which go several batches at a time.
    async fn of(brokers: usize) -> Self {
        Self::dated(brokers, now()).await
    }

    async fn dated(brokers: usize, first: TimestampMs) -> Self {
        let sandbox = sandbox(brokers).await;
        let (snapshot, rows) = archive(16, first).await;
        let client = connect(&sandbox).await;
        let write = made(&snapshot, &client).await;
        Self {
            sandbox,
            snapshot,
            rows,
            write: Arc::new(write),
            known: Arc::default(),
        }
    }

    fn context(&self, identity: Option<ProducerIdentity>) -> WriteContext {
        let known = self.known.clone();
        WriteContext {
            identity,
            identity_known: Arc::new(move |identity| {
                known.lock().unwrap().push(identity);
                Ok(())
            }),
            ..WriteContext::unrecorded()
        }
    }

    fn identity(&self) -> Option<ProducerIdentity> {
        self.known.lock().unwrap().last().copied()
    }

    /// Writes until the `nth` produce request, which meets `action`; then nothing of the writer is left.
    async fn killed_at(&self, nth: u64, action: Action) {
        let dead = Arc::new(Notify::new());
        let met = Arc::new(AtomicU64::new(0));
        let (tell, count) = (dead.clone(), met.clone());
        self.sandbox.intercept(move |seen| {
            if seen.api_key != PRODUCE || count.fetch_add(1, Ordering::SeqCst) + 1 != nth {
                return Action::Pass;
            }
            tell.notify_one();
            action.clone()
        });
        let client = connect(&self.sandbox).await;
        let (write, snapshot) = (self.write.clone(), self.snapshot.clone());
        let context = self.context(None);
        let writing = tokio::spawn(async move {
            restore::write_topic(&write, &snapshot, &client, &context)
                .await
                .map(|_| ())
        });
        let stop = writing.abort_handle();
        tokio::select! {
            () = dead.notified() => stop.abort(),
            done = writing => assert!(done.unwrap().is_ok(), "the write failed by itself"),
        }
        self.sandbox.clear_interceptors();
    }

    async fn resume(&self) -> Result<restore::TopicReport, Error> {
        let client = connect(&self.sandbox).await;
        let context = self.context(self.identity());
        let resumed = restore::write_topic(&self.write, &self.snapshot, &client, &context);
        tokio::time::timeout(WITHIN, resumed)
            .await
            .expect("it ends")
    }

    async fn reconcile(&self) -> WriteProgress {
        let client = connect(&self.sandbox).await;
        let found = restore::reconcile_write(&self.write, &self.snapshot, &client, self.identity());
        tokio::time::timeout(WITHIN, found)
            .await
            .expect("it ends")
            .unwrap()
    }

    fn assert_every_record_once(&self, what: &str) {
        for (partition, rows) in self.rows.iter().enumerate() {
            let found = self
                .sandbox
                .records(&self.write.topic, partition as i32)
                .unwrap();
            let offsets: Vec<i64> = found.iter().map(|record| record.offset.0).collect();
            let wanted: Vec<i64> = (0..rows.len() as i64).collect();
            assert_eq!(offsets, wanted, "{what}, partition {partition}");
            let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
            let found: Vec<Row> = found
                .into_iter()
                .map(|record| Row {
                    timestamp: record.timestamp.0,
                    key: text(record.key),
                    value: text(record.value),
                })
                .collect();
            assert!(
                found == *rows,
                "{what}, partition {partition}: other records"
            );
        }
    }

    fn planned(&self) -> Vec<Option<Digest>> {
        let routes = self.write.partitions.iter();
        routes.map(|route| route.mapping_digest).collect()
    }
}

fn mappings(report: &restore::TopicReport) -> Vec<Option<Digest>> {
    let partitions = report.partitions.iter();
    partitions
        .map(|written| Some(written.mapping.digest()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_killed_at_any_request_is_gone_on_with_and_has_every_record_once() {
    let faults = [
        ("killed before the request arrived", Action::Drop),
        ("killed after it was done", Action::DoThenDrop),
        (
            "killed while it was under way",
            Action::Delay(Duration::from_millis(300)),
        ),
    ];
    let mut runs = Vec::new();
    for (what, action) in faults {
        for nth in [1, 2, 3, 4, 6, 8, 11] {
            let action = action.clone();
            runs.push(async move {
                let what = format!("{what}, request {nth}");
                let scene = Scene::of(1).await;
                scene.killed_at(nth, action).await;
                match scene.reconcile().await {
                    WriteProgress::Foreign(found) => panic!("{what}: {found}"),
                    WriteProgress::NotBegun => assert!(nth < 4, "{what}: nothing is there"),
                    WriteProgress::Partial { .. } | WriteProgress::Complete => {}
                }
                let report = scene
                    .resume()
                    .await
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                scene.assert_every_record_once(&what);
                assert_eq!(mappings(&report), scene.planned(), "{what}");
                assert_eq!(scene.reconcile().await, WriteProgress::Complete, "{what}");
            });
        }
    }
    futures::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_lands_late_after_a_kill_is_not_written_twice() {
    let scene = Scene::of(1).await;
    // It lands while the resumed run is writing already, behind the quiet time after which ends are believed.
    scene
        .killed_at(2, Action::Delay(Duration::from_millis(1_900)))
        .await;
    let report = scene.resume().await;
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    match report {
        Ok(_) => scene.assert_every_record_once("a late request"),
        // Found at once is as good.
        Err(Error::ForeignWriter { .. } | Error::Duplicate { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_killed_again_and_again_comes_to_its_end() {
    let scene = Scene::of(2).await;
    scene.killed_at(2, Action::DoThenDrop).await;
    for nth in [1, 2, 1, 3] {
        let dead = Arc::new(Notify::new());
        let (tell, mut count) = (dead.clone(), 0);
        scene.sandbox.intercept(move |seen| {
            if seen.api_key != PRODUCE {
                return Action::Pass;
            }
            count += 1;
            if count == nth {
                tell.notify_one();
                return Action::DoThenDrop;
            }
            Action::Pass
        });
        tokio::select! {
            () = dead.notified() => {}
            done = scene.resume() => { done.unwrap(); }
        }
        scene.sandbox.clear_interceptors();
    }
    let report = scene.resume().await.unwrap();
    scene.assert_every_record_once("killed again and again");
    assert_eq!(mappings(&report), scene.planned());
}

fn foreign() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(1, None, Some(b"foreign"), Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_of_somebody_else_at_the_end_are_refused_and_named() {
    let scene = Scene::of(1).await;
    scene.killed_at(4, Action::Drop).await;
    scene
        .sandbox
        .append(&scene.write.topic, 1, &foreign())
        .unwrap();
    let WriteProgress::Foreign(found) = scene.reconcile().await else {
        panic!("it takes the foreign record for its own");
    };
    assert!(
        found.contains(&format!("{}-1", scene.write.topic)),
        "{found}"
    );
    match scene.resume().await {
        Err(Error::NotOurs { partition, .. }) => assert_eq!(partition.partition, PartitionId(1)),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn other_records_in_the_place_of_its_own_are_refused_and_named() {
    let scene = Scene::of(1).await;
    // Exactly as many as the first batch of partition 2 holds, so that only their content tells.
    for _ in 0..10 {
        scene
            .sandbox
            .append(&scene.write.topic, 2, &foreign())
            .unwrap();
    }
    let WriteProgress::Foreign(found) = scene.reconcile().await else {
        panic!("it takes the foreign records for its own");
    };
    assert!(
        found.contains("others than this write puts there"),
        "{found}"
    );
    assert!(found.contains("producer id -1"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_there_and_all_there_are_told_apart() {
    let scene = Scene::of(1).await;
    assert_eq!(scene.reconcile().await, WriteProgress::NotBegun);
    let client = connect(&scene.sandbox).await;
    let context = scene.context(None);
    restore::write_topic(&scene.write, &scene.snapshot, &client, &context)
        .await
        .unwrap();
    assert_eq!(scene.reconcile().await, WriteProgress::Complete);
    // A write that is complete is gone on with by sending nothing.
    let before = scene.sandbox.request_count(PRODUCE);
    let report = scene.resume().await.unwrap();
    assert_eq!(scene.sandbox.request_count(PRODUCE), before);
    assert_eq!(mappings(&report), scene.planned());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_sent_under_an_identity_that_could_not_be_recorded() {
    let scene = Scene::of(1).await;
    let client = connect(&scene.sandbox).await;
    let context = WriteContext {
        identity_known: Arc::new(|_| Err("the disk is full".into())),
        ..WriteContext::unrecorded()
    };
    let before = scene.sandbox.request_count(PRODUCE);
    match restore::write_topic(&scene.write, &scene.snapshot, &client, &context).await {
        Err(Error::NotRecorded(why)) => assert_eq!(why, "the disk is full"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(scene.sandbox.request_count(PRODUCE), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_goes_on_refusing_the_sequence_gets_another_producer_id() {
    for code in [45, 59, 47, 49] {
        let scene = Scene::of(1).await;
        let mut count = 0;
        let known = scene.known.clone();
        scene.sandbox.intercept(move |seen| {
            if seen.api_key != PRODUCE {
                return Action::Pass;
            }
            count += 1;
            match known.lock().unwrap().len() {
                // However often the log is looked at in between.
                0 | 1 if count > 1 => Action::Error(code),
                _ => Action::Pass,
            }
        });
        let client = connect(&scene.sandbox).await;
        let context = scene.context(None);
        let report = restore::write_topic(&scene.write, &scene.snapshot, &client, &context)
            .await
            .unwrap();
        scene.assert_every_record_once(&format!("error {code}"));
        assert_eq!(mappings(&report), scene.planned());
        let known = scene.known.lock().unwrap().clone();
        assert!(known.len() >= 2, "error {code}: {known:?}");
    }
}

/// Records dated over a day ago, in a broker that forgets their producer again and again: it takes whatever comes next,
/// in whatever order.
async fn forgetful(meets: impl Fn(u64) -> Action + Send + 'static, what: &str) {
    let scene = Scene::dated(1, OLD).await;
    let (sandbox, topic) = (Arc::downgrade(&scene.sandbox), scene.write.topic.clone());
    let mut count = 0;
    scene.sandbox.intercept(move |seen| {
        if seen.api_key != PRODUCE {
            return Action::Pass;
        }
        if let Some(sandbox) = sandbox.upgrade() {
            sandbox.forget_producers(&topic).unwrap();
        }
        count += 1;
        meets(count)
    });
    let client = connect(&scene.sandbox).await;
    let context = scene.context(None);
    let writing = restore::write_topic(&scene.write, &scene.snapshot, &client, &context);
    let report = tokio::time::timeout(WITHIN, writing)
        .await
        .expect("it ends");
    let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
    scene.assert_every_record_once(what);
    assert_eq!(mappings(&report), scene.planned(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_forgets_its_producer_while_replies_are_lost_has_every_record_once() {
    for nth in [1, 2, 3, 5] {
        let lost = move |count| match count % nth {
            0 if count < 30 => Action::DoThenDrop,
            _ => Action::Pass,
        };
        forgetful(lost, &format!("every reply {nth} lost")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_forgets_its_producer_and_refuses_a_batch_does_not_get_the_next_one_in_its_place()
 {
    // Too few replicas for a moment, another leader, a wrong sequence.
    for code in [19, 6, 45] {
        for nth in [2, 3, 4, 7] {
            let refused = move |count| match count % nth {
                0 if count < 30 => Action::Error(code),
                _ => Action::Pass,
            };
            forgetful(refused, &format!("error {code} at every request {nth}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_paused_write_stands_still_and_goes_on() {
    let scene = Scene::of(1).await;
    let client = connect(&scene.sandbox).await;
    let context = scene.context(None);
    context.pause.hold();
    let pause = context.pause.clone();
    let (write, snapshot) = (scene.write.clone(), scene.snapshot.clone());
    let writing =
        tokio::spawn(
            async move { restore::write_topic(&write, &snapshot, &client, &context).await },
        );
    let before = scene.sandbox.request_count(PRODUCE);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(scene.sandbox.request_count(PRODUCE), before);
    assert!(!writing.is_finished());
    pause.go_on();
    tokio::time::timeout(WITHIN, writing)
        .await
        .expect("it goes on")
        .unwrap()
        .unwrap();
    scene.assert_every_record_once("paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_held_to_a_rate_takes_its_time() {
    let scene = Scene::of(1).await;
    let client = connect(&scene.sandbox).await;
    let context = WriteContext {
        limit: Some(1 << 20),
        ..scene.context(None)
    };
    let begun = std::time::Instant::now();
    restore::write_topic(&scene.write, &scene.snapshot, &client, &context)
        .await
        .unwrap();
    // Some 2.3 MB at 1 MiB a second; what goes out last is not waited for.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1_200), "{took:?}");
    assert!(took < WITHIN, "{took:?}");
    scene.assert_every_record_once("at a rate");
}
