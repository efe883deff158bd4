//! What a broker checks of a producer's batch before it appends it, and how it rewrites the header.
//!
//! The order of the checks and their codes are those of `UnifiedLog.append` and `LogValidator` in Apache Kafka.

use super::codes::{self, Refusal};
use super::log::Marker;
use crate::record::{self, Batch, BatchHeader, ControlType, Limits, TimestampType};
use bytes::Bytes;

/// Attribute bit 3 says that the timestamps are the broker's.
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;

/// How a partition takes batches: its topic's configs and its own leader epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendRules {
    pub leader_epoch: i32,
    pub max_message_bytes: usize,
    pub log_append_time: bool,
    /// Compacted topics take no record without a key.
    pub compacted: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// The broker's clock, ms.
    pub now: i64,
}

fn corrupt(error: record::Error) -> Refusal {
    Refusal::new(codes::CORRUPT_MESSAGE, error.to_string())
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(codes::INVALID_RECORD, message)
}

pub(super) fn header(bytes: &[u8]) -> Result<BatchHeader, Refusal> {
    BatchHeader::parse(bytes).map_err(corrupt)
}

/// Checks a batch and returns it as it goes into the log at `base_offset`.
pub(super) fn accept(
    bytes: &[u8],
    rules: &AppendRules,
    base_offset: i64,
) -> Result<(BatchHeader, Bytes), Refusal> {
    let batch = Batch::parse(bytes).map_err(|error| match error {
        record::Error::UnsupportedMagic { .. }
        | record::Error::BadCount { .. }
        | record::Error::BadOffset { .. } => invalid(error.to_string()),
        other => corrupt(other),
    })?;
    let header = batch.header;
    if header.total_len() != bytes.len() {
        return Err(invalid(
            "Produce requests are required to contain exactly one record batch per partition",
        ));
    }
    if header.base_offset != 0 {
        return Err(invalid(format!(
            "The baseOffset of the record batch in the append should be 0, but it is {}",
            header.base_offset
        )));
    }
    if bytes.len() > rules.max_message_bytes {
        return Err(Refusal::new(
            codes::MESSAGE_TOO_LARGE,
            format!(
                "The record batch size in the append is {} bytes which exceeds the maximum configured value of {}.",
                bytes.len(),
                rules.max_message_bytes
            ),
        ));
    }
    batch.verify_crc().map_err(corrupt)?;
    check_header(&header)?;
    let max_timestamp = check_records(&batch, rules)?;

    let mut stored = bytes.to_vec();
    if rules.log_append_time {
        record::set_log_append_time(&mut stored, rules.now).map_err(corrupt)?;
    } else if header.attributes.timestamp_type() == TimestampType::LogAppendTime
        || header.max_timestamp != max_timestamp
    {
        stored = with_create_time(header, &stored, max_timestamp);
    }
    record::place(&mut stored, base_offset, rules.leader_epoch).map_err(corrupt)?;
    Ok((self::header(&stored)?, Bytes::from(stored)))
}

fn check_header(header: &BatchHeader) -> Result<(), Refusal> {
    if !header.is_dense() {
        return Err(invalid(format!(
            "Inconsistent batch offset range: lastOffsetDelta {}, count {}",
            header.last_offset_delta, header.record_count
        )));
    }
    if header.attributes.is_control() {
        return Err(invalid("Clients are not allowed to write control records"));
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.attributes.is_transactional() && header.producer_id < 0 {
        return Err(invalid("A transactional batch needs a producer id"));
    }
    Ok(())
}

/// Opens the batch and returns the largest timestamp of its records.
fn check_records(batch: &Batch<'_>, rules: &AppendRules) -> Result<i64, Refusal> {
    let mut scratch = Vec::new();
    let records = batch
        .open(&Limits::default(), &mut scratch)
        .map_err(corrupt)?;
    let created = batch.header.attributes.timestamp_type() == TimestampType::CreateTime;
    let mut max_timestamp = -1;
    for (expected, record) in (batch.header.base_offset..).zip(records) {
        let record = record.map_err(corrupt)?;
        if record.offset != expected {
            return Err(invalid(format!(
                "Inner record at offset {} inside the record batch does not have incremental offsets, expected offset is {expected}",
                record.offset
            )));
        }
        if rules.compacted && record.key.is_none() {
            return Err(invalid("Compacted topic cannot accept message without key"));
        }
        max_timestamp = max_timestamp.max(record.timestamp);
        if created && !rules.log_append_time && record.timestamp != -1 {
            check_time(record.timestamp, rules)?;
        }
    }
    Ok(max_timestamp)
}

fn check_time(timestamp: i64, rules: &AppendRules) -> Result<(), Refusal> {
    let behind = rules.now.saturating_sub(timestamp);
    let ahead = timestamp.saturating_sub(rules.now);
    if behind > rules.timestamp_before_max_ms || ahead > rules.timestamp_after_max_ms {
        return Err(Refusal::new(
            codes::INVALID_TIMESTAMP,
            format!("Timestamp {timestamp} of message is out of range"),
        ));
    }
    Ok(())
}

/// The batch under a topic with CreateTime: the bit gone, the maximum as the records have it. A record's own time
/// is its base and delta, so a LogAppendTime batch shows other times now, as on a broker.
fn with_create_time(header: BatchHeader, bytes: &[u8], max_timestamp: i64) -> Vec<u8> {
    let mut changed = header;
    changed.attributes.0 &= !LOG_APPEND_TIME_BIT;
    changed.max_timestamp = max_timestamp;
    if changed.attributes != header.attributes {
        changed.max_timestamp = created_maximum(&changed, bytes).unwrap_or(max_timestamp);
    }
    let body = &bytes[record::HEADER_LEN..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&changed.to_bytes()[21..]), body);
    changed.crc = crc;
    let mut out = changed.to_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// The largest timestamp once the batch is read as CreateTime.
fn created_maximum(changed: &BatchHeader, bytes: &[u8]) -> Option<i64> {
    let mut reread = changed.to_bytes().to_vec();
    reread.extend_from_slice(&bytes[record::HEADER_LEN..]);
    record_times(&reread)
        .ok()?
        .into_iter()
        .map(|(_, time)| time)
        .max()
}

/// Offset and timestamp of every record of a stored batch.
pub(super) fn record_times(bytes: &[u8]) -> Result<Vec<(i64, i64)>, Refusal> {
    let batch = Batch::parse(bytes).map_err(corrupt)?;
    let mut scratch = Vec::new();
    batch
        .open(&Limits::default(), &mut scratch)
        .map_err(corrupt)?
        .map(|record| {
            record
                .map(|record| (record.offset, record.timestamp))
                .map_err(corrupt)
        })
        .collect()
}

/// Whether a control batch is a commit marker.
pub(super) fn is_commit(bytes: &[u8]) -> bool {
    Batch::parse(bytes)
        .and_then(|batch| batch.control_type())
        .is_ok_and(|control| control == Some(ControlType::Commit))
}

/// The control batch that ends a transaction.
pub(super) fn marker(
    marker: &Marker,
    offset: i64,
    leader_epoch: i32,
    now: i64,
) -> Result<Vec<u8>, Refusal> {
    let control = if marker.commit {
        ControlType::Commit
    } else {
        ControlType::Abort
    };
    let mut bytes = record::control_batch(
        control,
        offset,
        now,
        marker.producer_id,
        marker.producer_epoch,
        marker.coordinator_epoch,
    )
    .map_err(corrupt)?;
    record::place(&mut bytes, offset, leader_epoch).map_err(corrupt)?;
    Ok(bytes)
}
