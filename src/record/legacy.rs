//! Message formats 0 and 1 (before Kafka 0.11), which old segments on old brokers still hold, converted to v2 batches.
//!
//! ```text
//! offset i64 | size i32 | CRC32 u32 | magic i8 | attributes i8 | (v1) timestamp i64 | key i32 + bytes | value i32 + bytes
//! ```
//!
//! A compressed message wraps a message set in its value. Format 0 gives the inner messages their absolute offsets;
//! format 1 counts from 0 and gives the wrapper the offset of the last one.

use super::batch::Batch;
use super::builder::{BatchBuilder, BuildOptions};
use super::codec::{Codec, Limits, decompress};
use super::error::{Error, Result};
use super::header::{Attributes, LOG_OVERHEAD, MAGIC_AT, ProducerStamp, TimestampType};
use super::records::Headers;
use super::varint::Cursor;

/// Plain messages are gathered into batches of about this many bytes.
const GATHER: usize = 512 * 1024;
/// CRC, magic, attributes, key length, value length.
const SMALLEST_MESSAGE: usize = 14;
const NO_TIMESTAMP: i64 = -1;

/// Converts a message set into v2 batches with the same offsets, codecs, timestamps and timestamp types. v2 batches in
/// between pass through as they are. A message that is cut at the end is left out, as in [`super::batches`].
pub fn upgrade_legacy(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len()),
        open: None,
    };
    let mut at = 0;
    while let Some(length) = entry_len(&bytes[at..], at)? {
        let entry = &bytes[at..at + length];
        if entry[MAGIC_AT] == 2 {
            let batch = Batch::parse(entry).map_err(|error| error.moved(at))?;
            batch.verify_crc()?;
            writer.close()?;
            writer.out.extend_from_slice(entry);
        } else {
            let message = Message::parse(entry).map_err(|error| error.moved(at))?;
            match message.codec()? {
                Codec::None => writer.push(&message, Codec::None)?,
                codec => writer.unwrap(&message, codec, limits)?,
            }
        }
        at += length;
    }
    writer.close()?;
    Ok(writer.out)
}

/// Bytes of the whole message or batch at the start of `rest`; `None` if it is cut.
fn entry_len(rest: &[u8], at: usize) -> Result<Option<usize>> {
    if rest.len() <= MAGIC_AT {
        return Ok(None);
    }
    let size = Cursor::new(&rest[8..]).i32("message size")?;
    let Some(size) = usize::try_from(size)
        .ok()
        .filter(|&size| size >= SMALLEST_MESSAGE)
    else {
        return Err(Error::BadLength {
            what: "message",
            at: at + 8,
            length: i64::from(size),
        });
    };
    let magic = rest[MAGIC_AT] as i8;
    if !(0..=2).contains(&magic) {
        return Err(Error::UnsupportedMagic {
            magic,
            at: at + MAGIC_AT,
        });
    }
    Ok(Some(LOG_OVERHEAD + size).filter(|&length| length <= rest.len()))
}

struct Message<'a> {
    offset: i64,
    magic: i8,
    attributes: i8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// `entry` is exactly one message, offset and size included.
    fn parse(entry: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(entry);
        let offset = cursor.i64("message offset")?;
        let _size = cursor.i32("message size")?;
        let stored = cursor.u32("message checksum")?;
        let mut crc = flate2::Crc::new();
        crc.update(cursor.rest());
        if crc.sum() != stored {
            return Err(Error::CrcMismatch {
                base_offset: offset,
                stored,
                computed: crc.sum(),
            });
        }
        let magic = cursor.i8("magic")?;
        let attributes = cursor.i8("message attributes")?;
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            _ => cursor.i64("message timestamp")?,
        };
        let key = sized(&mut cursor, "message key")?;
        let value = sized(&mut cursor, "message value")?;
        if cursor.remaining() > 0 {
            return Err(Error::TrailingBytes {
                at: cursor.at(),
                count: cursor.remaining(),
            });
        }
        if offset < 0 {
            return Err(Error::BadOffset {
                what: "message offset",
                at: 0,
                value: offset,
            });
        }
        Ok(Self {
            offset,
            magic,
            attributes,
            timestamp,
            key,
            value,
        })
    }

    fn codec(&self) -> Result<Codec> {
        Codec::from_id(i16::from(self.attributes & 0x07))
    }

    fn timestamp_type(&self) -> TimestampType {
        // Format 0 knew no types and left the bit undefined.
        if self.magic == 0 {
            TimestampType::CreateTime
        } else {
            Attributes(i16::from(self.attributes)).timestamp_type()
        }
    }
}

fn sized<'a>(cursor: &mut Cursor<'a>, what: &'static str) -> Result<Option<&'a [u8]>> {
    let at = cursor.at();
    match cursor.i32(what)? {
        -1 => Ok(None),
        length if length < 0 || length as usize > cursor.remaining() => Err(Error::BadLength {
            what,
            at,
            length: i64::from(length),
        }),
        length => cursor.take(what, length as usize).map(Some),
    }
}

/// A v2 batch that messages are still added to.
struct Open {
    builder: BatchBuilder,
    codec: Codec,
    base_offset: i64,
    next_offset: i64,
    timestamp_type: TimestampType,
    /// The one time of a LogAppendTime batch.
    timestamp: i64,
}

struct Writer {
    out: Vec<u8>,
    open: Option<Open>,
}

impl Writer {
    fn push(&mut self, message: &Message<'_>, codec: Codec) -> Result<()> {
        let timestamp_type = message.timestamp_type();
        let joins = self.open.as_ref().is_some_and(|open| {
            open.codec == codec
                && open.timestamp_type == timestamp_type
                && (timestamp_type == TimestampType::CreateTime
                    || open.timestamp == message.timestamp)
                // A wrapper's messages stay one batch however large.
                && (codec != Codec::None || open.builder.len_estimate() < GATHER)
                && message.offset - open.base_offset < i64::from(i32::MAX)
        });
        if !joins {
            self.close()?;
        }
        let open = self.open.get_or_insert_with(|| Open {
            builder: BatchBuilder::new(BuildOptions {
                codec,
                level: None,
                timestamp_type,
            })
            .base_offset(message.offset),
            codec,
            base_offset: message.offset,
            next_offset: message.offset,
            timestamp_type,
            timestamp: message.timestamp,
        });
        let delta = message.offset.checked_sub(open.base_offset);
        let delta = delta.and_then(|delta| i32::try_from(delta).ok());
        let (Some(delta), true) = (delta, message.offset >= open.next_offset) else {
            return Err(Error::BadOffset {
                what: "message offset",
                at: 0,
                value: message.offset,
            });
        };
        // The largest offset leaves none for the next message, which would have to be larger.
        open.next_offset = message.offset.saturating_add(1);
        open.builder.push_at(
            delta,
            message.timestamp,
            message.key,
            message.value,
            Headers::empty(),
        )
    }

    /// Adds the messages inside a compressed one, as a batch of their own.
    fn unwrap(&mut self, wrapper: &Message<'_>, codec: Codec, limits: &Limits) -> Result<()> {
        // Zstandard came with format 2.
        if codec == Codec::Zstd {
            return Err(Error::Codec {
                codec,
                why: format!("message format {} does not have it", wrapper.magic),
            });
        }
        let Some(value) = wrapper.value else {
            return Err(Error::BadLength {
                what: "compressed message",
                at: 0,
                length: -1,
            });
        };
        self.close()?;
        let mut inner = Vec::new();
        decompress(codec, value, limits, &mut inner)?;
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some(length) = entry_len(&inner[at..], at)? {
            let message = Message::parse(&inner[at..at + length]).map_err(|e| e.moved(at))?;
            if message.magic != wrapper.magic || message.codec()? != Codec::None {
                return Err(Error::UnsupportedMagic {
                    magic: message.magic,
                    at: at + MAGIC_AT,
                });
            }
            messages.push(message);
            at += length;
        }
        // Inside a wrapper nothing may be cut.
        if at != inner.len() || messages.is_empty() {
            return Err(Error::TrailingBytes {
                at,
                count: inner.len() - at,
            });
        }
        let shift = match (wrapper.magic, messages.last()) {
            (1, Some(last)) => wrapper.offset - last.offset,
            _ => 0,
        };
        for mut message in messages {
            let inner_offset = message.offset;
            message.offset = inner_offset
                .checked_add(shift)
                .filter(|&offset| offset >= 0)
                .ok_or(Error::BadOffset {
                    what: "message offset",
                    at: 0,
                    value: inner_offset,
                })?;
            // The broker sets type and time on the wrapper only.
            message.attributes = wrapper.attributes;
            if wrapper.timestamp_type() == TimestampType::LogAppendTime {
                message.timestamp = wrapper.timestamp;
            }
            self.push(&message, codec)?;
        }
        self.close()
    }

    fn close(&mut self) -> Result<()> {
        if let Some(mut open) = self.open.take() {
            let batch = open.builder.finish(ProducerStamp::NONE)?;
            // Refuses what no log can hold, such as offsets at the very end of 64 bits.
            Batch::parse(&batch)?;
            self.out.extend_from_slice(&batch);
        }
        Ok(())
    }
}
