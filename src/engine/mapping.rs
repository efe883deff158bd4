//! Where each restored record went: source offset → target offset, as exact runs.
//!
//! Restore knows it for sure, so translating a committed offset needs neither headers in the data nor guessing by time.
//! A run is dense: every source offset in it has its record, at the same distance in the target. Source offsets
//! between runs were not restored. Runs ascend in both logs; neighbours that continue each other are always one run,
//! so that equal mappings are equal bytes.

use crate::base::{Digest, Offset};
use serde::{Deserialize, Serialize};

/// `count` records from `source_from` up to `source_to` (exclusive) stand from `target_from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub source_from: Offset,
    pub source_to: Offset,
    pub target_from: Offset,
}

impl Run {
    /// How many records it holds.
    pub fn count(&self) -> i64 {
        self.source_to - self.source_from
    }

    /// The target offset after its last record.
    pub fn target_to(&self) -> Offset {
        self.target_from + self.count()
    }
}

/// One source partition's way into one target partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Mapping {
    runs: Vec<Run>,
    source_end: Offset,
    target_base: Offset,
    target_end: Offset,
    records: u64,
}

/// A translated offset and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    pub offset: Offset,
    pub how: How,
}

/// Which record the translated offset points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum How {
    /// At the very record the group would have read next.
    SameRecord,
    /// That one was not restored; this is the first restored one after it, at `source` in the source.
    NextRestored { source: Offset },
    /// No restored record at or after it: behind the last one.
    AfterLast,
}

/// A mapping that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "source offset {source_offset} → target offset {target_offset} does not come after {source_next} → {target_next}"
    )]
    OutOfOrder {
        source_offset: Offset,
        target_offset: Offset,
        source_next: Offset,
        target_next: Offset,
    },
    #[error("a run of {count} records from source offset {source_offset} is impossible")]
    BadCount { source_offset: Offset, count: i64 },
    #[error("the source range ends at {source_end}, before the last restored record at {last}")]
    EndBeforeLast { source_end: Offset, last: Offset },
}

impl Mapping {
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The source range's end (exclusive): what lies at or after it was not looked at.
    pub fn source_end(&self) -> Offset {
        self.source_end
    }

    /// Where the first restored record went, or would have.
    pub fn target_base(&self) -> Offset {
        self.target_base
    }

    /// The target offset after the last restored record; the base if there is none.
    pub fn target_end(&self) -> Offset {
        self.target_end
    }

    /// How many records were restored.
    pub fn records(&self) -> u64 {
        self.runs.iter().map(|run| run.count().unsigned_abs()).sum()
    }

    /// The target offset from which a group reads on that would have read `source` next: of the first restored record
    /// at or after it, or behind the last. Says nothing about whether `source` lies in the restored range.
    pub fn translate(&self, source: Offset) -> Translated {
        let next = self.runs.partition_point(|run| run.source_to <= source);
        match self.runs.get(next) {
            None => Translated {
                offset: self.target_end,
                how: How::AfterLast,
            },
            Some(run) if run.source_from <= source => Translated {
                offset: run.target_from + (source - run.source_from),
                how: How::SameRecord,
            },
            Some(run) => Translated {
                offset: run.target_from,
                how: How::NextRestored {
                    source: run.source_from,
                },
            },
        }
    }

    /// Restored records from a target offset on: a group's lag right after it is moved there.
    pub fn lag_from(&self, target: Offset) -> u64 {
        // Restore leaves no holes in the target, and then no run needs to be looked at.
        let span = (self.target_end - self.target_base).unsigned_abs();
        if self.records == span {
            return (self.target_end - target).clamp(0, span as i64) as u64;
        }
        let next = self.runs.partition_point(|run| run.target_to() <= target);
        self.runs[next..]
            .iter()
            .map(|run| (run.target_to() - target.max(run.target_from)).unsigned_abs())
            .sum()
    }

    /// A hash over the whole mapping: equal if and only if every record goes to the same place.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kbr.mapping/1");
        for number in [
            self.source_end.0,
            self.target_base.0,
            self.target_end.0,
            self.runs.len() as i64,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        for run in &self.runs {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&run.source_from.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&run.source_to.0.to_le_bytes());
            bytes[16..].copy_from_slice(&run.target_from.0.to_le_bytes());
            hasher.update(&bytes);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Collects runs in source order and merges those that continue each other.
#[derive(Clone, Debug)]
pub struct MappingBuilder {
    runs: Vec<Run>,
    target_base: Offset,
}

impl MappingBuilder {
    /// `target_base`: the offset that the first restored record gets, the target partition's end before writing.
    pub fn new(target_base: Offset) -> Self {
        Self {
            runs: Vec::new(),
            target_base,
        }
    }

    /// One record.
    pub fn push(&mut self, source: Offset, target: Offset) -> Result<(), Error> {
        self.push_run(source, 1, target)
    }

    /// One record, behind the last one in the target.
    pub fn append(&mut self, source: Offset) -> Result<(), Error> {
        self.push_run(source, 1, self.target_end())
    }

    /// `count` records without a hole between them, in source and target.
    pub fn push_run(&mut self, source: Offset, count: i64, target: Offset) -> Result<(), Error> {
        let impossible = Error::BadCount {
            source_offset: source,
            count,
        };
        let source_to = source.0.checked_add(count).map(Offset).ok_or(impossible)?;
        if count <= 0 || source.0 < 0 || target.0.checked_add(count).is_none() {
            return Err(impossible);
        }
        let (source_next, target_next) = match self.runs.last() {
            Some(last) => (last.source_to, last.target_to()),
            None => (Offset(0), self.target_base),
        };
        if source < source_next || target < target_next {
            return Err(Error::OutOfOrder {
                source_offset: source,
                target_offset: target,
                source_next,
                target_next,
            });
        }
        match self.runs.last_mut() {
            Some(last) if source == source_next && target == target_next => {
                last.source_to = source_to;
            }
            _ => self.runs.push(Run {
                source_from: source,
                source_to,
                target_from: target,
            }),
        }
        Ok(())
    }

    /// The target offset that comes next if nothing lies in between.
    pub fn target_end(&self) -> Offset {
        self.runs.last().map_or(self.target_base, Run::target_to)
    }

    /// `source_end`: the end (exclusive) of the source range that was gone through, restored or not.
    pub fn finish(self, source_end: Offset) -> Result<Mapping, Error> {
        if let Some(last) = self.runs.last()
            && last.source_to > source_end
        {
            return Err(Error::EndBeforeLast {
                source_end,
                last: last.source_to + -1,
            });
        }
        Ok(Mapping {
            records: self.runs.iter().map(|run| run.count().unsigned_abs()).sum(),
            target_end: self.target_end(),
            target_base: self.target_base,
            source_end,
            runs: self.runs,
        })
    }
}

/// How a mapping is written: each run as source offsets skipped, records, target offsets skipped, so that long
/// mappings are small numbers. Reading goes through the builder, which refuses what cannot be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wire {
    source_end: Offset,
    target_base: Offset,
    runs: Vec<(i64, i64, i64)>,
}

impl From<Mapping> for Wire {
    fn from(mapping: Mapping) -> Self {
        let mut source = Offset(0);
        let mut target = mapping.target_base;
        let runs = mapping
            .runs
            .iter()
            .map(|run| {
                let wire = (
                    run.source_from - source,
                    run.count(),
                    run.target_from - target,
                );
                source = run.source_to;
                target = run.target_to();
                wire
            })
            .collect();
        Self {
            source_end: mapping.source_end,
            target_base: mapping.target_base,
            runs,
        }
    }
}

impl TryFrom<Wire> for Mapping {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<Self, Error> {
        let mut builder = MappingBuilder::new(wire.target_base);
        let mut source = Offset(0);
        for (source_skip, count, target_skip) in wire.runs {
            let impossible = Error::BadCount {
                source_offset: source,
                count,
            };
            let (Some(from), Some(target)) = (
                source.0.checked_add(source_skip),
                builder.target_end().0.checked_add(target_skip),
            ) else {
                return Err(impossible);
            };
            builder.push_run(Offset(from), count, Offset(target))?;
            source = Offset(from + count);
        }
        builder.finish(wire.source_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_runs() -> Mapping {
        // Source 10..13 and 20..22 restored of [10, 30), into a target that begins at 100.
        let mut builder = MappingBuilder::new(Offset(100));
        for source in [10, 11, 12, 20, 21] {
            builder.append(Offset(source)).unwrap();
        }
        builder.finish(Offset(30)).unwrap()
    }

    #[test]
    fn neighbours_that_continue_each_other_are_one_run() {
        let mapping = two_runs();
        assert_eq!(
            mapping.runs(),
            [
                Run {
                    source_from: Offset(10),
                    source_to: Offset(13),
                    target_from: Offset(100)
                },
                Run {
                    source_from: Offset(20),
                    source_to: Offset(22),
                    target_from: Offset(103)
                },
            ]
        );
        assert_eq!(mapping.records(), 5);
        assert_eq!(mapping.target_end(), Offset(105));
    }

    #[test]
    fn an_offset_becomes_that_of_the_first_restored_record_at_or_after_it() {
        let mapping = two_runs();
        let cases = [
            (0, 100, How::NextRestored { source: Offset(10) }),
            (10, 100, How::SameRecord),
            (12, 102, How::SameRecord),
            (13, 103, How::NextRestored { source: Offset(20) }),
            (19, 103, How::NextRestored { source: Offset(20) }),
            (20, 103, How::SameRecord),
            (21, 104, How::SameRecord),
            (22, 105, How::AfterLast),
            (30, 105, How::AfterLast),
        ];
        for (source, offset, how) in cases {
            assert_eq!(
                mapping.translate(Offset(source)),
                Translated {
                    offset: Offset(offset),
                    how
                },
                "source offset {source}"
            );
        }
    }

    #[test]
    fn with_nothing_restored_every_offset_becomes_the_base() {
        let mapping = MappingBuilder::new(Offset(7)).finish(Offset(50)).unwrap();
        assert_eq!(mapping.translate(Offset(3)).offset, Offset(7));
        assert_eq!(mapping.translate(Offset(50)).offset, Offset(7));
        assert_eq!(mapping.lag_from(Offset(7)), 0);
    }

    #[test]
    fn lag_counts_restored_records_and_no_holes_in_the_target() {
        let mut builder = MappingBuilder::new(Offset(0));
        builder.push_run(Offset(0), 3, Offset(0)).unwrap();
        builder.push_run(Offset(3), 2, Offset(10)).unwrap();
        let mapping = builder.finish(Offset(5)).unwrap();
        assert_eq!(mapping.lag_from(Offset(0)), 5);
        assert_eq!(mapping.lag_from(Offset(2)), 3);
        assert_eq!(mapping.lag_from(Offset(5)), 2);
        assert_eq!(mapping.lag_from(Offset(11)), 1);
        assert_eq!(mapping.lag_from(Offset(12)), 0);
    }

    #[test]
    fn it_is_written_as_small_numbers_and_read_back_the_same() {
        let mapping = two_runs();
        let text = serde_json::to_string(&mapping).unwrap();
        assert_eq!(
            text,
            r#"{"source_end":30,"target_base":100,"runs":[[10,3,0],[7,2,0]]}"#
        );
        let back: Mapping = serde_json::from_str(&text).unwrap();
        assert_eq!(back, mapping);
        assert_eq!(back.digest(), mapping.digest());
    }

    #[test]
    fn runs_that_go_back_are_refused_when_built_and_when_read() {
        let mut builder = MappingBuilder::new(Offset(5));
        builder.push_run(Offset(10), 5, Offset(5)).unwrap();
        assert!(matches!(
            builder.push(Offset(14), Offset(10)),
            Err(Error::OutOfOrder { .. })
        ));
        assert!(matches!(
            builder.push(Offset(15), Offset(9)),
            Err(Error::OutOfOrder { .. })
        ));
        assert!(matches!(
            builder.push_run(Offset(15), 0, Offset(10)),
            Err(Error::BadCount { .. })
        ));
        assert!(matches!(
            builder.finish(Offset(14)),
            Err(Error::EndBeforeLast { .. })
        ));
        for text in [
            r#"{"source_end":30,"target_base":0,"runs":[[10,3,0],[-1,2,0]]}"#,
            r#"{"source_end":30,"target_base":0,"runs":[[10,3,0],[1,2,-1]]}"#,
            r#"{"source_end":30,"target_base":0,"runs":[[9223372036854775807,3,0]]}"#,
            r#"{"source_end":2,"target_base":0,"runs":[[0,3,0]]}"#,
        ] {
            assert!(serde_json::from_str::<Mapping>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mappings_that_differ_anywhere_have_different_digests() {
        let mut other = MappingBuilder::new(Offset(100));
        for source in [10, 11, 12, 20, 22] {
            other.append(Offset(source)).unwrap();
        }
        assert_ne!(
            two_runs().digest(),
            other.finish(Offset(30)).unwrap().digest()
        );
    }
}
