//! What the client does when a connection, a broker or an answer goes wrong, against a scripted broker.

mod kafka_faults_support;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_faults_support::{
    Reply, Scripted, Seen, answer, api_versions, encoded, foreign, frame, metadata,
};
use kafka_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterResponse, EndTxnRequest, EndTxnResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdResponse, ListGroupsRequest,
    ListGroupsResponse, ListOffsetsResponse, OffsetFetchRequest, OffsetFetchResponse, ProducerId,
    TopicName, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;
use kbr::base::{Offset, TopicPartition};
use kbr::kafka::{
    Client, CommitWanted, ConnectOptions, CoordinatorKind, Error, ErrorCode, Isolation, OffsetAt,
    Route, TopicsWanted, TransactionOutcome, TransactionStage,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

fn options(address: &str) -> ConnectOptions {
    ConnectOptions {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        retry_deadline: Duration::from_secs(3),
        ..ConnectOptions::new([address])
    }
}

/// One broker with id 1 that answers ApiVersions and Metadata; the rest is the script's.
async fn broker(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Scripted::on(listener, move |seen| match seen.api {
        ApiKey::ApiVersions => api_versions(seen),
        ApiKey::Metadata => metadata(seen, &[(1, port)], "orders", 1),
        _ => script(seen),
    })
}

async fn connect(broker: &Scripted) -> Client {
    Client::connect(options(&broker.address())).await.unwrap()
}

async fn list_groups(client: &Client) -> Result<ListGroupsResponse, Error> {
    client
        .call(Route::Broker(1), ListGroupsRequest::default())
        .await
}

// ------------------------------------------------------------------------------------- connecting

#[tokio::test]
async fn every_address_that_was_tried_is_told_with_why_and_how_often() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap().to_string();
    drop(free);
    let given = [closed.clone(), "no-port".to_string()];
    let error = Client::connect(ConnectOptions {
        bootstrap: given.to_vec(),
        ..options("")
    })
    .await
    .unwrap_err();
    let Error::Unreachable { tried } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(tried.len(), 2);
    assert_eq!(tried[0].address, closed);
    assert_eq!(tried[0].why, "connection refused");
    assert_eq!(tried[0].times, 3);
    assert_eq!(tried[1].why, "not an address of the form host:port");
    assert!(
        error
            .to_string()
            .contains("connection refused, tried 3 times"),
        "{error}"
    );
}

#[tokio::test]
async fn the_second_bootstrap_address_is_used_when_the_first_is_dead() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap().to_string();
    drop(free);
    let broker = broker(|_| Reply::Close).await;
    let client = Client::connect(ConnectOptions {
        bootstrap: vec![closed, broker.address()],
        ..options("")
    })
    .await
    .unwrap();
    assert_eq!(client.cluster_id(), "scripted");
}

#[tokio::test]
async fn an_http_server_is_named_as_one() {
    let (address, _task) =
        foreign(|read| read.len() > 8, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = Client::connect(options(&address)).await.unwrap_err();
    let Error::NotKafka {
        looks_like,
        first_bytes,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(looks_like, "it answers like an HTTP server");
    assert!(first_bytes.starts_with(b"HTTP/1.1"), "{first_bytes:?}");
}

#[tokio::test]
async fn an_http_server_that_waits_for_the_end_of_the_line_is_named_as_one() {
    let ends = |read: &[u8]| read.windows(4).any(|four| four == b"\r\n\r\n");
    let (address, _task) = foreign(ends, b"<!DOCTYPE HTML>\n<html>400</html>").await;
    let quick = ConnectOptions {
        connect_timeout: Duration::from_millis(300),
        ..options(&address)
    };
    let error = Client::connect(quick).await.unwrap_err();
    assert!(matches!(&error, Error::NotKafka { .. }), "{error:?}");
    assert!(error.to_string().contains("HTTP server"), "{error}");
}

#[tokio::test]
async fn a_tls_listener_is_named_as_one() {
    let (address, _task) = foreign(|read| read.len() > 8, b"\x15\x03\x03\x00\x02\x02\x46").await;
    let error = Client::connect(options(&address)).await.unwrap_err();
    assert!(matches!(&error, Error::NotKafka { .. }), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_listener_that_hangs_up_is_told_to_want_tls_or_sasl() {
    let broker = Scripted::start(|_| Reply::Close).await;
    let error = Client::connect(options(&broker.address()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("TLS or SASL"), "{error}");
}

#[tokio::test]
async fn a_broker_that_knows_only_version_0_of_api_versions_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = Scripted::on(listener, move |seen| match (seen.api, seen.version) {
        // Brokers answer a version they do not know in the form of version 0.
        (ApiKey::ApiVersions, 3) => Reply::Answer(Bytes::from_static(&[0, 35, 0, 0, 0, 0])),
        (ApiKey::ApiVersions, 0) => {
            let only = |api: ApiKey, max| {
                ApiVersion::default()
                    .with_api_key(api as i16)
                    .with_max_version(max)
            };
            let apis = vec![only(ApiKey::Metadata, 4), only(ApiKey::ApiVersions, 2)];
            answer(seen, ApiVersionsResponse::default().with_api_keys(apis))
        }
        (ApiKey::Metadata, 4) => metadata(seen, &[(1, port)], "orders", 1),
        other => panic!("{other:?}"),
    });
    let client = connect(&broker).await;
    assert_eq!(client.cluster_id(), "scripted");
    let error = list_groups(&client).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Unsupported {
                api: "ListGroups",
                offered: None,
                ..
            }
        ),
        "{error:?}"
    );
}

// ------------------------------------------------------------------------------ broken connections

#[tokio::test]
async fn an_answer_with_another_correlation_id_breaks_the_connection_and_the_next_call_gets_a_new_one()
 {
    let broker = broker(|seen| match seen.nth {
        0 => {
            let body = encoded(seen, ListGroupsResponse::default());
            Reply::Raw(frame(seen, seen.correlation_id + 7, &body))
        }
        _ => answer(seen, ListGroupsResponse::default()),
    })
    .await;
    let client = connect(&broker).await;
    let error = list_groups(&client).await.unwrap_err();
    assert!(matches!(&error, Error::Protocol { .. }), "{error:?}");
    assert!(error.in_doubt());
    assert!(list_groups(&client).await.is_ok());
    let seen = broker.seen(ApiKey::ListGroups);
    assert_ne!(seen[0].connection, seen[1].connection);
}

#[tokio::test]
async fn an_answer_that_does_not_decode_breaks_the_connection() {
    let broker = broker(|seen| match seen.nth {
        0 => Reply::Answer(Bytes::from_static(&[
            0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f,
        ])),
        _ => answer(seen, ListGroupsResponse::default()),
    })
    .await;
    let client = connect(&broker).await;
    let error = list_groups(&client).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Protocol {
                api: "ListGroups",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(list_groups(&client).await.is_ok());
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_by_its_size_alone() {
    let broker = broker(|_| {
        let mut huge = BytesMut::new();
        huge.put_i32(i32::MAX);
        Reply::Raw(huge.freeze())
    })
    .await;
    let client = connect(&broker).await;
    let error = list_groups(&client).await.unwrap_err();
    assert!(error.to_string().contains("over the limit"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_in_its_middle_leaves_the_request_in_doubt() {
    let broker = broker(|seen| match seen.nth {
        0 => {
            let body = encoded(seen, ListGroupsResponse::default());
            let whole = frame(seen, seen.correlation_id, &body);
            Reply::RawThenClose(whole.slice(..whole.len() - 2))
        }
        _ => answer(seen, ListGroupsResponse::default()),
    })
    .await;
    let client = connect(&broker).await;
    let error = list_groups(&client).await.unwrap_err();
    assert!(
        matches!(&error, Error::Disconnected { in_doubt: true, .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("in the middle of an answer"),
        "{error}"
    );
    assert!(list_groups(&client).await.is_ok());
}

#[tokio::test]
async fn no_answer_in_time_is_an_error_and_ends_the_connection() {
    let broker = broker(|seen| match seen.nth {
        0 => Reply::Silence,
        _ => answer(seen, ListGroupsResponse::default()),
    })
    .await;
    let client = Client::connect(ConnectOptions {
        request_timeout: Duration::from_millis(200),
        ..options(&broker.address())
    })
    .await
    .unwrap();
    let error = list_groups(&client).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Timeout {
                api: "ListGroups",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.in_doubt());
    assert!(list_groups(&client).await.is_ok());
    let seen = broker.seen(ApiKey::ListGroups);
    assert_ne!(seen[0].connection, seen[1].connection);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_connection_in_order() {
    let broker = broker(|seen| {
        let body = encoded(
            seen,
            ListGroupsResponse::default().with_throttle_time_ms(seen.nth as i32),
        );
        match seen.nth {
            0 => Reply::Late(Duration::from_millis(150), body),
            _ => Reply::Answer(body),
        }
    })
    .await;
    let client = connect(&broker).await;
    let gone = tokio::time::timeout(Duration::from_millis(50), list_groups(&client)).await;
    assert!(gone.is_err());
    let second = list_groups(&client).await.unwrap();
    assert_eq!(second.throttle_time_ms, 1);
    let seen = broker.seen(ApiKey::ListGroups);
    assert_eq!(seen[0].connection, seen[1].connection);
}

#[tokio::test]
async fn many_requests_are_on_their_way_at_once_and_each_gets_its_own_answer() {
    let broker = broker(|seen| {
        let body = encoded(
            seen,
            ListGroupsResponse::default().with_throttle_time_ms(seen.correlation_id),
        );
        match seen.nth {
            0 => Reply::Late(Duration::from_millis(100), body),
            _ => Reply::Answer(body),
        }
    })
    .await;
    let client = connect(&broker).await;
    let calls = (0..50).map(|_| list_groups(&client));
    let answers = futures::future::join_all(calls).await;
    let mut ids: Vec<i32> = answers
        .iter()
        .map(|answer| answer.as_ref().unwrap().throttle_time_ms)
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    let seen = broker.seen(ApiKey::ListGroups);
    assert!(seen.iter().all(|at| at.connection == seen[0].connection));
}

#[tokio::test]
async fn a_broker_that_dies_is_unreachable_with_the_address_the_cluster_advertises() {
    let broker = broker(|seen| answer(seen, ListGroupsResponse::default())).await;
    let client = connect(&broker).await;
    let address = broker.address();
    drop(broker);
    let mut last = None;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        match list_groups(&client).await {
            Err(error @ Error::Unreachable { .. }) => {
                last = Some(error);
                break;
            }
            // The end of the old connection may still be on its way.
            _ => continue,
        }
    }
    let error = last.expect("the dead broker stayed reachable");
    assert!(!error.in_doubt());
    let text = error.to_string();
    assert!(
        text.contains(&address) && text.contains("advertises this address for broker 1"),
        "{text}"
    );
}

// -------------------------------------------------------------------------------- leaders that move

fn offset(seen: &Seen, code: ErrorCode, offset: i64) -> Reply {
    let partition = ListOffsetsPartitionResponse::default()
        .with_error_code(code.0)
        .with_offset(offset);
    let topic = ListOffsetsTopicResponse::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partitions(vec![partition]);
    answer(
        seen,
        ListOffsetsResponse::default().with_topics(vec![topic]),
    )
}

#[tokio::test]
async fn a_leader_that_moved_is_found_through_fresh_metadata() {
    let ports: Arc<OnceLock<(u16, u16)>> = Arc::default();
    let script = |me: i32, ports: Arc<OnceLock<(u16, u16)>>| {
        move |seen: &Seen| {
            let (first, second) = *ports.get().unwrap();
            match seen.api {
                ApiKey::ApiVersions => api_versions(seen),
                ApiKey::Metadata => {
                    // Only the third answer knows the new leader: before come the client's own and the first question.
                    let leader = if seen.nth >= 2 { 2 } else { 1 };
                    metadata(seen, &[(1, first), (2, second)], "orders", leader)
                }
                ApiKey::ListOffsets if me == 2 => offset(seen, ErrorCode::NONE, 42),
                ApiKey::ListOffsets => offset(seen, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1),
                other => panic!("{other:?}"),
            }
        }
    };
    let first = Scripted::start(script(1, ports.clone())).await;
    let second = Scripted::start(script(2, ports.clone())).await;
    ports.set((first.port, second.port)).unwrap();
    let client = connect(&first).await;
    let at = TopicPartition::new("orders", 0);
    let found = client
        .list_offsets(
            &[(at.clone(), OffsetAt::Latest)],
            Isolation::ReadUncommitted,
        )
        .await
        .unwrap();
    assert_eq!(found[&at].as_ref().unwrap().offset, Offset(42));
}

#[tokio::test]
async fn a_partition_whose_leader_never_answers_is_that_partitions_error_within_the_retry_time() {
    let broker = broker(|seen| offset(seen, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)).await;
    let client = Client::connect(ConnectOptions {
        retry_deadline: Duration::from_millis(400),
        ..options(&broker.address())
    })
    .await
    .unwrap();
    let at = TopicPartition::new("orders", 0);
    let begun = Instant::now();
    let found = client
        .list_offsets(
            &[(at.clone(), OffsetAt::Latest)],
            Isolation::ReadUncommitted,
        )
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    let error = found[&at].as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(broker.seen(ApiKey::ListOffsets).len() > 2);
}

// ------------------------------------------------------------------------------------ transactions

/// What a coordinator of everything answers; `end` decides about EndTxn.
fn coordinator(seen: &Seen, end: impl Fn(&Seen) -> Reply) -> Reply {
    match seen.api {
        ApiKey::FindCoordinator => {
            let keys = seen.decode::<FindCoordinatorRequest>().coordinator_keys;
            let coordinators = keys.into_iter().map(|key| {
                Coordinator::default()
                    .with_key(key)
                    .with_node_id(BrokerId(1))
            });
            answer(
                seen,
                FindCoordinatorResponse::default().with_coordinators(coordinators.collect()),
            )
        }
        ApiKey::InitProducerId => {
            // Loading, moving, busy: all of it normal after a start.
            let code = [14, 15, 16, 51].get(seen.nth).copied().unwrap_or(0);
            let identity = InitProducerIdResponse::default()
                .with_error_code(code)
                .with_producer_id(ProducerId(9))
                .with_producer_epoch(1);
            answer(seen, identity)
        }
        ApiKey::AddOffsetsToTxn => {
            assert!(seen.version <= 3);
            answer(seen, AddOffsetsToTxnResponse::default())
        }
        ApiKey::TxnOffsetCommit => {
            assert!(seen.version <= 3);
            answer(seen, TxnOffsetCommitResponse::default())
        }
        ApiKey::OffsetFetch => {
            let groups = seen.decode::<OffsetFetchRequest>().groups.into_iter();
            let groups = groups
                .map(|group| OffsetFetchResponseGroup::default().with_group_id(group.group_id));
            answer(
                seen,
                OffsetFetchResponse::default().with_groups(groups.collect()),
            )
        }
        ApiKey::EndTxn => {
            assert!(seen.version <= 4);
            end(seen)
        }
        other => panic!("{other:?}"),
    }
}

fn one_group() -> BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> {
    let wanted = CommitWanted {
        offset: Offset(5),
        metadata: String::new(),
    };
    let offsets = BTreeMap::from([(TopicPartition::new("orders", 0), wanted)]);
    BTreeMap::from([("checkout".to_string(), offsets)])
}

fn verdicts(broker: &Scripted) -> Vec<bool> {
    let seen = broker.seen(ApiKey::EndTxn);
    seen.iter()
        .map(|seen| seen.decode::<EndTxnRequest>().committed)
        .collect()
}

#[tokio::test]
async fn a_lost_answer_to_end_txn_is_asked_for_again_and_nothing_is_aborted() {
    let broker = broker(|seen| {
        coordinator(seen, |seen| match seen.nth {
            0 => Reply::Close,
            _ => answer(seen, EndTxnResponse::default()),
        })
    })
    .await;
    let client = connect(&broker).await;
    client
        .commit_offsets_in_transaction("kbr", &one_group())
        .await
        .unwrap();
    assert_eq!(verdicts(&broker), [true, true]);
    // Four refusals for a while, then the identity.
    assert_eq!(broker.seen(ApiKey::InitProducerId).len(), 5);
}

#[tokio::test]
async fn a_refused_commit_is_aborted_and_told_so() {
    let broker = broker(|seen| {
        coordinator(seen, |seen| {
            let code = if seen.nth == 0 {
                ErrorCode::INVALID_TXN_STATE.0
            } else {
                0
            };
            answer(seen, EndTxnResponse::default().with_error_code(code))
        })
    })
    .await;
    let client = connect(&broker).await;
    let error = client
        .commit_offsets_in_transaction("kbr", &one_group())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Transaction {
                stage: TransactionStage::End,
                outcome: TransactionOutcome::Aborted,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(verdicts(&broker), [true, false]);
}

#[tokio::test]
async fn a_verdict_that_nobody_confirms_is_unknown_and_is_not_aborted() {
    let broker = broker(|seen| coordinator(seen, |_| Reply::Close)).await;
    let client = Client::connect(ConnectOptions {
        request_timeout: Duration::from_millis(300),
        retry_deadline: Duration::from_millis(500),
        ..options(&broker.address())
    })
    .await
    .unwrap();
    let error = client
        .commit_offsets_in_transaction("kbr", &one_group())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Transaction {
                outcome: TransactionOutcome::Unknown,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.in_doubt());
    assert!(verdicts(&broker).iter().all(|commit| *commit));
}

#[tokio::test]
async fn a_cluster_that_allows_no_transactions_is_told_from_other_failures() {
    let broker = broker(|seen| match seen.api {
        ApiKey::InitProducerId => {
            let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.0;
            answer(
                seen,
                InitProducerIdResponse::default().with_error_code(code),
            )
        }
        _ => coordinator(seen, |_| Reply::Close),
    })
    .await;
    let client = connect(&broker).await;
    let error = client
        .commit_offsets_in_transaction("kbr", &one_group())
        .await
        .unwrap_err();
    assert!(error.transactions_not_allowed(), "{error:?}");
    assert!(verdicts(&broker).is_empty());
}

#[tokio::test]
async fn an_error_code_nobody_knows_keeps_its_number() {
    let broker = broker(|seen| {
        answer(
            seen,
            DescribeClusterResponse::default().with_error_code(4711),
        )
    })
    .await;
    let client = connect(&broker).await;
    let error = client.describe_cluster().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode(4711)));
    assert!(error.to_string().contains("error code 4711"), "{error}");
}

/// Steps run on worker threads: a call whose future is not `Send` compiles here and fails there.
#[test]
fn every_call_may_move_between_threads() {
    fn is_send<T: Send>(_: impl Fn(&'static Client) -> T) {}
    is_send(|client| client.describe_cluster());
    is_send(|client| client.call(Route::Any, ListGroupsRequest::default()));
    is_send(|client| client.refresh_metadata(0));
    is_send(|client| client.topics(TopicsWanted::All));
    is_send(|client| client.create_topics(&[], false));
    is_send(|client| client.delete_topics(&[]));
    is_send(|client| client.topic_configs(&[]));
    is_send(|client| client.list_offsets(&[], Isolation::ReadCommitted));
    is_send(|client| client.end_offset_for_epoch(&[]));
    is_send(|client| client.delete_records(&[]));
    is_send(|client| client.describe_producers(&[]));
    is_send(|client| client.produce(1, Vec::new(), Duration::ZERO));
    is_send(|client| client.init_producer_id(None, Duration::ZERO));
    is_send(|client| client.find_coordinator(CoordinatorKind::Group, ""));
    is_send(|client| client.list_groups());
    is_send(|client| client.describe_groups(&[]));
    is_send(|client| client.delete_groups(&[]));
    is_send(|client| client.committed_offsets(&[], true));
    static GROUPS: BTreeMap<String, BTreeMap<TopicPartition, CommitWanted>> = BTreeMap::new();
    is_send(|client| client.commit_offsets_in_transaction("", &GROUPS));
}
