//! What a shell asks at TAB: `kbr __complete SHELL …`. The words so far say which argument is meant, the argument says
//! what it takes, and `names` finds what there is.
//!
//! Whatever goes wrong, nothing is said and nothing is offered: an error in the middle of a line that somebody types
//! helps nobody. Nothing is written, nobody is asked, no script is run, and no cluster is waited for longer than a
//! person takes a TAB to be.

mod grammar;
mod names;
mod shells;

use grammar::{Asked, Grammar};
use std::time::{Duration, Instant};

pub use shells::registration;

/// The first word on the command line that means all this.
pub const WORD: &str = "__complete";

/// From the start of the process to its last word.
const PATIENCE: Duration = Duration::from_millis(350);

/// One thing that could stand there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub value: String,
    /// For shells that show it.
    pub about: String,
}

impl Candidate {
    pub fn new(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            about: about.into(),
        }
    }
}

/// Answers a shell. `words` are what follows [`WORD`].
pub fn answer(words: &[String]) -> String {
    let deadline = Instant::now() + PATIENCE;
    let Some((shell, words)) = words.split_first() else {
        return String::new();
    };
    match (shell.as_str(), words) {
        ("bash", [line, current]) => {
            let Some(typed) = shells::Line::read(line, current) else {
                return String::new();
            };
            shells::for_bash(&typed, &candidates(&typed.words, deadline))
        }
        ("zsh", words) => shells::for_others(&candidates(words, deadline)),
        ("fish", [words @ .., current]) => {
            // As it is typed, with its quotes.
            let current =
                shells::Line::read(current, "").and_then(|line| line.words.into_iter().last());
            let words: Vec<String> = words.iter().cloned().chain(current).collect();
            shells::for_others(&candidates(&words, deadline))
        }
        _ => String::new(),
    }
}

/// What could stand in the place of the last word. The first is kbr's own name.
fn candidates(words: &[String], deadline: Instant) -> Vec<Candidate> {
    let [_, before @ .., current] = words else {
        return Vec::new();
    };
    let Some((command, before)) = before.split_first() else {
        return beginning_with(current, grammar::commands(current));
    };
    let Some(grammar) = Grammar::of(command, before) else {
        return Vec::new();
    };
    match grammar.asked(before, current) {
        Asked::Option => beginning_with(current, grammar.options(before)),
        Asked::Value {
            takes,
            begun,
            prefix,
        } => {
            let found = names::candidates(&takes, &begun, &grammar.context(before), deadline);
            let found = found.into_iter().map(|found| Candidate {
                value: format!("{prefix}{}", found.value),
                ..found
            });
            found.collect()
        }
        Asked::Nothing => Vec::new(),
    }
}

fn beginning_with(begun: &str, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.retain(|candidate| candidate.value.starts_with(begun));
    candidates
}
