//! Restore and verification against the sandbox: plan, create, write, finish, read back, record by record, and with
//! every fault between kbr and the broker that a produce request can meet.

use bytes::Bytes;
use kbr::archive::{
    Archive, Gap, GapKind, NewGeneration, PartitionEntry, RunOptions, Snapshot, TopicEntry,
};
use kbr::base::{
    CancellationToken, NoProgress, Offset, PartitionId, Selection, TimestampMs, TopicPartition,
};
use kbr::engine::restore::{
    self, FilterError, FilterRecord, FilterSession, Options, Predicted, RecordFilter, TargetState,
    TopicRemap, WriteContext,
};
use kbr::engine::{Error, verify};
use kbr::kafka::{Client, ConnectOptions, FetchPartition, FetchWanted, Isolation};
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Headers, Limits, OwnedHeaders, ProducerStamp, TimestampType,
    batches,
};
use kbr::sandbox::{Action, Sandbox, SandboxOptions};
use kbr::store::{Store, StoreUrl};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

type Headers_ = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Clone, Debug, PartialEq)]
struct Rec {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers_,
}

static UNIQUE: AtomicU32 = AtomicU32::new(0);

fn unique(prefix: &str) -> String {
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        UNIQUE.fetch_add(1, Ordering::Relaxed)
    )
}

async fn sandbox(brokers: usize) -> (Arc<Sandbox>, Client) {
    let options = SandboxOptions {
        brokers,
        ..SandboxOptions::named(unique("dr"))
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let client = Client::connect(ConnectOptions::new(sandbox.bootstrap()))
        .await
        .unwrap();
    (Arc::new(sandbox), client)
}

/// Batches of every codec with keys, tombstones, headers; some with holes, one stamped by the broker, one tiny.
fn partition_batches(seed: i64) -> (Vec<u8>, Vec<Rec>, i64, Vec<Gap>) {
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    let mut gaps = Vec::new();
    let mut next = 0i64;
    for round in 0..40i64 {
        let codec = Codec::ALL[(round % 5) as usize];
        let append_time = round % 7 == 3;
        let mut builder = BatchBuilder::new(BuildOptions {
            codec,
            timestamp_type: if append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            ..BuildOptions::default()
        })
        .base_offset(next);
        let count = 1 + (round * 7 + seed) % 50;
        let holes = round % 4 == 1;
        let mut delta = -1;
        let mut latest = i64::MIN;
        let start = records.len();
        for index in 0..count {
            delta += if holes && index % 3 == 1 { 2 } else { 1 };
            let timestamp = NOW.0 - 1_000_000 + (round * 1_000) + (index * 37 % 500);
            latest = latest.max(timestamp);
            let key = (index % 5 != 0).then(|| format!("key-{}", index % 9).into_bytes());
            let value = (index % 6 != 2)
                .then(|| format!("{{\"n\":{index},\"round\":{round}}}").into_bytes());
            let headers: Headers_ = match index % 4 {
                0 => vec![],
                1 => vec![(b"a".to_vec(), None), (b"a".to_vec(), Some(vec![]))],
                _ => vec![(b"trace".to_vec(), Some(vec![0, 159, 146, 150]))],
            };
            let owned: OwnedHeaders = headers
                .iter()
                .map(|(k, v)| (k.as_slice(), v.as_deref()))
                .collect();
            builder
                .push_at(
                    delta as i32,
                    timestamp,
                    key.as_deref(),
                    value.as_deref(),
                    owned.as_headers(),
                )
                .unwrap();
            records.push(Rec {
                offset: next + delta,
                timestamp,
                key,
                value,
                headers,
            });
        }
        if append_time {
            for record in &mut records[start..] {
                record.timestamp = latest;
            }
        }
        bytes.extend(builder.finish(ProducerStamp::NONE).unwrap());
        let missing = delta + 1 - count;
        if missing > 0 {
            gaps.push(Gap::scattered(
                Offset(next),
                Offset(next + delta + 1),
                GapKind::Compacted,
                missing as u64,
            ));
        }
        next += delta + 1;
    }
    (bytes, records, next, gaps)
}

/// A one-generation archive of topic `orders` with two partitions, and what it holds.
async fn archive(configs: &[(&str, &str)]) -> (Snapshot, Vec<Vec<Rec>>) {
    let url: StoreUrl = format!("memory:{}", unique("restore")).parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    let archive = Archive::create_or_open(store, "source-cluster")
        .await
        .unwrap();
    let run = archive
        .begin_run("run-1", RunOptions::default())
        .await
        .unwrap();
    let id = uuid::Uuid::from_u128(77);
    let mut partitions = Vec::new();
    let mut all = Vec::new();
    for partition in 0..2 {
        let (bytes, records, end, gaps) = partition_batches(i64::from(partition));
        let mut writer = run
            .segment_writer("orders", id, PartitionId(partition))
            .await
            .unwrap();
        writer.append(Bytes::from(bytes)).await.unwrap();
        let segment = writer.finish().await.unwrap().unwrap();
        partitions.push(PartitionEntry {
            partition: PartitionId(partition),
            to: Offset(end),
            high_watermark: Offset(end),
            last_leader_epoch: -1,
            records: records.len() as u64,
            segments: vec![segment],
            gaps,
            ..PartitionEntry::default()
        });
        all.push(records);
    }
    run.commit(NewGeneration {
        started: NOW,
        consistency_point: NOW,
        partial: false,
        topics: vec![TopicEntry {
            name: "orders".into(),
            id,
            replication_factor: 3,
            // One more than could be read.
            partition_count: 3,
            configs: configs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
            partitions,
            ..TopicEntry::default()
        }],
        groups: None,
        cluster: None,
    })
    .await
    .unwrap();
    (archive.latest().await.unwrap(), all)
}

struct Rename(String);

impl TopicRemap for Rename {
    fn fingerprint(&self) -> String {
        format!("→ {}", self.0)
    }
    fn target(&self, _source: &str) -> Result<String, FilterError> {
        Ok(self.0.clone())
    }
}

struct NoTombstones;

impl RecordFilter for NoTombstones {
    fn fingerprint(&self) -> String {
        "no tombstones".into()
    }
    fn session(&self) -> Box<dyn FilterSession> {
        Box::new(NoTombstones)
    }
}

impl FilterSession for NoTombstones {
    fn keep(&mut self, record: &FilterRecord<'_>) -> Result<bool, FilterError> {
        Ok(record.record.value.is_some())
    }
}

async fn read(client: &Client, topic: &str, partition: i32, count: usize) -> Vec<Rec> {
    let at = TopicPartition::new(topic, partition);
    let mut found = Vec::new();
    let mut next = 0;
    for _ in 0..1_000 {
        if found.len() >= count {
            break;
        }
        let leader = client.leader(&at).await.unwrap();
        let parts = client
            .fetch(
                leader,
                FetchWanted {
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
                },
            )
            .await
            .unwrap();
        for batch in batches(&parts[0].records) {
            let batch = batch.unwrap();
            let mut scratch = Vec::new();
            for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
                let record = record.unwrap();
                if record.offset < next {
                    continue;
                }
                next = record.offset + 1;
                found.push(Rec {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .iter()
                        .map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec)))
                        .collect(),
                });
            }
        }
    }
    found
}

fn content(records: &[Rec]) -> Vec<Rec> {
    records
        .iter()
        .enumerate()
        .map(|(index, record)| Rec {
            offset: index as i64,
            ..record.clone()
        })
        .collect()
}

async fn apply(
    plan: &restore::Plan,
    snapshot: &Snapshot,
    client: &Client,
) -> Result<Vec<restore::TopicReport>, Error> {
    for create in &plan.creates {
        restore::check_create_topic(create, client).await?;
        restore::create_topic(create, client).await?;
    }
    for prepare in &plan.prepares {
        restore::check_prepare_topic(prepare, client).await?;
        restore::prepare_topic(prepare, client).await?;
    }
    let mut reports = Vec::new();
    for write in &plan.writes {
        restore::check_write_topic(write, None, client).await?;
        reports.push(
            restore::write_topic(write, snapshot, client, &WriteContext::unrecorded()).await?,
        );
    }
    for finish in &plan.finishes {
        restore::check_finish_topic(finish, None, client).await?;
        restore::finish_topic(finish, client).await?;
    }
    Ok(reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_restored_once_in_order_and_read_back_equal() {
    let (_sandbox, client) = sandbox(1).await;
    let (snapshot, records) = archive(&[
        ("retention.ms", "-1"),
        ("segment.ms", "600000"),
        ("min.insync.replicas", "2"),
    ])
    .await;
    let topic = unique("restored");
    let options = Options {
        remap: Some(Arc::new(Rename(topic.clone()))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    let write = &plan.writes[0];
    assert!(write.blocked.is_empty(), "{:?}", write.blocked);
    assert_eq!(write.target, TargetState::Absent);
    assert_eq!(
        plan.creates[0].partitions, 3,
        "as many as the source has, whatever could be read of them"
    );
    assert_eq!(
        write.records(),
        Predicted::Exactly((records[0].len() + records[1].len()) as u64)
    );

    let reports = apply(&plan, &snapshot, &client).await.unwrap();
    for (partition, records) in records.iter().enumerate() {
        assert_eq!(
            read(&client, &topic, partition as i32, records.len()).await,
            content(records)
        );
        let written = &reports[0].partitions[partition];
        for (position, record) in records.iter().enumerate() {
            assert_eq!(
                written.mapping.translate(Offset(record.offset)).offset,
                Offset(position as i64)
            );
        }
    }
    let configs = client
        .topic_configs(std::slice::from_ref(&topic))
        .await
        .unwrap()
        .remove(&topic)
        .unwrap()
        .unwrap();
    let overrides: BTreeMap<String, String> = configs
        .into_iter()
        .filter(|entry| entry.is_override())
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect();
    assert_eq!(
        overrides,
        BTreeMap::from([
            ("retention.ms".to_string(), "-1".to_string()),
            ("segment.ms".to_string(), "600000".to_string())
        ])
    );
    let report = verify::verify_topic(
        write,
        &snapshot,
        &client,
        &NoProgress::handle(),
        &CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(report.differences().collect::<Vec<_>>(), []);
    assert_eq!(
        report.records(),
        (records[0].len() + records[1].len()) as u64
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_time_bound_select_record_by_record() {
    let (_sandbox, client) = sandbox(1).await;
    let (snapshot, records) = archive(&[]).await;
    let topic = unique("selected");
    let before = NOW.0 - 1_000_000 + 20_200;
    let since = NOW.0 - 1_000_000 + 3_100;
    let options = Options {
        topics: Selection::of(&["orders"]).unwrap(),
        since: Some(TimestampMs(since)),
        before: Some(TimestampMs(before)),
        filter: Some(Arc::new(NoTombstones)),
        remap: Some(Arc::new(Rename(topic.clone()))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    let wanted: Vec<Vec<Rec>> = records
        .iter()
        .map(|records| {
            records
                .iter()
                .filter(|r| r.timestamp >= since && r.timestamp < before && r.value.is_some())
                .cloned()
                .collect()
        })
        .collect();
    let total: usize = wanted.iter().map(Vec::len).sum();
    assert!(total > 100);
    assert_eq!(plan.writes[0].records(), Predicted::Exactly(total as u64));
    apply(&plan, &snapshot, &client).await.unwrap();
    for (partition, wanted) in wanted.iter().enumerate() {
        assert_eq!(
            read(&client, &topic, partition as i32, wanted.len()).await,
            content(wanted)
        );
    }
    // The same target against other selections must not verify.
    let mut fewer = plan.writes[0].clone();
    fewer.before = Some(TimestampMs(before - 3_000));
    let mut later = plan.writes[0].clone();
    later.since = Some(TimestampMs(since + 3_000));
    for (write, wanted) in [
        (fewer, "another producer wrote into it"),
        (later, "has another key, value, header or timestamp"),
    ] {
        let report = verify::verify_topic(
            &write,
            &snapshot,
            &client,
            &NoProgress::handle(),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
        let found: Vec<String> = report
            .differences()
            .map(|(_, difference)| difference.to_string())
            .collect();
        assert!(found.iter().any(|text| text.contains(wanted)), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_changed_since_the_plan_is_drift_and_nothing_is_written() {
    let (_sandbox, client) = sandbox(1).await;
    let (snapshot, _) = archive(&[]).await;
    let topic = unique("drift");
    let options = Options {
        remap: Some(Arc::new(Rename(topic.clone()))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    apply(&plan, &snapshot, &client).await.unwrap();
    match apply(&plan, &snapshot, &client).await {
        Err(Error::Drift(why)) => assert!(why.contains("exists now"), "{why}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let again = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    assert!(again.creates.is_empty());
    assert!(matches!(
        again.writes[0].target,
        TargetState::HasRecords { .. }
    ));
    match restore::check_write_topic(&plan.writes[0], None, &client).await {
        Err(Error::Drift(why)) => assert!(why.contains("not at 0 as planned"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_archive_does_not_hold_blocks_with_the_nearest_name() {
    let (_sandbox, client) = sandbox(1).await;
    let (snapshot, _) = archive(&[]).await;
    let options = Options {
        topics: Selection::of(&["order"]).unwrap(),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        plan.blocked[0].what,
        "no topic order in generation 1 of the archive"
    );
    assert_eq!(
        plan.blocked[0].hint.as_deref(),
        Some("did you mean orders?")
    );
}

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

/// Restores everything while `fault` meets the produce requests; the answer is the sandbox and what it should hold.
async fn restore_with(
    brokers: usize,
    fault: impl FnMut(u64, &Arc<Sandbox>, &str) -> Action + Send + 'static,
) -> (
    Result<Vec<restore::TopicReport>, Error>,
    Arc<Sandbox>,
    String,
    Vec<Vec<Rec>>,
) {
    let (sandbox, client) = sandbox(brokers).await;
    let (snapshot, records) = archive(&[]).await;
    let topic = unique("faulty");
    let options = Options {
        remap: Some(Arc::new(Rename(topic.clone()))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    let (seen_by, name) = (sandbox.clone(), topic.clone());
    let mut fault = fault;
    let mut count = 0;
    sandbox.intercept(move |seen| {
        if seen.api_key != PRODUCE {
            return Action::Pass;
        }
        count += 1;
        fault(count, &seen_by, &name)
    });
    let result = apply(&plan, &snapshot, &client).await;
    sandbox.clear_interceptors();
    (result, sandbox, topic, records)
}

fn assert_each_record_once(sandbox: &Sandbox, topic: &str, records: &[Vec<Rec>], what: &str) {
    for (partition, records) in records.iter().enumerate() {
        let found: Vec<Rec> = sandbox
            .records(topic, partition as i32)
            .unwrap()
            .into_iter()
            .map(|record| Rec {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                key: record.key,
                value: record.value,
                headers: record.headers,
            })
            .collect();
        assert_eq!(found, content(records), "{what}, partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_nth_produce_request_every_record_is_written_once() {
    let faults = [
        ("reply lost", Action::DoThenDrop),
        ("request lost", Action::Drop),
        ("reply cut", Action::CutReply(9)),
        ("leader unknown", Action::Error(6)),
        ("not enough replicas after append", Action::Error(20)),
        ("slow", Action::Delay(Duration::from_millis(30))),
    ];
    let mut runs = Vec::new();
    for (what, action) in faults {
        for nth in [1, 2, 3, 5, 8] {
            let action = action.clone();
            runs.push(async move {
                let (result, sandbox, topic, records) = restore_with(1, move |count, _, _| {
                    if count == nth {
                        action.clone()
                    } else {
                        Action::Pass
                    }
                })
                .await;
                let what = format!("{what}, request {nth}");
                assert!(result.is_ok(), "{what}: {:?}", result.err());
                assert_each_record_once(&sandbox, &topic, &records, &what);
            });
        }
    }
    futures::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_while_the_tail_is_looked_at_is_followed() {
    let (sandbox, client) = sandbox(1).await;
    let (snapshot, records) = archive(&[]).await;
    let topic = unique("faulty");
    let options = Options {
        remap: Some(Arc::new(Rename(topic.clone()))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    let (mut produced, mut looked) = (0, 0);
    sandbox.intercept(move |seen| match seen.api_key {
        PRODUCE => {
            produced += 1;
            match produced {
                1 => Action::DoThenDrop,
                _ => Action::Pass,
            }
        }
        FETCH => {
            looked += 1;
            match looked {
                1 => Action::Error(6),
                _ => Action::Pass,
            }
        }
        _ => Action::Pass,
    });
    let result = apply(&plan, &snapshot, &client).await;
    assert!(result.is_ok(), "{:?}", result.err());
    assert_each_record_once(&sandbox, &topic, &records, "a tail that moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_topic_whose_retention_would_remove_the_records_says_so() {
    let (sandbox, client) = sandbox(1).await;
    let (snapshot, _) = archive(&[]).await;
    let topic = unique("short");
    sandbox
        .create_topic(&topic, 9, &[("retention.ms", "60000")])
        .unwrap();
    let options = Options {
        remap: Some(Arc::new(Rename(topic))),
        ..Options::default()
    };
    let plan = restore::plan(&snapshot, &client, &options, NOW, &CancellationToken::new())
        .await
        .unwrap();
    let text = plan.finishes[0].would_delete.as_deref().unwrap();
    assert!(text.contains("removes records older than"), "{text}");
    assert_eq!(plan.prepares[0].set["retention.ms"], "-1");
    assert_eq!(plan.finishes[0].set["retention.ms"], "60000");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_second_reply_lost_is_survived() {
    let (result, sandbox, topic, records) = restore_with(1, |count, _, _| {
        if count % 2 == 0 {
            Action::DoThenDrop
        } else {
            Action::Pass
        }
    })
    .await;
    assert!(result.is_ok(), "{:?}", result.err());
    assert_each_record_once(&sandbox, &topic, &records, "every second reply lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_another_producer_in_between_are_found_at_once_and_named() {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(1, None, Some(b"foreign"), Headers::empty())
        .unwrap();
    let foreign = builder.finish(ProducerStamp::NONE).unwrap();
    let (result, ..) = restore_with(1, move |count, sandbox, topic| {
        if count == 3 {
            for partition in 0..2 {
                sandbox.append(topic, partition, &foreign).unwrap();
            }
        }
        Action::Pass
    })
    .await;
    match result {
        Err(Error::ForeignWriter {
            expected, found, ..
        }) => assert_eq!(found.0, expected.0 + 1),
        other => panic!("{:?}", other.map(|_| ())),
    }
}
