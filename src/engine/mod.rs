//! Backup, restore, offsets, verification: plan, then apply.

mod error;
pub mod groups;
pub mod mapping;
pub mod offsets;
pub mod restore;
pub mod verify;

pub use error::{Error, Result};
