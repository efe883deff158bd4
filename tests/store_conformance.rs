//! One suite over every store: whatever the URL, the same rules.

use bytes::Bytes;
use kbr::base::Digest;
use kbr::store::{Error, Fault, Faults, PART_SIZE, Store, StoreUrl};
use std::time::Duration;

/// Every kind of store that this version opens, empty.
struct Backends {
    stores: Vec<Store>,
    _folder: tempfile::TempDir,
}

async fn backends() -> Backends {
    let folder = tempfile::tempdir().unwrap();
    let file = StoreUrl::File(folder.path().join("not/there/yet"));
    let memory = StoreUrl::Memory(uuid::Uuid::new_v4().to_string());
    Backends {
        stores: vec![
            Store::open(&file).await.unwrap(),
            Store::open(&memory).await.unwrap(),
        ],
        _folder: folder,
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn an_object_reads_back_whole_and_in_ranges() {
    for store in backends().await.stores {
        store
            .create("a/b=0/c.json", bytes("0123456789"))
            .await
            .unwrap();
        assert_eq!(store.get("a/b=0/c.json").await.unwrap(), "0123456789");
        assert_eq!(store.get_range("a/b=0/c.json", 3..7).await.unwrap(), "3456");
        assert_eq!(
            store.get_range("a/b=0/c.json", 0..10).await.unwrap(),
            "0123456789"
        );
        assert_eq!(store.get_range("a/b=0/c.json", 4..4).await.unwrap(), "");
        assert_eq!(store.size("a/b=0/c.json").await.unwrap(), 10);
        assert_eq!(
            store.digest("a/b=0/c.json").await.unwrap(),
            (Digest::of(b"0123456789"), 10)
        );
    }
}

#[tokio::test]
async fn a_range_past_the_end_is_an_error_with_the_size_not_a_short_read() {
    for store in backends().await.stores {
        store.create("o", bytes("0123456789")).await.unwrap();
        for range in [5..11, 10..12, 100..200] {
            match store.get_range("o", range.clone()).await {
                Err(Error::Range { size: 10, end, .. }) => assert_eq!(end, range.end),
                other => panic!("{}: {other:?}", store.url()),
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_every_operation() {
    for store in backends().await.stores {
        for _ in 0..2 {
            assert!(store.get("none").await.unwrap_err().is_not_found());
            assert!(
                store
                    .get_range("none", 0..1)
                    .await
                    .unwrap_err()
                    .is_not_found()
            );
            assert!(store.size("none").await.unwrap_err().is_not_found());
            assert!(store.delete("none").await.unwrap_err().is_not_found());
            assert!(!store.exists("none").await.unwrap());
            assert!(store.list("none").await.unwrap().is_empty());
            // The second time round the store itself exists.
            store.create("other", bytes("x")).await.ok();
        }
    }
}

#[tokio::test]
async fn an_object_is_never_overwritten() {
    for store in backends().await.stores {
        store.create("o", bytes("first")).await.unwrap();
        assert!(matches!(
            store.create("o", bytes("second")).await,
            Err(Error::Exists { .. })
        ));
        let mut writer = store.writer().await.unwrap();
        writer.write(bytes("third")).await.unwrap();
        assert!(matches!(
            writer.finish("o").await,
            Err(Error::Exists { .. })
        ));
        assert_eq!(store.get("o").await.unwrap(), "first");
    }
}

#[tokio::test]
async fn a_list_holds_the_objects_below_whole_folders_sorted_with_sizes() {
    for store in backends().await.stores {
        for (path, text) in [
            ("generations/00000002.json", "22"),
            ("generations/00000001.json", "1"),
            ("generations-old/1", "x"),
            ("topics/t/partition=0/s", "333"),
        ] {
            store.create(path, bytes(text)).await.unwrap();
        }
        assert_eq!(
            store.list("generations").await.unwrap(),
            [
                ("generations/00000001.json".to_string(), 1),
                ("generations/00000002.json".to_string(), 2)
            ]
        );
        assert_eq!(store.list("topics/").await.unwrap().len(), 1);
        assert_eq!(store.list("").await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn a_deleted_object_is_gone() {
    for store in backends().await.stores {
        store.create("a/o", bytes("x")).await.unwrap();
        store.delete("a/o").await.unwrap();
        assert!(!store.exists("a/o").await.unwrap());
        store.create("a/o", bytes("y")).await.unwrap();
        assert_eq!(store.get("a/o").await.unwrap(), "y");
    }
}

#[tokio::test]
async fn a_streamed_object_appears_whole_at_the_end_and_not_before() {
    for store in backends().await.stores {
        let mut writer = store.writer().await.unwrap();
        let piece = Bytes::from(vec![7_u8; PART_SIZE / 2 + 1]);
        let mut expected = Vec::new();
        for _ in 0..5 {
            writer.write(piece.clone()).await.unwrap();
            expected.extend_from_slice(&piece);
            assert!(store.list("topics").await.unwrap().is_empty());
        }
        let written = writer.finish("topics/o.kbs").await.unwrap();
        assert_eq!(written.size, expected.len() as u64);
        assert_eq!(written.digest, Digest::of(&expected));
        assert_eq!(store.get("topics/o.kbs").await.unwrap(), expected);
        assert_eq!(store.list("").await.unwrap().len(), 1, "{}", store.url());
    }
}

#[tokio::test]
async fn a_streamed_object_of_no_bytes_is_an_empty_object() {
    for store in backends().await.stores {
        let writer = store.writer().await.unwrap();
        assert_eq!(writer.finish("empty").await.unwrap().size, 0);
        assert_eq!(store.size("empty").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_abandoned_stream_leaves_nothing() {
    for store in backends().await.stores {
        let mut writer = store.writer().await.unwrap();
        writer
            .write(Bytes::from(vec![1; PART_SIZE + 1]))
            .await
            .unwrap();
        writer.abort().await.unwrap();
        assert!(store.list("").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_a_process_that_died_left_unfinished_is_listed_and_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_text(&format!("file:{}", folder.path().display()))
        .await
        .unwrap();
    store
        .create("topics/whole.kbs", Bytes::from_static(b"whole"))
        .await
        .unwrap();
    let mut dying = store.writer().await.unwrap();
    dying.write(Bytes::from(vec![7; PART_SIZE])).await.unwrap();
    let shown = |listed: &[(String, u64)]| listed.len() == 2 && listed[0].1 == PART_SIZE as u64;
    // The part is written by another thread.
    let written = async {
        loop {
            let listed = store.list("").await.unwrap();
            if shown(&listed) {
                return listed;
            }
        }
    };
    let listed = tokio::time::timeout(Duration::from_secs(30), written);
    let listed = listed.await.unwrap();
    // Nothing of it runs any more, not even what would tidy up.
    std::mem::forget(dying);
    let left = &listed[0].0;
    assert!(
        left.starts_with("staging/") && left.ends_with("#1"),
        "{left}"
    );
    assert_eq!(store.list("staging").await.unwrap(), listed[..1]);
    store.get(left).await.unwrap_err();
    store.delete(left).await.unwrap();
    assert!(store.delete(left).await.unwrap_err().is_not_found());
    let listed = store.list("").await.unwrap();
    assert_eq!(listed, [("topics/whole.kbs".to_string(), 5)]);
}

#[tokio::test]
async fn a_path_that_leaves_the_store_is_refused() {
    for store in backends().await.stores {
        for path in ["../x", "a/../../x", "/etc/passwd", "", "a//b", "a/"] {
            assert!(
                matches!(store.get(path).await, Err(Error::BadPath { .. })),
                "{path:?}"
            );
            assert!(matches!(
                store.create(path, bytes("x")).await,
                Err(Error::BadPath { .. })
            ));
        }
    }
}

#[tokio::test]
async fn a_create_without_an_answer_is_read_back_and_compared() {
    for store in backends().await.stores {
        let faulty = store.with_faults(Faults::new(Fault::DoneWithoutAnswer(1)));
        faulty.create("mine", bytes("mine")).await.unwrap();
        assert_eq!(store.get("mine").await.unwrap(), "mine");

        store.create("taken", bytes("theirs")).await.unwrap();
        let faulty = store.with_faults(Faults::new(Fault::Fail(1)));
        assert!(matches!(
            faulty.create("taken", bytes("mine")).await,
            Err(Error::Exists { .. })
        ));

        let faulty = store.with_faults(Faults::new(Fault::Fail(1)));
        assert!(matches!(
            faulty.create("free", bytes("mine")).await,
            Err(Error::Io { op: "write", .. })
        ));
        assert!(!store.exists("free").await.unwrap());
    }
}

#[tokio::test]
async fn an_operation_without_an_answer_ends_at_the_deadline() {
    for store in backends().await.stores {
        store.create("o", bytes("x")).await.unwrap();
        let faulty = store
            .with_faults(Faults::new(Fault::Hang(1)))
            .with_deadline(Duration::from_millis(20));
        assert!(matches!(faulty.get("o").await, Err(Error::Timeout { .. })));
        assert_eq!(faulty.get("o").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn a_stream_that_fails_at_any_operation_leaves_a_whole_object_or_none() {
    let stream = async |store: &Store| -> Result<(), Error> {
        let mut writer = store.writer().await?;
        for _ in 0..3 {
            writer.write(Bytes::from(vec![9; PART_SIZE])).await?;
        }
        writer.finish("o").await.map(|_| ())
    };
    let whole = (PART_SIZE * 3) as u64;
    for make in [
        Fault::Fail,
        Fault::Crash,
        Fault::CrashAfter,
        Fault::DoneWithoutAnswer,
    ] {
        let mut nth = 1;
        loop {
            let mut failed_everywhere = false;
            for store in backends().await.stores {
                let faults = Faults::new(make(nth));
                let result = stream(&store.with_faults(faults.clone())).await;
                failed_everywhere |= faults.operations() >= nth;
                match store.size("o").await {
                    Ok(size) => assert_eq!(size, whole),
                    Err(error) => {
                        assert!(error.is_not_found());
                        assert!(result.is_err(), "{:?} {}", make(nth), store.url());
                    }
                }
            }
            if !failed_everywhere {
                break;
            }
            nth += 1;
        }
        assert!(nth > 6, "{nth}");
    }
}

#[tokio::test]
async fn looking_at_an_absent_folder_does_not_create_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("archive");
    let store = Store::open(&StoreUrl::File(place.clone())).await.unwrap();
    store.list("").await.unwrap();
    assert!(store.get("x").await.is_err());
    assert!(!place.exists());
    store.create("x", bytes("x")).await.unwrap();
    assert!(place.exists());
}

#[tokio::test]
async fn memory_stores_are_shared_by_name_and_only_by_name() {
    let one = Store::open_text("memory:shared-by-name").await.unwrap();
    let same = Store::open_text("memory:shared-by-name").await.unwrap();
    let other = Store::open_text("memory:another-name").await.unwrap();
    one.create("o", bytes("x")).await.unwrap();
    assert_eq!(same.get("o").await.unwrap(), "x");
    assert!(!other.exists("o").await.unwrap());
}

#[tokio::test]
async fn a_store_of_a_later_version_is_refused_by_name() {
    for url in ["s3://bucket/x", "gs://bucket/x", "az://container/x"] {
        let error = Store::open_text(url).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        let scheme = &url[..2];
        assert_eq!(
            error.to_string(),
            format!(
                "{url}: {scheme}: stores are not in this version of kbr (file: and memory: are)"
            )
        );
    }
}

#[tokio::test]
async fn a_file_is_no_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = StoreUrl::File(file.path().to_path_buf());
    let error = Store::open(&url).await.unwrap_err();
    assert!(error.to_string().contains("it is a file, not a folder"));
}

#[tokio::test]
async fn what_a_folder_refuses_to_sync_is_not_written_although_it_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::File(folder.path().join("archive"));
    let store = Store::open(&url).await.unwrap();
    let unsynced = |operation| {
        let fault = Fault::DoneWithoutAnswer(operation);
        store.with_faults(Faults::new(fault).and_no_sync())
    };
    let named = |error: Error, path: &str| {
        let error = error.to_string();
        assert!(
            error.starts_with("sync folder ") && error.contains(path),
            "{error}"
        );
    };
    let refused = unsynced(1).create("generations/1.json", bytes("one")).await;
    named(refused.unwrap_err(), "archive/generations: ");
    // It is there all the same; whoever asks again finds it, and syncs.
    let lost = store.with_faults(Faults::new(Fault::DoneWithoutAnswer(1)));
    lost.create("generations/2.json", bytes("two"))
        .await
        .unwrap();

    // Starts, writes a part, completes, gets its name.
    for (operation, place) in [(3, "archive/staging: "), (4, "archive/packs: ")] {
        let mut writer = unsynced(operation).writer().await.unwrap();
        writer.write(bytes("many")).await.unwrap();
        let refused = writer.finish(&format!("packs/{operation}.kbs")).await;
        named(refused.unwrap_err(), place);
    }
}
