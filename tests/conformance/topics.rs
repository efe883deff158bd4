//! Creating, describing and deleting topics.

use crate::harness::{ClusterUnderTest, eventually, text, unique};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::{CreatePartitionsRequest, TopicName};
use kbr::base::TopicId;
use kbr::kafka::{Error, NewTopic, Route, Topic, TopicsWanted};
use std::collections::BTreeMap;

fn new(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_string(),
        partitions,
        replication_factor,
        configs: BTreeMap::new(),
    }
}

/// The id of the created topic, or the code.
async fn create(
    cluster: &ClusterUnderTest,
    topic: NewTopic,
    validate: bool,
) -> Result<TopicId, i16> {
    let mut created = cluster
        .client
        .create_topics(&[topic], validate)
        .await
        .unwrap();
    code(created.remove(0).1)
}

fn code<T>(result: Result<T, Error>) -> Result<T, i16> {
    match result {
        Ok(value) => Ok(value),
        Err(Error::Broker { code, .. }) => Err(code.0),
        Err(other) => panic!("{other}"),
    }
}

async fn describe(cluster: &ClusterUnderTest, name: &str) -> Topic {
    let wanted = [name.to_string()];
    let mut topics = cluster
        .client
        .topics(TopicsWanted::Named(&wanted))
        .await
        .unwrap();
    topics.remove(0)
}

async fn delete(cluster: &ClusterUnderTest, name: &str) -> Result<TopicId, i16> {
    let names = [name.to_string()];
    let mut deleted = cluster.client.delete_topics(&names).await.unwrap();
    code(deleted.remove(0).1)
}

pub async fn a_new_topic_is_in_the_metadata_with_its_partitions(cluster: &ClusterUnderTest) {
    let name = cluster.topic_of(3, &[]).await;
    let topic = describe(cluster, &name).await;
    assert_eq!(topic.error.0, 0);
    assert!(!topic.internal);
    assert_eq!(topic.id.get_version_num(), 4);
    let partitions: Vec<(i32, i32, usize)> = topic
        .partitions
        .iter()
        .map(|partition| {
            (
                partition.id.0,
                partition.leader_epoch,
                partition.replicas.len(),
            )
        })
        .collect();
    assert_eq!(partitions, [(0, 0, 1), (1, 0, 1), (2, 0, 1)]);
    let all = cluster.client.topics(TopicsWanted::All).await.unwrap();
    assert!(all.iter().any(|topic| topic.name == name));
}

pub async fn an_existing_topic_answers_36(cluster: &ClusterUnderTest) {
    let name = cluster.topic(&[]).await;
    assert_eq!(create(cluster, new(&name, 1, 1), false).await, Err(36));
    assert_eq!(create(cluster, new(&name, 1, 1), true).await, Err(36));
}

pub async fn a_topic_created_again_has_another_id(cluster: &ClusterUnderTest) {
    let name = cluster.topic(&[]).await;
    let first = describe(cluster, &name).await.id;
    delete(cluster, &name).await.unwrap();
    eventually("the topic is gone", || async {
        (describe(cluster, &name).await.error.0 == 3).then_some(())
    })
    .await;
    let second = create(cluster, new(&name, 1, 1), false).await.unwrap();
    assert_ne!(first, second);
    let third = eventually("the topic is back", || async {
        let topic = describe(cluster, &name).await;
        (topic.error.0 == 0).then_some(topic.id)
    })
    .await;
    assert_eq!(third, second);
}

pub async fn validation_creates_nothing(cluster: &ClusterUnderTest) {
    let name = unique("validated");
    assert!(create(cluster, new(&name, 1, 1), true).await.is_ok());
    assert_eq!(describe(cluster, &name).await.error.0, 3);
}

pub async fn impossible_topics_are_refused_with_their_codes(cluster: &ClusterUnderTest) {
    let name = unique("impossible");
    assert_eq!(
        create(cluster, new("no spaces", 1, 1), false).await,
        Err(17)
    );
    assert_eq!(create(cluster, new(&name, 0, 1), false).await, Err(37));
    assert_eq!(create(cluster, new(&name, 1, 99), false).await, Err(38));
}

pub async fn a_missing_topic_answers_3_to_metadata_and_deletion(cluster: &ClusterUnderTest) {
    let name = unique("missing");
    assert_eq!(describe(cluster, &name).await.error.0, 3);
    assert_eq!(delete(cluster, &name).await, Err(3));
}

pub async fn partitions_can_only_be_added(cluster: &ClusterUnderTest) {
    let name = cluster.topic_of(2, &[]).await;
    let ask = async |count| {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(&name)))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let answer = cluster
            .client
            .call(Route::Controller, request)
            .await
            .unwrap();
        answer.results[0].error_code
    };
    assert_eq!(ask(2).await, 37);
    assert_eq!(ask(1).await, 37);
    assert_eq!(ask(4).await, 0);
    eventually("four partitions", || async {
        (describe(cluster, &name).await.partitions.len() == 4).then_some(())
    })
    .await;
}
