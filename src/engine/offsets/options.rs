//! Which groups are moved and how their offsets are found.

use super::error::Error;
use crate::base::Selection;
use crate::base::text::did_you_mean;
use serde::{Deserialize, Serialize};

/// What to plan. The default takes every group of the archive, exactly, and blocks what lies out of range.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub groups: Selection,
    /// Of the source's topics.
    pub topics: Selection,
    pub strategy: Strategy,
    pub out_of_range: OutOfRange,
}

/// How a committed offset becomes one at the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the restore's own mapping, record by record.
    #[default]
    Exact,
}

/// The strategies of the design that are not built yet.
const NOT_YET: &[&str] = &[
    "preserve",
    "skip",
    "header",
    "timestamp",
    "cluster-scan",
    "manual",
    "earliest",
    "latest",
    "to-offset",
    "shift-by",
    "to-datetime",
    "by-duration",
    "to-current",
    "to-group",
];

impl Strategy {
    pub const NAMES: &'static [&'static str] = &["exact"];

    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "exact" => Ok(Self::Exact),
            _ if NOT_YET.contains(&name) => Err(Error::StrategyNotYet {
                name: name.to_string(),
            }),
            _ => Err(Error::UnknownStrategy {
                name: name.to_string(),
                meant: did_you_mean(name, Self::NAMES.iter().copied()).map(str::to_string),
            }),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
        }
    }
}

/// What to do with a committed offset outside the archived range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfRange {
    /// Block the row: moving the group there would skip or repeat records unseen.
    #[default]
    Block,
    /// Take the nearest end of the archived range, and say so.
    Clamp,
}

impl OutOfRange {
    pub const NAMES: &'static [&'static str] = &["block", "clamp"];

    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "block" => Ok(Self::Block),
            "clamp" => Ok(Self::Clamp),
            _ => Err(Error::UnknownOutOfRange {
                name: name.to_string(),
                meant: did_you_mean(name, Self::NAMES.iter().copied()).map(str::to_string),
            }),
        }
    }
}
