//! Backup while things go wrong: brokers and stores that fail, other backups at the same time, random histories.
//! In every case the archive holds exactly what it says, and the next run makes it whole.

mod broker;
mod corrupt;
mod histories;
mod rivals;
mod store;

#[path = "../engine_backup_support/mod.rs"]
mod engine_backup_support;
