//! What a test does to a sandbox: intercepted requests, brokers that stop, logs changed behind a client's back.

use kbr::base::{Offset, PartitionId, TopicPartition};
use kbr::kafka::{
    Client, ConnectOptions, Error, FetchPartition, FetchWanted, FetchedPartition, Isolation,
    ProducePartition, Produced, TopicsWanted,
};
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp, SplitBatch, batches};
use kbr::sandbox::{Action, Sandbox, SandboxOptions, Seen};
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

async fn start(brokers: usize) -> (Sandbox, Client) {
    let options = SandboxOptions {
        brokers,
        ..SandboxOptions::named("faults")
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let client = Client::connect(ConnectOptions::new(sandbox.bootstrap()))
        .await
        .unwrap();
    (sandbox, client)
}

fn batch(count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    for number in 0..count {
        let value = format!("value {number}");
        builder
            .push(
                1_700_000_000_000 + number,
                Some(b"key"),
                Some(value.as_bytes()),
                Headers::empty(),
            )
            .unwrap();
    }
    builder.finish(ProducerStamp::NONE).unwrap()
}

async fn produce(client: &Client, topic: &str, batch: Vec<u8>) -> Result<Produced, Error> {
    let leader = client.leader(&TopicPartition::new(topic, 0)).await?;
    let part = ProducePartition {
        topic: topic.to_string(),
        partition: PartitionId(0),
        batch: SplitBatch::new(batch.into()).unwrap(),
    };
    let produced = client.produce(leader, vec![part], Duration::from_secs(5));
    Ok(produced.await?.remove(0))
}

async fn fetch(client: &Client, topic: &str, offset: i64) -> Result<FetchedPartition, Error> {
    let wanted = [topic.to_string()];
    let topics = client.topics(TopicsWanted::Named(&wanted)).await?;
    let leader = topics[0].partitions[0].leader.unwrap();
    let wanted = FetchWanted {
        partitions: vec![FetchPartition {
            topic: topic.to_string(),
            topic_id: topics[0].id,
            partition: PartitionId(0),
            offset: Offset(offset),
            leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: 1 << 20,
        }],
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
    };
    Ok(client.fetch(leader, wanted).await?.remove(0))
}

/// Does `action` to the first request of an API.
fn first(api_key: i16, action: Action) -> impl FnMut(&Seen) -> Action + Send + 'static {
    move |seen| {
        if seen.api_key == api_key && seen.nth == 1 {
            action.clone()
        } else {
            Action::Pass
        }
    }
}

#[tokio::test]
async fn a_dropped_request_is_not_done() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.intercept(first(PRODUCE, Action::Drop));
    let lost = produce(&client, "orders", batch(3)).await;
    assert!(matches!(lost, Err(Error::Disconnected { .. })), "{lost:?}");
    assert_eq!(sandbox.end_offset("orders", 0).unwrap(), Offset(0));
}

#[tokio::test]
async fn what_must_come_after_a_lost_request_goes_over_no_other_connection() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.intercept(first(PRODUCE, Action::Drop));
    let at = TopicPartition::new("orders", 0);
    let leader = client.leader(&at).await.unwrap();
    let part = || ProducePartition {
        topic: at.topic.clone(),
        partition: at.partition,
        batch: SplitBatch::new(batch(3).into()).unwrap(),
    };
    let within = Duration::from_secs(5);
    let start = |over| client.produce_start(leader, vec![part()], within, over);
    let lost = start(None).await.unwrap();
    let line = lost.line();
    lost.answer().await.unwrap_err();
    let after = start(Some(line)).await.map(|_| ());
    assert!(
        matches!(after, Err(Error::Disconnected { .. })),
        "{after:?}"
    );
    assert_eq!(sandbox.request_count(PRODUCE), 1);
    let produced = start(None).await.unwrap().answer().await.unwrap();
    assert_eq!(produced[0].base_offset, Offset(0));
}

#[tokio::test]
async fn a_lost_reply_is_that_of_a_request_that_was_done() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.intercept(first(PRODUCE, Action::DoThenDrop));
    let lost = produce(&client, "orders", batch(3)).await;
    assert!(matches!(lost, Err(Error::Disconnected { .. })), "{lost:?}");
    assert_eq!(sandbox.end_offset("orders", 0).unwrap(), Offset(3));
    let next = produce(&client, "orders", batch(1)).await.unwrap();
    assert_eq!(next.base_offset, Offset(3));
    assert_eq!(sandbox.request_count(PRODUCE), 2);
}

#[tokio::test]
async fn a_reply_cut_in_the_middle_ends_the_connection() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.append("orders", 0, &batch(5)).unwrap();
    sandbox.intercept(first(FETCH, Action::CutReply(60)));
    let cut = fetch(&client, "orders", 0).await;
    assert!(matches!(cut, Err(Error::Disconnected { .. })), "{cut:?}");
    let whole = fetch(&client, "orders", 0).await.unwrap();
    assert_eq!(batches(&whole.records).count(), 1);
}

#[tokio::test]
async fn an_error_code_is_answered_without_doing_the_request() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.intercept(first(PRODUCE, Action::Error(19)));
    let refused = produce(&client, "orders", batch(3)).await.unwrap();
    assert_eq!(refused.error.0, 19);
    assert_eq!(sandbox.end_offset("orders", 0).unwrap(), Offset(0));
}

#[tokio::test]
async fn a_delayed_request_is_done_late() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.intercept(first(PRODUCE, Action::Delay(Duration::from_millis(200))));
    let began = Instant::now();
    let produced = produce(&client, "orders", batch(3)).await.unwrap();
    assert_eq!(produced.base_offset, Offset(0));
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_moved_leader_names_the_new_one() {
    let (sandbox, client) = start(2).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.append("orders", 0, &batch(5)).unwrap();
    let (leader, epoch) = sandbox.leader("orders", 0).unwrap();
    assert_eq!((leader, epoch), (Some(1), 0));
    assert_eq!(
        produce(&client, "orders", batch(1)).await.unwrap().error.0,
        0
    );
    sandbox.move_leader("orders", 0, 2).unwrap();
    let refused = produce(&client, "orders", batch(1)).await.unwrap();
    assert_eq!(refused.error.0, 6);
    let fetched = fetch(&client, "orders", 0).await.unwrap();
    assert_eq!(batches(&fetched.records).count(), 2);
    assert_eq!(sandbox.leader("orders", 0).unwrap(), (Some(2), 1));
}

#[tokio::test]
async fn a_stopped_broker_hands_its_partitions_over_and_comes_back_on_its_port() {
    let (sandbox, client) = start(3).await;
    sandbox.create_replicated_topic("kept", 1, 2, &[]).unwrap();
    sandbox.create_topic("lost", 1, &[]).unwrap();
    let before = sandbox.bootstrap();
    sandbox.stop_broker(1).await.unwrap();
    assert_eq!(sandbox.leader("kept", 0).unwrap(), (Some(2), 1));
    assert_eq!(sandbox.leader("lost", 0).unwrap().0, None);
    let wanted = ["lost".to_string()];
    let topics = client.topics(TopicsWanted::Named(&wanted)).await.unwrap();
    assert_eq!(topics[0].partitions[0].leader, None);
    sandbox.start_broker(1).await.unwrap();
    assert_eq!(sandbox.bootstrap(), before);
    assert_eq!(sandbox.leader("lost", 0).unwrap().0, Some(1));
    let produced = produce(&client, "lost", batch(1)).await.unwrap();
    assert_eq!(produced.error.0, 0);
}

#[tokio::test]
async fn the_names_decide_the_ids() {
    let (first, _) = start(1).await;
    let (second, client) = start(1).await;
    assert_eq!(first.cluster_id(), second.cluster_id());
    assert_eq!(first.cluster_id().len(), 22);
    assert_eq!(client.cluster_id(), second.cluster_id());
    let id = first.create_topic("orders", 1, &[]).unwrap();
    assert_eq!(second.create_topic("orders", 1, &[]).unwrap(), id);
    second.delete_topic("orders").unwrap();
    assert_ne!(second.create_topic("orders", 1, &[]).unwrap(), id);
}

#[tokio::test]
async fn a_hanging_transaction_holds_the_last_stable_offset_until_it_is_ended() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.append("orders", 0, &batch(2)).unwrap();
    let open = sandbox.begin_transaction("orders", 0, &batch(3)).unwrap();
    sandbox.append("orders", 0, &batch(1)).unwrap();
    assert_eq!(open.first_offset, Offset(2));
    assert_eq!(sandbox.last_stable_offset("orders", 0).unwrap(), Offset(2));
    let fetched = fetch(&client, "orders", 0).await.unwrap();
    assert_eq!(batches(&fetched.records).count(), 1);
    let marker = sandbox.end_transaction("orders", 0, open, false).unwrap();
    assert_eq!(marker, Offset(6));
    let fetched = fetch(&client, "orders", 0).await.unwrap();
    assert_eq!(batches(&fetched.records).count(), 4);
    assert_eq!(fetched.aborted.len(), 1);
    assert_eq!(fetched.aborted[0].first_offset, Offset(2));
}

#[tokio::test]
async fn a_compacted_log_keeps_offsets_and_loses_records() {
    let (sandbox, client) = start(1).await;
    let compacted = [("cleanup.policy", "compact")];
    sandbox.create_topic("orders", 1, &compacted).unwrap();
    for _ in 0..3 {
        sandbox.append("orders", 0, &batch(3)).unwrap();
    }
    sandbox.compact_away("orders", 0, &[1, 3, 4, 5, 8]).unwrap();
    let left: Vec<i64> = sandbox
        .records("orders", 0)
        .unwrap()
        .iter()
        .map(|record| record.offset.0)
        .collect();
    assert_eq!(left, [0, 2, 6, 7]);
    let fetched = fetch(&client, "orders", 1).await.unwrap();
    let spans: Vec<(i64, i64)> = batches(&fetched.records)
        .map(|batch| {
            let header = batch.unwrap().header;
            (header.base_offset, header.next_offset())
        })
        .collect();
    assert_eq!(spans, [(0, 3), (6, 9)]);
    assert_eq!(sandbox.end_offset("orders", 0).unwrap(), Offset(9));
}

#[tokio::test]
async fn a_truncated_log_shows_in_the_end_of_the_old_epoch() {
    let (sandbox, client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    sandbox.append("orders", 0, &batch(5)).unwrap();
    sandbox.append("orders", 0, &batch(5)).unwrap();
    assert_eq!(sandbox.truncate("orders", 0, 7).unwrap(), Offset(5));
    sandbox.append("orders", 0, &batch(9)).unwrap();
    let partition = TopicPartition::new("orders", 0);
    let ends = client
        .end_offset_for_epoch(&[(partition.clone(), 0)])
        .await
        .unwrap();
    let end = ends[&partition].as_ref().unwrap();
    assert_eq!((end.leader_epoch, end.end_offset), (0, Offset(5)));
    assert_eq!(sandbox.leader("orders", 0).unwrap().1, 1);
}

#[tokio::test]
async fn replicated_batches_keep_their_offsets_and_gaps() {
    let (sandbox, _client) = start(1).await;
    sandbox.create_topic("orders", 1, &[]).unwrap();
    let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(10);
    for delta in [0, 4] {
        builder
            .push_at(delta, 1, Some(b"key"), None, Headers::empty())
            .unwrap();
    }
    let gapped = builder.finish(ProducerStamp::NONE).unwrap();
    assert_eq!(sandbox.replicate("orders", 0, &gapped).unwrap(), Offset(15));
    let offsets: Vec<i64> = sandbox
        .records("orders", 0)
        .unwrap()
        .iter()
        .map(|record| record.offset.0)
        .collect();
    assert_eq!(offsets, [10, 14]);
    assert!(sandbox.replicate("orders", 0, &gapped).is_err());
}

#[tokio::test]
async fn a_silent_member_leaves_its_group_when_its_session_is_over() {
    let (sandbox, client) = start(1).await;
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use kafka_protocol::messages::{GroupId, JoinGroupRequest};
    use kafka_protocol::protocol::StrBytes;
    let request = |session, member| {
        JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("checkout")))
            .with_session_timeout_ms(session)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(member)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![
                JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range")),
            ])
    };
    let to = kbr::kafka::Route::Any;
    let told = client
        .call(to, request(100, StrBytes::new()))
        .await
        .unwrap();
    assert_eq!(told.error_code, 79);
    let joined = client.call(to, request(100, told.member_id)).await.unwrap();
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let groups = ["checkout".to_string()];
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut described = client.describe_groups(&groups).await.unwrap();
        let described = described.remove("checkout").unwrap().unwrap();
        if described.state == "Empty" {
            break;
        }
        assert!(Instant::now() < until, "still {}", described.state);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sandbox.shutdown().await;
}
