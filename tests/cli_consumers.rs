//! `kbr groups`, `group`, `lag`, `sample` and `offsets`, as a person types them, against the sandbox and an archive.

mod cli_scene;

#[path = "support/member.rs"]
mod member;

use cli_scene::Scene;
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use member::Member;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// 2026-11-20T10:00:00Z, and a record each minute from then on.
const BEGINNING: i64 = 1_795_168_800_000;

/// `dr` holds ten records in partition 0 of `orders`, of which `audit` has read four and `late` none; `idle` has read
/// everything of `payments`.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    for topic in ["orders", "payments"] {
        scene.dr.create_topic(topic, 2, &[]).unwrap();
        for minute in 0..10 {
            let mut builder = BatchBuilder::new(BuildOptions::default());
            let (key, value) = (format!("k{minute}"), format!("{topic} {minute}"));
            let time = BEGINNING + minute * 60_000;
            builder
                .push(
                    time,
                    Some(key.as_bytes()),
                    Some(value.as_bytes()),
                    Headers::empty(),
                )
                .unwrap();
            let batch = builder.finish(ProducerStamp::NONE).unwrap();
            scene.dr.append(topic, 0, &batch).unwrap();
        }
    }
    scene.dr.set_committed("audit", "orders", 0, 4, "by hand");
    scene.dr.set_committed("late", "orders", 0, 0, "");
    scene.dr.set_committed("idle", "payments", 0, 10, "");
    scene
}

/// The words of each line of a table, without its header.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().map(str::to_string).collect())
        .collect()
}

fn first_words(text: &str) -> Vec<String> {
    rows(text).into_iter().map(|row| row[0].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_found_by_name_state_topic_and_lag() {
    let scene = scene().await;
    let named = |words: &[&str]| {
        let mut all = vec!["groups", "dr"];
        all.extend(words);
        first_words(&scene.kbr(&all).expect(0).stdout)
    };
    assert_eq!(named(&[]), ["audit", "idle", "late"]);
    assert_eq!(named(&["a*", "idle"]), ["audit", "idle"]);
    assert_eq!(named(&["/^(late|idle)$/"]), ["idle", "late"]);
    assert_eq!(named(&["--topic", "orders"]), ["audit", "late"]);
    assert_eq!(named(&["--lag-over", "6"]), ["late"]);
    assert_eq!(named(&["--lag-over", "5"]), ["audit", "late"]);
    assert_eq!(named(&["--state", "empty"]), ["audit", "idle", "late"]);
    assert_eq!(
        scene
            .kbr(&["groups", "dr", "--state", "stable"])
            .expect(0)
            .stdout,
        "no group is in the state Stable; there are groups in: Empty\n(none)\n"
    );
    // As the table writes it, or not.
    assert_eq!(named(&["--state", "EMPTY"]), ["audit", "idle", "late"]);
    // One that brokers may have learnt since.
    for words in [
        ["groups", "dr", "--state", "PreparingShutdown"],
        ["lag", "dr", "--state", "PreparingShutdown"],
    ] {
        let text = scene.kbr(&words).expect(0).stdout;
        let wanted = "no group is in the state PreparingShutdown; there are groups in: Empty\n";
        assert!(text.starts_with(wanted), "{text}");
    }
    // There are groups in that state; it is another condition that none meets.
    let words = ["groups", "dr", "--state", "empty", "--topic", "nosuch"];
    assert_eq!(scene.kbr(&words).expect(0).stdout, "(none)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_word_however_it_is_spelt() {
    let scene = scene().await;
    for group in ["team a", "team", "a", "x,y", "back\\slash"] {
        scene.dr.set_committed(group, "orders", 0, 1, "");
    }
    let json = |words: &[&str]| {
        let all = [words, &["--output", "json"]].concat();
        let told: serde_json::Value =
            serde_json::from_str(&scene.kbr(&all).expect(0).stdout).unwrap();
        let rows = told["value"].as_array().unwrap().iter();
        let column = match words[0] {
            "lag" => "group",
            _ => "name",
        };
        rows.map(|row| row[column].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    for command in ["groups", "lag"] {
        assert_eq!(json(&[command, "dr", "team a"]), ["team a"]);
        assert_eq!(json(&[command, "dr", "team", "a"]), ["a", "team"]);
        assert_eq!(json(&[command, "dr", "team a", "a"]), ["a", "team a"]);
        assert_eq!(json(&[command, "dr", "team,a"]), ["a", "team"]);
        assert_eq!(json(&[command, "dr", "{team,x}*"]).len(), 3);
        assert_eq!(
            json(&[command, "dr", "/^team a$/", "/^x,/"]),
            ["team a", "x,y"]
        );
        assert_eq!(json(&[command, "dr", "back\\slash"]), ["back\\slash"]);
    }
}

/// Kafka writes a slash before an address whose name it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_is_told_with_the_address_alone() {
    let scene = scene().await;
    let member = Member::join(&scene.dr.bootstrap().remove(0), "audit", "orders").await;
    let text = scene
        .kbr(&["group", "dr", "audit", "--members"])
        .expect(0)
        .stdout;
    assert!(
        text.contains("127.0.0.1") && !text.contains("/127"),
        "{text}"
    );
    let words = ["group", "dr", "audit", "--members", "--output", "json"];
    let text = scene.kbr(&words).expect(0).stdout;
    assert!(
        text.contains("\"127.0.0.1\"") && !text.contains("/127"),
        "{text}"
    );
    member.leave().await;
}

/// A command that only reads has nothing to reassure anybody about.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_does_not_say_that_nothing_was_changed() {
    let scene = scene().await;
    scene.folder.clusters(&[("gone", "127.0.0.1:1")]);
    for words in [
        &["groups", "gone"][..],
        &["group", "gone", "audit"],
        &["lag", "gone"],
        &["sample", "gone", "orders", "0"],
        &["offsets", "plan", "gone", "--group", "audit"],
        &["offsets", "export", "gone", "--group", "audit"],
        &["groups", "--archive", "file:nowhere"],
        &["group", "--archive", "file:nowhere", "audit"],
        &["sample", "--archive", "file:nowhere", "orders", "0"],
    ] {
        let text = scene.kbr(words);
        assert_ne!(text.code, 0, "{words:?}");
        let text = text.text();
        assert!(
            text.contains("error[") && !text.contains("changed"),
            "{text}"
        );
    }
    // What could have changed something says it.
    for words in [
        &["offsets", "reset", "gone", "--group", "audit"][..],
        &["offsets", "plan", "gone", "--group", "audit", "--execute"],
    ] {
        let text = scene.kbr(words).text();
        assert!(text.contains("nothing was changed"), "{words:?}: {text}");
    }
    let words = ["prune", "file:nowhere", "--keep-last", "3"];
    let text = scene.kbr(&words).text();
    assert!(text.contains("changed   nothing"), "{text}");
}

/// Told as any other command line that is wrong: nothing of a script that nobody here has written.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_typed_wrong_says_what_it_wants() {
    let scene = scene().await;
    for (words, wanted) in [
        (
            &["groups"][..],
            &["kbr groups needs CLUSTER", "clusters   ", "dr"][..],
        ),
        (
            &["group", "dr"],
            &[
                "kbr group needs NAME",
                "kbr groups dr lists them",
                "usage     kbr group CLUSTER NAME [OPTIONS]",
                "example   kbr group dr checkout-api",
            ],
        ),
        (
            &["group", "dr", "audit", "late"],
            &["no place for \"late\""],
        ),
        (
            &["group", "--archive", "file:a"],
            &["kbr group needs NAME", "kbr groups --archive file:a lists"],
        ),
        (
            &["group", "--archive", "file:a", "--cluster", "dr", "audit"],
            &["say either --archive or --cluster"],
        ),
        (
            &["group", "dr", "audit", "--generation", "3"],
            &["--generation is of an archive"],
        ),
        (
            &["groups", "dr", "--stat", "empty"],
            &["kbr groups has no option --stat", "did you mean --state?"],
        ),
        (
            &["groups", "dr", "--otput", "json"],
            &["no option --otput", "did you mean --output?"],
        ),
        (
            &["groups", "dr", "--state", "stabel"],
            &["--state is never \"stabel\"", "did you mean Stable?"],
        ),
        (
            &["groups", "dr", "--lag-over", "much"],
            &["--lag-over is a number, not \"much\""],
        ),
        (
            &["offsets", "pln", "dr"],
            &[
                "ACTION is plan, reset, export or undo, not \"pln\"",
                "did you mean plan?",
            ],
        ),
        (
            &["offsets", "plan", "dr"],
            &["kbr offsets needs --group", "kbr groups dr lists them"],
        ),
        (
            &["offsets", "plan", "dr", "--group", "audit", "--to", "now"],
            &["--to is never \"now\"", "one of", "to-datetime"],
        ),
        (
            &[
                "offsets", "plan", "dr", "--group", "audit", "--to", "shift-by",
            ],
            &["--to shift-by needs --value"],
        ),
        (
            &[
                "offsets", "plan", "dr", "--group", "audit", "--to", "header",
            ],
            &["say which with --from"],
        ),
        (
            &["sample", "dr", "orders", "first"],
            &["PARTITION is a number, not \"first\""],
        ),
        (
            &["sample", "dr", "orders", "0", "3", "--at", "-2h"],
            &["say either an offset or --at"],
        ),
        (&["lag"], &["kbr lag needs CLUSTER"]),
        (&["prune"], &["kbr prune needs ARCHIVE"]),
        (&["undelete"], &["kbr undelete needs ARCHIVE"]),
    ] {
        let said = scene.kbr(words).expect(2).text();
        for text in wanted {
            assert!(said.contains(text), "no {text:?} for {words:?} in\n{said}");
        }
        assert!(said.starts_with("error[E0101]: "), "{words:?}\n{said}");
        assert!(!said.contains(".rhai:"), "{words:?}\n{said}");
    }
    // What the cluster answers is no mistake in typing, and shows no line of the script either.
    let said = scene.kbr(&["group", "dr", "audt"]).expect(1).text();
    assert!(!said.contains(".rhai:"), "{said}");
    assert!(said.contains("did you mean \"audit\"?"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_records_hold_is_cut_in_tables_and_whole_on_request() {
    let scene = scene().await;
    let value = format!("{}\nend", "x".repeat(5_000));
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(BEGINNING, None, Some(value.as_bytes()), Headers::empty())
        .unwrap();
    let batch = builder.finish(ProducerStamp::NONE).unwrap();
    scene.dr.append("orders", 1, &batch).unwrap();
    let sample = |more: &[&str]| {
        let words = [&["sample", "dr", "orders", "1"][..], more].concat();
        scene.kbr(&words).expect(0).stdout
    };
    let cut = sample(&[]);
    let row = cut.lines().nth(1).unwrap();
    assert_eq!(row.chars().count(), 200);
    assert!(row.contains("-    xxx") && row.ends_with("xx…"), "{row}");
    assert!(cut.contains("--detail shows it whole"), "{cut}");
    let whole = sample(&["--detail"]);
    assert!(whole.trim_end().ends_with("xx\\nend"), "{whole}");
    assert!(!whole.contains('…'));
    let document: serde_json::Value = serde_json::from_str(&sample(&["--output", "json"])).unwrap();
    assert_eq!(document["value"][0]["value"], value);
    let code = "cluster(\"dr\").sample(\"orders\", 1, 0)";
    let shown = scene.kbr(&["eval", code]).expect(0).stdout;
    assert!(shown.contains("xx…"), "{shown}");
    let shown = scene.kbr(&["eval", code, "--detail"]).expect(0).stdout;
    assert!(shown.contains("xx\\nend"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shows_its_lag_in_records_and_in_time() {
    let scene = scene().await;
    let shown = scene.kbr(&["group", "dr", "audit"]).expect(0).stdout;
    // At record 4 of 10, a minute apart: six to read, the next five minutes older than the newest.
    let wanted = "audit: Empty, classic, members: 0\n\
         topic   partition  committed  start  end  lag  behind  owner\n\
         orders          0          4      0   10    6  5 min   -\n";
    assert_eq!(shown, wanted);
    let ran = scene
        .kbr(&["group", "dr", "audit", "--output", "json"])
        .expect(0);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let row = &document["value"][0];
    assert_eq!(
        (&row["behind"], &row["metadata"]),
        (&300_000.into(), &"by hand".into())
    );
    let lost = scene.kbr(&["group", "dr", "audt"]).expect(1).text();
    assert!(lost.contains("did you mean \"audit\"?"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_has_a_line_for_each_group_and_topic() {
    let scene = scene().await;
    let shown = scene.kbr(&["lag", "dr"]).expect(0).stdout;
    assert_eq!(
        rows(&shown),
        [
            ["audit", "Empty", "orders", "1", "6"],
            ["idle", "Empty", "payments", "1", "0"],
            ["late", "Empty", "orders", "1", "10"],
        ]
    );
    let shown = scene
        .kbr(&["lag", "dr", "--topic", "orders", "--over", "6"])
        .expect(0)
        .stdout;
    assert_eq!(rows(&shown), [["late", "Empty", "orders", "1", "10"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_again_until_it_is_interrupted() {
    let scene = scene().await;
    let mut command = scene.folder.command(&["lag", "dr", "--watch=1"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        use std::io::BufRead as _;
        let lines = std::io::BufReader::new(out).lines().map_while(Result::ok);
        // The second header: it was shown again.
        lines
            .filter(|line| line.starts_with("group "))
            .take(2)
            .count()
    });
    let shown = tokio::time::timeout(Duration::from_secs(30), read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shown, 2);
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(sent.unwrap().success());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
    // There was nothing to finish.
    let mut said = String::new();
    use std::io::Read as _;
    let mut err = child.stderr.take().unwrap();
    err.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    let said = scene
        .kbr(&["run", "backup.rhai", "--watch"])
        .expect(2)
        .text();
    assert!(said.contains("only a script that reads"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_shows_what_lies_around_an_offset_or_a_time() {
    let scene = scene().await;
    let offsets = |words: &[&str]| {
        let mut all = vec!["sample", "dr", "orders", "0"];
        all.extend(words);
        let table = rows(&scene.kbr(&all).expect(0).stdout).into_iter();
        table
            .map(|row| row[2].parse::<i64>().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&["4", "--count", "4"]), [2, 3, 4, 5]);
    assert_eq!(offsets(&["--count", "3"]), [7, 8, 9]);
    assert_eq!(
        offsets(&["--at", "2026-11-20T10:05:30Z", "--count", "2"]),
        [5, 6]
    );
    let beyond = ["sample", "dr", "orders", "0", "400"];
    let beyond = scene.kbr(&beyond).expect(0).stdout;
    assert_eq!(
        beyond,
        "orders 0 begins at offset 0 and ends at 10\n(none)\n"
    );
    let shown = scene
        .kbr(&["sample", "dr", "orders", "0", "9", "--count", "1"])
        .expect(0)
        .stdout;
    assert!(
        shown.contains("2026-11-20T10:09:00.000Z  k9   orders 9"),
        "{shown}"
    );
    let lost = scene.kbr(&["sample", "dr", "orders", "7"]).expect(1).text();
    assert!(
        lost.contains("topic orders has no such partition") && lost.contains("are 0 to 1"),
        "{lost}"
    );
    let lost = scene.kbr(&["sample", "dr", "order", "0"]).expect(1).text();
    assert!(lost.contains("did you mean \"orders\"?"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_answers_to_the_same_words() {
    let scene = scene().await;
    let backup = "backup(cluster(\"dr\")).to(store(\"file:dr-archive\"));";
    scene.folder.write("backup.rhai", backup);
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    // What came later is not in it.
    scene.dr.set_committed("audit", "orders", 0, 9, "");
    let of = ["--archive", "file:dr-archive"];
    let shown = scene
        .kbr(&["groups", of[0], of[1], "--lag-over", "5"])
        .expect(0)
        .stdout;
    assert_eq!(first_words(&shown), ["audit", "late"]);
    let shown = scene
        .kbr(&["group", "audit", of[0], of[1]])
        .expect(0)
        .stdout;
    assert!(shown.contains("4      0   10    6  5 min"), "{shown}");
    let eval = |code: &str| scene.kbr(&["eval", code]).expect(0).stdout;
    let snap = "store(\"file:dr-archive\").latest()";
    assert_eq!(
        rows(&eval(&format!("{snap}.lags(#{{ names: \"late\" }})"))),
        [["late", "Empty", "orders", "1", "10"]]
    );
    let table = eval(&format!(
        "{snap}.logs(\"orders\", \"2026-11-20T10:05:30Z\")"
    ));
    assert_eq!(
        rows(&table)[0],
        ["0", "-", "0", "10", "10", "6", "2026-11-20T10:06:00.000Z"]
    );
    let live = eval("cluster(\"dr\").logs(\"orders\", \"2026-11-20T10:05:30Z\")");
    let (live, archived) = (rows(&live), rows(&table));
    assert_eq!(live[0][2..], archived[0][2..]);
    assert_eq!(live[1][5..], ["-", "-"]);
    let words = [
        "sample",
        "--archive",
        "file:dr-archive",
        "orders",
        "0",
        "4",
        "--count",
        "2",
    ];
    let shown = scene.kbr(&words).expect(0).stdout;
    assert!(
        shown.contains("orders 3") && shown.contains("orders 4"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_planned_exported_and_reset_from_the_command_line() {
    let scene = scene().await;
    let words = ["--group", "audit", "--to", "shift-by", "--value", "-3"];
    let with = |action: &str, more: &[&str]| {
        let mut all = vec!["offsets", action, "dr"];
        all.extend(words);
        all.extend(more);
        scene.kbr(&all)
    };
    let shown = with("plan", &[]).expect(0).stdout;
    assert!(shown.contains("re-reads 3"), "{shown}");
    assert_eq!(with("export", &[]).expect(0).stdout, "audit,orders,0,1\n");
    // A group that is not there is no plan without rows only.
    let lost = [
        "offsets", "plan", "dr", "--group", "audt", "--to", "earliest",
    ];
    let lost = scene.kbr(&lost).expect(0).stdout;
    assert!(
        lost.contains("no group is called audt; did you mean audit?"),
        "{lost}"
    );
    let hint = "now: kbr groups dr lists them; --new-groups makes one that is not there";
    assert!(lost.contains(hint), "{lost}");
    // What to do, in the words of the command.
    let beyond = ["--group", "audit", "--to", "to-offset", "--value", "99"];
    for action in ["plan", "reset"] {
        let said = scene.kbr(&[&["offsets", action, "dr"][..], &beyond].concat());
        let said = said.expect(0).stdout;
        assert!(said.contains("--out-of-range clamp"), "{said}");
    }
    let plan = with("reset", &[]).expect(0);
    assert!(
        plan.text().contains("nothing was changed"),
        "{}",
        plan.text()
    );
    // What to type next is what was typed, and the plan's digest.
    let next = format!(
        "kbr offsets reset dr --group audit --to shift-by --value -3 --execute --confirm {}",
        plan.digest()
    );
    assert!(plan.text().contains(&next), "{}", plan.text());
    assert!(plan.text().lines().all(|line| line.trim_end() == line));
    with("reset", &["--execute"]).expect(3);
    assert_eq!(scene.committed("audit"), [(0, 4)]);
    let moved = with("reset", &["--execute", "--confirm", &plan.digest()]).expect(0);
    assert!(moved.text().contains("1 group moved"), "{}", moved.text());
    assert_eq!(scene.committed("audit"), [(0, 1)]);
    // The way back, under either name.
    let run = scene.kbr(&["history", "--output", "json"]).expect(0).stdout;
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let run = run["runs"][0]["run"].as_str().unwrap();
    let undone = scene.kbr(&["undo", run]).expect(0);
    let back = scene
        .kbr(&["offsets", "undo", run, "--group", "audit", "--detail"])
        .expect(0);
    assert!(back.text().contains("where it was"), "{}", back.text());
    scene.kbr(&["offsets", "undo"]).expect(2);
    let confirm = ["--execute", "--confirm", &undone.digest()];
    scene
        .kbr(&[&["offsets", "undo", run][..], &confirm].concat())
        .expect(0);
    assert_eq!(scene.committed("audit"), [(0, 4)]);
    scene.dr.set_committed("audit", "orders", 0, 1, "");
    // Of an archive's groups, onto the same records at another cluster.
    let backup = "backup(cluster(\"dr\")).to(store(\"file:dr-archive\"));";
    scene.folder.write("backup.rhai", backup);
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    scene.dr.set_committed("audit", "orders", 0, 9, "");
    let words = [
        "offsets",
        "plan",
        "dr",
        "--from",
        "file:dr-archive",
        "--group",
        "audit",
    ];
    let shown = scene
        .kbr(&[&words[..], &["--to", "cluster-scan"]].concat())
        .expect(0)
        .stdout;
    let row = rows(&shown)
        .into_iter()
        .find(|row| row[0] == "audit")
        .unwrap();
    // Committed in the archive at 1, at 9 here now, and goes to 1.
    assert_eq!(row[..6], ["audit", "orders", "0", "1", "9", "1"], "{shown}");
    let said = scene.kbr(&words).expect(2).text();
    assert!(said.contains("say how offsets are found"), "{said}");
}
