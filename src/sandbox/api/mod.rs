//! One file per API key: how a broker serves it, and how it refuses all of it with one error code.
//!
//! Versions are those of the messages themselves (`VERSIONS`): what `valid_versions` of the crate lists is more than it can do.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_client_quotas;
mod api_versions;
mod consumer_group_describe;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_user_scram_credentials;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;
mod write_txn_markers;

use super::cluster::{Cluster, State};
use super::codes;
use super::server::{Request as Received, malformed};
use bytes::BytesMut;
use kafka_protocol::messages;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use std::io;
use std::sync::Arc;

/// Who asks whom, and in which version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub cluster: &'a Arc<Cluster>,
    /// The node id of the broker that was asked.
    pub broker: i32,
    pub version: i16,
    pub client_id: &'a str,
    pub host: &'a str,
}

impl Context<'_> {
    /// Code 16 unless this broker coordinates the group or transactional id.
    fn check_coordinator(&self, state: &State, key: &str) -> Result<(), i16> {
        if state.coordinator(key) == Some(self.broker) {
            Ok(())
        } else {
            Err(codes::NOT_COORDINATOR)
        }
    }
}

/// An API that the sandbox serves.
trait Api: Request {
    fn serve(self, cx: &Context<'_>) -> impl Future<Output = Self::Response> + Send;

    /// The response that says `code` wherever it has room for an error.
    fn refuse(self, code: i16, cx: &Context<'_>) -> Self::Response;

    /// Whether the client wants no answer.
    fn is_silent(&self) -> bool {
        false
    }
}

macro_rules! apis {
    ($($request:ident),* $(,)?) => {
        /// What ApiVersions lists.
        fn offered() -> Vec<ApiVersion> {
            let mut offered = vec![
                $(range::<messages::$request>(),)*
            ];
            offered.sort_by_key(|api| api.api_key);
            offered
        }

        /// Serves a request, or refuses it with `error`. `None` if the client wants no answer.
        pub(super) async fn answer(
            cx: &Context<'_>,
            request: &Received,
            error: Option<i16>,
        ) -> io::Result<Option<BytesMut>> {
            match request.key {
                $(<messages::$request as Request>::KEY => run::<messages::$request>(cx, request, error).await,)*
                key => Err(malformed(format!("API key {key} is not served"))),
            }
        }
    };
}

apis!(
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    AlterClientQuotasRequest,
    ApiVersionsRequest,
    ConsumerGroupDescribeRequest,
    CreateAclsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteAclsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    DescribeProducersRequest,
    DescribeUserScramCredentialsRequest,
    EndTxnRequest,
    FetchRequest,
    FindCoordinatorRequest,
    HeartbeatRequest,
    IncrementalAlterConfigsRequest,
    InitProducerIdRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListGroupsRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    ProduceRequest,
    SyncGroupRequest,
    TxnOffsetCommitRequest,
    WriteTxnMarkersRequest,
);

fn range<R: Request>() -> ApiVersion {
    // Brokers claim Produce from 0 on, though they take it from 3: librdkafka looks there for what codecs it may use
    // (KAFKA-18659).
    let min = if R::KEY == 0 { 0 } else { R::VERSIONS.min };
    ApiVersion::default()
        .with_api_key(R::KEY)
        .with_min_version(min)
        .with_max_version(R::VERSIONS.max)
}

async fn run<R: Api>(
    cx: &Context<'_>,
    request: &Received,
    error: Option<i16>,
) -> io::Result<Option<BytesMut>> {
    let versions = R::VERSIONS;
    if cx.version < versions.min || cx.version > versions.max {
        if R::KEY == messages::ApiVersionsRequest::KEY {
            return api_versions::unknown_version(request).map(Some);
        }
        return Err(malformed(format!(
            "API key {} version {}",
            R::KEY,
            cx.version
        )));
    }
    let mut body = request.body.clone();
    let decoded = R::decode(&mut body, cx.version).map_err(malformed)?;
    let silent = decoded.is_silent();
    let response = match error {
        Some(code) => decoded.refuse(code, cx),
        None => decoded.serve(cx).await,
    };
    if silent {
        return Ok(None);
    }
    request
        .frame_reply(|out| response.encode(out, cx.version).map_err(malformed))
        .map(Some)
}

/// A string as the messages hold it.
fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// The code of a check whose success says nothing more.
fn code_of(checked: Result<(), i16>) -> i16 {
    checked.err().unwrap_or(codes::NONE)
}
