//! Every codec on arbitrary bytes; the first byte chooses.
#![no_main]

use kbr::record::{Codec, Limits, decompress};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_decompressed: 1 << 20,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, payload)) = bytes.split_first() else {
        return;
    };
    let Ok(codec) = Codec::from_id(i16::from(choice % 5)) else {
        return;
    };
    let mut out = Vec::new();
    let _ = decompress(codec, payload, &LIMITS, &mut out);
    assert!(out.capacity() <= LIMITS.max_decompressed.max(4096));
});
