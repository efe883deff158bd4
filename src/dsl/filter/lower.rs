//! From a closure's parsed text to a [`Node`]. What is not known here is `None`, and the interpreter runs the closure.
//!
//! A name means what it means in the engine of closures: the record's members from the table, the packages' functions
//! on texts and numbers, what the closure captured. Closures that call functions of their runbook are not lowered,
//! since a function may have the name of a built-in one.

use super::json::{self, Step};
use super::native::{Arithmetic, Comparison, Node, TextProperty, TextTest, Val};
use crate::dsl::closure::Closure;
use crate::dsl::engine;
use crate::dsl::values::{Duration, Instant};
use rhai::{ASTFlags, Array, Dynamic, Expr, FnCallExpr, Stmt, StmtBlock};
use std::borrow::Cow;

/// Above this many members a list is looked up by hash.
const FEW: usize = 4;

/// The closure as a tree, if all of it is known.
pub fn lower(closure: &Closure) -> Option<Node> {
    let parts = closure.parts()?;
    let mut parser = engine::parser();
    // What it captured is no variable of the text alone.
    parser.set_strict_variables(false);
    let ast = engine::compile(&parser, &parts.body).ok()?;
    Lowering {
        record: parts.argument,
        captures: parts.captures,
        slots: Vec::new(),
        within: 0,
    }
    .statements(ast.statements())
}

struct Lowering<'a> {
    /// The name of the record.
    record: &'a str,
    captures: &'a [(String, Dynamic)],
    /// The names of the `let`s around, with what they have where a member of it may be asked for.
    slots: Vec<(String, Option<Node>)>,
    /// Blocks around that are operands: a `return` in one ends more than the block.
    within: usize,
}

/// What follows a value in a chain: `.name`, `.name(…)`, `[…]`.
enum Link<'e> {
    Property(&'e str),
    Call(&'e FnCallExpr),
    Index(&'e Expr),
}

impl Lowering<'_> {
    /// A body, by its last value.
    fn statements(&mut self, statements: &[Stmt]) -> Option<Node> {
        let (first, rest) = statements.split_first()?;
        match first {
            Stmt::Var(declared, ..) => {
                let (name, value, _) = &**declared;
                // A record under another name is not followed, and neither is one that is hidden.
                if name.name == self.record {
                    return None;
                }
                let value = self.expression(value)?;
                let read = matches!(value, Node::Json { .. } | Node::Key | Node::Value);
                self.slots
                    .push((name.name.to_string(), read.then(|| value.clone())));
                let then = self.statements(rest);
                self.slots.pop();
                Some(Node::Let(Box::new(value), Box::new(then?)))
            }
            Stmt::Return(Some(value), flags, _) if *flags == ASTFlags::NONE && self.within == 0 => {
                self.expression(value)
            }
            Stmt::Expr(value) if rest.is_empty() => match &**value {
                Expr::Stmt(block) => self.block(block),
                value => self.expression(value),
            },
            Stmt::FnCall(call, _) if rest.is_empty() => self.call(call),
            Stmt::Block(block) if rest.is_empty() => self.block(block),
            Stmt::If(flow, _) => {
                let condition = self.expression(&flow.expr)?;
                let then = self.block(&flow.body)?;
                let otherwise = match flow.branch.is_empty() {
                    false if rest.is_empty() => self.block(&flow.branch)?,
                    // A branch without a value falls through, unless it returns.
                    true if !rest.is_empty() && returns(&flow.body) => self.statements(rest)?,
                    _ => return None,
                };
                Some(Node::If(Box::new((condition, then, otherwise))))
            }
            _ => None,
        }
    }

    fn block(&mut self, block: &StmtBlock) -> Option<Node> {
        self.statements(block.statements())
    }

    fn expression(&mut self, expression: &Expr) -> Option<Node> {
        match expression {
            Expr::Unit(_)
            | Expr::BoolConstant(..)
            | Expr::IntegerConstant(..)
            | Expr::FloatConstant(..)
            | Expr::StringConstant(..) => constant(expression).map(Node::Constant),
            Expr::Variable(variable, ..) => self.variable(&variable.1),
            Expr::Stmt(block) => {
                self.within += 1;
                let node = self.block(block);
                self.within -= 1;
                node
            }
            Expr::And(parts, _) => self.all(parts).map(Node::And),
            Expr::Or(parts, _) => self.all(parts).map(Node::Or),
            Expr::Coalesce(parts, _) => self.all(parts).map(Node::Coalesce),
            Expr::FnCall(call, _) => self.call(call),
            Expr::Dot(..) | Expr::Index(..) => {
                let (root, links) = chain(expression)?;
                self.chain(root, &links)
            }
            _ => None,
        }
    }

    fn all(&mut self, parts: &[Expr]) -> Option<Vec<Node>> {
        parts.iter().map(|part| self.expression(part)).collect()
    }

    fn variable(&self, name: &str) -> Option<Node> {
        if let Some(slot) = self.slot(name) {
            return Some(Node::Slot(slot));
        }
        value_of(self.captured(name)?).map(Node::Constant)
    }

    fn slot(&self, name: &str) -> Option<usize> {
        self.slots.iter().rposition(|(slot, _)| slot == name)
    }

    fn captured(&self, name: &str) -> Option<&Dynamic> {
        if self.slot(name).is_some() {
            return None;
        }
        let mut captures = self.captures.iter();
        captures
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn chain(&mut self, root: &Expr, links: &[Link<'_>]) -> Option<Node> {
        let is_record = matches!(root, Expr::Variable(variable, ..)
            if variable.1 == self.record);
        let (mut node, links) = match is_record {
            true => {
                let (first, rest) = links.split_first()?;
                (self.member(first)?, rest)
            }
            false => (self.expression(root)?, links),
        };
        for link in links {
            node = self.link(node, link)?;
        }
        Some(node)
    }

    /// A member of the record.
    fn member(&mut self, link: &Link<'_>) -> Option<Node> {
        match link {
            Link::Property("topic") => Some(Node::Topic),
            Link::Property("partition") => Some(Node::Partition),
            Link::Property("offset") => Some(Node::Offset),
            Link::Property("timestamp") => Some(Node::Timestamp),
            Link::Property("key") => Some(Node::Key),
            Link::Property("value") => Some(Node::Value),
            Link::Call(call) => match (call.name.as_str(), &call.args[..]) {
                ("header", [name]) => Some(Node::Header(self.constant_text(name)?)),
                ("has", [path]) => Some(Node::HasJson(self.path(path)?)),
                ("json", [path]) => Some(Node::Json {
                    text: Box::new(Node::Value),
                    path: self.path(path)?,
                    absent: None,
                }),
                ("json", [path, otherwise]) => Some(Node::Json {
                    text: Box::new(Node::Value),
                    path: self.path(path)?,
                    // It is evaluated before the call, whether it is needed or not.
                    absent: Some(Box::new(Node::Constant(self.constant(otherwise)?))),
                }),
                _ => None,
            },
            _ => None,
        }
    }

    /// What follows some other value.
    fn link(&mut self, node: Node, link: &Link<'_>) -> Option<Node> {
        match link {
            Link::Property("ms") if matches!(node, Node::Timestamp | Node::Compute(..)) => {
                Some(Node::Milliseconds(Box::new(node)))
            }
            // Properties that texts, lists and numbers have themselves.
            Link::Property(name) if json::TEXT_PROPERTIES.contains(name) => None,
            Link::Property(
                "ms" | "seconds" | "is_zero" | "is_odd" | "is_even" | "bits" | "tag" | "start"
                | "end",
            ) => None,
            Link::Property(name) => self.inner(node, Step::Name((*name).to_string())),
            // The characters of a text are indexed too; only lists and objects in JSON are meant here.
            Link::Index(Expr::StringConstant(name, _)) if matches!(node, Node::Json { .. }) => {
                self.inner(node, Step::Name(name.to_string()))
            }
            Link::Index(Expr::IntegerConstant(index, _)) if matches!(node, Node::Json { .. }) => {
                self.inner(node, Step::Index(usize::try_from(*index).ok()?))
            }
            Link::Index(_) => None,
            Link::Call(call) => {
                let arguments = self.all(&call.args)?;
                self.function(&call.name, node, arguments)
            }
        }
    }

    fn call(&mut self, call: &FnCallExpr) -> Option<Node> {
        if call.is_qualified() || call.capture_parent_scope {
            return None;
        }
        let name = call.name.as_str();
        // `value in list` is such a call.
        if let ("contains", [list, value]) = (name, &call.args[..]) {
            return self.among(list, value);
        }
        if call.is_operator_call() {
            return self.operator(name, &call.args);
        }
        if let (
            "hours" | "minutes" | "days" | "seconds" | "ms",
            [Expr::IntegerConstant(count, _)],
        ) = (name, &call.args[..])
        {
            let unit = match name {
                "days" => 86_400_000,
                "hours" => 3_600_000,
                "minutes" => 60_000,
                "seconds" => 1_000,
                _ => 1,
            };
            return Some(Node::Constant(Val::Duration(count.checked_mul(unit)?)));
        }
        let mut arguments = self.all(&call.args)?.into_iter();
        let first = arguments.next()?;
        self.function(name, first, arguments.collect())
    }

    /// A function, or a method on its first argument: to the engine they are the same.
    fn function(&mut self, name: &str, first: Node, rest: Vec<Node>) -> Option<Node> {
        let mut rest = rest.into_iter();
        let node = match (name, rest.next()) {
            ("contains", Some(what)) => test(TextTest::Contains, first, what),
            ("starts_with", Some(what)) => test(TextTest::StartsWith, first, what),
            ("ends_with", Some(what)) => test(TextTest::EndsWith, first, what),
            ("matches", Some(Node::Constant(Val::Text(pattern)))) => {
                Node::Matches(Box::new(first), regex::Regex::new(&pattern).ok()?)
            }
            ("is_empty", None) => property(TextProperty::IsEmpty, first),
            ("len", None) => property(TextProperty::Length, first),
            ("bytes", None) => property(TextProperty::Bytes, first),
            ("parse_int", None) => property(TextProperty::ParseInt, first),
            ("to_lower", None) => property(TextProperty::ToLower, first),
            ("to_upper", None) => property(TextProperty::ToUpper, first),
            ("parse_json", None) => Node::Json {
                text: Box::new(first),
                path: Vec::new(),
                absent: None,
            },
            _ => return None,
        };
        rest.next().is_none().then_some(node)
    }

    fn operator(&mut self, symbol: &str, arguments: &[Expr]) -> Option<Node> {
        let comparison = match symbol {
            "==" => Some(Comparison::Equal),
            "!=" => Some(Comparison::Unequal),
            "<" => Some(Comparison::Less),
            "<=" => Some(Comparison::LessOrEqual),
            ">" => Some(Comparison::Greater),
            ">=" => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        let arithmetic = match symbol {
            "+" => Some(Arithmetic::Add),
            "-" => Some(Arithmetic::Subtract),
            "*" => Some(Arithmetic::Multiply),
            "/" => Some(Arithmetic::Divide),
            "%" => Some(Arithmetic::Remainder),
            _ => None,
        };
        match (symbol, arguments) {
            ("!", [of]) => Some(Node::Not(Box::new(self.expression(of)?))),
            ("-", [of]) => Some(Node::Negate(Box::new(self.expression(of)?))),
            (_, [left, right]) => {
                let (left, right) = (self.expression(left)?, self.expression(right)?);
                match (comparison, arithmetic) {
                    (Some(comparison), _) => Some(compared(comparison, left, right)),
                    // Texts are joined by `+`: the interpreter's work.
                    (_, Some(arithmetic)) if !is_text(&left) && !is_text(&right) => {
                        Some(Node::Compute(arithmetic, Box::new(left), Box::new(right)))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// `value in list`, a list written out or captured, a range of numbers, or a text to look into.
    fn among(&mut self, list: &Expr, value: &Expr) -> Option<Node> {
        let value = self.expression(value)?;
        if let Expr::FnCall(range, _) = list
            && let (".." | "..=", [Expr::IntegerConstant(from, _), Expr::IntegerConstant(to, _)]) =
                (range.name.as_str(), &range.args[..])
        {
            return Some(match range.name.as_str() {
                ".." => Node::Within(Box::new(value), *from, *to),
                _ => Node::WithinInclusive(Box::new(value), *from, *to),
            });
        }
        let members: Vec<Val<'static>> = match list {
            Expr::Array(members, _) => members
                .iter()
                .map(|member| self.constant(member))
                .collect::<Option<_>>()?,
            Expr::DynamicConstant(list, _) => values_of(list)?,
            Expr::Variable(variable, ..) => match self.captured(&variable.1) {
                Some(list) if list.is_array() => values_of(list)?,
                _ => return None,
            },
            text => {
                let text = self.expression(text)?;
                return Some(test(TextTest::Contains, text, value));
            }
        };
        let value = Box::new(value);
        if members.len() > FEW {
            if let Some(texts) = members.iter().map(as_text).collect::<Option<_>>() {
                return Some(Node::AmongTexts(value, texts));
            }
            if let Some(numbers) = members.iter().map(as_number).collect::<Option<_>>() {
                return Some(Node::AmongNumbers(value, numbers));
            }
        }
        Some(Node::Among(value, members))
    }

    /// A value that is the same for every record.
    fn constant(&mut self, expression: &Expr) -> Option<Val<'static>> {
        match self.expression(expression)? {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }

    fn constant_text(&mut self, expression: &Expr) -> Option<String> {
        match self.constant(expression)? {
            Val::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }

    fn path(&mut self, expression: &Expr) -> Option<Vec<Step>> {
        json::parse_path(&self.constant_text(expression)?).ok()
    }

    /// A step further into JSON.
    fn inner(&self, node: Node, step: Step) -> Option<Node> {
        match node {
            Node::Slot(slot) => {
                let read = self.slots.get(slot).and_then(|(_, read)| read.clone())?;
                self.inner(read, step)
            }
            Node::Json {
                text,
                mut path,
                absent: None,
            } => {
                path.push(step);
                Some(Node::Json {
                    text,
                    path,
                    absent: None,
                })
            }
            node @ (Node::Key | Node::Value | Node::Header(_)) => Some(Node::Json {
                text: Box::new(node),
                path: vec![step],
                absent: None,
            }),
            _ => None,
        }
    }
}

fn compared(comparison: Comparison, left: Node, right: Node) -> Node {
    let equal = match comparison {
        Comparison::Equal => Some(true),
        Comparison::Unequal => Some(false),
        _ => None,
    };
    match (equal, left, right) {
        (Some(equal), Node::Constant(Val::Text(text)), other)
        | (Some(equal), other, Node::Constant(Val::Text(text))) => {
            Node::TextIs(Box::new(other), text.into(), equal)
        }
        (_, left, right) => Node::Compare(comparison, Box::new(left), Box::new(right)),
    }
}

fn test(test: TextTest, of: Node, what: Node) -> Node {
    Node::Test(test, Box::new(of), Box::new(what))
}

fn property(property: TextProperty, of: Node) -> Node {
    Node::Property(property, Box::new(of))
}

fn is_text(node: &Node) -> bool {
    matches!(node, Node::Constant(Val::Text(_)))
}

fn as_text(value: &Val<'static>) -> Option<Box<str>> {
    match value {
        Val::Text(text) => Some(text.as_ref().into()),
        _ => None,
    }
}

fn as_number(value: &Val<'static>) -> Option<i64> {
    match value {
        Val::Number(number) => Some(*number),
        _ => None,
    }
}

fn constant(expression: &Expr) -> Option<Val<'static>> {
    value_of(&expression.get_literal_value(None)?)
}

fn values_of(list: &Dynamic) -> Option<Vec<Val<'static>>> {
    list.read_lock::<Array>()?.iter().map(value_of).collect()
}

fn value_of(value: &Dynamic) -> Option<Val<'static>> {
    if value.is_unit() {
        return Some(Val::Nothing);
    }
    if let Ok(flag) = value.as_bool() {
        return Some(Val::Flag(flag));
    }
    if let Ok(number) = value.as_int() {
        return Some(Val::Number(number));
    }
    if let Ok(number) = value.as_float() {
        return Some(Val::Decimal(number));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Some(Val::Text(Cow::Owned(text.to_string())));
    }
    if let Some(instant) = value.read_lock::<Instant>() {
        return Some(Val::Instant(instant.0.0));
    }
    let duration = value.read_lock::<Duration>()?;
    Some(Val::Duration(duration.0))
}

/// Whether a block's last statement ends the closure.
fn returns(block: &StmtBlock) -> bool {
    match block.statements().last() {
        Some(Stmt::Return(Some(_), flags, _)) => *flags == ASTFlags::NONE,
        Some(Stmt::If(flow, _)) => returns(&flow.body) && returns(&flow.branch),
        Some(Stmt::Block(block)) => returns(block),
        _ => false,
    }
}

/// A chain's first value and what follows it; `None` for `?.`, which ends a chain on the way.
fn chain(expression: &Expr) -> Option<(&Expr, Vec<Link<'_>>)> {
    let mut links = Vec::new();
    let (parts, mut flags, mut dotted) = match expression {
        Expr::Dot(parts, flags, _) => (parts, *flags, true),
        Expr::Index(parts, flags, _) => (parts, *flags, false),
        _ => return None,
    };
    let mut rest = &parts.rhs;
    loop {
        if flags.contains(ASTFlags::NEGATED) {
            return None;
        }
        let (inner, inner_flags, inner_dotted) = match rest {
            Expr::Dot(inner, inner_flags, _) => (Some(inner), *inner_flags, true),
            Expr::Index(inner, inner_flags, _) => (Some(inner), *inner_flags, false),
            _ => (None, flags, dotted),
        };
        match inner.filter(|_| !flags.contains(ASTFlags::BREAK)) {
            Some(inner) => {
                links.push(link(&inner.lhs, dotted)?);
                rest = &inner.rhs;
                (flags, dotted) = (inner_flags, inner_dotted);
            }
            None => {
                links.push(link(rest, dotted)?);
                return Some((&parts.lhs, links));
            }
        }
    }
}

fn link(expression: &Expr, dotted: bool) -> Option<Link<'_>> {
    match expression {
        Expr::Property(property, _) if dotted => Some(Link::Property(&property.2)),
        Expr::MethodCall(call, _) if dotted => Some(Link::Call(call)),
        index if !dotted => Some(Link::Index(index)),
        _ => None,
    }
}
