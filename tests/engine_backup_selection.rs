//! What a backup takes and what it keeps besides records: selections, ACLs, quotas, groups, configs; and that what is
//! not selected is neither removed nor forgotten.

mod engine_backup_support;

use engine_backup_support::{World, batch, quick};
use kbr::archive::{
    Archive, ClusterState, GapKind, GroupOffset, NewGeneration, PartitionEntry, RunOptions,
    TopicEntry,
};
use kbr::base::{Offset, PartitionId, PartitionSet, Pattern, Selection, TimestampMs, time};
use kbr::engine::backup::{Keep, Options, Plan, SomePartitions, TopicState};
use kbr::kafka::{
    AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType, QuotaEntity,
    TopicsWanted,
};
use kbr::record::Codec;
use kbr::sandbox::{Action, SandboxOptions};
use std::collections::BTreeMap;

const DESCRIBE_ACLS: i16 = 29;
const DESCRIBE_CONFIGS: i16 = 32;
const DESCRIBE_CLIENT_QUOTAS: i16 = 48;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;

fn partitions(topics: &str, partitions: &str) -> SomePartitions {
    SomePartitions {
        topics: Pattern::parse(topics).unwrap(),
        partitions: PartitionSet::parse(partitions).unwrap(),
    }
}

fn topics(include: &[&str]) -> Options {
    Options {
        topics: Selection::of(include).unwrap(),
        ..quick()
    }
}

fn blocked(plan: &Plan) -> Vec<(String, Option<String>)> {
    plan.blocked
        .iter()
        .map(|blocked| (blocked.what.clone(), blocked.hint.clone()))
        .collect()
}

async fn run(world: &World, options: &Options) -> kbr::engine::backup::Report {
    let plan = world.plan(options).await.unwrap();
    assert_eq!(blocked(&plan), []);
    world.apply(&plan).await.unwrap()
}

#[tokio::test]
async fn what_a_regex_takes_and_an_exclude_leaves_out_is_exactly_that() {
    let world = World::new(1).await;
    let all = [
        "orders-eu",
        "orders-us",
        "orders-tmp",
        "audit.7",
        "audit.x",
        "my-orders-eu",
    ];
    for (seed, topic) in (1..).zip(all) {
        world.sandbox.create_topic(topic, 1, &[]).unwrap();
        let records = batch(Codec::Lz4, seed, 5);
        world.sandbox.append(topic, 0, &records).unwrap();
    }
    let mut selection = Selection::of(&["/^orders-/", "/^audit\\.[0-9]+$/"]).unwrap();
    selection.exclude = vec![Pattern::parse("*-tmp").unwrap()];
    let options = Options {
        topics: selection,
        ..quick()
    };
    run(&world, &options).await;
    let latest = world.latest().await;
    let taken: Vec<&str> = latest.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(taken, ["audit.7", "orders-eu", "orders-us"]);
    for topic in taken {
        let records = world.source(topic, 0, &[]);
        assert_eq!(records.len(), 5);
        assert_eq!(world.archived(topic, 0).await, records);
    }
}

#[tokio::test]
async fn chosen_partitions_are_taken_and_the_others_stay_as_they_were() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 4, &[]).unwrap();
    let fill = |seed: i64| {
        for partition in 0..4 {
            let batch = batch(Codec::None, seed, 3);
            world.sandbox.append("orders", partition, &batch).unwrap();
        }
    };
    fill(1);
    world.backup().await;
    fill(2);
    let some = Options {
        partitions: vec![partitions("orders", "0,3"), partitions("ord*", "3")],
        ..quick()
    };
    let plan = world.plan(&some).await.unwrap();
    assert_eq!(
        plan.notes,
        [
            "the selection is narrower than generation 1's: without orders partitions 1-2; what is archived of it \
             stays as it was"
        ]
    );
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.records, 6);
    assert!(!report.partial);
    let snapshot = world.latest().await;
    let topic = snapshot.topic("orders").unwrap();
    let ends: Vec<i64> = topic.partitions.iter().map(|at| at.to.0).collect();
    assert_eq!(ends, [6, 3, 3, 6]);
    assert_eq!(topic.partition_count, 4);
    assert_eq!(topic.behind.len(), 1);
    assert_eq!(topic.behind[0].partitions.to_string(), "1-2");
    // A second time it is no news that they are left out.
    let plan = world.plan(&some).await.unwrap();
    assert_eq!(plan.notes, Vec::<String>::new());
    world.apply(&plan).await.unwrap();

    assert_eq!(world.backup().await.records, 6);
    for partition in 0..4 {
        assert_eq!(
            world.archived("orders", partition).await,
            world.source("orders", partition, &[])
        );
    }
    assert_eq!(world.latest().await.topic("orders").unwrap().behind, []);
}

#[tokio::test]
async fn a_topic_that_is_not_selected_is_not_removed() {
    let world = World::new(1).await;
    for name in ["orders", "payments", "audit"] {
        world.sandbox.create_topic(name, 1, &[]).unwrap();
        let batch = batch(Codec::None, 1, 3);
        world.sandbox.append(name, 0, &batch).unwrap();
    }
    world.backup().await;
    world
        .sandbox
        .append("payments", 0, &batch(Codec::None, 2, 2))
        .unwrap();
    world.sandbox.delete_topic("audit").unwrap();
    let plan = world.plan(&topics(&["orders"])).await.unwrap();
    assert_eq!(plan.removed, []);
    assert_eq!(
        plan.notes,
        [
            "the selection is narrower than generation 1's: without payments; what is archived of it stays as it was"
        ]
    );
    world.apply(&plan).await.unwrap();
    let snapshot = world.latest().await;
    assert_eq!(snapshot.topic("payments").unwrap().seen, 1);
    assert_eq!(snapshot.topic("orders").unwrap().seen, 2);
    assert!(snapshot.topic("audit").is_some(), "nobody looked for it");

    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.removed[0].name, "audit");
    let report = world.apply(&plan).await.unwrap();
    assert_eq!(report.records, 2, "payments goes on where it was left");
    assert_eq!(
        report.notes,
        ["audit is no longer at the source; what is archived stays"]
    );
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert!(world.latest().await.topic("audit").is_none());
}

#[tokio::test]
async fn a_selection_that_fits_nothing_blocks_with_a_way_out() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 2, &[]).unwrap();
    world.sandbox.create_topic("payments", 2, &[]).unwrap();
    world
        .sandbox
        .create_topic("__consumer_offsets", 1, &[])
        .unwrap();
    let of = async |options: Options| blocked(&world.plan(&options).await.unwrap());
    let both = |what: &str, hint: &str| {
        vec![(
            what.to_string(),
            Some(hint.to_string()).filter(|hint| !hint.is_empty()),
        )]
    };
    assert_eq!(
        of(topics(&["order"])).await,
        both(
            "no topic of the cluster matches order",
            "did you mean orders?"
        )
    );
    assert_eq!(
        of(topics(&["zzz-*"])).await,
        both("no topic of the cluster matches zzz-*", "")
    );
    assert_eq!(
        of(topics(&["__consumer_offsets", "orders"])).await,
        both(
            "__consumer_offsets is internal to the cluster",
            "internal topics are taken with .internal(true)"
        )
    );
    let mut nothing = topics(&["orders"]);
    nothing.topics.exclude = vec![Pattern::parse("ord*").unwrap()];
    assert_eq!(
        of(nothing).await,
        both(
            "the selection leaves none of the cluster's 3 topics",
            "internal topics are taken with .internal(true)"
        )
    );
    let some = |of: &str, which: &str| Options {
        partitions: vec![partitions(of, which)],
        ..quick()
    };
    assert_eq!(
        of(some("orders", "0,5")).await,
        both("orders has no partition 5", "it has 2 partitions")
    );
    assert_eq!(
        of(some("order", "0")).await,
        both(
            "partitions 0 of order: no selected topic matches",
            "did you mean orders?"
        )
    );
    let groups = Options {
        groups: Selection::of(&["checkout"]).unwrap(),
        ..quick()
    };
    assert_eq!(
        of(groups).await,
        both("no group of the cluster matches checkout", "")
    );

    run(&world, &topics(&["orders"])).await;
    world.sandbox.delete_topic("orders").unwrap();
    assert_eq!(
        of(topics(&["orders"])).await,
        both(
            "topic orders is no longer at the source",
            "what is archived of it stays in generation 1; take it out of the selection"
        )
    );
}

#[tokio::test]
async fn internal_topics_are_taken_on_request_only() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .create_topic("__consumer_offsets", 1, &[])
        .unwrap();
    let names = |plan: &Plan| -> Vec<String> {
        plan.topics.iter().map(|topic| topic.name.clone()).collect()
    };
    assert_eq!(names(&world.plan(&quick()).await.unwrap()), ["orders"]);
    let too = Options {
        include_internal: true,
        ..quick()
    };
    let plan = world.plan(&too).await.unwrap();
    assert_eq!(names(&plan), ["__consumer_offsets", "orders"]);
    world.apply(&plan).await.unwrap();
    assert!(
        world
            .latest()
            .await
            .topic("__consumer_offsets")
            .unwrap()
            .internal
    );
}

#[tokio::test]
async fn a_compacted_partition_that_was_left_out_too_long_is_read_again_and_the_others_go_on() {
    let world = World::new(1).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "3600000"),
    ];
    world.sandbox.create_topic("state", 2, &configs).unwrap();
    for partition in 0..2 {
        let batch = keyed(partition as i64);
        world.sandbox.append("state", partition, &batch).unwrap();
    }
    let id = world.client.topics(TopicsWanted::All).await.unwrap()[0].id;
    // Two hours ago both were read to their end, which was 0 then.
    let archive = Archive::create_or_open(world.store.clone(), world.client.cluster_id())
        .await
        .unwrap();
    let long_ago = TimestampMs(time::now().0 - 7_200_000);
    let empty = |partition: i32| PartitionEntry {
        partition: PartitionId(partition),
        last_leader_epoch: -1,
        ..PartitionEntry::default()
    };
    let first = NewGeneration {
        started: long_ago,
        consistency_point: long_ago,
        topics: vec![TopicEntry {
            name: "state".into(),
            id,
            replication_factor: 1,
            partition_count: 2,
            partitions: vec![empty(0), empty(1)],
            ..TopicEntry::default()
        }],
        ..NewGeneration::default()
    };
    let begun = archive
        .begin_run("r0", RunOptions::default())
        .await
        .unwrap();
    begun.commit(first).await.unwrap();

    let one = Options {
        partitions: vec![partitions("state", "0")],
        ..quick()
    };
    let plan = world.plan(&one).await.unwrap();
    assert_eq!(plan.topics[0].state, TopicState::Rescanned);
    world.apply(&plan).await.unwrap();
    let behind = world.latest().await.topic("state").unwrap().behind.clone();
    assert_eq!(behind[0].partitions.to_string(), "1");
    assert_eq!(behind[0].caught_up, Some(long_ago));

    let plan = world.plan(&quick()).await.unwrap();
    let rescanned: Vec<bool> = plan.topics[0]
        .partitions
        .iter()
        .map(|at| at.rescanned)
        .collect();
    assert_eq!(rescanned, [false, true]);
    world.apply(&plan).await.unwrap();
    for partition in 0..2 {
        assert_eq!(
            world.archived("state", partition).await,
            world.source("state", partition, &[])
        );
    }
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.topics[0].state, TopicState::Continued);
}

/// A batch that a compacted topic takes: every record has a key.
fn keyed(seed: i64) -> Vec<u8> {
    use kbr::record::{BatchBuilder, BuildOptions, OwnedHeaders, ProducerStamp};
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for index in 0..4 {
        let key = format!("key-{seed}-{index}");
        let headers = OwnedHeaders::new();
        let now = engine_backup_support::NOW;
        builder
            .push(
                now,
                Some(key.as_bytes()),
                Some(b"value"),
                headers.as_headers(),
            )
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

#[tokio::test]
async fn configs_that_cannot_be_read_are_said_and_the_last_ones_stand() {
    let world = World::new(1).await;
    let configs = [("retention.ms", "86400000")];
    world.sandbox.create_topic("orders", 1, &configs).unwrap();
    world.backup().await;
    world.sandbox.intercept(|request| match request.api_key {
        DESCRIBE_CONFIGS => Action::Error(TOPIC_AUTHORIZATION_FAILED),
        _ => Action::Pass,
    });
    let report = run(&world, &quick()).await;
    assert!(report.partial);
    assert_eq!(report.incomplete.len(), 1, "{:?}", report.incomplete);
    let said = &report.incomplete[0];
    assert!(
        said.starts_with("the configs of orders could not be read, those of generation 1 stand: "),
        "{said}"
    );
    assert!(said.contains("TOPIC_AUTHORIZATION_FAILED"), "{said}");
    let kept = world
        .latest()
        .await
        .topic("orders")
        .unwrap()
        .configs
        .clone();
    assert_eq!(kept["retention.ms"], "86400000");
}

fn acl(resource_name: &str) -> AclBinding {
    AclBinding {
        resource_type: AclResourceType::TOPIC,
        resource_name: resource_name.to_string(),
        pattern_type: AclPatternType::PREFIXED,
        principal: "User:alice".to_string(),
        host: "*".to_string(),
        operation: AclOperation::READ,
        permission: AclPermission::ALLOW,
    }
}

async fn set_quota(world: &World, value: f64) {
    let entity = QuotaEntity(BTreeMap::from([("user".to_string(), None)]));
    let set = BTreeMap::from([("producer_byte_rate".to_string(), value)]);
    let client = &world.client;
    client
        .alter_client_quotas(&entity, &set, &[])
        .await
        .unwrap();
}

async fn kept(world: &World) -> ClusterState {
    world.latest().await.cluster().await.unwrap().unwrap()
}

#[tokio::test]
async fn acls_and_quotas_are_kept_and_not_written_again_while_they_stay_the_same() {
    let options = SandboxOptions {
        authorizer: true,
        ..SandboxOptions::default()
    };
    let world = World::of(options).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world.client.create_acls(&[acl("orders")]).await.unwrap();
    set_quota(&world, 1048576.0).await;
    world.backup().await;
    let state = kept(&world).await;
    assert_eq!(state.authorizer, Some(true));
    let acls = state.acls.unwrap();
    assert_eq!(acls.len(), 1);
    assert_eq!(acls[0].principal, "User:alice");
    assert_eq!(acls[0].pattern_type, "PREFIXED");
    assert_eq!(acls[0].operation, "READ");
    let quotas = state.quotas.unwrap();
    assert_eq!(
        quotas[0].entity,
        BTreeMap::from([("user".to_string(), None)])
    );
    assert_eq!(quotas[0].values["producer_byte_rate"], 1048576.0);
    assert_eq!(state.scram_users, Some(vec![]));
    assert_eq!(state.missing, BTreeMap::new());
    let path = |snapshot: &kbr::archive::Snapshot| {
        let manifest = snapshot.manifest();
        let cluster = manifest.cluster.clone().unwrap();
        (cluster.path, manifest.groups.clone().unwrap().path)
    };
    let first = path(&world.latest().await);

    world.backup().await;
    assert_eq!(path(&world.latest().await), first);
    set_quota(&world, 512.0).await;
    world.backup().await;
    let third = path(&world.latest().await);
    assert_ne!(third.0, first.0);
    assert_eq!(third.1, first.1, "the groups are the same still");
    let report = Archive::open(world.store.clone())
        .await
        .unwrap()
        .verify(kbr::archive::Depth::Deep, &kbr::base::NoProgress)
        .await
        .unwrap();
    assert!(report.is_whole(), "{:?}", report.damages);
    assert_eq!(report.unreferenced, Vec::<String>::new());

    // What was kept of it then is lost, and that is named.
    world.store.delete(&third.0).await.unwrap();
    let lost = world.latest().await.cluster().await.unwrap_err();
    assert!(lost.to_string().contains(&third.0), "{lost}");
    // The next run does not refer to what is not there.
    world.backup().await;
    assert_ne!(path(&world.latest().await).0, third.0);
    assert_eq!(kept(&world).await.quotas.unwrap().len(), 1);
}

#[tokio::test]
async fn without_an_authorizer_there_are_no_acls_and_that_is_no_failure() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    assert_eq!(world.backup().await.notes, Vec::<String>::new());
    let state = kept(&world).await;
    assert_eq!(state.authorizer, Some(false));
    assert_eq!(state.acls, Some(vec![]));
    let required = Options {
        acls: Keep::Required,
        ..quick()
    };
    let report = run(&world, &required).await;
    assert_eq!(report.notes, ["no ACLs: the cluster has no authorizer"]);
    assert_eq!(report.incomplete, Vec::<String>::new());
}

#[tokio::test]
async fn acls_that_may_not_be_seen_are_a_note_and_incomplete_only_where_they_are_required() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world.sandbox.intercept(|request| match request.api_key {
        DESCRIBE_ACLS | DESCRIBE_CLIENT_QUOTAS => Action::Error(CLUSTER_AUTHORIZATION_FAILED),
        _ => Action::Pass,
    });
    let report = run(&world, &quick()).await;
    assert_eq!(report.incomplete, Vec::<String>::new());
    assert_eq!(report.notes.len(), 2);
    assert!(
        report.notes[0].starts_with("the cluster's ACLs are not kept: DescribeAcls on the cluster: CLUSTER_AUTHORIZATION_FAILED (31)"),
        "{:?}",
        report.notes
    );
    let state = kept(&world).await;
    assert_eq!((state.acls, state.quotas), (None, None));
    assert!(state.missing["acls"].contains("CLUSTER_AUTHORIZATION_FAILED"));

    let required = Options {
        acls: Keep::Required,
        quotas: Keep::None,
        ..quick()
    };
    let report = run(&world, &required).await;
    assert_eq!(report.incomplete.len(), 1);
    assert!(!report.partial, "every record is there");
    assert_eq!(
        kept(&world).await.missing["quotas"],
        "the backup was told to leave them out"
    );
    let neither = Options {
        acls: Keep::None,
        quotas: Keep::None,
        ..quick()
    };
    run(&world, &neither).await;
    assert_eq!(world.latest().await.cluster().await.unwrap(), None);
}

#[tokio::test]
async fn groups_are_kept_with_state_kind_and_metadata_and_can_be_left_out() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    world
        .sandbox
        .append("orders", 0, &batch(Codec::None, 1, 9))
        .unwrap();
    for group in ["checkout", "console-1"] {
        world.sandbox.set_committed(group, "orders", 0, 7, "mark");
    }
    let mut options = quick();
    options.groups.exclude = vec![Pattern::parse("console-*").unwrap()];
    run(&world, &options).await;
    let groups = world.latest().await.groups().await.unwrap().groups;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].group, "checkout");
    assert_eq!(groups[0].state, "Empty");
    assert_eq!(groups[0].kind, "classic");
    let offset: &GroupOffset = &groups[0].offsets[0];
    assert_eq!(
        (offset.offset, offset.metadata.as_str()),
        (Offset(7), "mark")
    );
}

#[tokio::test]
async fn a_generation_with_nothing_new_is_a_recovery_point_and_small() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 50, &[]).unwrap();
    for partition in 0..50 {
        let batch = batch(Codec::None, 1, 3);
        world.sandbox.append("orders", partition, &batch).unwrap();
    }
    world.backup().await;
    let before = world.store.list("").await.unwrap();
    let report = world.backup().await;
    assert_eq!((report.generation, report.records), (2, 0));
    let after = world.store.list("").await.unwrap();
    let new: Vec<&(String, u64)> = after.iter().filter(|one| !before.contains(one)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(new[0].0, "generations/00000002.json");
    assert!(new[0].1 < 1500, "{} bytes", new[0].1);
    assert_eq!(world.gaps("orders", 0).await, Vec::<(GapKind, u64)>::new());
}
