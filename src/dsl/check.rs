//! `kbr check`: what can be said about a runbook without running it. No host call, under 50 ms.
//!
//! The parsed runbook is walked once; each expression gets the kind it would have, as far as the table tells.
//! A finding is an error only if the run would fail there; doubts are warnings.

use super::diagnostic::{Finding, Severity};
use super::kind::Kind;
use super::source::Source;
use super::table::{self, Entry, Form};
use super::{closure, engine, invocation, messages, operators};
use crate::base::text::did_you_mean;
use crate::base::{Pattern, TimestampMs, time};
use rhai::{
    AST, ASTFlags, Engine, Expr, FnCallExpr, Position, Stmt, StmtBlock, SwitchCasesCollection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Everything that can be said about a runbook without running it, in the order of the lines.
pub fn check(source: &Source) -> Vec<Finding> {
    let engine = engine::parser();
    match engine::compile(&engine, &source.text) {
        Err(error) => vec![messages::of_parse(source, &error)],
        Ok(ast) => check_parsed(source, &ast),
    }
}

/// The same for a runbook that is parsed already.
pub fn check_parsed(source: &Source, ast: &AST) -> Vec<Finding> {
    let mut walk = Walk {
        source,
        ast: ast.clone(),
        closure_takes: Kind::Any,
        without_verbs: false,
        scopes: vec![BTreeMap::from([("args".to_string(), Kind::Arguments)])],
        functions: ast
            .iter_functions()
            .map(|function| function.name.to_string())
            .collect(),
        declared: None,
        declares_elsewhere: false,
        confirmed: false,
        in_function: false,
        builders: Vec::new(),
        finished: BTreeSet::new(),
        findings: Vec::new(),
        arguments_read: Vec::new(),
    };
    walk.block(ast.statements());
    walk.in_function = true;
    for function in ast.iter_functions() {
        if !function.name.starts_with("anon$") {
            let parameters: Vec<String> = function.params.iter().map(ToString::to_string).collect();
            walk.function(function.name, &parameters);
        }
    }
    walk.finish();
    let mut findings = walk.findings;
    findings.sort_by_key(|finding| (finding.span, finding.severity == Severity::Warning));
    findings.dedup();
    findings
}

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

struct Builder {
    variable: Option<String>,
    kind: Kind,
    position: Position,
}

struct Walk<'a> {
    source: &'a Source,
    ast: AST,
    /// What the closure that is written next is called with.
    closure_takes: Kind,
    /// In a closure that runs by itself, without verbs.
    without_verbs: bool,
    scopes: Vec<BTreeMap<String, Kind>>,
    functions: BTreeSet<String>,
    /// The names in `params(#{…})`; `None` until there is one.
    declared: Option<BTreeSet<String>>,
    /// `params` is given something that is no literal map.
    declares_elsewhere: bool,
    confirmed: bool,
    in_function: bool,
    builders: Vec<Builder>,
    /// Variables whose builder was finished or given away.
    finished: BTreeSet<String>,
    findings: Vec<Finding>,
    arguments_read: Vec<(String, Position)>,
}

impl Walk<'_> {
    fn report(&mut self, finding: Finding, position: Position) {
        let span = finding.span.or_else(|| self.source.span(position));
        self.findings.push(finding.at(span));
    }

    fn warn(&mut self, code: &'static str, message: String, help: &str, position: Position) {
        let mut finding = Finding::error(code, message).helped(help);
        finding.severity = Severity::Warning;
        self.report(finding, position);
    }

    fn variable(&self, name: &str) -> Kind {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied())
            .unwrap_or(Kind::Any)
    }

    fn define(&mut self, name: &str, kind: Kind) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_string(), kind);
        }
    }

    fn block(&mut self, statements: &[Stmt]) {
        self.scopes.push(BTreeMap::new());
        for statement in statements {
            self.statement(statement);
        }
        self.scopes.pop();
    }

    fn body(&mut self, block: &StmtBlock) {
        self.block(block.statements());
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Var(declared, _, _) => {
                let (name, value, _) = &**declared;
                let kind = self.expression(value);
                if table::is_builder(kind) && !is_variable(value) {
                    self.builders.push(Builder {
                        variable: Some(name.name.to_string()),
                        kind,
                        position: value.start_position(),
                    });
                    // A new value under the name: what was finished before was another.
                    self.finished.remove(name.name.as_str());
                }
                self.define(&name.name, kind);
            }
            Stmt::Expr(value) => {
                let kind = self.expression(value);
                if table::is_builder(kind) && !is_variable(value) {
                    self.builders.push(Builder {
                        variable: None,
                        kind,
                        position: value.start_position(),
                    });
                }
            }
            Stmt::FnCall(call, position) => {
                let kind = self.function_call(call, *position);
                if table::is_builder(kind) {
                    self.builders.push(Builder {
                        variable: None,
                        kind,
                        position: *position,
                    });
                }
            }
            Stmt::Assignment(assignment) => {
                let (_, sides) = &**assignment;
                self.expression(&sides.lhs);
                let kind = self.expression(&sides.rhs);
                if let Expr::Variable(variable, ..) = &sides.lhs {
                    let name = variable.1.to_string();
                    // Only ever one kind per variable is followed.
                    if self.variable(&name) != kind {
                        for scope in &mut self.scopes {
                            if scope.contains_key(&name) {
                                scope.insert(name.clone(), Kind::Any);
                            }
                        }
                    }
                    self.finished.insert(name);
                }
            }
            Stmt::If(flow, _) => {
                self.expression(&flow.expr);
                self.body(&flow.body);
                self.body(&flow.branch);
            }
            Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
                self.expression(&flow.expr);
                self.body(&flow.body);
            }
            Stmt::For(flow, _) => {
                let (name, counter, flow) = &**flow;
                self.expression(&flow.expr);
                self.scopes.push(BTreeMap::new());
                self.define(&name.name, Kind::Any);
                if let Some(counter) = counter {
                    self.define(&counter.name, Kind::Number);
                }
                self.body(&flow.body);
                self.scopes.pop();
            }
            Stmt::Switch(switch, _) => {
                let (value, cases) = &**switch;
                self.expression(value);
                self.cases(cases);
            }
            Stmt::Block(block) => self.body(block),
            Stmt::TryCatch(flow, _) => {
                self.body(&flow.body);
                self.scopes.push(BTreeMap::new());
                if let Expr::Variable(variable, ..) = &flow.expr {
                    self.define(&variable.1, Kind::Any);
                }
                self.body(&flow.branch);
                self.scopes.pop();
            }
            Stmt::Return(Some(value), ..) | Stmt::BreakLoop(Some(value), ..) => {
                self.give_away(value);
                self.expression(value);
            }
            _ => {}
        }
    }

    fn cases(&mut self, cases: &SwitchCasesCollection) {
        for case in &cases.expressions {
            self.expression(&case.lhs);
            self.expression(&case.rhs);
        }
    }

    /// A variable that goes into a call, a list or an answer is somebody else's business.
    fn give_away(&mut self, value: &Expr) {
        if let Expr::Variable(variable, ..) = value {
            self.finished.insert(variable.1.to_string());
        }
    }

    fn expression(&mut self, expression: &Expr) -> Kind {
        match expression {
            Expr::BoolConstant(..) => Kind::Flag,
            Expr::IntegerConstant(..) => Kind::Number,
            Expr::FloatConstant(..) => Kind::Decimal,
            Expr::CharConstant(..) => Kind::Character,
            Expr::StringConstant(..) => Kind::Text,
            Expr::Unit(_) => Kind::Nothing,
            Expr::DynamicConstant(value, _) => {
                self.closure(expression, &[]);
                Kind::of(value)
            }
            Expr::InterpolatedString(parts, _) => {
                for part in parts {
                    self.expression(part);
                }
                Kind::Text
            }
            Expr::Array(members, _) => {
                for member in members {
                    self.give_away(member);
                    self.expression(member);
                }
                Kind::List
            }
            Expr::Map(map, _) => {
                for (_, member) in &map.0 {
                    self.give_away(member);
                    self.expression(member);
                }
                Kind::Map
            }
            Expr::Variable(variable, _, position) => {
                let name = variable.1.as_str();
                // The parser looks through the rest; a function sees its parameters and its own variables.
                if self.in_function && !self.scopes.iter().any(|scope| scope.contains_key(name)) {
                    let span = self.source.span(*position);
                    let finding = messages::unknown_variable(self.source, name, span);
                    self.report(finding, *position);
                }
                self.variable(name)
            }
            Expr::Stmt(block) => {
                self.body(block);
                Kind::Any
            }
            Expr::FnCall(call, position) => self.function_call(call, *position),
            Expr::And(parts, _) | Expr::Or(parts, _) => {
                for part in parts.iter() {
                    self.expression(part);
                }
                Kind::Flag
            }
            Expr::Coalesce(parts, _) => {
                let kinds: Vec<Kind> = parts.iter().map(|part| self.expression(part)).collect();
                match kinds.first() {
                    Some(first) if kinds.iter().all(|kind| kind == first) => *first,
                    _ => Kind::Any,
                }
            }
            Expr::Dot(chain, flags, _) => {
                let receiver = self.expression(&chain.lhs);
                let root = match &chain.lhs {
                    Expr::Variable(variable, ..) => Some(variable.1.to_string()),
                    _ => None,
                };
                self.chain(receiver, root.as_deref(), &chain.rhs, *flags)
            }
            Expr::Index(chain, ..) => {
                self.expression(&chain.lhs);
                match &chain.rhs {
                    Expr::Dot(inner, flags, _) => {
                        self.expression(&inner.lhs);
                        self.chain(Kind::Any, None, &inner.rhs, *flags)
                    }
                    index => {
                        self.expression(index);
                        Kind::Any
                    }
                }
            }
            _ => Kind::Any,
        }
    }

    /// What follows a dot, on a value of this kind.
    fn chain(&mut self, receiver: Kind, root: Option<&str>, rest: &Expr, flags: ASTFlags) -> Kind {
        match rest {
            Expr::MethodCall(call, position) => self.method_call(receiver, root, call, *position),
            Expr::Property(property, position) => self.property(receiver, &property.2, *position),
            Expr::Dot(inner, inner_flags, _) if !flags.contains(ASTFlags::BREAK) => {
                let next = self.chain(receiver, root, &inner.lhs, *inner_flags);
                self.chain(next, root, &inner.rhs, *inner_flags)
            }
            Expr::Index(inner, inner_flags, _) => {
                self.chain(receiver, root, &inner.lhs, *inner_flags);
                match &inner.rhs {
                    Expr::Dot(after, after_flags, _) => {
                        self.expression(&after.lhs);
                        self.chain(Kind::Any, None, &after.rhs, *after_flags)
                    }
                    index => {
                        self.expression(index);
                        Kind::Any
                    }
                }
            }
            other => self.expression(other),
        }
    }

    fn property(&mut self, receiver: Kind, name: &str, position: Position) -> Kind {
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

    fn method_call(
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
            return entry.returns;
        }
        let known = self.functions.contains(name) || standard_names().contains(name);
        if table::members(receiver).next().is_some() {
            if !known || table::member(receiver, name).is_some() {
                let failure = messages::unknown_call(name, Some(receiver));
                self.report(failure.into_finding(None), position);
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

    fn function_call(&mut self, call: &FnCallExpr, position: Position) -> Kind {
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
                "params" => self.declaration(call),
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

    /// The body that begins at a place, with these variables in it. The engine does not give bodies out, so that
    /// its text is parsed again, in its place.
    fn body_at(&mut self, place: Position, scope: BTreeMap<String, Kind>) {
        let Some(text) = closure::body_in_place(&self.source.text, place) else {
            return;
        };
        let mut parser = engine::parser();
        parser.set_strict_variables(false);
        let Ok(ast) = engine::compile(&parser, &text) else {
            return;
        };
        self.scopes.push(scope);
        let outer = std::mem::replace(&mut self.ast, ast.clone());
        self.block(ast.statements());
        self.ast = outer;
        self.scopes.pop();
    }

    /// A function's body; what it is called with is not followed.
    fn function(&mut self, name: &str, parameters: &[String]) {
        let Some(place) = self
            .ast
            .shared_lib()
            .get_script_fn(name, parameters.len())
            .map(|function| function.body.start_position())
        else {
            return;
        };
        let scope = parameters
            .iter()
            .map(|parameter| (parameter.clone(), Kind::Any))
            .collect();
        let outer = std::mem::take(&mut self.scopes);
        self.body_at(place, scope);
        self.scopes = outer;
    }

    /// A closure where it is written.
    fn closure(&mut self, expression: &Expr, captured: &[Expr]) {
        let Expr::DynamicConstant(value, place) = expression else {
            return;
        };
        let Some(name) = value
            .read_lock::<rhai::FnPtr>()
            .map(|pointer| pointer.fn_name().to_string())
        else {
            return;
        };
        for variable in captured {
            self.give_away(variable);
        }
        let takes = std::mem::replace(&mut self.closure_takes, Kind::Any);
        let mut scope: BTreeMap<String, Kind> = self
            .ast
            .iter_functions()
            .find(|function| function.name == name)
            .map(|function| {
                let own = function.params.iter().skip(captured.len());
                own.map(|parameter| ((*parameter).to_string(), Kind::Any))
                    .collect()
            })
            .unwrap_or_default();
        if let Some((_, kind)) = scope.iter_mut().next_back() {
            *kind = takes;
        }
        let outer = self.without_verbs;
        self.without_verbs |= takes != Kind::Any;
        self.body_at(*place, scope);
        self.without_verbs = outer;
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
            self.literal(entry, index, argument);
        }
        if entry.form == Form::Terminal
            && entry.name == "reset"
            && !self.confirmed
            && !self.in_function
        {
            self.warn(
                "W0502",
                "a reset without a `confirm` before it".to_string(),
                "kbr asks right before it anyway; confirm(\"Move the groups?\") says what for",
                position,
            );
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
            "size" => crate::base::size::parse_bytes(text).err(),
            "topics" | "exclude" | "groups" => {
                Pattern::parse(text).err().map(|error| error.to_string())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.report(Finding::error("E0214", wrong), *position);
        }
    }

    fn declaration(&mut self, call: &FnCallExpr) {
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

    fn finish(&mut self) {
        self.check_arguments();
        for builder in std::mem::take(&mut self.builders) {
            if builder
                .variable
                .as_ref()
                .is_some_and(|name| self.finished.contains(name))
            {
                continue;
            }
            let terminals: Vec<String> = table::members(builder.kind)
                .filter(|entry| entry.form == Form::Terminal)
                .map(|entry| format!("`.{}(…)`", entry.name))
                .collect();
            let word = builder.kind.word();
            self.warn(
                "W0501",
                format!(
                    "this {word} does nothing: it has no {}",
                    terminals.join(" or ")
                ),
                &format!("kbr docs {word}"),
                builder.position,
            );
        }
    }

    fn check_arguments(&mut self) {
        if self.declares_elsewhere {
            return;
        }
        let declared = self.declared.clone().unwrap_or_default();
        for (name, position) in std::mem::take(&mut self.arguments_read) {
            if declared.contains(&name) {
                continue;
            }
            let names: Vec<&str> = declared.iter().map(String::as_str).collect();
            let failure = super::host::unknown_argument(&name, &names, false);
            self.report(failure.into_finding(None), position);
        }
    }
}

fn is_variable(expression: &Expr) -> bool {
    matches!(expression, Expr::Variable(..))
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
