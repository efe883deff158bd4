//! Consumer groups as they are: of a live cluster or of an archive's generation, with the same names.

mod reading;

use super::archives::SnapshotValue;
use super::clusters::Cluster;
use crate::base::TopicPartition;
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, MapOption, Parameter};
use crate::dsl::values::Duration;
use reading::Filter;
use rhai::{Array, Dynamic};
use std::collections::BTreeSet;

/// A consumer group as it was when it was read.
#[derive(Clone)]
pub struct Group {
    source: Source,
    pub name: String,
    pub state: String,
    pub kind: String,
    /// The broker that coordinates it; `None` of an archived one.
    pub coordinator: Option<i64>,
    pub members: Vec<Member>,
}

/// Where groups were read.
#[derive(Clone)]
pub enum Source {
    Live(Cluster),
    Archived(SnapshotValue),
}

/// One consumer of a group.
#[derive(Clone)]
pub struct Member {
    pub id: String,
    pub client: String,
    pub host: String,
    pub topics: Vec<String>,
    pub partitions: Vec<TopicPartition>,
}

/// A group's committed offset in one partition.
#[derive(Clone)]
pub struct Lag {
    pub topic: String,
    pub partition: i64,
    pub committed: i64,
    pub start: Option<i64>,
    pub end: Option<i64>,
    /// The member that reads the partition now.
    pub owner: Option<String>,
    pub metadata: String,
    /// How much older the next record is than the newest, in milliseconds.
    pub behind_ms: Option<i64>,
}

/// How far a group is behind on a topic.
#[derive(Clone)]
pub struct GroupLag {
    pub group: String,
    pub state: String,
    pub topic: String,
    pub partitions: i64,
    pub lag: i64,
}

impl Lag {
    fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.committed).max(0))
    }
}

const NAME: &[Parameter] = &[Parameter::one("name", &[Kind::Text])];
const PATTERNS: &[Kind] = &[Kind::Text, Kind::List];

const FILTER: &[MapOption] = &[
    MapOption {
        name: "names",
        kinds: PATTERNS,
        default: "every group",
        doc: "Names, globs or regular expressions between slashes.",
    },
    MapOption {
        name: "state",
        kinds: PATTERNS,
        default: "any",
        doc: "`Empty`, `Stable`, … in whatever case.",
    },
    MapOption {
        name: "topic",
        kinds: PATTERNS,
        default: "any",
        doc: "Groups that have committed an offset on such a topic, or read one now.",
    },
    MapOption {
        name: "lag_over",
        kinds: &[Kind::Number, Kind::Text],
        default: "none",
        doc: "Groups that have more than so many offsets still to read.",
    },
];

const GROUPS: &[Parameter] = &[Parameter::map("filter", FILTER).optional()];

pub static TABLE: &[Entry] = &[
    Entry::method(Kind::Cluster, "groups", GROUPS, Kind::List, |call| {
        list(call, &Source::Live(call.me()?))
    })
    .doc("Its consumer groups by name; of a map of conditions those that meet all of them.")
    .example("cluster(\"dr\").groups(#{ names: \"checkout-*\", lag_over: 1000 })"),
    Entry::method(Kind::Cluster, "group", NAME, Kind::Group, |call| {
        let name = call.text(0)?;
        Ok(Dynamic::from(Source::Live(call.me()?).one(call, &name)?))
    })
    .doc("One consumer group; an error if there is none of this name.")
    .example("dr.group(\"checkout-api\").state"),
    Entry::method(Kind::Cluster, "lag", NAME, Kind::Number, |call| {
        let (source, name) = (Source::Live(call.me()?), call.text(0)?);
        let mut rows = source.offsets(call, &name, None, false)?;
        // A mistyped group has committed nothing: "no lag" would be a dangerous answer to that, and to a share group.
        if rows.is_empty() {
            let group = source.one(call, &name)?;
            rows = source.offsets(call, &name, Some(&group), false)?;
        }
        Ok(rows.iter().filter_map(Lag::lag).sum::<i64>().into())
    })
    .doc("How many offsets a group has still to read, over all partitions it has committed; an error if there is no such group.")
    .example("dr.lag(\"checkout-api\")"),
    Entry::method(Kind::Cluster, "lags", GROUPS, Kind::List, |call| {
        lags(call, &Source::Live(call.me()?))
    })
    .doc("How far groups are behind, in a line for each group and topic that it has committed on. It takes what `groups` takes.")
    .example("cluster(\"dr\").lags(#{ topic: \"orders\" })"),
    Entry::method(Kind::Snapshot, "groups", GROUPS, Kind::List, |call| {
        list(call, &Source::Archived(call.me()?))
    })
    .doc("The groups whose committed offsets it holds, as they were; it takes what `groups` of a cluster takes.")
    .example("store(\"prod\").latest().groups(#{ names: \"checkout-*\" })"),
    Entry::method(Kind::Snapshot, "group", NAME, Kind::Group, |call| {
        let name = call.text(0)?;
        Ok(Dynamic::from(Source::Archived(call.me()?).one(call, &name)?))
    })
    .doc("One group as it was; an error if there is none of this name.")
    .example("snap.group(\"checkout-api\").offsets()"),
    Entry::method(Kind::Snapshot, "lags", GROUPS, Kind::List, |call| {
        lags(call, &Source::Archived(call.me()?))
    })
    .doc("How far groups were behind, as `lags` of a cluster.")
    .example("snap.lags(#{ lag_over: 0 })"),
    Entry::column(Kind::Group, "name", Kind::Text, |call| {
        Ok(call.me::<Group>()?.name.into())
    }),
    Entry::column(Kind::Group, "state", Kind::Text, |call| {
        Ok(call.me::<Group>()?.state.into())
    })
    .doc("`Stable`, `Empty`, `PreparingRebalance` … as the coordinator says it."),
    Entry::column(Kind::Group, "kind", Kind::Text, |call| {
        Ok(call.me::<Group>()?.kind.into())
    })
    .doc("Its protocol: `classic`, `consumer`, `share` or `streams`."),
    Entry::column(Kind::Group, "members", Kind::Number, |call| {
        Ok((call.me::<Group>()?.members.len() as i64).into())
    })
    .doc("How many members are in it now; 0 of an archived one."),
    Entry::column(Kind::Group, "coordinator", Kind::Number, |call| {
        Ok(call.me::<Group>()?.coordinator.map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("The broker that coordinates it; `()` of an archived one."),
    Entry::property(Kind::Group, "topics", Kind::List, |call| {
        let members = call.me::<Group>()?.members;
        let topics: BTreeSet<String> = members.into_iter().flat_map(|one| one.topics).collect();
        Ok(topics.into_iter().map(Dynamic::from).collect::<Array>().into())
    })
    .doc("The topics that its members are subscribed to."),
    Entry::property(Kind::Group, "consumers", Kind::List, |call| {
        let members = call.me::<Group>()?.members.into_iter();
        Ok(members.map(Dynamic::from).collect::<Array>().into())
    })
    .doc("Its members, with the client, the host and the partitions of each."),
    Entry::method(Kind::Group, "offsets", &[], Kind::List, |call| {
        let group: Group = call.me()?;
        let rows = group.source.offsets(call, &group.name, Some(&group), true)?;
        Ok(rows.into_iter().map(Dynamic::from).collect::<Array>().into())
    })
    .doc(
        "Its committed offsets, each with the two ends of its log, the lag in offsets and in time, and who reads it. For \
         the time one record is read of each partition that has a lag. Of a share group: where \
         it starts; what its members have acknowledged beyond counts as lag too.",
    )
    .example("dr.group(\"checkout-api\").offsets()"),
    Entry::column(Kind::Member, "id", Kind::Text, |call| {
        Ok(call.me::<Member>()?.id.into())
    })
    .doc("The member id."),
    Entry::column(Kind::Member, "client", Kind::Text, |call| {
        Ok(call.me::<Member>()?.client.into())
    })
    .doc("Its `client.id`."),
    Entry::column(Kind::Member, "host", Kind::Text, |call| {
        Ok(call.me::<Member>()?.host.into())
    }),
    Entry::column(Kind::Member, "partitions", Kind::Number, |call| {
        Ok((call.me::<Member>()?.partitions.len() as i64).into())
    })
    .doc("How many partitions it reads."),
    Entry::property(Kind::Member, "topics", Kind::List, |call| {
        let topics = call.me::<Member>()?.topics.into_iter();
        Ok(topics.map(Dynamic::from).collect::<Array>().into())
    })
    .doc("What it is subscribed to."),
    Entry::property(Kind::Member, "reads", Kind::List, |call| {
        let partitions = call.me::<Member>()?.partitions.into_iter();
        let texts = partitions.map(|at| Dynamic::from(at.to_string()));
        Ok(texts.collect::<Array>().into())
    })
    .doc("The partitions that it reads: `orders-0`."),
    Entry::column(Kind::Lag, "topic", Kind::Text, |call| {
        Ok(call.me::<Lag>()?.topic.into())
    }),
    Entry::column(Kind::Lag, "partition", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.partition.into())
    }),
    Entry::column(Kind::Lag, "committed", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.committed.into())
    })
    .doc("The next offset that the group will read."),
    Entry::column(Kind::Lag, "start", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.start.map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("Where the log starts; `()` if the partition is not there or has no leader."),
    Entry::column(Kind::Lag, "end", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.end.map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("The last stable offset of the partition; of an archive where it ends."),
    Entry::column(Kind::Lag, "lag", Kind::Number, |call| {
        Ok(call.me::<Lag>()?.lag().map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("`end` − `committed`."),
    Entry::column(Kind::Lag, "behind", Kind::Duration, |call| {
        let behind = call.me::<Lag>()?.behind_ms;
        Ok(behind.map_or(Dynamic::UNIT, |ms| Dynamic::from(Duration(ms))))
    })
    .doc("How much older the next record is than the newest; `()` if neither could be read."),
    Entry::column(Kind::Lag, "owner", Kind::Text, |call| {
        Ok(call.me::<Lag>()?.owner.map_or(Dynamic::UNIT, Dynamic::from))
    })
    .doc("Client and host (without the slash that Kafka puts before an address) of the member that reads the partition; `()`: nobody does."),
    Entry::property(Kind::Lag, "metadata", Kind::Text, |call| {
        Ok(call.me::<Lag>()?.metadata.into())
    })
    .doc("What was committed along with the offset."),
    Entry::column(Kind::GroupLag, "group", Kind::Text, |call| {
        Ok(call.me::<GroupLag>()?.group.into())
    }),
    Entry::column(Kind::GroupLag, "state", Kind::Text, |call| {
        Ok(call.me::<GroupLag>()?.state.into())
    }),
    Entry::column(Kind::GroupLag, "topic", Kind::Text, |call| {
        Ok(call.me::<GroupLag>()?.topic.into())
    }),
    Entry::column(Kind::GroupLag, "partitions", Kind::Number, |call| {
        Ok(call.me::<GroupLag>()?.partitions.into())
    })
    .doc("On how many partitions it has committed."),
    Entry::column(Kind::GroupLag, "lag", Kind::Number, |call| {
        Ok(call.me::<GroupLag>()?.lag.into())
    })
    .doc("Over all of them. How far that is in time is told by the group's `offsets()`."),
];

fn list(call: &Invocation, source: &Source) -> Result<Dynamic, Failure> {
    let filter = Filter::of(call)?;
    let mut groups = source.groups(call, &filter)?;
    if filter.is_about_offsets() {
        let wanted = source.lags(call, &groups, &filter)?;
        let over = filter.lag_over;
        groups.retain(|group| {
            let mut rows = wanted
                .iter()
                .filter(|row| row.group == group.name)
                .peekable();
            match over {
                Some(over) => rows.map(|row| row.lag).sum::<i64>() > over,
                // A topic that its members read and nobody has committed on yet.
                None => {
                    let mut topics = group.members.iter().flat_map(|one| &one.topics);
                    rows.peek().is_some() || topics.any(|topic| filter.topics.takes(topic))
                }
            }
        });
    }
    Ok(groups
        .into_iter()
        .map(Dynamic::from)
        .collect::<Array>()
        .into())
}

fn lags(call: &Invocation, source: &Source) -> Result<Dynamic, Failure> {
    let filter = Filter::of(call)?;
    let groups = source.groups(call, &filter)?;
    let mut rows = source.lags(call, &groups, &filter)?;
    if let Some(over) = filter.lag_over {
        rows.retain(|row| row.lag > over);
    }
    Ok(rows
        .into_iter()
        .map(Dynamic::from)
        .collect::<Array>()
        .into())
}
