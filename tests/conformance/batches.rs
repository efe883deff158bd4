//! Batches to produce.

use kbr::record::{
    BatchBuilder, BuildOptions, Headers, Limits, ProducerStamp, TimestampType, batches,
};

pub fn stamp(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> ProducerStamp {
    ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
    }
}

/// A batch of `count` records under one key, one millisecond apart from `time` on.
pub fn batch(count: i64, time: i64, stamp: ProducerStamp) -> Vec<u8> {
    build(
        BatchBuilder::new(BuildOptions::default()),
        count,
        time,
        stamp,
    )
}

pub fn transactional(count: i64, time: i64, stamp: ProducerStamp) -> Vec<u8> {
    let builder = BatchBuilder::new(BuildOptions::default()).transactional(true);
    build(builder, count, time, stamp)
}

/// A batch that says its times are the broker's: all of them `time`.
pub fn log_append_time(count: i64, time: i64) -> Vec<u8> {
    let builder = BatchBuilder::new(BuildOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BuildOptions::default()
    });
    build(builder, count, time, ProducerStamp::NONE)
}

pub fn without_key(time: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(time, None, Some(b"value"), Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

fn build(mut builder: BatchBuilder, count: i64, time: i64, stamp: ProducerStamp) -> Vec<u8> {
    for number in 0..count {
        let value = format!("value {number}");
        builder
            .push(
                time + number,
                Some(b"key"),
                Some(value.as_bytes()),
                Headers::empty(),
            )
            .unwrap();
    }
    builder.finish(stamp).unwrap()
}

/// The checksum of a batch that a test has changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Base offset of every whole batch.
pub fn base_offsets(bytes: &[u8]) -> Vec<i64> {
    batches(bytes)
        .map(|batch| batch.unwrap().header.base_offset)
        .collect()
}

/// Offset and timestamp of every record in the whole batches.
pub fn times(bytes: &[u8]) -> Vec<(i64, i64)> {
    let mut times = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        let mut scratch = Vec::new();
        for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
            let record = record.unwrap();
            times.push((record.offset, record.timestamp));
        }
    }
    times
}

/// A time of today for records, so that no retention touches them.
pub fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
