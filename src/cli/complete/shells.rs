//! What each shell hands over and wants back, and the script that makes it ask.

use super::Candidate;
use std::collections::BTreeSet;

/// The script that a shell reads once; `None` for those that get kbr's words only, without names.
pub fn registration(shell: clap_complete::Shell) -> Option<&'static str> {
    match shell {
        clap_complete::Shell::Bash => Some(include_str!("kbr.bash")),
        clap_complete::Shell::Zsh => Some(include_str!("kbr.zsh")),
        clap_complete::Shell::Fish => Some(include_str!("kbr.fish")),
        _ => None,
    }
}

/// A line of bash up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// As kbr would get them; the last is the one at the cursor, and may be empty.
    pub words: Vec<String>,
    /// Of the last word, what stands before that which bash takes for the word.
    kept: String,
    quote: Option<char>,
    /// `~` is written as it is.
    tilde: bool,
}

impl Line {
    /// `line` up to the cursor, and its end that bash would put another text for: bash breaks words at `:` and `=`, and
    /// behind an open quote.
    pub fn read(line: &str, replaced: &str) -> Option<Self> {
        let kept = line.strip_suffix(replaced)?.len();
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        // Of the word so far, what is left when `kept` bytes of the line were read.
        let mut kept_word = String::new();
        let mut tilde = false;
        let mut quote = None;
        let mut characters = line.char_indices();
        while let Some((at, c)) = characters.next() {
            if at == kept {
                kept_word = word.clone().unwrap_or_default();
                tilde = c == '~' && word.is_none();
            }
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some('\''), c) => word.get_or_insert_default().push(c),
                (Some(_), '\\') => {
                    let word = word.get_or_insert_default();
                    match characters.clone().next() {
                        Some((_, next)) if "\"\\$`".contains(next) => {
                            word.push(next);
                            characters.next();
                        }
                        _ => word.push('\\'),
                    }
                }
                (Some(_), c) => word.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '\\') => {
                    if let Some((_, next)) = characters.next() {
                        word.get_or_insert_default().push(next);
                    }
                }
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (None, c) => word.get_or_insert_default().push(c),
            }
        }
        if kept == line.len() {
            kept_word = word.clone().unwrap_or_default();
        }
        words.push(word.unwrap_or_default());
        Some(Self {
            words,
            kept: kept_word,
            quote,
            tilde,
        })
    }

    /// As bash puts it into the line.
    fn written(&self, value: &str) -> Option<String> {
        let rest = value.strip_prefix(&self.kept)?;
        // Inside double quotes bash takes `!` for a command of its history, and nothing there makes it plain.
        if self.quote == Some('"') && rest.contains('!') {
            return None;
        }
        // The rest of a name does not say in which letters the kept beginning is written.
        let mut out = String::with_capacity(rest.len());
        for (index, c) in rest.chars().enumerate() {
            let plain = match self.quote {
                Some('\'') => {
                    if c == '\'' {
                        out.push_str("'\\''");
                        continue;
                    }
                    true
                }
                Some(_) => !"\"\\$`".contains(c),
                None => {
                    c.is_alphanumeric()
                        || "-_./:=,@%+".contains(c)
                        || (c == '~' && (index > 0 || self.tilde))
                }
            };
            if !plain {
                out.push('\\');
            }
            out.push(c);
        }
        Some(out)
    }
}

/// The first line says whether a space may follow, then a line for each.
pub fn for_bash(line: &Line, candidates: &[Candidate]) -> String {
    let written: Vec<String> = usable(candidates)
        .filter_map(|candidate| line.written(&candidate.value))
        .collect();
    let goes_on = !written.is_empty() && written.iter().all(|text| text.ends_with(['/', ':', '=']));
    let mut out = String::from(if goes_on { "nospace\n" } else { "space\n" });
    for text in written {
        out.push_str(&text);
        out.push('\n');
    }
    out
}

/// A line for each: the value, and after a tab what is said of it.
pub fn for_others(candidates: &[Candidate]) -> String {
    let mut out = String::new();
    for Candidate { value, about } in usable(candidates) {
        out.push_str(value);
        let about = about.lines().next().unwrap_or_default().trim();
        if !about.is_empty() {
            out.push('\t');
            out.extend(about.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        out.push('\n');
    }
    out
}

/// Each once, and none that would break the protocol or steer the terminal.
fn usable(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    let mut seen = BTreeSet::new();
    candidates.iter().filter(move |candidate| {
        !candidate.value.is_empty()
            && !candidate.value.chars().any(char::is_control)
            && seen.insert(candidate.value.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn completed(line: &str, replaced: &str, words: &[&str], value: &str, written: &str) {
        let read = Line::read(line, replaced).unwrap();
        assert_eq!(read.words, words, "{line}");
        assert_eq!(read.written(value).as_deref(), Some(written), "{line}");
    }

    /// The lines and the second column are what bash 5.2 hands over.
    #[test]
    fn a_line_of_bash_is_read_and_its_end_written_as_bash_wants_it() {
        let kbr = |word: &'static str| ["kbr", "group", word];
        completed("kbr group ", "", &kbr(""), "a b", "a\\ b");
        completed("kbr group che", "che", &kbr("che"), "check", "check");
        let address = "127.0.0.1:90";
        completed(
            "kbr group 127.0.0.1:90",
            "90",
            &kbr(address),
            "127.0.0.1:9092",
            "9092",
        );
        completed(
            "kbr group --to=ea",
            "ea",
            &kbr("--to=ea"),
            "--to=earliest",
            "earliest",
        );
        completed("kbr group \"a b", "a b", &kbr("a b"), "a b$c", "a b\\$c");
        completed("kbr group 'a", "a", &kbr("a"), "a'b c", "a'\\''b c");
        completed("kbr group --to='a", "a", &kbr("--to=a"), "--to=a b", "a b");
        completed(
            "kbr group a\\ b",
            "a\\ b",
            &kbr("a b"),
            "a b c",
            "a\\ b\\ c",
        );
        completed("kbr group a:", "", &kbr("a:"), "a:b", "b");
        completed("kbr group \"a b\":c", "c", &kbr("a b:c"), "a b:cd", "cd");
        completed("kbr group a\\:b", "a\\:b", &kbr("a:b"), "a:bc", "a:bc");
        completed("kbr group é", "é", &kbr("é"), "él*", "él\\*");
        completed("kbr group ~/f", "~/f", &kbr("~/f"), "~/file", "~/file");
        completed("kbr group ", "", &kbr(""), "~odd", "\\~odd");
        assert_eq!(Line::read("kbr group a", "b"), None);
    }

    #[test]
    fn what_would_break_a_line_or_steer_the_terminal_is_not_offered() {
        let names = ["a\nb", "a\x1b[2J", "", "plain", "plain"];
        let names = names.map(|name| Candidate::new(name, "said\tof it\nand more"));
        assert_eq!(for_others(&names), "plain\tsaid of it\n");
        let line = Line::read("kbr group ", "").unwrap();
        assert_eq!(for_bash(&line, &names), "space\nplain\n");
        let folder = [Candidate::new("archive/", "")];
        assert_eq!(for_bash(&line, &folder), "nospace\narchive/\n");
    }
}
