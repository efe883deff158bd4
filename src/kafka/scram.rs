//! Users with SCRAM credentials: who they are, never what they prove themselves with (no broker tells that).

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use kafka_protocol::messages::DescribeUserScramCredentialsRequest;

impl Client {
    /// The names of all users with SCRAM credentials, sorted. Needs DESCRIBE on the cluster.
    pub async fn scram_users(&self) -> Result<Vec<String>> {
        const API: &str = "DescribeUserScramCredentials";
        let request = DescribeUserScramCredentialsRequest::default().with_users(None);
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let answer = self.ask(Route::Any, &request, i16::MAX).await?;
            let code = ErrorCode(answer.error_code);
            match code.class() {
                Class::Ok => {
                    let users = answer.results.into_iter();
                    let mut names: Vec<String> =
                        users.map(|result| result.user.to_string()).collect();
                    names.sort();
                    return Ok(names);
                }
                Class::RetryHere if backoff.wait().await => {}
                _ => {
                    let message = answer.error_message.map(|message| message.to_string());
                    return Err(Error::broker(API, "the cluster", code, message));
                }
            }
        }
    }
}
