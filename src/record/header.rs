//! The 61 bytes in front of every v2 batch.

use super::codec::Codec;
use super::error::{Error, Result};
use super::varint::Cursor;

/// Bytes of a v2 batch header, from the base offset to the record count.
pub const HEADER_LEN: usize = 61;
/// Bytes in front of what `batch_length` counts: the base offset and the length itself.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Enough bytes to know length and magic of whatever comes next.
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// Where the bytes begin that the CRC covers.
pub(super) const ATTRIBUTES_AT: usize = 21;

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// The attribute bits of a batch: 0–2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
    pub(super) const TRANSACTIONAL: i16 = 1 << 4;
    pub(super) const CONTROL: i16 = 1 << 5;

    pub fn codec(self) -> Result<Codec> {
        Codec::from_id(self.0 & 0x07)
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time at which compaction may drop tombstones (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & (1 << 6) != 0
    }
}

/// Who wrote a batch, for the broker's duplicate check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// Not an idempotent producer.
    pub const NONE: Self = Self {
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };
}

/// A batch header as it is on the wire. Times in ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header and refuses one that no batch can have; the bytes behind it are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic != 2
        {
            return Err(Error::UnsupportedMagic {
                magic: magic as i8,
                at: MAGIC_AT,
            });
        }
        let mut cursor = Cursor::new(bytes.get(..HEADER_LEN).ok_or(Error::Truncated {
            what: "batch header",
            at: 0,
            wanted: HEADER_LEN,
            have: bytes.len(),
        })?);
        let header = Self {
            base_offset: cursor.i64("base offset")?,
            batch_length: cursor.i32("batch length")?,
            partition_leader_epoch: cursor.i32("partition leader epoch")?,
            magic: cursor.i8("magic")?,
            crc: cursor.u32("checksum")?,
            attributes: Attributes(i16::from_be_bytes(cursor.array("attributes")?)),
            last_offset_delta: cursor.i32("last offset delta")?,
            base_timestamp: cursor.i64("base timestamp")?,
            max_timestamp: cursor.i64("max timestamp")?,
            producer_id: cursor.i64("producer id")?,
            producer_epoch: i16::from_be_bytes(cursor.array("producer epoch")?),
            base_sequence: cursor.i32("base sequence")?,
            record_count: cursor.i32("record count")?,
        };
        header.validate()?;
        Ok(header)
    }

    fn validate(&self) -> Result<()> {
        if (self.batch_length as i64) < (HEADER_LEN - LOG_OVERHEAD) as i64 {
            return Err(Error::BadLength {
                what: "batch",
                at: 8,
                length: i64::from(self.batch_length),
            });
        }
        // `next_offset` must exist too.
        if self.base_offset < 0
            || self
                .base_offset
                .checked_add(i64::from(self.last_offset_delta) + 1)
                .is_none()
        {
            return Err(Error::BadOffset {
                what: "base offset",
                at: 0,
                value: self.base_offset,
            });
        }
        if self.last_offset_delta < 0 {
            return Err(Error::BadOffset {
                what: "last offset delta",
                at: 23,
                value: i64::from(self.last_offset_delta),
            });
        }
        // Compaction leaves fewer records than offsets, never more.
        if self.record_count < 0
            || i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1
        {
            return Err(Error::BadCount {
                what: "record count",
                at: 57,
                count: i64::from(self.record_count),
            });
        }
        Ok(())
    }

    /// The offset of the last record the batch had when it was written.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// Whether every offset of the batch has its record, which brokers demand of a batch that is produced.
    pub fn is_dense(&self) -> bool {
        i64::from(self.record_count) == i64::from(self.last_offset_delta) + 1
    }

    /// The header's bytes, checksum as it stands in `crc`.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }
}

/// Writes the checksum of a batch that is otherwise finished. `batch` is at least a header long.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}
