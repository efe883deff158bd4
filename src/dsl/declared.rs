//! Which arguments a runbook declares, told without running it: for its help, for completions, and for the bare words
//! on the command line that only the declaration gives a meaning.

use super::engine;
use super::source::Source;
use rhai::{Dynamic, Expr, FnCallExpr, Map, Stmt};

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
                _ => {
                    return Err(format!(
                        "params: `{name}` has no `{key}`: it takes help, position, rest, required, flag"
                    ));
                }
            }
        }
        Ok(declared)
    }
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
        match call.args.first() {
            Some(Expr::Map(map, _)) => {
                for (name, value) in &map.0 {
                    let value = constant(value);
                    found.extend(value.and_then(|value| Declared::read(&name.name, &value).ok()));
                }
            }
            Some(Expr::DynamicConstant(value, _)) => {
                if let Some(map) = value.read_lock::<Map>() {
                    let members = map.iter();
                    found
                        .extend(members.filter_map(|(name, said)| Declared::read(name, said).ok()));
                }
            }
            _ => {}
        }
    }
    found
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
}
