//! Which records of a partition are restored: by offset, by time, by filter. Bytes only.
//!
//! A batch is opened only when something can cut it. Its header tells the latest timestamp exactly but not the
//! earliest: producers may write out of order, so `since` opens every batch that reaches it.

use super::options::{FilterRecord, FilterSession};
use super::plan::{WritePartition, WriteTopic};
use crate::base::{Offset, TimestampMs, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::record::{BatchHeader, Record, TimestampType};

/// The bounds of one source partition. Offsets and times are half-open ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub from: i64,
    pub to: i64,
    pub since: Option<i64>,
    pub before: Option<i64>,
}

/// What a batch's header tells about its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are within the bounds.
    Whole,
    /// None by offset.
    Outside,
    /// None by time.
    OutOfTime,
    /// Only the records themselves can tell.
    Open,
}

/// What becomes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    /// Outside the offset range: it is not part of the partition as archived.
    Outside,
    OutOfTime,
    Filtered,
}

impl Cut {
    /// These bounds, and within `offsets` as well.
    pub fn within(&self, offsets: &std::ops::Range<i64>) -> Self {
        Self {
            from: self.from.max(offsets.start),
            to: self.to.min(offsets.end),
            ..*self
        }
    }

    pub fn batch(&self, header: &BatchHeader) -> Verdict {
        if header.last_offset() < self.from || header.base_offset >= self.to {
            return Verdict::Outside;
        }
        let latest = header.max_timestamp;
        if self.since.is_some_and(|since| latest < since) {
            return Verdict::OutOfTime;
        }
        let straddles = header.base_offset < self.from || header.last_offset() >= self.to;
        let one_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        if one_time && self.before.is_some_and(|before| latest >= before) {
            return Verdict::OutOfTime;
        }
        let time_cuts = !one_time
            && (self.since.is_some() || self.before.is_some_and(|before| latest >= before));
        if straddles || time_cuts {
            Verdict::Open
        } else {
            Verdict::Whole
        }
    }

    pub fn record(&self, offset: i64, timestamp: i64) -> Fate {
        if offset < self.from || offset >= self.to {
            Fate::Outside
        } else if self.since.is_some_and(|since| timestamp < since)
            || self.before.is_some_and(|before| timestamp >= before)
        {
            Fate::OutOfTime
        } else {
            Fate::Keep
        }
    }
}

/// Bounds and filter of one source partition.
pub struct Selector {
    pub partition: TopicPartition,
    pub cut: Cut,
    pub filter: Option<Box<dyn FilterSession>>,
}

impl Selector {
    /// What the header alone decides; a filter wants to see every record within the bounds.
    pub fn batch(&self, header: &BatchHeader) -> Verdict {
        match self.cut.batch(header) {
            Verdict::Whole if self.filter.is_some() => Verdict::Open,
            verdict => verdict,
        }
    }

    pub fn record(&mut self, record: &Record<'_>) -> Result<Fate> {
        let fate = self.cut.record(record.offset, record.timestamp);
        let (Fate::Keep, Some(filter)) = (fate, &mut self.filter) else {
            return Ok(fate);
        };
        let seen = FilterRecord {
            topic: &self.partition.topic,
            partition: self.partition.partition.0,
            record,
        };
        match filter.keep(&seen) {
            Ok(true) => Ok(Fate::Keep),
            Ok(false) => Ok(Fate::Filtered),
            Err(source) => Err(Error::Filter {
                partition: self.partition.clone(),
                offset: Offset(record.offset),
                timestamp: TimestampMs(record.timestamp),
                key: key_text(record.key),
                source,
            }),
        }
    }

    /// On how many records the filter failed so far that were kept or dropped nevertheless.
    pub fn failed(&self) -> u64 {
        self.filter.as_ref().map_or(0, |filter| filter.failed())
    }
}

/// A record's key as far as it helps to find the record.
fn key_text(key: Option<&[u8]>) -> String {
    const SHOWN: usize = 40;
    let Some(key) = key else {
        return "no key".to_string();
    };
    let Ok(text) = std::str::from_utf8(key) else {
        let hex: String = key
            .iter()
            .take(SHOWN / 2)
            .map(|b| format!("{b:02x}"))
            .collect();
        let more = if key.len() > SHOWN / 2 { "…" } else { "" };
        return format!("key 0x{hex}{more}");
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("key {:?}…", &text[..end]),
        None => format!("key {text:?}"),
    }
}

/// Bounds and filter of a planned route's source.
pub(crate) fn selector(write: &WriteTopic, partition: &WritePartition) -> Selector {
    Selector {
        partition: TopicPartition::new(write.source_topic.clone(), partition.source),
        cut: Cut {
            from: partition.from.0,
            to: partition.to.0,
            since: write.since.map(|at| at.0),
            before: write.before.map(|at| at.0),
        },
        filter: write.filter.as_ref().map(|filter| filter.session()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, BatchBuilder, BuildOptions, Headers, ProducerStamp};

    fn batch(timestamps: &[i64], timestamp_type: TimestampType) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BuildOptions {
            timestamp_type,
            ..BuildOptions::default()
        })
        .base_offset(10);
        for timestamp in timestamps {
            builder
                .push(*timestamp, None, None, Headers::empty())
                .unwrap();
        }
        builder.finish(ProducerStamp::NONE).unwrap()
    }

    fn verdict(cut: Cut, bytes: &[u8]) -> Verdict {
        cut.batch(&Batch::parse(bytes).unwrap().header)
    }

    const ALL: Cut = Cut {
        from: 0,
        to: 100,
        since: None,
        before: None,
    };

    #[test]
    fn a_batch_is_opened_only_where_a_bound_can_cut_it() {
        let bytes = batch(&[50, 20, 30], TimestampType::CreateTime);
        assert_eq!(verdict(ALL, &bytes), Verdict::Whole);
        assert_eq!(verdict(Cut { from: 11, ..ALL }, &bytes), Verdict::Open);
        assert_eq!(verdict(Cut { to: 12, ..ALL }, &bytes), Verdict::Open);
        assert_eq!(verdict(Cut { from: 13, ..ALL }, &bytes), Verdict::Outside);
        assert_eq!(verdict(Cut { to: 10, ..ALL }, &bytes), Verdict::Outside);
        let before = |before| Cut {
            before: Some(before),
            ..ALL
        };
        assert_eq!(verdict(before(51), &bytes), Verdict::Whole);
        assert_eq!(verdict(before(50), &bytes), Verdict::Open);
        let since = |since| Cut {
            since: Some(since),
            ..ALL
        };
        assert_eq!(verdict(since(51), &bytes), Verdict::OutOfTime);
        assert_eq!(verdict(since(10), &bytes), Verdict::Open);
    }

    #[test]
    fn the_brokers_clock_decides_for_a_whole_log_append_time_batch() {
        let bytes = batch(&[50, 20, 70], TimestampType::LogAppendTime);
        let before = |before| Cut {
            before: Some(before),
            ..ALL
        };
        assert_eq!(verdict(before(71), &bytes), Verdict::Whole);
        assert_eq!(verdict(before(70), &bytes), Verdict::OutOfTime);
    }

    #[test]
    fn bounds_are_half_open_per_record() {
        let cut = Cut {
            from: 10,
            to: 13,
            since: Some(20),
            before: Some(50),
        };
        assert_eq!(cut.record(9, 30), Fate::Outside);
        assert_eq!(cut.record(10, 20), Fate::Keep);
        assert_eq!(cut.record(10, 19), Fate::OutOfTime);
        assert_eq!(cut.record(12, 49), Fate::Keep);
        assert_eq!(cut.record(12, 50), Fate::OutOfTime);
        assert_eq!(cut.record(13, 30), Fate::Outside);
    }
}
