//! Groups of a live cluster deleted, stripped of offsets, copied and made, from runbooks against the sandbox; and taken back.

mod cli_scene;
#[path = "support/member.rs"]
mod member;

use cli_scene::{Ran, Scene, batch};
use member::Member;

/// `dr` holds ten records in each of two partitions of two topics; `audit` is on both, `late` on one.
async fn scene() -> Scene {
    let scene = Scene::new().await;
    for topic in ["orders", "payments"] {
        scene.dr.create_topic(topic, 2, &[]).unwrap();
        for partition in 0..2 {
            for order in 0..10 {
                let batch = batch(&format!("order-{order}"));
                scene.dr.append(topic, partition, &batch).unwrap();
            }
        }
    }
    scene.dr.set_committed("audit", "orders", 0, 4, "by hand");
    scene.dr.set_committed("audit", "orders", 1, 6, "");
    scene.dr.set_committed("audit", "payments", 0, 5, "");
    scene.dr.set_committed("late", "orders", 0, 1, "");
    scene
}

fn address(scene: &Scene) -> String {
    scene.dr.bootstrap().remove(0)
}

/// Plans with these words, does it with the digest that the plan has, and tells the run's id.
#[track_caller]
fn done(scene: &Scene, words: &[&str]) -> String {
    let digest = scene.kbr(words).expect(0).digest();
    let all = [words, &["--execute", "--confirm", &digest]].concat();
    let ran = scene.kbr(&all).expect(0);
    let run = ran.stdout.split("report: kbr show ").nth(1);
    let run = run.and_then(|rest| rest.split_whitespace().next());
    run.unwrap_or_else(|| panic!("{}", ran.stdout)).to_string()
}

#[track_caller]
fn planned(scene: &Scene, verb: &str) -> Ran {
    let script = format!("let dr = cluster(\"dr\");\n{verb}\n");
    scene.folder.write("groups.rhai", &script);
    scene.kbr(&["run", "groups.rhai"]).expect(0)
}

#[track_caller]
fn ran(scene: &Scene, verb: &str) -> String {
    planned(scene, verb);
    done(scene, &["run", "groups.rhai"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_is_gone_and_undo_commits_what_it_had() {
    let scene = scene().await;
    let before = scene.dr.committed("audit");
    let verb = "dr.delete_groups(\"audit\", \"la*\");";
    let plan = planned(&scene, verb).text();
    assert!(
        plan.contains("1  delete   group audit  3 committed offsets   on 2 topics"),
        "{plan}"
    );
    assert!(
        plan.contains("asks first: deletes 2 groups with 4 committed offsets"),
        "{plan}"
    );
    assert_eq!(scene.kbr(&["run", "groups.rhai", "--execute"]).code, 3);
    assert_eq!(scene.dr.groups(), ["audit", "late"]);
    let run = ran(&scene, verb);
    assert_eq!(scene.dr.groups(), Vec::<String>::new());
    let text = scene.kbr(&["undo", &run]).expect(0).text();
    assert!(text.contains("1  reset    audit"), "{text}");
    let back = done(&scene, &["undo", &run]);
    assert_eq!(scene.dr.committed("audit"), before);
    assert_eq!(scene.committed("late"), [(0, 1)]);
    // Which takes them away again, offset by offset.
    done(&scene, &["undo", &back]);
    assert_eq!(scene.committed("audit"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_is_refused_with_their_names() {
    let scene = scene().await;
    let member = Member::join(&address(&scene), "audit", "orders").await;
    let plan = planned(&scene, "dr.delete_groups(\"audit\", \"late\");").text();
    assert!(
        plan.contains("group audit is active: kbr (127.0.0.1), subscribed to orders"),
        "{plan}"
    );
    assert_eq!(scene.kbr(&["run", "groups.rhai", "--execute"]).code, 1);
    assert_eq!(scene.dr.groups(), ["audit", "late"]);
    let reads = "offset_plan(dr).groups(\"audit\").topics(\"orders\").delete_offsets();";
    let plan = planned(&scene, reads).text();
    assert!(plan.contains("group audit is active"), "{plan}");
    // What its members do not read may go.
    ran(
        &scene,
        "offset_plan(dr).groups(\"audit\").topics(\"payments\").delete_offsets();",
    );
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
    // One that comes between plan and execution is found, too.
    member.leave().await;
    let digest = planned(&scene, "dr.delete_groups(\"audit\");").digest();
    let member = Member::join(&address(&scene), "audit", "orders").await;
    let words = ["run", "groups.rhai", "--execute", "--confirm", &digest];
    let text = scene.kbr(&words).text();
    assert!(text.contains("audit is active"), "{text}");
    member.leave().await;
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_blocks_a_group_stands_under_that_group() {
    let scene = scene().await;
    let early = Member::join(&address(&scene), "audit", "orders").await;
    let late = Member::join(&address(&scene), "late", "orders").await;
    scene.dr.set_committed("still", "orders", 0, 1, "");
    // Lines of a group, and what is said below each.
    let blocks = |verb: &str| {
        let text = planned(&scene, verb).stdout;
        let lines = text.lines().map(str::trim);
        let lines = lines.map(|line| line.trim_start_matches("1  delete").trim());
        let wanted = [
            "audit ",
            "late ",
            "still ",
            "group audit",
            "group late",
            "group still",
            "no group",
        ];
        let lines = lines.filter(|line| wanted.iter().any(|word| line.starts_with(word)));
        let lines = lines.take_while(|line| !line.starts_with("group audit is active on"));
        let words = lines.map(|line| {
            line.split_whitespace()
                .take(4)
                .collect::<Vec<_>>()
                .join(" ")
        });
        words.collect::<Vec<_>>()
    };
    assert_eq!(
        blocks("dr.delete_groups(\"*\", \"nosuch\");"),
        [
            "group audit 3 committed",
            "group audit is active:",
            "group late 1 committed",
            "group late is active:",
            "group still 1 committed",
            "no group",
            "no group matches nosuch",
        ]
    );
    early.leave().await;
    late.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_topic_go_and_come_back_and_drift_is_found() {
    let scene = scene().await;
    let verb =
        "offset_plan(dr).groups(\"*\").topics(\"orders\").partitions(\"*\", 0).delete_offsets();";
    let plan = planned(&scene, verb);
    let text = plan.text();
    assert!(
        text.contains("deletes 2 committed offsets of 2 groups"),
        "{text}"
    );
    scene.dr.set_committed("late", "orders", 0, 2, "");
    // The plan is made anew by `run`, so a saved one shows it.
    let file = scene.folder.file("plan.json").display().to_string();
    let saved = scene
        .kbr(&["run", "groups.rhai", "--save", &file])
        .expect(0);
    scene.dr.set_committed("late", "orders", 0, 3, "");
    let digest = saved.digest();
    let apply = ["apply", &file, "--execute", "--confirm", &digest];
    let drift = scene.kbr(&apply).expect(4).text();
    assert!(
        drift.contains("group late on orders-0 was at 2 and is at 3"),
        "{drift}"
    );
    let run = ran(&scene, verb);
    assert_eq!(scene.committed("audit"), [(1, 6), (0, 5)]);
    assert_eq!(scene.committed("late"), []);
    done(&scene, &["undo", &run]);
    let offsets = scene.dr.committed("audit");
    assert_eq!(offsets[&("orders".to_string(), 0)].metadata, "by hand");
    assert_eq!(scene.committed("late"), [(0, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_in_vain_blocks_and_a_restores_plan_deletes_nothing() {
    let scene = scene().await;
    let cases = [
        (
            "dr.delete_groups(\"audits\");",
            "no group is called audits; did you mean audit?",
        ),
        ("dr.delete_groups(\"/^x/\");", "no group matches /^x/"),
        ("offset_plan(dr).delete_offsets();", "no group is chosen"),
        (
            "offset_plan(dr).groups(\"late\").topics(\"payments\").delete_offsets();",
            "no selected group has committed anything on payments",
        ),
        (
            "dr.delete_groups(\"late\"); dr.delete_groups(\"la*\");",
            "an earlier step of this runbook changes group late already",
        ),
    ];
    for (verb, expected) in cases {
        let text = planned(&scene, verb).text();
        assert!(
            text.contains(expected) && text.contains("blocked"),
            "{verb}: {text}"
        );
    }
    scene
        .folder
        .write("groups.rhai", "dr.delete_groups(\"late\")");
    let words = ["eval", "cluster(\"dr\").delete_groups(\"late\")"];
    assert!(scene.kbr(&words).expect(2).text().contains("E0218"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_copied_or_made_and_the_plan_says_how_long_it_lasts() {
    let scene = scene().await;
    let plan = planned(&scene, "dr.copy_group(\"audit\", \"audit-2\").reset();").text();
    // Broken between words.
    let plan = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        plan.contains(
            "group audit-2 is made by this commit: without members brokers drop it after 7"
        ),
        "{plan}"
    );
    let run = ran(&scene, "dr.copy_group(\"audit\", \"audit-2\").reset();");
    assert_eq!(scene.dr.committed("audit-2"), scene.dr.committed("audit"));
    done(&scene, &["undo", &run]);
    assert_eq!(scene.committed("audit-2"), []);
    ran(
        &scene,
        "offset_plan(dr).groups(\"new\").topics(\"orders\").strategy(\"latest\").new_groups(true).reset();",
    );
    assert_eq!(scene.committed("new"), [(0, 10), (1, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_under_its_members_only_by_force_which_is_asked_by_itself() {
    let scene = scene().await;
    let member = Member::join(&address(&scene), "audit", "orders").await;
    let move_to = |options: &str| {
        format!(
            "let moved = offset_plan(dr).groups(\"audit\", \"late\").topics(\"orders\").strategy(\"earliest\"){options};\n\
             confirm(\"Move them?\");\nmoved.reset();"
        )
    };
    let plan = planned(&scene, &move_to("")).text();
    assert!(plan.contains("group audit is active"), "{plan}");
    let forced = move_to(".force(true)");
    let plan = planned(&scene, &forced);
    let text = plan.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("asks first: moves audit under its members"),
        "{text}"
    );
    assert!(
        text.contains(
            "forced: audit has members: kbr (127.0.0.1), subscribed to orders. Their next commit overwrites this."
        ),
        "{text}"
    );
    // The word of the confirm is not the word for this.
    let words = ["run", "groups.rhai", "--execute"];
    let refused = scene.at_terminal(&words, "yes\ndr\n\n");
    assert_eq!(refused.code, 3, "{}", refused.text());
    assert!(
        refused.stdout.contains("Type force to go on"),
        "{}",
        refused.text()
    );
    assert_eq!(
        scene.dr.committed("audit")[&("orders".to_string(), 0)]
            .offset
            .0,
        4
    );
    // Where its members have committed meanwhile is no drift, and is what an undo puts back.
    let digest = plan.digest();
    scene.dr.set_committed("audit", "orders", 0, 5, "by hand");
    assert_eq!(planned(&scene, &forced).digest(), digest);
    let run = done(&scene, &["run", "groups.rhai"]);
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 0), (0, 5)]);
    member.leave().await;
    done(&scene, &["undo", &run]);
    let back = &scene.dr.committed("audit")[&("orders".to_string(), 0)];
    assert_eq!((back.offset.0, back.metadata.as_str()), (5, "by hand"));
    assert_eq!(scene.committed("late"), [(0, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_not_there_when_force_was_planned_is_still_refused() {
    let scene = scene().await;
    let member = Member::join(&address(&scene), "audit", "orders").await;
    let file = scene.folder.file("plan.json").display().to_string();
    planned(
        &scene,
        "offset_plan(dr).groups(\"audit\", \"late\").topics(\"orders\").strategy(\"earliest\").force(true).reset();",
    );
    let saved = scene
        .kbr(&["run", "groups.rhai", "--save", &file])
        .expect(0);
    let late = Member::join(&address(&scene), "late", "orders").await;
    let digest = saved.digest();
    let text = scene
        .kbr(&["apply", &file, "--execute", "--confirm", &digest])
        .expect(1)
        .text();
    assert!(text.contains("group late is active"), "{text}");
    assert_eq!(scene.committed("late"), [(0, 1)]);
    late.leave().await;
    scene
        .kbr(&["apply", &file, "--execute", "--confirm", &digest])
        .expect(0);
    assert_eq!(scene.committed("late"), [(0, 0), (1, 0)]);
    member.leave().await;
}
