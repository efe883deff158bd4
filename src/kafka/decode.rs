//! Decoding answers without trusting their counts.
//!
//! kafka-protocol reserves memory for as many array elements as the bytes claim, before reading any:
//! four hostile bytes ask for gigabytes, and a failed allocation ends the process. In the flexible
//! versions (all that current brokers speak) every length and count is an unsigned varint, read byte by
//! byte through `try_get_u8`; this buffer puts those bytes together again and refuses a value that the
//! bytes left in the frame could not hold. The frame itself is bounded before it is read. What still
//! panics inside the decoder (a capacity overflow in the old versions) is caught and becomes an error.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Tags are varints too, and vendors use numbers from 10,000 on.
const ALWAYS_ACCEPTED: u64 = 1 << 16;

/// A frame's bytes, read with an eye on every varint.
struct Bounded {
    bytes: Bytes,
    varint: u64,
    shift: u32,
}

impl Bounded {
    fn not_a_varint(&mut self) {
        self.varint = 0;
        self.shift = 0;
    }
}

impl Buf for Bounded {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }
    fn chunk(&self) -> &[u8] {
        &self.bytes
    }
    fn advance(&mut self, count: usize) {
        self.not_a_varint();
        self.bytes.advance(count);
    }
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        self.varint |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        // The decoder takes the fifth byte for the last, whatever it says.
        if byte < 0x80 || self.shift == 35 {
            let value = std::mem::take(&mut self.varint);
            self.shift = 0;
            // Compact lengths are one more than the length they tell.
            if value > (self.bytes.len() as u64 + 1).max(ALWAYS_ACCEPTED) {
                return Err(TryGetError {
                    requested: value as usize,
                    available: self.bytes.len(),
                });
            }
        }
        Ok(byte)
    }
}

impl ByteBuf for Bounded {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }
    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.not_a_varint();
        self.bytes.split_to(size)
    }
}

/// Decodes an answer whose response header was cut off already. Byte fields are slices of `body`.
pub(super) fn decode<M: Decodable>(body: Bytes, version: i16) -> Result<M, String> {
    let mut bounded = Bounded {
        bytes: body,
        varint: 0,
        shift: 0,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| M::decode(&mut bounded, version)));
    match outcome {
        Ok(Ok(message)) if bounded.bytes.is_empty() => Ok(message),
        Ok(Ok(_)) => Err(format!(
            "{} bytes are left over after its last field",
            bounded.bytes.len()
        )),
        Ok(Err(why)) => Err(why.to_string().trim().to_string()),
        Err(_) => Err("a count in it is impossible".to_string()),
    }
}

/// Cuts the response header (correlation id, and tagged fields in flexible versions) off a frame.
pub(super) fn cut_header<M: HeaderVersion>(
    mut frame: Bytes,
    version: i16,
) -> Result<Bytes, String> {
    let short = || "it ends within the response header".to_string();
    if frame.len() < 4 {
        return Err(short());
    }
    frame.advance(4);
    if M::header_version(version) >= 1 {
        let tags = varint(&mut frame).ok_or_else(short)?;
        for _ in 0..tags {
            varint(&mut frame).ok_or_else(short)?;
            let size = varint(&mut frame).ok_or_else(short)? as usize;
            if size > frame.len() {
                return Err(short());
            }
            frame.advance(size);
        }
    }
    Ok(frame)
}

fn varint(bytes: &mut Bytes) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::{FetchResponse, MetadataResponse, ProduceResponse};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    #[test]
    fn a_count_that_the_frame_cannot_hold_is_an_error_before_memory_is_reserved() {
        let mut frame = BytesMut::new();
        frame.put_i32(0); // throttle_time_ms
        frame.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]); // brokers: 4294967294 of them
        let why = decode::<MetadataResponse>(frame.freeze(), 12).unwrap_err();
        assert!(!why.is_empty());
    }

    #[test]
    fn records_of_a_fetch_answer_are_slices_of_the_frame() {
        use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
        let answer = FetchResponse::default().with_responses(vec![
            FetchableTopicResponse::default().with_partitions(vec![
                PartitionData::default().with_records(Some(Bytes::from(vec![7u8; 100_000]))),
            ]),
        ]);
        let mut frame = BytesMut::new();
        answer.encode(&mut frame, 13).unwrap();
        let frame = frame.freeze();
        let within = frame.as_ptr_range();

        let decoded: FetchResponse = decode(frame.clone(), 13).unwrap();

        let records = decoded.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(records.len(), 100_000);
        assert!(within.contains(&records.as_ptr()));
    }

    #[test]
    fn bytes_after_the_last_field_are_an_error() {
        let mut frame = BytesMut::new();
        ProduceResponse::default().encode(&mut frame, 9).unwrap();
        frame.put_u8(0);
        assert_eq!(
            decode::<ProduceResponse>(frame.freeze(), 9).unwrap_err(),
            "1 bytes are left over after its last field"
        );
    }

    #[test]
    fn a_varint_that_goes_on_after_five_bytes_is_bounded_too() {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_slice(&[0xff; 60]);
        assert!(decode::<MetadataResponse>(frame.freeze(), 12).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn hostile_bytes_are_an_error_or_a_message_never_a_panic(bytes: Vec<u8>) {
            let _ = decode::<MetadataResponse>(Bytes::from(bytes.clone()), 12);
            let _ = decode::<FetchResponse>(Bytes::from(bytes.clone()), 16);
            let _ = cut_header::<FetchResponse>(Bytes::from(bytes), 16);
        }
    }
}
