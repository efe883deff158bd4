//! A small archive with one of everything, and a plain-text dump of an archive's records to compare with.

use bytes::Bytes;
use kbr::archive::{
    AclEntry, Archive, BlockCompression, ClusterState, Committed, Gap, GapKind, GroupEntry,
    GroupOffset, Groups, NewGeneration, PartitionEntry, QuotaEntry, Result, RunOptions, RunWriter,
    SegmentRef, Snapshot, Stream, TopicEntry,
};
use kbr::base::{Offset, PartitionId, TimestampMs, TopicId};
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, Headers, Limits, OwnedHeaders, ProducerStamp, batches,
};
use kbr::store::{Store, StoreUrl};
use std::collections::BTreeMap;
use std::fmt::Write;

pub const CLUSTER: &str = "sample-cluster-id-0001";
pub const ORDERS: TopicId = TopicId::from_u128(0xd0e5);
pub const PAYMENTS: TopicId = TopicId::from_u128(0xbadcafe);
pub const T0: i64 = 1_760_000_000_000;

pub async fn memory() -> Store {
    let url = StoreUrl::Memory(uuid::Uuid::new_v4().to_string());
    Store::open(&url).await.unwrap()
}

/// The objects of an archive by their paths.
pub type Objects = BTreeMap<String, Bytes>;

pub async fn objects(store: &Store) -> Objects {
    let mut objects = Objects::new();
    for (path, _) in store.list("").await.unwrap() {
        let bytes = store.get(&path).await.unwrap();
        objects.insert(path, bytes);
    }
    objects
}

/// A store of these objects and no others.
pub async fn store_of(objects: &Objects) -> Store {
    let store = memory().await;
    for (path, bytes) in objects {
        store.create(path, bytes.clone()).await.unwrap();
    }
    store
}

/// A dense batch: `count` records from `base`, values of `size` bytes, one millisecond apart.
pub fn batch(base: i64, count: i32, size: usize, codec: Codec) -> Bytes {
    let mut builder = builder(codec).base_offset(base);
    for n in 0..count {
        let offset = base + i64::from(n);
        let key = format!("key-{offset}");
        let value: Vec<u8> = (0..size)
            .map(|i| (offset as usize * 31 + i * 7) as u8)
            .collect();
        builder
            .push(
                T0 + offset,
                Some(key.as_bytes()),
                Some(&value),
                Headers::empty(),
            )
            .unwrap();
    }
    Bytes::from(builder.finish(ProducerStamp::NONE).unwrap())
}

pub fn builder(codec: Codec) -> BatchBuilder {
    BatchBuilder::new(BuildOptions {
        codec,
        ..BuildOptions::default()
    })
}

/// A batch of one record at each of `offsets`.
pub fn batch_at(offsets: &[i64], codec: Codec) -> Bytes {
    let base = offsets[0];
    let mut builder = builder(codec).base_offset(base);
    for offset in offsets {
        builder
            .push_at(
                (offset - base) as i32,
                T0 - offset,
                Some(b"k"),
                Some(offset.to_string().as_bytes()),
                Headers::empty(),
            )
            .unwrap();
    }
    Bytes::from(builder.finish(ProducerStamp::NONE).unwrap())
}

/// Null key, tombstone, empty values, duplicate header keys, a null header value, timestamps out of order.
pub fn odd_batch(base: i64) -> Bytes {
    let mut headers = OwnedHeaders::new();
    headers
        .push(b"trace", Some(b"1"))
        .push(b"trace", None)
        .push(b"", Some(b""));
    let mut builder = builder(Codec::None).base_offset(base);
    builder
        .push(T0 + 50, None, Some(b"no key"), headers.as_headers())
        .unwrap();
    builder
        .push(T0 + 10, Some(b"deleted"), None, Headers::empty())
        .unwrap();
    builder
        .push(T0 + 90, Some(b""), Some(b""), Headers::empty())
        .unwrap();
    Bytes::from(builder.finish(ProducerStamp::NONE).unwrap())
}

pub fn partition(
    number: i32,
    from: i64,
    to: i64,
    segments: Vec<SegmentRef>,
    gaps: Vec<Gap>,
) -> PartitionEntry {
    PartitionEntry {
        partition: PartitionId(number),
        log_start: Offset(from),
        from: Offset(from),
        to: Offset(to),
        high_watermark: Offset(to + 2),
        last_leader_epoch: 3,
        records: segments.iter().map(|s| s.records).sum(),
        segments,
        gaps,
        ..PartitionEntry::default()
    }
}

pub fn topic(name: &str, id: TopicId, partitions: Vec<PartitionEntry>) -> TopicEntry {
    TopicEntry {
        name: name.into(),
        id,
        replication_factor: 3,
        configs: BTreeMap::from([("cleanup.policy".into(), "compact".into())]),
        partitions,
        ..TopicEntry::default()
    }
}

pub fn groups(offset: i64) -> Groups {
    Groups {
        groups: vec![GroupEntry {
            group: "checkout".into(),
            state: "Empty".into(),
            protocol_type: "consumer".into(),
            // Version 1 began without it, and its fixture has none.
            kind: String::new(),
            offsets: vec![GroupOffset {
                topic: "orders".into(),
                topic_id: Some(ORDERS),
                partition: PartitionId(0),
                offset: Offset(offset),
                leader_epoch: Some(2),
                metadata: "mark \"é\"".into(),
            }],
        }],
    }
}

pub fn new_generation(topics: Vec<TopicEntry>, groups: Groups) -> NewGeneration {
    NewGeneration {
        started: TimestampMs(T0 + 1_000),
        consistency_point: TimestampMs(T0 + 2_000),
        partial: false,
        topics,
        groups: Some(groups),
        cluster: Some(cluster()),
    }
}

pub fn cluster() -> ClusterState {
    let alice = AclEntry {
        resource_type: "TOPIC".into(),
        resource_name: "orders".into(),
        pattern_type: "PREFIXED".into(),
        principal: "User:alice".into(),
        host: "*".into(),
        operation: "READ".into(),
        permission: "ALLOW".into(),
    };
    let everybody = QuotaEntry {
        entity: BTreeMap::from([("user".to_string(), None)]),
        values: BTreeMap::from([("request_percentage".to_string(), 12.5)]),
    };
    ClusterState {
        authorizer: Some(true),
        acls: Some(vec![alice]),
        quotas: Some(vec![everybody]),
        scram_users: None,
        missing: BTreeMap::from([("scram_users".to_string(), "not allowed".to_string())]),
    }
}

pub fn gap(from: i64, to: i64, kind: GapKind) -> Gap {
    Gap::whole(Offset(from), Offset(to), kind)
}

pub async fn begin(store: &Store, run: &str, compression: BlockCompression) -> Result<RunWriter> {
    Archive::create_or_open(store.clone(), CLUSTER)
        .await?
        .begin_run(run, RunOptions { compression })
        .await
}

/// The first generation: a topic with two partitions, holes and a cut batch; a pack with two more.
pub async fn first_generation(store: &Store, run: &str) -> Result<Committed> {
    let run = begin(store, run, BlockCompression::Lz4).await?;
    let mut one = run.segment_writer("orders", ORDERS, PartitionId(0)).await?;
    // The log start is 4, in the middle of the batch 0..=9.
    let cut = batch(0, 10, 20, Codec::None);
    one.append_within(cut, Offset(4)..Offset(1 << 40), 6)
        .await?;
    one.append(batch(10, 5, 3000, Codec::None)).await?;
    one.append(odd_batch(15)).await?;
    // 18 is a marker, 19..=29 a compacted batch that kept 20, 24, 29; 30 and 31 were aborted.
    one.append(batch_at(&[20, 24, 29], Codec::Gzip)).await?;
    one.append(batch(32, 8, 100, Codec::Lz4)).await?;
    let one = one.finish().await?;
    let mut two = run.segment_writer("orders", ORDERS, PartitionId(1)).await?;
    two.append(batch(7, 3, 10, Codec::None)).await?;
    let two = two.finish().await?;
    let mut pack = run.pack_writer().await?;
    for number in 0..2 {
        pack.begin(Stream {
            topic: "payments".into(),
            topic_id: PAYMENTS,
            partition: PartitionId(number),
        })
        .await?;
        pack.append(batch(0, 2, 5, Codec::None)).await?;
    }
    let mut packed = pack.finish().await?.into_iter().map(|(_, segment)| segment);
    let orders = topic(
        "orders",
        ORDERS,
        vec![
            partition(
                0,
                4,
                40,
                one.into_iter().collect(),
                vec![
                    gap(18, 19, GapKind::Marker),
                    Gap::scattered(Offset(19), Offset(30), GapKind::Compacted, 8),
                    gap(30, 32, GapKind::Aborted),
                    gap(40, 42, GapKind::Pending),
                ],
            ),
            partition(1, 7, 10, two.into_iter().collect(), vec![]),
        ],
    );
    let payments = topic(
        "payments",
        PAYMENTS,
        vec![
            partition(0, 0, 2, packed.next().into_iter().collect(), vec![]),
            partition(1, 0, 2, packed.next().into_iter().collect(), vec![]),
            partition(2, 0, 0, vec![], vec![]),
        ],
    );
    run.commit(new_generation(vec![payments, orders], groups(20)))
        .await
}

/// The second: more of `orders`-0 in zstd blocks, nothing new elsewhere, a hole by retention.
pub async fn second_generation(store: &Store, run: &str) -> Result<Committed> {
    let run = begin(store, run, BlockCompression::ZSTD).await?;
    let mut one = run.segment_writer("orders", ORDERS, PartitionId(0)).await?;
    one.append(batch(50, 10, 500, Codec::None)).await?;
    let one = one.finish().await?;
    let orders = topic(
        "orders",
        ORDERS,
        vec![
            partition(
                0,
                40,
                60,
                one.into_iter().collect(),
                vec![gap(40, 50, GapKind::Retention)],
            ),
            partition(1, 10, 10, vec![], vec![]),
        ],
    );
    run.commit(new_generation(vec![orders], groups(55))).await
}

/// One line per record of every current topic: `topic partition offset timestamp key value header=value,…`, bytes in
/// hexadecimal, `-` for null.
pub async fn dump(snapshot: &Snapshot) -> Result<String> {
    let mut out = String::new();
    let mut scratch = Vec::new();
    for topic in snapshot.topics() {
        for partition in &topic.partitions {
            let blocks = snapshot
                .blocks(
                    &topic.name,
                    partition.partition,
                    partition.from..partition.to,
                )
                .await?;
            for block in blocks {
                let raw = snapshot.read_block(&block).await?;
                for batch in batches(&raw) {
                    let batch = batch.unwrap();
                    batch.verify_crc().unwrap();
                    for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
                        let record = record.unwrap();
                        if record.offset < block.first().0 || record.offset > block.last().0 {
                            continue;
                        }
                        write!(
                            out,
                            "{} {} {} {} {} {} ",
                            topic.name,
                            partition.partition,
                            record.offset,
                            record.timestamp,
                            hex(record.key),
                            hex(record.value)
                        )
                        .unwrap();
                        let headers: Vec<String> = record
                            .headers
                            .iter()
                            .map(|h| format!("{}={}", hex(Some(h.key)), hex(h.value)))
                            .collect();
                        writeln!(out, "[{}]", headers.join(",")).unwrap();
                    }
                }
            }
        }
    }
    Ok(out)
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".into(),
        Some(bytes) => bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        }),
    }
}
