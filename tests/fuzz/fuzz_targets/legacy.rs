//! Message formats 0 and 1: whatever upgrades must be sound v2 batches.
#![no_main]

use kbr::record::{Limits, batches, upgrade_legacy};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_decompressed: 1 << 20,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(upgraded) = upgrade_legacy(bytes, &LIMITS) {
        for batch in batches(&upgraded) {
            let batch = batch.expect("an upgraded batch parses");
            batch.verify_crc().expect("an upgraded batch is whole");
        }
    }
});
