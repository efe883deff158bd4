//! The Rhai engine: types, verbs, option tables, lints.
