//! DescribeConfigs and IncrementalAlterConfigs on topics.

use crate::harness::{ClusterUnderTest, eventually, unique};
use kbr::kafka::{ConfigEntry, Error};
use std::collections::BTreeMap;

async fn describe(cluster: &ClusterUnderTest, topic: &str) -> Result<Vec<ConfigEntry>, i16> {
    let names = [topic.to_string()];
    let mut described = cluster.client.topic_configs(&names).await.unwrap();
    match described.remove(topic).unwrap() {
        Ok(entries) => Ok(entries),
        Err(Error::Broker { code, .. }) => Err(code.0),
        Err(other) => panic!("{other}"),
    }
}

/// Name and value of the configs that differ from the broker's.
async fn overrides(cluster: &ClusterUnderTest, topic: &str) -> Vec<(String, String)> {
    let mut overrides: Vec<(String, String)> = describe(cluster, topic)
        .await
        .unwrap()
        .into_iter()
        .filter(ConfigEntry::is_override)
        .map(|entry| (entry.name, entry.value.unwrap_or_default()))
        .collect();
    overrides.sort();
    overrides
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

async fn alter(
    cluster: &ClusterUnderTest,
    topic: &str,
    set: &[(&str, &str)],
    delete: &[&str],
) -> i16 {
    let set: BTreeMap<String, String> = pairs(set).into_iter().collect();
    let delete: Vec<String> = delete.iter().map(|name| name.to_string()).collect();
    match cluster
        .client
        .alter_topic_configs(topic, &set, &delete)
        .await
    {
        Ok(()) => 0,
        Err(Error::Broker { code, .. }) => code.0,
        Err(other) => panic!("{other}"),
    }
}

pub async fn overrides_are_told_from_defaults(cluster: &ClusterUnderTest) {
    let configs = [("cleanup.policy", "compact"), ("retention.ms", "1000")];
    let topic = cluster.topic(&configs).await;
    assert_eq!(overrides(cluster, &topic).await, pairs(&configs));
    let entries = describe(cluster, &topic).await.unwrap();
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        entry.value.clone().unwrap()
    };
    assert_eq!(value("message.timestamp.type"), "CreateTime");
    assert_eq!(value("compression.type"), "producer");
    assert_eq!(value("max.message.bytes"), "1048588");
    assert_eq!(value("delete.retention.ms"), "86400000");
}

pub async fn configs_are_set_and_deleted_one_by_one(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[("retention.ms", "1000")]).await;
    let set = [
        ("cleanup.policy", "compact,delete"),
        ("retention.bytes", "5"),
    ];
    assert_eq!(alter(cluster, &topic, &set, &["retention.ms"]).await, 0);
    eventually("the new configs", || async {
        (overrides(cluster, &topic).await == pairs(&set)).then_some(())
    })
    .await;
}

pub async fn unknown_and_bad_configs_answer_40(cluster: &ClusterUnderTest) {
    let topic = cluster.topic(&[]).await;
    assert_eq!(
        alter(cluster, &topic, &[("no.such.config", "1")], &[]).await,
        40
    );
    assert_eq!(
        alter(cluster, &topic, &[("retention.ms", "soon")], &[]).await,
        40
    );
    assert_eq!(
        alter(cluster, &topic, &[("cleanup.policy", "burn")], &[]).await,
        40
    );
    assert_eq!(overrides(cluster, &topic).await, []);
}

pub async fn the_configs_of_a_missing_topic_answer_3(cluster: &ClusterUnderTest) {
    let missing = unique("missing");
    assert_eq!(describe(cluster, &missing).await, Err(3));
    assert_eq!(
        alter(cluster, &missing, &[("retention.ms", "1")], &[]).await,
        3
    );
}
