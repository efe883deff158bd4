//! A limit on the bytes per second that a run takes from the source, or puts into the target.
//!
//! What has come is paid for afterwards: the next request waits until the bytes before it fit the rate. Requests are made
//! smaller than a second's worth, so that a slow run is an even one.

use std::time::Duration;
use tokio::time::Instant;

/// No request is made smaller than this: a batch comes whole anyway.
const SMALLEST_ANSWER: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    free_at: Instant,
}

impl Pace {
    /// `rate` in bytes per second; `None`: as fast as it goes.
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.map(|rate| rate.max(1)),
            free_at: Instant::now(),
        }
    }

    /// Bytes of an answer, where without a limit `most` would be asked for.
    pub fn answer(&self, most: i32) -> i32 {
        let Some(rate) = self.rate else {
            return most;
        };
        let quarter = (rate / 4).max(SMALLEST_ANSWER);
        most.min(i32::try_from(quarter).unwrap_or(i32::MAX))
    }

    /// So many bytes have come.
    pub fn took(&mut self, bytes: u64, now: Instant) {
        if let Some(rate) = self.rate {
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.free_at = self.free_at.max(now) + cost;
        }
    }

    /// When the next request may go out, if that is not now.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        (self.free_at > now).then_some(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_for_with_time() {
        let mut pace = Pace::new(Some(1000));
        let start = Instant::now();
        assert_eq!(pace.waits_until(start), None);
        pace.took(500, start);
        pace.took(1500, start);
        let until = pace.waits_until(start).expect("two seconds to wait");
        assert!(
            until - start >= Duration::from_millis(1990),
            "{:?}",
            until - start
        );
        assert!(
            until - start <= Duration::from_millis(2010),
            "{:?}",
            until - start
        );
        assert_eq!(pace.waits_until(until), None);
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1000));
        let later = start + Duration::from_secs(60);
        pace.took(1000, later);
        assert_eq!(
            pace.waits_until(later),
            Some(later + Duration::from_secs(1))
        );
    }

    #[test]
    fn without_a_rate_nothing_waits_and_answers_are_full() {
        let mut pace = Pace::new(None);
        let now = Instant::now();
        pace.took(1 << 40, now);
        assert_eq!(pace.waits_until(now), None);
        assert_eq!(pace.answer(4 << 20), 4 << 20);
        assert_eq!(Pace::new(Some(400 << 10)).answer(4 << 20), 100 << 10);
        assert_eq!(Pace::new(Some(1)).answer(4 << 20), 64 << 10);
    }
}
