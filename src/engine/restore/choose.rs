//! Which topics, partitions and offsets of a snapshot are restored, and under which names. What was asked for and is
//! not there blocks the plan: a typo must not pass as an empty restore.

use super::options::{Options, SomeOffsets};
use super::plan::Blocked;
use super::select::Cut;
use crate::archive::{Snapshot, SnapshotPartition, SnapshotTopic};
use crate::base::text::{counted, did_you_mean, grouped};
use crate::base::{PartitionSet, Pattern};
use crate::engine::error::{Error, Result};

/// What is restored, and what stands in the way.
#[derive(Default)]
pub struct Chosen<'a> {
    /// By target name, in the order of the first source.
    pub targets: Vec<ChosenTarget<'a>>,
    pub blocked: Vec<Blocked>,
    pub notes: Vec<String>,
}

/// A target topic and what goes into it.
pub struct ChosenTarget<'a> {
    pub name: String,
    /// Several only if that was asked for; then one is written behind the other.
    pub sources: Vec<ChosenTopic<'a>>,
}

pub struct ChosenTopic<'a> {
    pub topic: &'a SnapshotTopic,
    pub partitions: Vec<ChosenPartition<'a>>,
    pub notes: Vec<String>,
}

#[derive(Clone, Copy)]
pub struct ChosenPartition<'a> {
    pub archived: &'a SnapshotPartition,
    pub cut: Cut,
}

pub fn choose<'a>(snapshot: &'a Snapshot, options: &Options) -> Result<Chosen<'a>> {
    let mut chosen = Chosen::default();
    let topics = topics(snapshot, options, &mut chosen);
    let mut topics: Vec<ChosenTopic<'a>> = topics
        .into_iter()
        .map(|topic| partitions(topic, options, &mut chosen.blocked))
        .collect();
    unmatched_choices(&topics, options, &mut chosen.blocked);
    topics.retain(|topic| !topic.partitions.is_empty() || topic.topic.partitions.is_empty());
    older_incarnations(snapshot, &topics, &mut chosen.notes);
    name_targets(topics, options, &mut chosen)?;
    Ok(chosen)
}

/// The archive's topics that the options take.
fn topics<'a>(
    snapshot: &'a Snapshot,
    options: &Options,
    chosen: &mut Chosen<'_>,
) -> Vec<&'a SnapshotTopic> {
    let names: Vec<&str> = snapshot.topics().map(|topic| topic.name.as_str()).collect();
    for pattern in options.topics.unmatched(&names) {
        chosen.blocked.push(Blocked {
            what: format!(
                "no topic {} in generation {} of the archive",
                pattern,
                snapshot.number()
            ),
            hint: Some(missing(snapshot, pattern, &names)),
        });
    }
    let named = |topic: &SnapshotTopic| {
        let mut include = options.topics.include.iter();
        include.any(|pattern| matches!(pattern, Pattern::Name(name) if *name == topic.name))
    };
    let taken: Vec<&SnapshotTopic> = snapshot
        .topics()
        .filter(|topic| options.topics.takes(&topic.name))
        .filter(|topic| !topic.internal || named(topic))
        .collect();
    if taken.is_empty() && chosen.blocked.is_empty() {
        chosen.blocked.push(Blocked {
            what: format!(
                "generation {} of the archive holds no topic to restore",
                snapshot.number()
            ),
            hint: None,
        });
    }
    taken
}

/// Where a topic that the snapshot does not show may be found.
fn missing(snapshot: &Snapshot, pattern: &Pattern, names: &[&str]) -> String {
    let gone = snapshot
        .all_topics()
        .iter()
        .filter(|topic| pattern.matches(&topic.name))
        .max_by_key(|topic| topic.seen);
    if let Some(gone) = gone {
        return format!(
            "{} was removed at the source; generation {} still shows it: .generation({})",
            gone.name, gone.seen, gone.seen
        );
    }
    match did_you_mean(pattern.text(), names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it holds {}", listed(names)),
    }
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "no topics".to_string(),
        count if count <= SHOWN => names.join(", "),
        count => format!(
            "{}, … ({})",
            names[..SHOWN].join(", "),
            counted(count as i64, "topic")
        ),
    }
}

/// A topic that was deleted and created again: the snapshot shows the newest, and the notes say where the others are.
fn older_incarnations(snapshot: &Snapshot, topics: &[ChosenTopic<'_>], notes: &mut Vec<String>) {
    for chosen in topics {
        let own = chosen.topic;
        let older = snapshot
            .all_topics()
            .iter()
            .filter(|topic| topic.name == own.name && topic.incarnation < own.incarnation);
        for older in older {
            notes.push(format!(
                "{} was created anew at the source: this restores the one of now (id {}); the one before, with {}, is \
                 that of generation {}: .generation({})",
                own.name,
                own.id,
                counted(i128::from(older.records()), "record"),
                older.seen,
                older.seen
            ));
        }
    }
}

/// The partitions and offsets of one topic.
fn partitions<'a>(
    topic: &'a SnapshotTopic,
    options: &Options,
    blocked: &mut Vec<Blocked>,
) -> ChosenTopic<'a> {
    let wanted: Option<PartitionSet> = options
        .partitions
        .iter()
        .filter(|choice| choice.topics.matches(&topic.name))
        .map(|choice| choice.partitions.clone())
        .reduce(|one, other| one.union(&other));
    let mut notes = Vec::new();
    let mut partitions = Vec::new();
    for archived in &topic.partitions {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.contains(archived.partition))
        {
            continue;
        }
        let mut cut = Cut {
            from: archived.from.0,
            to: archived.to.0,
            since: options.since.map(|at| at.0),
            before: options.before.map(|at| at.0),
        };
        let range = options.offsets.iter().rev().find(|choice| {
            choice.topics.matches(&topic.name) && choice.partitions.contains(archived.partition)
        });
        if let Some(range) = range {
            narrow(topic, archived, range, &mut cut, blocked, &mut notes);
        }
        partitions.push(ChosenPartition { archived, cut });
    }
    ChosenTopic {
        topic,
        partitions,
        notes,
    }
}

/// Cuts a partition to the offsets that were asked for.
fn narrow(
    topic: &SnapshotTopic,
    archived: &SnapshotPartition,
    range: &SomeOffsets,
    cut: &mut Cut,
    blocked: &mut Vec<Blocked>,
    notes: &mut Vec<String>,
) {
    let (from, to) = (archived.from.0, archived.to.0);
    let wanted = range.from.unwrap_or(from)..range.to.unwrap_or(to);
    let place = format!("{} p{}", topic.name, archived.partition);
    let written = |at: Option<i64>| at.map(grouped).unwrap_or_default();
    let text = format!("{}…{}", written(range.from), written(range.to));
    let holds = format!("the archive holds {}…{}", grouped(from), grouped(to));
    // A single partition that was named must have them; of a set, one may have fewer than another.
    if wanted.start >= to || wanted.end <= from {
        blocked.push(Blocked {
            what: format!("{place} has none of the offsets {text}"),
            hint: Some(holds),
        });
    } else if range.from.is_some_and(|at| at < from) || range.to.is_some_and(|at| at > to) {
        notes.push(format!("{place}: of offsets {text} {holds}"));
    }
    cut.from = from.max(wanted.start).min(to);
    cut.to = to.min(wanted.end).max(cut.from);
}

/// Choices of partitions and offsets that fit nothing that is taken.
fn unmatched_choices(topics: &[ChosenTopic<'_>], options: &Options, blocked: &mut Vec<Blocked>) {
    let partitions = options
        .partitions
        .iter()
        .map(|choice| (&choice.topics, &choice.partitions, "partitions"));
    let offsets = options
        .offsets
        .iter()
        .map(|choice| (&choice.topics, &choice.partitions, "offsets of partitions"));
    for (pattern, wanted, what) in partitions.chain(offsets) {
        let of: Vec<&SnapshotTopic> = topics
            .iter()
            .map(|chosen| chosen.topic)
            .filter(|topic| pattern.matches(&topic.name))
            .collect();
        if of.is_empty() {
            let names = topics.iter().map(|chosen| chosen.topic.name.as_str());
            blocked.push(Blocked {
                what: format!("{what} {wanted} of {pattern}: no selected topic matches"),
                hint: did_you_mean(pattern.text(), names)
                    .map(|near| format!("did you mean {near}?")),
            });
            continue;
        }
        // Of several topics it is enough that one has them.
        let most = of.iter().map(|topic| topic.partition_count).max();
        if let Some(beyond) = wanted.beyond(most.unwrap_or(0)) {
            blocked.push(Blocked {
                what: format!("{pattern} has no partition {beyond}"),
                hint: Some(format!(
                    "it has {}",
                    counted(most.unwrap_or(0), "partition")
                )),
            });
        }
    }
}

/// Each topic with its target's name; two onto one target are blocked unless that was asked for.
fn name_targets<'a>(
    topics: Vec<ChosenTopic<'a>>,
    options: &Options,
    chosen: &mut Chosen<'a>,
) -> Result<()> {
    for topic in topics {
        let source = &topic.topic.name;
        let name = match &options.remap {
            None => source.clone(),
            Some(remap) => remap.target(source).map_err(|error| Error::Remap {
                topic: source.clone(),
                source: error,
            })?,
        };
        match chosen.targets.iter_mut().find(|target| target.name == name) {
            None => chosen.targets.push(ChosenTarget {
                name,
                sources: vec![topic],
            }),
            Some(target) if options.merge => target.sources.push(topic),
            Some(target) => chosen.blocked.push(Blocked {
                what: format!(
                    "{} and {source} would both be restored into {name}",
                    target
                        .sources
                        .first()
                        .map_or("", |first| first.topic.name.as_str())
                ),
                hint: Some(
                    "give one of them another name with .remap(…), or say .merge(true) to write one behind the other"
                        .into(),
                ),
            }),
        }
    }
    Ok(())
}
