//! What kbr does to groups, on real Kafka: groups with members of every protocol; offsets and groups deleted, copied and
//! taken back; share and streams groups.

mod groups_kafka_support;
mod support;

use groups_kafka_support::{LIMIT, at, commit, committed, connect, frame, topic};
use kafka_protocol::messages::{GroupId, ShareGroupHeartbeatRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kbr::kafka::{Client, CoordinatorKind, Route};
use std::time::{Duration, Instant};
use support::{Folder, RealKafka, unique};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Plans, does it with the digest of the plan, and tells the run's id.
#[track_caller]
fn done(folder: &Folder, words: &[&str]) -> String {
    let digest = folder.kbr(words).expect(0).digest();
    let all = [words, &["--execute", "--confirm", &digest]].concat();
    let ran = folder.kbr(&all).expect(0);
    let run = ran.stdout.split("report: kbr show ").nth(1);
    let run = run.and_then(|rest| rest.split_whitespace().next());
    run.unwrap_or_else(|| panic!("{}", ran.stdout)).to_string()
}

#[track_caller]
fn ran(folder: &Folder, verb: &str) -> String {
    folder.write(
        "groups.rhai",
        &format!("let dr = cluster(\"dr\");\n{verb}\n"),
    );
    tokio::task::block_in_place(|| done(folder, &["run", "groups.rhai"]))
}

#[track_caller]
fn planned(folder: &Folder, verb: &str) -> String {
    folder.write(
        "groups.rhai",
        &format!("let dr = cluster(\"dr\");\n{verb}\n"),
    );
    tokio::task::block_in_place(|| folder.kbr(&["run", "groups.rhai"]).expect(0).text())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_changed_and_taken_back_on_kafka_4_3_0() {
    groups_are_changed_and_taken_back("4.3.0", &["classic", "consumer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_changed_and_taken_back_on_kafka_3_9_2() {
    groups_are_changed_and_taken_back("3.9.2", &["classic"]).await;
}

async fn groups_are_changed_and_taken_back(version: &'static str, protocols: &[&str]) {
    let kafka = tokio::task::block_in_place(|| RealKafka::running(version));
    let client = connect(&kafka.bootstrap).await;
    let (orders, other) = (topic(&kafka, &client).await, topic(&kafka, &client).await);
    let folder = Folder::new();
    folder.clusters(&[("dr", &kafka.bootstrap)]);
    let audit = unique("audit");
    commit(&client, &audit, &orders, &[(0, 4, "by hand"), (1, 6, "")]).await;
    let before = vec![at(0, 4, "by hand"), at(1, 6, "")];
    assert_eq!(committed(&client, &audit).await, before);

    // Moved and taken back, metadata with it.
    let run = ran(
        &folder,
        &format!("offset_plan(dr).groups(\"{audit}\").strategy(\"earliest\").reset();"),
    );
    assert_eq!(
        committed(&client, &audit).await,
        [at(0, 0, "by hand"), at(1, 0, "")]
    );
    let back = tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
    assert_eq!(committed(&client, &audit).await, before);
    assert_ne!(run, back);

    // A copy is made, and goes when it is taken back.
    let copy = unique("copy");
    let plan = planned(
        &folder,
        &format!("dr.copy_group(\"{audit}\", \"{copy}\").reset();"),
    );
    assert!(plan.contains("is made by this commit"), "{plan}");
    let run = ran(
        &folder,
        &format!("dr.copy_group(\"{audit}\", \"{copy}\").reset();"),
    );
    assert_eq!(committed(&client, &copy).await, before);
    tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
    assert_eq!(committed(&client, &copy).await, []);

    // Offsets and groups go and come back.
    let run = ran(
        &folder,
        &format!("offset_plan(dr).groups(\"{audit}\").partitions(\"*\", 1).delete_offsets();"),
    );
    assert_eq!(committed(&client, &audit).await, [at(0, 4, "by hand")]);
    tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
    assert_eq!(committed(&client, &audit).await, before);
    let run = ran(&folder, &format!("dr.delete_groups(\"{audit}\");"));
    assert_eq!(committed(&client, &audit).await, []);
    tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
    assert_eq!(committed(&client, &audit).await, before);

    for protocol in protocols {
        let group = unique("active");
        commit(&client, &group, &orders, &[(0, 3, ""), (1, 3, "")]).await;
        commit(&client, &group, &other, &[(0, 7, "kept")]).await;
        let words = [
            "--group",
            &group,
            "--topic",
            &orders,
            "--protocol",
            protocol,
        ];
        let member =
            tokio::task::block_in_place(|| kafka.helper_until_dropped("joined", "join", &words));
        // Where its members read it is refused, with their names; elsewhere it moves.
        let move_on = |topic: &str, more: &str| {
            format!(
                "offset_plan(dr).groups(\"{group}\").topics(\"{topic}\").partitions(\"*\", 0).strategy(\"earliest\"){more}.reset();"
            )
        };
        let plan = planned(&folder, &move_on(&orders, ""));
        assert!(
            plan.contains(&format!("group {group} is active")),
            "{protocol}: {plan}"
        );
        assert!(plan.contains("127.0.0.1"), "{protocol}: {plan}");
        for verb in [
            format!("dr.delete_groups(\"{group}\");"),
            format!("offset_plan(dr).groups(\"{group}\").topics(\"{orders}\").delete_offsets();"),
        ] {
            let plan = planned(&folder, &verb);
            assert!(
                plan.contains(&format!("group {group} is active")),
                "{protocol}: {plan}"
            );
        }
        ran(&folder, &move_on(&other, ""));
        let of_other: Vec<_> = committed_on(&client, &group, &other).await;
        assert_eq!(of_other, [at(0, 0, "kept")], "{protocol}");
        // What its members do not read may be deleted as well.
        ran(
            &folder,
            &format!("offset_plan(dr).groups(\"{group}\").topics(\"{other}\").delete_offsets();"),
        );
        assert_eq!(
            committed_on(&client, &group, &other).await,
            [],
            "{protocol}"
        );
        // By force it moves under its members.
        let plan = planned(&folder, &move_on(&orders, ".force(true)"));
        assert!(plan.contains("asks first: moves"), "{protocol}: {plan}");
        ran(&folder, &move_on(&orders, ".force(true)"));
        tokio::task::block_in_place(|| drop(member));
    }
}

async fn committed_on(client: &Client, group: &str, topic: &str) -> Vec<(i32, i64, String, i32)> {
    let groups = [group.to_string()];
    let mut found = client.committed_offsets(&groups, true).await.unwrap();
    let found = found.remove(group).unwrap().unwrap().into_iter();
    found
        .filter(|(at, _)| at.topic == topic)
        .map(|(at, one)| (at.partition.0, one.offset.0, one.metadata, one.leader_epoch))
        .collect()
}

/// What a cluster of one broker needs for share groups.
const SHARE: &[&str] = &[
    "share.coordinator.state.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
];

/// A member of a share group comes (epoch 0), stays, or leaves (epoch −1).
async fn share_member(client: &Client, group: &str, topic: &str, id: &str, epoch: i32) {
    let text = |text: &str| StrBytes::from_string(text.to_string());
    let request = ShareGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(id))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(Some(vec![TopicName(text(topic))]));
    let until = Instant::now() + LIMIT;
    loop {
        let coordinator = client.find_coordinator(CoordinatorKind::Group, group).await;
        let to = Route::Broker(coordinator.unwrap());
        let answer = client.call(to, request.clone()).await.unwrap();
        // A coordinator that is new has to load first.
        if (14..=16).contains(&answer.error_code) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        assert_eq!(answer.error_code, 0, "{group}: {:?}", answer.error_message);
        return;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn share_groups_are_told_where_to_start_on_kafka_4_3_0() {
    let kafka = tokio::task::block_in_place(|| RealKafka::start_with("4.3.0", 1, SHARE));
    let client = connect(&kafka.bootstrap).await;
    let orders = topic(&kafka, &client).await;
    let folder = Folder::new();
    folder.clusters(&[("dr", &kafka.bootstrap)]);
    share_member(&client, "share", &orders, "member-1", 0).await;
    commit(&client, "plain", &orders, &[(0, 3, "")]).await;
    let verb = |groups: &str, to: i64| {
        format!(
            "offset_plan(dr).groups({groups}).topics(\"{orders}\").strategy(\"to-offset\", {to}).reset();"
        )
    };
    // Nobody may be in it, and force changes nothing about that.
    let plan = planned(&folder, &verb("\"share\"", 4));
    assert!(plan.contains("group share is active: kbr"), "{plan}");
    let forced = verb("\"share\"", 4).replace(".reset", ".force(true).reset");
    let plan = planned(&folder, &forced);
    assert!(plan.contains("cannot be executed"), "{plan}");
    let plan = planned(&folder, "dr.delete_groups(\"share\");");
    assert!(plan.contains("group share is active: kbr"), "{plan}");
    share_member(&client, "share", &orders, "member-1", -1).await;

    let starts = async || {
        let mut found = client.share_offsets(&["share".to_string()]).await.unwrap();
        let found = found.remove("share").unwrap().unwrap().into_iter();
        found
            .map(|(at, one)| (at.partition.0, one.offset.0))
            .collect::<Vec<_>>()
    };
    // From nowhere to somewhere, and back: the broker takes all of a topic or nothing.
    let first = ran(&folder, &verb("\"share\"", 4));
    assert_eq!(starts().await, [(0, 4), (1, 4)]);
    // It is not told as a group without a lag. Ten records in each of its two partitions.
    let told = tokio::task::block_in_place(|| {
        let lag = folder.kbr(&["eval", "cluster(\"dr\").lag(\"share\")"]);
        let group = folder.kbr(&["group", "dr", "share"]);
        let lags = folder.kbr(&["lag", "dr", "share"]);
        (
            lag.expect(0).stdout,
            group.expect(0).stdout,
            lags.expect(0).stdout,
        )
    });
    assert_eq!(told.0, "12\n");
    assert!(told.1.contains("4      0   10    6"), "{}", told.1);
    assert!(told.2.contains("share  Empty"), "{}", told.2);
    tokio::task::block_in_place(|| done(&folder, &["undo", &first]));
    assert_eq!(starts().await, []);
    let half = verb("\"share\"", 4).replace(".strategy", ".partitions(\"*\", 0).strategy");
    let first = ran(&folder, &half);
    assert_eq!(starts().await, [(0, 4)]);
    let other = ran(&folder, &half.replace("\"*\", 0", "\"*\", 1"));
    assert_eq!(starts().await, [(0, 4), (1, 4)]);
    let plan = tokio::task::block_in_place(|| folder.kbr(&["undo", &first]).text());
    assert!(
        plan.contains("a share group loses all of them or none"),
        "{plan}"
    );
    assert!(!other.is_empty());
    // Beside a group that commits: a part of its own, behind the transaction.
    let both = verb("\"share\", \"plain\"", 7);
    let plan = planned(&folder, &both);
    assert!(plan.contains("transaction 1 of 2"), "{plan}");
    assert!(plan.contains("each by itself"), "{plan}");
    let second = ran(&folder, &both);
    assert_eq!(starts().await, [(0, 7), (1, 7)]);
    assert_eq!(
        committed(&client, "plain").await,
        [at(0, 7, ""), at(1, 7, "")]
    );
    // As Kafka's own tool sees it; and back.
    let class = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
    let told = tokio::task::block_in_place(|| {
        kafka.tool(class, &["--describe", "--group", "share", "--offsets"])
    });
    assert!(
        told.split_whitespace().filter(|word| *word == "7").count() >= 2,
        "{told}"
    );
    tokio::task::block_in_place(|| done(&folder, &["undo", &second]));
    assert_eq!(starts().await, [(0, 4), (1, 4)]);
    assert_eq!(committed(&client, "plain").await, [at(0, 3, "")]);
    // Its places go by whole topics, and it goes as a whole; both come back, as what it was.
    let gone = format!("offset_plan(dr).groups(\"share\").topics(\"{orders}\").delete_offsets();");
    let half = gone.replace(".delete", ".partitions(\"*\", 0).delete");
    let plan = planned(&folder, &half);
    assert!(
        plan.contains("which loses where it starts") && plan.contains("cannot be executed"),
        "{plan}"
    );
    let kind = async || {
        let listed = client.list_groups().await.unwrap().into_iter();
        let mut listed = listed.filter(|listed| listed.group == "share");
        listed.next().map(|listed| listed.kind.to_lowercase())
    };
    for (verb, left) in [
        (&gone[..], Some("share")),
        ("dr.delete_groups(\"share\");", None),
    ] {
        let run = ran(&folder, verb);
        assert_eq!(starts().await, [], "{verb}");
        assert_eq!(kind().await.as_deref(), left, "{verb}");
        tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
        assert_eq!(starts().await, [(0, 4), (1, 4)], "{verb}");
        assert_eq!(kind().await.as_deref(), Some("share"), "{verb}");
    }
    // What lies outside of the log is refused as ever.
    let plan = planned(&folder, &verb("\"share\"", 11));
    assert!(plan.contains("11 lies beyond the log's end 10"), "{plan}");
}

/// A member of a streams group (KIP-1071), which the protocol's crate does not have: it comes with epoch 0 and a topology
/// that reads `topic`, and leaves with −1. The answer's error code.
async fn streams_member(broker: &str, group: &str, topic: &str, id: &str, epoch: i32) -> i16 {
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        body.push(u8::try_from(text.len()).unwrap() + 1);
        body.extend(text.as_bytes());
    };
    text(&mut body, group);
    text(&mut body, id);
    body.extend(epoch.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    // Neither instance nor rack.
    body.extend([0, 0]);
    body.extend(30_000_i32.to_be_bytes());
    if epoch == 0 {
        body.push(1);
        body.extend(0_i32.to_be_bytes());
        body.push(2);
        text(&mut body, "0");
        body.push(2);
        text(&mut body, topic);
        // No pattern, changelog, sink, repartition or copartition; end of the subtopology, end of the topology.
        body.extend([1, 1, 1, 1, 1, 0, 0]);
        // Active, standby and warm-up tasks: none.
        body.extend([1, 1, 1]);
        text(&mut body, "process-1");
        // No endpoint; neither tags nor offsets; no shutdown.
        body.extend([0xff, 1, 0, 0, 0]);
    } else {
        body.extend([0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 0]);
    }
    body.push(0);
    let mut request = Vec::new();
    request.extend(88_i16.to_be_bytes());
    request.extend(0_i16.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend(4_i16.to_be_bytes());
    request.extend(b"test");
    request.push(0);
    request.extend(body);
    let mut broker = TcpStream::connect(broker).await.unwrap();
    let size = i32::try_from(request.len()).unwrap();
    broker.write_all(&size.to_be_bytes()).await.unwrap();
    broker.write_all(&request).await.unwrap();
    let answer = frame(&mut broker).await.expect("the broker answers");
    // Size, correlation, tags, throttle time, then the code.
    i16::from_be_bytes([answer[13], answer[14]])
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_groups_move_like_others_and_only_while_nobody_is_in_them_on_kafka_4_3_0() {
    let kafka = tokio::task::block_in_place(|| RealKafka::running("4.3.0"));
    let client = connect(&kafka.bootstrap).await;
    let orders = topic(&kafka, &client).await;
    let folder = Folder::new();
    folder.clusters(&[("dr", &kafka.bootstrap)]);
    let group = unique("streams");
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, &group)
        .await;
    coordinator.unwrap();
    // A coordinator that is new takes a moment.
    let began = Instant::now();
    let code = loop {
        let code = streams_member(&kafka.bootstrap, &group, &orders, "member-1", 0).await;
        if !matches!(code, 14..=16) || began.elapsed() > Duration::from_secs(20) {
            break code;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(code, 0);
    let verb = format!(
        "offset_plan(dr).groups(\"{group}\").topics(\"{orders}\").strategy(\"to-offset\", 4).reset();"
    );
    let plan = planned(&folder, &verb);
    assert!(plan.contains(&format!("group {group} is active")), "{plan}");
    let delete = format!("dr.delete_groups(\"{group}\");");
    let plan = planned(&folder, &delete);
    assert!(plan.contains(&format!("group {group} is active")), "{plan}");
    let code = streams_member(&kafka.bootstrap, &group, &orders, "member-1", -1).await;
    assert_eq!(code, 0);
    let listed = client.list_groups().await.unwrap();
    let listed = listed.iter().find(|listed| listed.group == group).unwrap();
    assert_eq!(
        (listed.kind.to_lowercase().as_str(), listed.state.as_str()),
        ("streams", "Empty")
    );
    let run = ran(&folder, &verb);
    assert_eq!(
        committed(&client, &group).await,
        [at(0, 4, ""), at(1, 4, "")]
    );
    let shown = tokio::task::block_in_place(|| folder.kbr(&["show", &run]).expect(0).stdout);
    assert!(!shown.contains("without a transaction"), "{shown}");
    tokio::task::block_in_place(|| done(&folder, &["undo", &run]));
    assert_eq!(committed(&client, &group).await, []);
}
