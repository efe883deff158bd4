//! What can go wrong between kbr and a cluster, with what was asked, of whom, and what was seen.

use super::code::{Class, ErrorCode};
use crate::base::TopicPartition;
use std::time::Duration;

/// The result of a call to a cluster.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One address that was tried, and why it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `host:port` as it was given or advertised.
    pub address: String,
    /// "connection refused", "no such host", …
    pub why: String,
    /// How often it was tried.
    pub times: u32,
    /// How long that took altogether.
    pub elapsed: Duration,
}

/// How far a transaction came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStage {
    /// InitProducerId.
    Begin,
    /// AddOffsetsToTxn.
    AddGroup,
    /// TxnOffsetCommit.
    Commit,
    /// EndTxn.
    End,
}

impl std::fmt::Display for TransactionStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TransactionStage::Begin => "InitProducerId",
            TransactionStage::AddGroup => "AddOffsetsToTxn",
            TransactionStage::Commit => "TxnOffsetCommit",
            TransactionStage::End => "EndTxn",
        })
    }
}

/// What a failed transaction left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Nothing was begun.
    NotBegun,
    /// Aborted: no group has moved.
    Aborted,
    /// No answer tells. Beginning a transaction with the same transactional id settles it; then read back.
    Unknown,
}

impl std::fmt::Display for TransactionOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TransactionOutcome::NotBegun => "nothing was begun",
            TransactionOutcome::Aborted => "aborted, no group has moved",
            TransactionOutcome::Unknown => "its outcome is not known",
        })
    }
}

/// Every failure of this layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the addresses accepted a connection.
    #[error("no broker could be reached: {}", describe_attempts(.tried))]
    Unreachable { tried: Vec<Attempt> },

    /// Something listens there, but it is not a Kafka broker's plain listener.
    #[error("{address} does not speak the Kafka protocol: {looks_like}")]
    NotKafka {
        address: String,
        /// "it answered like an HTTP server", …
        looks_like: String,
        /// The first bytes it sent (at most 16).
        first_bytes: Vec<u8>,
    },

    /// The broker answered with an error code.
    #[error("{api} on {on}: {code}{}", describe_message(.message))]
    Broker {
        code: ErrorCode,
        api: &'static str,
        /// The topic, partition, group or broker it is about.
        on: String,
        /// The broker's own words, if it sent any.
        message: Option<String>,
    },

    /// No answer in time. Whether the request was carried out is not known.
    #[error("{api}: broker {broker} did not answer within {after:?}")]
    Timeout {
        api: &'static str,
        broker: String,
        after: Duration,
    },

    /// The connection ended before the answer came.
    #[error("{api}: the connection to broker {broker} ended: {why}")]
    Disconnected {
        api: &'static str,
        broker: String,
        why: String,
        /// The request may have reached the broker, so it may have been carried out.
        in_doubt: bool,
    },

    /// The bytes that came back are not a valid answer. The connection is not used again.
    #[error("{api}: broker {broker} sent an invalid answer: {why}")]
    Protocol {
        api: &'static str,
        broker: String,
        why: String,
    },

    /// The broker does not offer a version of this call that kbr speaks.
    #[error(
        "broker {broker} does not support {api} in versions {} to {}{}",
        .wanted.0, .wanted.1, describe_offered(.offered)
    )]
    Unsupported {
        api: &'static str,
        broker: String,
        wanted: (i16, i16),
        /// `None`: it does not know the call at all.
        offered: Option<(i16, i16)>,
    },

    /// The metadata names no leader for the partition.
    #[error("{partition} has no leader now")]
    NoLeader { partition: TopicPartition },

    /// The metadata does not list this broker.
    #[error("the cluster's metadata lists no broker {id}")]
    UnknownBroker { id: i32 },

    /// A transaction over committed offsets failed; `outcome` tells whether any group has moved.
    #[error(
        "the transaction {transactional_id} failed in {stage}{}: {outcome}",
        describe_place(.group, .partition)
    )]
    Transaction {
        transactional_id: String,
        stage: TransactionStage,
        group: Option<String>,
        partition: Option<Box<TopicPartition>>,
        outcome: TransactionOutcome,
        source: Box<Error>,
    },

    /// The caller asked for something that no broker could do (an address without a port, …).
    #[error("{0}")]
    BadRequest(String),
}

fn describe_attempts(tried: &[Attempt]) -> String {
    tried
        .iter()
        .map(|attempt| {
            let times = match attempt.times {
                0 | 1 => String::new(),
                times => format!(", tried {times} times"),
            };
            format!(
                "{} ({}{times}, {:.1} s)",
                attempt.address,
                attempt.why,
                attempt.elapsed.as_secs_f64()
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}

fn describe_message(message: &Option<String>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    }
}

fn describe_offered(offered: &Option<(i16, i16)>) -> String {
    match offered {
        Some((min, max)) => format!(" (it offers {min} to {max})"),
        None => " (it does not know the call)".to_string(),
    }
}

fn describe_place(group: &Option<String>, partition: &Option<Box<TopicPartition>>) -> String {
    match (group, partition) {
        (Some(group), Some(partition)) => format!(" for group {group}, {partition}"),
        (Some(group), None) => format!(" for group {group}"),
        _ => String::new(),
    }
}

impl Error {
    /// A broker's error code as an error about `on`.
    pub fn broker(
        api: &'static str,
        on: impl Into<String>,
        code: ErrorCode,
        message: Option<String>,
    ) -> Self {
        Error::Broker {
            code,
            api,
            on: on.into(),
            message,
        }
    }

    /// The broker's error code, if that is what this is (also inside a failed transaction).
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Broker { code, .. } => Some(*code),
            Error::Transaction { source, .. } => source.code(),
            _ => None,
        }
    }

    /// What to do about it: the broker's code decides; a lost connection asks for fresh metadata.
    pub fn class(&self) -> Class {
        match self {
            Error::Broker { code, .. } => code.class(),
            Error::Unreachable { .. }
            | Error::Timeout { .. }
            | Error::Disconnected { .. }
            | Error::NoLeader { .. }
            | Error::UnknownBroker { .. } => Class::RefreshMetadata,
            Error::NotKafka { .. }
            | Error::Protocol { .. }
            | Error::Unsupported { .. }
            | Error::Transaction { .. }
            | Error::BadRequest(_) => Class::Fatal,
        }
    }

    /// Whether the request may have been carried out although no answer came.
    pub fn in_doubt(&self) -> bool {
        match self {
            Error::Timeout { .. } | Error::Protocol { .. } => true,
            Error::Disconnected { in_doubt, .. } => *in_doubt,
            Error::Transaction { outcome, .. } => *outcome == TransactionOutcome::Unknown,
            _ => false,
        }
    }

    /// Whether the cluster refuses transactions to us (no right to them, or too old), so that committing
    /// group by group is the way left. Nothing was changed then.
    pub fn transactions_not_allowed(&self) -> bool {
        match self {
            Error::Transaction {
                outcome: TransactionOutcome::NotBegun | TransactionOutcome::Aborted,
                source,
                ..
            } => source.transactions_not_allowed(),
            Error::Unsupported { .. } => true,
            Error::Broker { code, .. } => matches!(
                *code,
                ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                    | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                    | ErrorCode::UNSUPPORTED_VERSION
            ),
            _ => false,
        }
    }
}
