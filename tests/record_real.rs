//! Batches that kbr builds, read by somebody else: a real broker takes them, with every codec, and kcat shows what
//! they say.

mod kafka_real_support;

use kafka_real_support::{RealKafka, unique};
use kbr::base::{PartitionId, TopicPartition};
use kbr::kafka::{Class, Client, ConnectOptions, NewTopic, ProducePartition};
use kbr::record::{BatchBuilder, BuildOptions, Codec, OwnedHeaders, ProducerStamp, SplitBatch};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_takes_what_we_build_with_every_codec_and_kcat_reads_it() {
    let broker = RealKafka::running("4.3.0");
    let client = Client::connect(ConnectOptions::new([broker.bootstrap.as_str()]))
        .await
        .unwrap();
    // Larger than the 32 KiB and 64 KiB blocks of snappy and lz4.
    let large: String = (0..6000)
        .map(|n| format!("line {}\n", n * 7919 % 1000))
        .collect();
    for codec in Codec::ALL {
        let topic = unique(&format!("built-{codec}"));
        let new = NewTopic {
            name: topic.clone(),
            partitions: 1,
            replication_factor: 1,
            configs: BTreeMap::from([
                ("retention.ms".to_string(), "-1".to_string()),
                ("compression.type".to_string(), "producer".to_string()),
            ]),
        };
        for (_, created) in client.create_topics(&[new], false).await.unwrap() {
            created.unwrap();
        }
        produce(&client, &topic, build(codec, &large)).await;

        let read = kcat(&broker.bootstrap, &topic);

        let told = |record: &Value| {
            json!([
                record["offset"],
                record["ts"],
                record["key"],
                record["payload"],
                record["headers"]
            ])
        };
        assert_eq!(
            read.iter().map(told).collect::<Vec<_>>(),
            [
                json!([
                    0,
                    1_700_000_000_000i64,
                    "k",
                    "v",
                    ["h", "1", "h", "2", "null", null, "empty", ""]
                ]),
                json!([1, 1_699_999_999_000i64, "tombstone", null, null]),
                json!([2, 1_700_000_000_500i64, null, large, null]),
            ],
            "{codec}"
        );
    }
}

fn build(codec: Codec, large: &str) -> Vec<u8> {
    let headers = OwnedHeaders::from_iter([
        (&b"h"[..], Some(&b"1"[..])),
        (b"h", Some(b"2")),
        (b"null", None),
        (b"empty", Some(b"")),
    ]);
    let none = OwnedHeaders::new();
    let mut builder = BatchBuilder::new(BuildOptions {
        codec,
        ..BuildOptions::default()
    });
    builder
        .push(
            1_700_000_000_000,
            Some(b"k"),
            Some(b"v"),
            headers.as_headers(),
        )
        .unwrap();
    builder
        .push(
            1_699_999_999_000,
            Some(b"tombstone"),
            None,
            none.as_headers(),
        )
        .unwrap();
    builder
        .push(
            1_700_000_000_500,
            None,
            Some(large.as_bytes()),
            none.as_headers(),
        )
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// A leader that was just elected may not know of it yet.
async fn produce(client: &Client, topic: &str, batch: Vec<u8>) {
    let partition = TopicPartition::new(topic, 0);
    let batch = SplitBatch::new(batch.into()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let leader = client.leader(&partition).await.unwrap();
        let part = ProducePartition {
            topic: topic.to_string(),
            partition: PartitionId(0),
            batch: batch.clone(),
        };
        let produced = client
            .produce(leader, vec![part], Duration::from_secs(10))
            .await
            .unwrap();
        let code = produced[0].error;
        if code.0 == 0 {
            return;
        }
        assert!(
            code.class() == Class::RefreshMetadata && Instant::now() < deadline,
            "{partition}: {code} {:?}",
            produced[0].message
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn kcat(bootstrap: &str, topic: &str) -> Vec<Value> {
    let output = Command::new("timeout")
        .args(["30", "kcat", "-C", "-b", bootstrap, "-t", topic, "-p", "0"])
        .args(["-o", "beginning", "-e", "-q", "-J"])
        .output()
        .expect("kcat is needed; scripts/test installs it");
    assert!(
        output.status.success(),
        "kcat: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
