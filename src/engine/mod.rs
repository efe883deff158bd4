//! Backup, restore, offsets, verification: plan, then apply.

pub mod backup;
mod error;
pub mod groups;
pub mod look;
pub mod mapping;
pub mod offsets;
mod pace;
pub mod restore;
pub mod verify;

pub use error::{Error, Result};
