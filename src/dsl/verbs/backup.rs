//! stub
use crate::dsl::table::Entry;
#[derive(Clone)]
pub struct Backup;
#[derive(Clone)]
pub struct BackedUp;
pub static TABLE: &[Entry] = &[];
