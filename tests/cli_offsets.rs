//! Groups of a live cluster, moved from runbooks against the sandbox: what is planned, asked, moved and refused.

mod cli_scene;

use cli_scene::{Scene, batch};

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

fn runbook(options: &str) -> String {
    format!("let moved = offset_plan(cluster(\"dr\")){options};\nprint(moved);\nmoved.reset();\n")
}

/// Plans, and does it with the word that the plan asks for.
#[track_caller]
fn moved(scene: &Scene, options: &str) -> String {
    scene.folder.write("move.rhai", &runbook(options));
    let plan = scene.kbr(&["run", "move.rhai"]).expect(0);
    let digest = plan.digest();
    scene
        .kbr(&["run", "move.rhai", "--execute", "--confirm", &digest])
        .expect(0)
        .text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_group_moves_where_the_strategy_says_and_nothing_moves_unasked() {
    let scene = scene().await;
    scene.folder.write(
        "move.rhai",
        &runbook(".groups(\"audit\").strategy(\"earliest\")"),
    );
    let plan = scene.kbr(&["run", "move.rhai"]).expect(0).text();
    assert!(plan.contains("the oldest record; re-reads 4"), "{plan}");
    assert!(
        plan.contains("2 partitions   re-reads 10   lag after 20"),
        "{plan}"
    );
    assert!(
        plan.contains("moves committed offsets of 1 group"),
        "{plan}"
    );
    // Without a word for the gate nothing happens.
    scene.kbr(&["run", "move.rhai", "--execute"]).expect(3);
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
    moved(&scene, ".groups(\"audit\").strategy(\"earliest\")");
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 0)]);
    moved(
        &scene,
        ".groups(\"audit\").partitions(\"*\", 1).strategy(\"shift-by\", 3)",
    );
    assert_eq!(scene.committed("audit"), [(0, 0), (1, 3)]);
    moved(&scene, ".groups(\"aud*\").strategy(\"latest\")");
    assert_eq!(scene.committed("audit"), [(0, 10), (1, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_place_blocks_all_or_is_left_alone_as_the_runbook_says() {
    let scene = scene().await;
    scene.dr.set_committed("audit", "gone", 0, 7, "");
    let options = ".groups(\"audit\").strategy(\"shift-by\", -5)";
    scene.folder.write("move.rhai", &runbook(options));
    let plan = scene.kbr(&["run", "move.rhai"]).expect(0).text();
    assert!(plan.contains("the cluster has no such partition"), "{plan}");
    assert!(plan.contains("-1 lies before the log's start 0"), "{plan}");
    assert_ne!(scene.kbr(&["run", "move.rhai", "--execute"]).code, 0);
    assert_eq!(scene.committed("audit").len(), 3);
    let text = moved(
        &scene,
        &format!("{options}.unplaced(\"leave\").out_of_range(\"clamp\")"),
    );
    assert!(text.contains("left alone: audit on gone"), "{text}");
    let offsets = scene.dr.committed("audit");
    let at = |topic: &str, partition| offsets[&(topic.to_string(), partition)].offset.0;
    assert_eq!((at("gone", 0), at("orders", 0), at("orders", 1)), (7, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_only_when_that_is_said() {
    let scene = scene().await;
    let options = ".groups(\"audit-2\").strategy(\"to-group\", \"audit\")";
    scene.folder.write("move.rhai", &runbook(options));
    let plan = scene.kbr(&["run", "move.rhai"]).expect(0).text();
    assert!(
        plan.contains("no group is called audit-2; did you mean audit?"),
        "{plan}"
    );
    moved(&scene, &format!("{options}.new_groups(true)"));
    assert_eq!(scene.committed("audit-2"), [(0, 4), (1, 6)]);
    let offsets = scene.dr.committed("audit-2");
    assert_eq!(offsets[&("orders".to_string(), 0)].metadata, "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_out_to_a_file_and_come_back_from_it() {
    let scene = scene().await;
    let words = [
        "eval",
        "print(offset_plan(cluster(\"dr\")).groups(\"audit\").exported(\"csv\"))",
    ];
    let csv = scene.kbr(&words).expect(0).stdout;
    assert_eq!(csv, "audit,orders,0,4\naudit,orders,1,6\n");
    scene.folder.write("rows.csv", &csv);
    moved(&scene, ".groups(\"audit\").strategy(\"to-offset\", 9)");
    moved(&scene, ".strategy(\"manual\", \"rows.csv\")");
    assert_eq!(scene.committed("audit"), [(0, 4), (1, 6)]);
    scene
        .folder
        .write("rows.csv", "audit,orders,0,4\naudit,orders,one,6\n");
    let wrong = scene.kbr(&["run", "move.rhai"]).expect(2).text();
    assert!(wrong.contains("error[E0231]"), "{wrong}");
    assert!(
        wrong.contains("rows.csv: line 2: the partition is not a number"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_that_lacks_its_value_or_its_place_says_what_it_takes() {
    let scene = scene().await;
    let cases = [
        (
            ".groups(\"audit\").strategy(\"to-offset\")",
            "takes an offset",
        ),
        (
            ".groups(\"audit\").strategy(\"earliest\", 5)",
            "takes nothing besides",
        ),
        (".groups(\"audit\").strategy(\"erliest\")", "did you mean"),
        (
            ".groups(\"audit\").strategy(\"manual\", \"nowhere.csv\")",
            "nowhere.csv",
        ),
    ];
    for (options, expected) in cases {
        scene.folder.write("move.rhai", &runbook(options));
        let text = scene.kbr(&["run", "move.rhai"]).expect(2).text();
        assert!(text.contains(expected), "{options}: {text}");
    }
}
