//! Which arguments a command has, and which of them the word at the cursor is. Built-in commands are read from clap's
//! declaration, scripts and runbooks from what their `params` says; none is run for it.

use super::Candidate;
use super::names::{Context, Wanted};
use crate::cli::arguments::Arguments;
use crate::cli::subcommand;
use crate::dsl::{Declared, STATES, Source, Takes, declared};
use clap::{ArgAction, CommandFactory};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The arguments of one command line.
pub struct Grammar {
    arguments: Vec<Argument>,
    /// The command takes a runbook's arguments after `--`, and this is the place of the runbook.
    runbook: Option<&'static str>,
}

/// One argument, with more ways to say what it takes than a script has.
#[derive(Clone, Debug)]
struct Argument {
    declared: Declared,
    wanted: Wanted,
    /// May be given again.
    repeats: bool,
}

/// What the word at the cursor is.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Option,
    Value {
        takes: Wanted,
        /// The value as far as it is typed.
        begun: String,
        /// Before it in the same word: `--group=`.
        prefix: String,
    },
    Nothing,
}

/// Commands and scripts, for the first word.
pub fn commands(begun: &str) -> Vec<Candidate> {
    if begun.starts_with('-') {
        return vec![
            Candidate::new("--help", "Print help"),
            Candidate::new("--version", "Print version"),
        ];
    }
    let command = Arguments::command();
    let builtins = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            let about = command.get_about().map(ToString::to_string);
            Candidate::new(command.get_name(), about.unwrap_or_default())
        });
    let mut all: Vec<Candidate> = builtins.collect();
    all.extend(
        subcommand::abouts()
            .into_iter()
            .map(|(name, about)| Candidate::new(name, about)),
    );
    all.sort();
    all
}

impl Grammar {
    /// The arguments of `command`, of which `before` has been typed so far; `None` if there is no such command.
    pub fn of(command: &str, before: &[String]) -> Option<Self> {
        let clap = Arguments::command();
        let builtin = clap
            .get_subcommands()
            .find(|known| known.get_name() == command && !known.is_hide_set());
        if let Some(builtin) = builtin {
            return Some(Self::of_builtin(builtin));
        }
        let source = subcommand::source(command)?;
        let scripted: Vec<Argument> = declared(&source)
            .into_iter()
            .map(Argument::of_script)
            .collect();
        let run = clap.find_subcommand("run")?;
        let mut arguments = scripted;
        for option in Self::of_builtin(run).arguments {
            let name = &option.declared.name;
            let known = arguments.iter().any(|own| own.declared.name == *name);
            if option.declared.position.is_none() && !known {
                arguments.push(option);
            }
        }
        let grammar = Self {
            arguments,
            runbook: None,
        };
        // `kbr offsets undo RUN` is `kbr undo RUN`.
        if command == "offsets" && source.path.is_none() {
            let words = grammar.words(before);
            let action = words.bare.first();
            if action.is_some_and(|word| word.eq_ignore_ascii_case("undo")) {
                let mut undo = Self::of_builtin(clap.find_subcommand("undo")?);
                for argument in &mut undo.arguments {
                    if let Some(position) = &mut argument.declared.position {
                        *position += 1;
                    }
                }
                let mut action = Declared::named("action");
                action.position = Some(1);
                undo.arguments.push(Argument::of_script(action));
                return Some(undo);
            }
        }
        Some(grammar)
    }

    fn of_builtin(command: &clap::Command) -> Self {
        let mut position = 0;
        let mut arguments = Vec::new();
        let mut command = command.clone();
        command.build();
        for argument in command.get_arguments() {
            if argument.is_hide_set() || argument.is_last_set() {
                continue;
            }
            let id = argument.get_id().as_str();
            let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
            let mut declared = Declared::named(argument.get_long().unwrap_or(id));
            declared.name = declared.name.replace('-', "_");
            declared.help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            // The value of `--watch=5` is never the next word.
            declared.flag = !takes_value || argument.is_require_equals_set();
            let is_several = matches!(argument.get_action(), ArgAction::Append);
            if argument.get_long().is_none() && argument.get_short().is_none() {
                position += 1;
                declared.position = Some(position);
                declared.rest = is_several;
            }
            let words = argument.get_value_parser().possible_values();
            let words = words.filter(|_| takes_value).map(|words| {
                let shown = words.filter(|word| !word.is_hide_set());
                let shown = shown.map(|word| {
                    let help = word.get_help().map(ToString::to_string);
                    Candidate::new(word.get_name(), help.unwrap_or_default())
                });
                shown.collect()
            });
            arguments.push(Argument {
                wanted: match words {
                    Some(words) => Wanted::OneOf(words),
                    None => wanted(command.get_name(), id),
                },
                declared,
                repeats: is_several,
            });
        }
        let runbook = matches!(command.get_name(), "run" | "rehearse").then_some("file");
        Self { arguments, runbook }
    }

    /// What the word at the cursor is, after `before`.
    pub fn asked(&self, before: &[String], current: &str) -> Asked {
        let mut words = self.words(before);
        if words.escaped && self.runbook.is_some() {
            let Some(runbook) = self.of_runbook(before) else {
                return Asked::Nothing;
            };
            let after = before.iter().skip_while(|word| *word != "--").skip(1);
            let after: Vec<String> = after.cloned().collect();
            return runbook.asked(&after, current);
        }
        if let Some(option) = words.open.take() {
            return Asked::Value {
                takes: option.wanted.clone(),
                begun: current.to_string(),
                prefix: String::new(),
            };
        }
        if current.starts_with('-') {
            let Some((name, begun)) = current.split_once('=') else {
                return Asked::Option;
            };
            return match self.option(name) {
                Some(option) if !option.declared.flag => Asked::Value {
                    takes: option.wanted.clone(),
                    begun: begun.to_string(),
                    prefix: format!("{name}="),
                },
                _ => Asked::Nothing,
            };
        }
        match self.place(&words, words.bare.len()) {
            Some(place) => Asked::Value {
                takes: place.wanted.clone(),
                begun: current.to_string(),
                prefix: String::new(),
            },
            None if current.is_empty() => Asked::Option,
            None => Asked::Nothing,
        }
    }

    /// The options that have not been given.
    pub fn options(&self, before: &[String]) -> Vec<Candidate> {
        let words = self.words(before);
        if words.escaped
            && let Some(runbook) = self.of_runbook(before)
        {
            let after = before.iter().skip_while(|word| *word != "--").skip(1);
            return runbook.options(&after.cloned().collect::<Vec<_>>());
        }
        let open = self.arguments.iter().filter(|argument| {
            argument.declared.position.is_none()
                && (argument.repeats || !words.named.contains_key(&argument.declared.name))
        });
        let open = open.map(|argument| {
            let name = argument.declared.flag_name();
            Candidate::new(format!("--{name}"), argument.declared.help.clone())
        });
        let mut all: Vec<Candidate> = open.collect();
        if !all.iter().any(|known| known.value == "--help") && self.runbook_options() {
            all.push(Candidate::new("--help", "Print help"));
        }
        all.sort();
        all
    }

    fn runbook_options(&self) -> bool {
        // The arguments of a runbook after `--` have no help of their own.
        self.arguments.iter().any(|argument| {
            argument.declared.name == "output" || argument.declared.position.is_some()
        })
    }

    /// What the other words say, for names that depend on them.
    pub fn context(&self, before: &[String]) -> Context {
        let words = self.words(before);
        if words.escaped
            && let Some(runbook) = self.of_runbook(before)
        {
            let after = before.iter().skip_while(|word| *word != "--").skip(1);
            let mut context = runbook.context(&after.cloned().collect::<Vec<_>>());
            context.folder = self.runbook_file(before).and_then(|file| {
                let folder = file.parent()?;
                Some(folder.to_path_buf())
            });
            return context;
        }
        let mut context = Context::default();
        for argument in &self.arguments {
            let value = words
                .named
                .get(&argument.declared.name)
                .or_else(|| self.bare(&words, argument));
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            match &argument.wanted {
                Wanted::Takes(Takes::Cluster) => context.cluster = Some(value.clone()),
                Wanted::Takes(Takes::Archive) => context.archive = Some(value.clone()),
                Wanted::Takes(Takes::Source) => context.source = Some(value.clone()),
                Wanted::Takes(Takes::Topic) | Wanted::TopicOrPartition => {
                    context.topic = Some(value.clone());
                }
                _ => {}
            }
        }
        context
    }

    fn bare<'w>(&self, words: &'w Words, argument: &Argument) -> Option<&'w String> {
        let mut bare = words.bare.iter().enumerate();
        let found = bare.find(|(index, _)| {
            self.place(words, *index)
                .is_some_and(|place| place.declared.name == argument.declared.name)
        });
        found.map(|(_, word)| word)
    }

    /// The argument that takes the bare word of this index.
    fn place(&self, words: &Words, index: usize) -> Option<&Argument> {
        let replaced: Vec<&String> = self
            .arguments
            .iter()
            .filter(|other| words.named.contains_key(&other.declared.name))
            .filter_map(|other| other.declared.instead_of.as_ref())
            .collect();
        let mut places: Vec<&Argument> = self
            .arguments
            .iter()
            .filter(|one| one.declared.position.is_some())
            .filter(|one| !replaced.contains(&&one.declared.name))
            .filter(|one| !words.named.contains_key(&one.declared.name))
            .collect();
        places.sort_by_key(|place| place.declared.position);
        let rest = places.iter().position(|place| place.declared.rest);
        let index = rest.map_or(index, |rest| index.min(rest));
        places.get(index).copied()
    }

    fn option(&self, word: &str) -> Option<&Argument> {
        let name = word.strip_prefix("--")?.replace('-', "_");
        self.arguments
            .iter()
            .find(|argument| argument.declared.name == name)
    }

    fn words(&self, before: &[String]) -> Words<'_> {
        let mut words = Words::default();
        for word in before {
            if words.escaped {
                if self.runbook.is_none() {
                    words.bare.push(word.clone());
                }
                continue;
            }
            if let Some(option) = words.open.take() {
                words
                    .named
                    .insert(option.declared.name.clone(), word.clone());
                continue;
            }
            if word == "--" {
                // A script takes its own words with and without it.
                words.escaped = self.runbook.is_some();
                continue;
            }
            if !word.starts_with("--") {
                words.bare.push(word.clone());
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let Some(option) = self.option(name) else {
                continue;
            };
            match value {
                None if !option.declared.flag => words.open = Some(option),
                _ => {
                    let value = value.unwrap_or_default().to_string();
                    words.named.insert(option.declared.name.clone(), value);
                }
            }
        }
        words
    }

    fn runbook_file(&self, before: &[String]) -> Option<PathBuf> {
        let words = self.words(before);
        let name = self.runbook?;
        let file = self
            .arguments
            .iter()
            .find(|argument| argument.declared.name == name)?;
        self.bare(&words, file).map(PathBuf::from)
    }

    fn of_runbook(&self, before: &[String]) -> Option<Self> {
        let source = Source::read(&self.runbook_file(before)?).ok()?;
        Some(Self {
            arguments: declared(&source)
                .into_iter()
                .map(Argument::of_script)
                .collect(),
            runbook: None,
        })
    }
}

/// The words so far.
#[derive(Default)]
struct Words<'g> {
    named: BTreeMap<String, String>,
    bare: Vec<String>,
    /// The last word was an option, and its value follows.
    open: Option<&'g Argument>,
    /// What follows is the runbook's.
    escaped: bool,
}

impl Argument {
    fn of_script(declared: Declared) -> Self {
        let wanted = match &declared.takes {
            Takes::OneOf(words) => {
                let words = words.iter().map(|word| Candidate::new(word, ""));
                Wanted::OneOf(words.collect())
            }
            Takes::State => {
                let states = STATES.map(|state| Candidate::new(state, ""));
                Wanted::OneOf(states.into())
            }
            takes => Wanted::Takes(takes.clone()),
        };
        Self {
            wanted,
            declared,
            repeats: false,
        }
    }
}

/// What an argument of a built-in command is, by its name in `arguments.rs`.
fn wanted(command: &str, argument: &str) -> Wanted {
    match (command, argument) {
        ("run" | "rehearse", "file") | ("check", "files") => Wanted::Ending("rhai"),
        ("apply", "file") | ("run" | "undo", "save") => Wanted::Ending("json"),
        ("resume", "run") => Wanted::UnfinishedRun,
        (_, "run") => Wanted::Takes(Takes::Run),
        (_, "archive") => Wanted::Takes(Takes::Archive),
        ("show-manifest" | "describe" | "verify" | "cat", "generation")
        | ("diff", "from" | "to") => Wanted::Takes(Takes::Generation),
        ("cat", "topic") => Wanted::TopicOrPartition,
        ("describe", "topic") => Wanted::Takes(Takes::Topic),
        ("docs", "name") => Wanted::Documented,
        _ => Wanted::Takes(Takes::Text),
    }
}
