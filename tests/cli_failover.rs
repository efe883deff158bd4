//! A failover as an operator does it, session by session: backup, plan, confirmation, execution, history.

mod cli_scene;

use cli_scene::{Scene, batch};
use kbr::sandbox::Action;
use std::process::Command;
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const INVALID_RECORD: i16 = 87;

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_plan_and_the_command_and_changes_nothing() {
    let scene = Scene::backed_up().await;
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(0);
    scene.assert_dr_untouched();
    assert!(
        ran.stdout.contains("── confirm: Move 2 groups on dr? ──"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("nothing was changed"), "{}", ran.stdout);
    let last = ran.stdout.trim_end().lines().last().unwrap();
    let digest = ran.digest();
    assert!(
        last.ends_with(&format!(
            "kbr run failover.rhai --execute --confirm {digest}"
        )),
        "{last}"
    );
    for line in ran.stdout.lines() {
        assert!(
            line.chars().count() <= 80 || line.contains("file:"),
            "too wide: {line}"
        );
    }
    assert_eq!(
        scene.kbr(&["run", "failover.rhai"]).expect(0).digest(),
        digest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_under_the_plan_executes_it_without_a_terminal() {
    let scene = Scene::backed_up().await;
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    let words = ["run", "failover.rhai", "--execute", "--confirm", &digest];
    let ran = scene.kbr(&words).expect(0);
    scene.assert_moved();
    assert!(
        ran.stdout.contains("confirmed by the plan's digest"),
        "{}",
        ran.stdout
    );
    let id = regex::Regex::new(r"run (\d{8}-\d{4}-[a-z]\d)").unwrap();
    let run = id.captures(&ran.stdout).expect("a run id")[1].to_string();
    assert!(
        ran.stdout.contains(&format!("report: kbr show {run}")),
        "{}",
        ran.stdout
    );

    let history = scene.kbr(&["history"]).expect(0).stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(
        lines.len(),
        3,
        "a head, the failover, the backup: {history}"
    );
    assert!(
        lines[1].starts_with(&run) && lines[1].ends_with("done"),
        "{history}"
    );
    let shown = scene.kbr(&["show", &run]).expect(0).stdout;
    assert!(shown.contains("approved: digest"), "{shown}");
    assert!(shown.contains("checkout-api"), "{shown}");

    // The same approval again: the world is another one now.
    scene.kbr(&words).expect(4);
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_terminal_and_digest_nothing_runs_and_the_error_says_what_to_type() {
    let scene = Scene::backed_up().await;
    let ran = scene.kbr(&["run", "failover.rhai", "--execute"]).expect(3);
    scene.assert_dr_untouched();
    assert!(ran.stderr.contains("error[E0404]"), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("kbr run failover.rhai --execute --confirm "),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plans_digest_runs_nothing() {
    let scene = Scene::backed_up().await;
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    scene.prod.set_committed("checkout-api", "orders", 0, 4, "");
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let ran = scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(4);
    scene.assert_dr_untouched();
    assert!(ran.stderr.contains("error[E0405]"), "{}", ran.stderr);
    let short = [
        "run",
        "failover.rhai",
        "--execute",
        "--confirm",
        &digest[..8],
    ];
    scene.kbr(&short).expect(2);
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_the_clusters_name_moves_the_groups() {
    let scene = Scene::backed_up().await;
    let ran = scene
        .at_terminal(&["run", "failover.rhai", "--execute"], "dr\n")
        .expect(0);
    assert!(
        ran.stdout
            .contains("Type the cluster's name (dr) to go on:"),
        "{}",
        ran.stdout
    );
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_another_word_leaves_the_groups_where_they_are() {
    let scene = Scene::backed_up().await;
    let ran = scene
        .at_terminal(&["run", "failover.rhai", "--execute"], "prod\n")
        .expect(3);
    assert!(ran.stdout.contains("error[E0408]"), "{}", ran.stdout);
    assert!(ran.stdout.contains("did not run"), "{}", ran.stdout);
    assert_eq!(
        scene.dr.topics(),
        ["orders_dr"],
        "what came before the gate is done"
    );
    assert_eq!(scene.dr.groups(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_a_slip_of_the_finger_is_asked_again() {
    let scene = Scene::backed_up().await;
    let ran = scene
        .at_terminal(&["run", "failover.rhai", "--execute"], "rd\ndr\n")
        .expect(0);
    assert!(
        ran.stdout
            .contains("That is not it. Type dr to go on, or nothing to stop:"),
        "{}",
        ran.stdout
    );
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_stops_the_run_does_not_advise_to_write_twice() {
    let scene = Scene::backed_up().await;
    let ran = scene
        .at_terminal(&["run", "failover.rhai", "--execute"], "\n")
        .expect(3);
    assert!(
        ran.stdout.contains("asks again; what is done stays"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_no_record_can_lie_between_are_an_error() {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "between.rhai",
        "restore(store(\"file:archive\").latest()).since(\"-1h\").before(\"-2h\").to(cluster(\"dr\"));",
    );
    let ran = scene.kbr(&["run", "between.rhai"]).expect(2);
    assert!(
        ran.stderr.contains("error[E0214]: no record lies between"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_has_no_lag() {
    let scene = Scene::new().await;
    let lag = |group: &str| format!("cluster(\"prod\").lag(\"{group}\")");
    let ran = scene.kbr(&["eval", &lag("checkout-api")]).expect(0);
    assert_eq!(ran.stdout.trim(), "2");
    let ran = scene.kbr(&["eval", &lag("checkout-apy")]).expect(1);
    assert!(ran.stderr.contains("error[E0314]"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("did you mean \"checkout-api\"?"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_says_what_it_left() {
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
    assert!(
        ran.stderr.contains("written   5 of 10 are in orders_dr"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("again     kbr resume "),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_that_several_runs_share_is_said_to_be_one() {
    let scene = Scene::backed_up().await;
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let ran = scene.kbr(&["show", "20"]).expect(2);
    assert!(
        ran.stderr.contains("2 runs begin with 20"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_a_restore_ends_with_130_and_says_so() {
    let scene = Scene::backed_up().await;
    scene.dr.intercept(|seen| match seen.api_key {
        PRODUCE => Action::Delay(Duration::from_secs(5)),
        _ => Action::Pass,
    });
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    let mut command =
        scene
            .folder
            .command(&["run", "failover.rhai", "--execute", "--confirm", &digest]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while scene.dr.request_count(PRODUCE) == 0 {
        assert!(Instant::now() < deadline, "no record was ever sent");
        tokio::task::yield_now().await;
    }
    let killed = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}\n{error}");
    assert!(text.contains("interrupted"), "{text}\n{error}");
    assert_eq!(scene.dr.groups(), Vec::<String>::new());
    let history = scene.kbr(&["history"]).expect(0).stdout;
    assert!(
        history.lines().nth(1).unwrap().ends_with("interrupted"),
        "{history}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_runs_are_json_documents_with_exact_numbers() {
    let scene = Scene::backed_up().await;
    let words = ["run", "failover.rhai", "--output", "json"];
    let ran = scene.kbr(&words).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["schema"], "kbr.plan/1");
    assert_eq!(plan["gated"], true);
    let digest = plan["digest"].as_str().unwrap().to_string();
    let mut words = words.to_vec();
    words.extend(["--execute", "--confirm", &digest]);
    let ran = scene.kbr(&words).expect(0);
    let run: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(run["schema"], "kbr.run/1");
    assert_eq!((&run["end"], &run["exit"]), (&"done".into(), &0.into()));
    assert_eq!(run["plan"]["digest"], digest.as_str());
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_go_into_the_plan_and_into_the_command_to_repeat() {
    let scene = Scene::backed_up().await;
    let at = "2026-01-01T00:00:00Z";
    let ran = scene
        .kbr(&["run", "failover.rhai", "--", "--at", at])
        .expect(0);
    assert!(
        ran.stdout.trim_end().ends_with(&format!("-- --at {at}")),
        "{}",
        ran.stdout
    );
    let other = scene.kbr(&["run", "failover.rhai"]).expect(0);
    assert_ne!(ran.digest(), other.digest());
    let ran = scene
        .kbr(&["run", "failover.rhai", "--", "--att", at])
        .expect(2);
    assert!(ran.stderr.contains("did you mean"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_topic_that_holds_records_is_gated_even_if_the_script_forgets() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    scene.dr.append("orders_dr", 0, &batch("other")).unwrap();
    let only_restore = cli_scene::FAILOVER.split("let moved").next().unwrap();
    scene.folder.write("restore.rhai", only_restore);
    let ran = scene.kbr(&["run", "restore.rhai"]).expect(0);
    assert!(
        ran.stdout.contains("asks first: orders_dr holds 1 record"),
        "{}",
        ran.stdout
    );
    let ran = scene.kbr(&["run", "restore.rhai", "--execute"]).expect(3);
    assert!(ran.stderr.contains("error[E0404]: "), "{}", ran.stderr);
    assert_eq!(scene.dr.end_offset("orders_dr", 0).unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_moved_after_the_plan_is_drift() {
    let scene = Scene::backed_up().await;
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    let ran = scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(4);
    assert!(ran.stderr.contains("error[E0405]: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
    assert_eq!(scene.dr.end_offset("orders_dr", 0).unwrap().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_into_one_topic_are_blocked_before_the_first_writes() {
    let scene = Scene::backed_up().await;
    let twice = r#"let snap = store("file:archive").latest();
let dr = cluster("dr");
restore(snap).topics("orders").to(dr);
restore(snap).topics("orders").before("2030-01-01T00:00:00Z").to(dr);
"#;
    scene.folder.write("twice.rhai", twice);
    let ran = scene.kbr(&["run", "twice.rhai", "--execute"]);
    assert_ne!(ran.code, 0, "{}", ran.text());
    let text = ran.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .contains("an earlier step of this runbook writes into orders already"),
        "{text}"
    );
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_at_an_archived_record_that_its_source_has_deleted_since() {
    let scene = Scene::backed_up().await;
    scene.prod.delete_records("orders", 0, 4).unwrap();
    scene.prod.append("orders", 0, &batch("order-5")).unwrap();
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(0);
    // Committed 3, log start 4 at the source by now; the archive has record 3.
    scene.assert_moved();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_moved_twice_is_blocked_before_anything_is_done() {
    let scene = Scene::backed_up().await;
    let twice = format!("{}moved.reset();\n", cli_scene::FAILOVER);
    scene.folder.write("twice.rhai", &twice);
    let ran = scene.kbr(&["run", "twice.rhai", "--execute"]);
    assert_ne!(ran.code, 0, "{}", ran.text());
    let text = ran.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .contains("an earlier step of this runbook moves group checkout-api already"),
        "{text}"
    );
    scene.assert_dr_untouched();
}

const HOLES: &str = r#"restore(store("file:archive").latest())
    .filter(|r| r.key != "order-1" && r.key != "order-4")
    .remap(#{ "orders": "orders_dr" })
    .to(cluster("dr"));
"#;

fn run_id(ran: &cli_scene::Ran) -> String {
    let id = regex::Regex::new(r"run (\d{8}-\d{4}-[a-z]\d)").unwrap();
    id.captures(&ran.stdout).expect("a run id")[1].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_each_record_went_is_kept_and_told_in_every_form() {
    let scene = Scene::backed_up().await;
    scene.folder.write("holes.rhai", HOLES);
    let run = run_id(&scene.kbr(&["run", "holes.rhai", "--execute"]).expect(0));
    let told = |words: &[&str]| {
        let words = [&["show-offset-mapping", &run], words].concat();
        scene.kbr(&words).expect(0).stdout
    };
    // Of offsets 0 to 4 those of order-1 and order-4 are left out.
    assert_eq!(
        told(&["--output", "csv"]),
        "source_topic,source_partition,source_from,source_to,target_topic,target_partition,target_from,target_to,records\n\
         orders,0,0,1,orders_dr,0,0,1,1\n\
         orders,0,2,4,orders_dr,0,1,3,2\n\
         orders,1,0,1,orders_dr,1,0,1,1\n\
         orders,1,2,4,orders_dr,1,1,3,2\n"
    );
    let json: serde_json::Value = serde_json::from_str(&told(&["--output", "json"])).unwrap();
    assert_eq!(json["schema"], "kbr.offset_mapping/1");
    assert_eq!(json["routes"][1]["records"], 3);
    assert_eq!(json["routes"][1]["runs"][1]["target_to"], 3);
    let table = told(&["--topic", "orders", "--partition", "1", "--limit", "1"]);
    assert!(
        table.contains("orders-1 → orders_dr-1   3 records in 2 runs, source read to 5"),
        "{table}"
    );
    assert!(
        table.contains("… 1 more") && !table.contains("orders-0"),
        "{table}"
    );
    for (offset, wanted) in [
        ("0", "0 → 0   the same record"),
        ("1", "1 → 1   not restored; the next that was is 2"),
        ("4", "4 → 3   behind the last restored record"),
        (
            "5",
            "5 → 3   behind the last record; the source was read to 5",
        ),
    ] {
        let line = told(&["--partition", "0", "--offset", offset]);
        assert_eq!(line, format!("orders-0 → orders_dr-0   {wanted}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_not_there_or_not_the_one_written_is_refused_by_name() {
    let scene = Scene::new().await;
    let backup = run_id(&scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0));
    let none = scene.kbr(&["show-offset-mapping", &backup]).expect(1);
    assert!(none.stderr.contains("error[E0604]"), "{}", none.stderr);

    scene.folder.write("holes.rhai", HOLES);
    let run = run_id(&scene.kbr(&["run", "holes.rhai", "--execute"]).expect(0));
    let words = ["show-offset-mapping", &run, "--topic", "payments"];
    let none = scene.kbr(&words).expect(2);
    assert!(
        none.stderr.contains("orders-0 → orders_dr-0"),
        "{}",
        none.stderr
    );

    let journal = scene.folder.path().join("state/journal.db");
    rusqlite::Connection::open(journal)
        .unwrap()
        .execute_batch(
            "UPDATE mappings SET bytes = (SELECT bytes FROM mappings m WHERE m.source_partition = 1)
             WHERE source_partition = 0; UPDATE mappings SET digest = replace(digest, 'a', 'b')",
        )
        .unwrap();
    let damaged = scene.kbr(&["show-offset-mapping", &run]).expect(5);
    assert!(
        damaged.stderr.contains("error[E0605]"),
        "{}",
        damaged.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_offsets_and_headers_are_chosen_in_a_runbook() {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "routes.rhai",
        r#"restore(store("file:archive").latest())
    .partitions("orders", "1")
    .offsets("orders", 1, 1..4)
    .remap_partitions(#{ "1": 0 })
    .prefix("dr-")
    .origin_headers(true)
    .set_header("restored-by", "drill")
    .to(cluster("dr"));
"#,
    );
    let run = run_id(&scene.kbr(&["run", "routes.rhai", "--execute"]).expect(0));
    let found = scene.dr.records("dr-orders", 0).unwrap();
    let keys: Vec<&[u8]> = found.iter().map(|r| r.key.as_deref().unwrap()).collect();
    assert_eq!(keys, [&b"order-1"[..], b"order-2", b"order-3"]);
    let headers: Vec<(String, String)> = found[2]
        .headers
        .iter()
        .map(|(name, value)| {
            let value = value.clone().unwrap_or_default();
            (
                String::from_utf8(name.clone()).unwrap(),
                String::from_utf8(value).unwrap(),
            )
        })
        .collect();
    let text = |name: &str, value: &str| (name.to_string(), value.to_string());
    // What is set stands before what is added of the origin.
    assert_eq!(
        headers,
        [
            text("restored-by", "drill"),
            text("x-original-offset", "3"),
            text("x-original-partition", "1"),
            text("x-original-timestamp", &found[2].timestamp.to_string()),
            text("x-source-cluster", scene.prod.cluster_id()),
        ]
    );
    let words = ["show-offset-mapping", &run, "--output", "csv"];
    let mapping = scene.kbr(&words).expect(0).stdout;
    assert!(
        mapping.ends_with("\norders,1,1,4,dr-orders,0,0,3,3\n"),
        "{mapping}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_every_record_goes_where_kafkas_partitioner_sends_its_key() {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "keys.rhai",
        r#"restore(store("file:archive").latest()).repartition(3).to(cluster("dr"));"#,
    );
    scene.kbr(&["run", "keys.rhai", "--execute"]).expect(0);
    let mut found = Vec::new();
    for partition in 0..3 {
        for record in scene.dr.records("orders", partition).unwrap() {
            found.push((String::from_utf8(record.key.unwrap()).unwrap(), partition));
        }
    }
    found.sort();
    // Kafka's own murmur2 of these keys, by three; each key is in both partitions of the source.
    let places = [
        ("order-0", 1),
        ("order-1", 1),
        ("order-2", 0),
        ("order-3", 0),
        ("order-4", 2),
    ];
    let wanted: Vec<(String, i32)> = places
        .iter()
        .flat_map(|(key, partition)| [(key.to_string(), *partition), (key.to_string(), *partition)])
        .collect();
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_a_time_a_topic_is_what_it_was_then_also_where_it_was_made_anew_since() {
    let scene = Scene::backed_up().await;
    let after_first = kbr::base::time::now();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    scene.prod.delete_topic("orders").unwrap();
    scene.prod.create_topic("orders", 1, &[]).unwrap();
    scene.prod.append("orders", 0, &batch("another")).unwrap();
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let restore = |name: &str, chosen: &str, prefix: &str| {
        let script = format!(
            "restore(store(\"file:archive\").{chosen}).prefix(\"{prefix}\").to(cluster(\"dr\"));\n"
        );
        scene.folder.write(name, &script);
        scene.kbr(&["run", name, "--execute"])
    };
    let keys = |topic: &str, partition: i32| -> Vec<String> {
        let records = scene.dr.records(topic, partition).unwrap();
        let key = |at: usize| String::from_utf8(records[at].key.clone().unwrap()).unwrap();
        (0..records.len()).map(key).collect()
    };
    let then = format!("at({})", after_first.0);
    restore("then.rhai", &then, "then.").expect(0);
    let first: Vec<String> = (0..5).map(|order| format!("order-{order}")).collect();
    for partition in 0..2 {
        assert_eq!(keys("then.orders", partition), first);
    }
    restore("now.rhai", "latest()", "now.").expect(0);
    assert_eq!(keys("now.orders", 0), ["another"]);
    assert!(scene.dr.records("now.orders", 1).is_err());
    // Before the first backup there is nothing to go back to.
    let before = restore("before.rhai", "at(\"2020-01-01T00:00:00Z\")", "before.");
    assert_ne!(before.code, 0);
    let text = before.text();
    assert!(
        text.contains("E0365") && text.contains("the oldest is of"),
        "{text}"
    );
}
