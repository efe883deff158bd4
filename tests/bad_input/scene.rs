//! Sandbox clusters, an archive and a folder for one session at a terminal, written down as it reads there.
//!
//! What was typed and what came back is compared with `sessions/NAME.txt`, as a whole. Ports, folders, digests and
//! durations, which differ from run to run, have a word in their place. Around every command the clusters and the
//! folder are looked at: a refusal must leave them as they were. `KBR_WRITE_SESSIONS=1` writes the files anew, to be
//! read before they are committed.

use crate::support::{Folder, Ran};
use kbr::base::time;
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::{Sandbox, SandboxOptions};
use regex::Regex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bad_input/sessions");

/// `prod` with a topic and a group that reads it, `dr` without anything, and a folder that names both.
pub struct Scene {
    pub folder: Folder,
    pub prod: Sandbox,
    pub dr: Sandbox,
}

impl Scene {
    pub async fn new() -> Self {
        let prod = Sandbox::start(SandboxOptions::named("prod")).await.unwrap();
        let dr = Sandbox::start(SandboxOptions::named("dr")).await.unwrap();
        prod.create_topic("orders", 2, &[("retention.ms", "-1")])
            .unwrap();
        prod.create_topic("payments-eu", 1, &[]).unwrap();
        for order in 0..3 {
            prod.append("orders", 0, &batch(&format!("order-{order}")))
                .unwrap();
        }
        prod.append("orders", 1, &batch("order-9")).unwrap();
        prod.append("payments-eu", 0, &batch("order-0")).unwrap();
        prod.set_committed("checkout-api", "orders", 0, 2, "");
        let folder = Folder::new();
        folder.clusters(&[
            ("prod", &prod.bootstrap().join(",")),
            ("dr", &dr.bootstrap().join(",")),
        ]);
        Self { folder, prod, dr }
    }

    /// With a backup of `prod` in `archive`.
    pub async fn backed_up() -> Self {
        let scene = Self::new().await;
        scene.folder.write(
            "backup.rhai",
            "backup(cluster(\"prod\")).to(store(\"file:archive\"));\n",
        );
        scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
        scene
    }

    pub fn kbr(&self, words: &[&str]) -> Ran {
        tokio::task::block_in_place(|| self.folder.kbr(words))
    }

    pub fn session(&self, name: &'static str) -> Session<'_> {
        Session {
            scene: self,
            name,
            text: String::new(),
        }
    }

    /// The one file below `folder` whose path contains `part`.
    pub fn one_file(&self, part: &str) -> PathBuf {
        let root = self.folder.path().to_path_buf();
        let mut found = files(&root)
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(part));
        let one = found
            .next()
            .unwrap_or_else(|| panic!("no file like {part}"));
        assert_eq!(found.next(), None, "more than one file like {part}");
        one
    }

    /// Everything that a refusal must leave as it was: topics, configs, end offsets, committed offsets, and every
    /// file but the journal's.
    fn world(&self) -> BTreeMap<String, String> {
        let mut world = BTreeMap::new();
        for (name, cluster) in [("prod", &self.prod), ("dr", &self.dr)] {
            for topic in cluster.topics() {
                let ends: Vec<i64> = (0..cluster.partition_count(&topic).unwrap())
                    .map(|partition| cluster.end_offset(&topic, partition).unwrap().0)
                    .collect();
                let configs = cluster.topic_configs(&topic);
                world.insert(
                    format!("{name} topic {topic}"),
                    format!("{ends:?} {configs:?}"),
                );
            }
            for group in cluster.groups() {
                let committed = format!("{:?}", cluster.committed(&group));
                world.insert(format!("{name} group {group}"), committed);
            }
        }
        for path in files(self.folder.path()) {
            if !path.starts_with(self.folder.file("state")) {
                let content = blake3::hash(&std::fs::read(&path).unwrap()).to_string();
                world.insert(path.display().to_string(), content);
            }
        }
        world
    }
}

/// What is typed and answered, line by line.
pub struct Session<'a> {
    scene: &'a Scene,
    name: &'static str,
    text: String,
}

impl Session<'_> {
    /// Writes a file and shows it.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.scene.folder.write(name, text);
        self.text.push_str(&format!("$ cat {name}\n{text}"));
        self
    }

    /// Runs kbr, which must end with this exit status and leave everything as it was.
    #[track_caller]
    pub fn refused(self, words: &[&str], exit: i32) -> Self {
        let before = self.scene.world();
        let session = self.ran(words, exit);
        assert_eq!(
            session.scene.world(),
            before,
            "kbr {words:?} changed something"
        );
        session
    }

    /// Runs kbr, which must end with this exit status.
    #[track_caller]
    pub fn ran(mut self, words: &[&str], exit: i32) -> Self {
        let ran = self.scene.kbr(words).expect(exit);
        let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.text.push_str(&format!(
            "$ kbr {}\n{}exit status {exit}\n",
            typed.join(" "),
            ran.text()
        ));
        self
    }

    /// Compares the session with the one that is written down.
    #[track_caller]
    pub fn ends(self) {
        let text = masked(&self.text, self.scene.folder.path());
        let path = Path::new(SESSIONS).join(format!("{}.txt", self.name));
        if std::env::var_os("KBR_WRITE_SESSIONS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == expected,
            "not as in {}:\n{text}\n── instead of\n{expected}",
            path.display()
        );
    }
}

fn quoted(word: &str) -> String {
    match word.contains([' ', '"', '(']) {
        true => format!("'{word}'"),
        false => word.to_string(),
    }
}

/// Puts a word where two runs differ.
fn masked(text: &str, folder: &Path) -> String {
    let mut text = text.replace(&folder.display().to_string(), "FOLDER");
    let patterns = [
        (r"127\.0\.0\.1:\d{5}", "127.0.0.1:PORT"),
        (r"in \d+\.\d s", "in N s"),
        (r"Kafka \d\.\d", "Kafka N.N"),
        (r"\b\d+(\.\d+)? (ms|s|min) old", "N ms old"),
        (r"\s+\d+(\.\d+)? (ms|s)\n", "  N ms\n"),
        (r"after \d+(\.\d+)? (ms|s) ", "after N ms "),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b[0-9a-f]{12}…", "DIGEST…"),
        (r"(plan +|--confirm )[0-9a-f]{12}\b", "${1}DIGEST"),
        (r"(\.rhai +)\([0-9a-f]{7}\)", "${1}(CONTENT)"),
        (r"\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{3}", "TIME"),
        (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", "TIME"),
        // How far the partitions beside a damaged one came is chance, and with it the advice on running again.
        (
            r"(?m)^   written   .*\n(   again     .*\n(             .*\n)*)?",
            "   written   SO MANY\n",
        ),
        (r"\d{8}-\d{4}-[a-z]\d(-[0-9a-f]{4})?", "RUN"),
    ];
    for (pattern, word) in patterns {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, word)
            .into_owned();
    }
    text
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// One record, a minute old.
pub fn batch(key: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(
            time::now().0 - 60_000,
            Some(key.as_bytes()),
            Some(b"value"),
            Headers::empty(),
        )
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}
