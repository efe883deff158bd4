//! v2 record batches: header, codecs, record iterator, batch builder. Bytes in, bytes out, no I/O.
//!
//! Everything here takes slices that may come from a hostile or damaged source: whatever they hold, the answer
//! is a typed [`Error`], never a panic and never an allocation larger than the input or the caller's [`Limits`].
//! The layout is Kafka's `DefaultRecordBatch` (magic 2), all integers big-endian:
//!
//! ```text
//!  0 base offset i64 | 8 batch length i32 | 12 partition leader epoch i32 | 16 magic i8 | 17 CRC32C u32
//! 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32 | 61 records
//! ```
//!
//! The CRC covers everything from the attributes on, so the base offset and the leader epoch can change without it.

mod batch;
mod builder;
mod codec;
mod content;
mod error;
mod header;
mod legacy;
mod records;
mod restamp;
mod split;
mod varint;

pub use batch::{Batch, Batches, ControlType, batches};
pub use builder::{BatchBuilder, BuildOptions, control_batch};
pub use codec::{Codec, Limits, compress, decompress, decompress_exactly};
pub use content::ContentDigest;
pub use error::{Error, Result};
pub use header::{Attributes, BatchHeader, HEADER_LEN, ProducerStamp, TimestampType};
pub use legacy::upgrade_legacy;
pub use records::{Header, Headers, HeadersIter, OwnedHeaders, Record, Records};
pub use restamp::{place, restamp, set_log_append_time};
pub use split::SplitBatch;
