//! Moving consumer groups to the right offsets: translate exactly, show every row, move all groups or none.
//!
//! [`plan`] reads the target's groups and answers with a value. [`check`] asks, right before the effect, whether the
//! world is still as planned; [`apply`] commits everything in one transaction and reads it back; [`reconcile`] tells
//! after a crash how far it came. The broker checks nothing of an offset commit (design §10), so kbr does.

mod apply;
mod back;
mod behind;
mod check;
mod chunks;
mod error;
mod expiry;
mod joined;
mod live;
mod options;
mod plan;
mod renamed;
mod resolve;
mod rows;
mod translate;

pub use apply::{
    Moved, MovedGroup, Reconciled, Report, apply, read_back, reconcile, remaining, replaced,
};
pub use back::{WayBack, plan_back};
pub(super) use check::active_groups;
pub use check::{ActiveGroup, check};
pub use chunks::PER_TRANSACTION;
pub use error::{Difference, Drifted, Error, NotMoved, OutsideLog, Result};
pub use expiry::Expiring;
pub use live::plan_live;
pub use options::{Behind, Given, Options, OutOfRange, Strategy};
pub use plan::{Blocked, Plan, Reason, Row, SavedRows, Skipped, Summary, Why};
pub use renamed::Renamed;
pub use resolve::{Source, SourcePartition, SourceTopic, plan};
pub use rows::{Wanted, csv, json, shell};
pub use translate::{From, Translation, plan_onto};
