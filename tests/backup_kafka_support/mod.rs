//! What the tests of backup on real Kafka share: kbr as a process, the Java client, and the comparison between them.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports)]

mod java;
mod records;
mod runs;

pub use java::Java;
pub use records::{Books, Records, Row, assert_same, assert_undamaged, books, incarnations};
pub use runs::{Backups, Report, Running};
