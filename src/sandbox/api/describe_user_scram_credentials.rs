//! DescribeUserScramCredentials: v0. There are no users: 91 for each one asked about, nothing for all.

use super::{Api, Context, text};
use crate::sandbox::codes;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

impl Api for DescribeUserScramCredentialsRequest {
    async fn serve(self, _cx: &Context<'_>) -> DescribeUserScramCredentialsResponse {
        let missing = |user: String| {
            DescribeUserScramCredentialsResult::default()
                .with_user(text(&user))
                .with_error_code(codes::RESOURCE_NOT_FOUND)
                .with_error_message(Some(text(&format!(
                    "Attempt to describe a user credential that does not exist: {user}"
                ))))
        };
        let asked = self.users.unwrap_or_default();
        let results = asked.into_iter().map(|user| missing(user.name.to_string()));
        DescribeUserScramCredentialsResponse::default()
            .with_error_message(None)
            .with_results(results.collect())
    }

    fn refuse(self, code: i16, _cx: &Context<'_>) -> DescribeUserScramCredentialsResponse {
        DescribeUserScramCredentialsResponse::default()
            .with_error_code(code)
            .with_error_message(Some(text(codes::name(code))))
    }
}
