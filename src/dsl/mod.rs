//! Runbooks: the Rhai engine with kbr's types and verbs, evaluated into a plan.
//!
//! [`check`] reads a runbook without touching anything. [`evaluate`] runs it with real reads and collects the
//! steps it would take into a [`run::Plan`](crate::run); nothing here changes a cluster. Everything that a
//! runbook can say comes from one table, `table`, and so do the documents and the did-you-means.

mod check;
mod closure;
mod declared;
mod diagnostic;
mod docs;
mod engine;
mod evaluate;
mod failure;
mod filter;
mod host;
mod invocation;
mod kind;
mod messages;
mod operators;
mod reading;
mod rehearse;
mod show;
mod source;
mod steps;
mod table;
mod values;
mod verbs;
mod world;

pub use crate::run::Span;
pub use check::check;
pub use declared::{Declared, STATES, Takes, declared, head_comment, missing};
pub use diagnostic::{Finding, ScriptError, Severity};
pub use docs::{docs, documented, markdown as docs_markdown};
pub use evaluate::{EvaluateOptions, Evaluated, Shown, eval, evaluate};
pub use source::{Arguments, Source};
pub use steps::{Undo, load, undo};
pub use world::{World, WorldError};
