//! Writing a topic: the flows are read and shaped ([`feed`]), their batches sent to the leaders ([`sender`]), each
//! partition by rules of its own ([`lane`]), with the log asked after trouble ([`look`]) and after a crash ([`resume`]).

mod feed;
mod lane;
mod look;
mod resume;
mod sender;

use super::context::{WriteContext, WriteProgress};
use super::plan::{TopicReport, WriteTopic};
use super::units;
use crate::archive::Snapshot;
use crate::base::buffers;
use crate::base::{CancellationToken, Offset, PartitionId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ProducerIdentity};
use feed::Feed;
use lane::Lane;
use resume::Tails;
use sender::Sender;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Deliveries that may wait for the sender; what they hold is paid for from the budget.
const DELIVERIES: usize = 64;

/// Writes one topic's records, or what an earlier run has left of them. Every base offset is asserted, and so is the
/// planned mapping.
pub async fn write_topic(
    write: &WriteTopic,
    snapshot: &Snapshot,
    client: &Client,
    context: &WriteContext,
) -> Result<TopicReport> {
    let starts = starts(write);
    let (identity, ends) = match context.identity {
        Some(identity) => {
            context.progress.doing("waiting for the target to settle");
            (identity, resume::settled_ends(write, client).await?)
        }
        None => {
            let identity = client
                .init_producer_id(None, Duration::from_secs(60))
                .await?;
            context.make_known(identity).await?;
            (identity, BTreeMap::new())
        }
    };
    announce(write, context);
    let mut lanes = Vec::with_capacity(starts.len());
    for (target, start) in &starts {
        let at = TopicPartition::new(write.topic.clone(), *target);
        if lanes.is_empty() {
            // The sender looks leaders up in what is known, and this makes them known.
            client.leader(&at).await?;
        }
        let next = ends.get(target).copied().unwrap_or(start.0);
        lanes.push(Lane::new(at, *start, next, identity));
    }
    buffers::keep_all();
    let stop = context.cancel.child_token();
    let (batches, delivered) = mpsc::channel(DELIVERIES);
    let sender = Sender::new(client.clone(), context.clone(), stop.clone(), lanes);
    let sending = AbortOnDropHandle::new(tokio::spawn(sender.run(delivered)));
    let tails = Tails {
        client,
        topic: &write.topic,
        ends,
        dry: false,
    };
    let feed = Feed {
        write,
        snapshot,
        context,
        stop: &stop,
        identity,
        sender: batches,
        tails: &tails,
        budget: feed::budget(),
    };
    let flows = units::flows(write.routing, &write.partitions);
    let fed = feed.run(&flows).await;
    // Nothing more comes: the sender ends once everything is in the log.
    drop(feed);
    if fed.is_err() {
        stop.cancel();
    }
    let sent = sending
        .await
        .map_err(|error| Error::Internal(format!("the sender ended early: {error}")))?;
    match (fed, sent) {
        (Ok(partitions), Ok(())) => Ok(TopicReport {
            topic: write.topic.clone(),
            partitions,
        }),
        // Whoever stopped because the other did says no more than that.
        (Err(Error::Cancelled), Err(error)) | (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

/// What an interrupted write has left in the target. Waits until every end is stable: a late request may still land.
pub async fn reconcile_write(
    write: &WriteTopic,
    snapshot: &Snapshot,
    client: &Client,
    identity: Option<ProducerIdentity>,
) -> Result<WriteProgress> {
    let starts = starts(write);
    let ends = resume::settled_ends(write, client).await?;
    if starts
        .iter()
        .all(|(target, start)| ends.get(target) == Some(&start.0))
    {
        return Ok(WriteProgress::NotBegun);
    }
    if let Some((target, end)) = ends
        .iter()
        .find(|(target, end)| starts.get(target).is_some_and(|start| **end < start.0))
    {
        return Ok(WriteProgress::Foreign(format!(
            "{}-{target} ends at {end}, before {}, where the plan begins to write",
            write.topic, starts[target]
        )));
    }
    let planned = write.planned_ends();
    let complete = planned
        .iter()
        .all(|(target, end)| end.is_some_and(|end| ends.get(target) == Some(&end.0)));
    let records = ends
        .iter()
        .filter_map(|(target, end)| {
            let start = starts.get(target)?;
            Some((*target, (end - start.0).unsigned_abs()))
        })
        .collect();
    let context = WriteContext::unrecorded();
    let tails = Tails {
        client,
        topic: &write.topic,
        ends,
        dry: true,
    };
    let (batches, _none) = mpsc::channel(1);
    let feed = Feed {
        write,
        snapshot,
        context: &context,
        stop: &CancellationToken::new(),
        identity: identity.unwrap_or(ProducerIdentity {
            producer_id: -1,
            producer_epoch: -1,
        }),
        sender: batches,
        tails: &tails,
        budget: feed::budget(),
    };
    let flows = units::flows(write.routing, &write.partitions);
    match feed.run(&flows).await {
        Ok(_) if complete => Ok(WriteProgress::Complete),
        Ok(_) => Ok(WriteProgress::Partial { records }),
        Err(error @ Error::NotOurs { .. }) => Ok(WriteProgress::Foreign(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Where the plan begins to write, by target partition.
fn starts(write: &WriteTopic) -> BTreeMap<PartitionId, Offset> {
    let routes = write.partitions.iter();
    routes.map(|route| (route.target, route.base)).collect()
}

fn announce(write: &WriteTopic, context: &WriteContext) {
    let (records, bytes) = (write.records().bound(), write.bytes());
    context.progress.total(records, bytes);
    context.progress.topic_total(&write.topic, records, bytes);
    context.progress.doing("writing");
}
