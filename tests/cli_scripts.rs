//! Subcommands that are scripts, and the two that ship: prune and undelete, as a person types them.

mod support;

use kbr::archive::{Archive, NewGeneration, RunOptions};
use kbr::base::TimestampMs;
use kbr::store::Store;
use support::{Folder, Ran, copy_folder};

#[track_caller]
fn assert_fits(ran: &Ran) {
    for line in ran
        .stdout
        .lines()
        .filter(|line| !line.starts_with("  kbr "))
    {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
}

#[track_caller]
fn assert_says(ran: &Ran, texts: &[&str]) {
    for text in texts {
        assert!(ran.text().contains(text), "no {text:?} in\n{}", ran.text());
    }
}

/// Runs it without, then with `--execute --confirm`.
fn executed(folder: &Folder, words: &[&str]) -> Ran {
    let digest = folder.kbr(words).expect(0).digest();
    let mut words = words.to_vec();
    words.extend(["--execute", "--confirm", &digest]);
    folder.kbr(&words).expect(0)
}

#[test]
fn prune_shows_what_goes_then_marks_it_and_undelete_brings_it_back() {
    let folder = Folder::with_released_archive();
    let prune = ["prune", "file:archive", "--keep-last", "1"];
    let shown = folder.kbr(&prune).expect(0);
    assert_fits(&shown);
    assert_says(
        &shown,
        &[
            "generation 1",
            "marked: no rule keeps it, goes after 7 d",
            "last 1, newest",
            "nothing was changed",
            "kbr prune file:archive --keep-last 1 --execute --confirm",
        ],
    );
    // A plan with a gate runs nothing without an approval.
    folder
        .kbr(&["prune", "file:archive", "--keep-last", "1", "--execute"])
        .expect(3);
    executed(&folder, &prune);
    let left = folder.kbr(&["eval", "store(\"file:archive\").generations().len()"]);
    assert_eq!(left.expect(0).stdout, "1\n");

    let back = executed(&folder, &["undelete", "file:archive", "1"]);
    assert_says(&back, &["1 generation back"]);
    let left = folder.kbr(&["eval", "store(\"file:archive\").generations().len()"]);
    assert_eq!(left.expect(0).stdout, "2\n");
}

#[test]
fn what_is_due_is_deleted_and_shown_with_its_records() {
    let folder = Folder::with_released_archive();
    let prune = [
        "prune",
        "file:archive",
        "--keep-last=1",
        "--grace",
        "0s",
        "--drop",
        "all",
    ];
    executed(&folder, &prune);
    let shown = folder.kbr(&prune).expect(0);
    assert_fits(&shown);
    assert_says(
        &shown,
        &[
            "delete",
            "deleted: the grace time is over",
            "expired at the source",
        ],
    );
    let mut json = prune.to_vec();
    json.extend(["--output", "json"]);
    let document: serde_json::Value =
        serde_json::from_str(&folder.kbr(&json).expect(0).stdout).unwrap();
    assert_eq!(document["summary"]["blocked"], 0);
    let ran = executed(&folder, &prune);
    assert_says(&ran, &["objects deleted"]);
    let again = folder.kbr(&prune).expect(0);
    assert_says(&again, &["nothing goes", "no change"]);
    // The journal has seen this archive with a longer chain of numbers than of recovery points.
    let latest = folder.kbr(&["eval", "store(\"file:archive\").latest().generation"]);
    assert_eq!(latest.expect(0).stdout, "2\n");
    folder.kbr(&["verify", "file:archive", "--deep"]).expect(0);
    let gone = folder
        .kbr(&["eval", "store(\"file:archive\").generation(1)"])
        .expect(1);
    assert_says(&gone, &["E0365", "generation 1 was pruned"]);
    folder.kbr(&["undelete", "file:archive", "1"]).expect(1);
}

fn generation(folder: &Folder, number: u32) -> std::path::PathBuf {
    folder.file(&format!("archive/generations/{number:08}.json"))
}

#[test]
fn an_archive_that_was_pruned_and_verified_is_restored_and_listed_as_before() {
    let folder = Folder::with_released_archive();
    executed(&folder, &["prune", "file:archive", "--keep-last", "1"]);
    // The end of the chain is what says what was pruned, and no recovery point.
    folder.kbr(&["verify", "file:archive"]).expect(0);
    folder.kbr(&["list", "file:archive"]).expect(0);
    folder.kbr(&["describe", "file:archive"]).expect(0);
    let latest = ["eval", "store(\"file:archive\").latest().generation"];
    assert_eq!(folder.kbr(&latest).expect(0).stdout, "2\n");
    executed(&folder, &["undelete", "file:archive", "1"]);
    folder.kbr(&["list", "file:archive"]).expect(0);

    // What undelete and prune have committed is missed when it is gone, also without a check in between.
    std::fs::remove_file(generation(&folder, 4)).unwrap();
    for words in [
        &["list", "file:archive"][..],
        &["describe", "file:archive"],
        &["verify", "file:archive"],
        &latest,
    ] {
        let ran = folder.kbr(words).expect(5);
        assert_says(&ran, &["generations/00000004.json", "the newest there now"]);
    }
}

#[test]
fn a_clock_that_is_set_ends_no_grace_time_and_takes_nothing_of_a_running_backup() {
    let folder = Folder::with_released_archive();
    executed(&folder, &["prune", "file:archive", "--keep-last", "1"]);
    // What a run that has not committed yet has written so far.
    let pack = folder.file("archive/packs/LIVE/1.kbs");
    std::fs::create_dir_all(pack.parent().unwrap()).unwrap();
    std::fs::write(&pack, "still written").unwrap();
    let runbook = r#"store("file:archive").prune(#{ keep_last: 1, grace: "0s" });"#;
    std::fs::write(folder.file("prune.rhai"), runbook).unwrap();
    let shown = folder
        .kbr(&["run", "prune.rhai", "--now", "2099-01-01T00:00:00Z"])
        .expect(0);
    assert_says(&shown, &["marked before: 1", "no change"]);
    assert!(!shown.text().contains("left behind"), "{}", shown.text());
    assert!(!shown.text().contains("is over"), "{}", shown.text());
}

#[test]
fn nothing_is_pruned_while_a_generation_that_was_seen_is_missing() {
    let folder = Folder::with_released_archive();
    executed(
        &folder,
        &[
            "prune",
            "file:archive",
            "--keep-last",
            "2",
            "--drop",
            "expired",
        ],
    );
    folder.kbr(&["verify", "file:archive"]).expect(0);
    let newest = (2..=3)
        .rev()
        .find(|number| generation(&folder, *number).is_file());
    let newest = generation(&folder, newest.unwrap());
    let aside = folder.file("aside.json");
    std::fs::rename(&newest, &aside).unwrap();
    for words in [
        &["prune", "file:archive"][..],
        &["prune", "file:archive", "--keep-last", "1", "--grace", "0s"],
        &["undelete", "file:archive", "all"],
    ] {
        let ran = folder.kbr(words).expect(5);
        assert_says(&ran, &["is gone", "the newest there now"]);
    }
    // Nothing was taken, so it can be put back.
    std::fs::rename(&aside, &newest).unwrap();
    folder.kbr(&["prune", "file:archive"]).expect(0);
    folder.kbr(&["verify", "file:archive", "--deep"]).expect(0);
}

#[test]
fn a_script_on_the_path_is_a_command_with_help_of_its_own() {
    let folder = Folder::new();
    let script = "// Says a word.\n//\n//   kbr say hello\n\n\
        params(#{ word: #{ help: \"what to say\", position: 1, required: true }, loud: #{ help: \"louder\", flag: true } });\n\
        print(if args.loud == () { args.word } else { args.word + \"!\" });\n";
    folder.write("scripts/say.rhai", script);
    folder.write("scripts/check.rhai", "print(\"never\");");
    folder.set("KBR_PATH", folder.file("scripts").to_str().unwrap());
    let said = folder.kbr(&["say", "--loud", "hello"]).expect(0);
    assert!(said.stdout.starts_with("hello!\n"), "{}", said.stdout);
    let help = folder.kbr(&["say", "--help"]).expect(0);
    assert_says(
        &help,
        &[
            "Says a word.",
            "Usage: kbr say WORD [OPTIONS]",
            "--loud",
            "--execute",
        ],
    );
    assert_fits(&help);
    let missing = folder.kbr(&["say"]).expect(2);
    assert_says(
        &missing,
        &["error[E0101]: kbr say needs WORD", "kbr say --help"],
    );
    let near = folder.kbr(&["sayy"]).expect(2);
    assert_says(&near, &["error[E0108]", "did you mean kbr say?"]);
    // A script cannot take a built-in command's place.
    folder.kbr(&["check", "scripts/say.rhai"]).expect(0);
    let completions = folder.kbr(&["completions", "elvish"]).expect(0);
    assert_says(&completions, &["prune", "undelete", "say", "--keep-last"]);
    assert_says(
        &folder.kbr(&["--help"]).expect(0),
        &["group, groups, lag, offsets, prune, sample, say, undelete"],
    );
}

#[test]
fn options_of_a_policy_are_checked_by_name_and_kind() {
    let folder = Folder::with_released_archive();
    folder.write(
        "a.rhai",
        "store(\"file:archive\").prune(#{ keep_lst: 3 });\n",
    );
    let checked = folder.kbr(&["check", "a.rhai"]).expect(2);
    assert_says(&checked, &["E0207", "did you mean `keep_last`?"]);
    folder.write(
        "b.rhai",
        "store(\"file:archive\").prune(#{ keep_last: true });\n",
    );
    assert_says(
        &folder.kbr(&["check", "b.rhai"]).expect(2),
        &["E0208", "keep_last"],
    );
    let wrong = folder
        .kbr(&["prune", "file:archive", "--keep-last", "many"])
        .expect(2);
    assert_says(&wrong, &["--keep-last is a number, not \"many\""]);
    let wrong = folder
        .kbr(&["prune", "file:archive", "--drop", "everything"])
        .expect(2);
    assert_says(
        &wrong,
        &["--drop is expired, removed or all, not \"everything\""],
    );
}

/// An archive with a recovery point on each of forty days, from 2026-01-01 (a Thursday) to 2026-02-09 (a Monday).
async fn daily(folder: &Folder) {
    let url = format!("file:{}", folder.file("archive").display());
    let store = Store::open_text(&url).await.unwrap();
    for day in 0..40 {
        let archive = Archive::create_or_open(store.clone(), "cluster")
            .await
            .unwrap();
        let run = format!("r{day}");
        let run = archive
            .begin_run(&run, RunOptions::default())
            .await
            .unwrap();
        // 2026-01-01T12:00:00Z and so on.
        let at = TimestampMs(1_767_268_800_000 + day * 86_400_000);
        let new = NewGeneration {
            started: at,
            consistency_point: at,
            ..NewGeneration::default()
        };
        run.commit(new).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_prune_keeps_what_its_help_says() {
    let original = Folder::new();
    daily(&original).await;
    for (rules, kept) in [
        (&["--keep-last", "2"][..], &[40, 39][..]),
        (&["--keep-within", "3d"], &[40, 39, 38, 37]),
        (&["--keep-daily", "3"], &[40, 39, 38]),
        // The week of Monday, the one that ended on Sunday the 8th, and the one before.
        (&["--keep-weekly", "3"], &[40, 39, 32]),
        // The last of February so far, and the 31st of January.
        (&["--keep-monthly", "5"], &[40, 31]),
        (
            &["--keep-last", "1", "--redundancy", "4"],
            &[40, 39, 38, 37],
        ),
        (&["--keep-daily", "1", "--keep-monthly", "2"], &[40, 31]),
    ] {
        let folder = Folder::new();
        copy_folder(&original.file("archive"), &folder.file("archive"));
        let words: Vec<&str> = ["prune", "file:archive"]
            .iter()
            .chain(rules)
            .copied()
            .collect();
        executed(&folder, &words);
        let list = folder.kbr(&["list", "file:archive", "--limit", "100", "--output", "json"]);
        let list: serde_json::Value = serde_json::from_str(&list.expect(0).stdout).unwrap();
        let left = list["generations"].as_array().unwrap().iter();
        let left = left.filter(|one| one["marked"].is_null());
        let left: Vec<i64> = left.map(|one| one["number"].as_i64().unwrap()).collect();
        assert_eq!(left, kept, "{rules:?}");
    }
}
