//! Plans that are saved and applied, and runs that are resumed, as an operator does it.

mod cli_scene;

use cli_scene::{Ran, Scene, batch};
use kbr::run::{Journal, RunId};
use kbr::sandbox::{Action, Sandbox};
use serde_json::{Value, json};

const PRODUCE: i16 = 0;
const INVALID_RECORD: i16 = 87;

fn run_id(ran: &Ran) -> String {
    let id = regex::Regex::new(r"run +(\d{8}-\d{4}-[a-z]\d)").unwrap();
    let text = ran.text();
    id.captures(&text).expect(&text)[1].to_string()
}

#[track_caller]
fn assert_says(ran: &Ran, words: &[&str]) {
    let text = ran.text();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

fn values(sandbox: &Sandbox, topic: &str, partition: i32) -> Vec<(i64, String)> {
    let records = sandbox.records(topic, partition).unwrap();
    let text = |key: Option<Vec<u8>>| String::from_utf8(key.unwrap()).unwrap();
    records
        .into_iter()
        .map(|record| (record.offset.0, text(record.key)))
        .collect()
}

/// A scene with the failover's plan in `plan.json`, and its digest.
async fn saved() -> (Scene, String) {
    let scene = Scene::backed_up().await;
    let words = ["run", "failover.rhai", "--save", "plan.json"];
    let digest = scene.kbr(&words).expect(0).digest();
    (scene, digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_is_shown_as_it_is_and_executed_as_it_is() {
    let (scene, digest) = saved().await;
    scene.assert_dr_untouched();
    let shown = scene.kbr(&["apply", "plan.json"]).expect(0);
    assert_eq!(shown.digest(), digest);
    let command = format!("kbr apply plan.json --execute --confirm {digest}");
    assert_says(&shown, &["Move 2 groups on dr?", &command]);
    scene.assert_dr_untouched();

    // What is there by now changes nothing of it: neither another runbook nor one more group.
    scene.folder.write("failover.rhai", "print(1)");
    scene.prod.set_committed("checkout-new", "orders", 0, 1, "");
    let refused = scene.kbr(&["apply", "plan.json", "--execute"]).expect(3);
    assert_says(&refused, &["E0404", &command]);
    scene.assert_dr_untouched();
    let words = ["apply", "plan.json", "--execute", "--confirm", &digest];
    let ran = scene.kbr(&words).expect(0);
    scene.assert_moved();
    assert_eq!(values(&scene.dr, "orders_dr", 0).len(), 5);
    let told = scene.kbr(&["show", &run_id(&ran)]).expect(0);
    assert_says(&told, &["failover.rhai", "done"]);

    // Once: what it would create is there.
    let again = scene.kbr(&words).expect(4);
    assert_says(&again, &["E0401", "orders_dr exists now"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_is_executed_at_a_terminal_where_it_asks() {
    let (scene, _) = saved().await;
    let ran = scene.at_terminal(&["apply", "plan.json", "--execute"], "dr\n");
    assert_eq!(ran.code, 0, "{}", ran.text());
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_is_a_json_document_and_so_is_what_comes_of_it() {
    let (scene, digest) = saved().await;
    let words = ["apply", "plan.json", "--output", "json"];
    let document: Value = serde_json::from_str(&scene.kbr(&words).expect(0).stdout).unwrap();
    assert_eq!(document["schema"], "kbr.plan/1");
    assert!(document["digest"].as_str().unwrap().starts_with(&digest));
    let words = ["apply", "plan.json", "--execute", "--confirm", &digest];
    let words = [&words[..], &["--output", "json"]].concat();
    let document: Value = serde_json::from_str(&scene.kbr(&words).expect(0).stdout).unwrap();
    assert_eq!(document["end"], "done", "{document:#}");
}

/// The plan's file with a change, sealed anew or not.
fn change(scene: &Scene, change: impl FnOnce(&mut Value)) {
    let file = scene.folder.file("plan.json");
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut plan);
    std::fs::write(&file, plan.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_that_was_changed_is_refused() {
    let (scene, digest) = saved().await;
    let words = ["apply", "plan.json", "--execute", "--confirm", &digest];
    let whole = std::fs::read_to_string(scene.folder.file("plan.json")).unwrap();
    change(&scene, |plan| plan["kbr"] = json!("0.0.0"));
    let ran = scene.kbr(&words).expect(2);
    assert_says(&ran, &["E0440", "it was changed", "--save PLAN"]);
    change(&scene, |plan| plan["schema"] = json!("kbr.saved-plan/9"));
    assert_says(&scene.kbr(&words).expect(2), &["E0441", "newer kbr"]);
    for broken in ["", "[]", "{}", &whole[..whole.len() / 2]] {
        scene.folder.write("plan.json", broken);
        assert_says(&scene.kbr(&words).expect(2), &["E0440"]);
    }
    let ran = scene.kbr(&["apply", "plan.jsn"]).expect(2);
    assert_says(&ran, &["E0102", "cannot read plan.jsn"]);
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_for_another_cluster_or_archive_is_drift() {
    let (scene, digest) = saved().await;
    let words = ["apply", "plan.json", "--execute", "--confirm", &digest];
    let bootstrap = |sandbox: &Sandbox| sandbox.bootstrap().join(",");
    let prod = bootstrap(&scene.prod);
    scene.folder.clusters(&[("prod", &prod), ("dr", &prod)]);
    let ran = scene.kbr(&words).expect(4);
    assert_says(&ran, &["cluster dr is another one now", "planned", "found"]);
    scene
        .folder
        .clusters(&[("prod", &prod), ("dr", &bootstrap(&scene.dr))]);
    let (archive, aside) = (scene.folder.file("archive"), scene.folder.file("aside"));
    std::fs::rename(&archive, &aside).unwrap();
    scene.kbr(&words).expect(1);
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let ran = scene.kbr(&words).expect(4);
    assert_says(&ran, &["another archive lies at file:archive now"]);
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::rename(&aside, &archive).unwrap();
    scene.assert_dr_untouched();
    scene.kbr(&words).expect(0);
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_executed_or_written_is_not_saved() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders", 7, &[]).unwrap();
    let text = "restore(store(\"file:archive\").latest()).merge(true).topics(\"nothing\").to(cluster(\"dr\"));";
    scene.folder.write("blocked.rhai", text);
    let ran = scene
        .kbr(&["run", "blocked.rhai", "--save", "plan.json"])
        .expect(2);
    assert_says(&ran, &["E0445", "blocked"]);
    assert!(!scene.folder.file("plan.json").exists());
    let words = ["run", "failover.rhai", "--save", "no/such/plan.json"];
    assert_says(
        &scene.kbr(&words).expect(1),
        &["E0446", "no/such/plan.json"],
    );
    let words = ["run", "failover.rhai", "--save", "p.json", "--execute"];
    scene.kbr(&words).expect(2);
}

/// Saves a runbook's plan, applies it; the same plan a second time is drift or changes nothing.
fn apply(scene: &Scene, name: &str, text: &str) -> Ran {
    scene.folder.write(&format!("{name}.rhai"), text);
    let (file, runbook) = (format!("{name}.json"), format!("{name}.rhai"));
    let planned = scene.kbr(&["run", &runbook, "--save", &file]).expect(0);
    let digest = planned.digest();
    let ran = scene
        .kbr(&["apply", &file, "--execute", "--confirm", &digest])
        .expect(0);
    let again = scene.kbr(&["apply", &file, "--execute", "--confirm", &digest]);
    assert_eq!(again.code, 4, "{name}: {}", again.text());
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_step_is_saved_and_applied_once() {
    let scene = Scene::new().await;
    let backup = "backup(cluster(\"prod\")).to(store(\"file:archive\"));";
    apply(&scene, "first", backup);
    scene.prod.append("orders", 0, &batch("order-5")).unwrap();
    apply(&scene, "second", backup);
    // Prune and undelete.
    let prune = "store(\"file:archive\").prune(#{ keep_last: 1, grace: days(7) });";
    apply(&scene, "prune", prune);
    let marked = scene.kbr(&["list", "file:archive"]).expect(0);
    assert_says(&marked, &["pruned"]);
    apply(&scene, "undelete", "store(\"file:archive\").undelete([1]);");

    // Creates, prepares, writes by every way, with closures and what they captured; verifies, finishes, resets.
    scene
        .dr
        .create_topic("there", 3, &[("message.timestamp.type", "LogAppendTime")])
        .unwrap();
    let restore = r#"let from = #{ least: 1, keys: ["order-2", "order-4"] };
fn wanted(keys, key) { key in keys }
restore(store("file:archive").latest())
    .remap(|topic| "there")
    .repartition(3)
    .filter(|r| r.offset >= from.least && !wanted(from.keys, r.key))
    .set_header("restored-by", "drill")
    .origin_headers(true)
    .limit("50 MB/s")
    .to(cluster("dr"));
let joined = restore(store("file:archive").latest())
    .offsets("orders", 0, 1..5)
    .partitions("orders", "0-1")
    .remap_partitions(|p| 0)
    .prefix("joined-")
    .filter(|r| r.value.amount ?? 0 >= 0, #{ on_error: "keep" })
    .to(cluster("dr"));
offset_plan(joined).groups("checkout-api").reset();
"#;
    let ran = apply(&scene, "restore", restore);
    assert_says(&ran, &["sets aside"]);
    let mut there: Vec<String> = (0..3)
        .flat_map(|partition| values(&scene.dr, "there", partition))
        .map(|(_, key)| key)
        .collect();
    there.sort();
    let wanted = ["order-1", "order-1", "order-3", "order-3", "order-5"];
    assert_eq!(there, wanted);
    assert_eq!(values(&scene.dr, "joined-orders", 0).len(), 9);
    let configs = scene.dr.topic_configs("there").unwrap();
    assert_eq!(configs["message.timestamp.type"], "LogAppendTime");
    assert!(!scene.committed("checkout-api").is_empty());
}

/// A run of the failover that failed in the middle of the write, and its plan's digest.
async fn failed() -> (Scene, String, String) {
    let scene = Scene::backed_up().await;
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    let mut answered = 0;
    scene.dr.intercept(move |seen| match seen.api_key {
        PRODUCE => {
            answered += 1;
            match answered {
                1 => Action::Pass,
                _ => Action::Error(INVALID_RECORD),
            }
        }
        _ => Action::Pass,
    });
    let ran = scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(1);
    scene.dr.clear_interceptors();
    let run = run_id(&ran);
    assert_says(&ran, &[&format!("kbr resume {run}")]);
    (scene, run, digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_failed_is_resumed_where_it_stopped() {
    let (scene, run, digest) = failed().await;
    assert_eq!(
        values(&scene.dr, "orders_dr", 0).len() + values(&scene.dr, "orders_dr", 1).len(),
        5
    );
    let refused = scene.kbr(&["resume", &run]).expect(3);
    let command = format!("kbr resume {run} --confirm {digest}");
    assert_says(&refused, &["E0404", &command, "began, did not end"]);
    let ran = scene.kbr(&["resume", &run, "--confirm", &digest]).expect(0);
    assert_says(&ran, &["1 done and left as is · 1 began"]);
    for partition in 0..2 {
        let expected = values(&scene.prod, "orders", partition);
        assert_eq!(values(&scene.dr, "orders_dr", partition), expected);
    }
    scene.assert_moved();
    let told = scene.kbr(&["show", &run]).expect(0);
    assert_says(&told, &["resumed", "done"]);
    let nothing = scene.kbr(&["resume", &run]).expect(0);
    assert_says(&nothing, &["nothing to resume"]);
    let nothing = scene.kbr(&["resume", "--output", "json"]).expect(0);
    let nothing: Value = serde_json::from_str(&nothing.stdout).unwrap();
    assert_eq!(nothing["resumed"], false);
    assert_says(&scene.kbr(&["resume", "20990101"]).expect(2), &["no run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_refuses_what_somebody_else_wrote_meanwhile_and_says_what() {
    let (scene, run, digest) = failed().await;
    let foreign = batch("nobody's");
    for partition in 0..2 {
        scene.dr.append("orders_dr", partition, &foreign).unwrap();
    }
    let before: Vec<_> = (0..2).map(|p| values(&scene.dr, "orders_dr", p)).collect();
    let ran = scene.kbr(&["resume", &run, "--confirm", &digest]).expect(4);
    assert_says(
        &ran,
        &["E0442", "somebody else was there", "orders_dr-", "found"],
    );
    let after: Vec<_> = (0..2).map(|p| values(&scene.dr, "orders_dr", p)).collect();
    assert_eq!(after, before);
    // Also a topic that is another one by now.
    let (scene, run, digest) = failed().await;
    scene.dr.delete_topic("orders_dr").unwrap();
    let ran = scene.kbr(&["resume", &run, "--confirm", &digest]).expect(4);
    assert_says(&ran, &["E0442", "orders_dr is not there"]);
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    let ran = scene.kbr(&["resume", &run, "--confirm", &digest]).expect(4);
    assert_says(&ran, &["E0442", "deleted and created again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_was_refused_is_asked_again_and_an_answered_one_is_not() {
    let scene = Scene::backed_up().await;
    let ran = scene.at_terminal(&["run", "failover.rhai", "--execute"], "no\n");
    assert_eq!(ran.code, 3, "{}", ran.text());
    assert_eq!(scene.committed("checkout-api"), []);
    let run = run_id(&ran);
    assert_says(&ran, &[&format!("kbr resume {run}")]);
    let ran = scene.at_terminal(&["resume"], "dr\n");
    assert_eq!(ran.code, 0, "{}", ran.text());
    assert_says(&ran, &["4 done and left as is", "Move 2 groups on dr?"]);
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_resumed_says_why() {
    let scene = Scene::backed_up().await;
    let journal = Journal::open(&scene.folder.file("state/journal.db")).unwrap();
    // As a kbr of before would have left it: with a plan to look at, and none to make again.
    let plan = kbr::run::Plan::new(
        kbr::run::RunbookId {
            name: "old.rhai".into(),
            digest: kbr::base::Digest::of(b"old"),
        },
        Default::default(),
        kbr::base::time::now(),
    );
    let mut rehearsed = plan.clone();
    rehearsed.rehearsal = true;
    let (run, lock) = journal
        .begin_run(&rehearsed, &rehearsed.document(), "nobody")
        .unwrap();
    drop(lock);
    let ran = scene.kbr(&["resume", &run.0]).expect(1);
    assert_says(&ran, &["E0443", "did not keep its plan"]);
    // One that is still at work.
    let (run, lock) = journal
        .begin_run(&plan, &plan.document(), "nobody")
        .unwrap();
    let ran = scene.kbr(&["resume", &run.0]).expect(1);
    assert_says(&ran, &["E0444", "another process works on it"]);
    drop(lock);
    assert!(journal.lock_run(&RunId(run.0)).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_early_says_what_it_has_set_aside_and_its_resume_puts_it_back() {
    let scene = Scene::backed_up().await;
    let own = [("cleanup.policy", "compact"), ("retention.ms", "3600000")];
    scene.dr.create_topic("orders", 2, &own).unwrap();
    let before = scene.dr.topic_configs("orders");
    let text = "restore(store(\"file:archive\").latest()).to(cluster(\"dr\"));";
    scene.folder.write("restore.rhai", text);
    scene.dr.intercept(|seen| match seen.api_key {
        PRODUCE => Action::Error(INVALID_RECORD),
        _ => Action::Pass,
    });
    let ran = scene.kbr(&["run", "restore.rhai", "--execute"]).expect(1);
    scene.dr.clear_interceptors();
    assert_ne!(scene.dr.topic_configs("orders"), before);
    assert_says(
        &ran,
        &["set aside   cleanup.policy, retention.ms of orders"],
    );
    let told = scene.kbr(&["show", &run_id(&ran)]).expect(0);
    assert_says(&told, &["compact", "3600000"]);
    let resumed = scene.kbr(&["resume"]).expect(0);
    assert!(!resumed.stdout.contains("set aside   cleanup.policy"));
    assert_eq!(scene.dr.topic_configs("orders"), before);
    assert_eq!(values(&scene.dr, "orders", 0).len(), 5);
}
