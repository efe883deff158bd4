//! stub
pub struct BackupRun;
pub fn backup() {}
