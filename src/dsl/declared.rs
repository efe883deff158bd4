//! Which arguments a runbook declares, told without running it: for its help, for completions, and for the bare words
//! on the command line that only the declaration gives a meaning.

use super::engine;
use super::source::Source;
use crate::base::text::{did_you_mean, one_slip};
use rhai::{Array, Dynamic, Expr, FnCallExpr, Map, Stmt};
use std::collections::BTreeMap;

/// What an argument is: what a shell completes it to, and what is refused before the runbook begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Takes {
    #[default]
    Text,
    Number,
    /// A name in `kbr.toml`, or addresses.
    Cluster,
    /// A name in `kbr.toml`, or a URL.
    Archive,
    /// An archive, or `cluster:NAME`.
    Source,
    Group,
    /// Several, with commas between.
    Groups,
    Topic,
    /// Several, with commas between.
    Topics,
    Partition,
    /// The number of an archive's recovery point.
    Generation,
    /// A run of the journal.
    Run,
    File,
    /// The state of a group. One that is not known passes, as brokers learn new ones, unless it is a known one but for a slip.
    State,
    OneOf(Vec<String>),
}

/// The states of groups that Kafka has today.
pub const STATES: [&str; 8] = [
    "Empty",
    "Stable",
    "Assigning",
    "Reconciling",
    "PreparingRebalance",
    "CompletingRebalance",
    "NotReady",
    "Dead",
];

impl Takes {
    const WORDS: [(&'static str, Takes); 14] = [
        ("text", Takes::Text),
        ("number", Takes::Number),
        ("cluster", Takes::Cluster),
        ("archive", Takes::Archive),
        ("source", Takes::Source),
        ("group", Takes::Group),
        ("groups", Takes::Groups),
        ("topic", Takes::Topic),
        ("topics", Takes::Topics),
        ("partition", Takes::Partition),
        ("generation", Takes::Generation),
        ("run", Takes::Run),
        ("file", Takes::File),
        ("state", Takes::State),
    ];

    /// A word of the list above, or a list of the words that are taken.
    fn read(said: &Dynamic) -> Result<Self, String> {
        let words = || Self::WORDS.iter().map(|(word, _)| *word);
        let wrong = || {
            format!(
                "one of {}, or a list of words",
                words().collect::<Vec<_>>().join(", ")
            )
        };
        if let Ok(word) = said.clone().into_string() {
            let known = Self::WORDS.into_iter().find(|(known, _)| *known == word);
            return known.map(|(_, takes)| takes).ok_or_else(|| {
                match did_you_mean(&word, words()) {
                    Some(near) => format!("{}; did you mean `{near}`?", wrong()),
                    None => wrong(),
                }
            });
        }
        let list = said.read_lock::<Array>().ok_or_else(wrong)?;
        let one_of = list.iter().map(|member| member.clone().into_string());
        let one_of = one_of.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        match one_of.is_empty() {
            true => Err(wrong()),
            false => Ok(Self::OneOf(one_of)),
        }
    }
}

/// One argument in `params(#{…})`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// As the script writes it, with underscores.
    pub name: String,
    pub help: String,
    /// A bare word in this place, from 1, is meant.
    pub position: Option<i64>,
    /// And all bare words that follow it.
    pub rest: bool,
    pub required: bool,
    /// It takes no value.
    pub flag: bool,
    pub takes: Takes,
    /// Where this is given, the bare words leave that argument out.
    pub instead_of: Option<String>,
}

/// A value that an argument does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    pub message: String,
    /// What is taken, where it is too much for the message.
    pub one_of: Option<String>,
    pub nearest: Option<String>,
}

impl Declared {
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_string(),
            ..Self::default()
        }
    }

    /// As the command line writes it: `keep-last`.
    pub fn flag_name(&self) -> String {
        self.name.replace('_', "-")
    }

    /// As a person reads it: `--keep-last`, or `ARCHIVE` where a bare word will do.
    pub fn shown_name(&self) -> String {
        match self.position {
            Some(_) => self.flag_name().to_uppercase(),
            None => format!("--{}", self.flag_name()),
        }
    }

    /// The value as the runbook gets it: one of several words as it is declared, however it was typed.
    pub fn taken(&self, value: &str) -> Result<String, NotTaken> {
        let not_taken = |wanted: &str, nearest: Option<&str>| NotTaken {
            message: format!("{} is {wanted}, not {value:?}", self.shown_name()),
            one_of: None,
            nearest: nearest.map(str::to_string),
        };
        match &self.takes {
            // What follows as several words may be a word of the runbook's own: `all`.
            Takes::Number | Takes::Partition | Takes::Generation if !self.rest => {
                match value.parse::<i64>() {
                    Ok(_) => Ok(value.to_string()),
                    Err(_) => Err(not_taken("a number", None)),
                }
            }
            Takes::State => {
                let known = STATES
                    .into_iter()
                    .find(|state| state.eq_ignore_ascii_case(value));
                match (known, one_slip(value, STATES)) {
                    (Some(known), _) => Ok(known.to_string()),
                    (None, None) => Ok(value.to_string()),
                    (None, near) => Err(NotTaken {
                        message: format!("{} is never {value:?}", self.shown_name()),
                        one_of: Some(STATES.join(", ")),
                        nearest: near.map(str::to_string),
                    }),
                }
            }
            Takes::OneOf(words) => {
                let known = words.iter().find(|word| word.eq_ignore_ascii_case(value));
                known.cloned().ok_or_else(|| {
                    let near = did_you_mean(value, words.iter().map(String::as_str));
                    match words.len() <= 4 {
                        true => not_taken(&one_of(words), near),
                        false => NotTaken {
                            message: format!("{} is never {value:?}", self.shown_name()),
                            one_of: Some(words.join(", ")),
                            nearest: near.map(str::to_string),
                        },
                    }
                })
            }
            _ => Ok(value.to_string()),
        }
    }

    /// What is said of an argument: a text, or a map of more.
    pub fn read(name: &str, said: &Dynamic) -> Result<Self, String> {
        let mut declared = Self::named(name);
        if let Ok(help) = said.clone().into_string() {
            declared.help = help;
            return Ok(declared);
        }
        let Some(map) = said.read_lock::<Map>() else {
            return Err(format!(
                "params: `{name}` is declared with what it is for, a text"
            ));
        };
        for (key, value) in map.iter() {
            let wrong = |wanted: &str| format!("params: `{key}` of `{name}` is {wanted}");
            let flag = || value.as_bool().map_err(|_| wrong("true or false"));
            match key.as_str() {
                "help" => {
                    let help = value.clone().into_string();
                    declared.help = help.map_err(|_| wrong("a text"))?;
                }
                "position" => {
                    let position = value.as_int().ok().filter(|position| *position > 0);
                    declared.position = Some(position.ok_or_else(|| wrong("a number from 1"))?);
                }
                "rest" => declared.rest = flag()?,
                "required" => declared.required = flag()?,
                "flag" => declared.flag = flag()?,
                "takes" => declared.takes = Takes::read(value).map_err(|why| wrong(&why))?,
                "instead_of" => {
                    let other = value.clone().into_string();
                    let other = other.map_err(|_| wrong("the name of another argument"))?;
                    declared.instead_of = Some(other);
                }
                _ => {
                    let keys = KEYS.join(", ");
                    let near = did_you_mean(key, KEYS);
                    let near =
                        near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    return Err(format!(
                        "params: `{name}` has no `{key}`: it takes {keys}{near}"
                    ));
                }
            }
        }
        Ok(declared)
    }
}

const KEYS: [&str; 7] = [
    "help",
    "position",
    "rest",
    "required",
    "flag",
    "takes",
    "instead_of",
];

/// `plan, reset or export`
fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The first argument that is needed and not given, nor another instead of it.
pub fn missing<'a>(
    declared: impl IntoIterator<Item = &'a Declared> + Clone,
    given: &BTreeMap<String, String>,
) -> Option<&'a Declared> {
    let replaced = |name: &str| {
        let mut others = declared.clone().into_iter();
        others.any(|other| {
            other.instead_of.as_deref() == Some(name) && given.contains_key(&other.name)
        })
    };
    let mut missing: Vec<&Declared> = declared
        .clone()
        .into_iter()
        .filter(|one| one.required && !given.contains_key(&one.name) && !replaced(&one.name))
        .collect();
    missing.sort_by_key(|one| one.position.unwrap_or(i64::MAX));
    missing.first().copied()
}

/// The arguments that a runbook declares in a `params(#{…})` at its top level, in its order; those it declares in
/// another way are not told. A text that is no script declares nothing here: evaluating it says why.
pub fn declared(source: &Source) -> Vec<Declared> {
    let engine = engine::parser();
    let Ok(ast) = engine::compile(&engine, &source.text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for statement in ast.statements() {
        let call: &FnCallExpr = match statement {
            Stmt::FnCall(call, _) => call,
            Stmt::Expr(expr) => match &**expr {
                Expr::FnCall(call, _) => call,
                _ => continue,
            },
            _ => continue,
        };
        if call.name != "params" {
            continue;
        }
        found.extend(written_out(call).into_iter().filter_map(Result::ok));
    }
    found
}

/// The arguments in one call of `params`, as far as they are written out, and what is wrong with them.
pub(super) fn written_out(call: &FnCallExpr) -> Vec<Result<Declared, String>> {
    match call.args.first() {
        Some(Expr::Map(map, _)) => {
            let members = map.0.iter();
            members
                .filter_map(|(name, value)| Some(Declared::read(&name.name, &constant(value)?)))
                .collect()
        }
        Some(Expr::DynamicConstant(value, _)) => {
            value.read_lock::<Map>().map_or_else(Vec::new, |map| {
                let members = map.iter();
                members
                    .map(|(name, said)| Declared::read(name, said))
                    .collect()
            })
        }
        _ => Vec::new(),
    }
}

/// What is written out.
fn constant(value: &Expr) -> Option<Dynamic> {
    match value {
        Expr::Map(map, _) => {
            let mut read = Map::new();
            for (name, value) in &map.0 {
                read.insert(name.name.as_str().into(), constant(value)?);
            }
            Some(Dynamic::from_map(read))
        }
        Expr::Array(members, _) => {
            let members = members.iter().map(constant).collect::<Option<Array>>();
            members.map(Dynamic::from_array)
        }
        other => other.get_literal_value(None),
    }
}

/// The comment at the head of a runbook, without its slashes.
pub fn head_comment(source: &Source) -> String {
    let lines: Vec<&str> = source
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    lines.join("\n").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runbook_declares_is_told_without_running_it() {
        let text = "// Does a thing.\n//\n//   kbr thing X\n\nparams(#{\n    archive: #{ help: \"where\", position: 1, required: true },\n    at: \"when\",\n});\nlet x = 1;\n";
        let source = Source::inline("thing", text);
        assert_eq!(
            declared(&source),
            [
                Declared {
                    help: "where".into(),
                    position: Some(1),
                    required: true,
                    ..Declared::named("archive")
                },
                Declared {
                    help: "when".into(),
                    ..Declared::named("at")
                },
            ]
        );
        assert_eq!(head_comment(&source), "Does a thing.\n\n  kbr thing X");
        assert_eq!(declared(&Source::inline("x", "let = ;")), []);
    }

    fn one(said: &str) -> Result<Declared, String> {
        let text = format!("params(#{{ x: {said} }});");
        let engine = engine::parser();
        let ast = engine::compile(&engine, &text).unwrap();
        let found = ast
            .statements()
            .iter()
            .find_map(|statement| match statement {
                Stmt::FnCall(call, _) => written_out(call).pop(),
                Stmt::Expr(expr) => match &**expr {
                    Expr::FnCall(call, _) => written_out(call).pop(),
                    _ => None,
                },
                _ => None,
            });
        found.unwrap()
    }

    #[test]
    fn what_an_argument_takes_is_a_word_or_a_list_and_a_slip_is_named() {
        assert_eq!(one("#{ takes: \"group\" }").unwrap().takes, Takes::Group);
        let listed = one("#{ takes: [\"csv\", \"json\"] }").unwrap().takes;
        assert_eq!(listed, Takes::OneOf(vec!["csv".into(), "json".into()]));
        let wrong = one("#{ takes: \"grup\" }").unwrap_err();
        assert!(wrong.starts_with("params: `takes` of `x` is one of text,"));
        assert!(wrong.ends_with("did you mean `group`?"), "{wrong}");
        assert!(one("#{ takes: [] }").is_err());
        let wrong = one("#{ take: \"group\" }").unwrap_err();
        assert!(wrong.ends_with("did you mean `takes`?"), "{wrong}");
    }

    #[test]
    fn a_value_that_is_not_taken_is_told_with_what_is() {
        let form = one("#{ takes: [\"csv\", \"json\", \"sh\"] }").unwrap();
        assert_eq!(form.taken("JSON").as_deref(), Ok("json"));
        let wrong = form.taken("jsn").unwrap_err();
        assert_eq!(wrong.message, "--x is csv, json or sh, not \"jsn\"");
        assert_eq!(wrong.nearest.as_deref(), Some("json"));
        let state = one("#{ takes: \"state\" }").unwrap();
        assert_eq!(state.taken("EMPTY").as_deref(), Ok("Empty"));
        for new in ["Initializing", "PreparingShutdown", "Unstable"] {
            assert_eq!(state.taken(new).as_deref(), Ok(new));
        }
        let wrong = state.taken("stabel").unwrap_err();
        assert_eq!(wrong.nearest.as_deref(), Some("Stable"));
        let number = one("#{ takes: \"number\", position: 1 }").unwrap();
        assert_eq!(number.taken("-7").as_deref(), Ok("-7"));
        let wrong = number.taken("seven").unwrap_err();
        assert_eq!(wrong.message, "X is a number, not \"seven\"");
    }
}
