//! Brokers that lose requests and replies, move, refuse, keep silent or send broken bytes.

use crate::engine_backup_support::{World, batch, large_batch, quick};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use kbr::archive::GapKind;
use kbr::base::CancellationToken;
use kbr::engine::backup::Options;
use kbr::record::Codec;
use kbr::sandbox::Action;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The number of the Fetch API.
pub const FETCH: i16 = 1;
/// And of Metadata.
const METADATA: i16 = 3;

/// A topic of four partitions, two small and two of several answers each.
fn fill(world: &World) {
    world.sandbox.create_topic("orders", 4, &[]).unwrap();
    for round in 0..10 {
        for partition in 0..2 {
            let codec = Codec::ALL[round % 5];
            let batch = batch(codec, round as i64, 20);
            world.sandbox.append("orders", partition, &batch).unwrap();
        }
        for partition in 2..4 {
            let batch = large_batch(round as u64 + 1, 300, 1000);
            world.sandbox.append("orders", partition, &batch).unwrap();
        }
    }
}

async fn assert_whole(world: &World) {
    for partition in 0..4 {
        assert_eq!(
            world.archived("orders", partition).await,
            world.source("orders", partition, &[]),
            "partition {partition}"
        );
    }
}

#[tokio::test]
async fn lost_requests_lost_replies_and_cut_frames_cost_nothing() {
    let world = World::new(1).await;
    fill(&world);
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        if request.api_key != FETCH {
            return Action::Pass;
        }
        match seen.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => Action::Drop,
            1 => Action::DoThenDrop,
            2 => Action::CutReply(1000),
            _ => Action::Pass,
        }
    });
    world.backup().await;
    assert_whole(&world).await;
}

#[tokio::test]
async fn refusals_that_pass_are_waited_for() {
    let world = World::new(1).await;
    fill(&world);
    let seen = AtomicU32::new(0);
    // NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_ID, LEADER_NOT_AVAILABLE.
    let codes = [6, 56, 100, 5];
    world.sandbox.intercept(move |request| {
        if request.api_key != FETCH {
            return Action::Pass;
        }
        let nth = seen.fetch_add(1, Ordering::Relaxed) as usize;
        match nth < 12 && nth.is_multiple_of(2) {
            true => Action::Error(codes[nth / 2 % codes.len()]),
            false => Action::Pass,
        }
    });
    world.backup().await;
    assert_whole(&world).await;
}

#[tokio::test]
async fn leaders_that_move_while_they_are_read_are_followed() {
    let world = World::new(3).await;
    let sandbox = world.sandbox.clone();
    sandbox
        .create_replicated_topic("orders", 4, 3, &[])
        .unwrap();
    for seed in 1..=12 {
        for partition in 0..4 {
            let batch = large_batch(seed, 300, 1000);
            sandbox.append("orders", partition, &batch).unwrap();
        }
    }
    let plan = world.plan(&quick()).await.unwrap();
    let mover = sandbox.clone();
    let stop = CancellationToken::new();
    let moving = stop.clone();
    let moves = tokio::spawn(async move {
        let mut nth = 0;
        while !moving.is_cancelled() {
            for partition in 0..4 {
                let _ = mover.move_leader("orders", partition, 1 + (nth + partition) % 3);
            }
            nth += 1;
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    let report = world.apply(&plan).await.unwrap();
    stop.cancel();
    moves.await.unwrap();
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert_whole(&world).await;
}

#[tokio::test]
async fn a_partition_that_never_answers_fails_by_name_and_the_others_are_committed() {
    let world = World::new(1).await;
    fill(&world);
    world.sandbox.create_topic("silent", 1, &[]).unwrap();
    world
        .sandbox
        .append("silent", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    // A broker that answers this topic with nothing, as a throttled one does, for ever.
    let id = world
        .client
        .topics(kbr::kafka::TopicsWanted::All)
        .await
        .unwrap();
    let id = id.iter().find(|topic| topic.name == "silent").unwrap().id;
    world.sandbox.intercept(move |request| {
        let about_it = request
            .frame
            .windows(16)
            .any(|bytes| bytes == id.as_bytes());
        match request.api_key == FETCH && about_it {
            true => Action::Error(6),
            false => Action::Pass,
        }
    });
    let options = Options {
        stall: Duration::from_secs(2),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    let failure = &report.failures[0];
    assert_eq!(failure.partition.to_string(), "silent-0");
    assert!(
        failure.why.contains("no progress for 2 s at offset 0"),
        "{}",
        failure.why
    );
    assert_whole(&world).await;
    assert_eq!(world.archived("silent", 0).await, []);
    world.sandbox.clear_interceptors();
    world.backup().await;
    assert_eq!(world.archived("silent", 0).await.len(), 10);
}

#[tokio::test]
async fn cancelling_commits_what_is_complete_and_the_next_run_goes_on_from_there() {
    let world = World::new(1).await;
    fill(&world);
    let cancel = CancellationToken::new();
    let seen = AtomicU32::new(0);
    let trigger = cancel.clone();
    world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == 2 {
            trigger.cancel();
        }
        Action::Pass
    });
    let plan = world.plan(&quick()).await.unwrap();
    let report = world.apply_until(&plan, cancel).await.unwrap();
    assert!(report.cancelled && report.partial);
    assert_eq!(
        report.incomplete[0],
        "cancelled: the generation holds what was complete"
    );
    let total: usize = (0..4)
        .map(|partition| world.source("orders", partition, &[]).len())
        .sum();
    assert!(
        report.records < total as u64,
        "{} of {total}",
        report.records
    );
    assert!(world.latest().await.is_partial());
    world.sandbox.clear_interceptors();
    world.backup().await;
    assert_whole(&world).await;
    assert!(!world.latest().await.is_partial());
}

#[tokio::test]
async fn records_that_retention_takes_while_they_are_read_become_a_gap() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    for seed in 1..=4 {
        world
            .sandbox
            .append("orders", 0, &large_batch(seed, 300, 1000))
            .unwrap();
    }
    let plan = world.plan(&quick()).await.unwrap();
    let sandbox = world.sandbox.clone();
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == 1 {
            sandbox.delete_records("orders", 0, 1000).unwrap();
        }
        Action::Pass
    });
    let report = world.apply(&plan).await.unwrap();
    let gaps = world.gaps("orders", 0).await;
    let [(GapKind::Retention, lost)] = gaps[..] else {
        panic!("{gaps:?}");
    };
    assert!((1..=1000).contains(&lost), "{lost}");
    assert_eq!(report.records, 1200 - lost);
    assert_eq!(report.incomplete.len(), 1);
    let archived = world.archived("orders", 0).await;
    assert_eq!(archived.last().unwrap().offset, 1199);
}

#[tokio::test]
async fn a_topic_made_anew_while_it_is_read_is_not_mixed_with_the_old_one() {
    let world = World::new(1).await;
    fill(&world);
    world.sandbox.create_topic("other", 1, &[]).unwrap();
    world
        .sandbox
        .append("other", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    let sandbox = world.sandbox.clone();
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == 1 {
            sandbox.delete_topic("orders").unwrap();
            sandbox.create_topic("orders", 4, &[]).unwrap();
        }
        Action::Pass
    });
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.partition.topic == "orders"),
        "{:?}",
        report.failures
    );
    assert!(!report.failures.is_empty());
    assert_eq!(world.archived("other", 0).await.len(), 10);
}

/// A Fetch response in which every partition that was asked for has this error, and nothing else.
fn refusal(version: i16, frame: &Bytes, code: i16) -> Bytes {
    answer(version, frame, |_| {
        PartitionData::default()
            .with_error_code(code)
            .with_high_watermark(-1)
    })
}

/// The codes with which a leader refuses one partition for a while.
const PASSING: [i16; 13] = [
    1,   // OFFSET_OUT_OF_RANGE, although the offset is there
    3,   // UNKNOWN_TOPIC_OR_PARTITION
    5,   // LEADER_NOT_AVAILABLE
    6,   // NOT_LEADER_OR_FOLLOWER, without a hint at the new one
    7,   // REQUEST_TIMED_OUT
    8,   // BROKER_NOT_AVAILABLE
    9,   // REPLICA_NOT_AVAILABLE
    56,  // KAFKA_STORAGE_ERROR
    74,  // FENCED_LEADER_EPOCH
    75,  // UNKNOWN_LEADER_EPOCH
    78,  // OFFSET_NOT_AVAILABLE
    100, // UNKNOWN_TOPIC_ID
    103, // INCONSISTENT_TOPIC_ID
];

#[tokio::test]
async fn every_refusal_of_a_partition_that_passes_is_waited_for() {
    for code in PASSING {
        let world = World::new(1).await;
        fill(&world);
        let seen = AtomicU32::new(0);
        world.sandbox.intercept(move |request| {
            let refused = request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) < 4;
            match refused {
                true => Action::Reply(refusal(request.version, &request.frame, code)),
                false => Action::Pass,
            }
        });
        let plan = world.plan(&quick()).await.unwrap();
        let report = world.apply(&plan).await.unwrap();
        assert_eq!(report.incomplete, Vec::<String>::new(), "code {code}");
        assert_whole(&world).await;
    }
}

/// What a leader that has moved says since KIP-951: who leads now, in the refusal itself.
#[tokio::test]
async fn a_refusal_that_names_the_new_leader_is_followed() {
    let world = World::new(2).await;
    let sandbox = world.sandbox.clone();
    sandbox
        .create_replicated_topic("orders", 1, 2, &[])
        .unwrap();
    for seed in 1..=6 {
        let batch = large_batch(seed, 300, 1000);
        sandbox.append("orders", 0, &batch).unwrap();
    }
    let plan = world.plan(&quick()).await.unwrap();
    let first = sandbox.leader("orders", 0).unwrap().0.unwrap();
    let second = 3 - first;
    let mover = sandbox.clone();
    let seen = AtomicU32::new(0);
    let after: Arc<Mutex<Vec<(i16, i32)>>> = Arc::default();
    let asked = after.clone();
    world.sandbox.intercept(move |request| {
        let fetch = request.api_key == FETCH;
        if fetch && seen.fetch_add(1, Ordering::Relaxed) == 1 {
            mover.move_leader("orders", 0, second).unwrap();
        }
        if seen.load(Ordering::Relaxed) > 1 {
            let mut asked = asked.lock().unwrap();
            asked.push((request.api_key, request.broker));
        }
        Action::Pass
    });
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &[])
    );
    // The refusal names the leader and its address (KIP-951): nobody asks for metadata before going there.
    let after = after.lock().unwrap();
    let there = after.iter().position(|asked| *asked == (FETCH, second));
    let there = there.expect("a fetch from the new leader");
    assert!(
        after[..there].iter().all(|asked| asked.0 != METADATA),
        "{after:?}"
    );
}

#[tokio::test]
async fn a_broker_that_throttles_answers_empty_and_is_waited_for() {
    let world = World::new(1).await;
    fill(&world);
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        if request.api_key != FETCH || seen.fetch_add(1, Ordering::Relaxed) >= 6 {
            return Action::Pass;
        }
        let empty = response(request.version, &request.frame, |_| {
            PartitionData::default()
                .with_high_watermark(200)
                .with_last_stable_offset(200)
                .with_log_start_offset(0)
                .with_records(Some(Bytes::new()))
        });
        let throttled = empty.with_throttle_time_ms(100);
        Action::Reply(encoded(throttled, request.version))
    });
    world.backup().await;
    assert_whole(&world).await;
}

#[tokio::test]
async fn a_batch_larger_than_every_limit_comes_whole() {
    let world = World::new(1).await;
    let configs = [("max.message.bytes", "30000000")];
    world.sandbox.create_topic("orders", 4, &configs).unwrap();
    let sandbox = world.sandbox.clone();
    // Partitions of small batches around it: those fill the answers.
    for partition in [0, 1, 3] {
        for seed in 0..5 {
            let bytes = batch(Codec::None, seed, 20);
            sandbox.append("orders", partition, &bytes).unwrap();
        }
    }
    sandbox
        .append("orders", 2, &batch(Codec::Lz4, 9, 3))
        .unwrap();
    for seed in 1..=2 {
        let bytes = large_batch(seed, 1, 11_000_000);
        sandbox.append("orders", 2, &bytes).unwrap();
    }
    sandbox
        .append("orders", 2, &batch(Codec::Zstd, 9, 3))
        .unwrap();
    world.backup().await;
    assert_whole(&world).await;
}

/// Each request of a backup, of whatever kind, is lost once: before it was done, after, and with its answer cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_single_request_may_be_lost_once() {
    let world = World::new(1).await;
    fill(&world);
    world.sandbox.set_committed("checkout", "orders", 0, 3, "");
    let losses = [Action::Drop, Action::DoThenDrop, Action::CutReply(6)];
    for loss in losses {
        for nth in 1.. {
            let store = world.with_archive(&[]).await;
            let seen = Arc::new(AtomicU32::new(0));
            let (counted, lost) = (seen.clone(), loss.clone());
            world.sandbox.intercept(move |_| {
                match counted.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                    true => lost.clone(),
                    false => Action::Pass,
                }
            });
            let report = world.run_into(&store, &quick()).await;
            world.sandbox.clear_interceptors();
            let report = report.unwrap_or_else(|error| panic!("{loss:?} of {nth}: {error}"));
            assert_eq!(report.incomplete, Vec::<String>::new(), "{loss:?} of {nth}");
            assert_eq!(report.records, 6400, "{loss:?} of {nth}");
            if seen.load(Ordering::Relaxed) < nth {
                assert!(nth > 15, "only {nth} requests");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_broker_of_three_that_never_comes_back_costs_its_own_partitions_only() {
    let world = World::new(3).await;
    let sandbox = world.sandbox.clone();
    sandbox.create_topic("orders", 6, &[]).unwrap();
    for partition in 0..6 {
        for seed in 1..=6 {
            let bytes = large_batch(seed, 300, 1000);
            sandbox.append("orders", partition, &bytes).unwrap();
        }
    }
    let lost: Vec<i32> = (0..6)
        .filter(|partition| sandbox.leader("orders", *partition).unwrap().0 == Some(2))
        .collect();
    assert!(!lost.is_empty() && lost.len() < 6, "{lost:?}");
    let options = Options {
        stall: Duration::from_secs(3),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    let (dying, mut dies) = tokio::sync::mpsc::channel(1);
    let seen = AtomicU32::new(0);
    world.sandbox.intercept(move |request| {
        let its = request.api_key == FETCH && request.broker == 2;
        if its && seen.fetch_add(1, Ordering::Relaxed) == 2 {
            let _ = dying.try_send(());
            return Action::Drop;
        }
        Action::Pass
    });
    let stopping = sandbox.clone();
    tokio::spawn(async move {
        dies.recv().await.unwrap();
        stopping.stop_broker(2).await.unwrap();
    });
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    let failed: Vec<i32> = report
        .failures
        .iter()
        .map(|failure| failure.partition.partition.0)
        .collect();
    assert!(!failed.is_empty());
    assert!(
        failed.iter().all(|partition| lost.contains(partition)),
        "{:?}",
        report.failures
    );
    for partition in (0..6).filter(|partition| !failed.contains(partition)) {
        assert_eq!(
            world.archived("orders", partition).await,
            world.source("orders", partition, &[])
        );
    }
    world.sandbox.clear_interceptors();
    sandbox.start_broker(2).await.unwrap();
    world.backup().await;
    for partition in 0..6 {
        assert_eq!(
            world.archived("orders", partition).await,
            world.source("orders", partition, &[])
        );
    }
}

#[tokio::test]
async fn a_partition_given_up_while_its_broker_keeps_silent_does_not_hold_up_the_end() {
    let world = World::new(2).await;
    let sandbox = world.sandbox.clone();
    sandbox.create_topic("orders", 2, &[]).unwrap();
    for partition in 0..2 {
        for seed in 1..=16 {
            let bytes = large_batch(seed, 300, 1000);
            sandbox.append("orders", partition, &bytes).unwrap();
        }
    }
    let options = Options {
        stall: Duration::from_secs(1),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    world
        .sandbox
        .intercept(|request| match (request.api_key, request.broker) {
            (FETCH, 2) => Action::Delay(Duration::from_secs(60)),
            // Still at work when the other one's connection breaks.
            (FETCH, _) => Action::Delay(Duration::from_millis(500)),
            _ => Action::Pass,
        });
    let stopping = sandbox.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1700)).await;
        stopping.stop_broker(2).await.unwrap();
    });
    let applied = tokio::time::timeout(Duration::from_secs(30), world.apply(&plan));
    let report = applied.await.expect("it ends").unwrap();
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
}

#[tokio::test]
async fn a_cancel_before_the_first_record_ends_the_run_and_adds_nothing() {
    let world = World::new(1).await;
    fill(&world);
    world.sandbox.set_committed("checkout", "orders", 0, 3, "");
    let plan = world.plan(&quick()).await.unwrap();
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    world.sandbox.intercept(move |request| {
        // A coordinator that does not answer.
        const LIST_GROUPS: i16 = 16;
        match request.api_key == LIST_GROUPS {
            true => {
                trigger.cancel();
                Action::Delay(Duration::from_secs(4))
            }
            false => Action::Pass,
        }
    });
    let began = std::time::Instant::now();
    let ended = world.apply_until(&plan, cancel).await;
    assert!(
        matches!(ended, Err(kbr::engine::Error::Cancelled)),
        "{ended:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(3));
    world.sandbox.clear_interceptors();
    world.backup().await;
    assert_whole(&world).await;
}

/// A Fetch response with these bytes for every partition, whose log ends at `end`.
pub fn fetch_answer_up_to(end: i64, version: i16, frame: &Bytes, records: &Bytes) -> Bytes {
    answer(version, frame, |_| {
        PartitionData::default()
            .with_high_watermark(end)
            .with_last_stable_offset(end)
            .with_log_start_offset(0)
            .with_records(Some(records.clone()))
    })
}

fn answer(version: i16, frame: &Bytes, part: impl Fn(&FetchPartition) -> PartitionData) -> Bytes {
    encoded(response(version, frame, part), version)
}

/// A Fetch response to the request in `frame`: what `part` says of each partition that was asked for.
fn response(
    version: i16,
    frame: &Bytes,
    part: impl Fn(&FetchPartition) -> PartitionData,
) -> FetchResponse {
    let mut frame = frame.clone();
    RequestHeader::decode(&mut frame, FetchRequest::header_version(version)).unwrap();
    let request = FetchRequest::decode(&mut frame, version).unwrap();
    let topics = request.topics.iter().map(|asked| {
        let partitions = asked.partitions.iter();
        FetchableTopicResponse::default()
            .with_topic(asked.topic.clone())
            .with_topic_id(asked.topic_id)
            .with_partitions(
                partitions
                    .map(|asked| part(asked).with_partition_index(asked.partition))
                    .collect(),
            )
    });
    FetchResponse::default().with_responses(topics.collect())
}

fn encoded(response: FetchResponse, version: i16) -> Bytes {
    let mut body = bytes::BytesMut::new();
    response.encode(&mut body, version).unwrap();
    body.freeze()
}
