//! The same numbers, for a target that was mirrored offset by offset.
//!
//! That it was is not taken on trust: of each partition the records at its lowest and at its highest commit are compared.
//! Other records there at those offsets mean that every number would lead elsewhere.

use super::super::error::Result;
use super::super::options::{Options, OutOfRange};
use super::super::plan::{Blocked, Reason, Row, Why};
use super::super::resolve;
use super::log::{Log, Look, Seen};
use super::timestamp::same;
use super::{AT_ONCE, Piece, Placed, Translation, World, each};
use crate::base::text::grouped;
use crate::base::{TopicId, TopicPartition};
use crate::kafka::Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;

/// What a look at both sides of a partition says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Compared {
    /// They hold the same records where it was looked.
    Same,
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
            let mut found = Compared::Untold;
            for at in [low, high] {
                match compared(translation, world, &source, &there, target, at).await? {
                    Compared::Untold => {}
                    other @ Compared::Other(_) => {
                        found = other;
                        break;
                    }
                    Compared::Same => found = Compared::Same,
                }
            }
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

/// The record that is next at an offset, or the one before it, on both sides.
async fn compared(
    translation: &Translation,
    world: &World,
    source: &TopicPartition,
    there: &TopicPartition,
    target: &Client,
    at: i64,
) -> Result<Compared> {
    let (Some(range), Some((start, _))) = (world.ranges.get(source), world.logs.get(there)) else {
        return Ok(Compared::Untold);
    };
    let end = world.stable.get(there).map_or(0, |end| end.0);
    let log = translation.log(source);
    let own: Option<Seen> = match log
        .first(at.max(range.from.0), range.to.0, Look::Content)
        .await?
    {
        Some(next) => Some(next),
        None => {
            let before = (range.from.0, at.min(range.to.0));
            let mut budget = u64::MAX;
            log.last(before, 1, Look::Content, &mut budget).await?.pop()
        }
    };
    let Some(own) = own.filter(|own| (start.0..end).contains(&own.offset)) else {
        return Ok(Compared::Untold);
    };
    let log = Log::Live(target.clone(), there.clone());
    Ok(
        match log.first(own.offset, own.offset + 1, Look::Content).await? {
            None => Compared::Untold,
            Some(other) if other.broker_time && other.digest == own.digest => Compared::Same,
            Some(other) if same(&own, &other) => Compared::Same,
            Some(_) => Compared::Other(own.offset),
        },
    )
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
    let sure = *compared == Compared::Same;
    let how = match sure {
        true => "the same number, at the same records",
        false => "the same number, within the target's log",
    };
    Ok(Placed {
        target: at,
        why: Why::Found {
            how: how.to_string(),
            again: 0,
            sure,
        },
    })
}
