//! How topics, groups and the like are named in a selection: exactly, by glob, by regular expression.

use std::fmt;

/// A name, a glob (`payments-*`, `{a,b}`, `[0-9]`) or a regular expression between slashes (`/^pay/`).
#[derive(Clone, Debug)]
pub enum Pattern {
    Name(String),
    Glob(String, globset::GlobMatcher),
    Regex(String, regex::Regex),
}

/// A pattern that cannot be read: what was written, and why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern: {text:?}: {reason}")]
pub struct PatternError {
    pub text: String,
    pub reason: String,
}

/// What is wrong with a regular expression, without the drawing of it, which would break a line of a message.
fn last_words(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_string()
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let wrong = |reason: String| PatternError {
            text: text.to_string(),
            reason,
        };
        if text.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        if text.len() > 2 && text.starts_with('/') && text.ends_with('/') {
            let inner = &text[1..text.len() - 1];
            let regex = regex::RegexBuilder::new(inner)
                .size_limit(1 << 20)
                .build()
                .map_err(|error| wrong(last_words(&error)))?;
            return Ok(Self::Regex(text.to_string(), regex));
        }
        if text.contains(['*', '?', '[', '{']) {
            let glob = globset::Glob::new(text).map_err(|error| wrong(error.kind().to_string()))?;
            return Ok(Self::Glob(text.to_string(), glob.compile_matcher()));
        }
        Ok(Self::Name(text.to_string()))
    }

    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Glob(_, glob) => glob.is_match(name),
            Self::Regex(_, regex) => regex.is_match(name),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Glob(text, _) | Self::Regex(text, _) => text,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Names to take: every one that an `include` matches (all, if there is none) and no `exclude` does.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub include: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
}

impl Selection {
    pub fn of(include: &[&str]) -> Result<Self, PatternError> {
        Ok(Self {
            include: include
                .iter()
                .map(|text| Pattern::parse(text))
                .collect::<Result<_, _>>()?,
            exclude: Vec::new(),
        })
    }

    pub fn takes(&self, name: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(name)))
            && !self.exclude.iter().any(|pattern| pattern.matches(name))
    }

    /// The includes that match none of `names`: a typo in a runbook must not pass as an empty selection.
    pub fn unmatched<'a>(&'a self, names: &[&str]) -> Vec<&'a Pattern> {
        self.include
            .iter()
            .filter(|pattern| !names.iter().any(|name| pattern.matches(name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_regex_is_told_on_one_line() {
        let error = Pattern::parse("/(/").unwrap_err();
        assert_eq!(error.to_string(), "not a pattern: \"/(/\": unclosed group");
    }

    #[test]
    fn names_globs_and_regexes_select() {
        let selection = Selection::of(&["orders", "payments-*", "/^audit\\.[0-9]+$/"]).unwrap();
        for name in ["orders", "payments-eu", "audit.7"] {
            assert!(selection.takes(name), "{name}");
        }
        for name in ["orders2", "payments", "audit.x"] {
            assert!(!selection.takes(name), "{name}");
        }
        assert_eq!(
            selection.unmatched(&["orders", "audit.7"])[0].text(),
            "payments-*"
        );
    }

    #[test]
    fn a_broken_pattern_says_why() {
        let error = Pattern::parse("/(/").unwrap_err();
        assert!(error.to_string().contains("unclosed group"), "{error}");
    }
}
