//! The binary as an operator meets it without any cluster: help, checks, mistakes, an empty journal.

use std::path::Path;
use std::process::{Command, Output};

/// A shell in a folder of its own, with a journal of its own.
struct Session {
    folder: tempfile::TempDir,
}

struct Said {
    out: String,
    error: String,
    status: i32,
}

impl Session {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn kbr(&self, words: &[&str]) -> Said {
        self.kbr_with(words, &[])
    }

    fn kbr_with(&self, words: &[&str], environment: &[(&str, &Path)]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kbr"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("KBR_STATE_DIR", self.folder.path().join("state"))
            .env_remove("NO_COLOR")
            .stdin(std::process::Stdio::null());
        for (name, value) in environment {
            command.env(name, value);
        }
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Said {
            out: String::from_utf8(stdout).unwrap(),
            error: String::from_utf8(stderr).unwrap(),
            status: status.code().unwrap(),
        }
    }
}

#[test]
fn the_version_is_one_line() {
    let said = Session::new().kbr(&["--version"]);
    assert_eq!(said.out, format!("kbr {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(said.status, 0);
}

#[test]
fn every_command_has_help_with_an_example_that_calls_it() {
    let session = Session::new();
    for command in [
        "run",
        "rehearse",
        "eval",
        "check",
        "docs",
        "history",
        "show",
        "resume",
        "apply",
        "list",
        "describe",
        "show-manifest",
        "diff",
        "cat",
        "verify",
        "completions",
    ] {
        let said = session.kbr(&[command, "--help"]);
        assert_eq!(said.status, 0, "{command}");
        let example = format!("\n  kbr {command}");
        assert!(
            said.out.contains("Example") && said.out.contains(&example),
            "{command}: {}",
            said.out
        );
    }
}

#[test]
fn what_is_not_in_this_version_is_refused_by_name_and_not_listed() {
    let session = Session::new();
    let help = session.kbr(&["--help"]).out;
    for command in ["test", "repl"] {
        let said = session.kbr(&[command, "20261121-0914-k7", "--execute"]);
        assert_eq!(said.status, 2);
        assert!(
            said.error.starts_with(&format!(
                "error[E0103]: kbr {command} is not in this version\n"
            )),
            "{}",
            said.error
        );
        assert!(!help.contains(&format!("  {command} ")), "{help}");
    }
}

#[test]
fn a_mistyped_command_is_answered_with_the_right_one() {
    let said = Session::new().kbr(&["rehearze", "x.rhai"]);
    assert_eq!(said.status, 2);
    assert!(
        said.error.contains("did you mean kbr rehearse?"),
        "{}",
        said.error
    );
}

#[test]
fn confirm_without_execute_is_a_usage_error() {
    let session = Session::new();
    let said =
        session
            .file("a.rhai", "print(1);")
            .kbr(&["run", "a.rhai", "--confirm", "7f3a91c20de4"]);
    assert_eq!(said.status, 2);
    assert!(said.error.contains("--execute"), "{}", said.error);
}

#[test]
fn a_missing_runbook_says_which() {
    let said = Session::new().kbr(&["run", "failover.rhai"]);
    assert_eq!(said.status, 2);
    assert_eq!(
        said.error,
        "error[E0102]: cannot read failover.rhai\n   why       No such file or directory\n"
    );
}

#[test]
fn words_after_the_dashes_must_be_named() {
    let session = Session::new();
    let said = session
        .file("a.rhai", "print(1);")
        .kbr(&["run", "a.rhai", "--", "orders"]);
    assert_eq!(said.status, 2);
    assert!(
        said.error.contains("write --NAME VALUE, not \"orders\""),
        "{}",
        said.error
    );
}

#[test]
fn a_mistake_in_a_script_is_shown_in_its_line_with_what_was_meant() {
    let session = Session::new();
    session.file(
        "dr.rhai",
        "let a = store(\"prod\");\nlet s = a.latest();\nlet d = restore(s)\n    .befor(\"latest\")\n    .to(cluster(\"dr\"));\n",
    );
    for words in [["run", "dr.rhai"], ["check", "dr.rhai"]] {
        let said = session.kbr(&words);
        assert_eq!(said.status, 2);
        let text = said.error + &said.out;
        let wanted = "   ╭─[dr.rhai:4:6]\n 4 │     .befor(\"latest\")\n   ·      ──┬──\n   ·        ╰── did you mean `before`?\n";
        assert!(text.contains("error[E0207]: "), "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn a_good_runbook_is_checked_in_silence_and_quickly() {
    let session = Session::new();
    session.file("good.rhai", "let n = 1;\nprint(n);\n");
    let began = std::time::Instant::now();
    let said = session.kbr(&["check", "good.rhai"]);
    assert_eq!(said.out, "1 file checked: nothing found\n");
    assert_eq!(said.status, 0);
    // 50 ms in a release build on a quiet machine; this catches a runtime or a network call in the way.
    assert!(began.elapsed().as_secs() < 5);
}

#[test]
fn an_unknown_key_in_the_configuration_is_shown_in_its_line() {
    let session = Session::new();
    session
        .file("kbr.toml", "[clusters.dr]\nbootstrp = \"a:9092\"\n")
        .file("a.rhai", "print(1);");
    let said = session.kbr(&["run", "a.rhai"]);
    assert_eq!(said.status, 2);
    assert_eq!(
        said.error,
        "error[E0110]: no key `bootstrp` in [clusters.dr]\n   \
         ╭─[kbr.toml:2:1]\n \
         2 │ bootstrp = \"a:9092\"\n   \
         · ────┬───\n   \
         ·     ╰── did you mean `bootstrap`?\n   \
         ╰────\n   \
         help: known here: bootstrap\n"
    );
}

#[test]
fn a_cluster_that_is_not_configured_names_those_that_are() {
    let session = Session::new();
    session.file("kbr.toml", "[clusters.prod]\nbootstrap = \"127.0.0.1:1\"\n");
    let said = session.kbr(&["eval", "cluster(\"prd\").topics()"]);
    assert_eq!(said.status, 2);
    assert!(
        said.error
            .starts_with("error[E0311]: no cluster prd in kbr.toml\n"),
        "{}",
        said.error
    );
    assert!(said.error.contains("prod"), "{}", said.error);
}

#[test]
fn a_broker_that_is_not_there_says_what_was_tried() {
    let said = Session::new().kbr(&["eval", "cluster(\"127.0.0.1:1\").topics()"]);
    assert_eq!(said.status, 1);
    assert!(
        said.error
            .starts_with("error[E0310]: cannot reach cluster 127.0.0.1:1\n"),
        "{}",
        said.error
    );
    assert!(
        said.error
            .contains("tried     127.0.0.1:1 (connection refused"),
        "{}",
        said.error
    );
}

#[test]
fn errors_are_one_json_document_when_asked() {
    let said = Session::new().kbr(&["eval", "cluster(\"nowhere\")", "--output", "json"]);
    assert_eq!(said.status, 2);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["schema"], "kbr.error/1");
    assert_eq!(document["code"], "E0311");
    assert_eq!(document["exit"], 2);
    assert_eq!(document["place"]["line"], 1);
    assert_eq!(said.error, "");
}

#[test]
fn a_value_is_shown_as_text_and_as_json() {
    let session = Session::new();
    let said = session.kbr(&["eval", "print(\"hello\"); 40 + 2"]);
    assert_eq!((said.out.as_str(), said.status), ("hello\n42\n", 0));
    let said = session.kbr(&["eval", "9007199254740993", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["schema"], "kbr.eval/1");
    assert_eq!(document["value"], 9_007_199_254_740_993_i64);
}

#[test]
fn nothing_executed_yet_is_not_an_error() {
    let said = Session::new().kbr(&["history"]);
    assert_eq!(
        (said.out.as_str(), said.status),
        ("nothing was executed from here yet\n", 0)
    );
}

#[test]
fn a_run_that_is_not_there_is_said_so() {
    let said = Session::new().kbr(&["show", "20261121-0914-k7"]);
    assert_eq!(said.status, 2);
    assert!(
        said.error
            .starts_with("error[E0602]: no run 20261121-0914-k7 in the journal\n"),
        "{}",
        said.error
    );
}

#[test]
fn a_journal_that_cannot_be_written_stops_an_execution_before_it_begins() {
    let session = Session::new();
    session.file("not-a-folder", "").file("a.rhai", "print(1);");
    let place = session.folder.path().join("not-a-folder");
    let said = session.kbr_with(
        &["run", "a.rhai", "--execute"],
        &[("KBR_STATE_DIR", place.as_path())],
    );
    assert_eq!(said.status, 1);
    assert!(
        said.error.starts_with("error[E0601]: the journal "),
        "{}",
        said.error
    );
    assert!(
        said.error
            .contains("cannot be written; nothing was changed"),
        "{}",
        said.error
    );
    assert!(said.error.contains("KBR_STATE_DIR"), "{}", said.error);
    assert_eq!(said.out, "", "not even the script ran");
}

#[test]
fn a_runbook_without_steps_has_nothing_to_execute() {
    let session = Session::new();
    session.file("a.rhai", "print(\"looked around\");");
    let said = session.kbr(&["run", "a.rhai"]);
    assert_eq!(said.status, 0, "{}", said.error);
    assert!(
        said.out.starts_with("looked around\n\nrunbook   a.rhai ("),
        "{}",
        said.out
    );
    assert!(said.out.contains("nothing to do"), "{}", said.out);
}

#[test]
fn completions_are_printed_for_a_shell() {
    let said = Session::new().kbr(&["completions", "bash"]);
    assert!(said.out.contains("_kbr()"));
    assert_eq!(said.status, 0);
}

#[test]
fn a_pipe_that_is_closed_early_is_no_failure() {
    for words in [&["completions", "bash"][..], &["docs"], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kbr"))
            .args(words)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!error.contains("panicked"), "{words:?}: {error}");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
    }
}
