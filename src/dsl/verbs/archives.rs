//! stub
use crate::dsl::table::Entry;
#[derive(Clone)]
pub struct GenerationValue;
#[derive(Clone)]
pub struct SnapshotValue;
#[derive(Clone)]
pub struct StoreValue;
pub static TABLE: &[Entry] = &[];
