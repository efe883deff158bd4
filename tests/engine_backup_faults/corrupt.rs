//! Batches that are broken at the source: named, kept out as a gap of their own kind, and read past. What is broken only
//! on the way here costs nothing.

use crate::broker::{FETCH, fetch_answer_up_to};
use crate::engine_backup_support::{Plain, World, assert_sound, batch, plain, quick};
use bytes::Bytes;
use kbr::archive::GapKind;
use kbr::record::Codec;
use kbr::sandbox::Action;
use std::sync::atomic::{AtomicU32, Ordering};

/// Five batches of ten records, as a replica has them.
fn batches_of_ten() -> Vec<Vec<u8>> {
    (0..5)
        .map(|seed| {
            let mut bytes = batch(Codec::ALL[seed as usize], seed, 10);
            kbr::record::place(&mut bytes, seed * 10, 0).unwrap();
            bytes
        })
        .collect()
}

/// The records of batches whose offsets are in their headers.
fn records(batches: &[Vec<u8>]) -> Vec<Plain> {
    batches.iter().flat_map(|bytes| plain(bytes)).collect()
}

fn flip(bytes: &mut [u8]) {
    let last = bytes.len() - 3;
    bytes[last] ^= 4;
}

#[tokio::test]
async fn a_batch_broken_at_the_source_is_a_gap_wherever_it_lies() {
    // The first, one in the middle, two neighbours, the last, all.
    let cases: [&[usize]; 5] = [&[0], &[2], &[1, 2], &[4], &[0, 1, 2, 3, 4]];
    for broken in cases {
        let world = World::new(1).await;
        world.sandbox.create_topic("orders", 1, &[]).unwrap();
        let mut log = batches_of_ten();
        let whole: Vec<Vec<u8>> = (0..5)
            .filter(|index| !broken.contains(index))
            .map(|index| log[index].clone())
            .collect();
        for index in broken {
            flip(&mut log[*index]);
        }
        world.sandbox.replicate("orders", 0, &log.concat()).unwrap();
        let plan = world.plan(&quick()).await.unwrap();
        let report = world.apply(&plan).await.unwrap();
        assert_eq!(report.failures, [], "{broken:?}");
        assert_eq!(report.damaged.len(), broken.len(), "{:?}", report.damaged);
        for (index, sentence) in broken.iter().zip(&report.damaged) {
            let (from, to) = (index * 10, index * 10 + 10);
            let named = format!("orders-0: the batch at offset {from} is broken at the source");
            assert!(sentence.starts_with(&named), "{sentence}");
            assert!(sentence.contains(&format!("{from} to {to}")), "{sentence}");
        }
        assert_eq!(
            world.archived("orders", 0).await,
            records(&whole),
            "{broken:?}"
        );
        let lost = 10 * broken.len() as u64;
        assert_eq!(world.gaps("orders", 0).await, [(GapKind::Corrupt, lost)]);
        assert_sound(&world.store, "with gaps").await;
        // What follows is appended, and nothing is said twice.
        world
            .sandbox
            .append("orders", 0, &batch(Codec::None, 9, 3))
            .unwrap();
        let next = world.backup().await;
        assert_eq!((next.records, next.damaged), (3, Vec::new()));
        assert_eq!(world.gaps("orders", 0).await, [(GapKind::Corrupt, lost)]);
    }
}

#[tokio::test]
async fn a_bit_that_flips_on_the_way_is_fetched_again_and_costs_nothing() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let log = batches_of_ten();
    world.sandbox.replicate("orders", 0, &log.concat()).unwrap();
    let mut sent = log.clone();
    flip(&mut sent[2]);
    let sent = Bytes::from(sent.concat());
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        let first = request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == 0;
        match first {
            true => Action::Reply(fetch_answer_up_to(
                50,
                request.version,
                &request.frame,
                &sent,
            )),
            false => Action::Pass,
        }
    });
    let report = world.backup().await;
    assert_eq!(report.damaged, Vec::<String>::new());
    assert_eq!(world.archived("orders", 0).await, records(&log));
    assert_eq!(world.gaps("orders", 0).await, []);
}

#[tokio::test]
async fn a_header_that_cannot_be_read_fails_its_partition_by_name() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 2, &[]).unwrap();
    let log = batches_of_ten();
    for partition in 0..2 {
        let bytes = log.concat();
        world
            .sandbox
            .replicate("orders", partition, &bytes)
            .unwrap();
    }
    let plan = world.plan(&quick()).await.unwrap();
    let mut sent = log.clone();
    // A magic that no version of Kafka has.
    sent[2][16] = 9;
    let sent = Bytes::from(sent.concat());
    world
        .sandbox
        .intercept(move |request| match request.api_key == FETCH {
            true => Action::Reply(fetch_answer_up_to(
                50,
                request.version,
                &request.frame,
                &sent,
            )),
            false => Action::Pass,
        });
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(report.failures.len(), 2, "{:?}", report.failures);
    for failure in &report.failures {
        assert_eq!(failure.at.unwrap().0, 20, "{failure:?}");
        assert!(failure.why.contains("offset 20"), "{failure:?}");
    }
    world.sandbox.clear_interceptors();
    world.backup().await;
    for partition in 0..2 {
        assert_eq!(world.archived("orders", partition).await, records(&log));
    }
}
