//! Manifests that carry their own hash.
//!
//! The newest generation has no child that names its hash, so every manifest is sealed:
//!
//! ```text
//! {"blake3":"<64 hexadecimal characters>","body":<JSON>}\n
//! ```
//!
//! The hash is of the exact bytes of `<JSON>`. The frame around it is fixed to the byte, so that the object stays
//! plain JSON for people and any flipped bit is still seen.

use crate::base::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

const START: &[u8] = b"{\"blake3\":\"";
const MIDDLE: &[u8] = b"\",\"body\":";
const END: &[u8] = b"}\n";
const HEX: usize = 64;

/// Why bytes are no whole manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is empty")]
    Empty,
    #[error("it is not a sealed manifest, or it was cut short")]
    Frame,
    #[error("its BLAKE3 is {found}, not the {expected} written in it")]
    Digest { expected: String, found: String },
    #[error("it does not say what it should: {0}")]
    Json(String),
}

/// Seals a value.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(value)?;
    let mut object = Vec::with_capacity(START.len() + HEX + MIDDLE.len() + body.len() + END.len());
    object.extend_from_slice(START);
    object.extend_from_slice(Digest::of(&body).hex().as_bytes());
    object.extend_from_slice(MIDDLE);
    object.extend_from_slice(&body);
    object.extend_from_slice(END);
    Ok(object)
}

/// Checks the seal and returns the body's bytes.
pub fn unseal(object: &[u8]) -> Result<&[u8], SealError> {
    if object.is_empty() {
        return Err(SealError::Empty);
    }
    let rest = object.strip_prefix(START).ok_or(SealError::Frame)?;
    let (hex, rest) = rest.split_at_checked(HEX).ok_or(SealError::Frame)?;
    let rest = rest.strip_prefix(MIDDLE).ok_or(SealError::Frame)?;
    let body = rest.strip_suffix(END).ok_or(SealError::Frame)?;
    let found = Digest::of(body).hex();
    // Compared as text: an upper-case digit is a changed byte.
    if found.as_bytes() != hex {
        return Err(SealError::Digest {
            expected: String::from_utf8_lossy(hex).into_owned(),
            found,
        });
    }
    Ok(body)
}

/// Checks the seal and parses the body.
pub fn open<T: DeserializeOwned>(object: &[u8]) -> Result<T, SealError> {
    serde_json::from_slice(unseal(object)?).map_err(|error| SealError::Json(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_comes_back_and_is_plain_json() {
        let object = seal(&vec![1, 2, 3]).unwrap();
        assert_eq!(open::<Vec<i32>>(&object).unwrap(), vec![1, 2, 3]);
        let json: serde_json::Value = serde_json::from_slice(&object).unwrap();
        assert_eq!(json["body"], serde_json::json!([1, 2, 3]));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let object = seal(&serde_json::json!({"number": 7, "topics": ["orders"]})).unwrap();
        for position in 0..object.len() {
            for bit in 0..8 {
                let mut changed = object.clone();
                changed[position] ^= 1 << bit;
                assert!(
                    open::<serde_json::Value>(&changed).is_err(),
                    "byte {position} bit {bit}"
                );
            }
            assert!(open::<serde_json::Value>(&object[..position]).is_err());
        }
    }
}
