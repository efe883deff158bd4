//! Backup of real Kafka: what the archive holds against what Kafka's own Java consumer reads with read_committed,
//! for the data that backup tools get wrong, on both versions kbr is tested with.

// The helpers serve more than one test file.
#[allow(dead_code)]
mod engine_backup_support;
mod support;

use base64::Engine;
use engine_backup_support::{Plain, archived, quick};
use kbr::archive::Archive;
use kbr::base::{CancellationToken, NoProgress, Selection};
use kbr::engine::backup::{self, Options, Run};
use kbr::kafka::{Client, ConnectOptions};
use kbr::store::{Store, StoreUrl};
use serde_json::Value;
use support::{RealKafka, unique};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hard_data_set_of_kafka_4_3_0_is_archived_as_its_consumer_reads_it() {
    the_hard_data_set_is_archived(&RealKafka::source()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hard_data_set_of_kafka_3_9_2_is_archived_as_its_consumer_reads_it() {
    the_hard_data_set_is_archived(&RealKafka::old()).await;
}

async fn the_hard_data_set_is_archived(kafka: &RealKafka) {
    let prefix = format!("{}.", unique("archived"));
    kafka.helper("dataset", &["--prefix", &prefix]);
    let client = Client::connect(ConnectOptions::new([kafka.bootstrap.as_str()]))
        .await
        .unwrap();
    let url: StoreUrl = format!("memory:{prefix}").parse().unwrap();
    let store = Store::open(&url).await.unwrap();
    let pattern = format!("{prefix}*");
    let options = Options {
        topics: Selection::of(&[&pattern]).unwrap(),
        groups: Selection::of(&[&pattern]).unwrap(),
        ..quick()
    };
    // Twice: the second run must find nothing new and continue what is there.
    for number in 1..=2 {
        let plan = backup::plan(&client, &store, &options).await.unwrap();
        assert_eq!(plan.blocked, []);
        let run = Run {
            name: format!("run-{number}"),
            progress: NoProgress::handle(),
            cancel: CancellationToken::new(),
        };
        let report = backup::apply(&plan, &client, &store, &run).await.unwrap();
        assert_eq!(report.incomplete, Vec::<String>::new());
        assert_eq!(report.generation, number);
        assert_eq!(report.records > 0, number == 1);
        assert!(report.groups > 0);
    }
    let snapshot = Archive::open(store).await.unwrap().latest().await.unwrap();
    let topics: Vec<_> = snapshot.topics().cloned().collect();
    assert!(topics.len() > 10, "{}", topics.len());
    for topic in topics {
        let mut read = by_java(kafka, &topic.name);
        for partition in &topic.partitions {
            let id = partition.partition.0;
            let expected = read.remove(&id).unwrap_or_default();
            let found = archived(&snapshot, &topic.name, id).await;
            assert_eq!(found.len(), expected.len(), "{}-{id}", topic.name);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{}-{id}", topic.name);
            }
        }
    }
}

/// Every record that the Java consumer sees, by partition.
fn by_java(kafka: &RealKafka, topic: &str) -> std::collections::BTreeMap<i32, Vec<Plain>> {
    let mut partitions = std::collections::BTreeMap::<i32, Vec<Plain>>::new();
    for line in kafka.helper("dump", &["--topic", topic]).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let bytes = |value: &Value| {
            let text = value.as_str()?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Some(decoded.unwrap())
        };
        let headers = record["headers"].as_array().unwrap();
        let plain = Plain {
            offset: record["offset"].as_i64().unwrap(),
            timestamp: record["timestamp"].as_i64().unwrap(),
            key: bytes(&record["key"]),
            value: bytes(&record["value"]),
            headers: headers
                .iter()
                .map(|header| {
                    let key = header[0].as_str().unwrap().as_bytes().to_vec();
                    (key, bytes(&header[1]))
                })
                .collect(),
        };
        let partition = record["partition"].as_i64().unwrap() as i32;
        partitions.entry(partition).or_default().push(plain);
    }
    partitions
}
