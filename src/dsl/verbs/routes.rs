//! The options of `restore` that say which partitions and offsets go where, under which names, and with which headers.

use super::backup::some_partitions;
use super::restore::{Restore, closure, patterns};
use crate::base::{PartitionId, Pattern, SomePartitions};
use crate::dsl::closure::Closure;
use crate::dsl::failure::Failure;
use crate::dsl::filter::{Renames, filter_error};
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, Parameter};
use crate::engine::restore::{FilterError, HeaderOptions, PartitionRemap, SomeOffsets, TopicRemap};
use rhai::{Dynamic, Map};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What these options have set so far.
#[derive(Clone, Default)]
pub struct Routes {
    pub partitions: Vec<SomePartitions>,
    pub offsets: Vec<SomeOffsets>,
    prefix: String,
    suffix: String,
    numbers: Option<PartitionNumbers>,
    pub repartition: Option<i32>,
    pub merge: bool,
    pub headers: HeaderOptions,
}

impl Routes {
    /// The rule for topic names; `None` if every topic keeps its own.
    pub fn names(&self, renames: Option<Renames>) -> Option<Arc<dyn TopicRemap>> {
        if self.prefix.is_empty() && self.suffix.is_empty() {
            return renames.map(|renames| Arc::new(renames) as Arc<dyn TopicRemap>);
        }
        Some(Arc::new(Names {
            renames,
            prefix: self.prefix.clone(),
            suffix: self.suffix.clone(),
        }))
    }

    pub fn partition_remap(&self) -> Option<Arc<dyn PartitionRemap>> {
        let numbers = self.numbers.clone()?;
        Some(Arc::new(numbers))
    }
}

/// Renames, then what is put before and after every name.
struct Names {
    renames: Option<Renames>,
    prefix: String,
    suffix: String,
}

impl TopicRemap for Names {
    fn fingerprint(&self) -> String {
        let own = self.renames.as_ref().map(Renames::fingerprint);
        let text = serde_json::json!([own, self.prefix, self.suffix]).to_string();
        crate::base::Digest::of(text.as_bytes()).hex()
    }

    fn target(&self, source: &str) -> Result<String, FilterError> {
        let name = match &self.renames {
            Some(renames) => TopicRemap::target(renames, source)?,
            None => source.to_string(),
        };
        Ok(format!("{}{name}{}", self.prefix, self.suffix))
    }
}

/// `.remap_partitions(…)`: a map of numbers, or a closure.
#[derive(Clone)]
enum PartitionNumbers {
    Map(BTreeMap<i32, i32>),
    Closure(Closure),
}

impl PartitionRemap for PartitionNumbers {
    fn fingerprint(&self) -> String {
        match self {
            Self::Map(map) => {
                let text = serde_json::json!(map).to_string();
                crate::base::Digest::of(text.as_bytes()).hex()
            }
            Self::Closure(closure) => closure.fingerprint(),
        }
    }

    fn target(&self, _topic: &str, source: PartitionId) -> Result<PartitionId, FilterError> {
        match self {
            Self::Map(map) => Ok(PartitionId(map.get(&source.0).copied().unwrap_or(source.0))),
            Self::Closure(closure) => target_of(closure, source).map_err(filter_error),
        }
    }
}

fn target_of(closure: &Closure, source: PartitionId) -> Result<PartitionId, Failure> {
    let answer = closure
        .session()?
        .call(Dynamic::from(i64::from(source.0)))?;
    if answer.is_unit() {
        return Ok(source);
    }
    let kind = Kind::of(&answer);
    let number = answer.as_int().map_err(|_| {
        Failure::script(
            "E0217",
            format!(
                "the new number of partition {source} is a whole number, not {}",
                kind.phrase()
            ),
        )
    })?;
    partition(number)
}

/// A partition's number.
fn partition(number: i64) -> Result<PartitionId, Failure> {
    i32::try_from(number)
        .ok()
        .filter(|id| (0..i32::MAX).contains(id))
        .map(PartitionId)
        .ok_or_else(|| Failure::script("E0211", format!("{number} is no partition")))
}

const NAMES: &[Parameter] = &[Parameter::many("names", &[Kind::Text])];
const TEXT: &[Parameter] = &[Parameter::one("text", &[Kind::Text])];

pub static TABLE: &[Entry] = &[
    Entry::option(
        Kind::Restore,
        "partitions",
        &[
            Parameter::one("topics", &[Kind::Text]),
            Parameter::one("partitions", &[Kind::List, Kind::Text, Kind::Number]),
        ],
        "every partition",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.routes.partitions.push(some_partitions(call)?);
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Of the topics that match, only these partitions: a list, a number, or ranges as text (`\"0-3,7\"`, `\"4-\"`). `\"*\"` \
         means every topic. May be given several times.",
    )
    .example("restore(snap).partitions(\"orders\", [0, 3]).partitions(\"payments-*\", \"0-3,7\")"),
    Entry::option(
        Kind::Restore,
        "offsets",
        &[
            Parameter::one("topics", &[Kind::Text]),
            Parameter::one("partitions", &[Kind::List, Kind::Text, Kind::Number]),
            Parameter::one("range", &[Kind::Text, Kind::Range]),
        ],
        "everything that the archive holds",
        |call| {
            let mut builder: Restore = call.me()?;
            let of = some_partitions(call)?;
            let (from, to) = range(call)?;
            builder.routes.offsets.push(SomeOffsets {
                topics: of.topics,
                partitions: of.partitions,
                from,
                to,
            });
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Of these partitions only the source offsets of a range: `100..200` without 200, `100..=199`, or as text with an end \
         left open, `\"100..\"`, `\"..200\"`. May be given several times; the last one that fits a partition counts.",
    )
    .example("restore(snap).topics(\"orders\").offsets(\"orders\", 0, 100..200).offsets(\"orders\", \"1-\", \"5000..\")"),
    Entry::option(Kind::Restore, "prefix", TEXT, "none", |call| {
        let mut builder: Restore = call.me()?;
        builder.routes.prefix = call.text(0)?;
        Ok(Dynamic::from(builder))
    })
    .doc("What every topic's name at the target begins with, before the name that `remap` gives or its own.")
    .example("restore(snap).prefix(\"dr-\")"),
    Entry::option(Kind::Restore, "suffix", TEXT, "none", |call| {
        let mut builder: Restore = call.me()?;
        builder.routes.suffix = call.text(0)?;
        Ok(Dynamic::from(builder))
    })
    .doc("What every topic's name at the target ends with, likewise.")
    .example("restore(snap).suffix(\"_dr\")"),
    Entry::option(
        Kind::Restore,
        "remap_partitions",
        &[Parameter::one("numbers", &[Kind::Map, Kind::Closure])],
        "every partition keeps its number",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.routes.numbers = Some(match call.closure(0) {
                Some(_) => PartitionNumbers::Closure(closure(call)?),
                None => PartitionNumbers::Map(numbers(call)?),
            });
            one_way(&builder)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Which partition each partition goes to: a map from number (as text) to number, or a closure from number to number. A \
         partition that the map does not have, or for which the closure answers `()`, keeps its number. Several may go to one: \
         each keeps its order, and their records are interleaved about by time.",
    )
    .example("restore(snap).remap_partitions(#{ \"0\": 2, \"1\": 2 })   // or .remap_partitions(|p| p % 3)"),
    Entry::option(
        Kind::Restore,
        "repartition",
        &[Parameter::one("partitions", &[Kind::Number])],
        "every record stays in its partition",
        |call| {
            let mut builder: Restore = call.me()?;
            let count = call.argument::<i64>(0)?;
            let count = i32::try_from(count).ok().filter(|count| *count > 0);
            builder.routes.repartition = Some(count.ok_or_else(|| {
                Failure::script("E0211", "a topic has at least one partition")
            })?);
            one_way(&builder)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Restores into so many partitions, each record into the one that its key's hash says, as Kafka's default partitioner \
         does it (murmur2): a key's records stay in order, and producers go on sending the key there. Records without a key go \
         round: a thousand source offsets to one partition, the next thousand to the next.",
    )
    .example("restore(snap).topics(\"orders\").repartition(12)"),
    Entry::option(
        Kind::Restore,
        "merge",
        &[Parameter::one("allowed", &[Kind::Flag])],
        "false",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.routes.merge = call.argument(0)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Whether several topics may go into one target topic: then each is written behind the one before it, in the order of \
         their names. Without it two topics of one target name block the plan.",
    )
    .example("restore(snap).topics(\"orders-*\").remap(|name| \"orders\").merge(true)"),
    Entry::option(
        Kind::Restore,
        "origin_headers",
        &[Parameter::one("added", &[Kind::Flag])],
        "false",
        |call| {
            let mut builder: Restore = call.me()?;
            builder.routes.headers.origin = call.argument(0)?;
            Ok(Dynamic::from(builder))
        },
    )
    .doc(
        "Adds to every record where it came from, as text: `x-original-offset`, `x-original-partition`, \
         `x-original-timestamp` (milliseconds since 1970) and `x-source-cluster` (the cluster's id). They replace such headers \
         of an earlier restore. Every batch is opened for it, which takes several times as long.",
    )
    .example("restore(snap).origin_headers(true)"),
    Entry::option(Kind::Restore, "drop_headers", NAMES, "none", |call| {
        let mut builder: Restore = call.me()?;
        for text in patterns(call)? {
            // Checked by `patterns`.
            builder.routes.headers.drop.extend(Pattern::parse(&text).ok());
        }
        Ok(Dynamic::from(builder))
    })
    .doc(
        "Headers to leave out of every record: names, globs or regular expressions between slashes. Headers that the restore \
         adds stay.",
    )
    .example("restore(snap).drop_headers(\"x-trace-*\")"),
    Entry::option(
        Kind::Restore,
        "set_header",
        &[
            Parameter::one("name", &[Kind::Text]),
            Parameter::one("value", &[Kind::Text]),
        ],
        "none",
        |call| {
            let mut builder: Restore = call.me()?;
            let (name, value) = (call.text(0)?, call.text(1)?);
            let set = &mut builder.routes.headers.set;
            set.retain(|(own, _)| *own != name);
            set.push((name, value));
            Ok(Dynamic::from(builder))
        },
    )
    .doc("A header that every record gets, in place of all that it has of that name. May be given several times.")
    .example("restore(snap).set_header(\"restored-by\", \"drill\")"),
];

fn one_way(builder: &Restore) -> Result<(), Failure> {
    if builder.routes.numbers.is_some() && builder.routes.repartition.is_some() {
        return Err(Failure::script(
            "E0222",
            "a restore goes either by remap_partitions or by repartition",
        )
        .help("repartition sends each record where its key says; remap_partitions moves whole partitions"));
    }
    Ok(())
}

/// `#{ "0": 2 }`.
fn numbers(call: &Invocation) -> Result<BTreeMap<i32, i32>, Failure> {
    let map: Map = call.argument(0)?;
    map.into_iter()
        .map(|(from, to)| {
            let wrong = || {
                Failure::script(
                    "E0214",
                    format!("remap_partitions: {from:?} is no partition"),
                )
                .help("write #{ \"0\": 2 }: from number, as text, to number")
            };
            let source: i64 = from.parse().map_err(|_| wrong())?;
            let kind = Kind::of(&to);
            let target = to.as_int().map_err(|_| {
                Failure::script(
                    "E0208",
                    format!(
                        "remap_partitions: where partition {from} goes is a whole number, not {}",
                        kind.phrase()
                    ),
                )
            })?;
            Ok((partition(source)?.0, partition(target)?.0))
        })
        .collect()
}

/// The third argument of `offsets`: a range, or text with an end left open. The end is exclusive.
fn range(call: &Invocation) -> Result<(Option<i64>, Option<i64>), Failure> {
    let (from, to) = if let Ok(range) = call.argument::<std::ops::Range<i64>>(2) {
        (Some(range.start), Some(range.end))
    } else if let Ok(range) = call.argument::<std::ops::RangeInclusive<i64>>(2) {
        (Some(*range.start()), range.end().checked_add(1))
    } else {
        let text = call.text(2)?;
        let wrong = || {
            Failure::script("E0214", format!("not a range of offsets: {text:?}"))
                .help("write \"100..200\", \"100..\" or \"..200\"; the end is not part of it")
        };
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let number = |part: &str| match part.trim().replace(['_', ','], "") {
            part if part.is_empty() => Ok(None),
            part => part.parse::<i64>().map(Some).map_err(|_| wrong()),
        };
        let inclusive = to.starts_with('=');
        let to = number(to.trim_start_matches('='))?;
        (number(from)?, to.map(|to| to + i64::from(inclusive)))
    };
    let (least, most) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
    if least < 0 || least >= most {
        return Err(
            Failure::script("E0214", "no offset lies in that range".to_string())
                .help("the first one is inclusive and the second exclusive: 100..200"),
        );
    }
    Ok((from, to))
}
