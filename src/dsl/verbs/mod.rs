//! The verbs: each file holds its part of the table, its values and what its names do.

pub mod access;
pub mod archives;
pub mod backup;
pub mod clusters;
pub mod consumers;
pub mod general;
mod groups;
mod inspections;
pub mod logs;
pub mod offsets;
pub mod prune;
mod quantities;
mod records;
pub mod restore;
pub mod routes;
pub mod translate;

use super::table::Entry;

/// In the order of the documents.
pub static TABLES: [&[Entry]; 16] = [
    clusters::TABLE,
    consumers::TABLE,
    logs::TABLE,
    archives::TABLE,
    inspections::TABLE,
    access::TABLE,
    prune::TABLE,
    backup::TABLE,
    restore::TABLE,
    routes::TABLE,
    records::TABLE,
    offsets::TABLE,
    groups::TABLE,
    translate::TABLE,
    general::TABLE,
    quantities::TABLE,
];
