//! A closure taken out of its runbook: source text, frozen captures, and engines of its own to run in.
//!
//! Its fingerprint is its text and what it captured, never its name, which differs between processes. It runs
//! without verbs, clock, print or environment: with equal input it gives equal answers, in plan and execution.

mod saved;

use super::engine;
use super::failure::Failure;
use super::kind::Kind;
use super::messages;
use super::show;
use super::source::Source;
use crate::base::Digest;
use crate::run::Span;
use rhai::{AST, ASTNode, Array, Dynamic, Engine, Expr, FnPtr, Map, Position};
use std::collections::BTreeSet;

/// A closure that can be called from any thread, through a [`Session`] each.
#[derive(Clone, Debug)]
pub struct Closure {
    source: Source,
    /// As the engine made it. It finds its function by name, which holds for this process and this text.
    pointer: FnPtr,
    /// Names and values of what it captured, frozen.
    captures: Vec<(String, Dynamic)>,
    /// Its own text, from `|` to its end.
    pub text: String,
    position: Position,
    calls_functions: bool,
    /// The name of its one argument beside what it captured.
    argument: Option<String>,
    /// Its argument may be looked at as a whole: as text, by a function, through another name.
    passes_on: bool,
}

impl Closure {
    /// Freezes a closure that a verb was given.
    pub fn take(source: &Source, ast: &AST, pointer: &FnPtr) -> Result<Self, Failure> {
        let name = pointer.fn_name().to_string();
        let Some(function) = ast.iter_functions().find(|function| function.name == name) else {
            return Err(Failure::script(
                "E0213",
                format!("`{name}` is not a closure of this runbook"),
            )
            .help("write it in place: |r| …"));
        };
        let mut captures = Vec::new();
        for (value, parameter) in pointer.iter_curry().zip(&function.params) {
            captures.push(((*parameter).to_string(), frozen(parameter, value)?));
        }
        let position = if pointer.is_anonymous() {
            place_of(ast, &name).unwrap_or(Position::NONE)
        } else {
            Position::NONE
        };
        let text = closure_text(&source.text, position).unwrap_or_else(|| name.clone());
        let calls_functions = !pointer.is_anonymous()
            || ast.iter_functions().any(|function| {
                !function.name.starts_with("anon$") && text.contains(function.name)
            });
        let argument = match function.params.get(captures.len()..) {
            Some([argument]) if pointer.is_anonymous() => Some((*argument).to_string()),
            _ => None,
        };
        let passes_on = function
            .params
            .last()
            .is_none_or(|argument| passes_on(&text, argument));
        Ok(Self {
            argument,
            passes_on,
            source: source.clone(),
            pointer: pointer.clone(),
            captures,
            text,
            position,
            calls_functions,
        })
    }

    /// Equal for closures that do the same to the same input: text and captures. A closure that calls functions of
    /// its runbook depends on all of it.
    pub fn fingerprint(&self) -> String {
        let captures: Vec<serde_json::Value> = self
            .captures
            .iter()
            .map(|(name, value)| {
                serde_json::json!([name, Kind::of(value).word(), show::json(value)])
            })
            .collect();
        let whole = self.calls_functions.then(|| self.source.digest().hex());
        let identity = serde_json::json!([self.text, captures, whole]);
        Digest::of(identity.to_string().as_bytes()).hex()
    }

    /// Whether it may look at a property of its record. Never false for one that it reads.
    pub fn mentions(&self, word: &str) -> bool {
        self.passes_on || self.calls_functions || self.text.contains(word)
    }

    /// What there is to compile to something else; `None` if its text does not tell all that it does.
    pub fn parts(&self) -> Option<Parts<'_>> {
        if self.calls_functions {
            return None;
        }
        Some(Parts {
            argument: self.argument.as_deref()?,
            captures: &self.captures,
            body: body_in_place(&self.source.text, self.position)?,
        })
    }

    /// An engine, an AST and a pointer of its own: shared ones do not scale over threads.
    pub fn session(&self) -> Result<Session, Failure> {
        self.session_in(engine::closure_engine())
    }

    /// One in which a property of a text reads it as JSON.
    pub fn session_over_records(&self) -> Result<Session, Failure> {
        let mut engine = engine::closure_engine();
        // A function it calls may be anywhere in the runbook.
        let text = match self.calls_functions {
            true => &*self.source.text,
            false => &self.text,
        };
        engine::register_json(&mut engine, words_after_dots(text));
        self.session_in(engine)
    }

    fn session_in(&self, engine: Engine) -> Result<Session, Failure> {
        let ast = engine::compile(&engine, &self.source.text).map_err(|error| {
            let finding = messages::of_parse(&self.source, &error);
            Failure::script(finding.code, finding.message)
        })?;
        let ast = ast.clone_functions_only();
        let mut pointer = self.pointer.clone();
        pointer.set_curry(self.captures.iter().map(|(_, value)| value.clone()));
        Ok(Session {
            engine,
            ast,
            pointer,
            source: self.source.clone(),
            position: self.position,
        })
    }
}

/// A closure's argument, what it captured, and its body in its place.
pub struct Parts<'a> {
    pub argument: &'a str,
    pub captures: &'a [(String, Dynamic)],
    pub body: String,
}

/// One thread's way to call a closure.
pub struct Session {
    engine: Engine,
    ast: AST,
    pointer: FnPtr,
    source: Source,
    position: Position,
}

impl Session {
    /// Where the closure is written.
    pub fn span(&self) -> Option<Span> {
        self.source.span(self.position)
    }

    pub fn call(&self, argument: Dynamic) -> Result<Dynamic, Failure> {
        self.pointer
            .call::<Dynamic>(&self.engine, &self.ast, (argument,))
            .map_err(|error| {
                let (mut failure, position) = messages::innermost(&self.source, &error);
                let position = if position.is_none() {
                    self.position
                } else {
                    position
                };
                failure.span = failure.span.or_else(|| self.source.span(position));
                failure
            })
    }
}

/// Whether a closure uses its argument in another way than to read a property or header of it. Says yes in doubt.
fn passes_on(text: &str, argument: &str) -> bool {
    const READS: [&str; 10] = [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "value",
        "headers",
        "header",
        "json",
        "has",
    ];
    let chars: Vec<char> = text.chars().collect();
    let Some(body) = parameters_end(&chars, 0) else {
        return true;
    };
    let body: String = chars[body..].iter().collect();
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    body.match_indices(argument).any(|(at, _)| {
        let after = &body[at + argument.len()..];
        if body[..at].ends_with(in_word) || after.starts_with(in_word) {
            return false;
        }
        let Some(member) = after.trim_start().strip_prefix('.') else {
            return true;
        };
        let member = member.trim_start();
        let word = member.split(|c| !in_word(c)).next().unwrap_or(member);
        !READS.contains(&word)
    })
}

/// Every name that follows a dot, once.
fn words_after_dots(text: &str) -> BTreeSet<&str> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split('.')
        .skip(1)
        .map(str::trim_start)
        .map(|rest| &rest[..rest.find(|c| !in_word(c)).unwrap_or(rest.len())])
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .collect()
}

/// Plain data is copied; a handle of a cluster or a secret has no business in a closure over records.
fn frozen(name: &str, value: &Dynamic) -> Result<Dynamic, Failure> {
    let value = value.flatten_clone();
    match Kind::of(&value) {
        Kind::Nothing
        | Kind::Flag
        | Kind::Number
        | Kind::Decimal
        | Kind::Character
        | Kind::Text
        | Kind::Bytes
        | Kind::Range
        | Kind::Duration
        | Kind::Instant
        | Kind::Size => Ok(value),
        Kind::List => {
            let list: Array = value.into_array().unwrap_or_default();
            let members: Result<Array, Failure> =
                list.iter().map(|member| frozen(name, member)).collect();
            Ok(members?.into())
        }
        Kind::Map => {
            let map: Map = value.try_cast().unwrap_or_default();
            let mut copy = Map::new();
            for (key, member) in map {
                copy.insert(key, frozen(name, &member)?);
            }
            Ok(copy.into())
        }
        other => Err(Failure::script(
            "E0213",
            format!(
                "the closure uses `{name}`, {}: only plain values can be taken along",
                other.phrase()
            ),
        )
        .help("read what it needs into a variable before, and use that")),
    }
}

/// Where the closure of this name is written: the place of its first `|`.
fn place_of(ast: &AST, name: &str) -> Option<Position> {
    let mut place = None;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::DynamicConstant(value, position))) = path.last()
            && value
                .read_lock::<FnPtr>()
                .is_some_and(|pointer| pointer.fn_name() == name)
        {
            place = Some(*position);
        }
        place.is_none()
    });
    place
}

/// From the `|` at the position to the end of the closure: the bracket or comma that is not its own.
fn closure_text(text: &str, position: Position) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let start = index_of(&chars, position)?;
    let end = expression_end(&chars, parameters_end(&chars, start)?)?;
    let text: String = chars.get(start..end)?.iter().collect();
    Some(text.trim_end().to_string())
}

/// The body of a closure (given its `|`) or a block (given its `{`), with everything before it blanked, so that
/// compiling it gives the places of the whole script.
pub fn body_in_place(text: &str, position: Position) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let start = index_of(&chars, position)?;
    let body = match chars.get(start)? {
        '|' => parameters_end(&chars, start)?,
        _ => start,
    };
    let end = match chars.get(start)? {
        '|' => expression_end(&chars, body)?,
        _ => expression_end(&chars, body + 1)? + 1,
    };
    let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
    let mut placed: String = chars.get(..body)?.iter().map(blank).collect();
    placed.extend(chars.get(body..end)?);
    Some(placed)
}

fn index_of(chars: &[char], position: Position) -> Option<usize> {
    let line = position.line()?;
    let column = position.position()?;
    let line_start = if line == 1 {
        0
    } else {
        chars
            .iter()
            .enumerate()
            .filter(|(_, c)| **c == '\n')
            .nth(line - 2)?
            .0
            + 1
    };
    Some(line_start + column - 1)
}

/// The index after `||` or `|a, b|`.
fn parameters_end(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start) != Some(&'|') {
        return None;
    }
    let length = chars[start + 1..].iter().position(|c| *c == '|')?;
    Some(start + length + 2)
}

/// The index of the bracket, comma or semicolon that ends what begins at `start`.
fn expression_end(chars: &[char], start: usize) -> Option<usize> {
    let mut index = start;
    let mut depth = 0usize;
    while let Some(&c) = chars.get(index) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return Some(index),
            ')' | ']' | '}' => depth -= 1,
            ',' | ';' if depth == 0 && chars.get(start - 1) != Some(&'{') => return Some(index),
            '"' | '`' | '\'' => index = text_end(chars, index)?,
            '/' if chars.get(index + 1) == Some(&'/') => {
                while chars.get(index + 1).is_some_and(|next| *next != '\n') {
                    index += 1;
                }
            }
            '/' if chars.get(index + 1) == Some(&'*') => {
                index += 2;
                while !(chars.get(index) == Some(&'*') && chars.get(index + 1) == Some(&'/')) {
                    chars.get(index)?;
                    index += 1;
                }
                index += 1;
            }
            _ => {}
        }
        index += 1;
    }
    Some(chars.len())
}

/// The index of the quote that closes the one at `start`.
fn text_end(chars: &[char], start: usize) -> Option<usize> {
    let quote = chars[start];
    let mut index = start + 1;
    loop {
        match chars.get(index)? {
            '\\' if quote != '`' => index += 1,
            c if *c == quote => return Some(index),
            _ => {}
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(script: &str) -> String {
        let engine = engine::parser();
        let ast = engine::compile(&engine, script).unwrap();
        let name = ast
            .iter_functions()
            .find(|function| function.name.starts_with("anon$"))
            .unwrap()
            .name
            .to_string();
        closure_text(script, place_of(&ast, &name).unwrap()).unwrap()
    }

    #[test]
    fn a_record_that_is_looked_at_as_a_whole_needs_all_of_it() {
        for text in [
            "|r| `${r}`.contains(\"poison\")",
            "|r| r.to_string() != \"\"",
            "|r| { let x = r; x.offset > 1 }",
            "|r| [r].len() == 1",
            "anon$1",
        ] {
            assert!(passes_on(text, "r"), "{text}");
        }
        for text in [
            "|r| r.offset > 5 && r\n  .header(\"r2\") != other.ar",
            "|r| parse_json(r.value).amount > 0",
        ] {
            assert!(!passes_on(text, "r"), "{text}");
        }
    }

    #[test]
    fn a_closure_is_known_by_its_own_text() {
        assert_eq!(
            text_of("let x = 1;\nlet f = |r| r.key != \"po;i,s)on\" && x == 1; // no\n f.call(2)"),
            "|r| r.key != \"po;i,s)on\" && x == 1"
        );
        assert_eq!(text_of("[1].map(|n| { n + 1 }, 2)"), "|n| { n + 1 }");
        assert_eq!(text_of("foo((|| 1 /* ) */))"), "|| 1 /* ) */");
        assert_eq!(text_of("let keep = |r| r.key;\nkeep"), "|r| r.key");
    }
}
