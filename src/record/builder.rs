//! Building a v2 batch record by record, with exactly the records given: order, nulls and duplicate header keys stay.

use super::batch::ControlType;
use super::codec::{Codec, compress};
use super::error::{Error, Result};
use super::header::{
    Attributes, BatchHeader, HEADER_LEN, LOG_OVERHEAD, ProducerStamp, TimestampType, seal,
};
use super::records::{Headers, Record, put_nullable};
use super::split::SplitBatch;
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};
use crate::base::buffers;
use bytes::Bytes;

/// Kafka's sizes are 32 bits and signed.
const LARGEST_BATCH: usize = i32::MAX as usize;

/// How a batch is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    pub codec: Codec,
    /// The codec's own scale; `None` is its default.
    pub level: Option<i32>,
    pub timestamp_type: TimestampType,
}

/// Collects records and writes them as one batch. After [`BatchBuilder::finish`] it is empty and can be used again.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BuildOptions,
    attributes: i16,
    base_offset: i64,
    given_base_timestamp: Option<i64>,
    base_timestamp: i64,
    max_timestamp: i64,
    last_delta: i32,
    count: i32,
    /// The records as they will be, before compression.
    body: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(options: BuildOptions) -> Self {
        let mut attributes = options.codec.id();
        if options.timestamp_type == TimestampType::LogAppendTime {
            attributes |= Attributes::LOG_APPEND_TIME;
        }
        Self {
            options,
            attributes,
            base_offset: 0,
            given_base_timestamp: None,
            base_timestamp: -1,
            max_timestamp: i64::MIN,
            last_delta: -1,
            count: 0,
            body: Vec::new(),
        }
    }

    /// Marks the batch as part of its producer's transaction.
    pub fn transactional(mut self, yes: bool) -> Self {
        self.attributes &= !Attributes::TRANSACTIONAL;
        if yes {
            self.attributes |= Attributes::TRANSACTIONAL;
        }
        self
    }

    /// The base offset to write; 0 unless told, which is what brokers want of a producer.
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The time (ms) that deltas count from, instead of the first record's.
    pub fn base_timestamp(mut self, base_timestamp: i64) -> Self {
        self.given_base_timestamp = Some(base_timestamp);
        self
    }

    /// Adds a record at the next offset.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<()> {
        // Wraps to a negative delta only beyond 2³¹ records, which `push_at` refuses.
        self.push_at(
            self.last_delta.wrapping_add(1),
            timestamp,
            key,
            value,
            headers,
        )
    }

    /// Adds a copy of `record` at the next offset; its own offset is not looked at.
    pub fn push_record(&mut self, record: &Record<'_>) -> Result<()> {
        self.push(record.timestamp, record.key, record.value, record.headers)
    }

    /// Adds a record `offset_delta` after the base offset, which must be more than the last one's. Brokers take no
    /// batch with holes from a producer, but compacted logs have them.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<()> {
        if offset_delta <= self.last_delta {
            return Err(Error::BadOffset {
                what: "offset delta",
                at: self.body.len(),
                value: i64::from(offset_delta),
            });
        }
        let base_timestamp = match self.count {
            0 => self.given_base_timestamp.unwrap_or(timestamp),
            _ => self.base_timestamp,
        };
        let timestamp_delta = timestamp
            .checked_sub(base_timestamp)
            .ok_or(Error::BadTimestamp {
                at: self.body.len(),
                base: base_timestamp,
                delta: timestamp,
            })?;
        let length = record_len(timestamp_delta, offset_delta, key, value, headers)
            .filter(|length| self.body.len() + HEADER_LEN + length + 5 <= LARGEST_BATCH)
            .ok_or(Error::TooLarge {
                what: "batch",
                limit: LARGEST_BATCH,
            })?;
        // With its own length in front.
        self.reserve(length + 5);
        // Below the largest batch, hence an i32.
        put_varint(&mut self.body, length as i32);
        self.body.push(0);
        put_varlong(&mut self.body, timestamp_delta);
        put_varint(&mut self.body, offset_delta);
        put_nullable(&mut self.body, key);
        put_nullable(&mut self.body, value);
        put_varint(&mut self.body, headers.len() as i32);
        self.body.extend_from_slice(headers.encoded());
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// Bytes of the batch if it were finished now, before compression.
    pub fn len_estimate(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    pub fn record_count(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's bytes. An empty batch is refused.
    pub fn finish(&mut self, stamp: ProducerStamp) -> Result<Vec<u8>> {
        if self.count == 0 {
            return Err(Error::EmptyBatch);
        }
        self.finish_spanning(self.last_delta, stamp)
    }

    /// As [`BatchBuilder::finish`], in two parts: records that are not compressed are not copied again.
    pub fn finish_split(&mut self, stamp: ProducerStamp) -> Result<SplitBatch> {
        if self.count == 0 {
            return Err(Error::EmptyBatch);
        }
        let records = match self.options.codec {
            Codec::None => None,
            codec => Some(compress(codec, self.options.level, &self.body)?),
        };
        let length = records.as_ref().map_or(self.body.len(), Vec::len);
        let header = self.header(self.last_delta, stamp, length)?;
        let records = match records {
            Some(compressed) => {
                self.body.clear();
                Bytes::from(compressed)
            }
            None => buffers::share(std::mem::take(&mut self.body)),
        };
        self.clear();
        Ok(SplitBatch::of(header, records))
    }

    /// As [`BatchBuilder::finish`], with offsets after the last record that belong to the batch but hold none, as
    /// compaction leaves them. May be empty of records then.
    pub fn finish_spanning(
        &mut self,
        last_offset_delta: i32,
        stamp: ProducerStamp,
    ) -> Result<Vec<u8>> {
        if last_offset_delta < self.last_delta.max(0) {
            return Err(Error::BadOffset {
                what: "last offset delta",
                at: 23,
                value: i64::from(last_offset_delta),
            });
        }
        let compressed;
        let payload = match self.options.codec {
            Codec::None => &self.body,
            _ if self.count == 0 => &self.body,
            codec => {
                compressed = compress(codec, self.options.level, &self.body)?;
                &compressed
            }
        };
        let header = self.header(last_offset_delta, stamp, payload.len())?;
        let mut batch = Vec::with_capacity(header.total_len());
        batch.extend_from_slice(&header.to_bytes());
        batch.extend_from_slice(payload);
        seal(&mut batch);
        self.clear();
        Ok(batch)
    }

    /// The header of what was pushed, without its checksum.
    fn header(
        &self,
        last_offset_delta: i32,
        stamp: ProducerStamp,
        payload: usize,
    ) -> Result<BatchHeader> {
        let batch_length =
            i32::try_from(HEADER_LEN - LOG_OVERHEAD + payload).map_err(|_| Error::TooLarge {
                what: "batch",
                limit: LARGEST_BATCH,
            })?;
        Ok(BatchHeader {
            base_offset: self.base_offset,
            batch_length,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: Attributes(self.attributes),
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: if self.count == 0 {
                -1
            } else {
                self.max_timestamp
            },
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            record_count: self.count,
        })
    }

    fn clear(&mut self) {
        self.body.clear();
        self.base_timestamp = -1;
        self.max_timestamp = i64::MIN;
        self.last_delta = -1;
        self.count = 0;
    }

    /// Makes room. What is large comes from the buffers that are used again, since a batch is built as often.
    fn reserve(&mut self, more: usize) {
        let wanted = self.body.len() + more;
        if wanted <= self.body.capacity() {
            return;
        }
        let mut larger = buffers::take(wanted.max(2 * self.body.capacity()));
        larger.extend_from_slice(&self.body);
        buffers::give_back(std::mem::replace(&mut self.body, larger));
    }
}

/// Bytes of a record after its length; `None` beyond what 32 bits hold.
fn record_len(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: Headers<'_>,
) -> Option<usize> {
    let header_count = i32::try_from(headers.len()).ok()?;
    (1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + varint_len(header_count))
        .checked_add(nullable_len(key)?)?
        .checked_add(nullable_len(value)?)?
        .checked_add(headers.encoded().len())
        .filter(|&length| length <= LARGEST_BATCH)
}

fn nullable_len(bytes: Option<&[u8]>) -> Option<usize> {
    let length = bytes.map_or(Some(-1), |bytes| i32::try_from(bytes.len()).ok())?;
    Some(varint_len(length) + length.max(0) as usize)
}

/// The batch with which a broker ends `producer_id`'s transaction (`timestamp` in ms). Control types that are not
/// about transactions are written with an empty value.
pub fn control_batch(
    control: ControlType,
    base_offset: i64,
    timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
) -> Result<Vec<u8>> {
    let (number, is_transaction_end) = match control {
        ControlType::Abort => (0, true),
        ControlType::Commit => (1, true),
        ControlType::Other(number) => (number, false),
    };
    // Both begin with a version, 0.
    let mut key = vec![0, 0];
    key.extend_from_slice(&i16::to_be_bytes(number));
    let mut value = vec![0, 0];
    if is_transaction_end {
        value.extend_from_slice(&coordinator_epoch.to_be_bytes());
    }
    let mut builder = BatchBuilder::new(BuildOptions::default())
        .transactional(is_transaction_end)
        .base_offset(base_offset);
    builder.attributes |= Attributes::CONTROL;
    builder.push(timestamp, Some(&key), Some(&value), Headers::empty())?;
    builder.finish(ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence: -1,
    })
}
