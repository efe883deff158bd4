//! Iterating over the records of an opened batch, borrowing every key, value and header.

use super::error::{Error, Result};
use super::header::{BatchHeader, TimestampType};
use super::varint::{Cursor, put_varint};

/// The smallest record: length, attributes, two deltas, null key, null value, no headers.
const SMALLEST_RECORD: usize = 7;

/// One record, borrowed from its batch. `offset` and `timestamp` (ms) are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: i64,
    /// `None` is null, which is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// One header of a record. Kafka takes any bytes as key, though clients write UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The headers of a record in order, duplicates included. Only well-formed bytes can be in here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Encoded as in a record, without the count.
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Headers<'a> {
    pub const fn empty() -> Self {
        Self {
            bytes: &[],
            count: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter {
            cursor: Cursor::new(self.bytes),
            left: self.count,
        }
    }

    pub(super) fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads `count` headers once, so that iterating cannot fail later.
    fn parse(cursor: &mut Cursor<'a>, at: usize) -> Result<Self> {
        let count = cursor.varint("header count")?;
        // A header is two bytes at least, so a larger count is a lie.
        if count < 0 || count as usize > cursor.remaining() / 2 {
            return Err(Error::BadCount {
                what: "header count",
                at,
                count: i64::from(count),
            });
        }
        let rest = cursor.rest();
        let start = cursor.at();
        for _ in 0..count {
            next_header(cursor)?;
        }
        Ok(Self {
            bytes: &rest[..cursor.at() - start],
            count: count as usize,
        })
    }
}

fn next_header<'a>(cursor: &mut Cursor<'a>) -> Result<Header<'a>> {
    let at = cursor.at();
    let key = nullable(cursor, "header key")?.ok_or(Error::BadLength {
        what: "header key",
        at,
        length: -1,
    })?;
    let value = nullable(cursor, "header value")?;
    Ok(Header { key, value })
}

/// A length and its bytes; −1 is null and nothing else below zero is allowed.
fn nullable<'a>(cursor: &mut Cursor<'a>, what: &'static str) -> Result<Option<&'a [u8]>> {
    let at = cursor.at();
    match cursor.varint(what)? {
        -1 => Ok(None),
        length if length < 0 || length as usize > cursor.remaining() => Err(Error::BadLength {
            what,
            at,
            length: i64::from(length),
        }),
        length => cursor.take(what, length as usize).map(Some),
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;
    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;
    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

/// See [`Headers::iter`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'a> {
    cursor: Cursor<'a>,
    left: usize,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Checked when the headers were made.
        next_header(&mut self.cursor).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}

/// Headers that own their bytes, for building records.
#[derive(Clone, Debug, Default)]
pub struct OwnedHeaders {
    bytes: Vec<u8>,
    count: usize,
}

impl OwnedHeaders {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one at the end; a key may come twice. Lengths beyond 2³¹−1 do not fit a batch and are refused by it.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        put_nullable(&mut self.bytes, Some(key));
        put_nullable(&mut self.bytes, value);
        self.count += 1;
        self
    }

    /// Adds all of `headers` at the end.
    pub fn extend(&mut self, headers: Headers<'_>) -> &mut Self {
        self.bytes.extend_from_slice(headers.bytes);
        self.count += headers.count;
        self
    }

    pub fn as_headers(&self) -> Headers<'_> {
        Headers {
            bytes: &self.bytes,
            count: self.count,
        }
    }
}

impl<'h> FromIterator<(&'h [u8], Option<&'h [u8]>)> for OwnedHeaders {
    fn from_iter<I: IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (key, value) in pairs {
            headers.push(key, value);
        }
        headers
    }
}

pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            // The builder refuses records beyond 2³¹−1 bytes before this is reached.
            put_varint(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(bytes);
        }
    }
}

/// The records of one batch, in order. After an error there are no more items.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    /// Set when the broker's clock goes for every record.
    log_append_time: Option<i64>,
    left: u32,
    previous_delta: i32,
    done: bool,
}

impl<'a> Records<'a> {
    /// Over the decompressed bytes behind `header`.
    pub(super) fn new(header: &BatchHeader, body: &'a [u8]) -> Result<Self> {
        let count = header.record_count;
        if count < 0 || count as usize > body.len() / SMALLEST_RECORD {
            return Err(Error::BadCount {
                what: "record count",
                at: 57,
                count: i64::from(count),
            });
        }
        Ok(Self {
            cursor: Cursor::new(body),
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            log_append_time: (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            left: count as u32,
            previous_delta: -1,
            done: false,
        })
    }

    fn step(&mut self) -> Result<Option<Record<'a>>> {
        if self.left == 0 {
            return match self.cursor.remaining() {
                0 => Ok(None),
                count => Err(Error::TrailingBytes {
                    at: self.cursor.at(),
                    count,
                }),
            };
        }
        self.left -= 1;
        let start = self.cursor.at();
        let length = self.cursor.varint("record length")?;
        if length < 0 || length as usize > self.cursor.remaining() {
            return Err(Error::BadLength {
                what: "record",
                at: start,
                length: i64::from(length),
            });
        }
        let body_at = self.cursor.at();
        let mut body = Cursor::new(self.cursor.take("record", length as usize)?);
        self.parse(&mut body)
            .map(Some)
            .map_err(|error| error.moved(body_at))
    }

    fn parse(&mut self, body: &mut Cursor<'a>) -> Result<Record<'a>> {
        // Record attributes are unused so far.
        body.i8("record attributes")?;
        let timestamp_delta = body.varlong("timestamp delta")?;
        let at = body.at();
        let offset_delta = body.varint("offset delta")?;
        if offset_delta <= self.previous_delta || offset_delta > self.last_offset_delta {
            return Err(Error::BadOffset {
                what: "offset delta",
                at,
                value: i64::from(offset_delta),
            });
        }
        self.previous_delta = offset_delta;
        let timestamp = match self.log_append_time {
            Some(time) => time,
            None => {
                self.base_timestamp
                    .checked_add(timestamp_delta)
                    .ok_or(Error::BadTimestamp {
                        at,
                        base: self.base_timestamp,
                        delta: timestamp_delta,
                    })?
            }
        };
        let key = nullable(body, "key")?;
        let value = nullable(body, "value")?;
        let at = body.at();
        let headers = Headers::parse(body, at)?;
        if body.remaining() > 0 {
            return Err(Error::TrailingBytes {
                at: body.at(),
                count: body.remaining(),
            });
        }
        Ok(Record {
            // Within [base, last], which the header's check keeps in 64 bits.
            offset: self.base_offset + i64::from(offset_delta),
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize + 1))
    }
}

impl std::iter::FusedIterator for Records<'_> {}
