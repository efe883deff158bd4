//! The sandbox as a real client sees it: kcat (librdkafka) lists, produces, consumes and joins groups.

use kbr::sandbox::{Sandbox, SandboxOptions};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs kcat to its end and returns what it printed. Fails the test if it is missing, fails or hangs.
async fn kcat(sandbox: &Sandbox, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("timeout");
    command
        .args(["30", "kcat", "-b"])
        .arg(sandbox.bootstrap().join(","))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("kcat is installed");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // kcat may end without having read all of it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("kcat ran")
    })
    .await
    .expect("no panic");
    assert!(
        output.status.success(),
        "kcat {arguments:?}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("kcat prints text")
}

async fn sandbox(brokers: usize) -> Sandbox {
    Sandbox::start(SandboxOptions {
        brokers,
        ..SandboxOptions::named("kcat")
    })
    .await
    .expect("loopback ports are free")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_lists_brokers_and_topics() {
    let sandbox = sandbox(3).await;
    sandbox.create_topic("orders", 2, &[]).expect("created");
    let listed = kcat(&sandbox, &["-L", "-t", "orders"], "").await;
    assert!(listed.contains("3 brokers:"), "{listed}");
    assert!(
        listed.contains("topic \"orders\" with 2 partitions:"),
        "{listed}"
    );
    assert!(
        listed.contains("partition 1, leader 2, replicas: 2, isrs: 2"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_reads_back_what_it_produced_with_every_codec() {
    let sandbox = sandbox(1).await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        sandbox.create_topic(codec, 1, &[]).expect("created");
        let input: String = (0..200).map(|n| format!("key-{n}:value-{n}\n")).collect();
        let compression = format!("compression.codec={codec}");
        let produce = ["-P", "-t", codec, "-K:", "-X", &compression];
        kcat(&sandbox, &produce, &input).await;
        let consume = ["-C", "-t", codec, "-e", "-q", "-K:"];
        assert_eq!(kcat(&sandbox, &consume, "").await, input, "{codec}");
        assert_eq!(sandbox.records(codec, 0).expect("readable").len(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_librdkafka_producer_is_served_across_three_brokers() {
    let sandbox = sandbox(3).await;
    sandbox.create_topic("orders", 3, &[]).expect("created");
    let input: String = (0..1000).map(|n| format!("{n}\n")).collect();
    let idempotent = "enable.idempotence=true";
    kcat(&sandbox, &["-P", "-t", "orders", "-X", idempotent], &input).await;
    let records: usize = (0..3)
        .map(|partition| {
            sandbox
                .records("orders", partition)
                .expect("readable")
                .len()
        })
        .sum();
    assert_eq!(records, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_librdkafka_consumer_joins_a_group_reads_and_commits() {
    let sandbox = sandbox(1).await;
    sandbox.create_topic("orders", 2, &[]).expect("created");
    kcat(&sandbox, &["-P", "-t", "orders", "-p", "0"], "a\nb\nc\n").await;
    let from_start = "auto.offset.reset=earliest";
    let read = kcat(
        &sandbox,
        &[
            "-G", "checkout", "-X", from_start, "-c", "3", "-q", "orders",
        ],
        "",
    )
    .await;
    assert_eq!(read, "a\nb\nc\n");
    let committed = sandbox.committed("checkout");
    assert_eq!(committed[&("orders".to_string(), 0)].offset.0, 3);
}
