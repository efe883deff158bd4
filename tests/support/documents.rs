//! Finds the shell blocks in the documents and runs them.

use super::process::run_to_end;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What is to happen to a block.
#[derive(Debug)]
pub enum Fate {
    Test,
    Kafka,
    NotRun,
    Unsaid,
}

#[derive(Debug)]
pub struct Block {
    pub document: String,
    pub line: usize,
    pub fate: Fate,
    pub text: String,
}

/// README.md, CHANGELOG.md and everything in docs/.
pub fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut found = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The shell blocks of a document.
pub fn blocks(document: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(document).unwrap();
    let mut found: Vec<Block> = Vec::new();
    let mut inside = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), inside) {
            (Some(info), None) => {
                let mut words = info.split_whitespace();
                let shell = matches!(words.next(), Some("sh" | "bash" | "console" | "shell"));
                inside = Some(shell);
                if shell {
                    found.push(Block {
                        document: document.file_name().unwrap().to_string_lossy().into_owned(),
                        line: number + 1,
                        fate: match words.next() {
                            Some("test") => Fate::Test,
                            Some("kafka") => Fate::Kafka,
                            Some("not-run:") => Fate::NotRun,
                            _ => Fate::Unsaid,
                        },
                        text: String::new(),
                    });
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

/// Runs a block and returns what it printed; panics unless it succeeds.
pub fn run(block: &Block) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["scripts", "tests", "README.md", "docs"] {
        symlink(Path::new(ROOT).join(name), root.join(name)).unwrap();
    }
    // A copy, since commands may write beside the runbooks.
    let copied = Command::new("cp")
        .args(["-r", &format!("{ROOT}/examples")])
        .arg(root)
        .status();
    assert!(copied.unwrap().success());
    let programs = root.join("programs");
    std::fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_kbr"), programs.join("kbr")).unwrap();
    // The words of the document, without the minutes of a release build.
    let cargo = programs.join("cargo");
    std::fs::write(
        &cargo,
        "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || { echo \"cargo $*\" >&2; exit 1; }\nshift 3\nexec kbr \"$@\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();

    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    // Clusters that a failed block leaves behind are its own: they live in its folder and go with it.
    let script = format!(
        "trap 'scripts/kafka stop --all' EXIT\nset -x\n{}",
        block.text
    );
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(root)
        .env("PATH", path)
        .env("KBR_STATE_DIR", root.join("state"))
        .env("KBR_KAFKA_STATE", root.join("kafka"))
        .env("NO_COLOR", "1");
    let output = run_to_end(&mut command, b"", Duration::from_secs(240));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}:{} failed with {}\n{stdout}\n{}",
        block.document,
        block.line,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
