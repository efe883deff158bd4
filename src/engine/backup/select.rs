//! Which topics and partitions of a cluster a backup takes, and what is wrong with the choice.
//!
//! Values only: what a cluster has and what is asked for in, what is taken and what stands in the way out.

use super::options::Options;
use super::plan::Blocked;
use crate::archive::Snapshot;
use crate::base::text::{counted, did_you_mean};
use crate::base::{PartitionId, PartitionSet, Pattern};
use crate::kafka::{ErrorCode, Topic};
use std::collections::{BTreeMap, BTreeSet};

/// A topic to take, with the partitions of it.
pub(super) struct Taken<'a> {
    pub topic: &'a Topic,
    /// `None`: every one.
    pub partitions: Option<PartitionSet>,
}

impl Taken<'_> {
    pub(super) fn takes(&self, partition: PartitionId) -> bool {
        self.partitions
            .as_ref()
            .is_none_or(|some| some.contains(partition))
    }
}

#[derive(Default)]
pub(super) struct Selected<'a> {
    /// Sorted by name.
    pub topics: Vec<Taken<'a>>,
    pub blocked: Vec<Blocked>,
}

/// What the cluster has, and what it says of names that it does not list.
pub(super) struct Offer<'a> {
    pub all: &'a [Topic],
    /// The error of each name that was asked for on its own.
    pub unlisted: &'a BTreeMap<String, ErrorCode>,
    pub parent: Option<&'a Snapshot>,
}

/// Names to ask the cluster about one by one, since its list of topics leaves out what one may not see: topics that
/// are asked for by name, and archived ones that would otherwise pass for removed.
pub(super) fn unlisted_names(
    all: &[Topic],
    options: &Options,
    parent: Option<&Snapshot>,
) -> Vec<String> {
    let listed: BTreeSet<&str> = all.iter().map(|topic| topic.name.as_str()).collect();
    let archived = parent.into_iter().flat_map(Snapshot::topics);
    let archived = archived
        .map(|topic| topic.name.as_str())
        .filter(|name| options.topics.takes(name));
    let asked = options
        .topics
        .include
        .iter()
        .filter_map(|pattern| match pattern {
            Pattern::Name(name) => Some(name.as_str()),
            _ => None,
        });
    let names: BTreeSet<&str> = archived.chain(asked).collect();
    let names = names.into_iter().filter(|name| !listed.contains(name));
    names.map(str::to_string).collect()
}

pub(super) fn select<'a>(offer: &Offer<'a>, options: &Options) -> Selected<'a> {
    let mut selected = Selected::default();
    let names: Vec<&str> = offer.all.iter().map(|topic| topic.name.as_str()).collect();
    for pattern in options.topics.unmatched(&names) {
        selected.blocked.push(unmatched(pattern, &names, offer));
    }
    let mut internal = Vec::new();
    for topic in offer.all {
        if !options.topics.takes(&topic.name) {
            continue;
        }
        if topic.internal && !options.include_internal {
            internal.push(topic.name.as_str());
            continue;
        }
        selected.topics.push(Taken {
            topic,
            partitions: some_partitions(&topic.name, options),
        });
    }
    for name in internal {
        let by_name = |pattern: &Pattern| matches!(pattern, Pattern::Name(own) if own == name);
        if options.topics.include.iter().any(by_name) {
            selected.blocked.push(Blocked {
                what: format!("{name} is internal to the cluster"),
                hint: Some("internal topics are taken with .internal(true)".to_string()),
            });
        }
    }
    let chosen = !options.topics.include.is_empty() || !options.topics.exclude.is_empty();
    if selected.topics.is_empty() && chosen && selected.blocked.is_empty() {
        selected.blocked.push(Blocked {
            what: format!(
                "the selection leaves none of the cluster's {}",
                counted(names.len() as i128, "topic")
            ),
            hint: Some("internal topics are taken with .internal(true)".to_string())
                .filter(|_| offer.all.iter().any(|topic| topic.internal)),
        });
    }
    selected.partitions(options);
    selected
}

fn unmatched(pattern: &Pattern, names: &[&str], offer: &Offer<'_>) -> Blocked {
    let name = pattern.text();
    let refused = offer.unlisted.get(name).copied();
    if refused == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
        return Blocked {
            what: format!("topic {name} may not be read"),
            hint: Some("allow the principal READ and DESCRIBE_CONFIGS on it".to_string()),
        };
    }
    if let Some(parent) = offer.parent
        && parent.topic(name).is_some()
    {
        return Blocked {
            what: format!("topic {name} is no longer at the source"),
            hint: Some(format!(
                "what is archived of it stays in generation {}; take it out of the selection",
                parent.number()
            )),
        };
    }
    Blocked {
        what: format!("no topic of the cluster matches {pattern}"),
        hint: did_you_mean(name, names.iter().copied()).map(|near| format!("did you mean {near}?")),
    }
}

/// What is asked for of one topic; `None`: everything.
fn some_partitions(topic: &str, options: &Options) -> Option<PartitionSet> {
    let choices = options.partitions.iter();
    choices
        .filter(|choice| choice.topics.matches(topic))
        .map(|choice| choice.partitions.clone())
        .reduce(|one, other| one.union(&other))
}

impl Selected<'_> {
    /// Choices of partitions that fit no topic that is taken.
    fn partitions(&mut self, options: &Options) {
        for choice in &options.partitions {
            let of: Vec<&Taken<'_>> = self
                .topics
                .iter()
                .filter(|taken| choice.topics.matches(&taken.topic.name))
                .collect();
            let names = self.topics.iter().map(|taken| taken.topic.name.as_str());
            if of.is_empty() {
                self.blocked.push(Blocked {
                    what: format!(
                        "partitions {} of {}: no selected topic matches",
                        choice.partitions, choice.topics
                    ),
                    hint: did_you_mean(choice.topics.text(), names)
                        .map(|near| format!("did you mean {near}?")),
                });
                continue;
            }
            // Of several topics it is enough that one has them.
            let count =
                |taken: &Taken<'_>| i32::try_from(taken.topic.partitions.len()).unwrap_or(i32::MAX);
            let most = of.iter().map(|taken| count(taken)).max().unwrap_or(0);
            if let Some(beyond) = choice.partitions.beyond(most) {
                self.blocked.push(Blocked {
                    what: format!("{} has no partition {beyond}", choice.topics),
                    hint: Some(format!("it has {}", counted(most, "partition"))),
                });
            }
        }
        self.topics.retain(|taken| {
            let mut partitions = taken.topic.partitions.iter();
            taken.topic.partitions.is_empty() || partitions.any(|at| taken.takes(at.id))
        });
    }
}

/// What the last run took and this one does not, in one sentence. What is archived of it stays, and is neither
/// removed nor brought up to date.
pub(super) fn narrower(
    selected: &Selected<'_>,
    all: &[Topic],
    parent: &Snapshot,
) -> Option<String> {
    // The newest generation may be one that only says what was pruned.
    let last = parent.topics().map(|topic| topic.seen).max()?;
    let there: BTreeMap<&str, &Topic> = all.iter().map(|t| (t.name.as_str(), t)).collect();
    let taken: BTreeMap<&str, &Taken<'_>> = selected
        .topics
        .iter()
        .map(|taken| (taken.topic.name.as_str(), taken))
        .collect();
    let mut left_out = Vec::new();
    for archived in parent.topics().filter(|topic| topic.seen == last) {
        let name = archived.name.as_str();
        if there.get(name).is_none_or(|topic| topic.id != archived.id) {
            continue;
        }
        let Some(taken) = taken.get(name) else {
            left_out.push(name.to_string());
            continue;
        };
        let behind = |id: PartitionId| {
            let mut behind = archived.behind.iter();
            behind.any(|behind| behind.partitions.contains(id))
        };
        let partitions = archived.partitions.iter().map(|at| at.partition);
        let missing: PartitionSet = partitions
            .filter(|id| !taken.takes(*id) && !behind(*id))
            .collect();
        if !missing.is_empty() {
            left_out.push(format!("{name} partitions {missing}"));
        }
    }
    if left_out.is_empty() {
        return None;
    }
    const NAMED: usize = 5;
    let more = left_out.len().saturating_sub(NAMED);
    left_out.truncate(NAMED);
    if more > 0 {
        left_out.push(format!("{more} more"));
    }
    Some(format!(
        "the selection is narrower than generation {last}'s: without {}; what is archived of it stays as it was",
        left_out.join(", ")
    ))
}
