//! How groups, their offsets and the ends of logs are read, from a cluster or from an archive.

use super::{Group, GroupLag, Lag, Member, Source};
use crate::base::{Offset, PartitionId, Pattern, Selection, TopicPartition};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::reading;
use crate::dsl::verbs::archives::SnapshotValue;
use crate::dsl::verbs::clusters::Cluster;
use crate::engine::look;
use crate::kafka::{Client, GroupDescription, GroupListing, Isolation};
use rhai::{Array, Dynamic, Map};
use std::collections::{BTreeMap, BTreeSet};

/// What groups are asked for.
#[derive(Default)]
pub struct Filter {
    names: Selection,
    states: Vec<String>,
    pub topics: Selection,
    pub lag_over: Option<i64>,
}

impl Filter {
    pub fn of(call: &Invocation) -> Result<Self, Failure> {
        let mut filter = Self::default();
        let Some(map) = call
            .arguments
            .first()
            .and_then(|map| map.read_lock::<Map>())
        else {
            return Ok(filter);
        };
        for (name, value) in map.iter().filter(|(_, value)| !value.is_unit()) {
            match name.as_str() {
                "names" => filter.names = selection(value)?,
                "topic" => filter.topics = selection(value)?,
                "state" => {
                    let states = texts(value).into_iter();
                    filter.states = states.map(|state| state.to_lowercase()).collect();
                }
                _ => {
                    let number = match value.as_int() {
                        Ok(number) => Some(number),
                        Err(_) => value.to_string().replace('_', "").parse().ok(),
                    };
                    let wrong = || format!("lag_over is a number of records, not {value}");
                    let number = number.ok_or_else(|| Failure::script("E0214", wrong()))?;
                    filter.lag_over = Some(number);
                }
            }
        }
        Ok(filter)
    }

    pub fn is_about_offsets(&self) -> bool {
        self.lag_over.is_some() || !self.topics.include.is_empty()
    }

    fn takes(&self, group: &str, state: &str) -> bool {
        let state = state.to_lowercase();
        self.names.takes(group) && (self.states.is_empty() || self.states.contains(&state))
    }
}

/// Of a list each member, of a text its words.
fn texts(value: &Dynamic) -> Vec<String> {
    match value.read_lock::<Array>() {
        Some(list) => list.iter().map(ToString::to_string).collect(),
        None => words(&value.to_string()),
    }
}

/// As a command line gives them: with spaces or commas between, `\ ` being a space of the word itself. A regular
/// expression ends at its slash and not before, a glob `{a,b}` at its brace.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return words;
        }
        let end = regex_end(rest).unwrap_or_else(|| word_end(rest));
        let (word, after) = rest.split_at(end);
        words.push(word.replace("\\ ", " "));
        rest = after;
    }
}

/// Behind the slash that ends the regular expression at the beginning of `text`.
fn regex_end(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('/')?;
    let mut slashes = inner.match_indices('/').map(|(at, _)| at + 2);
    slashes.find(|end| text[*end..].is_empty() || text[*end..].starts_with([' ', ',']))
}

fn word_end(text: &str) -> usize {
    let (mut escaped, mut braces) = (false, 0);
    for (at, c) in text.char_indices() {
        match c {
            ' ' if !escaped => return at,
            ',' if braces == 0 => return at,
            '{' if text[at..].contains('}') => braces += 1,
            '}' if braces > 0 => braces -= 1,
            _ => {}
        }
        escaped = c == '\\';
    }
    text.len()
}

fn selection(value: &Dynamic) -> Result<Selection, Failure> {
    let parse = |text: String| {
        let pattern = Pattern::parse(&text);
        pattern.map_err(|error| Failure::script("E0214", error.to_string()))
    };
    Ok(Selection {
        include: texts(value)
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()?,
        ..Selection::default()
    })
}

type Committed = BTreeMap<TopicPartition, (Offset, String)>;
/// Log start and end.
type Ends = BTreeMap<TopicPartition, (i64, i64)>;

impl Source {
    fn place(&self) -> String {
        match self {
            Self::Live(cluster) => cluster.0.name.clone(),
            Self::Archived(snapshot) => format!("generation {}", snapshot.0.snapshot.number()),
        }
    }

    /// One group; an error if there is none of this name.
    pub fn one(&self, call: &Invocation, name: &str) -> Result<Group, Failure> {
        let found = match self {
            Self::Live(cluster) => described(call, cluster, &[(name.to_string(), String::new())])?,
            Self::Archived(_) => self.groups(call, &Filter::default())?,
        };
        let mut found = found.into_iter();
        match found.find(|group| group.name == name && group.state != "Dead") {
            Some(group) => Ok(group),
            None => {
                let all = self.groups(call, &Filter::default())?;
                let names: Vec<&str> = all.iter().map(|group| group.name.as_str()).collect();
                Err(reading::missing("group", name, &self.place(), &names))
            }
        }
    }

    /// Groups by name and state, sorted.
    pub fn groups(&self, call: &Invocation, filter: &Filter) -> Result<Vec<Group>, Failure> {
        match self {
            Self::Live(cluster) => {
                let listed = call
                    .wait(cluster.0.client.list_groups())?
                    .map_err(|error| reading::of_kafka("groups", &cluster.0.name, error))?;
                // The state of the listing may be missing (brokers before 2.6), and has changed since.
                let wanted: Vec<(String, String)> = listed
                    .into_iter()
                    .filter(|listing| filter.names.takes(&listing.group))
                    .map(|GroupListing { group, kind, .. }| (group, kind))
                    .collect();
                let mut groups = described(call, cluster, &wanted)?;
                groups.retain(|group| filter.takes(&group.name, &group.state));
                Ok(groups)
            }
            Self::Archived(snapshot) => {
                let read = archived(call, snapshot)?;
                let taken = read.groups.into_iter();
                let mut groups: Vec<Group> = taken
                    .filter(|group| filter.takes(&group.group, &group.state))
                    .map(|group| Group {
                        source: self.clone(),
                        name: group.group,
                        state: group.state,
                        kind: group.kind,
                        coordinator: None,
                        members: Vec::new(),
                    })
                    .collect();
                groups.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(groups)
            }
        }
    }

    /// Of `shares`, which are share groups, where they start: they commit nothing, and are no groups to the call for
    /// those that do.
    fn committed(
        &self,
        call: &Invocation,
        groups: &[String],
        shares: &[String],
    ) -> Result<BTreeMap<String, Committed>, Failure> {
        match self {
            Self::Live(cluster) => {
                let failed = |error| reading::of_kafka("committed offsets", &cluster.0.name, error);
                let client = &cluster.0.client;
                let read = call.wait(client.committed_offsets(groups, false))?;
                let mut read = read.map_err(failed)?;
                if !shares.is_empty() {
                    let starts = call.wait(client.share_offsets(shares))?;
                    read.extend(starts.map_err(failed)?);
                }
                let read = read.into_iter();
                read.map(|(group, offsets)| {
                    let offsets = offsets.map_err(failed)?.into_iter();
                    let offsets =
                        offsets.map(|(at, committed)| (at, (committed.offset, committed.metadata)));
                    Ok((group, offsets.collect()))
                })
                .collect()
            }
            Self::Archived(snapshot) => {
                let read = archived(call, snapshot)?.groups.into_iter();
                let read =
                    read.filter(|one| groups.contains(&one.group) || shares.contains(&one.group));
                Ok(read
                    .map(|group| {
                        let offsets = group.offsets.into_iter().map(|one| {
                            let at = TopicPartition::new(one.topic, one.partition);
                            (at, (one.offset, one.metadata))
                        });
                        (group.group, offsets.collect())
                    })
                    .collect())
            }
        }
    }

    /// Where the logs begin and end; one that is not there is left out.
    fn ends(&self, call: &Invocation, places: &BTreeSet<&TopicPartition>) -> Result<Ends, Failure> {
        match self {
            Self::Live(cluster) => call
                .wait(log_ends(&cluster.0.client, places))?
                .map_err(|error| reading::of_kafka("offsets", &cluster.0.name, error)),
            Self::Archived(snapshot) => Ok(places
                .iter()
                .filter_map(|at| {
                    let topic = snapshot.0.snapshot.topic(&at.topic)?;
                    let partition = topic.partition(at.partition)?;
                    Some(((*at).clone(), (partition.from.0, partition.to.0)))
                })
                .collect()),
        }
    }

    /// How far behind in time, in milliseconds; what cannot be read is left out.
    fn behind(
        &self,
        call: &Invocation,
        places: &[(TopicPartition, Offset)],
    ) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        match self {
            Self::Live(cluster) => call.wait(look::behind(&cluster.0.client, places)),
            Self::Archived(snapshot) => {
                let opened = &snapshot.0.snapshot;
                call.wait(async {
                    let mut found = BTreeMap::new();
                    for (at, offset) in places {
                        let partition = opened
                            .topic(&at.topic)
                            .and_then(|t| t.partition(at.partition));
                        let Some(newest) = partition.and_then(|one| one.max_timestamp) else {
                            continue;
                        };
                        let next = opened
                            .record_at_offset(&at.topic, at.partition, *offset)
                            .await;
                        if let Ok(Some(next)) = next {
                            found.insert(at.clone(), look::older(next.timestamp, newest));
                        }
                    }
                    found
                })
            }
        }
    }

    /// The committed offsets of one group, sorted, with what is known of it; `timed`: with how far behind in time each is.
    pub fn offsets(
        &self,
        call: &Invocation,
        group: &str,
        of: Option<&Group>,
        timed: bool,
    ) -> Result<Vec<Lag>, Failure> {
        let one = [group.to_string()];
        let committed = match of.is_some_and(|group| group.kind == SHARE) {
            true => self.committed(call, &[], &one)?,
            false => self.committed(call, &one, &[])?,
        };
        let members = of.map_or(&[][..], |group| &group.members);
        let committed = committed
            .into_iter()
            .next()
            .map(|(_, of)| of)
            .unwrap_or_default();
        let ends = self.ends(call, &committed.keys().collect())?;
        let lagging: Vec<_> = committed
            .iter()
            .filter(|(at, (offset, _))| ends.get(at).is_some_and(|(_, end)| offset.0 < *end))
            .map(|(at, (offset, _))| (at.clone(), *offset))
            .collect();
        let behind = match timed {
            true => self.behind(call, &lagging)?,
            false => BTreeMap::new(),
        };
        let rows = committed.into_iter().map(|(at, (offset, metadata))| {
            let (start, end) = ends.get(&at).copied().unzip();
            let owner = members
                .iter()
                .find(|member| member.partitions.contains(&at));
            let PartitionId(partition) = at.partition;
            Lag {
                owner: owner.map(|member| format!("{} {}", member.client, member.host)),
                behind_ms: match end {
                    Some(end) if offset.0 >= end => Some(0),
                    _ => behind.get(&at).copied(),
                },
                topic: at.topic,
                partition: i64::from(partition),
                committed: offset.0,
                start,
                end,
                metadata,
            }
        });
        Ok(rows.collect())
    }

    /// A row for each group and topic.
    pub fn lags(
        &self,
        call: &Invocation,
        groups: &[Group],
        filter: &Filter,
    ) -> Result<Vec<GroupLag>, Failure> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let (shares, others): (Vec<&Group>, Vec<&Group>) =
            groups.iter().partition(|group| group.kind == SHARE);
        let names = |groups: Vec<&Group>| -> Vec<String> {
            groups.into_iter().map(|group| group.name.clone()).collect()
        };
        let committed = self.committed(call, &names(others), &names(shares))?;
        let places: BTreeSet<&TopicPartition> = committed
            .values()
            .flat_map(BTreeMap::keys)
            .filter(|at| filter.topics.takes(&at.topic))
            .collect();
        let ends = self.ends(call, &places)?;
        let mut rows: Vec<GroupLag> = Vec::new();
        for group in groups {
            let mut of_topic: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
            let offsets = committed.get(&group.name).into_iter().flatten();
            for (at, (offset, _)) in offsets.filter(|(at, _)| places.contains(at)) {
                let (partitions, lag) = of_topic.entry(&at.topic).or_default();
                *partitions += 1;
                *lag += ends.get(at).map_or(0, |(_, end)| (end - offset.0).max(0));
            }
            rows.extend(
                of_topic
                    .into_iter()
                    .map(|(topic, (partitions, lag))| GroupLag {
                        group: group.name.clone(),
                        state: group.state.clone(),
                        topic: topic.to_string(),
                        partitions,
                        lag,
                    }),
            );
        }
        Ok(rows)
    }
}

/// The kind of the groups whose members share partitions (KIP-932).
const SHARE: &str = "share";

fn archived(
    call: &Invocation,
    snapshot: &SnapshotValue,
) -> Result<crate::archive::Groups, Failure> {
    let url = snapshot.0.store.url.to_string();
    let read = call.wait(snapshot.0.snapshot.groups())?;
    read.map_err(|error| reading::of_archive(&url, error))
}

async fn log_ends(
    client: &Client,
    places: &BTreeSet<&TopicPartition>,
) -> Result<Ends, crate::kafka::Error> {
    let places = places.iter().map(|place| (*place).clone());
    let found = client.log_ends(places, Isolation::ReadCommitted).await?;
    let found = found.into_iter().filter_map(|(at, ends)| {
        let ends = ends.ok()?;
        Some((at, (ends.start.0, ends.end.0)))
    });
    Ok(found.collect())
}

/// Groups with their members, sorted by name; `wanted` are names and what the listing says of their kind.
fn described(
    call: &Invocation,
    cluster: &Cluster,
    wanted: &[(String, String)],
) -> Result<Vec<Group>, Failure> {
    let failed = |error| reading::of_kafka("groups", &cluster.0.name, error);
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let client = &cluster.0.client;
    let described = call.wait(client.describe_groups(&names))?.map_err(failed)?;
    let listed: BTreeMap<&str, &str> = wanted
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    described
        .into_iter()
        .map(|(name, described)| {
            let described: GroupDescription = described.map_err(failed)?;
            // Groups of other protocols are none to the calls for consumers, which say that they are dead.
            let kind = match listed.get(name.as_str()) {
                Some(kind) if !kind.is_empty() => (*kind).to_lowercase(),
                _ => described.kind,
            };
            let members = described.members.into_iter().map(|member| Member {
                id: member.member_id,
                client: member.client_id,
                // Kafka writes the name that the address has, if any, before the slash.
                host: member.host.trim_start_matches('/').to_string(),
                topics: member.topics,
                partitions: member.assigned,
            });
            Ok(Group {
                source: Source::Live(cluster.clone()),
                name,
                state: described.state,
                kind,
                coordinator: Some(i64::from(described.coordinator)),
                members: members.collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_end_where_a_name_a_glob_or_a_regular_expression_ends() {
        for (text, wanted) in [
            ("a b,c", &["a", "b", "c"][..]),
            ("team\\ a b", &["team a", "b"]),
            ("/a b/", &["/a b/"]),
            ("/^a,b/ /c/,d", &["/^a,b/", "/c/", "d"]),
            ("/a\\.b/", &["/a\\.b/"]),
            ("/a b", &["/a", "b"]),
            ("{a,b}-* c", &["{a,b}-*", "c"]),
            ("a{b,c", &["a{b", "c"]),
            ("/", &["/"]),
            (" , ", &[]),
        ] {
            assert_eq!(words(text), wanted, "{text}");
        }
    }
}
