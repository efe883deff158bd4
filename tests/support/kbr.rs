//! kbr itself, run as a person runs it: a process in a folder with a runbook and a `kbr.toml`.

use super::process::run_to_end;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// What one run of kbr left behind.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
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
}

impl Folder {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
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

    /// A `kbr.toml` with these clusters and an archive in this folder under the name `prod`.
    pub fn clusters(&self, clusters: &[(&str, &str)]) -> &Self {
        let mut text = String::new();
        for (name, bootstrap) in clusters {
            let addresses: Vec<String> = bootstrap.split(',').map(|one| format!("{one:?}")).collect();
            text.push_str(&format!("[clusters.{name}]\nbootstrap = [{}]\n\n", addresses.join(", ")));
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
        command
    }

    pub fn kbr(&self, arguments: &[&str]) -> Ran {
        let output = run_to_end(&mut self.command(arguments), b"", Duration::from_secs(120));
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
