//! Which groups are moved and how their offsets are found.

use super::error::Error;
use super::rows::Wanted;
use crate::base::text::did_you_mean;
use crate::base::{Offset, PartitionSet, Pattern, Selection, TimestampMs};
use crate::engine::restore::ScanBudget;
use serde::{Deserialize, Serialize};

/// What to plan. The default takes every group of the archive, exactly, and blocks what lies out of range.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub groups: Selection,
    /// Of the source's topics.
    pub topics: Selection,
    /// Of topics that match, only these partitions.
    pub partitions: Vec<(Pattern, PartitionSet)>,
    pub strategy: Strategy,
    pub out_of_range: OutOfRange,
    /// Rows that cannot be placed are left alone instead of blocking the others.
    pub leave_unplaced: bool,
    /// A group that is named and not there is made by its first commit.
    pub new_groups: bool,
    /// Groups whose members read a topic are moved on it all the same.
    pub force: bool,
    /// Offsets of one transaction; `None`: as many as a coordinator takes at ease.
    pub per_transaction: Option<usize>,
    /// A row that would read more again is blocked.
    pub at_most_behind: Option<Behind>,
    /// How much of each partition planning may read.
    pub scan_budget: ScanBudget,
}

/// How far a group may be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    Records(u64),
    /// Milliseconds between the record it would go on with and the one that it would have read next.
    Time(i64),
}

/// How a committed offset becomes one at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the restore's own mapping, record by record.
    #[default]
    Exact,
    /// Where they are.
    Skip,
    /// The same numbers at the target.
    Preserve,
    /// By the headers that a restore adds to say where each record came from.
    Header,
    /// By the time of what has not been read yet.
    Timestamp,
    /// By the records around the committed offset, found again among those of the target.
    ClusterScan,
    /// The oldest record there is.
    Earliest,
    /// The high watermark.
    Latest,
    ToOffset(Offset),
    ShiftBy(i64),
    /// The first record at or after it; the end of the log if there is none.
    ToDatetime(TimestampMs),
    /// The same for a time so many milliseconds before now.
    ByDuration(i64),
    /// Where they are; the end of the log without a commit.
    ToCurrent,
    /// Where another group is.
    ToGroup(String),
    /// As a file says.
    Manual(Wanted),
    /// Where they were before this run; made by an undo only.
    Back(String),
}

/// What is given along with a strategy's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    Nothing,
    Number(i64),
    Instant(TimestampMs),
    /// Milliseconds.
    Duration(i64),
    Text(String),
}

impl Strategy {
    pub const NAMES: &'static [&'static str] = &[
        "exact",
        "skip",
        "preserve",
        "header",
        "timestamp",
        "cluster-scan",
        "earliest",
        "latest",
        "to-offset",
        "shift-by",
        "to-datetime",
        "by-duration",
        "to-current",
        "to-group",
        "manual",
    ];

    /// A strategy by its name and what it takes. Times as text have been read already; `manual` is not made here, since
    /// its rows are in a file.
    pub fn parse(name: &str, given: Given) -> Result<Self, Error> {
        let wants = |what: &'static str| Error::StrategyWants {
            name: name.to_string(),
            what,
        };
        let strategy = match (name, given) {
            ("exact", Given::Nothing) => Self::Exact,
            ("skip", Given::Nothing) => Self::Skip,
            ("preserve", Given::Nothing) => Self::Preserve,
            ("header", Given::Nothing) => Self::Header,
            ("timestamp", Given::Nothing) => Self::Timestamp,
            ("cluster-scan", Given::Nothing) => Self::ClusterScan,
            ("earliest", Given::Nothing) => Self::Earliest,
            ("latest", Given::Nothing) => Self::Latest,
            ("to-current", Given::Nothing) => Self::ToCurrent,
            ("to-offset", Given::Number(at)) if at >= 0 => Self::ToOffset(Offset(at)),
            ("shift-by", Given::Number(by)) => Self::ShiftBy(by),
            ("to-datetime", Given::Instant(at)) => Self::ToDatetime(at),
            ("by-duration", Given::Duration(ms)) if ms >= 0 => Self::ByDuration(ms),
            ("to-group", Given::Text(group)) => Self::ToGroup(group),
            ("to-offset", _) => return Err(wants("an offset: .strategy(\"to-offset\", 100)")),
            ("shift-by", _) => {
                return Err(wants("how many offsets: .strategy(\"shift-by\", -10)"));
            }
            ("to-datetime", _) => {
                return Err(wants(
                    "a time: .strategy(\"to-datetime\", \"2026-11-20T10:00:00Z\")",
                ));
            }
            ("by-duration", _) => {
                return Err(wants("a duration: .strategy(\"by-duration\", hours(2))"));
            }
            ("to-group", _) => {
                return Err(wants("a group: .strategy(\"to-group\", \"checkout-api\")"));
            }
            ("manual", _) => {
                return Err(wants("a file: .strategy(\"manual\", \"offsets.csv\")"));
            }
            (name, _) if Self::NAMES.contains(&name) => return Err(wants("nothing besides")),
            (name, _) => {
                return Err(Error::UnknownStrategy {
                    name: name.to_string(),
                    meant: did_you_mean(name, Self::NAMES.iter().copied()).map(str::to_string),
                });
            }
        };
        Ok(strategy)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Skip => "skip",
            Self::Preserve => "preserve",
            Self::Header => "header",
            Self::Timestamp => "timestamp",
            Self::ClusterScan => "cluster-scan",
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::ToOffset(_) => "to-offset",
            Self::ShiftBy(_) => "shift-by",
            Self::ToDatetime(_) => "to-datetime",
            Self::ByDuration(_) => "by-duration",
            Self::ToCurrent => "to-current",
            Self::ToGroup(_) => "to-group",
            Self::Manual(_) => "manual",
            Self::Back(_) => "back",
        }
    }

    /// The time whose first record is wanted.
    pub fn time(&self, now: TimestampMs) -> Option<TimestampMs> {
        match self {
            Self::ToDatetime(at) => Some(*at),
            Self::ByDuration(ms) => Some(TimestampMs(now.0 - ms)),
            _ => None,
        }
    }
}

/// What to do with an offset outside of what the archive, or the log, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfRange {
    /// Block the row: moving the group there would skip or repeat records unseen.
    #[default]
    Block,
    /// Take the nearest end of the range, and say so.
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
