//! Bad input as an operator meets it: each case is a session at a terminal, written down whole under
//! `bad_input/sessions`: what was typed, what kbr answered (what, where, why, what to do), the exit status. And
//! nothing was changed: clusters and files are compared before and after.
//!
//! The clusters are sandboxes of this process on loopback ports; kbr is the real binary.

#[path = "bad_input/consumer.rs"]
mod consumer;
#[path = "bad_input/processes.rs"]
mod processes;
#[path = "bad_input/scene.rs"]
mod scene;
mod support;

use consumer::Consumer;
use processes::{HttpServer, refused_port};
use scene::{Scene, batch};

const RESTORE: &str = r#"let snap = store("file:archive").latest();
restore(snap).topics("orders").to(cluster("dr"));
"#;

const RESET: &str = r#"let snap = store("file:archive").latest();
let data = restore(snap)
    .topics("orders")
    .remap(#{ "orders": "orders_dr" })
    .to(cluster("dr"));
let moved = offset_plan(data).groups("checkout-*");
confirm("Move the groups?");
moved.reset();
"#;

// ── clusters that cannot be reached

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nothing_listens() {
    let scene = Scene::new().await;
    let toml = format!(
        "[clusters.dr]\nbootstrap = \"127.0.0.1:{}\"\n",
        refused_port()
    );
    scene
        .session("port_refused")
        .file("kbr.toml", &toml)
        .file(
            "topics.rhai",
            "let dr = cluster(\"dr\");\nprint(dr.topics());\n",
        )
        .refused(&["run", "topics.rhai"], 1)
        .refused(&["run", "topics.rhai", "--output", "json"], 1)
        .refused(&["run", "topics.rhai", "--execute"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_that_does_not_resolve() {
    let scene = Scene::new().await;
    scene
        .session("host_unknown")
        .file(
            "kbr.toml",
            "[clusters.dr]\nbootstrap = [\"b1.kbr.invalid:9092\", \"b2.kbr.invalid:9092\"]\n",
        )
        .refused(&["eval", "cluster(\"dr\").topics()"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_port() {
    let scene = Scene::new().await;
    scene
        .session("address_without_port")
        .file("kbr.toml", "[clusters.dr]\nbootstrap = \"b1.prod\"\n")
        .refused(&["eval", "cluster(\"dr\").topics()"], 2)
        .file("kbr.toml", "")
        .refused(&["eval", "cluster(\"b1.prod:90920\")"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_an_http_server() {
    let scene = Scene::new().await;
    let server = HttpServer::start();
    let toml = format!("[clusters.dr]\nbootstrap = \"{}\"\n", server.address);
    scene
        .session("http_server")
        .file("kbr.toml", &toml)
        .refused(&["eval", "cluster(\"dr\").topics()"], 1)
        .refused(&["eval", "cluster(\"dr\").topics()", "--output", "json"], 1)
        .ends();
}

// ── names that are not there

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_archive_does_not_have() {
    let scene = Scene::backed_up().await;
    scene
        .session("topic_not_in_archive")
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nrestore(snap).topics(\"ordres\", \"payments-*\").to(cluster(\"dr\"));\n",
        )
        .refused(&["run", "dr.rhai"], 0)
        .refused(&["run", "dr.rhai", "--execute"], 1)
        .refused(&["run", "dr.rhai", "--execute", "--output", "json"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_cluster_does_not_have() {
    let scene = Scene::new().await;
    scene
        .session("topic_not_on_cluster")
        .file(
            "backup.rhai",
            "backup(cluster(\"prod\")).topics(\"ordres\").to(store(\"file:archive\"));\n",
        )
        .refused(&["run", "backup.rhai"], 0)
        .refused(&["run", "backup.rhai", "--execute"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_or_store_that_kbr_toml_does_not_have() {
    let scene = Scene::new().await;
    scene
        .session("name_not_in_kbr_toml")
        .file(
            "kbr.toml",
            "[clusters.dr-frankfurt]\nbootstrap = \"127.0.0.1:9\"\n\n[stores.prod]\nurl = \"file:archive\"\n",
        )
        .refused(&["eval", "cluster(\"dr-frankfrut\")"], 2)
        .refused(&["eval", "cluster(\"staging\")"], 2)
        .refused(&["eval", "store(\"prd\")"], 2)
        .file("kbr.toml", "")
        .refused(&["eval", "cluster(\"staging\")"], 2)
        .refused(&["eval", "store(\"prod\")"], 2)
        .refused(&["eval", "store(\"prod\")", "--output", "json"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_kbr_toml_does_not_know() {
    let scene = Scene::new().await;
    scene
        .session("key_not_known")
        .file("kbr.toml", "[clusters.dr]\nbootstrp = \"127.0.0.1:9\"\n")
        .refused(&["eval", "1"], 2)
        .file("kbr.toml", "[cluster.dr]\nbootstrap = \"127.0.0.1:9\"\n")
        .refused(&["eval", "1"], 2)
        .file("kbr.toml", "[clusters.dr]\nbootstrap = 9092\n")
        .refused(&["eval", "1"], 2)
        .file("kbr.toml", "[clusters.dr\nbootstrap = \"127.0.0.1:9\"\n")
        .refused(&["eval", "1"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_variable_that_is_not_set() {
    let scene = Scene::new().await;
    scene
        .session("variable_not_set")
        .file(
            "kbr.toml",
            "[clusters.dr]\nbootstrap = \"${KBR_TEST_NEVER_SET}\"\n",
        )
        .refused(&["eval", "1"], 2)
        .file("kbr.toml", "")
        .file(
            "a.rhai",
            "let password = env(\"KBR_TEST_NEVER_SET\");\nprint(password);\n",
        )
        .refused(&["run", "a.rhai"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_the_runbook_does_not_declare() {
    let scene = Scene::new().await;
    scene
        .session("argument_not_declared")
        .file(
            "a.rhai",
            "params(#{ at: \"restore records before this time\" });\nprint(args.att);\n",
        )
        .refused(&["run", "a.rhai"], 2)
        .file(
            "a.rhai",
            "params(#{ at: \"restore records before this time\" });\nprint(args.at);\n",
        )
        .refused(&["run", "a.rhai", "--", "--att", "latest"], 2)
        .refused(&["run", "a.rhai", "--", "--before", "latest"], 2)
        .file("b.rhai", "print(args.at);\n")
        .refused(&["run", "b.rhai"], 2)
        .refused(&["run", "b.rhai", "--", "--at", "latest"], 2)
        .ends();
}

// ── archives

#[tokio::test(flavor = "multi_thread")]
async fn a_place_without_an_archive() {
    let scene = Scene::new().await;
    scene
        .session("not_an_archive")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 1)
        .file("archive/notes.txt", "the archive is on the other disk\n")
        .refused(&["run", "dr.rhai"], 1)
        .refused(&["eval", "store(\"s3://bucket/archive\").latest()"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_without_a_generation() {
    let scene = Scene::backed_up().await;
    std::fs::remove_file(scene.one_file("/generations/")).unwrap();
    scene
        .session("archive_empty")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 1)
        .refused(&["run", "dr.rhai", "--output", "json"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_with_a_flipped_byte() {
    let scene = Scene::backed_up().await;
    let path = scene.one_file("/generations/");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"orders\"", "\"orderz\"", 1)).unwrap();
    scene
        .session("generation_flipped")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 5)
        .refused(&["run", "dr.rhai", "--execute"], 5)
        .refused(&["run", "dr.rhai", "--output", "json"], 5)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_cut() {
    let scene = Scene::backed_up().await;
    let path = scene.one_file("/generations/");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..100]).unwrap();
    scene
        .session("generation_cut")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 5)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_found_while_planning_if_planning_reads_it() {
    let scene = Scene::backed_up().await;
    flip_the_first_block(&scene);
    scene
        .session("segment_damaged_planning")
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nrestore(snap)\n    .topics(\"orders\")\n    .filter(|r| r.key != \"order-1\")\n    .to(cluster(\"dr\"));\n",
        )
        .refused(&["run", "dr.rhai"], 5)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_found_during_execution_says_what_was_done() {
    let scene = Scene::backed_up().await;
    flip_the_first_block(&scene);
    scene
        .session("segment_damaged_execution")
        // Of the other partition records may or may not be there when the damage is found.
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nrestore(snap).topics(\"orders\").partitions(\"orders\", 0).to(cluster(\"dr\"));\n",
        )
        .refused(&["run", "dr.rhai"], 0)
        .ran(&["run", "dr.rhai", "--execute"], 5)
        .ends();
    let restored = scene.dr.records("orders", 0).unwrap_or_default();
    assert_eq!(restored, [], "no record of a damaged block is written");
}

fn flip_the_first_block(scene: &Scene) {
    let path = scene.one_file("/packs/");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes
        .windows(7)
        .position(|found| found == b"order-1")
        .unwrap_or(90);
    bytes[middle] ^= 0x01;
    std::fs::write(&path, bytes).unwrap();
}

// ── runbooks

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_a_verb_does_not_have() {
    let scene = Scene::backed_up().await;
    scene
        .session("option_not_known")
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nrestore(snap)\n    .topics(\"orders\")\n    .befor(\"latest\")\n    .to(cluster(\"dr\"));\n",
        )
        .refused(&["run", "dr.rhai"], 2)
        .refused(&["run", "dr.rhai", "--execute"], 2)
        .refused(&["run", "dr.rhai", "--output", "json"], 2)
        .refused(&["check", "dr.rhai"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_does_not_exist() {
    let scene = Scene::backed_up().await;
    scene
        .session("verb_not_known")
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nrestor(snap).to(cluster(\"dr\"));\n",
        )
        .refused(&["run", "dr.rhai"], 2)
        .file(
            "dr.rhai",
            "let snap = store(\"file:archive\").latest();\nfrobnicate(snap);\n",
        )
        .refused(&["run", "dr.rhai"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syntax_error() {
    let scene = Scene::backed_up().await;
    scene
        .session("syntax")
        .file("a.rhai", "let dr = cluster(\"dr\")\nprint(dr.topics());\n")
        .refused(&["run", "a.rhai"], 2)
        .file("b.rhai", "let dr = cluster(\"dr);\nprint(dr.topics());\n")
        .refused(&["run", "b.rhai"], 2)
        .file("c.rhai", "print(cluster(\"dr\").topics();\n")
        .refused(&["run", "c.rhai"], 2)
        .file("d.rhai", "let until = \"latest\";\n")
        .refused(&["run", "d.rhai"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_wrong_type() {
    let scene = Scene::backed_up().await;
    let restore = |option: &str| {
        format!(
            "let snap = store(\"file:archive\").latest();\nrestore(snap).{option}.to(cluster(\"dr\"));\n"
        )
    };
    scene
        .session("type_wrong")
        .file("a.rhai", &restore("topics(5)"))
        .refused(&["run", "a.rhai"], 2)
        .file("b.rhai", &restore("before(\"yesterday\")"))
        .refused(&["run", "b.rhai"], 2)
        .file("c.rhai", "let snap = store(\"file:archive\").latest();\nrequire(snap.age < 3600, \"too old\");\n")
        .refused(&["run", "c.rhai"], 2)
        .file("d.rhai", "restore(cluster(\"dr\")).to(cluster(\"dr\"));\n")
        .refused(&["run", "d.rhai"], 2)
        .file("e.rhai", &restore("filter(|r| r.key)"))
        .refused(&["run", "e.rhai"], 2)
        .file("f.rhai", &restore("filter(|r| r.kee != \"x\")"))
        .refused(&["run", "f.rhai"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requirement_that_is_not_met() {
    let scene = Scene::backed_up().await;
    let text = format!(
        "let snap = store(\"file:archive\").latest();\nrequire(snap.age < seconds(0), \"the newest backup is too old: run backup.rhai first\");\n{}",
        "restore(snap).to(cluster(\"dr\"));\n"
    );
    scene
        .session("requirement_not_met")
        .file("dr.rhai", &text)
        .refused(&["run", "dr.rhai"], 1)
        .refused(&["run", "dr.rhai", "--execute"], 1)
        .refused(&["run", "dr.rhai", "--output", "json"], 1)
        .ends();
}

// ── what stands in the way at the target

#[tokio::test(flavor = "multi_thread")]
async fn a_target_topic_that_holds_records_already() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders", 2, &[]).unwrap();
    scene
        .dr
        .append("orders", 0, &batch("somebody-else"))
        .unwrap();
    scene
        .session("target_holds_records")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 0)
        .refused(&["run", "dr.rhai", "--execute"], 3)
        .refused(
            &["run", "dr.rhai", "--execute", "--confirm", "000000000000"],
            4,
        )
        .refused(&["run", "dr.rhai", "--execute", "--confirm", "0000"], 2)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_topic_with_fewer_partitions() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders", 1, &[]).unwrap();
    scene
        .session("target_has_fewer_partitions")
        .file("dr.rhai", RESTORE)
        .refused(&["run", "dr.rhai"], 0)
        .refused(&["run", "dr.rhai", "--execute"], 1)
        .ends();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_active_at_the_target() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders_dr", 2, &[]).unwrap();
    let _consumer = Consumer::join(&scene.dr.bootstrap()[0], "checkout-api", "orders_dr").await;
    scene
        .session("group_active")
        .file("dr.rhai", RESET)
        .refused(&["run", "dr.rhai"], 0)
        .refused(&["run", "dr.rhai", "--execute"], 1)
        .refused(&["run", "dr.rhai", "--execute", "--output", "json"], 1)
        .ends();
}
