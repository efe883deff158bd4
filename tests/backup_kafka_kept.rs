//! What a backup of real Kafka keeps besides records: configs that are a topic's own and no others, ACLs, quotas, names
//! of users, groups; set with Kafka's own tools.

mod kafka_real_support;

use kafka_real_support::{RealKafka, join_classic_group, join_consumer_group, unique};
use kbr::archive::{Archive, ClusterState};
use kbr::base::{CancellationToken, NoProgress, Offset, PartitionId, TopicPartition};
use kbr::engine::backup::{self, Keep, Options, Report, Run};
use kbr::kafka::{
    AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType, Acls, Client,
    CommitWanted, ConnectOptions, CoordinatorKind, NewTopic,
};
use kbr::store::Store;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const AUTHORIZER: &[&str] = &[
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
];

async fn backup(client: &Client, store: &Store, name: &str) -> Report {
    let options = Options {
        acls: Keep::Required,
        quotas: Keep::Required,
        ..Options::default()
    };
    let plan = backup::plan(client, store, &options).await.unwrap();
    let run = Run {
        name: name.to_string(),
        progress: NoProgress::handle(),
        cancel: CancellationToken::new(),
    };
    backup::apply(&plan, client, store, &run).await.unwrap()
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let until = Instant::now() + Duration::from_secs(20);
    while !ask().await {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_4_3_0_has_besides_records_is_kept() {
    what_the_cluster_has_is_kept(RealKafka::start_with("4.3.0", 1, AUTHORIZER)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_3_9_2_has_besides_records_is_kept() {
    what_the_cluster_has_is_kept(RealKafka::start_with("3.9.2", 1, AUTHORIZER)).await;
}

async fn what_the_cluster_has_is_kept(kafka: RealKafka) {
    let bootstrap = kafka.bootstrap.clone();
    let client = Client::connect(ConnectOptions::new([bootstrap.as_str()]))
        .await
        .unwrap();
    let topic = NewTopic {
        name: "orders".into(),
        partitions: 3,
        replication_factor: 1,
        configs: BTreeMap::from([
            ("cleanup.policy".to_string(), "compact,delete".to_string()),
            // The same as the broker's default, and still the topic's own.
            ("compression.type".to_string(), "producer".to_string()),
        ]),
    };
    let created = client.create_topics(&[topic], false).await.unwrap();
    created[0].1.as_ref().unwrap();
    let configs = |arguments: &[&str]| {
        let mut all = vec!["--alter"];
        all.extend(arguments);
        kafka.tool("kafka-configs", &all);
    };
    // Neither the brokers' common setting nor one broker's own is a topic's.
    configs(&[
        "--entity-type",
        "brokers",
        "--entity-default",
        "--add-config",
        "log.retention.ms=77777777",
    ]);
    configs(&[
        "--entity-type",
        "brokers",
        "--entity-name",
        "1",
        "--add-config",
        "log.segment.bytes=88888888",
    ]);
    configs(&[
        "--entity-type",
        "users",
        "--entity-name",
        "bob",
        "--add-config",
        "SCRAM-SHA-256=[iterations=4096,password=never-to-be-kept]",
    ]);
    configs(&[
        "--entity-type",
        "users",
        "--entity-name",
        "alice",
        "--entity-type",
        "clients",
        "--entity-default",
        "--add-config",
        "consumer_byte_rate=2048,request_percentage=12.5",
    ]);
    let acl = AclBinding {
        resource_type: AclResourceType::GROUP,
        resource_name: "checkout".into(),
        pattern_type: AclPatternType::PREFIXED,
        principal: "User:alice".into(),
        host: "10.0.0.7".into(),
        operation: AclOperation::READ,
        permission: AclPermission::DENY,
    };
    let made = client
        .create_acls(std::slice::from_ref(&acl))
        .await
        .unwrap();
    made[0].as_ref().unwrap();
    let group = unique("checkout");
    let at = TopicPartition::new("orders", PartitionId(1));
    let wanted = BTreeMap::from([(
        at.clone(),
        CommitWanted {
            offset: Offset(0),
            metadata: "mark \u{e9}".into(),
        },
    )]);
    let committed = client.commit_offsets(&group, &wanted).await.unwrap();
    assert!(committed.values().all(|code| code.is_ok()), "{committed:?}");
    eventually("the broker shows what was set", || async {
        let acls = client.acls().await.unwrap();
        let users = client.scram_users().await.unwrap();
        let quotas = client.client_quotas().await.unwrap();
        acls == Acls::Bindings(vec![acl.clone()]) && users == ["bob"] && quotas.len() == 1
    })
    .await;

    // Groups that are being read by somebody, in both protocols.
    let classic = unique("classic");
    let code = client.commit_offsets(&classic, &wanted).await.unwrap();
    assert!(code.values().all(|code| code.is_ok()), "{code:?}");
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, &classic)
        .await
        .unwrap();
    join_classic_group(&client, coordinator, &classic, "orders", &[0, 1, 2]).await;
    let modern = unique("modern");
    let is_modern = match kafka.version {
        "4.3.0" => {
            let coordinator = client
                .find_coordinator(CoordinatorKind::Group, &modern)
                .await
                .unwrap();
            join_consumer_group(&client, coordinator, &modern, "orders").await;
            true
        }
        _ => false,
    };

    let store = Store::open_text(&format!("memory:{}", unique("kept")))
        .await
        .unwrap();
    let report = backup(&client, &store, "run-1").await;
    assert_eq!(report.incomplete, Vec::<String>::new());
    let snapshot = Archive::open(store.clone())
        .await
        .unwrap()
        .latest()
        .await
        .unwrap();
    let orders = snapshot.topic("orders").unwrap();
    assert_eq!(
        orders.configs,
        BTreeMap::from([
            ("cleanup.policy".to_string(), "compact,delete".to_string()),
            ("compression.type".to_string(), "producer".to_string()),
        ])
    );
    assert_eq!((orders.partition_count, orders.replication_factor), (3, 1));
    assert!(!orders.id.is_nil());
    let state: ClusterState = snapshot.cluster().await.unwrap().unwrap();
    assert_eq!(state.authorizer, Some(true));
    assert_eq!(state.acls, Some(vec![backup::acl_entry(&acl)]));
    assert_eq!(state.scram_users, Some(vec!["bob".to_string()]));
    let quotas = state.quotas.clone().unwrap();
    assert_eq!(
        quotas[0].entity,
        BTreeMap::from([
            ("client-id".to_string(), None),
            ("user".to_string(), Some("alice".to_string())),
        ])
    );
    assert_eq!(
        quotas[0].values,
        BTreeMap::from([
            ("consumer_byte_rate".to_string(), 2048.0),
            ("request_percentage".to_string(), 12.5),
        ])
    );
    assert_eq!(state.missing, BTreeMap::new());
    let groups = snapshot.groups().await.unwrap().groups;
    let kept = groups.iter().find(|entry| entry.group == group).unwrap();
    assert_eq!(
        (kept.state.as_str(), kept.kind.as_str()),
        ("Empty", "classic")
    );
    assert_eq!(kept.offsets[0].metadata, "mark \u{e9}");
    assert_eq!(kept.offsets[0].topic_id, Some(orders.id));
    let active = |group: &str| {
        let kept = groups.iter().find(|entry| entry.group == group);
        let kept = kept.unwrap_or_else(|| panic!("{group} is not kept"));
        (kept.state.clone(), kept.kind.clone(), kept.offsets.len())
    };
    assert_eq!(active(&classic), ("Stable".into(), "classic".into(), 1));
    if is_modern {
        let (state, kind, offsets) = active(&modern);
        assert_eq!((kind.as_str(), offsets), ("consumer", 0));
        // It takes a heartbeat more until it is stable.
        assert!(state == "Stable" || state == "Reconciling", "{state}");
    }

    // Nothing changed: the second generation is one object more.
    let before = store.list("").await.unwrap().len();
    let report = backup(&client, &store, "run-2").await;
    assert_eq!((report.generation, report.records), (2, 0));
    assert_eq!(store.list("").await.unwrap().len(), before + 1);
    for (path, _) in store.list("").await.unwrap() {
        let bytes = store.get(&path).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("never-to-be-kept"), "{path}");
    }
}
