//! stub
use crate::dsl::table::Entry;
#[derive(Clone)]
pub struct OffsetPlan;
#[derive(Clone)]
pub struct OffsetRow;
impl OffsetPlan {
    pub fn table_text(&self) -> String {
        String::new()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
pub static TABLE: &[Entry] = &[];
