//! Zigzag variable-length integers as in Protocol Buffers: at most 5 bytes for 32 bits, 10 for 64.

use super::error::{Error, Result};

/// Reads forward through a slice and knows where it is, for the errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn take(&mut self, what: &'static str, length: usize) -> Result<&'a [u8]> {
        let rest = self.rest();
        let Some(taken) = rest.get(..length) else {
            return Err(Error::Truncated {
                what,
                at: self.at,
                wanted: length,
                have: rest.len(),
            });
        };
        self.at += length;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let at = self.at;
        let taken = self.take(what, N)?;
        taken.try_into().map_err(|_| Error::Truncated {
            what,
            at,
            wanted: N,
            have: taken.len(),
        })
    }

    pub fn i8(&mut self, what: &'static str) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array(what)?))
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    pub fn varint(&mut self, what: &'static str) -> Result<i32> {
        let start = self.at;
        let raw = self.unsigned(what, 5)?;
        match u32::try_from(raw) {
            Ok(raw) => Ok(((raw >> 1) as i32) ^ -((raw & 1) as i32)),
            Err(_) => Err(Error::BadVarint { what, at: start }),
        }
    }

    pub fn varlong(&mut self, what: &'static str) -> Result<i64> {
        let raw = self.unsigned(what, 10)?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    #[inline]
    fn unsigned(&mut self, what: &'static str, longest: usize) -> Result<u64> {
        let rest = self.rest();
        // Most lengths and deltas fit one byte.
        if let Some(&first) = rest.first()
            && first < 0x80
        {
            self.at += 1;
            return Ok(u64::from(first));
        }
        let mut value = 0u64;
        for (index, &byte) in rest.iter().take(longest).enumerate() {
            // The tenth byte has room for one bit only.
            if index == 9 && byte > 1 {
                return Err(Error::BadVarint { what, at: self.at });
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        if rest.len() < longest {
            return Err(Error::Truncated {
                what,
                at: self.at,
                wanted: rest.len() + 1,
                have: rest.len(),
            });
        }
        Err(Error::BadVarint { what, at: self.at })
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(zigzag32(value)));
}

pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, zigzag64(value));
}

pub(super) fn varint_len(value: i32) -> usize {
    unsigned_len(u64::from(zigzag32(value)))
}

pub(super) fn varlong_len(value: i64) -> usize {
    unsigned_len(zigzag64(value))
}

fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unsigned_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_bytes_that_kafka_writes() {
        // From Kafka's ByteUtilsTest.
        let cases: [(i32, &[u8]); 8] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(Cursor::new(bytes).varint("test").unwrap(), value);
        }
        let longs: [(i64, &[u8]); 3] = [
            (-8192, &[0xff, 0x7f]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, bytes) in longs {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varlong_len(value), bytes.len());
            assert_eq!(Cursor::new(bytes).varlong("test").unwrap(), value);
        }
    }

    #[test]
    fn an_overlong_integer_is_refused_and_a_cut_one_is_truncated() {
        let overlong = [0xff; 11];
        assert!(matches!(
            Cursor::new(&overlong).varint("x"),
            Err(Error::BadVarint { at: 0, .. })
        ));
        assert!(matches!(
            Cursor::new(&overlong).varlong("x"),
            Err(Error::BadVarint { at: 0, .. })
        ));
        assert!(matches!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint("x"),
            Err(Error::BadVarint { .. })
        ));
        assert!(matches!(
            Cursor::new(&[0x80, 0x80]).varint("x"),
            Err(Error::Truncated { .. })
        ));
    }
}
