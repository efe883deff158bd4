//! Calls and properties: does the name exist, do the arguments fit, what kind comes of it.

use super::Walk;
use crate::base::text::did_you_mean;
use crate::base::{PartitionSet, Pattern, TimestampMs, size, time};
use crate::dsl::declared::written_out;
use crate::dsl::diagnostic::Finding;
use crate::dsl::filter::json;
use crate::dsl::kind::Kind;
use crate::dsl::table::{self, Entry, Form};
use crate::dsl::verbs::general::not_a_pattern;
use crate::dsl::verbs::restore::{ON_ERROR, no_such_on_error};
use crate::dsl::{engine, invocation, messages, operators};
use rhai::{Engine, Expr, FnCallExpr, Position};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Names of the packages' own functions, which a script may call on plain values.
fn standard_names() -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let engine: Engine = engine::parser();
        engine
            .gen_fn_signatures(true)
            .iter()
            .filter_map(|signature| Some(signature.split('(').next()?.trim().to_string()))
            .chain(
                [
                    "type_of",
                    "is_shared",
                    "call",
                    "curry",
                    "Fn",
                    "is_def_var",
                    "is_def_fn",
                    "print",
                    "debug",
                    "is_def_map",
                ]
                .map(str::to_string),
            )
            .collect()
    })
}

impl Walk<'_> {
    pub(super) fn property(&mut self, receiver: Kind, name: &str, position: Position) -> Kind {
        if receiver == Kind::Arguments {
            self.arguments_read.push((name.to_string(), position));
            return Kind::Any;
        }
        if table::members(receiver).next().is_none() {
            return Kind::Any;
        }
        match table::member(receiver, name) {
            Some(entry) if entry.is_property() => entry.returns,
            _ => {
                let failure = messages::unknown_property(name, receiver);
                self.report(failure.into_finding(None), position);
                Kind::Any
            }
        }
    }

    pub(super) fn method_call(
        &mut self,
        receiver: Kind,
        root: Option<&str>,
        call: &FnCallExpr,
        position: Position,
    ) -> Kind {
        let name = call.name.as_str();
        self.closure_takes = match (receiver, name) {
            (Kind::Restore, "filter") => Kind::Record,
            (Kind::Restore, "remap") => Kind::Text,
            _ => Kind::Any,
        };
        let kinds = self.arguments(call);
        self.closure_takes = Kind::Any;
        if let Some(entry) = table::member(receiver, name).filter(|entry| !entry.is_property()) {
            self.called(entry, call, &kinds, position);
            if let (Form::Terminal, Some(root)) = (entry.form, root) {
                self.finished.insert(root.to_string());
            }
            return entry.returns;
        }
        // `snap.restore()` is `restore(snap)`.
        if let Some(entry) = table::global(name) {
            if let ("matches", [pattern]) = (name, &call.args[..]) {
                self.literal(entry, 1, pattern);
            }
            return entry.returns;
        }
        let known = self.functions.contains(name) || standard_names().contains(name);
        if table::members(receiver).next().is_some() {
            if !known || table::member(receiver, name).is_some() {
                let failure = messages::unknown_call(name, Some(receiver));
                self.report(failure.into_finding(None), position);
                // An option of another name: the rest of the chain is still the builder's.
                if table::is_builder(receiver) {
                    return receiver;
                }
            }
            return Kind::Any;
        }
        if !known && !table::entries().any(|entry| entry.name == name) {
            let mut failure = messages::unknown_call(name, None);
            let names = table::entries()
                .map(|entry| entry.name)
                .chain(standard_names().iter().map(String::as_str));
            failure.label = did_you_mean(name, names).map(|near| format!("did you mean `{near}`?"));
            self.report(failure.into_finding(None), position);
        }
        Kind::Any
    }

    pub(super) fn function_call(&mut self, call: &FnCallExpr, position: Position) -> Kind {
        let name = call.name.as_str();
        // A closure that captures is written as a call that binds what it captures.
        if name == "curry"
            && let Some((closure, captured)) = call.args.split_first()
        {
            self.closure(closure, captured);
            return Kind::Closure;
        }
        let kinds = self.arguments(call);
        if call.op_token.is_some() {
            if self.without_verbs {
                self.filter_comparison(name, &call.args, &kinds, position);
            }
            return self.operator(name, &kinds, position);
        }
        if self.functions.contains(name) {
            for argument in &call.args {
                self.give_away(argument);
            }
            return Kind::Any;
        }
        if let Some(entry) = table::global(name) {
            if self.without_verbs && !engine::is_pure_helper(entry) {
                let failure = messages::no_verbs_here(name);
                self.report(failure.into_finding(None), position);
            }
            match name {
                "params" => self.declaration(call, position),
                "confirm" => self.confirmed = true,
                _ => {}
            }
            self.called(entry, call, &kinds, position);
            return entry.returns;
        }
        if !standard_names().contains(name) {
            let mut failure = messages::unknown_call(name, None);
            if failure.label.is_none() {
                failure.label = did_you_mean(
                    name,
                    self.functions
                        .iter()
                        .map(String::as_str)
                        .filter(|known| !known.starts_with("anon$")),
                )
                .map(|near| format!("did you mean `{near}`?"));
            }
            self.report(failure.into_finding(None), position);
        }
        Kind::Any
    }

    fn arguments(&mut self, call: &FnCallExpr) -> Vec<Kind> {
        call.args
            .iter()
            .map(|argument| self.expression(argument))
            .collect()
    }

    fn operator(&mut self, symbol: &str, kinds: &[Kind], position: Position) -> Kind {
        let comparison = matches!(symbol, "==" | "!=" | "<" | "<=" | ">" | ">=");
        if let ([left, right], true) = (kinds, comparison) {
            let equality = matches!(symbol, "==" | "!=");
            if !comparable(*left, *right, equality) {
                let finding = operators::mismatch(symbol, *left, *right).into_finding(None);
                self.report(finding, position);
            }
            return Kind::Flag;
        }
        match (symbol, kinds) {
            ("!", _) => Kind::Flag,
            ("+" | "-", [Kind::Duration, Kind::Duration]) => Kind::Duration,
            ("+" | "-", [Kind::Instant, Kind::Duration]) => Kind::Instant,
            ("-", [Kind::Instant, Kind::Instant]) => Kind::Duration,
            ("+" | "-" | "*" | "/" | "%", [Kind::Number, Kind::Number]) => Kind::Number,
            _ => Kind::Any,
        }
    }

    /// A call of an entry of the table: count, kinds, literal texts.
    fn called(
        &mut self,
        entry: &'static Entry,
        call: &FnCallExpr,
        kinds: &[Kind],
        position: Position,
    ) {
        let (least, most) = entry.arity();
        if kinds.len() < least || kinds.len() > most {
            let failure = invocation::wrong_count(entry, kinds.len());
            self.report(failure.into_finding(None), position);
            return;
        }
        for (index, (kind, argument)) in kinds.iter().zip(&call.args).enumerate() {
            if table::is_builder(*kind) {
                self.give_away(argument);
            }
            let Some(parameter) = entry.parameter(index) else {
                continue;
            };
            let at = argument.start_position();
            if parameter.repeats && *kind == Kind::List {
                if let Expr::Array(members, _) = argument {
                    for member in members {
                        self.literal(entry, index, member);
                    }
                }
                continue;
            }
            if !parameter.takes(*kind) {
                let failure = invocation::wrong_kind(entry, index, *kind);
                self.report(failure.into_finding(None), at);
                continue;
            }
            if !parameter.options.is_empty() {
                self.options(entry, index, argument);
            }
            self.literal(entry, index, argument);
        }
        if entry.form == Form::Terminal
            && matches!(entry.name, "reset" | "delete_groups" | "delete_offsets")
            && !self.confirmed
            && !self.in_function
        {
            self.warn(
                "W0502",
                match entry.name {
                    "reset" => "a reset without a `confirm` before it".to_string(),
                    name => format!("`{name}` without a `confirm` before it"),
                },
                match entry.name {
                    "reset" => "kbr asks right before it anyway; confirm(\"Move the groups?\") says what for",
                    _ => "kbr asks right before it anyway; confirm(\"Delete the groups?\") says what for",
                },
                position,
            );
        }
    }

    /// The names in a map of options that is written out.
    fn options(&mut self, entry: &'static Entry, index: usize, argument: &Expr) {
        let given: Vec<(String, Kind, Position)> = match argument {
            Expr::Map(map, _) => map
                .0
                .iter()
                .map(|(name, value)| {
                    let kind = self.kind_of_literal(value);
                    (name.name.to_string(), kind, name.pos)
                })
                .collect(),
            Expr::DynamicConstant(value, position) => match value.read_lock::<rhai::Map>() {
                Some(map) => map
                    .iter()
                    .map(|(name, value)| (name.to_string(), Kind::of(value), *position))
                    .collect(),
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        for (name, kind, position) in given {
            if let Err(failure) = invocation::check_option(entry, index, &name, kind) {
                self.report(failure.into_finding(None), position);
            }
        }
        if let (Expr::Map(map, _), "filter") = (argument, entry.name) {
            for (name, value) in &map.0 {
                if let Expr::StringConstant(text, position) = value
                    && name.name == "on_error"
                    && !ON_ERROR.contains(&text.as_str())
                {
                    let failure = no_such_on_error(text);
                    self.report(failure.into_finding(None), *position);
                }
            }
        }
    }

    /// The kind of what is written out; anything where that takes more than a look.
    fn kind_of_literal(&self, value: &Expr) -> Kind {
        match value {
            Expr::StringConstant(..) => Kind::Text,
            Expr::IntegerConstant(..) => Kind::Number,
            Expr::BoolConstant(..) => Kind::Flag,
            Expr::Array(..) => Kind::List,
            Expr::Map(..) => Kind::Map,
            _ => Kind::Any,
        }
    }

    /// What can be read from a text that is written out.
    fn literal(&mut self, entry: &'static Entry, index: usize, argument: &Expr) {
        let Expr::StringConstant(text, position) = argument else {
            return;
        };
        if let Err(failure) = invocation::check_choice(entry, index, text) {
            self.report(failure.into_finding(None), *position);
        }
        let wrong = match entry.name {
            "since" | "before" | "instant" if !matches!(text.as_str(), "latest" | "earliest") => {
                time::parse_instant(text, TimestampMs(0)).err()
            }
            "duration" => time::parse_duration_ms(text).err(),
            "size" => size::parse_bytes(text).err(),
            "limit" => size::parse_rate(text).err(),
            "json" | "has" if index == 0 && entry.on == Some(Kind::Record) => {
                json::parse_path(text).err()
            }
            "matches" if index == 1 => regex::Regex::new(text)
                .err()
                .map(|error| not_a_pattern(&error)),
            "partitions" if index == 1 => PartitionSet::parse(text).err(),
            "topics" | "exclude" | "groups" | "exclude_groups" | "partitions" => {
                Pattern::parse(text).err().map(|error| error.to_string())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.report(Finding::error("E0214", wrong), *position);
        }
    }

    fn declaration(&mut self, call: &FnCallExpr, position: Position) {
        for wrong in written_out(call).into_iter().filter_map(Result::err) {
            self.report(Finding::error("E0208", wrong), position);
        }
        match call.args.first() {
            Some(Expr::Map(map, _)) => self
                .declared
                .get_or_insert_default()
                .extend(map.0.iter().map(|(name, _)| name.name.to_string())),
            Some(Expr::DynamicConstant(value, _)) => {
                if let Some(map) = value.read_lock::<rhai::Map>() {
                    self.declared
                        .get_or_insert_default()
                        .extend(map.keys().map(ToString::to_string));
                }
            }
            _ => self.declares_elsewhere = true,
        }
    }
}

/// Whether two kinds may compare, as `operators` decides it.
fn comparable(left: Kind, right: Kind, equality: bool) -> bool {
    if left == Kind::Any || right == Kind::Any {
        return true;
    }
    if left == Kind::Nothing || right == Kind::Nothing {
        return equality;
    }
    let numbers = [Kind::Number, Kind::Decimal];
    let texts = [Kind::Text, Kind::Character];
    if numbers.contains(&left) && numbers.contains(&right) {
        return true;
    }
    if texts.contains(&left) && texts.contains(&right) {
        return true;
    }
    if left != right {
        return false;
    }
    match left {
        Kind::Flag | Kind::Bytes | Kind::List | Kind::Map => equality,
        Kind::Duration | Kind::Instant | Kind::Size | Kind::Range => true,
        _ => false,
    }
}
