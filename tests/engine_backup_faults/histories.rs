//! Random histories of a source (batches of every codec, transactions committed, aborted and left open, DeleteRecords,
//! compaction, topics made anew) under random schedules of runs, some of them cancelled. A naive model knows what became
//! of every offset; every generation must say exactly that, and together they must hold exactly the model's records.

use crate::engine_backup_support::{Plain, World, archived, assert_sound, batch, plain, quick};
use kbr::archive::{GapKind, PartitionEntry};
use kbr::base::{CancellationToken, Offset, PartitionId};
use kbr::engine::backup::Report;
use kbr::record::Codec;
use kbr::sandbox::{Action, OpenTransaction};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

const TOPICS: [&str; 2] = ["orders", "payments"];
const PARTITIONS: i32 = 2;

/// One thing that happens to the source or the archive.
#[derive(Clone, Debug)]
enum Step {
    Append {
        at: usize,
        codec: usize,
        count: i64,
    },
    Transaction {
        at: usize,
        count: i64,
        commit: bool,
    },
    Begin {
        at: usize,
        count: i64,
    },
    End {
        which: usize,
        commit: bool,
    },
    DeleteRecords {
        at: usize,
        percent: i64,
    },
    Compact {
        at: usize,
        every: usize,
        from: usize,
    },
    Recreate {
        topic: usize,
    },
    Run,
    /// Cancelled once the source has seen so many fetches.
    CancelledRun {
        after: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..TOPICS.len() * PARTITIONS as usize;
    prop_oneof![
        6 => (at.clone(), 0..5_usize, 1..12_i64)
            .prop_map(|(at, codec, count)| Step::Append { at, codec, count }),
        3 => (at.clone(), 1..5_i64, any::<bool>())
            .prop_map(|(at, count, commit)| Step::Transaction { at, count, commit }),
        2 => (at.clone(), 1..5_i64).prop_map(|(at, count)| Step::Begin { at, count }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, commit)| Step::End { which, commit }),
        1 => (at.clone(), 0..=100_i64).prop_map(|(at, percent)| Step::DeleteRecords { at, percent }),
        2 => (at, 1..5_usize, 0..5_usize)
            .prop_map(|(at, every, from)| Step::Compact { at, every, from }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Recreate { topic }),
        4 => Just(Step::Run),
        1 => (0..4_u32).prop_map(|after| Step::CancelledRun { after }),
    ]
}

/// What became of one offset.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Record(Plain),
    Open { producer_id: i64, record: Plain },
    Aborted,
    Marker,
    Compacted,
}

/// One partition as the model knows it: its log, and what must be archived of it.
#[derive(Clone, Debug, Default)]
struct Partition {
    log: Vec<Fate>,
    log_start: usize,
    /// Where the next run begins; `None` before the first.
    archived_to: Option<usize>,
    records: Vec<Plain>,
}

impl Partition {
    fn last_stable(&self) -> usize {
        let open = |fate: &Fate| matches!(fate, Fate::Open { .. });
        self.log.iter().position(open).unwrap_or(self.log.len())
    }

    fn push(&mut self, bytes: &[u8], fate: impl Fn(Plain) -> Fate) {
        let base = self.log.len() as i64;
        for mut record in plain(bytes) {
            record.offset += base;
            self.log.push(fate(record));
        }
    }

    fn end(&mut self, producer: i64, commit: bool) {
        for fate in &mut self.log {
            if let Fate::Open {
                producer_id,
                record,
            } = fate
                && *producer_id == producer
            {
                *fate = match commit {
                    true => Fate::Record(record.clone()),
                    false => Fate::Aborted,
                };
            }
        }
        self.log.push(Fate::Marker);
    }
}

struct History {
    world: World,
    partitions: BTreeMap<(&'static str, i32), Partition>,
    open: Vec<(&'static str, i32, OpenTransaction)>,
    seed: i64,
    runs: u32,
}

impl History {
    async fn new() -> Self {
        let world = World::new(1).await;
        let mut partitions = BTreeMap::new();
        for topic in TOPICS {
            world.sandbox.create_topic(topic, PARTITIONS, &[]).unwrap();
            for partition in 0..PARTITIONS {
                partitions.insert((topic, partition), Partition::default());
            }
        }
        Self {
            world,
            partitions,
            open: Vec::new(),
            seed: 0,
            runs: 0,
        }
    }

    fn batch(&mut self, codec: usize, count: i64) -> Vec<u8> {
        self.seed += 1;
        batch(Codec::ALL[codec], self.seed, count)
    }

    async fn step(&mut self, step: &Step) {
        let place = |at: usize| (TOPICS[at / PARTITIONS as usize], at as i32 % PARTITIONS);
        match *step {
            Step::Append { at, codec, count } => {
                let (topic, partition) = place(at);
                let bytes = self.batch(codec, count);
                self.world.sandbox.append(topic, partition, &bytes).unwrap();
                self.at(topic, partition).push(&bytes, Fate::Record);
            }
            Step::Transaction { at, count, commit } => {
                let opened = self.begin(place(at), count);
                self.end(opened, commit);
            }
            Step::Begin { at, count } => {
                let opened = self.begin(place(at), count);
                self.open.push(opened);
            }
            Step::End { which, commit } => {
                if !self.open.is_empty() {
                    let opened = self.open.remove(which % self.open.len());
                    self.end(opened, commit);
                }
            }
            Step::DeleteRecords { at, percent } => {
                let (topic, partition) = place(at);
                let known = self.at(topic, partition);
                let span = (known.last_stable() - known.log_start) as i64;
                known.log_start += (span * percent / 100) as usize;
                let before = known.log_start as i64;
                self.world
                    .sandbox
                    .delete_records(topic, partition, before)
                    .unwrap();
            }
            Step::Compact { at, every, from } => self.compact(place(at), every, from),
            Step::Recreate { topic } => {
                let topic = TOPICS[topic];
                self.world.sandbox.delete_topic(topic).unwrap();
                self.world
                    .sandbox
                    .create_topic(topic, PARTITIONS, &[])
                    .unwrap();
                self.open.retain(|(name, _, _)| *name != topic);
                for partition in 0..PARTITIONS {
                    *self.at(topic, partition) = Partition::default();
                }
            }
            // A checkpoint says again what was said before; that has a test of its own.
            Step::Run | Step::CancelledRun { .. } if self.runs == 31 => {}
            Step::Run => self.run(None).await,
            Step::CancelledRun { after } => self.run(Some(after)).await,
        }
    }

    fn at(&mut self, topic: &'static str, partition: i32) -> &mut Partition {
        self.partitions.get_mut(&(topic, partition)).unwrap()
    }

    fn begin(
        &mut self,
        (topic, partition): (&'static str, i32),
        count: i64,
    ) -> (&'static str, i32, OpenTransaction) {
        let bytes = self.batch(self.seed as usize % 5, count);
        let sandbox = &self.world.sandbox;
        let opened = sandbox.begin_transaction(topic, partition, &bytes).unwrap();
        let producer_id = opened.producer_id;
        self.at(topic, partition).push(&bytes, |record| Fate::Open {
            producer_id,
            record,
        });
        (topic, partition, opened)
    }

    fn end(
        &mut self,
        (topic, partition, opened): (&'static str, i32, OpenTransaction),
        commit: bool,
    ) {
        let sandbox = &self.world.sandbox;
        sandbox
            .end_transaction(topic, partition, opened, commit)
            .unwrap();
        self.at(topic, partition).end(opened.producer_id, commit);
    }

    /// Removes some records, as the cleaner does: never the last offset below the last stable one, which a later
    /// record with the same key would have to follow.
    fn compact(&mut self, (topic, partition): (&'static str, i32), every: usize, from: usize) {
        let known = self.at(topic, partition);
        let cleanable = known.last_stable().saturating_sub(1);
        let mut gone = Vec::new();
        for offset in (known.log_start..cleanable).skip(from).step_by(every) {
            if matches!(known.log[offset], Fate::Record(_)) {
                known.log[offset] = Fate::Compacted;
                gone.push(offset as i64);
            }
        }
        self.world
            .sandbox
            .compact_away(topic, partition, &gone)
            .unwrap();
    }

    async fn run(&mut self, cancel_after: Option<u32>) {
        let cancel = CancellationToken::new();
        if let Some(after) = cancel_after {
            let (seen, trigger) = (AtomicU32::new(0), cancel.clone());
            self.world.sandbox.intercept(move |request| {
                const FETCH: i16 = 1;
                if request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == after {
                    trigger.cancel();
                }
                Action::Pass
            });
        }
        let plan = self.world.plan(&quick()).await.unwrap();
        let report = self.world.apply_until(&plan, cancel).await.unwrap();
        self.world.sandbox.clear_interceptors();
        self.runs += 1;
        assert_eq!(report.generation, u64::from(self.runs));
        assert_eq!(report.failures, []);
        self.check_generation(&report).await;
    }

    /// What the newest generation adds is what the model says, offset by offset.
    async fn check_generation(&mut self, report: &Report) {
        let latest = self.world.latest().await;
        let manifest = latest.archive().read_generation(latest.number()).await;
        let manifest = manifest.unwrap().0;
        for ((topic, partition), known) in &mut self.partitions {
            let mut topics = manifest.topics.iter();
            let entry = topics
                .find(|entry| entry.name == *topic && !entry.removed)
                .and_then(|topic| {
                    let id = PartitionId(*partition);
                    topic.partitions.iter().find(|entry| entry.partition == id)
                });
            let begins = known.archived_to.unwrap_or(known.log_start);
            let Some(entry) = entry else {
                assert!(report.cancelled || begins == known.last_stable());
                if !report.cancelled {
                    known.archived_to = Some(begins);
                }
                continue;
            };
            assert_eq!(entry.from.0, begins as i64, "{topic}-{partition}");
            match report.cancelled {
                true => assert!(entry.to.0 as usize <= known.last_stable()),
                false => assert_eq!(entry.to.0 as usize, known.last_stable()),
            }
            let added = check_entry(entry, known);
            known.records.extend(added);
            known.archived_to = Some(entry.to.0 as usize);
        }
        for ((topic, partition), known) in &self.partitions {
            if known.archived_to.is_some() {
                let found = archived(&latest, topic, *partition).await;
                assert_eq!(found, known.records, "{topic}-{partition}");
            }
        }
    }
}

/// Every offset of the entry is accounted for exactly once, as the model has it. Returns the records it must hold.
fn check_entry(entry: &PartitionEntry, known: &Partition) -> Vec<Plain> {
    let range = entry.from.0 as usize..entry.to.0 as usize;
    let mut records = Vec::new();
    let mut expected: BTreeMap<GapKind, BTreeSet<i64>> = BTreeMap::new();
    for offset in range.clone() {
        let kind = match &known.log[offset] {
            _ if offset < known.log_start => GapKind::Retention,
            Fate::Record(record) => {
                records.push(record.clone());
                continue;
            }
            Fate::Aborted => GapKind::Aborted,
            Fate::Marker => GapKind::Marker,
            Fate::Compacted => GapKind::Compacted,
            Fate::Open { .. } => panic!("offset {offset} is not stable"),
        };
        expected.entry(kind).or_default().insert(offset as i64);
    }
    let pending = known.last_stable()..known.log.len();
    if entry.to.0 as usize == pending.start && !pending.is_empty() {
        let offsets = pending.map(|offset| offset as i64).collect();
        expected.insert(GapKind::Pending, offsets);
    }
    assert_eq!(entry.records, records.len() as u64);
    for gap in &entry.gaps {
        let of_kind = expected.get_mut(&gap.kind);
        let of_kind = of_kind.unwrap_or_else(|| panic!("{gap:?} is none"));
        let within: Vec<i64> = of_kind.range(gap.from.0..gap.to.0).copied().collect();
        assert_eq!(within.len() as u64, gap.offsets, "{gap:?}");
        for offset in within {
            of_kind.remove(&offset);
        }
    }
    expected.retain(|_, offsets| !offsets.is_empty());
    assert_eq!(expected, BTreeMap::new(), "these are no gaps in {entry:?}");
    let gaps = entry.gaps.iter().filter(|gap| gap.kind != GapKind::Pending);
    let gaps: u64 = gaps.map(|gap| gap.offsets).sum();
    assert_eq!(entry.records + gaps, range.len() as u64);
    assert!(entry.high_watermark >= Offset(range.end as i64));
    records
}

#[test]
fn any_history_is_archived_offset_by_offset() {
    let config = Config {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let histories = proptest::collection::vec(step(), 5..45);
    TestRunner::new(config)
        .run(&histories, |steps| {
            runtime.block_on(async {
                let mut history = History::new().await;
                for step in &steps {
                    history.step(step).await;
                }
                history.run(None).await;
                assert_sound(&history.world.store, "at the end").await;
            });
            Ok(())
        })
        .unwrap();
}
