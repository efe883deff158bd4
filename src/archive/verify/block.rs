//! Everything about one block: its CRC, every batch's CRC, every record's offset and time, all counts.

use crate::archive::DamageKind;
use crate::archive::block::{check_stored, decode_block};
use crate::archive::index_reader::block_damage;
use crate::archive::segment::{BlockCodec, BlockEntry};
use crate::record::{Batch, Limits, batches};

/// Memory that one segment's blocks use one after the other.
#[derive(Default)]
pub(super) struct Workspace {
    /// Over the whole object so far.
    pub hasher: blake3::Hasher,
    raw: Vec<u8>,
    opened: Vec<u8>,
}

/// Checks a block's stored bytes against its entry in the index. Takes any bytes. Returns how many batches it holds.
pub fn check_block(entry: &BlockEntry, stored: &[u8]) -> Result<u64, DamageKind> {
    check_block_in(entry, stored, &mut Workspace::default())
}

pub(super) fn check_block_in(
    entry: &BlockEntry,
    stored: &[u8],
    workspace: &mut Workspace,
) -> Result<u64, DamageKind> {
    let raw = match entry.codec {
        // Not copied: most of an archive of compressed batches is stored as it is.
        BlockCodec::None => {
            check_stored(entry, stored).map_err(|error| block_damage(error, entry))?;
            stored
        }
        BlockCodec::Zstd | BlockCodec::Lz4 => {
            decode_block(entry, stored, &mut workspace.raw)
                .map_err(|error| block_damage(error, entry))?;
            &workspace.raw
        }
    };
    let mut counted = Counted::default();
    let mut next = i64::MIN;
    let mut walk = batches(raw);
    for batch in walk.by_ref() {
        let batch = batch.map_err(|error| broken(next.max(0), error.to_string()))?;
        let base = batch.header.base_offset;
        if base < next {
            return Err(broken(base, format!("it comes after offset {}", next - 1)));
        }
        next = batch.header.next_offset();
        counted.batch(entry, &batch, &mut workspace.opened)?;
    }
    if !walk.remainder().is_empty() {
        return Err(broken(next.max(0), "it is cut short".into()));
    }
    let here = (counted.records, counted.batches, counted.largest);
    if here != (entry.records, entry.batches, entry.largest_batch) {
        return Err(DamageKind::Disagrees(format!(
            "the block at byte {} holds {} records in {} batches of at most {} bytes, not {} in {} of at most {}",
            entry.position,
            counted.records,
            counted.batches,
            counted.largest,
            entry.records,
            entry.batches,
            entry.largest_batch
        )));
    }
    Ok(u64::from(counted.batches))
}

#[derive(Default)]
struct Counted {
    batches: u32,
    records: u64,
    largest: u32,
}

impl Counted {
    fn batch(
        &mut self,
        entry: &BlockEntry,
        batch: &Batch<'_>,
        opened: &mut Vec<u8>,
    ) -> Result<(), DamageKind> {
        let base = batch.header.base_offset;
        if batch.header.attributes.is_control() {
            return Err(broken(base, "it is a control batch".into()));
        }
        let failed = |error: crate::record::Error| broken(base, error.to_string());
        batch.verify_crc().map_err(failed)?;
        for record in batch.open(&Limits::default(), opened).map_err(failed)? {
            let record = record.map_err(failed)?;
            if record.offset < entry.first.0 || record.offset > entry.last.0 {
                continue;
            }
            self.records += 1;
            let too_old = entry.min_timestamp_exact && record.timestamp < entry.min_timestamp.0;
            if too_old || record.timestamp > entry.max_timestamp.0 {
                return Err(DamageKind::Disagrees(format!(
                    "the record at offset {} is of {}, outside of {} to {}",
                    record.offset, record.timestamp, entry.min_timestamp, entry.max_timestamp
                )));
            }
        }
        self.batches = self.batches.saturating_add(1);
        // A batch fits into a block, whose length is 32 bits.
        let length = u32::try_from(batch.bytes().len()).unwrap_or(u32::MAX);
        self.largest = self.largest.max(length);
        Ok(())
    }
}

fn broken(offset: i64, why: String) -> DamageKind {
    DamageKind::Batch { offset, why }
}
