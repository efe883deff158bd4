//! Object stores opened from a URL.
//!
//! What the archive needs and no more: whole and ranged reads, create-only writes, list, delete. Nothing here
//! overwrites an object. A create whose answer was lost is read back and compared, so that its result is never in
//! doubt. Every operation has a deadline.

mod error;
mod faults;
mod folder;
mod open;
mod upload;
mod url;
mod writer;

pub use error::{Error, Result};
pub use faults::{Fault, Faults};
pub use open::{DEFAULT_DEADLINE, Listed, MAX_OBJECT, Store};
pub use url::StoreUrl;
pub use writer::{ObjectWriter, PART_SIZE, Written};
