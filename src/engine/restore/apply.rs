//! Carrying out the parts of a restore plan. Each takes its part of the plan and nothing else.

use super::plan::{CreateTopic, FinishTopic, TargetState, WriteTopic};
use super::resolve::log_ranges;
use crate::base::text::grouped;
use crate::base::{TopicId, TopicPartition};
use crate::engine::error::{Error, Result};
use crate::kafka::{Client, ErrorCode, Topic, TopicsWanted};
use std::time::Duration;

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
