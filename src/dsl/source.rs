//! A runbook's text and where it came from, and the arguments given to it.

use super::declared::Declared;
use crate::base::Digest;
use crate::run::Span;
use rhai::Position;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A script: its name for people, its text, its file if it has one.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: Arc<str>,
    pub path: Option<PathBuf>,
}

impl Source {
    /// Reads a runbook from a file; its name is the file's name.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            name: path.file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            text: std::fs::read_to_string(path)?.into(),
            path: Some(path.to_path_buf()),
        })
    }

    /// A script given inline: `kbr eval '…'`, tests.
    pub fn inline(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            path: None,
        }
    }

    /// The hash of the text, which a plan pins.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The word, text or sign at a position, as long as it is.
    pub fn span(&self, position: Position) -> Option<Span> {
        let line = position.line()?;
        let column = position.position().unwrap_or(1).max(1);
        let rest: Vec<char> = self.line(line)?.chars().skip(column - 1).collect();
        Some(Span {
            line,
            column,
            length: word_length(&rest),
        })
    }

    /// The text of a line, counted from 1.
    pub fn line(&self, line: usize) -> Option<&str> {
        self.text.lines().nth(line.checked_sub(1)?)
    }
}

fn word_length(rest: &[char]) -> usize {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    match rest.first() {
        Some(first) if is_word(first) => rest.iter().take_while(|c| is_word(c)).count(),
        Some(quote @ ('"' | '`' | '\'')) => {
            let mut escaped = false;
            for (index, c) in rest.iter().enumerate().skip(1) {
                if !escaped && c == quote {
                    return index + 1;
                }
                escaped = !escaped && *c == '\\';
            }
            1
        }
        Some(_) => {
            let sign = |c: &char| "=!<>&|+-*/%?.".contains(*c);
            rest.iter().take_while(|c| sign(c)).take(3).count().max(1)
        }
        None => 1,
    }
}

/// What was given to a runbook after `--`: `--at 2026-11-20T10:00:00Z`, `--at=…`, `--force` (the text "true"), and
/// bare words where the runbook declares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(pub BTreeMap<String, String>);

impl Arguments {
    /// Parses the words after `--`. A name's dashes become underscores, as a script must write it.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self, String> {
        Self::read(words, &[])
    }

    /// As [`Arguments::parse`], with what the runbook declares: which names are flags, and where bare words go.
    pub fn read<S: AsRef<str>>(words: &[S], declared: &[Declared]) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        let mut bare: Vec<String> = Vec::new();
        let mut words = words.iter().map(AsRef::as_ref).peekable();
        while let Some(word) = words.next() {
            let Some(named) = word.strip_prefix("--").filter(|name| !name.is_empty()) else {
                bare.push(word.to_string());
                continue;
            };
            let (name, value) = match named.split_once('=') {
                Some((name, value)) => (name.replace('-', "_"), value.to_string()),
                None => {
                    let name = named.replace('-', "_");
                    let flag = declared
                        .iter()
                        .any(|known| known.name == name && known.flag);
                    let value = match flag {
                        true => None,
                        false => words.next_if(|next| !next.starts_with("--")),
                    };
                    (name, value.unwrap_or("true").to_string())
                }
            };
            if given.insert(name.clone(), value).is_some() {
                return Err(format!("runbook argument --{name} is given twice"));
            }
        }
        place(bare, declared, &mut given)?;
        Ok(Self(given))
    }
}

/// Gives bare words to the arguments that take them, in their order.
fn place(
    bare: Vec<String>,
    declared: &[Declared],
    given: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let replaced: Vec<&String> = declared
        .iter()
        .filter(|other| given.contains_key(&other.name))
        .filter_map(|other| other.instead_of.as_ref())
        .collect();
    let mut places: Vec<&Declared> = declared
        .iter()
        .filter(|one| one.position.is_some() && !replaced.contains(&&one.name))
        .collect();
    places.sort_by_key(|declared| declared.position);
    let takes_bare = !places.is_empty();
    let mut places = places.into_iter();
    let mut rest: Option<&Declared> = None;
    for word in bare {
        let place = match rest {
            Some(rest) => rest,
            None => places
                .by_ref()
                .find(|place| !given.contains_key(&place.name))
                .ok_or_else(|| match takes_bare {
                    true => format!("there is no place for {word:?}"),
                    false => {
                        format!("runbook arguments are named: write --NAME VALUE, not {word:?}")
                    }
                })?,
        };
        let mut word = word;
        if place.rest {
            rest = Some(place);
            // Spaces stand between words; one within a word is told from those.
            word = word.replace(' ', "\\ ");
        }
        match given.get_mut(&place.name) {
            Some(words) => {
                words.push(' ');
                words.push_str(&word);
            }
            None => {
                given.insert(place.name.clone(), word);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_each_form() {
        let read = Arguments::parse(&["--at", "-2h", "--target=dr", "--dry-run"]).unwrap();
        let wanted = [("at", "-2h"), ("target", "dr"), ("dry_run", "true")];
        assert_eq!(
            read.0,
            wanted
                .into_iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect()
        );
        assert!(
            Arguments::parse(&["orders"])
                .unwrap_err()
                .contains("--NAME VALUE")
        );
        assert!(
            Arguments::parse(&["--a", "1", "--a", "2"])
                .unwrap_err()
                .contains("twice")
        );
    }

    #[test]
    fn bare_words_go_where_the_runbook_wants_them() {
        let declared = [
            Declared {
                position: Some(2),
                rest: true,
                ..Declared::named("generations")
            },
            Declared {
                position: Some(1),
                ..Declared::named("archive")
            },
            Declared {
                flag: true,
                ..Declared::named("quiet")
            },
        ];
        let read = |words: &[&str]| Arguments::read(words, &declared).map(|read| read.0);
        let wanted = |rows: &[(&str, &str)]| {
            let rows = rows.iter();
            Ok(rows
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect())
        };
        assert_eq!(
            read(&["--quiet", "file:a", "3", "--grace", "1d", "5"]),
            wanted(&[
                ("quiet", "true"),
                ("archive", "file:a"),
                ("generations", "3 5"),
                ("grace", "1d")
            ])
        );
        assert_eq!(
            read(&["--archive", "file:a", "7"]),
            wanted(&[("archive", "file:a"), ("generations", "7")])
        );
        let declared = [
            Declared {
                position: Some(1),
                ..Declared::named("cluster")
            },
            Declared {
                position: Some(2),
                ..Declared::named("name")
            },
            Declared {
                instead_of: Some("cluster".into()),
                ..Declared::named("archive")
            },
        ];
        let read = |words: &[&str]| Arguments::read(words, &declared).map(|read| read.0);
        assert_eq!(
            read(&["audit", "--archive", "file:a"]),
            wanted(&[("name", "audit"), ("archive", "file:a")])
        );
        assert_eq!(
            read(&["dr", "audit", "more"]).unwrap_err(),
            "there is no place for \"more\""
        );
    }
}
