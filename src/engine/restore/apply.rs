//! Carrying out the parts of a restore plan. Each takes its part of the plan and nothing else.

use super::context::{WriteContext, WriteProgress};
use super::plan::{
    CreateTopic, FinishTopic, TargetState, TopicReport, WritePartition, WriteTopic,
    WrittenPartition,
};
use super::resolve::log_ranges;
use super::routing::Routing;
use super::scan;
use super::select::selector;
use super::shape::{Shape, Shaper};
use super::writer::Writer;
use crate::archive::Snapshot;
use crate::base::text::grouped;
use crate::base::{CancellationToken, ProgressHandle, TopicId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ErrorCode, ProducerIdentity, Topic, TopicsWanted};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

/// Partitions of a topic that are written at the same time. Each holds a few batches and blocks in memory.
const PARTITIONS_AT_ONCE: usize = 4;
/// A topic just created may not be led yet.
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// The topic as it is now; `None` if there is none of that name.
async fn current(client: &Client, topic: &str) -> Result<Option<Topic>> {
    let found = client
        .topics(TopicsWanted::Named(&[topic.to_string()]))
        .await?
        .into_iter()
        .next();
    match found {
        Some(topic) if topic.error == ErrorCode::NONE => Ok(Some(topic)),
        Some(topic) if topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Ok(None),
        Some(topic) => {
            Err(crate::kafka::Error::broker("Metadata", topic.name, topic.error, None).into())
        }
        None => Ok(None),
    }
}

/// The topic must still be absent.
pub async fn check_create_topic(create: &CreateTopic, client: &Client) -> Result<()> {
    match current(client, &create.topic).await? {
        None => Ok(()),
        Some(_) => Err(Error::Drift(format!(
            "topic {} exists now; the plan would create it",
            create.topic
        ))),
    }
}

/// Creates the topic under its restore settings and waits until every partition is led.
pub async fn create_topic(create: &CreateTopic, client: &Client) -> Result<TopicId> {
    let mut id = TopicId::nil();
    for (_, created) in client.create_topics(&[create.new_topic()], false).await? {
        id = created?;
    }
    let deadline = tokio::time::Instant::now() + LEADERS_WITHIN;
    loop {
        let topic = current(client, &create.topic).await?;
        let led = topic.as_ref().is_some_and(|topic| {
            topic.partitions.len() == create.partitions.unsigned_abs() as usize
                && topic
                    .partitions
                    .iter()
                    .all(|partition| partition.leader.is_some())
        });
        if led {
            return Ok(id);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Mismatch(format!(
                "topic {} was created, but not every partition has a leader after {} s",
                create.topic,
                LEADERS_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The topic must be the planned one, and end where the plan begins to write.
pub async fn check_write_topic(write: &WriteTopic, client: &Client) -> Result<()> {
    let Some(topic) = current(client, &write.topic).await? else {
        return Err(Error::Drift(format!("topic {} is not there", write.topic)));
    };
    let planned = match &write.target {
        TargetState::Absent => None,
        TargetState::Empty { id } | TargetState::HasRecords { id, .. } => Some(*id),
    };
    if planned.is_some_and(|planned| !planned.is_nil() && planned != topic.id) {
        return Err(Error::Drift(format!(
            "topic {} was deleted and created again since it was planned",
            write.topic
        )));
    }
    let partitions: Vec<TopicPartition> = write
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(write.topic.clone(), partition.target))
        .collect();
    let logs = log_ranges(client, &partitions).await?;
    for partition in &write.partitions {
        let at = TopicPartition::new(write.topic.clone(), partition.target);
        let end = logs.get(&at).map_or(0, |log| log.end);
        if end != partition.base.0 {
            return Err(Error::Drift(format!(
                "{at} ends at {}, not at {} as planned: somebody wrote into it",
                grouped(end),
                grouped(partition.base.0)
            )));
        }
    }
    Ok(())
}

/// Writes one topic's records. Every base offset is asserted, and so is the planned mapping.
pub async fn write_topic(
    write: &WriteTopic,
    snapshot: &Snapshot,
    client: &Client,
    context: &WriteContext,
) -> Result<TopicReport> {
    if context.identity.is_some() {
        return Err(Error::Mismatch(
            "this version cannot go on with an interrupted write".to_string(),
        ));
    }
    let WriteContext {
        progress, cancel, ..
    } = context;
    if write.routing != Routing::Partition || write.joins_sources() {
        return Err(Error::Mismatch(format!(
            "{}: several partitions into one, or one into several, cannot be written yet",
            write.topic
        )));
    }
    let identity = client
        .init_producer_id(None, Duration::from_secs(60))
        .await?;
    context.make_known(identity).await?;
    progress.total(write.records().bound(), write.bytes());
    // Made before the stream, so that the whole is one future that may move between threads.
    let work: Vec<_> = write
        .partitions
        .iter()
        .map(|partition| {
            write_partition(
                write, partition, snapshot, client, identity, progress, cancel,
            )
        })
        .collect();
    let partitions = futures::stream::iter(work)
        .buffered(PARTITIONS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(TopicReport {
        topic: write.topic.clone(),
        partitions,
    })
}

/// What an interrupted write has left in the target. Waits until every end is stable: a late request may still land.
pub async fn reconcile_write(
    write: &WriteTopic,
    _snapshot: &Snapshot,
    client: &Client,
    _identity: Option<ProducerIdentity>,
) -> Result<WriteProgress> {
    match written_so_far(write, client).await? {
        0 => Ok(WriteProgress::NotBegun),
        _ => Err(Error::Mismatch(
            "this version cannot tell how far an interrupted write came".to_string(),
        )),
    }
}

/// How many records a write that ended early has left in the target. Asks the target, since an answer that was
/// lost on the way may have been a success.
pub async fn written_so_far(write: &WriteTopic, client: &Client) -> Result<u64> {
    let partitions: Vec<TopicPartition> = write
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(write.topic.clone(), partition.target))
        .collect();
    let logs = log_ranges(client, &partitions).await?;
    Ok(write
        .partitions
        .iter()
        .map(|partition| {
            let at = TopicPartition::new(write.topic.clone(), partition.target);
            let end = logs.get(&at).map_or(partition.base.0, |log| log.end);
            u64::try_from(end - partition.base.0).unwrap_or(0)
        })
        .sum())
}

async fn write_partition(
    write: &WriteTopic,
    partition: &WritePartition,
    snapshot: &Snapshot,
    client: &Client,
    identity: ProducerIdentity,
    progress: &ProgressHandle,
    cancel: &CancellationToken,
) -> Result<WrittenPartition> {
    let selector = selector(write, partition);
    let wanted = scan::wanted(snapshot, &selector.partition, &selector.cut).await?;
    let shape = Shape::of(write, [partition]);
    let mut shaper = Shaper::writing(shape, write.max_message_bytes);
    shaper.unit_begin(partition.source)?;
    let mut writer = Writer::new(
        client.clone(),
        TopicPartition::new(write.topic.clone(), partition.target),
        identity,
        partition.base,
        cancel.clone(),
    );
    let mut bytes_written = 0;
    let mut blocks = std::pin::pin!(scan::read(snapshot, &wanted.blocks));
    while let Some(block) = blocks.next().await {
        let (block, offsets) = block?;
        let size = block.len() as u64;
        let before = shaper.tally().records;
        let (returned, batches) = scan::off_reactor(move || {
            shaper.block(&block, offsets)?;
            let batches = shaper.take();
            Ok((shaper, batches))
        })
        .await?;
        shaper = returned;
        for batch in batches {
            bytes_written += batch.bytes.len() as u64;
            writer.send(batch).await?;
        }
        progress.advance(shaper.tally().records - before, size);
    }
    let finished = shaper.finish()?;
    let (Some(routed), Some(tally)) = (
        finished.routes.into_iter().next(),
        finished.sources.get(&partition.source).copied(),
    ) else {
        return Err(Error::Internal("a flow of one route has none".into()));
    };
    let mapping = routed.mapping;
    for batch in finished.batches {
        bytes_written += batch.bytes.len() as u64;
        writer.send(batch).await?;
    }
    writer.finish().await?;
    let at = TopicPartition::new(write.topic.clone(), partition.target);
    if writer.next() != mapping.target_end() {
        return Err(Error::Mismatch(format!(
            "{at}: the last record went to offset {}, the mapping ends at {}",
            writer.next().0 - 1,
            mapping.target_end()
        )));
    }
    if let Some(planned) = partition.mapping_digest
        && planned != mapping.digest()
    {
        return Err(Error::Mismatch(format!(
            "{at}: the records written are not those planned ({} instead of {}): the filter does not answer the same each time",
            grouped(mapping.records()),
            grouped(partition.records.bound())
        )));
    }
    Ok(WrittenPartition {
        source: partition.source,
        target: partition.target,
        records: tally.records,
        filter_failed: tally.filter_failed,
        bytes: bytes_written,
        first: partition.base,
        end: writer.next(),
        mapping,
    })
}

/// The topic must still be there.
pub async fn check_finish_topic(finish: &FinishTopic, client: &Client) -> Result<()> {
    match current(client, &finish.topic).await? {
        Some(_) => Ok(()),
        None => Err(Error::Drift(format!("topic {} is not there", finish.topic))),
    }
}

/// Puts the real configs in force.
pub async fn finish_topic(finish: &FinishTopic, client: &Client) -> Result<()> {
    if finish.set.is_empty() && finish.delete.is_empty() {
        return Ok(());
    }
    client
        .alter_topic_configs(&finish.topic, &finish.set, &finish.delete)
        .await?;
    Ok(())
}
