//! kbr: Kafka backup, restore and consumer-offset recovery as runbooks.
//!
//! Layers, top to bottom; a module imports only from modules below it (`tests/layers.rs` checks it).
//! `docs/architecture.md` tells the way of a record and the life of a run.

// Where one cannot fail, `#[allow]` on the line says why.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
pub mod dsl;
pub mod run;

pub mod engine;

pub mod archive;
pub mod store;

pub mod sandbox;

pub mod kafka;

pub mod record;

pub mod base;
