//! `kbr NAME`: subcommands that are scripts. NAME.rhai is looked for in the folders on KBR_PATH, then among those that
//! ship inside the binary, and runs as `kbr run` would run it.

use super::arguments::{Arguments, Command, Output};
use super::misuse::usage;
use super::plan_view::Typed;
use super::print;
use super::report::Report;
use super::runbook::{read_source, run_source};
use super::style::wrapped;
use crate::base::text::did_you_mean;
use crate::dsl::{Declared, Source, declared, head_comment};
use crate::run::ExitClass;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The scripts in the binary.
const STDLIB: [(&str, &str); 7] = [
    ("group", include_str!("../../stdlib/group.rhai")),
    ("groups", include_str!("../../stdlib/groups.rhai")),
    ("lag", include_str!("../../stdlib/lag.rhai")),
    ("offsets", include_str!("../../stdlib/offsets.rhai")),
    ("prune", include_str!("../../stdlib/prune.rhai")),
    ("sample", include_str!("../../stdlib/sample.rhai")),
    ("undelete", include_str!("../../stdlib/undelete.rhai")),
];

/// The text of a script that is a command.
pub fn source(name: &str) -> Option<Source> {
    scripts().remove(name)?.source(name).ok()
}

/// Each script with the first line of what it says of itself.
pub fn abouts() -> Vec<(String, String)> {
    let scripts = scripts().into_iter();
    scripts
        .map(|(name, place)| {
            let about = place.source(&name).ok().map(|source| head_comment(&source));
            let about = about.unwrap_or_default();
            (name, about.lines().next().unwrap_or_default().to_string())
        })
        .collect()
}

/// Where a script is.
enum Place {
    File(PathBuf),
    Binary(&'static str),
}

impl Place {
    fn source(&self, name: &str) -> Result<Source, Box<Report>> {
        match self {
            Self::File(file) => read_source(file),
            Self::Binary(text) => Ok(Source::inline(format!("{name}.rhai"), *text)),
        }
    }
}

/// Every script by its name; the first folder on KBR_PATH wins.
fn scripts() -> BTreeMap<String, Place> {
    let mut scripts: BTreeMap<String, Place> = STDLIB
        .into_iter()
        .map(|(name, text)| (name.to_string(), Place::Binary(text)))
        .collect();
    let path = std::env::var_os("KBR_PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in folders.iter().rev().filter(|f| !f.as_os_str().is_empty()) {
        // A folder that cannot be read has no scripts; asking for one of them says that there is none.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.path();
            let name = file.file_stem().and_then(|name| name.to_str());
            let is_script = file.extension().is_some_and(|e| e == "rhai") && file.is_file();
            if let (true, Some(name)) = (is_script && !is_test(&file), name) {
                scripts.insert(name.to_string(), Place::File(file.clone()));
            }
        }
    }
    for builtin in builtins() {
        scripts.remove(&builtin);
    }
    scripts
}

fn is_test(file: &std::path::Path) -> bool {
    file.to_string_lossy().ends_with("_test.rhai")
}

fn builtins() -> Vec<String> {
    let command = Arguments::command();
    let names = command.get_subcommands();
    names
        .map(|command| command.get_name().to_string())
        .collect()
}

/// Runs the script that the first word names.
pub fn run(words: &[String]) -> (Output, Result<ExitClass, Box<Report>>) {
    let (output, result) = prepare(words);
    (output, result.and_then(|work| work()))
}

type Work = Box<dyn FnOnce() -> Result<ExitClass, Box<Report>>>;

fn prepare(words: &[String]) -> (Output, Result<Work, Box<Report>>) {
    let Some((name, words)) = words.split_first() else {
        return (Output::Text, Err(unknown("")));
    };
    let Some(place) = scripts().remove(name) else {
        return (Output::Text, Err(unknown(name)));
    };
    let source = match place.source(name) {
        Ok(source) => source,
        Err(report) => return (Output::Text, Err(report)),
    };
    let (own, given) = split(words);
    if given.iter().any(|word| word == "--help" || word == "-h") {
        let help = help(name, &source);
        let work: Work = Box::new(move || {
            print(&help);
            Ok(ExitClass::Done)
        });
        return (Output::Text, Ok(work));
    }
    if name == "offsets"
        && source.path.is_none()
        && let Some(given) = without_undo(&given, &declared(&source))
    {
        return undo(own, &given);
    }
    let mut line = vec!["kbr".to_string(), "run".to_string(), name.clone()];
    line.extend(own);
    line.push("--".to_string());
    line.extend(given);
    match parsed(line) {
        Ok(Arguments {
            command: Command::Run(arguments),
        }) => {
            let runbook = (source, Typed::Script(name.clone()));
            let output = arguments.output;
            (output, Ok(Box::new(move || run_source(runbook, arguments))))
        }
        // Said as of any other command line that is wrong.
        Ok(_) => (Output::Text, Err(unknown(name))),
        Err(error) => error.exit(),
    }
}

/// The words but the action, where it is `undo`: however it is typed, before or behind the options, or as one of them.
fn without_undo(given: &[String], declared: &[Declared]) -> Option<Vec<String>> {
    let is_undo = |word: &str| word.eq_ignore_ascii_case("undo");
    let is_flag = |name: &str| {
        let mut flags = declared.iter().filter(|known| known.flag);
        flags.any(|flag| flag.flag_name() == name)
    };
    let without = |from: usize, count: usize| {
        let (before, after) = (&given[..from], &given[from + count..]);
        Some([before, after].concat())
    };
    let mut index = 0;
    let mut first_bare = None;
    while let Some(word) = given.get(index) {
        let Some(option) = word.strip_prefix("--") else {
            first_bare.get_or_insert(index);
            index += 1;
            continue;
        };
        let value = given.get(index + 1).filter(|next| !next.starts_with("--"));
        match (option.split_once('='), value) {
            (Some(("action", value)), _) => {
                return is_undo(value).then(|| without(index, 1)).flatten();
            }
            (None, Some(value)) if option == "action" => {
                return is_undo(value).then(|| without(index, 2)).flatten();
            }
            (None, Some(_)) if !is_flag(option) => index += 2,
            _ => index += 1,
        }
    }
    let bare = first_bare.filter(|bare| is_undo(&given[*bare]))?;
    without(bare, 1)
}

/// `kbr offsets undo RUN` is `kbr undo RUN`, all its options included.
fn undo(own: Vec<String>, given: &[String]) -> (Output, Result<Work, Box<Report>>) {
    let mut line = vec!["kbr".to_string(), "undo".to_string()];
    line.extend(own);
    line.extend_from_slice(given);
    match parsed(line) {
        Ok(Arguments {
            command: Command::Undo(arguments),
        }) => (
            arguments.output,
            Ok(Box::new(move || super::undo::undo(arguments))),
        ),
        Ok(_) => (Output::Text, Err(unknown("undo"))),
        Err(error) => error.exit(),
    }
}

fn parsed(line: Vec<String>) -> Result<Arguments, clap::Error> {
    let matches = Arguments::command().try_get_matches_from(line)?;
    Arguments::from_arg_matches(&matches)
}

/// The names of the options that every script has, as `kbr run` has them.
pub fn run_options() -> Vec<String> {
    let command = Arguments::command();
    let run = command.find_subcommand("run").into_iter();
    run.flat_map(clap::Command::get_arguments)
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| argument.get_long().map(str::to_string))
        .collect()
}

/// The options of `kbr run` among the words, and the script's own.
fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let command = Arguments::command();
    let options: BTreeMap<String, bool> = command
        .find_subcommand("run")
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| {
            let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
            // The value of `--watch=5` is never the next word.
            let takes_value = takes_value && !argument.is_require_equals_set();
            Some((format!("--{}", argument.get_long()?), takes_value))
        })
        .collect();
    let (mut own, mut given) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        match options.get(name) {
            None => given.push(word.clone()),
            Some(takes_value) => {
                own.push(word.clone());
                if *takes_value && name == word {
                    own.extend(words.next().cloned());
                }
            }
        }
    }
    // `kbr prune -- --keep-last 7` as with `kbr run`.
    given.retain(|word| word != "--");
    (own, given)
}

fn unknown(name: &str) -> Box<Report> {
    let names: Vec<String> = builtins()
        .into_iter()
        .chain(scripts().into_keys())
        .collect();
    let report = Report::usage("E0108", format!("there is no command {name:?}"));
    let near = did_you_mean(name, names.iter().map(String::as_str));
    Box::new(match near {
        Some(near) => report.now(format!("did you mean kbr {near}?")),
        None if std::path::Path::new(name).is_file() => report.now(format!("kbr run {name}")),
        None => report.now("kbr --help lists the commands; KBR_PATH names folders with scripts"),
    })
}

fn help(name: &str, source: &Source) -> String {
    let declared = declared(source);
    let mut text = head_comment(source);
    text.push_str(&format!("\n\nUsage: {}\n", usage(name, &declared)));
    let mut places: Vec<&Declared> = declared.iter().filter(|d| d.position.is_some()).collect();
    places.sort_by_key(|declared| declared.position);
    let rows = |rows: Vec<(String, String)>| {
        let mut text = String::new();
        for (left, help) in rows {
            for (index, line) in wrapped(&help, 50).into_iter().enumerate() {
                let left = if index == 0 { left.as_str() } else { "" };
                text.push_str(&format!("  {left:<26}{line}\n"));
            }
        }
        text
    };
    if !places.is_empty() {
        text.push_str("\nArguments:\n");
        let places = places.iter();
        let named = places.map(|p| (p.flag_name().to_uppercase(), p.help.clone()));
        text.push_str(&rows(named.collect()));
    }
    let own = declared.iter().filter(|d| d.position.is_none());
    let own: Vec<(String, String)> = own
        .map(|option| match option.flag {
            true => (format!("--{}", option.flag_name()), option.help.clone()),
            false => (format!("--{} …", option.flag_name()), option.help.clone()),
        })
        .collect();
    if !own.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&rows(own));
    }
    text.push_str("\nAs with kbr run:\n");
    let command = Arguments::command();
    let run = command.find_subcommand("run");
    let options = run.into_iter().flat_map(clap::Command::get_arguments);
    let options =
        options.filter(|argument| argument.get_long().is_some() && !argument.is_hide_set());
    text.push_str(&rows(
        options
            .map(|argument| {
                let value = argument.get_value_names().and_then(|names| names.first());
                let takes = matches!(argument.get_action(), ArgAction::Set);
                let value = match (takes, value) {
                    (true, Some(value)) if argument.is_require_equals_set() => {
                        format!("[={value}]")
                    }
                    (true, Some(value)) => format!(" {value}"),
                    _ => String::new(),
                };
                let help = argument.get_help().map(ToString::to_string);
                let long = argument.get_long().unwrap_or_default();
                (format!("--{long}{value}"), help.unwrap_or_default())
            })
            .collect(),
    ));
    text
}

/// The command with its scripts named at the end of its help.
pub fn listed(command: clap::Command) -> clap::Command {
    let names: Vec<String> = scripts().into_keys().collect();
    let before = command.get_after_help().map(ToString::to_string);
    let scripts = format!(
        "Scripts, each a command (kbr NAME --help): {}\n\n{}",
        names.join(", "),
        before.unwrap_or_default()
    );
    command.after_help(scripts)
}

/// The command with a subcommand for every script, for completions.
pub fn with_scripts(mut command: clap::Command) -> clap::Command {
    // The generator wants names that live as long as the process, which ends right after it.
    let kept = |text: String| -> &'static str { text.leak() };
    for (name, place) in scripts() {
        let Ok(source) = place.source(&name) else {
            continue;
        };
        let about = head_comment(&source);
        let about = about.lines().next().unwrap_or_default().to_string();
        let mut script = clap::Command::new(kept(name)).about(about);
        for declared in declared(&source) {
            let action = match declared.flag {
                true => ArgAction::SetTrue,
                false => ArgAction::Set,
            };
            let long = kept(declared.flag_name());
            script = script.arg(Arg::new(long).long(long).help(declared.help).action(action));
        }
        let run = Arguments::command();
        let run = run.find_subcommand("run").into_iter();
        for option in run.flat_map(clap::Command::get_arguments) {
            let known = script
                .get_arguments()
                .any(|own| own.get_id() == option.get_id());
            if option.get_long().is_some() && !option.is_hide_set() && !known {
                script = script.arg(option.clone());
            }
        }
        command = command.subcommand(script);
    }
    command
}
