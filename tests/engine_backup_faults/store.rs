//! A store that fails at its Nth operation, for every N: whatever came of that run, the archive stays sound, and the
//! run after it makes it whole, every record once.

use crate::engine_backup_support::{NOW, Produced, World, assert_sound, batch, large_batch, quick};
use bytes::Bytes;
use kbr::archive::{Archive, BlockCompression};
use kbr::engine::backup::Options;
use kbr::record::{BatchBuilder, BuildOptions, Codec, Headers, ProducerStamp};
use kbr::store::{Fault, Faults, Store};
use std::time::Duration;

/// Longer than any operation on a store in memory, shorter than a test's patience.
const HANGS_FOR: Duration = Duration::from_millis(100);

const KINDS: [fn(u64) -> Fault; 5] = [
    Fault::Fail,
    Fault::Hang,
    Fault::DoneWithoutAnswer,
    Fault::Crash,
    Fault::CrashAfter,
];

/// A source with news, and the archive that the news is to be added to.
struct Scenario {
    world: World,
    produced: Produced,
    options: Options,
    /// What the archive holds before.
    objects: Vec<(String, Bytes)>,
}

impl Scenario {
    async fn new(options: Options) -> Self {
        Self {
            world: World::new(1).await,
            produced: Produced::default(),
            options,
            objects: Vec::new(),
        }
    }

    fn topic(&self, name: &str, partitions: i32) {
        let sandbox = &self.world.sandbox;
        sandbox.create_topic(name, partitions, &[]).unwrap();
    }

    fn append(&mut self, topic: &str, partition: i32, bytes: &[u8]) {
        self.produced
            .append(&self.world.sandbox, topic, partition, bytes);
    }

    /// A backup of what there is so far becomes the archive that every run begins with.
    async fn base(&mut self, generations: usize) {
        let store = &self.world.store;
        for _ in 0..generations {
            self.world.run_into(store, &self.options).await.unwrap();
        }
        self.objects.clear();
        for (path, _) in store.list("").await.unwrap() {
            let bytes = store.get(&path).await.unwrap();
            self.objects.push((path, bytes));
        }
    }

    /// One run with faults, then one without. Says whether the faults were met.
    async fn run(&self, faults: &[Fault]) -> bool {
        let store = self.world.with_archive(&self.objects).await;
        let injected = Faults::several(faults);
        let faulty = store.with_faults(injected.clone());
        let faulty = faulty.with_deadline(HANGS_FOR);
        let first = self.world.run_into(&faulty, &self.options).await;
        let met = |fault: &Fault| nth(fault) <= injected.operations();
        let when = format!("after {faults:?}");
        assert!(faults.iter().any(met) || first.is_ok(), "{when}: {first:?}");
        if let Ok(report) = &first {
            assert!(!report.partial, "{when}: {:?}", report.incomplete);
            self.produced.assert_archived(&store, &when).await;
        }
        assert_sound(&store, &when).await;
        let before = generations(&store).await;
        let again = self.world.run_into(&store, &self.options).await;
        let again = again.unwrap_or_else(|error| panic!("{when}, the next run: {error}"));
        assert_eq!(again.incomplete, Vec::<String>::new(), "{when}");
        assert_eq!(again.generation, before + 1, "{when}");
        self.produced.assert_archived(&store, &when).await;
        faults.iter().all(met)
    }

    /// Every kind of fault at every operation.
    async fn every_operation(&self, at_least: u64) {
        for kind in KINDS {
            let mut nth = 1;
            while self.run(&[kind(nth)]).await {
                nth += 1;
            }
            assert!(nth > at_least, "only {nth} operations");
        }
    }
}

fn nth(fault: &Fault) -> u64 {
    match fault {
        Fault::Fail(n)
        | Fault::Crash(n)
        | Fault::CrashAfter(n)
        | Fault::DoneWithoutAnswer(n)
        | Fault::Hang(n)
        | Fault::Pause(n) => *n,
    }
}

async fn generations(store: &Store) -> u64 {
    match Archive::open_if_exists(store.clone()).await.unwrap() {
        Some(archive) => archive.generations().await.unwrap().len() as u64,
        None => 0,
    }
}

fn compressed(block: BlockCompression) -> Options {
    Options { block, ..quick() }
}

/// A batch that compresses well.
fn text(seed: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for index in 0..count {
        let value = format!("{seed} {index} ").repeat(100);
        builder
            .push(NOW + index, None, Some(value.as_bytes()), Headers::empty())
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_backup_survives_every_fault_of_the_store() {
    let mut scenario = Scenario::new(compressed(BlockCompression::None)).await;
    scenario.topic("orders", 1);
    for seed in 1..=2 {
        scenario.append("orders", 0, &large_batch(seed, 300, 1000));
    }
    scenario.every_operation(15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_of_small_partitions_survive_every_fault_of_the_store() {
    let mut scenario = Scenario::new(quick()).await;
    scenario.topic("orders", 6);
    for (partition, codec) in Codec::ALL.into_iter().enumerate() {
        for seed in 0..2 {
            let bytes = batch(codec, seed, 20);
            scenario.append("orders", partition as i32, &bytes);
        }
    }
    scenario.base(1).await;
    for partition in [0, 3, 5] {
        scenario.append("orders", partition, &batch(Codec::None, 7, 5));
    }
    scenario.every_operation(15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_blocks_survive_every_fault_of_the_store() {
    let mut scenario = Scenario::new(compressed(BlockCompression::ZSTD)).await;
    scenario.topic("orders", 2);
    scenario.append("orders", 0, &text(1, 400));
    scenario.append("orders", 1, &batch(Codec::Gzip, 1, 30));
    scenario.base(1).await;
    scenario.append("orders", 0, &text(2, 900));
    scenario.append("orders", 1, &text(3, 10));
    scenario.every_operation(15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_segments_at_once_survive_every_fault_of_the_store() {
    let mut scenario = Scenario::new(quick()).await;
    scenario.topic("orders", 3);
    for partition in 0..3 {
        scenario.append("orders", partition, &large_batch(1, 300, 1000));
    }
    // One of several parts.
    for seed in 2..=10 {
        scenario.append("orders", 2, &large_batch(seed, 10, 100_000));
    }
    scenario.every_operation(25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_survives_every_fault_of_the_store() {
    let mut scenario = Scenario::new(quick()).await;
    scenario.topic("orders", 2);
    scenario.append("orders", 0, &batch(Codec::None, 1, 10));
    scenario.append("orders", 1, &batch(Codec::Lz4, 2, 10));
    scenario.base(31).await;
    scenario.append("orders", 0, &batch(Codec::Zstd, 3, 10));
    scenario.base(1).await;
    scenario.append("orders", 1, &batch(Codec::Snappy, 4, 10));
    let store = scenario.world.with_archive(&scenario.objects).await;
    let counted = Faults::none();
    let counting = store.with_faults(counted.clone());
    let report = scenario.world.run_into(&counting, &quick()).await;
    assert_eq!(report.unwrap().generation, 33, "that is a checkpoint");
    let last = counted.operations();
    // Reading the chain is many operations of one kind; a few of them stand for all.
    let begins = last.saturating_sub(40).max(1);
    let chosen = (1..begins).step_by(11).chain(begins..=last);
    for nth in chosen {
        for kind in KINDS {
            assert!(scenario.run(&[kind(nth)]).await, "operation {nth}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_faults_in_one_run_cost_no_record_either() {
    let mut scenario = Scenario::new(quick()).await;
    scenario.topic("orders", 4);
    scenario.append("orders", 0, &large_batch(1, 300, 1000));
    scenario.append("orders", 1, &batch(Codec::None, 1, 10));
    scenario.base(1).await;
    scenario.append("orders", 0, &batch(Codec::Lz4, 2, 10));
    scenario.append("orders", 2, &large_batch(2, 300, 1000));
    scenario.append("orders", 3, &batch(Codec::Zstd, 3, 10));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let counted = Faults::none();
    let store = scenario.world.with_archive(&scenario.objects).await;
    let counting = store.with_faults(counted.clone());
    scenario.world.run_into(&counting, &quick()).await.unwrap();
    let mut met = 0;
    for _ in 0..60 {
        let kinds = [KINDS[random(5) as usize], KINDS[random(5) as usize]];
        let first = 1 + random(counted.operations());
        let faults = [kinds[0](first), kinds[1](first + 1 + random(6))];
        met += u32::from(scenario.run(&faults).await);
    }
    assert!(met >= 10, "both faults were met in {met} runs only");
}
