//! `kbr undo RUN` against the sandbox: groups go back to where they were before a run, with the checks and the gate of any
//! other plan; what cannot be taken back is named.

mod cli_scene;

use cli_scene::{Ran, Scene, batch};
use serde_json::Value;

/// `dr` holds ten records in each of two partitions; `audit` is at 4 and 6, `late` nowhere.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.dr.create_topic("orders", 2, &[]).unwrap();
    for partition in 0..2 {
        for order in 0..10 {
            let batch = batch(&format!("order-{order}"));
            scene.dr.append("orders", partition, &batch).unwrap();
        }
    }
    scene.dr.set_committed("audit", "orders", 0, 4, "by hand");
    scene.dr.set_committed("audit", "orders", 1, 6, "");
    scene
}

/// Plans with these words, does it with the digest that the plan has, and tells the run's id.
#[track_caller]
fn done(scene: &Scene, words: &[&str]) -> (String, Ran) {
    let digest = scene.kbr(words).expect(0).digest();
    let all = [words, &["--execute", "--confirm", &digest]].concat();
    let ran = scene.kbr(&all).expect(0);
    let run = ran
        .stdout
        .split("report: kbr show ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("{}", ran.stdout));
    (run.to_string(), ran)
}

#[track_caller]
fn moved(scene: &Scene, runbook: &str) -> String {
    scene.folder.write("move.rhai", runbook);
    done(scene, &["run", "move.rhai"]).0
}

/// `audit` to the start of the log, and `late`, which is made by it.
const MOVE: &str = r#"offset_plan(cluster("dr"))
    .groups("audit", "late")
    .topics("orders")
    .strategy("earliest")
    .new_groups(true)
    .reset();
"#;

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_back_and_offsets_that_were_not_there_are_deleted() {
    let scene = scene().await;
    let before = scene.dr.committed("audit");
    let run = moved(&scene, MOVE);
    assert_eq!(scene.committed("late"), [(0, 0), (1, 0)]);

    let plan = scene.kbr(&["undo", &run]).expect(0);
    let text = plan.text();
    assert!(
        text.contains(&format!("confirm: Undo run {run}?")),
        "{text}"
    );
    assert!(text.contains("1  reset    audit"), "{text}");
    assert!(text.contains("2  delete   late"), "{text}");
    assert!(
        text.contains(&format!("kbr undo {run} --execute --confirm")),
        "{text}"
    );
    // Nothing happens without a word for the gate.
    assert_eq!(scene.kbr(&["undo", &run, "--execute"]).code, 3);
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 0)]);

    let (undone, ran) = done(&scene, &["undo", &run]);
    assert_eq!(scene.dr.committed("audit"), before);
    assert_eq!(scene.committed("late"), []);
    assert!(
        ran.stdout.contains(&format!("undo: kbr undo {undone}")),
        "{}",
        ran.stdout
    );
    // It is a run like any other.
    let shown = scene.kbr(&["show", &undone]).expect(0).stdout;
    assert!(shown.contains(&format!("undo of {run}")), "{shown}");
    let again = scene.kbr(&["undo", &run]).expect(0).stdout;
    assert!(
        again.contains("every group is where it was before run"),
        "{again}"
    );

    // And can be taken back itself.
    done(&scene, &["undo", &undone]);
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 0)]);
    assert_eq!(scene.committed("late"), [(0, 0), (1, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_since_blocks_and_the_other_groups_can_go_back_alone() {
    let scene = scene().await;
    let run = moved(&scene, MOVE);
    scene.dr.set_committed("late", "orders", 1, 7, "");
    let plan = scene.kbr(&["undo", &run]).expect(0).text();
    assert!(
        plan.contains("late has 7 committed, and neither 0, which") && plan.contains("blocked"),
        "{plan}"
    );
    assert_eq!(scene.kbr(&["undo", &run, "--execute"]).code, 1);
    done(&scene, &["undo", &run, "--group", "audit"]);
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
    assert_eq!(scene.committed("late"), [(0, 0), (1, 7)]);
    let none = scene.kbr(&["undo", &run, "--group", "audits"]).expect(2);
    assert!(none.text().contains("error[E0450]"), "{}", none.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_between_the_plan_and_its_execution_is_drift() {
    let scene = scene().await;
    let run = moved(&scene, MOVE);
    let plan = scene.folder.file("plan.json").display().to_string();
    let saved = scene.kbr(&["undo", &run, "--save", &plan]).expect(0);
    assert!(saved.text().contains("kbr apply"), "{}", saved.text());
    let digest = saved.digest();
    scene.dr.set_committed("audit", "orders", 0, 3, "");
    let apply = ["apply", &plan, "--execute", "--confirm", &digest];
    let drift = scene.kbr(&apply).expect(4).text();
    assert!(
        drift.contains("group audit on orders-0 was at 0 and is at 3"),
        "{drift}"
    );
    scene.dr.set_committed("audit", "orders", 0, 0, "");
    scene.kbr(&apply).expect(0);
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
    // A saved undo is good for once.
    scene.kbr(&apply).expect(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_the_log_has_lost_block() {
    let scene = scene().await;
    let run = moved(
        &scene,
        "offset_plan(cluster(\"dr\")).groups(\"audit\").strategy(\"latest\").reset();",
    );
    scene.dr.delete_records("orders", 0, 5).unwrap();
    let plan = scene.kbr(&["undo", &run]).expect(0).text();
    assert!(
        plan.contains("audit was at 4, which lies before the log's start 5"),
        "{plan}"
    );
    assert_eq!(scene.kbr(&["undo", &run, "--execute"]).code, 1);
    assert_eq!(scene.committed("audit"), [(0, 10), (1, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_wrote_stays_and_is_named() {
    let scene = Scene::backed_up().await;
    let (run, _) = done(&scene, &["run", "failover.rhai"]);
    scene.assert_moved();
    let text = scene.kbr(&["undo", &run]).expect(0).text();
    assert!(text.contains("not undone"), "{text}");
    assert!(
        text.contains("create topic orders_dr: topics stay"),
        "{text}"
    );
    assert!(text.contains("write orders_dr: records stay"), "{text}");
    let json = scene
        .kbr(&["undo", &run, "--output", "json"])
        .expect(0)
        .stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["undoes"], run.as_str());
    assert_eq!(json["not_undone"].as_array().unwrap().len(), 2);
    done(&scene, &["undo", &run]);
    assert_eq!(scene.committed("checkout-api"), []);
    assert_eq!(scene.committed("checkout-audit"), []);

    let backup = scene.kbr(&["history", "--output", "json"]).expect(0).stdout;
    let backup: Value = serde_json::from_str(&backup).unwrap();
    let runs = backup["runs"].as_array().unwrap();
    let first = runs.last().unwrap()["run"].as_str().unwrap();
    let text = scene.kbr(&["undo", first]).expect(0).stdout;
    assert!(text.contains("there is nothing to undo"), "{text}");
    assert!(text.contains("what was backed up stays"), "{text}");
}

/// `undo` is a word of `kbr offsets` too. Whatever it is typed with, no group is reset by it.
#[tokio::test(flavor = "multi_thread")]
async fn undo_as_an_action_of_offsets_takes_back_a_run_and_never_resets() {
    let scene = scene().await;
    let run = moved(&scene, MOVE);
    let plan = scene.kbr(&["undo", &run]).expect(0).digest();
    for words in [
        &["offsets", "undo", &run][..],
        &["offsets", "Undo", &run],
        &["offsets", "--output", "text", "UNDO", &run],
        &["offsets", "--action", "undo", &run],
        &["offsets", &run, "--action=Undo"],
    ] {
        assert_eq!(scene.kbr(words).expect(0).digest(), plan, "{words:?}");
    }
    let alone = ["offsets", "--group", "audit", "undo", &run];
    let text = scene.kbr(&alone).expect(0).text();
    assert!(text.contains("1  reset    audit"), "{text}");
    assert!(!text.contains("late"), "{text}");
    // Not what undo takes: the words of a reset.
    for words in [
        &[
            "offsets", "--group", "audit", "undo", "dr", "--to", "latest",
        ][..],
        &[
            "offsets", "Undo", "dr", "--group", "audit", "--to", "latest",
        ],
        &["offsets", "--action", "undo", "dr", "--group", "audit"],
        &["offsets", "--action=undo", "dr", "--group", "audit"],
    ] {
        for words in [words, &[words, &["--execute"]].concat()] {
            let refused = scene.kbr(words).expect(2).text();
            assert!(
                refused.contains("kbr undo") || refused.contains("E0602"),
                "{refused}"
            );
        }
    }
    // The group is not the action.
    let words = ["offsets", "plan", "dr", "--group", "undo"];
    let text = scene.kbr(&words).expect(0).text();
    assert!(text.contains("no group matches undo"), "{text}");
    // The script as a runbook, where no command line stands in its way.
    scene
        .folder
        .write("offsets.rhai", include_str!("../stdlib/offsets.rhai"));
    let words = [
        "--action",
        "undo",
        "--cluster",
        "dr",
        "--group",
        "audit",
        "--to",
        "latest",
    ];
    let words = [&["run", "offsets.rhai", "--"], &words[..]].concat();
    let refused = scene.kbr(&words).expect(1).text();
    assert!(refused.contains("kbr undo RUN"), "{refused}");
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 0)]);
}
