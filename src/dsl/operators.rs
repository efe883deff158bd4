//! Comparison that never lies: values of different kinds do not compare, they are an error.
//!
//! Rhai answers `hours(1) < 3600` and `key != 5` with a constant, silently. One overload for
//! `(Dynamic, Dynamic)` per operator is found before the built-in ones (fast operators are off), so every
//! comparison that no package has an exact overload for comes here.

use super::failure::Failure;
use super::kind::Kind;
use super::values::{Duration, Instant, Size};
use crate::base::TimestampMs;
use rhai::{Dynamic, Engine, EvalAltResult, FuncRegistration, Module, NativeCallContext};
use std::cmp::Ordering;

/// An operator, and which orders it holds for.
type Comparison = (&'static str, fn(Ordering) -> bool);

const COMPARISONS: [Comparison; 6] = [
    ("==", |order| order == Ordering::Equal),
    ("!=", |order| order != Ordering::Equal),
    ("<", |order| order == Ordering::Less),
    ("<=", |order| order != Ordering::Greater),
    (">", |order| order == Ordering::Greater),
    (">=", |order| order != Ordering::Less),
];

/// Registers the comparisons, and arithmetic on durations, instants and sizes.
pub fn register(engine: &mut Engine) {
    let mut module = Module::new();
    for (symbol, holds) in COMPARISONS {
        FuncRegistration::new(symbol)
            .in_global_namespace()
            .with_purity(true)
            .set_into_module(
                &mut module,
                move |context: NativeCallContext,
                      left: Dynamic,
                      right: Dynamic|
                      -> Result<bool, Box<EvalAltResult>> {
                    compare(&context, symbol, holds, &left, &right)
                },
            );
    }
    engine.register_global_module(module.into());
    register_arithmetic(engine);
}

fn register_arithmetic(engine: &mut Engine) {
    fn checked(value: Option<i64>) -> Result<i64, Box<EvalAltResult>> {
        value.ok_or_else(|| {
            Failure::script("E0211", "the result is too large").raise(rhai::Position::NONE)
        })
    }
    engine
        .register_fn("+", |a: Duration, b: Duration| {
            checked(a.0.checked_add(b.0)).map(Duration)
        })
        .register_fn("-", |a: Duration, b: Duration| {
            checked(a.0.checked_sub(b.0)).map(Duration)
        })
        .register_fn("*", |a: Duration, b: i64| {
            checked(a.0.checked_mul(b)).map(Duration)
        })
        .register_fn("*", |a: i64, b: Duration| {
            checked(b.0.checked_mul(a)).map(Duration)
        })
        .register_fn("+", |a: Instant, b: Duration| {
            checked(a.0.0.checked_add(b.0)).map(|ms| Instant(TimestampMs(ms)))
        })
        .register_fn("-", |a: Instant, b: Duration| {
            checked(a.0.0.checked_sub(b.0)).map(|ms| Instant(TimestampMs(ms)))
        })
        .register_fn("-", |a: Instant, b: Instant| {
            checked(a.0.0.checked_sub(b.0.0)).map(Duration)
        })
        .register_fn("+", |a: Size, b: Size| Size(a.0.saturating_add(b.0)))
        .register_fn("-", |a: Size, b: Size| Size(a.0.saturating_sub(b.0)));
}

fn compare(
    context: &NativeCallContext,
    symbol: &'static str,
    holds: fn(Ordering) -> bool,
    left: &Dynamic,
    right: &Dynamic,
) -> Result<bool, Box<EvalAltResult>> {
    let equality = matches!(symbol, "==" | "!=");
    // `()` is "not there": it may be asked for, it has no order.
    if left.is_unit() || right.is_unit() {
        if equality {
            let same = left.is_unit() && right.is_unit();
            return Ok(same == (symbol == "=="));
        }
        return Err(refusal(context, symbol, left, right));
    }
    let order = match order_of(left, right) {
        Some(order) => order,
        None => return Err(refusal(context, symbol, left, right)),
    };
    if !equality && !has_order(left) {
        return Err(refusal(context, symbol, left, right));
    }
    Ok(holds(order))
}

/// How two values of one kind stand to each other; `None` if they do not compare.
fn order_of(left: &Dynamic, right: &Dynamic) -> Option<Ordering> {
    if let (Ok(a), Ok(b)) = (left.as_int(), right.as_int()) {
        return Some(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (
        left.as_immutable_string_ref(),
        right.as_immutable_string_ref(),
    ) {
        return Some(a.as_str().cmp(b.as_str()));
    }
    if let (Ok(a), Ok(b)) = (left.as_bool(), right.as_bool()) {
        return Some(a.cmp(&b));
    }
    match (
        left.as_int(),
        left.as_float(),
        right.as_int(),
        right.as_float(),
    ) {
        (_, Ok(a), _, Ok(b)) => return a.partial_cmp(&b),
        (Ok(a), _, _, Ok(b)) => return whole_to_decimal(a, b),
        (_, Ok(a), Ok(b), _) => return whole_to_decimal(b, a).map(Ordering::reverse),
        _ => {}
    }
    if let (Some(a), Some(b)) = (short_text(left), short_text(right)) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (left.read_lock::<Duration>(), right.read_lock::<Duration>()) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (left.read_lock::<Instant>(), right.read_lock::<Instant>()) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (left.read_lock::<Size>(), right.read_lock::<Size>()) {
        return Some(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (left.as_blob_ref(), right.as_blob_ref()) {
        return Some(a.as_slice().cmp(b.as_slice()));
    }
    None
}

/// A whole number against a decimal, exactly: above 2^53 a decimal does not tell neighbours apart.
pub fn whole_to_decimal(whole: i64, decimal: f64) -> Option<Ordering> {
    if decimal.is_nan() {
        return None;
    }
    // Every i64 lies in [-2^63, 2^63); both ends are exact as decimals.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if decimal >= END {
        return Some(Ordering::Less);
    }
    if decimal < -END {
        return Some(Ordering::Greater);
    }
    let part = decimal.trunc();
    let order = whole.cmp(&(part as i64));
    Some(order.then_with(|| part.partial_cmp(&decimal).unwrap_or(Ordering::Equal)))
}

/// Text and characters compare with each other, as `'a' == "a"` means what it says.
fn short_text(value: &Dynamic) -> Option<String> {
    value.as_char().ok().map(String::from).or_else(|| {
        value
            .as_immutable_string_ref()
            .ok()
            .map(|text| text.to_string())
    })
}

fn has_order(value: &Dynamic) -> bool {
    !matches!(
        Kind::of(value),
        Kind::Flag | Kind::Bytes | Kind::List | Kind::Map
    )
}

fn refusal(
    context: &NativeCallContext,
    symbol: &str,
    left: &Dynamic,
    right: &Dynamic,
) -> Box<EvalAltResult> {
    mismatch(symbol, Kind::of(left), Kind::of(right)).raise(context.call_position())
}

/// "`<` does not compare a duration with a whole number".
pub fn mismatch(symbol: &str, left: Kind, right: Kind) -> Failure {
    let message = if left == right {
        format!("`{symbol}` does not compare {} with another", left.phrase())
    } else {
        format!(
            "`{symbol}` does not compare {} with {}",
            left.phrase(),
            right.phrase()
        )
    };
    let help = match (left, right) {
        (Kind::Duration, Kind::Number) | (Kind::Number, Kind::Duration) => {
            "say what the number counts: seconds(90), minutes(5), hours(1), days(7)"
        }
        (Kind::Size, Kind::Number) | (Kind::Number, Kind::Size) => {
            "say what the number counts: bytes(4096), mib(64), gib(1)"
        }
        (Kind::Instant, Kind::Text) | (Kind::Text, Kind::Instant) => {
            "make the text an instant: instant(\"2026-11-20T10:00:00Z\")"
        }
        (Kind::Text, Kind::Number) => {
            "make the text a number with parse_int(…), or quote the number"
        }
        (Kind::Number, Kind::Text) => {
            "make the text a number with parse_int(…), or quote the number"
        }
        (Kind::Secret, _) | (_, Kind::Secret) => "a secret's value cannot be looked at",
        (Kind::Nothing, _) | (_, Kind::Nothing) => {
            "`()` means that there is no value: ask with `== ()`, or give one with `??`"
        }
        _ => "values of different kinds never compare",
    };
    Failure::script("E0210", message).help(help)
}
