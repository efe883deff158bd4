//! Plan, digest, confirmation, journal, execution.
