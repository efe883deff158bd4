//! Canonical JSON: the same value gives the same bytes in every process and version.
//!
//! Keys sorted by their UTF-8 bytes, no spaces, integers exact to 64 bits. `serde_json`'s own maps are sorted or
//! not depending on a feature that any dependency may switch on, so the order is made here.

use serde::Serialize;
use serde_json::Value;

/// The bytes of `value` that are hashed.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push(b'{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write(&map[key], out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &impl Serialize, out: &mut Vec<u8>) {
    // Neither a scalar's JSON nor a vector can fail.
    let _ = serde_json::to_writer(out, value);
}
