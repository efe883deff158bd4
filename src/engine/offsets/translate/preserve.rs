//! The same numbers, for a target that was mirrored offset by offset.
//!
//! That it was is not taken on trust: of each partition the records at its lowest and at its highest commit are compared, and
//! others evenly between its ends. Other records there at those offsets mean that every number would lead elsewhere. Only
//! where all records of both sides were compared the place is called exact.

use super::super::error::Result;
use super::super::options::{Options, OutOfRange};
use super::super::plan::{Blocked, Reason, Row, Why};
use super::super::resolve;
use super::log::{Log, Look, Reading, Seen};
use super::neighbours::is_same;
use super::{AT_ONCE, Piece, Placed, Range, Translation, World, each};
use crate::base::text::grouped;
use crate::base::{TopicId, TopicPartition};
use crate::kafka::Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;

/// A partition of so many offsets is compared as a whole.
const WHOLE: i64 = 100_000;
/// Places of a larger one that are compared beside those of commits.
const PLACES: i64 = 16;

/// What a look at both sides of a partition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// They hold the same records where it was looked.
    Same,
    /// They hold the same records, each of them.
    All,
    /// Neither holds one there.
    Untold,
    /// They hold different records at this offset.
    Other(i64),
}

/// By source partition and target topic.
type Ways<'a> = BTreeMap<(TopicPartition, &'a str), Compared>;

/// The rows of all pieces.
pub(super) async fn rows(
    translation: &Translation,
    world: &World,
    pieces: &[Piece],
    target: &Client,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut ends: BTreeMap<(TopicPartition, &str), (i64, i64)> = BTreeMap::new();
    for piece in pieces {
        let at = piece.offset.offset.0;
        let way = (piece.source(), piece.target_topic.as_str());
        let (low, high) = ends.entry(way).or_insert((at, at));
        (*low, *high) = ((*low).min(at), (*high).max(at));
    }
    let ways = ends
        .into_iter()
        .map(|((source, topic), (low, high))| async move {
            let there = TopicPartition::new(topic, source.partition);
            let both = Both {
                translation,
                world,
                source: &source,
                there: &there,
                target,
            };
            let found = both.compared(low, high, options).await?;
            Ok::<_, super::Error>(((source, topic), found))
        });
    let ways: Ways<'_> = stream::iter(ways)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(each(world, pieces, |piece, row| {
        let way = (piece.source(), piece.target_topic.as_str());
        place(world, piece, row, options, &ways[&way])
    }))
}

/// A partition of the source, and that of the same number.
struct Both<'a> {
    translation: &'a Translation,
    world: &'a World,
    source: &'a TopicPartition,
    there: &'a TopicPartition,
    target: &'a Client,
}

impl Both<'_> {
    /// At the lowest and the highest commit, and in other places; all of it where that is not much.
    async fn compared(&self, low: i64, high: i64, options: &Options) -> Result<Compared> {
        let range = self.world.ranges.get(self.source);
        let Some((range, (start, _))) = range.zip(self.world.logs.get(self.there)) else {
            return Ok(Compared::Untold);
        };
        let end = self.world.stable.get(self.there).map_or(0, |end| end.0);
        let (from, to) = (range.from.0.max(start.0), range.to.0.min(end));
        let mut places = vec![low, high];
        let span = to.saturating_sub(from);
        if span > 0 {
            places.extend((0..PLACES).map(|number| {
                from + (i128::from(span) * i128::from(number) / i128::from(PLACES)) as i64
            }));
        }
        let mut found = Compared::Untold;
        for at in places {
            match self.at(at, range, (start.0, end)).await? {
                other @ Compared::Other(_) => return Ok(other),
                Compared::Untold => {}
                same => found = same,
            }
        }
        // Nor may records of others be within, or there before the source's next one.
        if found == Compared::Same
            && span <= WHOLE
            && from <= low
            && high <= to
            && self.is_all_the_same((from, to), options).await?
        {
            found = Compared::All;
        }
        Ok(found)
    }

    /// The record that is next at an offset, or the one before it, on both sides.
    async fn at(&self, at: i64, range: &Range, (start, end): (i64, i64)) -> Result<Compared> {
        let log = self.translation.log(self.source);
        let there = Log::Live(self.target.clone(), self.there.clone());
        let next = at.max(range.from.0);
        let own: Option<Seen> = match log.first(next, range.to.0, Look::Content).await? {
            Some(next) => Some(next),
            None => {
                let before = (range.from.0, at.min(range.to.0));
                let mut budget = u64::MAX;
                let last = log.last(before, 1, Look::Content, &mut budget).await?.pop();
                // What is there between them was written there, and would be skipped.
                let to = at.min(end).min(range.to.0);
                if let Some(last) = &last
                    && last.offset + 1 < to
                    && let Some(other) = there.first(last.offset + 1, to, Look::Content).await?
                {
                    return Ok(Compared::Other(other.offset));
                }
                last
            }
        };
        let Some(own) = own.filter(|own| (start..end).contains(&own.offset)) else {
            return Ok(Compared::Untold);
        };
        let found = there
            .first(own.offset, own.offset + 1, Look::Content)
            .await?;
        Ok(match found {
            None => Compared::Untold,
            Some(other) if is_same(&own, &other) => Compared::Same,
            Some(_) => Compared::Other(own.offset),
        })
    }

    /// Whether both sides have the same records at the same offsets of `[from, to)`, and nothing else; false if more would have
    /// to be read than may be.
    async fn is_all_the_same(&self, (from, to): (i64, i64), options: &Options) -> Result<bool> {
        let log = self.translation.log(self.source);
        let there = Log::Live(self.target.clone(), self.there.clone());
        let mut own = Walk::of(log.read(from, to, Look::Content)?);
        let mut theirs = Walk::of(there.read(from, to, Look::Content)?);
        loop {
            if own.bytes.max(theirs.bytes) > options.scan_budget.0 {
                return Ok(false);
            }
            match (own.next().await?, theirs.next().await?) {
                (None, None) => return Ok(true),
                (Some(own), Some(other)) if own.offset == other.offset && is_same(&own, &other) => {
                }
                _ => return Ok(false),
            }
        }
    }
}

/// Records one by one.
struct Walk {
    reading: Reading,
    part: std::vec::IntoIter<Seen>,
    bytes: u64,
}

impl Walk {
    fn of(reading: Reading) -> Self {
        Self {
            reading,
            part: Vec::new().into_iter(),
            bytes: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Seen>> {
        loop {
            if let Some(seen) = self.part.next() {
                return Ok(Some(seen));
            }
            let Some(part) = self.reading.next().await? else {
                return Ok(None);
            };
            self.bytes = self.bytes.saturating_add(part.bytes);
            self.part = part.seen.into_iter();
        }
    }
}

fn place(
    world: &World,
    piece: &Piece,
    row: &Row,
    options: &Options,
    compared: &Compared,
) -> std::result::Result<Placed, Blocked> {
    let range = world.ranges.get(&piece.source());
    let id = range.map_or(TopicId::nil(), |range| range.topic_id);
    resolve::fit(&piece.offset, id, &piece.place())?;
    let at = piece.offset.offset;
    let (start, end) = world.target_log(row)?;
    let there = world.topics.get(&row.target_topic).map_or(0, Vec::len);
    if let Some(range) = range.filter(|range| range.partitions != there) {
        return Err(Blocked::new(
            Reason::NotFound,
            format!(
                "{}: {there} partitions there and {} at the source, so that the same numbers stand for other records",
                row.target_partition(),
                range.partitions
            ),
            "try .strategy(\"header\"), or \"timestamp\", which reads some records again",
        ));
    }
    if let Compared::Other(offset) = compared {
        return Err(Blocked::new(
            Reason::NotFound,
            format!(
                "{}: another record than at the source is at {}, so that the same numbers lead elsewhere",
                row.target_partition(),
                grouped(*offset)
            ),
            "try .strategy(\"header\"), \"timestamp\" or \"cluster-scan\"",
        ));
    }
    let nearest = at.clamp(start, end);
    if nearest != at && options.out_of_range == OutOfRange::Clamp {
        return Ok(Placed {
            target: nearest,
            why: Why::Clamped { to: nearest },
        });
    }
    let how = match compared {
        Compared::All => "the same number, at the same records",
        Compared::Same => "the same number, at the same records where it was looked",
        _ => "the same number, within the target's log",
    };
    Ok(Placed {
        target: at,
        why: Why::found(how, 0, *compared == Compared::All),
    })
}
