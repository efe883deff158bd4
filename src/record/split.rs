//! A batch whose header lies apart from its records, so that one that passes from log to log is stamped without its
//! records being copied or changed: they stay in the block that they were read with.

use super::batch::Batch;
use super::error::{Error, Result};
use super::header::{ATTRIBUTES_AT, Attributes, BatchHeader, HEADER_LEN, ProducerStamp};
use bytes::{Bytes, BytesMut};

/// A whole batch in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBatch {
    header: BatchHeader,
    /// As stored: compressed if the attributes say so.
    records: Bytes,
}

impl SplitBatch {
    /// Of bytes that must be exactly one batch.
    pub fn new(bytes: Bytes) -> Result<Self> {
        let parsed = Batch::parse(&bytes)?;
        match bytes.len() - parsed.bytes().len() {
            0 => Ok(Self {
                header: parsed.header,
                records: bytes.slice(HEADER_LEN..),
            }),
            count => Err(Error::TrailingBytes {
                at: parsed.bytes().len(),
                count,
            }),
        }
    }

    /// Of parts that belong together; the checksum is computed.
    pub(super) fn of(header: BatchHeader, records: Bytes) -> Self {
        let mut batch = Self { header, records };
        batch.seal();
        batch
    }

    /// Makes an archived batch ready to be produced: `base_offset` (0 for a broker that assigns), our own producer, no
    /// leader epoch, and of the attributes only codec and timestamp type. The transactional bit goes because the batch is
    /// no part of a transaction here. The delete horizon goes because with it the first cleaning would drop a compacted
    /// tombstone; its base timestamp stays, since the deltas count from it. The checksum is computed anew.
    pub fn restamp(&mut self, base_offset: i64, stamp: ProducerStamp) -> Result<()> {
        self.header = restamped(&self.header, base_offset, stamp)?;
        self.seal();
        Ok(())
    }

    fn seal(&mut self) {
        let header = self.header.to_bytes();
        let crc = crc32c::crc32c(&header[ATTRIBUTES_AT..]);
        self.header.crc = crc32c::crc32c_append(crc, &self.records);
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header's bytes, behind which the records belong.
    pub fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.header.to_bytes()
    }

    pub fn records(&self) -> &Bytes {
        &self.records
    }

    /// Bytes of the whole batch.
    #[allow(clippy::len_without_is_empty, reason = "there is always a header")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The same batch apart from the bytes that its records lie among.
    pub fn copied(&self) -> Self {
        Self {
            header: self.header,
            records: Bytes::copy_from_slice(&self.records),
        }
    }

    /// The whole batch in one piece, which copies it.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.extend_from_slice(&self.header_bytes());
        bytes.extend_from_slice(&self.records);
        bytes.freeze()
    }
}

/// The header under which a batch is produced.
pub(super) fn restamped(
    header: &BatchHeader,
    base_offset: i64,
    stamp: ProducerStamp,
) -> Result<BatchHeader> {
    if header.attributes.is_control() {
        return Err(Error::ControlBatch {
            base_offset: header.base_offset,
        });
    }
    Ok(BatchHeader {
        base_offset,
        partition_leader_epoch: -1,
        attributes: Attributes(header.attributes.0 & (0x07 | Attributes::LOG_APPEND_TIME)),
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        base_sequence: stamp.base_sequence,
        ..*header
    })
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, BuildOptions, Headers, restamp};
    use super::*;

    fn built() -> Vec<u8> {
        let mut builder = BatchBuilder::new(BuildOptions::default()).transactional(true);
        for at in 0..3 {
            builder
                .push(1000 + at, Some(b"key"), Some(b"value"), Headers::empty())
                .unwrap();
        }
        builder.finish(ProducerStamp::NONE).unwrap()
    }

    #[test]
    fn a_split_batch_is_stamped_as_a_whole_one_and_its_records_stay_where_they_are() {
        let stamp = ProducerStamp {
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: 40,
        };
        let mut whole = built();
        let bytes = Bytes::from(built());
        let place = bytes[HEADER_LEN..].as_ptr();
        restamp(&mut whole, 5, stamp).unwrap();
        let mut split = SplitBatch::new(bytes).unwrap();
        split.restamp(5, stamp).unwrap();
        assert_eq!(split.records().as_ptr(), place);
        assert_eq!(split.len(), whole.len());
        assert_eq!(split.to_bytes(), whole);
        Batch::parse(&split.to_bytes())
            .unwrap()
            .verify_crc()
            .unwrap();
    }

    #[test]
    fn bytes_behind_a_batch_are_no_part_of_it() {
        let mut bytes = built();
        bytes.push(0);
        assert!(matches!(
            SplitBatch::new(bytes.into()),
            Err(Error::TrailingBytes { count: 1, .. })
        ));
    }
}
