//! Which version of each call a broker speaks, and the first exchange that asks it.
//!
//! ApiVersions is sent as version 3; a broker that does not know it answers UNSUPPORTED_VERSION in the
//! form of version 0, and is asked again with version 0. The version of every other call is the highest
//! within both the broker's range and the message's own `VERSIONS` (`valid_versions()` of the crate
//! overclaims: it gives the range of the answers, which is wider for some).

use super::code::ErrorCode;
use super::decode;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use std::collections::HashMap;

/// What one broker offers.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiVersions {
    ranges: HashMap<i16, (i16, i16)>,
    /// The finalized level of the `metadata.version` feature.
    pub(super) metadata_level: Option<i16>,
}

/// No version of the call is spoken by both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCommonVersion {
    pub(super) wanted: (i16, i16),
    pub(super) offered: Option<(i16, i16)>,
}

impl ApiVersions {
    /// The highest version both sides speak, not above `cap`.
    pub(super) fn choose<R: Request>(&self, cap: i16) -> Result<i16, NoCommonVersion> {
        let wanted = (R::VERSIONS.min, R::VERSIONS.max.min(cap));
        let offered = self.ranges.get(&R::KEY).copied();
        let none = NoCommonVersion { wanted, offered };
        let (min, max) = offered.ok_or(none)?;
        let version = wanted.1.min(max);
        if version < wanted.0 || version < min {
            return Err(none);
        }
        Ok(version)
    }

    fn from_answer(answer: &ApiVersionsResponse) -> Self {
        Self {
            ranges: answer
                .api_keys
                .iter()
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect(),
            metadata_level: answer
                .finalized_features
                .iter()
                .find(|feature| feature.name.as_str() == "metadata.version")
                .map(|feature| feature.max_version_level),
        }
    }
}

/// What a broker's answer to ApiVersions means.
pub(super) enum Answered {
    Versions(ApiVersions),
    /// Ask again with version 0.
    OnlyVersion0,
    Refused(ErrorCode),
}

/// The frame of an ApiVersions request.
pub(super) fn ask(version: i16, client_id: &str) -> Result<BytesMut, String> {
    let request = if version >= 3 {
        ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("kbr"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
    } else {
        ApiVersionsRequest::default()
    };
    frame(&request, version, client_id)
}

/// Reads the answer's frame (correlation id first) to an ApiVersions request of `version`.
pub(super) fn read(frame: Bytes, version: i16) -> Result<Answered, String> {
    let body = decode::cut_header::<ApiVersionsResponse>(frame, version)?;
    let code = body
        .first_chunk()
        .map(|bytes| ErrorCode(i16::from_be_bytes(*bytes)))
        .ok_or("it ends before the error code")?;
    match code {
        ErrorCode::NONE => {
            let answer = decode::decode::<ApiVersionsResponse>(body, version)?;
            Ok(Answered::Versions(ApiVersions::from_answer(&answer)))
        }
        ErrorCode::UNSUPPORTED_VERSION if version > 0 => Ok(Answered::OnlyVersion0),
        code => Ok(Answered::Refused(code)),
    }
}

/// Where the correlation id lies in a frame: after size, api key and version.
pub(super) const CORRELATION_AT: std::ops::Range<usize> = 8..12;

/// A request's frame with its size in front and 0 as correlation id.
pub(super) fn frame<R: Request>(
    request: &R,
    version: i16,
    client_id: &str,
) -> Result<BytesMut, String> {
    let header = header::<R>(version, client_id);
    let header_version = R::header_version(version);
    let size = header
        .compute_size(header_version)
        .and_then(|header| Ok(header + request.compute_size(version)?))
        .map_err(|error| error.to_string())?;
    let mut frame = BytesMut::with_capacity(4 + size);
    let length = i32::try_from(size).map_err(|_| "the request is over 2 GiB".to_string())?;
    frame.extend_from_slice(&length.to_be_bytes());
    header
        .encode(&mut frame, header_version)
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|error| error.to_string())?;
    Ok(frame)
}

/// The beginning of a frame: room for its size, and the header with 0 as correlation id.
pub(super) fn head<R: Request>(version: i16, client_id: &str) -> Result<BytesMut, String> {
    let mut head = BytesMut::zeroed(4);
    header::<R>(version, client_id)
        .encode(&mut head, R::header_version(version))
        .map_err(|error| error.to_string())?;
    Ok(head)
}

fn header<R: Request>(version: i16, client_id: &str) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_string(client_id.to_string())))
}

/// The call's name in Kafka's documents ("OffsetFetch"), from the request's type.
pub(super) fn name_of<R: Request>() -> &'static str {
    let path = std::any::type_name::<R>();
    let name = path.rsplit("::").next().unwrap_or(path);
    name.strip_suffix("Request").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{ApiKey, OffsetCommitRequest};

    fn offering(api: ApiKey, min: i16, max: i16) -> ApiVersions {
        ApiVersions::from_answer(&ApiVersionsResponse::default().with_api_keys(vec![
            ApiVersion::default()
                .with_api_key(api as i16)
                .with_min_version(min)
                .with_max_version(max),
        ]))
    }

    #[test]
    fn the_version_is_the_messages_own_highest_not_the_crates_claim() {
        // The crate's `valid_versions()` says 10 here, which its own encoder refuses.
        let broker = offering(ApiKey::OffsetCommit, 2, 10);
        assert_eq!(broker.choose::<OffsetCommitRequest>(i16::MAX), Ok(9));
        assert_eq!(broker.choose::<OffsetCommitRequest>(7), Ok(7));
    }

    #[test]
    fn no_common_version_tells_both_ranges() {
        let broker = offering(ApiKey::OffsetCommit, 10, 11);
        assert_eq!(
            broker.choose::<OffsetCommitRequest>(i16::MAX),
            Err(NoCommonVersion {
                wanted: (2, 9),
                offered: Some((10, 11))
            })
        );
        assert_eq!(
            broker
                .choose::<ApiVersionsRequest>(i16::MAX)
                .unwrap_err()
                .offered,
            None
        );
    }

    #[test]
    fn a_call_is_named_as_in_kafkas_documents() {
        assert_eq!(name_of::<OffsetCommitRequest>(), "OffsetCommit");
    }
}
