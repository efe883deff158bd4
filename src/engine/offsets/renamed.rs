//! Groups that are called otherwise at the target.

use super::error::{Error, Result};
use super::plan::{Blocked, Reason};
use crate::archive::GroupEntry;
use crate::engine::restore::TopicRemap;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Names at the target of groups of the source; those that are not in it keep their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renamed(BTreeMap<String, String>);

impl Renamed {
    /// Asks the rule for each name.
    pub fn by<'a>(rule: &dyn TopicRemap, names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut all = BTreeMap::new();
        for name in names {
            let target = rule.target(name).map_err(|source| Error::Rename {
                name: name.to_string(),
                source,
            })?;
            all.insert(name.to_string(), target);
        }
        Ok(Self(all))
    }

    pub(super) fn of<'a>(&'a self, group: &'a str) -> &'a str {
        self.0.get(group).map_or(group, String::as_str)
    }

    /// The group as it is called at the target.
    pub(super) fn at_target<'a>(&self, group: &'a GroupEntry) -> Cow<'a, GroupEntry> {
        match self.of(&group.group) {
            same if same == group.group => Cow::Borrowed(group),
            other => Cow::Owned(GroupEntry {
                group: other.to_string(),
                ..group.clone()
            }),
        }
    }

    /// Names that no group can have, and those that several would have: one group has one offset per partition.
    pub(super) fn collisions<'a>(&self, groups: impl Iterator<Item = &'a str>) -> Vec<Blocked> {
        let mut by_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let groups: Vec<&str> = groups.collect();
        for group in groups {
            let target = self.0.get(group).map_or(group, String::as_str);
            by_target.entry(target).or_default().push(group);
        }
        let mut blocked = Vec::new();
        for (target, sources) in by_target {
            if target.is_empty() {
                blocked.push(Blocked::new(
                    Reason::SameTarget,
                    format!("the new name of {} is empty", sources.join(", ")),
                    "give each group a name in .rename_groups(…)",
                ));
            } else if sources.len() > 1 {
                blocked.push(Blocked::new(
                    Reason::SameTarget,
                    format!("{} would all be called {target}", sources.join(", ")),
                    "give each group a name of its own in .rename_groups(…), or choose one with .groups(…)",
                ));
            }
        }
        blocked
    }
}
