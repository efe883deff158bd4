//! Damage of every kind to every object of an archive that has one of everything: always a named error, never another
//! record, never a panic; and what the check calls whole can be read whole.

#[path = "archive_format/sample.rs"]
#[allow(dead_code)]
mod sample;

use bytes::Bytes;
use kbr::archive::{
    Archive, BlockCompression, ClusterState, Depth, Error, GapKind, Snapshot, VerifyOptions,
    VerifyReport, Within, Witnessed,
};
use kbr::base::{Digest, NoProgress, PartitionId};
use kbr::record::Codec;
use kbr::store::Store;
use sample::{
    ORDERS, Objects, batch, begin, first_generation, gap, groups, memory, new_generation, objects,
    partition, second_generation, store_of, topic,
};
use std::collections::{BTreeMap, BTreeSet};

/// Two after the second checkpoint.
const NEWEST: u64 = 35;
/// Generations that are read after each damage: both ends, around the checkpoint, and in between.
const LOOKED_AT: [u64; 6] = [1, 2, 20, 32, 33, NEWEST];

/// Plain, lz4 and zstd blocks, compressed batches, a batch that straddles the log start, holes, a pack, groups, a
/// cluster's ACLs, two checkpoints.
async fn sample_archive() -> Objects {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    second_generation(&store, "r2").await.unwrap();
    let mut end = 60;
    for number in 3..=NEWEST {
        let compression = match number {
            3 => BlockCompression::None,
            32 => BlockCompression::Lz4,
            _ => BlockCompression::Auto,
        };
        let run = begin(&store, &format!("r{number}"), compression)
            .await
            .unwrap();
        let entry = if [3, 32, 33, 34].contains(&number) {
            let mut segment = run
                .segment_writer("orders", ORDERS, PartitionId(0))
                .await
                .unwrap();
            segment
                .append(batch(end, 10, 300, Codec::None))
                .await
                .unwrap();
            let segment = segment.finish().await.unwrap().unwrap();
            partition(0, end, end + 10, vec![segment], vec![])
        } else {
            partition(
                0,
                end,
                end + 1,
                vec![],
                vec![gap(end, end + 1, GapKind::Marker)],
            )
        };
        end = entry.to.0;
        let mut new = new_generation(vec![topic("orders", ORDERS, vec![entry])], groups(end));
        if ![33, NEWEST].contains(&number) {
            new.groups = None;
        }
        if number >= 33 {
            new.cluster = Some(ClusterState {
                scram_users: Some(vec!["alice".into()]),
                ..ClusterState::default()
            });
        }
        assert_eq!(run.commit(new).await.unwrap().number, number);
    }
    objects(&store).await
}

async fn replace(store: &Store, path: &str, bytes: Option<&Bytes>) {
    if store.exists(path).await.unwrap() {
        store.delete(path).await.unwrap();
    }
    if let Some(bytes) = bytes {
        store.create(path, bytes.clone()).await.unwrap();
    }
}

/// Every record of a partition.
async fn read(snapshot: &Snapshot, topic: &str, partition: PartitionId) -> Result<String, Error> {
    let mut reader = snapshot.read(topic, partition, Within::default())?;
    let mut text = String::new();
    while let Some(batch) = reader.next_batch().await? {
        for record in batch {
            text.push_str(&format!("{record:?}\n"));
        }
    }
    Ok(text)
}

/// What can be read of a generation, or why not, by its parts.
type Parts = BTreeMap<String, Result<String, Error>>;

async fn parts(archive: &Archive, number: u64) -> Result<Parts, Error> {
    let snapshot = archive.generation(number).await?;
    let mut parts = Parts::new();
    for topic in snapshot.topics() {
        for partition in &topic.partitions {
            let name = format!("{}-{}", topic.name, partition.partition);
            parts.insert(
                name,
                read(&snapshot, &topic.name, partition.partition).await,
            );
        }
    }
    let kept = snapshot.groups().await.map(|kept| format!("{kept:?}"));
    parts.insert("groups".into(), kept);
    let kept = snapshot.cluster().await.map(|kept| format!("{kept:?}"));
    parts.insert("cluster".into(), kept);
    Ok(parts)
}

type Expected = BTreeMap<u64, BTreeMap<String, String>>;

async fn expected(objects: &Objects) -> Expected {
    let archive = Archive::open(store_of(objects).await).await.unwrap();
    let mut expected = Expected::new();
    for number in LOOKED_AT {
        let parts = parts(&archive, number).await.unwrap();
        let whole = parts.into_iter().map(|(name, part)| (name, part.unwrap()));
        expected.insert(number, whole.collect());
    }
    expected
}

fn damaged(error: Error, what: &str) -> String {
    match error {
        Error::Damaged(damage) => damage.object,
        error => panic!("{what}: {error}"),
    }
}

/// The damage is found under the name of one of `changed`; every generation reads as before or names an object that the
/// check names too; and what the check calls whole reads whole.
async fn assert_noticed(store: &Store, changed: &[&str], expected: &Expected, what: &str) {
    let archive = match Archive::open(store.clone()).await {
        Ok(archive) => archive,
        Err(error) => {
            assert_eq!(damaged(error, what), "archive.json", "{what}");
            return;
        }
    };
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    let named: BTreeSet<&str> = report.damages.iter().map(|d| d.object.as_str()).collect();
    assert!(
        changed.iter().any(|changed| named.contains(changed)),
        "{what}: {named:?}"
    );
    let whole = |number: u64| {
        let mut spans = report.restorable.whole.iter();
        spans.any(|span| (span.from..=span.to).contains(&number))
    };
    for (number, expected) in expected {
        let parts = match parts(&archive, *number).await {
            Ok(parts) => parts,
            Err(error) => {
                assert!(!whole(*number), "{what}: generation {number}: {error}");
                let object = damaged(error, what);
                assert!(
                    named.contains(object.as_str()),
                    "{what}: {object} of {named:?}"
                );
                continue;
            }
        };
        assert_eq!(parts.len(), expected.len(), "{what}");
        for (name, part) in parts {
            match part {
                Ok(text) => assert!(text == expected[&name], "{what}: {number} {name}"),
                Err(error) => {
                    assert!(!whole(*number), "{what}: generation {number}: {error}");
                    assert_lost(&report, *number, &name, what);
                    let object = damaged(error, what);
                    assert!(
                        named.contains(object.as_str()),
                        "{what}: {object} of {named:?}"
                    );
                }
            }
        }
    }
    // The newest is read, or the damage is named: never silently an older one.
    match archive.latest().await {
        Ok(latest) => assert_eq!(latest.number(), NEWEST, "{what}"),
        Err(error) => drop(damaged(error, what)),
    }
}

/// What cannot be read of the newest generation is among what the check calls lost.
fn assert_lost(report: &VerifyReport, number: u64, part: &str, what: &str) {
    if Some(number) != report.restorable.newest || ["groups", "cluster"].contains(&part) {
        return;
    }
    let lost = report.restorable.lost.iter();
    let mut lost = lost.map(|held| format!("{}-{}", held.topic, held.partition));
    assert!(
        lost.any(|held| held == part),
        "{what}: {part} is not called lost"
    );
}

fn flipped(bytes: &Bytes, position: usize) -> Bytes {
    let mut changed = bytes.to_vec();
    changed[position] ^= 1 << (position % 8);
    Bytes::from(changed)
}

/// Where the parts of a segment begin: header fields, blocks, index, its fields, trailer fields; and its end.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let (_, index, _) = kbr::archive::decode_segment(bytes).unwrap();
    let trailer = bytes.len() - 32;
    let mut places = vec![0, 8, 10, 12, 16, 32, 60];
    for block in &index.blocks {
        let at = block.position as usize;
        places.extend([at, at + 8, at + 17, at + 21, at + 57, at + 61]);
        places.push(at + block.stored_len as usize);
    }
    let entries = trailer - index.blocks.len() * 76;
    let position = u64::from_be_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    places.extend([position, position + 4, position + 6, entries - 4]);
    for block in 0..index.blocks.len() {
        let fields = [0, 4, 5, 6, 8, 12, 20, 28, 36, 44, 52, 60, 64, 68, 72];
        places.extend(fields.map(|field| entries + block * 76 + field));
    }
    places.extend([0, 8, 12, 16, 18, 20, 24].map(|field| trailer + field));
    places.push(bytes.len());
    places
}

/// Structural places of any object: all parts of a segment; a spread of a manifest and the ends of its frame.
fn places(path: &str, bytes: &[u8]) -> Vec<usize> {
    if path.ends_with(".kbs") {
        return boundaries(bytes);
    }
    let end = bytes.len();
    let mut places = vec![0, 10, 11, 74, 75, 83, 84, end - 2, end - 1, end];
    places.extend((84..end).step_by((end / 8).max(1)));
    places
}

#[tokio::test]
async fn a_flip_at_every_structural_field_is_named_and_what_is_called_whole_is_whole() {
    let whole = sample_archive().await;
    let expected = expected(&whole).await;
    let store = store_of(&whole).await;
    for (path, bytes) in &whole {
        let places: BTreeSet<usize> = places(path, bytes).into_iter().collect();
        for place in places.into_iter().filter(|place| *place < bytes.len()) {
            replace(&store, path, Some(&flipped(bytes, place))).await;
            let what = format!("{path} flipped at {place}");
            assert_noticed(&store, &[path], &expected, &what).await;
        }
        replace(&store, path, Some(bytes)).await;
    }
}

#[tokio::test]
async fn an_object_cut_at_every_boundary_or_gone_is_named() {
    let whole = sample_archive().await;
    let expected = expected(&whole).await;
    let store = store_of(&whole).await;
    for (path, bytes) in &whole {
        let places = places(path, bytes);
        let around = places
            .iter()
            .flat_map(|place| [place.saturating_sub(1), *place, place + 1]);
        let lengths: BTreeSet<usize> = match path.ends_with(".kbs") {
            true => around.filter(|length| *length < bytes.len()).collect(),
            false => places.into_iter().filter(|at| *at < bytes.len()).collect(),
        };
        for length in lengths {
            replace(&store, path, Some(&bytes.slice(..length))).await;
            let what = format!("{path} cut to {length}");
            assert_noticed(&store, &[path], &expected, &what).await;
        }
        // Without its newest generation an archive is in order, only older: see the witness below.
        if *path != format!("generations/{NEWEST:08}.json") {
            replace(&store, path, None).await;
            assert_noticed(&store, &[path], &expected, &format!("{path} deleted")).await;
        }
        replace(&store, path, Some(bytes)).await;
    }
}

fn kind(path: &str) -> &str {
    match path.ends_with(".kbs") {
        true => "segment",
        false => path.split('/').next().unwrap(),
    }
}

#[tokio::test]
async fn an_object_under_the_name_of_another_of_its_kind_is_named() {
    let whole = sample_archive().await;
    let expected = expected(&whole).await;
    let store = store_of(&whole).await;
    for (one, bytes) in &whole {
        for (other, foreign) in &whole {
            // Of the many generations in between three stand for all.
            let far = |path: &str| {
                kind(path) == "generations"
                    && !["00000001", "00000020", "00000033", "00000035"]
                        .iter()
                        .any(|number| path.contains(number))
            };
            if one == other || kind(one) != kind(other) || far(other) || bytes == foreign {
                continue;
            }
            replace(&store, one, Some(foreign)).await;
            let what = format!("{other} in the place of {one}");
            assert_noticed(&store, &[one], &expected, &what).await;
            replace(&store, one, Some(bytes)).await;
        }
    }
}

/// Reads an object by the shortest way there is.
async fn read_one(store: &Store, path: &str) -> Result<(), Error> {
    let archive = Archive::open(store.clone()).await?;
    if path == "archive.json" {
        return Ok(());
    }
    if let Some(number) = path.strip_prefix("generations/") {
        let number = number.strip_suffix(".json").unwrap().parse().unwrap();
        return archive.read_generation(number).await.map(|_| ());
    }
    // The newest begins one after a checkpoint: opening it is cheap. It need not name the cluster object of another.
    let number = match path.strip_prefix("cluster/") {
        Some(name) => name[..8].parse().unwrap(),
        None => NEWEST,
    };
    let snapshot = archive.generation(number).await?;
    match kind(path) {
        "groups" => snapshot.groups().await.map(|_| ()),
        "cluster" => snapshot.cluster().await.map(|_| ()),
        _ => {
            for topic in snapshot.topics() {
                for partition in &topic.partitions {
                    for segment in partition.segments.iter().filter(|s| s.path == path) {
                        let within = Within::offsets(segment.first, segment.last + 1);
                        let mut reader = snapshot.read(&topic.name, partition.partition, within)?;
                        while reader.next_batch().await?.is_some() {}
                    }
                }
            }
            Ok(())
        }
    }
}

#[tokio::test]
async fn every_flipped_byte_of_every_kind_of_object_is_an_error_that_names_it() {
    let whole = sample_archive().await;
    let store = store_of(&whole).await;
    let newest_groups = format!("groups/{NEWEST:08}-r{NEWEST}.json");
    for (path, bytes) in &whole {
        let taken = match kind(path) {
            "generations" => ["00000001", "00000033", "00000034"]
                .iter()
                .any(|number| path.contains(number)),
            "groups" => *path == newest_groups,
            _ => true,
        };
        if !taken {
            continue;
        }
        let is_segment = path.ends_with(".kbs");
        // A reader of blocks does not need the header; the deep check does.
        for position in if is_segment { 64 } else { 0 }..bytes.len() {
            // Inside a block one checksum answers for every byte alike.
            let index = bytes.len().saturating_sub(32 + 76 * 4);
            if is_segment && position < index && position % 16 != 0 {
                continue;
            }
            replace(&store, path, Some(&flipped(bytes, position))).await;
            let what = format!("{path} flipped at {position}");
            let error = read_one(&store, path).await.expect_err(&what);
            assert_eq!(damaged(error, &what), *path, "{what}");
        }
        replace(&store, path, Some(bytes)).await;
    }
}

#[tokio::test]
async fn several_damages_are_all_found_and_the_rest_is_still_called_whole() {
    let whole = sample_archive().await;
    let mut objects = whole.clone();
    let pack = "packs/r1/1.kbs";
    objects.insert(pack.into(), flipped(&whole[pack], 70));
    let late = "topics/orders/partition=0/segment-00000000000000000060-r3.kbs";
    objects.remove(late);
    objects.remove("generations/00000010.json");
    objects.insert("staging/left-behind".into(), Bytes::from_static(b"x"));
    let archive = Archive::open(store_of(&objects).await).await.unwrap();
    let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
    let named: Vec<&str> = report.damages.iter().map(|d| d.object.as_str()).collect();
    assert_eq!(named, ["generations/00000010.json", pack, late]);
    let held: Vec<String> = report.damages[1..]
        .iter()
        .flat_map(|damage| &damage.held)
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        held,
        ["payments-0 offsets 0 to 1", "orders-0 offsets 60 to 69"]
    );
    assert_eq!(report.unreferenced, ["staging/left-behind"]);
    let spans = |spans: &[kbr::archive::Span]| -> Vec<(u64, u64)> {
        spans.iter().map(|span| (span.from, span.to)).collect()
    };
    let left = &report.restorable;
    assert_eq!(spans(&left.whole), []);
    assert_eq!(spans(&left.in_part), [(1, 9), (33, NEWEST)]);
    assert_eq!(spans(&left.unreadable), [(10, 32)]);
    assert_eq!(left.newest, Some(NEWEST));
    let lost: Vec<String> = left.lost.iter().map(ToString::to_string).collect();
    assert_eq!(
        lost,
        ["orders-0 offsets 60 to 69", "payments-0 offsets 0 to 1"]
    );
    // A generation that is older than the damage is whole, and so the check says.
    let options = VerifyOptions {
        generation: Some(2),
        ..VerifyOptions::new(Depth::Quick)
    };
    let report = archive.verify_with(&options, &NoProgress).await.unwrap();
    assert_eq!(spans(&report.restorable.whole), [(2, 2)]);
}

#[tokio::test]
async fn newest_generations_deleted_whole_are_noticed_by_who_has_seen_them() {
    let whole = sample_archive().await;
    let newest = "generations/00000035.json";
    let witness = Witnessed {
        generation: NEWEST,
        digest: Digest::of(&whole[newest]),
    };
    let options = VerifyOptions {
        witness: Some(witness),
        ..VerifyOptions::new(Depth::Quick)
    };
    let verify = async |objects: &Objects, options: &VerifyOptions| {
        let archive = Archive::open(store_of(objects).await).await.unwrap();
        archive.verify_with(options, &NoProgress).await.unwrap()
    };
    assert!(verify(&whole, &options).await.is_whole());
    let mut shorter = whole.clone();
    shorter.remove(newest);
    assert!(
        verify(&shorter, &VerifyOptions::new(Depth::Quick))
            .await
            .is_whole()
    );
    let report = verify(&shorter, &options).await;
    assert_eq!(
        report.damages[0].to_string(),
        "generations/00000035.json is damaged: it is gone: it was seen before, and the newest there now is generation 34; still restorable: generation 34 and what it holds"
    );
    // Another generation of the same number is not the one that was seen.
    let other = VerifyOptions {
        witness: Some(Witnessed {
            digest: Digest::of(b"another"),
            ..witness
        }),
        ..options.clone()
    };
    let report = verify(&whole, &other).await;
    assert_eq!(report.damages[0].object, newest);
    // One that is older than what is there is no contradiction.
    assert_eq!(witness.contradicts(NEWEST + 1, Digest::of(b"later")), None);
}

#[tokio::test]
async fn a_cancelled_check_says_that_it_is_not_all() {
    let archive = Archive::open(store_of(&sample_archive().await).await)
        .await
        .unwrap();
    let options = VerifyOptions::new(Depth::Deep);
    options.cancel.cancel();
    let report = archive.verify_with(&options, &NoProgress).await.unwrap();
    assert!(report.interrupted);
    assert_eq!((report.segments, &report.damages[..]), (0, &[][..]));
}
