//! Two sandbox clusters on loopback ports and a folder with runbooks; kbr is the real binary.

// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code)]

#[path = "../support/mod.rs"]
pub mod support;

use kbr::record::{BatchBuilder, BuildOptions, Headers, ProducerStamp};
use kbr::sandbox::{Sandbox, SandboxOptions};
use std::process::Command;
use std::time::Duration;
pub use support::{Folder, Ran, run_to_end};

pub const BACKUP: &str = r#"backup(cluster("prod")).to(store("file:archive"));"#;

pub const FAILOVER: &str = r#"params(#{ at: "restore records before this time" });
let snap = store("file:archive").latest();
let dr   = cluster("dr");
let data = restore(snap)
    .topics("orders")
    .before(args.at ?? "latest")
    .remap(#{ "orders": "orders_dr" })
    .to(dr);
let moved = offset_plan(data).groups("checkout-*").strategy("exact");
confirm(`Move ${moved.group_names.len()} groups on ${dr.name}?`);
moved.reset();
"#;

/// Two clusters and a folder with the runbooks; `prod` holds orders and two groups that read them.
pub struct Scene {
    pub folder: Folder,
    pub prod: Sandbox,
    pub dr: Sandbox,
}

impl Scene {
    pub async fn new() -> Self {
        let prod = Sandbox::start(SandboxOptions::named("prod")).await.unwrap();
        let dr = Sandbox::start(SandboxOptions::named("dr")).await.unwrap();
        prod.create_topic("orders", 2, &[("retention.ms", "-1")])
            .unwrap();
        for partition in 0..2 {
            for order in 0..5 {
                prod.append("orders", partition, &batch(&format!("order-{order}")))
                    .unwrap();
            }
        }
        prod.set_committed("checkout-api", "orders", 0, 3, "");
        prod.set_committed("checkout-api", "orders", 1, 5, "");
        prod.set_committed("checkout-audit", "orders", 0, 0, "");
        let folder = Folder::new();
        folder
            .clusters(&[
                ("prod", &prod.bootstrap().join(",")),
                ("dr", &dr.bootstrap().join(",")),
            ])
            .write("backup.rhai", BACKUP)
            .write("failover.rhai", FAILOVER);
        Self { folder, prod, dr }
    }

    /// With a backup taken.
    pub async fn backed_up() -> Self {
        let scene = Self::new().await;
        scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
        scene
    }

    pub fn kbr(&self, words: &[&str]) -> Ran {
        tokio::task::block_in_place(|| self.folder.kbr(words))
    }

    /// At a terminal of its own, where `typed` is typed.
    pub fn at_terminal(&self, words: &[&str], typed: &str) -> Ran {
        let command = self.folder.command(words);
        let line: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        script
            .args(["-qefc", &line.join(" "), "/dev/null"])
            .current_dir(self.folder.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let output = tokio::task::block_in_place(|| {
            run_to_end(&mut script, typed.as_bytes(), Duration::from_secs(60))
        });
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap().replace('\r', ""),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn committed(&self, group: &str) -> Vec<(i32, i64)> {
        self.dr
            .committed(group)
            .into_iter()
            .map(|((_, partition), committed)| (partition, committed.offset.0))
            .collect()
    }

    #[track_caller]
    pub fn assert_dr_untouched(&self) {
        assert_eq!(self.dr.topics(), Vec::<String>::new());
        assert_eq!(self.dr.groups(), Vec::<String>::new());
    }

    #[track_caller]
    pub fn assert_moved(&self) {
        assert_eq!(self.committed("checkout-api"), [(0, 3), (1, 5)]);
        assert_eq!(self.committed("checkout-audit"), [(0, 0)]);
    }
}

pub fn batch(key: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    let now = kbr::base::time::now().0 - 60_000;
    builder
        .push(now, Some(key.as_bytes()), Some(b"value"), Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}
