//! Which partitions of a topic are meant: `0-3,7`, `4-`.

use super::{PartitionId, Pattern};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of partitions as ranges: sorted, none touching another. Written `0-3,7`; `4-` has no end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionSet {
    /// First and last, both inclusive.
    ranges: Vec<(i32, i32)>,
}

/// Of the topics that match, these partitions. Several choices for a topic add up.
#[derive(Clone, Debug)]
pub struct SomePartitions {
    pub topics: Pattern,
    pub partitions: PartitionSet,
}

/// No end given.
const OPEN: i32 = i32::MAX;

impl PartitionSet {
    /// `0-3,7`; spaces do not matter.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!(
                "not a choice of partitions: {part:?} (write 3, 0-3, 0-3,7 or 4- for all from 4 on)"
            )
        };
        let number = |part: &str| {
            let number: i32 = part.trim().parse().map_err(|_| wrong(text))?;
            match number < 0 || number == OPEN {
                true => Err(wrong(text)),
                false => Ok(number),
            }
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let range = match part.split_once('-') {
                None => (number(part)?, number(part)?),
                Some((first, "")) => (number(first)?, OPEN),
                Some((first, last)) if last.trim().is_empty() => (number(first)?, OPEN),
                Some((first, last)) => (number(first)?, number(last)?),
            };
            if range.0 > range.1 {
                return Err(wrong(part));
            }
            ranges.push(range);
        }
        Ok(Self::of(ranges))
    }

    fn of(mut ranges: Vec<(i32, i32)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self { ranges: joined }
    }

    pub fn contains(&self, partition: PartitionId) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < partition.0);
        self.ranges
            .get(at)
            .is_some_and(|(first, _)| *first <= partition.0)
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest one in it that a topic of `count` partitions does not have.
    pub fn beyond(&self, count: i32) -> Option<PartitionId> {
        self.ranges.iter().find_map(|(first, last)| match *last {
            OPEN if *first < count => None,
            last if last < count => None,
            _ => Some(PartitionId((*first).max(count))),
        })
    }

    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.ranges.iter().chain(&other.ranges).copied().collect())
    }
}

impl FromIterator<PartitionId> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = PartitionId>>(partitions: I) -> Self {
        let ones = partitions
            .into_iter()
            .map(|partition| (partition.0, partition.0));
        Self::of(ones.collect())
    }
}

impl fmt::Display for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.ranges.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            match last {
                last if last == first => write!(f, "{first}")?,
                &OPEN => write!(f, "{first}-")?,
                last => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for PartitionSet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.is_empty() {
            true => Ok(Self::default()),
            false => Self::parse(&text),
        }
    }
}

impl From<PartitionSet> for String {
    fn from(set: PartitionSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_joined_and_written_back() {
        let set = PartitionSet::parse("7, 0-3,2-5, 9-").unwrap();
        assert_eq!(set.to_string(), "0-5,7,9-");
        let taken: Vec<i32> = (0..12)
            .filter(|id| set.contains(PartitionId(*id)))
            .collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 7, 9, 10, 11]);
        let single: PartitionSet = [3, 1, 2, 9].map(PartitionId).into_iter().collect();
        assert_eq!(single.to_string(), "1-3,9");
    }

    #[test]
    fn what_is_no_choice_of_partitions_is_refused() {
        for text in ["", "a", "3-1", "-1", "1,,2", "0x3", "2147483647", "1-2-3"] {
            assert!(PartitionSet::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_partition_beyond_the_topic_is_found() {
        let set = PartitionSet::parse("0-3,7").unwrap();
        assert_eq!(set.beyond(8), None);
        assert_eq!(set.beyond(6), Some(PartitionId(7)));
        assert_eq!(set.beyond(2), Some(PartitionId(2)));
        assert_eq!(PartitionSet::parse("4-").unwrap().beyond(5), None);
        assert_eq!(
            PartitionSet::parse("4-").unwrap().beyond(4),
            Some(PartitionId(4))
        );
    }
}
