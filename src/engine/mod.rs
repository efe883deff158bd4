//! Backup, restore, offsets, verification: plan, then apply.

mod error;
pub mod mapping;
pub mod restore;
pub mod verify;

pub use error::{Error, Result};
