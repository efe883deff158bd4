//! Which target partition a record goes to.
//!
//! Without repartitioning a source partition has one target. With it, a record with a key goes where Kafka's default
//! partitioner sends that key, so that all records of a key stay in one partition, in order, and producers that go on
//! writing send the key to the same one. A record without a key has no place of its own; see [`Routing::target`].

use crate::base::PartitionId;
use serde::{Deserialize, Serialize};

/// Source offsets whose records without a key stay together.
pub const KEYLESS_RUN: i64 = 1000;

/// How the records of a topic find their target partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Routing {
    /// A source partition has one route, and all its records take it.
    #[default]
    Partition,
    /// By the key's hash, over so many partitions.
    Key { partitions: i32 },
}

impl Routing {
    /// Where a record goes that `routes` by key; `None` if its source's one route is meant.
    ///
    /// Records without a key go round: [`KEYLESS_RUN`] source offsets to one partition, the next to the next one,
    /// source partition `p` beginning at target `p`. It depends on nothing but where the record stood.
    pub fn target(
        &self,
        source: PartitionId,
        offset: i64,
        key: Option<&[u8]>,
    ) -> Option<PartitionId> {
        let Routing::Key { partitions } = *self else {
            return None;
        };
        let partitions = partitions.max(1);
        Some(PartitionId(match key {
            // Kafka's `Utils.toPositive(Utils.murmur2(key)) % partitions`.
            Some(key) => (murmur2(key) & 0x7fff_ffff) as i32 % partitions,
            None => {
                let turn = i64::from(source.0) + offset.div_euclid(KEYLESS_RUN);
                // Less than `partitions`, hence an i32.
                turn.rem_euclid(i64::from(partitions)) as i32
            }
        }))
    }
}

/// Kafka's MurmurHash2, seed 0x9747b28c (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Kafka's lengths are Java ints.
    let mut hash = SEED ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in words.by_ref() {
        // `chunks_exact` gives four bytes.
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_kafka_tests_its_own_by() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_key_has_one_partition_and_records_without_one_go_round() {
        let routing = Routing::Key { partitions: 12 };
        let at = |source, offset, key| routing.target(PartitionId(source), offset, key).unwrap().0;
        // 479470107 & 0x7fffffff, modulo 12.
        assert_eq!(at(0, 0, Some(b"abc")), 479_470_107 % 12);
        assert_eq!(at(5, 77, Some(b"abc")), 479_470_107 % 12);
        assert_eq!(at(3, 999, None), 3);
        assert_eq!(at(3, 1000, None), 4);
        assert_eq!(at(3, 9_000, None), 0);
        assert_eq!(Routing::Partition.target(PartitionId(3), 0, None), None);
    }
}
