//! A run that dies at any store operation loses nothing that was committed, and the next run goes on.

use super::sample::{dump, first_generation, memory, second_generation};
use kbr::archive::{Archive, Depth, Error};
use kbr::base::NoProgress;
use kbr::store::{Fault, Faults, Store, StoreUrl};

/// Runs the second backup with a fault at every operation in turn. Whatever happens, the archive opens at the last
/// whole generation and passes the deep check, and a new run ends up with exactly the undisturbed result.
async fn die_everywhere(make: fn(u64) -> Fault, open: impl AsyncFn() -> Store) {
    let undisturbed = open().await;
    first_generation(&undisturbed, "r1").await.unwrap();
    let first = dump_latest(&undisturbed).await;
    let faults = Faults::none();
    second_generation(&undisturbed.with_faults(faults.clone()), "r2")
        .await
        .unwrap();
    let second = dump_latest(&undisturbed).await;
    let operations = faults.operations();
    assert!(operations >= 10, "{operations}");

    for nth in 1..=operations {
        let store = open().await;
        first_generation(&store, "r1").await.unwrap();
        let result = second_generation(&store.with_faults(Faults::new(make(nth))), "r2").await;

        let archive = Archive::open(store.clone()).await.unwrap();
        let number = archive.latest().await.unwrap().number();
        let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
        assert_eq!(report.damages, [], "{:?}", make(nth));
        if number == 1 {
            assert!(result.is_err(), "{:?} was said to be committed", make(nth));
            assert_eq!(dump_latest(&store).await, first);
            second_generation(&store, "r3").await.unwrap();
        }
        assert_eq!(dump_latest(&store).await, second, "{:?}", make(nth));
        let report = archive.verify(Depth::Deep, &NoProgress).await.unwrap();
        assert_eq!(report.damages, [], "{:?}", make(nth));
    }
}

async fn dump_latest(store: &Store) -> String {
    let archive = Archive::open(store.clone()).await.unwrap();
    dump(&archive.latest().await.unwrap()).await.unwrap()
}

async fn folder_store(folder: &tempfile::TempDir) -> Store {
    let place = folder.path().join(uuid::Uuid::new_v4().to_string());
    Store::open(&StoreUrl::File(place)).await.unwrap()
}

#[tokio::test]
async fn a_run_that_dies_before_any_operation_loses_nothing_in_memory() {
    die_everywhere(Fault::Crash, memory).await;
}

#[tokio::test]
async fn a_run_that_dies_after_any_operation_loses_nothing_in_memory() {
    die_everywhere(Fault::CrashAfter, memory).await;
}

#[tokio::test]
async fn a_run_of_which_any_one_operation_fails_loses_nothing() {
    die_everywhere(Fault::Fail, memory).await;
}

#[tokio::test]
async fn a_run_of_which_any_one_answer_is_lost_loses_nothing() {
    die_everywhere(Fault::DoneWithoutAnswer, memory).await;
}

#[tokio::test]
async fn a_run_that_dies_before_any_operation_loses_nothing_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    die_everywhere(Fault::Crash, async || folder_store(&folder).await).await;
}

#[tokio::test]
async fn a_run_that_dies_after_any_operation_loses_nothing_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    die_everywhere(Fault::CrashAfter, async || folder_store(&folder).await).await;
}

#[tokio::test]
async fn a_first_run_that_dies_anywhere_leaves_no_archive_or_an_empty_one_and_the_next_succeeds() {
    let undisturbed = memory().await;
    let faults = Faults::none();
    first_generation(&undisturbed.with_faults(faults.clone()), "r1")
        .await
        .unwrap();
    let expected = dump_latest(&undisturbed).await;
    for nth in 1..=faults.operations() {
        for make in [Fault::Crash, Fault::CrashAfter] {
            let store = memory().await;
            let result = first_generation(&store.with_faults(Faults::new(make(nth))), "r1").await;
            match Archive::open(store.clone()).await {
                Err(Error::NotAnArchive { .. }) => {}
                Ok(archive) => match archive.latest().await {
                    Err(Error::Empty { .. }) => assert!(result.is_err()),
                    Ok(_) => {
                        assert_eq!(dump_latest(&store).await, expected);
                        continue;
                    }
                    Err(error) => panic!("{:?}: {error}", make(nth)),
                },
                Err(error) => panic!("{:?}: {error}", make(nth)),
            }
            first_generation(&store, "r2").await.unwrap();
            assert_eq!(dump_latest(&store).await, expected, "{:?}", make(nth));
        }
    }
}
