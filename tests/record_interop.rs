//! The record layer against real Apache Kafka 4.3.0: batches that the Java producer and librdkafka (kcat) wrote with
//! every codec, byte for byte as the broker stores them, and what Kafka's own consumer read from them.
//! `tests/fixtures/generate-batches` makes the files anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kbr::record::{
    BatchBuilder, BuildOptions, Codec, ContentDigest, ControlType, Limits, ProducerStamp,
    TimestampType, batches, restamp,
};
use serde_json::{Value, json};

fn fixture(name: &str, extension: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/fixtures/batches/{name}.{extension}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn expected(name: &str) -> Vec<Value> {
    serde_json::from_slice(&fixture(name, "json")).unwrap()
}

/// As `Batches.java` writes bytes down.
fn described(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) if bytes.len() <= 64 => json!(STANDARD.encode(bytes)),
        Some(bytes) => {
            let mut crc = flate2::Crc::new();
            crc.update(bytes);
            json!({"length": bytes.len(), "crc32": crc.sum()})
        }
    }
}

/// Every data record of the batches, as JSON, and the digest of their content.
fn read(bytes: &[u8]) -> (Vec<Value>, ContentDigest) {
    let mut records = Vec::new();
    let mut digest = ContentDigest::new();
    let mut scratch = Vec::new();
    let mut walk = batches(bytes);
    for batch in walk.by_ref() {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        if batch.header.attributes.is_control() {
            continue;
        }
        let timestamp_type = match batch.header.attributes.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
            let record = record.unwrap();
            digest.update(&record);
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| json!([described(Some(header.key)), described(header.value)]))
                .collect();
            records.push(json!({
                "offset": record.offset,
                "timestamp": record.timestamp,
                "timestamp_type": timestamp_type,
                "key": described(record.key),
                "value": described(record.value),
                "headers": headers,
            }));
        }
    }
    assert!(walk.remainder().is_empty());
    (records, digest)
}

fn every_fixture() -> Vec<(String, Codec)> {
    let mut names = vec![("java-log-append-time".to_string(), Codec::Zstd)];
    for codec in Codec::ALL {
        names.push((format!("java-{codec}"), codec));
        names.push((format!("kcat-{codec}"), codec));
    }
    names
}

#[test]
fn what_kafkas_own_consumer_reads_is_what_we_read_with_every_codec() {
    for (name, codec) in every_fixture() {
        let bytes = fixture(&name, "bin");
        for batch in batches(&bytes) {
            assert_eq!(
                batch.unwrap().header.attributes.codec(),
                Ok(codec),
                "{name}"
            );
        }
        let (records, _) = read(&bytes);
        let expected = expected(&name);
        assert!(expected.len() > 50, "{name}");
        assert_eq!(records, expected, "{name}");
    }
}

#[test]
fn restamped_batches_say_the_same_with_offsets_from_zero() {
    for (name, _) in every_fixture() {
        let bytes = fixture(&name, "bin");
        let mut moved = Vec::new();
        let mut base = 0;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            let mut copy = batch.bytes().to_vec();
            restamp(&mut copy, base, ProducerStamp::NONE).unwrap();
            base += i64::from(batch.header.record_count);
            moved.extend(copy);
        }
        let (records, digest) = read(&moved);
        let (original, content) = read(&bytes);
        assert_eq!(records, original, "{name}");
        assert_eq!(digest.finish(), content.finish(), "{name}");
    }
}

#[test]
fn batches_built_anew_with_any_codec_say_the_same() {
    let mut scratch = Vec::new();
    for (name, _) in every_fixture() {
        let bytes = fixture(&name, "bin");
        let (_, content) = read(&bytes);
        let content = content.finish();
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(BuildOptions {
                codec,
                ..Default::default()
            });
            for batch in batches(&bytes) {
                for record in batch
                    .unwrap()
                    .open(&Limits::default(), &mut scratch)
                    .unwrap()
                {
                    builder.push_record(&record.unwrap()).unwrap();
                }
            }
            let built = builder.finish(ProducerStamp::NONE).unwrap();
            assert_eq!(read(&built).1.finish(), content, "{name} as {codec}");
        }
    }
}

#[test]
fn an_uncompressed_java_batch_is_built_byte_for_byte() {
    let bytes = fixture("java-none", "bin");
    let mut scratch = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        let header = batch.header;
        let mut builder = BatchBuilder::new(BuildOptions::default());
        for record in batch.open(&Limits::default(), &mut scratch).unwrap() {
            builder.push_record(&record.unwrap()).unwrap();
        }
        let mut built = builder
            .finish(ProducerStamp {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            })
            .unwrap();
        kbr::record::place(
            &mut built,
            header.base_offset,
            header.partition_leader_epoch,
        )
        .unwrap();
        assert_eq!(built, batch.bytes());
    }
}

#[test]
fn markers_of_an_aborted_and_a_committed_transaction_are_known() {
    let bytes = fixture("java-transactions", "bin");
    let kinds: Vec<_> = batches(&bytes)
        .map(|batch| {
            let batch = batch.unwrap();
            assert!(batch.header.attributes.is_transactional());
            (batch.header.base_offset, batch.control_type().unwrap())
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (0, None),
            (1, Some(ControlType::Abort)),
            (2, None),
            (4, Some(ControlType::Commit)),
        ]
    );
    assert_eq!(read(&bytes).0, expected("java-transactions"));
}
