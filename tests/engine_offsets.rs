//! Moving groups' offsets: the same promises against the sandbox and a real Kafka, and the faults that only the
//! sandbox shows on demand.

mod kafka_real_support;

use kafka_real_support::{RealKafka, batch_of, join_classic_group, unique};
use kbr::archive::{GroupEntry, GroupOffset};
use kbr::base::{Offset, PartitionId, TopicId, TopicPartition};
use kbr::engine::mapping::{Mapping, MappingBuilder};
use kbr::engine::offsets::{
    self, Error, Moved, Options, Plan, Reason, Reconciled, Source, SourcePartition, SourceTopic,
    Why,
};
use kbr::kafka::{
    Class, Client, CommitWanted, ConnectOptions, CoordinatorKind, NewTopic, ProducePartition,
    TransactionOutcome,
};
use kbr::record::{ProducerStamp, SplitBatch};
use kbr::sandbox::{Action, Sandbox, SandboxOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const INIT_PRODUCER_ID: i16 = 22;
const END_TXN: i16 = 26;
const TXN_OFFSET_COMMIT: i16 = 28;

async fn connect(bootstrap: &[String]) -> Client {
    Client::connect(ConnectOptions::new(bootstrap.to_vec()))
        .await
        .unwrap()
}

async fn sandbox() -> (Sandbox, Client) {
    let sandbox = Sandbox::start(SandboxOptions::named(unique("offsets")))
        .await
        .unwrap();
    let client = connect(&sandbox.bootstrap()).await;
    (sandbox, client)
}

/// A target topic that holds 40 records in each of its partitions.
async fn filled_topic(client: &Client, partitions: i32) -> String {
    let topic = unique("orders_dr");
    let new = NewTopic {
        name: topic.clone(),
        partitions,
        replication_factor: 1,
        // The records are of 2023: a real broker would remove them within a second.
        configs: BTreeMap::from([("retention.ms".to_string(), "-1".to_string())]),
    };
    for (_, created) in client.create_topics(&[new], false).await.unwrap() {
        created.unwrap();
    }
    for partition in 0..partitions {
        produce(client, TopicPartition::new(topic.clone(), partition)).await;
    }
    topic
}

/// Writes 40 records; a leader that was just elected may not know of it yet.
async fn produce(client: &Client, partition: TopicPartition) {
    let batch = batch_of(40, 1_700_000_000_000, ProducerStamp::NONE);
    let batch = SplitBatch::new(batch.into()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let leader = client.leader(&partition).await.unwrap();
        let part = ProducePartition {
            topic: partition.topic.clone(),
            partition: partition.partition,
            batch: batch.clone(),
        };
        let produced = client
            .produce(leader, vec![part], Duration::from_secs(10))
            .await
            .unwrap();
        let code = produced[0].error;
        if code.0 == 0 {
            return;
        }
        assert!(
            code.class() == Class::RefreshMetadata && Instant::now() < deadline,
            "{partition}: {code}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// 40 of the 50 source records from 100 on were restored, to 0 and on: 110–119 were filtered out.
fn mapping() -> Mapping {
    let mut builder = MappingBuilder::new(Offset(0));
    builder.push_run(Offset(100), 10, Offset(0)).unwrap();
    builder.push_run(Offset(120), 30, Offset(10)).unwrap();
    builder.finish(Offset(150)).unwrap()
}

fn source(target_topic: &str, partitions: i32, groups: &[(&str, &[i64])]) -> Source {
    Source {
        groups: groups
            .iter()
            .map(|(group, committed)| GroupEntry {
                group: group.to_string(),
                state: "Empty".into(),
                protocol_type: "consumer".into(),
                kind: "classic".into(),
                offsets: (0..)
                    .zip(committed.iter())
                    .map(|(partition, offset)| GroupOffset {
                        topic: "orders".into(),
                        topic_id: None,
                        partition: PartitionId(partition),
                        offset: Offset(*offset),
                        leader_epoch: Some(7),
                        metadata: format!("from {group}"),
                    })
                    .collect(),
            })
            .collect(),
        topics: vec![SourceTopic {
            topic: "orders".into(),
            topic_id: TopicId::nil(),
            target_topic: target_topic.into(),
            by_key: false,
            left_out: Default::default(),
            partitions: (0..partitions)
                .map(|partition| SourcePartition {
                    partition: PartitionId(partition),
                    target_partition: PartitionId(partition),
                    log_start: Offset(100),
                    to: Offset(150),
                    mapping: Some(mapping()),
                })
                .collect(),
        }],
        ..Source::default()
    }
}

async fn planned(source: &Source, client: &Client) -> Plan {
    offsets::plan(source, client, &Options::default())
        .await
        .unwrap()
}

async fn commit(client: &Client, group: &str, topic: &str, partition: i32, offset: i64) {
    let wanted = BTreeMap::from([(
        TopicPartition::new(topic, partition),
        CommitWanted {
            offset: Offset(offset),
            metadata: "old".into(),
        },
    )]);
    for code in client
        .commit_offsets(group, &wanted)
        .await
        .unwrap()
        .values()
    {
        assert_eq!(code.0, 0);
    }
}

/// Offset, leader epoch and metadata per partition.
async fn committed(client: &Client, group: &str) -> Vec<(i32, i64, i32, String)> {
    let names = [group.to_string()];
    let mut groups = client.committed_offsets(&names, true).await.unwrap();
    groups
        .remove(group)
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|(tp, found)| {
            (
                tp.partition.0,
                found.offset.0,
                found.leader_epoch,
                found.metadata,
            )
        })
        .collect()
}

async fn all_promises(client: &Client) {
    groups_move_in_one_transaction_with_metadata_and_without_epoch(client).await;
    a_commit_after_the_plan_is_drift(client).await;
    an_offset_outside_the_log_is_refused(client).await;
    an_active_group_is_refused_on_topics_it_reads_only(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_on_the_sandbox() {
    let (sandbox, client) = sandbox().await;
    all_promises(&client).await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_on_kafka_4_3_0() {
    let broker = RealKafka::running("4.3.0");
    assert_eq!(broker.version, "4.3.0");
    all_promises(&connect(std::slice::from_ref(&broker.bootstrap)).await).await;
}

async fn groups_move_in_one_transaction_with_metadata_and_without_epoch(client: &Client) {
    let topic = filled_topic(client, 3).await;
    let (first, second) = (unique("checkout"), unique("audit"));
    commit(client, &second, &topic, 0, 33).await;
    let source = source(
        &topic,
        3,
        &[(&first, &[105, 112, 150]), (&second, &[100, 149])],
    );
    let plan = planned(&source, client).await;
    let rows: Vec<_> = plan
        .rows
        .iter()
        .map(|row| {
            (
                row.group == first,
                row.partition.0,
                row.from.map(|offset| offset.0),
                row.target.as_ref().unwrap().0,
                row.why.clone(),
                row.lag_after.unwrap(),
            )
        })
        .collect();
    let mut expected = vec![
        (true, 0, None, 5, Why::SameRecord, 35),
        (
            true,
            1,
            None,
            10,
            Why::NextRestored {
                source: Offset(120),
            },
            30,
        ),
        (true, 2, None, 40, Why::AfterLast, 0),
    ];
    // Rows are sorted by group, and "audit…" comes before "checkout…".
    expected.splice(
        0..0,
        [
            (false, 0, Some(33), 0, Why::SameRecord, 40),
            (false, 1, None, 39, Why::SameRecord, 1),
        ],
    );
    assert_eq!(rows, expected);
    assert_eq!(
        offsets::reconcile(&plan, client).await.unwrap(),
        Reconciled::NotDone
    );

    offsets::check(&plan, client).await.unwrap();
    let report = offsets::apply(&plan, client, &unique("kbr")).await.unwrap();

    assert!(matches!(report.how, Moved::Transaction { .. }));
    assert_eq!(report.groups.len(), 2);
    let metadata = format!("from {first}");
    assert_eq!(
        committed(client, &first).await,
        [
            (0, 5, -1, metadata.clone()),
            (1, 10, -1, metadata.clone()),
            (2, 40, -1, metadata),
        ]
    );
    let metadata = format!("from {second}");
    assert_eq!(
        committed(client, &second).await,
        [(0, 0, -1, metadata.clone()), (1, 39, -1, metadata)]
    );
    assert_eq!(
        offsets::reconcile(&plan, client).await.unwrap(),
        Reconciled::Done
    );
    // The same plan a second time starts from offsets that are no longer there.
    assert!(matches!(
        offsets::check(&plan, client).await,
        Err(Error::Drift { rows }) if rows.len() == 5
    ));
    // Planned anew there is nothing left to do.
    let again = planned(&source, client).await;
    assert_eq!(again.changes(), 0);
    let report = offsets::apply(&again, client, &unique("kbr"))
        .await
        .unwrap();
    assert_eq!((report.how, report.unchanged), (Moved::NothingToDo, 5));
}

async fn a_commit_after_the_plan_is_drift(client: &Client) {
    let topic = filled_topic(client, 1).await;
    let group = unique("g");
    commit(client, &group, &topic, 0, 3).await;
    let plan = planned(&source(&topic, 1, &[(&group, &[105])]), client).await;
    commit(client, &group, &topic, 0, 4).await;
    let refused = offsets::check(&plan, client).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "committed offsets are not as planned: group {group} on {topic}-0 was at 3 and is at 4; no offset was moved"
        )
    );
}

async fn an_offset_outside_the_log_is_refused(client: &Client) {
    let topic = filled_topic(client, 1).await;
    let group = unique("g");
    let plan = planned(&source(&topic, 1, &[(&group, &[105])]), client).await;
    let tp = TopicPartition::new(topic.clone(), 0);
    for (_, deleted) in client.delete_records(&[(tp, Offset(20))]).await.unwrap() {
        deleted.unwrap();
    }
    let refused = offsets::check(&plan, client).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "planned offsets lie outside the target's log: group {group} to 5 on {topic}-0, which holds 20 to 40; no offset was moved"
        )
    );
    let missing = planned(&source("not-there", 1, &[(&group, &[105])]), client).await;
    assert!(matches!(
        offsets::check(&missing, client).await,
        Err(Error::NoTarget { partition, .. }) if partition.topic == "not-there"
    ));
    assert!(committed(client, &group).await.is_empty());
}

async fn an_active_group_is_refused_on_topics_it_reads_only(client: &Client) {
    let topic = filled_topic(client, 1).await;
    let other = filled_topic(client, 1).await;
    let group = unique("active");
    let plan = planned(&source(&topic, 1, &[(&group, &[105])]), client).await;
    let elsewhere = planned(&source(&other, 1, &[(&group, &[105])]), client).await;
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, &group)
        .await
        .unwrap();
    join_classic_group(client, coordinator, &group, &topic, &[0]).await;

    let refused = offsets::check(&plan, client).await.unwrap_err();
    let Error::GroupsActive { groups } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(groups[0].members.len(), 1);
    assert!(
        groups[0]
            .members_text()
            .ends_with(&format!("(127.0.0.1), subscribed to {topic}")),
        "{}",
        groups[0].members_text()
    );
    // Planned while it is active, its rows are blocked from the start.
    let blocked = planned(&source(&topic, 1, &[(&group, &[105])]), client).await;
    assert_eq!(blocked.blocks()[0].reason, Reason::GroupActive);
    assert!(matches!(
        offsets::apply(&blocked, client, &unique("kbr")).await,
        Err(Error::Blocked { count: 1 })
    ));
    assert!(committed(client, &group).await.is_empty());
    // A topic it does not read can be moved while it runs.
    offsets::check(&elsewhere, client).await.unwrap();
    offsets::apply(&elsewhere, client, &unique("kbr"))
        .await
        .unwrap();
    assert_eq!(committed(client, &group).await[0].1, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_transactions_groups_move_one_by_one_and_the_report_says_so() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 2).await;
    let plan = planned(
        &source(&topic, 2, &[("a", &[105, 110]), ("b", &[150])]),
        &client,
    )
    .await;
    sandbox.intercept(|seen| match seen.api_key {
        INIT_PRODUCER_ID => Action::Error(53),
        _ => Action::Pass,
    });
    let report = offsets::apply(&plan, &client, "kbr-fallback")
        .await
        .unwrap();
    let Moved::PerGroup { because } = &report.how else {
        panic!("{:?}", report.how);
    };
    assert!(
        because.contains("TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
        "{because}"
    );
    assert_eq!(committed(&client, "a").await[0].1, 5);
    assert_eq!(committed(&client, "b").await[0].1, 40);
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_fallback_a_group_that_fails_is_named_and_the_others_are_told_to_have_moved() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 1).await;
    let other = filled_topic(&client, 1).await;
    let plan = planned(&source(&topic, 1, &[("a", &[105]), ("b", &[106])]), &client).await;
    // Active on another topic: the transaction would take it, the plain commit does not.
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, "b")
        .await
        .unwrap();
    join_classic_group(&client, coordinator, "b", &other, &[0]).await;
    sandbox.intercept(|seen| match seen.api_key {
        INIT_PRODUCER_ID => Action::Error(53),
        _ => Action::Pass,
    });
    offsets::check(&plan, &client).await.unwrap();
    let failed = offsets::apply(&plan, &client, "kbr-partly")
        .await
        .unwrap_err();
    let Error::PartlyMoved { moved, failed, .. } = &failed else {
        panic!("{failed}");
    };
    assert_eq!(moved, &["a"]);
    assert_eq!(failed[0].group, "b");
    assert!(failed[0].why.contains("the group is active"));
    assert_eq!(
        offsets::reconcile(&plan, &client).await.unwrap(),
        Reconciled::Partial { moved: 1, left: 1 }
    );
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_commit_of_the_transaction_fails_no_group_has_moved() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 1).await;
    commit(&client, "a", &topic, 0, 1).await;
    let plan = planned(&source(&topic, 1, &[("a", &[105]), ("b", &[106])]), &client).await;
    let mut commits = 0;
    sandbox.intercept(move |seen| {
        commits += i32::from(seen.api_key == TXN_OFFSET_COMMIT);
        // The second group's, refused for good: GROUP_AUTHORIZATION_FAILED.
        match seen.api_key {
            TXN_OFFSET_COMMIT if commits == 2 => Action::Error(30),
            _ => Action::Pass,
        }
    });
    let failed = offsets::apply(&plan, &client, "kbr-abort")
        .await
        .unwrap_err();
    let Error::Kafka(kbr::kafka::Error::Transaction { outcome, group, .. }) = &failed else {
        panic!("{failed}");
    };
    assert_eq!(*outcome, TransactionOutcome::Aborted);
    assert_eq!(group.as_deref(), Some("b"));
    assert_eq!(committed(&client, "a").await[0].1, 1);
    assert!(committed(&client, "b").await.is_empty());
    assert_eq!(
        offsets::reconcile(&plan, &client).await.unwrap(),
        Reconciled::NotDone
    );
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_the_commit_of_the_transaction_still_ends_well() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 1).await;
    let plan = planned(&source(&topic, 1, &[("a", &[105])]), &client).await;
    sandbox.intercept(|seen| match (seen.api_key, seen.nth) {
        (END_TXN, 1) => Action::DoThenDrop,
        _ => Action::Pass,
    });
    offsets::apply(&plan, &client, "kbr-lost").await.unwrap();
    assert_eq!(committed(&client, "a").await[0].1, 5);
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_commit_in_between_is_seen_when_reading_back() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 1).await;
    let plan = planned(&source(&topic, 1, &[("a", &[105])]), &client).await;
    offsets::apply(&plan, &client, "kbr-between").await.unwrap();
    sandbox.set_committed("a", &topic, 0, 17, "");
    let differs = offsets::read_back(&plan, &client).await.unwrap_err();
    assert_eq!(
        differs.to_string(),
        format!("1 committed offsets read back differently: group a on {topic}-0 is at 17, not 5")
    );
    assert!(matches!(
        offsets::reconcile(&plan, &client).await.unwrap(),
        Reconciled::Foreign { .. }
    ));
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_groups_on_many_partitions_move_at_once() {
    let (sandbox, client) = sandbox().await;
    let topic = filled_topic(&client, 50).await;
    let names: Vec<String> = (0..100).map(|n| format!("group-{n:03}")).collect();
    let commits = [125i64; 50];
    let groups: Vec<(&str, &[i64])> = names
        .iter()
        .map(|name| (name.as_str(), &commits[..]))
        .collect();
    let plan = planned(&source(&topic, 50, &groups), &client).await;
    assert_eq!(plan.changes(), 5000);
    offsets::check(&plan, &client).await.unwrap();
    let report = offsets::apply(&plan, &client, "kbr-many").await.unwrap();
    assert!(matches!(report.how, Moved::Transaction { .. }));
    assert_eq!(report.groups.len(), 100);
    assert_eq!(committed(&client, "group-099").await.len(), 50);
    sandbox.shutdown().await;
}
