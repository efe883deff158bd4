//! kill -9: before every change that kbr makes to the archive's files, at every request its source sees, and whenever.
//! The archive stays sound, and the next run makes it whole, every record once.

use crate::engine_backup_support::batch;
use crate::scene::{Running, Scene};
use crate::support::{copy_folder, run_to_end};
use kbr::record::Codec;
use kbr::sandbox::Action;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

/// Compiles the library that kills the process it is loaded into.
fn crash_point(scene: &Scene) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/crash_point.c");
    let library = scene.folder.file("crash_point.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library);
    compile.args([source, "-ldl"]);
    let output = run_to_end(&mut compile, b"", Duration::from_secs(60));
    assert!(
        output.status.success(),
        "cc: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}

/// Runs kbr once for each change it makes to the archive's files, and kills it before that one. `base`: the archive that
/// every run begins with.
async fn at_every_change(scene: &Scene, base: Option<&str>) {
    let library = crash_point(scene);
    let mut half_segments = 0;
    for nth in 1.. {
        let name = format!("at-{nth}");
        let when = format!("killed before change {nth}");
        if let Some(base) = base {
            copy_folder(&scene.archive(base), &scene.archive(&name));
        }
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap().to_string()),
            ("CRASH_UNDER", scene.archive(&name).display().to_string()),
            ("CRASH_AT", nth.to_string()),
        ];
        let environment = environment
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let status = scene.start(&name, &environment).end();
        if status.code() == Some(0) {
            assert!(nth > 15, "only {nth} changes");
            assert!(half_segments > 2, "{half_segments} half segments were left");
            scene.assert_whole(&name, "not killed at all").await;
            return;
        }
        assert_eq!(status.signal(), Some(SIGKILL), "{when}: {status}");
        // The store lists them, so that a prune finds them.
        let left = scene.store(&name).await.list("staging").await.unwrap();
        half_segments += left.iter().filter(|(path, _)| path.contains('#')).count();
        if nth % 8 == 0 {
            scene.assert_sound(&name, &when).await;
            scene.kbr(&name, 0);
            scene.assert_whole(&name, &when).await;
        } else {
            scene.recover(&name, &when).await;
        }
        std::fs::remove_dir_all(scene.archive(&name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_backup_killed_before_any_change_to_its_archive_leaves_nothing_wrong() {
    let scene = Scene::new().await;
    at_every_change(&scene, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_backup_killed_before_any_change_to_its_archive_leaves_nothing_wrong() {
    let mut scene = Scene::new().await;
    scene.kbr("base", 0);
    scene.append("orders", 1, &batch(Codec::Lz4, 2, 10));
    at_every_change(&scene, Some("base")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_killed_at_any_request_leaves_nothing_wrong() {
    let mut scene = Scene::new().await;
    scene.kbr("base", 0);
    scene.append("orders", 0, &batch(Codec::None, 2, 10));
    for nth in 1.. {
        let name = format!("at-{nth}");
        copy_folder(&scene.archive("base"), &scene.archive(&name));
        let running: Arc<Mutex<Option<Running>>> = Arc::default();
        let seen = AtomicU64::new(0);
        let target = running.clone();
        scene.world.sandbox.intercept(move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                // kbr asks only once it runs, but its value may come a moment later.
                loop {
                    if let Some(running) = target.lock().unwrap().as_ref() {
                        running.kill();
                        return Action::Drop;
                    }
                    std::thread::yield_now();
                }
            }
            Action::Pass
        });
        let started = scene.start(&name, &[]);
        *running.lock().unwrap() = Some(started.clone());
        let status = started.end();
        scene.world.sandbox.clear_interceptors();
        if status.code() == Some(0) {
            assert!(nth > 15, "only {nth} requests");
            return;
        }
        let when = format!("killed at request {nth}");
        assert_eq!(status.signal(), Some(SIGKILL), "{when}: {status}");
        scene.recover(&name, &when).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_killed_at_any_time_leaves_nothing_wrong() {
    let scene = Scene::new().await;
    let began = Instant::now();
    scene.kbr("whole", 0);
    let takes = began.elapsed().as_millis() as u64;
    let mut state = 0x1234_5678_9abc_def1_u64;
    for round in 0..12 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let after = Duration::from_millis(state % (takes + 1));
        let name = format!("at-{round}");
        let running = scene.start(&name, &[]);
        tokio::time::sleep(after).await;
        running.kill();
        running.end();
        let when = format!("killed after {after:?}");
        scene.recover(&name, &when).await;
    }
}
