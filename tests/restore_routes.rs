//! Selection and routes of a restore against the sandbox: whatever is cut, filtered, renumbered, joined or spread by key,
//! the target holds just what a plain model of the archive says, each source's records in their order, and the plan
//! knew every offset before.

use bytes::Bytes;
use kbr::archive::{Archive, NewGeneration, PartitionEntry, RunOptions, Snapshot, TopicEntry};
use kbr::base::{
    CancellationToken, NoProgress, Offset, PartitionId, PartitionSet, Pattern, SomePartitions,
    TimestampMs, TopicPartition,
};
use kbr::engine::restore::{
    self, FilterError, FilterRecord, FilterSession, HeaderOptions, Options, PartitionRemap,
    Predicted, RecordFilter, SomeOffsets, TopicRemap, WriteContext,
};
use kbr::engine::verify;
use kbr::kafka::{Client, ConnectOptions, FetchPartition, FetchWanted, Isolation};
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Limits, OwnedHeaders, ProducerStamp, TimestampType, batches,
};
use kbr::sandbox::{Sandbox, SandboxOptions};
use kbr::store::{Store, StoreUrl};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const NOW: TimestampMs = TimestampMs(1_795_255_200_000);
/// Timestamps in these tests count from here.
const START: i64 = NOW.0 - 100_000;

static UNIQUE: AtomicU32 = AtomicU32::new(0);

fn unique(prefix: &str) -> String {
    let number = UNIQUE.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// A record of the model. Its `id` header names where it stands at the source.
#[derive(Clone, Debug, PartialEq)]
struct Rec {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
}

impl Rec {
    fn id(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }
}

/// A batch as it is generated: codec, whether the broker stamped it, and per record the offset step, time and key.
type GeneratedBatch = (usize, bool, Vec<(i32, i64, Option<u8>)>);

fn generated_batch() -> impl Strategy<Value = GeneratedBatch> {
    let record = (
        prop_oneof![5 => Just(1i32), 1 => 2..4i32],
        0i64..1_000,
        proptest::option::weighted(0.8, 0u8..20),
    );
    (
        0usize..5,
        proptest::bool::weighted(0.2),
        proptest::collection::vec(record, 1..30),
    )
}

/// The bytes of a partition's batches, what a consumer would read of them, and the offset after the last.
fn built(partition: i32, generated: &[GeneratedBatch]) -> (Vec<u8>, Vec<Rec>, i64) {
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    let mut next = 0i64;
    for (codec, by_broker, contents) in generated {
        let mut builder = BatchBuilder::new(BuildOptions {
            codec: Codec::ALL[*codec],
            timestamp_type: match by_broker {
                true => TimestampType::LogAppendTime,
                false => TimestampType::CreateTime,
            },
            ..BuildOptions::default()
        })
        .base_offset(next);
        let latest = contents.iter().map(|(_, time, _)| *time).max().unwrap();
        let mut delta = -1;
        for (step, time, key) in contents {
            delta += step;
            let record = Rec {
                partition,
                offset: next + i64::from(delta),
                timestamp: START + if *by_broker { latest } else { *time },
                key: key.map(|key| format!("key-{key}").into_bytes()),
            };
            let mut headers = OwnedHeaders::new();
            headers
                .push(b"id", Some(record.id().as_bytes()))
                .push(b"trace", None);
            builder
                .push_at(
                    delta,
                    START + time,
                    record.key.as_deref(),
                    Some(b"value"),
                    headers.as_headers(),
                )
                .unwrap();
            records.push(record);
        }
        bytes.extend(builder.finish(ProducerStamp::NONE).unwrap());
        next += i64::from(delta) + 1;
    }
    (bytes, records, next)
}

/// An archive of topics with the partitions given.
async fn archive(topics: &[(&str, &[Vec<GeneratedBatch>])]) -> (Snapshot, Vec<Vec<Rec>>) {
    let url: StoreUrl = format!("memory:{}", unique("routes")).parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    let archive = Archive::create_or_open(store, "source-cluster")
        .await
        .unwrap();
    let run = archive
        .begin_run("run-1", RunOptions::default())
        .await
        .unwrap();
    let mut all = Vec::new();
    let mut entries = Vec::new();
    for (number, (name, partitions)) in topics.iter().enumerate() {
        let id = uuid::Uuid::from_u128(100 + number as u128);
        let mut written = Vec::new();
        for (partition, generated) in (0..).zip(partitions.iter()) {
            let (bytes, records, end) = built(partition, generated);
            let mut writer = run
                .segment_writer(name, id, PartitionId(partition))
                .await
                .unwrap();
            if !bytes.is_empty() {
                writer.append(Bytes::from(bytes)).await.unwrap();
            }
            let missing = end - records.len() as i64;
            let gaps = (missing > 0).then(|| {
                kbr::archive::Gap::scattered(
                    Offset(0),
                    Offset(end),
                    kbr::archive::GapKind::Compacted,
                    missing as u64,
                )
            });
            written.push(PartitionEntry {
                partition: PartitionId(partition),
                to: Offset(end),
                high_watermark: Offset(end),
                last_leader_epoch: -1,
                records: records.len() as u64,
                segments: writer.finish().await.unwrap().into_iter().collect(),
                gaps: gaps.into_iter().collect(),
                ..PartitionEntry::default()
            });
            all.push(records);
        }
        entries.push(TopicEntry {
            name: name.to_string(),
            id,
            replication_factor: 1,
            partition_count: partitions.len() as i32,
            partitions: written,
            ..TopicEntry::default()
        });
    }
    run.commit(NewGeneration {
        started: NOW,
        consistency_point: NOW,
        partial: false,
        topics: entries,
        groups: None,
        cluster: None,
    })
    .await
    .unwrap();
    (archive.latest().await.unwrap(), all)
}

async fn sandbox() -> (Sandbox, Client) {
    let sandbox = Sandbox::start(SandboxOptions::named(unique("routes")))
        .await
        .unwrap();
    let client = Client::connect(ConnectOptions::new(sandbox.bootstrap()))
        .await
        .unwrap();
    (sandbox, client)
}

struct To(String);

impl TopicRemap for To {
    fn fingerprint(&self) -> String {
        self.0.clone()
    }
    fn target(&self, _source: &str) -> Result<String, FilterError> {
        Ok(self.0.clone())
    }
}

/// Every partition to its number modulo this.
struct Modulo(i32);

impl PartitionRemap for Modulo {
    fn fingerprint(&self) -> String {
        format!("% {}", self.0)
    }
    fn target(&self, _topic: &str, source: PartitionId) -> Result<PartitionId, FilterError> {
        Ok(PartitionId(source.0 % self.0))
    }
}

/// Keeps what does not stand at a multiple of this offset.
struct NotEvery(i64);

impl RecordFilter for NotEvery {
    fn fingerprint(&self) -> String {
        format!("not every {}", self.0)
    }
    fn session(&self) -> Box<dyn FilterSession> {
        Box::new(NotEvery(self.0))
    }
}

impl FilterSession for NotEvery {
    fn keep(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError> {
        Ok(record.record.offset % self.0 != 0)
    }
}

/// A record read from the target.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    timestamp: i64,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<String>)>,
}

impl Read {
    fn id(&self) -> String {
        let id = self.headers.iter().find(|(name, _)| name == "id").unwrap();
        id.1.clone().unwrap()
    }
}

async fn read(client: &Client, topic: &str, partition: i32, end: i64) -> Vec<Read> {
    let at = TopicPartition::new(topic, partition);
    let mut found = Vec::new();
    let mut next = 0;
    for _ in 0..1_000 {
        if next >= end {
            break;
        }
        let leader = client.leader(&at).await.unwrap();
        let wanted = FetchWanted {
            partitions: vec![FetchPartition {
                topic: topic.into(),
                topic_id: uuid::Uuid::nil(),
                partition: PartitionId(partition),
                offset: Offset(next),
                leader_epoch: -1,
                last_fetched_epoch: -1,
                max_bytes: 1 << 20,
            }],
            max_wait: Duration::from_millis(200),
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation: Isolation::ReadUncommitted,
        };
        let parts = client.fetch(leader, wanted).await.unwrap();
        for batch in batches(&parts[0].records) {
            let batch = batch.unwrap();
            let mut scratch = Vec::new();
            for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
                let record = record.unwrap();
                if record.offset < next {
                    continue;
                }
                assert_eq!(record.offset, next, "no holes in a restored partition");
                next += 1;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.push(Read {
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .iter()
                        .map(|header| (text(header.key), header.value.map(text)))
                        .collect(),
                });
            }
        }
    }
    found
}

async fn apply(
    plan: &restore::Plan,
    snapshot: &Snapshot,
    client: &Client,
) -> Vec<restore::TopicReport> {
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    for create in &plan.creates {
        restore::create_topic(create, client).await.unwrap();
    }
    for prepare in &plan.prepares {
        restore::check_prepare_topic(prepare, client).await.unwrap();
        restore::prepare_topic(prepare, client).await.unwrap();
    }
    let mut reports = Vec::new();
    for write in &plan.writes {
        assert!(write.blocked.is_empty(), "{:?}", write.blocked);
        restore::check_write_topic(write, None, client)
            .await
            .unwrap();
        let context = WriteContext::unrecorded();
        reports.push(
            restore::write_topic(write, snapshot, client, &context)
                .await
                .unwrap(),
        );
    }
    for write in &plan.writes {
        let report = verify::verify_topic(
            write,
            snapshot,
            client,
            &NoProgress::handle(),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
        assert_eq!(report.differences().collect::<Vec<_>>(), []);
    }
    for finish in &plan.finishes {
        restore::check_finish_topic(finish, None, client)
            .await
            .unwrap();
        restore::finish_topic(finish, client).await.unwrap();
    }
    reports
}

async fn planned(snapshot: &Snapshot, client: &Client, options: &Options) -> restore::Plan {
    restore::plan(snapshot, client, options, NOW, &CancellationToken::new())
        .await
        .unwrap()
}

/// Kafka's `Utils.murmur2`, as its Java source reads.
fn java_murmur2(data: &[u8]) -> i32 {
    let length = data.len() as i32;
    let m: i32 = 0x5bd1_e995;
    let r = 24;
    let mut h: i32 = 0x9747_b28cu32 as i32 ^ length;
    let word = |i: usize, at: usize| i32::from(data[i * 4 + at]) & 0xff;
    for i in 0..(length / 4) as usize {
        let mut k = word(i, 0) + (word(i, 1) << 8) + (word(i, 2) << 16) + (word(i, 3) << 24);
        k = k.wrapping_mul(m);
        k ^= (k as u32 >> r) as i32;
        k = k.wrapping_mul(m);
        h = h.wrapping_mul(m);
        h ^= k;
    }
    let rest = (length & !3) as usize;
    let left = length % 4;
    if left >= 3 {
        h ^= i32::from(data[rest + 2]) << 16;
    }
    if left >= 2 {
        h ^= i32::from(data[rest + 1]) << 8;
    }
    if left >= 1 {
        h ^= i32::from(data[rest]);
        h = h.wrapping_mul(m);
    }
    h ^= (h as u32 >> 13) as i32;
    h = h.wrapping_mul(m);
    h ^ (h as u32 >> 15) as i32
}

/// Where the model sends a record.
fn model_target(way: Way, record: &Rec) -> i32 {
    match way {
        Way::Same => record.partition,
        Way::Modulo(count) => record.partition % count,
        Way::Key(count) => match &record.key {
            Some(key) => (java_murmur2(key) & 0x7fff_ffff) % count,
            None => {
                ((i64::from(record.partition) + record.offset / 1000) % i64::from(count)) as i32
            }
        },
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Same,
    Modulo(i32),
    Key(i32),
}

#[derive(Clone, Debug)]
struct Case {
    partitions: Vec<Vec<GeneratedBatch>>,
    since: Option<i64>,
    before: Option<i64>,
    filter: Option<i64>,
    way: Way,
    only: Option<i32>,
    range: Option<(i64, i64)>,
    headers: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let partitions =
        proptest::collection::vec(proptest::collection::vec(generated_batch(), 1..8), 1..4);
    (
        partitions,
        proptest::option::weighted(0.4, 0i64..1_000),
        proptest::option::weighted(0.4, 0i64..1_000),
        proptest::option::weighted(0.4, 2i64..5),
        prop_oneof![
            2 => Just(Way::Same),
            2 => (1..3i32).prop_map(Way::Modulo),
            3 => (1..6i32).prop_map(Way::Key),
        ],
        proptest::option::weighted(0.2, 0..2i32),
        proptest::option::weighted(0.3, (0i64..15, 15i64..80)),
        proptest::bool::weighted(0.3),
    )
        .prop_map(
            |(partitions, since, before, filter, way, only, range, headers)| Case {
                partitions,
                since: since.map(|at| START + at),
                before: before.map(|at| START + at),
                filter,
                way,
                only,
                range,
                headers,
            },
        )
}

fn options(case: &Case, topic: &str) -> Options {
    let everything = || PartitionSet::parse("0-").unwrap();
    Options {
        remap: Some(Arc::new(To(topic.to_string()))),
        since: case.since.map(TimestampMs),
        before: case.before.map(TimestampMs),
        filter: case
            .filter
            .map(|every| Arc::new(NotEvery(every)) as Arc<dyn RecordFilter>),
        partition_remap: match case.way {
            Way::Modulo(count) => Some(Arc::new(Modulo(count))),
            _ => None,
        },
        repartition: match case.way {
            Way::Key(count) => Some(count),
            _ => None,
        },
        partitions: case
            .only
            .filter(|only| (*only as usize) < case.partitions.len())
            .map(|only| SomePartitions {
                topics: Pattern::parse("orders").unwrap(),
                partitions: [PartitionId(only)].into_iter().collect(),
            })
            .into_iter()
            .collect(),
        offsets: case
            .range
            .map(|(from, to)| SomeOffsets {
                topics: Pattern::parse("*").unwrap(),
                partitions: everything(),
                from: Some(from),
                to: Some(to),
            })
            .into_iter()
            .collect(),
        headers: HeaderOptions {
            origin: case.headers,
            drop: match case.headers {
                true => vec![Pattern::parse("trac*").unwrap()],
                false => Vec::new(),
            },
            set: Vec::new(),
        },
        ..Options::default()
    }
}

/// The records that the model keeps.
fn kept(case: &Case, all: &[Vec<Rec>]) -> Vec<Rec> {
    let one = case.only.filter(|only| (*only as usize) < all.len());
    all.iter()
        .flatten()
        .filter(|record| one.is_none_or(|one| record.partition == one))
        .filter(|record| {
            let (from, to) = case.range.unwrap_or((0, i64::MAX));
            record.offset >= from && record.offset < to
        })
        .filter(|record| case.since.is_none_or(|since| record.timestamp >= since))
        .filter(|record| case.before.is_none_or(|before| record.timestamp < before))
        .filter(|record| case.filter.is_none_or(|every| record.offset % every != 0))
        .cloned()
        .collect()
}

async fn restores_what_the_model_keeps(client: &Client, case: &Case) {
    let (snapshot, all) = archive(&[("orders", &case.partitions)]).await;
    let topic = unique("target");
    let mut plan = planned(&snapshot, client, &options(case, &topic)).await;
    // A range that a partition does not reach blocks; the rest of the model holds all the same.
    plan.blocked
        .retain(|blocked| !blocked.what.contains("has none of the offsets"));
    let kept = kept(case, &all);
    assert_eq!(
        plan.writes[0].records(),
        Predicted::Exactly(kept.len() as u64)
    );
    apply(&plan, &snapshot, client).await;

    let mut expected: BTreeMap<i32, Vec<&Rec>> = BTreeMap::new();
    for record in &kept {
        expected
            .entry(model_target(case.way, record))
            .or_default()
            .push(record);
    }
    let ends = plan.writes[0].planned_ends();
    for (target, records) in &expected {
        assert_eq!(
            ends[&PartitionId(*target)],
            Some(Offset(records.len() as i64))
        );
    }
    for (target, end) in &ends {
        let found = read(client, &topic, target.0, end.unwrap().0).await;
        let wanted = expected.remove(&target.0).unwrap_or_default();
        assert_eq!(found.len(), wanted.len());
        for source in 0..all.len() as i32 {
            // The model's order: that of the source.
            let of_source: Vec<&&Rec> = wanted.iter().filter(|r| r.partition == source).collect();
            let prefix = format!("{source}:");
            let read: Vec<&Read> = found
                .iter()
                .filter(|r| r.id().starts_with(&prefix))
                .collect();
            assert_eq!(read.len(), of_source.len());
            for (read, wanted) in read.iter().zip(of_source) {
                assert_eq!(read.id(), wanted.id());
                assert_eq!(read.timestamp, wanted.timestamp);
                assert_eq!(read.key, wanted.key);
                assert_eq!(read.headers, model_headers(case, wanted));
            }
        }
        for route in plan.writes[0]
            .partitions
            .iter()
            .filter(|route| route.target == *target)
        {
            let mapping = route.mapping.as_ref().unwrap();
            for record in wanted.iter().filter(|r| r.partition == route.source.0) {
                let there = mapping.translate(Offset(record.offset)).offset.0 as usize;
                assert_eq!(found[there].id(), record.id());
            }
        }
    }
    assert!(expected.is_empty(), "{expected:?}");
}

fn model_headers(case: &Case, record: &Rec) -> Vec<(String, Option<String>)> {
    let mut headers = vec![("id".to_string(), Some(record.id()))];
    if case.headers {
        for (name, value) in [
            ("x-original-offset", record.offset.to_string()),
            ("x-original-partition", record.partition.to_string()),
            ("x-original-timestamp", record.timestamp.to_string()),
            ("x-source-cluster", "source-cluster".to_string()),
        ] {
            headers.push((name.to_string(), Some(value)));
        }
    } else {
        headers.push(("trace".to_string(), None));
    }
    headers
}

#[test]
fn whatever_is_cut_and_routed_the_target_holds_what_a_plain_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (_sandbox, client) = runtime.block_on(sandbox());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&case(), |case| {
            runtime.block_on(restores_what_the_model_keeps(&client, &case));
            Ok(())
        })
        .unwrap();
}

/// Partitions of so many plain records, one every ten milliseconds.
fn plain(counts: &[i64]) -> Vec<Vec<GeneratedBatch>> {
    counts
        .iter()
        .map(|count| {
            let batches = (0..*count).collect::<Vec<_>>();
            batches
                .chunks(20)
                .map(|chunk| {
                    let records = chunk
                        .iter()
                        .map(|at| (1, at * 10 % 1_000, Some((at % 20) as u8)));
                    (0, false, records.collect())
                })
                .collect()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_topics_into_one_are_refused_unless_asked_for_and_then_stand_one_behind_the_other() {
    let (_sandbox, client) = sandbox().await;
    let (one, two) = (plain(&[30, 50]), plain(&[10]));
    let (snapshot, all) = archive(&[("a", &one), ("b", &two)]).await;
    let topic = unique("merged");
    let refused = Options {
        remap: Some(Arc::new(To(topic.clone()))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &refused).await;
    assert!(
        plan.blocked[0]
            .what
            .starts_with("a and b would both be restored into")
    );

    let options = Options {
        merge: true,
        ..refused
    };
    let plan = planned(&snapshot, &client, &options).await;
    assert_eq!(plan.creates.len(), 1);
    apply(&plan, &snapshot, &client).await;
    let found = read(&client, &topic, 0, 40).await;
    let ids: Vec<String> = found.iter().map(Read::id).collect();
    let wanted: Vec<String> = all[0].iter().chain(&all[2]).map(Rec::id).collect();
    assert_eq!(ids, wanted);
    assert_eq!(read(&client, &topic, 1, 50).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_an_existing_topic_that_would_bite_are_set_aside_and_put_back() {
    let (sandbox, client) = sandbox().await;
    let partitions = plain(&[30]);
    let (snapshot, all) = archive(&[("orders", &partitions)]).await;
    let topic = unique("stamping");
    let configs = [
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "60000"),
        ("compression.type", "gzip"),
    ];
    sandbox.create_topic(&topic, 1, &configs).unwrap();
    let options = Options {
        remap: Some(Arc::new(To(topic.clone()))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &options).await;
    assert_eq!(plan.prepares[0].set.len(), 3);
    assert_eq!(plan.prepares[0].holds, 0);
    assert!(plan.finishes[0].would_delete.is_some());
    apply(&plan, &snapshot, &client).await;
    let found = read(&client, &topic, 0, 30).await;
    for (read, wanted) in found.iter().zip(&all[0]) {
        assert_eq!(read.timestamp, wanted.timestamp);
    }
    let shown = client
        .topic_configs(std::slice::from_ref(&topic))
        .await
        .unwrap();
    let shown = shown[&topic].as_ref().unwrap();
    for (name, value) in configs {
        let entry = shown.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(entry.value.as_deref(), Some(value));
        assert!(entry.is_override());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_do_not_go_into_a_compacted_topic_unsaid() {
    let (sandbox, client) = sandbox().await;
    let mut partitions = plain(&[30]);
    partitions[0][0].2[3].2 = None;
    let (snapshot, _) = archive(&[("orders", &partitions)]).await;
    let topic = unique("compacted");
    sandbox
        .create_topic(&topic, 1, &[("cleanup.policy", "compact")])
        .unwrap();
    let options = Options {
        remap: Some(Arc::new(To(topic.clone()))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &options).await;
    let blocked = &plan.writes[0].blocked[0];
    assert!(
        blocked.what.contains("removes records without a key") && blocked.what.contains("has 1"),
        "{blocked:?}"
    );
    // Filtered, nothing stands in the way: offset 3 is the one.
    let filtered = Options {
        filter: Some(Arc::new(NotEvery(3))),
        ..options
    };
    let plan = planned(&snapshot, &client, &filtered).await;
    assert!(plan.writes[0].blocked.is_empty());
    assert_eq!(plan.prepares[0].set["cleanup.policy"], "delete");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_and_is_not_there_blocks() {
    let (sandbox, client) = sandbox().await;
    let partitions = plain(&[30, 30]);
    let (snapshot, _) = archive(&[("orders", &partitions)]).await;
    let pattern = |text: &str| Pattern::parse(text).unwrap();
    let offsets = |partitions: &str, from, to| SomeOffsets {
        topics: pattern("orders"),
        partitions: PartitionSet::parse(partitions).unwrap(),
        from: Some(from),
        to: Some(to),
    };
    let with = |choice| Options {
        offsets: vec![choice],
        remap: Some(Arc::new(To(unique("never")))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &with(offsets("0", 30, 40))).await;
    assert_eq!(
        plan.blocked[0].what,
        "orders p0 has none of the offsets 30…40"
    );
    let plan = planned(&snapshot, &client, &with(offsets("2", 0, 40))).await;
    assert_eq!(plan.blocked[0].what, "orders has no partition 2");
    let plan = planned(&snapshot, &client, &with(offsets("1", 20, 40))).await;
    assert!(plan.blocked.is_empty());
    assert_eq!(plan.writes[0].records(), Predicted::Exactly(40));
    assert_eq!(
        plan.writes[0].notes[0],
        "orders p1: of offsets 20…40 the archive holds 0…30"
    );
    // Another count than the key's hash was taken for.
    let topic = unique("three");
    sandbox.create_topic(&topic, 3, &[]).unwrap();
    let options = Options {
        remap: Some(Arc::new(To(topic.clone()))),
        repartition: Some(4),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &options).await;
    assert!(
        plan.writes[0].blocked[0]
            .what
            .starts_with(&format!("{topic} has 3 partitions")),
        "{:?}",
        plan.writes[0].blocked
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_after_it_was_planned_is_not_written() {
    let (sandbox, client) = sandbox().await;
    let partitions = plain(&[30]);
    let (snapshot, _) = archive(&[("orders", &partitions)]).await;
    let topic = unique("anew");
    let options = Options {
        remap: Some(Arc::new(To(topic.clone()))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &options).await;
    let id = restore::create_topic(&plan.creates[0], &client)
        .await
        .unwrap();
    restore::check_write_topic(&plan.writes[0], Some(id), &client)
        .await
        .unwrap();
    restore::check_finish_topic(&plan.finishes[0], Some(id), &client)
        .await
        .unwrap();
    client
        .delete_topics(std::slice::from_ref(&topic))
        .await
        .unwrap();
    sandbox.create_topic(&topic, 1, &[]).unwrap();
    let write = restore::check_write_topic(&plan.writes[0], Some(id), &client).await;
    assert!(
        write
            .unwrap_err()
            .to_string()
            .contains("deleted and created again")
    );
    let finish = restore::check_finish_topic(&plan.finishes[0], Some(id), &client).await;
    assert!(finish.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_reads_back_with_the_digests_of_its_mappings() {
    let (_sandbox, client) = sandbox().await;
    let partitions = plain(&[30, 10]);
    let (snapshot, _) = archive(&[("orders", &partitions)]).await;
    let options = Options {
        repartition: Some(3),
        remap: Some(Arc::new(To(unique("saved")))),
        ..Options::default()
    };
    let plan = planned(&snapshot, &client, &options).await;
    let text = serde_json::to_string(&plan).unwrap();
    let back: restore::Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let (own, read) = (&plan.writes[0].partitions, &back.writes[0].partitions);
    for (own, read) in own.iter().zip(read) {
        assert_eq!(
            read.mapping_digest,
            Some(own.mapping.as_ref().unwrap().digest())
        );
        assert!(read.mapping.is_none());
    }
    // Written from what was read back, it comes to the same.
    apply(&back, &snapshot, &client).await;
}
