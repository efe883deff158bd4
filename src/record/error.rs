//! What can be wrong with the bytes of a batch. Every variant says where, in bytes from the start of the slice given.

use super::codec::Codec;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before what they promise.
    #[error("{what} at byte {at} needs {wanted} bytes and only {have} are there")]
    Truncated {
        what: &'static str,
        at: usize,
        wanted: usize,
        have: usize,
    },
    /// A message format that this call does not read (0 and 1 are for [`super::upgrade_legacy`]).
    #[error("message format {magic} at byte {at} is not the v2 record batch format")]
    UnsupportedMagic { magic: i8, at: usize },
    /// The stored checksum and the computed one differ.
    #[error(
        "checksum mismatch in the batch at offset {base_offset}: stored {stored:08x}, computed {computed:08x}"
    )]
    CrcMismatch {
        base_offset: i64,
        stored: u32,
        computed: u32,
    },
    /// A length that cannot be: negative, below the minimum, or beyond what encloses it.
    #[error("{what} at byte {at} has the impossible length {length}")]
    BadLength {
        what: &'static str,
        at: usize,
        length: i64,
    },
    /// A variable-length integer that is longer than its type allows.
    #[error("{what} at byte {at} is not a valid variable-length integer")]
    BadVarint { what: &'static str, at: usize },
    /// A count that disagrees with the bytes.
    #[error("{what} at byte {at} is {count}, which the bytes do not bear out")]
    BadCount {
        what: &'static str,
        at: usize,
        count: i64,
    },
    /// An offset or offset delta outside its batch, out of order, or beyond 64 bits.
    #[error("{what} {value} is out of range or out of order (byte {at})")]
    BadOffset {
        what: &'static str,
        at: usize,
        value: i64,
    },
    /// A timestamp that does not fit 64 bits once its base is added.
    #[error("timestamp delta {delta} at byte {at} overflows the base timestamp {base}")]
    BadTimestamp { at: usize, base: i64, delta: i64 },
    /// More bytes than the caller's limit, or than a batch can hold.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge { what: &'static str, limit: usize },
    /// The compressed payload is damaged or uses a feature that Kafka does not.
    #[error("cannot read {codec} data: {why}")]
    Codec { codec: Codec, why: String },
    /// The number in the attributes is none of Kafka's codecs.
    #[error("compression codec {id} is unknown")]
    UnknownCodec { id: i16 },
    /// Bytes after the last record that the header counts.
    #[error("{count} bytes follow the last record (byte {at})")]
    TrailingBytes { at: usize, count: usize },
    /// A batch without records cannot be built: brokers refuse it.
    #[error("a batch needs at least one record")]
    EmptyBatch,
    /// A control batch where only data belongs.
    #[error("the batch at offset {base_offset} is a control batch, not data")]
    ControlBatch { base_offset: i64 },
}

impl Error {
    /// The same error seen from a slice that begins `by` bytes earlier.
    pub(super) fn moved(mut self, by: usize) -> Self {
        match &mut self {
            Self::Truncated { at, .. }
            | Self::UnsupportedMagic { at, .. }
            | Self::BadLength { at, .. }
            | Self::BadVarint { at, .. }
            | Self::BadCount { at, .. }
            | Self::BadOffset { at, .. }
            | Self::BadTimestamp { at, .. }
            | Self::TrailingBytes { at, .. } => *at += by,
            Self::CrcMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Codec { .. }
            | Self::UnknownCodec { .. }
            | Self::EmptyBatch
            | Self::ControlBatch { .. } => {}
        }
        self
    }
}
