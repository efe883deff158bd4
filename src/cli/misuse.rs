//! The words after a script's name: read as the script declares them, and what is said where they are wrong. A person
//! at a terminal typed a command, not a script, so nothing here shows a line of one.

use super::report::Report;
use crate::base::text::did_you_mean;
use crate::dsl::{self, Declared, Source, Takes, head_comment, missing};
use crate::run::{Config, ExitClass};
use std::path::Path;

/// The arguments of the script `name`, or which of its words is wrong.
pub fn read(
    name: &str,
    source: &Source,
    declared: &[Declared],
    words: &[String],
) -> Result<dsl::Arguments, Box<Report>> {
    let wrong = |message: String| misuse(name, source, message);
    let mut arguments = dsl::Arguments::read(words, declared)
        .map_err(|message| Box::new(finished(name, wrong(message))))?;
    // Those that it declares in another way than written out are checked while it runs.
    if declared.is_empty() {
        return Ok(arguments);
    }
    for (argument, value) in &mut arguments.0 {
        let Some(known) = declared.iter().find(|known| known.name == *argument) else {
            let shown = argument.replace('_', "-");
            let report = wrong(format!("kbr {name} has no option --{shown}"));
            let names = declared.iter().map(Declared::flag_name);
            let names: Vec<String> = names.chain(super::subcommand::run_options()).collect();
            let near = did_you_mean(&shown, names.iter().map(String::as_str));
            return Err(Box::new(match near {
                Some(near) => report.now(format!("did you mean --{near}?")),
                None => finished(name, report),
            }));
        };
        *value = known.taken(value).map_err(|not| {
            let mut report = wrong(not.message);
            if let Some(words) = not.one_of {
                report.facts.insert(0, ("one of".into(), words));
            }
            Box::new(match not.nearest {
                Some(near) => report.now(format!("did you mean {near}?")),
                None => finished(name, report),
            })
        })?;
    }
    for known in declared {
        if let (Some(other), true) = (&known.instead_of, arguments.0.contains_key(&known.name))
            && arguments.0.contains_key(other)
        {
            let other = Declared::named(other).flag_name();
            let message = format!("say either --{} or --{other}", known.flag_name());
            return Err(Box::new(finished(name, wrong(message))));
        }
    }
    if let Some(missing) = missing(declared, &arguments.0) {
        let mut report = wrong(format!("kbr {name} needs {}", missing.shown_name()));
        report
            .facts
            .insert(0, ("what".into(), missing.help.clone()));
        if let Some((label, text)) = possible(missing, declared, &arguments) {
            report.facts.insert(1, (label.to_string(), text));
        }
        return Err(Box::new(finished(name, report)));
    }
    Ok(arguments)
}

/// What the script itself refused in its words, as a mistake on the command line.
pub fn refused(name: &str, source: &Source, message: &str) -> Report {
    finished(name, misuse(name, source, message))
}

/// An error inside a script that ships in the binary, without the line of a file that nobody here has written.
pub fn without_script(mut report: Report) -> Report {
    let label = report.snippet.take().and_then(|snippet| snippet.label);
    if let Some(label) = label.filter(|_| !report.facts.iter().any(|(label, _)| label == "now")) {
        report.help = None;
        return report.now(label);
    }
    report
}

/// What a verb's hint says to write in a runbook, as the options of `kbr offsets` are written. `CLUSTER` is the one that
/// was named.
pub fn as_options(hint: &str, arguments: &dsl::Arguments) -> String {
    let cluster = arguments.0.get("cluster").map_or("CLUSTER", String::as_str);
    let place = format!("kbr groups {cluster}");
    [
        (".out_of_range(\"clamp\")", "--out-of-range clamp"),
        (".unplaced(\"leave\")", "--unplaced leave"),
        (".new_groups(true)", "--new-groups"),
        (".topics(\"…\")", "--topic …"),
        (".topics(…)", "--topic …"),
        (".groups(…)", "--group …"),
        ("kbr groups NAME", &place),
    ]
    .into_iter()
    .fold(hint.to_string(), |hint, (verb, option)| {
        hint.replace(verb, option)
    })
}

fn misuse(name: &str, source: &Source, message: impl Into<String>) -> Report {
    let declared = dsl::declared(source);
    let report = Report::new("E0101", ExitClass::Usage, message);
    let report = report.fact("usage", usage(name, &declared));
    match example(name, source) {
        Some(example) => report.fact("example", example),
        None => report,
    }
}

fn finished(name: &str, report: Report) -> Report {
    report.now(format!("kbr {name} --help"))
}

/// `kbr group CLUSTER NAME [OPTIONS]`
pub fn usage(name: &str, declared: &[Declared]) -> String {
    let mut text = format!("kbr {name}");
    let mut places: Vec<&Declared> = declared.iter().filter(|d| d.position.is_some()).collect();
    places.sort_by_key(|declared| declared.position);
    for place in places {
        let word = place.shown_name();
        let word = match place.rest {
            true => format!("{word}…"),
            false => word,
        };
        text.push_str(&match place.required {
            true => format!(" {word}"),
            false => format!(" [{word}]"),
        });
    }
    for option in declared {
        if option.position.is_none() && option.required {
            text.push_str(&format!(
                " --{0} {1}",
                option.flag_name(),
                option.flag_name().to_uppercase()
            ));
        }
    }
    text.push_str(" [OPTIONS]");
    text
}

/// The first command in the comment at the script's head.
fn example(name: &str, source: &Source) -> Option<String> {
    let command = format!("  kbr {name} ");
    let comment = head_comment(source);
    let line = comment.lines().find(|line| line.starts_with(&command))?;
    Some(line.trim().to_string())
}

/// What could be said there, as far as it is known without asking a cluster.
fn possible(
    missing: &Declared,
    declared: &[Declared],
    arguments: &dsl::Arguments,
) -> Option<(&'static str, String)> {
    let config = || Config::find(Path::new(".")).ok();
    let names = |names: Vec<String>| (!names.is_empty()).then(|| names.join(", "));
    // Where the names that are asked for are: what to type after `kbr groups`.
    let place = || {
        let of = |takes: &Takes| {
            let known = declared.iter().find(|known| known.takes == *takes)?;
            arguments.0.get(&known.name)
        };
        match (of(&Takes::Archive), of(&Takes::Cluster)) {
            (Some(archive), _) => Some(format!("--archive {archive}")),
            (None, Some(cluster)) => Some(cluster.clone()),
            (None, None) => None,
        }
    };
    match &missing.takes {
        Takes::Cluster => Some(("clusters", names(config()?.clusters.into_keys().collect())?)),
        Takes::Archive => Some(("archives", names(config()?.stores.into_keys().collect())?)),
        Takes::Group | Takes::Groups => {
            Some(("groups", format!("kbr groups {} lists them", place()?)))
        }
        Takes::OneOf(words) => Some(("one of", words.join(", "))),
        _ => None,
    }
}
