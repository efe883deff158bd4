//! The client's side of Kafka: connections, metadata and typed calls.
//!
//! What holds everywhere here: every wait has a deadline; a partial failure is a value (a result per
//! group, topic or partition), never one error for a batch; a broker's error number is kept even when
//! kbr does not know it; a reply is bounded before it is decoded. One file per subject.

mod acls;
mod brokers;
mod client;
mod code;
mod commits;
mod configs;
mod connection;
mod coordinator;
mod decode;
mod error;
mod fetch;
mod frame;
mod greeting;
mod groups;
mod membership;
mod metadata;
mod offset_delete;
mod offset_records;
mod offsets;
mod options;
mod produce;
mod producer_id;
mod quotas;
mod retry;
mod scram;
mod share_groups;
mod topics;
mod transactions;
mod transport;
mod versions;

pub use acls::{AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType, Acls};
pub use client::{BrokerInfo, Client, ClusterInfo, Route};
pub use code::{Class, ErrorCode};
pub use commits::{CommitWanted, Committed};
pub use configs::{ConfigEntry, ConfigSource};
pub use coordinator::CoordinatorKind;
pub use error::{Attempt, Error, Result, TransactionOutcome, TransactionStage};
pub use fetch::{Aborted, Diverging, FetchPartition, FetchWanted, FetchedPartition};
pub use groups::{GroupDescription, GroupListing, Member};
pub use membership::subscribed_topics;
pub use metadata::Metadata;
pub use offset_records::{
    OFFSETS_TOPIC, OffsetRecordError, OffsetRecordKey, OffsetRecordValue, offset_record_key,
    offset_record_value, offsets_partition,
};
pub use offsets::{ActiveProducer, EpochEnd, Isolation, LogEnds, OffsetAt, OffsetFound};
pub use options::{ConnectOptions, Security};
pub use produce::{ProduceLine, ProducePartition, ProducePending, Produced};
pub use producer_id::ProducerIdentity;
pub use quotas::{ClientQuota, QuotaEntity};
pub use topics::{NewTopic, Partition, Topic, TopicsWanted};
