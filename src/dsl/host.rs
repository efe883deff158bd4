//! The state of one evaluation: what it may reach, what it has read and printed, the steps it has added.
//!
//! A script's `catch` can swallow errors. What must end an evaluation is therefore latched here; every verb
//! and the engine's progress callback look at the latch, and `evaluate` looks again at the end.

use super::declared::{Declared, missing};
use super::failure::Failure;
use super::source::{Arguments, Source};
use super::world::World;
use crate::base::{CancellationToken, PartitionId, TimestampMs};
use crate::run::{ArchiveFact, ClusterFact, ExitClass, Plan, RunbookId, Step, Stopped};
use rhai::Position;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What the evaluation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A runbook: terminal verbs add steps.
    Runbook,
    /// `kbr eval`: reads only.
    Reads,
}

pub struct Host {
    pub world: Arc<World>,
    pub runtime: tokio::runtime::Handle,
    pub source: Source,
    pub now: TimestampMs,
    pub mode: Mode,
    pub cancel: CancellationToken,
    state: Mutex<State>,
}

struct State {
    given: BTreeMap<String, String>,
    /// `None` until `params` was called.
    declared: Option<BTreeMap<String, Declared>>,
    printed: Vec<String>,
    plan: Plan,
    latch: Option<(Failure, Position)>,
    now_read: bool,
    /// What a step of the plan changes already, by cluster id: topics it writes into, offsets it moves.
    changed: BTreeSet<(String, String)>,
    /// Partitions whose committed offsets the plan's steps move, by cluster, group and topic.
    moved: BTreeMap<[String; 3], BTreeSet<PartitionId>>,
    /// Time spent waiting for clusters and stores, which is not the script's own.
    waited: Duration,
}

/// A script may compute this long; reads of clusters do not count.
pub const SCRIPT_TIME: Duration = Duration::from_secs(30);

impl Host {
    pub fn new(
        source: Source,
        world: Arc<World>,
        arguments: Arguments,
        now: TimestampMs,
        mode: Mode,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let id = RunbookId {
            name: source.name.clone(),
            digest: source.digest(),
        };
        let mut plan = Plan::new(id, arguments.0.clone(), now);
        plan.rehearsal = world.is_rehearsal();
        plan.text = source.text.clone();
        plan.config = world.config().path.clone();
        Arc::new(Self {
            world,
            runtime: tokio::runtime::Handle::current(),
            source,
            now,
            mode,
            cancel,
            state: Mutex::new(State {
                plan,
                given: arguments.0,
                declared: None,
                printed: Vec::new(),
                latch: None,
                now_read: false,
                changed: BTreeSet::new(),
                moved: BTreeMap::new(),
                waited: Duration::ZERO,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid between any two statements, so a poisoned lock still holds a usable one.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for a read. Cancelling ends it; the error of the read is the caller's to name.
    pub fn wait<T>(&self, read: impl Future<Output = T>) -> Result<T, Failure> {
        let started = Instant::now();
        let answer = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                answer = read => Some(answer),
            }
        });
        self.state().waited += started.elapsed();
        answer.ok_or_else(|| Failure {
            exit: ExitClass::Interrupted,
            stops: true,
            ..Failure::script("E0130", "interrupted while reading; nothing was changed")
        })
    }

    /// The clock of the evaluation; reading it makes the plan depend on it.
    pub fn read_now(&self) -> TimestampMs {
        self.state().now_read = true;
        self.now
    }

    pub fn waited(&self) -> Duration {
        self.state().waited
    }

    pub fn print(&self, text: &str) {
        self.state().printed.push(text.to_string());
    }

    /// `kbr eval` reads; what changes a cluster belongs in a runbook.
    pub fn refuse_effects(&self, verb: &str) -> Result<(), Failure> {
        if self.mode == Mode::Reads {
            return Err(Failure::script(
                "E0218",
                format!("`{verb}` belongs in a runbook: kbr eval only reads"),
            )
            .help("write it in a file and run it: kbr run FILE"));
        }
        Ok(())
    }

    pub fn printed(&self) -> Vec<String> {
        self.state().printed.clone()
    }

    /// Ends the evaluation for good, whatever the script catches. The first reason stays.
    pub fn latch(&self, failure: Failure, position: Position) {
        self.state().latch.get_or_insert((failure, position));
    }

    pub fn latched(&self) -> Option<(Failure, Position)> {
        self.state().latch.clone()
    }

    pub fn is_latched(&self) -> bool {
        self.state().latch.is_some()
    }

    pub fn add_step(&self, step: Arc<dyn Step>, position: Position) -> u32 {
        let span = self.source.span(position);
        self.state().plan.add_step(step, span)
    }

    /// Whether no step of the plan changes this yet. Asked once by each that will.
    pub fn changes_first(&self, cluster_id: &str, what: String) -> bool {
        self.state().changed.insert((cluster_id.to_string(), what))
    }

    /// The same of a group's committed offsets on partitions of one topic, of which a plan has many.
    pub fn moves_first(
        &self,
        cluster_id: &str,
        group: &str,
        topic: &str,
        partitions: impl Iterator<Item = PartitionId>,
    ) -> bool {
        let place = [cluster_id, group, topic].map(str::to_string);
        let mut state = self.state();
        let moved = state.moved.entry(place).or_default();
        let mut first = true;
        for partition in partitions {
            first &= moved.insert(partition);
        }
        first
    }

    pub fn add_confirm(&self, text: String, position: Position) {
        let span = self.source.span(position);
        self.state().plan.add_confirm(text, span);
    }

    pub fn add_cluster(&self, fact: ClusterFact) {
        self.state().plan.add_cluster(fact);
    }

    pub fn add_archive(&self, fact: ArchiveFact) {
        self.state().plan.add_archive(fact);
    }

    /// The evaluation ended at a value that only execution can tell.
    pub fn stop(&self, stopped: Stopped) {
        self.state().plan.stopped = Some(stopped);
    }

    /// The plan so far.
    pub fn plan(&self) -> Plan {
        let state = self.state();
        let mut plan = state.plan.clone();
        plan.now_read = state.now_read;
        plan
    }

    /// `params(#{…})`: which arguments the runbook takes.
    pub fn declare(&self, parameters: BTreeMap<String, Declared>) -> Result<(), Failure> {
        let mut state = self.state();
        let names: Vec<&str> = parameters.keys().map(String::as_str).collect();
        if let Some(unknown) = state
            .given
            .keys()
            .find(|name| !parameters.contains_key(*name))
        {
            return Err(unknown_argument(unknown, &names, true));
        }
        for (name, said) in &parameters {
            if let Some(other) = &said.instead_of
                && state.given.contains_key(name)
                && state.given.contains_key(other)
            {
                let what = format!("arguments `{name}` and `{other}` exclude each other");
                return Err(Failure::script("E0205", what));
            }
            if let Some(value) = state.given.get_mut(name) {
                *value = said.taken(value).map_err(|wrong| {
                    let failure = Failure::script("E0205", wrong.message);
                    match (wrong.nearest, wrong.one_of) {
                        (Some(near), _) => failure.help(format!("did you mean {near:?}?")),
                        (None, Some(words)) => failure.help(format!("it is one of: {words}")),
                        (None, None) => failure,
                    }
                })?;
            }
        }
        if let Some(missing) = missing(parameters.values(), &state.given) {
            let failure =
                Failure::script("E0205", format!("argument `{}` is missing", missing.name));
            return Err(failure.help(format!("--{} {}", missing.flag_name(), missing.help)));
        }
        state.declared.get_or_insert_default().extend(parameters);
        Ok(())
    }

    /// The value of an argument: `None` if it is declared and not given.
    pub fn argument(&self, name: &str) -> Result<Option<String>, Failure> {
        let state = self.state();
        let declared = state.declared.as_ref();
        if !declared.is_some_and(|declared| declared.contains_key(name)) {
            let names: Vec<&str> = declared
                .map(|declared| declared.keys().map(String::as_str).collect())
                .unwrap_or_default();
            return Err(unknown_argument(name, &names, false));
        }
        Ok(state.given.get(name).cloned())
    }

    /// Arguments that were given to a runbook that declares none.
    pub fn undeclared_arguments(&self) -> Option<Failure> {
        let state = self.state();
        match (&state.declared, state.given.keys().next()) {
            (None, Some(first)) => Some(unknown_argument(first, &[], true)),
            _ => None,
        }
    }
}

pub fn unknown_argument(name: &str, declared: &[&str], given: bool) -> Failure {
    let message = if given {
        format!("this runbook takes no argument --{name}")
    } else {
        format!("no argument `{name}` is declared")
    };
    let failure = Failure::script("E0205", message);
    if let Some(near) = crate::base::text::did_you_mean(name, declared.iter().copied()) {
        return failure
            .label(format!("did you mean `{near}`?"))
            .help(format!("declared are: {}", declared.join(", ")));
    }
    if declared.is_empty() {
        return failure.help(format!(
            "declare it at the top: params(#{{ {name}: \"what it is for\" }});"
        ));
    }
    failure.help(format!("declared are: {}", declared.join(", ")))
}
