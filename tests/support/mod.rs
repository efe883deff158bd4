//! What the end-to-end tests share: real Kafka, the tools that check kbr from outside, and kbr itself as a
//! process. A part that is missing fails the test with what to install; nothing is skipped.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports)]

pub mod documents;
mod kafka;
mod kbr;
mod process;

pub use kafka::{Helper, RealKafka, kafka_tool, unique};
pub use kbr::{Folder, Ran, copy_folder};
pub use process::{run_to_end, wait_until};
