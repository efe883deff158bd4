//! Changing a whole batch's header in place, records untouched: how a batch passes from one log into another.

use super::batch::Batch;
use super::error::{Error, Result};
use super::header::{Attributes, ProducerStamp, seal};
use super::split::restamped;

/// Makes an archived batch ready to be produced, as [`super::SplitBatch::restamp`] does it.
pub fn restamp(batch: &mut [u8], base_offset: i64, stamp: ProducerStamp) -> Result<()> {
    let changed = restamped(&whole(batch)?, base_offset, stamp)?;
    write(batch, &changed);
    seal(batch);
    Ok(())
}

/// What a broker does when it appends a batch: gives it its offset and leader epoch. Neither is in the checksum.
pub fn place(batch: &mut [u8], base_offset: i64, partition_leader_epoch: i32) -> Result<()> {
    let mut header = whole(batch)?;
    header.base_offset = base_offset;
    header.partition_leader_epoch = partition_leader_epoch;
    write(batch, &header);
    Ok(())
}

/// What a broker does on a topic with `message.timestamp.type=LogAppendTime`: one time (ms) for every record.
pub fn set_log_append_time(batch: &mut [u8], time: i64) -> Result<()> {
    let mut header = whole(batch)?;
    header.attributes.0 |= Attributes::LOG_APPEND_TIME;
    header.max_timestamp = time;
    write(batch, &header);
    seal(batch);
    Ok(())
}

/// The header of a slice that must be exactly one batch.
fn whole(batch: &[u8]) -> Result<super::header::BatchHeader> {
    let parsed = Batch::parse(batch)?;
    match batch.len() - parsed.bytes().len() {
        0 => Ok(parsed.header),
        count => Err(Error::TrailingBytes {
            at: parsed.bytes().len(),
            count,
        }),
    }
}

fn write(batch: &mut [u8], header: &super::header::BatchHeader) {
    let bytes = header.to_bytes();
    batch[..bytes.len()].copy_from_slice(&bytes);
}
