//! Walking through fetched or archived bytes batch by batch, without opening any.

use super::codec::{Codec, Limits, decompress};
use super::error::{Error, Result};
use super::header::{
    ATTRIBUTES_AT, BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC_AT, TimestampType,
};
use super::records::Records;
use super::varint::Cursor;

/// Control records hold a key of four bytes and a few bytes of value; more than this is not one.
const CONTROL_LIMITS: Limits = Limits {
    max_decompressed: 64 * 1024,
};

/// One whole v2 batch in borrowed bytes. Its checksum is not looked at before [`Batch::verify_crc`].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub header: BatchHeader,
    bytes: &'a [u8],
}

/// What a control batch says about its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    Abort,
    Commit,
    /// Leader change, snapshot header and what later versions add.
    Other(i16),
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`; what follows it is left alone.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let header = BatchHeader::parse(bytes)?;
        let whole = bytes.get(..header.total_len()).ok_or(Error::Truncated {
            what: "batch",
            at: 0,
            wanted: header.total_len(),
            have: bytes.len(),
        })?;
        Ok(Self {
            header,
            bytes: whole,
        })
    }

    /// The whole batch, header included, as it is on the wire.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as stored: compressed if the attributes say so.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Computes the CRC32C over attributes to end and compares it with the stored one.
    pub fn verify_crc(&self) -> Result<()> {
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(Error::CrcMismatch {
                base_offset: self.header.base_offset,
                stored: self.header.crc,
                computed,
            })
        }
    }

    /// What the control record says; `None` for data and for a control batch that compaction has emptied.
    pub fn control_type(&self) -> Result<Option<ControlType>> {
        if !self.header.attributes.is_control() || self.header.record_count == 0 {
            return Ok(None);
        }
        let mut scratch = Vec::new();
        let Some(record) = self.open(&CONTROL_LIMITS, &mut scratch)?.next() else {
            return Ok(None);
        };
        let mut key = Cursor::new(record?.key.unwrap_or_default());
        let _version: [u8; 2] = key.array("control record key")?;
        Ok(Some(
            match i16::from_be_bytes(key.array("control record key")?) {
                0 => ControlType::Abort,
                1 => ControlType::Commit,
                other => ControlType::Other(other),
            },
        ))
    }

    /// The lowest timestamp of the records, if it can be told without decompressing; `None` also for an empty batch.
    ///
    /// The header has only the first and the highest: later records may be older. Nothing but lengths and timestamps
    /// is looked at, so that a backup can afford it for every uncompressed batch.
    pub fn lowest_timestamp(&self) -> Result<Option<i64>> {
        let header = &self.header;
        if header.record_count == 0 {
            return Ok(None);
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime
            || header.record_count == 1
        {
            return Ok(Some(header.max_timestamp));
        }
        if header.attributes.codec()? != Codec::None {
            return Ok(None);
        }
        let mut cursor = Cursor::new(self.payload());
        let mut lowest = i64::MAX;
        for _ in 0..header.record_count {
            let length = cursor.varint("record length")?;
            let length = usize::try_from(length).map_err(|_| Error::BadLength {
                what: "record",
                at: HEADER_LEN + cursor.at(),
                length: i64::from(length),
            })?;
            let mut record = Cursor::new(cursor.take("record", length)?);
            record.i8("record attributes")?;
            let delta = record.varlong("timestamp delta")?;
            lowest = lowest.min(header.base_timestamp.saturating_add(delta));
        }
        Ok(Some(lowest))
    }

    /// The records, decompressed into `scratch` if need be (its old content is dropped, its capacity used again).
    pub fn open<'s>(&'s self, limits: &Limits, scratch: &'s mut Vec<u8>) -> Result<Records<'s>> {
        let body = match self.header.attributes.codec()? {
            Codec::None => {
                if self.payload().len() > limits.max_decompressed {
                    return Err(Error::TooLarge {
                        what: "batch",
                        limit: limits.max_decompressed,
                    });
                }
                self.payload()
            }
            codec => {
                decompress(codec, self.payload(), limits, scratch)?;
                scratch.as_slice()
            }
        };
        Records::new(&self.header, body)
    }
}

/// Iterates over the whole batches in `bytes`. A batch that is cut at the end, as fetch responses have them, ends the
/// iteration quietly; [`Batches::remainder`] is what was left over. After an error there are no more items.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches {
        bytes,
        at: 0,
        failed: false,
    }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// The bytes not yet walked over: after the end, those of a cut batch, or of the one that failed.
    pub fn remainder(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Where the next batch begins, in bytes from the start.
    pub fn position(&self) -> usize {
        self.at
    }

    fn step(&mut self) -> Result<Option<Batch<'a>>> {
        let rest = self.remainder();
        let Some(start) = rest.get(..=MAGIC_AT) else {
            return Ok(None);
        };
        if start[MAGIC_AT] != 2 {
            return Err(Error::UnsupportedMagic {
                magic: start[MAGIC_AT] as i8,
                at: self.at + MAGIC_AT,
            });
        }
        let length = Cursor::new(&start[8..]).i32("batch length")?;
        if i64::from(length) < (HEADER_LEN - LOG_OVERHEAD) as i64 {
            return Err(Error::BadLength {
                what: "batch",
                at: self.at + 8,
                length: i64::from(length),
            });
        }
        if rest.len() < LOG_OVERHEAD + length as usize {
            return Ok(None);
        }
        let batch = Batch::parse(rest)?;
        self.at += batch.bytes.len();
        Ok(Some(batch))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl std::iter::FusedIterator for Batches<'_> {}
