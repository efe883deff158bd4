//! The logs of a topic's partitions: where they begin and end, where a time is in them, what lies around an offset. Of a
//! live cluster and of an archive's generation, with the same names.

use super::archives::SnapshotValue;
use super::clusters::Cluster;
use super::inspections::{MOST_RECORDS, read, value};
use super::quantities::instant_of;
use super::restore::epoch_ms;
use crate::archive::{ArchivedRecord, Within};
use crate::base::{Offset, PartitionId, TimestampMs, TopicPartition};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::reading;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::Instant;
use crate::engine::look;
use crate::kafka::{Isolation, OffsetAt, TopicsWanted};
use rhai::{Array, Dynamic, ImmutableString};

/// One partition of a topic, and where a time is in it if one was asked for.
#[derive(Clone)]
pub struct PartitionLog {
    pub topic: String,
    pub partition: i64,
    /// The broker that leads it; `None`: none does, or it is archived.
    pub leader: Option<i64>,
    pub start: Option<i64>,
    pub stable: Option<i64>,
    pub end: Option<i64>,
    /// The first record at or after the time, with its own time.
    pub found: Option<(i64, Option<TimestampMs>)>,
}

const LOGS: &[Parameter] = &[
    Parameter::one("topic", &[Kind::Text]),
    Parameter::one("time", &[Kind::Text, Kind::Instant, Kind::Number]).optional(),
];
const SAMPLE: &[Parameter] = &[
    Parameter::one("topic", &[Kind::Text]),
    Parameter::one("partition", &[Kind::Number]),
    Parameter::one("offset", &[Kind::Number, Kind::Text]),
    Parameter::one("count", &[Kind::Number]).optional(),
];
/// Without a word about it, a sample is so many records.
const SAMPLE_RECORDS: i64 = 10;

pub static TABLE: &[Entry] = &[
    Entry::method(Kind::Cluster, "logs", LOGS, Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let (topic, time) = asked(call)?;
        let failed = |error| reading::of_kafka("offsets", &cluster.0.name, error);
        let rows = call.wait(live(&cluster, &topic, time))?.map_err(failed)?;
        match rows.is_empty() {
            false => Ok(rows.into_iter().map(Dynamic::from).collect::<Array>().into()),
            true => Err(no_topic(call, &cluster, &topic)?),
        }
    })
    .doc(
        "A topic's partitions with the two ends of each log. With a time also the first record at or after it: its offset, \
         and `at`, its own time; `()` where every record is older.",
    )
    .example("cluster(\"dr\").logs(\"orders\", \"2026-11-20T10:00:00Z\")"),
    Entry::method(Kind::Snapshot, "logs", LOGS, Kind::List, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let (topic, time) = asked(call)?;
        let opened = &snapshot.0.snapshot;
        let Some(found) = opened.topic(&topic) else {
            return Err(not_archived(&snapshot, &topic));
        };
        let mut rows = Array::new();
        for one in &found.partitions {
            let record = match time {
                None => None,
                Some(time) => call
                    .wait(opened.record_at_time(&topic, one.partition, time))?
                    .map_err(|error| {
                        reading::of_archive(&snapshot.0.store.url.to_string(), error)
                    })?,
            };
            rows.push(Dynamic::from(PartitionLog {
                topic: topic.clone(),
                partition: i64::from(one.partition.0),
                leader: None,
                start: Some(one.from.0),
                stable: Some(one.to.0),
                end: Some(one.high_watermark.0),
                found: record.map(|record| (record.offset.0, Some(record.timestamp))),
            }));
        }
        Ok(rows.into())
    })
    .doc("What it holds of a topic's partitions, as `logs` of a cluster: from `start` to `stable`.")
    .example("snap.logs(\"orders\")"),
    Entry::method(Kind::Cluster, "sample", SAMPLE, Kind::List, |call| {
        let cluster: Cluster = call.me()?;
        let sample = Sample::of(call)?;
        let at = TopicPartition::new(sample.topic.clone(), sample.partition);
        let failed = |error| reading::of_kafka("offsets", &cluster.0.name, error);
        let client = &cluster.0.client;
        let (_, ends) = call.wait(ends(&cluster, std::slice::from_ref(&at)))?.map_err(failed)?;
        if ends.is_empty() {
            return Err(no_topic(call, &cluster, &sample.topic)?);
        }
        let from = sample.from(ends.first().map_or(0, |(_, end)| *end));
        let records = call.wait(look::records(client, &at, from, sample.count))?;
        let records = records.map_err(|error| {
            Failure::from_below("E0313", error)
                .prefixed(format!("reading records of cluster {}", cluster.0.name))
        })?;
        Ok(sample.values(&records))
    })
    .doc(
        "Records around an offset, half of them before it: ten, or as many as are asked for, at most 10,000. `\"end\"` gives \
         the last ones. What a consumer of committed records would see.",
    )
    .example("cluster(\"dr\").sample(\"orders\", 0, 4711)"),
    Entry::method(Kind::Snapshot, "sample", SAMPLE, Kind::List, |call| {
        let snapshot: SnapshotValue = call.me()?;
        let sample = Sample::of(call)?;
        let opened = &snapshot.0.snapshot;
        let Some(found) = opened.topic(&sample.topic) else {
            return Err(not_archived(&snapshot, &sample.topic));
        };
        let partition = found.partition(sample.partition);
        let within = Within {
            from: Some(sample.from(partition.map_or(0, |one| one.to.0))),
            ..Within::default()
        };
        let read = read(opened, &sample.topic, sample.partition, within, sample.count);
        let records = call.wait(read)?;
        let records = records
            .map_err(|error| reading::of_archive(&snapshot.0.store.url.to_string(), error))?;
        Ok(sample.values(&records))
    })
    .doc("Archived records around an offset of the source, as `sample` of a cluster.")
    .example("snap.sample(\"orders\", 0, \"end\")"),
    Entry::property(Kind::PartitionLog, "topic", Kind::Text, |call| {
        Ok(call.me::<PartitionLog>()?.topic.into())
    }),
    Entry::column(Kind::PartitionLog, "partition", Kind::Number, |call| {
        Ok(call.me::<PartitionLog>()?.partition.into())
    }),
    Entry::column(Kind::PartitionLog, "leader", Kind::Number, |call| {
        Ok(number(call.me::<PartitionLog>()?.leader))
    })
    .doc("The broker that leads it; `()`: none does, or it is archived."),
    Entry::column(Kind::PartitionLog, "start", Kind::Number, |call| {
        Ok(number(call.me::<PartitionLog>()?.start))
    })
    .doc("The log start offset; of an archive the first offset that it tells of."),
    Entry::column(Kind::PartitionLog, "stable", Kind::Number, |call| {
        Ok(number(call.me::<PartitionLog>()?.stable))
    })
    .doc("The last stable offset: consumers of committed records read up to it."),
    Entry::column(Kind::PartitionLog, "end", Kind::Number, |call| {
        Ok(number(call.me::<PartitionLog>()?.end))
    })
    .doc("The high watermark."),
    Entry::column(Kind::PartitionLog, "offset", Kind::Number, |call| {
        let found = call.me::<PartitionLog>()?.found;
        Ok(number(found.map(|(offset, _)| offset)))
    })
    .doc("Of the first record at or after the time that was asked for."),
    Entry::column(Kind::PartitionLog, "at", Kind::Instant, |call| {
        let found = call.me::<PartitionLog>()?.found.and_then(|(_, at)| at);
        Ok(found.map_or(Dynamic::UNIT, |at| Dynamic::from(Instant(at))))
    })
    .doc("That record's time."),
];

fn number(number: Option<i64>) -> Dynamic {
    number.map_or(Dynamic::UNIT, Dynamic::from)
}

/// The topic, and the time if there is one.
fn asked(call: &Invocation) -> Result<(String, Option<TimestampMs>), Failure> {
    let topic = call.text(0)?;
    let time = match call.arguments.get(1) {
        None => None,
        Some(time) if time.is_unit() => None,
        Some(_) => Some(if let Ok(instant) = call.argument::<Instant>(1) {
            instant.0
        } else if let Ok(ms) = call.argument::<i64>(1) {
            epoch_ms(ms)?
        } else {
            instant_of(call, &call.text(1)?)?
        }),
    };
    Ok((topic, time))
}

fn not_archived(snapshot: &SnapshotValue, topic: &str) -> Failure {
    let opened = &snapshot.0.snapshot;
    let names: Vec<&str> = opened.topics().map(|topic| topic.name.as_str()).collect();
    let place = format!("generation {}", opened.number());
    reading::missing("topic", topic, &place, &names)
}

fn no_topic(call: &Invocation, cluster: &Cluster, topic: &str) -> Result<Failure, Failure> {
    let failed = |error| reading::of_kafka("topics", &cluster.0.name, error);
    let topics = call.wait(cluster.0.client.topics(TopicsWanted::All))?;
    let topics = topics.map_err(failed)?;
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    Ok(match topics.iter().find(|one| one.name == topic) {
        Some(found) => {
            let last = found.partitions.len().saturating_sub(1);
            Failure::world("E0314", format!("topic {topic} has no such partition"))
                .help(format!("its partitions are 0 to {last}"))
        }
        None => reading::missing("topic", topic, &cluster.0.name, &names),
    })
}

/// Log start and high watermark, in the order of `places`; one that is not there is left out of both lists.
async fn ends(
    cluster: &Cluster,
    places: &[TopicPartition],
) -> Result<(Vec<TopicPartition>, Vec<(i64, i64)>), crate::kafka::Error> {
    let client = &cluster.0.client;
    let ends = client.log_ends(places.iter().cloned(), Isolation::ReadUncommitted);
    let ends = ends.await?;
    let found = places.iter().filter_map(|place| {
        let ends = ends.get(place)?.as_ref().ok()?;
        Some((place.clone(), (ends.start.0, ends.end.0)))
    });
    Ok(found.unzip())
}

async fn live(
    cluster: &Cluster,
    topic: &str,
    time: Option<TimestampMs>,
) -> Result<Vec<PartitionLog>, crate::kafka::Error> {
    let client = &cluster.0.client;
    let topics = client.topics(TopicsWanted::All).await?;
    let Some(found) = topics.into_iter().find(|one| one.name == topic) else {
        return Ok(Vec::new());
    };
    let places: Vec<TopicPartition> = found
        .partitions
        .iter()
        .map(|one| TopicPartition::new(topic, one.id))
        .collect();
    let (there, both) = ends(cluster, &places).await?;
    let ask = |at: OffsetAt| there.iter().map(move |place| (place.clone(), at));
    let stable: Vec<_> = ask(OffsetAt::Latest).collect();
    let stable = client
        .list_offsets(&stable, Isolation::ReadCommitted)
        .await?;
    let at_time = match time {
        None => Default::default(),
        Some(time) => {
            let wanted: Vec<_> = ask(OffsetAt::AtOrAfter(time)).collect();
            client
                .list_offsets(&wanted, Isolation::ReadCommitted)
                .await?
        }
    };
    let mut rows: Vec<PartitionLog> = found
        .partitions
        .iter()
        .map(|one| {
            let at = TopicPartition::new(topic, one.id);
            let ends = there
                .iter()
                .position(|place| *place == at)
                .map(|index| both[index]);
            let found = at_time.get(&at).and_then(|found| found.as_ref().ok());
            PartitionLog {
                topic: topic.to_string(),
                partition: i64::from(one.id.0),
                leader: one.leader.map(i64::from),
                start: ends.map(|(start, _)| start),
                stable: stable
                    .get(&at)
                    .and_then(|found| found.as_ref().ok())
                    .map(|found| found.offset.0),
                end: ends.map(|(_, end)| end),
                found: found.filter(|found| found.offset.0 >= 0).map(|found| {
                    let time = (found.timestamp.0 >= 0).then_some(found.timestamp);
                    (found.offset.0, time)
                }),
            }
        })
        .collect();
    rows.sort_by_key(|row| row.partition);
    Ok(rows)
}

/// What is looked at.
struct Sample {
    topic: String,
    partition: PartitionId,
    /// `None`: the end.
    offset: Option<i64>,
    count: usize,
}

impl Sample {
    fn of(call: &Invocation) -> Result<Self, Failure> {
        let count = match call.arguments.get(3) {
            Some(count) if !count.is_unit() => call.argument::<i64>(3)?,
            _ => SAMPLE_RECORDS,
        };
        if !(1..=MOST_RECORDS).contains(&count) {
            return Err(Failure::script(
                "E0211",
                format!("{count} records: it takes 1 to {MOST_RECORDS}"),
            ));
        }
        let offset = match call.argument::<i64>(2) {
            Ok(offset) => Some(offset),
            Err(_) => match call.text(2)?.as_str() {
                "end" => None,
                other => match other.replace(['_', ','], "").parse() {
                    Ok(offset) => Some(offset),
                    Err(_) => {
                        let what = format!("{other:?} is no offset");
                        return Err(Failure::script("E0214", what)
                            .help("write a number, or \"end\" for the last records"));
                    }
                },
            },
        };
        Ok(Self {
            topic: call.text(0)?,
            partition: PartitionId(i32::try_from(call.argument::<i64>(1)?).unwrap_or(-1)),
            offset,
            count: count as usize,
        })
    }

    /// Where to begin, in a log that ends at `end`.
    fn from(&self, end: i64) -> Offset {
        let count = self.count as i64;
        Offset(match self.offset {
            Some(offset) => (offset - count / 2).max(0),
            None => (end - count).max(0),
        })
    }

    fn values(&self, records: &[ArchivedRecord]) -> Dynamic {
        let name = ImmutableString::from(self.topic.as_str());
        let values = records.iter();
        values
            .map(|record| value(&name, self.partition, record))
            .collect::<Array>()
            .into()
    }
}
