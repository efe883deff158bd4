//! What the records of `__consumer_offsets` say: who committed what on which partition, and when.
//!
//! These are no messages of the protocol. Kafka describes them in `OffsetCommitKey.json` and `OffsetCommitValue.json` of its
//! group coordinator: a version of two bytes, then the fields. Versions that nobody has yet are told as such and not
//! guessed at, and every length is checked against the bytes left, since what is read may have come from an archive.

use crate::base::{Offset, TimestampMs, TopicId, TopicPartition};
use bytes::Buf;

/// Where Kafka keeps committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Keys of committed offsets have this version or the one below it; higher ones are of groups and their members.
const NEWEST_KEY: i16 = 1;
const NEWEST_VALUE: i16 = 4;
/// The only version that says when the commit is to be forgotten.
const EXPIRES: i16 = 1;
const WITH_EPOCH: i16 = 3;
/// Lengths are variable and fields may be tagged.
const FLEXIBLE: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;

/// Whose offset a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetRecordKey {
    pub group: String,
    pub at: TopicPartition,
}

/// What was committed; a record without a value takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRecordValue {
    pub offset: Offset,
    /// −1: none.
    pub leader_epoch: i32,
    pub metadata: String,
    /// When the coordinator took it.
    pub committed_at: TimestampMs,
    /// Which topic of that name it was, where the coordinator knew it; older ones do not write it.
    pub topic_id: Option<TopicId>,
}

/// Bytes that are no committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetRecordError {
    #[error("it has version {0}, which kbr does not know")]
    UnknownVersion(i16),
    #[error("it ends before its last field, or a length in it is wrong")]
    Malformed,
}

type Read<T> = Result<T, OffsetRecordError>;

/// Reads a record's key; `None` if it is about something else than a committed offset.
pub fn offset_record_key(mut bytes: &[u8]) -> Read<Option<OffsetRecordKey>> {
    let version = number(bytes.try_get_i16())?;
    if version < 0 {
        return Err(OffsetRecordError::UnknownVersion(version));
    }
    if version > NEWEST_KEY {
        return Ok(None);
    }
    let group = short_text(&mut bytes)?;
    let topic = short_text(&mut bytes)?;
    let partition = number(bytes.try_get_i32())?;
    whole(bytes)?;
    Ok(Some(OffsetRecordKey {
        group,
        at: TopicPartition::new(topic, partition),
    }))
}

/// Reads a record's value.
pub fn offset_record_value(mut bytes: &[u8]) -> Read<OffsetRecordValue> {
    let version = number(bytes.try_get_i16())?;
    if !(0..=NEWEST_VALUE).contains(&version) {
        return Err(OffsetRecordError::UnknownVersion(version));
    }
    let offset = Offset(number(bytes.try_get_i64())?);
    let leader_epoch = match version >= WITH_EPOCH {
        true => number(bytes.try_get_i32())?,
        false => -1,
    };
    let metadata = match version >= FLEXIBLE {
        true => {
            // One more than the length; 0 would be none, which the field may not be.
            let length = varint(&mut bytes)?.checked_sub(1);
            text(&mut bytes, length.ok_or(OffsetRecordError::Malformed)?)?
        }
        false => short_text(&mut bytes)?,
    };
    let committed_at = TimestampMs(number(bytes.try_get_i64())?);
    if version == EXPIRES {
        number(bytes.try_get_i64())?;
    }
    let mut topic_id = None;
    if version >= FLEXIBLE {
        for _ in 0..varint(&mut bytes)? {
            let (tag, length) = (varint(&mut bytes)?, varint(&mut bytes)?);
            let field = part(&mut bytes, length)?;
            if tag == TOPIC_ID_TAG {
                let id = field.try_into().map_err(|_| OffsetRecordError::Malformed)?;
                topic_id = Some(TopicId::from_bytes(id)).filter(|id| !id.is_nil());
            }
        }
    }
    whole(bytes)?;
    Ok(OffsetRecordValue {
        offset,
        leader_epoch,
        metadata,
        committed_at,
        topic_id,
    })
}

/// On which partition of the offsets topic a group's offsets are, as `GroupCoordinatorService.partitionFor` has it: by
/// Java's `String.hashCode`, over UTF-16.
pub fn offsets_partition(group: &str, partitions: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    });
    // `Utils.abs`: the least number has no positive one.
    let hash = hash.checked_abs().unwrap_or(0);
    hash as usize % partitions.max(1)
}

fn number<T>(read: Result<T, bytes::TryGetError>) -> Read<T> {
    read.map_err(|_| OffsetRecordError::Malformed)
}

fn short_text(bytes: &mut &[u8]) -> Read<String> {
    let length = number(bytes.try_get_i16())?;
    let length = u32::try_from(length).map_err(|_| OffsetRecordError::Malformed)?;
    text(bytes, length)
}

fn text(bytes: &mut &[u8], length: u32) -> Read<String> {
    let text = std::str::from_utf8(part(bytes, length)?);
    Ok(text.map_err(|_| OffsetRecordError::Malformed)?.to_string())
}

fn part<'b>(bytes: &mut &'b [u8], length: u32) -> Read<&'b [u8]> {
    let length = usize::try_from(length).map_err(|_| OffsetRecordError::Malformed)?;
    let (part, rest) = bytes
        .split_at_checked(length)
        .ok_or(OffsetRecordError::Malformed)?;
    *bytes = rest;
    Ok(part)
}

fn varint(bytes: &mut &[u8]) -> Read<u32> {
    let mut value = 0_u32;
    for shift in (0..).step_by(7).take(5) {
        let byte = number(bytes.try_get_u8())?;
        // The fifth has room for four bits only.
        if shift == 28 && byte > 0x0f {
            return Err(OffsetRecordError::Malformed);
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(OffsetRecordError::Malformed)
}

fn whole(left: &[u8]) -> Read<()> {
    match left.is_empty() {
        true => Ok(()),
        false => Err(OffsetRecordError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    /// Told by Java 17: `String.hashCode`, `Utils.abs`, modulo 50.
    #[test]
    fn a_groups_partition_of_the_offsets_topic_is_the_one_that_kafka_computes() {
        for (group, partition) in [
            ("", 0),
            ("a", 47),
            ("checkout-api", 1),
            ("bench-group-999", 10),
            ("größe", 7),
            ("🦀-group", 30),
            // Its hash is the least number there is.
            ("polygenelubricants", 0),
        ] {
            assert_eq!(offsets_partition(group, 50), partition, "{group}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|digit| !digit.is_ascii_whitespace())
            .collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Written by the classes of Kafka 4.3.0's own group coordinator.
    const KEY: &str = "0001 0007 6772c3b6c39f65 0006 6f7264657273 00000007";
    const OF_A_GROUP: &str = "0002 0001 61";
    const VALUES: [&str; 6] = [
        "0000 0000000000126147 000d 636865636b706f696e743d3337 0000019aab01997b",
        "0001 0000000000126147 000d 636865636b706f696e743d3337 0000019aab01997b 0000019aab031fa0",
        "0002 0000000000126147 000d 636865636b706f696e743d3337 0000019aab01997b",
        "0003 0000000000126147 00000005 000d 636865636b706f696e743d3337 0000019aab01997b",
        "0004 0000000000126147 00000005 0e 636865636b706f696e743d3337 0000019aab01997b 00",
        "0004 0000000000126147 00000005 0e 636865636b706f696e743d3337 0000019aab01997b \
         01 00 10 0000000000004000800000000000002a",
    ];

    #[test]
    fn what_kafka_writes_is_read() {
        let expected = OffsetRecordKey {
            group: "größe".into(),
            at: TopicPartition::new("orders", 7),
        };
        assert_eq!(offset_record_key(&hex(KEY)), Ok(Some(expected.clone())));
        let oldest = hex(&KEY.replacen("0001", "0000", 1));
        assert_eq!(offset_record_key(&oldest), Ok(Some(expected)));
        assert_eq!(offset_record_key(&hex(OF_A_GROUP)), Ok(None));
        for (number, value) in VALUES.iter().enumerate() {
            let read = offset_record_value(&hex(value)).unwrap();
            let expected = OffsetRecordValue {
                offset: Offset(1_204_551),
                leader_epoch: if number < 3 { -1 } else { 5 },
                metadata: "checkpoint=37".into(),
                committed_at: TimestampMs(1_763_805_600_123),
                topic_id: (number == 5).then(|| TopicId::from_u128(0x4000_8000_0000_0000_002a)),
            };
            assert_eq!(read, expected, "{number}");
        }
    }

    #[test]
    fn versions_that_are_not_known_are_named_and_what_is_cut_or_too_long_is_refused() {
        for value in VALUES.map(hex) {
            for length in 0..value.len() {
                assert!(offset_record_value(&value[..length]).is_err(), "{length}");
            }
            let longer = [&value[..], &[0]].concat();
            assert_eq!(
                offset_record_value(&longer),
                Err(OffsetRecordError::Malformed)
            );
        }
        let key = hex(KEY);
        for length in 0..key.len() {
            assert!(offset_record_key(&key[..length]).is_err(), "{length}");
        }
        let unknown = offset_record_value(&hex("0005 0000000000000001"));
        assert_eq!(unknown, Err(OffsetRecordError::UnknownVersion(5)));
        let unknown = offset_record_key(&hex("ffff 0001 61"));
        assert_eq!(unknown, Err(OffsetRecordError::UnknownVersion(-1)));
        // A length that would ask for gigabytes.
        let huge = hex("0004 0000000000000001 00000000 ffffffff0f 00");
        assert_eq!(
            offset_record_value(&huge),
            Err(OffsetRecordError::Malformed)
        );
    }

    fn put_text(bytes: &mut Vec<u8>, text: &str) {
        bytes.put_i16(text.len() as i16);
        bytes.put_slice(text.as_bytes());
    }

    proptest! {
        #[test]
        fn every_key_and_value_of_version_3_comes_back(
            group in ".{0,60}",
            topic in "[a-z.]{1,40}",
            partition in 0..i32::MAX,
            offset in 0..i64::MAX,
            epoch in -1..i32::MAX,
            metadata in ".{0,60}",
            time in any::<i64>(),
        ) {
            let mut key = vec![0, 1];
            put_text(&mut key, &group);
            put_text(&mut key, &topic);
            key.put_i32(partition);
            let read = offset_record_key(&key).unwrap().unwrap();
            prop_assert_eq!(read, OffsetRecordKey { group, at: TopicPartition::new(topic, partition) });
            let mut value = vec![0, 3];
            value.put_i64(offset);
            value.put_i32(epoch);
            put_text(&mut value, &metadata);
            value.put_i64(time);
            let read = offset_record_value(&value).unwrap();
            prop_assert_eq!(
                (read.offset, read.leader_epoch, read.metadata, read.committed_at, read.topic_id),
                (Offset(offset), epoch, metadata, TimestampMs(time), None)
            );
        }

        #[test]
        fn whatever_bytes_come_there_is_an_answer(
            version in -1..7i16,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = [&version.to_be_bytes()[..], &bytes].concat();
            if let Ok(Some(key)) = offset_record_key(&bytes) {
                prop_assert!(key.group.len() + key.at.topic.len() <= bytes.len());
            }
            if let Ok(value) = offset_record_value(&bytes) {
                prop_assert!(value.metadata.len() <= bytes.len());
            }
        }
    }
}
