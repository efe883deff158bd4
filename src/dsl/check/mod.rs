//! `kbr check`: what can be said about a runbook without running it. No host call, under 50 ms.
//!
//! The parsed runbook is walked once; each expression gets the kind it would have, as far as the table tells.
//! A finding is an error only if the run would fail there; doubts are warnings.

mod calls;
mod filters;

use super::diagnostic::{Finding, Severity};
use super::kind::Kind;
use super::source::Source;
use super::table::{self, Form};
use super::{closure, engine, messages};
use rhai::{AST, ASTFlags, Expr, Position, Stmt, StmtBlock, SwitchCasesCollection};
use std::collections::{BTreeMap, BTreeSet};

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
                self.filter_conditions(parts, matches!(expression, Expr::Or(..)));
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
