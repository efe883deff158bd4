//! Carrying out the parts of a restore plan. Each takes its part of the plan and nothing else.

use super::plan::{CreateTopic, FinishTopic, TargetState, WriteTopic};
use super::prepare::same_topic;
use super::target::log_ranges;
use super::topic::PARTITIONS_AT_ONCE;
use crate::base::text::grouped;
use crate::base::{TopicId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ErrorCode, Topic, TopicsWanted};
use std::collections::BTreeMap;
use std::time::Duration;

/// A topic just created may not be led yet.
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// The topic as it is now; `None` if there is none of that name.
pub(super) async fn current(client: &Client, topic: &str) -> Result<Option<Topic>> {
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
    let mut made = create.new_topic().partitions;
    while made < create.partitions {
        made = create.partitions.min(made + PARTITIONS_AT_ONCE);
        client.create_partitions(&create.topic, made).await?;
    }
    wait_until_led(create, client).await?;
    Ok(id)
}

/// Waits until every partition of a topic just created has a leader.
pub(super) async fn wait_until_led(create: &CreateTopic, client: &Client) -> Result<()> {
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
            return Ok(());
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

/// The topic must be the planned one, and end where the plan begins to write. `created`: the id that the topic got
/// from a step before this one.
pub async fn check_write_topic(
    write: &WriteTopic,
    created: Option<TopicId>,
    client: &Client,
) -> Result<()> {
    let planned = match &write.target {
        TargetState::Absent => created.unwrap_or_default(),
        TargetState::Empty { id } | TargetState::HasRecords { id, .. } => *id,
    };
    same_topic(&write.topic, planned, client).await?;
    let logs = log_ranges(client, &write.targets()).await?;
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

/// How many records a write that ended early has left in the target. Asks the target, since an answer that was
/// lost on the way may have been a success.
pub async fn written_so_far(write: &WriteTopic, client: &Client) -> Result<u64> {
    let logs = log_ranges(client, &write.targets()).await?;
    let bases: BTreeMap<TopicPartition, i64> = write
        .partitions
        .iter()
        .map(|route| {
            let at = TopicPartition::new(write.topic.clone(), route.target);
            (at, route.base.0)
        })
        .collect();
    Ok(bases
        .into_iter()
        .map(|(at, base)| {
            let end = logs.get(&at).map_or(base, |log| log.end);
            u64::try_from(end - base).unwrap_or(0)
        })
        .sum())
}

/// The topic must still be there, and the same. `created`: the id that it got from a step before this one.
pub async fn check_finish_topic(
    finish: &FinishTopic,
    created: Option<TopicId>,
    client: &Client,
) -> Result<()> {
    let id = finish.id.or(created).unwrap_or_default();
    same_topic(&finish.topic, id, client).await
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
