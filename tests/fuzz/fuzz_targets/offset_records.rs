//! Keys and values of `__consumer_offsets`: whatever they say, it is no longer than the bytes it was read from.
#![no_main]

use kbr::kafka::{offset_record_key, offset_record_value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(key)) = offset_record_key(bytes) {
        assert!(key.group.len() + key.at.topic.len() <= bytes.len());
    }
    if let Ok(value) = offset_record_value(bytes) {
        assert!(value.metadata.len() <= bytes.len());
    }
});
