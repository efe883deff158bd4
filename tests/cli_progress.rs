//! What an operator sees of a long backup: bars on a terminal, lines elsewhere, nothing if so asked, and the summary.
//!
//! The source stops answering after its first data until the test has seen how far the backup is: no clock decides.

mod cli_scene;

use cli_scene::{Scene, batch};
use kbr::sandbox::Action;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FETCH: i16 = 1;
/// More than any number of answers on their way can hold.
const BATCHES: usize = 48;
const MIB: usize = 1 << 20;

/// `prod` with 48 MiB of orders; after the first data it hangs up on every fetch until released.
async fn slow_scene() -> (Scene, Arc<AtomicBool>) {
    let scene = Scene::new().await;
    // Just below what a topic takes.
    let large = batch(&"x".repeat(MIB - 1000));
    scene.prod.create_topic("clicks", 1, &[]).unwrap();
    for _ in 0..BATCHES {
        scene.prod.append("clicks", 0, &large).unwrap();
    }
    let released = Arc::new(AtomicBool::new(false));
    let open = released.clone();
    scene.prod.intercept(move |seen| {
        let held = seen.api_key == FETCH && seen.nth > 3 && !open.load(Ordering::SeqCst);
        if held { Action::Drop } else { Action::Pass }
    });
    (scene, released)
}

/// Runs kbr in the scene's folder, ended by force should it hang.
fn spawn(scene: &Scene, words: &[&str], on_terminal: bool) -> Child {
    let kbr = scene.folder.command(words);
    let line: Vec<String> = std::iter::once(kbr.get_program())
        .chain(kbr.get_args())
        .map(|word| word.to_str().unwrap().to_string())
        .collect();
    let mut command = Command::new("timeout");
    command.arg("100").current_dir(scene.folder.path());
    match on_terminal {
        true => command.args(["script", "-qefc", &line.join(" "), "/dev/null"]),
        false => command.args(&line),
    };
    for (name, value) in kbr.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads to the end of the stream, and lets the source go on once `enough` of it was read.
fn read_and_release(
    mut stream: impl Read,
    released: &AtomicBool,
    enough: impl Fn(&str) -> bool,
) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&seen);
        if enough(&text) {
            released.store(true, Ordering::SeqCst);
        }
        if length == 0 {
            return text.into_owned();
        }
    }
}

fn found(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).unwrap().is_match(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_line_now_and_then_tells_how_far_a_backup_is() {
    let (scene, released) = slow_scene().await;
    let words = [
        "run",
        "backup.rhai",
        "--execute",
        "--progress",
        "topics",
        "--progress-every",
        "1",
    ];
    let (error, out, code) = tokio::task::block_in_place(|| {
        let mut child = spawn(&scene, &words, false);
        // Of 58 records in two topics some are read, and clicks is under way.
        let line = r"(?m)^  1  backup   prod to file:archive +\d+ %   \d+/58   .*of 2 topics";
        let topic = r"(?m)^       clicks +\d+ %   \d+/48$";
        let error = read_and_release(child.stderr.take().unwrap(), &released, |text| {
            found(line, text) && found(topic, text)
        });
        let mut out = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        (error, out, child.wait().unwrap().code())
    });
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(released.load(Ordering::SeqCst), "no line came: {error}");
    assert!(
        !error.contains('\r') && !error.contains('\x1b'),
        "{error:?}"
    );
    assert!(
        found(r"generation 1   58 records of 2 topics", &out),
        "{out}"
    );
    let volume = r"48 MiB of batches in .*, .*/s; .* stored";
    assert!(found(volume, &out), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_bars_show_the_whole_and_each_topic_under_way() {
    let (scene, released) = slow_scene().await;
    let words = ["run", "backup.rhai", "--execute", "--progress", "topics"];
    let (out, code) = tokio::task::block_in_place(|| {
        let mut child = spawn(&scene, &words, true);
        let out = read_and_release(child.stdout.take().unwrap(), &released, |text| {
            found(
                r"  1  backup   prod to … +[█▉▊▋▌▍▎▏░]{12} +\d+ %   \d+/58   .*/s",
                text,
            ) && found(r"clicks +[█▉▊▋▌▍▎▏░]{12} +\d+ %   \d+/48", text)
        });
        (out, child.wait().unwrap().code())
    });
    assert_eq!(code, Some(0), "{out}");
    assert!(released.load(Ordering::SeqCst), "no bar came: {out}");
    // The bars are gone at the end, the step's line and its summary stay.
    let last = out.rsplit('%').next().unwrap();
    assert!(
        found(r"generation 1   58 records of 2 topics", last),
        "{out}"
    );
    assert!(!last.contains('░'), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_none_leaves_standard_error_empty() {
    let (scene, released) = slow_scene().await;
    let held_since = Instant::now();
    scene.prod.intercept(move |_| {
        // Long enough for a line, had one been asked for.
        if held_since.elapsed() > Duration::from_secs(3) {
            released.store(true, Ordering::SeqCst);
        }
        Action::Pass
    });
    let words = [
        "run",
        "backup.rhai",
        "--execute",
        "--progress",
        "none",
        "--progress-every",
        "1",
    ];
    let ran = scene.kbr(&words).expect(0);
    assert_eq!(ran.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_shows_how_far_it_is_and_takes_its_bar_away_at_the_end() {
    let scene = Scene::backed_up().await;
    let words = ["verify", "file:archive", "--deep"];
    let bar = r"verify file:archive +[█▉▊▋▌▍▎▏░]|verify file:archive  ⠁";
    let shown = scene.at_terminal(&words, "");
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    assert!(found(bar, &shown.stdout), "{:?}", shown.stdout);
    let last = shown.stdout.rsplit("\u{1b}[2K").next().unwrap();
    assert!(last.contains("whole") && !found(bar, last), "{last:?}");

    let silent: Vec<&str> = words.into_iter().chain(["--progress", "none"]).collect();
    let shown = scene.at_terminal(&silent, "");
    assert!(!found(bar, &shown.stdout), "{:?}", shown.stdout);
}
