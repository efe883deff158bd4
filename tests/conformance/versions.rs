//! ApiVersions, spoken without a client.

use crate::harness::ClusterUnderTest;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn exchange(cluster: &ClusterUnderTest, request: &[u8]) -> Bytes {
    let mut stream = TcpStream::connect(&cluster.bootstrap).await.unwrap();
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    Bytes::from(answer)
}

fn header(version: i16) -> BytesMut {
    let mut request = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(ApiKey::ApiVersions as i16)
        .with_request_api_version(version)
        .with_correlation_id(11)
        .with_client_id(Some(StrBytes::from_static_str("conformance")))
        .encode(&mut request, 2)
        .unwrap();
    request
}

pub async fn an_unknown_version_of_api_versions_is_answered_in_version_0(
    cluster: &ClusterUnderTest,
) {
    let mut request = header(99);
    request.put_slice(b"whatever version 99 may hold");
    let mut answer = exchange(cluster, &request).await;
    assert_eq!(answer.split_to(4), 11_i32.to_be_bytes()[..]);
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, 35);
    let own = answer
        .api_keys
        .iter()
        .find(|api| api.api_key == 18)
        .unwrap();
    assert!(own.max_version >= 4);
}

pub async fn every_api_that_kbr_uses_is_offered(cluster: &ClusterUnderTest) {
    let mut request = header(3);
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("kbr"))
        .with_client_software_version(StrBytes::from_static_str("1"))
        .encode(&mut request, 3)
        .unwrap();
    let mut answer = exchange(cluster, &request).await;
    assert_eq!(answer.split_to(4), 11_i32.to_be_bytes()[..]);
    let answer = ApiVersionsResponse::decode(&mut answer, 3).unwrap();
    assert_eq!(answer.error_code, 0);
    let offered: Vec<i16> = answer.api_keys.iter().map(|api| api.api_key).collect();
    for key in [
        0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
        29, 30, 31, 32, 37, 42, 44, 48, 49, 50, 60, 61,
    ] {
        assert!(offered.contains(&key), "API key {key}");
    }
}
