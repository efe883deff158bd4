//! Fifty groups of a real cluster moved by one reset, with kbr killed or its connection cut between any two requests of the
//! transaction: all of them move or none, and Kafka's own tool finds no transaction that hangs. With many transactions that
//! holds of each, one after the other.

mod groups_kafka_support;
mod support;

use groups_kafka_support::{
    Strike, at, commit, committed, connect, nothing_hangs, offsets, proxy, topic,
};
use kbr::kafka::Client;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{Folder, RealKafka};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_move_all_or_none_on_kafka_4_3_0() {
    fifty_groups_move_all_or_none("4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_groups_move_all_or_none_on_kafka_3_9_2() {
    fifty_groups_move_all_or_none("3.9.2").await;
}

/// A broker behind a proxy that strikes, with fifty groups.
struct Scene {
    kafka: RealKafka,
    strike: Arc<Strike>,
    client: Client,
    names: Vec<String>,
    folder: Folder,
}

impl Scene {
    async fn new(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
        let kafka =
            tokio::task::spawn_blocking(move || RealKafka::start_with(version, 1, &[&advertised]));
        let kafka = kafka.await.unwrap();
        let strike = Arc::new(Strike::default());
        tokio::spawn(proxy(listener, kafka.bootstrap.clone(), strike.clone()));
        let client = connect(&kafka.bootstrap).await;
        let orders = topic(&kafka, &client).await;
        let names: Vec<String> = (0..50).map(|group| format!("g-{group:02}")).collect();
        for name in &names {
            commit(&client, name, &orders, &[(0, 1, "here"), (1, 1, "there")]).await;
        }
        let folder = Folder::new();
        folder.clusters(&[("dr", &kafka.bootstrap)]);
        Self {
            kafka,
            strike,
            client,
            names,
            folder,
        }
    }

    /// The digest of a plan that moves all groups to an offset.
    fn planned(&self, new: i64, options: &str) -> String {
        let script = format!(
            "offset_plan(cluster(\"dr\")).groups(\"g-*\").strategy(\"to-offset\", {new}){options}.reset();"
        );
        self.folder.write("move.rhai", &script);
        tokio::task::block_in_place(|| self.folder.kbr(&["run", "move.rhai"]).expect(0).digest())
    }

    /// Carries it out and strikes at the nth request; whether kbr came to its end all the same.
    fn struck(&self, digest: &str, (nth, arrives): (u64, bool), kill: bool) -> (bool, String) {
        tokio::task::block_in_place(|| {
            let strike = &self.strike;
            strike.seen.store(0, Ordering::SeqCst);
            strike.arrives.store(arrives, Ordering::SeqCst);
            strike.nth.store(nth, Ordering::SeqCst);
            let words = ["run", "move.rhai", "--execute", "--confirm", digest];
            let said = self.folder.file("said");
            let file = std::fs::File::create(&said).unwrap();
            let mut target = strike.target.lock().unwrap();
            let mut child = self
                .folder
                .command(&words)
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .spawn()
                .unwrap();
            *target = kill.then(|| child.id());
            drop(target);
            let status = child.wait().unwrap();
            strike.nth.store(0, Ordering::SeqCst);
            let said = std::fs::read_to_string(said).unwrap();
            (status.success(), said)
        })
    }

    #[track_caller]
    fn resumed(&self, digest: &str, when: &str) {
        let ran = tokio::task::block_in_place(|| self.folder.kbr(&["resume", "--confirm", digest]));
        assert_eq!(ran.code, 0, "{when}: {}", ran.text());
    }

    async fn offsets(&self, stable: bool) -> Vec<i64> {
        offsets(&self.client, &self.names, stable).await
    }
}

async fn fifty_groups_move_all_or_none(version: &'static str) {
    let scene = Scene::new(version).await;
    // One InitProducerId, an AddOffsetsToTxn for each of the four partitions of this broker's offsets topic, fifty
    // TxnOffsetCommit, one EndTxn.
    let mut old = 1;
    for (round, nth) in [1, 2, 4, 6, 7, 30, 55, 56].into_iter().enumerate() {
        for arrives in [false, true] {
            let new = 2 + (2 * round as i64 + i64::from(arrives)) % 8;
            let new = if new == old { 0 } else { new };
            let when = format!("killed at request {nth}, which arrives: {arrives}");
            let digest = scene.planned(new, "");
            let (ended, _) = scene.struck(&digest, (nth, arrives), true);
            assert!(!ended, "{when}: {:?}", scene.strike.kinds.lock().unwrap());
            // As everybody sees it while the transaction may still be open.
            let now = scene.offsets(false).await;
            assert!(
                now.iter().all(|at| *at == old) || now.iter().all(|at| *at == new),
                "{when}: {now:?}"
            );
            scene.resumed(&digest, &when);
            let now = scene.offsets(true).await;
            assert!(now.iter().all(|at| *at == new), "{when}: {now:?}");
            old = new;
        }
    }
    assert_eq!(
        committed(&scene.client, "g-07").await,
        [at(0, old, "here"), at(1, old, "there")]
    );
    nothing_hangs(&scene.kafka);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_cut_at_any_request_is_made_good_on_kafka_4_3_0() {
    a_connection_cut_at_any_request_is_made_good("4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_cut_at_any_request_is_made_good_on_kafka_3_9_2() {
    a_connection_cut_at_any_request_is_made_good("3.9.2").await;
}

async fn a_connection_cut_at_any_request_is_made_good(version: &'static str) {
    let scene = Scene::new(version).await;
    let mut new = 1;
    // The same requests as above; the answer is lost, or the request does not arrive.
    for nth in [1, 2, 3, 5, 6, 7, 31, 54, 55, 56] {
        for arrives in [false, true] {
            new = (new + 1) % 10;
            let when = format!("cut at request {nth}, which arrives: {arrives}");
            let cuts = scene.strike.cuts.load(Ordering::SeqCst);
            let digest = scene.planned(new, "");
            let (ended, said) = scene.struck(&digest, (nth, arrives), false);
            let cut = scene.strike.cuts.load(Ordering::SeqCst) - cuts;
            assert_eq!(cut, 1, "{when}: {said}");
            assert!(ended, "{when}: {said}");
            let now = scene.offsets(true).await;
            assert!(now.iter().all(|at| *at == new), "{when}: {now:?}");
        }
    }
    nothing_hangs(&scene.kafka);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_in_several_transactions_move_part_by_part_on_kafka_4_3_0() {
    groups_in_several_transactions_move_part_by_part("4.3.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_in_several_transactions_move_part_by_part_on_kafka_3_9_2() {
    groups_in_several_transactions_move_part_by_part("3.9.2").await;
}

/// Thirteen groups with their two partitions to a transaction: four transactions of at most nineteen requests.
async fn groups_in_several_transactions_move_part_by_part(version: &'static str) {
    let scene = Scene::new(version).await;
    let (mut old, mut between) = (1, 0);
    for (round, nth) in [3, 17, 20, 27, 36, 40, 54, 61].into_iter().enumerate() {
        let new = (2 + round as i64) % 10;
        let arrives = round % 2 == 1;
        let when = format!("killed at request {nth}, which arrives: {arrives}");
        let digest = scene.planned(new, ".per_transaction(26)");
        let (ended, said) = scene.struck(&digest, (nth, arrives), true);
        assert!(!ended, "{when}: {said}");
        let now = scene.offsets(false).await;
        let parts: Vec<&[i64]> = now.chunks(26).collect();
        assert_eq!(parts.len(), 4);
        let moved = parts
            .iter()
            .take_while(|part| part.iter().all(|at| *at == new));
        let moved = moved.count();
        // The first ones whole, the others not at all.
        assert!(
            parts[moved..]
                .iter()
                .all(|part| part.iter().all(|at| *at == old)),
            "{when}: {now:?}"
        );
        between += usize::from((1..4).contains(&moved));
        scene.resumed(&digest, &when);
        let now = scene.offsets(true).await;
        assert!(now.iter().all(|at| *at == new), "{when}: {now:?}");
        old = new;
    }
    assert!(
        between >= 4,
        "{between} kills between the first and the last part"
    );
    nothing_hangs(&scene.kafka);
}
