//! stub
pub struct ResetRun;
pub fn offsets() {}
