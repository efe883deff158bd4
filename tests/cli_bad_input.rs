//! What is wrong is said in full (what, where, why, what to do), with its exit status, and changes nothing.

mod cli_scene;
mod kafka_real_support;

use cli_scene::{Scene, batch};
use kbr::kafka::{Client, ConnectOptions, CoordinatorKind};
use std::io::Write;
use std::net::TcpListener;

/// The error as it was printed, on either stream.
#[track_caller]
fn assert_says(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_broker_address() {
    let scene = Scene::backed_up().await;
    scene.folder.clusters(&[("dr", "127.0.0.1:1")]);
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(1);
    assert_says(
        &ran.stderr,
        &[
            "error[E0310]: cannot reach cluster dr\n",
            "╭─[failover.rhai:3:12]",
            "tried     127.0.0.1:1 (connection refused",
            "from      kbr.toml:1\n",
            "nothing was changed",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_an_http_server_listens() {
    let scene = Scene::backed_up().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        // Ends with the test's process; each caller gets what a web server says to a Kafka request.
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    scene.folder.clusters(&[("dr", &address)]);
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(1);
    assert_says(
        &ran.stderr,
        &[
            "error[E0341]: cannot reach cluster dr\n",
            "HTTP",
            "from      kbr.toml:1\n",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_archive_does_not_hold() {
    let scene = Scene::backed_up().await;
    let text = cli_scene::FAILOVER.replace("(\"orders\")", "(\"order\")");
    scene.folder.write("failover.rhai", &text);
    let ran = scene.kbr(&[
        "run",
        "failover.rhai",
        "--execute",
        "--confirm",
        "000000000000",
    ]);
    scene.assert_dr_untouched();
    assert_eq!(ran.code, 1, "{}", ran.text());
    assert_says(
        &ran.stderr,
        &[
            "error[E0402]: steps 1, 2 of the plan are blocked; nothing was changed\n",
            "step 1    no topic order in generation 1 of the archive\n   now       did you mean orders?\n",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_without_a_generation_and_a_place_without_an_archive() {
    let scene = Scene::new().await;
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(1);
    assert_says(
        &ran.stderr,
        &[
            "error[E0360]: ",
            "file:",
            "is not an archive",
            "╭─[failover.rhai:2:",
            "now ",
        ],
    );
    let path = scene.folder.file("archive/generations/00000001.json");
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    std::fs::remove_file(path).unwrap();
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(1);
    assert_says(
        &ran.stderr,
        &[
            "error[E0361]: ",
            "holds no generation yet",
            "now       take a backup first",
        ],
    );
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_generation_is_exit_5_with_the_object_named() {
    let scene = Scene::backed_up().await;
    let path = scene.folder.file("archive/generations/00000001.json");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(5);
    assert_says(
        &ran.stderr,
        &[
            "error[E0362]: reading the archive file:archive: generations/00000001.json is damaged\n",
            "\n   why       ",
            "left      still restorable: ",
        ],
    );
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_script_stop_it_before_any_read() {
    let scene = Scene::new().await;
    let cases = [
        ("restore(s).befor(1)", "E0207", "did you mean `before`?"),
        ("let x = (1;", "E0001", "╭─[bad.rhai:1:"),
        ("backup(7)", "E0208", "╭─[bad.rhai:1:"),
        ("cluster(\"dr\").topcs()", "E0207", "did you mean `topics`?"),
    ];
    for (text, code, says) in cases {
        scene.folder.write(
            "bad.rhai",
            &format!("{text};\n").replace(
                "restore(s)",
                "let s = store(\"file:archive\").latest(); restore(s)",
            ),
        );
        let ran = scene.kbr(&["run", "bad.rhai", "--execute"]);
        assert_eq!(ran.code, 2, "{text}: {}", ran.text());
        assert_says(&ran.stderr, &[&format!("error[{code}]: "), says]);
    }
    scene.assert_dr_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_kbr_toml_does_not_name() {
    let scene = Scene::backed_up().await;
    scene.folder.clusters(&[("drill", "127.0.0.1:1")]);
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(2);
    assert_says(
        &ran.stderr,
        &[
            "error[E0311]: no cluster dr in kbr.toml\n",
            "╭─[failover.rhai:3:12]",
            "drill",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_group_is_blocked_with_its_members_named() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    let client = Client::connect(ConnectOptions::new(scene.dr.bootstrap()))
        .await
        .unwrap();
    let coordinator = client
        .find_coordinator(CoordinatorKind::Group, "checkout-api")
        .await
        .unwrap();
    kafka_real_support::join_classic_group(&client, coordinator, "checkout-api", "orders_dr", &[0])
        .await;
    let ran = scene.kbr(&["run", "failover.rhai"]).expect(0);
    assert_says(
        &ran.stdout,
        &[
            "checkout-api is active",
            "blocked",
            "cannot be executed while a step is blocked",
        ],
    );
    let digest = ran.digest();
    let ran = scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(1);
    assert_says(
        &ran.stderr,
        &[
            "error[E0402]: step ",
            "is blocked; nothing was changed",
            "active",
        ],
    );
    assert_eq!(scene.dr.end_offset("orders_dr", 0).unwrap().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_topic_that_holds_records_is_gated_even_if_the_script_forgets() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    scene.dr.append("orders_dr", 0, &batch("other")).unwrap();
    let text = cli_scene::FAILOVER
        .split("let moved")
        .next()
        .unwrap()
        .to_string();
    scene.folder.write("restore.rhai", &text);
    let ran = scene.kbr(&["run", "restore.rhai"]).expect(0);
    assert_says(&ran.stdout, &["asks first: ", "orders_dr"]);
    let ran = scene.kbr(&["run", "restore.rhai", "--execute"]).expect(3);
    assert_eq!(scene.dr.end_offset("orders_dr", 0).unwrap().0, 1);
    assert_says(&ran.stderr, &["error[E0404]: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_moved_after_the_plan_is_drift() {
    let scene = Scene::backed_up().await;
    let digest = scene.kbr(&["run", "failover.rhai"]).expect(0).digest();
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    let ran = scene
        .kbr(&["run", "failover.rhai", "--execute", "--confirm", &digest])
        .expect(4);
    assert_says(&ran.stderr, &["error[E0405]: ", "nothing was changed"]);
    assert_eq!(scene.dr.end_offset("orders_dr", 0).unwrap().0, 0);
}
