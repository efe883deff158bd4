//! A group with a live consumer on real brokers: its coordinator's own description stops the reset.

#[path = "bad_input/consumer.rs"]
mod consumer;
mod support;

use consumer::Consumer;
use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::{Sandbox, SandboxOptions};
use support::{Folder, RealKafka, unique};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_active_on_real_kafka() {
    let (kafka, topic, group) = tokio::task::block_in_place(|| {
        let kafka = RealKafka::target();
        let (topic, group) = (unique("orders"), unique("checkout"));
        kafka.tool(
            "kafka-topics",
            &["--create", "--topic", &topic, "--partitions", "1"],
        );
        kafka.kcat(&["-P", "-t", &topic, "-p", "0"], "a\nb\n");
        (kafka, topic, group)
    });
    let folder = Folder::new();
    let prod = Sandbox::start(SandboxOptions::named("prod")).await.unwrap();
    let mut batch = BatchBuilder::new(BuildOptions::default());
    let now = kbr::base::time::now().0;
    batch
        .push(now, Some(b"order-0"), Some(b"value"), Headers::empty())
        .unwrap();
    let batch = batch.finish(ProducerStamp::NONE).unwrap();
    prod.create_topic(&topic, 1, &[]).unwrap();
    prod.append(&topic, 0, &batch).unwrap();
    prod.set_committed(&group, &topic, 0, 1, "");
    folder
        .clusters(&[("prod", &prod.bootstrap().join(",")), ("dr", &kafka.bootstrap)])
        .write("backup.rhai", "backup(cluster(\"prod\")).to(store(\"file:archive\"));\n")
        .write(
            "dr.rhai",
            &format!(
                "let data = restore(store(\"file:archive\").latest()).topics(\"{topic}\").to(cluster(\"dr\"));\n\
                 offset_plan(data).groups(\"{group}\").reset();\n"
            ),
        );
    let kbr = |words: &[&str]| tokio::task::block_in_place(|| folder.kbr(words));
    kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    let bootstrap = kafka.bootstrap.split(',').next().unwrap().to_string();
    let _consumer = Consumer::join(&bootstrap, &group, &topic).await;
    let ends =
        || tokio::task::block_in_place(|| kafka.kcat(&["-Q", "-t", &format!("{topic}:0:-1")], ""));
    let before = ends();
    let ran = kbr(&["run", "dr.rhai", "--execute"]).expect(1);
    assert_eq!(ends(), before, "nothing was written");
    let said = ran.stderr.replace(&topic, "TOPIC").replace(&group, "GROUP");
    assert_eq!(
        said,
        "error[E0402]: step 3 of the plan is blocked; nothing was changed\n   \
         step 3    group GROUP is active: rdkafka (127.0.0.1), subscribed\n             \
         to TOPIC\n   \
         now       its next commit would overwrite the reset unseen: stop the\n             \
         consumers and run the same command again; or reset only topics they\n             \
         do not read\n"
    );
}
