//! Child processes that cannot outlive their test or hang it.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a command to its end with the given standard input. Panics if it cannot be started or takes longer
/// than `limit`; its exit status is the caller's to judge.
pub fn run_to_end(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{what} cannot be started: {error}; scripts/test installs what the tests need")
        });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Pipes are served by threads, since a child that writes before it has read everything would stall.
    let feeder = std::thread::spawn(move || {
        // A child that ends without reading its input closes the pipe: that is its right.
        let _ = stdin.write_all(&input);
    });
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let status = wait(&mut child, limit, &what);
    feeder.join().unwrap();
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration, what: &str) -> std::process::ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until the answer is yes; panics with `what` when it still is no after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !ask() {
        assert!(
            Instant::now() < deadline,
            "still not after {limit:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
