//! Backup, restore, offsets, verification: plan, then apply.
