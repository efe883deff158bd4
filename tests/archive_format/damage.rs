//! Any damage to any object is a named error or a finding, and never a wrong record.

use super::sample::{
    Objects, dump, first_generation, memory, objects, second_generation, store_of,
};
use bytes::Bytes;
use kbr::archive::{Archive, DamageKind, Depth, Error, VerifyReport};
use kbr::base::NoProgress;
use kbr::store::Store;

/// Every object of a sample archive of two generations.
async fn sample() -> Objects {
    let store = memory().await;
    first_generation(&store, "r1").await.unwrap();
    second_generation(&store, "r2").await.unwrap();
    objects(&store).await
}

/// Everything that can be read of an archive, as text.
async fn read_all(store: &Store) -> Result<String, Error> {
    let snapshot = Archive::open(store.clone()).await?.latest().await?;
    let groups = snapshot.groups().await?;
    let cluster = snapshot.cluster().await?;
    Ok(format!(
        "{}\n{groups:?}\n{cluster:?}",
        dump(&snapshot).await?
    ))
}

async fn verify(store: &Store, depth: Depth) -> Result<VerifyReport, Error> {
    Archive::open(store.clone())
        .await?
        .verify(depth, &NoProgress)
        .await
}

/// The changed archive must be an error or read the same; and the deep check must see the change.
async fn must_be_noticed(objects: &Objects, changed: &str, expected: &str, what: &str) {
    let store = store_of(objects).await;
    match read_all(&store).await {
        Ok(text) => assert!(text == expected, "{what}: other records"),
        Err(Error::Damaged(damage)) => assert!(!damage.object.is_empty(), "{what}"),
        Err(Error::NotAnArchive { .. } | Error::Empty { .. }) => panic!("{what}: called empty"),
        Err(error) => panic!("{what}: {error}"),
    }
    match verify(&store, Depth::Deep).await {
        Err(Error::Damaged(damage)) => assert_eq!(damage.object, changed, "{what}"),
        Err(error) => panic!("{what}: {error}"),
        Ok(report) => {
            let named = report.damages.iter().any(|damage| damage.object == changed);
            assert!(named, "{what}: {:?}", report.damages);
        }
    }
}

fn flipped(bytes: &Bytes, position: usize) -> Bytes {
    let mut changed = bytes.to_vec();
    changed[position] ^= 1 << (position % 8);
    Bytes::from(changed)
}

/// Every position of a small object, a spread of a larger one that always has both its ends.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 500).max(1);
    (0..length).filter(move |at| at % step == 0 || *at < 200 || *at + 500 > length)
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_noticed_and_never_another_record() {
    let whole = sample().await;
    let expected = read_all(&store_of(&whole).await).await.unwrap();
    for (path, bytes) in &whole {
        for position in positions(bytes.len()) {
            let mut changed = whole.clone();
            changed.insert(path.clone(), flipped(bytes, position));
            must_be_noticed(
                &changed,
                path,
                &expected,
                &format!("{path} byte {position}"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn an_object_cut_anywhere_is_noticed_and_never_another_record() {
    let whole = sample().await;
    let expected = read_all(&store_of(&whole).await).await.unwrap();
    for (path, bytes) in &whole {
        for length in positions(bytes.len()) {
            let mut changed = whole.clone();
            changed.insert(path.clone(), bytes.slice(..length));
            must_be_noticed(
                &changed,
                path,
                &expected,
                &format!("{path} cut to {length}"),
            )
            .await;
        }
        let mut changed = whole.clone();
        changed.insert(path.clone(), [&bytes[..], b"x"].concat().into());
        must_be_noticed(&changed, path, &expected, &format!("{path} grown")).await;
    }
}

#[tokio::test]
async fn a_deleted_object_is_noticed_unless_it_is_the_newest_generation() {
    let whole = sample().await;
    let expected = read_all(&store_of(&whole).await).await.unwrap();
    for path in whole.keys() {
        if path == "generations/00000002.json" {
            continue;
        }
        let mut changed = whole.clone();
        changed.remove(path);
        must_be_noticed(&changed, path, &expected, &format!("{path} deleted")).await;
    }
}

#[tokio::test]
async fn two_objects_swapped_are_noticed_both() {
    let whole = sample().await;
    let expected = read_all(&store_of(&whole).await).await.unwrap();
    let paths: Vec<&String> = whole.keys().collect();
    for (position, one) in paths.iter().enumerate() {
        for other in &paths[position + 1..] {
            let mut changed = whole.clone();
            changed.insert(one.to_string(), whole[*other].clone());
            changed.insert(other.to_string(), whole[*one].clone());
            let what = format!("{one} and {other} swapped");
            must_be_noticed(&changed, one, &expected, &what).await;
        }
    }
}

#[tokio::test]
async fn an_object_of_another_archive_is_noticed() {
    let whole = sample().await;
    let expected = read_all(&store_of(&whole).await).await.unwrap();
    let other = sample().await;
    for path in whole.keys() {
        let mut changed = whole.clone();
        changed.insert(path.clone(), other[path].clone());
        if changed[path] == whole[path] {
            // Groups have no archive in them: the same offsets are the same object.
            continue;
        }
        // Another archive.json makes every generation a stranger.
        let named = match path.as_str() {
            "archive.json" => "generations/00000001.json",
            path => path,
        };
        must_be_noticed(&changed, named, &expected, &format!("{path} of another")).await;
    }
}

#[tokio::test]
async fn damage_names_the_object_what_it_held_and_what_is_left() {
    let whole = sample().await;
    let segment = whole
        .keys()
        .find(|path| path.contains("partition=1/"))
        .unwrap();
    assert_eq!(
        segment,
        "topics/orders/partition=1/segment-00000000000000000007-r1.kbs"
    );
    let mut changed = whole.clone();
    changed.insert(segment.clone(), flipped(&whole[segment], 70));
    let error = read_all(&store_of(&changed).await).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{segment} is damaged: the block at byte 64 fails its CRC32C; it held orders-1 offsets 7 to 9; \
             still restorable: all other offsets of orders-1 and all other partitions"
        )
    );

    changed.remove(segment);
    let error = read_all(&store_of(&changed).await).await.unwrap_err();
    assert_eq!(error.damage().unwrap().kind, DamageKind::Missing);
    assert_eq!(error.damage().unwrap().held[0].first.0, 7);

    let mut changed = whole.clone();
    let newest = "generations/00000002.json";
    changed.insert(newest.into(), flipped(&whole[newest], 300));
    let error = read_all(&store_of(&changed).await).await.unwrap_err();
    let damage = error.damage().unwrap();
    assert_eq!(damage.object, newest);
    assert_eq!(damage.restorable, "generation 1 and what it holds");

    let mut changed = whole.clone();
    changed.remove("generations/00000001.json");
    let error = read_all(&store_of(&changed).await).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "generations/00000001.json is damaged: it is missing; still restorable: nothing (no generation before it is whole)"
    );

    let mut changed = whole.clone();
    changed.remove("archive.json");
    let error = read_all(&store_of(&changed).await).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("archive.json is damaged: it is missing")
    );
    let store = store_of(&changed).await;
    assert!(matches!(
        Archive::create_or_open(store, "new").await,
        Err(Error::Damaged(_))
    ));
}

#[tokio::test]
async fn a_quick_check_finds_what_it_can_without_reading_blocks() {
    let whole = sample().await;
    for path in whole.keys().filter(|path| path.ends_with(".kbs")) {
        let mut changed = whole.clone();
        changed.remove(path);
        let report = verify(&store_of(&changed).await, Depth::Quick)
            .await
            .unwrap();
        assert_eq!(report.damages.len(), 1);
        assert_eq!(report.damages[0].kind, DamageKind::Missing);
        assert!(!report.damages[0].held.is_empty());

        changed.insert(path.clone(), whole[path].slice(1..));
        let report = verify(&store_of(&changed).await, Depth::Quick)
            .await
            .unwrap();
        assert!(matches!(report.damages[0].kind, DamageKind::Size { .. }));

        let last = whole[path].len() - 40;
        changed.insert(path.clone(), flipped(&whole[path], last));
        let report = verify(&store_of(&changed).await, Depth::Quick)
            .await
            .unwrap();
        assert!(matches!(report.damages[0].kind, DamageKind::Format(_)));
    }
}

#[tokio::test]
async fn a_newer_format_is_named_and_not_called_damage() {
    let whole = sample().await;
    for path in ["archive.json", "generations/00000002.json"] {
        let text = String::from_utf8(whole[path].to_vec()).unwrap();
        let (_, body) = text.split_once("\"body\":").unwrap();
        let body = body.trim_end().strip_suffix('}').unwrap();
        let body = body.replacen("\"format_version\":1", "\"format_version\":2", 1);
        let digest = kbr::base::Digest::of(body.as_bytes());
        let object = format!("{{\"blake3\":\"{digest}\",\"body\":{body}}}\n");
        let mut changed = whole.clone();
        changed.insert(path.into(), object.into());
        let error = read_all(&store_of(&changed).await).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{path} has format version 2; this kbr reads up to 1")
        );
    }
}
