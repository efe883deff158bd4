//! Committed offsets and groups.

use crate::batches::{batch, now};
use crate::harness::{ClusterUnderTest, at, eventually, text, unique};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kbr::base::Offset;
use kbr::kafka::{CommitWanted, Error, Route};
use kbr::record::ProducerStamp;
use std::collections::BTreeMap;

/// Commits an offset for partition 0 without a generation.
pub async fn commit(
    cluster: &ClusterUnderTest,
    group: &str,
    topic: &str,
    offset: i64,
    metadata: &str,
) -> i16 {
    let wanted = CommitWanted {
        offset: Offset(offset),
        metadata: metadata.to_string(),
    };
    let offsets = BTreeMap::from([(at(topic, 0), wanted)]);
    let answer = cluster
        .client
        .commit_offsets(group, &offsets)
        .await
        .unwrap();
    answer[&at(topic, 0)].0
}

/// The group's committed offset and metadata for partition 0, once no transaction is pending over it.
pub async fn committed(
    cluster: &ClusterUnderTest,
    group: &str,
    topic: &str,
) -> Option<(i64, String)> {
    let wanted = BTreeMap::from([(group.to_string(), vec![at(topic, 0)])]);
    let mut found = cluster.client.committed_offsets_at(&wanted).await.unwrap();
    let offsets = found.remove(group).unwrap().unwrap();
    let committed = offsets.get(&at(topic, 0))?;
    Some((committed.offset.0, committed.metadata.clone()))
}

pub async fn committed_offsets_come_back_with_their_metadata(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(commit(cluster, &group, &topic, 7, "here").await, 0);
    assert_eq!(commit(cluster, &group, &topic, 3, "there").await, 0);
    let found = committed(cluster, &group, &topic).await;
    assert_eq!(found, Some((3, "there".to_string())));
    let groups = cluster.client.list_groups().await.unwrap();
    let listed = groups.iter().find(|listed| listed.group == group).unwrap();
    assert_eq!(listed.state, "Empty");
    assert_eq!(listed.protocol_type, "");
    assert_eq!(listed.kind, "classic");
}

pub async fn a_group_nobody_knows_has_no_offsets_and_is_dead(cluster: &ClusterUnderTest) {
    let group = unique("missing");
    let groups = [group.clone()];
    let mut found = cluster
        .client
        .committed_offsets(&groups, true)
        .await
        .unwrap();
    assert_eq!(found.remove(&group).unwrap().unwrap(), BTreeMap::new());
    let mut described = cluster.client.describe_groups(&groups).await.unwrap();
    assert_eq!(described.remove(&group).unwrap().unwrap().state, "Dead");
}

pub async fn a_commit_for_a_missing_topic_answers_3(cluster: &ClusterUnderTest) {
    let group = unique("group");
    assert_eq!(commit(cluster, &group, &unique("missing"), 7, "").await, 3);
}

pub async fn metadata_over_4096_bytes_answers_12(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(
        commit(cluster, &group, &topic, 1, &"m".repeat(4096)).await,
        0
    );
    assert_eq!(
        commit(cluster, &group, &topic, 2, &"m".repeat(4097)).await,
        12
    );
    assert_eq!(committed(cluster, &group, &topic).await.unwrap().0, 1);
}

pub async fn offsets_beyond_the_end_are_accepted(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(commit(cluster, &group, &topic, 1_000_000, "").await, 0);
    assert_eq!(
        committed(cluster, &group, &topic).await.unwrap().0,
        1_000_000
    );
}

pub async fn a_plain_commit_to_an_active_group_answers_25(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let other = cluster.topic(&[]).await;
    let group = unique("group");
    let member = cluster.join(&group, &topic).await;
    assert_eq!(commit(cluster, &group, &topic, 1, "").await, 25);
    assert_eq!(commit(cluster, &group, &other, 1, "").await, 25);
    // The member itself may.
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(5)
        .with_committed_leader_epoch(-1);
    let topics = vec![
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&topic)))
            .with_partitions(vec![partition]),
    ];
    let to = cluster.group_coordinator(&group).await;
    let request = |generation| {
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&member.member_id))
            .with_topics(topics.clone())
    };
    let stale = commit_as(cluster, to, request(member.generation + 1)).await;
    assert_eq!(stale, 22);
    let own = commit_as(cluster, to, request(member.generation)).await;
    assert_eq!(own, 0);
    assert_eq!(committed(cluster, &group, &topic).await.unwrap().0, 5);
}

async fn commit_as(cluster: &ClusterUnderTest, to: Route, request: OffsetCommitRequest) -> i16 {
    let answer = cluster.client.call_capped(to, request, 9).await.unwrap();
    answer.topics[0].partitions[0].error_code
}

pub async fn an_active_group_describes_its_member(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    let member = cluster.join(&group, &topic).await;
    let groups = [group.clone()];
    let mut described = cluster.client.describe_groups(&groups).await.unwrap();
    let described = described.remove(&group).unwrap().unwrap();
    assert_eq!(described.state, "Stable");
    assert_eq!(described.kind, "classic");
    assert_eq!(described.protocol_type, "consumer");
    assert_eq!(described.members.len(), 1);
    assert_eq!(described.members[0].member_id, member.member_id);
    assert_eq!(described.members[0].client_id, "kbr");
    assert_eq!(described.members[0].host, "/127.0.0.1");
    assert_eq!(described.members[0].topics, [topic.as_str()]);
    assert_eq!(described.members[0].assigned, [at(&topic, 0)]);
}

async fn delete(cluster: &ClusterUnderTest, group: &str) -> i16 {
    let groups = [group.to_string()];
    let mut deleted = cluster.client.delete_groups(&groups).await.unwrap();
    match deleted.remove(group).unwrap() {
        Ok(()) => 0,
        Err(Error::Broker { code, .. }) => code.0,
        Err(other) => panic!("{other}"),
    }
}

pub async fn an_active_group_cannot_be_deleted(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    cluster.join(&group, &topic).await;
    assert_eq!(delete(cluster, &group).await, 68);
}

pub async fn a_deleted_group_is_gone(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(delete(cluster, &group).await, 69);
    commit(cluster, &group, &topic, 7, "").await;
    assert_eq!(delete(cluster, &group).await, 0);
    assert_eq!(committed(cluster, &group, &topic).await, None);
    let groups = cluster.client.list_groups().await.unwrap();
    assert!(!groups.iter().any(|listed| listed.group == group));
}

pub async fn deleting_a_topic_takes_its_committed_offsets_along(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let kept = cluster.topic(&[]).await;
    let group = unique("group");
    cluster
        .produce(&topic, &batch(1, now(), ProducerStamp::NONE))
        .await;
    commit(cluster, &group, &topic, 1, "").await;
    commit(cluster, &group, &kept, 2, "").await;
    let names = [topic.clone()];
    let deleted = cluster.client.delete_topics(&names).await.unwrap();
    deleted[0].1.as_ref().unwrap();
    let groups = [group.clone()];
    eventually("the offsets are gone", || async {
        let mut found = cluster
            .client
            .committed_offsets(&groups, true)
            .await
            .unwrap();
        let offsets = found.remove(&group).unwrap().unwrap();
        let topics: Vec<String> = offsets
            .into_keys()
            .map(|partition| partition.topic)
            .collect();
        (topics == [kept.clone()]).then_some(())
    })
    .await;
}

async fn delete_offsets(cluster: &ClusterUnderTest, group: &str, topics: &[&str]) -> Vec<i16> {
    let wanted: Vec<_> = topics.iter().map(|topic| at(topic, 0)).collect();
    match cluster.client.delete_offsets(group, &wanted).await {
        Ok(codes) => wanted.iter().map(|at| codes[at].0).collect(),
        Err(Error::Broker { code, .. }) => vec![code.0],
        Err(other) => panic!("{other}"),
    }
}

pub async fn single_offsets_of_an_empty_group_are_deleted(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    let kept = cluster.topic(&[]).await;
    let group = unique("group");
    assert_eq!(delete_offsets(cluster, &group, &[&topic]).await, [69]);
    commit(cluster, &group, &topic, 7, "").await;
    commit(cluster, &group, &kept, 8, "").await;
    assert_eq!(delete_offsets(cluster, &group, &[&topic]).await, [0]);
    assert_eq!(committed(cluster, &group, &topic).await, None);
    assert_eq!(committed(cluster, &group, &kept).await.unwrap().0, 8);
    // What is not there any more is deleted as well; a topic that is not there is not.
    let missing = unique("missing");
    let codes = delete_offsets(cluster, &group, &[&topic, &missing]).await;
    assert_eq!(codes, [0, 3]);
}

pub async fn offsets_of_a_topic_that_a_member_reads_are_kept(cluster: &ClusterUnderTest) {
    let read = cluster.topic(&[]).await;
    let other = cluster.topic(&[]).await;
    let group = unique("group");
    commit(cluster, &group, &read, 7, "").await;
    commit(cluster, &group, &other, 8, "").await;
    cluster.join(&group, &read).await;
    let codes = delete_offsets(cluster, &group, &[&read, &other]).await;
    assert_eq!(codes, [86, 0]);
    assert_eq!(committed(cluster, &group, &read).await.unwrap().0, 7);
    assert_eq!(committed(cluster, &group, &other).await, None);
}
