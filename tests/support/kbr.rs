//! kbr itself, run as a person runs it: a process in a folder with a runbook and a `kbr.toml`.

use super::process::run_to_end;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// What one run of kbr left behind.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            // A signal has no exit status; no test expects this number.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Both streams, for messages and for tests that do not care which one it was.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Panics with the whole output unless the exit status is the expected one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit status {} instead of {code}\n── stdout\n{}\n── stderr\n{}",
            self.code, self.stdout, self.stderr
        );
        self
    }

    /// The digest of the plan that was shown.
    #[track_caller]
    pub fn digest(&self) -> String {
        let pattern = regex::Regex::new(r"(?m)^plan ([0-9a-f]{12,64})\b").unwrap();
        match pattern.captures(&self.stdout) {
            Some(found) => found[1].to_string(),
            None => panic!("no digest in:\n{}", self.text()),
        }
    }
}

/// A folder of its own for a test: runbooks, configuration, archives and the journal.
pub struct Folder {
    folder: TempDir,
    environment: Mutex<Vec<(String, String)>>,
}

impl Folder {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment: Mutex::default(),
        }
    }

    /// A folder with a copy of the released archive of two generations in `archive`.
    pub fn with_released_archive() -> Self {
        let folder = Self::new();
        let released = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/archive-v1");
        copy_folder(Path::new(released), &folder.file("archive"));
        folder
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Sets an environment variable for every kbr that runs in this folder from now on.
    pub fn set(&self, name: &str, value: &str) -> &Self {
        self.environment
            .lock()
            .unwrap()
            .push((name.to_string(), value.to_string()));
        self
    }

    /// A `kbr.toml` with these clusters.
    pub fn clusters(&self, clusters: &[(&str, &str)]) -> &Self {
        let mut text = String::new();
        for (name, bootstrap) in clusters {
            let addresses: Vec<String> =
                bootstrap.split(',').map(|one| format!("{one:?}")).collect();
            text.push_str(&format!(
                "[clusters.{name}]\nbootstrap = [{}]\n\n",
                addresses.join(", ")
            ));
        }
        self.write("kbr.toml", &text)
    }

    /// The command, ready for more arguments: in this folder, with a journal of its own and no terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kbr"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("KBR_STATE_DIR", self.file("state"))
            .env("NO_COLOR", "1")
            .env_remove("KBR_PATH")
            .env_remove("RUST_LOG");
        command.envs(self.environment.lock().unwrap().iter().cloned());
        command
    }

    /// Runs kbr on a terminal and types one of `answers` each time it asks for a word, in the end nothing.
    pub fn kbr_on_terminal(&self, arguments: &[&str], answers: &[&str]) -> Ran {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/terminal.py");
        let kbr = self.command(&[]);
        let mut command = Command::new("python3");
        command
            .args([
                script,
                "Type ",
                &answers.join(","),
                env!("CARGO_BIN_EXE_kbr"),
            ])
            .args(arguments)
            .current_dir(self.path());
        for (name, value) in kbr.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ran::of(run_to_end(&mut command, b"", Duration::from_secs(120)))
    }

    pub fn kbr(&self, arguments: &[&str]) -> Ran {
        Ran::of(run_to_end(
            &mut self.command(arguments),
            b"",
            Duration::from_secs(120),
        ))
    }
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
