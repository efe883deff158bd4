//! The backup as a process: killed at every change of a file and at every request, interrupted, beside another one, and
//! cut off from its source. kbr is the real binary, the archive a folder, the source a sandbox on loopback ports.

mod exits;
mod kills;
mod scene;
mod signals;

#[path = "../engine_backup_support/mod.rs"]
mod engine_backup_support;
#[path = "../support/mod.rs"]
mod support;
