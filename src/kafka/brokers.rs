//! The connections to each broker: one per purpose, opened when first needed, opened again after a loss.
//!
//! Brokers work through one connection's requests in order, so a Fetch that waits for data would hold up
//! a metadata request behind it: fetching, producing and everything else have connections of their own.
//! A broker that does not answer is tried again after a growing wait, however many callers ask for it.

use super::client::BrokerInfo;
use super::connection::Connection;
use super::error::{Attempt, Error, Result};
use super::greeting::OpenError;
use super::options::ConnectOptions;
use super::retry::reconnect_wait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Control,
    Fetch,
    Produce,
    /// One of several for many requests of one kind, which a broker then works through side by side.
    Lane(u8),
}

/// One broker's connection for one purpose.
#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    /// One permit: one attempt to connect at a time, the others wait for its outcome.
    dialing: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Slot {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            dialing: Semaphore::new(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        self.state()
            .connection
            .clone()
            .filter(|connection| connection.is_usable())
    }
}

/// A slot and the address it is for.
type Addressed = (String, Arc<Slot>);

/// All connections of one client.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    slots: Mutex<HashMap<(i32, Purpose), Addressed>>,
}

impl Brokers {
    /// The live connection, if there is one.
    pub(super) fn usable(&self, broker: &BrokerInfo, purpose: Purpose) -> Option<Arc<Connection>> {
        self.slot(broker, purpose).usable()
    }

    /// The live connection, or one attempt to open it.
    pub(super) async fn connection(
        &self,
        broker: &BrokerInfo,
        purpose: Purpose,
        options: &ConnectOptions,
    ) -> Result<Arc<Connection>> {
        let slot = self.slot(broker, purpose);
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        let begun = Instant::now();
        let failed = |why: String| Error::Unreachable {
            tried: vec![Attempt {
                address: broker.address(),
                why: format!(
                    "{why}; the cluster advertises this address for broker {}",
                    broker.id
                ),
                times: 1,
                elapsed: begun.elapsed(),
            }],
        };
        // As long as one attempt of another caller may take, with its wait before.
        let patience = options.connect_timeout * 2;
        let permit = match tokio::time::timeout(patience, slot.dialing.acquire()).await {
            Ok(Ok(permit)) => permit,
            _ => return Err(failed(format!("no connection within {patience:?}"))),
        };
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        let not_before = slot.state().not_before;
        if let Some(not_before) = not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let label = format!("{} ({})", broker.id, broker.address());
        let opened = Connection::open(&broker.address(), label, options).await;
        let mut state = slot.state();
        drop(permit);
        match opened {
            Ok(connection) => {
                *state = State {
                    connection: Some(connection.clone()),
                    ..State::default()
                };
                Ok(connection)
            }
            Err(error) => {
                state.failures += 1;
                state.not_before = Some(Instant::now() + reconnect_wait(state.failures));
                Err(match error {
                    OpenError::Failed(why) => failed(why),
                    OpenError::NotKafka {
                        looks_like,
                        first_bytes,
                    } => Error::NotKafka {
                        address: broker.address(),
                        looks_like,
                        first_bytes,
                    },
                })
            }
        }
    }

    /// The slot for the broker at its present address: a broker that moved gets a new one.
    fn slot(&self, broker: &BrokerInfo, purpose: Purpose) -> Arc<Slot> {
        let address = broker.address();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, slot) = slots
            .entry((broker.id, purpose))
            .or_insert_with(|| (address.clone(), Arc::new(Slot::new())));
        if *at != address {
            *at = address;
            *slot = Arc::new(Slot::new());
        }
        slot.clone()
    }
}

const BOOTSTRAP_ROUNDS: u32 = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// Opens a connection to the first bootstrap address that answers as a broker. Each is tried up to three
/// times, but once only where trying again cannot help.
pub(super) async fn bootstrap(options: &ConnectOptions) -> Result<Arc<Connection>> {
    if options.bootstrap.is_empty() {
        return Err(Error::BadRequest(
            "no bootstrap address is given".to_string(),
        ));
    }
    let mut attempts: Vec<Attempt> = options
        .bootstrap
        .iter()
        .map(|address| Attempt {
            address: address.clone(),
            why: String::new(),
            times: 0,
            elapsed: Duration::ZERO,
        })
        .collect();
    let mut foreign: Vec<Option<Error>> = vec![None; attempts.len()];
    for round in 0..BOOTSTRAP_ROUNDS {
        if round > 0 {
            tokio::time::sleep(BETWEEN_ROUNDS * round).await;
        }
        for (attempt, foreign) in attempts.iter_mut().zip(&mut foreign) {
            // A host that lets connections hang costs the whole timeout: once is enough.
            let hopeless = foreign.is_some() || attempt.elapsed >= options.connect_timeout;
            if hopeless {
                continue;
            }
            let begun = Instant::now();
            let opened = Connection::open(&attempt.address, attempt.address.clone(), options).await;
            attempt.times += 1;
            attempt.elapsed += begun.elapsed();
            match opened {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    attempt.why = error.why();
                    if let OpenError::NotKafka {
                        looks_like,
                        first_bytes,
                    } = error
                    {
                        *foreign = Some(Error::NotKafka {
                            address: attempt.address.clone(),
                            looks_like,
                            first_bytes,
                        });
                    }
                }
            }
        }
        if foreign.iter().all(Option::is_some) {
            break;
        }
    }
    match foreign.into_iter().next() {
        Some(Some(not_kafka)) if attempts.len() == 1 => Err(not_kafka),
        _ => Err(Error::Unreachable { tried: attempts }),
    }
}
