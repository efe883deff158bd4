//! Which broker coordinates a group or a transactional id, and asking coordinators.
//!
//! The first FindCoordinator on a fresh cluster creates the coordinator's topic and answers
//! COORDINATOR_NOT_AVAILABLE until it is there; a coordinator that just moved loads first. Both are waited
//! for.

use super::client::{Client, Route};
use super::code::{Class, ErrorCode};
use super::error::{Error, Result};
use super::retry::Backoff;
use crate::base::TopicPartition;
use futures::future::join_all;
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::{Request, StrBytes};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the coordinator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CoordinatorKind {
    Group,
    Transaction,
}

impl CoordinatorKind {
    /// As FindCoordinator numbers it.
    fn key_type(self) -> i8 {
        match self {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
        }
    }
}

/// The coordinators found so far.
#[derive(Debug, Default)]
pub(super) struct CoordinatorCache {
    found: Mutex<HashMap<(CoordinatorKind, String), i32>>,
}

impl CoordinatorCache {
    fn found(&self) -> MutexGuard<'_, HashMap<(CoordinatorKind, String), i32>> {
        // Only whole entries are put in and taken out.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, kind: CoordinatorKind, key: &str) -> Option<i32> {
        self.found().get(&(kind, key.to_string())).copied()
    }

    fn put(&self, kind: CoordinatorKind, key: &str, broker: i32) {
        self.found().insert((kind, key.to_string()), broker);
    }

    fn forget(&self, kind: CoordinatorKind, key: &str) {
        self.found().remove(&(kind, key.to_string()));
    }
}

/// One answer per key that was asked about.
pub(super) type KeyAnswers<A> = Vec<(String, Result<A>)>;

/// How many keys one FindCoordinator asks about.
const KEYS_PER_REQUEST: usize = 500;

impl Client {
    /// The coordinator's broker id, asked of the cluster each time and kept for later calls. Waits for a
    /// coordinator that is not there yet.
    pub async fn find_coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<i32> {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let mut found = self.find_coordinators(kind, &[key.to_string()]).await;
            let error = match found.remove(key) {
                Some(Ok(broker)) => return Ok(broker),
                Some(Err(error)) => error,
                None => silent("FindCoordinator", "the cluster", key),
            };
            if error.class() == Class::Fatal || !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// Asks for many coordinators at once where the broker can (version 4), else one by one. Not repeated.
    pub(super) async fn find_coordinators(
        &self,
        kind: CoordinatorKind,
        keys: &[String],
    ) -> BTreeMap<String, Result<i32>> {
        let mut found = BTreeMap::new();
        for keys in keys.chunks(KEYS_PER_REQUEST) {
            let answers = match self.find_some_coordinators(kind, keys).await {
                Ok(answers) => answers,
                Err(error) => keys
                    .iter()
                    .map(|key| (key.clone(), Err(error.clone())))
                    .collect(),
            };
            for (key, answer) in answers {
                if let Ok(broker) = &answer {
                    self.coordinators().put(kind, &key, *broker);
                }
                found.insert(key, answer);
            }
        }
        found
    }

    async fn find_some_coordinators(
        &self,
        kind: CoordinatorKind,
        keys: &[String],
    ) -> Result<KeyAnswers<i32>> {
        const API: &str = "FindCoordinator";
        let connection = self
            .connection(Route::Any, super::brokers::Purpose::Control)
            .await?;
        let allowed = self.options().request_timeout;
        let outcome = |key: &str, code: i16, node: i32, message: Option<StrBytes>| {
            let code = ErrorCode(code);
            if code.is_ok() {
                Ok(node)
            } else {
                let message = message.map(|message| message.to_string());
                Err(Error::broker(API, key, code, message))
            }
        };
        let mut answers = Vec::with_capacity(keys.len());
        if connection.choose::<FindCoordinatorRequest>(i16::MAX)? >= 4 {
            let request = FindCoordinatorRequest::default()
                .with_key_type(kind.key_type())
                .with_coordinator_keys(
                    keys.iter()
                        .map(|key| StrBytes::from_string(key.clone()))
                        .collect(),
                );
            let answer = super::client::exchange(&connection, &request, i16::MAX, allowed).await?;
            for found in answer.coordinators {
                let key = found.key.to_string();
                let answer = outcome(&key, found.error_code, found.node_id.0, found.error_message);
                answers.push((key, answer));
            }
        } else {
            for key in keys {
                let request = FindCoordinatorRequest::default()
                    .with_key_type(kind.key_type())
                    .with_key(StrBytes::from_string(key.clone()));
                let found = super::client::exchange(&connection, &request, 3, allowed).await?;
                let answer = outcome(key, found.error_code, found.node_id.0, found.error_message);
                answers.push((key.clone(), answer));
            }
        }
        Ok(answers)
    }

    /// Asks each key's coordinator, all coordinators at once and at most `chunk` keys per request, and
    /// again where the answer's class allows it, until every key has an answer or the retry time is over.
    /// `ask` sends one coordinator its part; it must be harmless to send twice.
    pub(super) async fn ask_coordinators<Q, A, F, Fut>(
        &self,
        api: &'static str,
        kind: CoordinatorKind,
        wanted: BTreeMap<String, Q>,
        chunk: usize,
        ask: F,
    ) -> BTreeMap<String, Result<A>>
    where
        Q: Clone,
        F: Fn(i32, Vec<(String, Q)>) -> Fut,
        Fut: Future<Output = Result<KeyAnswers<A>>>,
    {
        let mut open = wanted;
        let mut done = BTreeMap::new();
        let mut backoff = Backoff::within(self.options().retry_deadline);
        while !open.is_empty() {
            let seen = self.metadata().generation;
            let mut failed: BTreeMap<String, Error> = BTreeMap::new();
            let unknown: Vec<String> = open
                .keys()
                .filter(|key| self.coordinators().get(kind, key).is_none())
                .cloned()
                .collect();
            let mut at: BTreeMap<i32, Vec<(String, Q)>> = BTreeMap::new();
            for (key, found) in self.find_coordinators(kind, &unknown).await {
                if let Err(error) = found {
                    failed.insert(key, error);
                }
            }
            for (key, question) in &open {
                match self.coordinators().get(kind, key) {
                    Some(broker) => at
                        .entry(broker)
                        .or_default()
                        .push((key.clone(), question.clone())),
                    None => {
                        failed
                            .entry(key.clone())
                            .or_insert_with(|| silent("FindCoordinator", "the cluster", key));
                    }
                }
            }
            let mut requests = Vec::new();
            for (broker, questions) in at {
                for questions in questions.chunks(chunk.max(1)) {
                    let keys: Vec<String> = questions.iter().map(|(key, _)| key.clone()).collect();
                    let answers = ask(broker, questions.to_vec());
                    requests.push(async move { (broker, keys, answers.await) });
                }
            }
            for (broker, keys, answers) in join_all(requests).await {
                match answers {
                    Ok(answers) => {
                        for (key, answer) in answers {
                            match answer {
                                Ok(answer) if open.remove(&key).is_some() => {
                                    done.insert(key, Ok(answer));
                                }
                                Ok(_) => {}
                                Err(error) => {
                                    failed.insert(key, error);
                                }
                            }
                        }
                        for key in keys {
                            if open.contains_key(&key) && !failed.contains_key(&key) {
                                let error = silent(api, &broker.to_string(), &key);
                                failed.insert(key, error);
                            }
                        }
                    }
                    Err(error) => {
                        failed.extend(keys.into_iter().map(|key| (key, error.clone())));
                    }
                }
            }
            for (key, error) in &failed {
                match error.class() {
                    Class::Fatal => {
                        if open.remove(key).is_some() {
                            done.insert(key.clone(), Err(error.clone()));
                        }
                    }
                    Class::FindCoordinator | Class::RefreshMetadata => {
                        self.coordinators().forget(kind, key);
                    }
                    Class::Ok | Class::RetryHere => {}
                }
            }
            if open.is_empty() {
                break;
            }
            let moved = |error: &Error| error.class() == Class::RefreshMetadata;
            if failed.values().any(moved) {
                // A failure to refresh shows in the next round's own calls.
                let _ = self.refresh_metadata(seen).await;
            }
            if !backoff.wait().await {
                for key in std::mem::take(&mut open).into_keys() {
                    let error = failed
                        .remove(&key)
                        .unwrap_or_else(|| silent(api, "the coordinator", &key));
                    done.insert(key, Err(error));
                }
            }
        }
        done
    }
}

impl Client {
    /// Asks a group's coordinator about `places` (partitions, or whole topics) and again where that helps, until the retry time is over: `request`
    /// must be harmless to send twice. `heard` reads the answer, which must have a code for each of them.
    pub(super) async fn ask_group<'a, R: Request, P: Ord + fmt::Display + 'a>(
        &self,
        api: &'static str,
        group: &str,
        request: &R,
        max_version: i16,
        mut places: impl Iterator<Item = &'a P> + Clone,
        heard: impl Fn(R::Response) -> Heard<P>,
    ) -> Result<BTreeMap<P, ErrorCode>> {
        let mut backoff = Backoff::within(self.options().retry_deadline);
        loop {
            let kind = CoordinatorKind::Group;
            let coordinator = self.find_coordinator(kind, group).await?;
            let to = Route::Broker(coordinator);
            let heard = match self.send(to, request, max_version).await {
                Ok(answer) => heard(answer),
                Err(error) if error.class() == Class::Fatal => return Err(error),
                Err(error) => match backoff.wait().await {
                    true => continue,
                    false => return Err(error),
                },
            };
            let again = |code: &ErrorCode| {
                matches!(code.class(), Class::RetryHere | Class::FindCoordinator)
            };
            let whole = std::iter::once(&heard.code);
            if whole.chain(heard.codes.values()).any(again) && backoff.wait().await {
                continue;
            }
            if !heard.code.is_ok() {
                return Err(Error::broker(api, group, heard.code, heard.message));
            }
            return match places.find(|at| !heard.codes.contains_key(at)) {
                Some(at) => Err(silent(api, &coordinator.to_string(), &at.to_string())),
                None => Ok(heard.codes),
            };
        }
    }
}

/// A coordinator's answer about partitions, or topics, of one group.
pub(super) struct Heard<P = TopicPartition> {
    /// Of the whole request.
    pub code: ErrorCode,
    pub message: Option<String>,
    pub codes: BTreeMap<P, ErrorCode>,
}

fn silent(api: &'static str, broker: &str, key: &str) -> Error {
    Error::Protocol {
        api,
        broker: broker.to_string(),
        why: format!("it says nothing about {key:?}"),
    }
}
