//! ApiVersions: v0–v4. A version nobody knows is answered in v0 with what is offered (KIP-511).

use super::{Api, Context, offered, text};
use crate::sandbox::codes;
use crate::sandbox::server::{Request as Received, malformed};
use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;
use std::io;

/// Features with the level in force: `metadata.version` as Apache Kafka 4.3 finalizes it, the transaction protocol
/// of KIP-890, and group version 0, since the consumer protocol of KIP-848 is not served.
const FEATURES: &[(&str, i16, i16)] = &[
    ("group.version", 0, 0),
    ("metadata.version", 7, 30),
    ("transaction.version", 0, 2),
];

impl Api for ApiVersionsRequest {
    async fn serve(self, cx: &Context<'_>) -> ApiVersionsResponse {
        let response = ApiVersionsResponse::default().with_api_keys(offered());
        if cx.version < 3 {
            return response;
        }
        let supported = FEATURES
            .iter()
            // Version 3 cannot say a minimum of 0 (KIP-1022).
            .filter(|(_, min, _)| cx.version >= 4 || *min > 0)
            .map(|(name, min, max)| {
                SupportedFeatureKey::default()
                    .with_name(text(name))
                    .with_min_version(*min)
                    .with_max_version(*max)
            })
            .collect();
        let finalized = FEATURES
            .iter()
            .filter(|(_, _, level)| *level > 0)
            .map(|(name, _, level)| {
                FinalizedFeatureKey::default()
                    .with_name(text(name))
                    .with_max_version_level(*level)
                    .with_min_version_level(*level)
            })
            .collect();
        response
            .with_supported_features(supported)
            .with_finalized_features_epoch(1)
            .with_finalized_features(finalized)
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> ApiVersionsResponse {
        ApiVersionsResponse::default().with_error_code(code)
    }
}

pub(super) fn unknown_version(request: &Received) -> io::Result<BytesMut> {
    let response = ApiVersionsResponse::default()
        .with_error_code(codes::UNSUPPORTED_VERSION)
        .with_api_keys(offered());
    request.frame_reply(|out| response.encode(out, 0).map_err(malformed))
}
