//! Two backups into one archive at once: one gets each generation number, the other notices and stops by name or goes
//! on behind it. There is never a second story, and never a record twice.

use crate::engine_backup_support::{Produced, World, assert_sound, batch, large_batch, quick};
use bytes::Bytes;
use kbr::archive::{self, Archive};
use kbr::engine::backup::Report;
use kbr::engine::{Error, Result};
use kbr::record::Codec;
use kbr::store::{Fault, Faults, Store};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A source with news for an archive that may be there already.
struct Race {
    world: Arc<World>,
    produced: Produced,
    objects: Vec<(String, Bytes)>,
}

impl Race {
    /// `generations`: how many the archive has before.
    async fn new(generations: u64) -> Self {
        let world = World::new(1).await;
        world.sandbox.create_topic("orders", 3, &[]).unwrap();
        let mut produced = Produced::default();
        for generation in 0..generations {
            let bytes = batch(Codec::None, generation as i64, 10);
            produced.append(&world.sandbox, "orders", 1, &bytes);
            world.backup().await;
        }
        let mut objects = Vec::new();
        for (path, _) in world.store.list("").await.unwrap() {
            let bytes = world.store.get(&path).await.unwrap();
            objects.push((path, bytes));
        }
        produced.append(&world.sandbox, "orders", 0, &large_batch(1, 300, 1000));
        produced.append(&world.sandbox, "orders", 1, &batch(Codec::Zstd, 50, 10));
        produced.append(&world.sandbox, "orders", 2, &batch(Codec::Lz4, 51, 10));
        Self {
            world: Arc::new(world),
            produced,
            objects,
        }
    }

    fn start(&self, store: &Store, faults: &Faults) -> JoinHandle<Result<Report>> {
        let (world, store) = (self.world.clone(), store.with_faults(faults.clone()));
        tokio::spawn(async move { world.run_into(&store, &quick()).await })
    }

    /// The archive is one story: as many new generations as runs that succeeded, and a further run completes it.
    async fn assert_one_story(&self, store: &Store, runs: &[Result<Report>], when: &str) {
        let archive = Archive::open(store.clone()).await.unwrap();
        let before = generations(&self.objects);
        let mut expected: Vec<u64> = (1..=before).collect();
        for run in runs {
            match run {
                Ok(report) => expected.push(report.generation),
                Err(error) => assert_names_the_rival(error, when),
            }
        }
        expected.sort_unstable();
        assert_eq!(archive.generations().await.unwrap(), expected, "{when}");
        assert!(expected.len() as u64 > before, "{when}: both gave way");
        // The one that won was whole, so everything is there already.
        self.produced.assert_archived(store, when).await;
        let next = self.world.run_into(store, &quick()).await.unwrap();
        assert_eq!(next.records, 0, "{when}");
        self.produced.assert_archived(store, when).await;
        assert_sound(store, when).await;
    }
}

fn generations(objects: &[(String, Bytes)]) -> u64 {
    let paths = objects.iter().map(|(path, _)| path);
    paths
        .filter(|path| path.starts_with("generations/"))
        .count() as u64
}

#[track_caller]
fn assert_names_the_rival(error: &Error, when: &str) {
    let named = matches!(
        error,
        Error::Drift(_) | Error::Archive(archive::Error::GenerationTaken { .. })
    );
    assert!(named, "{when}: {error}");
}

/// One run waits at each of its store operations in turn while another runs from beginning to end.
async fn one_waits_at_every_operation(generations: u64) {
    let race = Race::new(generations).await;
    let mut gave_way = 0;
    for nth in 1.. {
        let store = race.world.with_archive(&race.objects).await;
        let faults = Faults::new(Fault::Pause(nth));
        let slow = race.start(&store, &faults);
        let mut slow = slow;
        let ended = tokio::select! {
            () = faults.paused() => None,
            ended = &mut slow => Some(ended.unwrap()),
        };
        if let Some(ended) = ended {
            ended.unwrap();
            assert!(nth > 20 && gave_way > 10, "{nth} operations, {gave_way}");
            return;
        }
        let when = format!("the other waits at operation {nth}");
        let fast = race.start(&store, &Faults::none()).await.unwrap();
        faults.release();
        let slow = slow.await.unwrap();
        gave_way += u32::from(slow.is_err() || fast.is_err());
        race.assert_one_story(&store, &[fast, slow], &when).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_anywhere_while_another_makes_the_archive_gives_way_or_goes_on_behind_it()
{
    one_waits_at_every_operation(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_anywhere_while_another_commits_gives_way_or_goes_on_behind_it() {
    one_waits_at_every_operation(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_both_wait_somewhere_tell_one_story() {
    let race = Race::new(1).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..40 {
        let at = [1 + random(36), 1 + random(36)];
        let when = format!("both wait, at operations {at:?}");
        let store = race.world.with_archive(&race.objects).await;
        let faults = at.map(|nth| Faults::new(Fault::Pause(nth)));
        let mut runs = [&faults[0], &faults[1]].map(|faults| race.start(&store, faults));
        for (run, faults) in runs.iter_mut().zip(&faults) {
            tokio::select! {
                () = faults.paused() => {}
                // It has fewer operations than that.
                () = async { while !run.is_finished() { tokio::task::yield_now().await; } } => {}
            }
        }
        let first = random(2) as usize;
        faults[first].release();
        if random(2) == 0 {
            // To its end; otherwise both run on together.
            while !runs[first].is_finished() {
                tokio::task::yield_now().await;
            }
        }
        faults[1 - first].release();
        let mut ended = Vec::new();
        for run in runs {
            ended.push(run.await.unwrap());
        }
        race.assert_one_story(&store, &ended, &when).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_runs_started_together_tell_one_story() {
    for generations in [0, 1, 3] {
        let race = Race::new(generations).await;
        let store = race.world.with_archive(&race.objects).await;
        let runs: Vec<_> = (0..5)
            .map(|_| race.start(&store, &Faults::none()))
            .collect();
        let mut ended = Vec::new();
        for run in runs {
            ended.push(run.await.unwrap());
        }
        let when = format!("five at once onto {generations} generations");
        race.assert_one_story(&store, &ended, &when).await;
    }
}
