//! Filters that cannot mean what they say: comparisons that must fail, conditions that are the same for every record.

use super::Walk;
use crate::dsl::kind::Kind;
use crate::dsl::operators;
use rhai::{Expr, Position};

impl Walk<'_> {
    /// A comparison in a closure over records.
    pub(super) fn filter_comparison(
        &mut self,
        symbol: &str,
        sides: &[Expr],
        kinds: &[Kind],
        position: Position,
    ) {
        let ([left, right], [left_kind, right_kind]) = (sides, kinds) else {
            return;
        };
        // Keys, values and headers are text, bytes or null: nothing else ever compares with them.
        for (side, other, swapped) in [(left, *right_kind, false), (right, *left_kind, true)] {
            let fits = matches!(
                other,
                Kind::Any | Kind::Text | Kind::Character | Kind::Bytes | Kind::Nothing
            );
            if self.is_raw(side) && !fits {
                let failure = match swapped {
                    false => operators::mismatch(symbol, Kind::Text, other),
                    true => operators::mismatch(symbol, other, Kind::Text),
                };
                self.report(failure.into_finding(None), position);
                return;
            }
        }
        let always = match (left, right) {
            (Expr::IntegerConstant(a, _), Expr::IntegerConstant(b, _)) => holds(symbol, a, b),
            (Expr::StringConstant(a, _), Expr::StringConstant(b, _)) => holds(symbol, a, b),
            (side, Expr::IntegerConstant(number, _)) if self.counts_from_zero(side) => {
                against_zero(symbol, *number)
            }
            (Expr::IntegerConstant(number, _), side) if self.counts_from_zero(side) => {
                against_zero(turned(symbol), *number)
            }
            _ => None,
        };
        if let Some(always) = always {
            self.same_for_all(always, position);
        }
    }

    /// The conditions of an `&&` or `||`.
    pub(super) fn filter_conditions(&mut self, parts: &[Expr], any: bool) {
        for part in parts {
            if let Expr::BoolConstant(value, position) = part
                && *value == any
                && self.without_verbs
            {
                self.same_for_all(any, *position);
            }
        }
    }

    pub(super) fn same_for_all(&mut self, always: bool, position: Position) {
        self.warn(
            "W0503",
            format!("this is {always} for every record"),
            "a filter that decides nothing is left out, or it means something else",
            position,
        );
    }

    /// `r.key`, `r.value`, `r.header("…")`.
    fn is_raw(&self, expression: &Expr) -> bool {
        match self.member(expression) {
            Some(Expr::Property(property, _)) => matches!(property.2.as_str(), "key" | "value"),
            Some(Expr::MethodCall(call, _)) => call.name == "header",
            _ => false,
        }
    }

    fn counts_from_zero(&self, expression: &Expr) -> bool {
        matches!(self.member(expression), Some(Expr::Property(property, _))
            if matches!(property.2.as_str(), "offset" | "partition"))
    }

    /// What is asked of the record, if that is all.
    fn member<'e>(&self, expression: &'e Expr) -> Option<&'e Expr> {
        match expression {
            Expr::Dot(chain, ..) => match &chain.lhs {
                Expr::Variable(variable, ..) if self.variable(&variable.1) == Kind::Record => {
                    Some(&chain.rhs)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

fn holds<T: PartialOrd>(symbol: &str, left: &T, right: &T) -> Option<bool> {
    Some(match symbol {
        "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        _ => return None,
    })
}

/// What a number that is never negative answers, if it is always the same.
fn against_zero(symbol: &str, number: i64) -> Option<bool> {
    match symbol {
        "==" if number < 0 => Some(false),
        "!=" if number < 0 => Some(true),
        "<" if number <= 0 => Some(false),
        "<=" if number < 0 => Some(false),
        ">" if number < 0 => Some(true),
        ">=" if number <= 0 => Some(true),
        _ => None,
    }
}

/// The same comparison with its sides exchanged.
fn turned(symbol: &str) -> &str {
    match symbol {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        other => other,
    }
}
