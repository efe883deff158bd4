//! Backup, restore, offsets, verification: plan, then apply.

pub mod mapping;
