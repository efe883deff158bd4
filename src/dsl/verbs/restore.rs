//! stub
use crate::dsl::table::Entry;
#[derive(Clone)]
pub struct Restore;
#[derive(Clone)]
pub struct Restored;
pub static TABLE: &[Entry] = &[];
