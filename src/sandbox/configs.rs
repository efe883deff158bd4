//! The topic configs a broker knows, their defaults, and which values it takes.

use super::codes::{self, Refusal};
use std::collections::BTreeMap;

/// `org.apache.kafka.common.config.ConfigDef.Type` as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    pub(super) fn id(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    /// The values a string or a list may take; empty for any.
    allowed: &'static [&'static str],
    minimum: i64,
}

const fn number(name: &'static str, kind: Kind, default: &'static str, minimum: i64) -> Known {
    Known {
        name,
        kind,
        default,
        allowed: &[],
        minimum,
    }
}

const fn choice(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    allowed: &'static [&'static str],
) -> Known {
    Known {
        name,
        kind,
        default,
        allowed,
        minimum: i64::MIN,
    }
}

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// The topic configs of Apache Kafka 4.3, sorted by name.
pub(super) const TOPIC_CONFIGS: &[Known] = &[
    choice(
        "cleanup.policy",
        Kind::List,
        "delete",
        &["delete", "compact"],
    ),
    number("compression.gzip.level", Kind::Int, "-1", -1),
    number("compression.lz4.level", Kind::Int, "9", 1),
    choice("compression.type", Kind::String, "producer", CODECS),
    number("compression.zstd.level", Kind::Int, "3", -131_072),
    number("delete.retention.ms", Kind::Long, "86400000", 0),
    number("file.delete.delay.ms", Kind::Long, "60000", 0),
    number("flush.messages", Kind::Long, "9223372036854775807", 1),
    number("flush.ms", Kind::Long, "9223372036854775807", 0),
    choice(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        &[],
    ),
    number("index.interval.bytes", Kind::Int, "4096", 0),
    choice("leader.replication.throttled.replicas", Kind::List, "", &[]),
    number("local.retention.bytes", Kind::Long, "-2", -2),
    number("local.retention.ms", Kind::Long, "-2", -2),
    number(
        "max.compaction.lag.ms",
        Kind::Long,
        "9223372036854775807",
        1,
    ),
    number("max.message.bytes", Kind::Int, "1048588", 0),
    number("message.timestamp.after.max.ms", Kind::Long, "3600000", 0),
    number(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
        0,
    ),
    choice(
        "message.timestamp.type",
        Kind::String,
        "CreateTime",
        &["CreateTime", "LogAppendTime"],
    ),
    number("min.cleanable.dirty.ratio", Kind::Double, "0.5", 0),
    number("min.compaction.lag.ms", Kind::Long, "0", 0),
    number("min.insync.replicas", Kind::Int, "1", 1),
    choice("preallocate", Kind::Boolean, "false", &["true", "false"]),
    choice(
        "remote.copy.disable",
        Kind::Boolean,
        "false",
        &["true", "false"],
    ),
    choice(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        &["true", "false"],
    ),
    choice(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        &["true", "false"],
    ),
    number("retention.bytes", Kind::Long, "-1", i64::MIN),
    number("retention.ms", Kind::Long, "604800000", -1),
    number("segment.bytes", Kind::Int, "1073741824", 1_048_576),
    number("segment.index.bytes", Kind::Int, "10485760", 4),
    number("segment.jitter.ms", Kind::Long, "0", 0),
    number("segment.ms", Kind::Long, "604800000", 1),
    choice(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        &["true", "false"],
    ),
];

pub(super) fn known(name: &str) -> Option<&'static Known> {
    TOPIC_CONFIGS.iter().find(|known| known.name == name)
}

/// The value a topic works with.
pub(super) fn effective<'a>(overrides: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    match overrides.get(name) {
        Some(value) => value,
        None => known(name).map_or("", |known| known.default),
    }
}

pub(super) fn effective_number(overrides: &BTreeMap<String, String>, name: &str) -> i64 {
    effective(overrides, name).parse().unwrap_or(-1)
}

/// Refuses an unknown name or a value its type does not take, with code 40.
pub(super) fn check(name: &str, value: &str) -> Result<(), Refusal> {
    let Some(known) = known(name) else {
        return Err(Refusal::new(
            codes::INVALID_CONFIG,
            format!("Unknown topic config name: {name}"),
        ));
    };
    let fits = match known.kind {
        Kind::Int => value
            .parse::<i32>()
            .is_ok_and(|number| i64::from(number) >= known.minimum),
        Kind::Long => value
            .parse::<i64>()
            .is_ok_and(|number| number >= known.minimum),
        Kind::Double => value
            .parse::<f64>()
            .is_ok_and(|number| (0.0..=1.0).contains(&number)),
        Kind::Boolean | Kind::String => known.allowed.contains(&value),
        Kind::List => {
            known.allowed.is_empty()
                || value
                    .split(',')
                    .all(|part| part.is_empty() || known.allowed.contains(&part.trim()))
        }
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::new(
        codes::INVALID_CONFIG,
        format!("Invalid value {value} for configuration {name}"),
    ))
}
