//! Backup against the sandbox: what the archive holds afterwards, record by record, and what it says is missing.

mod engine_backup_support;

use engine_backup_support::{NOW, World, batch, large_batch, quick};
use kbr::archive::{Gap, GapKind, GroupOffset};
use kbr::base::{CancellationToken, Offset, PartitionId, Progress, Selection};
use kbr::engine::Error;
use kbr::engine::backup::{self, Options, TopicState};
use kbr::record::{BatchBuilder, BuildOptions, Codec, Headers, ProducerStamp};
use kbr::sandbox::Action;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[tokio::test]
async fn every_record_of_every_codec_arrives_unchanged() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 2, &[]).unwrap();
    for round in 0..25 {
        let batch = batch(Codec::ALL[round % 5], round as i64, 1 + round as i64 * 3);
        world
            .sandbox
            .append("orders", (round % 2) as i32, &batch)
            .unwrap();
    }
    let report = world.backup().await;
    for partition in 0..2 {
        assert_eq!(
            world.archived("orders", partition).await,
            world.source("orders", partition, &[])
        );
        assert_eq!(world.gaps("orders", partition).await, []);
    }
    let expected: i64 = (0..25).map(|round| 1 + round * 3).sum();
    assert_eq!(report.records, expected as u64);
    assert_eq!(report.generation, 1);
}

#[tokio::test]
async fn the_next_run_adds_what_is_new_and_nothing_twice() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world.sandbox.create_topic("quiet", 3, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    assert_eq!(world.backup().await.records, 10);
    world
        .sandbox
        .append("orders", 0, &batch(Codec::Zstd, 2, 5))
        .unwrap();
    let second = world.backup().await;
    assert_eq!(second.records, 5);
    assert_eq!(
        second.partitions.len(),
        1,
        "quiet partitions are not listed"
    );
    assert_eq!(world.backup().await.records, 0);
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &[])
    );
    let latest = world.latest().await;
    assert_eq!(latest.number(), 3);
    assert_eq!(latest.topic("quiet").unwrap().partitions.len(), 3);
}

#[tokio::test]
async fn aborted_data_and_markers_are_gaps_and_committed_data_is_kept() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let append = |seed| batch(Codec::Lz4, seed, 4);
    world.sandbox.append("orders", 0, &append(1)).unwrap(); // 0..4
    world
        .sandbox
        .append_aborted("orders", 0, &append(2))
        .unwrap(); // 4..8, marker 8
    world
        .sandbox
        .append_committed("orders", 0, &append(3))
        .unwrap(); // 9..13, marker 13
    let long = world
        .sandbox
        .begin_transaction("orders", 0, &append(4))
        .unwrap(); // 14..18
    world.sandbox.append("orders", 0, &append(5)).unwrap(); // 18..22
    world
        .sandbox
        .end_transaction("orders", 0, long, false)
        .unwrap(); // marker 22
    world.sandbox.append("orders", 0, &append(6)).unwrap(); // 23..27
    world.backup().await;
    let aborted = [4, 5, 6, 7, 14, 15, 16, 17];
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &aborted)
    );
    assert_eq!(
        world.gaps("orders", 0).await,
        [(GapKind::Marker, 3), (GapKind::Aborted, 8)]
    );
}

#[tokio::test]
async fn open_transactions_are_pending_and_come_with_the_next_run() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 5))
        .unwrap();
    let open = world
        .sandbox
        .begin_transaction("orders", 0, &batch(Codec::None, 2, 3))
        .unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 3, 2))
        .unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.records, 5);
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert_eq!(
        report.notes,
        [format!(
            "orders-0: offsets 5 to 10 belong to open transactions and are not archived yet (producer {} since offset 5)",
            open.producer_id
        )]
    );
    let latest = world.latest().await;
    let pending = Gap::whole(Offset(5), Offset(10), GapKind::Pending);
    let entry = &latest.topic("orders").unwrap().partitions[0];
    assert_eq!(
        (entry.to, entry.gaps.as_slice()),
        (Offset(5), &[pending][..])
    );

    world
        .sandbox
        .set_committed("billing", "orders", 0, 9, "mine");
    let plan = world.plan(&quick()).await.unwrap();
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.incomplete.len(), 1, "{:?}", report.incomplete);
    assert!(report.incomplete[0].ends_with("group billing committed beyond"));

    world
        .sandbox
        .end_transaction("orders", 0, open, true)
        .unwrap();
    world.backup().await;
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &[])
    );
    assert_eq!(world.gaps("orders", 0).await, [(GapKind::Marker, 1)]);
}

#[tokio::test]
async fn holes_of_compaction_are_counted_wherever_they_lie() {
    let world = World::new(1).await;
    world.sandbox.create_topic("state", 1, &[]).unwrap();
    for round in 0..6 {
        let batch = batch(Codec::ALL[round % 5], round as i64, 10);
        world.sandbox.append("state", 0, &batch).unwrap();
    }
    // A whole batch, some at the edges of batches, some within, one batch's first and last.
    let mut gone: Vec<i64> = (20..30).collect();
    gone.extend([0, 1, 9, 13, 15, 40, 49]);
    gone.sort_unstable();
    world.sandbox.compact_away("state", 0, &gone).unwrap();
    let report = world.backup().await;
    assert_eq!(report.records, 60 - 17);
    assert_eq!(
        world.archived("state", 0).await,
        world.source("state", 0, &[])
    );
    assert_eq!(world.gaps("state", 0).await, [(GapKind::Compacted, 17)]);
}

#[tokio::test]
async fn a_batch_that_straddles_the_log_start_gives_only_what_is_behind_it() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    for seed in 0..2 {
        world
            .sandbox
            .append("orders", 0, &batch(Codec::Gzip, seed, 10))
            .unwrap();
    }
    world.sandbox.delete_records("orders", 0, 4).unwrap();
    let report = world.backup().await;
    assert_eq!(report.records, 16);
    let offsets: Vec<i64> = (4..20).collect();
    let archived = world.archived("orders", 0).await;
    let found: Vec<i64> = archived.iter().map(|record| record.offset).collect();
    assert_eq!(found, offsets);
    assert_eq!(world.gaps("orders", 0).await, []);
}

#[tokio::test]
async fn what_retention_took_between_two_runs_is_a_gap_and_said_aloud() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let append = |seed| {
        let batch = batch(Codec::None, seed, 10);
        world.sandbox.append("orders", 0, &batch).unwrap();
    };
    append(1);
    world.backup().await;
    append(2);
    append(3);
    world.sandbox.delete_records("orders", 0, 23).unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    let partition = &plan.topics[0].partitions[0];
    assert_eq!(
        partition.lost_to_retention(),
        Some((Offset(10), Offset(23)))
    );
    assert_eq!(partition.records_bound(), 7);
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.records, 7);
    assert_eq!(
        report.incomplete,
        [
            "orders-0: 13 offsets were deleted at the source before this run could read them (offsets 10 to 23)"
        ]
    );
    assert_eq!(world.gaps("orders", 0).await, [(GapKind::Retention, 13)]);
    let archived = world.archived("orders", 0).await;
    assert_eq!(archived.len(), 17);
}

#[tokio::test]
async fn when_retention_took_everything_that_is_a_gap_and_not_a_failure() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let append = |seed| {
        let batch = batch(Codec::None, seed, 10);
        world.sandbox.append("orders", 0, &batch).unwrap();
    };
    append(1);
    world.backup().await;
    append(2);
    world.sandbox.delete_records("orders", 0, 20).unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    let report = world.apply(&plan).await.unwrap();
    assert!(!report.partial, "{:?}", report.failures);
    assert_eq!(
        report.incomplete,
        [
            "orders-0: 10 offsets were deleted at the source before this run could read them (offsets 10 to 20)"
        ]
    );
    assert_eq!(world.gaps("orders", 0).await, [(GapKind::Retention, 10)]);
}

#[tokio::test]
async fn an_offset_on_a_topic_that_a_run_leaves_out_says_which_topic_it_is_on() {
    let world = World::new(1).await;
    world.sandbox.create_topic("audit", 1, &[]).unwrap();
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world.backup().await;
    world.sandbox.delete_topic("orders").unwrap();
    let anew = world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world.sandbox.set_committed("billing", "orders", 0, 0, "");
    let options = Options {
        topics: Selection::of(&["audit"]).unwrap(),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    world.apply(&plan).await.unwrap();
    let groups = world.latest().await.groups().await.unwrap();
    assert_eq!(groups.groups[0].offsets[0].topic_id, Some(anew));
}

#[tokio::test]
async fn a_topic_made_anew_is_another_topic() {
    let world = World::new(1).await;
    let first = world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    world.backup().await;
    world.sandbox.delete_topic("orders").unwrap();
    let second = world.sandbox.create_topic("orders", 2, &[]).unwrap();
    assert_ne!(first, second);
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 2, 3))
        .unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.topics[0].state, TopicState::Recreated { was: first });
    world.apply(&plan).await.unwrap();
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &[])
    );
    let latest = world.latest().await;
    let held: Vec<(u32, u64, bool)> = latest
        .all_topics()
        .iter()
        .map(|topic| (topic.incarnation, topic.records(), topic.current))
        .collect();
    assert_eq!(held, [(1, 10, false), (2, 3, true)]);
}

#[tokio::test]
async fn a_topic_that_went_away_keeps_its_data_and_is_current_no_more() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    world.backup().await;
    world.sandbox.delete_topic("orders").unwrap();
    world.backup().await;
    let latest = world.latest().await;
    assert!(latest.topic("orders").is_none());
    assert_eq!(latest.all_topics()[0].records(), 10);
}

#[tokio::test]
async fn a_truncated_log_is_named_and_nothing_is_appended_to_it() {
    let world = World::new(1).await;
    for topic in ["orders", "other"] {
        world.sandbox.create_topic(topic, 1, &[]).unwrap();
        world
            .sandbox
            .append(topic, 0, &batch(Codec::None, 1, 10))
            .unwrap();
    }
    world.backup().await;
    // Cut at 6 and written anew beyond what is archived: only the leader epoch tells.
    world.sandbox.truncate("orders", 0, 6).unwrap();
    for topic in ["orders", "other"] {
        world
            .sandbox
            .append(topic, 0, &batch(Codec::None, 2, 20))
            .unwrap();
    }
    let plan = world.plan(&quick()).await.unwrap();
    assert!(plan.topics[0].partitions[0].problem.is_some());
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(report.failures.len(), 1);
    assert!(
        report.failures[0].why.contains("truncated"),
        "{}",
        report.failures[0].why
    );
    assert_eq!(world.archived("orders", 0).await.len(), 10);
    assert_eq!(world.archived("other", 0).await.len(), 30);
}

#[tokio::test]
async fn committed_offsets_come_with_state_and_metadata() {
    let world = World::new(1).await;
    let id = world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    world
        .sandbox
        .set_committed("billing", "orders", 0, 7, "from noon");
    world.sandbox.set_committed("audit", "orders", 0, 2, "");
    let options = Options {
        groups: Selection::of(&["bill*"]).unwrap(),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    assert_eq!((plan.groups.groups, plan.groups.offsets), (1, 1));
    assert_eq!(world.apply(&plan).await.unwrap().groups, 1);
    let groups = world.latest().await.groups().await.unwrap();
    assert_eq!(groups.groups.len(), 1);
    assert_eq!(groups.groups[0].group, "billing");
    assert_eq!(
        groups.groups[0].offsets,
        [GroupOffset {
            topic: "orders".into(),
            topic_id: Some(id),
            partition: PartitionId(0),
            offset: Offset(7),
            leader_epoch: groups.groups[0].offsets[0].leader_epoch,
            metadata: "from noon".into(),
        }]
    );
}

#[tokio::test]
async fn overrides_of_configs_and_the_replication_factor_are_kept() {
    let world = World::new(3).await;
    let configs = [("retention.ms", "1234567"), ("cleanup.policy", "compact")];
    world.sandbox.create_topic("orders", 2, &configs).unwrap();
    world.backup().await;
    let latest = world.latest().await;
    let topic = latest.topic("orders").unwrap();
    let found: Vec<(&str, &str)> = topic
        .configs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        found,
        [("cleanup.policy", "compact"), ("retention.ms", "1234567")]
    );
    let metadata = world.client.metadata();
    let replicas = metadata.topics["orders"].partitions[0].replicas.len();
    assert_eq!(topic.replication_factor as usize, replicas);
}

#[tokio::test]
async fn many_small_partitions_share_an_object_and_large_ones_have_their_own() {
    let world = World::new(2).await;
    world.sandbox.create_topic("small", 150, &[]).unwrap();
    world.sandbox.create_topic("large", 6, &[]).unwrap();
    for partition in 0..150 {
        world
            .sandbox
            .append(
                "small",
                partition,
                &batch(Codec::None, i64::from(partition), 3),
            )
            .unwrap();
    }
    for partition in 0..6 {
        for seed in 0..8 {
            world
                .sandbox
                .append("large", partition, &large_batch(seed, 100, 1000))
                .unwrap();
        }
    }
    let report = world.backup().await;
    assert_eq!(report.records, 150 * 3 + 6 * 800);
    for partition in 0..150 {
        assert_eq!(
            world.archived("small", partition).await,
            world.source("small", partition, &[])
        );
    }
    for partition in 0..6 {
        assert_eq!(
            world.archived("large", partition).await,
            world.source("large", partition, &[])
        );
    }
    assert_eq!(world.store.list("packs").await.unwrap().len(), 1);
    assert_eq!(world.store.list("topics").await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_name_that_matches_nothing_blocks_and_says_what_is_near() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let options = Options {
        topics: Selection::of(&["ordres"]).unwrap(),
        ..quick()
    };
    let plan = world.plan(&options).await.unwrap();
    assert_eq!(plan.blocked.len(), 1);
    assert_eq!(
        plan.blocked[0].what,
        "no topic of the cluster matches ordres"
    );
    assert_eq!(
        plan.blocked[0].hint.as_deref(),
        Some("did you mean orders?")
    );
    assert!(world.apply(&plan).await.is_err());
}

#[tokio::test]
async fn a_plan_is_single_use_because_the_archive_moved_on() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 10))
        .unwrap();
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.records_bound(), 10);
    world.apply(&plan).await.unwrap();
    let again = world.apply(&plan).await;
    assert!(
        matches!(&again, Err(Error::Drift(why)) if why.contains("generation 1")),
        "{again:?}"
    );
    assert_eq!(world.latest().await.number(), 1);
}

#[tokio::test]
async fn timestamps_bound_what_a_restore_may_skip() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    for seed in [5, 1, 9] {
        world
            .sandbox
            .append("orders", 0, &batch(Codec::None, seed, 10))
            .unwrap();
    }
    world.backup().await;
    let latest = world.latest().await;
    let entry = &latest.topic("orders").unwrap().partitions[0];
    let (lowest, highest) = (
        entry.min_timestamp.unwrap().0,
        entry.max_timestamp.unwrap().0,
    );
    assert_eq!(lowest, NOW + 1000);
    assert!((NOW + 9000..NOW + 9500).contains(&highest));
}

#[tokio::test]
async fn a_compacted_topic_is_read_anew_when_tombstones_may_have_gone_unread() {
    let world = World::new(1).await;
    let configs = [("cleanup.policy", "compact"), ("delete.retention.ms", "0")];
    world.sandbox.create_topic("state", 1, &configs).unwrap();
    let keyed = |value: &[u8]| {
        let mut builder = BatchBuilder::new(BuildOptions::default());
        for key in ["a", "b", "c"] {
            builder
                .push(NOW, Some(key.as_bytes()), Some(value), Headers::empty())
                .unwrap();
        }
        builder.finish(ProducerStamp::NONE).unwrap()
    };
    let append = |value| world.sandbox.append("state", 0, &keyed(value)).unwrap();
    append(b"one");
    append(b"two");
    world.backup().await;
    assert_eq!(world.archived("state", 0).await.len(), 6);
    append(b"three");
    world
        .sandbox
        .compact_away("state", 0, &[0, 1, 2, 3, 4, 5])
        .unwrap();
    let started = kbr::base::time::now();
    while kbr::base::time::now() <= started {
        tokio::task::yield_now().await;
    }
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.topics[0].state, TopicState::Rescanned);
    let report = world.apply(&plan).await.unwrap();
    assert_eq!((report.records, report.incomplete.len()), (3, 0));
    assert_eq!(
        world.archived("state", 0).await,
        world.source("state", 0, &[])
    );
    assert_eq!(world.gaps("state", 0).await, [(GapKind::Compacted, 6)]);
}

#[tokio::test]
async fn a_run_held_to_a_rate_takes_its_time_and_takes_everything() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 2, &[]).unwrap();
    for partition in 0..2 {
        for round in 0..8 {
            let batch = large_batch(round * 2 + partition as u64, 10, 10_000);
            world.sandbox.append("orders", partition, &batch).unwrap();
        }
    }
    // 1.6 MB at 1 MB/s. A deadline shorter than that: time that kbr itself waits is no stall.
    let options = Options {
        rate: Some(1_000_000),
        stall: std::time::Duration::from_secs(1),
        ..Options::default()
    };
    let plan = world.plan(&options).await.unwrap();
    let began = std::time::Instant::now();
    let report = world.apply(&plan).await.unwrap();
    let took = began.elapsed();
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert_eq!(report.records, 160);
    for partition in 0..2 {
        let source = world.source("orders", partition, &[]);
        assert_eq!(world.archived("orders", partition).await, source);
    }
    // The last answer is paid for by nobody; a machine that is slow only adds to it.
    assert!(took.as_millis() >= 900, "{took:?}");
}

/// Cancels a run when so many records of a topic are put away.
struct CancelAt {
    topic: &'static str,
    records: AtomicU64,
    limit: u64,
    cancel: CancellationToken,
}

impl Progress for CancelAt {
    fn total(&self, _records: u64, _bytes: u64) {}
    fn advance(&self, _records: u64, _bytes: u64) {}
    fn doing(&self, _what: &str) {}
    fn topic_advance(&self, topic: &str, records: u64, _bytes: u64) {
        if topic == self.topic
            && self.records.fetch_add(records, Ordering::Relaxed) + records >= self.limit
        {
            self.cancel.cancel();
        }
    }
}

#[tokio::test]
async fn small_partitions_do_not_wait_behind_many_large_ones() {
    let world = World::new(1).await;
    // 600 KB in 60 offsets, and as much in 1200: by name and by number of offsets the small ones lie between.
    for (topic, count, size) in [("large-few", 5, 10_000), ("large-many", 100, 500)] {
        world.sandbox.create_topic(topic, 40, &[]).unwrap();
        let part = large_batch(1, count, size);
        for partition in 0..40 {
            for _ in 0..12 {
                world.sandbox.append(topic, partition, &part).unwrap();
            }
        }
    }
    world.sandbox.create_topic("small", 5, &[]).unwrap();
    for partition in 0..5 {
        let records = batch(Codec::None, 1, 100);
        world.sandbox.append("small", partition, &records).unwrap();
    }
    // A large partition that is being written is asked for alone and for much, and then gets nothing: none of them comes
    // to its end.
    let (much, all) = ((768_i32 << 10) - 4096, 4_i32 << 20);
    let refusals = Arc::new(AtomicU64::new(0));
    let refused = refusals.clone();
    world.sandbox.intercept(move |request| {
        let times = |value: i32| {
            let windows = request.frame.windows(4);
            windows
                .filter(|bytes| **bytes == value.to_be_bytes())
                .count()
        };
        // For the whole answer, and for the partition.
        if request.api_key != 1 || times(much) == 0 && times(all) < 2 {
            return Action::Pass;
        }
        refused.fetch_add(1, Ordering::Relaxed);
        Action::Error(56)
    });
    let plan = world.plan(&quick()).await.unwrap();
    let cancel = CancellationToken::new();
    let run = backup::Run {
        name: "short".into(),
        progress: Arc::new(CancelAt {
            topic: "small",
            records: AtomicU64::new(0),
            limit: 500,
            cancel: cancel.clone(),
        }),
        cancel,
    };
    let report = backup::apply(&plan, &world.client, &world.store, &run);
    let report = report.await.unwrap();
    assert!(report.cancelled);
    assert!(refusals.load(Ordering::Relaxed) > 0);
    assert_eq!(
        report.failures,
        [],
        "the small ones came before any gave up"
    );
    for partition in 0..5 {
        let records = world.source("small", partition, &[]);
        assert_eq!(world.archived("small", partition).await, records);
    }
    // What was given back is read again, from where it was.
    world.sandbox.clear_interceptors();
    world.backup().await;
    for topic in ["large-few", "large-many"] {
        for partition in 0..40 {
            let records = world.source(topic, partition, &[]);
            assert!(world.archived(topic, partition).await == records);
        }
    }
}

#[tokio::test]
async fn many_large_partitions_arrive_whole_in_one_run() {
    let world = World::new(1).await;
    world.sandbox.create_topic("large", 90, &[]).unwrap();
    let part = large_batch(1, 5, 10_000);
    for partition in 0..90 {
        for _ in 0..12 {
            world.sandbox.append("large", partition, &part).unwrap();
        }
    }
    world.backup().await;
    for partition in 0..90 {
        let records = world.source("large", partition, &[]);
        assert_eq!(records.len(), 60);
        assert!(world.archived("large", partition).await == records);
    }
}

#[tokio::test]
async fn topics_and_partitions_made_after_the_plan_make_the_generation_partial() {
    let world = World::new(1).await;
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.topics.len(), 0);
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    let records = batch(Codec::None, 1, 10);
    world.sandbox.append("orders", 0, &records).unwrap();
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(
        report.incomplete,
        ["orders was created after this was planned; the next run takes it"]
    );
    let report = world.backup().await;
    assert!(!report.partial);
    assert_eq!(world.archived("orders", 0).await.len(), 10);
    // As it was planned before the topic got more partitions.
    world.sandbox.create_topic("payments", 3, &[]).unwrap();
    let mut plan = world.plan(&quick()).await.unwrap();
    let payments = &mut plan.topics[1];
    payments.partition_count = 1;
    payments.partitions.truncate(1);
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(
        report.incomplete,
        ["payments has 2 new partitions since this was planned; the next run takes them"]
    );
    assert!(!world.backup().await.partial);
}
