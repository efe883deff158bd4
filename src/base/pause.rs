//! A switch that holds work up and lets it go on. Whoever works waits at it before the next piece.

use std::sync::{Arc, LazyLock};
use tokio::sync::watch;

/// Shared by who pauses and who works. The default runs.
#[derive(Clone, Debug)]
pub struct Pause {
    held: Arc<watch::Sender<bool>>,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            held: Arc::new(watch::Sender::new(false)),
        }
    }
}

/// Signals are the whole process's, and so is what they switch.
static OF_PROCESS: LazyLock<Pause> = LazyLock::new(Pause::default);

impl Pause {
    /// The switch that signals to this process turn.
    pub fn of_process() -> Self {
        OF_PROCESS.clone()
    }

    /// From now on work stops at its next piece. What is on its way arrives.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn go_on(&self) {
        self.held.send_replace(false);
    }

    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Returns at once unless held; else when it is let go.
    pub async fn passed(&self) {
        let mut held = self.held.subscribe();
        // The sender lives as long as `self`.
        let _ = held.wait_for(|held| !held).await;
    }

    /// Tells of every change of the switch.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::Pause;

    #[tokio::test]
    async fn work_waits_at_it_until_it_is_let_go() {
        let pause = Pause::default();
        pause.passed().await;
        pause.hold();
        assert!(pause.is_held());
        let waiting = tokio::spawn({
            let pause = pause.clone();
            async move { pause.passed().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        pause.go_on();
        waiting.await.unwrap();
    }
}
