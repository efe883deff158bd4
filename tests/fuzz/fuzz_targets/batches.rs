//! v2 batches: walk, check, open, restamp. The checksum is not demanded, so that the fuzzer gets behind it.
#![no_main]

use kbr::record::{Limits, ProducerStamp, batches, restamp};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_decompressed: 1 << 20,
};

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = Vec::new();
    for batch in batches(bytes).flatten() {
        let _ = batch.verify_crc();
        let _ = batch.control_type();
        if let Ok(records) = batch.open(&LIMITS, &mut scratch) {
            for record in records.flatten() {
                assert!(record.offset <= batch.header.last_offset());
                assert_eq!(record.headers.iter().count(), record.headers.len());
            }
        }
        let _ = restamp(&mut batch.bytes().to_vec(), 0, ProducerStamp::NONE);
    }
});
