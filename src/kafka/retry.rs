//! Waiting before trying again: exponential, jittered, and never past a deadline.
//!
//! There is no retry without one: a loop that asks again owns a [`Backoff`] and ends when it says so.

use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(30);
const LONGEST: Duration = Duration::from_secs(1);

/// One loop's waiting: doubles from 30 ms to 1 s, each wait drawn from its upper half.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    deadline: Instant,
    /// How often it has waited.
    pub(super) waits: u32,
}

impl Backoff {
    pub(super) fn within(total: Duration) -> Self {
        Self {
            next: FIRST,
            deadline: Instant::now() + total,
            waits: 0,
        }
    }

    /// Waits, or says `false` at once when the wait would end after the deadline.
    pub(super) async fn wait(&mut self) -> bool {
        let wait = jittered(self.next);
        if Instant::now() + wait > self.deadline {
            return false;
        }
        tokio::time::sleep(wait).await;
        self.next = (self.next * 2).min(LONGEST);
        self.waits += 1;
        true
    }
}

/// The wait after so many failed attempts in a row to reach one broker.
pub(super) fn reconnect_wait(failures: u32) -> Duration {
    jittered((FIRST * 2u32.saturating_pow(failures.min(6))).min(LONGEST))
}

/// Between half of `wait` and all of it, so that many clients do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_next_wait_would_pass_the_deadline() {
        let mut backoff = Backoff::within(Duration::from_millis(200));
        while backoff.wait().await {}
        assert!((2..=6).contains(&backoff.waits), "{} waits", backoff.waits);
    }

    #[test]
    fn a_wait_lies_in_the_upper_half_of_its_step() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_millis(100));
            assert!(wait >= Duration::from_millis(50) && wait <= Duration::from_millis(100));
        }
    }
}
