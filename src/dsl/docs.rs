//! `kbr docs` and the generated part of docs/runbooks.md, both printed from the table.

use super::kind::Kind;
use super::table::{self, Entry, Form, MapOption};
use crate::base::text::did_you_mean;
use std::fmt::Write;

/// The documentation of one name (`restore`, `restore.before`), or every name for `None`.
pub fn docs(name: Option<&str>) -> Result<String, String> {
    let Some(name) = name else {
        return Ok(overview());
    };
    let name = name.trim().trim_start_matches('.').trim_end_matches("()");
    if let Some((on, member)) = name.split_once('.') {
        let kind = kind_of(on).ok_or_else(|| unknown(on))?;
        return table::member(kind, member).map(entry_text).ok_or_else(|| {
            let near = table::nearest_member(kind, member)
                .map_or_else(String::new, |near| format!("; did you mean {on}.{near}?"));
            format!("{on} has no {member}{near}")
        });
    }
    let mut text = String::new();
    if let Some(entry) = table::global(name) {
        text.push_str(&entry_text(entry));
    }
    if let Some(kind) = kind_of(name) {
        for entry in table::members(kind) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&entry_text(entry));
        }
    }
    if text.is_empty() {
        let owners: Vec<&Entry> = table::entries()
            .filter(|entry| entry.on.is_some() && entry.name == name)
            .collect();
        for entry in owners {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&entry_text(entry));
        }
    }
    if text.is_empty() {
        return Err(unknown(name));
    }
    Ok(text)
}

/// Every name that is documented by itself: `restore`, `archive`; after `restore.` its members.
pub fn documented(begun: &str) -> Vec<String> {
    if let Some((on, _)) = begun.split_once('.') {
        let members = kind_of(on).into_iter().flat_map(table::members);
        return members
            .map(|entry| format!("{on}.{}", entry.name))
            .collect();
    }
    let globals = table::entries().filter(|entry| entry.on.is_none());
    let globals = globals.map(|entry| entry.name.to_string());
    let kinds = Kind::OWN.into_iter().map(|kind| kind.word().to_string());
    let kinds = kinds.filter(|word| kind_of(word).is_some());
    let mut names: Vec<String> = globals.chain(kinds).collect();
    names.sort();
    names.dedup();
    names
}

fn kind_of(word: &str) -> Option<Kind> {
    Kind::OWN
        .into_iter()
        .find(|kind| kind.word() == word && table::members(*kind).next().is_some())
}

fn unknown(name: &str) -> String {
    let near = did_you_mean(
        name,
        table::entries()
            .map(|entry| entry.name)
            .chain(Kind::OWN.into_iter().map(Kind::word)),
    );
    match near {
        Some(near) => format!("no name {name} in runbooks; did you mean {near}?"),
        None => format!("no name {name} in runbooks; kbr docs lists all"),
    }
}

fn entry_text(entry: &Entry) -> String {
    let mut text = String::new();
    let owner = entry.on.map_or("", Kind::word);
    let _ = writeln!(
        text,
        "{owner}{} → {}",
        entry.signature(),
        entry.returns.word()
    );
    for line in wrapped(&sentence(entry), 76) {
        let _ = writeln!(text, "    {line}");
    }
    if !entry.default.is_empty() {
        let _ = writeln!(text, "    default: {}", entry.default);
    }
    for choices in entry.parameters.iter().map(|parameter| parameter.choices) {
        if !choices.is_empty() {
            let _ = writeln!(text, "    one of: {}", choices.join(", "));
        }
    }
    for option in entry.parameters.iter().flat_map(|p| p.options) {
        for (index, line) in wrapped(&option_sentence(option), 74).iter().enumerate() {
            let indent = if index == 0 { "    " } else { "      " };
            let _ = writeln!(text, "{indent}{line}");
        }
    }
    if !entry.example.is_empty() {
        let _ = writeln!(text, "    example: {}", entry.example);
    }
    text
}

/// `keep_last: number or text. The newest so many. Default: none.`
fn option_sentence(option: &MapOption) -> String {
    let kinds: Vec<&str> = option.kinds.iter().map(|kind| kind.word()).collect();
    format!(
        "{}: {}. {} Default: {}.",
        option.name,
        kinds.join(" or "),
        option.doc,
        option.default
    )
}

fn sentence(entry: &Entry) -> String {
    if entry.doc.is_empty() {
        format!("Its {}.", entry.name.replace('_', " "))
    } else {
        entry.doc.to_string()
    }
}

/// Breaks text into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn overview() -> String {
    let mut text = String::new();
    for (title, wanted) in [("verbs", Form::Verb), ("functions", Form::Function)] {
        let _ = writeln!(text, "{title}");
        for entry in table::entries().filter(|entry| entry.form == wanted) {
            let doc = sentence(entry);
            let first = doc.split_inclusive(". ").next().unwrap_or(&doc).trim();
            row(&mut text, entry.name, first);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "types, with their options, methods and properties");
    for kind in Kind::OWN {
        let names: Vec<&str> = table::members(kind).map(|entry| entry.name).collect();
        if !names.is_empty() {
            row(&mut text, kind.word(), &names.join(", "));
        }
    }
    text.push_str("\nkbr docs NAME tells more: kbr docs restore, kbr docs restore.before\n");
    text
}

/// A name and what is said of it, within 80 columns.
fn row(text: &mut String, name: &str, about: &str) {
    for (index, line) in wrapped(about, 64).into_iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        let _ = writeln!(text, "  {name:<12}  {line}");
    }
}

/// The generated part of docs/runbooks.md.
pub fn markdown() -> String {
    let mut text = String::new();
    let _ = writeln!(text, "### Verbs and functions\n");
    for entry in table::entries().filter(|entry| entry.on.is_none()) {
        markdown_entry(&mut text, entry);
    }
    for kind in Kind::OWN {
        let mut members = table::members(kind).peekable();
        if members.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "### {}\n", kind.word());
        for entry in members {
            markdown_entry(&mut text, entry);
        }
    }
    text
}

fn markdown_entry(text: &mut String, entry: &Entry) {
    let form = match entry.form {
        Form::Terminal => ", adds steps",
        Form::Option => ", option",
        _ => "",
    };
    let _ = writeln!(
        text,
        "- `{}` → {}{form}",
        entry.signature(),
        entry.returns.word()
    );
    let mut doc = sentence(entry);
    if !entry.default.is_empty() {
        let _ = write!(doc, " Default: {}.", entry.default);
    }
    for choices in entry.parameters.iter().map(|parameter| parameter.choices) {
        if !choices.is_empty() {
            let _ = write!(doc, " One of: {}.", choices.join(", "));
        }
    }
    for line in wrapped(&doc, 116) {
        let _ = writeln!(text, "  {line}");
    }
    for option in entry.parameters.iter().flat_map(|p| p.options) {
        let sentence =
            option_sentence(option).replacen(option.name, &format!("`{}`", option.name), 1);
        for (index, line) in wrapped(&format!("- {sentence}"), 114).iter().enumerate() {
            let indent = if index == 0 { "  " } else { "    " };
            let _ = writeln!(text, "{indent}{line}");
        }
    }
    if !entry.example.is_empty() {
        let _ = writeln!(text, "\n  ```rhai\n  {}\n  ```", entry.example);
    }
    text.push('\n');
}
