//! The one registration table: what a runbook can say, with types, defaults, documentation and examples.
//!
//! The engine registers from it, lints and did-you-means look names up in it, `kbr docs` and the generated
//! part of docs/runbooks.md are printed from it. A verb that is not in it does not exist.

use super::failure::Failure;
use super::invocation::Invocation;
use super::kind::Kind;
use super::verbs;
use crate::base::text::did_you_mean;
use rhai::Dynamic;

/// What a name is, which decides how it is written and where it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `restore(snap)`: starts work; with a builder, nothing happens before its terminal verb.
    Verb,
    /// `cluster("dr")`, `hours(1)`: gives a value.
    Function,
    /// `.before("…")`: returns the builder with the option set.
    Option,
    /// `.to(dr)`: adds steps to the plan.
    Terminal,
    /// `.topics()`: reads.
    Method,
    /// `.age`: a field; shown as a column in tables if the flag is set.
    Property { column: bool },
}

#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kinds: &'static [Kind],
    /// Takes one or more. Only the last.
    pub repeats: bool,
    /// The only texts allowed, when they are few.
    pub choices: &'static [&'static str],
    /// The names that a map may have; empty: any.
    pub options: &'static [MapOption],
    /// May be left out. Only the last.
    pub optional: bool,
}

/// One name in a map of options. A value of `()` is as good as none: `#{ keep_last: args.keep_last }`.
#[derive(Clone, Copy, Debug)]
pub struct MapOption {
    pub name: &'static str,
    pub kinds: &'static [Kind],
    /// What holds without it.
    pub default: &'static str,
    /// A phrase.
    pub doc: &'static str,
}

impl MapOption {
    pub fn takes(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Any | Kind::Nothing) || self.kinds.contains(&kind)
    }
}

impl Parameter {
    pub const fn one(name: &'static str, kinds: &'static [Kind]) -> Self {
        Self {
            name,
            kinds,
            repeats: false,
            choices: &[],
            options: &[],
            optional: false,
        }
    }

    pub const fn many(name: &'static str, kinds: &'static [Kind]) -> Self {
        Self {
            name,
            kinds,
            repeats: true,
            choices: &[],
            options: &[],
            optional: false,
        }
    }

    pub const fn choice(name: &'static str, choices: &'static [&'static str]) -> Self {
        Self {
            name,
            kinds: &[Kind::Text],
            repeats: false,
            choices,
            options: &[],
            optional: false,
        }
    }

    /// A map whose names are known.
    pub const fn map(name: &'static str, options: &'static [MapOption]) -> Self {
        Self {
            name,
            kinds: &[Kind::Map],
            repeats: false,
            choices: &[],
            options,
            optional: false,
        }
    }

    /// One that may be left out.
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub fn takes(&self, kind: Kind) -> bool {
        kind == Kind::Any || self.kinds.contains(&Kind::Any) || self.kinds.contains(&kind)
    }

    /// "text", "a map or a closure".
    pub fn wanted(&self) -> String {
        let phrases: Vec<&str> = self.kinds.iter().map(|kind| kind.phrase()).collect();
        match phrases.split_last() {
            Some((last, [])) => (*last).to_string(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => "nothing".to_string(),
        }
    }
}

pub type Body = fn(&Invocation) -> Result<Dynamic, Failure>;

/// One name.
pub struct Entry {
    pub name: &'static str,
    /// The type it belongs to; `None` for what stands alone.
    pub on: Option<Kind>,
    pub form: Form,
    pub parameters: &'static [Parameter],
    pub returns: Kind,
    /// What holds when the option is not used.
    pub default: &'static str,
    /// One or two sentences.
    pub doc: &'static str,
    pub example: &'static str,
    pub body: Body,
}

/// The most arguments a call may carry; a list takes more (`topics([…])`).
pub const MOST_ARGUMENTS: usize = 12;

impl Entry {
    pub fn is_property(&self) -> bool {
        matches!(self.form, Form::Property { .. })
    }

    /// Fewest and most arguments.
    pub fn arity(&self) -> (usize, usize) {
        let needed = self.parameters.iter().filter(|p| !p.optional);
        let least = needed.count();
        let most = if self.parameters.last().is_some_and(|p| p.repeats) {
            MOST_ARGUMENTS
        } else {
            self.parameters.len()
        };
        (least, most)
    }

    /// The parameter that takes the argument at `index`.
    pub fn parameter(&self, index: usize) -> Option<&Parameter> {
        self.parameters
            .get(index)
            .or_else(|| self.parameters.last().filter(|last| last.repeats))
    }

    /// "option `before` of restore", "`cluster`", "`topics` of a cluster".
    pub fn title(&self) -> String {
        match (self.on, self.form) {
            (Some(on), Form::Option) => format!("option `{}` of {}", self.name, on.word()),
            (Some(on), _) => format!("`{}` of {}", self.name, on.word()),
            (None, _) => format!("`{}`", self.name),
        }
    }

    /// `.before(when: text or instant)`.
    pub fn signature(&self) -> String {
        let dot = if self.on.is_some() { "." } else { "" };
        if self.is_property() {
            return format!("{dot}{}", self.name);
        }
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| {
                let kinds: Vec<&str> = parameter.kinds.iter().map(|kind| kind.word()).collect();
                let more = if parameter.repeats { ", …" } else { "" };
                let maybe = if parameter.optional { "?" } else { "" };
                format!("{}{maybe}: {}{more}", parameter.name, kinds.join(" or "))
            })
            .collect();
        format!("{dot}{}({})", self.name, parameters.join(", "))
    }
}

/// Every entry, in the order of the documents.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    verbs::TABLES.iter().flat_map(|table| table.iter())
}

/// What stands alone under this name.
pub fn global(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.on.is_none() && entry.name == name)
}

/// What a type has under this name.
pub fn member(on: Kind, name: &str) -> Option<&'static Entry> {
    members(on).find(|entry| entry.name == name)
}

pub fn members(on: Kind) -> impl Iterator<Item = &'static Entry> {
    entries().filter(move |entry| entry.on == Some(on))
}

/// Whether a type is a builder: it has options and waits for a terminal verb.
pub fn is_builder(kind: Kind) -> bool {
    members(kind).any(|entry| entry.form == Form::Option)
}

/// The nearest name of a type's own.
pub fn nearest_member(on: Kind, name: &str) -> Option<&'static str> {
    if name == "until" && member(on, "before").is_some() {
        return Some("before");
    }
    did_you_mean(name, members(on).map(|entry| entry.name))
}

/// The nearest name that stands alone.
pub fn nearest_global(name: &str) -> Option<&'static str> {
    did_you_mean(
        name,
        entries()
            .filter(|entry| entry.on.is_none())
            .map(|entry| entry.name),
    )
}

impl Entry {
    const fn new(
        name: &'static str,
        on: Option<Kind>,
        form: Form,
        parameters: &'static [Parameter],
        returns: Kind,
        body: Body,
    ) -> Self {
        Self {
            name,
            on,
            form,
            parameters,
            returns,
            default: "",
            doc: "",
            example: "",
            body,
        }
    }

    /// `restore(snap)`.
    pub const fn verb(
        name: &'static str,
        parameters: &'static [Parameter],
        returns: Kind,
        body: Body,
    ) -> Self {
        Self::new(name, None, Form::Verb, parameters, returns, body)
    }

    /// `hours(1)`.
    pub const fn function(
        name: &'static str,
        parameters: &'static [Parameter],
        returns: Kind,
        body: Body,
    ) -> Self {
        Self::new(name, None, Form::Function, parameters, returns, body)
    }

    /// `.before("…")`: answers with the builder.
    pub const fn option(
        on: Kind,
        name: &'static str,
        parameters: &'static [Parameter],
        default: &'static str,
        body: Body,
    ) -> Self {
        let mut entry = Self::new(name, Some(on), Form::Option, parameters, on, body);
        entry.default = default;
        entry
    }

    /// `.to(dr)`.
    pub const fn terminal(
        on: Kind,
        name: &'static str,
        parameters: &'static [Parameter],
        returns: Kind,
        body: Body,
    ) -> Self {
        Self::new(name, Some(on), Form::Terminal, parameters, returns, body)
    }

    /// `.topics()`.
    pub const fn method(
        on: Kind,
        name: &'static str,
        parameters: &'static [Parameter],
        returns: Kind,
        body: Body,
    ) -> Self {
        Self::new(name, Some(on), Form::Method, parameters, returns, body)
    }

    /// `.age`; not a column of tables.
    pub const fn property(on: Kind, name: &'static str, returns: Kind, body: Body) -> Self {
        let form = Form::Property { column: false };
        Self::new(name, Some(on), form, &[], returns, body)
    }

    /// `.name`; a column of tables.
    pub const fn column(on: Kind, name: &'static str, returns: Kind, body: Body) -> Self {
        let form = Form::Property { column: true };
        Self::new(name, Some(on), form, &[], returns, body)
    }

    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    pub const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}
