//! Ctrl-C and SIGTERM: what is complete is committed as a partial generation, the exit status is 130, and the next run
//! goes on from there. A second signal ends kbr at once. The terminal is left as it was.

use crate::engine_backup_support::{batch, large_batch};
use crate::scene::{Running, Scene};
use crate::support::run_to_end;
use kbr::archive::Archive;
use kbr::record::Codec;
use kbr::sandbox::{Action, Seen};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FETCH: i16 = 1;
const METADATA: i16 = 3;
const INTERRUPTED: i32 = 130;

/// Two small partitions and two of several answers each.
async fn scene() -> Scene {
    let mut scene = Scene::empty(1).await;
    scene.topic("orders", 4);
    for seed in 1..=8 {
        scene.append("orders", 0, &batch(Codec::Zstd, seed, 10));
        scene.append("orders", 1, &batch(Codec::None, seed, 10));
        scene.append("orders", 2, &large_batch(seed as u64, 300, 1000));
        scene.append("orders", 3, &large_batch(seed as u64 + 50, 300, 1000));
    }
    scene
}

/// Runs kbr and does what `act` says at each request, with the process at hand.
fn run_and(
    scene: &Scene,
    archive: &str,
    mut act: impl FnMut(&Seen, &Running) -> Action + Send + 'static,
) -> Option<i32> {
    let running: Arc<Mutex<Option<Running>>> = Arc::default();
    let target = running.clone();
    scene.world.sandbox.intercept(move |seen| {
        loop {
            if let Some(running) = target.lock().unwrap().as_ref() {
                return act(seen, running);
            }
            std::thread::yield_now();
        }
    });
    let started = scene.start(archive, &[]);
    *running.lock().unwrap() = Some(started.clone());
    let status = started.end();
    scene.world.sandbox.clear_interceptors();
    status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_at_any_request_what_is_complete_is_kept_and_the_next_run_goes_on() {
    let scene = scene().await;
    let total: u64 = scene
        .produced
        .partitions()
        .map(|(_, _, records)| records.len() as u64)
        .sum();
    let (mut kept, mut fetches) = (0, 0);
    for nth in 1.. {
        let name = format!("at-{nth}");
        let signal = ["INT", "TERM"][nth as usize % 2];
        let seen = AtomicU64::new(0);
        let at_fetch = Arc::new(Mutex::new(false));
        let was_fetch = at_fetch.clone();
        let code = run_and(&scene, &name, move |request, running| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 != nth {
                return Action::Pass;
            }
            *was_fetch.lock().unwrap() = request.api_key == FETCH;
            running.signal(signal);
            // Time for it to arrive before the answer does.
            Action::Delay(Duration::from_millis(100))
        });
        if code == Some(0) {
            assert!(
                fetches > 3,
                "interrupted in {fetches} fetches of {nth} requests"
            );
            assert!(kept > 2, "{kept} runs kept something and not all");
            return;
        }
        let when = format!("SIG{signal} at request {nth}");
        assert_eq!(code, Some(INTERRUPTED), "{when}");
        scene.assert_sound(&name, &when).await;
        let generations = scene.generations(&name).await;
        let mut archived = 0;
        if generations > 0 {
            let archive = Archive::open(scene.store(&name).await).await.unwrap();
            let latest = archive.latest().await.unwrap();
            archived = latest.topic("orders").unwrap().records();
            let complete = archived == total;
            assert!(latest.is_partial() || complete, "{when}");
        }
        if *at_fetch.lock().unwrap() {
            fetches += 1;
            assert_eq!(generations, 1, "{when}");
            kept += u32::from(archived > 0 && archived < total);
        }
        if nth % 8 == 0 {
            scene.kbr(&name, 0);
            scene.assert_whole(&name, &when).await;
        } else {
            scene.recover(&name, &when).await;
        }
        let latest = Archive::open(scene.store(&name).await).await.unwrap();
        let (newest, _) = latest.read_generation(generations + 1).await.unwrap();
        let added: u64 = newest
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.records)
            .sum();
        assert_eq!(added, total - archived, "{when}: nothing is read twice");
        std::fs::remove_dir_all(scene.archive(&name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let scene = scene().await;
    let fetches = AtomicU64::new(0);
    let mut interrupted = false;
    let began = Instant::now();
    let code = run_and(&scene, "archive", move |request, running| {
        match request.api_key {
            FETCH if fetches.fetch_add(1, Ordering::Relaxed) == 1 => {
                interrupted = true;
                running.signal("INT");
                Action::Pass
            }
            // What it looks up before it commits never comes.
            METADATA if interrupted => {
                running.signal("INT");
                Action::Delay(Duration::from_secs(30))
            }
            _ => Action::Pass,
        }
    });
    assert_eq!(code, Some(INTERRUPTED));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.generations("archive").await, 0);
    scene.recover("archive", "after the second signal").await;
}

/// kbr on a terminal where Ctrl-C is typed at the second fetch, and again while it puts away what it has.
fn on_a_terminal(scene: &Scene, twice: bool) -> (i32, String) {
    let moments = ["first", "second"].map(|name| scene.folder.file(name));
    let files = moments.clone();
    let fetches = AtomicU64::new(0);
    let mut interrupted = false;
    scene
        .world
        .sandbox
        .intercept(move |request| match request.api_key {
            FETCH if fetches.fetch_add(1, Ordering::Relaxed) == 1 => {
                interrupted = true;
                std::fs::write(&files[0], "").unwrap();
                Action::Delay(Duration::from_millis(500))
            }
            METADATA if interrupted && twice => {
                std::fs::write(&files[1], "").unwrap();
                Action::Delay(Duration::from_secs(30))
            }
            _ => Action::Pass,
        });
    let runbook = scene.runbook("archive");
    let kbr = scene.folder.command(&["run", &runbook, "--execute"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/interrupt.py");
    let mut command = Command::new("python3");
    command
        .arg(script)
        .args(&moments)
        .arg(kbr.get_program())
        .args(kbr.get_args())
        .current_dir(scene.folder.path())
        .env("TERM", "xterm");
    for (name, value) in kbr.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output =
        tokio::task::block_in_place(|| run_to_end(&mut command, b"", Duration::from_secs(90)));
    scene.world.sandbox.clear_interceptors();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_at_a_terminal_leaves_the_terminal_as_it_was() {
    for twice in [false, true] {
        let scene = scene().await;
        let (code, text) = on_a_terminal(&scene, twice);
        assert_eq!(code, INTERRUPTED, "{text}");
        assert!(
            text.contains("stopping: what must be whole is finished first"),
            "{text}"
        );
        assert!(text.ends_with("settings kept, cursor shown\n"), "{text}");
        assert_eq!(
            scene.generations("archive").await,
            u64::from(!twice),
            "{text}"
        );
        scene.recover("archive", "after Ctrl-C").await;
    }
}
