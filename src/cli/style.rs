//! The terminal: how wide it is, whether it shows colours, and how text is padded for it.

use std::io::IsTerminal;
use unicode_width::UnicodeWidthStr;

/// How to draw for one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
    pub width: usize,
}

/// Lines are drawn for this width when nobody says another, and never for a narrower one.
pub const WIDTH: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Green,
    Yellow,
    Red,
    Grey,
    Bold,
}

impl Style {
    pub const PLAIN: Style = Style {
        colour: false,
        width: WIDTH,
    };

    pub fn of_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    pub fn of_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        if !terminal {
            return Self::PLAIN;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: !set("NO_COLOR") && !dumb,
            width: terminal_size::terminal_size()
                .map_or(WIDTH, |(width, _)| usize::from(width.0))
                .clamp(WIDTH, 120),
        }
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_string(),
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Red => "31",
            Paint::Grey => "90",
            Paint::Bold => "1",
        };
        match self.colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

/// Where lines go to a file or another program.
const WIDTH_ELSEWHERE: usize = 200;

/// How wide a table may be: as the terminal is.
pub fn columns_of_stdout() -> usize {
    if !std::io::stdout().is_terminal() {
        return WIDTH_ELSEWHERE;
    }
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).max(WIDTH))
}

/// Columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Fills up with spaces on the right.
pub fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Fills up with spaces on the left.
pub fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Breaks `text` between words so that no line is wider than `columns`; a longer word stays whole.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && width(&line) + 1 + width(word) > columns {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// What a script or a broker wrote must not steer the terminal: control characters are replaced, not sent.
/// kbr's own colours pass, since nothing but colour can come of them.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let own = (c == '\x1b')
            .then(|| COLOURS.iter().find(|colour| rest.starts_with(**colour)))
            .flatten();
        if let Some(colour) = own {
            out.push_str(colour);
            rest = &rest[colour.len()..];
            continue;
        }
        out.push(match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        });
        rest = &rest[c.len_utf8()..];
    }
    out
}

const COLOURS: [&str; 6] = [
    "\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[90m",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(left("受注", 6), "受注  ");
        assert_eq!(right("é", 3), "  é");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcdefghij", "k"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
