//! What needs a target with settings that would disturb other tests: retention and compaction that run all the time, a
//! small limit on batches. Nothing of what is restored may fall to them before the operator has said so.

mod backup_kafka_support;
mod support;

use backup_kafka_support::{Backups, Java, Records, Row};
use kbr::archive::Archive;
use kbr::record::batches;
use kbr::store::{Store, StoreUrl};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{RealKafka, wait_until};

/// Nothing expires here while the tests look.
const SOURCE: [&str; 3] = [
    "log.retention.check.interval.ms=3600000",
    "log.initial.task.delay.ms=100",
    "log.cleaner.backoff.ms=100",
];
/// Everything that may be removed here is removed at once.
const TARGET: [&str; 5] = [
    "log.retention.check.interval.ms=100",
    "log.initial.task.delay.ms=100",
    "log.segment.delete.delay.ms=100",
    "log.cleaner.backoff.ms=100",
    "message.max.bytes=60000",
];
const SEGMENT: &str = "1048576";
const DAY_MS: i64 = 86_400_000;

#[test]
fn retention_compaction_and_limits_of_kafka_4_3_0() {
    every_scenario("4.3.0");
}

#[test]
fn retention_compaction_and_limits_of_kafka_3_9_2() {
    every_scenario("3.9.2");
}

struct Scene {
    source: RealKafka,
    source_java: Java,
    target: RealKafka,
    target_java: Java,
}

fn every_scenario(version: &'static str) {
    let source = RealKafka::start_with(version, 1, &SOURCE);
    let target = RealKafka::start_with(version, 1, &TARGET);
    let scene = Scene {
        source_java: Java::of(&source),
        target_java: Java::of(&target),
        source,
        target,
    };
    scene.old_records_outlive_a_short_retention_until_they_are_verified();
    scene.an_existing_topic_gets_its_own_settings_back();
    scene.tombstones_outlive_the_first_cleaning();
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

impl Scene {
    fn backed_up(&self, topic: &str) -> Backups {
        let backups = Backups::of(&self.source, &[topic]);
        backups.run(0);
        let folder = &backups.folder;
        folder.clusters(&[
            ("prod", &self.source.bootstrap),
            ("dr", &self.target.bootstrap),
        ]);
        folder.write(
            "restore.rhai",
            "restore(store(\"file:archive\").latest()).to(cluster(\"dr\"));\n",
        );
        backups
    }

    /// Several segments of batches of 100 KB, thirty days old.
    fn write_old(&self, topic: &str) {
        self.source_java.ask(json!({
            "do": "write", "topic": topic, "partitions": 2, "count": 1000, "size": 2000, "flush": 50,
            "time": now() - 30 * DAY_MS, "producer": { "batch.size": "200000" },
        }));
    }

    fn configs(&self, topic: &str) -> serde_json::Value {
        let answer = self
            .target_java
            .ask(json!({ "do": "configs", "topic": topic }));
        answer["configs"].clone()
    }

    /// Plans, is refused without the word that the gate wants, restores with it; what the target held right after that
    /// is for nobody to see, since retention is at it, but the run itself has read it all back.
    #[track_caller]
    fn restored_after_its_gate(&self, backups: &Backups, topic: &str) {
        let folder = &backups.folder;
        let plan = folder.kbr(&["run", "restore.rhai"]).expect(0);
        let text = plan.text();
        assert!(
            text.contains("asks first: its retention of 7 d 0 h then removes records"),
            "{text}"
        );
        let refused = folder.kbr(&["run", "restore.rhai", "--execute"]).expect(3);
        assert!(refused.text().contains("7 d"), "{}", refused.text());
        let digest = plan.digest();
        let words = ["run", "restore.rhai", "--execute", "--confirm", &digest];
        let done = folder.kbr(&words).expect(0).text();
        assert!(done.contains("2,000 records"), "{done}");
        wait_until(
            "retention does what the operator was told it would",
            Duration::from_secs(60),
            || (0..2).all(|partition| self.is_empty(topic, partition)),
        );
        assert_eq!(self.target_java.dump(&[topic]).count(), 0);
    }

    /// By the log's own two ends: a consumer would find its offset removed under it.
    fn is_empty(&self, topic: &str, partition: usize) -> bool {
        let (start, _, end) = self.target_java.ends(topic, partition);
        start == end
    }

    fn old_records_outlive_a_short_retention_until_they_are_verified(&self) {
        let topic = "old";
        let week = json!({ "segment.bytes": SEGMENT, "retention.ms": (7 * DAY_MS).to_string() });
        self.source_java.create(topic, 2, week);
        self.write_old(topic);
        let backups = self.backed_up(topic);
        self.restored_after_its_gate(&backups, topic);
        assert_eq!(
            self.configs(topic),
            json!({ "segment.bytes": SEGMENT, "retention.ms": (7 * DAY_MS).to_string() })
        );
    }

    fn an_existing_topic_gets_its_own_settings_back(&self) {
        let topic = "there";
        self.source_java.create(
            topic,
            2,
            json!({ "segment.bytes": SEGMENT, "retention.ms": "-1" }),
        );
        self.write_old(topic);
        let backups = self.backed_up(topic);
        let own = json!({
            "retention.ms": (7 * DAY_MS).to_string(), "segment.bytes": SEGMENT, "compression.type": "zstd",
            "message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": DAY_MS.to_string(),
            "max.message.bytes": "20000",
        });
        self.target_java.create(topic, 2, own.clone());
        self.restored_after_its_gate(&backups, topic);
        assert_eq!(self.configs(topic), own);

        // The same where the records may stay: every one of them, with its own time, under the topic's own settings.
        let kept = "kept";
        let mut own = own;
        own["retention.ms"] = json!("-1");
        self.target_java.create(kept, 2, own.clone());
        backups.folder.write(
            "restore.rhai",
            "restore(store(\"file:archive\").latest()).remap(#{ \"there\": \"kept\" }).to(cluster(\"dr\"));\n",
        );
        let words = ["run", "restore.rhai", "--execute"];
        backups.folder.kbr(&words).expect(0);
        assert_eq!(self.configs(kept), own);
        let (found, before) = (
            self.target_java.dump(&[kept]),
            self.source_java.dump(&[topic]),
        );
        for partition in 0..2 {
            let found = found.of(kept, partition);
            assert!(
                found == before.of(topic, partition),
                "partition {partition}"
            );
            assert_eq!(found.len(), 1000);
        }
    }

    /// Tombstones that the source's cleaner has given a time to live which is over: with it they would be gone after
    /// the target's first cleaning, before a consumer that is behind has seen them.
    fn tombstones_outlive_the_first_cleaning(&self) {
        let topic = "state";
        let java = &self.source_java;
        java.create(
            topic,
            1,
            json!({
                "cleanup.policy": "compact", "segment.bytes": SEGMENT, "min.cleanable.dirty.ratio": "0.01",
                "delete.retention.ms": "500",
            }),
        );
        for number in 0..12 {
            java.ask(json!({
                "do": "write", "topic": topic, "count": 1, "key": format!("gone-{number}"), "tombstones": 1,
                "from": number,
            }));
        }
        let fill = |from: i64| {
            java.ask(json!({
                "do": "write", "topic": topic, "count": 1500, "from": from, "size": 2000, "keys": 100,
                "flush": 25, "producer": { "batch.size": "200000" },
            }));
        };
        fill(0);
        wait_until("the source is cleaned", Duration::from_secs(60), || {
            java.dump(&[topic]).count() < 1000
        });
        let settings =
            json!({ "delete.retention.ms": "3600000", "min.cleanable.dirty.ratio": "1.0" });
        java.ask(json!({ "do": "configure", "topic": topic, "configs": settings }));
        // More to clean, which the source leaves alone.
        fill(1500);
        let cleaned_at = now();
        let backups = self.backed_up(topic);
        assert!(
            horizons(&backups.archive(), topic)
                .iter()
                .any(|horizon| *horizon < cleaned_at + 1000),
            "the cleaner has left no horizon"
        );
        let before = java.dump(&[topic]);
        assert_eq!(tombstones(&before, topic), 12);
        wait_until("the time to live is over", Duration::from_secs(5), || {
            now() > cleaned_at + 1500
        });

        backups
            .folder
            .kbr(&["run", "restore.rhai", "--execute"])
            .expect(0);
        let java = &self.target_java;
        let restored = java.dump(&[topic]);
        let content = |records: &Records| {
            let rows = records.of(topic, 0).iter();
            let without = |row: &Row| Row {
                offset: 0,
                ..row.clone()
            };
            rows.map(without).collect::<Vec<_>>()
        };
        assert!(content(&restored) == content(&before));
        let settings = json!({ "min.cleanable.dirty.ratio": "0.01" });
        java.ask(json!({ "do": "configure", "topic": topic, "configs": settings }));
        wait_until("the target is cleaned", Duration::from_secs(60), || {
            java.dump(&[topic]).count() + 500 < restored.count()
        });
        assert_eq!(tombstones(&java.dump(&[topic]), topic), 12);
    }
}

fn tombstones(records: &Records, topic: &str) -> usize {
    let rows = records.of(topic, 0).iter();
    rows.filter(|row| row.value.is_none()).count()
}

/// The delete horizons of the archived batches, in milliseconds since 1970.
fn horizons(folder: &Path, topic: &str) -> Vec<i64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = StoreUrl::File(folder.to_path_buf());
        let archive = Archive::open(Store::open(&url).await.unwrap())
            .await
            .unwrap();
        let snapshot = archive.latest().await.unwrap();
        let entry = snapshot.topic(topic).unwrap().partitions[0].clone();
        let range = entry.from..entry.to;
        let mut found = Vec::new();
        for block in snapshot
            .blocks(topic, entry.partition, range)
            .await
            .unwrap()
        {
            let bytes = snapshot.read_block(&block).await.unwrap();
            for batch in batches(&bytes) {
                let header = batch.unwrap().header;
                if header.attributes.has_delete_horizon() {
                    found.push(header.base_timestamp);
                }
            }
        }
        found
    })
}
