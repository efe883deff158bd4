//! A source, a folder with runbooks, and what was produced; archives side by side in the folder.

use crate::engine_backup_support::{Produced, World, assert_sound, batch, large_batch, quick};
use crate::support::Folder;
use kbr::archive::Archive;
use kbr::record::Codec;
use kbr::store::Store;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long any process of these tests may take.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Scene {
    pub world: World,
    pub folder: Folder,
    pub produced: Produced,
}

impl Scene {
    /// `orders` with a large partition and a small one, and a group that reads them.
    pub async fn new() -> Self {
        let mut scene = Self::empty(1).await;
        scene.topic("orders", 2);
        scene.append("orders", 0, &large_batch(1, 300, 1000));
        scene.append("orders", 1, &batch(Codec::Zstd, 1, 10));
        scene
            .world
            .sandbox
            .set_committed("checkout", "orders", 0, 3, "");
        scene
    }

    pub async fn empty(brokers: usize) -> Self {
        let world = World::new(brokers).await;
        let folder = Folder::new();
        folder.clusters(&[("prod", &world.sandbox.bootstrap().join(","))]);
        Self {
            world,
            folder,
            produced: Produced::default(),
        }
    }

    pub fn topic(&self, name: &str, partitions: i32) {
        let sandbox = &self.world.sandbox;
        sandbox.create_topic(name, partitions, &[]).unwrap();
    }

    pub fn append(&mut self, topic: &str, partition: i32, bytes: &[u8]) {
        self.produced
            .append(&self.world.sandbox, topic, partition, bytes);
    }

    /// The runbook that backs up into `archive`; its name.
    pub fn runbook(&self, archive: &str) -> String {
        let name = format!("{archive}.rhai");
        let text = format!(
            "backup(cluster(\"prod\")).deadline(seconds(4)).to(store(\"file:{archive}\"));\n"
        );
        // Not again: another kbr may be reading it.
        if !self.folder.file(&name).exists() {
            self.folder.write(&name, &text);
        }
        name
    }

    pub fn archive(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    pub async fn store(&self, archive: &str) -> Store {
        let url = format!("file:{}", self.archive(archive).display());
        Store::open_text(&url).await.unwrap()
    }

    /// kbr with this archive to its end. What it printed, each run of white space as one space.
    #[track_caller]
    pub fn kbr(&self, archive: &str, code: i32) -> String {
        let runbook = self.runbook(archive);
        let words = ["run", &runbook, "--execute"];
        let ran = tokio::task::block_in_place(|| self.folder.kbr(&words));
        let text = ran.expect(code).text();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// kbr with this archive, started and left to itself.
    pub fn start(&self, archive: &str, environment: &[(&str, &str)]) -> Running {
        let runbook = self.runbook(archive);
        let mut command = self.folder.command(&["run", &runbook, "--execute"]);
        let written = tempfile::tempfile().unwrap();
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written.try_clone().unwrap());
        Running {
            child: Arc::new(Mutex::new(command.spawn().unwrap())),
            written: Arc::new(Mutex::new(written)),
        }
    }

    pub async fn generations(&self, archive: &str) -> u64 {
        let store = self.store(archive).await;
        match Archive::open_if_exists(store).await.unwrap() {
            Some(archive) => archive.generations().await.unwrap().len() as u64,
            None => 0,
        }
    }

    pub async fn assert_sound(&self, archive: &str, when: &str) {
        let store = self.store(archive).await;
        assert_sound(&store, when).await;
    }

    /// The archive is sound and holds everything, and nothing in its folder could be taken for more of it.
    pub async fn assert_whole(&self, archive: &str, when: &str) {
        let store = self.store(archive).await;
        self.produced.assert_archived(&store, when).await;
        let listed: Vec<String> = store
            .list("")
            .await
            .unwrap()
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        for path in files(&self.archive(archive)) {
            assert!(listed.contains(&path), "{when}: {path} is listed nowhere");
        }
    }

    /// The next run, in this process, makes the archive whole.
    pub async fn recover(&self, archive: &str, when: &str) {
        self.assert_sound(archive, when).await;
        let store = self.store(archive).await;
        let report = self.world.run_into(&store, &quick()).await;
        let report = report.unwrap_or_else(|error| panic!("{when}, the next run: {error}"));
        assert_eq!(report.incomplete, Vec::<String>::new(), "{when}");
        self.assert_whole(archive, when).await;
    }
}

/// A kbr that runs. Ends with its value at the latest.
#[derive(Clone)]
pub struct Running {
    child: Arc<Mutex<Child>>,
    written: Arc<Mutex<File>>,
}

impl Running {
    pub fn kill(&self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.child.lock().unwrap().kill();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.lock().unwrap().id();
        let sent = std::process::Command::new("sh")
            .args(["-c", &format!("kill -{name} {pid}")])
            .stderr(Stdio::null())
            .status();
        sent.unwrap();
    }

    /// What it has printed so far.
    pub fn text(&self) -> String {
        let mut written = self.written.lock().unwrap();
        let mut text = String::new();
        written.seek(SeekFrom::Start(0)).unwrap();
        written.read_to_string(&mut text).unwrap();
        text
    }

    /// Waits for its end.
    pub fn end(&self) -> ExitStatus {
        tokio::task::block_in_place(|| {
            let deadline = Instant::now() + LIMIT;
            loop {
                if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                    return status;
                }
                if Instant::now() > deadline {
                    self.kill();
                    panic!("kbr did not end within {LIMIT:?}");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        })
    }
}

/// Every file below `folder`, by its path from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let below = path.strip_prefix(folder).unwrap();
                    found.push(below.to_str().unwrap().to_string());
                }
            }
        }
    }
    found
}
